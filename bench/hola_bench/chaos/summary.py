"""From what happened in a run to its report; what is wrong is told in full on stderr."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hola_bench.chaos.judge import Findings, judge
from hola_bench.chaos.options import Options
from hola_bench.chaos.run import SETTINGS, Outcome
from hola_bench.chaos.schedule import Kind, lines
from hola_bench.chaos.stalls import Stall, percentile, stalls
from hola_bench.chaos.transcript import Transcript
from hola_bench.chaos.workload import Work
from hola_bench.report import Report, rounded

SHOWN = 10


def report(options: Options, work: Work, outcome: Outcome) -> Report:
    """Judge every stream. What is wrong is printed to stderr with the schedule and the stream."""
    judged = [
        (transcript, judge(transcript, work.expected[transcript.plan.case]))
        for transcript in outcome.transcripts
    ]
    bad = [(transcript, findings) for transcript, findings in judged if not findings.clean]
    if bad or outcome.trouble:
        _tell(options, outcome, bad)
    pauses = stalls(outcome.transcripts, outcome.injected)
    measured = {(Kind.TERM if options.rolling else Kind.KILL, "verifier")}
    stops = [each for each in pauses if each.quiet and (each.kind, each.role) in measured]
    return Report(
        bench="chaos",
        seed=options.seed,
        repeats=1,
        headline={
            "streams": len(judged),
            "faults": len(outcome.injected),
            "wrong": sum(bool(findings.wrong) for _, findings in judged),
            "lost": sum(bool(findings.lost) for _, findings in judged),
            "duplicated": sum(bool(findings.duplicated) for _, findings in judged),
            "unfinished": sum(bool(findings.unfinished) for _, findings in judged)
            + bool(outcome.trouble),
            "client_errors": sum(each.breaks for each in outcome.transcripts),
            "stall_p99_s": rounded(percentile([each.seconds for each in stops], 0.99), 3),
        },
        details={
            **_around_a_stop(stops),
            "seconds": rounded(outcome.seconds),
            "trouble": outcome.trouble,
            **outcome.network,
            "model": options.model,
            "processes": f"{options.verifiers} verifiers, {options.drafters} drafters,"
            f" {options.routers} routers, redis",
            "settings": {f"HOLA_{key.upper()}": value for key, value in SETTINGS.items()},
            **_streams(outcome),
            "faults": _fault_rows(outcome, pauses),
            "stopped_by_sigterm": _exit_rows(outcome),
            "findings": [line for _, findings in bad[:SHOWN] for line in findings.told()],
        },
    )


def _around_a_stop(stops: Sequence[Stall]) -> dict[str, Any]:
    """Stalls around stops of a verifier that came alone; `moved` streams had to go elsewhere."""
    seconds = [each.seconds for each in stops]
    moved = [each.seconds for each in stops if each.reconnects]
    return {
        "stall_p50_s": rounded(percentile(seconds, 0.5), 3),
        "stall_max_s": rounded(percentile(seconds, 1.0), 3),
        "streams_around_a_verifier_stop": len(seconds),
        "moved_streams": len(moved),
        "moved_stall_p50_s": rounded(percentile(moved, 0.5), 3),
        "moved_stall_p99_s": rounded(percentile(moved, 0.99), 3),
    }


def failed(options: Options, found: Report) -> bool:
    """Whether a stream was harmed; in a rolling restart, also whether a client saw any error."""
    harms = [
        "wrong",
        "lost",
        "duplicated",
        "unfinished",
        *(["client_errors"] * (options.rolling > 0)),
    ]
    return any(found.headline[name] for name in harms)


def _streams(outcome: Outcome) -> dict[str, Any]:
    transcripts = outcome.transcripts
    summaries = [each.summary for each in transcripts if each.summary is not None]
    why = Counter(
        each.why.partition(":")[0] for one in transcripts for each in one.connections[:-1]
    )
    return {
        "tokens": sum(each.received for each in transcripts),
        "connections": sum(len(each.connections) for each in transcripts),
        "connections_left_because": dict(why.most_common()),
        "streams_with_a_reconnect": sum(each.reconnects > 0 for each in summaries),
        "streams_corrected": sum(each.corrections > 0 for each in summaries),
        "exactness": dict(Counter(each.exactness.name for each in summaries)),
        "streams_under_a_fault": sum(_is_hit(each, outcome) for each in transcripts),
        "longest_pause_s": rounded(max(map(_longest, transcripts), default=0.0), 3),
        "seconds_per_stream_p50": rounded(percentile(_durations(transcripts), 0.5), 3),
        "seconds_per_stream_max": rounded(percentile(_durations(transcripts), 1.0), 3),
    }


def _is_hit(transcript: Transcript, outcome: Outcome) -> bool:
    """Whether a fault came, or was not yet made good, while the stream was under way."""
    ended_s = outcome.seconds if transcript.ended_s is None else transcript.ended_s
    return any(
        each.hit_s <= ended_s and each.over_s >= transcript.began_s for each in outcome.injected
    )


def _longest(transcript: Transcript) -> float:
    """The longest pause between two events, but for those the client made itself."""
    return max(
        (after - before for times in transcript.stretches for before, after in pairwise(times)),
        default=0.0,
    )


def _durations(transcripts: Sequence[Transcript]) -> list[float]:
    return [each.ended_s - each.began_s for each in transcripts if each.ended_s is not None]


def _fault_rows(outcome: Outcome, pauses: Sequence[Stall]) -> list[dict[str, Any]]:
    counts = Counter(
        (each.fault.kind, each.fault.target.partition("-")[0]) for each in outcome.injected
    )
    rows = []
    for (kind, role), count in sorted(counts.items()):
        seconds = [
            each.seconds for each in pauses if each.quiet and (each.kind, each.role) == (kind, role)
        ]
        rows.append(
            {
                "fault": f"{kind} {role}",
                "times": count,
                "streams_when_alone": len(seconds),
                "stall_p50_s": rounded(percentile(seconds, 0.5), 3),
                "stall_p99_s": rounded(percentile(seconds, 0.99), 3),
                "stall_max_s": rounded(percentile(seconds, 1.0), 3),
            }
        )
    return rows


def _exit_rows(outcome: Outcome) -> list[dict[str, Any]]:
    roles = sorted({each.name.partition("-")[0] for each in outcome.exits})
    return [
        {
            "role": role,
            "times": len(ended := [e for e in outcome.exits if e.name.startswith(role)]),
            "exit_codes": ",".join(sorted({str(each.code) for each in ended})),
            "longest_s": rounded(max(each.seconds for each in ended), 3),
        }
        for role in roles
    ]


def _tell(options: Options, outcome: Outcome, bad: Sequence[tuple[Transcript, Findings]]) -> None:
    """Everything that is needed to look for the cause, on stderr."""
    said = [f"chaos: seed {options.seed}; the faults, and when they came:"]
    hits = {each.fault.number: each for each in outcome.injected}
    for fault, line in zip(outcome.faults, lines(outcome.faults), strict=True):
        hit = hits.get(fault.number)
        when = f" -> {hit.hit_s:.2f}..{hit.over_s:.2f} s {hit.note}" if hit else " -> not reached"
        said.append(f"  {line}{when}")
    for transcript, findings in bad[:SHOWN]:
        said += [*transcript.told(), *(f"  {line}" for line in findings.told())]
    if outcome.trouble:
        said.append(f"broken off: {outcome.trouble}")
    print("\n".join(said), file=sys.stderr)
