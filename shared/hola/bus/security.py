"""The files that a connection to Redis needs: certificates, and the password of its ACL user."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from hola.bus.address import BusAddress
from hola.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class BusSecurity:
    """Files that a connection to Redis needs; empty names mean none.

    `ca` replaces the system's certificate authorities; `cert` and `key` are the client's own;
    `password_file` holds the password alone. All of them are read again for each new connection,
    so a rotated file needs no restart.
    """

    ca: str = ""
    cert: str = ""
    key: str = ""
    password_file: str = ""

    def check(self, address: BusAddress) -> None:
        """Raises ConfigError on files that do not go with the URL, with each other, or are bad."""
        if (self.ca or self.cert or self.key) and not address.is_tls:
            raise ConfigError(f"bus: certificates need a rediss:// URL, not {address.shown}")
        if bool(self.cert) != bool(self.key):
            raise ConfigError("bus: the client certificate and its key go together")
        if self.password_file and address.password:
            raise ConfigError("bus: the password is in the URL or in a file, not in both")
        try:
            if address.is_tls:
                self.context()
            if self.password_file:
                self.password()
        except OSError as wrong:
            raise ConfigError(f"bus: a file of certificates or of the password: {wrong}") from None

    def context(self) -> ssl.SSLContext:
        """Raises OSError (ssl.SSLError is one) on a file that cannot be used."""
        made = ssl.create_default_context(cafile=self.ca or None)
        if self.cert:
            made.load_cert_chain(self.cert, self.key)
        return made

    def password(self) -> str:
        """Raises OSError on a file that cannot be read or is empty."""
        found = Path(self.password_file).read_bytes().decode(errors="replace").strip()
        if not found:
            raise OSError(f"{self.password_file} is empty")
        return found
