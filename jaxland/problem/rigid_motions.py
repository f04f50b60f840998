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

    def _atoms(self, w: Vector) -> np.ndarray:
        x = np.asarray(w, float).reshape(self.atoms, 3)
        return x - x.mean(0)

    def shape(self, w: Vector) -> np.ndarray:
        """Sorted distances between atoms [n (n - 1) / 2]: the same for all images of a structure."""
        x = np.asarray(w, float).reshape(self.atoms, 3)
        i, j = self._upper
        return np.sort(np.sqrt(np.sum((x[i] - x[j]) ** 2, axis=1)))

    def _matches(self, a: np.ndarray, b: np.ndarray, tol: float) -> tuple[np.ndarray, np.ndarray]:
        """Rotations R [k, 3, 3] and permutations p [k, n] with |a[p] R - b| < tol per atom; a, b [n, 3] centred."""
        ra, rb = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
        nothing = np.zeros((0, 3, 3)), np.zeros((0, self.atoms), int)
        if np.max(np.abs(np.sort(ra) - np.sort(rb))) > 2 * tol:
            return nothing
        # The pair of b with fewest counterparts in a: an atom off the centre, and one off its axis.
        alike = np.sum(np.abs(rb[:, None] - ra) < 2 * tol, axis=1) + (rb < 0.1) * self.atoms
        first = int(np.argmin(alike))
        off = np.linalg.norm(np.cross(b[first], b), axis=1) / max(rb[first], 1e-12)
        dots_b, dots_a = b @ b[first], a @ a.T
        near_first = np.flatnonzero(np.abs(ra - rb[first]) < 2 * tol)
        if np.max(off) < 0.05 * max(np.max(rb), 1e-12):
            second, pairs = -1, np.stack([near_first, np.full(len(near_first), -1)], axis=1)
        else:
            wide = 4 * tol * max(1.0, np.max(rb))
            possible = (np.abs(dots_a[near_first][:, :, None] - dots_b) < wide) & (np.abs(ra[:, None] - rb) < 2 * tol)
            count = possible.sum((0, 1)) + (off < 0.3 * np.max(off)) * self.atoms**2
            second = int(np.argmin(count))
            rows, columns = np.nonzero(possible[:, :, second])
            pairs = np.stack([near_first[rows], columns], axis=1)
        if not len(pairs):
            return nothing
        target = frames(b[first][None], other_axis(b, np.array([second])))
        source = frames(a[pairs[:, 0]], other_axis(a, pairs[:, 1]))
        both = np.concatenate([source, source * np.array([1.0, 1.0, -1.0])[:, None]])  # and mirrored
        turns = np.swapaxes(both, 1, 2) @ target
        moved = a @ turns  # [k, n, 3]
        distance = np.linalg.norm(moved[:, :, None] - b, axis=3)  # [k, n of a, n of b]
        order = np.argmin(distance, axis=1)
        fits = np.max(np.min(distance, axis=1), axis=1) < 3 * tol
        fits &= np.all(np.sort(order, axis=1) == np.arange(self.atoms), axis=1)
        return turns[fits], order[fits]

    def matches(self, w: Vector, reference: Vector, tolerance: float) -> bool:
        """Whether two points are images of one another to within a distance ``tolerance``."""
        if np.max(np.abs(self.shape(w) - self.shape(reference))) > 2 * tolerance:
            return False
        a, b = self._atoms(w), self._atoms(reference)
        order = self._matches(a, b, tolerance)[1]
        return any(np.linalg.norm(refit(a[p], b) - b) < tolerance for p in order[:4])

    def distance(self, w: Vector, reference: Vector) -> float:
        """A cheap stand-in for the aligned distance, to rank pairs: rms difference of the sorted distances."""
        difference = self.shape(w) - self.shape(reference)
        return float(np.sqrt(np.mean(difference**2) * self.atoms))

    def distances(self, points: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """``distance`` [k] of pairs [k, 2] of points [P, N]."""
        pairs = np.asarray(pairs).reshape(-1, 2)
        used, place = np.unique(pairs, return_inverse=True)
        x = np.asarray(points, float)[used].reshape(-1, self.atoms, 3)
        i, j = self._upper
        shapes = np.sort(np.sqrt(np.sum((x[:, i] - x[:, j]) ** 2, axis=2)), axis=1)
        a, b = place.reshape(-1, 2).T
        return np.sqrt(np.mean((shapes[b] - shapes[a]) ** 2, axis=1) * self.atoms)

    def align(self, w: Vector, reference: Vector) -> Vector:
        """The image of w nearest to the reference: exact for copies of it, else the best of several orientations."""
        from scipy.optimize import linear_sum_assignment

        a, b = self._atoms(w), self._atoms(reference)
        centre = np.asarray(reference, float).reshape(self.atoms, 3).mean(0)
        best, chosen = np.inf, a
        if np.max(np.abs(self.shape(w) - self.shape(reference))) < 2 * _EXACT:
            for p in self._matches(a, b, _EXACT)[1][:4]:
                moved = refit(a[p], b)
                distance = float(np.linalg.norm(moved - b))
                if distance < best:
                    best, chosen = distance, moved
            if best < _EXACT:
                return (chosen + centre).ravel()
        axes_a, axes_b = np.linalg.eigh(a.T @ a)[1], np.linalg.eigh(b.T @ b)[1]
        signs = np.array([[x, y, z] for x in (1, -1) for y in (1, -1) for z in (1, -1)], float)
        principal = np.einsum("ij,kj,lj->kil", axes_a, signs, axes_b)

        def closer(moved: np.ndarray) -> np.ndarray:
            return refit(moved[linear_sum_assignment(-(b @ moved.T))[1]], b)

        turns = np.concatenate([principal, self._turns])
        return (nearest(a, b, turns, closer, best, chosen) + centre).ravel()

    def canonical(self, w: Vector) -> Vector:
        """Centred, along the principal axes, third moments positive, atoms by distance from the centre."""
        x = self._atoms(w)
        x = x @ np.linalg.eigh(x.T @ x)[1]
        third = np.sum(x**3, axis=0)
        x = x * np.where(third < -1e-9, -1.0, 1.0)
        return x[np.lexsort((np.round(x[:, 0], 6), np.round(np.linalg.norm(x, axis=1), 6)))].ravel()

    def orbit_size(self, w: Vector) -> int:
        """Number of distinct permutation-inversion images: 2 n! over the order of the point group."""
        x = self._atoms(w)
        return self.order() // max(1, len(self._matches(x, x, 1e-4)[0]))

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


def other_axis(x: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Atoms of a frame's second axis; any direction that is not along the first for a collinear cluster (-1)."""
    return np.where((index >= 0)[:, None], x[index], np.array([0.3, -0.5, 0.8124]))


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
    closer: Callable[[np.ndarray], np.ndarray],
    best: float,
    chosen: np.ndarray,
) -> np.ndarray:
    """The image of a [n, d] nearest to b: assignment and rotation in turn (``closer``), from each of turns [k, d, d].

    ``best`` is the distance of ``chosen``, which stays unless an image comes closer.
    """
    for turn in turns:
        moved, before = a @ turn, np.inf
        for _ in range(30):
            moved = closer(moved)
            distance = float(np.linalg.norm(moved - b))
            if distance > before - 1e-9:
                break
            before = distance
        if distance < best - 1e-9:
            best, chosen = distance, moved
    return chosen


def refit(a: np.ndarray, b: np.ndarray, proper: bool = False) -> np.ndarray:
    """a [n, d] turned (improper rotations included, unless ``proper``) to lie nearest to b (Kabsch 1976)."""
    u, _, vt = np.linalg.svd(a.T @ b)
    if proper and np.linalg.det(u @ vt) < 0:
        u[:, -1] = -u[:, -1]
    return a @ (u @ vt)
