"""The draft engines' KV caches of one request, opened and freed on the worker's thread."""

from __future__ import annotations

from collections.abc import Mapping

from hola.ports import Engine, EngineSession, Proposer
from hola.speculation.proposers import LOOKUP, Tier, build_ladder
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
    ) -> None:
        self._engines = {name: engine for name, engine in engines.items() if name in names}
        self._lookup = LOOKUP in names
        self._job = job
        # A padded block may reach past the last token.
        self._wanted = prompt_tokens + job.sampling.max_tokens + MAX_BLOCK_TOKENS
        self._sessions: list[EngineSession] = []

    def open(self) -> Proposer | None:
        """Allocate and build the ladder; None for no tier. Raises MemoryBudgetExceeded."""
        tiers = [self._tier(name, engine) for name, engine in self._engines.items()]
        return build_ladder(
            tiers,
            self._job.sampling,
            lookup=self._lookup,
            entropy_threshold=self._job.speculation.entropy_threshold,
        )

    def close(self) -> None:
        """Free everything. Idempotent."""
        while self._sessions:
            self._sessions.pop().close()

    def _tier(self, name: str, engine: Engine) -> Tier:
        """A cache for the whole request, or for the engine's context where that is shorter."""
        session = engine.open(min(self._wanted, engine.info.context_length))
        self._sessions.append(session)
        return Tier(name=name, session=session, eos_token_ids=engine.info.eos_token_ids)
