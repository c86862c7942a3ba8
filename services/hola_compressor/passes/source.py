"""The checkpoint to compress: refused early where it cannot be, then loaded in fp32."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from hola.engines.memory import ran_out
from hola.engines.tokenizer import TOKENIZER_FILE, FileTokenizer, load_tokenizer
from hola.errors import (
    ArtifactCorrupt,
    ArtifactInvalid,
    MemoryBudgetExceeded,
    TokenizerMismatch,
    UnsupportedArchitecture,
)
from hola.models.checkpoint import count_parameters, weight_files


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checked checkpoint directory; `parameters` as stored, `config` as transformers reads it."""

    folder: Path
    config: Any
    parameters: int
    tokenizer: FileTokenizer

    @property
    def vocab_size(self) -> int:
        """Rows of the output layer."""
        vocabulary: int = self.config.vocab_size
        return vocabulary

    @property
    def first_token(self) -> int | None:
        """What a text begins with, where the model has such a token."""
        return _one(self.config.bos_token_id)

    @property
    def last_token(self) -> int | None:
        """What a text ends with."""
        return _one(self.config.eos_token_id)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Check everything that can be checked without reading weights.

    Raises ArtifactInvalid (no checkpoint, pickled weights), ArtifactCorrupt (a shard that is
    missing or not whole), UnsupportedArchitecture, TokenizerMismatch.
    """
    config = _config(folder)
    parameters = _parameters(folder)
    tokenizer = load_tokenizer(folder)
    vocabulary = config.vocab_size
    if tokenizer.vocab_size > vocabulary:
        raise TokenizerMismatch(
            f"{folder.name}: the tokenizer has {tokenizer.vocab_size} tokens, the model"
            f" {vocabulary}; {TOKENIZER_FILE} belongs to another model",
            expected=vocabulary,
            got=tokenizer.vocab_size,
        )
    return Checkpoint(folder=folder, config=config, parameters=parameters, tokenizer=tokenizer)


def load_model(folder: Path) -> nn.Module:
    """The model in fp32, in inference mode.

    Raises ArtifactInvalid, ArtifactCorrupt, MemoryBudgetExceeded.
    """
    _quiet()
    try:
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # transformers, safetensors and torch share no base class
        if ran_out(error):
            raise MemoryBudgetExceeded(f"{folder.name} does not fit into memory") from error
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ArtifactInvalid(f"{folder.name} cannot be loaded: {reason[0]}") from error
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise ArtifactCorrupt(f"{folder.name} has no weights for {missing[0]}", file=missing[0])
    for name, value in model.named_parameters():
        if not torch.isfinite(value).all():
            raise ArtifactCorrupt(f"{folder.name}: {name} holds a number that is not finite")
    built: nn.Module = model.eval().requires_grad_(False)
    return built


def save_model(model: nn.Module, source: Path, folder: Path) -> None:
    """Write a model as a checkpoint of its own, with the source's tokenizer."""
    _quiet()
    model.save_pretrained(folder)  # type: ignore[operator]
    for name in tokenizer_files(source):
        (folder / name).write_bytes((source / name).read_bytes())


def digest(source: Path) -> str:
    """Hex sha256 over the source's configuration and weights."""
    digest = hashlib.sha256()
    for file in (source / "config.json", *weight_files(source)):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def tokenizer_files(folder: Path) -> list[str]:
    """Names of the files that an artifact takes over from its source, the licence among them."""
    names = (
        TOKENIZER_FILE, "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
        "generation_config.json", "tokenizer.model", "LICENSE", "LICENSE.txt", "LICENSE.md",
    )  # fmt: skip
    return [name for name in names if (folder / name).is_file()]


def _config(folder: Path) -> Any:
    file = folder / "config.json"
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactInvalid(f"{folder.name}/config.json cannot be read: {error}") from error
    kind = document.get("model_type") if isinstance(document, dict) else None
    known = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if not isinstance(kind, str) or kind not in known:
        raise UnsupportedArchitecture(
            f"{folder.name} is of model_type {kind!r}, which is no decoder that transformers"
            " knows; code that comes with a checkpoint is never run",
            architecture=kind,
        )
    if document.get("quantization_config"):
        raise UnsupportedArchitecture(
            f"{folder.name} is quantized already; compress the original", architecture=kind
        )
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise ArtifactInvalid(f"{folder.name}/config.json cannot be used: {error}") from error
    if not isinstance(getattr(config, "vocab_size", None), int):
        raise UnsupportedArchitecture(
            f"{folder.name} is a {kind} of several models, and none of its own has a vocabulary;"
            " compress a checkpoint of the text model alone",
            architecture=kind,
        )
    return config


def _parameters(folder: Path) -> int:
    try:
        return count_parameters(folder)
    except ArtifactInvalid as error:
        if "whole safetensors" in error.message:
            raise ArtifactCorrupt(error.message, **error.details) from error
        raise


def _one(token: object) -> int | None:
    if isinstance(token, list):
        token = token[0] if token else None
    return token if isinstance(token, int) else None


def _quiet() -> None:
    """No progress bars in a service's log."""
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.getLogger("transformers").setLevel(logging.ERROR)
