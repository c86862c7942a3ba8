"""Signed tokens (JWT): the key decides the algorithm, the claims who calls and until when."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError, SecurityWarning
from joserfc.jwk import GuestProtocol, Key
from joserfc.jws import JWSRegistry

from hola.config import Settings
from hola.errors import ConfigError, InvalidRequest, Unauthenticated
from hola.security.caller import Caller, CallerKind
from hola.security.key_set import VARIABLE, KeySet, parse_key_set
from hola.security.watched import Watched, read_file
from hola.validate import check_tenant

LEEWAY_S = 30
_LARGEST = 1024 * 1024
_NAME_CHARS = 80


@dataclass(frozen=True, slots=True)
class Rules:
    """What a token has to say."""

    issuer: str
    audience: str
    tenant_claim: str


@dataclass(frozen=True, slots=True)
class Verified:
    """Who showed the token, and until when it holds (Unix seconds, leeway included)."""

    caller: Caller
    until: float


def token_rules(settings: Settings) -> Rules:
    """Raises ConfigError unless issuer and audience are both set: tokens for others would do."""
    if not (settings.jwt_issuer and settings.jwt_audience):
        raise ConfigError(
            "HOLA_JWKS needs HOLA_JWT_ISSUER and HOLA_JWT_AUDIENCE: without them a token made for"
            " another service would open this one",
            variable=VARIABLE,
        )
    return Rules(settings.jwt_issuer, settings.jwt_audience, settings.jwt_tenant_claim)


def watched_key_set(path: str) -> Watched[KeySet]:
    """The keys of a JWKS file, followed when it changes. Raises ConfigError."""
    return Watched([path], lambda: parse_key_set(read_file(path, VARIABLE, _LARGEST), path))


def verify_token(
    text: str, keys: KeySet, rules: Rules, *, clock: Callable[[], float] = time.time
) -> Verified:
    """Who the token is for. Raises Unauthenticated saying what is wrong with it, never its text."""
    now = int(clock())
    claims = _signed_claims(text, keys)
    registry = jwt.JWTClaimsRegistry(
        now=now,
        leeway=LEEWAY_S,
        exp={"essential": True},
        iss={"essential": True, "value": rules.issuer},
        aud={"essential": True, "value": rules.audience},
    )
    try:
        registry.validate(claims)
    except ExpiredTokenError:
        raise Unauthenticated("the token has expired") from None
    except JoseError as error:
        raise Unauthenticated(f"the token's claims do not hold: {error.description}") from None
    caller = Caller(
        tenant=_tenant(claims.get(rules.tenant_claim), rules.tenant_claim),
        kind=CallerKind.CLIENT,
        name=_printable(str(claims.get("sub", ""))[:_NAME_CHARS]),
    )
    return Verified(caller, float(claims["exp"]) + LEEWAY_S)


def _signed_claims(text: str, keys: KeySet) -> jwt.Claims:
    """The claims, once their signature has proved right."""
    algorithms = sorted({name for key in keys.keys for name in key.algorithms})
    registry = JWSRegistry(algorithms=algorithms, strict_check_header=False)
    try:
        with warnings.catch_warnings():
            # Issuers go on to write EdDSA, which a newer standard calls Ed25519.
            warnings.simplefilter("ignore", SecurityWarning)
            return jwt.decode(text, partial(_named_key, keys), registry=registry).claims
    except (JoseError, ValueError, TypeError, KeyError, RecursionError):
        raise Unauthenticated("the token is malformed, or its signature is not right") from None


def _named_key(keys: KeySet, token: GuestProtocol) -> Key:
    """The key the token names, if that may be used with the algorithm the token names."""
    headers = token.headers()
    key = keys.find(headers.get("kid"))
    if key is None:
        raise Unauthenticated("the token is signed with a key that is not known here")
    if headers["alg"] not in key.algorithms:
        raise Unauthenticated("the token's algorithm is not one of its key")
    return key.key


def _tenant(value: object, claim: str) -> str:
    if isinstance(value, str):
        with suppress(InvalidRequest):
            check_tenant(value)
            return value
    raise Unauthenticated(f"the token's claim {claim!r} is not a tenant's name")


def _printable(name: str) -> str:
    """For log lines on a terminal: nothing that moves the cursor or begins a line."""
    return "".join(character if character.isprintable() else "?" for character in name)
