"""What spans say of a request, in the words of OpenTelemetry's semantic conventions.

Names: https://opentelemetry.io/docs/specs/semconv/gen-ai/ (experimental), and those of RPC
and messaging; what they have no word for begins with `hola.`. No contents of requests.
"""

from __future__ import annotations

from typing import Any

from hola.types import Failure, SamplingParams, Summary

PROVIDER = "hola"


def operation(*, is_chat: bool) -> str:
    """The convention's name for what is asked."""
    return "chat" if is_chat else "text_completion"


def of_request(
    model: str, sampling: SamplingParams, *, is_chat: bool = False, request_id: str = ""
) -> dict[str, Any]:
    """Attributes of a request: what is asked of which model, and how tokens are chosen."""
    return {
        "gen_ai.operation.name": operation(is_chat=is_chat),
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": model or None,
        "gen_ai.request.max_tokens": sampling.max_tokens,
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_k": sampling.top_k or None,
        "gen_ai.request.top_p": sampling.top_p,
        # Numbers of OpenTelemetry have a sign; a seed has 64 bits without one.
        "gen_ai.request.seed": sampling.seed if sampling.seed < 2**63 else None,
        "gen_ai.response.id": request_id or None,
    }


def of_end(event: Summary | Failure) -> dict[str, Any]:
    """Attributes of how a request ended."""
    if isinstance(event, Failure):
        return {"gen_ai.response.finish_reasons": ["error"], "error.type": event.reason}
    return {
        "gen_ai.response.finish_reasons": [event.finish_reason.name.lower()],
        "gen_ai.usage.input_tokens": event.prompt_tokens,
        "gen_ai.usage.output_tokens": event.completion_tokens,
        "hola.rounds": event.rounds,
        "hola.accepted_tokens": event.accepted_tokens,
        "hola.reconnects": event.reconnects,
        "hola.exactness": event.exactness.name.lower(),
    }


def of_call(method: str) -> dict[str, Any]:
    """Attributes of a gRPC call, from its full name "/package.Service/Method"."""
    service, _, name = method.lstrip("/").partition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}


def of_message(kind: str, destination: str, request_id: str) -> dict[str, Any]:
    """Attributes of something put on the bus, or taken from it: `kind` is send or process."""
    return {
        "messaging.system": "redis",
        "messaging.operation.type": kind,
        "messaging.destination.name": destination,
        "messaging.message.conversation_id": request_id,
    }
