"""A verifier on the other end of a bidirectional stream, as a VerifierPort."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import grpc
import grpc.aio

from hola.checking import Checked, CheckRequest
from hola.config import Settings
from hola.convert import (
    check_request_to_pb,
    checked_from_pb,
    verifier_info_from_pb,
    verifier_request_to_pb,
    verifier_response_from_pb,
)
from hola.errors import (
    BadAnswer,
    HolaError,
    InvalidRequest,
    ProtocolViolation,
    SessionLost,
    VerifierUnavailable,
)
from hola.ports import VerifierLink
from hola.rpc.channel import call_metadata, open_channel, parse_address
from hola.rpc.errors import error_from_call
from hola.rpc.handshake import last_cause
from hola.types import CancelSession, VerifierInfo, VerifierRequest, VerifierResponse
from hola.v1 import verifier_pb2, verifier_pb2_grpc

_READY = grpc.ChannelConnectivity.READY
_SERVICE = verifier_pb2.DESCRIPTOR.services_by_name["VerifierService"].full_name
# How long `close` waits for the verifier to confirm an orderly end before it cuts the stream.
_GOODBYE_S = 1.0
# Pauses between two looks at a channel that is not connected yet.
_SHORTEST_LOOK_S = 0.001
_LONGEST_LOOK_S = 0.05


class GrpcVerifier:
    """VerifierPort and AnswerCheck on one channel to `address`, which all links share.

    Use from one event loop.
    """

    def __init__(self, address: str, settings: Settings, *, server_name: str = "") -> None:
        """Connects when first used. Raises ConfigError on a malformed address.

        `server_name` is the name its certificate must have, where that is not the address's.
        """
        parse_address(address)
        self._address = address
        self._server_name = server_name
        self._settings = settings
        self._channel: grpc.aio.Channel | None = None
        self._links: set[_GrpcLink] = set()

    @property
    def address(self) -> str:
        """As configured."""
        return self._address

    async def info(self, timeout_s: float | None = None) -> VerifierInfo:
        """Raises VerifierUnavailable, BadAnswer, and what the verifier refused with.

        `timeout_s` bounds connecting and asking (HOLA_CONNECT_TIMEOUT_S and HOLA_RPC_TIMEOUT_S if
        None).
        """
        message = verifier_pb2.VerifierServiceInfoRequest()
        return verifier_info_from_pb(await self._unary("Info", message, timeout_s))

    async def check(self, request: CheckRequest) -> Checked:
        """As AnswerCheck; waits for HOLA_RPC_TIMEOUT_S at most. Raises BadAnswer besides."""
        return checked_from_pb(await self._unary("Check", check_request_to_pb(request), None))

    async def _unary(self, method: str, message: Any, timeout_s: float | None) -> Any:
        stub = verifier_pb2_grpc.VerifierServiceStub(await self._connected(timeout_s))
        try:
            answer = await getattr(stub, method)(
                message,
                timeout=timeout_s or self._settings.rpc_timeout_s,
                metadata=call_metadata(),
            )
        except grpc.aio.AioRpcError as error:
            raise error_from_call(error, self._unavailable) from None
        except asyncio.CancelledError:
            raise _cut(self._unavailable("the channel was closed")) from None
        if answer is None:
            raise BadAnswer(f"verifier {self._address} answered {method} with no message")
        return answer

    async def connect(
        self,
        session_id: str = "",
        *,
        fingerprint: str = "",
        timeout_s: float | None = None,
        patient: bool = True,
    ) -> VerifierLink:
        """A new stream. Raises VerifierUnavailable when there is no connection in time.

        `timeout_s` None is HOLA_CONNECT_TIMEOUT_S. Not `patient`, the first attempt that is
        refused ends it: where there are other verifiers, waiting for this one makes no sense.
        """
        channel = await self._connected(timeout_s, patient=patient)
        stub = verifier_pb2_grpc.VerifierServiceStub(channel)
        link = _GrpcLink(stub.Verify(metadata=call_metadata()), self._settings)
        self._links.add(link)
        link.call.add_done_callback(lambda _: self._links.discard(link))
        return link

    def reset(self) -> Coroutine[None, None, None]:
        """Part with the connection now, and await its end: all links on it are cut.

        The next use makes a new one. For a peer that has fallen silent: its old connection can
        look sound for minutes.
        """
        channel, self._channel = self._channel, None
        return _closed(channel)

    async def close(self) -> None:
        """Close all links, then the channel. Idempotent."""
        try:
            await asyncio.gather(*(link.close() for link in list(self._links)))
        finally:
            await self.reset()

    async def _connected(
        self, timeout_s: float | None = None, *, patient: bool = True
    ) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = open_channel(
                self._address,
                self._settings,
                service=_SERVICE,
                idempotent=("Info", "Check"),
                server_name=self._server_name,
            )
        timeout_s = timeout_s or self._settings.connect_timeout_s
        why = [f"no connection within {timeout_s:g} s"]
        try:
            async with asyncio.timeout(timeout_s):
                return await self._open_ready(self._channel, patient, why)
        except TimeoutError:
            raise self._unavailable(": ".join(why)) from None

    async def _open_ready(
        self, channel: grpc.aio.Channel, patient: bool, why: list[str]
    ) -> grpc.aio.Channel:
        """`_ready`, when `reset` or `close` may end the channel meanwhile."""
        closed = self._unavailable("the channel was closed")
        try:
            return await self._ready(channel, patient, why)
        except grpc.aio.UsageError:
            raise closed from None
        except asyncio.CancelledError:
            raise _cut(closed) from None

    async def _ready(
        self, channel: grpc.aio.Channel, patient: bool, why: list[str]
    ) -> grpc.aio.Channel:
        """The channel, once it is connected; what is in the way comes into why[1].

        It is looked at again and again: grpc's own wait, when it is given up, leaves a callback
        behind that can outlive the event loop, and then the process crashes.
        """
        pause_s = _SHORTEST_LOOK_S
        while (state := channel.get_state(try_to_connect=True)) is not _READY:
            if state is grpc.ChannelConnectivity.SHUTDOWN:
                raise self._unavailable("the channel was closed")
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE and len(why) == 1:
                cause = await last_cause(channel)
                why[1:] = [cause.text] if cause else []
                if not patient or (cause and cause.lasting):
                    raise self._unavailable(": ".join(["no connection", *why[1:]]))
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_LOOK_S)
        return channel

    def _unavailable(self, why: str) -> HolaError:
        return VerifierUnavailable(f"verifier {self._address}: {why}", address=self._address)


class _GrpcLink:
    """One Verify call; messages are written and read without a task of their own."""

    def __init__(self, call: Any, settings: Settings) -> None:
        self.call = call
        self._answer_timeout_s = settings.answer_timeout_s
        self._connect_timeout_s = settings.connect_timeout_s
        self._max_message_bytes = settings.max_message_bytes
        self._cancelled = False
        self._has_begun = False
        self._over = asyncio.Event()
        call.add_done_callback(lambda _: self._over.set())

    async def send(self, message: VerifierRequest) -> None:
        """Send a message. Raises SessionLost, or the error the verifier has ended with.

        InvalidRequest for a message above HOLA_MAX_MESSAGE_BYTES; the stream is as before then.
        """
        packed = verifier_request_to_pb(message)
        if packed.ByteSize() > self._max_message_bytes:
            raise InvalidRequest(
                f"a message of {packed.ByteSize()} bytes is larger than max"
                f" {self._max_message_bytes} (HOLA_MAX_MESSAGE_BYTES)",
                field="message",
            )
        self._cancelled = self._cancelled or isinstance(message, CancelSession)
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                if not self._has_begun:
                    await self._begin()
                await self.call.write(packed)
        except asyncio.InvalidStateError:  # the call has ended
            raise await self._ended() from None
        except grpc.aio.AioRpcError as error:
            known = error_from_call(error, SessionLost)
            if type(known) is HolaError:
                # grpc's name for a stream that is over at the other end is "internal error".
                known = SessionLost(f"the stream ended under a message: {known.message}")
            raise known from None
        except TimeoutError:
            raise self._silent() from None
        except asyncio.CancelledError:
            raise _cut(SessionLost("the link was closed")) from None

    async def receive(self) -> VerifierResponse:
        """Next answer. Raises the HolaError the verifier ended with, SessionLost or BadAnswer."""
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                answer = await self.call.read()
        except grpc.aio.AioRpcError as error:
            raise error_from_call(error, SessionLost) from None
        except TimeoutError:
            raise self._silent() from None
        except asyncio.CancelledError:
            raise _cut(SessionLost("the link was closed")) from None
        if answer is grpc.aio.EOF:
            raise await self._ended()
        return _understood(answer)

    async def close(self) -> None:
        """End the stream: orderly after CancelSession, else by cutting it. Idempotent."""
        try:
            if self._cancelled and not self.call.done():
                async with asyncio.timeout(_GOODBYE_S):
                    await self.call.done_writing()
                    while await self.call.read() is not grpc.aio.EOF:
                        pass
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError):
            pass  # it has ended in its own way; nothing is left to say
        finally:
            self.call.cancel()

    async def _begin(self) -> None:
        """Wait until the call has begun. Raises SessionLost, AioRpcError.

        When the connection breaks at that very moment, grpc lets the first message wait for ever.
        """
        waits = [asyncio.create_task(each) for each in self._beginnings()]
        try:
            done, _ = await asyncio.wait(
                waits, timeout=self._connect_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if waits[0] not in done:
                self.call.cancel()
                raise SessionLost("the stream broke while it began")
            await waits[0]
            self._has_begun = True
        finally:
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def _beginnings(self) -> tuple[Coroutine[Any, Any, Any], ...]:
        return self.call.wait_for_connection(), self._over.wait()

    async def _ended(self) -> HolaError:
        """Why the call is over, from its status."""
        code = await self.call.code()
        if code is grpc.StatusCode.OK:
            return SessionLost("the verifier has closed the session's stream")
        trailing = await self.call.trailing_metadata()
        details = await self.call.details()
        empty = grpc.aio.Metadata()
        return error_from_call(
            grpc.aio.AioRpcError(code, empty, trailing or empty, details=details), SessionLost
        )

    def _silent(self) -> HolaError:
        return SessionLost(f"the verifier did not answer within {self._answer_timeout_s:g} s")


async def _closed(channel: grpc.aio.Channel | None) -> None:
    if channel is not None:
        await channel.close()


def _understood(answer: verifier_pb2.VerifyResponse | None) -> VerifierResponse:
    """The answer; raises what a Failure carries, BadAnswer when it is no answer at all."""
    if answer is None:  # grpc's name for bytes that could not be parsed
        raise BadAnswer("the verifier's bytes are not a message of this call")
    try:
        return verifier_response_from_pb(answer)
    except ProtocolViolation as wrong:
        if answer.HasField("failed"):
            raise  # the verifier's word about us
        raise BadAnswer(f"the verifier broke the contract: {wrong.message}") from None


def _cut(closed: HolaError) -> BaseException:
    """What a CancelledError means: this task's own cancellation, or a `close` elsewhere."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        return asyncio.CancelledError()
    return closed
