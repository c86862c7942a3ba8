"""Random sentence encoders of BERT's shape, small enough to build in a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

WORDS = [*"abcdefghijklmnopqrstuvwxyz0123456789", "cat", "dog", "tea", "the", "of", "##s", "##ing"]
HIDDEN, LAYERS, HEADS, WIDE, PLACES = 32, 2, 4, 64, 40
CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": WIDE,
    "max_position_embeddings": PLACES,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}


def write_encoder(folder: Path, *, pooling: str = "mean", max_tokens: int = 16) -> Path:
    """A sentence-transformers directory with random weights; `folder` itself."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = write_wordpiece(folder)
    draw = np.random.default_rng(11)
    weights = {
        name: draw.normal(0, 0.3, shape).astype(np.float32)
        for name, shape in weight_shapes(vocabulary).items()
    }
    save_file(weights, str(folder / "model.safetensors"))
    write_json(folder / "config.json", {**CONFIG, "vocab_size": vocabulary})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_tokens})
    (folder / "1_Pooling").mkdir(exist_ok=True)
    name = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}[pooling]
    write_json(folder / "1_Pooling" / "config.json", {name: True, "pooling_mode_max_tokens": False})
    return folder


def weight_shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Every weight of BertModel without its pooler."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (vocabulary, HIDDEN),
        "embeddings.position_embeddings.weight": (PLACES, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
        "embeddings.LayerNorm.weight": (HIDDEN,),
        "embeddings.LayerNorm.bias": (HIDDEN,),
    }
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        for part, sizes in {
            "attention.self.query": (HIDDEN, HIDDEN),
            "attention.self.key": (HIDDEN, HIDDEN),
            "attention.self.value": (HIDDEN, HIDDEN),
            "attention.output.dense": (HIDDEN, HIDDEN),
            "intermediate.dense": (WIDE, HIDDEN),
            "output.dense": (HIDDEN, WIDE),
        }.items():
            shapes[f"{name}.{part}.weight"] = sizes
            shapes[f"{name}.{part}.bias"] = sizes[:1]
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"{name}.{part}.weight"] = (HIDDEN,)
            shapes[f"{name}.{part}.bias"] = (HIDDEN,)
    return shapes


def write_wordpiece(folder: Path) -> int:
    """A WordPiece tokenizer.json; the number of its ids."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789"]
    tokens = list(dict.fromkeys([*specials, *WORDS, *letters]))
    vocab = {token: id_ for id_, token in enumerate(tokens)}
    added = [
        {"id": vocab[token], "content": token, "special": True, "single_word": False,
         "lstrip": False, "rstrip": False, "normalized": False}
        for token in specials
    ]  # fmt: skip
    ends = {
        token: {"id": token, "ids": [vocab[token]], "tokens": [token]} for token in specials[2:]
    }
    single = [
        {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
    ]
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": single, "pair": single,
                           "special_tokens": ends},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocab},
    }  # fmt: skip
    write_json(folder / "tokenizer.json", document)
    return len(vocab)


def write_json(file: Path, document: object) -> None:
    """Write one JSON file."""
    file.write_text(json.dumps(document), encoding="utf-8")
