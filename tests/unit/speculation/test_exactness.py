"""The contract: output is a pure function of target, prompt, parameters and seed."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from hola.engines.scripted import Script, ScriptedEngine
from hola.ports import Proposer
from hola.speculation.proposers import Tier, build_ladder
from hola.types import (
    Exactness,
    FinishReason,
    Mode,
    Outcome,
    SamplingParams,
    SpeculationParams,
    Summary,
)
from tests.unit.speculation.drive import (
    EOS,
    TARGET,
    PieceTokenizer,
    RandomProposer,
    Run,
    Trouble,
    plain_decoding,
)

LADDERS = {
    "none": (),
    "lookup": ("lookup",),
    "tiny": ("tiny",),
    "lookup+tiny": ("lookup", "tiny"),
    "tiny+small": ("tiny", "small"),
    "lookup+tiny+small": ("lookup", "tiny", "small"),
    "random": ("random",),
    "perfect": ("perfect",),
}
NOISE = {"tiny": 0.5, "small": 0.25, "perfect": 0.0}
STOPS = ((), (), (), ("abc",), ("ing", "€"), ("gh", "g a", "ä€"), ("bab", "ab ab"))


def random_sampling(random: Random) -> SamplingParams:
    return SamplingParams(
        temperature=random.choice([0, 0.7, 1.0, 1.5]),
        top_k=random.choice([0, 0, 1, 3, 8]),
        top_p=random.choice([1.0, 1.0, 0.9, 0.5]),
        min_p=random.choice([0, 0, 0.05, 0.3]),
        seed=random.randrange(2**63),
        max_tokens=random.choice([1, 7, 40, 500, 500]),
        stop=random.choice(STOPS),
        stop_token_ids=random.choice([(), (), (), (3,), (EOS, 5)]),
        logprobs=random.random() < 0.3,
    )


def ladder_factory(names: tuple[str, ...], random: Random, sampling: SamplingParams, tau: float):
    def new_ladder() -> Proposer | None:
        if names == ("random",):
            return RandomProposer(random, TARGET.vocab_size)
        tiers = []
        for name in names:
            if name != "lookup":
                script = replace(TARGET, name=name, noise=NOISE[name], noise_seed=len(name))
                # A drafter may also know less of the context than the target.
                session = ScriptedEngine(script).open(random.choice([160, 160, 90]))
                tiers.append(Tier(name=name, session=session, eos_token_ids=(EOS,)))
        return build_ladder(tiers, sampling, lookup="lookup" in names, entropy_threshold=tau)

    return new_ladder


def random_run(seed: int, trouble: Trouble, mode: Mode = Mode.EXACT) -> tuple[Run, str]:
    random = Random(seed)
    sampling = random_sampling(random)
    ladder = random.choice(list(LADDERS))
    tau = random.choice([100.0, 100.0, 1.5])
    run = Run(
        prompt=tuple(random.randrange(EOS) for _ in range(random.randint(1, 24))),
        sampling=sampling,
        new_ladder=ladder_factory(LADDERS[ladder], random, sampling, tau),
        random=random,
        speculation=SpeculationParams(mode=mode, entropy_threshold=tau),
        most_draft_tokens=random.choice([0, 1, 2, 3, 5, 12, 12, 64]),
        trouble=trouble,
        target=replace(TARGET, eos_bias=random.choice([-100.0, -100.0, 0.0])),
    )
    return run, f"replay: seed={seed} ladder={ladder} tau={tau} {sampling}"


TROUBLES = {
    "quiet": Trouble(),
    "repeats": Trouble(repeated_block=0.5, repeated_verdict=0.5),
    "losses": Trouble(lost_before=0.1, lost_after=0.1, lost_while_drafting=0.1),
    "takeovers": Trouble(takeover=0.05, draft_failure=0.02),
    "everything": Trouble(
        lost_before=0.05,
        lost_after=0.05,
        lost_while_drafting=0.05,
        repeated_block=0.1,
        repeated_verdict=0.1,
        takeover=0.03,
        draft_failure=0.01,
    ),
}
CASES_PER_TROUBLE = 120


@pytest.mark.parametrize("trouble", TROUBLES)
def test_output_is_plain_decoding(trouble: str) -> None:
    reached = {"accepted": 0, "corrected": 0, "losses": 0, "takeovers": 0}
    finishes = set()
    for seed in range(CASES_PER_TROUBLE):
        run, replay = random_run(seed, TROUBLES[trouble])
        got = run.play()
        expected = plain_decoding(run.target, run.prompt, run.sampling)
        assert got == expected, replay
        check_summary(run, replay)
        assert run.summary.exactness is Exactness.EXACT
        reached["accepted"] += run.summary.accepted_tokens
        reached["corrected"] += run.summary.corrected_tokens
        reached["losses"] += run.losses
        reached["takeovers"] += run.takeovers
        finishes.add(got.finish)
    # The cases are worth something only if they get everywhere.
    assert reached["accepted"] > 300
    assert reached["corrected"] > 100
    assert finishes == set(FinishReason) - {FinishReason.CANCELLED}
    assert (reached["losses"] > 100) == (trouble in ("losses", "everything"))
    assert (reached["takeovers"] > 50) == (trouble in ("takeovers", "everything"))


@pytest.mark.parametrize("trouble", ["quiet", "losses"])
def test_gated_scores_every_unverified_token(trouble: str) -> None:
    agreed = unverified = 0
    for seed in range(60):
        run, replay = random_run(seed, TROUBLES[trouble], Mode.GATED)
        run.play()
        check_summary(run, replay)
        assert run.summary.exactness is Exactness.GATED
        assert run.summary.agreed_tokens == agreement(run), replay
        agreed += run.summary.agreed_tokens
        unverified += run.summary.unverified_tokens
    assert 0 < agreed < unverified


def agreement(run: Run) -> int:
    """How many unverified tokens the target would have chosen after the tokens before them."""
    sequence = list(run.prompt)
    agreed = 0
    for event in run.committed:
        if event.outcome is Outcome.UNVERIFIED:
            one = replace(run.sampling, max_tokens=1, stop=())
            agreed += plain_decoding(run.target, sequence, one).tokens == (event.token,)
        sequence.append(event.token)
    return agreed


def test_gated_with_a_perfect_drafter_is_exact_text() -> None:
    for seed in range(20):
        random = Random(seed)
        sampling = replace(random_sampling(random), logprobs=False)
        run = Run(
            prompt=(1, 2, 3),
            sampling=sampling,
            new_ladder=ladder_factory(("perfect",), random, sampling, 100.0),
            random=random,
            speculation=SpeculationParams(mode=Mode.GATED, entropy_threshold=100.0),
        )
        assert run.play() == plain_decoding(TARGET, run.prompt, sampling), f"replay: seed={seed}"
        assert run.summary.agreed_tokens == run.summary.unverified_tokens


def test_the_seed_matters() -> None:
    texts = {
        plain_decoding(
            replace(TARGET, eos_bias=-100.0),
            (1, 2, 3),
            SamplingParams(temperature=2.0, seed=seed, max_tokens=20),
        ).tokens
        for seed in range(20)
    }
    assert len(texts) == 20


def check_summary(run: Run, replay: str) -> None:
    """Counts and timings add up, and agree with the events."""
    summary: Summary = run.summary
    outcomes = [event.outcome for event in run.committed]
    counted = {
        Outcome.ACCEPTED: summary.accepted_tokens,
        Outcome.CORRECTED: summary.corrected_tokens,
        Outcome.BONUS: summary.bonus_tokens,
        Outcome.PLAIN: summary.plain_tokens,
        Outcome.UNVERIFIED: summary.unverified_tokens,
    }
    assert counted == {outcome: outcomes.count(outcome) for outcome in Outcome}, replay
    assert summary.completion_tokens == len(outcomes) == sum(counted.values()), replay
    assert summary.prompt_tokens == len(run.prompt)
    started = run.events[0]
    assert [tier.tier for tier in summary.tiers] == list(started.tiers), replay
    assert all(tier.proposed_tokens >= tier.accepted_tokens for tier in summary.tiers), replay
    assert sum(tier.accepted_tokens for tier in summary.tiers) == len(outcomes), replay
    times = summary.timings
    parts = (
        times.queue_ns,
        times.prefill_ns,
        times.draft_ns,
        times.verify_ns,
        times.verify_queue_ns,
        times.network_ns,
        times.other_ns,
    )
    assert min(parts) >= 0, replay
    assert sum(parts) == times.total_ns, replay
    assert times.queue_ns == 17
    for event in run.committed:
        own = event.outcome in (Outcome.BONUS, Outcome.PLAIN)
        assert not own or event.tier == len(started.tiers) - 1, replay
        verified = event.outcome is not Outcome.UNVERIFIED
        assert (event.logprob is not None) == (run.sampling.logprobs and verified), replay


def test_reference_and_pieces_know_open_characters() -> None:
    """Guards the test's own ground: pieces that split characters must occur."""
    tokenizer = PieceTokenizer((b"\xe2", b"\x82", b"\xac"))
    assert tokenizer.decode([0, 1]) == "\ufffd"
    assert tokenizer.decode([0, 1, 2]) == "€"
    assert Script().vocab_size == 258
