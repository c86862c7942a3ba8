"""Opens the way to a router: a remote one by address, or a node inside this process."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    nullcontext,
    suppress,
)
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.markup import escape

from hola import tracing
from hola.errors import HolaError
from hola.idempotency import request_id_of_key
from hola.retrieval.store_from import SQLITE
from hola.rpc.admitted import when_admitted
from hola.types import GenerateEvent, GenerateRequest
from hola_cli.answer import Answer, Screen, receive
from hola_cli.logs import quiet
from hola_cli.options import DoorOptions, FamilyOptions
from hola_cli.said import said
from hola_cli.trouble import say_wait

if TYPE_CHECKING:
    from hola.config import Settings
    from hola_router.generate import Router

CANCEL_S = 2.0


class Door(Protocol):
    """What commands need of a router, wherever it runs."""

    def generate(self, request: GenerateRequest) -> AsyncIterator[GenerateEvent]:
        """Events of one request. Raises the HolaError it was refused with."""
        ...

    def resume(self, request_id: str, position: int = 0) -> AsyncIterator[GenerateEvent]:
        """Events of a known request from an output position on. Raises UnknownRequest."""
        ...

    async def cancel(self, request_id: str) -> bool:
        """End a request; False when it had already ended. Raises UnknownRequest."""
        ...


@asynccontextmanager
async def open_door(options: DoorOptions, *, data_dir: str | None = None) -> AsyncIterator[Door]:
    """A router for the time of the block; `data_dir` is where a node here finds collections.

    Raises ServiceUnavailable (no router at the address), or what starting a node can raise:
    ConfigError, UnknownModel, ArtifactCorrupt, ArtifactInvalid, MemoryBudgetExceeded, MissingExtra.
    """
    address = router_address(options)
    settings = settings_for(options)
    if data_dir is not None:
        settings = settings.model_copy(update={"data_dir": data_dir, "store": SQLITE})
    quiet(settings)
    if address:
        from hola.rpc.router_client import RouterClient

        client = RouterClient(address, settings)
        try:
            with tracing.exporting("client", settings):
                yield client
        finally:
            await client.close()
    else:
        from hola_cli.node import open_node

        async with AsyncExitStack() as stack:
            with loading(settings.model):
                node = await stack.enter_async_context(open_node(settings))
            with tracing.exporting("embedded", settings):
                yield Embedded(node.router)


def loading(model: str) -> AbstractContextManager[object]:
    """A spinner on stderr while a model loads; nothing where nobody would see it."""
    if not sys.stderr.isatty():
        return nullcontext()
    return Console(stderr=True).status(f"loading {escape(model)}")


async def ask(
    door: Door, request: GenerateRequest, screen: Screen | None = None, *, retry_s: float = 0.0
) -> Answer:
    """Ask and read the answer to its end; when that is interrupted, end the request as well.

    A refusal for load is waited out for up to `retry_s` seconds. Raises as `receive`.
    """
    request = replace(request, request_id=_name(request))
    events = when_admitted(lambda: door.generate(request), patience_s=retry_s, told=say_wait)
    try:
        return await receive(events, screen)
    except (asyncio.CancelledError, OSError):  # Ctrl-C, or the reader of our output has gone
        with suppress(HolaError, TimeoutError):
            async with asyncio.timeout(CANCEL_S):
                await door.cancel(request.request_id)
        raise


def _name(request: GenerateRequest) -> str:
    """The id under which the request can be cancelled before its first event has come."""
    if request.idempotency_key:
        return request_id_of_key(request.idempotency_key)
    return request.request_id or uuid.uuid4().hex


class Embedded:
    """The router of a node in this process, as a Door."""

    def __init__(self, router: Router) -> None:
        self._router = router

    def generate(self, request: GenerateRequest) -> AsyncIterator[GenerateEvent]:
        """As Door.generate."""
        return self._router.generate(request)

    def resume(self, request_id: str, position: int = 0) -> AsyncIterator[GenerateEvent]:
        """As Door.resume."""
        return self._router.resume(request_id, position)

    async def cancel(self, request_id: str) -> bool:
        """As Door.cancel."""
        return await self._router.cancel(request_id)


def router_address(options: DoorOptions) -> str:
    """The remote router's address; empty for a node inside this process."""
    if options.embedded:
        return ""
    return options.router or said("HOLA_ROUTER")


def wanted_model(options: FamilyOptions) -> str:
    """The family to ask for; empty leaves it to the router."""
    return options.model or said("HOLA_MODEL")


def settings_for(options: FamilyOptions) -> Settings:
    """The settings under what the command line says. Raises ConfigError."""
    from hola.config import load_settings

    return load_settings(os.environ, flags_of(options))


def flags_of(options: FamilyOptions) -> dict[str, str]:
    """What the command line sets, by the variables' names."""
    given = {"HOLA_MODELS_DIR": options.models_dir, "HOLA_MODEL": options.model}
    return {name: value for name, value in given.items() if value is not None}
