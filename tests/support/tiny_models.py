"""Random checkpoints of real architectures, small enough to build in a test, and their exports."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from pathlib import Path
from typing import Any

VOCAB_SIZE = 320
CONTEXT_LENGTH = 512
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT_LENGTH,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    # Random weights of the usual size give nearly flat logits, on which nothing can be told apart.
    "initializer_range": 0.15,
}
# Name: the class prefix in transformers, and what it needs beside _SIZES.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "mistral": ("Mistral", {"sliding_window": None, "head_dim": 16}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "gemma": ("Gemma", {"head_dim": 16}),
    "gemma2": ("Gemma2", {"head_dim": 16, "sliding_window": 32}),
    "phi3": ("Phi3", {"original_max_position_embeddings": CONTEXT_LENGTH}),
    "smollm3": ("SmolLM3", {}),
    "granite": ("Granite", {}),
    "hunyuan": ("HunYuanDenseV1", {"head_dim": 16}),  # a graph that takes position ids
}


def write_tokenizer(folder: Path, *, merges: int = 40) -> None:
    """A byte-level BPE tokenizer.json of VOCAB_SIZE ids at most, and its tokenizer_config.json."""
    alphabet = sorted(set(_byte_alphabet()))
    vocab = {token: id_ for id_, token in enumerate(["<pad>", "<s>", "</s>", *alphabet])}
    pairs = []
    for index in range(merges):
        left, right = alphabet[(7 * index) % 94], alphabet[(11 * index + 3) % 94]
        if left + right not in vocab:
            pairs.append([left, right])
            vocab[left + right] = len(vocab)
    specials = [
        {"id": vocab[token], "content": token, "special": True, "single_word": False,
         "lstrip": False, "rstrip": False, "normalized": False}
        for token in ("<pad>", "<s>", "</s>")
    ]  # fmt: skip
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": specials,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True,
        },
        "post_processor": None,
        "decoder": {
            "type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True,
        },
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": False, "vocab": vocab, "merges": pairs,
        },
    }  # fmt: skip
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def write_checkpoint(
    folder: Path, architecture: str = "llama", *, seed: int = 0, **sizes: Any
) -> Any:
    """Save a random checkpoint with tokenizer in `folder`; returns the transformers model."""
    import torch
    import transformers

    prefix, extra = ARCHITECTURES[architecture]
    torch.manual_seed(seed)
    config = getattr(transformers, f"{prefix}Config")(**{**_SIZES, **extra, **sizes})
    model = transformers.AutoModelForCausalLM.from_config(config).eval().float()
    with contextlib.redirect_stderr(io.StringIO()):
        model.save_pretrained(folder)
    write_tokenizer(folder)
    return model


def export(checkpoint: Path, folder: Path, precision: str) -> Path:
    """Write `checkpoint` as an onnxruntime-genai directory, in this process."""
    from onnxruntime_genai.models.builder import create_model, parse_extra_options

    provider = "cuda" if precision == "fp16" else "cpu"  # as hola.models.checkpoint does
    arguments = (None, str(checkpoint), str(folder), precision, provider, str(folder / "cache"))
    level = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            create_model(*arguments, **parse_extra_options(*arguments, []))
    finally:
        logging.disable(level)
    return folder


def _byte_alphabet() -> list[str]:
    """The 256 letters that byte-level BPE writes bytes with."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + at) for at in range(len(others))]


def exported(root: Path, architecture: str = "llama", precision: str = "fp32") -> Path:
    """The export of a random checkpoint below `root`; built on the first call only."""
    checkpoint, folder = root / architecture, root / f"{architecture}-{precision}"
    if not checkpoint.is_dir():
        write_checkpoint(checkpoint, architecture)
    return folder if folder.is_dir() else export(checkpoint, folder, precision)
