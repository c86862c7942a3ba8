"""Call the router with grpc.aio and the generated stubs: two questions at a time on one channel.

Start a node in another terminal (`hola node`), then:

    python examples/plain_grpc_async_client.py 127.0.0.1:7070
"""

import asyncio
import sys

import grpc.aio

from hola.v1 import router_pb2, router_pb2_grpc

QUESTIONS = (
    "Tom has 12 apples. He buys 5 more and gives 3 to Anna. How many apples does Tom have?",
    "Anna has 6 boxes with 7 shells each. Anna finds 15 more. How many shells does Anna have?",
)


async def ask(stub: router_pb2_grpc.RouterServiceStub, question: str) -> str:
    request = router_pb2.RouterServiceGenerateRequest(
        messages=[router_pb2.ChatMessage(role="user", content=question)]
    )
    words = []
    async for answer in stub.Generate(request, timeout=60):
        if answer.event.HasField("failed"):
            raise SystemExit(f"failed: {answer.event.failed.message}")
        words += [token.text for token in answer.event.tokens.tokens]
    return "".join(words)


async def main(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = router_pb2_grpc.RouterServiceStub(channel)
        for text in await asyncio.gather(*(ask(stub, question) for question in QUESTIONS)):
            print(text)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7070"))
