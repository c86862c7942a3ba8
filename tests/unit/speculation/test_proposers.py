"""The ladder: lookup, cascades, rollback to any prefix, and where drafting stops."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from hola.engines.scripted import Script, ScriptedEngine, ScriptedSession
from hola.errors import EngineFailure, InvalidRequest
from hola.ports import Proposal, Proposer
from hola.speculation.prefix import common_prefix
from hola.speculation.proposers import LOOKUP, Cascade, Lookup, Tier, build_ladder, select_tiers
from hola.speculation.sampling import choose, entropy
from hola.types import SamplingParams

SCRIPT = Script(name="tiny", vocab_size=12, eos_token_id=11, context_length=400, sharpness=2)
SMALL = replace(SCRIPT, name="small", noise=0.4)
GREEDY = SamplingParams()
SAMPLED = SamplingParams(temperature=1.0, seed=5)


def engine_tier(script: Script, capacity: int = 400) -> Tier:
    engine = ScriptedEngine(script)
    return Tier(
        name=script.name, session=engine.open(capacity), eos_token_ids=engine.info.eos_token_ids
    )


class Counting(ScriptedSession):
    """Counts passes and remembers their widths."""

    def __init__(self, script: Script, capacity: int = 400) -> None:
        super().__init__(script, capacity)
        self.widths: list[int] = []
        self.fail = False

    def forward(self, tokens):
        self.widths.append(len(tokens))
        rows = super().forward(tokens)
        if self.fail:
            raise EngineFailure("on purpose")
        return rows


class Fixed:
    """Proposes the same tokens whatever the prefix."""

    tiers = ("fixed",)

    def __init__(self, *tokens: int) -> None:
        self.tokens = tokens
        self.asked: list[int] = []

    def propose(self, prefix, k):
        self.asked.append(k)
        tokens = self.tokens[:k]
        return Proposal(
            tokens=tokens, tiers=self.tiers * len(tokens), entropies=(math.inf,) * len(tokens)
        )

    def close(self) -> None:
        self.tokens = ()


def own_tokens(script: Script, prefix: list[int], k: int, params: SamplingParams) -> list[int]:
    """What the engine alone would write."""
    sequence = list(prefix)
    while len(sequence) < len(prefix) + k:
        rows = ScriptedEngine(script).open(400).forward(sequence)
        sequence.append(choose(rows[-1], params, len(sequence)))
    return sequence[len(prefix) :]


class TestCommonPrefix:
    def test_against_a_loop(self) -> None:
        for seed in range(300):
            random = Random(seed)
            left = [random.randrange(3) for _ in range(random.randrange(40))]
            right = left[: random.randrange(len(left) + 1)]
            right += [random.randrange(3) for _ in range(random.randrange(20))]
            expected = 0
            while expected < min(len(left), len(right)) and left[expected] == right[expected]:
                expected += 1
            assert common_prefix(left, right) == expected, f"replay: seed={seed}"


class TestLookup:
    def test_continues_the_longest_match(self) -> None:
        prefix = [1, 2, 3, 4, 9, 8, 3, 4, 7, 7, 1, 2, 3, 4]
        proposal = Lookup().propose(prefix, 3)
        assert proposal == Proposal(
            tokens=(9, 8, 3), tiers=(LOOKUP,) * 3, entropies=(math.inf,) * 3
        )

    def test_takes_the_latest_of_equal_matches(self) -> None:
        assert Lookup().propose([5, 6, 1, 0, 5, 6, 2, 0, 5, 6], 1).tokens == (2,)

    def test_goes_on_copying_a_repetition(self) -> None:
        assert Lookup().propose([4, 5, 4, 5, 4, 5], 7).tokens == (4, 5, 4, 5, 4, 5, 4)
        assert Lookup().propose([4, 4, 4], 3).tokens == (4, 4, 4)

    @pytest.mark.parametrize("prefix", [[], [1], [1, 2], [1, 2, 3, 4, 5]])
    def test_has_nothing_without_a_match(self, prefix: list[int]) -> None:
        assert Lookup().propose(prefix, 4) == Proposal()

    def test_k_zero_only_indexes(self) -> None:
        assert Lookup().propose([1, 2, 1, 2], 0) == Proposal()

    def test_any_prefix_may_follow_any_other(self) -> None:
        random = Random(0)
        lookup = Lookup()
        prefix: list[int] = []
        found = 0
        for step in range(800):
            del prefix[random.randrange(len(prefix) + 1) :]
            prefix += [random.randrange(4) for _ in range(random.randrange(30))]
            k = random.randrange(6)
            expected = Lookup().propose(prefix, k)
            assert lookup.propose(tuple(prefix), k) == expected, f"step {step}"
            found += bool(expected.tokens)
        assert found > 200

    def test_close_forgets(self) -> None:
        lookup = Lookup()
        lookup.propose([1, 2, 1, 2], 2)
        lookup.close()
        lookup.close()
        assert lookup.propose([1, 2], 2) == Proposal()

    def test_copies_from_a_text_that_the_prefix_does_not_have(self):
        texts = [[9, 8, 7], [1, 2, 3, 4, 5, 6]]
        assert Lookup(texts).propose([0, 2, 3], 2).tokens == (4, 5)
        assert Lookup(texts).propose([0, 2, 3], 2).tiers == (LOOKUP, LOOKUP)

    def test_a_text_is_copied_to_its_end_and_no_further(self):
        assert Lookup([[1, 2, 3, 4]]).propose([1, 2], 7).tokens == (3, 4)
        assert Lookup([[1, 2]]).propose([1, 2], 7) == Proposal()

    def test_a_longer_match_in_a_text_beats_a_shorter_one_in_the_prefix(self):
        prefix = [7, 8, 0, 0, 5, 6, 7, 8]
        assert Lookup([[5, 6, 7, 8, 9]]).propose(prefix, 1).tokens == (9,)
        assert Lookup([[6, 7, 9], [7, 8, 9]]).propose(prefix, 1).tokens == (0,)

    def test_the_text_named_first_wins(self):
        assert Lookup([[1, 2, 3], [1, 2, 4]]).propose([1, 2], 1).tokens == (3,)
        assert Lookup([[1, 2, 3, 1, 2, 4]]).propose([1, 2], 1).tokens == (3,)

    def test_texts_are_never_part_of_the_prefix(self):
        lookup = Lookup([[1, 2, 3, 4]])
        assert lookup.propose([1, 2], 2).tokens == (3, 4)
        assert lookup.propose([1, 2, 5, 1, 2], 1).tokens == (5,)
        assert lookup.propose([3], 2) == Proposal(), "nothing of a rolled back prefix is left"

    def test_closed_it_has_no_text(self):
        lookup = Lookup([[1, 2, 3]])
        lookup.close()
        assert lookup.propose([1, 2], 1) == Proposal()


class TestCascade:
    @pytest.mark.parametrize("params", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
    def test_proposes_what_the_engine_would_write(self, params: SamplingParams) -> None:
        """Whatever the tiers below guess."""
        script = replace(SMALL, eos_bias=-100.0)
        for lower in (None, Lookup(), Fixed(1, 2, 3), Cascade(None, engine_tier(SCRIPT), params)):
            cascade = Cascade(lower, engine_tier(script), params)
            proposal = cascade.propose([1, 2, 3], 9)
            assert list(proposal.tokens) == own_tokens(script, [1, 2, 3], 9, params)

    @pytest.mark.parametrize("params", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
    @pytest.mark.parametrize("threshold", [math.inf, 1.2])
    def test_random_rollbacks_equal_a_fresh_ladder(
        self, params: SamplingParams, threshold: float
    ) -> None:
        """Tokens, tiers and entropies, to the bit, after any prefix follows any other."""

        def new_ladder() -> Proposer:
            ladder = build_ladder(
                [engine_tier(SCRIPT, 60), engine_tier(SMALL)], params, entropy_threshold=threshold
            )
            assert ladder is not None
            return ladder

        random = Random(1)
        ladder = new_ladder()
        prefix = [1]
        tiers = set()
        for step in range(250):
            kept = random.choice([len(prefix), random.randrange(len(prefix) + 1)])
            extra = random.choice([1, 2, 5, 40])
            prefix = prefix[:kept] + [random.randrange(11) for _ in range(extra)]
            prefix = prefix[:70]
            k = random.randrange(8)
            got = ladder.propose(prefix, k)
            assert got == new_ladder().propose(prefix, k), f"step {step}"
            tiers |= set(got.tiers)
            if random.random() < 0.6:
                # As after a verdict: the drafts, in part, and a token of the target's.
                prefix = [*prefix, *got.tokens[: random.randrange(9)], random.randrange(11)]
        assert tiers == {LOOKUP, "tiny", "small"}

    def test_says_who_proposed_first_and_how_sure_it_is(self) -> None:
        script = replace(SCRIPT, eos_bias=-100.0)
        own = own_tokens(script, [1, 2], 4, GREEDY)
        lower = Fixed(own[0], own[1], (own[2] + 1) % 11)
        proposal = Cascade(lower, engine_tier(script), GREEDY).propose([1, 2], 4)
        assert proposal.tokens == tuple(own)
        assert proposal.tiers[:3] == ("fixed", "fixed", "tiny")
        rows = ScriptedEngine(script).open(400).forward([1, 2, *own])
        assert proposal.entropies == tuple(entropy(row) for row in rows[1:5])

    def test_checks_guesses_in_one_pass_of_even_width(self) -> None:
        script = replace(SCRIPT, eos_bias=-100.0)
        own = own_tokens(script, [1, 2], 8, GREEDY)
        session = Counting(script)
        cascade = Cascade(Fixed(*own), Tier(name="tiny", session=session), GREEDY, guesses=7)
        assert cascade.propose([1, 2], 8).tokens == tuple(own)
        assert session.widths == [9]
        # The last own token is not in the cache yet: it alone is fed, with what is guessed next.
        assert cascade.propose([1, 2, *own], 1).tokens
        assert session.widths == [9, 1]
        assert session.length == 10

    def test_never_asks_for_more_than_it_can_use(self) -> None:
        lower = Fixed(1, 1, 1, 1, 1, 1, 1, 1)
        Cascade(lower, engine_tier(SCRIPT), GREEDY, guesses=3).propose([1], 3)
        assert max(lower.asked) <= 2
        assert 0 not in lower.asked

    def test_stops_before_an_uncertain_token(self) -> None:
        script = replace(SCRIPT, eos_bias=-100.0)
        free = Cascade(None, engine_tier(script), GREEDY).propose([3], 12)
        threshold = sorted(free.entropies)[6]
        gated = Cascade(None, engine_tier(script), GREEDY, entropy_threshold=threshold)
        expected = next(i for i, nats in enumerate(free.entropies) if nats >= threshold)
        assert gated.propose([3], 12).tokens == free.tokens[:expected]

    @pytest.mark.parametrize("params", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
    def test_writes_on_however_uncertain_it_is(self, params: SamplingParams) -> None:
        """Drafting and writing by turns, on one cache."""
        script = replace(SMALL, eos_bias=-100.0)
        below = Cascade(Lookup(), engine_tier(SCRIPT), params, entropy_threshold=0.5)
        ladder = Cascade(below, engine_tier(script), params, entropy_threshold=0.5)
        text = [3, 1]
        for _ in range(8):
            assert len(ladder.propose(text, 6).tokens) < 6
            written = ladder.write(text, 5)
            assert list(written.tokens) == own_tokens(script, text, 5, params)
            assert max(written.entropies) >= 0.5
            text += written.tokens

    def test_writes_up_to_its_context(self) -> None:
        writer = Cascade(None, engine_tier(replace(SCRIPT, eos_bias=-100.0), 10), GREEDY)
        assert len(writer.write([1] * 8, 9).tokens) == 3
        assert writer.write([1] * 11, 9) == Proposal()

    @pytest.mark.parametrize("by", ["eos", "stop_token_ids"])
    def test_stops_after_an_end_token(self, by: str) -> None:
        script = replace(SCRIPT, eos_bias=-100.0)
        own = own_tokens(script, [3], 10, GREEDY)
        end = own[4]
        params = replace(GREEDY, stop_token_ids=(end,) if by == "stop_token_ids" else ())
        tier = replace(engine_tier(script), eos_token_ids=(end,) if by == "eos" else ())
        tokens = Cascade(Fixed(*own), tier, params).propose([3], 10).tokens
        assert tokens == tuple(own[: own.index(end) + 1])

    def test_stops_at_its_context(self) -> None:
        script = replace(SCRIPT, eos_bias=-100.0)
        cascade = Cascade(Lookup(), engine_tier(script, 10), GREEDY)
        prefix = [1, 2, 1, 2, 1, 2, 1]
        # 10 tokens fit the cache, so the last one it can choose is the 11th.
        assert len(cascade.propose(prefix, 9).tokens) == 4
        assert len(cascade.propose([*prefix, 2, 1, 2], 9).tokens) == 1
        assert cascade.propose([*prefix, 2, 1, 2, 1], 9) == Proposal()
        assert len(cascade.propose(prefix, 9).tokens) == 4

    def test_k_zero_prefills_all_tiers(self) -> None:
        low, high = Counting(SCRIPT), Counting(SMALL)
        cascade = Cascade(
            Cascade(None, Tier(name="low", session=low), GREEDY),
            Tier(name="high", session=high),
            GREEDY,
        )
        prefix = [index % 11 for index in range(100)]
        assert cascade.propose(prefix, 0) == Proposal()
        assert low.length == high.length == 99
        assert low.widths == high.widths == []

    def test_goes_on_after_an_engine_failure(self) -> None:
        session = Counting(replace(SCRIPT, eos_bias=-100.0))
        cascade = Cascade(Lookup(), Tier(name="tiny", session=session), GREEDY)
        first = cascade.propose([1, 2, 1, 2], 5)
        session.fail = True
        with pytest.raises(EngineFailure):
            cascade.propose([1, 2, 1, 2, 7], 5)
        session.fail = False
        assert cascade.propose([1, 2, 1, 2], 5) == first

    def test_refuses_bad_logits(self) -> None:
        class Broken(ScriptedSession):
            def forward(self, tokens):
                return super().forward(tokens) * np.float32("nan")

        session = Broken(SCRIPT, 50)
        with pytest.raises(EngineFailure, match="non-finite"):
            Cascade(None, Tier(name="broken", session=session), GREEDY).propose([1], 2)

    def test_close_frees_every_tier(self) -> None:
        low, high = Counting(SCRIPT), Counting(SMALL)
        ladder = Cascade(
            Cascade(Lookup(), Tier(name="low", session=low), GREEDY),
            Tier(name="high", session=high),
            GREEDY,
        )
        ladder.propose([1, 2, 3], 2)
        ladder.close()
        ladder.close()
        assert low.length == high.length == 0


class TestLadder:
    def test_names_cheapest_first(self) -> None:
        ladder = build_ladder([engine_tier(SCRIPT), engine_tier(SMALL)], GREEDY)
        assert ladder is not None
        assert ladder.tiers == (LOOKUP, "tiny", "small")

    def test_may_be_lookup_alone_or_nothing(self) -> None:
        only = build_ladder([], GREEDY)
        assert only is not None
        assert only.tiers == (LOOKUP,)
        assert build_ladder([], GREEDY, lookup=False) is None

    @pytest.mark.parametrize(
        ("ladder", "expected"),
        [
            (None, (LOOKUP, "tiny", "small")),
            ((), ()),
            (("small", LOOKUP), (LOOKUP, "small")),
        ],
    )
    def test_selection_keeps_the_order(self, ladder, expected) -> None:
        assert select_tiers((LOOKUP, "tiny", "small"), ladder) == expected

    def test_selection_refuses_an_unknown_tier(self) -> None:
        with pytest.raises(InvalidRequest, match="'huge'; known: lookup, tiny") as caught:
            select_tiers((LOOKUP, "tiny"), ("tiny", "huge"))
        assert caught.value.details["field"] == "ladder"
