"""`hola bench`: measurements with one form of result, as tables or one JSON object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hola.retrieval.types import DEFAULT_ALPHA
from hola_bench import registry
from hola_bench.report import Report, print_report
from hola_cli.door import settings_for
from hola_cli.flatten import flat
from hola_cli.jsonform import dump
from hola_cli.knowledge import EmbedderOption, retrieval_settings
from hola_cli.logs import quiet
from hola_cli.options import FamilyOptions, JsonOption, ModelsDirOption

app = typer.Typer(no_args_is_help=True, help="Measure, in one form for every benchmark.")

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
        str,
        typer.Option(
            "--data",
            metavar="DIR",
            help="A test set in BEIR's form: corpus.jsonl, queries.jsonl, qrels/test.tsv. "
            "A folder with gate*.jsonl (answers without and with retrieval) measures the gate.",
        ),
    ]
    split: Annotated[
        str, typer.Option("--split", metavar="NAME", help="Which queries: qrels/NAME.tsv.")
    ] = "test"
    alpha: Annotated[
        float,
        typer.Option("--alpha", metavar="A", min=0, max=1, help="Dense share of a hybrid score."),
    ] = DEFAULT_ALPHA
    repeats: Annotated[
        int,
        typer.Option("--repeats", metavar="N", min=1, help="Ways to fold a gate set, averaged."),
    ] = 3
    seed: SeedOption = 0


@app.command("list")
def list_benches(json: JsonOption = False) -> None:
    """Name the benchmarks.

    Examples:

    `hola bench list`
    """
    if json:
        dump(registry.BENCHES)
        return
    table = Table("name", "what it answers", "minutes on two cores")
    for bench in registry.BENCHES:
        table.add_row(bench.name, bench.summary, bench.minutes)
    Console().print(table)


@app.command("exactness")
@flat
def exactness(what: ExactnessOptions, family: FamilyOptions, json: JsonOption = False) -> None:
    """Compare speculative output with plain decoding, token by token, and count differences.

    Exit code 1 when there is a mismatch or sampling is off. Each mismatch prints the line that
    replays it.

    Examples:

    `hola bench exactness --json > exactness.json`

    `hola bench exactness --prompts 40 --configurations k=4,verifier-restarted`
    """
    from hola_bench.exactness import Options

    settings = settings_for(family)
    quiet(settings)
    options = Options(
        models_dir=settings.models_dir,
        model=settings.model,
        prompts=what.prompts,
        configurations=tuple(what.configurations.split(",")) if what.configurations else (),
        case=what.case or "",
        max_tokens=what.max_tokens,
        jobs=what.jobs,
        chi2_draws=what.draws,
        seed=what.seed,
    )
    report = registry.run("exactness", options)
    _show(report, json)
    if report.headline["mismatches"] or report.details["chi2"]["alarms"]:
        raise typer.Exit(1)


@app.command("speed")
@flat
def speed(what: SpeedOptions, family: FamilyOptions, json: JsonOption = False) -> None:
    """Time every ladder against plain decoding, and the protocol's own cost.

    Slower ladders are published like faster ones.

    Examples:

    `hola bench speed --json > speed.json`

    `hola bench speed --scale none --repeats 3`
    """
    from hola_bench.speed import Options

    settings = settings_for(family)
    quiet(settings)
    options = Options(
        models_dir=settings.models_dir,
        model=settings.model,
        prompts=what.prompts,
        repeats=what.repeats,
        max_tokens=what.max_tokens,
        scale=what.scale,
        threads=what.threads,
        seed=what.seed,
    )
    _show(registry.run("speed", options), json)


@app.command("chaos")
@flat
def chaos(what: ChaosOptions, family: FamilyOptions, json: JsonOption = False) -> None:
    """Kill, freeze, cut off and restart a fleet of processes while clients stream.

    Every stream is compared with the target's undisturbed output. Exit code 1 when one is wrong,
    incomplete, repeated or has no end (in a rolling restart, when a client sees any error); the
    faults and the stream are then printed on stderr.
    Needs redis-server.

    Examples:

    `hola bench chaos --seed 7 --json`

    `hola bench chaos --scripted --streams 20 --faults 5`

    `hola bench chaos --rolling 3 --streams 100`
    """
    from hola_bench.chaos import Options, failed

    settings = settings_for(family)
    quiet(settings)
    options = Options(
        models_dir=settings.models_dir,
        model="scripted" if what.scripted else settings.model,
        seed=what.seed,
        streams=what.streams,
        faults=what.faults,
        together=what.together,
        verifiers=what.verifiers,
        drafters=what.drafters,
        routers=what.routers,
        rolling=what.rolling,
        network=what.network,
        logs=what.logs,
    )
    report = registry.run("chaos", options)
    _show(report, json)
    if failed(options, report):
        raise typer.Exit(1)


@app.command("retrieval")
@flat
def retrieval(
    what: RetrievalOptions,
    embedder: EmbedderOption = None,
    models_dir: ModelsDirOption = None,
    json: JsonOption = False,
) -> None:
    """Index a test set in the embedded store and measure what is found, and how fast.

    HOLA ships no such set; SciFact or any other of BEIR's will do. Without an embedder BM25 alone
    is measured. The median query time is that of the default search.

    On a gate set every score is by forests that never saw its question; the demo family's own
    knowledge base, with counted exposures, is asked as well.

    Examples:

    `hola bench retrieval --data ./scifact`

    `hola bench retrieval --data ./scifact --split train --json > retrieval.json`

    `hola bench retrieval --data ./adaptive_gate --json`
    """
    from hola_bench.retrieval import Options

    settings = retrieval_settings(embedder=embedder, models_dir=models_dir)
    options = Options(
        data=what.data,
        split=what.split,
        models_dir=settings.models_dir,
        embedder=settings.embedder,
        threads=settings.threads,
        alpha=what.alpha,
        repeats=what.repeats,
        seed=what.seed,
    )
    _show(registry.run("retrieval", options), json)


@app.command("load")
@flat
def load(what: LoadOptions, family: FamilyOptions, json: JsonOption = False) -> None:
    """Put many streams of two tenants on a fleet of processes: fair, bounded, nothing stuck?

    Clients read, leave, come back, cancel and walk away. Exit code 1 when one tenant gets less than
    80 % of the other's tokens, a process grows by more than 5 % after warming up, a session or a
    job is left behind, or a stream fails. Needs redis-server.

    Examples:

    `hola bench load --json`

    `hola bench load --minutes 1 --streams 32`
    """
    from hola_bench.load import Options, failed

    settings = settings_for(family)
    quiet(settings)
    options = Options(
        models_dir=settings.models_dir,
        model="scripted" if what.scripted else settings.model,
        seed=what.seed,
        streams=what.streams,
        minutes=what.minutes,
        verifiers=what.verifiers,
        drafters=what.drafters,
        routers=what.routers,
        logs=what.logs,
    )
    report = registry.run("load", options)
    _show(report, json)
    if failed(report):
        raise typer.Exit(1)


def _show(report: Report, json: bool) -> None:
    if json:
        dump(report.as_json())
    else:
        print_report(report, Console())
