"""The bus's rules that need no backend: what a writer knows, and endings that the bus writes."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hola.bus.streams import Known, check_correction, is_terminal
from hola.convert import decode_ingest, decode_job, decode_record, failure_of
from hola.errors import (
    BusUnavailable,
    ConfigError,
    DuplicateRequest,
    Fenced,
    HolaError,
    Overloaded,
    ProtocolViolation,
    QuotaExceeded,
    UnknownRequest,
)
from hola.retrieval.ingest_job import IngestDelivery, IngestJob, IngestReport, IngestState
from hola.telemetry import get_logger
from hola.types import (
    Correction,
    Delivery,
    Exactness,
    FinishReason,
    GenerateEvent,
    JournalEntry,
    Outcome,
    Started,
    Summary,
    TierCounts,
    TokenEvent,
    Tokens,
    VerifierRecord,
)

log = get_logger(__name__)

BUS_WRITER = "bus"
MAX_KNOWN = 4096
RETRY_AFTER_MS = 1000
ROUNDING_S = 1e-6


@dataclass(frozen=True, slots=True)
class RawJob:
    """A delivery before its payload was looked at."""

    token: str
    tenant: str
    payload: bytes
    attempts: int


def open_job(raw: RawJob, max_attempts: int) -> Delivery | HolaError | None:
    """The delivery; why the job is to be given up; or None to leave it with the queue.

    That is for a payload of a later version while it has attempts left: during a rollout a newer
    drafter gets it when it has gone stale.
    """
    try:
        job = decode_job(raw.payload)
    except ProtocolViolation as error:
        is_later = "needs_reader" in error.details
        if is_later and raw.attempts < max_attempts:
            log.warning("job_left_to_newer_drafter", message=error.message, attempts=raw.attempts)
            return None
        return error
    if raw.attempts > max_attempts:
        return worn_out(max_attempts)
    return Delivery(job=job, token=raw.token, attempts=raw.attempts)


def open_ingest(raw: RawJob, max_attempts: int) -> IngestDelivery | HolaError | None:
    """As `open_job`, for an ingest."""
    try:
        job = decode_ingest(raw.payload)
    except ProtocolViolation as error:
        if "needs_reader" in error.details and raw.attempts < max_attempts:
            log.warning("ingest_left_to_newer_router", message=error.message)
            return None
        return error
    if raw.attempts > max_attempts:
        return worn_out(max_attempts, "workers")
    return IngestDelivery(job=job, token=raw.token, attempts=raw.attempts)


def queued_report(job: IngestJob, now_unix_ms: int) -> IngestReport:
    """The first report of an ingest."""
    return IngestReport(
        job_id=job.job_id,
        collection=job.options.collection,
        files=job.files,
        bytes=job.bytes,
        submitted_unix_ms=job.submitted_unix_ms,
        updated_unix_ms=now_unix_ms,
    )


def failed_report(report: IngestReport, error: HolaError, now_unix_ms: int) -> IngestReport:
    """The last report of an ingest that was given up, with what its last worker said."""
    said = f"; the last one: {report.message}" if report.message else ""
    return replace(
        report,
        state=IngestState.FAILED,
        reason=error.reason,
        message=f"{error.message}{said}",
        updated_unix_ms=now_unix_ms,
    )


def no_ingest(job_id: str) -> UnknownRequest:
    """The error of whoever asks for an ingest that never was, has expired, or is another's."""
    return UnknownRequest(f"there is no ingest {job_id[:80]!r}", job_id=job_id)


@dataclass(frozen=True, slots=True)
class Orphan:
    """A request id that is taken; with the published payload where nothing was written yet."""

    tenant: str = ""
    payload: bytes = b""


class KnownEnds:
    """The ends of the journals this process writes; the longest unused ones are forgotten.

    An append must find the journal where its writer left it. That is more than the order of ids
    gives: a backend that lost its last second in a crash would take a later entry and leave a gap.
    """

    def __init__(self, limit: int = MAX_KNOWN) -> None:
        self._limit = limit
        self._ends: OrderedDict[str, Known] = OrderedDict()

    def get(self, request_id: str) -> Known | None:
        """None when this process neither wrote nor read it."""
        return self._ends.get(request_id)

    def set(self, request_id: str, known: Known) -> None:
        """Remember; forgets the longest unused one beyond the limit."""
        self._ends[request_id] = known
        self._ends.move_to_end(request_id)
        if len(self._ends) > self._limit:
            self._ends.popitem(last=False)

    def advance(self, request_id: str, position: str, entry: JournalEntry) -> None:
        """An entry was written under the id `position`."""
        if is_terminal(entry):
            self._ends.pop(request_id, None)
            return
        self.set(request_id, self._ends.get(request_id, Known()).after(position, entry))


class Continuity:
    """Checks that tokens follow each other without a gap or a repetition, but for Corrections."""

    def __init__(self) -> None:
        self.known = Known()

    @property
    def written(self) -> int:
        """Tokens that hold by now."""
        return self.known.written

    def check(self, entry: JournalEntry, position: str = "") -> JournalEntry:
        """The entry itself, `position` its id. Raises BusUnavailable when entries are missing.

        That error has a client attach again by position, which is the right thing to do: the
        request's new owner writes what was lost once more. Raises ProtocolViolation when settled
        tokens are corrected.
        """
        match entry.event:
            case Tokens(position=place) if place != self.written:
                raise self._gap(place)
            case Correction(position=place) if place > self.written:
                raise self._gap(place)
            case Correction() as correction:
                check_correction(correction, self.known)
        self.known = self.known.after(position or self.known.last_id, entry)
        return entry

    def _gap(self, place: int) -> BusUnavailable:
        text = f"the journal goes on at {place}, {self.written} tokens were read"
        return BusUnavailable(text, expected=self.written, got=place)


