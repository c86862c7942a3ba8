"""Errors survive the trip through a gRPC status, whatever class they are."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from hola import errors
from hola.errors import (
    Cancelled,
    DeadlineExceeded,
    HolaError,
    InvalidRequest,
    NotImplementedYet,
    Overloaded,
    PromptTooLong,
    QuotaExceeded,
    ServiceUnavailable,
    SessionLost,
)
from hola.rpc.errors import DETAILS_KEY, code_of, error_from_call, status_details

KINDS = sorted(
    (
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, HolaError)
    ),
    key=lambda kind: kind.__name__,
)


def call_error(
    code: grpc.StatusCode, details: str = "", trailing: dict[str, Any] | None = None
) -> grpc.aio.AioRpcError:
    metadata = grpc.aio.Metadata(*(trailing or {}).items())
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, details=details)


def travelled(error: HolaError) -> HolaError:
    return error_from_call(
        call_error(code_of(error), error.message, {DETAILS_KEY: status_details(error)})
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_class_comes_back_as_itself(kind: type[HolaError]) -> None:
    error = travelled(kind("what is wrong: ü", limit=5, got="x"))
    assert type(error) is kind
    assert error.message == "what is wrong: ü"
    assert error.details == {"limit": "5", "got": "x"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_code_is_the_one_of_the_table(kind: type[HolaError]) -> None:
    assert code_of(kind("x")).value[0] == kind.grpc_code
    status = status_pb2.Status.FromString(status_details(kind("x")))
    assert status.code == kind.grpc_code


def test_long_facts_are_cut_to_fit_the_trailing_metadata() -> None:
    facts = {f"fact{number}": "y" * 10_000 for number in range(100)}
    packed = status_details(PromptTooLong("x" * 100_000, **facts))
    assert len(packed) < 6000
    assert type(travelled(PromptTooLong("x" * 100_000, **facts))) is PromptTooLong


@pytest.mark.parametrize("retry_after", ["soon", "-1", "1.5", ""])
def test_a_malformed_retry_time_is_left_out(retry_after: str) -> None:
    status = status_pb2.Status.FromString(
        status_details(Overloaded("x", retry_after_ms=retry_after))
    )
    assert len(status.details) == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, ServiceUnavailable),
        (grpc.StatusCode.CANCELLED, ServiceUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Overloaded),
        (grpc.StatusCode.UNIMPLEMENTED, NotImplementedYet),
        (grpc.StatusCode.INTERNAL, HolaError),
        (grpc.StatusCode.UNKNOWN, HolaError),
    ],
)
def test_without_details_the_code_decides(code: grpc.StatusCode, kind: type[HolaError]) -> None:
    error = error_from_call(call_error(code, "from a proxy"))
    assert type(error) is kind
    assert error.message == "from a proxy"


def test_a_broken_stream_is_what_the_caller_says() -> None:
    assert (
        type(error_from_call(call_error(grpc.StatusCode.UNAVAILABLE), SessionLost)) is SessionLost
    )


def test_a_cancellation_of_ours_stays_one() -> None:
    assert type(travelled(Cancelled("the user went away"))) is Cancelled


@pytest.mark.parametrize(
    "trailer",
    [
        b"\xff\xff\xff",
        b"",
        status_pb2.Status(code=3).SerializeToString(),
        status_pb2.Status(details=[AnyMessage(type_url="x/y", value=b"\xff")]).SerializeToString(),
    ],
)
def test_somebody_elses_trailer_is_ignored(trailer: bytes) -> None:
    error = error_from_call(
        call_error(grpc.StatusCode.INVALID_ARGUMENT, "plain", {DETAILS_KEY: trailer})
    )
    assert type(error) is InvalidRequest
    assert error.message == "plain"


def packed(error: HolaError, kind: type[Any]) -> list[Any]:
    """The details of one kind in an error's status."""
    status = status_pb2.Status.FromString(status_details(error))
    found = []
    for detail in status.details:
        message = kind()
        if detail.Unpack(message):
            found.append(message)
    return found


def test_a_refusal_for_load_has_the_standard_details() -> None:
    error = QuotaExceeded("too fast", tenant="acme", retry_after_ms=1250)
    (retry,) = packed(error, error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == 1250
    (quota,) = packed(error, error_details_pb2.QuotaFailure)
    assert [(each.subject, each.description) for each in quota.violations] == [
        ("tenant:acme", "too fast")
    ]
    came_back = travelled(error)
    assert isinstance(came_back, QuotaExceeded)
    assert came_back.retry_after_s == 1.25


def test_a_full_queue_is_nobodys_quota() -> None:
    error = Overloaded("full", retry_after_ms=0)
    assert packed(error, error_details_pb2.QuotaFailure) == []
    (retry,) = packed(error, error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == 0


@pytest.mark.parametrize("told", ["", "-1", "soon", "1.5"])
def test_a_time_that_is_none_is_not_sent(told: str) -> None:
    error = Overloaded("full", retry_after_ms=told)
    assert packed(error, error_details_pb2.RetryInfo) == []
    assert error.retry_after_s is None
