"""Uncertainty from logits: by hand, against finite differences, and with an engine."""

from __future__ import annotations

import json
import math
import struct

import numpy as np
import pytest

from hola.engines import load_engine
from hola.errors import ArtifactInvalid, EmptyPrompt, InvalidRequest, PromptTooLong
from hola.retrieval.gate.draft import check_answer, draft_answer
from hola.retrieval.gate.head import OutputHead, load_head
from hola.retrieval.gate.uncertainty import draft_signals

RNG = np.random.default_rng(11)
WEIGHT = RNG.standard_normal((50, 6)).astype(np.float32)
HIDDEN = RNG.standard_normal((4, 6))
TOKENS = np.array([3, 0, 49, 7])


def mean_nll(weight, hidden, tokens):
    logits = hidden @ weight.T
    top = logits.max(1, keepdims=True)
    logp = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
    return -logp[np.arange(len(tokens)), tokens].mean()


def test_a_coin_by_hand():
    signals = draft_signals([[0.0, 0.0]], [1])
    half = math.log(2)
    assert signals["u_entropy_mean"] == pytest.approx(half)
    assert signals["u_nll_mean"] == signals["u_nll_max"] == pytest.approx(half)
    assert signals["u_margin_min"] == pytest.approx(0)
    assert signals["u_residual_mean"] == pytest.approx(math.sqrt(0.5))


def test_a_sure_answer_has_no_doubt():
    signals = draft_signals([[50.0, 0, 0], [0, 50, 0]], [0, 1])
    assert signals["u_margin_min"] == pytest.approx(1)
    for name in ("u_entropy_max", "u_nll_max", "u_residual_max"):
        assert signals[name] == pytest.approx(0, abs=1e-6)


def test_a_prefix_names_whose_they_are():
    assert all(name.startswith("c_") for name in draft_signals([[1.0, 2]], [0], prefix="c"))


def test_a_vocabulary_of_one_is_certain():
    assert draft_signals([[3.0]], [0])["u_margin_min"] == 1


def test_hidden_states_come_back_out_of_logits():
    head = OutputHead(WEIGHT)
    logits = HIDDEN @ WEIGHT.T
    assert head.hidden(logits) == pytest.approx(HIDDEN, abs=1e-4)
    assert head.misfit(logits) < 1e-5
    assert head.misfit(30 * np.tanh(logits / 3)) > 0.1


def test_closed_forms_are_the_gradients_that_differences_find():
    """Central differences of the mean NLL in every weight and every hidden state."""
    step = 1e-4
    weight = WEIGHT.astype(np.float64)
    at_weight = np.zeros_like(weight)
    for index in np.ndindex(*weight.shape):
        for sign in (1, -1):
            moved = weight.copy()
            moved[index] += sign * step
            at_weight[index] += sign * mean_nll(moved, HIDDEN, TOKENS) / (2 * step)
    at_hidden = np.zeros_like(HIDDEN)
    for index in np.ndindex(*HIDDEN.shape):
        for sign in (1, -1):
            moved = HIDDEN.copy()
            moved[index] += sign * step
            at_hidden[index] += sign * mean_nll(weight, moved, TOKENS) / (2 * step)
    signals = draft_signals(HIDDEN @ weight.T, TOKENS, OutputHead(WEIGHT))
    assert signals["u_weight_gradient"] == pytest.approx(np.linalg.norm(at_weight), rel=1e-3)
    per_token = np.linalg.norm(at_hidden, axis=1) * len(TOKENS)  # of each NLL, not their mean
    assert signals["u_gradient_mean"] == pytest.approx(per_token.mean(), rel=1e-3)
    assert signals["u_gradient_max"] == pytest.approx(per_token.max(), rel=1e-3)


@pytest.mark.parametrize(
    ("logits", "tokens"),
    [
        ([[1.0, 2.0]], [0, 1]),
        ([[1.0, 2.0]], [2]),
        ([[1.0, 2.0]], [-1]),
        ([[1.0, 2.0]], [0.5]),
        ([[math.nan, 2.0]], [0]),
        ([[math.inf, 2.0]], [0]),
        ([1.0, 2.0], [0]),
        (np.zeros((0, 3)), np.zeros(0, int)),
    ],
)
def test_impossible_input_is_refused(logits, tokens):
    with pytest.raises(InvalidRequest):
        draft_signals(logits, tokens)


