"""The scripted engine: as pure as it promises, and as strict as a real one."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from hola.engines.scripted import Script, ScriptedEngine, ScriptedTokenizer
from hola.errors import ConfigError, EngineFailure, PromptTooLong
from hola.speculation.drafter_session import DrafterSession
from hola.speculation.local import run_local
from hola.speculation.pacing import FixedPacing
from hola.speculation.proposers import Tier, build_ladder
from hola.speculation.verifier_session import VerifierSession
from hola.types import GenerateJob, SamplingParams, Started, Summary

SCRIPT = Script(vocab_size=20, eos_token_id=19)
TOKENS = [3, 1, 4, 1, 5, 9, 2, 6]


def test_logits_do_not_depend_on_chunks_or_rollbacks() -> None:
    whole = ScriptedEngine(SCRIPT).open(50).forward(TOKENS)
    assert whole.shape == (8, 20)
    assert whole.dtype == np.float32
    for seed in range(50):
        random = Random(seed)
        session = ScriptedEngine(SCRIPT).open(50)
        rows = np.empty_like(whole)
        while session.length < len(TOKENS):
            start = session.length
            end = random.randint(start + 1, len(TOKENS))
            rows[start:end] = session.forward(TOKENS[start:end])
            session.forward([7] * random.randint(1, 5))
            session.truncate(random.randint(0, end))
        np.testing.assert_array_equal(rows, whole, err_msg=f"replay: seed={seed}")


def test_every_token_before_matters() -> None:
    whole = ScriptedEngine(SCRIPT).open(50).forward(TOKENS)[-1]
    for at in range(len(TOKENS)):
        changed = list(TOKENS)
        changed[at] += 1
        assert (ScriptedEngine(SCRIPT).open(50).forward(changed)[-1] != whole).all()
    assert (ScriptedEngine(replace(SCRIPT, seed=1)).open(50).forward(TOKENS)[-1] != whole).all()


def test_a_noisy_copy_is_nearer_the_less_noise_it_has() -> None:
    def agreement(noise: float) -> float:
        rows = ScriptedEngine(SCRIPT).open(400).forward([1, 2] * 200)
        copy = ScriptedEngine(replace(SCRIPT, noise=noise)).open(400).forward([1, 2] * 200)
        return float((rows.argmax(axis=1) == copy.argmax(axis=1)).mean())

    assert agreement(0) == 1
    assert 1 > agreement(0.3) > agreement(3) > 0


def test_refuses_what_a_real_engine_would() -> None:
    session = ScriptedEngine(SCRIPT).open(4)
    with pytest.raises(PromptTooLong):
        session.forward([1] * 5)
    for token in (20, -1):
        with pytest.raises(EngineFailure, match="outside the vocabulary"):
            session.forward([1, token])
    with pytest.raises(EngineFailure):
        session.truncate(1)
    assert session.length == 0
    with pytest.raises(PromptTooLong):
        ScriptedEngine(SCRIPT).open(SCRIPT.context_length + 1)


def test_spec() -> None:
    engine = ScriptedEngine.from_spec("scripted:seed=3,noise=0.5,name=tiny")
    assert engine.script == Script(seed=3, noise=0.5, name="tiny")
    assert ScriptedEngine.from_spec("scripted:").script == Script()
    assert engine.info.name == "tiny"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("scripted:sed=3", "no setting 'sed'; known: name, seed"),
        ("scripted:seed=three", "seed is 'three', expected int"),
        ("scripted:seed", "seed is '', expected int"),
        ("onnx:seed=3", "not a scripted engine"),
    ],
)
def test_refuses_a_malformed_spec(spec: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ScriptedEngine.from_spec(spec)


def test_tokenizer() -> None:
    tokenizer = ScriptedTokenizer()
    assert tokenizer.decode(tokenizer.encode("naïve €")) == "naïve €"
    assert tokenizer.decode([104, 256, 105, 257]) == "hi"
    assert tokenizer.decode([0xE2]) == "\ufffd"
    assert tokenizer.fingerprint != ScriptedTokenizer(300).fingerprint
    assert tokenizer.vocab_size == Script().vocab_size
    with pytest.raises(ConfigError):
        ScriptedTokenizer(255)


def test_whole_requests_run_in_one_thread() -> None:
    """The local driver, on defaults: what the docs and the benchmarks use."""
    sampling = SamplingParams(temperature=0.8, seed=4, max_tokens=30)
    target = ScriptedEngine(replace(Script(), name="target"))
    outputs = []
    for noise in (0.0, 0.2, 1.0):
        draft = ScriptedEngine(replace(Script(), name="draft", noise=noise))
        tier = Tier(name="draft", session=draft.open(100), eos_token_ids=(256,))
        session = DrafterSession(
            GenerateJob(request_id="r", model="m", sampling=sampling),
            prompt=(104, 105),
            model="m",
            ladder=build_ladder([tier], sampling),
            pacing=FixedPacing(3),
            tokenizer=ScriptedTokenizer(),
            target_name="target",
            context_length_of_drafts=100,
            clock=iter(range(10**6)).__next__,
        )
        verifier = VerifierSession(target.open(100), sampling, target.info.eos_token_ids)
        started, *_, summary = run_local(session, verifier, target.info)
        assert isinstance(started, Started)
        assert isinstance(summary, Summary)
        outputs.append(session.output)
    assert outputs[0] == outputs[1] == outputs[2]
