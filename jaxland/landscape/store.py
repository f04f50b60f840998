"""The landscape's database: SQLite in one file, every row checksummed, one writer at a time, no pickle.

A search is a list of *rounds*; a round is a list of jobs planned from what was known when it began, merged in the
order of the jobs. Each merge is one transaction, so a killed run loses only what was in flight, and a resumed one
ends in the same database as one that was never stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import zlib
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxland.errors import StoreError, StoreLockedError
from jaxland.landscape.network import components
from jaxland.landscape.result import Landscape
from jaxland.landscape.search.completeness import Completeness
from jaxland.landscape.search.stationary import Point, Tolerances, require_float64
from jaxland.problem.problem import Problem
from jaxland.runs import agree, identity

FORMAT = 2
APPLICATION = 0x4A4C4E44  # "JLND"

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE minima (
    id INTEGER PRIMARY KEY, energy REAL NOT NULL, rms REAL NOT NULL, lowest REAL NOT NULL, flat INTEGER NOT NULL,
    log_product REAL, orbit TEXT NOT NULL, hits INTEGER NOT NULL, round INTEGER NOT NULL, x BLOB NOT NULL,
    checksum INTEGER NOT NULL);
CREATE TABLE saddles (
    id INTEGER PRIMARY KEY, energy REAL NOT NULL, rms REAL NOT NULL, lowest REAL NOT NULL, flat INTEGER NOT NULL,
    log_product REAL, orbit TEXT NOT NULL, hits INTEGER NOT NULL, round INTEGER NOT NULL, x BLOB NOT NULL,
    end_1 INTEGER NOT NULL REFERENCES minima(id), end_2 INTEGER NOT NULL REFERENCES minima(id),
    checksum INTEGER NOT NULL);
CREATE TABLE pairs (first INTEGER, second INTEGER, tries INTEGER NOT NULL, PRIMARY KEY (first, second));
CREATE TABLE rounds (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, jobs TEXT NOT NULL, next_job INTEGER NOT NULL, total INTEGER NOT NULL,
    found INTEGER NOT NULL, new_minima INTEGER NOT NULL, new_saddles INTEGER NOT NULL, work INTEGER NOT NULL,
    seconds REAL NOT NULL, checksum INTEGER NOT NULL);
"""


class Round(NamedTuple):
    """A planned round: its number, what it does, its jobs (JSON-able), and the first job not merged yet."""

    id: int
    kind: str
    jobs: list[Any]
    next_job: int


class _Row(NamedTuple):
    energy: float
    rms: float
    lowest: float
    flat: int
    log_product: float | None
    orbit: str
    hits: int
    round: int


def _checksum(blob: bytes, *values: Any) -> int:
    return zlib.crc32(repr(values).encode(), zlib.crc32(blob))


_TABLES = {
    "meta": "key, value",
    "minima": "id, hits, round, checksum",
    "saddles": "id, hits, round, checksum",
    "pairs": "first, second, tries",
    "rounds": "id, kind, jobs, next_job, total, found, new_minima, new_saddles, work, seconds, checksum",
}


def _hash(table: str, row: Any) -> int:
    return int.from_bytes(hashlib.blake2b(repr((table, *row)).encode(), digest_size=16).digest(), "big")


class Catalogue:
    """Points of one kind in memory, found again by energy and aligned distance."""

    def __init__(self, problem: Problem, tolerances: Tolerances) -> None:
        self.symmetry, self.tolerances = problem.symmetry, tolerances
        self.energies: list[float] = []
        self.coordinates: list[np.ndarray] = []
        self.hits: list[int] = []
        self._sorted: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self.energies)

    def find(self, energy: float, x: np.ndarray) -> int | None:
        """The stored point that is this one modulo symmetry, or None."""
        width = self.tolerances.energy * max(1.0, abs(energy))
        low = bisect_left(self._sorted, (energy - width, -1))
        high = bisect_right(self._sorted, (energy + width, len(self.energies)))
        near = sorted(self._sorted[low:high], key=lambda row: (abs(row[0] - energy), row[1]))
        for _, i in near:
            if self.symmetry.matches(x, self.coordinates[i], self.tolerances.distance):
                return i
        return None

    def append(self, energy: float, x: np.ndarray, hits: int = 1) -> int:
        """Add a point; returns its number."""
        self.energies.append(energy)
        self.coordinates.append(np.asarray(x))
        self.hits.append(hits)
        insort(self._sorted, (energy, len(self.energies) - 1))
        return len(self.energies) - 1


