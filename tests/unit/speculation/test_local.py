"""Outage.LOCAL: whenever verifiers go and come back, the text ends as the target's own."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from hola.types import (
    Correction,
    Exactness,
    FinishReason,
    Outage,
    Outcome,
    SpeculationParams,
    Tokens,
)
from tests.unit.speculation.drive import EOS, TARGET, Run, Trouble, plain_decoding
from tests.unit.speculation.test_exactness import (
    LADDERS,
    check_summary,
    ladder_factory,
    random_sampling,
)

WITH_ENGINE = [name for name in LADDERS if name not in ("none", "lookup", "random")]
TROUBLES = {
    "at every message": Trouble(lost_before=0.3, lost_after=0.3, outage=0.9),
    "long outages": Trouble(lost_before=0.05, lost_after=0.05, outage=1.0, longest_outage=40),
    "takeovers": Trouble(
        lost_before=0.1, lost_after=0.1, lost_while_drafting=0.1, outage=0.8, takeover=0.08
    ),
    "drafts that break": Trouble(lost_before=0.2, lost_after=0.1, outage=0.9, draft_failure=0.05),
}
CASES_PER_TROUBLE = 60


def local_run(seed: int, trouble: Trouble) -> tuple[Run, str]:
    """A random request. Drafts may know less context than the target, or other end tokens."""
    random = Random(seed)
    sampling = random_sampling(random)
    ladder = random.choice(WITH_ENGINE)
    tau = random.choice([100.0, 1.5, 0.2])
    run = Run(
        prompt=tuple(random.randrange(EOS) for _ in range(random.randint(1, 24))),
        sampling=sampling,
        new_ladder=ladder_factory(LADDERS[ladder], random, sampling, tau),
        random=random,
        speculation=SpeculationParams(outage=Outage.LOCAL, entropy_threshold=tau),
        most_draft_tokens=random.choice([0, 1, 3, 12, 64]),
        trouble=trouble,
        target=replace(TARGET, eos_bias=random.choice([-100.0, -100.0, 0.0])),
        context_length_of_drafts=random.choice([160, 160, 60]),
        eos_of_drafts=random.choice([(EOS,), (EOS,), (), (EOS, 2)]),
    )
    return run, f"replay: local_run({seed}, {trouble}) ladder={ladder} tau={tau} {sampling}"


def play_all(trouble: Trouble, seeds: range) -> dict[str, int]:
    """Play, compare with plain decoding, and count what the cases reached."""
    reached = dict.fromkeys(("confirmed", "taken back", "outages", "takeovers", "finishes"), 0)
    finishes = set()
    for seed in seeds:
        run, replay = local_run(seed, trouble)
        got = run.play()
        assert got == plain_decoding(run.target, run.prompt, run.sampling), replay
        check_summary(run, replay)
        check_corrections(run, replay)
        assert run.summary.exactness is Exactness.EXACT, replay
        assert run.summary.unverified_tokens == 0, replay
        finishes.add(got.finish)
        confirmed, taken_back = fates(run)
        reached["confirmed"] += confirmed
        reached["taken back"] += taken_back
        reached["outages"] += run.outages
        reached["takeovers"] += run.takeovers
    reached["finishes"] = len(finishes - {FinishReason.CANCELLED})
    return reached


@pytest.mark.parametrize("trouble", TROUBLES)
def test_the_text_is_plain_decoding_s_in_the_end(trouble: str) -> None:
    reached = play_all(TROUBLES[trouble], range(CASES_PER_TROUBLE))
    assert reached["finishes"] == 3
    assert min(reached["confirmed"], reached["taken back"]) > 75, reached
    assert reached["outages"] > 60, reached
    assert (reached["takeovers"] > 25) == (trouble == "takeovers"), reached


@pytest.mark.slow
@pytest.mark.parametrize("trouble", TROUBLES)
def test_the_text_is_plain_decoding_s_in_many_more_cases(trouble: str) -> None:
    play_all(TROUBLES[trouble], range(1000, 2500))


def fates(run: Run) -> tuple[int, int]:
    """How many unverified tokens were confirmed, and how many taken back."""
    unverified = taken_back = written = 0
    for event in run.events:
        if isinstance(event, Tokens):
            written = event.position + len(event.tokens)
            unverified += sum(token.outcome is Outcome.UNVERIFIED for token in event.tokens)
        elif isinstance(event, Correction):
            taken_back += written - event.position
            written = event.position
    return unverified - taken_back, taken_back


def check_corrections(run: Run, replay: str) -> None:
    """Verified tokens stay; a Correction comes only behind unverified ones; all are counted."""
    written = verified = corrections = 0
    for event in run.events:
        if isinstance(event, Tokens):
            written += len(event.tokens)
            if any(token.outcome is not Outcome.UNVERIFIED for token in event.tokens):
                assert verified == event.position, replay
                assert all(t.outcome is not Outcome.UNVERIFIED for t in event.tokens), replay
                verified = written
        elif isinstance(event, Correction):
            assert verified <= event.position <= written, replay
            assert verified < written, replay
            verified = written = event.position
            corrections += 1
    assert run.summary.corrections == corrections, replay
