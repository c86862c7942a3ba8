"""Prints, as JSON, what the demo tiers write here: token ids, text, machine, numerics fingerprint.

`make arm64-check` runs it on two processors and compares. It needs an edge install only.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys

from hola.config import load_settings
from hola.telemetry import configure_logging
from hola.types import ChatMessage, GenerateRequest, SamplingParams, Summary, Tokens
from hola_cli.node import open_node

QUESTIONS = (
    "Tom has 12 apples. He buys 5 more and gives 3 to Anna. How many apples does Tom have?",
    "Anna has 6 boxes with 7 shells each. Anna finds 15 more. How many shells does Anna have?",
)
SAMPLED = SamplingParams(temperature=0.8, seed=7)


async def main() -> None:
    settings = load_settings(os.environ)
    configure_logging("ids", settings)
    async with open_node(settings) as node:
        info = await node.verifier.info()
        answers = []
        for question in QUESTIONS:
            for sampling in (SamplingParams(), SAMPLED):
                message = ChatMessage(role="user", content=question)
                request = GenerateRequest(messages=(message,), sampling=sampling)
                tokens, accepted = [], 0
                async for event in node.router.generate(request):
                    if isinstance(event, Tokens):
                        tokens += event.tokens
                    elif isinstance(event, Summary):
                        accepted = event.accepted_tokens
                answers.append(
                    {
                        "temperature": sampling.temperature,
                        "ids": [token.token for token in tokens],
                        "text": "".join(token.text for token in tokens),
                        "accepted": accepted,
                    }
                )
                print(answers[-1]["text"], file=sys.stderr, flush=True)
    facts = {"machine": platform.machine(), "fingerprint": info.fingerprint, "answers": answers}
    print(json.dumps(facts))


if __name__ == "__main__":
    asyncio.run(main())
