"""Finds out who calls: from the peer's certificate, an API key or a signed token."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hola.config import Settings
from hola.errors import InvalidRequest, Overloaded, Unauthenticated
from hola.extras import check_installed
from hola.security.api_keys import PREFIX, StoredKey, caller_of_key, watched_keys
from hola.security.caller import NOBODY, TENANT_URI, Caller, CallerKind
from hola.security.failures import RETRY_MS, FailureLimit, site
from hola.security.watched import Watched
from hola.telemetry import get_logger
from hola.validate import check_tenant

if TYPE_CHECKING:
    from hola.security.tokens import Verified

log = get_logger(__name__)

MAX_CREDENTIAL_CHARS = 8192
_MAX_REMEMBERED = 1024
_SCHEME = "bearer"

Evidence = Mapping[str, Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class Claim:
    """What a call shows of its caller.

    `authorization`: every value of that metadata key; `certificate`: gRPC's auth context of the
    connection; `peer`: its address as gRPC writes it.
    """

    authorization: tuple[str, ...]
    certificate: Evidence
    peer: str


class Authenticator:
    """Tells callers from their credentials. Files of keys are followed when they change."""

    def __init__(
        self,
        settings: Settings,
        *,
        takes_tokens: bool,
        failures: FailureLimit | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Reads HOLA_API_KEYS and HOLA_JWKS when `takes_tokens`.

        Raises ConfigError when they cannot be used, MissingExtra where tokens need one.
        """
        self._failures = failures or FailureLimit()
        self._keys: Watched[dict[str, StoredKey]] | None = None
        self._tokens: TokenCheck | None = None
        if takes_tokens and settings.api_keys:
            self._keys = watched_keys(settings.api_keys)
        if takes_tokens and settings.jwks:
            self._tokens = TokenCheck(settings, clock)

    @property
    def asks(self) -> bool:
        """Whether a caller without certificate has to show a key or a token."""
        return self._keys is not None or self._tokens is not None

    async def caller(self, claim: Claim) -> Caller:
        """Who calls. A token counts before a certificate: it says less, so it allows less.

        Raises Unauthenticated, or Overloaded for a peer that fails too often. What holds always
        counts: behind one address may be many, and one who guesses must not lock the others out.
        """
        try:
            if self.asks and claim.authorization:
                return await self._shown(claim)
            if proved := caller_of_certificate(claim.certificate):
                return proved
        except Unauthenticated as error:
            if self._failures.exhausted(claim.peer):
                raise _too_many() from None
            self._failures.count(claim.peer)
            log.info("caller_refused", peer=site(claim.peer), why=error.message)
            raise
        if self.asks:
            raise Unauthenticated("this call needs a credential: authorization: Bearer KEY")
        return NOBODY

    async def _shown(self, claim: Claim) -> Caller:
        text = bearer(claim.authorization)
        if text.startswith(PREFIX):
            keys = {} if self._keys is None else await self._keys.fresh()
            if caller := caller_of_key(text, keys):
                return caller
            raise Unauthenticated("the API key is not one of this server's")
        if self._tokens is None:
            raise Unauthenticated("this server takes API keys only, and that is none")
        return await self._tokens.caller(text)


class TokenCheck:
    """Signed tokens of one issuer; those seen are remembered until they expire."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        """Raises ConfigError, MissingExtra."""
        check_installed("joserfc", "auth")
        check_installed("cryptography", "auth")
        from hola.security import tokens

        self._rules = tokens.token_rules(settings)
        self._keys = tokens.watched_key_set(settings.jwks)
        self._verify = tokens.verify_token
        self._clock = clock
        self._with = self._keys.value
        self._seen: OrderedDict[bytes, Verified] = OrderedDict()

    async def caller(self, text: str) -> Caller:
        """The caller of a token; one seen before is not verified again while its keys count.

        Raises Unauthenticated.
        """
        keys = await self._keys.fresh()
        if keys is not self._with:
            self._with = keys
            self._seen.clear()
        found = self._seen.get(_digest(text))
        if found is None or found.until <= self._clock():
            found = self._verify(text, keys, self._rules, clock=self._clock)
            self._remember(text, found)
        return found.caller

    def _remember(self, text: str, found: Verified) -> None:
        self._seen[_digest(text)] = found
        while len(self._seen) > _MAX_REMEMBERED:
            self._seen.popitem(last=False)


def bearer(authorization: Sequence[str]) -> str:
    """The credential of an authorization header. Raises Unauthenticated on any other form."""
    if len(authorization) != 1:
        raise Unauthenticated("there is more than one authorization header")
    (value,) = authorization
    scheme, _, text = value.partition(" ")
    text = text.strip(" ")
    plain = text.isascii() and text.isprintable() and " " not in text
    if scheme.lower() != _SCHEME or not plain or not 0 < len(text) <= MAX_CREDENTIAL_CHARS:
        raise Unauthenticated("expected authorization: Bearer KEY")
    return text


def caller_of_certificate(certificate: Evidence) -> Caller | None:
    """Whom the peer's certificate names; None when it showed none (the authority was checked).

    A service, unless the certificate is bound to a tenant. Raises Unauthenticated for one that is
    bound to several, or to none that can be.
    """
    if "x509_pem_cert" not in certificate and "x509_common_name" not in certificate:
        return None
    name = b"".join(certificate.get("x509_common_name", ())[:1]).decode("utf-8", "replace")
    uris = [uri.decode("utf-8", "replace") for uri in certificate.get("peer_uri", ())]
    tenants = [uri.removeprefix(TENANT_URI) for uri in uris if uri.startswith(TENANT_URI)]
    if not tenants:
        return Caller(kind=CallerKind.SERVICE, name=name)
    if len(tenants) > 1:
        raise Unauthenticated("the certificate is bound to several tenants")
    try:
        check_tenant(tenants[0])
    except InvalidRequest:
        raise Unauthenticated("the certificate's tenant has no valid name") from None
    return Caller(tenant=tenants[0], kind=CallerKind.CLIENT, name=name)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("ascii")).digest()


def _too_many() -> Overloaded:
    return Overloaded("too many failed attempts to authenticate", retry_after_ms=RETRY_MS)
