"""Particles in one, two or three dimensions: translations, rotations, reflections and permutations of like ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.errors import ArgumentError
from jaxland.problem.rigid_motions import frames, nearest, other_axis, refit
from jaxland.problem.symmetry import Symmetry, Vector

_EXACT = 1e-2
_TURNS = 24


class ParticleSymmetry(Symmetry):
    """Motions of particles that leave their energy as it is: flat coordinates [particles * dimensions].

    >>> water = ParticleSymmetry("OHH")
    >>> water.describe(), water.zero_modes, water.order()
    ('translations, rotations, reflections and permutations of like ones of 3 particles in 3 dimensions', 6, 4)
    >>> ParticleSymmetry(4, dimensions=1, reflection=False).zero_modes
    1

    Args:
        species: what each particle is (a text of letters, or a sequence); equal ones may be exchanged. A number: so
            many identical ones. All different: none is exchanged.
        dimensions: 1, 2 or 3.
        rotation: whether rotations leave the energy unchanged.
        reflection: whether mirror images have the same energy (in one dimension: whether left and right are alike).
        exchange: whether like particles may be exchanged; False where bonds tell them apart.
    """

    def __init__(
        self,
        species: int | Sequence[Hashable],
        dimensions: int = 3,
        *,
        rotation: bool = True,
        reflection: bool = True,
        exchange: bool = True,
    ) -> None:
        kinds: Sequence[Hashable] = [0] * species if isinstance(species, int) else list(species)
        if not len(kinds):
            raise ArgumentError("species must name at least one particle")
        if dimensions not in (1, 2, 3):
            raise ArgumentError(f"dimensions must be 1, 2 or 3, got {dimensions}")
        self.species = [str(kind) for kind in kinds]
        self.dimensions, self.reflection, self.exchange = int(dimensions), bool(reflection), bool(exchange)
        self.rotation = bool(rotation) and dimensions > 1
        self.count = len(kinds)
        names = list(dict.fromkeys(self.species))
        kind = [names.index(s) for s in self.species] if exchange else list(range(self.count))
        self._kind = np.array(kind)
        self._unlike = np.where(self._kind[:, None] == self._kind, 0.0, np.inf)
        i, j = np.triu_indices(self.count, 1)
        low, high = np.minimum(self._kind[i], self._kind[j]), np.maximum(self._kind[i], self._kind[j])
        self._pairs, self._classes = (i, j), low * self.count + high
        rng = np.random.default_rng(19760101)
        turns = np.linalg.qr(rng.normal(size=(_TURNS, self.dimensions, self.dimensions)))[0]
        turns = np.concatenate([np.eye(self.dimensions)[None], -np.eye(self.dimensions)[None], turns])
        self._turns = self._allowed(turns)
        at = self._motions(rng.normal(size=(self.count, self.dimensions)))
        self.zero_modes = int(np.linalg.matrix_rank(at, tol=1e-8))

    def _allowed(self, turns: np.ndarray) -> np.ndarray:
        """Those of some orthogonal matrices [k, d, d] that are in the group; without rotation, the identity."""
        if self.dimensions == 1:
            return np.array([[[1.0]], [[-1.0]]])[: 1 + self.reflection]
        if not self.rotation:
            return np.eye(self.dimensions)[None]
        return turns if self.reflection else turns[np.linalg.det(turns) > 0]

    def _places(self, w: Vector) -> np.ndarray:
        x = np.asarray(w, float).reshape(self.count, self.dimensions)
        return x - x.mean(0)

    def _motions(self, x: np.ndarray) -> np.ndarray:
        rows = [np.tile(axis, (self.count, 1)).ravel() for axis in np.eye(self.dimensions)]
        if self.rotation:
            for i, j in _planes(self.dimensions):
                turned = np.zeros_like(x)
                turned[:, i], turned[:, j] = -x[:, j], x[:, i]
                rows.append(turned.ravel())
        return np.array(rows)

    def zero_space(self, w: jax.Array) -> jax.Array:
        """Orthonormal basis of infinitesimal motions at w (zero columns: particles on a line or a point)."""
        d = self.dimensions
        x = w.reshape(self.count, d)
        x = x - jnp.mean(x, axis=0, keepdims=True)
        eye = jnp.eye(d, dtype=w.dtype)
        rows = [jnp.broadcast_to(axis[None], x.shape).ravel() for axis in eye]
        if self.rotation:
            for i, j in _planes(d):
                rows.append((x[:, i, None] * eye[j][None] - x[:, j, None] * eye[i][None]).ravel())
        stacked = jnp.stack(rows)
        values, basis = jnp.linalg.eigh(stacked @ stacked.T)
        kept = values > 1e-8 * jnp.max(values)
        return stacked.T @ (basis * jnp.where(kept, 1.0 / jnp.sqrt(jnp.where(kept, values, 1.0)), 0.0)[None])

    def shape(self, w: Vector) -> np.ndarray:
        """Distances between particles, sorted within each kind of pair: the same for all images."""
        x = self._places(w)
        i, j = self._pairs
        distances = np.sqrt(np.sum((x[i] - x[j]) ** 2, axis=1))
        return distances[np.lexsort((distances, self._classes))]

    def _turns_onto(self, a: np.ndarray, b: np.ndarray, tol: float) -> np.ndarray:
        """Turns [k, d, d] that may lay a onto b: every one that lays a pair of particles onto an equivalent pair."""
        if not self.rotation:
            return self._turns
        ra, rb = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
        like = (np.abs(ra[:, None] - rb) < 2 * tol) & np.isfinite(self._unlike)
        first = int(np.argmin(like.sum(0) + (rb < 10 * tol) * self.count))
        starts = np.flatnonzero(like[:, first])
        if rb[first] < 10 * tol:  # all at the centre
            return np.eye(self.dimensions)[None]
        if self.dimensions == 2:
            z, target = a[starts] @ np.array([1, 1j]), b[first] @ np.array([1, 1j])
            out = [_turn(target / z)] + ([_mirror(target / z.conj())] if self.reflection else [])
            return np.concatenate(out)
        off = np.linalg.norm(np.cross(b[first], b), axis=1) / rb[first]
        if np.max(off) < 0.05 * np.max(rb):
            second, pairs = -1, np.stack([starts, np.full(len(starts), -1)], axis=1)
        else:
            second = int(np.argmin(like.sum(0) + (off < 0.3 * np.max(off)) * self.count))
            pairs = np.array([(i, j) for i in starts for j in np.flatnonzero(like[:, second]) if i != j], int)
            pairs = pairs.reshape(-1, 2)
            wide = 4 * tol * max(1.0, float(np.max(rb)))
            pairs = pairs[np.abs(np.sum(a[pairs[:, 0]] * a[pairs[:, 1]], axis=1) - b[first] @ b[second]) < wide]
        if not len(pairs):
            return np.zeros((0, 3, 3))
        straight = pairs[:, 1] < 0
        target = frames(b[first][None], other_axis(b[[second]], straight[:1]))
        source = frames(a[pairs[:, 0]], other_axis(a[pairs[:, 1]], straight))
        if self.reflection:
            source = np.concatenate([source, source * np.array([1.0, 1.0, -1.0])[:, None]])
        return np.swapaxes(source, 1, 2) @ target

    def _matches(self, a: np.ndarray, b: np.ndarray, tol: float) -> tuple[np.ndarray, np.ndarray]:
        """Turns [k, d, d] and permutations p [k, n] with |a[p] turn - b| < tol per particle; a, b [n, d] centred."""
        turns = self._turns_onto(a, b, tol)
        if not self.rotation:  # few turns, and particles may lie close: the best assignment
            order = np.array([self._assign(a @ turn, b) for turn in turns])
        else:
            distance = np.linalg.norm((a @ turns)[:, :, None] - b, axis=3) + self._unlike
            order = np.argmin(distance, axis=1).reshape(len(turns), self.count)
        moved = np.take_along_axis(a @ turns, order[:, :, None], 1)
        fits = np.linalg.norm(moved - b, axis=2).max(1, initial=0.0) < 3 * tol
        fits &= np.all(np.sort(order, axis=1) == np.arange(self.count), axis=1)
        return turns[fits], order[fits]

    def _assign(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The permutation p of like particles with the least |a[p] - b|."""
        from scipy.optimize import linear_sum_assignment

        order = np.arange(self.count)
        for kind in np.unique(self._kind):
            members = np.flatnonzero(self._kind == kind)
            if len(members) > 1:
                order[members] = members[linear_sum_assignment(-(b[members] @ a[members].T))[1]]
        return order

    def _refit(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return refit(a, b, proper=not self.reflection) if self.rotation else a

    def matches(self, w: Vector, reference: Vector, tolerance: float) -> bool:
        """Whether two points are images of one another to within a distance ``tolerance``."""
        if np.max(np.abs(self.shape(w) - self.shape(reference)), initial=0.0) > 2 * tolerance:
            return False
        a, b = self._places(w), self._places(reference)
        turns, order = self._matches(a, b, tolerance)
        return any(np.linalg.norm(self._refit(a[p] @ t, b) - b) < tolerance for t, p in zip(turns, order))

    def distance(self, w: Vector, reference: Vector) -> float:
        """A cheap stand-in for the aligned distance, to rank pairs: rms difference of the sorted distances."""
        difference = self.shape(w) - self.shape(reference)
        return float(np.sqrt(np.mean(difference**2) * self.count)) if len(difference) else 0.0

    def align(self, w: Vector, reference: Vector) -> Vector:
        """The image of w nearest to the reference: exact for copies of it, else the best of several orientations."""
        a, b = self._places(w), self._places(reference)
        centre = np.asarray(reference, float).reshape(self.count, self.dimensions).mean(0)
        best, chosen = np.inf, a
        turns, order = self._matches(a, b, _EXACT)
        for turn, p in zip(turns, order):
            moved = self._refit(a[p] @ turn, b)
            if (distance := float(np.linalg.norm(moved - b))) < best:
                best, chosen = distance, moved
        if best < _EXACT:
            return (chosen + centre).ravel()

        def assigned(moved: np.ndarray) -> np.ndarray:
            return self._assign(moved, b)

        return (nearest(a, b, self._turns, assigned, lambda x: self._refit(x, b), best, chosen) + centre).ravel()

    def canonical(self, w: Vector) -> Vector:
        """Centred, along the principal axes, third moments positive, like particles by distance from the centre."""
        x = self._places(w)
        if self.rotation:
            axes = np.linalg.eigh(x.T @ x)[1]
            axes = axes * np.where(np.sum((x @ axes) ** 3, axis=0) < -1e-9, -1.0, 1.0)
            if not self.reflection and np.linalg.det(axes) < 0:
                axes[:, 0] = -axes[:, 0]
            x = x @ axes
        elif self.dimensions == 1 and self.reflection and np.sum(x**3) < 0:
            x = -x
        keys = np.round(np.linalg.norm(x, axis=1), 6) if self.rotation else x[:, -1]
        order = np.arange(self.count)
        for kind in np.unique(self._kind):
            members = np.flatnonzero(self._kind == kind)
            order[members] = members[np.lexsort((x[members, 0], keys[members]))]
        return x[order].ravel()

    def orbit_size(self, w: Vector) -> int:
        """Number of distinct images under permutations and reflection: the group's order over the point group's."""
        x = self._places(w)
        return self.order() // max(1, len(self._matches(x, x, 1e-4)[0]))

    def order(self) -> int:
        """Permutations of like particles, twice where mirror images count."""
        exchanged = math.prod(math.factorial(k) for k in Counter(self._kind.tolist()).values())
        return exchanged * (2 if self.reflection and (self.rotation or self.dimensions == 1) else 1)

    def random_image(self, w: Vector, rng: np.random.Generator) -> Vector:
        """w under a random permutation, turn and translation."""
        x = self._places(w)
        x = x @ self._turns[rng.integers(len(self._turns))]
        order = np.arange(self.count)
        for kind in np.unique(self._kind):
            members = np.flatnonzero(self._kind == kind)
            order[members] = rng.permutation(members)
        return (x[order] + rng.normal(size=self.dimensions)).ravel()

    def describe(self) -> str:
        """Name."""
        parts = ["translations"] + ["rotations"] * self.rotation
        parts += ["reflections"] * (self.reflection and (self.rotation or self.dimensions == 1))
        parts += ["permutations of like ones"] * (len(set(self._kind.tolist())) < self.count)
        listed = " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]
        dimensions = f"{self.dimensions} dimension{'s' if self.dimensions > 1 else ''}"
        return f"{listed} of {self.count} particles in {dimensions}"

    def reduced(self, length: float) -> Symmetry:
        """Itself."""
        return self

    def to_json(self) -> dict[str, Any]:
        """Kind, species, dimensions and what is allowed."""
        return {
            "kind": "particles",
            "species": self.species,
            "dimensions": self.dimensions,
            "rotation": self.rotation,
            "reflection": self.reflection,
            "exchange": self.exchange,
        }


def _planes(d: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(d) for j in range(i + 1, d)]


def _turn(z: np.ndarray) -> np.ndarray:
    """Rotations [k, 2, 2] of row vectors by the angles of complex numbers."""
    c, s = z.real / np.abs(z), z.imag / np.abs(z)
    return np.stack([np.stack([c, s], axis=-1), np.stack([-s, c], axis=-1)], axis=1)


def _mirror(z: np.ndarray) -> np.ndarray:
    """The same after a reflection of the second coordinate."""
    return np.diag([1.0, -1.0]) @ _turn(z)