class Store:
    """The landscape of one problem on disk (or in memory, ``path=None``).

    Raises:
        StoreError: the file is damaged, of another format, of another problem, locked by a writer, or cannot be
            written. The file is left as it was.
    """

    def __init__(self, path: str | Path | None, problem: Problem, tolerances: Tolerances | None = None) -> None:
        require_float64(problem)
        self.path = None if path is None else Path(path)
        self.problem = problem
        self.tolerances = tolerances or Tolerances()
        self._lock: Any = None
        self._seal, self._failed = 0, False
        self.minima = Catalogue(problem, self.tolerances)
        self.saddles = Catalogue(problem, self.tolerances)
        self.ends: list[tuple[int, int]] = []
        self.tries: dict[tuple[int, int], int] = {}
        self._minimum_rows: list[_Row] = []
        self._saddle_rows: list[_Row] = []
        try:
            self._open()
        except sqlite3.Error as error:
            self.close()
            raise StoreError(f"{self._name}: {_explain(error)}") from error
        except UnicodeDecodeError as error:  # a damaged name in SQLite's own message
            self.close()
            raise StoreError(f"{self._name} is damaged ({error.reason}); restore a copy") from error
        except BaseException:
            self.close()
            raise

    # -- opening -----------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return "the store" if self.path is None else f"store {self.path}"

    def _open(self) -> None:
        self._db: Any = None
        fresh = self.path is None or not self.path.exists()
        if self.path is not None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._lock = _acquire(self.path)
            except StoreError:
                raise
            except OSError as error:
                raise StoreError(f"{self._name} cannot be written: {error}") from error
            if not fresh and self.path.stat().st_size == 0:
                fresh = True
        target = ":memory:" if self.path is None else str(self.path)
        self._db = sqlite3.connect(target, isolation_level=None, check_same_thread=False)
        fresh = fresh or self._never_begun()
        if not fresh:
            self._check_header()
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        if fresh:
            with self.transaction():
                for statement in _SCHEMA.split(";"):
                    if statement.strip():
                        self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id={APPLICATION}")
                self._db.execute(f"PRAGMA user_version={FORMAT}")
                self.put("fingerprint", identity(self.problem))
            # From now on a file without tables can only be one whose creation was cut off.
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._check_seal()
        self._check_problem()
        self._load()

    def _never_begun(self) -> bool:
        """Whether the file is what a kill before the first commit leaves: SQLite's, without any table."""
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        return application == 0 and self._db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None

    def _check_header(self) -> None:
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION:
            raise StoreError(f"{self._name} is not a jaxland store; give another --out or move the file away")
        if version != FORMAT:
            raise StoreError(f"{self._name} has format {version}, this jaxland reads {FORMAT}")
        (state,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()
        if state != "ok":
            raise StoreError(f"{self._name} is damaged ({state}); restore a copy, or move it away and start again")

    def _check_seal(self) -> None:
        self._seal = self._sum()
        if self.get("seal") != self.seal:
            raise StoreError(f"{self._name} is damaged: its contents fail their checksum; restore a copy")

    def _check_problem(self) -> None:
        stored, mine = self.get("fingerprint"), identity(self.problem)
        if not isinstance(stored, dict) or stored.get("size") is None:
            raise StoreError(f"{self._name} is damaged: it does not say whose landscape it is")
        if not agree(stored, mine):
            raise StoreError(
                f"{self._name} belongs to another problem ({stored['size']} parameters, symmetry "
                f"{stored['symmetry']}; this one has {mine['size']}, {mine['symmetry']}, or other data, "
                "scaling or regularisation). Use another output directory"
            )

    def _load(self) -> None:
        n = self.problem.size
        for table, catalogue, rows in (
            ("minima", self.minima, self._minimum_rows),
            ("saddles", self.saddles, self._saddle_rows),
        ):
            ends = ", end_1, end_2" if table == "saddles" else ""
            columns = f"energy, rms, lowest, flat, log_product, orbit, hits, round, x, checksum{ends}"
            for expected, (i, *row) in enumerate(self._db.execute(f"SELECT id, {columns} FROM {table} ORDER BY id")):
                values, blob, stored, pair = _Row(*row[:8]), row[8], row[9], tuple(row[10:])
                sound = (
                    i == expected
                    and isinstance(blob, bytes)
                    and len(blob) == 8 * n
                    and stored == _checksum(blob, *values[:6], *pair)
                    and all(0 <= e < len(self.minima) for e in pair)
                )
                if not sound:
                    raise StoreError(f"{self._name} is damaged: row {i} of {table} fails its checksum")
                catalogue.append(values.energy, np.frombuffer(blob, "<f8"), values.hits)
                rows.append(values)
                if pair:
                    self.ends.append((pair[0], pair[1]))
        self.tries = {(a, b): t for a, b, t in self._db.execute("SELECT first, second, tries FROM pairs")}

    def close(self) -> None:
        """Release the file and its lock."""
        if getattr(self, "_db", None) is not None:
            self._db.close()
            self._db = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- writing -----------------------------------------------------------------------------------------------

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
                raise StoreError(f"{self._name}: {_explain(error)}; what was stored before is intact") from error
            raise

    def _sum(self) -> int:
        """Sum over all rows of their hashes: no row can be changed, added, lost or doubled without it changing."""
        rows = (
            (table, row)
            for table, columns in _TABLES.items()
            for row in self._db.execute(f"SELECT {columns} FROM {table}")
            if row[0] != "seal"
        )
        return sum(_hash(table, row) for table, row in rows) % 2**128

    def _write(self, table: str, key: str, at: tuple, statement: str, values: tuple) -> None:
        """Run a statement that inserts or changes the one row where ``key`` is ``at``; keep the seal."""
        query = f"SELECT {_TABLES[table]} FROM {table} WHERE {key}"
        before = self._db.execute(query, at).fetchone()
        self._db.execute(statement, values)
        after = self._db.execute(query, at).fetchone()
        change = _hash(table, after) - (_hash(table, before) if before else 0)
        self._seal = (self._seal + change) % 2**128

    def put(self, key: str, value: Any) -> None:
        """Store a JSON-able value."""
        text = json.dumps(value, sort_keys=True)
        self._write("meta", "key = ?", (key,), "INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, text))

    def get(self, key: str, default: Any = None) -> Any:
        """A stored value."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is None:
            return default
        try:
            return json.loads(row[0])
        except json.JSONDecodeError as error:
            raise StoreError(f"{self._name} is damaged: {key} is unreadable") from error

    def add_minimum(self, point: Point, round_id: int, hits: int = 1) -> tuple[int, bool]:
        """Store a minimum or count more hits of a known one; (its number, whether it is new)."""
        known = self.minima.find(point.energy, point.x)
        if known is not None:
            self._hit("minima", self.minima, known, hits)
            return known, False
        row, blob = self._row(point, round_id, hits)
        number = self.minima.append(point.energy, np.frombuffer(blob, "<f8"), hits)
        self._minimum_rows.append(row)
        self._write(
            "minima",
            "id = ?",
            (number,),
            "INSERT INTO minima VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (number, *row, blob, _checksum(blob, *row[:6])),
        )
        return number, True

    def add_saddle(self, point: Point, ends: tuple[int, int], round_id: int, hits: int = 1) -> tuple[int, bool]:
        """Store a transition state between two stored minima, or count more hits."""
        known = self.saddles.find(point.energy, point.x)
        if known is not None:
            self._hit("saddles", self.saddles, known, hits)
            return known, False
        pair = (min(ends), max(ends))
        row, blob = self._row(point, round_id, hits)
        number = self.saddles.append(point.energy, np.frombuffer(blob, "<f8"), hits)
        self._saddle_rows.append(row)
        self.ends.append(pair)
        self._write(
            "saddles",
            "id = ?",
            (number,),
            "INSERT INTO saddles VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (number, *row, blob, *pair, _checksum(blob, *row[:6], *pair)),
        )
        return number, True

    def add_try(self, a: int, b: int) -> None:
        """Count an attempt to join two minima by a band."""
        pair = (min(a, b), max(a, b))
        self.tries[pair] = self.tries.get(pair, 0) + 1
        statement = "INSERT OR REPLACE INTO pairs VALUES (?, ?, ?)"
        self._write("pairs", "first = ? AND second = ?", pair, statement, (*pair, self.tries[pair]))

    def _row(self, point: Point, round_id: int, hits: int) -> tuple[_Row, bytes]:
        x = np.ascontiguousarray(self.problem.symmetry.canonical(point.x), "<f8")
        log_product = None if np.isnan(point.log_product) else point.log_product
        orbit = str(self.problem.symmetry.orbit_size(point.x))
        row = _Row(point.energy, point.rms, point.lowest, point.flat, log_product, orbit, hits, round_id)
        return row, x.tobytes()

    def _hit(self, table: str, catalogue: Catalogue, number: int, hits: int) -> None:
        catalogue.hits[number] += hits
        statement = f"UPDATE {table} SET hits = ? WHERE id = ?"
        self._write(table, "id = ?", (number,), statement, (catalogue.hits[number], number))

    # -- rounds ------------------------------------------------------------------------------------------------

    def start_round(self, kind: str, jobs: list[Any]) -> Round:
        """Plan a round; its jobs are fixed from now on."""
        (last,) = self._db.execute("SELECT COALESCE(MAX(id), -1) FROM rounds").fetchone()
        text = json.dumps(jobs)
        self._write(
            "rounds",
            "id = ?",
            (last + 1,),
            "INSERT INTO rounds VALUES (?, ?, ?, 0, ?, 0, 0, 0, 0, 0, ?)",
            (last + 1, kind, text, len(jobs), _checksum(text.encode(), last + 1, kind)),
        )
        return Round(last + 1, kind, jobs, 0)

    def open_round(self) -> Round | None:
        """The round that was begun and not finished, if any."""
        row = self._db.execute(
            "SELECT id, kind, jobs, next_job, total, checksum FROM rounds WHERE next_job < total ORDER BY id LIMIT 1"
        ).fetchone()
        if row is None:
            return None
        if row[5] != _checksum(row[2].encode(), row[0], row[1]):
            raise StoreError(f"{self._name} is damaged: round {row[0]} fails its checksum")
        return Round(row[0], row[1], json.loads(row[2]), row[3])

    def advance(self, r: Round, next_job: int, found: int, new: tuple[int, int], work: int, seconds: float) -> Round:
        """Note that jobs before ``next_job`` are merged: what they found, what of it was new, and what it cost."""
        self._write(
            "rounds",
            "id = ?",
            (r.id,),
            "UPDATE rounds SET next_job = ?, found = found + ?, new_minima = new_minima + ?, "
            "new_saddles = new_saddles + ?, work = work + ?, seconds = seconds + ? WHERE id = ?",
            (next_job, found, *new, work, seconds, r.id),
        )
        return r._replace(next_job=next_job)

    def rounds(self) -> list[dict[str, Any]]:
        """What each round did: kind, jobs, found, new minima and transition states, work in gradients, seconds."""
        names = ("id", "kind", "done", "total", "found", "new_minima", "new_saddles", "work", "seconds")
        query = (
            "SELECT id, kind, next_job, total, found, new_minima, new_saddles, work, seconds FROM rounds ORDER BY id"
        )
        return [dict(zip(names, row)) for row in self._db.execute(query)]

    def components(self) -> np.ndarray:
        """Connected component [M] of each minimum, in the order they were stored."""
        return components(len(self.minima), np.array(self.ends, int).reshape(-1, 2))

    @property
    def seal(self) -> str:
        """Checksum of everything stored."""
        return f"{self._seal:032x}"

    # -- reading -----------------------------------------------------------------------------------------------

    def points(self) -> tuple[list[tuple[Point, int]], list[tuple[Point, int]], list[tuple[int, int]]]:
        """Minima and transition states with their hits, and the ends of the latter; without modes."""

        def stored(catalogue: Catalogue, rows: list[_Row], index: int) -> list[tuple[Point, int]]:
            nothing = np.zeros(0)
            return [
                (
                    Point(
                        x,
                        row.energy,
                        row.rms,
                        index,
                        row.flat,
                        row.lowest,
                        np.nan if row.log_product is None else row.log_product,
                        nothing,
                    ),
                    hits,
                )
                for x, hits, row in zip(catalogue.coordinates, catalogue.hits, rows)
            ]

        minima, saddles = stored(self.minima, self._minimum_rows, 0), stored(self.saddles, self._saddle_rows, 1)
        return minima, saddles, list(self.ends)

    def landscape(self, settings: dict[str, Any] | None = None) -> Landscape:
        """Everything stored, as arrays."""

        def numbers(rows: list[_Row], name: str) -> np.ndarray:
            return np.array([np.nan if getattr(r, name) is None else float(getattr(r, name)) for r in rows], float)

        n = self.problem.size
        return Landscape.from_points(
            self.minima.energies,
            np.array(self.minima.coordinates).reshape(-1, n),
            self.saddles.energies,
            np.array(self.ends, int).reshape(-1, 2),
            problem=self.problem,
            settings=settings if settings is not None else self.get("settings", {}),
            statistics={
                "rounds": self.rounds(),
                "saddle_hits": list(self.saddles.hits),
                "completeness": {
                    "minima": Completeness.of(self.minima.hits).to_dict(),
                    "transition_states": Completeness.of(self.saddles.hits).to_dict(),
                },
            },
            gradients=numbers(self._minimum_rows, "rms"),
            log_products=numbers(self._minimum_rows, "log_product"),
            orbit_sizes=numbers(self._minimum_rows, "orbit"),
            lowest_eigenvalues=numbers(self._minimum_rows, "lowest"),
            hits=np.array(self.minima.hits, int),
            ts_coordinates=np.array(self.saddles.coordinates).reshape(-1, n),
            ts_log_products=numbers(self._saddle_rows, "log_product"),
            ts_orbit_sizes=numbers(self._saddle_rows, "orbit"),
            ts_eigenvalues=numbers(self._saddle_rows, "lowest"),
            ts_gradients=numbers(self._saddle_rows, "rms"),
        )


def _acquire(path: Path) -> Any:
    """Hold the file's lock; the system releases it when the process ends, however it ends."""
    handle = path.with_name(path.name + ".lock").open("a+")
    try:
        import fcntl
    except ImportError:
        return handle
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise StoreLockedError(f"store {path} is being written by another process; wait for it or stop it") from error
    if not os.access(path.parent, os.W_OK):
        handle.close()
        raise StoreError(f"store {path} is in a directory that cannot be written")
    return handle


def _explain(error: sqlite3.Error) -> str:
    text = str(error)
    if "full" in text:
        return "the disk is full"
    if "malformed" in text or "not a database" in text or "corrupt" in text:
        return f"the file is damaged or not a jaxland store ({text}); restore a copy, or move it away and start again"
    if "readonly" in text or "unable to open" in text:
        return f"the file cannot be written ({text})"
    return text
