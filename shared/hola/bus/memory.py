"""The bus inside one process: the semantics of the Redis one on plain containers."""

from __future__ import annotations

from hola.bus.memory_compression import MemoryCompression
from hola.bus.memory_fleet import MemoryQuota, MemoryRegistry
from hola.bus.memory_ingests import MemoryIngests, MemoryReports
from hola.bus.memory_jobs import MemoryJobs
from hola.bus.memory_journal import MemoryJournal
from hola.bus.memory_store import MemoryStore
from hola.bus.memory_topic import MemoryTopic
from hola.bus.streams import BusLimits
from hola.bus.topics import NOTICES, RELEASES, TopicNotices, TopicReleases

__all__ = ["MemoryBus", "MemoryStore"]


class MemoryBus:
    """ports.Bus without a server, for an embedded node and for tests."""

    def __init__(
        self, *, limits: BusLimits | None = None, store: MemoryStore | None = None
    ) -> None:
        """`store` shares jobs and journals with other buses; None makes a new one."""
        limits = limits or BusLimits()
        store = store or MemoryStore()
        self._store, self._limits = store, limits
        self._journal = MemoryJournal(store, limits)
        self._jobs = MemoryJobs(store, limits, self._journal)
        self._quota = MemoryQuota(store, limits)
        self._registry = MemoryRegistry(store, limits)
        self._notices = TopicNotices(MemoryTopic(store, NOTICES))
        self._releases = TopicReleases(MemoryTopic(store, RELEASES))
        self._compression = MemoryCompression(store, limits)

    @property
    def jobs(self) -> MemoryJobs:
        """The job queue."""
        return self._jobs

    @property
    def journal(self) -> MemoryJournal:
        """The token journals."""
        return self._journal

    @property
    def quota(self) -> MemoryQuota:
        """The token buckets."""
        return self._quota

    @property
    def registry(self) -> MemoryRegistry:
        """The verifiers."""
        return self._registry

    @property
    def notices(self) -> TopicNotices:
        """Word of ended requests."""
        return self._notices

    @property
    def ingest_reports(self) -> MemoryReports:
        """How far ingests are."""
        return MemoryReports(self._store, self._limits)

    def ingests(self, place: str) -> MemoryIngests:
        """The ingests whose spools lie in one place."""
        return MemoryIngests(self._store, self._limits, place)

    @property
    def compression(self) -> MemoryCompression:
        """The compression jobs."""
        return self._compression

    @property
    def releases(self) -> TopicReleases:
        """Word of published artifacts."""
        return self._releases

    async def ping(self) -> None:
        """Cannot fail."""

    async def close(self) -> None:
        """End followers, at the latest after one block_s. Idempotent."""
        self._journal.is_closed = True
        self._notices.close()
        self._releases.close()
