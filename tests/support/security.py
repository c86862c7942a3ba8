"""Certificates, keys and tokens made at run time, as files that settings can name."""

from __future__ import annotations

import base64
import json
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, Key

from hola.security.authority import Identity, issue, new_authority

ISSUER = "https://issuer.test"
AUDIENCE = "hola"
HOSTS = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Pki:
    """A folder with an authority's certificates; `settings` names them for a process."""

    folder: Path
    authority: Identity

    @classmethod
    def at(cls, folder: Path, name: str = "test-ca") -> Pki:
        """A new authority; its certificate is in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        authority = new_authority(name, 2)
        (folder / "ca.crt").write_bytes(authority.certificate)
        return cls(folder, authority)

    def issue(
        self, name: str, *hosts: str, days: float = 1, age_days: float = 0, tenant: str = ""
    ) -> dict[str, str]:
        """TLS settings of a new certificate; with `age_days` above `days` it has expired."""
        now = datetime.now(UTC) - timedelta(days=age_days)
        identity = issue(self.authority, name, hosts or HOSTS, days, tenant=tenant, now=now)
        replace_file(self.folder / f"{name}.key", identity.key)
        replace_file(self.folder / f"{name}.crt", identity.certificate)
        return self.settings(name)

    def settings(self, name: str = "") -> dict[str, str]:
        """TLS settings with the certificate `name`; without a name those of a mere client."""
        trust = {"tls_ca": str(self.folder / "ca.crt")}
        if not name:
            return trust
        pair = {"tls_cert": f"{self.folder / name}.crt", "tls_key": f"{self.folder / name}.key"}
        return trust | pair


def replace_file(path: Path, content: bytes) -> None:
    """Write a file the way a rotation does: at once, by renaming."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    os.replace(fresh, path)


def signing_key(kid: str = "k1", curve: Any = "P-256") -> ECKey:
    """A new EC key with a name."""
    return ECKey.generate_key(curve, {"kid": kid})


def key_set(*keys: Key) -> bytes:
    """The JWKS of the keys' public parts."""
    return json.dumps({"keys": [key.as_dict(private=False) for key in keys]}).encode()


def claims(**changes: Any) -> dict[str, Any]:
    """Claims that hold for a day; a change to None leaves the claim out."""
    now = int(time.time())
    usual = {"iss": ISSUER, "aud": AUDIENCE, "exp": now + 86_400, "tenant": "acme", "sub": "ann"}
    return {name: value for name, value in (usual | changes).items() if value is not None}


def token(key: Key, algorithm: str = "ES256", header: dict[str, Any] | None = None, **changes: Any):
    """A signed token."""
    named = {"alg": algorithm, "kid": key.kid} if header is None else header
    return jwt.encode(named, claims(**changes), key, [algorithm])


def unsigned(header: dict[str, Any], body: dict[str, Any], signature: bytes = b"") -> str:
    """A token put together by hand."""
    parts = (json.dumps(header).encode(), json.dumps(body).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
