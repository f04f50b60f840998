"""PATHSAMPLE databases (Wales group's Fortran suite), read and written.

    min.data    E  ln(product of positive Hessian eigenvalues)  point-group order  Ix Iy Iz
    ts.data     E  ln(product)  order  min1  min2  Ix Iy Iz                        (min1, min2 count from 1)
    points.min, points.ts   headerless little-endian float64, one record of N numbers per line of the data files
    min.A, min.B            how many minima, then their numbers from 1: products A and reactants B

``order`` is (order of the symmetry group) / (orbit size). Moments of inertia are those of a cluster of atoms of mass
1; a network has none: 1.0 is written.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from jaxland.errors import ArgumentError, DataError, StoreError
from jaxland.landscape.interchange.archive import atoms_of, common_order, describe_problem, group_order
from jaxland.landscape.result import Landscape
from jaxland.runs import replacing

MIN_DATA, TS_DATA, MIN_POINTS, TS_POINTS, MIN_A, MIN_B = (
    "min.data", "ts.data", "points.min", "points.ts", "min.A", "min.B",
)  # fmt: skip
SEAL = "jaxland.sha256"
_FILES = (MIN_DATA, TS_DATA, MIN_POINTS, TS_POINTS, MIN_A, MIN_B)
_TITLE = "# jaxland PATHSAMPLE database 1"
_MIN_COLUMNS = ("energy", "log product", "order", "Ix", "Iy", "Iz")
_TS_COLUMNS = ("energy", "log product", "order", "min1", "min2", "Ix", "Iy", "Iz")
_OTHERS = {
    (MIN_DATA, 2): "an index and an energy, as topsearch writes: it does not say what PATHSAMPLE needs",
    (TS_DATA, 3): "two indices and an energy, as topsearch writes: it does not say what PATHSAMPLE needs",
    (MIN_DATA, 1): "an energy alone, or numbers that have run together",
}
_LINE = 4096
# Fortran writes 1.0D+02 for double precision, and leaves the letter out where an exponent needs three digits.
_REAL = re.compile(
    r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eEdDqQ]([+-]?\d{1,4})|([+-]\d{1,4}))?",
    re.ASCII,
)
_INTEGER = re.compile(r"[+-]?\d{1,60}", re.ASCII)


@dataclass(frozen=True, eq=False)
class PathsampleDatabase:
    """A landscape and what PATHSAMPLE keeps besides.

    Attributes:
        landscape: minima sorted by energy.
        a, b: minima of the product set A and the reactant set B, as ascending indices into the landscape.
        moments: [M, 3] principal moments of inertia.
        ts_moments: [T, 3].
        notes: what a reader should know: files that were not there, odd contents.
    """

    landscape: Landscape
    a: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    b: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    moments: np.ndarray | None = None
    ts_moments: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def extras(self) -> dict[str, np.ndarray]:
        """What does not fit into the landscape, to be kept beside it (see ``archive.save``)."""
        named = {"a": self.a, "b": self.b, "moments": self.moments, "ts_moments": self.ts_moments}
        return {name: value for name, value in named.items() if value is not None and len(value)}

    @classmethod
    def restored(cls, landscape: Landscape, extras: dict[str, np.ndarray]) -> PathsampleDatabase:
        """From a landscape and its ``extras``."""
        none = np.zeros(0, int)
        a, b = (extras.get(name, none) for name in ("a", "b"))
        return cls(landscape, a, b, extras.get("moments"), extras.get("ts_moments"))

    def describe(self) -> str:
        """One sentence."""
        sets = f"; {len(self.a)} minima in A, {len(self.b)} in B" if len(self.a) or len(self.b) else ""
        return self.landscape.describe() + sets


# -- reading ---------------------------------------------------------------------------------------------------


def read(
    folder: str | Path, *, problem: Any = None, size: int | None = None, energy_tolerance: float | None = 1e-6
) -> PathsampleDatabase:
    """Read a PATHSAMPLE database.

    Points, ts.data, min.A and min.B may be missing; coordinates are then [M, 0], and ``notes`` says so. Where a
    ``jaxland.sha256`` lies beside the files (``write`` leaves one), they are checked against it first.

    Args:
        folder: the directory with min.data.
        problem: whose energies these are: the number of coordinates must be its, and the stored energies must agree
            with its own at the stored coordinates.
        size: N, how many coordinates a point must have; default the problem's, or what the file's length says.
        energy_tolerance: largest |dE| / max(1, |E|); None does not compare.

    Raises:
        DataError: a file is missing, malformed, of another program, or does not fit the others; the message names
            file, line and column. StoreError: the files do not fit their checksums, or cannot be read.
    """
    folder = Path(folder)
    if not (folder / MIN_DATA).is_file():
        raise DataError(f"{folder} holds no {MIN_DATA}: give the directory of a PATHSAMPLE database")
    try:
        about = _verify(folder)
        return _read(folder, about, problem, size, energy_tolerance)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{folder} cannot be read: {error.strerror or error}") from error


def _read(
    folder: Path, about: dict[str, Any], problem: Any, size: int | None, tolerance: float | None
) -> PathsampleDatabase:
    notes: list[str] = []
    minima = _table(folder / MIN_DATA, _MIN_COLUMNS)
    m = len(minima["energy"])
    if not m:
        raise DataError(f"{folder / MIN_DATA} holds no minima")
    if (folder / TS_DATA).is_file():
        saddles = _table(folder / TS_DATA, _TS_COLUMNS, most=m)
    else:
        saddles = {name: np.zeros(0) for name in _TS_COLUMNS}
        notes.append(f"no {TS_DATA}: minima only")
    ends = np.column_stack([saddles["min1"], saddles["min2"]]).astype(int).reshape(-1, 2) - 1
    size = problem.size if problem is not None else size
    if size is None:
        size = about.get("parameters")
    points = _points(folder / MIN_POINTS, m, size, notes)
    if points is not None:
        size = points.shape[1]
    ts_points = _points(folder / TS_POINTS, len(ends), size, notes)
    if points is None and ts_points is not None:
        raise DataError(f"{folder} holds {TS_POINTS} but no {MIN_POINTS}")
    if problem is not None and tolerance is not None:
        for name, table, x in ((MIN_DATA, minima, points), (TS_DATA, saddles, ts_points)):
            if x is not None:
                _compare(problem, folder / name, table, x, tolerance)
    notes += _low(folder / TS_DATA, saddles, minima["energy"], ends)

    orders, ts_orders = minima["order"], saddles["order"]
    if problem is not None:
        order = int(problem.symmetry.order())
        odd = sum(order % o != 0 for o in (*orders, *ts_orders))
        if odd:
            notes.append(f"the orders of {odd} points do not divide that of the problem's symmetry group, {order}")
    else:
        order = int(about.get("group_order") or common_order([*orders, *ts_orders]))
    settings = {"source": "PATHSAMPLE", "group_order": order, "problem": about.get("problem", "")}
    landscape = Landscape.from_points(
        minima["energy"],
        np.zeros((m, 0)) if points is None else points,
        saddles["energy"],
        ends,
        problem=problem,
        settings=settings,
        log_products=minima["log product"],
        orbit_sizes=np.array([order / o for o in orders], float),
        ts_coordinates=ts_points,
        ts_log_products=saddles["log product"],
        ts_orbit_sizes=np.array([order / o for o in ts_orders], float),
    )
    rank, by_energy = np.empty(m, int), np.argsort(minima["energy"], kind="stable")
    rank[by_energy] = np.arange(m)
    a, b = (np.sort(rank[_listed(folder / name, m, notes)]) for name in (MIN_A, MIN_B))
    both = np.intersect1d(a, b)
    if len(both):
        raise DataError(f"{folder}: minimum {by_energy[both[0]] + 1} is in both {MIN_A} and {MIN_B}")
    ts_by_energy = np.argsort(saddles["energy"], kind="stable")
    return PathsampleDatabase(
        landscape, a, b, _moments(minima)[by_energy], _moments(saddles)[ts_by_energy], tuple(notes)
    )


def _moments(table: dict[str, Any]) -> np.ndarray:
    return np.column_stack([table[name] for name in ("Ix", "Iy", "Iz")]).reshape(-1, 3)


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and words of every line that is not blank."""
    with path.open("rb") as file:
        for number in range(1, 1 << 62):
            raw = file.readline(_LINE)
            if not raw:
                return
            if len(raw) == _LINE and not raw.endswith(b"\n"):
                raise DataError(f"{path}, line {number}: longer than {_LINE} characters; is this {path.name}?")
            if not all(32 <= c < 127 or c in b"\t\r\n" for c in raw):
                raise DataError(f"{path}, line {number}: not plain text; is this {path.name}?")
            words = raw.decode("ascii").split()
            if words:
                yield number, words


