"""Audited stationary points: what they are, when one counts, and what leads from one to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

from jaxland.core.solvers.band import Band
from jaxland.core.solvers.protocol import Status
from jaxland.core.solvers.quench import Hops, Minimum
from jaxland.core.solvers.saddle import Guess, Saddle
from jaxland.landscape.search.auditing import Audit

# Ends from which a search may go on.
USABLE = (Status.CONVERGED, Status.MAX_STEPS, Status.STALLED)


class Point(NamedTuple):
    """An audited stationary point.

    Attributes:
        x: coordinates [N]; energy; rms: rms gradient.
        negative: the index, number of Hessian eigenvalues below -zero; flat: number within +-zero.
        lowest: lowest eigenvalue (for a minimum: lowest that is not flat).
        log_product: sum of ln of the positive eigenvalues; NaN where the Hessian was too large to diagonalise.
        mode: eigenvector [N] of the lowest eigenvalue.
    """

    x: np.ndarray
    energy: float
    rms: float
    negative: int
    flat: int
    lowest: float
    log_product: float
    mode: np.ndarray


class TransitionState(NamedTuple):
    """A saddle of index 1 and the minima its two downhill paths end in."""

    saddle: Point
    ends: tuple[Point, Point]


@dataclass(frozen=True)
class Tolerances:
    """When a point is stationary and when two are the same, in units of the problem's scale (see ``Scale``).

    Networks have scale 1; an energy whose ``scale`` is ``Scale()`` takes all of these in its own units.

    Attributes:
        rms: largest rms gradient of a stored point.
        zero: Hessian eigenvalues within +-zero count as flat.
        energy: relative difference below which two energies may be the same point's.
        distance: Euclidean distance after alignment below which they are.
    """

    rms: float = 1e-9
    zero: float = 1e-8
    energy: float = 1e-6
    distance: float = 1e-2


def price(result: Minimum | Hops | Saddle | Band, weight: int) -> jax.Array | np.ndarray:
    """What a solver's result (or each of a stack) has cost in gradients, one evaluation for ``weight`` of them; of a
    saddle search one with a curvature, the others for one.
    """
    if isinstance(result, Saddle):
        return result.evaluations + (weight - 1) * result.curvatures
    return weight * result.evaluations


def sides(saddles: Sequence[Point]) -> np.ndarray:
    """Starts of the two downhill paths of each saddle [2 k, N], those of one behind each other.

    Far enough for the energy to fall by well more than rounding, near enough to stay on the path.
    """
    x, mode = (np.array([getattr(point, name) for point in saddles]) for name in ("x", "mode"))
    lowest = np.maximum(np.abs([point.lowest for point in saddles]), 1e-12)
    step = np.clip(np.sqrt(2e-7 / lowest), 1e-3, 0.1)[:, None] * mode
    return np.stack([x + step, x - step], axis=1).reshape(2 * len(saddles), -1)


def joined(point: Point, a: Point | None, b: Point | None) -> TransitionState | None:
    """A saddle with its ends; None where one is missing or not below it."""
    if a is None or b is None or not max(a.energy, b.energy) < point.energy:
        return None
    return TransitionState(point, (a, b))


def peaks(images: np.ndarray, energies: np.ndarray, tangents: np.ndarray) -> list[Guess]:
    """The three highest local maxima along a band [I, N], highest first."""
    tops = [k for k in range(1, len(energies) - 1) if energies[k] >= max(energies[k - 1], energies[k + 1])]
    return [Guess(images[k], tangents[k]) for k in sorted(tops, key=lambda k: -energies[k])[:3]]


def point_of(x: np.ndarray, audit: Audit) -> Point:
    """What was evaluated at a point [N], as a record."""
    return Point(
        x=x,
        energy=float(audit.energy),
        rms=float(audit.rms),
        negative=int(audit.negative),
        flat=int(audit.flat),
        lowest=float(audit.lowest),
        log_product=float(audit.log_product),
        mode=np.asarray(audit.mode),
    )


def points_of(xs: np.ndarray, audit: Audit) -> list[Point]:
    """The same of a stack [k, N]; ``Point`` has the coordinates first, then the fields of ``Audit`` in order."""
    numbers = (np.asarray(leaf).tolist() for leaf in audit[:-1])
    return list(map(Point._make, zip(xs, *numbers, np.asarray(audit.mode))))


def are_stationary(audit: Audit, index: int, tolerances: Tolerances, lifted: bool) -> np.ndarray:
    """Which audited points are stationary, of this index, and (with rigid motions lifted) in one piece."""
    negative, flat, energy, rms = (np.asarray(a) for a in (audit.negative, audit.flat, audit.energy, audit.rms))
    return (negative == index) & (rms <= tolerances.rms) & np.isfinite(energy) & ((flat == 0) | (not lifted))


def is_stationary(point: Point, index: int, tolerances: Tolerances, lifted: bool) -> bool:
    """The same of a point."""
    whole = point.flat == 0 or not lifted
    return point.negative == index and point.rms <= tolerances.rms and bool(np.isfinite(point.energy)) and whole
