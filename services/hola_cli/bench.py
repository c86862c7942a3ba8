"""`hola bench`: measurements with one form of result, as tables or one JSON object."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.table import Table

from hola_bench import registry
from hola_bench.report import Report, print_report
from hola_cli.bench_options import (
    ChaosOptions,
    CompressionOptions,
    ExactnessOptions,
    LoadOptions,
    RetrievalOptions,
    SpeedOptions,
    TracingOptions,
)
from hola_cli.door import settings_for
from hola_cli.flatten import flat
from hola_cli.jsonform import dump
from hola_cli.knowledge import EmbedderOption, retrieval_settings
from hola_cli.logs import quiet
from hola_cli.options import FamilyOptions, JsonOption, ModelsDirOption

app = typer.Typer(no_args_is_help=True, help="Measure, in one form for every benchmark.")


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


@app.command("tracing")
@flat
def tracing(what: TracingOptions, family: FamilyOptions, json: JsonOption = False) -> None:
    """Time requests with tracing off, off again, and to a file. Needs the otel extra.

    What the two times off differ by is the machine's noise.

    Examples:

    `hola bench tracing --json`

    `hola bench tracing --repeats 100`
    """
    from hola_bench.tracing import Options

    settings = settings_for(family)
    quiet(settings)
    options = Options(
        models_dir=settings.models_dir,
        model=settings.model,
        repeats=what.repeats,
        max_tokens=what.max_tokens,
        seed=what.seed,
    )
    _show(registry.run("tracing", options), json)


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
    """Measure search, the gate, context selection, and what they buy together on the demo tiers.

    HOLA ships no test sets; --data says where yours are, and each part is measured whose data is
    there. Without an embedder BM25 alone is measured. The median query time is that of the default
    search. Figures of the gate and of context selection are of questions they were not fitted on.

    Examples:

    `hola bench retrieval --data ./scifact`

    `hola bench retrieval --data ./scifact --split train --json > retrieval.json`

    `hola bench retrieval --data ./sets --json`
    """
    from hola_bench.retrieval import Options

    settings = retrieval_settings(embedder=embedder, models_dir=models_dir)
    options = Options(
        data=tuple(what.data or ()),
        split=what.split,
        models_dir=settings.models_dir,
        embedder=settings.embedder,
        threads=settings.threads,
        alpha=what.alpha,
        repeats=what.repeats,
        seed=what.seed,
        store=what.store,
        store_key_file=settings.store_key_file,
        insecure=settings.insecure,
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


@app.command("compression")
@flat
def compression(what: CompressionOptions, family: FamilyOptions, json: JsonOption = False) -> None:
    """Compress a tier to several sizes and compare with what others make of it at equal bytes.

    Needs the compress extra. llama.cpp's quantizers are compared where LIBGGML_BASE names their
    library (bench/peers/ggml.sh builds it); what is missing is named. Losses are published too.

    Examples:

    `hola bench compression --data ./wikitext2 --json > compression.json`

    `hola bench compression --parts pareto --points 3.2,4.6 --work ./points`
    """
    from hola_bench.compression import Options, parse_parts, parse_points

    settings = settings_for(family)
    quiet(settings)
    options = Options(
        models_dir=settings.models_dir,
        model=settings.model,
        tier=what.tier,
        data=what.data,
        points=parse_points(what.points),
        parts=parse_parts(what.parts),
        steps=what.steps,
        tokens=what.tokens,
        seeds=what.seeds,
        seed=what.seed,
        questions=what.questions,
        quick=what.quick,
        work=what.work,
        picture=what.picture,
    )
    _show(registry.run("compression", options), json)


def _show(report: Report, json: bool) -> None:
    if json:
        dump(report.as_json())
    else:
        print_report(report, Console())
