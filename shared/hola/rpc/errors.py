"""HolaError to gRPC status and back, with google.rpc rich details in the trailing metadata."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import grpc.aio
from google.protobuf import duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from hola.errors import (
    Cancelled,
    DeadlineExceeded,
    HolaError,
    InvalidRequest,
    NotImplementedYet,
    Overloaded,
    QuotaExceeded,
    ServiceUnavailable,
    from_reason,
)

DOMAIN = "hola"
DETAILS_KEY = "grpc-status-details-bin"
# Trailing metadata is limited to 8 KiB in most gRPC stacks, base64 included.
MAX_MESSAGE_CHARS = 1000
MAX_DETAIL_CHARS = 200

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_PLAIN: dict[grpc.StatusCode, type[HolaError]] = {
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNIMPLEMENTED: NotImplementedYet,
}

Lost = Callable[[str], HolaError]


def code_of(error: HolaError) -> grpc.StatusCode:
    """The canonical status code of an error's class (table in `hola.errors`)."""
    return _CODES[error.grpc_code]


def status_details(error: HolaError) -> bytes:
    """google.rpc.Status with ErrorInfo, RetryInfo where details has retry_after_ms, and
    QuotaFailure where a tenant has used up what it may.

    Long texts are cut, so that the trailing metadata stays within its limit.
    """
    facts = {key[:64]: value[:MAX_DETAIL_CHARS] for key, value in list(error.details.items())[:16]}
    status = status_pb2.Status(code=error.grpc_code, message=error.message[:MAX_MESSAGE_CHARS])
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=facts)
    status.details.add().Pack(info)
    if facts.get("retry_after_ms", "").isdecimal():
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(facts["retry_after_ms"]))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    if isinstance(error, QuotaExceeded):
        status.details.add().Pack(_quota_failure(error, facts))
    packed: bytes = status.SerializeToString()
    return packed


def error_from_call(error: grpc.aio.AioRpcError, lost: Lost = ServiceUnavailable) -> HolaError:
    """The HolaError a call failed with.

    With HOLA's own details the same class comes back. Without (the connection broke, a proxy
    answered, an older server), the status code decides; UNAVAILABLE, and CANCELLED by the other
    side, become `lost(message)`.
    """
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            rebuilt = _from_details(value)
            if rebuilt is not None:
                return rebuilt
    message = error.details() or error.code().name
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return lost(message)
    if "larger than max" in message:
        return InvalidRequest(f"message too large: {message}", field="message")
    return _PLAIN.get(error.code(), HolaError)(message)


def _quota_failure(error: QuotaExceeded, facts: dict[str, str]) -> error_details_pb2.QuotaFailure:
    violation = error_details_pb2.QuotaFailure.Violation(
        subject=f"tenant:{facts.get('tenant', '')}", description=error.message[:MAX_MESSAGE_CHARS]
    )
    return error_details_pb2.QuotaFailure(violations=[violation])


def _from_details(packed: bytes) -> HolaError | None:
    try:
        status = status_pb2.Status.FromString(packed)
        for detail in status.details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info) and info.domain == DOMAIN:
                return from_reason(info.reason, status.message, dict(info.metadata))
    except DecodeError:
        return None  # somebody else's trailer under the same key
    return None
