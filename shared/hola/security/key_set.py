"""The public keys of a token issuer (a JWKS file), each with the algorithms it may be used for."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from hola.errors import ConfigError

VARIABLE = "HOLA_JWKS"
MIN_RSA_BITS = 2048
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA", "Ed25519"),
}


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """A public key and the names of the algorithms that a token signed with it may have."""

    key: RSAKey | ECKey | OKPKey
    algorithms: tuple[str, ...]
    kid: str


@dataclass(frozen=True, slots=True)
class KeySet:
    """All usable keys of a file."""

    keys: tuple[VerifyKey, ...]

    def find(self, kid: str | None) -> VerifyKey | None:
        """The key a token names; without a name the only one there is."""
        if kid is None:
            return self.keys[0] if len(self.keys) == 1 else None
        return next((key for key in self.keys if key.kid == kid), None)


def parse_key_set(content: bytes, where: str) -> KeySet:
    """The signing keys of a JWKS; encryption keys and kinds we do not know are left out.

    Raises ConfigError when it is no JWKS, holds a symmetric or private key (this file is public),
    a weak one, two with one name, or no key that can verify.
    """
    keys: list[VerifyKey] = []
    for data in _entries(content, where):
        if data.get("kty") == "oct":
            raise _wrong(where, "a symmetric key: whoever verifies with it could sign with it")
        if "d" in data:
            raise _wrong(where, "a private key: give servers the public part only")
        if data.get("use", "sig") == "sig" and (key := _verify_key(data, where)):
            keys.append(key)
    names = [key.kid for key in keys]
    if len(set(names)) < len(names) or (len(keys) > 1 and "" in names):
        raise _wrong(where, "keys without a name (kid) of their own")
    if not keys:
        raise _wrong(where, "no RSA, EC or Ed25519 key that verifies signatures")
    return KeySet(tuple(keys))


def _entries(content: bytes, where: str) -> list[dict[str, Any]]:
    try:
        entries = json.loads(content)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        entries = None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _wrong(where, 'no JSON of the form {"keys": [{...}]}')
    return entries


def _verify_key(data: dict[str, Any], where: str) -> VerifyKey | None:
    kind = data.get("kty")
    allowed = _RSA if kind == "RSA" else _CURVES.get((str(kind), str(data.get("crv"))))
    if allowed is None:
        return None
    if "alg" in data:
        allowed = tuple(name for name in allowed if name == data["alg"])
    if not allowed:
        raise _wrong(where, "a key with an algorithm (alg) that its kind does not have")
    try:
        bits = _bits(data["n"]) if kind == "RSA" else MIN_RSA_BITS
        if bits < MIN_RSA_BITS:
            raise _wrong(where, f"an RSA key of {bits} bits, at least {MIN_RSA_BITS} are needed")
        key = JWKRegistry.import_key(data)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        raise _wrong(where, "a key whose numbers are not valid") from None
    if not isinstance(key, RSAKey | ECKey | OKPKey):
        return None
    return VerifyKey(key, allowed, str(data.get("kid", "")))


def _bits(modulus: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(modulus + "==")).bit_length()


def _wrong(where: str, found: str) -> ConfigError:
    return ConfigError(f"{VARIABLE}={where} holds {found}", variable=VARIABLE)
