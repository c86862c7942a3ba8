"""Peak memory of a model is its own: not that of the process which asks."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.torch


def test_memory_of_the_asking_process_does_not_count(graph):
    from hola_compressor.passes.peak import peak_bytes

    alone = peak_bytes(graph)
    ballast = np.ones(2 * alone, np.uint8)
    assert peak_bytes(graph) < 1.5 * alone < len(ballast)
