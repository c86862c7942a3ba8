"""`hola generate`: one prompt in, exact tokens out, streamed as they are committed."""

from __future__ import annotations

import asyncio
import math
import sys
from dataclasses import dataclass, replace
from typing import Annotated

import typer
from rich.console import Console

from hola.errors import EmptyPrompt, HolaError, InvalidRequest
from hola.plan import MAX_LATENCY_TARGET_MS
from hola.types import ChatMessage, GenerateRequest, Mode, Plan, RetrievalMode, SpeculationParams
from hola_cli.answer import Answer, Screen
from hola_cli.door import Door, ask as ask_door, open_door, wanted_model
from hola_cli.explain import print_sources
from hola_cli.flatten import flat
from hola_cli.jsonform import JsonLines, dump
from hola_cli.options import DoorOptions, JsonOption, SamplingOptions, SpeculationOptions
from hola_cli.paint import Coloured, PlainText
from hola_cli.retrieval_options import RetrievalOptions
from hola_cli.stats import stats_line, tokens_per_second

PLAIN = SpeculationParams(max_draft_tokens=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskOptions:
    """How the prompt is used and the answer shown."""

    raw: Annotated[
        bool,
        typer.Option("--raw", help="No chat template: the prompt as it is."),
    ] = False
    system: Annotated[
        str | None, typer.Option("--system", metavar="TEXT", help="A system message.")
    ] = None
    check_exact: Annotated[
        bool,
        typer.Option(
            "--check-exact",
            help="Afterwards decode plainly with the same target and compare the token ids.",
        ),
    ] = False
    retry: Annotated[
        float,
        typer.Option(
            "--retry",
            metavar="SECONDS",
            help="When the router is full, come back when it says, for up to so long.",
        ),
    ] = 0.0
    idempotency_key: Annotated[
        str,
        typer.Option(
            "--idempotency-key",
            metavar="KEY",
            help="Text of up to 128 characters: the same key gives the same stream again.",
        ),
    ] = ""
    json: JsonOption = False


@flat
def command(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The prompt; - reads stdin.")],
    ask: AskOptions,
    sampling: SamplingOptions,
    retrieval: RetrievalOptions,
    speculation: SpeculationOptions,
    door: DoorOptions,
) -> None:
    """Answer one prompt, streaming tokens as they are committed.

    On a terminal the text is coloured by provenance, with a legend. In a pipe, stdout has nothing
    but the answer and the line of statistics goes to stderr.

    Examples:

    `hola generate "Tom has 12 apples. He buys 5 more. How many apples does Tom have?"`

    `cat question.txt | hola generate - --temperature 0.7 --seed 3 > answer.txt`

    `hola generate --router edge-box:7070 --json "Who is Ada?" | jq .event`

    `hola generate --draft-tokens 0 "..."` (plain decoding of the target)
    """
    if ask.raw and ask.system is not None:
        raise InvalidRequest("--system needs the chat template: leave --raw out", field="system")
    if not 0 <= ask.retry < math.inf:
        raise InvalidRequest(f"--retry {ask.retry:g}: expected seconds, at least 0", field="retry")
    request = _request(read_prompt(prompt), ask, sampling, speculation, door)
    request = replace(request, retrieval=retrieval.params())
    asyncio.run(_run(request, ask, door, retrieval.data_dir))


def read_prompt(argument: str) -> str:
    """The prompt itself, from stdin for `-`. Raises InvalidRequest (no UTF-8), EmptyPrompt."""
    if argument == "-":
        data = sys.stdin.buffer.read()
    else:
        data = argument.encode("utf-8", "surrogateescape")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"the prompt is not valid UTF-8: byte {data[error.start]:#04x} at offset {error.start}",
            field="prompt",
        ) from error
    if not text.strip():
        raise EmptyPrompt("the prompt is empty", field="prompt")
    return text


def _request(
    text: str,
    ask: AskOptions,
    sampling: SamplingOptions,
    speculation: SpeculationOptions,
    door: DoorOptions,
) -> GenerateRequest:
    system = [ChatMessage(role="system", content=ask.system)] if ask.system else []
    return GenerateRequest(
        prompt=text if ask.raw else "",
        messages=() if ask.raw else (*system, ChatMessage(role="user", content=text)),
        model=wanted_model(door),
        sampling=sampling.params(),
        speculation=speculation.params(),
        idempotency_key=ask.idempotency_key,
    )


async def _run(
    request: GenerateRequest, ask: AskOptions, options: DoorOptions, data_dir: str | None
) -> None:
    console = Console(highlight=False)
    async with open_door(options, data_dir=data_dir) as door:
        answer = await ask_door(door, request, _screen(ask, console), retry_s=ask.retry)
        differs: int | None = None
        if ask.check_exact:
            plan = None if answer.started is None else answer.started.plan
            plain = await decode_plainly(door, request, plan)
            differs = first_difference(answer.ids, plain.ids)
            _report_check(answer, plain, differs, ask)
        elif not ask.json:
            _print_stats(answer, None)
    if differs is not None and request.speculation.mode is Mode.EXACT:
        raise HolaError(f"the output differs from plain decoding at token {differs}")


def _screen(ask: AskOptions, console: Console) -> Screen:
    if ask.json:
        return JsonLines()
    return Coloured(console) if console.is_terminal else PlainText()


async def decode_plainly(door: Door, request: GenerateRequest, plan: Plan | None = None) -> Answer:
    """The same request with k = 0: the target alone, with the passages of the first one's `plan`.

    What retrieval costs is measured anew each time, so AUTO might decide otherwise now.
    """
    if plan is not None:
        retrieval = replace(
            request.retrieval,
            mode=RetrievalMode[plan.depth.name.replace("NONE", "OFF")],
            max_passage_tokens=plan.token_budget,
            latency_target_ms=MAX_LATENCY_TARGET_MS,
        )
        request = replace(request, retrieval=retrieval)
    return await ask_door(
        door, replace(request, request_id="", idempotency_key="", speculation=PLAIN)
    )


def first_difference(ids: tuple[int, ...], plain: tuple[int, ...]) -> int | None:
    """Index of the first token that differs, a missing one included; None when equal."""
    for index, (ours, theirs) in enumerate(zip(ids, plain, strict=False)):
        if ours != theirs:
            return index
    return None if len(ids) == len(plain) else min(len(ids), len(plain))


def _report_check(answer: Answer, plain: Answer, differs: int | None, ask: AskOptions) -> None:
    if ask.json:
        check = {"exact": differs is None, "first_difference": differs}
        dump({"event": "checked", **check, "plain_token_ids": plain.ids})
        return
    word = "yes" if differs is None else f"no (plain decoding differs from token {differs} on)"
    _print_stats(answer, word)
    if plain.summary is not None:
        count, speed = len(plain.ids), tokens_per_second(plain.summary)
        print(
            f"compared with plain decoding: {count} tokens at {speed:.1f} tokens/s", file=sys.stderr
        )


def _print_stats(answer: Answer, exact: str | None) -> None:
    if answer.summary is not None:
        if sys.stdout.isatty():
            print()
        elif not answer.text.endswith("\n"):
            print(flush=True)
        print_sources(answer)
        print(stats_line(answer.summary, exact=exact), file=sys.stderr, flush=True)
