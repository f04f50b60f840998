"""The landscape's database: SQLite in one file, every row checksummed, one writer at a time, no pickle.

A search is a list of *rounds*; a round is a list of jobs planned from what was known when it began, merged in the
order of the jobs. Each merge is one transaction, so a killed run loses only what was in flight, and a resumed one
ends in the same database as one that was never stopped.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from jaxland.errors import StoreError
from jaxland.landscape import schema
from jaxland.landscape.catalogue import ROW, Catalogue
from jaxland.landscape.database import Database
from jaxland.landscape.network import components
from jaxland.landscape.result import Landscape
from jaxland.landscape.schema import Round, RoundRecord, checksum
from jaxland.landscape.search.completeness import Completeness
from jaxland.landscape.search.jobs import QUENCHES, Job
from jaxland.landscape.search.kinks import Kinks
from jaxland.landscape.search.stationary import Point, Tolerances, require_float64
from jaxland.problem.problem import Problem, required
from jaxland.problem.scale import Box, Scale, reduced, scale_of
from jaxland.runs import agree, identity

_POINT = "id, energy, rms, lowest, flat, log_product, orbit, hits, round, x"
_TABLES = {"minima": f"{_POINT}, checksum", "saddles": f"{_POINT}, end_1, end_2, checksum"}


class Store(Database):
    """The landscape of one problem on disk (or in memory, ``path=None``), kept in units of the problem's scale.

    Args:
        path: of the file.
        problem: whose landscape it is.
        tolerances: see ``Tolerances``.
        box: where random starts will be drawn: a new store finds the scale of an energy there.

    Attributes:
        scale: units of energy and length of everything below; ``landscape`` is in the user's.
        reduced: the problem in these units.
        minima, saddles: what is known of the points, in the order they were stored.
        tries: how often a band between two minima was tried.

    Raises:
        StoreError: the file is damaged, of another format, of another problem, locked by a writer, or cannot be
            written. The file is left as it was. A file of jaxland 0.2.0 is brought to this format.
    """

    of_a_problem = True

    def __init__(
        self,
        path: str | Path | None,
        problem: Problem,
        tolerances: Tolerances | None = None,
        *,
        box: Box | None = None,
    ) -> None:
        if self.of_a_problem:
            problem = required(problem, "Store")
        require_float64(problem.dtype)
        super().__init__(path)
        self.problem, self.box = problem, box
        self.tolerances = tolerances or Tolerances()
        self._settle(problem, Scale())
        self.tries: dict[tuple[int, int], int] = {}
        try:
            self._open()
        except sqlite3.Error as error:
            self.close()
            raise StoreError(f"{self._name}: {schema.explain(error)}") from error
        except UnicodeDecodeError as error:  # a damaged name in SQLite's own message
            self.close()
            raise StoreError(f"{self._name} is damaged ({error.reason}); restore a copy") from error
        except BaseException:
            self.close()
            raise

    @property
    def ends(self) -> np.ndarray:
        """[T, 2] the minima each transition state joins, the lower number first."""
        return self.saddles.ends

    # -- opening -----------------------------------------------------------------------------------------------

    def _settle(self, problem: Problem, scale: Scale) -> None:
        """Take the units of what is stored, before anything is."""
        self.problem, self.scale = problem, scale
        self.reduced = reduced(problem, scale)
        self.minima = Catalogue(self.reduced.symmetry, self.tolerances)
        self.saddles = Catalogue(self.reduced.symmetry, self.tolerances)

    def _open(self) -> None:
        fresh = self._connect()
        version = schema.FORMAT if fresh else schema.version_of(self._db, self._name)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        if fresh:
            self._settle(self.problem, scale_of(self.problem, self.box))
            with self.transaction():
                schema.create(self._db)
                self.put("fingerprint", identity(self.reduced))
                if self.scale != Scale():
                    self.put("scale", self.scale.to_json())
            # From now on a file without tables can only be one whose creation was cut off.
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._check_seal()
        self._check_problem(version)
        self._load()

    def _check_problem(self, version: int) -> None:
        self._settle(self.problem, self._stored_scale())
        stored, mine = self.get("fingerprint"), identity(self.reduced)
        if not isinstance(stored, dict) or stored.get("size") is None:
            raise StoreError(f"{self._name} is damaged: it does not say whose landscape it is")
        if not agree(stored, mine):
            raise StoreError(
                f"{self._name} belongs to another problem ({stored['size']} parameters, symmetry "
                f"{stored['symmetry']}; this one has {mine['size']}, {mine['symmetry']}, or other data, "
                "scaling or regularisation). Use another output directory"
            )
        if version != schema.FORMAT:
            with self.transaction():  # 0.2.0 kept the symmetry in words alone
                self.put("fingerprint", {**mine, "probes": stored["probes"]})
                self._db.execute(f"PRAGMA user_version={schema.FORMAT}")

    def _stored_scale(self) -> Scale:
        return Scale(**self.get("scale", {}))

    def _load(self) -> None:
        for table, catalogue in (("minima", self.minima), ("saddles", self.saddles)):
            rows = self._db.execute(f"SELECT {_TABLES[table]} FROM {table} ORDER BY id").fetchall()
            for expected, row in enumerate(rows):
                i, values, blob, ends, stored = row[0], row[1:7], row[9], row[10:-1], row[-1]
                sound = (
                    i == expected
                    and isinstance(blob, bytes)
                    and len(blob) == 8 * self.problem.size
                    and stored == checksum(blob, *values, *ends)
                    and all(0 <= e < len(self.minima) for e in ends)
                )
                if not sound:
                    raise StoreError(f"{self._name} is damaged: row {i} of {table} fails its checksum")
            kept = [
                (*row[1:5], _number(row[5]), float(row[6]), *row[7:9], row[10:-1] or (-1, -1), row[-1])
                for row in rows
            ]
            x = np.frombuffer(b"".join(row[9] for row in rows), "<f8").reshape(len(rows), self.problem.size)
            catalogue.append(np.array(kept, ROW), x)
        self.tries = {(a, b): t for a, b, t in self._db.execute("SELECT first, second, tries FROM pairs")}

    # -- writing -----------------------------------------------------------------------------------------------

    def add_minima(
        self,
        points: Sequence[Point],
        round_id: int,
        hits: np.ndarray | None = None,
        left: Sequence[tuple[int, ...]] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Store minima in their order, or count more hits of those that are known.

        Args:
            points: the minima.
            round_id: in which they were found.
            hits: how often each was found [k]; default: once.
            left: numbers of the known minima that the search for each had left: to meet one again is no hit.

        Returns:
            numbers [k]; whether each is new [k].
        """
        return self._add("minima", self.minima, points, None, round_id, hits, left)

    def add_saddles(
        self, points: Sequence[Point], ends: np.ndarray, round_id: int, hits: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Store transition states between stored minima, ends [k, 2]; see ``add_minima``."""
        return self._add("saddles", self.saddles, points, np.sort(np.reshape(ends, (-1, 2)), axis=1), round_id, hits)

    def _add(
        self,
        table: str,
        catalogue: Catalogue,
        points: Sequence[Point],
        ends: np.ndarray | None,
        round_id: int,
        hits: np.ndarray | None,
        left: Sequence[tuple[int, ...]] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points of one kind: one search for known ones, one statement for all new, one for all counts."""
        numbers, new = catalogue.identify([p.energy for p in points], [p.x for p in points])
        if not len(points):
            return numbers, new
        counts = np.ones(len(points), int) if hits is None else np.asarray(hits, int)
        if left is not None:
            counts = np.where([number in known for number, known in zip(numbers.tolist(), left)], 0, counts)
        first = len(catalogue)
        total = np.zeros(max(first, int(numbers.max()) + 1), int)
        np.add.at(total, numbers, counts)
        chosen = np.flatnonzero(new).tolist()
        if chosen:
            kept = [points[k] for k in chosen]
            pairs = None if ends is None else ends[chosen]
            self._insert(table, catalogue, kept, pairs, round_id, total[first:])
        again = np.flatnonzero(total[:first])
        if len(again):
            before = catalogue.rows[again][["hits", "round", "checksum"]].tolist()
            catalogue.rows["hits"][again] += total[again]
            after = catalogue.hits[again].tolist()
            ids = again.tolist()
            self._db.executemany(f"UPDATE {table} SET hits = ? WHERE id = ?", zip(after, ids))
            self._sealed(
                table,
                ((i, h, *row[1:]) for i, h, row in zip(ids, after, before)),
                ((i, *row) for i, row in zip(ids, before)),
            )
        return numbers, new

    def _insert(
        self,
        table: str,
        catalogue: Catalogue,
        points: list[Point],
        ends: np.ndarray | None,
        round_id: int,
        hits: np.ndarray,
    ) -> None:
        """Append points that are new to the catalogue and to the file."""
        symmetry, raw = self.reduced.symmetry, np.array([p.x for p in points])
        x = np.ascontiguousarray(symmetry.canonicals(raw), "<f8")
        orbits = symmetry.orbit_sizes(raw)
        pairs: list[tuple[int, ...]] = [()] * len(points) if ends is None else [(a, b) for a, b in ends.tolist()]
        written, kept = [], []
        for k, (p, orbit, count, pair) in enumerate(zip(points, orbits, hits.tolist(), pairs), len(catalogue)):
            blob = x[k - len(catalogue)].tobytes()
            log_product = None if np.isnan(p.log_product) else p.log_product
            values = (p.energy, p.rms, p.lowest, p.flat, log_product, str(orbit))
            mark = checksum(blob, *values, *pair)
            written.append((k, *values, count, round_id, blob, *pair, mark))
            kept.append((*values[:4], p.log_product, float(orbit), count, round_id, pair or (-1, -1), mark))
        columns = ", ".join("?" * len(written[0]))
        self._db.executemany(f"INSERT INTO {table} VALUES ({columns})", written)
        self._sealed(table, ((row[0], row[7], row[8], row[-1]) for row in written))
        catalogue.append(np.array(kept, ROW), x)

    def add_tries(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Count attempts to join two minima by a band."""
        for a, b in pairs:
            pair = (min(a, b), max(a, b))
            self.tries[pair] = self.tries.get(pair, 0) + 1
            statement = "INSERT OR REPLACE INTO pairs VALUES (?, ?, ?)"
            self._write("pairs", "first = ? AND second = ?", pair, statement, (*pair, self.tries[pair]))

    # -- rounds ------------------------------------------------------------------------------------------------

    def start_round(self, kind: str, jobs: Sequence[Job]) -> Round:
        """Plan a round; its jobs are fixed from now on."""
        (last,) = self._db.execute("SELECT COALESCE(MAX(id), -1) FROM rounds").fetchone()
        text = json.dumps(jobs)
        self._write(
            "rounds",
            "id = ?",
            (last + 1,),
            "INSERT INTO rounds VALUES (?, ?, ?, 0, ?, 0, 0, 0, 0, 0, ?)",
            (last + 1, kind, text, len(jobs), checksum(text.encode(), last + 1, kind)),
        )
        return Round(last + 1, kind, jobs, 0)

    def open_round(self) -> Round | None:
        """The round that was begun and not finished, if any."""
        row = self._db.execute(
            "SELECT id, kind, jobs, next_job, total, checksum FROM rounds WHERE next_job < total ORDER BY id LIMIT 1"
        ).fetchone()
        if row is None:
            return None
        if row[5] != checksum(row[2].encode(), row[0], row[1]):
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

    def rounds(self) -> list[RoundRecord]:
        """What each round did, in order."""
        return schema.rounds_of(self._db)

    def components(self) -> np.ndarray:
        """Connected component [M] of each minimum, in the order they were stored."""
        return components(len(self.minima), self.ends)

    # -- reading -----------------------------------------------------------------------------------------------

    def points(self) -> tuple[list[Point], list[Point]]:
        """Minima and transition states, without modes."""
        return self.minima.points(0), self.saddles.points(1)

    def points_in(self, scale: Scale, negative: int) -> list[Point]:
        """Minima (0) or transition states (1), without modes, in units of another scale."""
        mine, kind = self.scale, self.saddles if negative else self.minima
        if mine == scale:
            return kind.points(negative)
        energy, length = mine.energy / scale.energy, mine.length / scale.length
        shift = np.log(energy / length**2)
        positive = self.problem.size - self.problem.symmetry.zero_modes - negative
        return [
            p._replace(
                x=p.x * length,
                energy=p.energy * energy,
                rms=p.rms * energy / length,
                lowest=p.lowest * energy / length**2,
                log_product=p.log_product + (positive - p.flat) * shift,
            )
            for p in kind.points(negative)
        ]

    def landscape(self, settings: dict[str, Any] | None = None) -> Landscape:
        """Everything stored, as arrays in the user's units."""
        n, minima, saddles, scale = self.problem.size, self.minima.rows, self.saddles.rows, self.scale
        statistics: dict[str, Any] = {
            "rounds": self.rounds(),
            "ended": None if self.open_round() else self.get("ended"),
            "saddle_hits": saddles["hits"].tolist(),
            "completeness": {
                "minima": Completeness.of(self.minima.hits).to_dict(),
                "transition_states": Completeness.of(self.saddles.hits).to_dict(),
            },
        }
        if (flat := self.get("flat")) is not None:
            statistics["flat"] = flat
        on_kinks = Kinks.of_json(self.get("kinks"))
        if on_kinks.ended:
            at = (np.array(on_kinks.at) * scale.length).tolist()
            told = on_kinks._replace(lowest=on_kinks.lowest * scale.energy, at=tuple(at)).to_json()
            statistics["kinks"] = {**told, "quenches": self._quenches()}
        if not scale.is_one:
            statistics["scale"] = {"energy": scale.energy, "length": scale.length}
        return Landscape.from_points(
            minima["energy"] * scale.energy,
            self.minima.coordinates.reshape(-1, n) * scale.length,
            saddles["energy"] * scale.energy,
            saddles["ends"],
            problem=self.problem,
            settings=settings if settings is not None else self.get("settings", {}),
            statistics=statistics,
            gradients=minima["rms"] * scale.gradient,
            log_products=self._log_products(minima, 0),
            orbit_sizes=minima["orbit"],
            lowest_eigenvalues=minima["lowest"] * scale.curvature,
            hits=minima["hits"],
            ts_coordinates=self.saddles.coordinates.reshape(-1, n) * scale.length,
            ts_log_products=self._log_products(saddles, 1),
            ts_orbit_sizes=saddles["orbit"],
            ts_eigenvalues=saddles["lowest"] * scale.curvature,
            ts_gradients=saddles["rms"] * scale.gradient,
        )

    def _quenches(self) -> int:
        """From random points and of walkers, so far."""
        return sum(row["done"] for row in self.rounds() if row["kind"] in QUENCHES)

    def _log_products(self, rows: np.ndarray, negative: int) -> np.ndarray:
        """Sums of the logarithms of the positive eigenvalues, in the user's units."""
        positive = self.problem.size - self.problem.symmetry.zero_modes - negative - rows["flat"]
        return rows["log_product"] + positive * np.log(self.scale.curvature)


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def scale_in(path: Path) -> Scale | None:
    """The scale that a store on disk is in, without opening it for writing; None where there is no store yet."""
    if not path.is_file() or not path.stat().st_size:
        return None
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            kept = dict(db.execute("SELECT key, value FROM meta WHERE key IN ('fingerprint', 'scale')"))
    except sqlite3.Error:
        return None  # whoever opens it says what is wrong
    return Scale(**json.loads(kept.get("scale", "{}"))) if "fingerprint" in kept else None