def _real(word: str) -> float | None:
    found = _REAL.fullmatch(word)
    return None if found is None else float(f"{found[1]}e{found[2] or found[3] or 0}")


def _number(path: Path, line: int, column: str, word: str, whole: bool) -> Any:
    value = (int(word) if _INTEGER.fullmatch(word) else None) if whole else _real(word)
    if value is not None and math.isfinite(value):
        return value
    where = f"{path}, line {line}, column {column}: {word[:40]!r}"
    if "*" in word:
        raise DataError(f"{where}: the number did not fit its field when it was written, and is lost")
    if value is not None:
        raise DataError(f"{where} is beyond double precision")
    raise DataError(f"{where} is not a {'whole ' if whole else ''}number; is this a PATHSAMPLE file?")


def _table(path: Path, columns: Sequence[str], most: int = 0) -> dict[str, Any]:
    """Columns of a data file; ``order`` as a list of Python integers, the others as arrays, with ``line`` numbers."""
    whole = {"order", "min1", "min2"}
    kept: dict[str, Any] = {c: [] if c == "order" else array("q" if c in whole else "d") for c in columns}
    lines = array("q")
    for number, words in _lines(path):
        if len(words) != len(columns):
            guess = _OTHERS.get((path.name, len(words)))
            raise DataError(
                f"{path}, line {number}: {len(words)} columns where PATHSAMPLE has {len(columns)} "
                f"({', '.join(columns)})" + (f"; this looks like {guess}" if guess else "")
            )
        for column, word in zip(columns, words):
            value = _number(path, number, column, word, column in whole)
            if column == "order" and value < 1:
                raise DataError(f"{path}, line {number}, column order: must be at least 1, got {value}")
            if column in ("min1", "min2") and not 1 <= value <= most:
                raise DataError(f"{path}, line {number}, column {column}: there is no minimum {value} among {most}")
            kept[column].append(value)
        lines.append(number)
    return {c: v if c == "order" else np.array(v) for c, v in kept.items()} | {"line": np.array(lines)}


