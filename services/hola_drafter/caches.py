"""The draft engines' KV caches of one request, opened and freed on the worker's thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hola.ports import Engine, EngineSession, Proposal, Proposer
from hola.speculation.proposers import LOOKUP, Cascade, Tier, Writer, build_ladder
from hola.telemetry import Metrics
from hola.types import MAX_BLOCK_TOKENS, GenerateJob


class DraftCaches:
    """Holds what `open` allocated, so that `close` frees it whatever happened in between.

    A request that is cancelled while its caches are being opened still gets them freed: both run
    on the same lane of the worker, in order.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        names: tuple[str, ...],
        job: GenerateJob,
        prompt_tokens: int,
        metrics: Metrics,
        *,
        lookup_texts: Sequence[Sequence[int]] = (),
    ) -> None:
        """`lookup_texts` are the job's, as token ids."""
        self._engines = {name: engine for name, engine in engines.items() if name in names}
        self._lookup = LOOKUP in names
        self._lookup_texts = lookup_texts
        self._job = job
        # A padded block may reach past the last token.
        self._wanted = prompt_tokens + job.sampling.max_tokens + MAX_BLOCK_TOKENS
        self._metrics = metrics
        self._sessions: list[EngineSession] = []

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """What ends a text for the best of these engines; () without any."""
        return ((), *(engine.info.eos_token_ids for engine in self._engines.values()))[-1]

    def open(self) -> TimedLadder | None:
        """Allocate and build the ladder; None for no tier. Raises MemoryBudgetExceeded."""
        tiers = [self._tier(name, engine) for name, engine in self._engines.items()]
        ladder = build_ladder(
            tiers,
            self._job.sampling,
            lookup=self._lookup,
            lookup_texts=self._lookup_texts,
            entropy_threshold=self._job.speculation.entropy_threshold,
        )
        return None if ladder is None else TimedLadder(ladder, self._metrics)

    def close(self) -> None:
        """Free everything. Idempotent."""
        while self._sessions:
            self._sessions.pop().close()

    def _tier(self, name: str, engine: Engine) -> Tier:
        """A cache for the whole request, or for the engine's context where that is shorter."""
        session = engine.open(min(self._wanted, engine.info.context_length))
        self._sessions.append(session)
        return Tier(name=name, session=session, eos_token_ids=engine.info.eos_token_ids)


class TimedLadder:
    """A ladder whose proposals are timed for the metrics.

    `writer` is its best engine, for text without a target; None where it has only the lookup.
    """

    def __init__(self, ladder: Proposer, metrics: Metrics) -> None:
        self._ladder = ladder
        self._metrics = metrics
        self.writer: Writer | None = ladder if isinstance(ladder, Cascade) else None

    @property
    def tiers(self) -> tuple[str, ...]:
        """Names, cheapest first."""
        return self._ladder.tiers

    def propose(self, prefix: Sequence[int], k: int) -> Proposal:
        """As the ladder itself."""
        with self._metrics.draft_seconds.time():
            return self._ladder.propose(prefix, k)

    def close(self) -> None:
        """As the ladder itself."""
        self._ladder.close()
