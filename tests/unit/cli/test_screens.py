"""What a stream looks like: colours by provenance, plain text, JSON lines, one line of numbers."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console
from rich.text import Text

from hola.types import (
    Correction,
    Exactness,
    Failure,
    FinishReason,
    Outcome,
    Started,
    Summary,
    TierCounts,
    Timings,
    TokenEvent,
    Tokens,
)
from hola_cli.jsonform import JsonLines
from hola_cli.paint import TIER_COLOURS, Coloured, PlainText, harmless, style_of
from hola_cli.stats import accepted_per_verify, stats_line

STARTED = Started(
    request_id="r", model="m", tiers=("lookup", "draft", "target"), fingerprint="f",
    exactness=Exactness.EXACT, prompt_tokens=3,
)  # fmt: skip
SUMMARY = Summary(
    finish_reason=FinishReason.STOP_TOKEN,
    prompt_tokens=3,
    completion_tokens=6,
    accepted_tokens=4,
    rounds=2,
    tiers=(
        TierCounts(tier="lookup", proposed_tokens=0, accepted_tokens=0),
        TierCounts(tier="draft", proposed_tokens=5, accepted_tokens=4),
        TierCounts(tier="target", proposed_tokens=2, accepted_tokens=2),
    ),
    timings=Timings(total_ns=500_000_000),
)


def token(text: str, tier: int = 0, outcome: Outcome = Outcome.ACCEPTED) -> TokenEvent:
    return TokenEvent(token=1, text=text, tier=tier, outcome=outcome)


def test_accepted_text_has_its_tiers_colour_and_the_targets_own_does_not():
    accepted = {style_of(token("x", tier)).color.name for tier in range(3)}
    assert accepted == set(TIER_COLOURS[:3])
    own = [style_of(token("x", 2, outcome)) for outcome in (Outcome.CORRECTED, Outcome.BONUS)]
    assert len({str(style) for style in own}) == 2
    assert not accepted & {style.color.name for style in own}


def test_unverified_text_is_marked():
    assert style_of(token("x", 1, Outcome.UNVERIFIED)).underline


def test_a_terminal_gets_the_legend_and_the_whole_text():
    file = io.StringIO()
    screen = Coloured(Console(file=file, force_terminal=True, width=20, highlight=False))
    screen.show(STARTED)
    screen.show(Tokens(position=0, tokens=(token("A long text that wraps "), token("[b]not"))))
    shown = file.getvalue()
    assert "draft" in shown
    assert "\x1b[36mA long text that wraps " in shown
    assert "[b]not" in shown  # markup in the text stays text


def test_a_model_cannot_drive_the_terminal():
    assert harmless("a\x1b[2Jb\x07\nc\t\x9b") == "a\ufffd[2Jb\ufffd\nc\t\ufffd"


def test_a_pipe_gets_nothing_but_the_text():
    file = io.StringIO()
    screen = PlainText(file)
    for event in (STARTED, Tokens(position=0, tokens=(token("Hi "), token("\x1b!"))), SUMMARY):
        screen.show(event)
    assert file.getvalue() == "Hi \x1b!"


def alone(position: int, *texts: str) -> Tokens:
    """Unverified tokens."""
    return Tokens(
        position=position,
        tokens=tuple(token(text, 1, Outcome.UNVERIFIED) for text in texts),
    )


def own(position: int, *texts: str) -> Tokens:
    return Tokens(
        position=position, tokens=tuple(token(text, 2, Outcome.CORRECTED) for text in texts)
    )


class TestUnverifiedText:
    def test_a_terminal_gets_it_at_once_and_again_where_it_was_wrong(self):
        file = io.StringIO()
        screen = Coloured(Console(file=file, force_terminal=True, highlight=False))
        events = (
            alone(0, "One.\nTwo ", "and ", "tree."),
            Correction(position=2),
            own(2, "three."),
        )
        for event in events:
            screen.show(event)
        shown = Text.from_ansi(file.getvalue()).plain
        assert shown == "One.\nTwo and tree.\nthe target goes on from here:\nTwo and three."
        underlined = "\x1b[4;32m"
        before, _, after = file.getvalue().partition("the target")
        assert underlined in before
        assert underlined not in after, "what is printed again has been verified"

    def test_a_terminal_gets_nothing_more_when_all_of_it_holds(self):
        file = io.StringIO()
        screen = Coloured(Console(file=file, force_terminal=True, highlight=False))
        for event in (alone(0, "a", "b"), Correction(position=2), own(2, "c")):
            screen.show(event)
        assert Text.from_ansi(file.getvalue()).plain == "abc"

    def test_a_pipe_gets_it_when_it_is_certain(self):
        file = io.StringIO()
        screen = PlainText(file)
        written = []
        for event in (
            STARTED,
            own(0, "A"),
            alone(1, "b", "c"),
            alone(3, "x", "y"),
            Correction(position=3),
            own(3, "d"),
            alone(4, "e"),
            Correction(position=5),
        ):
            screen.show(event)
            written.append(file.getvalue())
        assert written == ["", "A", "A", "A", "Abc", "Abcd", "Abcd", "Abcde"]

    def test_a_pipe_gets_it_at_the_end_if_nobody_looked_at_it(self):
        file = io.StringIO()
        screen = PlainText(file)
        for event in (STARTED, alone(0, "a", "b"), SUMMARY):
            screen.show(event)
        assert file.getvalue() == "ab"

    def test_a_pipe_does_not_get_it_from_a_stream_that_failed(self):
        file = io.StringIO()
        screen = PlainText(file)
        for event in (STARTED, alone(0, "a"), Failure(reason="X", message="", grpc_code=13)):
            screen.show(event)
        assert file.getvalue() == ""

    def test_gated_text_is_not_held_back(self):
        file = io.StringIO()
        screen = PlainText(file)
        screen.show(replace(STARTED, exactness=Exactness.GATED))
        screen.show(alone(0, "a"))
        assert file.getvalue() == "a"

    def test_a_resumed_stream_may_go_back_to_before_its_start(self):
        """Of five tokens that were received elsewhere, two were void."""
        file, terminal = io.StringIO(), io.StringIO()
        screens = (
            PlainText(file),
            Coloured(Console(file=terminal, force_terminal=True, highlight=False)),
        )
        for event in (alone(5, "x"), Correction(position=3), own(3, "d"), SUMMARY):
            for screen in screens:
                screen.show(event)
        assert file.getvalue() == "d"
        assert Text.from_ansi(terminal.getvalue()).plain.endswith("from here:\nd")

    def test_json_says_where_the_text_goes_on(self, capsys):
        JsonLines().show(Correction(position=3, fingerprint="f"))
        line = json.loads(capsys.readouterr().out)
        assert line == {"event": "corrected", "position": 3, "fingerprint": "f"}

    def test_the_line_of_numbers_counts_corrections_and_says_what_was_not_verified(self):
        ended = replace(SUMMARY, exactness=Exactness.UNVERIFIED, unverified_tokens=2, corrections=1)
        assert stats_line(ended).endswith(
            "1 correction · exact: no (no verifier came back: 2 tokens of a draft tier's own)"
        )


def test_json_lines_have_names_instead_of_numbers(capsys):
    screen = JsonLines()
    for event in (STARTED, Tokens(position=2, tokens=(token("é"),)), SUMMARY):
        screen.show(event)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["started", "tokens", "finished"]
    assert lines[0]["exactness"] == "exact"
    assert lines[1]["position"] == 2
    assert lines[1]["tokens"][0]["outcome"] == "accepted"
    assert lines[1]["tokens"][0]["text"] == "é"
    assert lines[2]["finish_reason"] == "stop_token"
    assert lines[2]["timings"]["total_ns"] == 500_000_000


def test_the_line_of_numbers_leaves_out_the_target_and_idle_tiers():
    assert stats_line(SUMMARY) == (
        "6 tokens · accepted 4 (draft 4/5) · 12.0 tokens/s · 2 verify calls · exact: yes"
    )
    assert accepted_per_verify(SUMMARY) == 2.0


@pytest.mark.parametrize(
    ("exactness", "word"), [(Exactness.DEGRADED, "no (degraded"), (Exactness.GATED, "no (gated")]
)
def test_the_line_says_when_the_text_is_not_exact(exactness, word):
    assert f"exact: {word}" in stats_line(replace(SUMMARY, exactness=exactness))


def test_a_check_overrides_what_the_summary_says():
    assert stats_line(SUMMARY, exact="no").endswith("exact: no")
