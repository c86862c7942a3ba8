"""Why a connection does not come about, in words that name the setting to look at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from hola.rpc.renewed_channel import RenewedChannel

_READY, _FAILED = grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE
_PROBE = "/grpc.health.v1.Health/Check"
_PROBE_S = 0.5
_SHORTEST_LOOK_S = 0.002
_LONGEST_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Cause:
    """What is wrong with a connection; `lasting` when trying again does not mend it."""

    text: str
    lasting: bool


# What gRPC and BoringSSL say of a failed handshake, the more special text first.
_TLS_CAUSES = (
    ("certificate has expired", Cause("its certificate has expired", True)),
    ("certificate is not yet valid", Cause("its certificate is not valid yet", True)),
    (
        "CERTIFICATE_VERIFY_FAILED",
        Cause("its certificate is not signed by an authority of HOLA_TLS_CA", True),
    ),
    (
        "Hostname Verification Check failed",
        Cause("its certificate is for another name (HOLA_TLS_SERVER_NAME)", True),
    ),
    ("WRONG_VERSION_NUMBER", Cause("it does not speak TLS", True)),
)
_HUNG_UP = ("Socket closed", "Connection reset", "recvmsg", "Broken pipe")
_REFUSED_CERTIFICATE = Cause(
    "it hung up during the handshake: it may want a certificate of its authority (HOLA_TLS_CERT)",
    False,
)
_REFUSED_PLAINTEXT = Cause("it hung up on plaintext: it may want TLS (HOLA_TLS_CA)", False)
_NOBODY = Cause("connection refused", False)


async def causes(channel: grpc.aio.Channel) -> AsyncIterator[Cause]:
    """Connect, and yield the cause of each failed attempt; ends when the channel is ready.

    The state is looked at again and again: grpc's own wait for a change leaves a callback behind
    when it is given up, which can outlive the event loop.
    """
    pause_s, before = _SHORTEST_LOOK_S, None
    while (state := channel.get_state(try_to_connect=True)) is not _READY:
        if state is grpc.ChannelConnectivity.SHUTDOWN:
            raise grpc.aio.UsageError("the channel was closed")
        if state is _FAILED and state is not before and (cause := await last_cause(channel)):
            yield cause
        before = state
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_LOOK_S)


async def last_cause(channel: grpc.aio.Channel) -> Cause | None:
    """Why the last attempt to connect failed; None when it is not known."""
    try:
        # A call on a channel that has just failed ends at once and says why.
        probe: Any = channel.unary_unary(_PROBE)
        await probe(b"", timeout=_PROBE_S)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            encrypted = isinstance(channel, RenewedChannel) and channel.encrypted
            return cause_of(error.details() or "", encrypted=encrypted)
    return None


def cause_of(details: str, *, encrypted: bool) -> Cause | None:
    """The cause behind gRPC's own words."""
    if encrypted:
        for sign, cause in _TLS_CAUSES:
            if sign in details:
                return cause
    if "Connection refused" in details:
        return _NOBODY
    if any(sign in details for sign in _HUNG_UP):
        return _REFUSED_CERTIFICATE if encrypted else _REFUSED_PLAINTEXT
    return None
