"""Options of commands that may retrieve, and the domain parameters they become."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated

import typer

from hola.types import RetrievalMode, RetrievalParams, StoreOutage
from hola.validate import check_retrieval
from hola_cli.options import WHERE

RETRIEVAL = "Retrieval"


class RetrievalName(enum.StrEnum):
    """Values of --retrieval."""

    auto = "auto"
    off = "off"
    light = "light"
    deep = "deep"


class StoreDown(enum.StrEnum):
    """Values of --store-down."""

    fail = "fail"
    without = "without"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalOptions:
    """What may be searched for an answer, and when."""

    collection: Annotated[
        list[str] | None,
        typer.Option(
            "--collection",
            "-c",
            metavar="NAME",
            help="Collection to search for the answer; may be repeated.",
            rich_help_panel=RETRIEVAL,
        ),
    ] = None
    retrieval: Annotated[
        RetrievalName | None,
        typer.Option(
            "--retrieval",
            metavar="auto|off|light|deep",
            help="auto: only where it is expected to be worth its time; light: one search; deep: "
            "more candidates and a second search by what the first one found. Default: auto with "
            "a collection, else off.",
            rich_help_panel=RETRIEVAL,
        ),
    ] = None
    max_passage_tokens: Annotated[
        int,
        typer.Option(
            "--max-passage-tokens",
            metavar="N",
            help="Most prompt tokens for passages; 0: what --latency-target allows.",
            rich_help_panel=RETRIEVAL,
        ),
    ] = 0
    latency_target: Annotated[
        int,
        typer.Option(
            "--latency-target",
            metavar="MS",
            help="Milliseconds that reading the passages may take; 0: HOLA_LATENCY_TARGET_MS.",
            rich_help_panel=RETRIEVAL,
        ),
    ] = 0
    store_down: Annotated[
        StoreDown,
        typer.Option(
            "--store-down",
            metavar="fail|without",
            help="While the document store cannot be read: fail, or answer without passages.",
            rich_help_panel=RETRIEVAL,
        ),
    ] = StoreDown.fail
    data_dir: Annotated[
        str | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help="Folder of collections of a node inside this process. Default: HOLA_DATA_DIR.",
            rich_help_panel=WHERE,
        ),
    ] = None

    def params(self, *, default: str = "") -> RetrievalParams:
        """Checked parameters; `default` is the collection where none is named.

        Raises InvalidRequest naming the field.
        """
        named = tuple(self.collection or ()) or ((default,) if default else ())
        params = RetrievalParams(
            mode=None if self.retrieval is None else RetrievalMode[self.retrieval.upper()],
            collections=named,
            max_passage_tokens=self.max_passage_tokens,
            latency_target_ms=self.latency_target,
            store_outage=StoreOutage[self.store_down.upper()],
        )
        check_retrieval(params)
        return params
