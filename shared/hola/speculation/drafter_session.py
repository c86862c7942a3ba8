"""One request at the drafter, without I/O: events in, actions out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field

from hola.errors import HolaError, ProtocolViolation
from hola.ports import Proposal, Proposer, Tokenizer
from hola.speculation.accounting import Account
from hola.speculation.actions import Action, Draft, Emit, Send
from hola.speculation.blocks import Block, Candidate, candidates
from hola.speculation.drafting import Drafting
from hola.speculation.output import Output
from hola.speculation.pacing import Pacing
from hola.speculation.proposers import Writer
from hola.speculation.stretch import Stretch
from hola.speculation.target import Target, check_room
from hola.types import (
    CancelSession,
    Correction,
    Exactness,
    Failure,
    FinishReason,
    GenerateJob,
    Mode,
    Opened,
    Outage,
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

    For Outage.LOCAL: `writer` writes while no verifier can be reached, up to an end token (of
    `eos_of_drafts` while the target's are not known) and `context_length_of_drafts`. What it wrote
    is emitted UNVERIFIED; once a verifier is back it is sent as draft blocks, and a Correction says
    from where on the client has to forget it. `unverified` and `corrections` come from the journal
    on takeover: such tokens behind the committed ones, and how many Corrections there were.

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
    writer: Writer | None = None
    eos_of_drafts: tuple[int, ...] = ()
    committed: tuple[TokenEvent, ...] = ()
    unverified: tuple[TokenEvent, ...] = ()
    corrections: int = 0
    started: Started | None = None
    fingerprint: str = ""
    queue_ns: int = 0
    tokenize_ns: int = 0

    _finished: bool = field(default=False, init=False)
    _opening: bool = field(default=False, init=False)
    _open: bool = field(default=False, init=False)
    _local: bool = field(default=False, init=False)
    _drafting: bool = field(default=False, init=False)
    _block: Block | None = field(default=None, init=False)
    _stretch: Stretch | None = field(default=None, init=False)
    _round: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._born_ns = self.clock()
        self._output = Output(self.prompt, self.job.sampling, self.tokenizer)
        drafts = () if self.ladder is None else self.ladder.tiers
        self._tiers = (*drafts, self.target_name) if self.started is None else self.started.tiers
        self._target = Target.before(self.started, self.fingerprint, bool(self.committed))
        self.fingerprint = self._target.fingerprint
        self._account = Account(tiers=self._tiers, corrections=self.corrections)
        self._account.queue_ns, self._account.prefill_ns = self.queue_ns, self.tokenize_ns
        self._drafts = Drafting(
            self.ladder, self.writer, self.pacing, self.job.speculation,
            self.context_length_of_drafts, self.clock,
        )  # fmt: skip

    @property
    def output(self) -> tuple[int, ...]:
        """Output token ids so far, those of a takeover included, unverified ones left out."""
        return self._output.tokens

    @property
    def finished(self) -> bool:
        """Whether the terminal event has been emitted."""
        return self._finished

    @property
    def outage(self) -> Outage:
        """What to do while no verifier can be reached.

        LOCAL only for a request that can do it: not in GATED mode, and not without a draft engine.
        """
        if self._stretch is not None:
            return self.job.speculation.outage
        return self._drafts.outage(self._output)

    @property
    def asked_tokens(self) -> int:
        """How many tokens the last Draft asks for."""
        return self._drafts.asked

    def start(self) -> list[Action]:
        """First call: sends Open."""
        self._output.restore(self.committed)
        self._account.restore(self.committed)
        if self.unverified:
            self._stretch = Stretch(self._output, self.unverified)
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
        self._target.note(opened)
        self.fingerprint = self._target.fingerprint
        check_room(len(self.prompt), opened.context_length, self.model)
        self._output.limit(opened.context_length, opened.eos_token_ids)
        actions = self._announce(self._exactness())
        if self._block is not None:
            return [*actions, self._send_block(self._block)]
        if self._drafting:
            return actions
        return actions + self._advance()

    def write_locally(self) -> list[Action]:
        """No verifier can be reached for now: drafts and emits without one until on_opened.

        To be called again after every loss; [] when nothing can be written, and when the text is
        complete but for its verification. Then wait for a verifier, or end with `out_of_patience`.
        """
        if self._finished or self._open or self.outage is not Outage.LOCAL:
            return []
        self._local = True
        block, self._block = self._block, None
        fresh, self._stretch = self._stretch is None, self._stretch or Stretch(self._output)
        self._stretch.limit(
            *self._target.limits_within(self.context_length_of_drafts, self.eos_of_drafts)
        )
        actions = self._write(block.tokens, block.tiers) if block is not None and fresh else []
        return actions if self._drafting else actions + self._write_on()

    def draft(self) -> Proposal:
        """Run the ladder; the one heavy method, for the draft worker. Raises EngineFailure."""
        return self._drafts.run()

    def on_draft(self, proposal: Proposal, draft_ns: int) -> list[Action]:
        """The answer to Draft: sends the block (and in GATED mode commits what is confident).

        While writing locally: emits it. Raises ProtocolViolation when no draft was asked for.
        """
        if self._finished:
            return []
        if not self._drafting:
            raise ProtocolViolation("a draft came that nobody asked for")
        self._drafting = False
        prefill_ns, draft_ns = self._drafts.split(draft_ns)
        self._account.prefill_ns += prefill_ns
        self._account.draft_ns += draft_ns
        tokens = proposal.tokens[: self._drafts.asked]
        tiers = tuple(self._account.tier_of(name) for name in proposal.tiers[: len(tokens)])
        if self._local:
            actions = self._write(tokens, tiers)
            if self._open:
                return actions + self._advance()
            # A writer without a word has nothing more to say; a ladder may just have been unsure.
            return actions + (self._write_on() if tokens or not self._drafts.local else [])
        return self._propose(proposal, tokens, tiers, draft_ns)

    def on_draft_failed(self) -> list[Action]:
        """The answer to Draft when draft() raised: goes on without drafts, as plain decoding."""
        self._drafts.failed()
        return self.on_draft(Proposal(), 0)

    def on_verdict(self, verdict: Verdict, round_trip_ns: int) -> list[Action]:
        """Commits a verdict; a repeated or late one is ignored. Raises ProtocolViolation."""
        block = self._block
        repeated = verdict.round < self._round or (verdict.round == self._round and block is None)
        if self._finished or not self._open or repeated:
            return []
        if block is None or verdict.round != self._round:
            raise ProtocolViolation(f"verdict for round {verdict.round}, now {self._round}")
        found = candidates(block, verdict, len(self._tiers) - 1, self.tokenizer.vocab_size)
        self._block = None
        if self._stretch is not None:
            found = self._stretch.credit(found)
            tiers = self._stretch.judged_tiers(block, len(found))
        else:
            tiers = block.tiers[block.committed :]
            self.pacing.observe(block.report(verdict, round_trip_ns))
        self._account.judge(tiers, verdict, round_trip_ns)
        actions = self._commit(found) if self._output.finish is None else []
        if verdict.finished and self._output.finish is None:
            raise ProtocolViolation("the verifier ended the text without an end token")
        return actions + self._advance()

    def cancel(self) -> list[Action]:
        """Ends the request now; what is committed stays."""
        return [] if self._finished else self._end(FinishReason.CANCELLED)

    def out_of_patience(self, error: HolaError) -> list[Action]:
        """No verifier came in time: ends UNVERIFIED if the local text is complete, else fails."""
        if self._finished:
            return []
        stretch = self._stretch
        if stretch is None or not stretch.waiting or stretch.finish is None:
            return self.fail(error)
        return self._end(stretch.finish)

    def fail(self, error: HolaError) -> list[Action]:
        """Ends the request with a Failure made of `error`."""
        if self._finished:
            return []
        self._finished = True
        code, details = error.grpc_code, error.details
        failure = Failure(
            reason=error.reason, message=error.message, grpc_code=code, details=details
        )
        return [Emit(failure), Send(CancelSession())]

    def _advance(self) -> list[Action]:
        """The next block, or the end."""
        self._local = False
        if self._output.finish is not None:
            # Unverified tokens behind the end of the target's own text are void.
            void = self._stretch is not None and bool(self._stretch.waiting)
            actions = self._correct(self._output.position) if void else []
            return actions + self._end(self._output.finish)
        if self._stretch is not None and self._stretch.waiting:
            self._block = self._stretch.block(self._output.position, self._output.room)
            return [self._send_block(self._block)]
        self._stretch = None
        if self._drafts.ask(self._output) > 0:
            self._drafting = True
            return [Draft()]
        self._block = Block(base=self._output.position)
        return [self._send_block(self._block)]

    def _propose(
        self, proposal: Proposal, tokens: tuple[int, ...], tiers: tuple[int, ...], draft_ns: int
    ) -> list[Action]:
        """A draft as the next block."""
        base = self._output.position
        gated = self._drafts.confident(proposal, len(tokens))
        actions = self._commit(
            [Candidate(tokens[at], tiers[at], Outcome.UNVERIFIED) for at in range(gated)]
        )
        if self._output.finish is not None:
            # What comes after the end is not sent; what was committed is still scored.
            gated = self._output.position - base
            tokens, tiers = tokens[:gated], tiers[:gated]
        asked = self._drafts.asked
        self._block = Block(
            base=base, tokens=tokens, tiers=tiers, committed=gated, asked=asked, draft_ns=draft_ns
        )
        if self._open:
            actions.append(self._send_block(self._block))
        return actions

    def _commit(self, found: Sequence[Candidate]) -> list[Action]:
        """Make tokens output, and emit what of that the client does not have yet."""
        position = self._output.position
        events = self._output.commit(found)
        for event in events:
            self._account.commit(event)
        known, actions = 0, []
        if self._stretch is not None:
            settled = self._stretch.settle(events, complete=self._output.finish is not None)
            if settled is None:
                return []
            known, actions = settled, self._correct(position + settled)
        if known < len(events):
            actions.append(Emit(Tokens(position=position + known, tokens=events[known:])))
        return actions

    def _correct(self, position: int) -> list[Action]:
        """The end of a stretch: what stands behind `position` is void."""
        self._stretch = None
        self._account.corrections += 1
        return [Emit(Correction(position=position, fingerprint=self.fingerprint))]

    def _write(self, tokens: tuple[int, ...], tiers: tuple[int, ...]) -> list[Action]:
        """Append to the stretch and emit."""
        written = None if self._stretch is None else self._stretch.write(tokens, tiers)
        return [] if written is None else [*self._announce(Exactness.UNVERIFIED), Emit(written)]

    def _write_on(self) -> list[Action]:
        """Ask for more, unless the text is complete or the tiers cannot go on."""
        stretch = self._stretch
        if stretch is None or stretch.finish is not None or not self._drafts.ask_locally(stretch):
            return []
        self._drafting = True
        return [Draft()]

    def _send_open(self) -> Send:
        """Open for everything the verifier need not judge any more.

        Tokens of a block in flight are left out: they come again as a block, so that tokens
        committed unverified get their score.
        """
        self._open, self._opening = False, True
        tokens = self._output.tokens
        committed = tokens if self._block is None else tokens[: self._block.base]
        tokenizer = self.tokenizer.fingerprint
        return Send(self._target.opening(self.job, self.model, tokenizer, self.prompt, committed))

    def _send_block(self, block: Block) -> Send:
        self._round += 1
        return Send(block.message(self._round))

    def _announce(self, exactness: Exactness) -> list[Action]:
        """Started, once per stream."""
        if self.started is not None or self.committed or self.unverified:
            return []
        self.started = Started(
            request_id=self.job.request_id,
            model=self.model,
            tiers=self._tiers,
            fingerprint=self.fingerprint,
            exactness=exactness,
            prompt_tokens=len(self.prompt),
            plan=self.job.plan,
        )
        return [Emit(self.started)]

    def _exactness(self) -> Exactness:
        if self.job.speculation.mode is Mode.GATED:
            return Exactness.GATED
        if self._stretch is not None and self._stretch.waiting:
            return Exactness.UNVERIFIED
        return Exactness.DEGRADED if self._target.degraded else Exactness.EXACT

    def _leave_unverified(self) -> list[Action]:
        """Count what the target never saw; where it saw some of the stretch, say how far."""
        stretch, position = self._stretch, self._output.position
        if stretch is None or not stretch.waiting:
            return []
        for event in stretch.waiting:
            self._account.commit(event)
        if not stretch.confirmed:
            return []
        rest = Tokens(position=position, tokens=tuple(stretch.waiting))
        return [*self._correct(position), Emit(rest)]

    def _end(self, reason: FinishReason) -> list[Action]:
        self._finished = True
        exactness = self._exactness()
        actions = self._leave_unverified()
        wall_ns = self.queue_ns + self.tokenize_ns + self.clock() - self._born_ns
        summary = self._account.summary(
            reason, exactness, prompt_tokens=len(self.prompt), wall_ns=wall_ns
        )
        return [*actions, Emit(summary), Send(CancelSession())]
