"""Write a PATHSAMPLE database."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxland.errors import ArgumentError, DataError
from jaxland.landscape.interchange.archive import describe_problem, group_order
from jaxland.landscape.interchange.pathsample.database import PathsampleDatabase, moments_of_inertia
from jaxland.landscape.interchange.pathsample.seal import SEAL, seal
from jaxland.landscape.interchange.pathsample.tables import (
    FILES,
    MIN_A,
    MIN_B,
    MIN_DATA,
    MIN_POINTS,
    TS_DATA,
    TS_POINTS,
)
from jaxland.landscape.result import Landscape
from jaxland.problem.particles import ClusterSymmetry
from jaxland.runs import replacing


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
    if not landscape.n_minima:
        raise DataError("the landscape has no minima to write")
    in_a, in_b = (
        _members(name, own if given is None else given, landscape.n_minima)
        for name, own, given in (("a", data.a, a), ("b", data.b, b))
    )
    both = np.intersect1d(in_a, in_b)
    if len(both):
        raise ArgumentError(f"minimum {both[0]} is in both a and b")
    order = group_order(landscape)
    content = _content(data, order, log_product)
    for name, members in ((MIN_A, in_a), (MIN_B, in_b)):
        if len(members):
            content[name] = [f"{len(members)}\n", *(f"{i + 1}\n" for i in members)]
    unwritten = [name for name in FILES if name not in content]
    with replacing(folder, [SEAL, *content], force=force, stale=unwritten) as scratch:
        for name, parts in content.items():
            with (scratch / name).open("wb") as file:
                for part in parts:
                    raw = part.encode() if isinstance(part, str) else part
                    if file.write(raw) != len(raw):
                        raise OSError(errno.ENOSPC, "the disk is full")
        (scratch / SEAL).write_text(seal(scratch, list(content), _facts(landscape, order)), "ascii")
    return [folder / name for name in (*content, SEAL)]


def _facts(landscape: Landscape, order: int) -> dict[str, Any]:
    """What the seal tells of the landscape and its problem."""
    facts: dict[str, Any] = {
        "group_order": order,
        "minima": landscape.n_minima,
        "transition_states": landscape.n_ts,
        "problem": describe_problem(landscape),
    }
    if landscape.size:
        facts["parameters"] = landscape.size
    if landscape.symmetry is not None:
        facts["symmetry"] = landscape.symmetry.to_json()
    return facts


def _content(
    data: PathsampleDatabase, order: int, log_product: float | None
) -> dict[str, Iterable[str] | Iterable[bytes]]:
    """Data files and points, part by part, by name."""
    landscape, moments, ts_moments = data.landscape, data.moments, data.ts_moments
    symmetry = landscape.symmetry
    atoms = symmetry.atoms if isinstance(symmetry, ClusterSymmetry) else None
    if atoms is not None and moments is None:
        moments = moments_of_inertia(landscape.coordinates, atoms)
    if atoms is not None and ts_moments is None and np.isfinite(landscape.ts_coordinates).all():
        ts_moments = moments_of_inertia(landscape.ts_coordinates, atoms)
    content: dict[str, Iterable[str] | Iterable[bytes]] = {
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
        content[MIN_POINTS] = [_records(landscape.coordinates, "minimum")]
        if landscape.n_ts == 0 or np.isfinite(landscape.ts_coordinates).any():
            content[TS_POINTS] = [_records(landscape.ts_coordinates, "transition state")]
    return content


def _members(name: str, members: ArrayLike, m: int) -> np.ndarray:
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


def _records(x: np.ndarray, what: str) -> bytes:
    bad = np.flatnonzero(~np.isfinite(x).all(1))
    if len(bad):
        raise DataError(f"the coordinates of {what} {bad[0]} are not all finite")
    return np.ascontiguousarray(x, "<f8").tobytes()