def _points(path: Path, count: int, size: int | None, notes: list[str]) -> np.ndarray | None:
    """Coordinates [count, N]; None without the file."""
    if not path.is_file():
        if count:
            notes.append(f"no {path.name}: no coordinates")
        return None
    length = path.stat().st_size
    if not count:
        if length:
            raise DataError(f"{path} holds {length} bytes, but there are no points")
        return None
    known = f"{count} records" + (f" of {size} numbers" if size is not None else "")
    if length == 0 or length % (8 * count) or (size is not None and length != 8 * count * size):
        raise DataError(f"{path} has {length} bytes, which are not {known} of 8 bytes each{_marked(path, count)}")
    size = length // (8 * count)
    x = np.fromfile(path, "<f8", count * size).reshape(count, size)
    if len(x) != count:
        raise DataError(f"{path} ended while it was read")
    if not _plausible(x) and _plausible(x.byteswap()):
        raise DataError(f"{path} is big-endian (another computer's?): write it little-endian")
    bad = np.flatnonzero(~np.isfinite(x).all(1))
    if len(bad):
        raise DataError(f"{path}, record {bad[0] + 1}: not all of its {size} numbers are finite")
    return x.astype(np.float64, copy=False)


def _plausible(x: np.ndarray) -> bool:
    with np.errstate(invalid="ignore"):
        size = np.abs(x)
        return bool(np.isfinite(x).all() and np.all((size == 0) | ((size > 1e-100) & (size < 1e100))))


