"""The compression benchmark's rules: llama.cpp's recipes, the front, what an option may be."""

from __future__ import annotations

import pytest

from hola.compression.plan import parse_plan
from hola.errors import InvalidRequest
from hola_bench.compression import DEFAULT_POINTS, PARTS, parse_parts, parse_points

LAYERS = 8


def tensor_type(name: str, recipe: str, columns: int = 256) -> str:
    ggml = pytest.importorskip("hola_bench.compression.ggml")
    kind: str = ggml.tensor_type(name, recipe, LAYERS, columns)
    return kind


@pytest.mark.parametrize(
    ("name", "recipe", "kind"),
    [
        ("model.layers.0.self_attn.v_proj", "Q4_K_M", "Q6_K"),
        ("model.layers.1.self_attn.v_proj", "Q4_K_M", "Q4_K"),
        ("model.layers.3.mlp.down_proj", "Q4_K_M", "Q6_K"),
        ("model.layers.7.mlp.down_proj", "Q4_K_M", "Q6_K"),
        ("model.layers.4.mlp.up_proj", "Q4_K_M", "Q4_K"),
        ("model.layers.1.self_attn.v_proj", "Q3_K_M", "Q5_K"),
        ("model.layers.2.self_attn.v_proj", "Q3_K_M", "Q4_K"),
        ("model.layers.2.self_attn.o_proj", "Q3_K_M", "Q4_K"),
        ("model.layers.2.mlp.gate_proj", "Q2_K", "Q2_K"),
        ("model.layers.2.mlp.down_proj", "Q2_K", "Q3_K"),
        ("lm_head", "Q4_K_M", "Q6_K"),
        ("lm_head", "Q8_0", "Q8_0"),
        ("model.layers.2.mlp.gate_proj", "Q4_0", "Q4_0"),
    ],
)
def test_a_recipe_gives_llama_cpps_type(name, recipe, kind):
    assert tensor_type(name, recipe) == kind


@pytest.mark.parametrize(
    ("recipe", "columns", "kind"),
    [("Q4_K_M", 384, "Q5_0"), ("Q2_K", 384, "Q4_0"), ("Q6_K", 384, "Q8_0"), ("Q4_K_M", 40, "F16")],
)
def test_rows_that_do_not_fit_fall_back(recipe, columns, kind):
    assert tensor_type("model.layers.4.mlp.up_proj", recipe, columns) == kind


def test_the_front_is_who_has_less_damage_for_no_more_bytes():
    scores = pytest.importorskip("hola_bench.compression.scores")
    from hola.compression.report import Quality

    def score(size: int, kld: float):
        quality = Quality(
            text="own", tokens=1, perplexity=2.0, original_perplexity=2.5, kld_mean=kld,
            kld_p99=kld, top1_agreement=1.0,
        )  # fmt: skip
        return scores.Score(name="x", bytes=size, bits_per_weight=1.0, quality={"own": quality})

    assert score(1, 0.0).gap == pytest.approx(0.2)
    own = score(1000, 0.1)
    assert scores.on_front(own, [score(1004, 0.2), score(900, 0.1), score(2000, 0.01)])
    assert not scores.on_front(own, [score(1004, 0.09)])
    assert scores.on_front(own, [])


def test_options_are_read():
    assert parse_points("2.3, 8.1") == (2.3, 8.1)
    assert parse_parts("pareto, draft") == ("pareto", "draft")
    assert parse_parts(",".join(PARTS)) == PARTS
    assert parse_points(",".join(map(str, DEFAULT_POINTS))) == DEFAULT_POINTS


@pytest.mark.parametrize("text", ["", "four", "0.5", "4,,5", "40", "nan"])
def test_points_that_are_none(text):
    with pytest.raises(InvalidRequest):
        parse_points(text)


@pytest.mark.parametrize("text", ["", "everything", "pareto,everything"])
def test_parts_that_are_none(text):
    with pytest.raises(InvalidRequest):
        parse_parts(text)


def test_without_gptqmodel_its_rows_are_named_as_missing(monkeypatch, tmp_path):
    peers = pytest.importorskip("hola_bench.compression.peers")
    monkeypatch.delenv(peers.GPTQ_PYTHON, raising=False)
    found, missing = peers.gptq_peers(tmp_path, tmp_path, [], None, print)
    assert found == []
    assert missing.keys() == peers.GPTQ.keys()
    assert all("gptq.sh" in reason for reason in missing.values())


def test_a_picture_shows_rows_of_every_kind(tmp_path):
    pytest.importorskip("matplotlib")
    from hola_bench.compression.picture import draw

    names = ("ORT int4 rtn b32", "GPTQ int4 b32", "llama.cpp Q4_K_M", "llama.cpp Q4_K_M+imatrix")
    rows = [{"artifact": name, "bpw": 4 + at, "own_kld": 0.1} for at, name in enumerate(names)]
    lobi = [{"artifact": "Lo-Bi 4 bpw", "bpw": 4.0, "own_kld": 0.05}]
    for name in ("one", "two"):
        draw(lobi, rows, tmp_path / f"{name}.png", "t")
    drawn = (tmp_path / "one.png").read_bytes()
    assert drawn.startswith(b"\x89PNG")
    assert drawn == (tmp_path / "two.png").read_bytes()
    with pytest.raises(InvalidRequest, match="cannot be written"):
        draw(lobi, rows, tmp_path / "no" / "where.png", "t")


@pytest.mark.parametrize(
    ("quantize", "takes"),
    [
        ({}, True),
        ({"refine": 1, "compensate": False}, True),
        ({"bits": [8], "blocks": [32], "asymmetric": False}, False),
        ({"bits": [4], "blocks": [32], "symmetric": False}, False),
        ({"symmetric": False}, False),
    ],
)
def test_damages_hold_for_plans_with_the_same_choices(quantize, takes):
    """A table with every width would let a plan of one width have them all."""
    points = pytest.importorskip("hola_bench.compression.points")
    first = parse_plan({"bits": 6.0, "quantize": {"refine": 0}})
    parts = points.taken_over(parse_plan({"bits": 5.0, "quantize": quantize}), first)
    assert ("06-damage" in parts) is takes
    assert "05-statistics" in parts
