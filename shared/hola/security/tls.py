"""Certificates from files: what a server shows, whom both ends trust, and that it fits together."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from hola.config import Settings
from hola.errors import ConfigError
from hola.security.watched import Watched, read_file

_LARGEST = 1024 * 1024
_NAMES = ("tls_cert", "tls_key", "tls_ca")


@dataclass(frozen=True, slots=True)
class Pems:
    """PEM texts; `certificate` and `key` are empty for a client that shows none."""

    certificate: bytes
    key: bytes
    authorities: bytes


def serves_tls(settings: Settings) -> bool:
    """Whether servers show a certificate.

    Raises ConfigError unless all of HOLA_TLS_CERT, HOLA_TLS_KEY and HOLA_TLS_CA are set, or none.
    """
    missing = [name for name in _NAMES if not getattr(settings, name)]
    if missing and len(missing) < len(_NAMES):
        raise _incomplete(missing, "a server needs the certificate, its key and the authority")
    return not missing


def calls_tls(settings: Settings) -> bool:
    """Whether channels are encrypted: HOLA_TLS_CA is set.

    Raises ConfigError on HOLA_TLS_CERT or HOLA_TLS_KEY without the other or without the authority.
    """
    if bool(settings.tls_cert) != bool(settings.tls_key):
        missing = [name for name in _NAMES[:2] if not getattr(settings, name)]
        raise _incomplete(missing, "a certificate and its key go together")
    if settings.tls_cert and not settings.tls_ca:
        raise _incomplete(["tls_ca"], "without it nobody can be trusted")
    return bool(settings.tls_ca)


def watched_pems(settings: Settings) -> Watched[Pems]:
    """The files of HOLA_TLS_*, followed when they are rotated.

    Raises ConfigError when one cannot be read, is no PEM, or key and certificate differ.
    """
    paths = [path for name in _NAMES if (path := getattr(settings, name))]
    return Watched(paths, lambda: _load(settings))


def server_credentials(settings: Settings, *, ask_callers: bool) -> grpc.ServerCredentials:
    """Credentials that look at the files at each handshake; with `ask_callers` both ends prove.

    Raises ConfigError as `watched_pems`.
    """
    pems = watched_pems(settings)

    def configuration() -> grpc.ServerCertificateConfiguration:
        now = pems.value
        pair = (now.key, now.certificate)
        return grpc.ssl_server_certificate_configuration([pair], now.authorities)

    def changed() -> grpc.ServerCertificateConfiguration | None:
        return configuration() if pems.refresh() else None

    # The library's stubs say the fetcher always gives a configuration; None is "as before".
    fetch: Callable[[], grpc.ServerCertificateConfiguration] = changed  # type: ignore[assignment]
    return grpc.dynamic_ssl_server_credentials(configuration(), fetch, ask_callers)


def channel_credentials(pems: Pems) -> grpc.ChannelCredentials:
    """Credentials of a new channel; it keeps them for its life."""
    return grpc.ssl_channel_credentials(
        pems.authorities or None, pems.key or None, pems.certificate or None
    )


def _load(settings: Settings) -> Pems:
    certificate, key, authorities = (
        read_file(path, _variable(name), _LARGEST) if (path := getattr(settings, name)) else b""
        for name in _NAMES
    )
    if settings.tls_ca:
        _check_authorities(authorities, settings.tls_ca)
    if settings.tls_cert:
        _check_pair(settings)
    return Pems(certificate, key, authorities)


def _check_authorities(pem: bytes, path: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise ConfigError(
            f"HOLA_TLS_CA={path} holds no certificate in PEM form", variable="HOLA_TLS_CA"
        ) from None


def _check_pair(settings: Settings) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An encrypted key would be asked for on the terminal; an empty password fails instead.
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        why = getattr(error, "reason", None) or "the key is encrypted or the file has changed"
        raise ConfigError(
            f"HOLA_TLS_CERT={settings.tls_cert} and HOLA_TLS_KEY={settings.tls_key} are not a"
            f" certificate and its key in PEM form: {str(why).replace('_', ' ').lower()}",
            variable="HOLA_TLS_CERT",
        ) from None


def _incomplete(missing: list[str], why: str) -> ConfigError:
    names = " and ".join(map(_variable, missing))
    return ConfigError(f"TLS is set up halfway, {why}: {names} missing", variable=names)


def _variable(name: str) -> str:
    return "HOLA_" + name.upper()
