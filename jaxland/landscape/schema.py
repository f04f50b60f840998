"""The tables of a store, what seals them, and how a file of an earlier version becomes one of this."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple, TypedDict

from jaxland.errors import StoreError, StoreLockedError
from jaxland.landscape.search.jobs import Job

FORMAT = 3
APPLICATION = 0x4A4C4E44  # "JLND"

Value = str | bytes | int | float | None
Row = tuple[Value, ...]

_POINT = """
    id INTEGER PRIMARY KEY, energy REAL NOT NULL, rms REAL NOT NULL, lowest REAL NOT NULL, flat INTEGER NOT NULL,
    log_product REAL, orbit TEXT NOT NULL, hits INTEGER NOT NULL, round INTEGER NOT NULL, x BLOB NOT NULL,"""
SCHEMA = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    f"CREATE TABLE minima ({_POINT} checksum INTEGER NOT NULL)",
    f"""CREATE TABLE saddles ({_POINT}
    end_1 INTEGER NOT NULL REFERENCES minima(id), end_2 INTEGER NOT NULL REFERENCES minima(id),
    checksum INTEGER NOT NULL)""",
    "CREATE TABLE pairs (first INTEGER, second INTEGER, tries INTEGER NOT NULL, PRIMARY KEY (first, second))",
    """CREATE TABLE rounds (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, jobs TEXT NOT NULL, next_job INTEGER NOT NULL, total INTEGER NOT NULL,
    found INTEGER NOT NULL, new_minima INTEGER NOT NULL, new_saddles INTEGER NOT NULL, work INTEGER NOT NULL,
    seconds REAL NOT NULL, checksum INTEGER NOT NULL)""",
)
# What of each table its seal covers; a point's other columns are in its checksum.
SEALED = {
    "meta": "key, value",
    "minima": "id, hits, round, checksum",
    "saddles": "id, hits, round, checksum",
    "pairs": "first, second, tries",
    "rounds": "id, kind, jobs, next_job, total, found, new_minima, new_saddles, work, seconds, checksum",
}


class Round(NamedTuple):
    """A planned round: its number, what it does, its jobs (JSON-able), and the first job not merged yet."""

    id: int
    kind: str
    jobs: Sequence[Job]
    next_job: int


class RoundRecord(TypedDict):
    """What a round did: jobs done of all, points found, how many of them were new, work in gradients, seconds."""

    id: int
    kind: str
    done: int
    total: int
    found: int
    new_minima: int
    new_saddles: int
    work: int
    seconds: float


def checksum(blob: bytes, *values: Value) -> int:
    """CRC-32 of a row: its bytes, then its values."""
    return zlib.crc32(repr(values).encode(), zlib.crc32(blob))


def row_hash(table: str, row: Row) -> int:
    """128 bits of a row's sealed columns; a store's seal is their sum over all rows."""
    return int.from_bytes(hashlib.blake2b(repr((table, *row)).encode(), digest_size=16).digest(), "big")


def total_hash(db: sqlite3.Connection) -> int:
    """Sum of the hashes of all rows: none can be changed, added, lost or doubled without it changing."""
    rows = (
        (table, row)
        for table, columns in SEALED.items()
        for row in db.execute(f"SELECT {columns} FROM {table}")
        if row[0] != "seal"
    )
    return sum(row_hash(table, row) for table, row in rows) % 2**128


def create(db: sqlite3.Connection) -> None:
    """Make the tables, in the caller's transaction."""
    for statement in SCHEMA:
        db.execute(statement)
    db.execute(f"PRAGMA application_id={APPLICATION}")
    db.execute(f"PRAGMA user_version={FORMAT}")


def never_begun(db: sqlite3.Connection) -> bool:
    """Whether the file is what a kill before the first commit leaves: SQLite's, without any table."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    return application == 0 and db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


def version_of(db: sqlite3.Connection, name: str) -> int:
    """Format of an undamaged store: 2 (jaxland 0.2.0) or 3.

    Raises:
        StoreError: no store, damaged, or of a format that this jaxland does not know.
    """
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise StoreError(f"{name} is not a jaxland store; give another --out or move the file away")
    if version not in (2, FORMAT):
        raise StoreError(f"{name} has format {version}, this jaxland reads {FORMAT} and converts 2")
    (state,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if state != "ok":
        raise StoreError(f"{name} is damaged ({state}); restore a copy, or move it away and start again")
    return int(version)


def rounds_of(db: sqlite3.Connection) -> list[RoundRecord]:
    """What each round of a store did, in order."""
    query = "SELECT id, kind, next_job, total, found, new_minima, new_saddles, work, seconds FROM rounds ORDER BY id"
    return [
        RoundRecord(
            id=row[0],
            kind=row[1],
            done=row[2],
            total=row[3],
            found=row[4],
            new_minima=row[5],
            new_saddles=row[6],
            work=row[7],
            seconds=row[8],
        )
        for row in db.execute(query)
    ]


def acquire(path: Path) -> IO[str]:
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


def explain(error: sqlite3.Error) -> str:
    """What an error of SQLite means to a user."""
    text = str(error)
    if "full" in text:
        return "the disk is full"
    if "malformed" in text or "not a database" in text or "corrupt" in text:
        return f"the file is damaged or not a jaxland store ({text}); restore a copy, or move it away and start again"
    if "readonly" in text or "unable to open" in text:
        return f"the file cannot be written ({text})"
    return text
