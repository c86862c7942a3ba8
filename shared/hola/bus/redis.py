"""The bus on Redis 7.0 or newer: one server, a master found by sentinels, or a cluster."""

from __future__ import annotations

from hola.bus.address import parse_address
from hola.bus.redis_compression import RedisCompression
from hola.bus.redis_fleet import RedisQuota, RedisRegistry
from hola.bus.redis_follow import JournalReader
from hola.bus.redis_ingests import RedisIngests, RedisReports
from hola.bus.redis_jobs import RedisJobs
from hola.bus.redis_journal import RedisJournal
from hola.bus.redis_link import RedisLink
from hola.bus.redis_topic import RedisTopic
from hola.bus.security import BusSecurity
from hola.bus.streams import BusLimits, Keys
from hola.bus.topics import NOTICES, RELEASES, TopicNotices, TopicReleases


class RedisBus:
    """ports.Bus on Redis streams. Connects on first use; every wait has a bound.

    The journals are durable as the server is: with `appendonly yes`, and `appendfsync always`
    where not even the last second before a power cut may be written twice. Where a replica takes
    over, what it had not received yet is lost: writers are fenced and write it again.
    """

    def __init__(
        self,
        url: str,
        *,
        limits: BusLimits | None = None,
        prefix: str = "hola",
        security: BusSecurity | None = None,
    ) -> None:
        """Raises ConfigError on a URL that cannot be used. Buses share what `prefix` is equal."""
        self._link = RedisLink(
            parse_address(url), limits or BusLimits(), Keys(prefix), security or BusSecurity()
        )
        self._reader = JournalReader(self._link)
        self._journal = RedisJournal(self._link, self._reader)
        self._jobs = RedisJobs(self._link, self._journal)
        self._quota = RedisQuota(self._link)
        self._registry = RedisRegistry(self._link)
        self._notices = TopicNotices(RedisTopic(self._link, NOTICES))
        self._releases = TopicReleases(RedisTopic(self._link, RELEASES))
        self._compression = RedisCompression(self._link)

    @property
    def jobs(self) -> RedisJobs:
        """The job queue."""
        return self._jobs

    @property
    def journal(self) -> RedisJournal:
        """The token journals."""
        return self._journal

    @property
    def quota(self) -> RedisQuota:
        """The token buckets."""
        return self._quota

    @property
    def registry(self) -> RedisRegistry:
        """The verifiers."""
        return self._registry

    @property
    def notices(self) -> TopicNotices:
        """Word of ended requests."""
        return self._notices

    @property
    def ingest_reports(self) -> RedisReports:
        """How far ingests are."""
        return RedisReports(self._link)

    def ingests(self, place: str) -> RedisIngests:
        """The ingests whose spools lie in one place."""
        return RedisIngests(self._link, place)

    @property
    def compression(self) -> RedisCompression:
        """The compression jobs."""
        return self._compression

    @property
    def releases(self) -> TopicReleases:
        """Word of published artifacts."""
        return self._releases

    async def ping(self) -> None:
        """Raises BusUnavailable when Redis does not answer for retry_s."""
        # In a cluster PING goes to every node: one key of the queue stands for all of it.
        await self._link.call(lambda _: self._link.commands.exists(self._link.keys.tenants))

    async def close(self) -> None:
        """End followers, close connections. Idempotent."""
        self._notices.close()
        self._releases.close()
        await self._reader.close()
        await self._link.close()
