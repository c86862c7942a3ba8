"""What a session's draft tiers are asked: how many tokens, after what, and for how long."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hola.ports import Proposal, Proposer
from hola.speculation.output import Output
from hola.speculation.pacing import EntropyGate, Pacing
from hola.speculation.proposers import Writer
from hola.speculation.stretch import Stretch
from hola.types import MAX_BLOCK_TOKENS, Mode, Outage, SpeculationParams

# Tokens that a tier writes at a time without the target: few, so that its return is soon noticed.
LOCAL_TOKENS = 8

Ask = Callable[[Sequence[int], int], Proposal]


class Drafting:
    """The ladder with its pacing, its entropy gate and its first prefill.

    `ask` and `ask_locally` say what `run` will do (`asked` tokens, by the writer if `local`); only
    `run` is for the draft worker.
    `writer` may be the ladder itself; None where no tier can write a text.
    """

    def __init__(
        self,
        ladder: Proposer | None,
        writer: Writer | None,
        pacing: Pacing,
        speculation: SpeculationParams,
        context_length: int,
        clock: Callable[[], int],
    ) -> None:
        self._ladder = ladder
        self._writer = writer
        self._pacing = pacing
        self._speculation = speculation
        self._gate = EntropyGate(speculation.entropy_threshold)
        self._context_length = context_length
        self._clock = clock
        self._question: tuple[Ask, Sequence[int]] | None = None
        self._warm_up_ns: int | None = None
        self._failed = False
        self.asked = 0
        self.local = False

    def outage(self, output: Output) -> Outage:
        """What the request does without a verifier; LOCAL only where a tier can go on."""
        wanted = self._speculation.outage
        able = self._writer is not None and self._speculation.mode is Mode.EXACT
        if wanted is Outage.LOCAL and not (able and self._has_place(output.sequence)):
            return Outage.WAIT
        return wanted

    def failed(self) -> None:
        """A tier is broken: from now on nothing is asked."""
        self._failed = True

    def ask(self, output: Output) -> int:
        """How many tokens `run` drafts behind `output`; 0 for none.

        As pacing and the request want, but nothing that could never become output.
        """
        self.asked, self.local = 0, False
        if self._ladder is not None and self._has_place(output.sequence):
            cap = self._speculation.max_draft_tokens
            most = MAX_BLOCK_TOKENS if cap is None else cap
            # One place is left for the target's own token.
            wanted = min(self._pacing.next_draft_tokens(), output.room - 1, most)
            self.asked = max(0, wanted)
            self._question = self._ladder.propose, output.sequence
        return self.asked

    def ask_locally(self, stretch: Stretch) -> int:
        """How many tokens `run` writes behind `stretch`; 0 for none."""
        self.asked, self.local = 0, True
        if self._writer is not None and self._has_place(stretch.sequence):
            self.asked = max(0, min(LOCAL_TOKENS, stretch.room))
            self._question = self._writer.write, stretch.sequence
        return self.asked

    def run(self) -> Proposal:
        """Draft what was asked. Raises EngineFailure."""
        if self._question is None:
            return Proposal()
        ask, sequence = self._question
        if self._warm_up_ns is None and self._ladder is not None:
            begin_ns = self._clock()
            self._ladder.propose(sequence, 0)
            self._warm_up_ns = self._clock() - begin_ns
        return ask(sequence, self.asked)

    def split(self, draft_ns: int) -> tuple[int, int]:
        """A draft's time as (the tiers' first prefill, drafting proper)."""
        prefill_ns = min(self._warm_up_ns or 0, draft_ns)
        self._warm_up_ns = 0
        return prefill_ns, draft_ns - prefill_ns

    def confident(self, proposal: Proposal, tokens: int) -> int:
        """How many leading tokens GATED mode commits unverified; none in EXACT mode."""
        if self._speculation.mode is not Mode.GATED:
            return 0
        for at in range(tokens):
            if not self._gate.confident(proposal.entropies[at]):
                return at
        return tokens

    def _has_place(self, sequence: Sequence[int]) -> bool:
        return not self._failed and len(sequence) < self._context_length
