"""What became of the documents of an ingest, and deleting what came from the same places before."""

from __future__ import annotations

from collections.abc import Sequence

from hola.retrieval.ingest import Ingested, Outcome
from hola.retrieval.ingest_job import Refusal
from hola.retrieval.ports import DocumentStore

MAX_CHARS = 500


class Tally:
    """Counts so far.

    `refusals` has the first `most` of `refused`, their texts cut to MAX_CHARS; None: all, whole.
    """

    def __init__(self, *, most: int | None = None) -> None:
        self.added = 0
        self.unchanged = 0
        self.pruned = 0
        self.chunks = 0
        self.refused = 0
        self.refusals: list[Refusal] = []
        self.seen: set[str] = set()
        self._most = most

    def count(self, one: Ingested) -> None:
        """Count one document."""
        self.seen.add(one.source)
        error = one.error
        if error is not None:
            self.refused += 1
            if self._most is None or len(self.refusals) < self._most:
                cut = None if self._most is None else MAX_CHARS
                refusal = Refusal(
                    source=one.source[:cut], reason=error.reason, message=error.message[:cut]
                )
                self.refusals.append(refusal)
            return
        self.chunks += one.chunks
        self.added += one.outcome is Outcome.ADDED
        self.unchanged += one.outcome is Outcome.UNCHANGED


async def prune(
    store: DocumentStore, tenant: str, collection: str, names: Sequence[str], seen: set[str]
) -> int:
    """Delete the sources `NAME`, `NAME/...` and `NAME#...` that are not in `seen`; how many."""
    pruned = 0
    for prefix in (start for name in names for start in (name, f"{name}/", f"{name}#")):
        after = ""
        while page := await store.sources(tenant, collection, prefix=prefix, after=after):
            after = page[-1]
            whole = prefix in names  # the bare name begins others' names too
            for source in page:
                if source not in seen and (source == prefix or not whole):
                    await store.delete(tenant, collection, source, parts=False)
                    pruned += 1
    return pruned
