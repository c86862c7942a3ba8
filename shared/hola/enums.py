"""The contract's enumerations, with the values of the protos; `hola.types` has them too."""

from __future__ import annotations

import enum


class Exactness(enum.IntEnum):
    """How far the text may be trusted to be the target's own (values as in common.proto)."""

    EXACT = 1
    DEGRADED = 2
    GATED = 3
    UNVERIFIED = 4


class Mode(enum.IntEnum):
    """How draft tokens become output."""

    EXACT = 1
    GATED = 2


class Outage(enum.IntEnum):
    """What a request does while no verifier can be reached."""

    WAIT = 1
    FAIL = 2
    LOCAL = 3


class Outcome(enum.IntEnum):
    """What became of the proposal for one position."""

    ACCEPTED = 1
    CORRECTED = 2
    BONUS = 3
    PLAIN = 4
    UNVERIFIED = 5


class FinishReason(enum.IntEnum):
    """Why a stream ended without error."""

    STOP_TOKEN = 1
    STOP_STRING = 2
    LENGTH = 3
    CANCELLED = 4


class RetrievalPlan(enum.IntEnum):
    """How much is retrieved for a request."""

    NONE = 1
    LIGHT = 2
    DEEP = 3


class RetrievalMode(enum.IntEnum):
    """Whether a request retrieves (values as in plan.proto)."""

    OFF = 1
    AUTO = 2
    LIGHT = 3
    DEEP = 4


class StoreOutage(enum.IntEnum):
    """What a request does while the document store is down."""

    FAIL = 1
    WITHOUT = 2
