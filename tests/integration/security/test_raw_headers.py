"""Authorization headers no gRPC client would send, written by hand as HTTP/2 frames."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from hola.security.api_keys import new_key
from hola.security.redaction import clean_text
from tests.support.rpc import running_kinds
from tests.support.security import replace_file

ACME = new_key("acme")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame."""
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + payload


def header(name: bytes, value: bytes) -> bytes:
    """A header as HPACK writes it literally; both lengths below 127."""
    return b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer \xff\xfe\xfd",
        b"Bearer \xc3\x28",
        b"Bearer " + ACME.text.encode() + b"\xff",
        b"Bearer \x00\x01\x7f",
        b"Bearer a\r\nx: y",
        bytes(range(1, 100)),
    ],
    ids=itertools.count(),
)
async def test_bytes_that_no_grpc_client_sends(
    tmp_path: Path, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is a refusal or the end of the connection, never the handler's."""
    ran = []
    path = tmp_path / "keys"
    replace_file(path, ACME.line.encode())
    shown = (("authorization", f"Bearer {ACME.text}"),)

    async def act(text: str) -> str:
        ran.append(text)
        return text

    async with running_kinds(act, front_door=True, api_keys=str(path)) as rig:
        host, _, port = rig.server.address.removeprefix("grpc://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        pairs = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/hola.test.Kinds/unary_unary"),
            (b":authority", b"x"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (b"authorization", value),
        ]
        block = b"".join(header(*pair) for pair in pairs)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        writer.write(frame(1, 4, 1, block) + frame(0, 1, 1, bytes(5)))
        async with asyncio.timeout(20):
            await ended(reader)
        writer.transport.abort()
        assert ran == []
        assert await rig.call("unary_unary", metadata=shown) == ["x"]
    assert ACME.text not in "".join(clean_text(record.getMessage()) for record in caplog.records)


async def ended(reader: asyncio.StreamReader) -> None:
    """Read frames until stream 1, or the connection, is over."""
    while head := await reader.read(9):
        head += await reader.readexactly(9 - len(head))
        await reader.readexactly(int.from_bytes(head[:3], "big"))
        ends_stream = head[3] in (0, 1) and head[4] & 1
        if (ends_stream or head[3] == 3) and int.from_bytes(head[5:], "big") == 1:
            return
