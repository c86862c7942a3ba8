"""`hola collections`: what collections there are, what is in them, copying and deleting."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from hola.config import Settings
from hola.errors import InvalidRequest
from hola.retrieval.copying import Place, copy_collection
from hola.retrieval.data_dir import data_dir
from hola.retrieval.ports import DocumentStore
from hola.retrieval.store_from import SQLITE, store_from
from hola.retrieval.types import Changes, Collection
from hola_cli import collection_jobs
from hola_cli.flatten import flat
from hola_cli.jsonform import dump
from hola_cli.knowledge import (
    AS_SET,
    EmbedderOption,
    StoreOptions,
    StorePlace,
    opened,
    retrieval_settings,
)
from hola_cli.options import JsonOption, ModelsDirOption
from hola_cli.remote_library import LibraryOption, check_remote, library_at

if TYPE_CHECKING:
    from hola.rpc.retrieval_client import RetrievalClient

app = typer.Typer(no_args_is_help=True, help="List, inspect, copy and delete collections.")

app.command("jobs")(collection_jobs.jobs)
app.command("watch")(collection_jobs.watch_job)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A collection.")]
_SHOWN_SOURCES = 20
_PAGE = 1000
MIB = 2**20


@app.command("list")
@flat
def list_collections(
    where: StoreOptions, router: LibraryOption = None, json: JsonOption = False
) -> None:
    """Name a tenant's collections.

    Examples:

    `hola collections list`

    `hola collections list --router edge-box:7070`
    """

    async def work() -> tuple[Collection, ...]:
        if router:
            check_remote(where)
            async with library_at(router) as client:
                return (await client.stats()).collections
        async with opened(_settings(where)) as (store, _):
            return await store.collections(where.tenant)

    held = asyncio.run(work())
    if json:
        dump(held)
        return
    if not held:
        place = f"at {router}" if router else f"in {_store_of(_settings(where))}"
        whose = "" if router else f" of tenant {where.tenant}"
        print(f"no collection{whose} {place}; `hola ingest` makes one")
        return
    table = Table("collection", "documents", "chunks", "MiB", "embedder")
    for one in held:
        mib = f"{one.bytes / MIB:.1f}"
        table.add_row(one.name, f"{one.documents:,}", f"{one.chunks:,}", mib, _embedder(one))
    Console(highlight=False).print(table)


@app.command("show")
@flat
def show(
    name: NameArgument,
    where: StoreOptions,
    router: LibraryOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a collection holds: counts, embedder, and its sources.

    Examples:

    `hola collections show work`

    `hola collections show work --json`
    """

    async def work() -> tuple[Collection, list[str]]:
        if router:
            check_remote(where)
            async with library_at(router) as client:
                return await _shown_at(client, name, every=json)
        sources: list[str] = []
        async with opened(_settings(where)) as (store, _):
            held = await store.collection(where.tenant, name)
            while page := await store.sources(
                where.tenant, name, after=sources[-1] if sources else ""
            ):
                sources += page
                if not json:
                    break
            return held, sources

    held, sources = asyncio.run(work())
    if json:
        dump({**asdict(held), "sources": sources})
        return
    console = Console(highlight=False)
    whose = f" of tenant {escape(held.tenant)}" if held.tenant else ""
    console.print(f"[bold]{held.name}[/bold]{whose}")
    console.print(
        f"{held.documents:,} documents, {held.chunks:,} chunks, {held.bytes / MIB:.1f} MiB, "
        f"{_embedder(held)}"
    )
    for source in sources[:_SHOWN_SOURCES]:
        console.print(f"  {escape(source)}", soft_wrap=True)  # a path is one line
    if held.documents > _SHOWN_SOURCES:
        console.print(f"  and {held.documents - _SHOWN_SOURCES:,} more (--json names them all)")


async def _shown_at(
    client: RetrievalClient, name: str, *, every: bool
) -> tuple[Collection, list[str]]:
    """A router's collection, and its first sources or all of them."""
    sources: list[str] = []
    while True:
        after = sources[-1] if sources else ""
        stats = await client.stats(name, sources=_PAGE if every else _SHOWN_SOURCES, after=after)
        sources += stats.sources
        if not every or not stats.sources:
            return stats.collections[0], sources


