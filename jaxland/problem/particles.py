"""Particles in one, two or three dimensions: translations, rotations, reflections and permutations of like ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.errors import ArgumentError
from jaxland.problem.rigid_motions import in_parts, laid_onto, nearest, refit
from jaxland.problem.symmetry import Symmetry, Vector

_EXACT = 1e-2


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
        orientations: random turns tried when two different structures are aligned.
    """

    def __init__(
        self,
        species: int | Sequence[Hashable],
        dimensions: int = 3,
        *,
        rotation: bool = True,
        reflection: bool = True,
        exchange: bool = True,
        orientations: int = 24,
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
        groups = [np.flatnonzero(self._kind == k) for k in np.unique(self._kind)]
        self._alike = [members for members in groups if len(members) > 1]
        # Pairs of one kind of pair lie together.
        i, j = np.triu_indices(self.count, 1)
        low, high = np.minimum(self._kind[i], self._kind[j]), np.maximum(self._kind[i], self._kind[j])
        classes = low * self.count + high
        by_class = np.argsort(classes, kind="stable")
        self._pairs = i[by_class], j[by_class]
        self._cuts = np.flatnonzero(np.diff(classes[by_class])) + 1
        rng = np.random.default_rng(19760101)
        turns = np.linalg.qr(rng.normal(size=(orientations, self.dimensions, self.dimensions)))[0]
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
        """Particles [..., n, d] of one point, or of several."""
        x = np.asarray(w, float)
        return x.reshape(*x.shape[:-1], self.count, self.dimensions)

    def _centred(self, w: Vector) -> np.ndarray:
        x = self._places(w)
        return x - x.mean(-2, keepdims=True)

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
        """Distances between particles [..., n (n - 1) / 2], sorted within each kind of pair: those of all images."""
        x = self._places(w)
        i, j = self._pairs
        distances = np.sqrt(np.sum((x[..., i, :] - x[..., j, :]) ** 2, axis=-1))
        for part in np.split(distances, self._cuts, axis=-1):
            part.sort(axis=-1)
        return distances

    def _shapes_of(self, points: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``shape`` of either of some pairs [k, 2]: [k, n (n - 1) / 2] twice."""
        used, place = np.unique(np.asarray(pairs).reshape(-1, 2), return_inverse=True)
        shapes = self.shape(np.asarray(points)[used])
        a, b = place.reshape(-1, 2).T
        return shapes[a], shapes[b]

    def _ways(self, a: np.ndarray, b: np.ndarray, tol: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See ``laid_onto``; without rotation the few turns there are, with the best assignment of each."""
        if self.rotation:
            return laid_onto(a, b, tol, self._kind, reflection=self.reflection)
        turns = np.tile(self._turns, (len(a), 1, 1))
        which = np.repeat(np.arange(len(a)), len(self._turns))
        moved = a[which] @ turns
        order = np.array([self._assign(x, y) for x, y in zip(moved, b[which])], int).reshape(-1, self.count)
        moved = np.take_along_axis(moved, order[:, :, None], 1)
        fits = np.linalg.norm(moved - b[which], axis=2).max(1, initial=0.0) < 3 * tol
        return which[fits], turns[fits], order[fits]

    def _assign(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The permutation p of like particles with the least |a[p] - b|."""
        from scipy.optimize import linear_sum_assignment

        if len(self._alike) == 1 and len(self._alike[0]) == self.count:
            return linear_sum_assignment(-(b @ a.T))[1]
        order = np.arange(self.count)
        for members in self._alike:
            order[members] = members[linear_sum_assignment(-(b[members] @ a[members].T))[1]]
        return order

    def _refit(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return refit(a, b, proper=not self.reflection) if self.rotation else a

    def matches(self, w: Vector, reference: Vector, tolerance: float) -> bool:
        """Whether two points are images of one another to within a distance ``tolerance``."""
        return bool(self.matching(np.stack([w, reference]), np.array([[0, 1]]), tolerance)[0])

    def matching(self, points: np.ndarray, pairs: np.ndarray, tolerance: float) -> np.ndarray:
        """``matches`` bool [k], for pairs [k, 2] of rows of points [P, N]."""
        pairs = np.asarray(pairs).reshape(-1, 2)
        same, left, right = np.zeros(len(pairs), bool), *self._shapes_of(points, pairs)
        alike = np.flatnonzero(np.max(np.abs(left - right), axis=1, initial=0.0) <= 2 * tolerance)
        x = self._centred(points)
        for some in in_parts(alike, self.count**3):
            a, b = x[pairs[some, 0]], x[pairs[some, 1]]
            which, turns, order = self._ways(a, b, tolerance)
            # Any of the first images of each: they differ by a symmetry of the structure.
            few = np.arange(len(which)) - np.searchsorted(which, which) < 4
            which, turns, order = which[few], turns[few], order[few]
            moved = np.take_along_axis(a[which] @ turns, order[:, :, None], 1)
            apart = self._refit(moved, b[which]) - b[which]
            same[some[which[np.sqrt(np.sum(apart**2, axis=(1, 2))) < tolerance]]] = True
        return same

    def distance(self, w: Vector, reference: Vector) -> float:
        """A cheap stand-in for the aligned distance, to rank pairs: rms difference of the sorted distances."""
        return float(self.distances(np.stack([w, reference]), np.array([[0, 1]]))[0])

    def distances(self, points: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """``distance`` [k] of pairs [k, 2] of points [P, N]."""
        left, right = self._shapes_of(points, pairs)
        return np.sqrt(np.sum((right - left) ** 2, axis=1) * (self.count / max(1, left.shape[1])))

    def align(self, w: Vector, reference: Vector) -> Vector:
        """The image of w nearest to the reference: exact for copies of it, else the best of several orientations."""
        a, b = self._centred(w), self._centred(reference)
        centre = self._places(reference).mean(0)
        best, chosen = np.inf, a
        if np.max(np.abs(self.shape(w) - self.shape(reference)), initial=0.0) < 2 * _EXACT:
            _, turns, order = self._ways(a[None], b[None], _EXACT)
            for turn, p in zip(turns[:4], order):
                moved = self._refit(a[p] @ turn, b)
                distance = float(np.linalg.norm(moved - b))
                if distance < best:
                    best, chosen = distance, moved
            if best < _EXACT:
                return (chosen + centre).ravel()

        def assigned(moved: np.ndarray) -> np.ndarray:
            return self._assign(moved, b)

        turns = np.concatenate([self._principal(a, b), self._turns])
        return (nearest(a, b, turns, assigned, lambda x: self._refit(x, b), best, chosen) + centre).ravel()

    def _principal(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Turns [k, d, d] that lay the principal axes of a onto those of b."""
        if not self.rotation:
            return self._turns[:0]
        axes_a, axes_b = np.linalg.eigh(a.T @ a)[1], np.linalg.eigh(b.T @ b)[1]
        signs = np.array(list(product((1.0, -1.0), repeat=self.dimensions)))
        return self._allowed(np.einsum("ij,kj,lj->kil", axes_a, signs, axes_b))

    def canonical(self, w: Vector) -> Vector:
        """Centred, along the principal axes, third moments positive, like particles by distance from the centre."""
        x = self._centred(w)
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
        for members in self._alike:
            order[members] = members[np.lexsort((np.round(x[members, 0], 6), keys[members]))]
        return x[order].ravel()

    def orbit_size(self, w: Vector) -> int:
        """Number of distinct images under permutations and reflection: the group's order over the point group's."""
        return self.orbit_sizes(np.asarray(w)[None])[0]

    def orbit_sizes(self, points: np.ndarray) -> list[int]:
        """``orbit_size`` of each row of points [P, N]."""
        sizes: list[int] = []
        for x in in_parts(self._centred(points), self.count**3):
            fixing = np.bincount(self._ways(x, x, 1e-4)[0], minlength=len(x))
            sizes += [self.order() // max(1, int(k)) for k in fixing]
        return sizes

    def order(self) -> int:
        """Permutations of like particles, twice where mirror images count."""
        exchanged = math.prod(math.factorial(k) for k in Counter(self._kind.tolist()).values())
        return exchanged * (2 if self.reflection and (self.rotation or self.dimensions == 1) else 1)

    def random_image(self, w: Vector, rng: np.random.Generator) -> Vector:
        """w under a random permutation, turn and translation."""
        turns = self._turns
        if self.rotation:
            turns = self._allowed(np.linalg.qr(rng.normal(size=(8, self.dimensions, self.dimensions)))[0])
            turns = turns if len(turns) else self._turns
        x = self._centred(w) @ turns[rng.integers(len(turns))]
        order = np.arange(self.count)
        for members in self._alike:
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


class ClusterSymmetry(ParticleSymmetry):
    """Permutation-inversion group and rigid motions of ``atoms`` identical atoms, flat coordinates [3 * atoms].

    Args:
        atoms: number of atoms, at least 2.
        orientations: rotations tried when two different structures are aligned.
    """

    def __init__(self, atoms: int, orientations: int = 24) -> None:
        super().__init__(int(atoms), orientations=int(orientations))
        self.atoms, self.orientations = self.count, int(orientations)

    def describe(self) -> str:
        """Name."""
        return f"rigid motions, inversion and permutations of {self.atoms} atoms"

    def to_json(self) -> dict[str, Any]:
        """Kind, number of atoms, orientations tried."""
        return {"kind": "cluster", "atoms": self.atoms, "orientations": self.orientations}


def _planes(d: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(d) for j in range(i + 1, d)]
