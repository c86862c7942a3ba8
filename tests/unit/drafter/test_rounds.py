"""Every round's stages are measured once, and what the entropy gate left of the drafts."""

from __future__ import annotations

from hola import tracing
from hola.telemetry import Metrics
from hola.types import Verdict
from hola_drafter.rounds import Rounds


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


def test_a_rounds_stages_add_up_to_its_round_trip() -> None:
    metrics = Metrics()
    rounds = Rounds(metrics)
    rounds.committed()
    verdict = Verdict(round=1, accepted=2, token=5, compute_ns=3_000_000, queue_ns=1_000_000)
    rounds.judged(tracing.OFF, verdict, 6_000_000)
    rounds.committed()
    rounds.committed()
    seconds = {
        stage: value(metrics, "hola_round_stage_seconds_sum", stage=stage)
        for stage in ("wire", "queue", "verify")
    }
    assert seconds == {"wire": 0.002, "queue": 0.001, "verify": 0.003}
    assert value(metrics, "hola_round_stage_seconds_count", stage="commit") == 1


def test_clocks_that_disagree_give_no_negative_time() -> None:
    metrics = Metrics()
    Rounds(metrics).judged(tracing.OFF, Verdict(round=1, accepted=0, token=5, compute_ns=9), 1)
    assert value(metrics, "hola_round_stage_seconds_sum", stage="wire") == 0


def test_the_gates_decisions_are_counted() -> None:
    metrics = Metrics()
    rounds = Rounds(metrics)
    for asked, tokens in ((4, 4), (4, 1), (4, 0), (0, 0)):
        rounds.drafted(tracing.OFF, asked, tokens, 1_000)
    found = {
        each: value(metrics, "hola_draft_gate_decisions_total", decision=each)
        for each in ("full", "early", "none")
    }
    assert found == {"full": 1, "early": 1, "none": 1}
    assert value(metrics, "hola_round_stage_seconds_count", stage="draft") == 4
