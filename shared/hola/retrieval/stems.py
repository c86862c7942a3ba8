"""Words of text as SQLite's Porter tokenizer cuts them, for stores that do not stem.

The embedded store's BM25 counts FTS5's stems. A store without a stemmer is given the same ones, so
that both rank by the same words.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence

TOKENIZER = "porter unicode61 remove_diacritics 2"


class Stemmer:
    """FTS5's tokenizer in a database in memory. Thread-safe."""

    def __init__(self) -> None:
        """Nothing is kept of what it has cut."""
        self._lock = threading.Lock()
        self._database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._database.execute(
            f"CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize='{TOKENIZER}')"
        )
        self._database.execute("CREATE VIRTUAL TABLE vocabulary USING fts5vocab(words, instance)")

    def stems(self, texts: Sequence[str]) -> list[list[str]]:
        """The stems of each text, in order. Raises UnicodeEncodeError for half a surrogate pair."""
        found: list[list[str]] = [[] for _ in texts]
        with self._lock:
            self._database.execute("BEGIN")
            try:
                self._database.executemany(
                    "INSERT INTO words (rowid, text) VALUES (?, ?)", enumerate(texts)
                )
                rows = self._database.execute(
                    "SELECT doc, term FROM vocabulary ORDER BY doc, offset"
                )
                for row, term in rows:
                    found[row].append(term)
            finally:
                self._database.execute("ROLLBACK")
        return found

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            self._database.close()