def cancellation(entries: Sequence[JournalEntry]) -> JournalEntry:
    """The end of a cancelled request, with the counts of what its journal holds."""
    events = [entry.event for entry in entries]
    started = next((event for event in events if isinstance(event, Started)), None)
    tokens = _standing(events)
    outcomes = Counter(token.outcome for token in tokens)
    accepted = Counter(token.tier for token in tokens if token.outcome is Outcome.ACCEPTED)
    proposed = Counter(
        token.tier
        for token in tokens
        if token.outcome in (Outcome.ACCEPTED, Outcome.CORRECTED, Outcome.UNVERIFIED)
    )
    summary = Summary(
        finish_reason=FinishReason.CANCELLED,
        prompt_tokens=started.prompt_tokens if started else 0,
        completion_tokens=len(tokens),
        accepted_tokens=outcomes[Outcome.ACCEPTED],
        corrected_tokens=outcomes[Outcome.CORRECTED],
        bonus_tokens=outcomes[Outcome.BONUS],
        plain_tokens=outcomes[Outcome.PLAIN],
        unverified_tokens=outcomes[Outcome.UNVERIFIED],
        tiers=tuple(
            TierCounts(tier=name, proposed_tokens=proposed[i], accepted_tokens=accepted[i])
            for i, name in enumerate(started.tiers if started else ())
        ),
        exactness=_exactness(started, outcomes[Outcome.UNVERIFIED]),
        corrections=sum(isinstance(event, Correction) for event in events),
    )
    return JournalEntry(event=summary, writer=BUS_WRITER)


def _standing(events: Sequence[GenerateEvent]) -> list[TokenEvent]:
    """The tokens that hold: those that a Correction settled count as accepted."""
    tokens: list[TokenEvent] = []
    for event in events:
        if isinstance(event, Tokens):
            tokens += event.tokens
        elif isinstance(event, Correction):
            tokens = [_settled(token) for token in tokens[: event.position]]
    return tokens


def _settled(token: TokenEvent) -> TokenEvent:
    is_open = token.outcome is Outcome.UNVERIFIED
    return replace(token, outcome=Outcome.ACCEPTED) if is_open else token


def _exactness(started: Started | None, unverified: int) -> Exactness:
    known = started.exactness if started else Exactness.EXACT
    return Exactness.UNVERIFIED if unverified and known is not Exactness.GATED else known


def given_up(error: HolaError) -> JournalEntry:
    """The end of a request whose job went to the dead letters."""
    return JournalEntry(event=failure_of(error), writer=BUS_WRITER)


def worn_out(deliveries: int, consumers: str = "drafters") -> HolaError:
    """The error of a job that no consumer finished."""
    return HolaError(
        f"given up: {deliveries} {consumers} took this job and none of them finished it",
        deliveries=deliveries,
    )


def queue_full(limit: int) -> Overloaded:
    """The error of a publisher that finds the queue at its bound."""
    return Overloaded(
        f"the queue holds {limit} jobs, its limit", limit=limit, retry_after_ms=RETRY_AFTER_MS
    )


def tenant_queue_full(tenant: str, limit: int) -> QuotaExceeded:
    """The error of a publisher whose tenant has its share of the queue."""
    text = f"{limit} jobs of tenant {tenant} wait or run, its limit"
    return QuotaExceeded(text, tenant=tenant, limit=limit, retry_after_ms=RETRY_AFTER_MS)


def no_letter(dead_letter_id: str) -> UnknownRequest:
    """The error of whoever replays a dead letter that is not there (any more)."""
    return UnknownRequest(f"no dead letter {dead_letter_id!r}", dead_letter=dead_letter_id)


def check_bucket(rate_per_s: float, burst: int) -> None:
    """Raises ConfigError on a rate or a burst that never gives a token."""
    if not (math.isfinite(rate_per_s) and rate_per_s > 0 and burst >= 1):
        raise ConfigError(f"quota: {rate_per_s} tokens per second, at most {burst}, gives none")


def readable(payloads: Sequence[bytes]) -> tuple[VerifierRecord, ...]:
    """The records among the payloads; what cannot be read is logged and left out."""
    found = []
    for payload in payloads:
        try:
            found.append(decode_record(payload))
        except ProtocolViolation as error:
            log.warning("registry_record_unreadable", message=error.message)
    return tuple(found)


def journal_full(limit: int) -> Overloaded:
    """The error of a writer that finds the journal at its bound."""
    return Overloaded(f"the journal holds {limit} entries, its limit", limit=limit)


def fenced(request_id: str, position: str) -> Fenced:
    """The error of a writer that lost the journal to another one, or to its end."""
    text = f"journal of {request_id}: {position} is not the next entry any more"
    return Fenced(text, request_id=request_id, position=position)


def unknown(request_id: str) -> UnknownRequest:
    """The error of whoever asks for a journal that never was, or has expired."""
    return UnknownRequest(f"no journal of request {request_id!r}", request_id=request_id)


def duplicate(request_id: str) -> DuplicateRequest:
    """The error of a publisher whose request id is taken."""
    return DuplicateRequest(f"request id {request_id!r} is taken", request_id=request_id)


def delivery_lost(job_id: str, consumer: str) -> Fenced:
    """The error of a consumer that renews a job which is not its own any more."""
    return Fenced(f"job {job_id} is no longer {consumer}'s", consumer=consumer)
