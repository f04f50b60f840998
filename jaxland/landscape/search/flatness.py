"""Directions along which the energy of stored minima does not change, by name: what an undeclared symmetry leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from jaxland.landscape.store import Store
    from jaxland.problem.problem import Problem

_INSIDE = 0.999  # squared share of a unit vector that lies in the null space
_ALONG = 0.1  # how far a direction is followed
_MOST = 1000  # coordinates up to which a Hessian is looked at


class Flat(NamedTuple):
    """Flat minima of a landscape.

    Attributes:
        minima: how many stored minima have a flat direction.
        energies: how many different energies they have.
        names: of the directions.
        hint: what to do about it.
    """

    minima: int
    energies: int
    names: tuple[str, ...]
    hint: str

    def to_json(self) -> dict[str, Any]:
        """JSON-able, with a sentence on it."""
        listed = "; ".join(self.names)
        have = "minimum has" if self.minima == 1 else "minima have"
        distinct = f"{self.energies} different energ{'y' if self.energies == 1 else 'ies'}"
        words = (
            f"{self.minima} {have} flat directions ({listed}) and {distinct}: points of one valley are counted as "
            f"different minima. {self.hint}"
        )
        return {"minima": self.minima, "energies": self.energies, "names": list(self.names), "words": words}


def flat_minima(store: Store) -> Flat | None:
    """What is flat about the minima of a store whose problem has no continuous symmetry; None: nothing is."""
    rows, problem = store.minima.rows, store.reduced
    flat = np.flatnonzero(rows["flat"] > 0)
    if not len(flat) or problem.symmetry.zero_modes:
        return None
    energies = np.sort(rows["energy"][flat])
    apart = np.diff(energies) > 10 * store.tolerances.energy * np.maximum(1.0, np.abs(energies[1:]))
    lowest = int(flat[np.argmin(rows["energy"][flat])])
    count = int(rows["flat"][lowest])
    if problem.size > _MOST:
        names, hint = [f"{count} of them at the lowest"], ""
    else:
        names, hint = _named(problem, np.array(store.minima.coordinates[lowest]), store.tolerances.zero)
    return Flat(len(flat), 1 + int(apart.sum()), tuple(names), hint)


def _named(problem: Problem, x: Float[np.ndarray, " N"], zero: float) -> tuple[list[str], str]:
    """Names of the flat directions at a minimum, and how to declare them."""
    modes, basis = np.linalg.eigh(np.asarray(problem.hessian(x)))
    null = basis[:, np.abs(modes) <= zero]
    names: list[str] = []
    dimensions, turning = 0, False
    for d in (3, 2, 1):
        if len(x) % d == 0 and len(x) > d and all(_inside(null, v) for v in _shifts(len(x), d)):
            dimensions = d
            break
    if dimensions:
        names.append(f"translation of {len(x) // dimensions} points in {_dimensions(dimensions)}")
        null = _without(null, _shifts(len(x), dimensions))
    for d in (dimensions,) if dimensions else (3, 2):
        turns = [v for v in _turns(x, d, bool(dimensions)) if np.linalg.norm(v) > 1e-6]
        if turns and all(_inside(null, v) for v in turns):
            names.append(f"rotation of {len(x) // d} points in {_dimensions(d)}")
            null, turning = _without(null, turns), True
            break
    single = [i for i in range(len(x)) if null.size and _inside(null, np.eye(len(x))[i])]
    if single:
        listed = ", ".join(map(str, single[:8])) + (", ..." if len(single) > 8 else "")
        names.append(f"coordinate{'s' if len(single) > 1 else ''} {listed} alone")
        null = _without(null, list(np.eye(len(x))[single]))
    if null.shape[1] and _inside(null, x):
        names.append("all coordinates in proportion")
        null = _without(null, [x])
    for v in null.T[:3]:
        names.append(_mixed(problem, x, v))
    if null.shape[1] > 3:
        names.append(f"{null.shape[1] - 3} more")
    return names, _hint(problem, x, dimensions, turning, single)


def _hint(problem: Problem, x: np.ndarray, dimensions: int, turning: bool, single: list[int]) -> str:
    if problem.plain is None:
        return "A small L2 weight leaves one point of each"
    if dimensions:
        motions = "" if turning or dimensions == 1 else ", rotation=False"
        mirrored = float(problem.energy(x * np.tile([-1.0] + [1.0] * (dimensions - 1), len(x) // dimensions)))
        differ = abs(mirrored - float(problem.energy(x))) > 1e-6 * max(1.0, abs(mirrored))
        motions += ", reflection=False" if differ else ""
        return (
            "Declare it: Problem.from_energy(..., symmetry=ParticleSymmetry("
            f"range({len(x) // dimensions}), {dimensions}{motions})), with one name for all particles that are alike"
        )
    if single:
        return "Leave these coordinates out of the energy's argument"
    return "Declare a symmetry with these zero modes, or hold a coordinate fixed"


def _dimensions(d: int) -> str:
    return f"{d} dimension{'s' if d > 1 else ''}"


def _inside(null: np.ndarray, v: np.ndarray) -> bool:
    length = float(v @ v)
    return bool(length > 0 and null.shape[1] and np.sum((null.T @ v) ** 2) > _INSIDE * length)


def _without(null: np.ndarray, vectors: list[np.ndarray]) -> np.ndarray:
    """The null space less some vectors in it."""
    q = np.linalg.qr(np.stack(vectors, axis=1))[0]
    left = null - q @ (q.T @ null)
    u, s, _ = np.linalg.svd(left, full_matrices=False)
    return u[:, s > 0.5]


def _shifts(n: int, d: int) -> list[np.ndarray]:
    return [np.tile(axis, n // d) for axis in np.eye(d)]


def _turns(x: np.ndarray, d: int, centred: bool) -> list[np.ndarray]:
    if d < 2 or len(x) % d or len(x) <= d:
        return []
    places = x.reshape(-1, d)
    places = places - places.mean(0) if centred else places
    out = []
    for i in range(d):
        for j in range(i + 1, d):
            turned = np.zeros_like(places)
            turned[:, i], turned[:, j] = -places[:, j], places[:, i]
            out.append(turned.ravel())
    return out


def _mixed(problem: Problem, x: np.ndarray, v: np.ndarray) -> str:
    """A direction without a name: its largest coordinates, and whether the energy does rise along it further on."""
    largest = [int(i) for i in np.argsort(-np.abs(v), kind="stable")[:4] if abs(v[i]) > 0.1]
    here = float(problem.energy(x))
    rise = max(float(problem.energy(x + h * v)) - here for h in (_ALONG, -_ALONG))
    kind = "rises only beyond the second order" if rise > 1e-9 * max(1.0, abs(here)) else "stays level"
    return f"mostly coordinates {', '.join(map(str, largest))}, where the energy {kind}"
