"""A minimal greedy loop over an exported tier: batch 1, even widths, KV buffers in place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

from tools.tiers import tokenizer as vocabulary
from tools.tiers.corpus import ASSISTANT, BOS, USER


class Engine:
    """One ONNX tier with one KV cache."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        config = json.loads((folder / "genai_config.json").read_text())["model"]
        decoder = config["decoder"]
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.session = ort.InferenceSession(
            str(folder / decoder["filename"]), options, providers=["CPUExecutionProvider"]
        )
        self.context = int(config["context_length"])
        shape = (1, decoder["num_key_value_heads"], self.context, decoder["head_size"])
        self.cache = {
            f"{i}.{part}": ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32))
            for i in range(decoder["num_hidden_layers"])
            for part in ("key", "value")
        }
        self.vocab = int(config["vocab_size"])

    def run(self, tokens: list[int], past: int) -> np.ndarray:
        """Logits after each token; an odd width gets one throw-away token."""
        width = len(tokens) + len(tokens) % 2
        ids = np.full((1, width), vocabulary.PAD_ID, np.int64)
        ids[0, : len(tokens)] = tokens
        binding = self.session.io_binding()
        binding.bind_cpu_input("input_ids", ids)
        binding.bind_cpu_input("attention_mask", np.ones((1, past + width), np.int64))
        for name, value in self.cache.items():
            binding.bind_ortvalue_input(f"past_key_values.{name}", value)
            binding.bind_ortvalue_output(f"present.{name}", value)
        binding.bind_output("logits")
        self.session.run_with_iobinding(binding)
        logits = binding.get_outputs()[-1].numpy()
        return logits[0, : len(tokens)]

    def greedy(self, prompt: list[int], limit: int) -> list[int]:
        """The continuation up to and including the end token."""
        room = min(limit, self.context - len(prompt) - 2)
        out = [int(self.run(prompt, 0)[-1].argmax())]
        while out[-1] != vocabulary.EOS_ID and len(out) < room:
            logits = self.run(out[-1:], len(prompt) + len(out) - 1)
            out.append(int(logits[-1].argmax()))
        return out

    def forced(self, prompt: list[int], continuation: list[int]) -> list[int]:
        """What this tier would have said at each position of a given continuation."""
        logits = self.run(prompt + continuation, 0)
        return logits[len(prompt) - 1 : -1].argmax(-1).tolist()


def prompt_ids(tokenizer: Tokenizer, content: str) -> list[int]:
    """One user turn in chat form."""
    return tokenizer.encode(f"{BOS}{USER}{content}{ASSISTANT}").ids
