"""Collects the signals of a question, cheapest first, and asks the model's gate about them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from hola.checking import AnswerCheck, Checked, CheckRequest
from hola.config import Settings
from hola.engines import load_engine
from hola.engines.worker import EngineWorker
from hola.errors import ConfigError, HolaError, VerifierUnavailable
from hola.models.family import Family, verify_digests
from hola.ports import Engine
from hola.retrieval.gate.draft import Draft, draft_answer
from hola.retrieval.gate.head import OutputHead, load_head
from hola.retrieval.gate.held import held_signals
from hola.retrieval.gate.model import Gate, Judgement
from hola.retrieval.gate.place import gate_in_force
from hola.retrieval.gate.policy import SURE_GAIN
from hola.retrieval.gate.search_shape import search_signals
from hola.retrieval.types import Passage
from hola.telemetry import get_logger
from hola_router.reader import Reader

log = get_logger(__name__)

AUTO, OFF = "auto", "off"
# A question that waits longer for its draft than for its answer gains nothing.
MOST_WAITING = 8
# A verifier that could not be asked is left alone for so long, and is not waited for any longer.
LEFT_ALONE_S = 10.0
LONGEST_CHECK_S = 5.0
SPEED_HOLDS_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Signals by name, what the gate makes of them (None without a gate), and what it took."""

    signals: dict[str, float] = field(default_factory=dict)
    judgement: Judgement | None = None
    prefill_ms_per_token: float = 0.0
    ms: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Tier:
    """A draft tier that this process has loaded for its gate."""

    engine: Engine
    head: OutputHead | None


