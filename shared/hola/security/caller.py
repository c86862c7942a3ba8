"""Who makes the call that is being served, and whose data it may touch."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass

from hola.errors import PermissionDenied
from hola.types import DEFAULT_TENANT

# In a certificate's subject alternative names: its owner acts for this tenant only.
TENANT_URI = "urn:hola:tenant:"


class CallerKind(enum.StrEnum):
    """How far a caller is known."""

    SERVICE = "service"  # showed a certificate of our CA: one of our own processes
    CLIENT = "client"  # showed a key or a token, which names its tenant
    ANONYMOUS = "anonymous"  # this server asks nobody who they are


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of one call; `name` is for logs: a key's id, a token's subject, a certificate's.

    `tenant` is a client's own one. A service has DEFAULT_TENANT and acts for others
    (`acting_tenant`).
    """

    tenant: str = DEFAULT_TENANT
    kind: CallerKind = CallerKind.ANONYMOUS
    name: str = ""


NOBODY = Caller()
_current: ContextVar[Caller] = ContextVar("hola_caller", default=NOBODY)


def current_caller() -> Caller:
    """The caller of the call this task serves; anonymous outside of any call."""
    return _current.get()


def current_tenant() -> str:
    """The tenant of the call this task serves; DEFAULT_TENANT without authentication."""
    return _current.get().tenant


@contextmanager
def served(caller: Caller) -> Iterator[None]:
    """Make `caller` the current one of this task until the exit."""
    token = _current.set(caller)
    try:
        yield
    finally:
        # A generator can be closed in another context than its own; the caller died with that.
        with suppress(ValueError):
            _current.reset(token)


def acting_tenant(caller: Caller, asked: str) -> str:
    """Whose data a call touches that names a tenant itself (`asked`; empty: it names none).

    A client acts for its own tenant; DEFAULT_TENANT is what a message says that names none. A
    service acts for whom it says. Where nobody is authenticated the name is no more than a label,
    and stands as it was given. Raises PermissionDenied when a client names another tenant.
    """
    if caller.kind is CallerKind.CLIENT:
        if asked not in ("", DEFAULT_TENANT, caller.tenant):
            raise PermissionDenied(
                f"this credential is of tenant {caller.tenant} and acts for no other",
                tenant=caller.tenant,
            )
        return caller.tenant
    return asked or caller.tenant
