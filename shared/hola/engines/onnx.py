"""Any decoder graph that onnxruntime-genai's builder writes, run on plain onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hola.engines.decoder_config import DecoderConfig, read_decoder_config
from hola.engines.memory import MemoryBudget, give_back_freed
from hola.engines.onnx_session import LARGEST_CHUNK, WIDTH_MULTIPLE, Graph, OnnxSession, element
from hola.engines.providers import (
    check_provider,
    choose_providers,
    provider_name,
    session_options,
    usable_cores,
)
from hola.errors import ArtifactInvalid, EngineFailure, HolaError, InvalidRequest, PromptTooLong
from hola.extras import require
from hola.ports import EngineInfo

LOGITS_BYTES = 4
_PROBE = (1, 2, 3, 4)


class OnnxEngine:
    """hola.ports.Engine on onnxruntime.

    Needs a graph whose attention writes its cache in place (GroupQueryAttention): one buffer per
    layer is bound as past and as present, so nothing is copied and rolling back costs nothing.
    Graphs that append to their cache instead are refused.
    """

    def __init__(
        self,
        path: Path,
        *,
        provider: str = "auto",
        threads: int | None = None,
        memory_budget_bytes: int | None = None,
        allow_spinning: bool = False,
    ) -> None:
        """Load the graph in `path`; arguments as in `hola.engines.load_engine`.

        `allow_spinning` lets idle threads burn their core between operators: a little faster
        alone on a machine, much slower when anything else needs the cores.
        Raises ArtifactInvalid, MemoryBudgetExceeded, MissingExtra, ConfigError.
        """
        ort = require("onnxruntime", "edge")
        config = read_decoder_config(path)
        providers = choose_providers(provider, ort.get_available_providers())
        threads = usable_cores() if threads is None else threads
        if threads < 1:
            raise InvalidRequest(f"threads must be at least 1, got {threads}", field="threads")
        self._config = config
        self._budget = MemoryBudget(memory_budget_bytes)
        workspace_bytes = LARGEST_CHUNK * config.vocab_size * LOGITS_BYTES
        self._held_bytes = config.weight_bytes + workspace_bytes
        self._budget.reserve(self._held_bytes, f"loading {path.name}")
        try:
            options = session_options(ort, threads=threads, allow_spinning=allow_spinning)
            runtime = _load(ort, config, options, providers)
            give_back_freed()
            check_provider(provider, provider_name(runtime.get_providers()[0]))
            self._graph: Graph | None = _describe(ort, config, runtime)
            self._info = EngineInfo(
                name=path.name,
                vocab_size=config.vocab_size,
                context_length=config.context_length,
                eos_token_ids=config.eos_token_ids,
                kv_bytes_per_token=self._graph.kv_bytes_per_token,
                weight_bytes=config.weight_bytes,
                provider=provider_name(runtime.get_providers()[0]),
            )
            self._check_in_place()
        except HolaError:
            self.close()
            raise

    @property
    def info(self) -> EngineInfo:
        """Sizes and provider."""
        return self._info

    def open(self, capacity: int) -> OnnxSession:
        """Allocate a KV cache for up to `capacity` tokens.

        Raises MemoryBudgetExceeded, PromptTooLong (more than the context), InvalidRequest (< 1).
        """
        if self._graph is None:
            raise EngineFailure(f"engine {self._info.name} is closed")
        if capacity < 1:
            raise InvalidRequest(f"capacity must be at least 1, got {capacity}", field="capacity")
        if capacity > self._info.context_length:
            raise PromptTooLong(
                f"{capacity} tokens do not fit a context of {self._info.context_length}",
                prompt_tokens=capacity,
                context_length=self._info.context_length,
            )
        # Room for the throw-away tokens of a padded step.
        rows = min(capacity + WIDTH_MULTIPLE - 1, self._info.context_length)
        rows = max(rows, self._config.window_rows)
        needed = rows * self._info.kv_bytes_per_token
        self._budget.reserve(needed, f"a KV cache of {capacity} tokens")
        return OnnxSession(
            self._graph, capacity, rows, release=lambda: self._budget.release(needed)
        )

    def close(self) -> None:
        """Free the weights; open sessions keep them until they are closed. Idempotent."""
        self._graph = None
        self._budget.release(self._held_bytes)
        self._held_bytes = 0

    def _check_in_place(self) -> None:
        """Refuse a graph that does not keep its cache in the bound buffers.

        Runs four tokens at once and in two halves, and compares the last logits: a graph that
        ignores or copies its cache gives other ones.
        """
        tokens = [token % self._info.vocab_size for token in _PROBE]
        session = self.open(len(tokens))
        try:
            whole = session.forward(tokens)[-1].copy()
            session.truncate(0)
            session.forward(tokens[:2])
            halves = session.forward(tokens[2:])[-1]
            if not np.allclose(whole, halves, rtol=1e-3, atol=1e-3 * float(np.abs(whole).max())):
                raise ArtifactInvalid(
                    f"{self._info.name}: the graph does not update its KV cache in place; "
                    "export it with onnxruntime_genai.models.builder (GroupQueryAttention)"
                )
        except EngineFailure as error:
            raise ArtifactInvalid(
                f"{self._info.name}: a trial run failed; the graph must take and update its KV "
                f"cache in place (GroupQueryAttention): {error.message}"
            ) from error
        finally:
            session.close()


def _load(ort: Any, config: DecoderConfig, options: Any, providers: tuple[str, ...]) -> Any:
    try:
        return ort.InferenceSession(str(config.graph), options, providers=list(providers))
    except Exception as error:  # onnxruntime's exceptions share no base class
        reason = str(error).splitlines()[0]
        raise ArtifactInvalid(
            f"{config.graph.parent.name}/{config.graph.name} cannot be loaded: {reason}",
            path=config.graph,
        ) from error


def _describe(ort: Any, config: DecoderConfig, runtime: Any) -> Graph:
    """Match the graph's inputs and outputs with the configuration."""
    inputs = {node.name: node for node in runtime.get_inputs()}
    outputs = {node.name: node for node in runtime.get_outputs()}
    needed = {config.input_ids, config.attention_mask, *config.past_names}
    where = config.graph.parent.name
    if unknown := sorted(inputs.keys() - needed - {config.position_ids}):
        raise ArtifactInvalid(
            f"{where}: the graph's input {unknown[0]} is not supported; a decoder may take token "
            "ids, a mask, positions and an attention cache, no other state"
        )
    if missing := sorted(needed - inputs.keys()):
        raise ArtifactInvalid(f"{where}: the graph has no input {missing[0]}")
    if missing := sorted({config.logits, *config.present_names} - outputs.keys()):
        raise ArtifactInvalid(f"{where}: the graph has no output {missing[0]}")
    vocab_size = outputs[config.logits].shape[-1]
    if isinstance(vocab_size, int) and vocab_size != config.vocab_size:
        raise ArtifactInvalid(
            f"{where}: vocab_size is {config.vocab_size}, the graph gives {vocab_size} logits"
        )
    shapes = []
    for name in config.past_names:
        heads, size = inputs[name].shape[1], inputs[name].shape[3]
        shapes.append(
            (
                heads if isinstance(heads, int) else config.num_kv_heads,
                size if isinstance(size, int) else config.head_size,
            )
        )
    on_cpu = provider_name(runtime.get_providers()[0]) == "cpu"
    return Graph(
        ort=ort,
        runtime=runtime,
        config=config,
        device="cpu" if on_cpu else "cuda",
        kv_element=element(inputs[config.past_names[0]].type),
        kv_shapes=tuple(shapes),
        logits_element=element(outputs[config.logits].type),
        takes_positions=config.position_ids in inputs,
    )
