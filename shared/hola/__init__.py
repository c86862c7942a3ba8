"""HOLA: exact hierarchical speculative decoding, adaptive retrieval, compression for edge LLMs."""

import os

__version__ = "0.1.0"

# onnxruntime from 1.29 on sends events about models and machines to its maker unless this is set
# before it is first imported (decision 0059); the hub's client counts its calls.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# Without its event engine gRPC before 1.80 may crash the process when a server stops while somebody
# connects; with it, and with support for forks, which we do not need, it loses messages when the
# process forks (decision 0060). It reads these when it is first used.
_POLLER = "event_engine_poller_for_python"
_given = os.environ.get("GRPC_EXPERIMENTS", "")
if os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0") == "0" and _POLLER not in _given:
    os.environ["GRPC_EXPERIMENTS"] = f"{_given},{_POLLER}".lstrip(",")
