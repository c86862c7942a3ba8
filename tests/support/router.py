"""A router on a memory bus, and the journal that a drafter would write for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hola.bus.ports import Bus
from hola.models.store import ModelStore
from hola.types import (
    Exactness,
    FinishReason,
    GenerateEvent,
    GenerateJob,
    JournalEntry,
    Outcome,
    Started,
    Summary,
    TokenEvent,
    Tokens,
)
from hola_router.catalogue import Catalogue
from hola_router.generate import Router

MODEL = "scripted:seed=7"


def router_on(bus: Bus, folder: Path, **changes: Any) -> Router:
    """A router of the scripted family; close it."""
    values: dict[str, Any] = {
        "bus": bus,
        "catalogue": Catalogue(ModelStore(folder), MODEL),
        "detach_grace_s": 1000.0,
        **changes,
    }
    return Router(**values)


def story(job: GenerateJob, count: int = 3) -> list[GenerateEvent]:
    """The events of a job that gives `count` tokens."""
    started = Started(
        request_id=job.request_id,
        model=job.model,
        tiers=("target",),
        fingerprint="f00d",
        exactness=Exactness.EXACT,
        prompt_tokens=5,
    )
    tokens = [
        Tokens(
            position=at,
            tokens=(TokenEvent(token=at, text=str(at), tier=0, outcome=Outcome.PLAIN),),
        )
        for at in range(count)
    ]
    end = Summary(finish_reason=FinishReason.LENGTH, prompt_tokens=5, completion_tokens=count)
    return [started, *tokens, end]


async def write(bus: Bus, request_id: str, events: Sequence[GenerateEvent]) -> None:
    """Append events to a journal."""
    for event in events:
        await bus.journal.append(request_id, JournalEntry(event=event, writer="d"))


async def play(bus: Bus, count: int = 3) -> GenerateJob:
    """Take the next job as a drafter does, write its story, acknowledge it."""
    delivery = await bus.jobs.take("d", timeout_s=10)
    assert delivery is not None, "no job was queued"
    await write(bus, delivery.job.request_id, story(delivery.job, count))
    await bus.jobs.ack(delivery)
    return delivery.job
