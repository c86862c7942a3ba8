"""The verifier in the same process, as a VerifierPort: the stream's rules without a wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from hola.checking import Checked, CheckRequest
from hola.errors import HolaError, ProtocolViolation, SessionLost
from hola.ports import VerifierLink
from hola.telemetry import get_logger
from hola.types import CancelSession, Done, VerifierInfo, VerifierRequest, VerifierResponse
from hola_verifier.hosts import Hosts
from hola_verifier.stream import SessionStream

log = get_logger(__name__)

# One block is outstanding at a time; a CancelSession may follow it.
_QUEUED_MESSAGES = 4
# How long `close` waits for a CancelSession to be answered.
_GOODBYE_S = 1.0


class LocalVerifier:
    """VerifierPort and AnswerCheck on the hosts of this process. Use from their event loop."""

    def __init__(self, hosts: Hosts, address: str = "local:") -> None:
        self._hosts = hosts
        self._address = address
        self._links: set[_LocalLink] = set()

    @property
    def address(self) -> str:
        """As configured."""
        return self._address

    async def info(self) -> VerifierInfo:
        """Never fails."""
        return self._hosts.current.info()

    async def check(self, request: CheckRequest) -> Checked:
        """As AnswerCheck."""
        return await self._hosts.current.check(request)

    async def connect(self, session_id: str = "", *, fingerprint: str = "") -> VerifierLink:
        """A new stream; never fails."""
        link = _LocalLink(SessionStream(self._hosts))
        self._links.add(link)
        link.task.add_done_callback(lambda _: self._links.discard(link))
        return link

    async def close(self) -> None:
        """Close all links; the host goes on. Idempotent."""
        for link in list(self._links):
            await link.close()


class _LocalLink:
    """Answers in the background, as a server would, so that a drafter can draft meanwhile."""

    def __init__(self, stream: SessionStream) -> None:
        self._stream = stream
        self._requests: asyncio.Queue[VerifierRequest] = asyncio.Queue(_QUEUED_MESSAGES)
        self._answers: asyncio.Queue[VerifierResponse | None] = asyncio.Queue()
        self._error: HolaError | None = None
        self._finishing = False
        self.task = asyncio.create_task(self._serve())

    async def send(self, message: VerifierRequest) -> None:
        """Send a message. Raises SessionLost, or the error the stream has ended with."""
        if self.task.done():
            raise self._ended()
        self._finishing = self._finishing or isinstance(message, CancelSession)
        try:
            self._requests.put_nowait(message)
        except asyncio.QueueFull:
            raise ProtocolViolation("too many messages without an answer") from None

    async def receive(self) -> VerifierResponse:
        """Next answer. Raises the HolaError the stream ended with, or SessionLost."""
        answer = await self._answers.get()
        if answer is None:
            self._answers.put_nowait(None)
            raise self._ended()
        return answer

    async def close(self) -> None:
        """End the stream: in good order after CancelSession, else by cutting it. Idempotent."""
        if self._finishing:
            await asyncio.wait({self.task}, timeout=_GOODBYE_S)
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self._stream.detach()  # a task that was cancelled before it began has not done it

    async def _serve(self) -> None:
        try:
            async for request in self._stream.each(self._requests_as_sent()):
                answer = await self._stream.answer(request)
                self._answers.put_nowait(answer)
                if isinstance(answer, Done):
                    return
        except HolaError as error:
            self._error = error
        except Exception:
            log.exception("local_stream_failed")
            self._error = HolaError("internal error; see the log")
        finally:
            self._stream.detach()
            self._answers.put_nowait(None)

    async def _requests_as_sent(self) -> AsyncIterator[VerifierRequest]:
        while True:
            yield await self._requests.get()

    def _ended(self) -> HolaError:
        return self._error or SessionLost("the session's stream has ended")
