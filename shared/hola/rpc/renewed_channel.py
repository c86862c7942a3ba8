"""A channel whose certificates are rotated: new calls take a new connection, running ones go on.

gRPC's own client credentials are fixed for the life of a channel, so this one stands in front of
one after the other. It also adds the caller's credential to every call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from hola.security.credential import Credential
from hola.security.tls import Pems
from hola.security.watched import Watched


@dataclass(slots=True, eq=False)
class _Lane:
    """One channel of gRPC's and the calls that run on it."""

    channel: grpc.aio.Channel
    calls: int = 0
    retired: bool = False


class RenewedChannel(grpc.aio.Channel):
    """Calls go through the channel that `connect` made last; `pems` says when to make another.

    Without `pems` (plaintext) it never does. Use from one event loop.
    """

    def __init__(
        self,
        connect: Callable[[], grpc.aio.Channel],
        pems: Watched[Pems] | None,
        credential: Credential | None,
    ) -> None:
        self._connect = connect
        self._pems = pems
        self._credential = credential
        self._lane = _Lane(connect())
        self._retired: set[_Lane] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False
        self._known = None if pems is None else pems.value

    @property
    def encrypted(self) -> bool:
        """Whether it speaks TLS."""
        return self._pems is not None

    def unary_unary(self, method: str, *options: Any, **named: Any) -> Any:
        """As grpc.aio.Channel.unary_unary."""
        return self._method("unary_unary", method, *options, **named)

    def unary_stream(self, method: str, *options: Any, **named: Any) -> Any:
        """As grpc.aio.Channel.unary_stream."""
        return self._method("unary_stream", method, *options, **named)

    def stream_unary(self, method: str, *options: Any, **named: Any) -> Any:
        """As grpc.aio.Channel.stream_unary."""
        return self._method("stream_unary", method, *options, **named)

    def stream_stream(self, method: str, *options: Any, **named: Any) -> Any:
        """As grpc.aio.Channel.stream_stream."""
        return self._method("stream_stream", method, *options, **named)

    async def __aenter__(self) -> RenewedChannel:
        """The channel itself."""
        return self

    async def __aexit__(self, *raised: object) -> None:
        """Close it."""
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Close every connection, after `grace` seconds for the calls. Idempotent."""
        self._closed = True
        lanes = [self._lane, *self._retired]
        self._retired.clear()
        await asyncio.gather(*(lane.channel.close(grace) for lane in lanes), *self._closing)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """The state of the connection that the next call takes."""
        return self._current().channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return when the state is, or may be, another one."""
        lane = self._lane
        try:
            await lane.channel.wait_for_state_change(last_observed_state)
        except grpc.aio.UsageError:
            if not lane.retired:  # closed by its owner, not by a rotation
                raise

    async def channel_ready(self) -> None:
        """Return when the channel is connected."""
        state = self.get_state(try_to_connect=True)
        while state is not grpc.ChannelConnectivity.READY:
            await self.wait_for_state_change(state)
            state = self.get_state(try_to_connect=True)

    def _method(self, kind: str, method: str, *options: Any, **named: Any) -> Callable[..., Any]:
        """What a stub keeps: it finds the channel at each call."""

        def start(*request: Any, metadata: Any = None, **call_options: Any) -> Any:
            lane = self._current()
            shown = self._credential.metadata() if self._credential else ()
            multicallable = getattr(lane.channel, kind)(method, *options, **named)
            call = multicallable(*request, metadata=(*(metadata or ()), *shown), **call_options)
            lane.calls += 1
            call.add_done_callback(lambda _: self._ended(lane))
            return call

        return start

    def _current(self) -> _Lane:
        if self._pems is not None and not self._closed:
            self._pems.refresh()
            if self._pems.value is not self._known:
                self._known = self._pems.value
                self._renew()
        return self._lane

    def _renew(self) -> None:
        before, self._lane = self._lane, _Lane(self._connect())
        before.retired = True
        self._retired.add(before)
        self._drop_if_unused(before)

    def _ended(self, lane: _Lane) -> None:
        lane.calls -= 1
        self._drop_if_unused(lane)

    def _drop_if_unused(self, lane: _Lane) -> None:
        if lane in self._retired and not lane.calls:
            self._retired.discard(lane)
            task = asyncio.get_running_loop().create_task(lane.channel.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
