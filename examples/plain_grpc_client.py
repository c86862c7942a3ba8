"""Call the router with nothing but grpcio and the generated stubs, as any language would.

Start a node in another terminal (`hola node`), then:

    python examples/plain_grpc_client.py 127.0.0.1:7070
"""

import sys

import grpc

from hola.v1 import router_pb2, router_pb2_grpc

QUESTION = "Tom has 12 apples. He buys 5 more and gives 3 to Anna. How many apples does Tom have?"


def main(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = router_pb2_grpc.RouterServiceStub(channel)
        request = router_pb2.RouterServiceGenerateRequest(
            messages=[router_pb2.ChatMessage(role="user", content=QUESTION)]
        )
        for answer in stub.Generate(request, timeout=60):
            event = answer.event
            if event.HasField("tokens"):
                print("".join(token.text for token in event.tokens.tokens), end="", flush=True)
            elif event.HasField("finished"):
                print(f"\n{event.finished.completion_tokens} tokens")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:7070")
