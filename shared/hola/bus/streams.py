"""What is kept where on the bus: keys, groups, bounds, and the rule that makes positions ids.

**Ids of a journal's entries.** An id is "number-sequence". The number says how much of the output
is the target's own for good: it is 1 + the count of *settled* tokens before the entry. The sequence
counts entries that come while that count stands still.

* Started is "0-1".
* Settled tokens from 0-based output position p on (any event with at least one token whose outcome
  is not UNVERIFIED) have "p+1-0".
* *Provisional* tokens (every token of the event UNVERIFIED: a draft tier's own, written while no
  verifier could be reached) do not settle anything. With v settled tokens they take "v+1-0" and
  then "v+1-1", "v+1-2", ...; so does the Correction that ends them.
* Correction(c), v <= c <= tokens written, settles the c tokens before it: they are the target's
  now, though they were written as UNVERIFIED. The tokens behind them are void and the journal goes
  on at position c, with settled or with provisional tokens.
* The end after n tokens is "n+1-0".
* Whatever the rule gives, what goes on where the journal ends has a larger id than the last one:
  else it is that one with its sequence plus 1 (the tokens after Correction(v), for instance).

Nobody has to say which rule applies: `entry_id` reads it off the event and off what the writer
knows of the journal (`Known`). Two writers that know the same prefix give what goes on the same id,
and the backend refuses the second one; what could slip through by a larger id (an end in the middle
of a provisional stretch) is refused because an append also names the last id its writer knows.

A writer under Outage.LOCAL keeps settled and unverified tokens in separate events, and never writes
settled tokens behind provisional ones without the Correction between them. Who takes a stream up
again in the middle of a provisional stretch has to be sent that stretch from its first token on,
behind a Correction(v): another writer may have written other tokens there.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, fields

from hola.errors import ConfigError, ProtocolViolation
from hola.types import Correction, Failure, JournalEntry, Outcome, Started, Summary, Tokens

GROUP = "drafters"
INGEST_GROUP = "ingesters"
COMPRESSION_GROUP = "compressors"
PAYLOAD_FIELD = b"p"
REASON_FIELD = b"reason"
TENANT_FIELD = b"tenant"

LANES = 16

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
    tenant_queue_limit: int | None = None
    """Of these, jobs of one tenant; one more is QuotaExceeded. None: all of them."""
    job_idle_s: float = 10.0
    """A job not renewed for so long is given to another consumer."""
    max_attempts: int = 5
    """Deliveries of a job before it goes to the dead letters and its journal ends in a Failure."""
    dead_letter_limit: int = 1000
    """Dead letters kept, about; the oldest go first."""
    dead_letter_ttl_s: float = 30 * 24 * 3600.0
    """All of them are forgotten so long after the last one."""
    journal_ttl_s: float = 3600.0
    """An ended journal is kept so long."""
    running_ttl_s: float = 6 * 3600.0
    """A journal that has not ended is kept so long after its last entry or its job's heartbeat."""
    journal_limit: int = 2**20 + 2
    """Entries of a journal before its end; by default the longest legal request, token by token.
    One more is refused, not traded for the oldest: a client may still come back for those."""
    ingest_limit: int = 64
    """Ingests waiting or running in one place; one more is Overloaded."""
    tenant_ingest_limit: int = 16
    """Of these, ingests of one tenant; one more is QuotaExceeded."""
    ingest_reports: int = 100
    """Reports of a tenant's ingests that are listed; older ones are still found by their id."""
    ingest_ttl_s: float = 24 * 3600.0
    """The report of an ended ingest is kept so long."""
    waiting_ingest_ttl_s: float = 7 * 24 * 3600.0
    """That of one which has not ended so long after its last sign of life."""
    compression_limit: int = 64
    """Compression jobs waiting or running; one more is Overloaded."""
    tenant_compression_limit: int = 16
    """Of these, jobs of one tenant; one more is QuotaExceeded."""
    compression_ttl_s: float = 7 * 24 * 3600.0
    """The status of an ended compression job is kept so long."""
    waiting_compression_ttl_s: float = 30 * 24 * 3600.0
    """That of one which has not ended so long after its last sign of life."""
    bucket_limit: int = 4096
    """Buckets a memory bus keeps before it forgets the full ones; on Redis they expire."""
    registry_limit: int = 1024
    """Verifiers in the registry; beyond, the one whose record expires first goes."""
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
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{limit.name}: {value} is not a positive number")

    @property
    def tenant_limit(self) -> int:
        """Jobs of one tenant."""
        return self.tenant_queue_limit or self.queue_limit


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The keys of one queue of jobs; all have its hash tag, so that a script may touch them all."""

    prefix: str = "hola"
    tag: str = "jobs"
    scope: str = ""

    def _key(self, name: str) -> str:
        return f"{self.prefix}:{{{self.tag}}}:{self.scope}{name}"

    @property
    def tenants(self) -> str:
        """The sorted set of tenants with jobs, by when each was served; member "" is the count."""
        return self._key("tenants")

    @property
    def queues(self) -> str:
        """What the key of every tenant's queue begins with."""
        return self._key("queue:")

    def queue(self, tenant: str) -> str:
        """The stream of a tenant's jobs, acknowledged ones removed; gone when it is empty."""
        return self.queues + tenant

    @property
    def queued(self) -> str:
        """The hash that says where in which queue a job is, by its request's id."""
        return self._key("queued")

    @property
    def ready(self) -> str:
        """The list that consumers without a job block on; one element per job, more or less."""
        return self._key("ready")

    @property
    def dead_letters(self) -> str:
        """The stream of given-up payloads, each with its tenant and the reason."""
        return self._key("dead")


