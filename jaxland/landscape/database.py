"""A sealed database: SQLite in one file, locked by its writer, each change in the sum of hashes that seals it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from jaxland.errors import StoreError
from jaxland.landscape import schema

D = TypeVar("D", bound="Database")


class Database:
    """One file (or memory, ``path=None``) with one writer; what it holds is its heirs' business.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: str | Path | None) -> None:
        self.path = None if path is None else Path(path)
        self._db: sqlite3.Connection
        self._lock: IO[str] | None = None
        self._seal, self._failed = 0, False

    @property
    def _name(self) -> str:
        return "the store" if self.path is None else f"store {self.path}"

    def _connect(self) -> bool:
        """Lock the file and open it; whether nothing was ever written to it.

        Raises:
            StoreError: locked by another, or it cannot be written.
        """
        fresh = self.path is None or not self.path.exists()
        if self.path is not None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._lock = schema.acquire(self.path)
            except StoreError:
                raise
            except OSError as error:
                raise StoreError(f"{self._name} cannot be written: {error.strerror or error}") from error
            if not fresh and self.path.stat().st_size == 0:
                fresh = True
        target = ":memory:" if self.path is None else str(self.path)
        self._db = sqlite3.connect(target, isolation_level=None, check_same_thread=False)
        return fresh or schema.never_begun(self._db)

    def _check_seal(self) -> None:
        self._seal = schema.total_hash(self._db)
        if self.get("seal") != self.seal:
            raise StoreError(f"{self._name} is damaged: its contents fail their checksum; restore a copy")

    def close(self) -> None:
        """Release the file and its lock."""
        if getattr(self, "_db", None) is not None:
            self._db.close()
            del self._db
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self: D) -> D:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def seal(self) -> str:
        """Checksum of everything stored."""
        return f"{self._seal:032x}"

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; errors of the disk become ``StoreError``."""
        if self._failed:
            raise StoreError(f"{self._name} failed to write and must be opened again; what was stored is intact")
        seal = self._seal
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            if self._seal != seal:
                sealed = ("seal", json.dumps(self.seal))
                self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", sealed)
            self._db.execute("COMMIT")
        except BaseException as error:
            self._seal, self._failed = seal, True  # memory is ahead of the file now
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                reason = schema.explain(error)
                raise StoreError(f"{self._name}: {reason}; what was stored before is intact") from error
            raise

    def _write(self, table: str, key: str, at: schema.Row, statement: str, values: schema.Row) -> None:
        """Run a statement that inserts or changes the one row where ``key`` is ``at``; keep the seal."""
        query = f"SELECT {schema.SEALED[table]} FROM {table} WHERE {key}"
        before = self._db.execute(query, at).fetchone()
        self._db.execute(statement, values)
        after = self._db.execute(query, at).fetchone()
        self._sealed(table, [after], [before] if before else [])

    def _sealed(self, table: str, after: Iterable[schema.Row], before: Iterable[schema.Row] = ()) -> None:
        """Take rows that were written into the seal, and those they replaced out of it."""
        added = sum(schema.row_hash(table, row) for row in after)
        self._seal = (self._seal + added - sum(schema.row_hash(table, row) for row in before)) % 2**128

    def put(self, key: str, value: Any) -> None:
        """Store a JSON-able value."""
        text = json.dumps(value, sort_keys=True)
        self._write("meta", "key = ?", (key,), "INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, text))

    def drop(self, key: str) -> None:
        """Forget a stored value."""
        gone = self._db.execute(f"DELETE FROM meta WHERE key = ? RETURNING {schema.SEALED['meta']}", (key,))
        self._sealed("meta", [], gone.fetchall())

    def get(self, key: str, default: Any = None) -> Any:
        """A stored value."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is None:
            return default
        try:
            return json.loads(row[0])
        except json.JSONDecodeError as error:
            raise StoreError(f"{self._name} is damaged: {key} is unreadable") from error
