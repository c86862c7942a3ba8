"""Draft length: the model's sanity, the decision's promises, and learning."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from hola.speculation.pacing import (
    AdaptivePacing,
    EntropyGate,
    FixedPacing,
    Measured,
    RoundReport,
    decide,
    predicted_rates,
    verify_cost,
)

MS = 1_000_000
# The design's table for int8 weights: width and milliseconds.
INT8 = ((2, 13.9 * MS), (4, 19.1 * MS), (8, 29.3 * MS), (16, 47.8 * MS), (32, 83.7 * MS))


def measured(**changes) -> Measured:
    base = Measured(
        draft_step_ns=1 * MS,
        overhead_ns=0.5 * MS,
        verify_ns=INT8,
        drafted=(1.0,) * 15,
        accepted=(0.8,) * 15,
    )
    return replace(base, **changes)


def random_measured(random: Random) -> Measured:
    widths = sorted(random.sample(range(2, 34, 2), random.randint(1, 6)))
    most = random.choice([1, 7, 15])
    drafted = tuple(random.random() for _ in range(most))
    return Measured(
        draft_step_ns=random.choice([0, 1, 1e5, 1e7, 1e9]) * random.random(),
        overhead_ns=random.choice([0, 1e5, 1e8]) * random.random(),
        verify_ns=tuple(
            (width, random.choice([0, 1e6, 1e8]) * random.random()) for width in widths
        ),
        drafted=drafted,
        accepted=tuple(random.random() * chance for chance in drafted),
    )


class TestRates:
    def test_plain_decoding_is_one_token_per_pass(self) -> None:
        assert predicted_rates(measured())[0] == pytest.approx(1 / (14.4 * MS))

    def test_by_hand(self) -> None:
        rates = predicted_rates(measured(drafted=(0.9,) * 15, accepted=(0.5,) * 15))
        # k = 2: steps 1 + 0.9; the pass is 4 wide if both are drafted, 2 wide otherwise.
        tokens = 1 + 0.5 + 0.25
        time = 0.5 + 1 * (1 + 0.9) + 13.9 + 0.81 * (19.1 - 13.9)
        assert rates[2] == pytest.approx(tokens / (time * MS))

    def test_more_acceptance_is_never_slower(self) -> None:
        for seed in range(100):
            random = Random(seed)
            worse = random_measured(random)
            better = replace(worse, accepted=tuple((1 + each) / 2 for each in worse.accepted))
            pairs = zip(predicted_rates(worse), predicted_rates(better), strict=True)
            assert all(low <= high for low, high in pairs), f"replay: seed={seed}"

    def test_a_faster_drafter_is_never_slower(self) -> None:
        for seed in range(100):
            slow = random_measured(Random(seed))
            fast = replace(slow, draft_step_ns=slow.draft_step_ns / 2)
            pairs = zip(predicted_rates(slow), predicted_rates(fast), strict=True)
            assert all(low <= high for low, high in pairs), f"replay: seed={seed}"

    def test_a_longer_round_trip_asks_for_longer_blocks(self) -> None:
        best = [
            decide(measured(overhead_ns=overhead * MS), current=99)
            for overhead in (0, 5, 20, 100, 500)
        ]
        assert best == sorted(best)
        assert best[-1] > best[0]


class TestDecide:
    def test_never_predicted_slower_than_plain_decoding(self) -> None:
        kept = 0
        for seed in range(2000):
            random = Random(seed)
            inputs = random_measured(random)
            current = random.randrange(17)
            chosen = decide(inputs, current)
            rates = predicted_rates(inputs)
            assert rates[chosen] >= rates[0], f"replay: seed={seed}"
            assert rates[chosen] * 1.05 >= max(rates), f"replay: seed={seed}"
            kept += chosen == current
        assert 100 < kept < 1900

    def test_useless_drafts_mean_plain_decoding(self) -> None:
        assert decide(measured(accepted=(0.02,) * 15), current=5) == 0
        assert decide(measured(draft_step_ns=20 * MS), current=5) == 0

    def test_cheap_good_drafts_mean_long_blocks(self) -> None:
        inputs = measured(accepted=(0.97,) * 15, draft_step_ns=0.2 * MS)
        assert decide(inputs, current=0) >= 9

    def test_fills_the_even_width(self) -> None:
        """An odd k costs the target no more than the even one before it."""
        for acceptance in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95):
            chosen = decide(measured(accepted=(acceptance,) * 15), current=99)
            assert chosen % 2 == 1, acceptance

    def test_stays_where_it_is_nearly_as_good(self) -> None:
        inputs = measured(accepted=(0.9,) * 15)
        rates = predicted_rates(inputs)
        best = max(range(16), key=rates.__getitem__)
        near = next(k for k in range(16) if k != best and rates[k] * 1.04 > rates[best])
        assert decide(inputs, current=near) == near
        assert decide(inputs, current=0) == best


class TestVerifyCost:
    def test_measured_widths_are_taken_as_they_are(self) -> None:
        assert verify_cost(INT8, 1) == verify_cost(INT8, 2) == 13.9 * MS
        assert verify_cost(INT8, 7) == verify_cost(INT8, 8) == pytest.approx(29.3 * MS)

    def test_between_them_is_linear(self) -> None:
        assert verify_cost(INT8, 6) == pytest.approx((19.1 + 29.3) / 2 * MS)

    def test_beyond_them_scales_with_the_usual_shape(self) -> None:
        only = ((8, 22.0),)
        assert verify_cost(only, 2) == pytest.approx(10)
        assert verify_cost(only, 16) == pytest.approx(38)
        assert verify_cost((), 8) > verify_cost((), 2) > 0


class TestAdaptive:
    @staticmethod
    def play(
        pacing: AdaptivePacing,
        rounds: int,
        *,
        acceptance: float,
        draft_ms: float,
        gate: int = 99,
        seed: int = 0,
    ) -> list[int]:
        """Rounds against a simulated target; returns the lengths asked for."""
        random = Random(seed)
        asked = []
        for _ in range(rounds):
            k = pacing.next_draft_tokens()
            asked.append(k)
            drafted = min(k, gate)
            accepted = 0
            while accepted < drafted and random.random() < acceptance:
                accepted += 1
            pacing.observe(
                RoundReport(
                    asked=k,
                    drafted=drafted,
                    accepted=accepted,
                    draft_ns=int((drafted + (drafted < k)) * draft_ms * MS),
                    verify_ns=int(verify_cost(INT8, drafted + 1)),
                    overhead_ns=MS // 2,
                )
            )
        return asked

    def test_starts_optimistic(self) -> None:
        assert 4 <= AdaptivePacing().next_draft_tokens() <= 7
        assert AdaptivePacing(start=9, most=3).next_draft_tokens() == 3

    @pytest.mark.parametrize("acceptance", [0.0, 0.3, 0.6, 0.8, 0.95])
    @pytest.mark.parametrize("draft_ms", [0.1, 1.0, 5.0])
    def test_comes_close_to_the_best_fixed_length(self, acceptance, draft_ms) -> None:
        """After 60 rounds, at least 90 % of the rate of the best length for the true costs."""
        truth = measured(draft_step_ns=draft_ms * MS, accepted=(acceptance,) * 15)
        rates = predicted_rates(truth)
        late = self.play(AdaptivePacing(), 160, acceptance=acceptance, draft_ms=draft_ms)[60:]
        achieved = sum(rates[k] for k in late) / len(late)
        assert achieved >= 0.9 * max(rates)

    def test_gives_up_and_tries_again(self) -> None:
        pacing = AdaptivePacing()
        asked = self.play(pacing, 300, acceptance=0.0, draft_ms=5)
        assert asked[40:].count(0) > 245
        assert set(asked[40:]) == {0, 1}
        assert max(self.play(pacing, 2000, acceptance=0.95, draft_ms=0.2)) >= 7

    def test_a_cold_first_step_does_not_end_drafting(self) -> None:
        """The first block of a session takes fifty times as long as the ones after it."""
        pacing = AdaptivePacing()
        pacing.observe(
            RoundReport(
                asked=5,
                drafted=5,
                accepted=5,
                draft_ns=250 * MS,
                verify_ns=int(verify_cost(INT8, 6)),
                overhead_ns=MS // 2,
            )
        )
        asked = self.play(pacing, 20, acceptance=0.9, draft_ms=1)
        assert min(asked) >= 1
        assert min(asked[10:]) >= 3

    @pytest.mark.parametrize("seed", range(5))
    def test_a_busy_machine_does_not_end_drafting(self, seed) -> None:
        """One round in five is disturbed: its draft or its pass takes ten times as long."""
        truth = measured(draft_step_ns=MS, accepted=(0.9,) * 15)
        rates = predicted_rates(truth)
        random = Random(seed)
        pacing = AdaptivePacing()
        asked = []
        for _ in range(200):
            k = pacing.next_draft_tokens()
            asked.append(k)
            accepted = 0
            while accepted < k and random.random() < 0.9:
                accepted += 1
            slow = 10 if random.random() < 0.2 else 1
            slow_draft = random.random() < 0.5
            pacing.observe(
                RoundReport(
                    asked=k,
                    drafted=k,
                    accepted=accepted,
                    draft_ns=k * MS * (slow if slow_draft else 1),
                    verify_ns=int(verify_cost(INT8, k + 1)) * (1 if slow_draft else slow),
                    overhead_ns=MS // 2,
                )
            )
        achieved = sum(rates[k] for k in asked[20:]) / len(asked[20:])
        assert achieved >= 0.85 * max(rates), f"replay: seed={seed}, asked {asked}"

    def test_reckons_with_a_gate_that_stops_early(self) -> None:
        """A drafter that never offers more than two tokens costs one step more, not thirteen."""
        pacing = AdaptivePacing()
        self.play(pacing, 100, acceptance=0.9, draft_ms=1, gate=2)
        learned = pacing.measured()
        assert learned is not None
        assert learned.drafted[0] > 0.9
        assert learned.drafted[2] < 0.2
        assert learned.draft_step_ns == pytest.approx(MS, rel=0.01)
        rates = predicted_rates(learned)
        assert rates[15] == pytest.approx(rates[3], rel=0.1)

    def test_plain_rounds_teach_the_pass_only(self) -> None:
        pacing = AdaptivePacing()
        pacing.observe(
            RoundReport(asked=0, drafted=0, accepted=0, draft_ns=0, verify_ns=5 * MS, overhead_ns=1)
        )
        assert pacing.measured() is None
        assert pacing.next_draft_tokens() == 5

    def test_survives_a_clock_that_stands_still(self) -> None:
        pacing = AdaptivePacing()
        for _ in range(20):
            k = pacing.next_draft_tokens()
            assert 0 <= k <= 15
            pacing.observe(
                RoundReport(asked=k, drafted=k, accepted=k, draft_ns=0, verify_ns=0, overhead_ns=0)
            )


def test_fixed() -> None:
    pacing = FixedPacing(3)
    pacing.observe(
        RoundReport(asked=3, drafted=3, accepted=0, draft_ns=9, verify_ns=1, overhead_ns=0)
    )
    assert pacing.next_draft_tokens() == 3


def test_gate() -> None:
    gate = EntropyGate(1.5)
    assert [gate.confident(nats) for nats in (0.0, 1.49, 1.5, float("inf"))] == [
        True,
        True,
        False,
        False,
    ]
    assert not EntropyGate(float("inf")).confident(float("inf"))
