"""`hola resume` and `hola cancel`: come back to a request on a router, or end it."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer
from rich.console import Console

from hola.errors import InvalidRequest
from hola.validate import check_request_id
from hola_cli.answer import Answer, Screen, receive
from hola_cli.door import open_door, router_address
from hola_cli.explain import print_sources
from hola_cli.jsonform import JsonLines, dump
from hola_cli.options import DoorOptions, JsonOption
from hola_cli.paint import Coloured, PlainText
from hola_cli.stats import stats_line

RequestId = Annotated[
    str, typer.Argument(metavar="REQUEST_ID", help="The id from the first event.")
]
RouterOption = Annotated[
    str | None,
    typer.Option("--router", "-r", metavar="ADDRESS", help="Router. Default: HOLA_ROUTER."),
]


def resume(
    request_id: RequestId,
    position: Annotated[
        int,
        typer.Option(
            "--position",
            "-p",
            metavar="N",
            help="Tokens already received, without unverified ones: those are sent again.",
        ),
    ] = 0,
    router: RouterOption = None,
    json: JsonOption = False,
) -> None:
    """Attach to a running or finished request and stream the rest of it.

    Examples:

    `hola resume 7f3a... --router edge-box:7070`

    `hola resume 7f3a... --position 42 --json`
    """
    check_request_id(request_id)
    if not 0 <= position < 2**32:
        raise InvalidRequest(f"--position {position}: expected 0 to 4294967295", field="position")
    options = _remote(router)
    answer = asyncio.run(_resume(options, request_id, position, json))
    if not json and answer.summary is not None:
        print()
        print_sources(answer)
        print(stats_line(answer.summary), file=sys.stderr)


def cancel(request_id: RequestId, router: RouterOption = None, json: JsonOption = False) -> None:
    """End a request; its stream finishes with `cancelled`.

    Examples:

    `hola cancel 7f3a... --router edge-box:7070`
    """
    check_request_id(request_id)
    cancelled = asyncio.run(_cancel(_remote(router), request_id))
    if json:
        dump({"request_id": request_id, "cancelled": cancelled})
    else:
        print(f"{request_id}: " + ("cancelled" if cancelled else "had already ended"))


def _remote(router: str | None) -> DoorOptions:
    options = DoorOptions(router=router)
    if not router_address(options):
        raise InvalidRequest(
            "no router given: use --router ADDRESS or set HOLA_ROUTER", field="router"
        )
    return options


async def _resume(options: DoorOptions, request_id: str, position: int, json: bool) -> Answer:
    console = Console(highlight=False)
    screen: Screen = JsonLines()
    if not json:
        screen = Coloured(console) if console.is_terminal else PlainText()
    async with open_door(options) as door:
        return await receive(door.resume(request_id, position), screen, position=position)


async def _cancel(options: DoorOptions, request_id: str) -> bool:
    async with open_door(options) as door:
        return await door.cancel(request_id)
