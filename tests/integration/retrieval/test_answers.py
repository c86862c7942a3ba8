"""Questions answered with retrieval where it pays: the demo tiers over real gRPC and Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from hola.errors import (
    EmptyPrompt,
    HolaError,
    InvalidRequest,
    StoreCorrupt,
    UnknownCollection,
    UnknownRequest,
)
from hola.rpc.retrieval_client import RetrievalClient
from hola.rpc.router_client import RouterClient
from hola.security.api_keys import new_key
from hola.types import (
    Failure,
    GenerateRequest,
    RetrievalMode,
    RetrievalParams,
    RetrievalPlan,
    SamplingParams,
    SpeculationParams,
    StoreOutage,
)
from tests.support.answers import (
    PEOPLE,
    SUM,
    TOWN,
    UNKNOWN,
    Answering,
    answer_settings,
    answering,
    asked,
    document_of,
    knowledge,
    plan_of,
    put,
    said,
)
from tests.support.scripted_system import ids_of
from tests.support.system import collect, terminal

pytestmark = [
    pytest.mark.redis,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="module"),
]

ACME, OTHER = new_key("acme"), new_key("other")
WITH = RetrievalParams(collections=(PEOPLE,))
LIGHT = replace(WITH, mode=RetrievalMode.LIGHT)
WITHOUT = RetrievalParams()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(
    tmp_path_factory: pytest.TempPathFactory, redis_url: str
) -> AsyncIterator[Answering]:
    """Tenant acme has `people`, `damaged` and `secret`; tenant other has a `people` of its own."""
    folder = tmp_path_factory.mktemp("answers")
    settings = answer_settings(folder, redis_url)
    await put(settings, PEOPLE, *knowledge(), tenant="acme")
    await put(settings, "secret", *knowledge(3), tenant="acme")
    await put(settings, "damaged", *knowledge(40), tenant="acme")
    await put(
        settings, PEOPLE, document_of("own", "Verul has a home in Saltby.", "Verul"), tenant="other"
    )
    damage(folder / "data/acme/damaged.db")
    async with answering(folder, redis_url, ACME, OTHER) as running:
        yield running


def damage(file: Path) -> None:
    """Overwrite everything behind the first page."""
    size = file.stat().st_size
    with file.open("r+b") as stream:
        stream.seek(4096)
        stream.write(b"\xff" * (size - 4096))


@pytest_asyncio.fixture(loop_scope="module")
async def acme(system: Answering) -> AsyncIterator[RouterClient]:
    """A client of tenant acme."""
    async for client in client_of(system, ACME.text):
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def other(system: Answering) -> AsyncIterator[RouterClient]:
    """A client of tenant other."""
    async for client in client_of(system, OTHER.text):
        yield client


async def client_of(system: Answering, token: str) -> AsyncIterator[RouterClient]:
    chosen = system.settings.model_copy(update={"token": token, "reattach_s": 0.0})
    client = RouterClient(system.app.address, chosen)
    yield client
    await client.close()


async def test_a_question_that_needs_its_passage_is_right_with_and_wrong_without(
    acme: RouterClient,
) -> None:
    events = await collect(acme.generate(asked(UNKNOWN, retrieval=WITH)))
    plan = plan_of(events)
    assert TOWN in said(events)
    assert TOWN not in said(await collect(acme.generate(asked(UNKNOWN))))
    assert (plan.depth, plan.mode) == (RetrievalPlan.LIGHT, RetrievalMode.AUTO)
    assert "answer in passages" in plan.judged_by, plan.notes
    (cited,) = plan.citations
    assert (cited.number, cited.source, cited.title) == (1, "people#Verul", "Verul")
    chunk = knowledge(1)[0].chunks[0]
    assert cited.chunk_id == chunk.id
    assert " ".join(chunk.text[a:b].strip() for a, b in cited.ranges) == cited.text
    assert 0 < plan.passage_tokens <= plan.token_budget
    assert plan.prefill_ms_per_token > 0
    assert plan.cuts


async def test_a_question_that_needs_none_gets_none(acme: RouterClient) -> None:
    events = await collect(acme.generate(asked(SUM, retrieval=WITH)))
    plan = plan_of(events)
    assert (plan.depth, plan.citations) == (RetrievalPlan.NONE, ())
    assert plan.signals["s_hits"] > 0, "documents speak of Bropeth"
    assert plan.weights[0].net < 0
    assert "The answer is 17." in said(events)
    assert ids_of(events) == ids_of(await collect(acme.generate(asked(SUM))))


async def test_resume_and_a_repeated_call_have_the_citations_again(acme: RouterClient) -> None:
    request = asked(UNKNOWN, retrieval=WITH, idempotency_key="once")
    events = await collect(acme.generate(request))
    again = await collect(acme.generate(request))
    assert plan_of(again) == plan_of(events)
    assert said(again) == said(events)
    resumed = await collect(acme.resume(events[0].request_id, 3))  # type: ignore[union-attr]
    assert plan_of(resumed) == plan_of(events)
    assert said(events).endswith(said(resumed))
    assert len(said(resumed)) < len(said(events))


@pytest.mark.parametrize("temperature", [0.0, 0.9])
async def test_passages_in_lookup_change_the_speed_and_never_the_text(
    acme: RouterClient, temperature: float
) -> None:
    """Three questions, each as drafted with lookup and as the target alone writes it."""
    accepted = 0
    for index, person in enumerate(knowledge(3)):
        name = person.chunks[0].title
        request = asked(
            f"What pet does {name} have?",
            retrieval=LIGHT,
            sampling=SamplingParams(temperature=temperature, seed=index, max_tokens=32),
            speculation=SpeculationParams(ladder=("lookup",), max_draft_tokens=8),
        )
        events = await collect(acme.generate(request))
        plain = replace(request, speculation=SpeculationParams(max_draft_tokens=0))
        assert ids_of(events) == ids_of(await collect(acme.generate(plain))), name
        accepted += terminal(events).accepted_tokens  # type: ignore[union-attr]
    assert accepted > 3, "lookup copied nothing from the passages"


async def test_passages_are_read_from_the_callers_own_collection(other: RouterClient) -> None:
    events = await collect(other.generate(asked(UNKNOWN, retrieval=LIGHT)))
    assert [cited.source for cited in plan_of(events).citations] == ["own"]
    assert "Saltby" in said(events)


async def test_nobody_reaches_another_tenants_collection_or_stream(
    acme: RouterClient, other: RouterClient
) -> None:
    request = asked(UNKNOWN, retrieval=RetrievalParams(collections=("secret",)))
    with pytest.raises(UnknownCollection) as caught:
        await collect(other.generate(request))
    assert caught.value.details["known"] == PEOPLE, "it names the caller's own"
    for name in ("../acme/secret", "acme/secret", "SECRET", ""):
        wrong = RetrievalParams(mode=RetrievalMode.LIGHT, collections=(name,))
        with pytest.raises(InvalidRequest):
            await collect(other.generate(asked(UNKNOWN, retrieval=wrong)))
    events = await collect(acme.generate(request))
    with pytest.raises(UnknownRequest):
        await collect(other.resume(events[0].request_id))  # type: ignore[union-attr]


async def test_a_damaged_store_fails_the_request_or_is_done_without(acme: RouterClient) -> None:
    params = RetrievalParams(collections=("damaged",))
    with pytest.raises(StoreCorrupt):
        await collect(acme.generate(asked(UNKNOWN, retrieval=params)))
    params = replace(params, store_outage=StoreOutage.WITHOUT)
    events = await collect(acme.generate(asked(UNKNOWN, retrieval=params)))
    plan = plan_of(events)
    assert plan.depth is RetrievalPlan.NONE
    assert "store is down" in plan.reasons[0]
    assert plan.notes
    assert said(events) == said(await collect(acme.generate(asked(UNKNOWN))))


BAD: dict[str, tuple[GenerateRequest, type[HolaError]]] = {
    "unknown collection": (
        asked(UNKNOWN, retrieval=RetrievalParams(collections=("nope",))),
        UnknownCollection,
    ),
    "one of two is unknown": (
        asked(UNKNOWN, retrieval=RetrievalParams(collections=(PEOPLE, "nope"))),
        UnknownCollection,
    ),
    "a raw prompt": (GenerateRequest(prompt="Hello", retrieval=WITH), InvalidRequest),
    "no collection": (
        asked(UNKNOWN, retrieval=RetrievalParams(mode=RetrievalMode.DEEP)),
        InvalidRequest,
    ),
    "too many collections": (
        asked(UNKNOWN, retrieval=RetrievalParams(collections=("a",) * 17)),
        InvalidRequest,
    ),
}


@pytest.mark.parametrize("case", BAD)
async def test_bad_requests_are_refused_by_name(acme: RouterClient, case: str) -> None:
    request, kind = BAD[case]
    with pytest.raises(kind) as caught:
        terminal(await collect(acme.generate(request)))
    assert type(caught.value) is kind


async def test_a_question_longer_than_the_context_is_told_so(acme: RouterClient) -> None:
    events = await collect(acme.generate(asked("why Verul " * 600, retrieval=WITH)))
    failure = terminal(events)
    assert isinstance(failure, Failure)
    assert failure.reason == "PROMPT_TOO_LONG"


async def test_a_plan_alone_is_that_of_the_answer_and_queues_nothing(
    system: Answering, acme: RouterClient
) -> None:
    chosen = system.settings.model_copy(update={"token": ACME.text})
    library = RetrievalClient(system.app.address, chosen)
    before = (await acme.info()).tenant_requests
    plan = await library.plan(asked(UNKNOWN, retrieval=WITH))
    assert (await acme.info()).tenant_requests <= before, "others may have ended meanwhile"
    answered = plan_of(await collect(acme.generate(asked(UNKNOWN, retrieval=WITH))))
    assert (plan.depth, plan.citations) == (answered.depth, answered.citations)
    assert plan.signals == answered.signals
    off = await library.plan(asked(UNKNOWN))
    assert (off.depth, off.reasons) == (RetrievalPlan.NONE, ("retrieval is off",))
    with pytest.raises(UnknownCollection):
        await library.plan(asked(UNKNOWN, retrieval=RetrievalParams(collections=("nope",))))
    with pytest.raises(EmptyPrompt):
        await library.plan(GenerateRequest(prompt="raw", retrieval=WITH))
    await library.close()


async def test_nobody_plans_on_another_tenants_collection(system: Answering) -> None:
    chosen = system.settings.model_copy(update={"token": OTHER.text})
    library = RetrievalClient(system.app.address, chosen)
    secret = RetrievalParams(collections=("secret",))
    with pytest.raises(UnknownCollection):
        await library.plan(asked(UNKNOWN, retrieval=secret))
    await library.close()