def test_a_head_of_another_vocabulary_is_refused():
    with pytest.raises(InvalidRequest, match="vocabulary of 50"):
        OutputHead(WEIGHT).hidden(np.zeros((1, 7)))


@pytest.mark.parametrize("shape", [(3, 6), (0, 0), (6,)])
def test_a_head_without_an_inverse_is_refused(shape):
    with pytest.raises(ArtifactInvalid):
        OutputHead(np.ones(shape, np.float32))
    with pytest.raises(ArtifactInvalid, match="independent"):
        OutputHead(np.ones((9, 3), np.float32))


def safetensors(name: str, dtype: str, data: bytes, shape: tuple[int, ...]) -> bytes:
    header = {name: {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_a_head_is_read_in_every_type(tmp_path, dtype):
    if dtype == "BF16":
        data = (WEIGHT.view(np.uint32) >> 16).astype("<u2").tobytes()
    else:
        data = WEIGHT.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()
    file = tmp_path / "model.safetensors"
    file.write_bytes(safetensors("model.embed_tokens.weight", dtype, data, WEIGHT.shape))
    head = load_head(tmp_path)
    assert head is not None
    assert head.weight == pytest.approx(WEIGHT, rel=1e-2)


def test_a_sharded_head_is_found(tmp_path):
    data = WEIGHT.astype("<f4").tobytes()
    (tmp_path / "b.safetensors").write_bytes(
        safetensors("lm_head.weight", "F32", data, WEIGHT.shape)
    )
    index = {"weight_map": {"lm_head.weight": "b.safetensors", "x": "a.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    head = load_head(tmp_path)
    assert head is not None
    assert (head.weight == WEIGHT).all()


def test_no_safetensors_no_head(tmp_path):
    assert load_head(tmp_path) is None
    (tmp_path / "model.safetensors").write_bytes(safetensors("other", "F32", b"\0" * 4, (1,)))
    assert load_head(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        struct.pack("<Q", 2) + b"[]",
        safetensors("lm_head.weight", "F32", b"\0" * 4, (9, 3)),
        safetensors("lm_head.weight", "I8", b"\0" * 4, (2, 2)),
    ],
)
def test_a_malformed_file_is_refused(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ArtifactInvalid):
        load_head(tmp_path)


def test_a_draft_is_the_engines_greedy_answer():
    engine = load_engine("scripted:seed=3,vocab_size=64")
    draft = draft_answer(engine, [1, 2, 3], max_tokens=5)
    prompt = [1, 2, 3]
    for token in draft.tokens:
        session = engine.open(16)
        assert int(session.forward(prompt)[-1].argmax()) == token
        session.close()
        prompt.append(token)
    assert draft.signals["u_tokens"] == len(draft.tokens) <= 5


def test_a_model_agrees_with_itself_and_not_with_noise():
    engine = load_engine("scripted:seed=3,vocab_size=64")
    draft = draft_answer(engine, [1, 2, 3], max_tokens=5)
    own = check_answer(engine, [1, 2, 3], draft.tokens)
    assert own["c_agrees"] == 1
    assert own["c_nll_mean"] == pytest.approx(draft.signals["u_nll_mean"], rel=1e-4)
    other = [(token + 1) % 64 for token in draft.tokens]
    assert check_answer(engine, [1, 2, 3], other)["c_agrees"] < 1
    assert check_answer(engine, [1, 2, 3], []) == {}


def test_a_foreign_head_is_left_out():
    engine = load_engine("scripted:seed=3,vocab_size=50")
    assert "u_gradient_mean" not in draft_answer(engine, [1], head=OutputHead(WEIGHT)).signals


def test_an_empty_prompt_and_one_too_long_are_refused():
    engine = load_engine("scripted:seed=3,vocab_size=64")
    with pytest.raises(EmptyPrompt):
        draft_answer(engine, [])
    with pytest.raises(EmptyPrompt):
        check_answer(engine, [], [1])
    with pytest.raises(PromptTooLong):
        draft_answer(engine, [1] * (engine.info.context_length + 1))
