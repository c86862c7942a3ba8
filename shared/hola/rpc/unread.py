"""Bounds what a client that does not read can hold: one message, for a while, and then its status.

HTTP/2 lets a reader stop its sender. A stream that nobody reads would keep its place among the
server's calls, and what feeds it (a journal's follower, a verifier session), for as long as the
connection lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import grpc.aio

from hola.errors import Cancelled, ServiceUnavailable
from hola.telemetry import get_logger

log = get_logger(__name__)

# How long the status of a stream waits to be taken. It is on its way by then: who begins to read
# again finds it behind the messages.
STATUS_S = 1.0


async def write_within(
    context: grpc.aio.ServicerContext[Any, Any], response: Any, limit_s: float
) -> None:
    """Send one message of a stream. It counts as read when it, or room for it, was taken.

    Raises ServiceUnavailable when the client takes nothing for `limit_s` seconds, and Cancelled
    when it has gone: the call is to be ended then.
    """
    try:
        async with asyncio.timeout(limit_s):
            await context.write(response)
    except TimeoutError:
        log.warning("stream_left_unread", seconds=limit_s)
        raise ServiceUnavailable(
            f"the stream was left unread for {limit_s:g} s and has been cut: resume it"
        ) from None
    except grpc.aio.InternalError:
        # Its deadline passed, or it hung up, with the message on its way; we are cancelled next.
        raise Cancelled("the client has gone") from None


async def status_taken(abort: Coroutine[Any, Any, None]) -> None:
    """Wait for the client to take the status that `abort` sends, at most STATUS_S seconds."""
    try:
        async with asyncio.timeout(STATUS_S):
            await abort
    except TimeoutError:
        log.info("status_left_unread")
    except grpc.aio.InternalError:
        log.debug("status_not_sent")
