"""Options that several commands share, and what they become: domain parameters and settings."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated

import typer

from hola.errors import InvalidRequest, InvalidSampling
from hola.types import (
    DEFAULT_ENTROPY_THRESHOLD,
    DEFAULT_MAX_TOKENS,
    Mode,
    Outage,
    SamplingParams,
    SpeculationParams,
)
from hola.validate import check_sampling, check_speculation

SAMPLING = "Sampling"
SPECULATION = "Speculation (never changes the text, unless --mode gated or --outage local)"
WHERE = "Where it runs"

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
ModelsDirOption = Annotated[
    str | None,
    typer.Option(
        "--models-dir",
        metavar="DIR",
        help="Folder with one folder per family. Default: HOLA_MODELS_DIR, else the usual places "
        "(`hola doctor` names them).",
        rich_help_panel=WHERE,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="Model family (see `hola models list`). Default: HOLA_MODEL.",
        rich_help_panel=WHERE,
    ),
]


class ModeName(enum.StrEnum):
    """Values of --mode."""

    exact = "exact"
    gated = "gated"


class OutageName(enum.StrEnum):
    """Values of --outage."""

    wait = "wait"
    fail = "fail"
    local = "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingOptions:
    """How the next token is chosen."""

    temperature: Annotated[
        float,
        typer.Option(
            "--temperature",
            "-t",
            metavar="T",
            help="0 is greedy; at most 100.",
            rich_help_panel=SAMPLING,
        ),
    ] = 0.0
    top_k: Annotated[
        int,
        typer.Option(
            "--top-k",
            metavar="K",
            help="Keep the k likeliest tokens; 0: off.",
            rich_help_panel=SAMPLING,
        ),
    ] = 0
    top_p: Annotated[
        float,
        typer.Option(
            "--top-p",
            metavar="P",
            help="Keep the likeliest tokens up to this probability; 1: off.",
            rich_help_panel=SAMPLING,
        ),
    ] = 1.0
    min_p: Annotated[
        float,
        typer.Option(
            "--min-p",
            metavar="P",
            help="Drop tokens below this share of the likeliest; 0: off.",
            rich_help_panel=SAMPLING,
        ),
    ] = 0.0
    seed: Annotated[
        int,
        typer.Option(
            "--seed",
            metavar="N",
            help="Key of the sampling noise: same seed, same text.",
            rich_help_panel=SAMPLING,
        ),
    ] = 0
    max_tokens: Annotated[
        int,
        typer.Option(
            "--max-tokens",
            "-n",
            metavar="N",
            help="Most tokens to write.",
            rich_help_panel=SAMPLING,
        ),
    ] = DEFAULT_MAX_TOKENS
    stop: Annotated[
        list[str] | None,
        typer.Option(
            "--stop",
            metavar="TEXT",
            help="Text that ends the output; may be repeated.",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    stop_token: Annotated[
        list[int] | None,
        typer.Option(
            "--stop-token",
            metavar="ID",
            help="Token id that ends the output; may be repeated.",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    logprobs: Annotated[
        bool,
        typer.Option(
            "--logprobs",
            help="Report the log-probability of each token (seen with --json).",
            rich_help_panel=SAMPLING,
        ),
    ] = False

    def params(self) -> SamplingParams:
        """Checked parameters. Raises InvalidSampling naming the field."""
        params = SamplingParams(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            seed=self.seed,
            max_tokens=self.max_tokens,
            stop=tuple(_utf8(text) for text in self.stop or ()),
            stop_token_ids=tuple(self.stop_token or ()),
            logprobs=self.logprobs,
        )
        check_sampling(params)
        return params


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculationOptions:
    """How the drafts guess."""

    mode: Annotated[
        ModeName,
        typer.Option(
            "--mode",
            metavar="exact|gated",
            help="exact: the target decides every token; gated: confident draft tokens are "
            "kept unverified, and their agreement with the target is reported.",
            rich_help_panel=SPECULATION,
        ),
    ] = ModeName.exact
    draft_tokens: Annotated[
        int | None,
        typer.Option(
            "--draft-tokens",
            "-k",
            metavar="K",
            help="Most draft tokens per block, 0 to 64; 0: plain decoding. Default: paced by "
            "measured costs.",
            rich_help_panel=SPECULATION,
        ),
    ] = None
    ladder: Annotated[
        str | None,
        typer.Option(
            "--ladder",
            metavar="TIERS",
            help="Tiers to use, cheapest first, e.g. `lookup,draft`; `none`: plain decoding. "
            "Default: all.",
            rich_help_panel=SPECULATION,
        ),
    ] = None
    entropy_threshold: Annotated[
        float,
        typer.Option(
            "--entropy-threshold",
            metavar="NATS",
            help="A draft token less certain than this ends its block.",
            rich_help_panel=SPECULATION,
        ),
    ] = DEFAULT_ENTROPY_THRESHOLD
    outage: Annotated[
        OutageName,
        typer.Option(
            "--outage",
            metavar="wait|fail|local",
            help="While the drafter reaches no verifier: wait for one (HOLA_VERIFIER_WAIT_S), fail "
            "at once, or go on with the best draft tier. Such text is underlined on a terminal and "
            "printed anew from where the target, once it is back, disagrees; in a pipe it is held "
            "back until it is verified, or the text ends.",
            rich_help_panel=SPECULATION,
        ),
    ] = OutageName.wait

    def params(self) -> SpeculationParams:
        """Checked parameters. Raises InvalidRequest naming the field."""
        params = SpeculationParams(
            mode=Mode.GATED if self.mode is ModeName.gated else Mode.EXACT,
            max_draft_tokens=self.draft_tokens,
            entropy_threshold=self.entropy_threshold,
            ladder=parse_ladder(self.ladder),
            outage=Outage[self.outage.upper()],
        )
        check_speculation(params)
        return params


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyOptions:
    """Which model family is meant."""

    model: ModelOption = None
    models_dir: ModelsDirOption = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorOptions(FamilyOptions):
    """Which router answers: a remote one, or a node inside this process."""

    router: Annotated[
        str | None,
        typer.Option(
            "--router",
            "-r",
            metavar="ADDRESS",
            help="Router to ask, e.g. `localhost:7070`. Default: HOLA_ROUTER, else a node inside "
            "this process.",
            rich_help_panel=WHERE,
        ),
    ] = None
    embedded: Annotated[
        bool,
        typer.Option(
            "--embedded",
            help="A node inside this process, whatever HOLA_ROUTER says.",
            rich_help_panel=WHERE,
        ),
    ] = False

    def __post_init__(self) -> None:
        if self.router and self.embedded:
            raise InvalidRequest(
                "--router and --embedded exclude each other: choose one", field="router"
            )


def parse_ladder(text: str | None) -> tuple[str, ...] | None:
    """`lookup,draft` to names, `none` to (), None to None. Raises InvalidRequest."""
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(","))
    if names == ("none",):
        return ()
    if "" in names or "none" in names:
        raise InvalidRequest(
            f"--ladder {text!r}: expected tier names separated by commas, or `none` alone",
            field="ladder",
        )
    return names


def _utf8(text: str) -> str:
    """The text itself. Raises InvalidSampling where the shell passed bytes that are no UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidSampling(
            f"--stop {text!r} is not valid UTF-8 (byte {error.start})", field="stop"
        ) from error
    return text
