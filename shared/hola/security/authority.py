"""A certificate authority for development and small fleets: EC keys, PEM texts in memory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hola.errors import ConfigError, InvalidRequest
from hola.security.caller import TENANT_URI
from hola.validate import check_tenant

_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Clocks of devices differ: a certificate is valid from a little before it was made.
_CLOCK_SKEW = timedelta(minutes=5)
MAX_DAYS = 36500


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its private key (PKCS#8, not encrypted), both PEM."""

    certificate: bytes
    key: bytes

    @property
    def expires(self) -> datetime:
        """Until when the certificate is valid, UTC."""
        return x509.load_pem_x509_certificate(self.certificate).not_valid_after_utc


def new_authority(name: str, days: float, *, now: datetime | None = None) -> Identity:
    """A self-signed authority that may sign services' certificates, valid for `days`.

    Raises InvalidRequest on a name or a time that cannot be used.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name)
    builder = _dated(subject, subject, key.public_key(), days, now)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return _signed(builder, key, key)


def issue(
    authority: Identity,
    name: str,
    hosts: Sequence[str],
    days: float,
    *,
    tenant: str = "",
    now: datetime | None = None,
) -> Identity:
    """A certificate for a server and client called `name` that answers at `hosts`.

    Hosts are DNS names (also `*.name`) and IP addresses. With `tenant` its owner acts for that
    tenant only, and is no server. Raises InvalidRequest on input that cannot be used, ConfigError
    on an authority that cannot be read.
    """
    try:
        parent = x509.load_pem_x509_certificate(authority.certificate)
        parent_key = serialization.load_pem_private_key(authority.key, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"the authority's certificate or key cannot be read: {error}") from None
    if not isinstance(parent_key, ec.EllipticCurvePrivateKey):
        raise ConfigError("the authority's key is not an EC key")
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _dated(_subject(name), parent.subject, key.public_key(), days, now)
    alternatives = x509.SubjectAlternativeName(_alternatives(hosts, tenant))
    server = () if tenant else (ExtendedKeyUsageOID.SERVER_AUTH,)
    purposes = x509.ExtendedKeyUsage([*server, ExtendedKeyUsageOID.CLIENT_AUTH])
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(parent_key.public_key())
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(purposes, critical=False)
    builder = builder.add_extension(alternatives, critical=False)
    builder = builder.add_extension(signer, critical=False)
    return _signed(builder, parent_key, key)


def _dated(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    days: float,
    now: datetime | None,
) -> x509.CertificateBuilder:
    if not 0 < days <= MAX_DAYS:
        raise InvalidRequest(f"a validity of {days} days: expected above 0, at most {MAX_DAYS}")
    now = now or datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _signed(
    builder: x509.CertificateBuilder,
    signer: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
) -> Identity:
    certificate = builder.sign(signer, hashes.SHA256())
    return Identity(
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
        key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _subject(name: str) -> x509.Name:
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} cannot be a certificate's name: expected 1 to 64 letters, digits, . _ -"
        )
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternatives(hosts: Sequence[str], tenant: str) -> list[x509.GeneralName]:
    names = [_alternative(host) for host in dict.fromkeys(hosts)]
    if not names:
        raise InvalidRequest("a certificate needs at least one host name or address")
    if tenant:
        check_tenant(tenant)
        names.append(x509.UniformResourceIdentifier(TENANT_URI + tenant))
    return names


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    if not _HOST.fullmatch(host) or len(host) > 253:
        raise InvalidRequest(f"{host!r} is neither a host name nor an IP address", field="host")
    return x509.DNSName(host)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
