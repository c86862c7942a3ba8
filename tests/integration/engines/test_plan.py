"""What `hola doctor --plan` predicts is what a loaded engine says."""

from __future__ import annotations

from pathlib import Path

import pytest

from hola.engines import load_engine
from hola.engines.plan import plan_engine

DEMO = Path(__file__).resolve().parents[3] / "models/demo"


@pytest.mark.parametrize("tier", ["draft", "mid", "target"])
def test_the_prediction_is_what_a_loaded_engine_says(tier: str) -> None:
    engine = load_engine(DEMO / tier, threads=1)
    try:
        found = plan_engine(DEMO / tier, quantization="int8")
        assert found.kv_bytes_per_token == engine.info.kv_bytes_per_token
        assert found.weight_bytes == engine.info.weight_bytes
        assert found.context_length == engine.info.context_length
    finally:
        engine.close()