class Judge:
    """Gates and their draft tiers, loaded when first needed. Use from one event loop.

    Nothing here fails a request: a signal that cannot be had is left out, a note says why, and the
    gate's stage that does without it judges.
    """

    def __init__(
        self,
        settings: Settings,
        check: AnswerCheck | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`check` stays the caller's to close; None: the target is never asked."""
        self._settings = settings
        self._check = check
        self._clock = clock
        self._gates: dict[Path, tuple[int, Gate]] = {}
        self._tiers: dict[str, _Tier | HolaError] = {}
        self._loading = asyncio.Lock()
        self._worker: EngineWorker | None = None
        self._ask_again_at = 0.0
        self._speed_ms = 0.0
        self._look_again_at = 0.0

    async def judge(
        self,
        reader: Reader,
        question: str,
        prompt: str,
        found: Sequence[Passage],
        *,
        tenant: str,
    ) -> Verdict:
        """Judge a question whose prompt without passages is `prompt`; a look has `found` these.

        Raises ArtifactInvalid for a gate file that cannot be read: its owner must know.
        """
        began = time.perf_counter()
        seen = search_signals(question, found)
        gate = await asyncio.to_thread(self._gate, reader.family)
        if gate is None:
            speed = await self.prefill_ms_per_token()
            return Verdict(signals=seen, prefill_ms_per_token=speed, ms=_ms_since(began))
        notes: list[str] = []
        signals = seen
        answer: str | None = None
        draft: Draft | None = None
        if gate.needs() & frozenset("ucah"):
            tokens = await asyncio.to_thread(reader.tokens, prompt)
            draft = await self._draft(reader.family, gate, tokens, tenant, notes)
            if draft is not None:
                text = reader.text(draft.tokens)
                answer = text if "a" in gate.needs() else None
                signals = signals | draft.signals
                if "h" in gate.needs():
                    signals |= held_signals(question, text, found)
        signals, judgement = await asyncio.to_thread(_judged, gate, question, answer, signals)
        if draft is not None and not _is_sure(judgement):
            checked = await self._checked(reader, gate, tokens, draft, tenant, notes)
            if checked:
                signals |= checked
                judgement = await asyncio.to_thread(gate.judge, signals)
        speed = await self.prefill_ms_per_token()
        return Verdict(
            signals=signals,
            judgement=judgement,
            prefill_ms_per_token=speed,
            ms=_ms_since(began),
            notes=tuple(notes),
        )

    async def prefill_ms_per_token(self) -> float:
        """The target's prefill speed as its verifier measured it last; 0 where nobody knows it."""
        if self._clock() >= self._look_again_at and self._may_ask() and self._check is not None:
            try:
                async with asyncio.timeout(LONGEST_CHECK_S):
                    self._note_speed((await self._check.info()).prefill_ns_per_token)
            except (HolaError, TimeoutError) as error:
                self._leave_alone(error)
        return self._speed_ms

    def _note_speed(self, ns_per_token: float) -> None:
        self._speed_ms = ns_per_token / 1e6 or self._speed_ms
        self._look_again_at = self._clock() + SPEED_HOLDS_S

    async def close(self) -> None:
        """Free the tiers. Idempotent."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.close(self._settings.drain_s)
        tiers, self._tiers = self._tiers, {}
        for tier in tiers.values():
            if isinstance(tier, _Tier):
                tier.engine.close()

    def _gate(self, family: Family) -> Gate | None:
        """The gate in force, read again when its file was written anew."""
        file = gate_in_force(self._settings, family.path)
        try:
            stamp = file.stat().st_mtime_ns
        except OSError:
            return None
        known = self._gates.get(file)
        if known is None or known[0] != stamp:
            known = self._gates[file] = stamp, Gate.load(file)
        return known[1]

    async def _draft(
        self, family: Family, gate: Gate, prompt: Sequence[int], tenant: str, notes: list[str]
    ) -> Draft | None:
        """A draft tier's short answer; None with a note where there is none to be had."""
        try:
            tier = await self._tier(family, gate)
            if tier is None or self._worker is None:
                return None
            if self._worker.depth > MOST_WAITING:
                notes.append("no draft answer: too many questions wait for one")
                return None
            draft = partial(draft_answer, tier.engine, prompt, head=tier.head)
            return (await self._worker.run(draft, key=tenant)).value
        except HolaError as error:
            notes.append(f"no draft answer: {error.message}")
            return None

    async def _tier(self, family: Family, gate: Gate) -> _Tier | None:
        """The tier that drafts for the gate, loaded once; a failure to load is remembered."""
        name = self._tier_name(family)
        if not name:
            return None
        async with self._loading:
            key = f"{family.path}/{name}"
            if key not in self._tiers:
                self._worker = self._worker or EngineWorker("gate")
                try:
                    loaded = await self._worker.run(lambda: self._load(family, name, gate))
                    self._tiers[key] = loaded.value
                except HolaError as error:
                    log.warning("gate_tier_not_loaded", tier=name, why=error.message)
                    self._tiers[key] = error
        tier = self._tiers[key]
        if isinstance(tier, HolaError):
            raise tier
        return tier

    def _tier_name(self, family: Family) -> str:
        """HOLA_GATE_TIER for this family; "" for none."""
        wanted = self._settings.gate_tier
        if wanted == AUTO:
            return family.ladder[-1].name if family.ladder else ""
        if wanted != OFF and wanted not in (tier.name for tier in family.ladder):
            raise ConfigError(f"HOLA_GATE_TIER={wanted}: {family.name} has no such draft tier")
        return "" if wanted == OFF else wanted

    def _load(self, family: Family, name: str, gate: Gate) -> _Tier:
        """Blocks. The output layer is read only for a gate that looks at gradients."""
        tier = family.tier(name)
        verify_digests(tier)
        engine = load_engine(
            tier.path,
            provider=self._settings.provider,
            # Its passes must not spin on the cores that the ladder runs on.
            threads=self._settings.threads or 1,
            memory_budget_bytes=self._settings.memory_budget_mb * 2**20 or None,
        )
        gradients = any("gradient" in name for stage in gate.stages for name in stage.signals)
        return _Tier(engine, load_head(tier.path) if gradients else None)

    async def _checked(
        self,
        reader: Reader,
        gate: Gate,
        prompt: tuple[int, ...],
        draft: Draft,
        tenant: str,
        notes: list[str],
    ) -> dict[str, float]:
        """What the target thinks of the draft; nothing, with a note, where it cannot be asked."""
        if "c" not in gate.needs() or not draft.tokens:
            return {}
        if self._check is None or not self._may_ask():
            notes.append("the target was not asked about the draft: no verifier can be reached")
            return {}
        question = CheckRequest(
            model=reader.family.name,
            tokenizer_fingerprint=reader.fingerprint,
            prompt=prompt,
            draft=draft.tokens,
            tenant=tenant,
        )
        try:
            async with asyncio.timeout(LONGEST_CHECK_S):
                checked: Checked = await self._check.check(question)
        except (HolaError, TimeoutError) as error:
            self._leave_alone(error)
            why = error.message if isinstance(error, HolaError) else "it did not answer in time"
            notes.append(f"the target was not asked about the draft: {why}")
            return {}
        self._note_speed(checked.prefill_ns_per_token)
        return dict(checked.signals)

    def _may_ask(self) -> bool:
        return self._clock() >= self._ask_again_at

    def _leave_alone(self, error: Exception) -> None:
        """Nobody was there: not every question must wait to find that out."""
        if isinstance(error, VerifierUnavailable | TimeoutError):
            self._ask_again_at = self._clock() + LEFT_ALONE_S


def _is_sure(judgement: Judgement) -> bool:
    """Whether retrieval is decided, whatever the target would say of the draft."""
    return any(estimate.gain > SURE_GAIN for estimate in judgement.estimates.values())


def _judged(
    gate: Gate, question: str, answer: str | None, signals: dict[str, float]
) -> tuple[dict[str, float], Judgement]:
    signals = gate.signals(question, answer=answer) | signals
    return signals, gate.judge(signals)


def _ms_since(began: float) -> float:
    return (time.perf_counter() - began) * 1e3
