"""Addresses and client channels: one channel per address, bounded messages, keepalive."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from ipaddress import ip_address

import grpc
import grpc.aio

from hola.config import Settings
from hola.errors import ConfigError, HolaError
from hola.telemetry import current_id

FORM = "host:port, grpc://host:port or unix:///path"
_LONGEST_PING_S = 10.0
REQUEST_ID_KEY = "x-request-id"

Option = tuple[str, int | str]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is: `target` in gRPC's own form, and whether only this machine reaches it."""

    target: str
    local: bool


def parse_address(text: str) -> Address:
    """Read "host:port", "grpc://host:port", "[v6]:port" or "unix:///path" (also "unix:path").

    Raises ConfigError naming the address and the expected form.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path:
            raise _malformed(text)
        return Address(target=f"unix:{path}", local=True)
    host, _, port = text.removeprefix("grpc://").rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not bare or not port.isdecimal() or int(port) > 65535 or "/" in host:
        raise _malformed(text)
    if ":" in bare and bare == host:
        raise _malformed(text)
    return Address(target=f"{host}:{port}", local=_is_loopback(bare))


def common_options(settings: Settings) -> list[Option]:
    """Channel arguments of both ends: message bound and keepalive."""
    ping_timeout_ms = int(min(settings.keepalive_s / 2, _LONGEST_PING_S) * 1000)
    return [
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.keepalive_time_ms", int(settings.keepalive_s * 1000)),
        # grpc 1.78 gives a keepalive ping up by the second of these, whatever the first one says;
        # its default is a minute.
        ("grpc.keepalive_timeout_ms", ping_timeout_ms),
        ("grpc.http2.ping_timeout_ms", ping_timeout_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def open_channel(
    address: str, settings: Settings, *, service: str = "", idempotent: tuple[str, ...] = ()
) -> grpc.aio.Channel:
    """A plaintext channel; connects when first used and again after a loss.

    The unary methods named in `idempotent` are tried three times on UNAVAILABLE. Raises
    ConfigError on a malformed address. Needs a running event loop; the caller closes it.
    """
    options = [
        *common_options(settings),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
        # Subchannels are otherwise shared by all channels of the process, backoff included.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if idempotent:
        options.append(("grpc.service_config", _retry_config(service, idempotent)))
    return grpc.aio.insecure_channel(parse_address(address).target, options=options)


def call_metadata(request_id: str = "") -> tuple[tuple[str, str], ...]:
    """The metadata that carries a request's id to the other side's logs.

    Without `request_id`, the one bound to this task; nothing if there is none.
    """
    request_id = request_id or current_id("request_id")
    return ((REQUEST_ID_KEY, request_id),) if request_id else ()


async def wait_ready(channel: grpc.aio.Channel, timeout_s: float, unreachable: HolaError) -> None:
    """Wait until the channel is connected; raises `unreachable` after timeout_s seconds."""
    try:
        async with asyncio.timeout(timeout_s):
            await channel.channel_ready()
    except TimeoutError:
        raise unreachable from None


def _retry_config(service: str, methods: tuple[str, ...]) -> str:
    policy = {
        "maxAttempts": 3,
        "initialBackoff": "0.1s",
        "maxBackoff": "1s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    names = [{"service": service, "method": method} for method in methods]
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": policy}]})


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _malformed(text: str) -> ConfigError:
    return ConfigError(f"{text!r} is not an address: expected {FORM}", value=text, expected=FORM)
