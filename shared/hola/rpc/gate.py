"""The door of a server: who may come in, who that is, and how many calls a tenant runs at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc.aio
from grpc_health.v1.health import SERVICE_NAME as HEALTH_NAME

from hola.config import Settings
from hola.errors import QuotaExceeded
from hola.security.authenticate import Authenticator, Claim
from hola.security.caller import NOBODY, Caller, CallerKind, served
from hola.security.credential import AUTHORIZATION
from hola.telemetry import bind_ids

Context = grpc.aio.ServicerContext[Any, Any]

# Clients call these; the other services are called by our own processes only.
_FRONT_DOORS = frozenset(
    {"hola.v1.RouterService", "hola.v1.DrafterService", "hola.v1.RetrievalService"}
)
_OPEN = f"/{HEALTH_NAME}/"
_RETRY_MS = 1000


class Gate:
    """Admits the calls of one server."""

    def __init__(self, authenticator: Authenticator, max_calls_per_tenant: int) -> None:
        self._authenticator = authenticator
        self._most = max_calls_per_tenant
        self._running: Counter[str] = Counter()

    async def caller(self, method: str, context: Context) -> Caller:
        """Who calls `method`; health is open to everybody.

        Raises Unauthenticated, and Overloaded for a peer that fails too often.
        """
        if method.startswith(_OPEN):
            return NOBODY
        caller = await self._authenticator.caller(_claim(context))
        if caller.kind is not CallerKind.ANONYMOUS:
            bind_ids(tenant=caller.tenant, caller=caller.name)
        return caller

    @contextmanager
    def admitted(self, caller: Caller) -> Iterator[None]:
        """Serve a call of `caller`. Raises QuotaExceeded above HOLA_MAX_CALLS_PER_TENANT."""
        if caller.kind is not CallerKind.CLIENT:
            with served(caller):
                yield
            return
        if self._running[caller.tenant] >= self._most:
            raise QuotaExceeded(
                f"tenant {caller.tenant} runs {self._most} calls on this server already",
                tenant=caller.tenant,
                retry_after_ms=_RETRY_MS,
            )
        self._running[caller.tenant] += 1
        try:
            with served(caller):
                yield
        finally:
            self._running[caller.tenant] -= 1
            self._running += Counter()  # drops tenants without calls


def takes_tokens(services: Sequence[str], settings: Settings) -> bool:
    """Whether a server of these services lets clients in by key or token."""
    return bool(settings.api_keys or settings.jwks) and not _FRONT_DOORS.isdisjoint(services)


def asks_certificates(services: Sequence[str], settings: Settings) -> bool:
    """Whether callers over TLS must show a certificate of our authority.

    gRPC for Python can ask for certificates or not, but not take them as they come: a server that
    takes tokens does not ask, unless HOLA_CLIENT_CERTS=require.
    """
    if settings.client_certs != "auto":
        return settings.client_certs == "require"
    return not takes_tokens(services, settings)


def _claim(context: Context) -> Claim:
    values = (value for key, value in context.invocation_metadata() or () if key == AUTHORIZATION)
    return Claim(
        authorization=tuple(map(str, values)),
        certificate={key: tuple(value) for key, value in context.auth_context().items()},
        peer=context.peer(),
    )
