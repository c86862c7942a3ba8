"""A server whose callers must be known, and what its clients show and are refused with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from hola.errors import HolaError
from hola.rpc.errors import error_from_call
from hola.security.api_keys import NewKey
from hola.security.caller import current_caller
from tests.support.rpc import KindsRig, read_all, running_kinds
from tests.support.security import AUDIENCE, ISSUER, key_set, replace_file


async def who(text: str) -> str:
    caller = current_caller()
    return f"{caller.kind} {caller.tenant}"


def keys_file(folder: Path, *keys: NewKey) -> str:
    path = folder / "keys"
    replace_file(path, "\n".join(key.line for key in keys).encode())
    return str(path)


def jwt_settings(folder: Path, *keys: Any) -> dict[str, str]:
    path = folder / "jwks.json"
    replace_file(path, key_set(*keys))
    return {"jwks": str(path), "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}


@asynccontextmanager
async def front_door(act: Any = who, **settings: Any) -> AsyncIterator[KindsRig]:
    async with running_kinds(act, front_door=True, **settings) as rig:
        yield rig


def shown(text: str) -> dict[str, Any]:
    """Call options that show a credential."""
    return {"metadata": (("authorization", f"Bearer {text}"),)}


async def refusal(rig: KindsRig, kind: str = "unary_unary", **options: Any) -> HolaError:
    """What a call is refused with. A stream sends nothing: grpc's client forgets the status of one
    that is over before its first message, and calls that an internal error.
    """
    silent = kind.startswith("stream")
    call = rig.start_call(kind, silent=silent, timeout=20, **options)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await (call.read() if kind == "stream_stream" else read_all(call))
    error = error_from_call(raised.value)
    assert raised.value.code().value[0] == error.grpc_code
    return error
