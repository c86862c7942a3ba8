"""The gate in force: one's own before the family's, and none where nobody fitted one."""

from __future__ import annotations

import pytest

from hola.config import Settings
from hola.errors import ArtifactInvalid
from hola.retrieval.gate.fit import FitOptions, fit_gate
from hola.retrieval.gate.place import GATE_FILE, find_gate, gate_in_force, own_gate
from tests.support.gate import logs


def test_own_before_the_familys(tmp_path):
    settings = Settings(data_dir=str(tmp_path / "data"))
    family = tmp_path / "family"
    family.mkdir()
    own = tmp_path / "data" / GATE_FILE
    assert own_gate(settings) == own
    assert gate_in_force(settings, family) == own
    assert find_gate(settings, family) is None
    assert find_gate(settings, None) is None

    gate = fit_gate(logs(60), FitOptions(trees=5, folds=3))
    gate.save(family / GATE_FILE)
    assert gate_in_force(settings, family) == family / GATE_FILE
    assert gate_in_force(settings, None) == own
    found = find_gate(settings, family)
    assert found is not None
    assert found.as_json() == gate.as_json()

    own.parent.mkdir()
    own.write_text("{}")
    with pytest.raises(ArtifactInvalid, match="data"):
        find_gate(settings, family)
