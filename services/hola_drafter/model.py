"""Loads what a drafter runs: the family's draft tiers, checked against their digests."""

from __future__ import annotations

from hola.config import Settings
from hola.engines import SCRIPTED_PREFIX, load_engine
from hola.engines.scripted import ScriptedTokenizer
from hola.engines.tokenizer import load_tokenizer
from hola.models.family import Family, context_length, verify_digests
from hola.models.manifest import Tier
from hola.models.store import ModelStore
from hola.ports import Engine
from hola_drafter.drafter import DraftModel

# Noise of the draft tiers that go with a scripted target: the more, the fewer accepted tokens.
SCRIPTED_NOISE = {"tiny": 0.7, "small": 0.3}


def load_draft_model(settings: Settings) -> DraftModel:
    """Load HOLA_MODEL's ladder; blocks for as long as reading the files takes.

    "scripted:..." gives model-free tiers: noisy copies of that target. Raises UnknownModel,
    ArtifactCorrupt, ArtifactInvalid, TokenizerMismatch, MemoryBudgetExceeded, MissingExtra.
    """
    if settings.model.startswith(SCRIPTED_PREFIX):
        return scripted_draft_model(settings.model)
    family = ModelStore.at(settings.models_dir).get(settings.model)
    engines: dict[str, Engine] = {}
    try:
        for tier in family.ladder:
            engines[tier.name] = _load(tier, settings)
    except Exception:
        for engine in engines.values():
            engine.close()
        raise
    return DraftModel(
        name=family.name,
        target_name=family.target.name,
        context_length=context_length(family.target.path),
        tokenizer=load_tokenizer(family.target.path),
        engines=engines,
        digests=family_digests(family),
    )


def family_digests(family: Family) -> tuple[str, ...]:
    """What a drafter's model depends on: every tier, the target for its context and tokenizer."""
    return tuple(tier.digest for tier in family.tiers)


def _load(tier: Tier, settings: Settings) -> Engine:
    verify_digests(tier)
    return load_engine(
        tier.path,
        provider=settings.provider,
        threads=settings.threads or None,
        memory_budget_bytes=settings.memory_budget_mb * 2**20 or None,
    )


def scripted_draft_model(spec: str) -> DraftModel:
    """Tiers for the scripted target `spec`. Raises ConfigError on a malformed one."""
    target = load_engine(spec).info
    separator = "" if spec == SCRIPTED_PREFIX else ","
    return DraftModel(
        name=spec,
        target_name=target.name,
        context_length=target.context_length,
        tokenizer=ScriptedTokenizer(target.vocab_size),
        engines={
            name: load_engine(f"{spec}{separator}name={name},noise={noise}")
            for name, noise in SCRIPTED_NOISE.items()
        },
    )
