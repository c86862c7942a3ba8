"""What a drafter session asks its shell to do: send, draft, or emit."""

from __future__ import annotations

from dataclasses import dataclass

from hola.types import GenerateEvent, VerifierRequest


@dataclass(frozen=True, slots=True)
class Send:
    """Send `message` to the verifier, then feed its answer to on_opened or on_verdict.

    CancelSession is the exception: it is the last action of all and nothing is fed back.
    """

    message: VerifierRequest


@dataclass(frozen=True, slots=True)
class Draft:
    """Run `DrafterSession.draft()` on the draft worker, then feed its result to on_draft.

    Every Draft is answered exactly once, also when the verifier is lost meanwhile.
    """


@dataclass(frozen=True, slots=True)
class Emit:
    """Give `event` to whoever follows the request (journal or caller)."""

    event: GenerateEvent


Action = Send | Draft | Emit
