"""Addresses: what is read, what is refused, and which of them stay on this machine."""

from __future__ import annotations

import pytest

from hola.errors import ConfigError
from hola.rpc.channel import call_metadata, parse_address
from hola.telemetry import bound_ids


@pytest.mark.parametrize(
    ("text", "target", "local"),
    [
        ("127.0.0.1:7072", "127.0.0.1:7072", True),
        ("grpc://127.0.0.1:7072", "127.0.0.1:7072", True),
        ("localhost:0", "localhost:0", True),
        ("127.9.9.9:1", "127.9.9.9:1", True),
        ("[::1]:7072", "[::1]:7072", True),
        ("grpc://[::1]:7072", "[::1]:7072", True),
        ("0.0.0.0:7072", "0.0.0.0:7072", False),
        ("[::]:7072", "[::]:7072", False),
        ("verifier:7072", "verifier:7072", False),
        ("grpc://node-3.example.org:65535", "node-3.example.org:65535", False),
        ("unix:///run/hola/v.sock", "unix:/run/hola/v.sock", True),
        ("unix:relative.sock", "unix:relative.sock", True),
        ("grpcs://127.0.0.1:7072", "127.0.0.1:7072", True),
        ("grpcs://router:7070", "router:7070", False),
    ],
)
def test_addresses(text: str, target: str, local: bool) -> None:
    address = parse_address(text)
    assert (address.target, address.local) == (target, local)


@pytest.mark.parametrize(
    "text",
    [
        "", "7072", ":7072", "host", "host:", "host:port", "host:65536", "host:-1", "host:1.5",
        "http://host:80", "redis://host:6379/0", "::1:7072", "unix:", "unix://", "host:²",
        "grpc://", "local:", "grpcs://", "grpcs://host", "grpcs://grpc://host:1",
    ],
)  # fmt: skip
def test_malformed_addresses_are_refused(text: str) -> None:
    with pytest.raises(
        ConfigError,
        match=r"expected host:port, grpc://host:port, grpcs://host:port or unix:///path",
    ):
        parse_address(text)


def test_the_request_id_of_the_task_travels() -> None:
    assert call_metadata() == ()
    with bound_ids(request_id="r1"):
        assert call_metadata() == (("x-request-id", "r1"),)
        assert call_metadata("r2") == (("x-request-id", "r2"),)
    assert call_metadata() == ()


def test_only_grpcs_is_never_plaintext() -> None:
    assert parse_address("grpcs://h:1").secure
    assert not parse_address("grpc://h:1").secure
    assert not parse_address("h:1").secure
