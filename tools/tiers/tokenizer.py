"""The byte-level BPE vocabulary all tiers share, one token per digit, trained on our own text."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tools.tiers import corpus
from tools.tiers.world import COMMON_NAMES

VOCAB_SIZE = 4096
SPECIALS = (corpus.PAD, corpus.BOS, corpus.EOS, corpus.USER, corpus.ASSISTANT)
PAD_ID, BOS_ID, EOS_ID, USER_ID, ASSISTANT_ID = range(5)
PATTERN = r"\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]|\s+"
CONTEXT = 512
# Words that are one token however rare they are in the sample the merges are learned from.
WHOLE_WORDS = (
    *COMMON_NAMES,
    *"He She It I says know apples marbles cows trees eggs pencils sweets oranges "
    "them then now first each gets friends children people days".split(),
)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>' + message['content'] + eos_token }}"
    "{% else %}{{ '<|user|>'"
    " + ('' if 'Question:' in message['content'] else 'Question: ')"
    " + message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def training_text(count: int) -> list[str]:
    """Text of every kind, from a seed that training does not use."""
    stream = corpus.documents(9, 0, lambda: 2, range(5, 6))
    texts = [
        piece
        for document in itertools.islice(stream, count)
        for piece, _ in document.segments
        if isinstance(piece, str) and piece not in SPECIALS
    ]
    texts += [f.statement(p) + "\n" + f.question(p) for f in corpus.FACTS for p in range(4)]
    return texts


def train(count: int = 30_000) -> Tokenizer:
    """Learn the merges; ids that the text cannot fill become reserved tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        min_frequency=60,
        show_progress=False,
        special_tokens=[AddedToken(s, special=True, normalized=False) for s in SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(training_text(count), trainer)
    tokenizer = add_words(tokenizer, WHOLE_WORDS)
    missing = VOCAB_SIZE - tokenizer.get_vocab_size()
    tokenizer.add_special_tokens(
        [AddedToken(f"<|reserved_{i}|>", special=True, normalized=False) for i in range(missing)]
    )
    return tokenizer


def add_words(tokenizer: Tokenizer, words: Sequence[str]) -> Tokenizer:
    """Append merges that make each word (after a space) one token; other text is unchanged."""
    state = json.loads(tokenizer.to_str())
    vocab, merges = state["model"]["vocab"], state["model"]["merges"]
    for word in words:
        pieces = Tokenizer.from_str(json.dumps(state)).encode(" " + word).tokens
        while len(pieces) > 1:
            merges.append(pieces[:2])
            pieces[:2] = ["".join(pieces[:2])]
            vocab.setdefault(pieces[0], len(vocab))
    return Tokenizer.from_str(json.dumps(state))


def learned_size(tokenizer: Tokenizer) -> int:
    """How many ids stand for text (the reserved ones come after)."""
    return sum(not t.startswith("<|reserved_") for t in tokenizer.get_vocab())


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json as transformers reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": corpus.BOS,
        "eos_token": corpus.EOS,
        "pad_token": corpus.PAD,
        "additional_special_tokens": [corpus.USER, corpus.ASSISTANT],
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (folder / "tokenizer_config.json").write_text(text + "\n")


def load(folder: Path) -> Tokenizer:
    """Read the vocabulary back."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))
