"""Answer a question over gRPC, and survive a broken connection on the way.

Start a node in another terminal (`hola node`), then:

    python examples/remote_generate.py grpc://127.0.0.1:7070
"""

import asyncio
import os
import sys

from hola.config import load_settings
from hola.rpc.router_client import RouterClient
from hola.telemetry import configure_logging
from hola.types import ChatMessage, GenerateRequest, SamplingParams, Tokens

QUESTION = "Tom has 12 apples. He buys 5 more and gives 3 to Anna. How many apples does Tom have?"


async def main(address: str) -> None:
    settings = load_settings(os.environ)
    configure_logging("example", settings)  # logs go to stderr, away from the answer
    client = RouterClient(address, settings)
    try:
        request = GenerateRequest(
            messages=(ChatMessage(role="user", content=QUESTION),),
            sampling=SamplingParams(temperature=0.7, seed=7),
        )
        # The client re-attaches by position when the connection breaks: no token twice, none lost.
        async for event in client.generate(request):
            if isinstance(event, Tokens):
                print("".join(token.text for token in event.tokens), end="", flush=True)
        print()
    finally:
        await client.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "grpc://127.0.0.1:7070"))
