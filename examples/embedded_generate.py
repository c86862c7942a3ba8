"""Answer a question with all of HOLA inside this process: no server, no socket.

python examples/embedded_generate.py
"""

import asyncio
import os

from hola.config import load_settings
from hola.telemetry import configure_logging
from hola.types import ChatMessage, GenerateRequest, Summary, Tokens
from hola_cli.node import open_node

QUESTION = "Tom has 12 apples. He buys 5 more and gives 3 to Anna. How many apples does Tom have?"


async def main() -> None:
    settings = load_settings(os.environ)
    configure_logging("example", settings)  # logs go to stderr, away from the answer
    async with open_node(settings) as node:
        request = GenerateRequest(messages=(ChatMessage(role="user", content=QUESTION),))
        async for event in node.router.generate(request):
            if isinstance(event, Tokens):
                print("".join(token.text for token in event.tokens), end="", flush=True)
            elif isinstance(event, Summary):
                print(f"\n{event.completion_tokens} tokens in {event.rounds} verifier rounds")


if __name__ == "__main__":
    asyncio.run(main())
