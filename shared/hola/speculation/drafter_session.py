"""One request at the drafter, without I/O: events in, actions out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass, field

from hola.errors import HolaError, PromptTooLong, ProtocolViolation
from hola.ports import Proposal, Proposer, Tokenizer
from hola.speculation.accounting import Account
from hola.speculation.actions import Action, Draft, Emit, Send
from hola.speculation.blocks import Block, Candidate, candidates
from hola.speculation.output import Output
from hola.speculation.pacing import EntropyGate, Pacing, RoundReport
from hola.types import (
    MAX_BLOCK_TOKENS,
    CancelSession,
    Exactness,
    Failure,
    FinishReason,
    GenerateJob,
    Mode,
    Open,
    Opened,
    Outcome,
    Started,
    TokenEvent,
    Tokens,
    Verdict,
)


@dataclass(eq=False)
class DrafterSession:
    """Drives one request: opens the verifier session, drafts, commits verdicts, ends the stream.

    Every method returns the actions to take, in order: Emits first, then at most one Send or
    Draft, last. The terminal actions are Emit(Summary or Failure), then Send(CancelSession),
    whose failure may be ignored. After `finished` every method returns [].

    `prompt` is job.prompt as token ids. `ladder` None is plain decoding; it is not closed here.
    `committed` and `started` come from the journal on takeover: tokens that are output already
    and the Started event that announced their tiers (Started is emitted only if `started` is None
    and nothing is committed). `fingerprint`: the numerics they were made with; "" for
    started.fingerprint, or for none yet. `queue_ns`: from the router's acceptance to here;
    `tokenize_ns`: time the caller spent on the prompt. `clock` is monotonic, in nanoseconds.

    The output's token list ends with the token that ended the text: the end-of-text or stop
    token (it has no text of its own), or the token that completed a stop string (the text is cut
    before the stop string). At a length limit, text held back for a stop string comes with the
    last token; after cancel it stays held back.
    """

    job: GenerateJob
    _: KW_ONLY
    prompt: tuple[int, ...]
    model: str
    ladder: Proposer | None
    pacing: Pacing
    tokenizer: Tokenizer
    target_name: str
    context_length_of_drafts: int
    clock: Callable[[], int]
    committed: tuple[TokenEvent, ...] = ()
    started: Started | None = None
    fingerprint: str = ""
    queue_ns: int = 0
    tokenize_ns: int = 0

    _finished: bool = field(default=False, init=False)
    _opening: bool = field(default=False, init=False)
    _open: bool = field(default=False, init=False)
    _drafting: bool = field(default=False, init=False)
    _degraded: bool = field(default=False, init=False)
    _drafts_failed: bool = field(default=False, init=False)
    _block: Block | None = field(default=None, init=False)
    _round: int = field(default=0, init=False)
    _asked: int = field(default=0, init=False)
    _warm_up_ns: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._born_ns = self.clock()
        self._output = Output(self.prompt, self.job.sampling, self.tokenizer)
        self._gate = EntropyGate(self.job.speculation.entropy_threshold)
        if self.started is None:
            drafts = () if self.ladder is None else self.ladder.tiers
            self._tiers = (*drafts, self.target_name)
        else:
            self._tiers = self.started.tiers
            self.fingerprint = self.fingerprint or self.started.fingerprint
            self._degraded = self.started.exactness is Exactness.DEGRADED
        # Output of unknown numerics cannot be called exact, whoever continues it.
        self._degraded |= bool(self.committed) and not self.fingerprint
        self._account = Account(
            tiers=self._tiers, queue_ns=self.queue_ns, prefill_ns=self.tokenize_ns
        )

    @property
    def output(self) -> tuple[int, ...]:
        """Output token ids so far, those of a takeover included."""
        return self._output.tokens

    @property
    def finished(self) -> bool:
        """Whether the terminal event has been emitted."""
        return self._finished

    def start(self) -> list[Action]:
        """First call: sends Open."""
        self._output.restore(self.committed)
        self._account.restore(self.committed)
        return [self._send_open()]

    def reopen(self) -> list[Action]:
        """After SessionLost, at any moment: sends Open for what the verifier has judged.

        A block in flight is sent again once the verifier has answered; a running draft goes on.
        """
        if self._finished:
            return []
        self._account.reconnects += 1
        return [self._send_open()]

    def on_opened(self, opened: Opened, round_trip_ns: int) -> list[Action]:
        """The verifier answered Open. Raises ProtocolViolation when none was sent.

        Raises PromptTooLong when the prompt leaves no room in the target's context. Another
        fingerprint than before makes the stream DEGRADED, which the Summary reports.
        """
        if self._finished:
            return []
        if not self._opening:
            raise ProtocolViolation("the verifier opened a session nobody asked for")
        self._opening, self._open, self._round = False, True, 0
        self._account.open(opened, round_trip_ns)
        self._note_numerics(opened)
        self._check_room(opened.context_length)
        self._output.limit(opened.context_length, opened.eos_token_ids)
        actions = self._announce()
        if self._block is not None:
            return [*actions, self._send_block(self._block)]
        if self._drafting:
            return actions
        return actions + self._advance()

    def draft(self) -> Proposal:
        """Run the ladder; the one heavy method, for the draft worker. Raises EngineFailure."""
        if self.ladder is None:
            return Proposal()
        if self._warm_up_ns is None:
            begin_ns = self.clock()
            self.ladder.propose(self._output.sequence, 0)
            self._warm_up_ns = self.clock() - begin_ns
        return self.ladder.propose(self._output.sequence, self._asked)

    def on_draft(self, proposal: Proposal, draft_ns: int) -> list[Action]:
        """The answer to Draft: sends the block (and in GATED mode commits what is confident).

        Raises ProtocolViolation when no draft was asked for.
        """
        if self._finished:
            return []
        if not self._drafting:
            raise ProtocolViolation("a draft came that nobody asked for")
        self._drafting = False
        draft_ns = self._book_draft(draft_ns)
        base = self._output.position
        tokens = proposal.tokens[: self._asked]
        tiers = tuple(self._tier_index(name) for name in proposal.tiers[: len(tokens)])
        gated = self._confident(proposal, len(tokens))
        actions = self._commit(
            Candidate(tokens[at], tiers[at], Outcome.UNVERIFIED) for at in range(gated)
        )
        if self._output.finish is not None:
            # What comes after the end is not sent; what was committed is still scored.
            gated = self._output.position - base
            tokens, tiers = tokens[:gated], tiers[:gated]
        self._block = Block(
            base=base,
            tokens=tokens,
            tiers=tiers,
            committed=gated,
            asked=self._asked,
            draft_ns=draft_ns,
        )
        if self._open:
            actions.append(self._send_block(self._block))
        return actions

    def on_draft_failed(self) -> list[Action]:
        """The answer to Draft when draft() raised: goes on without drafts, as plain decoding."""
        self._drafts_failed = True
        return self.on_draft(Proposal(), 0)

    def on_verdict(self, verdict: Verdict, round_trip_ns: int) -> list[Action]:
        """Commits a verdict; a repeated or late one is ignored. Raises ProtocolViolation."""
        block = self._block
        repeated = verdict.round < self._round or (verdict.round == self._round and block is None)
        if self._finished or not self._open or repeated:
            return []
        if block is None or verdict.round != self._round:
            raise ProtocolViolation(f"verdict for round {verdict.round}, now {self._round}")
        found = candidates(block, verdict, len(self._tiers) - 1)
        self._block = None
        self._account.judge(block.tiers[block.committed :], verdict, round_trip_ns)
        self.pacing.observe(
            RoundReport(
                asked=block.asked,
                drafted=len(block.tokens),
                accepted=verdict.accepted,
                draft_ns=block.draft_ns,
                verify_ns=verdict.compute_ns,
                overhead_ns=max(0, round_trip_ns - verdict.compute_ns),
            )
        )
        actions = self._commit(found) if self._output.finish is None else []
        if verdict.finished and self._output.finish is None:
            raise ProtocolViolation("the verifier ended the text without an end token")
        return actions + self._advance()

    def cancel(self) -> list[Action]:
        """Ends the request now; what is committed stays."""
        return [] if self._finished else self._end(FinishReason.CANCELLED)

    def fail(self, error: HolaError) -> list[Action]:
        """Ends the request with a Failure made of `error`."""
        if self._finished:
            return []
        self._finished = True
        failure = Failure(
            reason=error.reason,
            message=error.message,
            grpc_code=error.grpc_code,
            details=error.details,
        )
        return [Emit(failure), Send(CancelSession())]

    def _advance(self) -> list[Action]:
        """The next block, or the end."""
        if self._output.finish is not None:
            return self._end(self._output.finish)
        self._asked = self._most_draft_tokens()
        if self._asked > 0:
            self._drafting = True
            return [Draft()]
        self._block = Block(base=self._output.position)
        return [self._send_block(self._block)]

    def _most_draft_tokens(self) -> int:
        """As pacing and the request want, but nothing that could never become output."""
        out_of_reach = len(self._output.sequence) >= self.context_length_of_drafts
        if self.ladder is None or self._drafts_failed or out_of_reach:
            return 0
        cap = self.job.speculation.max_draft_tokens
        most = MAX_BLOCK_TOKENS if cap is None else cap
        # One place is left for the target's own token.
        return max(0, min(self.pacing.next_draft_tokens(), self._output.room - 1, most))

    def _commit(self, found: Iterable[Candidate]) -> list[Action]:
        position = self._output.position
        events = self._output.commit(found)
        for event in events:
            self._account.commit(event)
        return [Emit(Tokens(position=position, tokens=events))] if events else []

    def _confident(self, proposal: Proposal, tokens: int) -> int:
        """How many leading tokens GATED mode commits unverified; none in EXACT mode."""
        if self.job.speculation.mode is not Mode.GATED:
            return 0
        for at in range(tokens):
            if not self._gate.confident(proposal.entropies[at]):
                return at
        return tokens

    def _book_draft(self, draft_ns: int) -> int:
        """Book a draft's time, its tiers' prefill apart; returns the time of drafting proper."""
        prefill_ns = min(self._warm_up_ns or 0, draft_ns)
        self._warm_up_ns = 0
        self._account.prefill_ns += prefill_ns
        self._account.draft_ns += draft_ns - prefill_ns
        return draft_ns - prefill_ns

    def _send_open(self) -> Send:
        """Open for everything the verifier need not judge any more.

        Tokens of a block in flight are left out: they come again as a block, so that tokens
        committed unverified get their score.
        """
        self._open, self._opening = False, True
        tokens = self._output.tokens
        return Send(
            Open(
                session_id=self.job.request_id,
                model=self.model,
                tokenizer_fingerprint=self.tokenizer.fingerprint,
                prompt=self.prompt,
                committed=tokens if self._block is None else tokens[: self._block.base],
                sampling=self.job.sampling,
                required_fingerprint=self.fingerprint,
                allow_degraded=True,
            )
        )

    def _send_block(self, block: Block) -> Send:
        self._round += 1
        return Send(block.message(self._round))

    def _note_numerics(self, opened: Opened) -> None:
        moved = self.fingerprint not in ("", opened.fingerprint)
        self._degraded |= moved or opened.exactness is not Exactness.EXACT
        self.fingerprint = self.fingerprint or opened.fingerprint

    def _check_room(self, context_length: int) -> None:
        if len(self.prompt) >= context_length:
            raise PromptTooLong(
                f"the prompt has {len(self.prompt)} tokens,"
                f" the context of {self.model} is {context_length}",
                prompt_tokens=len(self.prompt),
                context_length=context_length,
            )

    def _announce(self) -> list[Action]:
        """Started, once per stream."""
        if self.started is not None or self.committed:
            return []
        self.started = Started(
            request_id=self.job.request_id,
            model=self.model,
            tiers=self._tiers,
            fingerprint=self.fingerprint,
            exactness=self._exactness(),
            prompt_tokens=len(self.prompt),
        )
        return [Emit(self.started)]

    def _tier_index(self, name: str) -> int:
        """A tier that the stream never announced (another drafter's) counts for the target."""
        return self._tiers.index(name) if name in self._tiers else len(self._tiers) - 1

    def _exactness(self) -> Exactness:
        if self.job.speculation.mode is Mode.GATED:
            return Exactness.GATED
        return Exactness.DEGRADED if self._degraded else Exactness.EXACT

    def _end(self, reason: FinishReason) -> list[Action]:
        self._finished = True
        wall_ns = self.queue_ns + self.tokenize_ns + self.clock() - self._born_ns
        summary = self._account.summary(
            reason, self._exactness(), prompt_tokens=len(self.prompt), wall_ns=wall_ns
        )
        return [Emit(summary), Send(CancelSession())]