def _marked(path: Path, count: int) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    record = int.from_bytes(head, "little")
    if record and record % 8 == 0 and path.stat().st_size == count * (record + 8):
        return "; it has Fortran record markers (sequential access), PATHSAMPLE's has none (direct access)"
    return ""


def _listed(path: Path, most: int, notes: list[str]) -> np.ndarray:
    """Indices in min.A or min.B; the numbers may be spread over lines."""
    if not path.is_file():
        return np.zeros(0, int)
    numbers = array("q")
    for line, words in _lines(path):
        for word in words:
            value = _number(path, line, "1", word, True)
            low, high = (1, most) if numbers else (0, most)
            if not low <= value <= high:
                what = "minimum" if numbers else "count"
                raise DataError(f"{path}, line {line}: {what} {value} does not fit a database of {most} minima")
            numbers.append(value)
            if len(numbers) > numbers[0] + 1:
                raise DataError(f"{path}, line {line}: lists more than the {numbers[0]} minima it announces")
    if not numbers:
        raise DataError(f"{path} is empty: it must begin with the number of its minima")
    if len(numbers) - 1 != numbers[0]:
        raise DataError(f"{path} announces {numbers[0]} minima and lists {len(numbers) - 1}")
    found = np.array(numbers[1:], int) - 1
    if len(np.unique(found)) != len(found):
        raise DataError(f"{path} lists a minimum twice")
    return found


def _low(path: Path, saddles: dict[str, Any], energies: np.ndarray, ends: np.ndarray) -> list[str]:
    below = np.flatnonzero(saddles["energy"] < energies[ends].max(1))
    if not len(below):
        return []
    return [
        f"{len(below)} transition states lie below a minimum they join, the first in {path.name}, line "
        f"{saddles['line'][below[0]]}"
    ]


def _compare(problem: Any, path: Path, table: dict[str, Any], x: np.ndarray, tolerance: float) -> None:
    from jaxland.core.solvers.batches import map_rows

    dtype = problem.dtype
    mine = np.array(map_rows(problem.energy_of, [row.astype(dtype) for row in x], problem.data), float)
    given = table["energy"]
    off = ~(np.abs(mine - given) <= tolerance * np.maximum(1.0, np.abs(given)))
    if off.any():
        i = int(np.flatnonzero(off)[0])
        raise DataError(
            f"{path}, line {table['line'][i]}: energy {given[i]:.10g}, but the problem gives {mine[i]:.10g} at these "
            f"coordinates ({int(off.sum())} of {len(off)} disagree): other data, another potential, or damaged points"
        )


# -- checksums -------------------------------------------------------------------------------------------------


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sealed(lines: Sequence[str]) -> str:
    body = "".join(f"{line}\n" for line in lines)
    return f"{body}# {hashlib.sha256(body.encode()).hexdigest()}\n"


