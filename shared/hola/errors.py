"""Every error HOLA raises, and the one table that maps it to a gRPC status.

    HolaError                      INTERNAL
    ├── InvalidRequest             INVALID_ARGUMENT     the caller must change the request
    │   ├── InvalidSampling        INVALID_ARGUMENT     a sampling parameter is out of range
    │   ├── PromptTooLong          OUT_OF_RANGE         prompt does not fit the context
    │   ├── EmptyPrompt            INVALID_ARGUMENT
    │   ├── DocumentInvalid        INVALID_ARGUMENT     a file or record cannot be read, and why
    │   ├── BudgetInfeasible       INVALID_ARGUMENT     nothing is that small; names the smallest
    │   └── CalibrationTooShort    INVALID_ARGUMENT     too little text to measure damage on
    ├── UnknownModel               NOT_FOUND
    ├── UnknownRequest             NOT_FOUND            no journal under this request id
    ├── UnknownCollection          NOT_FOUND            the tenant has no such collection
    ├── DuplicateRequest           ALREADY_EXISTS       the request id is taken
    ├── TokenizerMismatch          FAILED_PRECONDITION  tiers do not share a tokenizer
    ├── FingerprintMismatch        FAILED_PRECONDITION  another target or other numerics
    ├── EmbedderMismatch           FAILED_PRECONDITION  vectors of another embedder
    ├── StoreCorrupt               DATA_LOSS            a collection's file cannot be read
    ├── StoreUnavailable           UNAVAILABLE          no document store, or it is locked
    ├── ArtifactCorrupt            DATA_LOSS            a file differs from its recorded digest
    ├── ArtifactInvalid            FAILED_PRECONDITION  a model directory cannot be used, and why
    │   └── UnsupportedArchitecture  FAILED_PRECONDITION  no pass knows this kind of model
    ├── MemoryBudgetExceeded       RESOURCE_EXHAUSTED   does not fit; the numbers are in details
    ├── NoDiskSpace                RESOURCE_EXHAUSTED   does not fit the disk; numbers in details
    ├── Overloaded                 RESOURCE_EXHAUSTED   try again later
    │   └── QuotaExceeded          RESOURCE_EXHAUSTED   the tenant's own limit
    ├── SessionLost                UNAVAILABLE          the verifier forgot or never had the session
    │   ├── SessionMoved           UNAVAILABLE          it drains: open the session elsewhere
    │   └── BadAnswer              UNAVAILABLE          its answers are wrong: open it elsewhere
    ├── VerifierUnavailable        UNAVAILABLE          no verifier could be reached in time
    ├── BusUnavailable             UNAVAILABLE          Redis cannot be reached
    ├── ServiceUnavailable         UNAVAILABLE          a router or drafter cannot be reached
    ├── DeadlineExceeded           DEADLINE_EXCEEDED
    ├── Cancelled                  CANCELLED
    ├── Unauthenticated            UNAUTHENTICATED      no credential, or one that does not hold
    ├── PermissionDenied           PERMISSION_DENIED    the caller may not do this
    ├── Fenced                     ABORTED              another writer owns the journal now
    ├── EngineFailure              INTERNAL             a pass failed or gave non-finite logits
    ├── ProtocolViolation          FAILED_PRECONDITION  a peer broke the contract
    ├── NotImplementedYet          UNIMPLEMENTED        the contract has it, this version does not
    ├── ConfigError                INVALID_ARGUMENT     a setting is wrong; names it
    └── MissingExtra               FAILED_PRECONDITION  an optional dependency is not installed

`reason` is the class name in UPPER_SNAKE_CASE; it travels in `Failure.reason` and in the status
details, so that a client gets the same class back (`from_reason`).
"""

from __future__ import annotations

import re
from typing import ClassVar


class HolaError(Exception):
    """Base of all HOLA errors.

    `details` holds named facts as strings, e.g. {"limit": "4096", "got": "5000"}.
    """

    grpc_code: ClassVar[int] = 13
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details = {key: str(value) for key, value in details.items()}

    @property
    def reason(self) -> str:
        """The stable name that travels on the wire, e.g. PROMPT_TOO_LONG."""
        return _reason(type(self))


class InvalidRequest(HolaError):
    """The request can never succeed as it is; `details["field"]` names the field."""

    grpc_code = 3
    exit_code = 2


class InvalidSampling(InvalidRequest):
    """A sampling parameter is non-finite or out of range."""


class PromptTooLong(InvalidRequest):
    """The prompt leaves no room in the context; details: prompt_tokens, context_length."""

    grpc_code = 11


class EmptyPrompt(InvalidRequest):
    """The prompt has no token."""


class DocumentInvalid(InvalidRequest):
    """A document cannot be read; the message says why; details: source."""


class BudgetInfeasible(InvalidRequest):
    """A byte budget below what is possible; details: budget_bytes, smallest_bytes."""


class CalibrationTooShort(InvalidRequest):
    """Calibration text has too few tokens; details: needed_tokens, got_tokens."""


