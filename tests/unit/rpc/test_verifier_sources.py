"""Where addresses come from: lists, names and the registry, each with what can be wrong with it."""

from __future__ import annotations

import socket

import pytest

from hola.errors import ConfigError, VerifierUnavailable
from hola.rpc.verifier_sources import DnsSource, StaticSource, resolve, source_of
from hola.types import Exactness, VerifierInfo, VerifierRecord


class FixedRegistry:
    """Always the same records."""

    def __init__(self, *records: VerifierRecord) -> None:
        self._records = records

    async def announce(self, record: VerifierRecord, *, ttl_s: float) -> None:
        raise NotImplementedError

    async def withdraw(self, address: str) -> None:
        raise NotImplementedError

    async def verifiers(self) -> tuple[VerifierRecord, ...]:
        return self._records


INFO = VerifierInfo(
    version="1",
    model="m",
    tokenizer_fingerprint="t",
    artifact_digest="d",
    fingerprint="f",
    exactness=Exactness.EXACT,
    context_length=8,
)


@pytest.mark.parametrize(
    ("spec", "addresses"),
    [
        ("grpc://a:1", ["grpc://a:1"]),
        ("127.0.0.1:1", ["127.0.0.1:1"]),
        ("unix:///run/v.sock", ["unix:///run/v.sock"]),
        ("grpc://a:1, grpc://b:2,,", ["grpc://a:1", "grpc://b:2"]),
    ],
)
async def test_a_list_is_what_it_says(spec: str, addresses: list[str]) -> None:
    source = source_of(spec)
    assert isinstance(source, StaticSource)
    assert list(await source.look()) == addresses


@pytest.mark.parametrize(
    "spec", ["", " , ", "nonsense", "grpc://a:1,b", "dns:///host", "dns:///:1", "dns:///a:x"]
)
def test_a_malformed_spec_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError):
        source_of(spec)


def test_a_registry_has_to_be_there() -> None:
    with pytest.raises(ConfigError, match="HOLA_BUS"):
        source_of("registry:")


async def test_the_registry_gives_addresses_and_what_is_known() -> None:
    registry = FixedRegistry(VerifierRecord(address="grpc://a:1", info=INFO))
    assert dict(await source_of("registry:", registry).look()) == {"grpc://a:1": INFO}


async def test_every_record_of_a_name_is_an_address() -> None:
    async def lookup(host: str, port: int) -> list[str]:
        assert (host, port) == ("verifiers.svc", 7072)
        return ["10.0.0.1", "fd00::2"]

    found = await DnsSource("verifiers.svc", 7072, lookup).look()
    assert list(found) == ["grpc://10.0.0.1:7072", "grpc://[fd00::2]:7072"]


async def test_an_unknown_name_is_unavailable() -> None:
    async def lookup(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(VerifierUnavailable, match="not known"):
        await DnsSource("nobody.svc", 1, lookup).look()


async def test_the_resolver_is_asked_off_the_loop() -> None:
    assert "127.0.0.1" in await resolve("127.0.0.1", 1)
    with pytest.raises(socket.gaierror):
        await resolve("name with spaces.invalid", 1)