def _verify(folder: Path) -> dict[str, Any]:
    """Check the files against ``jaxland.sha256``, where there is one; returns what it tells of the problem."""
    path = folder / SEAL
    if not path.exists():
        return {}
    if path.stat().st_size > 1 << 20:
        raise StoreError(f"{path} is damaged: it is too long")
    text = path.read_bytes().decode("ascii", errors="replace")
    lines = text.split("\n")[:-2]
    if len(lines) < 2 or lines[0] != _TITLE or text != _sealed(lines):
        raise StoreError(f"{path} is damaged; remove it to read the other files unchecked")
    for line in lines[2:]:
        digest, _, name = line.partition("  ")
        if name not in _FILES or not (folder / name).is_file():
            raise StoreError(f"{folder / name} is missing: {path.name} lists it")
        if _digest(folder / name) != digest:
            raise StoreError(
                f"{folder / name} does not fit {path.name}: it is damaged, or another program has changed it since; "
                f"where that is meant, remove {path.name}"
            )
    return dict(json.loads(lines[1][2:]))


# -- writing ---------------------------------------------------------------------------------------------------


def write(
    database: PathsampleDatabase | Landscape,
    folder: str | Path,
    *,
    a: Sequence[int] | None = None,
    b: Sequence[int] | None = None,
    log_product: float | None = None,
    force: bool = False,
) -> list[Path]:
    """Write a PATHSAMPLE database, and a ``jaxland.sha256`` that guards it (``sha256sum -c`` reads it too).

    Energies, log products and coordinates come back bit by bit. All files are written or none.

    Args:
        database: a landscape alone is taken as one without A and B; moments of inertia that are not given are
            calculated for a cluster of atoms, and are 1 for anything else.
        folder: made where it does not exist.
        a, b: minima of the sets A (products) and B (reactants), as indices; default those of the database.
        log_product: to write where the landscape has none (Hessians too large to diagonalise); free energies and
            rates from such a database mean nothing.
        force: replace a database that is there.

    Returns:
        The paths of the files.

    Raises:
        DataError: the landscape lacks what the format needs. ArgumentError: a or b are no minima of it, or overlap.
        StoreError: files are there already, or cannot be written.
    """
    folder = Path(folder)
    data = database if isinstance(database, PathsampleDatabase) else PathsampleDatabase(database)
    landscape = data.landscape
    m, t = landscape.n_minima, landscape.n_ts
    if not m:
        raise DataError("the landscape has no minima to write")
    in_a, in_b = _members("a", data.a if a is None else a, m), _members("b", data.b if b is None else b, m)
    both = np.intersect1d(in_a, in_b)
    if len(both):
        raise ArgumentError(f"minimum {both[0]} is in both a and b")
    order = group_order(landscape)
    moments, ts_moments = data.moments, data.ts_moments
    atoms = atoms_of(describe_problem(landscape), landscape.size)
    if atoms is not None and moments is None:
        moments = moments_of_inertia(landscape.coordinates, atoms)
    if atoms is not None and ts_moments is None and np.isfinite(landscape.ts_coordinates).all():
        ts_moments = moments_of_inertia(landscape.ts_coordinates, atoms)
    content: dict[str, Any] = {
        MIN_DATA: _rows(
            landscape.energies,
            _logs(landscape.log_products, log_product, "minimum"),
            _orders(order, landscape.orbit_sizes, "minimum"),
            None,
            moments,
        ),
        TS_DATA: _rows(
            landscape.ts_energies,
            _logs(landscape.ts_log_products, log_product, "transition state"),
            _orders(order, landscape.ts_orbit_sizes, "transition state"),
            landscape.ts_ends,
            ts_moments,
        ),
    }
    if landscape.size:
        content[MIN_POINTS] = _records(landscape.coordinates, "minimum")
        if t == 0 or np.isfinite(landscape.ts_coordinates).any():
            content[TS_POINTS] = _records(landscape.ts_coordinates, "transition state")
    for name, members in ((MIN_A, in_a), (MIN_B, in_b)):
        if len(members):
            content[name] = f"{len(members)}\n" + "".join(f"{i + 1}\n" for i in members)
    about: dict[str, Any] = {"group_order": order, "minima": m, "transition_states": t}
    if landscape.size:
        about["parameters"] = landscape.size
    about["problem"] = describe_problem(landscape)
    unwritten = [name for name in _FILES if name not in content]
    with replacing(folder, [SEAL, *content], force=force, stale=unwritten) as scratch:
        for name, value in content.items():
            with (scratch / name).open("wb") as file:
                for part in (value,) if isinstance(value, str) else value:
                    if file.write(part.encode() if isinstance(part, str) else part) != len(part):
                        raise OSError(errno.ENOSPC, "the disk is full")
        listed = [f"{_digest(scratch / name)}  {name}" for name in content]
        (scratch / SEAL).write_text(_sealed([_TITLE, f"# {json.dumps(about, sort_keys=True)}", *listed]), "ascii")
    return [folder / name for name in (*content, SEAL)]


