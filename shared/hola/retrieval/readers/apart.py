"""A process that takes hostile forms apart, with a bound on its time and memory."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

from hola.errors import DocumentInvalid, HolaError
from hola.retrieval.readers.content import decode
from hola.retrieval.readers.html import declared_encoding, read_html
from hola.retrieval.readers.limits import Limits
from hola.retrieval.readers.pdf import read_pdf
from hola.retrieval.types import Document

PARSERS: dict[str, Callable[[bytes, str, Limits], Document]] = {
    "pdf": lambda data, source, limits: read_pdf(data, source, limits.pages),
    "html": lambda data, source, limits: read_html(
        decode(data, source, declared_encoding(data)), source
    ),
}
START_S = 60.0


class Apart:
    """One parsing process, started when first needed and again after one had to be ended.

    Not thread-safe. Use it as a context, or close it.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._process: BaseProcess | None = None
        self._pipe: Connection[Any, Any] | None = None

    def parse(self, kind: str, data: bytes, source: str) -> Document:
        """The document in `data`; `kind` is a key of PARSERS.

        Raises DocumentInvalid, also when it takes too long or too much memory; MissingExtra.
        """
        pipe = self._started()
        try:
            pipe.send((kind, data, source))
            if not pipe.poll(self._limits.parse_s):
                self.close()
                seconds = f"{self._limits.parse_s:g}"
                raise DocumentInvalid(f"{source} took more than {seconds} s to read", source=source)
            answer: Document | HolaError = pipe.recv()
        except (EOFError, OSError) as error:
            self.close()
            raise DocumentInvalid(f"{source} broke the parser", source=source) from error
        if isinstance(answer, HolaError):
            raise answer
        return answer

    def interrupt(self) -> None:
        """End the process from another thread; the parse under way gives a DocumentInvalid."""
        process = self._process
        if process is not None:
            with contextlib.suppress(ValueError):  # closed meanwhile
                process.kill()

    def close(self) -> None:
        """End the process. Idempotent."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if pipe is not None:
            pipe.close()
        if process is not None:
            process.kill()
            process.join()
            process.close()

    def __enter__(self) -> Apart:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _started(self) -> Connection[Any, Any]:
        """The pipe to a process that is ready. Raises DocumentInvalid when none will start."""
        if self._pipe is not None:
            return self._pipe
        context = multiprocessing.get_context("spawn")  # fork would copy threads' locks
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._limits), daemon=True)
        self._process.start()
        theirs.close()
        try:
            if self._pipe.poll(START_S) and self._pipe.recv() == "ready":
                return self._pipe
        except (EOFError, OSError):
            pass
        self.close()
        raise DocumentInvalid("the parsing process did not start")


def _serve(pipe: Connection[Any, Any], limits: Limits) -> None:
    """Answer each (kind, data, source) with a Document or the HolaError it gave."""
    _bound_memory(limits.parse_bytes)
    pipe.send("ready")
    while True:
        try:
            kind, data, source = pipe.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        answer: Document | HolaError
        try:
            answer = PARSERS[kind](data, source, limits)
        except HolaError as error:
            answer = error
        except MemoryError:
            answer = DocumentInvalid(f"{source} needs too much memory", source=source)
        except Exception as error:
            answer = DocumentInvalid(f"{source}: {type(error).__name__}: {error}", source=source)
        with contextlib.suppress(KeyboardInterrupt):
            pipe.send(answer)


def _bound_memory(more: int) -> None:
    """Let this process take `more` bytes beyond what it has; where that is known (Linux)."""
    with contextlib.suppress(OSError, ValueError):
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[0])
        bound = pages * os.sysconf("SC_PAGE_SIZE") + more
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
