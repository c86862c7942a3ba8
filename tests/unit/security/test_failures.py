"""Failed attempts are counted per peer and never without bound."""

from __future__ import annotations

import pytest

from hola.security.failures import BURST, MAX_PEERS, FailureLimit, site


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_peer_is_stopped_after_its_burst_and_goes_on_slowly():
    clock = Clock()
    limit = FailureLimit(clock=clock)
    for _ in range(BURST):
        assert not limit.exhausted("ipv4:1.2.3.4:1")
        limit.count("ipv4:1.2.3.4:1")
    assert limit.exhausted("ipv4:1.2.3.4:2")
    assert not limit.exhausted("ipv4:1.2.3.5:1")
    clock.now += 1
    assert not limit.exhausted("ipv4:1.2.3.4:1")
    limit.count("ipv4:1.2.3.4:1")
    assert limit.exhausted("ipv4:1.2.3.4:1")
    clock.now += 1000
    for _ in range(BURST):
        assert not limit.exhausted("ipv4:1.2.3.4:1")
        limit.count("ipv4:1.2.3.4:1")
    assert limit.exhausted("ipv4:1.2.3.4:1")


def test_the_table_is_bounded():
    limit = FailureLimit()
    for number in range(MAX_PEERS + 100):
        limit.count(f"ipv4:10.{number >> 16}.{number >> 8 & 255}.{number & 255}:5")
    assert len(limit) == MAX_PEERS


@pytest.mark.parametrize(
    ("peer", "where"),
    [
        ("ipv4:1.2.3.4:55", "1.2.3.4"),
        ("ipv6:[2001:db8::1]:55", "20010db800000000::/64"),
        ("ipv6:%5B2001:db8:0:0:9::7%5D:55", "20010db800000000::/64"),
        ("ipv6:[fe80::1%eth0]:55", "fe80000000000000::/64"),
        ("ipv6:what", ""),
        ("unix:", "unix"),
        ("unix:/tmp/x", "unix"),
        ("", ""),
        ("garbage", "garbage"),
    ],
)
def test_ports_and_addresses_of_one_site_are_one(peer, where):
    assert site(peer) == where
