"""URLs of one server, of sentinels and of a cluster, and what is said of wrong ones."""

from __future__ import annotations

import pytest

from hola.bus.address import BusAddress, Topology, parse_address
from hola.errors import ConfigError


def test_one_server() -> None:
    address = parse_address("rediss://u:p%40ss@redis.example:7000/2?socket_timeout=3")
    assert (address.topology, address.is_tls) == (Topology.SINGLE, True)
    assert address.url == "rediss://u:p%40ss@redis.example:7000/2?socket_timeout=3"
    assert address.shown == "rediss://redis.example:7000/2"
    assert parse_address("unix:///run/redis.sock").shown == "unix:///run/redis.sock"


def test_sentinels() -> None:
    address = parse_address("redis+sentinel://u:p%40ss@a:1,b,[::1]:3/main/4")
    assert address == BusAddress(
        url="redis+sentinel://u:p%40ss@a:1,b,[::1]:3/main/4",
        shown="redis+sentinel://a:1,b,[::1]:3/main/4",
        topology=Topology.SENTINEL,
        is_tls=False,
        nodes=(("a", 1), ("b", 26379), ("::1", 3)),
        service="main",
        db=4,
        username="u",
        password="p@ss",
    )


def test_a_cluster() -> None:
    address = parse_address("rediss+cluster://:secret@a:1,b")
    assert (address.topology, address.is_tls) == (Topology.CLUSTER, True)
    assert address.nodes == (("a", 1), ("b", 6379))
    assert (address.username, address.password) == (None, "secret")
    assert parse_address("redis+cluster://a/0").username is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a:1",
        "redis:a",
        "redis+other://s3cret@a",
        "unix+cluster://a",
        "redis+sentinel://user:s3cret@a",
        "redis+sentinel://user:s3cret@a,/main",
        "redis+sentinel://user:s3cret@/main",
        "redis+sentinel://user:s3cret@a/main/x",
        "redis+sentinel://user:s3cret@a/main/-1",
        "redis+sentinel://user:s3cret@a:port/main",
        "redis+cluster://user:s3cret@a:1,b:99999",
        "redis+cluster://user:s3cret@a/1",
        "redis+cluster://user:s3cret@",
        "redis+cluster://user:s3cret@a?db=1",
        "redis://user:s3cret/word@host",
        "redis://user:word/s3cret@host",
    ],
)
def test_what_is_none_is_a_config_error_that_repeats_no_password(url: str) -> None:
    with pytest.raises(ConfigError, match="bus URL") as caught:
        parse_address(url)
    assert "s3cret" not in caught.value.message
    assert "redis+sentinel://" in caught.value.message


def test_certificates_in_the_url_are_refused_and_not_left_aside() -> None:
    with pytest.raises(ConfigError, match="HOLA_BUS_CA") as caught:
        parse_address("rediss://user:s3cret@host?ssl_cert_reqs=none")
    assert "s3cret" not in caught.value.message
