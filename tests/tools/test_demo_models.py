"""What is shipped in models/demo is complete, unchanged, loadable and as described."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import onnxruntime as ort
import pytest

from tools.tiers import heldout, world
from tools.tiers.decode import Engine, prompt_ids
from tools.tiers.evaluate import ANSWER
from tools.tiers.tokenizer import EOS_ID, load

DEMO = Path(__file__).parents[2] / "models" / "demo"
FAMILY = json.loads((DEMO / "hola.json").read_text())
TIERS = ("draft", "mid", "target")


@pytest.mark.parametrize("tier", TIERS)
def test_every_digest_is_right(tier: str) -> None:
    entry = FAMILY["tiers"][tier]
    folder = DEMO / entry["path"]
    assert {p.name for p in folder.iterdir()} == set(entry["files"])
    for name, expected in entry["files"].items():
        content = (folder / name).read_bytes()
        assert len(content) == expected["bytes"]
        assert hashlib.sha256(content).hexdigest() == expected["sha256"]


def test_all_tiers_share_one_vocabulary() -> None:
    for tier in TIERS:
        content = (DEMO / tier / "tokenizer.json").read_bytes()
        assert hashlib.sha256(content).hexdigest() == FAMILY["tokenizer_sha256"]


def test_the_family_stays_small() -> None:
    assert sum(p.stat().st_size for p in DEMO.rglob("*") if p.is_file()) < 100e6
    assert sum(p.stat().st_size for p in (DEMO / "heldout").iterdir()) < 1e6
    parameters = [FAMILY["tiers"][t]["parameters"] for t in TIERS]
    assert parameters == sorted(parameters)


@pytest.mark.parametrize("tier", TIERS)
def test_no_graph_quantizes_activations_per_tensor(tier: str) -> None:
    graph = (DEMO / tier / "model.onnx").read_bytes()
    assert b"DynamicQuantizeLinear" not in graph
    assert b"GroupQueryAttention" in graph
    assert (b"MatMulNBits" in graph) == (FAMILY["tiers"][tier]["quantization"] != "fp32")


@pytest.mark.parametrize("tier", TIERS)
def test_graphs_load_and_take_a_cache(tier: str) -> None:
    session = ort.InferenceSession(
        str(DEMO / tier / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    names = {i.name for i in session.get_inputs()}
    assert {"input_ids", "attention_mask", "past_key_values.0.key"} <= names


def test_exposures_follow_the_buckets() -> None:
    table = json.loads((DEMO / "exposure.json").read_text())
    assert [e["entity"] for e in table["entities"]] == [e.name for e in world.KNOWLEDGE]
    for entity, known in zip(table["entities"], world.KNOWLEDGE, strict=True):
        assert entity["facts"].keys() == {f.key for f in known.facts}
        for fact in known.facts:
            value, seen = entity["facts"][fact.key]
            assert value == fact.value
            assert seen <= known.bucket
    assert table["buckets"]["0"]["max"] == 0


def test_training_can_go_on_from_the_shipped_target() -> None:
    from tools.tiers.feed import shipped_position

    table = json.loads((DEMO / "exposure.json").read_text())
    position = shipped_position(DEMO / "exposure.json", 2)
    assert position.tokens == table["tokens"]
    assert sum(position.exposures.values()) == position.knowledge
    assert max(position.exposures.values()) == table["buckets"]["100"]["max"]


def test_the_shipped_held_out_sets_are_the_generated_ones() -> None:
    for name, items in heldout.build().items():
        assert heldout.load(DEMO / "heldout", name) == items


@pytest.mark.parametrize("task", ["word_problems", "reading"])
def test_the_target_answers(task: str) -> None:
    engine, tokenizer = Engine(DEMO / "target"), load(DEMO / "target")
    right = 0
    items = heldout.load(DEMO / "heldout", task)[::12]
    for item in items:
        out = engine.greedy(prompt_ids(tokenizer, str(item["prompt"])), 160)
        found = ANSWER.findall(tokenizer.decode([t for t in out if t != EOS_ID]))
        right += bool(found) and found[-1] == item["answer"]
    assert right / len(items) >= 0.7


@pytest.mark.torch
@pytest.mark.parametrize("tier", TIERS)
def test_the_graph_says_what_transformers_says(tier: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(DEMO / tier)
    reference = AutoModelForCausalLM.from_pretrained(DEMO / tier, dtype=torch.float32)
    messages = [{"role": "user", "content": "Question: What is 27+8?"}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        expected = reference(torch.tensor([ids])).logits[0]
    got = torch.from_numpy(Engine(DEMO / tier).run(ids, 0).copy())
    assert torch.equal(got[-1].argmax(), expected[-1].argmax())
    assert torch.nn.functional.cosine_similarity(got, expected, dim=-1).min() > 0.99
