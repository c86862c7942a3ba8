"""What is compared: a prompt at a temperature with a seed of its own, and the ids it gave."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from hola.types import SamplingParams
from hola_bench.prompts import Prompt

TEMPERATURES = (0.0, 0.7, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One prompt at one temperature. `params` has a seed made from the bench's and the prompt."""

    prompt: Prompt
    params: SamplingParams

    @property
    def name(self) -> str:
        """As `--case` takes it, e.g. reading-0003@0.7."""
        return f"{self.prompt.name}@{self.params.temperature:g}"

    @property
    def request_id(self) -> str:
        """The name in the alphabet of request ids."""
        return self.name.replace("@", "-at-")


def cases(prompts: Sequence[Prompt], *, seed: int, max_tokens: int) -> list[Case]:
    """Every prompt at every temperature."""
    return [
        Case(
            prompt=prompt,
            params=SamplingParams(
                temperature=temperature,
                seed=zlib.crc32(f"{seed}/{prompt.name}".encode()),
                max_tokens=max_tokens,
            ),
        )
        for prompt in prompts
        for temperature in TEMPERATURES
    ]
