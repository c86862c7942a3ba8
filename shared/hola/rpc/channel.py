"""Addresses and client channels: one per address, encrypted or local, bounded, kept alive."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address

import grpc
import grpc.aio

from hola import tracing
from hola.config import Settings
from hola.errors import ConfigError, HolaError, Unauthenticated
from hola.rpc.handshake import Cause, causes
from hola.rpc.renewed_channel import RenewedChannel
from hola.security.credential import Credential
from hola.security.tls import calls_tls, channel_credentials, watched_pems
from hola.telemetry import current_id

FORM = "host:port, grpc://host:port, grpcs://host:port or unix:///path"
_LONGEST_PING_S = 10.0
REQUEST_ID_KEY = "x-request-id"
# Of one call's headers or trailers; a signed token has up to 8 KiB.
MAX_METADATA_BYTES = 16 * 1024

Option = tuple[str, int | str]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, `target` in gRPC's own form.

    `local`: only this machine reaches it. `secure`: written grpcs://, never spoken in plaintext.
    """

    target: str
    local: bool
    secure: bool = False

    @property
    def is_socket_file(self) -> bool:
        """A unix socket, which file permissions guard and which is never encrypted."""
        return self.target.startswith("unix:")


def parse_address(text: str) -> Address:
    """Read "host:port", "grpc[s]://host:port", "[v6]:port" or "unix:///path" (also "unix:path").

    Raises ConfigError naming the address and the expected form.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path:
            raise _malformed(text)
        return Address(target=f"unix:{path}", local=True)
    secure = text.startswith("grpcs://")
    rest = text.removeprefix("grpcs://" if secure else "grpc://")
    host, _, port = rest.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not bare or not port.isdecimal() or int(port) > 65535 or "/" in host:
        raise _malformed(text)
    if ":" in bare and bare == host:
        raise _malformed(text)
    return Address(target=f"{host}:{port}", local=_is_loopback(bare), secure=secure)


def common_options(settings: Settings) -> list[Option]:
    """Channel arguments of both ends: message bound and keepalive."""
    ping_timeout_ms = int(min(settings.keepalive_s / 2, _LONGEST_PING_S) * 1000)
    return [
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.keepalive_time_ms", int(settings.keepalive_s * 1000)),
        # grpc 1.78 gives a keepalive ping up by the second of these, whatever the first one says;
        # its default is a minute.
        ("grpc.keepalive_timeout_ms", ping_timeout_ms),
        ("grpc.http2.ping_timeout_ms", ping_timeout_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def open_channel(
    address: str,
    settings: Settings,
    *,
    service: str = "",
    idempotent: tuple[str, ...] = (),
    shows_token: bool = False,
    server_name: str = "",
    plaintext: bool = False,
) -> grpc.aio.Channel:
    """A channel to `address`; connects when first used and again after a loss.

    Encrypted to grpcs:// addresses, and with HOLA_TLS_CA to all but unix sockets, unless
    `plaintext` (the health port); the server's certificate must have `server_name`, else
    HOLA_TLS_SERVER_NAME, else the host's name. With `shows_token` every call carries HOLA_TOKEN.
    The unary methods named in `idempotent` are tried three times on UNAVAILABLE. Raises ConfigError
    on a malformed address, on certificates or a token that cannot be used, and on plaintext to
    another machine without HOLA_INSECURE=1. Needs a running event loop; the caller closes it.
    """
    where = parse_address(address)
    encrypted = not plaintext and is_encrypted(where, settings)
    if not (encrypted or plaintext or where.local or settings.insecure):
        raise ConfigError(
            f"{address} is on another machine and would be called in plaintext: set HOLA_TLS_CA or"
            " write grpcs://, or set HOLA_INSECURE=1 in a trusted network",
            value=address,
        )
    credential = Credential(settings) if shows_token else None
    options = _channel_options(settings, service, idempotent)
    if not encrypted:
        connect = partial(grpc.aio.insecure_channel, where.target, options=options)
        return RenewedChannel(connect, None, credential) if credential else connect()
    if name := server_name or settings.tls_server_name:
        options.append(("grpc.ssl_target_name_override", name))
    pems = watched_pems(settings)

    def dial() -> grpc.aio.Channel:
        trusted = channel_credentials(pems.value)
        return grpc.aio.secure_channel(where.target, trusted, options=options)

    return RenewedChannel(dial, pems, credential)


def is_encrypted(where: Address, settings: Settings) -> bool:
    """Whether calls to an address are encrypted. Raises ConfigError on half-set HOLA_TLS_*."""
    return not where.is_socket_file and (calls_tls(settings) or where.secure)


def call_metadata(
    request_id: str = "", span: tracing.Span | None = None
) -> tuple[tuple[str, str], ...]:
    """The metadata that carry a request's id to the other side's logs, and its trace.

    Without `request_id` and `span`, those of this task; nothing of what there is not.
    """
    request_id = request_id or current_id("request_id")
    traceparent = (span or tracing.current()).traceparent
    given = ((REQUEST_ID_KEY, request_id), (tracing.TRACEPARENT, traceparent))
    return tuple((key, value) for key, value in given if value)


async def wait_ready(
    channel: grpc.aio.Channel, timeout_s: float, unreachable: HolaError, *, final: bool = False
) -> None:
    """Wait until the channel is connected; raises `unreachable` after timeout_s seconds.

    Sooner where the handshake failed for a reason that waiting does not mend (a certificate that
    is not trusted); with `final` that is Unauthenticated, which nobody tries again. The message
    says why as far as it is known.
    """
    cause: Cause | None = None
    try:
        async with asyncio.timeout(timeout_s):
            async for cause in causes(channel):
                if cause.lasting:
                    break
            else:
                return
    except TimeoutError:
        pass
    if cause is None:
        raise unreachable from None
    kind = Unauthenticated if final and cause.lasting else type(unreachable)
    raise kind(f"{unreachable.message}: {cause.text}", **unreachable.details) from None


def _channel_options(settings: Settings, service: str, idempotent: tuple[str, ...]) -> list[Option]:
    options = [
        *common_options(settings),
        ("grpc.initial_reconnect_backoff_ms", 100),
        # In spite of its name how long one attempt to connect may take at least, the TLS handshake
        # included: that is three round trips.
        ("grpc.min_reconnect_backoff_ms", 2000),
        ("grpc.max_reconnect_backoff_ms", 2000),
        # Subchannels are otherwise shared by all channels of the process, backoff included.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if idempotent:
        options.append(("grpc.service_config", _retry_config(service, idempotent)))
    return options


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
