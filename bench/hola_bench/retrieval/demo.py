"""What the demo family knows of its knowledge base, and what retrieval buys it."""

from __future__ import annotations

from typing import Any

from hola.config import Settings
from hola.models.family import Family
from hola_bench.report import Number
from hola_bench.retrieval.demo_ask import asked_of, measure_asking
from hola_bench.retrieval.gate_demo import ask_all, facts_of, measure_demo
from hola_bench.retrieval.lookup import measure_lookup
from hola_bench.retrieval.progress import bar


def measure_family(family: Family, settings: Settings) -> tuple[dict[str, Number], dict[str, Any]]:
    """Headline values and details. Raises ArtifactInvalid where it has no knowledge base."""
    facts = facts_of(family)
    with bar(f"facts that {family.name} knows", len(facts)) as progress:
        asked = ask_all(family, facts, threads=settings.threads, progress=progress)
    headline, details = measure_demo(asked)
    with bar("facts asked in every way", len(asked_of(facts))) as progress:
        found, more = measure_asking(family, facts, settings, progress=progress)
    return headline | found, details | more | measure_lookup(family, threads=settings.threads)
