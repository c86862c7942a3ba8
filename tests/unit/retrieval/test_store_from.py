"""Which store a setting names, and what is said about one that cannot be."""

from __future__ import annotations

import builtins

import pytest

from hola.config import Settings
from hola.errors import ConfigError, MissingExtra
from hola.retrieval.sqlite_store import SqliteStore
from hola.retrieval.store_from import store_from
from hola.retrieval.weaviate_connect import WeaviateAddress, parse_weaviate
from hola.retrieval.weaviate_store import WeaviateStore


def address(**changes) -> WeaviateAddress:
    local = {"host": "localhost", "port": 8080, "grpc_host": "localhost", "grpc_port": 50051}
    return WeaviateAddress(**(local | {"secure": False} | changes))


ADDRESSES = {
    "weaviate://localhost": address(),
    "weaviate://localhost:9000?grpc=9001": address(port=9000, grpc_port=9001),
    "weaviate://localhost/Acme": address(prefix="Acme"),
    "weaviates://db.example": address(
        host="db.example", grpc_host="db.example", port=443, secure=True
    ),
    "weaviates://db.example?grpc=rpc.example:443": address(
        host="db.example", grpc_host="rpc.example", port=443, grpc_port=443, secure=True
    ),
    "weaviate://[::1]:8080?grpc=[::1]:50051": address(host="::1", grpc_host="::1"),
}


@pytest.mark.parametrize("text", ADDRESSES)
def test_an_address_is_read(text):
    assert parse_weaviate(text) == ADDRESSES[text]


def test_only_a_loopback_address_is_local():
    assert parse_weaviate("weaviate://127.0.0.1").local
    assert parse_weaviate("weaviate://[::1]:1?grpc=2").local
    assert not parse_weaviate("weaviate://127.0.0.1?grpc=10.0.0.1:50051").local
    assert not parse_weaviate("weaviate://db.example").local


MALFORMED = [
    "weaviate://",
    "weaviate://:8080",
    "weaviate://host:0",
    "weaviate://host:99999",
    "weaviate://host:x",
    "weaviate://host?grpc=",
    "weaviate://host?grpc=70000",
    "weaviate://host?grpc=0",
    "weaviate://host?key=1",
    "weaviate://host?grpc",
    "weaviate://host#x",
    "weaviate://host/lower",
    "weaviate://host/A/B",
    "weaviate://host:1?grpc=1",
    "weaviate://user:secret@host",
    "weaviate://secret@host",
    "weaviate://[::1",
    "postgres://secret@host",
    "SQLITE",
]


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_address_is_refused_and_not_repeated(text):
    with pytest.raises(ConfigError, match="is no store's address") as caught:
        store_from(Settings(store=text))
    assert "secret" not in caught.value.message + str(caught.value.details)


async def test_the_setting_picks_the_engine(tmp_path):
    stores = [
        store_from(Settings(data_dir=str(tmp_path))),
        store_from(Settings(store="weaviate://localhost")),
        store_from(Settings(store="weaviates://db.example")),
        store_from(Settings(store="weaviate://db.example", insecure=True)),
    ]
    kinds = [SqliteStore, WeaviateStore, WeaviateStore, WeaviateStore]
    assert [type(store) for store in stores] == kinds
    for store in stores:
        await store.close()


def test_plaintext_to_another_machine_is_refused():
    with pytest.raises(ConfigError, match="HOLA_INSECURE"):
        store_from(Settings(store="weaviate://db.example"))


def test_without_the_extra_the_pip_line_is_said(monkeypatch):
    real = builtins.__import__

    def import_(name, *arguments, **more):
        if name.split(".")[0] == "weaviate":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *arguments, **more)

    monkeypatch.setattr("importlib.import_module", lambda name: import_(name))
    with pytest.raises(MissingExtra, match=r"hola-edge\[weaviate\]"):
        store_from(Settings(store="weaviate://localhost"))
