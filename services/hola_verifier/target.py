"""The target model that a verifier serves, and its identity: artifact, tokenizer, fingerprint."""

from __future__ import annotations

from dataclasses import dataclass

from hola.config import Settings
from hola.engines import SCRIPTED_PREFIX, load_engine
from hola.engines.fingerprint import Fingerprint, probe
from hola.engines.scripted import ScriptedTokenizer
from hola.models.family import verify_digests
from hola.models.store import ModelStore
from hola.ports import Engine
from hola.speculation.verifier_session import VerifierSession
from hola.types import Exactness, SamplingParams
from hola_verifier.speed import measured

_MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A loaded target. Owns its engine. `prefill_ns_per_token` is 0 where it was not measured."""

    model: str
    engine: Engine
    tokenizer_fingerprint: str
    artifact_digest: str
    fingerprint: Fingerprint
    prefill_ns_per_token: float = 0.0

    @property
    def exactness(self) -> Exactness:
        """EXACT when the probe gave the same bits in every way it was run."""
        return Exactness.EXACT if self.fingerprint.exact else Exactness.DEGRADED

    @property
    def digest(self) -> str:
        """The numerics fingerprint; empty when the probe failed, since then it promises nothing."""
        return self.fingerprint.digest if self.fingerprint.exact else ""

    def open(self, capacity: int, sampling: SamplingParams) -> VerifierSession:
        """A session's cache of `capacity` tokens; on the engine's thread. Raises EngineFailure."""
        info = self.engine.info
        return VerifierSession(
            self.engine.open(capacity), sampling, info.eos_token_ids, vocab_size=info.vocab_size
        )


def load_target(settings: Settings) -> Target:
    """Load and probe the target of HOLA_MODEL; blocks for as long as the weights take to read.

    "scripted:..." gives a model-free engine. Raises UnknownModel, ArtifactCorrupt,
    ArtifactInvalid, MemoryBudgetExceeded, MissingExtra, ConfigError.
    """
    if settings.model.startswith(SCRIPTED_PREFIX):
        return scripted_target(settings.model)
    family = ModelStore.at(settings.models_dir).get(settings.model)
    verify_digests(family.target)
    engine = load_engine(
        family.target.path,
        provider=settings.provider,
        threads=settings.threads or None,
        memory_budget_bytes=settings.memory_budget_mb * _MIB or None,
    )
    return Target(
        model=family.name,
        engine=engine,
        tokenizer_fingerprint=family.tokenizer_sha256,
        artifact_digest=family.target.digest,
        fingerprint=probe(engine),
        prefill_ns_per_token=measured(engine),
    )


def scripted_target(spec: str) -> Target:
    """A target whose logits are hashed from a seed; the spec stands for the artifact.

    Raises ConfigError on a malformed spec.
    """
    engine = load_engine(spec)
    return Target(
        model=spec,
        engine=engine,
        tokenizer_fingerprint=ScriptedTokenizer(engine.info.vocab_size).fingerprint,
        artifact_digest=spec,
        fingerprint=probe(engine),
    )
