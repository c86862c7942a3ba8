"""The gate's closed form orders answers as autograd's gradients do."""

from __future__ import annotations

from pathlib import Path

import pytest

from hola.models.family import load_family

# Half a minute when the machine is quiet.
pytestmark = [pytest.mark.torch, pytest.mark.timeout(600)]
pytest.importorskip("torch")

DEMO = Path(__file__).parents[2] / "models" / "demo"


@pytest.mark.parametrize("tier", ["draft", "target"])
def test_closed_forms_order_answers_as_exact_gradients_do(tier: str) -> None:
    from tools.gate_gradient import compare, knowledge_questions

    family = load_family(DEMO)
    found = compare(family, tier, knowledge_questions(family, 48))
    spearman = found["spearman"]
    assert spearman["weight with exact weight"] >= 0.95, found
    assert spearman["hidden with exact hidden"] >= 0.95, found
    assert spearman["residual with exact weight"] >= 0.9, found
    assert spearman["weight with exact query"] >= 0.75, found
    assert max(found["median_relative_difference"].values()) < 0.1, found
