"""Whole jobs on tiny random checkpoints: budget, exactness, resuming, refusals."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from hola.compression.plan import parse_plan
from hola.compression.report import read_report
from hola.errors import (
    ArtifactCorrupt,
    ArtifactInvalid,
    BudgetInfeasible,
    CalibrationTooShort,
    Cancelled,
    DocumentInvalid,
    EngineFailure,
    InvalidRequest,
    MemoryBudgetExceeded,
    NoDiskSpace,
    TokenizerMismatch,
    UnsupportedArchitecture,
)
from hola_compressor.passes import estimate
from tests.support.compression import BASE

pytestmark = [pytest.mark.torch, pytest.mark.timeout(400)]
STAGES = ["text", "measure", "allocate", "quantize", "repair", "export", "done"]


def contents(folder: Path) -> dict[str, object]:
    """Every file, and the report but for its times."""
    files = [file for file in folder.iterdir() if file.name != "report.json"]
    report = replace(read_report(folder / "report.json"), speed=None)
    return {"report": report} | {file.name: file.read_bytes() for file in files}


def test_the_artifact_keeps_the_budget_and_the_contract(finished):
    _, built, _ = finished
    files = ("model.onnx", "model.onnx.data")
    assert built.report.bytes == sum((built.artifact / name).stat().st_size for name in files)
    assert built.report.bytes <= built.report.budget_bytes
    assert built.report.exactness.exact, built.report.exactness.reason
    assert built.report.exactness.max_logit_error <= built.report.exactness.tolerance
    assert {row.kind for row in built.report.tensors} >= {"qkv_proj", "down_proj", "lm_head"}
    sizes = [point.bytes for point in built.report.pareto]
    assert sizes == sorted(sizes)
    assert sizes
    assert read_report(built.artifact / "report.json") == built.report


def test_speed_and_memory_are_in_the_report_and_measured_once(finished, compress):
    work, built, _ = finished
    speed = built.report.speed
    assert speed.decode_tokens_per_s > 0
    assert speed.original_peak_bytes > speed.resident_bytes > 0
    again, _ = compress(work)
    assert again.report == built.report


def test_progress_only_rises_and_names_every_pass(finished):
    _, _, seen = finished
    shares = [progress.done for progress in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert list(dict.fromkeys(progress.stage for progress in seen)) == STAGES


def test_a_job_stopped_anywhere_ends_with_the_same_bytes(finished, compress, tmp_path):
    """Stopped after each pass in turn, in one directory, then run to its end."""
    _, built, _ = finished
    for stage in STAGES[1:-1]:
        now: list[str] = []
        with pytest.raises(Cancelled):
            stop_at(stage, now, compress, tmp_path)
        (tmp_path / ".09-repair.part").mkdir(exist_ok=True)  # what a killed run leaves
    again, _ = compress(tmp_path)
    assert contents(again.artifact) == contents(built.artifact)


def stop_at(stage: str, now: list[str], compress, work: Path) -> None:
    """Cancel the job on the first word of a pass."""
    from hola_compressor.passes import clock

    original = clock.Clock.part

    def part(self, name, share, message):
        if name == stage:
            self._cancelled = lambda: True
        original(self, name, share, message)

    clock.Clock.part = part
    try:
        compress(work)
    finally:
        clock.Clock.part = original


def test_another_plan_does_not_mix_with_what_is_there(finished, compress):
    work, _, _ = finished
    with pytest.raises(InvalidRequest, match="another job"):
        compress(work, seed=5)


@pytest.mark.timeout(300)
def test_pruning_recovers_and_exports(compress):
    built, seen = compress(prune={"ffn": 0.34, "kv_heads": 0.5}, repair={"steps": 0})
    config = json.loads((built.artifact / "genai_config.json").read_text())
    assert config["model"]["decoder"]["num_key_value_heads"] == 1
    assert built.report.exactness.exact
    assert {"prune", "recover"} <= {progress.stage for progress in seen}
    columns = {row.kind: row.columns for row in built.report.tensors}
    assert columns["down_proj"] == 64
    assert columns["o_proj"] == 32


def test_damages_measured_again_count_only_where_rounding_gets_better(compress):
    """With coarse choices and a small budget there is something to choose."""
    found = {}
    for refine in (0, 2):
        options = {"blocks": [32], "symmetric": False, "compensate": False, "refine": refine}
        built, seen = compress(bits=9.5, quantize=options, repair={"steps": 0})
        again = any("among the others" in step.message for step in seen)
        assert again == bool(refine)
        found[refine] = {row.name: row.kld_mean for row in built.report.passes}["quantize"]
    assert found[2] <= found[0]


def test_latency_is_measured_and_kept(compress, tmp_path):
    built, _ = compress(tmp_path, objective="latency", repair={"steps": 0})
    times = json.loads((tmp_path / "06-times" / "result.json").read_text())
    assert times.keys() == {row.name for row in built.report.tensors}
    assert all(ms > 0 for row in times.values() for ms in row.values())
    assert built.report.exactness.exact


def test_an_artifact_without_numbers_is_none(compress, monkeypatch):
    import numpy as np

    def broken(engine):
        return lambda row: np.full((len(row), engine.info.vocab_size), np.nan, np.float32)

    monkeypatch.setattr("hola_compressor.passes.verdict.runner", broken)
    with pytest.raises(EngineFailure, match="not all finite"):
        compress(repair={"steps": 0})


def test_a_draft_needs_text_to_be_tried_on(compress, graph, monkeypatch, tmp_path):
    from hola.compression.plan import Prune

    monkeypatch.setattr("hola_compressor.passes.predict.CANDIDATES", (Prune(),))
    monkeypatch.setattr("hola_compressor.passes.draft_job._SHORTEST_PROMPT", 10**6)
    shutil.copytree(graph, tmp_path / "candidate-0" / "04-graph")
    with pytest.raises(CalibrationTooShort, match="that a draft is tried on"):
        compress(tmp_path, objective="draft", draft_for=str(graph), repair={"steps": 0})


@pytest.mark.parametrize("rank", [0, 4])
def test_recovery_trains_what_its_rank_says(checkpoint, rank):
    """All weights, or adapters and norms: embeddings stay as they are then."""
    import torch

    from hola.compression.plan import Recover
    from hola_compressor.passes.recover import recovered
    from hola_compressor.passes.source import load_model

    teacher, before = load_model(checkpoint), load_model(checkpoint)
    torch.manual_seed(0)
    rows = [torch.randint(4, 90, (24,)).tolist() for _ in range(8)]
    student = load_model(checkpoint)
    for layer in student.model.layers:
        layer.mlp.down_proj.weight.zero_()
    losses: list[float] = []
    made = recovered(
        student, teacher, rows, options=Recover(steps=12, rows=8, rate=1e-2), rank=rank, seed=0,
        step_done=lambda _, loss: losses.append(loss),
    )  # fmt: skip
    assert losses[-1] < losses[0]
    same = torch.equal(made.model.embed_tokens.weight, before.model.embed_tokens.weight)
    assert same is (rank > 0)
    assert not any(parameter.requires_grad for parameter in made.parameters())


def test_a_draft_is_measured_with_its_target(compress, graph, monkeypatch, tmp_path):
    from hola.compression.plan import Prune

    monkeypatch.setattr("hola_compressor.passes.predict.CANDIDATES", (Prune(),))
    shutil.copytree(graph, tmp_path / "candidate-0" / "04-graph")
    plan = {"objective": "draft", "draft_for": str(graph), "repair": {"steps": 0}}
    built, seen = compress(tmp_path, **plan)
    draft = built.report.draft
    assert draft.target == graph.name
    assert 0 <= draft.acceptance <= 1
    assert draft.tokens_per_s > 0
    assert built.report.speed.peak_bytes > 0
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
    assert seen[-1].done == 1.0
    assert any(progress.eta_s is not None for progress in seen[:-1])
    again, _ = compress(tmp_path, **plan)  # decided once
    assert again.report == built.report


@pytest.mark.timeout(300)
def test_a_budget_that_only_a_smaller_shape_fits_makes_a_draft(graph, monkeypatch, tmp_path):
    from hola.compression.plan import Prune
    from hola_compressor.passes import run
    from tests.support.tiny_models import write_checkpoint

    shapes = (Prune(), Prune(layers=0.5, ffn=0.5))
    monkeypatch.setattr("hola_compressor.passes.predict.CANDIDATES", shapes)
    source = tmp_path / "wide"
    write_checkpoint(source, tie_word_embeddings=True, intermediate_size=512)
    quantize = {"bits": [8], "blocks": [32], "asymmetric": False, "compensate": False}
    plan = {**BASE, "quantize": quantize, "repair": {"steps": 0}, "recover": {"steps": 0}}
    del plan["bits"]
    budget = estimate(parse_plan({**plan, "bits": 8}), source).smallest_bytes - 1
    draft = {"objective": "draft", "draft_for": str(graph), "target_bytes": budget}
    work = tmp_path / "work"
    work.mkdir()
    built = run(
        parse_plan({**plan, **draft}), source, work,
        progress=lambda _: None, cancelled=lambda: False,
    )  # fmt: skip
    assert built.report.bytes <= budget
    assert {row.layer for row in built.report.tensors} == {0, -1}, "one layer of two"


def test_a_draft_with_another_tokenizer_is_refused(compress, graph, tmp_path):
    from tests.support.tiny_models import write_tokenizer

    other = tmp_path / "other"
    shutil.copytree(graph, other)
    write_tokenizer(other, merges=5)
    with pytest.raises(TokenizerMismatch):
        compress(objective="draft", draft_for=str(other))


@pytest.mark.parametrize("saliency", ["magnitude", "wanda", "lora"])
def test_pruning_nothing_changes_nothing(checkpoint, saliency):
    """Every channel kept, in order, gives the same function."""
    import torch

    from hola.compression.plan import Prune
    from hola_compressor.passes.prune import pruned
    from hola_compressor.passes.source import load_model

    model = load_model(checkpoint)
    ids = torch.arange(4, 36)[None]
    same = pruned(model, Prune(saliency=saliency), [[*range(4, 36)]] * 4, seed=0)
    assert torch.equal(same(input_ids=ids).logits, model(input_ids=ids).logits)


def test_a_budget_that_is_too_small_is_named(compress):
    with pytest.raises(BudgetInfeasible) as caught:
        compress(bits=1.0)
    assert int(caught.value.details["smallest_bytes"]) > 0


def test_text_that_is_too_short_is_refused(compress, tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("a few words", encoding="utf-8")
    with pytest.raises(CalibrationTooShort) as caught:
        compress(calibration={"source": str(path)})
    assert caught.value.details["needed_tokens"] == "512"


@pytest.mark.parametrize("line", ["{", '{"colour": 1}', "[]", "3"])
def test_text_that_is_no_text_is_refused(compress, tmp_path, line):
    path = tmp_path / "text.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(DocumentInvalid):
        compress(calibration={"source": str(path)})


def test_what_does_not_fit_is_refused_before_it_starts(compress, monkeypatch):
    monkeypatch.setattr("hola_compressor.passes.predict.shutil.disk_usage", _nothing_free)
    with pytest.raises(NoDiskSpace):
        compress()
    monkeypatch.undo()
    monkeypatch.setattr("hola.engines.memory.available_bytes", lambda: 1000)
    monkeypatch.setattr("hola_compressor.passes.predict.MemoryBudget", _tiny_budget)
    with pytest.raises(MemoryBudgetExceeded):
        compress()


def _nothing_free(_: object) -> object:
    from shutil import _ntuple_diskusage

    return _ntuple_diskusage(10, 10, 0)


def _tiny_budget() -> object:
    from hola.engines.memory import MemoryBudget

    return MemoryBudget(1000)


@pytest.fixture
def broken(checkpoint, tmp_path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "broken"))


def edit(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def refused(folder: Path) -> type[Exception]:
    with pytest.raises((ArtifactInvalid, ArtifactCorrupt, TokenizerMismatch)) as caught:
        estimate(parse_plan({"bits": 6}), folder)
    return caught.type


def test_a_cut_shard(broken):
    file = broken / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert refused(broken) is ArtifactCorrupt


def test_a_missing_shard(broken):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (broken / "model.safetensors").unlink()
    (broken / "model.safetensors.index.json").write_text(json.dumps(index))
    assert refused(broken) is ArtifactCorrupt


def test_pickled_weights(broken):
    (broken / "model.safetensors").unlink()
    (broken / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert refused(broken) is ArtifactInvalid


@pytest.mark.parametrize(
    "change", [{"model_type": "nobody"}, {"model_type": 3}, {"quantization_config": {"bits": 4}}]
)
def test_an_unknown_architecture(broken, change):
    edit(broken, **change)
    assert refused(broken) is UnsupportedArchitecture


def test_another_models_tokenizer(broken):
    edit(broken, vocab_size=100)
    assert refused(broken) is TokenizerMismatch


def test_no_checkpoint_at_all(tmp_path):
    assert refused(tmp_path) is ArtifactInvalid


def test_weights_that_are_not_finite(broken, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    from hola_compressor.passes.source import load_model

    tensors = load_file(str(broken / "model.safetensors"))
    name = sorted(tensors)[0]
    tensors[name] = torch.full_like(tensors[name], float("nan"))
    save_file(tensors, str(broken / "model.safetensors"), metadata={"format": "pt"})
    with pytest.raises(ArtifactCorrupt, match="finite"):
        load_model(broken)
