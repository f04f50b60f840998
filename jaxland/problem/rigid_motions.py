"""Clusters of identical atoms: translations, rotations, inversion and permutations of coordinates [3 n].

Two copies of one structure are matched exactly: an atom pair of one is laid onto every equivalent pair of the other,
which fixes the rotation. Different structures are brought close by alternating assignment and rotation (Kabsch 1976)
from several orientations, as every program of the field does it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.problem.symmetry import Symmetry, Vector

_EXACT = 1e-2
_TOGETHER = 2**20  # numbers of a kind in one call


class ClusterSymmetry(Symmetry):
    """Permutation-inversion group and rigid motions of ``atoms`` identical atoms, flat coordinates [3 * atoms].

    Args:
        atoms: number of atoms, at least 2.
        orientations: rotations tried when two different structures are aligned.
    """

    def __init__(self, atoms: int, orientations: int = 24) -> None:
        self.atoms, self.orientations = int(atoms), int(orientations)
        self.zero_modes = 5 if atoms == 2 else 6
        self._upper = np.triu_indices(self.atoms, 1)
        rng = np.random.default_rng(19760101)
        turns = np.linalg.qr(rng.normal(size=(self.orientations, 3, 3)))[0]
        self._turns = np.concatenate([np.eye(3)[None], -np.eye(3)[None], turns])

    def _atoms(self, w: Vector | np.ndarray) -> np.ndarray:
        """Centred atoms [..., n, 3] of one point, or of several."""
        x = self._places(w)
        return x - x.mean(-2, keepdims=True)

    def _places(self, w: Vector | np.ndarray) -> np.ndarray:
        x = np.asarray(w, float)
        return x.reshape(*x.shape[:-1], self.atoms, 3)

    def shape(self, w: Vector | np.ndarray) -> np.ndarray:
        """Sorted distances between atoms [..., n (n - 1) / 2]: the same for all images of a structure."""
        x = self._places(w)
        i, j = self._upper
        return np.sort(np.sqrt(np.sum((x[..., i, :] - x[..., j, :]) ** 2, axis=-1)), axis=-1)

    def matches(self, w: Vector, reference: Vector, tolerance: float) -> bool:
        """Whether two points are images of one another to within a distance ``tolerance``."""
        return bool(self.matching(np.stack([w, reference]), np.array([[0, 1]]), tolerance)[0])

    def matching(self, points: np.ndarray, pairs: np.ndarray, tolerance: float) -> np.ndarray:
        """``matches`` bool [k], for pairs [k, 2] of rows of points [P, N]."""
        pairs = np.asarray(pairs).reshape(-1, 2)
        same, left, right = np.zeros(len(pairs), bool), *self._shapes_of(points, pairs)
        alike = np.flatnonzero(np.max(np.abs(left - right), axis=1, initial=0.0) <= 2 * tolerance)
        x = self._atoms(points)
        for some in in_parts(alike, self.atoms**3):
            a, b = x[pairs[some, 0]], x[pairs[some, 1]]
            which, _, order = laid_onto(a, b, tolerance)
            # Any of the first images of each: they differ by a symmetry of the structure.
            few = np.arange(len(which)) - np.searchsorted(which, which) < 4
            which, order = which[few], order[few]
            moved = refit(np.take_along_axis(a[which], order[:, :, None], 1), b[which])
            same[some[which[np.sqrt(np.sum((moved - b[which]) ** 2, axis=(1, 2))) < tolerance]]] = True
        return same

    def distance(self, w: Vector, reference: Vector) -> float:
        """A cheap stand-in for the aligned distance, to rank pairs: rms difference of the sorted distances."""
        difference = self.shape(w) - self.shape(reference)
        return float(np.sqrt(np.mean(difference**2) * self.atoms))

    def distances(self, points: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """``distance`` [k] of pairs [k, 2] of points [P, N]."""
        left, right = self._shapes_of(points, pairs)
        return np.sqrt(np.mean((right - left) ** 2, axis=1) * self.atoms)

    def _shapes_of(self, points: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``shape`` of either of some pairs [k, 2]: [k, n (n - 1) / 2] twice."""
        used, place = np.unique(np.asarray(pairs).reshape(-1, 2), return_inverse=True)
        shapes = self.shape(np.asarray(points)[used])
        a, b = place.reshape(-1, 2).T
        return shapes[a], shapes[b]

    def align(self, w: Vector, reference: Vector) -> Vector:
        """The image of w nearest to the reference: exact for copies of it, else the best of several orientations."""
        from scipy.optimize import linear_sum_assignment

        a, b = self._atoms(w), self._atoms(reference)
        centre = np.asarray(reference, float).reshape(self.atoms, 3).mean(0)
        best, chosen = np.inf, a
        if np.max(np.abs(self.shape(w) - self.shape(reference))) < 2 * _EXACT:
            for p in laid_onto(a[None], b[None], _EXACT)[2][:4]:
                moved = refit(a[p], b)
                distance = float(np.linalg.norm(moved - b))
                if distance < best:
                    best, chosen = distance, moved
            if best < _EXACT:
                return (chosen + centre).ravel()
        axes_a, axes_b = np.linalg.eigh(a.T @ a)[1], np.linalg.eigh(b.T @ b)[1]
        signs = np.array([[x, y, z] for x in (1, -1) for y in (1, -1) for z in (1, -1)], float)
        principal = np.einsum("ij,kj,lj->kil", axes_a, signs, axes_b)

        def assigned(moved: np.ndarray) -> np.ndarray:
            return linear_sum_assignment(-(b @ moved.T))[1]

        turns = np.concatenate([principal, self._turns])
        return (nearest(a, b, turns, assigned, lambda x: refit(x, b), best, chosen) + centre).ravel()

    def canonical(self, w: Vector) -> Vector:
        """Centred, along the principal axes, third moments positive, atoms by distance from the centre."""
        x = self._atoms(w)
        x = x @ np.linalg.eigh(x.T @ x)[1]
        third = np.sum(x**3, axis=0)
        x = x * np.where(third < -1e-9, -1.0, 1.0)
        return x[np.lexsort((np.round(x[:, 0], 6), np.round(np.linalg.norm(x, axis=1), 6)))].ravel()

    def orbit_size(self, w: Vector) -> int:
        """Number of distinct permutation-inversion images: 2 n! over the order of the point group."""
        return self.orbit_sizes(np.asarray(w)[None])[0]

    def orbit_sizes(self, points: np.ndarray) -> list[int]:
        """``orbit_size`` of each row of points [P, N]."""
        sizes: list[int] = []
        for x in in_parts(self._atoms(points), self.atoms**3):
            fixing = np.bincount(laid_onto(x, x, 1e-4)[0], minlength=len(x))
            sizes += [self.order() // max(1, int(k)) for k in fixing]
        return sizes

    def order(self) -> int:
        """2 n!."""
        return 2 * math.factorial(self.atoms)

    def random_image(self, w: Vector, rng: np.random.Generator) -> Vector:
        """w under a random permutation, rotation (or improper rotation) and translation."""
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        return ((self._atoms(w) @ turn)[rng.permutation(self.atoms)] + rng.normal(size=3)).ravel()

    def zero_space(self, w: jax.Array) -> jax.Array:
        """Orthonormal basis [3 n, 6] of infinitesimal translations and rotations at w (zero columns: collinear)."""
        x = w.reshape(self.atoms, 3)
        x = x - jnp.mean(x, axis=0, keepdims=True)
        eye = jnp.eye(3, dtype=w.dtype)
        shifts = jnp.broadcast_to(eye[:, None], (3, self.atoms, 3)).reshape(3, -1)
        turns = jnp.stack([jnp.cross(axis, x).ravel() for axis in eye])
        rows = jnp.concatenate([shifts, turns])
        values, basis = jnp.linalg.eigh(rows @ rows.T)
        kept = values > 1e-8 * jnp.max(values)
        return rows.T @ (basis * jnp.where(kept, 1.0 / jnp.sqrt(jnp.where(kept, values, 1.0)), 0.0)[None])

    def reduced(self, length: float) -> Symmetry:
        """Itself."""
        return self

    def describe(self) -> str:
        """Name."""
        return f"rigid motions, inversion and permutations of {self.atoms} atoms"

    def to_json(self) -> dict[str, Any]:
        """Kind, number of atoms, orientations tried."""
        return {"kind": "cluster", "atoms": self.atoms, "orientations": self.orientations}


def in_parts(a: np.ndarray, each: int) -> list[np.ndarray]:
    """Rows in parts that are looked at in one call, when a row takes ``each`` numbers."""
    return np.array_split(a, max(1, -(-len(a) * each // _TOGETHER)))


def laid_onto(a: np.ndarray, b: np.ndarray, tol: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How structures a [P, n, 3] come to lie on structures b [P, n, 3], one by one, both centred.

    Returns:
        For every way found: its row of a and b, ascending [k], the rotation R [k, 3, 3], and the permutation p [k, n]
        with |a[p] R - b| < 3 tol for each atom.
    """
    ra, rb = np.linalg.norm(a, axis=2), np.linalg.norm(b, axis=2)
    rows = np.flatnonzero(np.max(np.abs(np.sort(ra) - np.sort(rb)), axis=1, initial=0.0) <= 2 * tol)
    a, b, ra, rb, each = a[rows], b[rows], ra[rows], rb[rows], np.arange(len(rows))
    n, largest = a.shape[1], np.maximum(np.max(rb, axis=1, initial=0.0), 1e-12)
    # The pair of b with fewest counterparts in a: an atom off the centre, and one off its axis.
    near = np.abs(rb[:, :, None] - ra[:, None]) < 2 * tol  # [P, n of b, n of a]
    first = np.argmin(near.sum(2) + (rb < 0.1) * n, axis=1)
    axis = b[each, first]
    off = np.linalg.norm(np.cross(axis[:, None], b), axis=2) / np.maximum(rb[each, first], 1e-12)[:, None]
    straight = np.max(off, axis=1, initial=0.0) < 0.05 * largest
    wide = 4 * tol * np.maximum(1.0, largest)
    dots_a, dots_b = a @ np.swapaxes(a, 1, 2), np.sum(b * axis[:, None], axis=2)
    possible = np.abs(dots_a[:, :, :, None] - dots_b[:, None, None]) < wide[:, None, None, None]
    possible &= near[each, first][:, :, None, None] & np.swapaxes(near, 1, 2)[:, None]
    lost = off < 0.3 * np.max(off, axis=1, keepdims=True, initial=0.0)
    second = np.argmin(possible.sum((1, 2)) + lost * n**2, axis=1)
    chosen = possible[each, :, :, second]
    # On a straight line any second axis does.
    chosen[straight] = near[each, first][straight][:, :, None] & (np.arange(n) == 0)
    which, i, j = np.nonzero(chosen)
    target = frames(axis, other_axis(b[each, second], straight))
    source = frames(a[which, i], other_axis(a[which, j], straight[which]))
    both = np.concatenate([source, source * np.array([1.0, 1.0, -1.0])[:, None]])  # and mirrored
    kept = np.argsort(np.concatenate([which, which]), kind="stable")
    both, which = both[kept], np.repeat(which, 2)
    turns = np.swapaxes(both, 1, 2) @ target[which]
    fits, order = np.zeros(len(which), bool), np.zeros((len(which), n), int)
    for some in in_parts(np.arange(len(which)), n**2):
        w = which[some]
        squares = np.sum(((a[w] @ turns[some])[:, :, None] - b[w][:, None]) ** 2, axis=3)  # [k, n of a, n of b]
        order[some] = np.argmin(squares, axis=1)
        fits[some] = np.max(np.min(squares, axis=1), axis=1) < (3 * tol) ** 2
    fits &= np.all(np.sort(order, axis=1) == np.arange(n), axis=1)
    return rows[which[fits]], turns[fits], order[fits]


def other_axis(x: np.ndarray, straight: np.ndarray) -> np.ndarray:
    """Second axes [k, 3] of frames: x [k, 3]; any direction that is not along the first for a collinear cluster."""
    return np.where(straight[:, None], np.array([0.3, -0.5, 0.8124]), x)


def frames(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Orthonormal frames [k, 3, 3], rows: along u, along the rest of v, and their cross product."""
    e1 = u / np.linalg.norm(u, axis=1, keepdims=True)
    rest = v - np.sum(v * e1, axis=1, keepdims=True) * e1
    e2 = rest / np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-300)
    return np.stack([e1, e2, np.cross(e1, e2)], axis=1)


def nearest(
    a: np.ndarray,
    b: np.ndarray,
    turns: np.ndarray,
    assigned: Callable[[np.ndarray], np.ndarray],
    turned: Callable[[np.ndarray], np.ndarray],
    best: float,
    chosen: np.ndarray,
) -> np.ndarray:
    """The image of a [n, d] nearest to b: assignment and rotation in turn, from each of turns [k, d, d].

    ``assigned`` gives the permutation [n] that brings an image [n, d] nearest to b, ``turned`` rotates images
    [k, n, d] onto b. ``best`` is the distance of ``chosen``, which stays unless an image comes closer.
    """
    moved, p = a @ turns, np.tile(np.arange(len(a)), (len(turns), 1))
    known: set[bytes] = set()
    while len(p):
        step = np.stack([assigned(x) for x in moved])
        p, moved = np.take_along_axis(p, step, 1), np.take_along_axis(moved, step[:, :, None], 1)
        # A permutation met before leads where it led then.
        keys = [row.tobytes() for row in p]
        fresh = [k for k, key in enumerate(keys) if key not in known and key not in keys[:k]]
        known.update(keys)
        p, moved = p[fresh], turned(moved[fresh])
        for x, distance in zip(moved, np.sqrt(np.sum((moved - b) ** 2, axis=(1, 2)))):
            if distance < best - 1e-9:
                best, chosen = distance, x
    return chosen


def refit(a: np.ndarray, b: np.ndarray, proper: bool = False) -> np.ndarray:
    """a [..., n, d] turned (improper rotations included, unless ``proper``) to lie nearest to b (Kabsch 1976)."""
    u, _, vt = np.linalg.svd(np.swapaxes(a, -1, -2) @ b)
    if proper:
        u[..., -1] *= np.where(np.linalg.det(u @ vt) < 0, -1.0, 1.0)[..., None]
    return a @ (u @ vt)
