"""What every Engine promises: the scripted one, and onnxruntime on several kinds of graphs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from hola.engines.fingerprint import probe
from hola.engines.onnx import OnnxEngine
from hola.engines.scripted import Script, ScriptedEngine
from hola.errors import EngineFailure, PromptTooLong
from hola.ports import Engine, Logits
from tests.support.tiny_models import exported

CONTEXT = 512
TOKENS = random.Random(7).choices(range(3, 250), k=200)
# gemma2 has sliding windows, hunyuan takes position ids.
ONNX_MODELS = ("llama-fp32", "llama-int8", "llama-int4", "gemma2-int8", "hunyuan-int8")


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny-models")


@pytest.fixture(
    scope="module",
    params=["scripted", *(pytest.param(name, marks=pytest.mark.torch) for name in ONNX_MODELS)],
)
def make_engine(request: pytest.FixtureRequest, tiny_models: Path) -> Callable[[], Engine]:
    """A function that loads one more engine of the kind under test."""
    if request.param == "scripted":
        return lambda: ScriptedEngine(Script(context_length=CONTEXT))
    folder = exported(tiny_models, *request.param.split("-"))
    return lambda: OnnxEngine(folder, threads=1)


@pytest.fixture(scope="module")
def engine(make_engine: Callable[[], Engine]) -> Iterator[Engine]:
    engine = make_engine()
    yield engine
    engine.close()


def fresh(engine: Engine, tokens: list[int], *, capacity: int = CONTEXT) -> Logits:
    """Logits of all tokens by one forward of a new session."""
    session = engine.open(capacity)
    logits = session.forward(tokens).copy()
    session.close()
    return logits


def identical(left: Logits, right: Logits) -> bool:
    return left.shape == right.shape and left.tobytes() == right.tobytes()


def test_shape_and_type(engine: Engine) -> None:
    logits = fresh(engine, TOKENS[:5])
    assert logits.shape == (5, engine.info.vocab_size)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    assert len({row.tobytes() for row in logits}) == 5


def test_no_tokens(engine: Engine) -> None:
    session = engine.open(8)
    session.prefill([])
    assert session.forward([]).shape == (0, engine.info.vocab_size)
    assert session.length == 0


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 7, 8, 16, 33, 64, 65, 129])
def test_width_changes_no_bit(engine: Engine, width: int) -> None:
    """Rule 2: any way of cutting a sequence into forwards gives the same logits."""
    session = engine.open(CONTEXT)
    chunks = [TOKENS[at : at + width] for at in range(0, len(TOKENS), width)]
    logits = np.concatenate([session.forward(chunk).copy() for chunk in chunks])
    assert identical(logits, fresh(engine, TOKENS))


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 128, 199])
def test_prefill_is_forward_without_logits(engine: Engine, length: int) -> None:
    session = engine.open(CONTEXT)
    session.prefill(TOKENS[:length])
    assert session.length == length
    assert identical(session.forward(TOKENS[length:]), fresh(engine, TOKENS)[length:])


@pytest.mark.parametrize("length", [0, 1, 2, 31, 32, 63])
def test_truncate_is_as_if_never_seen(engine: Engine, length: int) -> None:
    session = engine.open(CONTEXT)
    session.forward(TOKENS[:64])
    session.truncate(length)
    assert session.length == length
    other = TOKENS[100:120]
    assert identical(session.forward(other), fresh(engine, TOKENS[:length] + other)[length:])


@pytest.mark.parametrize("seed", range(5))
def test_any_history_gives_the_logits_of_its_tokens(engine: Engine, seed: int) -> None:
    """Random forwards, prefills and rollbacks; replay a failure by its seed."""
    rng = random.Random(seed)
    session = engine.open(96)
    held: list[int] = []
    for _ in range(60):
        if held and rng.random() < 0.4:
            session.truncate(rng.randrange(len(held) + 1))
            del held[session.length :]
        block = rng.choices(range(3, 250), k=rng.randint(1, 9))[: 96 - len(held)]
        if not block:
            continue
        if rng.random() < 0.3:
            session.prefill(block)
        else:
            rows = session.forward(block).copy()
            assert identical(rows, fresh(engine, held + block)[len(held) :])
        held += block
        assert session.length == len(held)


def test_capacity_changes_no_bit(engine: Engine) -> None:
    assert identical(
        fresh(engine, TOKENS[:100], capacity=100), fresh(engine, TOKENS[:100], capacity=CONTEXT)
    )


@pytest.mark.parametrize("capacity", [1, 2, 3, 8, 9])
def test_every_place_of_the_capacity_is_usable(engine: Engine, capacity: int) -> None:
    session = engine.open(capacity)
    rows = [session.forward([token])[0].copy() for token in TOKENS[:capacity]]
    assert session.capacity == session.length == capacity
    assert identical(np.stack(rows), fresh(engine, TOKENS[:capacity]))


def test_the_whole_context_is_usable(engine: Engine) -> None:
    tokens = (TOKENS * 3)[:CONTEXT]
    session = engine.open(engine.info.context_length)
    session.prefill(tokens[: CONTEXT - 3])
    last = np.concatenate([session.forward([token]).copy() for token in tokens[-3:]])
    assert identical(last, fresh(engine, tokens)[-3:])


@pytest.mark.parametrize("call", ["forward", "prefill"])
def test_beyond_the_capacity(engine: Engine, call: str) -> None:
    session = engine.open(4)
    session.prefill(TOKENS[:3])
    with pytest.raises(PromptTooLong):
        getattr(session, call)(TOKENS[:2])
    assert session.length == 3
    assert identical(session.forward(TOKENS[3:4]), fresh(engine, TOKENS[:4])[3:])


def test_beyond_the_context(engine: Engine) -> None:
    with pytest.raises(PromptTooLong):
        engine.open(engine.info.context_length + 1)


@pytest.mark.parametrize("bad", [-1, 10**6, 2**40])
def test_token_outside_the_vocabulary(engine: Engine, bad: int) -> None:
    session = engine.open(8)
    session.prefill(TOKENS[:2])
    with pytest.raises(EngineFailure):
        session.forward([TOKENS[0], bad])
    assert session.length == 2
    assert identical(session.forward(TOKENS[2:4]), fresh(engine, TOKENS[:4])[2:])


@pytest.mark.parametrize("length", [-1, 4, 10**9])
def test_truncate_outside_the_sequence(engine: Engine, length: int) -> None:
    session = engine.open(8)
    session.prefill(TOKENS[:3])
    with pytest.raises(EngineFailure):
        session.truncate(length)
    assert session.length == 3


def test_sessions_do_not_disturb_each_other(engine: Engine) -> None:
    streams = [TOKENS[:40], TOKENS[50:90], TOKENS[100:140]]
    sessions = [engine.open(64) for _ in streams]
    rows: list[list[Logits]] = [[] for _ in streams]
    for at in range(0, 40, 4):
        blocks = [
            session.forward(s[at : at + 4]) for session, s in zip(sessions, streams, strict=True)
        ]
        for kept, block in zip(rows, blocks, strict=True):
            kept.append(block.copy())
    for stream, kept in zip(streams, rows, strict=True):
        assert identical(np.concatenate(kept), fresh(engine, stream))


def test_session_close_is_idempotent(engine: Engine) -> None:
    session = engine.open(8)
    session.forward(TOKENS[:2])
    session.close()
    session.close()


def test_probe_finds_it_exact(engine: Engine) -> None:
    found = probe(engine)
    assert found.exact, found.reason
    assert probe(engine).digest == found.digest


def test_engine_close_is_idempotent(make_engine: Callable[[], Engine]) -> None:
    engine = make_engine()
    engine.close()
    engine.close()


def test_equal_engines_give_equal_bits(engine: Engine, make_engine: Callable[[], Engine]) -> None:
    assert identical(fresh(make_engine(), TOKENS), fresh(engine, TOKENS))
