"""Failed attempts per peer, in a table of bounded size: who guesses too fast has to wait."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address

BURST = 10
PER_S = 1.0
MAX_PEERS = 4096
RETRY_MS = 1000
_V6_SITE_BITS = 64


class FailureLimit:
    """Allows each peer BURST failed attempts, then one a second. The least recent are forgotten."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def exhausted(self, peer: str) -> bool:
        """Whether the peer has to wait before the next attempt is looked at."""
        return self._now_left(peer) < 1

    def count(self, peer: str) -> None:
        """A failed attempt of `peer` (as gRPC writes it)."""
        key = site(peer)
        self._left[key] = (max(0.0, self._now_left(peer) - 1), self._clock())
        self._left.move_to_end(key)
        while len(self._left) > MAX_PEERS:
            self._left.popitem(last=False)

    def __len__(self) -> int:
        return len(self._left)

    def _now_left(self, peer: str) -> float:
        left, since = self._left.get(site(peer), (float(BURST), self._clock()))
        return min(float(BURST), left + (self._clock() - since) * PER_S)


def site(peer: str) -> str:
    """Where a peer is, without its port: an IPv4 address, an IPv6 /64 (one host has all of it)."""
    kind, _, rest = peer.partition(":")
    if kind == "ipv4":
        return rest.rpartition(":")[0]
    if kind == "ipv6":
        host = rest.rpartition(":")[0].replace("%5B", "").replace("%5D", "").strip("[]")
        try:
            bits = int(IPv6Address(host.partition("%")[0])) >> (128 - _V6_SITE_BITS)
        except ValueError:
            return host
        return f"{bits:016x}::/64"
    return kind
