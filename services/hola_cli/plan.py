"""`hola doctor --plan`: what a model family's tiers need, and how many sessions fit in a memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from hola.engines.plan import PROCESS_BYTES, EnginePlan, plan_engine, sessions_that_fit
from hola.models.family import Family
from hola_cli.jsonform import dump

MIB = 2**20
GIB = 2**30
# What is left to services; the rest is the system's, and on a Jetson the GPU's own share.
SHARE = 0.75


def roles(family: Family) -> dict[str, tuple[EnginePlan, ...]]:
    """The engines that each kind of process loads."""
    plans = {
        tier.name: plan_engine(tier.path, quantization=tier.quantization) for tier in family.tiers
    }
    ladder = tuple(plans[tier.name] for tier in family.ladder)
    target = (plans[family.target.name],)
    return {"drafter": ladder, "verifier": target, "node": ladder + target}


def show(family: Family, memories_gb: Sequence[float], tokens: int, *, json: bool) -> None:
    """Print the plan. Raises ArtifactInvalid."""
    rows = [
        _row(role, engines, memories_gb, tokens)
        for role, engines in roles(family).items()
        if engines
    ]
    if json:
        dump({"model": family.name, "tokens": tokens, "share": SHARE, "roles": rows})
        return
    columns = [f"sessions in {memory:g} GB" for memory in memories_gb]
    table = Table("process", "tiers", "weights", "workspace", "KV/token", "KV/session", *columns)
    for row in rows:
        counts = [_count(number) for number in row["sessions"].values()]
        table.add_row(
            row["role"],
            "+".join(row["tiers"]),
            f"{row['weight_bytes'] / MIB:.1f} MiB",
            f"{row['workspace_bytes'] / MIB:.1f} MiB",
            f"{row['kv_bytes_per_token'] / 1024:.1f} KiB",
            f"{row['session_bytes'] / MIB:.1f} MiB",
            *counts,
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"{family.name}: sessions of {tokens} tokens; {SHARE:.0%} of the memory is counted, and "
        f"{PROCESS_BYTES // MIB} MiB of it are the process without models"
    )


def _row(
    role: str, engines: tuple[EnginePlan, ...], memories_gb: Sequence[float], tokens: int
) -> dict[str, Any]:
    return {
        "role": role,
        "tiers": [engine.name for engine in engines],
        "weight_bytes": sum(engine.weight_bytes for engine in engines),
        "workspace_bytes": sum(engine.workspace_bytes for engine in engines),
        "kv_bytes_per_token": sum(engine.kv_bytes_per_token for engine in engines),
        "session_bytes": sum(engine.session_bytes(tokens) for engine in engines),
        "sessions": {
            f"{memory:g}": sessions_that_fit(engines, int(memory * GIB * SHARE), tokens)
            for memory in memories_gb
        },
    }


def _count(number: int) -> str:
    return "does not fit" if number < 0 else str(number)
