"""Read a PATHSAMPLE database."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxland.errors import DataError, StoreError
from jaxland.landscape.interchange.archive import common_order, with_symmetry
from jaxland.landscape.interchange.pathsample.database import PathsampleDatabase
from jaxland.landscape.interchange.pathsample.seal import verify
from jaxland.landscape.interchange.pathsample.tables import (
    MIN_A,
    MIN_B,
    MIN_DATA,
    MIN_POINTS,
    TS_DATA,
    TS_POINTS,
    PointTable,
    minima_listed,
    minima_table,
    records,
    states_table,
)
from jaxland.landscape.result import Landscape
from jaxland.problem.problem import Problem


def read(
    folder: str | Path,
    *,
    problem: Problem | None = None,
    size: int | None = None,
    energy_tolerance: float | None = 1e-6,
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
        about = verify(folder)
        return _read(folder, about, problem, size, energy_tolerance)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{folder} cannot be read: {error.strerror or error}") from error


class _Points(NamedTuple):
    """Coordinates in the order of the files.

    Attributes:
        size: N, where it is known.
        minima: [M, N]; states: [T, N]; None each without its file.
    """

    size: int | None
    minima: np.ndarray | None
    states: np.ndarray | None


def _read(
    folder: Path, about: Mapping[str, Any], problem: Problem | None, size: int | None, tolerance: float | None
) -> PathsampleDatabase:
    notes: list[str] = []
    minima = minima_table(folder / MIN_DATA)
    m = len(minima)
    if not m:
        raise DataError(f"{folder / MIN_DATA} holds no minima")
    states = states_table(folder / TS_DATA, m)
    if not states.path.is_file():
        notes.append(f"no {TS_DATA}: minima only")
    if problem is not None:
        size = problem.size
    points = _coordinates(folder, m, len(states), about.get("parameters") if size is None else size, notes)
    if problem is not None and tolerance is not None:
        for table, x in ((minima, points.minima), (states, points.states)):
            if x is not None:
                _compare(problem, table, x, tolerance)
    notes += _low(states, minima.energies)
    order = _group_order(about, problem, [*minima.orders, *states.orders], notes)
    landscape = Landscape.from_points(
        minima.energies,
        np.zeros((m, 0)) if points.minima is None else points.minima,
        states.energies,
        states.ends,
        problem=problem,
        settings={"source": "PATHSAMPLE", "group_order": order, "problem": about.get("problem", "")},
        log_products=minima.log_products,
        orbit_sizes=np.array([order / o for o in minima.orders], float),
        ts_coordinates=points.states,
        ts_log_products=states.log_products,
        ts_orbit_sizes=np.array([order / o for o in states.orders], float),
    )
    if problem is None:
        landscape = with_symmetry(landscape, about.get("symmetry"), str(about.get("problem", "")))
    rank, by_energy = np.empty(m, int), np.argsort(minima.energies, kind="stable")
    rank[by_energy] = np.arange(m)
    a, b = (np.sort(rank[minima_listed(folder / name, m)]) for name in (MIN_A, MIN_B))
    both = np.intersect1d(a, b)
    if len(both):
        raise DataError(f"{folder}: minimum {by_energy[both[0]] + 1} is in both {MIN_A} and {MIN_B}")
    return PathsampleDatabase(
        landscape=landscape,
        a=a,
        b=b,
        moments=minima.moments[by_energy],
        ts_moments=states.moments[np.argsort(states.energies, kind="stable")],
        notes=tuple(notes),
    )


def _coordinates(folder: Path, m: int, t: int, size: int | None, notes: list[str]) -> _Points:
    """Points of so many minima and transition states; notes on files that are not there are added."""
    minima = records(folder / MIN_POINTS, m, size, notes)
    if minima is not None:
        size = minima.shape[1]
    states = records(folder / TS_POINTS, t, size, notes)
    if minima is None and states is not None:
        raise DataError(f"{folder} holds {TS_POINTS} but no {MIN_POINTS}")
    return _Points(size, minima, states)


def _group_order(about: Mapping[str, Any], problem: Problem | None, orders: list[int], notes: list[str]) -> int:
    """Order of the symmetry group: the problem's, the one a seal tells, or the least that all ``orders`` divide."""
    if problem is None:
        return int(about.get("group_order") or common_order(orders))
    order = int(problem.symmetry.order())
    odd = sum(order % o != 0 for o in orders)
    if odd:
        notes.append(f"the orders of {odd} points do not divide that of the problem's symmetry group, {order}")
    return order


def _low(states: PointTable, energies: np.ndarray) -> list[str]:
    """A note on transition states below a minimum they join, where there are any."""
    below = np.flatnonzero(states.energies < energies[states.ends].max(1))
    if not len(below):
        return []
    return [
        f"{len(below)} transition states lie below a minimum they join, the first in {states.path.name}, line "
        f"{states.lines[below[0]]}"
    ]


def _compare(problem: Problem, table: PointTable, x: np.ndarray, tolerance: float) -> None:
    """Refuse energies that are not the problem's at the coordinates x [K, N]."""
    from jaxland.core.solvers.batches import map_rows

    dtype = problem.dtype
    mine = np.array(map_rows(problem.energy_of, [row.astype(dtype) for row in x], problem.data), float)
    given = table.energies
    off = ~(np.abs(mine - given) <= tolerance * np.maximum(1.0, np.abs(given)))
    if off.any():
        i = int(np.flatnonzero(off)[0])
        raise DataError(
            f"{table.path}, line {table.lines[i]}: energy {given[i]:.10g}, but the problem gives {mine[i]:.10g} at "
            f"these coordinates ({int(off.sum())} of {len(off)} disagree): other data, another potential, or "
            "damaged points"
        )
