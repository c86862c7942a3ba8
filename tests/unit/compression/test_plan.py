"""Plans: what is read, what is refused, and by which key."""

from __future__ import annotations

import contextlib
import json
import random
import string

import pytest
from hypothesis import given, strategies as st

from hola.compression.devices import DEVICES
from hola.compression.plan import (
    Objective,
    Plan,
    Prune,
    parse_plan,
    parse_size,
    read_plan,
    with_budget,
)
from hola.errors import HolaError, InvalidRequest

FULL = {
    "objective": "latency",
    "target-size": "300MB",
    "seed": 7,
    "calibration": {"source": "text.jsonl", "tokens": 4096, "train-tokens": 0, "window": 128},
    "prune": {"ffn": 0.25, "kv-heads": 0.25, "saliency": "wanda"},
    "recover": {"steps": 10, "rank": 4},
    "quantize": {"bits": [2, 4, 8], "blocks": 32, "symmetric": False},
    "repair": {"steps": 5, "codes": False},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


def test_a_plan_survives_its_document():
    plan = parse_plan(FULL)
    assert plan.target_bytes == 300_000_000
    assert plan.quantize.blocks == (32,)
    assert plan.prune == Prune(ffn=0.25, kv_heads=0.25, saliency=plan.prune.saliency)
    assert parse_plan(json.loads(json.dumps(plan.document()))) == plan


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_a_plan_is_read_from_a_file(tmp_path, suffix):
    path = tmp_path / f"plan{suffix}"
    path.write_text(json.dumps(FULL), encoding="utf-8")  # JSON is YAML
    assert read_plan(path) == parse_plan(FULL)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"bits": 4, "colour": 1}, "colour"),
        ({"bits": 4, "prune": {"fnn": 0.1}}, "prune.fnn"),
        ({"bits": 4, "prune": {"ffn": "much"}}, "prune.ffn"),
        ({"bits": 4, "prune": {"ffn": 0.95}}, "prune.ffn"),
        ({"bits": 4, "prune": 3}, "prune"),
        ({"bits": 4, "quantize": {"bits": [7]}}, "quantize.bits"),
        ({"bits": 4, "quantize": {"bits": []}}, "quantize.bits"),
        ({"bits": 4, "quantize": {"blocks": [31]}}, "quantize.blocks"),
        ({"bits": 4, "quantize": {"symmetric": False, "asymmetric": False}}, "quantize.symmetric"),
        ({"bits": 4, "quantize": {"accuracy_level": 2}}, "quantize.accuracy_level"),
        ({"bits": 4, "seed": 1.5}, "seed"),
        ({"bits": 4, "seed": True}, "seed"),
        ({"bits": 4, "seed": 10**400}, "seed"),
        ({"bits": 10**400}, "bits_per_weight"),
        ({"bits": 4, "recover": {"rank": -1}}, "recover.rank"),
        ({"bits": 4, "recover": {"rank": 2000}}, "recover.rank"),
        ({"bits": float("nan")}, "bits_per_weight"),
        ({"bits": 4, "objective": "speed"}, "objective"),
        ({"bits": 4, "objective": "draft"}, "draft_for"),
        ({"bits": 4, "draft_for": "there"}, "draft_for"),
        ({"bits": 4, "device": "pi5"}, "budget"),
        ({"device": "pi6"}, "device"),
        ({"target_bytes": "-3MB"}, "target_bytes"),
        ({}, "budget"),
        ([], "plan"),
        ("300MB", "plan"),
    ],
)
def test_a_wrong_plan_names_its_key(document, field):
    with pytest.raises(InvalidRequest) as caught:
        parse_plan(document)
    assert caught.value.details["field"] == field


@pytest.mark.parametrize("text", ["{", "a: [", "\t- x", "&a *b", "!!python/object:os.system {}"])
@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_a_file_that_is_no_plan_is_refused(tmp_path, text, suffix):
    path = tmp_path / f"plan{suffix}"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRequest):
        read_plan(path)


@given(JSON)
def test_garbage_gives_a_plan_or_a_typed_error(document):
    with contextlib.suppress(HolaError):
        assert isinstance(parse_plan(document), Plan)


def test_garbage_files_give_a_typed_error(tmp_path):
    rng = random.Random(0)
    for number in range(50):
        path = tmp_path / f"{number}.yaml"
        path.write_bytes(bytes(rng.choice(string.printable.encode()) for _ in range(60)))
        with pytest.raises(HolaError):
            read_plan(path)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1B", 1), ("300MB", 300_000_000), ("1.5GiB", 1_610_612_736), ("4k", 4000), (12, 12)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "MB", "1TB", "1e9", "0", -1, 1.5, None, True, "9" * 30, "9" * 400]
)
def test_what_is_no_size(text):
    with pytest.raises(InvalidRequest):
        parse_size(text)


def test_drafts_recover_all_weights_and_others_adapters():
    draft = {"bits": 4, "objective": "draft", "draft_for": "there"}
    assert parse_plan({"bits": 4}).recover_rank == 32
    assert parse_plan(draft).recover_rank == 0
    assert parse_plan({**draft, "recover": {"rank": 8}}).recover_rank == 8
    assert parse_plan({"bits": 4, "recover": {"rank": 0}}).recover_rank == 0


def test_a_budget_from_the_command_line_takes_the_files_place():
    plan = with_budget(parse_plan({"device": "pi5"}), bits_per_weight=4.5)
    assert plan.device is None
    assert plan.budget_bytes(1000) == 562
    assert plan.objective is Objective.QUALITY


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_has_room_for_a_model(name):
    profile = DEVICES[name]
    assert 0 < profile.model_bytes < profile.memory_bytes
    assert parse_plan({"device": name}).budget_bytes(10**9) == profile.model_bytes
