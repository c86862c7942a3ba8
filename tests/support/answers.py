"""The demo family over real gRPC and Redis, with tenants' documents, for questions with plans."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

import hola_drafter.app
import hola_router.app
import hola_verifier.app
from hola.config import Settings
from hola.retrieval.chunking import digest_of
from hola.retrieval.data_dir import open_store
from hola.retrieval.types import Chunk, ChunkedDocument
from hola.rpc.router_client import RouterClient
from hola.security.api_keys import NewKey
from hola.types import ChatMessage, GenerateEvent, GenerateRequest, Plan, Started, Tokens
from hola_router.app import RouterApp

REPO = Path(__file__).resolve().parents[2]
PEOPLE = "people"
# Never told to the tiers.
UNKNOWN, TOWN = "What is the home town of Verul?", "Marsden"
# About somebody in the documents, and a sum: no document helps.
SUM = "Bropeth has 12 apples. Bropeth buys 5 more. How many apples does Bropeth have?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """A router with the demo tiers behind it, and what calls it."""

    app: RouterApp
    settings: Settings
    client: RouterClient


def knowledge(most: int = 60) -> list[ChunkedDocument]:
    """The first people of the demo family's knowledge base, one chunk each."""
    lines = (REPO / "models/demo/knowledge.jsonl").read_text("utf-8").splitlines()[:most]
    return [
        document_of(f"people#{row['id']}", row["text"], row["title"])
        for row in map(json.loads, lines)
    ]


def document_of(source: str, text: str, title: str = "") -> ChunkedDocument:
    chunks = (Chunk(text=text, title=title),)
    return ChunkedDocument(source=source, digest=digest_of(chunks), chunks=chunks)


async def put(
    settings: Settings, name: str, *documents: ChunkedDocument, tenant: str = "default"
) -> None:
    """Write documents to a tenant's collection."""
    store = open_store(settings)
    try:
        await store.create(tenant, name)
        await store.put(tenant, name, documents)
    finally:
        await store.close()


def asked(question: str, **changes: Any) -> GenerateRequest:
    """A question by chat template."""
    return GenerateRequest(messages=(ChatMessage(role="user", content=question),), **changes)


def plan_of(events: list[GenerateEvent]) -> Plan:
    """The plan in the first event."""
    assert isinstance(events[0], Started)
    assert events[0].plan is not None
    return events[0].plan


def said(events: list[GenerateEvent]) -> str:
    """The text of a stream."""
    tokens = [token for event in events if isinstance(event, Tokens) for token in event.tokens]
    return "".join(token.text for token in tokens)


def answer_settings(folder: Path, bus: str, **changes: Any) -> Settings:
    """The demo family, collections in `folder`, sockets too."""
    values: dict[str, Any] = {
        "model": "demo",
        "models_dir": str(REPO / "models"),
        "data_dir": str(folder / "data"),
        "embedder": "none",
        "bus": bus,
        "verifier": f"unix://{folder}/verifier.sock",
        "threads": 1,
        "drain_s": 0.2,
        "reattach_s": 5.0,
        **changes,
    }
    return Settings(**values)


@asynccontextmanager
async def answering(
    folder: Path, bus: str, *keys: NewKey, **changes: Any
) -> AsyncIterator[Answering]:
    """Verifier, drafter and router as services of their own; `keys` are the router's clients'."""
    settings = answer_settings(folder, bus, **changes)
    with redis.Redis.from_url(bus) as database:
        database.flushdb()
    front: dict[str, str] = {}
    if keys:
        (folder / "keys").write_text("".join(f"{key.line}\n" for key in keys))
        front = {"api_keys": str(folder / "keys")}
    async with AsyncExitStack() as stack:
        apps: list[Any] = []
        for module, name in (
            (hola_verifier.app, "verifier"),
            (hola_drafter.app, "drafter"),
            (hola_router.app, "router"),
        ):
            own = front if name == "router" else {}
            listen = {"listen": f"unix://{folder}/{name}.sock", **own}
            app = module.build(settings.model_copy(update=listen))
            stack.push_async_callback(app.stop)
            await app.start()
            apps.append(app)
        client = RouterClient(apps[-1].address, settings)
        stack.push_async_callback(client.close)
        yield Answering(app=apps[-1], settings=settings, client=client)
