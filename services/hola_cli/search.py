"""`hola search`: the passages of a collection that fit a question, with their scores."""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from hola.retrieval.queries import SearchQuestion
from hola.retrieval.retriever import Found, Retriever
from hola.retrieval.types import DEFAULT_ALPHA, Fusion, Passage, SearchMode
from hola_cli.flatten import flat
from hola_cli.jsonform import dump
from hola_cli.knowledge import KnowledgeOptions, opened
from hola_cli.options import JsonOption
from hola_cli.remote_library import LibraryOption, check_remote, library_at

_SHOWN_CHARS = 400


class ModeName(enum.StrEnum):
    """Values of --mode."""

    auto = "auto"
    bm25 = "bm25"
    dense = "dense"
    hybrid = "hybrid"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """How passages are ranked."""

    k: Annotated[
        int, typer.Option("--top", "-k", metavar="K", min=1, max=1000, help="Most passages.")
    ] = 5
    mode: Annotated[
        ModeName,
        typer.Option(
            "--mode",
            metavar="NAME",
            help="auto, bm25, dense or hybrid. auto: hybrid where the collection has vectors of "
            "the embedder here, else bm25.",
        ),
    ] = ModeName.auto
    alpha: Annotated[
        float,
        typer.Option("--alpha", metavar="A", min=0, max=1, help="Dense share of a hybrid score."),
    ] = DEFAULT_ALPHA
    fusion: Annotated[
        Fusion, typer.Option("--fusion", metavar="NAME", help="relative or reciprocal.")
    ] = Fusion.RELATIVE


@flat
def command(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A question or words.")],
    how: SearchOptions,
    what: KnowledgeOptions,
    router: LibraryOption = None,
    json: JsonOption = False,
) -> None:
    """Find passages.

    Examples:

    `hola search "How long is the warranty?" --collection work`

    `hola search "error 1213" --mode bm25 -k 20 --json`

    `hola search "warranty" --collection work --router edge-box:7070`
    """
    if router:
        check_remote(what)
        found = asyncio.run(_search_at(router, text, how, what))
    else:
        found = asyncio.run(_search(text, how, what))
    if json:
        passages = [_facts(passage) for passage in found.passages]
        dump({"mode": found.mode, "note": found.note, "passages": passages})
    else:
        _print(found)


async def _search(text: str, how: SearchOptions, what: KnowledgeOptions) -> Found:
    async with opened(what.settings()) as (store, embedder):
        return await Retriever(store, embedder).search(
            what.tenant,
            what.collection,
            text,
            k=how.k,
            mode=None if how.mode is ModeName.auto else SearchMode(how.mode),
            alpha=how.alpha,
            fusion=how.fusion,
        )


async def _search_at(router: str, text: str, how: SearchOptions, what: KnowledgeOptions) -> Found:
    question = SearchQuestion(
        text=text,
        collections=(what.collection,),
        k=how.k,
        mode=None if how.mode is ModeName.auto else SearchMode(how.mode),
        alpha=how.alpha,
        fusion=how.fusion,
    )
    async with library_at(router) as client:
        answer = await client.search(question)
    (searched,) = answer.searched
    passages = tuple(passage for _, passage in answer.passages)
    return Found(passages=passages, mode=searched.mode, note=searched.note)


def _facts(passage: Passage) -> dict[str, Any]:
    chunk = passage.chunk
    return {
        "source": passage.source,
        "also_in": passage.also_in,
        "ordinal": passage.ordinal,
        "page": chunk.page or None,
        "title": chunk.title,
        "heading": chunk.heading,
        "text": chunk.text,
        "score": passage.score,
        "bm25": passage.bm25,
        "dense": passage.dense,
    }


def _print(found: Found) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if found.note:
        Console(stderr=True, highlight=False).print(f"[dim]bm25 alone: {escape(found.note)}[/dim]")
    if not found.passages:
        console.print("nothing found")
    for rank, passage in enumerate(found.passages, 1):
        chunk = passage.chunk
        page = f", page {chunk.page}" if chunk.page else ""
        scores = [("bm25", passage.bm25), ("dense", passage.dense)]
        parts = " ".join(f"{name} {value:.3g}" for name, value in scores if value is not None)
        where = f"{passage.source}{page}"
        console.print(f"[bold]{rank}. {escape(where)}[/bold]  [dim]{parts}[/dim]")
        if head := " > ".join(part for part in (chunk.title, chunk.heading) if part):
            console.print(f"[italic]{escape(head)}[/italic]")
        text = " ".join(chunk.text.split())
        cut = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
        console.print(f"{escape(cut)}\n")