@dataclass(frozen=True, slots=True)
class Keys(QueueKeys):
    """The keys under one prefix; what stands in braces is the hash tag that a cluster goes by.

    All keys of the queue have one tag. A request's keys have the tag of its lane, one of LANES, so
    that a router needs one blocking read per lane in a cluster, not one per request.
    """

    def ingests(self, place: str) -> QueueKeys:
        """The queue of ingests whose files lie in one data folder."""
        return QueueKeys(self.prefix, "ingests", f"{place}:")

    def ingest_report(self, tenant: str, job_id: str) -> str:
        """How far one ingest of a tenant is."""
        return f"{self.prefix}:{{ingests}}:report:{tenant}:{job_id}"

    def ingest_reports(self, tenant: str) -> str:
        """The sorted set of a tenant's ingests by when they were sent."""
        return f"{self.prefix}:{{ingests}}:reports:{tenant}"

    @property
    def compression(self) -> QueueKeys:
        """The queue of compression jobs."""
        return QueueKeys(self.prefix, "compression")

    def compression_job(self, key: str) -> str:
        """How far one compression job is; `key` names it among all tenants' jobs."""
        return f"{self.prefix}:{{compression}}:job:{key}"

    def lane(self, request_id: str) -> str:
        """The hash tag of a request's keys."""
        return f"{zlib.crc32(request_id.encode()) % LANES:x}"

    def journal(self, request_id: str) -> str:
        """The stream of one request's events; it exists, empty, from publication on."""
        return f"{self.prefix}:{{{self.lane(request_id)}}}:journal:{request_id}"

    def request(self, request_id: str) -> str:
        """The hash of what is known of a request besides its journal; kept as long as that."""
        return f"{self.prefix}:{{{self.lane(request_id)}}}:request:{request_id}"

    def attended(self, request_id: str) -> str:
        """A note, short-lived, that a client is attached to a request."""
        return f"{self.prefix}:{{{self.lane(request_id)}}}:attended:{request_id}"

    def wake(self, lane: str, reader: str) -> str:
        """The stream that interrupts one reader's blocking read of a lane."""
        return f"{self.prefix}:{{{lane}}}:wake:{reader}"

    def bucket(self, bucket: str) -> str:
        """When a quota's bucket is full again."""
        return f"{self.prefix}:quota:{bucket}"

    @property
    def registry(self) -> tuple[str, str]:
        """The verifiers: a sorted set of when each record expires, and a hash of the records."""
        return (f"{self.prefix}:{{verifiers}}:until", f"{self.prefix}:{{verifiers}}:records")


@dataclass(frozen=True, slots=True)
class Known:
    """Where a journal ended when this process last wrote or read it.

    `written` counts the tokens that hold there, `settled` those of them that nothing can void.
    """

    last_id: str = START_ID
    written: int = 0
    settled: int = 0

    def after(self, position: str, entry: JournalEntry) -> Known:
        """What is known once `entry` has been written under the id `position`."""
        event = entry.event
        match event:
            case Tokens():
                written = event.position + len(event.tokens)
                return Known(position, written, self.settled if is_provisional(event) else written)
            case Correction():
                return Known(position, event.position, event.position)
        return Known(position, self.written, self.settled)


def entry_id(entry: JournalEntry, known: Known | None = None) -> str:
    """The journal id of an entry for a writer that knows the journal's end; see the module's top.

    A Failure comes behind the tokens that its writer knows of. Raises ProtocolViolation on a
    position outside uint32, and on a Correction of settled or of unwritten tokens.
    """
    end, event = known or Known(), entry.event
    match event:
        case Started():
            return STARTED_ID
        case Tokens():
            place = event.position
            position = min(end.settled, place) if is_provisional(event) else place
        case Correction():
            check_correction(event, end)
            position, place = end.settled, end.written
        case Summary():
            position = place = event.completion_tokens
        case Failure():
            position = place = end.written
    if not 0 <= position < 2**32 - 1:
        raise ProtocolViolation(f"position: {position} is out of range", field="position")
    number, sequence = parse_id(end.last_id)
    goes_on = place == end.written  # a repetition gets an id that is taken
    return f"{number}-{sequence + 1}" if goes_on and position < number else f"{position + 1}-0"


def is_provisional(event: Tokens) -> bool:
    """True when a Correction may still void every token of the event."""
    return all(token.outcome is Outcome.UNVERIFIED for token in event.tokens)


def check_correction(event: Correction, known: Known) -> None:
    """Raises ProtocolViolation unless the event corrects provisional tokens, or none."""
    if not known.settled <= event.position <= known.written:
        text = f"{event.position} is not from {known.settled} to {known.written}"
        raise ProtocolViolation(f"correction: {text}", field="position")


def parse_id(text: str | bytes) -> tuple[int, int]:
    """An id as numbers, which sort as the ids do."""
    first, _, second = (text if isinstance(text, str) else text.decode("ascii")).partition("-")
    return int(first), int(second)


def is_terminal(entry: JournalEntry) -> bool:
    """True when nothing may follow this entry."""
    return isinstance(entry.event, Summary | Failure)
