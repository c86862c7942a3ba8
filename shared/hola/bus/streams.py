"""What is kept where on the bus: keys, groups, bounds, and the rule that makes positions ids."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from hola.errors import ConfigError, ProtocolViolation
from hola.types import Failure, JournalEntry, Started, Summary, Tokens

GROUP = "drafters"
PAYLOAD_FIELD = b"p"
REASON_FIELD = b"reason"

# Entry ids are "milliseconds-sequence" to Redis; to us the first number is an output position.
START_ID = "0-0"
STARTED_ID = "0-1"
CANCEL_ID = f"{2**32}-0"  # past every position: positions are uint32
SEAL_ID = f"{2**33}-0"  # the last id of an ended journal, so that Redis refuses whatever follows


@dataclass(frozen=True, slots=True, kw_only=True)
class BusLimits:
    """Every bound of the bus. Raises ConfigError on one that is not a positive, finite number."""

    queue_limit: int = 256
    """Jobs waiting or running; one more is Overloaded."""
    job_idle_s: float = 10.0
    """A job not renewed for so long is given to another consumer."""
    max_attempts: int = 5
    """Deliveries of a job before it goes to the dead letters and its journal ends in a Failure."""
    dead_letter_limit: int = 1000
    """Dead letters kept, about; the oldest go first."""
    journal_ttl_s: float = 3600.0
    """An ended journal is kept so long."""
    running_ttl_s: float = 6 * 3600.0
    """A journal that has not ended is kept so long after its last entry or its job's heartbeat."""
    journal_limit: int = 2**20 + 2
    """Entries of a journal before its end; by default the longest legal request, token by token.
    One more is refused, not traded for the oldest: a client may still come back for those."""
    follower_buffer: int = 256
    """Entries held for a slow follower; beyond, it reads them from the journal again."""
    block_s: float = 2.0
    """Longest single blocking read."""
    retry_s: float = 5.0
    """A command is tried again so long after connections are lost, then BusUnavailable."""
    reconnect_s: float = 30.0
    """Followers wait so long for a lost backend, then BusUnavailable."""

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{limit.name}: {value} is not a positive number")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys under one prefix. A journal's braces make its request id the cluster hash tag."""

    prefix: str = "hola"

    @property
    def jobs(self) -> str:
        """The stream of jobs, acknowledged ones removed."""
        return f"{self.prefix}:jobs"

    @property
    def dead_letters(self) -> str:
        """The stream of given-up payloads, each with its reason."""
        return f"{self.prefix}:dead"

    def journal(self, request_id: str) -> str:
        """The stream of one request's events; it exists, empty, from publication on."""
        return f"{self.prefix}:{{{request_id}}}:journal"

    def attended(self, request_id: str) -> str:
        """A note, short-lived, that a client is attached to a request."""
        return f"{self.prefix}:{{{request_id}}}:attended"

    def wake(self, reader: str) -> str:
        """The stream that interrupts one reader's blocking read."""
        return f"{self.prefix}:wake:{reader}"


def entry_id(entry: JournalEntry, written: int = 0) -> str:
    """The journal id of an entry: the 1-based output position of what comes next.

    Started is "0-1"; Tokens from 0-based position p on are "p+1-0"; the end after n tokens is
    "n+1-0", with n out of the Summary and, for a Failure, `written`: the tokens in the journal as
    its writer knows it. Two writers that know the same prefix thus write the same id next, and the
    backend refuses the second one, whatever lengths their entries have. Raises ProtocolViolation
    on a position outside uint32.
    """
    event = entry.event
    match event:
        case Started():
            return STARTED_ID
        case Tokens():
            position = event.position
        case Summary():
            position = event.completion_tokens
        case Failure():
            position = written
    if not 0 <= position < 2**32 - 1:
        raise ProtocolViolation(f"position: {position} is out of range", field="position")
    return f"{position + 1}-0"


def parse_id(text: str | bytes) -> tuple[int, int]:
    """An id as numbers, which sort as the ids do."""
    first, _, second = (text if isinstance(text, str) else text.decode("ascii")).partition("-")
    return int(first), int(second)


def is_terminal(entry: JournalEntry) -> bool:
    """True when nothing may follow this entry."""
    return isinstance(entry.event, Summary | Failure)
