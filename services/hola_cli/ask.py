"""`hola ask`: a question answered from one's own documents where that pays, with its sources."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console

from hola.retrieval.types import DEFAULT_COLLECTION
from hola.types import ChatMessage, GenerateRequest, Plan
from hola_cli.answer import Screen
from hola_cli.door import ask as ask_door, open_door, wanted_model
from hola_cli.explain import explanation, source_lines
from hola_cli.flatten import flat
from hola_cli.generate import read_prompt
from hola_cli.jsonform import JsonLines
from hola_cli.options import DoorOptions, JsonOption, SamplingOptions, SpeculationOptions
from hola_cli.paint import Coloured, PlainText
from hola_cli.retrieval_options import RetrievalOptions
from hola_cli.stats import stats_line


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionOptions:
    """How the question is put and its answer shown."""

    system: Annotated[
        str | None, typer.Option("--system", metavar="TEXT", help="A system message.")
    ] = None
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Show the plan: why it retrieved or not, signals, scores, costs, what of which "
            "passages was kept and what was cut.",
        ),
    ] = False
    json: JsonOption = False


@flat
def command(
    question: Annotated[
        str, typer.Argument(metavar="QUESTION", help="The question; - reads stdin.")
    ],
    how: QuestionOptions,
    retrieval: RetrievalOptions,
    sampling: SamplingOptions,
    speculation: SpeculationOptions,
    door: DoorOptions,
) -> None:
    """Answer a question, from a collection where that pays, and list the sources.

    Searches the collection `default` unless --collection names others. The answer is streamed;
    its sources follow it, numbered. With --json each event is a line, and the plan with its
    citations is in the first one, `started`.

    Examples:

    `hola ask "How long is the warranty?" --collection work`

    `hola ask "How long is the warranty?" -c work --explain`

    `hola ask "What is 12*7?" -c work --retrieval off --router edge-box:7070 --json`
    """
    system = [ChatMessage(role="system", content=how.system)] if how.system else []
    request = GenerateRequest(
        messages=(*system, ChatMessage(role="user", content=read_prompt(question))),
        model=wanted_model(door),
        sampling=sampling.params(),
        speculation=speculation.params(),
        retrieval=retrieval.params(default=DEFAULT_COLLECTION),
    )
    asyncio.run(_run(request, how, door, retrieval.data_dir))


async def _run(
    request: GenerateRequest, how: QuestionOptions, options: DoorOptions, data_dir: str | None
) -> None:
    console = Console(highlight=False)
    screen: Screen = JsonLines()
    if not how.json:
        screen = Coloured(console, with_legend=False) if console.is_terminal else PlainText()
    async with open_door(options, data_dir=data_dir) as door:
        answer = await ask_door(door, request, screen)
    if how.json:
        return
    print(flush=True)
    plan = None if answer.started is None else answer.started.plan
    if plan is not None:
        _show(plan, explain=how.explain)
    if answer.summary is not None:
        print(stats_line(answer.summary), file=sys.stderr, flush=True)


def _show(plan: Plan, *, explain: bool) -> None:
    for line in (*source_lines(plan), *(explanation(plan) if explain else ())):
        print(line)
    sys.stdout.flush()
