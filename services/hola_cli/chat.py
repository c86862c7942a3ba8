"""`hola chat`: a conversation on the terminal, every answer streamed and exact."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hola.errors import HolaError
from hola.types import ChatMessage, GenerateRequest, Summary
from hola_cli.answer import Answer, Screen
from hola_cli.background import Background
from hola_cli.door import Door, ask, open_door, wanted_model
from hola_cli.explain import print_sources
from hola_cli.flatten import flat
from hola_cli.jsonform import JsonLines
from hola_cli.options import DoorOptions, JsonOption, SamplingOptions, SpeculationOptions
from hola_cli.paint import Coloured, PlainText
from hola_cli.retrieval_options import RetrievalOptions
from hola_cli.stats import stats_line, tokens_per_second
from hola_cli.trouble import line_of

HELP = """/help   this list
/stats  what the answers so far cost, and who proposed their tokens
/reset  forget the conversation
/quit   leave (so does Ctrl-D); Ctrl-C stops an answer"""


@dataclass(slots=True)
class Conversation:
    """The messages so far and the answers' summaries."""

    system: str | None = None
    messages: list[ChatMessage] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything said; the summaries stay."""
        self.messages = [ChatMessage(role="system", content=self.system)] if self.system else []

    def asked(self, text: str) -> tuple[ChatMessage, ...]:
        """The messages with a question appended; nothing is kept until it is answered."""
        return (*self.messages, ChatMessage(role="user", content=text))

    def answered(self, question: str, answer: Answer) -> None:
        """Keep a question and its answer. An empty answer cannot be sent again as a message."""
        if answer.text.strip():
            self.messages.append(ChatMessage(role="user", content=question))
            self.messages.append(ChatMessage(role="assistant", content=answer.text))
        if answer.summary is not None:
            self.summaries.append(answer.summary)


@flat
def command(
    sampling: SamplingOptions,
    retrieval: RetrievalOptions,
    speculation: SpeculationOptions,
    door: DoorOptions,
    system: Annotated[
        str | None, typer.Option("--system", metavar="TEXT", help="A system message.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Talk with a model; each answer is streamed, coloured by provenance.

    Reads one question per line until /quit or the end of the input, so it also works in a pipe;
    there, the exit code is that of the last question that failed.

    Examples:

    `hola chat`

    `hola chat --router edge-box:7070 --temperature 0.7 --system "Answer briefly."`

    `printf 'Who is Ada?\\nWhere was she born?\\n' | hola chat --json`
    """
    wanted = GenerateRequest(
        model=wanted_model(door),
        sampling=sampling.params(),
        speculation=speculation.params(),
        retrieval=retrieval.params(),
    )
    console = Console(highlight=False, stderr=not sys.stdout.isatty())
    loop = Background(open_door(door, data_dir=retrieval.data_dir))
    with loop as opened:
        chat = _Chat(opened, loop, console, wanted, json)
        code = chat.talk(Conversation(system=system))
    if code:
        raise typer.Exit(code)


class _Chat:
    """The loop of questions and answers."""

    def __init__(
        self,
        door: Door,
        loop: Background[Door],
        console: Console,
        wanted: GenerateRequest,
        json: bool,
    ) -> None:
        """`wanted` is what every question asks for besides its messages."""
        self._door = door
        self._loop = loop
        self._console = console
        self._wanted = wanted
        self._json = json
        self._interactive = sys.stdin.isatty() and sys.stdout.isatty() and not json
        self._legend_due = True
        self._exit_code = 0

    def talk(self, conversation: Conversation) -> int:
        """Read, answer, repeat. Exit code of the last failure in a pipe; 0 for a person."""
        if self._interactive:
            import readline  # noqa: F401  (line editing and history for input())

            self._console.print("/help lists the commands", style="dim")
        while (line := self._read()) is not None:
            if line == "/quit":
                break
            if line.startswith("/"):
                self._obey(line, conversation)
            elif line:
                self._answer(line, conversation)
        return 0 if self._interactive else self._exit_code

    def _read(self) -> str | None:
        try:
            return input("> " if self._interactive else "").strip()
        except EOFError:
            return None
        except KeyboardInterrupt:
            self._console.print("\n/quit or Ctrl-D leaves", style="dim")
            return ""

    def _obey(self, line: str, conversation: Conversation) -> None:
        if line == "/help":
            self._console.print(HELP)
        elif line == "/reset":
            conversation.reset()
            self._console.print("the conversation is forgotten", style="dim")
        elif line == "/stats":
            self._console.print(stats_table(conversation.summaries))
        else:
            self._console.print(f"unknown command {line}; /help lists them", style="yellow")

    def _answer(self, question: str, conversation: Conversation) -> None:
        request = replace(self._wanted, messages=conversation.asked(question))
        try:
            answer = self._loop.run(ask(self._door, request, self._screen()))
        except KeyboardInterrupt:
            self._console.print("\nstopped; this question is forgotten", style="dim")
            return
        except HolaError as error:
            print(line_of(error), file=sys.stderr)
            self._exit_code = error.exit_code
            if conversation.messages and error.reason == "PROMPT_TOO_LONG":
                print("the conversation is too long now: /reset forgets it", file=sys.stderr)
            return
        self._legend_due = False
        conversation.answered(question, answer)
        if not self._json and answer.summary is not None:
            print(flush=True)
            print_sources(answer)
            self._console.print(stats_line(answer.summary), style="dim", soft_wrap=True)

    def _screen(self) -> Screen:
        if self._json:
            return JsonLines()
        if self._interactive:
            return Coloured(self._console, with_legend=self._legend_due)
        return PlainText()


def stats_table(summaries: list[Summary]) -> Table:
    """One row per answer."""
    table = Table(title="answers so far")
    for column in ("tokens", "accepted", "corrected", "bonus", "rounds", "tokens/s"):
        table.add_column(column, justify="right")
    for summary in summaries:
        table.add_row(
            str(summary.completion_tokens),
            str(summary.accepted_tokens),
            str(summary.corrected_tokens),
            str(summary.bonus_tokens),
            str(summary.rounds),
            f"{tokens_per_second(summary):.1f}",
        )
    return table