@app.command("delete")
@flat
def delete(
    name: NameArgument,
    where: StoreOptions,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="SOURCE",
            help="Only this source and its parts (`SOURCE#...`), not the collection.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    router: LibraryOption = None,
) -> None:
    """Delete a source, or a whole collection after asking.

    Examples:

    `hola collections delete work --source /srv/handbook/old.md`

    `hola collections delete work --yes`
    """
    if source is None and not yes:
        if not sys.stdin.isatty():
            raise InvalidRequest("deleting a collection needs --yes here", field="yes")
        whose = f"at {router}" if router else f"of tenant {where.tenant}"
        typer.confirm(f"Delete collection {name} {whose}?", abort=True)

    async def work() -> Changes | None:
        if router:
            check_remote(where)
            async with library_at(router) as client:
                changes = await client.delete(name, source)
                return None if source is None else changes
        async with opened(_settings(where)) as (store, _):
            if source is not None:
                return await store.delete(where.tenant, name, source)
            await store.drop(where.tenant, name)
            return None

    changes = asyncio.run(work())
    if changes is None:
        print(f"deleted {name}")
    else:
        print(f"{name}: {changes.documents} deleted, {changes.chunks_removed} chunks")


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOptions:
    """Where a copy goes, and whose vectors it has."""

    to_tenant: Annotated[
        str | None,
        typer.Option("--to-tenant", metavar="NAME", help="Whose the copy is. Default: the same."),
    ] = None
    to_store: Annotated[
        str | None,
        typer.Option(
            "--to-store",
            metavar="URL",
            help="Its store, `sqlite` or `weaviate://host:port`. Default: the same.",
        ),
    ] = None
    to_store_key_file: Annotated[
        str | None,
        typer.Option(
            "--to-store-key-file",
            metavar="FILE",
            help="File with the API key of --to-store. Default: HOLA_STORE_KEY_FILE.",
        ),
    ] = None
    to_data_dir: Annotated[
        str | None,
        typer.Option(
            "--to-data-dir",
            metavar="DIR",
            help="Its folder (then --to-store is sqlite). Default: the same.",
        ),
    ] = None
    reembed: Annotated[
        bool,
        typer.Option(
            "--reembed", help="Make the vectors anew with the embedder here, or none without one."
        ),
    ] = False
    embedder: EmbedderOption = None
    models_dir: ModelsDirOption = None

    def settings(self, where: StoreOptions) -> Settings:
        """HOLA_* under these options; no embedder where none is needed. Raises ConfigError."""
        return retrieval_settings(
            where.place(),
            embedder=self.embedder if self.reembed else "none",
            models_dir=self.models_dir,
        )

    def other_store(self) -> DocumentStore | None:
        """The store of the copy; None where it is the same. Raises as `store_from`."""
        place = StorePlace(
            store=self.to_store, data_dir=self.to_data_dir, key_file=self.to_store_key_file
        )
        if place == AS_SET:
            return None
        return store_from(retrieval_settings(place, embedder="none"))


@app.command("copy")
@flat
def copy(
    name: NameArgument,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The copy's name.")],
    where: StoreOptions,
    how: CopyOptions,
) -> None:
    """Copy a collection; with --reembed this is how it changes its embedder.

    Documents are added to a target that is there, in place of equal sources. With --to-store a
    collection moves from SQLite to Weaviate, and with --store back.

    Examples:

    `hola collections copy work work-bge --reembed --embedder bge`

    `hola collections copy work work --to-store weaviate://localhost:8080`

    `hola collections copy work work --store weaviate://localhost:8080 --to-store sqlite`
    """
    held = asyncio.run(_copy(name, target, where, how))
    print(f"{held.name}: {held.documents} documents, {held.chunks} chunks, {_embedder(held)}")


async def _copy(name: str, target: str, where: StoreOptions, how: CopyOptions) -> Collection:
    async with opened(how.settings(where)) as (store, embedder):
        other = how.other_store() or store
        try:
            total = (await store.collection(where.tenant, name)).documents
            with _bar(name, total) as bar:
                return await copy_collection(
                    Place(store, where.tenant, name),
                    Place(other, how.to_tenant or where.tenant, target),
                    reembed=how.reembed,
                    embedder=embedder,
                    progress=lambda count: bar.advance(bar.task_ids[0], count),
                )
        finally:
            await other.close()


def _bar(name: str, total: int) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    console = Console(stderr=True)
    bar = Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty())
    bar.add_task(f"copying {name}", total=total)
    return bar


def _settings(where: StoreOptions) -> Settings:
    return retrieval_settings(where.place(), embedder="none")


def _store_of(settings: Settings) -> str:
    return str(data_dir(settings)) if settings.store == SQLITE else settings.store


def _embedder(held: Collection) -> str:
    return held.embedder or "no embedder (BM25 alone)"
