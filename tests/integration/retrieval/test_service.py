"""Files over real gRPC into collections: every form, every limit, and clients that leave."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from hola.errors import (
    Cancelled,
    DeadlineExceeded,
    HolaError,
    InvalidRequest,
    QuotaExceeded,
    UnknownCollection,
    UnknownRequest,
)
from hola.retrieval.ingest_job import End, IngestReport, IngestState
from hola.retrieval.queries import SearchQuestion
from hola.retrieval.spool import Spools, SpoolWriter
from hola.retrieval.types import Fusion, SearchMode
from hola.rpc.channel import open_channel
from hola.v1 import retrieval_pb2 as pb, retrieval_pb2_grpc
from tests.support.documents import encrypted_pdf, pdf
from tests.support.library import COLLECTION, Desk, everything, parts, records, running_library
from tests.support.verifier import eventually

pytestmark = [pytest.mark.redis, pytest.mark.timeout(120)]


@pytest.fixture
async def desk(tmp_path: Path, redis_url: str) -> AsyncIterator[Desk]:
    async with running_library(tmp_path, redis_url) as made:
        yield made


FILES = {
    "tea.md": b"# Tea\n\nGreen tea is steeped at eighty degrees.",
    "page.html": b"<title>Coffee</title><p>Espresso needs pressure.",
    "scan.pdf": pdf("Water", "Water boils at one hundred degrees"),
    "facts.jsonl": records(3),
    "packed.txt.gz": gzip.compress(b"Packed milk keeps for a week."),
    "note": "Cocoa is stirred.",
}
BROKEN = {
    "empty.txt": (b"", "has no text"),
    "binary": (b"\x00\x01\x02" * 500, "is binary"),
    "latin.txt": ("Gr\u00fc\u00dfe".encode("latin-1"), "no UTF-8 text at byte 2"),
    "locked.pdf": (encrypted_pdf("secret"), "is encrypted"),
    "broken.pdf": (b"%PDF-1.4 nothing", "broken.pdf"),
    "broken.gz": (b"\x1f\x8bnothing", "cannot be read"),
    "no.jsonl": (b"no record\n", "is no record"),
    "nul": ("a\x00b", "is binary"),
    "blank": (" \n ", "has no text"),
}


async def test_files_of_every_form_are_found_and_broken_ones_named(desk: Desk) -> None:
    broken = {name: content for name, (content, _) in BROKEN.items()}
    report = await desk.ingest({**FILES, **broken})
    assert (report.state, report.added, report.refused) == (IngestState.DONE, 8, len(BROKEN))
    assert report.files == report.files_done == len(FILES) + len(BROKEN)
    assert report.bytes > sum(map(len, FILES.values()))
    said = {one.source: one for one in report.refusals}
    for name, (_, words) in BROKEN.items():
        assert words in said[name].message, name
        assert said[name].reason == "DOCUMENT_INVALID"
    assert await desk.found("packed milk") == ["packed.txt.gz"]
    assert await desk.found("boiling") == ["scan.pdf"]
    assert await desk.found("cocoa") == ["note"]
    assert len(await desk.sources()) == 8
    again = await desk.ingest(FILES)
    assert (again.added, again.unchanged) == (0, 8)
    await eventually(lambda: not desk.spooled(), "no file is left over")


async def test_search_over_several_collections_and_what_is_out_of_range(desk: Desk) -> None:
    await desk.ingest({"a": "green tea", "both": "tea for two"})
    await desk.ingest({"b": "black tea", "both": "tea for two"}, collection="other")
    asked = SearchQuestion(text="tea", collections=("other", COLLECTION), k=10)
    answer = await desk.client.search(asked)
    assert [one.name for one in answer.searched] == ["other", COLLECTION]
    assert {one.mode for one in answer.searched} == {SearchMode.BM25}
    assert "no vectors" in answer.searched[0].note
    chunks = [passage.chunk.id for _, passage in answer.passages]
    assert len(chunks) == len(set(chunks)) == 3
    assert answer.passages[0][0] == "other", "of equal ranks the collection named first"
    for bad in (
        SearchQuestion(text="x", collections=(COLLECTION,), k=0),
        SearchQuestion(text="x", collections=(COLLECTION,) * 2),
        SearchQuestion(text="x", collections=tuple(f"c{n}" for n in range(17))),
        SearchQuestion(text="x", collections=("../etc",)),
        SearchQuestion(text="x", collections=(COLLECTION,), alpha=float("nan")),
        SearchQuestion(text="x" * 70_000, collections=(COLLECTION,)),
    ):
        with pytest.raises(InvalidRequest):
            await desk.client.search(bad)
    dense = SearchQuestion(text="x", collections=(COLLECTION,), mode=SearchMode.DENSE)
    with pytest.raises(HolaError) as mismatch:
        await desk.client.search(dense)
    assert mismatch.value.reason == "EMBEDDER_MISMATCH"
    with pytest.raises(UnknownCollection):
        await desk.client.search(SearchQuestion(text="x", fusion=Fusion.RECIPROCAL))


async def test_delete_and_stats(desk: Desk) -> None:
    await desk.ingest({"facts.jsonl": records(3), "note": "words"})
    (held,) = (await desk.client.stats()).collections
    assert (held.name, held.documents, held.embedder) == (COLLECTION, 4, "")
    some = await desk.client.stats(COLLECTION, sources=2, after="facts.jsonl#0")
    assert some.sources == ("facts.jsonl#1", "facts.jsonl#2")
    assert (await desk.client.delete(COLLECTION, "facts.jsonl")).documents == 3
    assert (await desk.client.delete(COLLECTION, "facts.jsonl")).documents == 0
    assert (await desk.client.delete(COLLECTION, None)).documents == 1
    assert (await desk.client.stats()).collections == ()
    for call in (desk.client.delete(COLLECTION, None), desk.client.stats(COLLECTION)):
        with pytest.raises(UnknownCollection):
            await call
    with pytest.raises(InvalidRequest):
        await desk.client.stats(sources=1001)


async def test_pruning_over_the_wire(desk: Desk) -> None:
    await desk.ingest({"/d/a": "one", "/d/b": "two", "/dx": "stays"})
    kept = await desk.ingest({"/d/a": "one"}, prune=("/d",), end=End(incomplete=True))
    refused = await desk.ingest({"/d/a": "one", "/d/bad": b"\x00"}, prune=("/d",))
    assert (kept.pruned, refused.pruned) == (0, 0)
    report = await desk.ingest({"/d/a": "one"}, prune=("/d",))
    assert (report.unchanged, report.pruned) == (1, 1)
    assert await desk.sources() == ["/d/a", "/dx"]


def request(**part: Any) -> pb.RetrievalServiceIngestRequest:
    return pb.RetrievalServiceIngestRequest(**part)


OPTIONS = request(options=pb.IngestOptions(collection=COLLECTION))
FILE, END = request(file=pb.IngestFile(source="a")), request(end=pb.IngestEnd())
WRONG = {
    "nothing at all": [],
    "no options": [FILE, END],
    "options twice": [OPTIONS, OPTIONS, END],
    "data before a file": [OPTIONS, request(data=b"x"), END],
    "no end": [OPTIONS, FILE, request(data=b"x")],
    "an empty message": [OPTIONS, request(), END],
    "no source": [OPTIONS, request(file=pb.IngestFile(name="a.md")), END],
    "a source too long": [OPTIONS, request(file=pb.IngestFile(source="a" * 3001)), END],
    "an unknown format": [OPTIONS, request(file=pb.IngestFile(source="a", format="docx")), END],
    "our own format": [OPTIONS, request(file=pb.IngestFile(source="a", format="document")), END],
    "no collection's name": [request(options=pb.IngestOptions(collection="../x")), END],
    "chunks too small": [request(options=pb.IngestOptions(chunk_chars=3)), END],
    "too much overlap": [request(options=pb.IngestOptions(overlap_chars=501)), END],
    "too much to prune": [request(options=pb.IngestOptions(prune=["x"] * 101)), END],
    "an empty name to prune": [request(options=pb.IngestOptions(prune=[""])), END],
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_parts_out_of_order_or_range_are_refused_and_nothing_is_left(
    desk: Desk, wrong: str
) -> None:
    channel = open_channel(desk.app.address, desk.settings)
    stub: Any = retrieval_pb2_grpc.RetrievalServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Ingest(iter(WRONG[wrong]))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await channel.close()
    await eventually(lambda: not desk.spooled(), "no file is left over")
    assert (await desk.client.stats()).collections == ()
    assert (await desk.ingest({"a": "words"})).added == 1, "it serves on"


async def test_limits_of_a_call_and_of_a_file(tmp_path: Path, redis_url: str) -> None:
    limits = {"ingest_mb": 2, "ingest_file_mb": 1, "ingest_files": 5}
    async with running_library(tmp_path, redis_url, **limits) as desk:
        big, lines = b"word " * 250_000, b'{"text": "%s"}\n' % (b"one " * 175) * 2_000
        report = await desk.ingest({"big": big, "a": "words"}, piece=2**18)
        assert (report.added, report.refused) == (1, 1)
        assert "1,048,576 bytes, the limit" in report.refusals[0].message
        bomb = await desk.ingest({"bomb.gz": gzip.compress(b"a " * 2**20)})
        assert "HOLA_INGEST_FILE_MB allows more" in bomb.refusals[0].message
        many = await desk.ingest({"many.jsonl": lines}, piece=2**18)
        assert many.added == 2_000, "JSON lines may have more than a file"
        for files in ({"a": big, "b": big}, {str(n): "x" for n in range(6)}):
            with pytest.raises(InvalidRequest, match="send the rest in another"):
                await desk.ingest(files, piece=2**18)
        with pytest.raises(InvalidRequest, match="send it as a file"):
            await desk.ingest({"a": "x" * 5_000_000})
        await eventually(lambda: not desk.spooled(), "no file is left over")
        assert "b" not in await desk.sources()


async def test_a_client_that_leaves_while_the_spool_is_made_leaves_none(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_library(tmp_path, redis_url) as desk:
        reached, go_on = threading.Event(), threading.Event()
        begin = Spools.begin

        def slowly(spools: Spools, tenant: str, job_id: str) -> SpoolWriter:
            reached.set()
            assert go_on.wait(60)
            return begin(spools, tenant, job_id)

        monkeypatch.setattr(Spools, "begin", slowly)
        call = asyncio.create_task(desk.ingest({"a": "words"}))
        assert await asyncio.to_thread(reached.wait, 60)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        seen = desk.app._metrics.ingests.labels("cancelled")
        await eventually(lambda: seen._value.get() == 1, "the router knows")
        go_on.set()
        # Its task's last step, which deletes what came too late.
        await desk.app.retrieval._ingesting.close()
        assert not desk.spooled()


async def test_a_client_that_leaves_before_the_end_has_sent_nothing(
    tmp_path: Path, redis_url: str
) -> None:
    async with running_library(tmp_path, redis_url, ingest_calls=1) as desk:
        sent = asyncio.Event()

        async def half() -> AsyncIterator[Any]:
            async for part in parts({"a": "whole", "b": b"x" * 5000}, end=None):
                yield part
            sent.set()
            await asyncio.Event().wait()

        call = asyncio.create_task(desk.client.ingest(half()))
        await sent.wait()
        await eventually(lambda: bool(desk.spooled()), "it has come")
        with pytest.raises(QuotaExceeded) as full:
            await desk.ingest({"c": "words"})
        assert full.value.retry_after_s
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await eventually(lambda: not desk.spooled(), "no file is left over")
        assert (await desk.client.stats()).collections == (), "not even an empty collection"
        assert (await desk.ingest({"c": "words"})).added == 1


async def test_a_client_that_says_nothing_is_cut_off(tmp_path: Path, redis_url: str) -> None:
    async with running_library(tmp_path, redis_url, unread_s=0.3) as desk:

        async def silent() -> AsyncIterator[Any]:
            async for part in parts({"a": "whole"}, end=None):
                yield part
            await asyncio.Event().wait()

        with pytest.raises(DeadlineExceeded, match="nothing was sent"):
            await desk.client.ingest(silent())
        assert (await desk.client.stats()).collections == ()
        await eventually(lambda: not desk.spooled(), "no file is left over")


@pytest.mark.parametrize("ending", ["cancelled", "deadline"])
async def test_a_call_that_ends_in_mid_ingest_leaves_whole_documents(
    desk: Desk, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, reached, go = desk.store.put, asyncio.Event(), asyncio.Event()

    async def slow(*given: Any, **named: Any) -> Any:
        changes = await put(*given, **named)
        reached.set()
        await go.wait()
        return changes

    monkeypatch.setattr(desk.store, "put", slow)
    files = {"facts.jsonl": records(200)}
    timeout_s = 1.0 if ending == "deadline" else None
    call = asyncio.create_task(desk.ingest(files, timeout_s=timeout_s))
    await reached.wait()
    if ending == "cancelled":
        call.cancel()
    with pytest.raises((asyncio.CancelledError, DeadlineExceeded, Cancelled)):
        await call
    go.set()
    await eventually(lambda: not desk.spooled(), "it ends behind the call")
    held = await everything(desk.store)
    assert 0 < len(held) < 200
    assert all(len(document.chunks) == 1 for document in held)  # type: ignore[attr-defined]
    report = await desk.ingest(files)
    assert (report.added, report.unchanged) == (200 - len(held), len(held))


async def test_health_and_reflection_know_the_service(desk: Desk) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    channel = open_channel(desk.app.address, desk.settings)
    asked = health_pb2.HealthCheckRequest(service="hola.v1.RetrievalService")
    health: Any = health_pb2_grpc.HealthStub(channel)
    assert (await health.Check(asked)).status == health_pb2.HealthCheckResponse.SERVING
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    listing = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    async for answer in reflection.ServerReflectionInfo(listing):
        names = {service.name for service in answer.list_services_response.service}
        assert "hola.v1.RetrievalService" in names
    await channel.close()


async def test_an_unknown_job_is_unknown(desk: Desk) -> None:
    for job_id, kind in (("never", UnknownRequest), ("", InvalidRequest), ("a:b", InvalidRequest)):
        with pytest.raises(kind):
            await _last(desk, job_id)


async def _last(desk: Desk, job_id: str) -> IngestReport | None:
    last = None
    async for report in desk.client.watch(job_id):
        last = report
    return last
