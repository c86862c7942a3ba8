"""Options of the benchmarks, one dataclass each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from hola.retrieval.store_from import SQLITE
from hola.retrieval.types import DEFAULT_ALPHA

SeedOption = Annotated[
    int, typer.Option("--seed", metavar="N", min=0, help="Seed of everything drawn at random.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactnessOptions:
    """What `hola bench exactness` compares."""

    prompts: Annotated[
        int,
        typer.Option(
            "--prompts", metavar="N", min=1, help="Prompts, each at temperatures 0, 0.7 and 1."
        ),
    ] = 500
    configurations: Annotated[
        str | None,
        typer.Option(
            "--configurations",
            metavar="NAMES",
            help="Only these, separated by commas. Default: all.",
        ),
    ] = None
    case: Annotated[
        str | None,
        typer.Option(
            "--case", metavar="PROMPT@TEMPERATURE", help="Only this one, to replay a mismatch."
        ),
    ] = None
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", metavar="N", min=1, help="Most tokens per output.")
    ] = 32
    jobs: Annotated[
        int,
        typer.Option("--jobs", metavar="N", min=0, help="Processes; 0: one per core, at most 4."),
    ] = 0
    draws: Annotated[
        int,
        typer.Option(
            "--draws", metavar="N", min=500, help="Draws per chi-squared test of the sampler."
        ),
    ] = 20_000
    seed: SeedOption = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedOptions:
    """What `hola bench speed` times."""

    prompts: Annotated[
        int, typer.Option("--prompts", metavar="N", min=1, help="Word problems per repeat.")
    ] = 8
    repeats: Annotated[
        int, typer.Option("--repeats", metavar="N", min=1, help="Interleaved repeats.")
    ] = 5
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", metavar="N", min=2, help="Most tokens per output.")
    ] = 96
    scale: Annotated[
        str,
        typer.Option(
            "--scale",
            metavar="DIR",
            help="Scale family to time as well; `auto` makes one of about 0.4 B parameters in "
            "the cache folder (needs the compress extra); `none` leaves it out.",
        ),
    ] = "auto"
    threads: Annotated[
        int, typer.Option("--threads", metavar="N", min=0, help="Engine threads; 0: one per core.")
    ] = 0
    seed: SeedOption = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingOptions:
    """What `hola bench tracing` times."""

    repeats: Annotated[
        int,
        typer.Option("--repeats", metavar="N", min=1, help="Interleaved requests of each kind."),
    ] = 40
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", metavar="N", min=2, help="Most tokens per request.")
    ] = 96
    seed: SeedOption = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosOptions:
    """What `hola bench chaos` does to a fleet."""

    streams: Annotated[
        int, typer.Option("--streams", metavar="N", min=1, help="Streams at least.")
    ] = 200
    faults: Annotated[
        int, typer.Option("--faults", metavar="N", min=0, help="Faults to inject.")
    ] = 100
    together: Annotated[
        int, typer.Option("--together", metavar="N", min=1, help="Streams at a time.")
    ] = 6
    verifiers: Annotated[
        int, typer.Option("--verifiers", metavar="N", min=1, help="Verifier processes.")
    ] = 2
    drafters: Annotated[
        int, typer.Option("--drafters", metavar="N", min=1, help="Drafter processes.")
    ] = 3
    routers: Annotated[
        int, typer.Option("--routers", metavar="N", min=1, help="Router processes.")
    ] = 2
    scripted: Annotated[
        bool, typer.Option("--scripted", help="A family without model files, for a quick run.")
    ] = False
    rolling: Annotated[
        int,
        typer.Option(
            "--rolling",
            metavar="N",
            min=0,
            help="Instead of faults: stop and start every verifier in turn, N times over.",
        ),
    ] = 0
    network: Annotated[
        str,
        typer.Option(
            "--network",
            metavar="KIND",
            help="`namespaces` (real packets; root, or user namespaces), `relays` (unix sockets), "
            "or `auto`: namespaces where the system allows them.",
        ),
    ] = "auto"
    logs: Annotated[
        str, typer.Option("--logs", metavar="DIR", help="Keep the processes' logs there.")
    ] = ""
    seed: SeedOption = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What `hola bench load` puts on a fleet."""

    streams: Annotated[
        int, typer.Option("--streams", metavar="N", min=2, help="Streams at a time.")
    ] = 64
    minutes: Annotated[
        float, typer.Option("--minutes", metavar="N", min=0.1, help="Minutes of churn.")
    ] = 10.0
    verifiers: Annotated[
        int, typer.Option("--verifiers", metavar="N", min=1, help="Verifier processes.")
    ] = 2
    drafters: Annotated[
        int, typer.Option("--drafters", metavar="N", min=1, help="Drafter processes.")
    ] = 4
    routers: Annotated[
        int, typer.Option("--routers", metavar="N", min=1, help="Router processes.")
    ] = 1
    scripted: Annotated[
        bool, typer.Option("--scripted", help="A family without model files, for a quick run.")
    ] = False
    logs: Annotated[
        str, typer.Option("--logs", metavar="DIR", help="Keep the processes' logs there.")
    ] = ""
    seed: SeedOption = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalOptions:
    """What `hola bench retrieval` measures."""

    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="A folder with a set, or with folders of sets; may be given several times. BEIR's "
            "form (corpus.jsonl, queries.jsonl, qrels/test.tsv) measures search, gate*.jsonl the "
            "gate, ctx*.jsonl[.gz] context selection. None: the demo family's knowledge alone.",
        ),
    ] = None
    split: Annotated[
        str, typer.Option("--split", metavar="NAME", help="Which queries: qrels/NAME.tsv.")
    ] = "test"
    alpha: Annotated[
        float,
        typer.Option("--alpha", metavar="A", min=0, max=1, help="Dense share of a hybrid score."),
    ] = DEFAULT_ALPHA
    store: Annotated[
        str,
        typer.Option(
            "--store",
            metavar="URL",
            help="`sqlite` or `weaviate://host:port`, with HOLA_STORE_KEY_FILE; the set goes into"
            " a collection of its own there, and is dropped.",
        ),
    ] = SQLITE
    repeats: Annotated[
        int,
        typer.Option("--repeats", metavar="N", min=1, help="Ways to fold a gate set, averaged."),
    ] = 3
    seed: SeedOption = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionOptions:
    """What `hola bench compression` builds and measures."""

    tier: Annotated[
        str, typer.Option("--tier", metavar="NAME", help="Tier to compress. Default: the target.")
    ] = ""
    data: Annotated[
        str,
        typer.Option(
            "--data", metavar="PATH", help="Text of another kind: a file, or a folder of *.txt."
        ),
    ] = ""
    points: Annotated[
        str,
        typer.Option("--points", metavar="LIST", help="Bits per weight of the whole artifact."),
    ] = "2.3,2.6,3.2,4.2,4.6,4.9,5.1,8.1"
    parts: Annotated[
        str,
        typer.Option(
            "--parts", metavar="LIST", help="Some of pareto, ablation, repair, prune, draft."
        ),
    ] = "pareto,ablation,prune,draft"
    steps: Annotated[
        int, typer.Option("--steps", metavar="N", min=0, help="Training steps of each repair.")
    ] = 60
    tokens: Annotated[
        int, typer.Option("--tokens", metavar="N", min=256, help="Tokens measured per text.")
    ] = 6144
    questions: Annotated[
        int,
        typer.Option(
            "--questions", metavar="N", min=1, help="Held-out questions asked per step of ablation."
        ),
    ] = 160
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="N", min=1, help="Seeds, where training is involved.")
    ] = 1
    quick: Annotated[
        bool, typer.Option("--quick", help="Only show that it runs; the figures mean nothing.")
    ] = False
    work: Annotated[
        str, typer.Option("--work", metavar="DIR", help="Keep artifacts, and go on from them.")
    ] = ""
    picture: Annotated[
        str, typer.Option("--picture", metavar="FILE", help="Draw the front into a PNG.")
    ] = ""
    seed: SeedOption = 0