class UnknownModel(HolaError):
    """No such model family; details: model, known."""

    grpc_code = 5
    exit_code = 3


class UnknownRequest(HolaError):
    """No journal is kept under this request id (never was, or has expired)."""

    grpc_code = 5
    exit_code = 3


class UnknownCollection(HolaError):
    """The tenant has no collection of this name; details: collection, known."""

    grpc_code = 5
    exit_code = 3


class DuplicateRequest(HolaError):
    """The request id is already taken by another request."""

    grpc_code = 6
    exit_code = 2


class TokenizerMismatch(HolaError):
    """Drafter and target do not share one tokenizer; details: expected, got."""

    grpc_code = 9
    exit_code = 4


class FingerprintMismatch(HolaError):
    """The session needs another target artifact or other numerics than this verifier's."""

    grpc_code = 9
    exit_code = 4


class EmbedderMismatch(HolaError):
    """Vectors of another embedder or size than the collection's; details: expected, got."""

    grpc_code = 9
    exit_code = 4


class StoreCorrupt(HolaError):
    """A collection's file is damaged or of another format; details: file."""

    grpc_code = 15
    exit_code = 4


class StoreUnavailable(HolaError):
    """The document store cannot be reached, written to, or is locked for too long."""

    grpc_code = 14
    exit_code = 6


class ArtifactCorrupt(HolaError):
    """A model file is missing, truncated or changed; details: file, expected, got."""

    grpc_code = 15
    exit_code = 4


class ArtifactInvalid(HolaError):
    """A model directory cannot be used; the message says what is missing."""

    grpc_code = 9
    exit_code = 4


class UnsupportedArchitecture(ArtifactInvalid):
    """A checkpoint of a kind that cannot be compressed; details: architecture."""


class MemoryBudgetExceeded(HolaError):
    """A model or KV cache does not fit; details: needed_bytes, available_bytes."""

    grpc_code = 8
    exit_code = 5


class NoDiskSpace(HolaError):
    """A job's files do not fit the disk; details: needed_bytes, available_bytes, path."""

    grpc_code = 8
    exit_code = 5


class Overloaded(HolaError):
    """A bounded queue is full; details: retry_after_ms."""

    grpc_code = 8
    exit_code = 5

    @property
    def retry_after_s(self) -> float | None:
        """Seconds after which another try makes sense; None when nobody said."""
        told = self.details.get("retry_after_ms", "")
        return int(told) / 1000 if told.isdecimal() else None


class QuotaExceeded(Overloaded):
    """The tenant has used up its rate; details: tenant, retry_after_ms."""


class SessionLost(HolaError):
    """The verifier session is gone; open it again with the committed tokens."""

    grpc_code = 14
    exit_code = 6


class SessionMoved(SessionLost):
    """The verifier drains and gave the session up in good order: open it at another one."""


class BadAnswer(SessionLost):
    """A verifier answered with garbage, out of turn or impossibly: open the session elsewhere."""


class VerifierUnavailable(HolaError):
    """No verifier could be reached within the allowed time; details: address."""

    grpc_code = 14
    exit_code = 6


class BusUnavailable(HolaError):
    """Redis cannot be reached; details: url (without credentials)."""

    grpc_code = 14
    exit_code = 6


class ServiceUnavailable(HolaError):
    """A router or drafter cannot be reached, or went away for good; details: address."""

    grpc_code = 14
    exit_code = 6


class DeadlineExceeded(HolaError):
    """The caller's deadline passed."""

    grpc_code = 4
    exit_code = 6


class Cancelled(HolaError):
    """The request was cancelled."""

    grpc_code = 1
    exit_code = 130


class Unauthenticated(HolaError):
    """The call has no credential, or one that is unknown, forged or expired."""

    grpc_code = 16
    exit_code = 2


class PermissionDenied(HolaError):
    """The caller is known and may not do this."""

    grpc_code = 7
    exit_code = 2


class Fenced(HolaError):
    """Another writer has written this journal position: stop at once, nothing is lost."""

    grpc_code = 10


class EngineFailure(HolaError):
    """A forward pass failed or gave non-finite logits."""


class ProtocolViolation(HolaError):
    """A peer sent a message that the contract does not allow here."""

    grpc_code = 9


class NotImplementedYet(HolaError):
    """The contract has this call, this version does not."""

    grpc_code = 12


class ConfigError(HolaError):
    """A setting is unknown or malformed; the message names it and the expected form."""

    grpc_code = 3
    exit_code = 2


class MissingExtra(HolaError):
    """An optional dependency is not installed; the message has the pip line."""

    grpc_code = 9
    exit_code = 4


def from_reason(reason: str, message: str, details: dict[str, str]) -> HolaError:
    """Rebuild the error that travelled as `reason`; an unknown reason gives a plain HolaError."""
    return _BY_REASON.get(reason, HolaError)(message, **details)


def _reason(kind: type[HolaError]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).upper()


def _tree(kind: type[HolaError]) -> list[type[HolaError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in _tree(child))]


_BY_REASON = {_reason(kind): kind for kind in _tree(HolaError)}
