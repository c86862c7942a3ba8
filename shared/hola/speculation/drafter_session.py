"""One request at the drafter, without I/O: events in, actions out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

from hola.errors import HolaError
from hola.ports import Proposal, Proposer, Tokenizer
from hola.speculation.actions import Action
from hola.speculation.pacing import Pacing
from hola.types import GenerateJob, Opened, Started, TokenEvent, Verdict


@dataclass(eq=False)
class DrafterSession:
    """Drives one request: opens the verifier session, drafts, commits verdicts, ends the stream.

    Every method returns the actions to take, in order: Emits first, then at most one Send or
    Draft, last. The one exception is the end: Emit(Summary or Failure), then Send(CancelSession).
    After `finished` every method returns [].

    `prompt` is job.prompt as token ids. `ladder` None is plain decoding; it is not closed here.
    `committed` and `started` come from the journal on takeover: tokens that are output already
    and the Started event that announced their tiers (Started is emitted only if `started` is None
    and nothing is committed). `fingerprint`: the numerics they were made with; "" for
    started.fingerprint, or for none yet. `queue_ns`: from the router's acceptance to here;
    `tokenize_ns`: time the caller spent on the prompt. `clock` is monotonic, in nanoseconds.

    The output's token list ends with the token that ended the text: the end-of-text or stop
    token (it has no text of its own), or the token that completed a stop string (the text is cut
    before the stop string).
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

    @property
    def output(self) -> tuple[int, ...]:
        """Output token ids so far, those of a takeover included."""
        raise NotImplementedError

    @property
    def finished(self) -> bool:
        """Whether the terminal event has been emitted."""
        raise NotImplementedError

    def start(self) -> list[Action]:
        """First call: sends Open."""
        raise NotImplementedError

    def reopen(self) -> list[Action]:
        """After SessionLost, at any moment: sends Open for what is committed.

        A block in flight is sent again once the verifier has answered; a running draft goes on.
        """
        raise NotImplementedError

    def on_opened(self, opened: Opened, round_trip_ns: int) -> list[Action]:
        """The verifier answered Open. Raises ProtocolViolation when none was sent.

        Raises PromptTooLong when the prompt leaves no room in the target's context. Another
        fingerprint than before makes the stream DEGRADED, which the Summary reports.
        """
        raise NotImplementedError

    def draft(self) -> Proposal:
        """Run the ladder; the one heavy method, for the draft worker. Raises EngineFailure."""
        raise NotImplementedError

    def on_draft(self, proposal: Proposal, draft_ns: int) -> list[Action]:
        """The answer to Draft: sends the block (and in GATED mode commits what is confident)."""
        raise NotImplementedError

    def on_draft_failed(self) -> list[Action]:
        """The answer to Draft when draft() raised: goes on without drafts, as plain decoding."""
        raise NotImplementedError

    def on_verdict(self, verdict: Verdict, round_trip_ns: int) -> list[Action]:
        """Commits a verdict; a repeated one is ignored. Raises ProtocolViolation."""
        raise NotImplementedError

    def cancel(self) -> list[Action]:
        """Ends the request now; what is committed stays."""
        raise NotImplementedError

    def fail(self, error: HolaError) -> list[Action]:
        """Ends the request with a Failure made of `error`."""
        raise NotImplementedError
