"""The whole pipeline runs at toy size, and going on after a stop changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tools.tiers import corpus, evaluate, feed, model, pipeline, tokenizer as vocabulary, train

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    vocabulary.save(vocabulary.train(600), folder)
    return folder


def test_one_token_per_digit_and_reserved_ids(tokens: Path) -> None:
    tokenizer = vocabulary.load(tokens)
    assert tokenizer.get_vocab_size() == vocabulary.VOCAB_SIZE
    assert tokenizer.encode("12+345=357").tokens == list("12+345=357")
    special = [tokenizer.token_to_id(s) for s in vocabulary.SPECIALS]
    assert special == list(range(5))
    text = "Ünïcode \u2603 and  spaces\n\tstay 7"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert len(tokenizer.encode(" Tom").ids) == 1


def test_the_chat_template_is_the_training_format(tokens: Path) -> None:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tokens)
    messages = [{"role": "user", "content": "Question: What is 1+1?"}]
    text = loaded.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<|bos|><|user|>Question: What is 1+1?<|assistant|>"
    turn = corpus.Turn("Question: What is 1+1?", "1+1=2. The answer is 2.", "2")
    trained = "".join(str(p) for p, _ in corpus.conversation("drill", [turn]).segments)
    messages.append({"role": "assistant", "content": turn.reference})
    assert loaded.apply_chat_template(messages, tokenize=False) == trained


def test_exposures_count_what_was_consumed(tokens: Path) -> None:
    source = feed.Feed(vocabulary.load(tokens), feed.Position(1), 128)
    for _ in range(20):
        source.batch(4, 0.01)
    waiting = sum(len(p.facts) for p in source.at.pool)
    assert sum(source.at.exposures.values()) + waiting == source.at.knowledge > 0


def test_a_stopped_feed_goes_on_where_it_was(tokens: Path, tmp_path: Path) -> None:
    tokenizer = vocabulary.load(tokens)
    first = feed.Feed(tokenizer, feed.Position(1), 128)
    first.batch(4, 0.01)
    shape = model.SHAPES["smoke-draft"]
    model.save_checkpoint(model.Llama(shape), tmp_path / "c.pt", position=first.at)
    _, stored = model.load_checkpoint(tmp_path / "c.pt")
    second = feed.Feed(tokenizer, stored["position"], 128)
    for a, b in zip(first.batch(4, 0.02), second.batch(4, 0.02), strict=True):
        assert (a == b).all()


def test_our_model_is_the_llama_of_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    ours = model.Llama(model.SHAPES["smoke-target"])
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_hf(ours, tmp_path, torch.float32)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = torch.randint(0, 4096, (2, 24))
    mask = torch.ones(24, 24, dtype=torch.bool).tril()[None, None]
    with torch.no_grad():
        torch.testing.assert_close(ours(ids, mask), theirs(ids).logits, rtol=1e-4, atol=1e-4)


def test_rates_warm_up_and_decay() -> None:
    plan = train.Plan(10, 1, 8, 0.01, 0.01, 0.5, 0.1, 1.0)
    assert plan.rate(0.0, 0) < plan.rate(0.1, 100) == 1.0
    assert plan.rate(0.75, 100) == 0.5
    assert plan.rate(1.0, 100) == 0.01
    assert plan.knowledge(0.0) == 0.1
    assert plan.knowledge(0.99) == pytest.approx(1.0)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_smoke(tmp_path: Path) -> None:
    arguments = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "demo"), "--smoke"]
    pipeline.main(arguments)
    manifest = json.loads((tmp_path / "demo" / "hola.json").read_text())
    assert list(manifest["tiers"]) == ["draft", "mid", "target"]
    result = evaluate.evaluate(tmp_path / "demo", 3, 1)
    assert set(result["acceptance"]) == {"draft", "mid"}