def moments_of_inertia(coordinates: np.ndarray, atoms: int) -> np.ndarray:
    """Principal moments [K, 3], ascending, of clusters of atoms of mass 1; coordinates [K, 3 * atoms]."""
    x = np.asarray(coordinates, float).reshape(-1, atoms, 3)
    x = x - x.mean(1, keepdims=True)
    inertia = np.sum(x * x, axis=(1, 2))[:, None, None] * np.eye(3) - np.einsum("kai,kaj->kij", x, x)
    return np.linalg.eigvalsh(inertia)


def _members(name: str, members: Any, m: int) -> np.ndarray:
    members = np.asarray(members, int).reshape(-1)
    if len(members) and not (members.min() >= 0 and members.max() < m):
        raise ArgumentError(f"{name} must hold minima 0..{m - 1}, got {members.tolist()}")
    return np.unique(members)


def _logs(values: np.ndarray, otherwise: float | None, what: str) -> np.ndarray:
    lacking = np.flatnonzero(~np.isfinite(values))
    if len(lacking) and otherwise is None:
        raise DataError(
            f"{what} {lacking[0]} (and {len(lacking) - 1} more) has no log product of Hessian eigenvalues, which "
            "PATHSAMPLE needs; give log_product (--log-product) to write that number instead"
        )
    return np.where(np.isfinite(values), values, otherwise if otherwise is not None else 0.0)


def _orders(order: int, orbits: np.ndarray, what: str) -> list[int]:
    """Point-group orders: order of the group over orbit size, exactly."""
    if len(orbits) and not (np.isfinite(orbits).all() and np.min(orbits) > 0):
        raise DataError(f"orbit sizes must be positive; that of {what} {np.argmin(orbits)} is {np.min(orbits)}")
    return [max(1, round(Fraction(order) / Fraction(float(size)))) for size in orbits]


def _rows(
    energies: np.ndarray, logs: np.ndarray, orders: list[int], ends: np.ndarray | None, moments: np.ndarray | None
) -> Iterator[str]:
    if moments is None:
        moments = np.ones((len(energies), 3))
    if np.shape(moments) != (len(energies), 3):
        raise DataError(f"moments must have shape [{len(energies)}, 3], got {np.shape(moments)}")

    def rows() -> Iterator[str]:
        for k, (e, log, o) in enumerate(zip(energies.tolist(), logs.tolist(), orders)):
            joined = "" if ends is None else f" {ends[k, 0] + 1:9d} {ends[k, 1] + 1:9d}"
            yield f"{e:24.16E} {log:24.16E} {o:6d}{joined}" + "".join(f" {i:24.16E}" for i in moments[k]) + "\n"

    return rows()


def _records(x: np.ndarray, what: str) -> tuple[Any, ...]:
    bad = np.flatnonzero(~np.isfinite(x).all(1))
    if len(bad):
        raise DataError(f"the coordinates of {what} {bad[0]} are not all finite")
    return (np.ascontiguousarray(x, "<f8").tobytes(),)
