"""Parameter transformations that leave a loss unchanged: alignment, canonical form, orbit size.

Hidden units of a dense network permute; for odd activations each may also flip its sign: 2^h h! images per layer
(Niroomand & Wales 2023, and the field's practice for permutation isomers). The assignment problem is solved on the
host by SciPy, exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxland.problem.matching import unit_distances

Vector = np.ndarray


@runtime_checkable
class Symmetry(Protocol):
    """What landscapes need to know of a symmetry group acting on flat parameter vectors [N]; derive from it.

    ``zero_modes`` is the dimension of its continuous part: so many Hessian eigenvalues vanish at every stationary
    point in general position. A group with a continuous part also has ``zero_space(w) -> [N, zero_modes]``, an
    orthonormal basis of its infinitesimal motions at w, as a pure JAX function.
    """

    zero_modes: int = 0

    def align(self, w: Vector, reference: Vector) -> Vector:
        """The image of w nearest to the reference (Euclidean)."""

    def canonical(self, w: Vector) -> Vector:
        """One image per orbit, the same for all images of a point in general position."""

    def orbit_size(self, w: Vector) -> int:
        """Number of distinct images of w."""

    def order(self) -> int:
        """Order of the (finite part of the) group."""

    def random_image(self, w: Vector, rng: np.random.Generator) -> Vector:
        """The image of w under a random element."""

    def describe(self) -> str:
        """A few words for people; nobody reads them back."""

    def to_json(self) -> dict[str, Any]:
        """What ``symmetry_from_json`` makes the same group from; here only what a file can keep of an unknown one."""
        facts = {"words": self.describe(), "order": self.order(), "zero_modes": self.zero_modes}
        return {"kind": "other", **facts}

    def matches(self, w: Vector, reference: Vector, tolerance: float) -> bool:
        """Whether two points are images of one another to within a Euclidean distance."""
        return bool(np.linalg.norm(self.align(w, reference) - reference) < tolerance)

    def distance(self, w: Vector, reference: Vector) -> float:
        """Distance of the nearest image, or a cheaper number that ranks pairs as it does."""
        return float(np.linalg.norm(self.align(w, reference) - reference))

    def reduced(self, length: float) -> Symmetry:
        """The same group acting on coordinates in units of ``length``; itself where it knows no length."""
        from jaxland.problem.coordinate_symmetries import Reduced

        return self if length == 1.0 else Reduced(self, length)

    # -- the same of many points at once; what they give does not depend on what else is in the call -----------------

    def distances(self, points: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """``distance`` [k] of points j to reference points i, for pairs (i, j) [k, 2] of rows of points [P, N]."""
        return np.array([self.distance(points[j], points[i]) for i, j in np.asarray(pairs).tolist()], float)

    def matching(self, points: np.ndarray, pairs: np.ndarray, tolerance: float) -> np.ndarray:
        """``matches`` bool [k], for pairs [k, 2] of rows of points [P, N]."""
        return np.array([self.matches(points[i], points[j], tolerance) for i, j in np.asarray(pairs).tolist()], bool)

    def canonicals(self, points: np.ndarray) -> np.ndarray:
        """``canonical`` of each row of points [P, N]."""
        points = np.asarray(points)
        return np.stack([self.canonical(w) for w in points]) if len(points) else points

    def orbit_sizes(self, points: np.ndarray) -> list[int]:
        """``orbit_size`` of each row of points [P, N]."""
        return [self.orbit_size(w) for w in points]


class NoSymmetry(Symmetry):
    """The trivial group."""

    def reduced(self, length: float) -> Symmetry:
        """Itself."""
        return self

    def align(self, w: Vector, reference: Vector) -> Vector:
        """w itself."""
        return np.asarray(w)

    def canonical(self, w: Vector) -> Vector:
        """w itself."""
        return np.asarray(w)

    def orbit_size(self, w: Vector) -> int:
        """1."""
        return 1

    def order(self) -> int:
        """1."""
        return 1

    def random_image(self, w: Vector, rng: np.random.Generator) -> Vector:
        """w itself."""
        return np.asarray(w)

    def distances(self, points: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Euclidean."""
        pairs = np.asarray(pairs).reshape(-1, 2)
        return np.sqrt(np.sum((points[pairs[:, 1]] - points[pairs[:, 0]]) ** 2, axis=1))

    def matching(self, points: np.ndarray, pairs: np.ndarray, tolerance: float) -> np.ndarray:
        """Whether they are that near."""
        return self.distances(points, pairs) < tolerance

    def describe(self) -> str:
        """Name."""
        return "none"

    def to_json(self) -> dict[str, Any]:
        """Kind."""
        return {"kind": "none"}


class DenseSymmetry(Symmetry):
    """Permutations (and sign flips, ``odd=True``) of the hidden units of a dense network made by ``jaxland.mlp``.

    Alignment is exact for one hidden layer (linear assignment with the better sign per unit) and coordinate descent
    over layers, from three starts, for deeper networks.
    """

    def __init__(self, sizes: Sequence[int], odd: bool) -> None:
        self.sizes = tuple(int(s) for s in sizes)
        self.odd = bool(odd)
        # ravel_pytree orders a layer {"b", "w"} as bias first, then weights [in, out] by rows.
        self._incoming: list[np.ndarray] = []
        self._outgoing: list[np.ndarray] = []
        bias, weight, start = [], [], 0
        for fan_in, fan_out in zip(self.sizes[:-1], self.sizes[1:]):
            bias.append(start + np.arange(fan_out))
            weight.append(start + fan_out + np.arange(fan_in * fan_out).reshape(fan_in, fan_out))
            start += fan_out * (fan_in + 1)
        for layer in range(len(self.sizes) - 2):
            self._incoming.append(np.concatenate([weight[layer].T, bias[layer][:, None]], axis=1))
            self._outgoing.append(weight[layer + 1])
        self.size = start
        # Indices [h, d] of everything that moves with a hidden unit of each hidden layer.
        self.units = [np.concatenate([a, b], axis=1) for a, b in zip(self._incoming, self._outgoing)]
        self._probe = np.random.default_rng(20230402).normal(size=start)

    def order(self) -> int:
        """Product over hidden layers of h!, times 2^h where the activation is odd."""
        return math.prod(math.factorial(h) * (2**h if self.odd else 1) for h in self.sizes[1:-1])

    def align(self, w: Vector, reference: Vector) -> Vector:
        """The image of w nearest to the reference; exact for one hidden layer."""
        w = np.asarray(w)
        index, sign = self.alignments(w[None], reference)
        return sign[0] * w[index[0]]

    def alignments(self, ws: np.ndarray, reference: Vector) -> tuple[np.ndarray, np.ndarray]:
        """Transformations that align many points [k, N] to one reference, as ``align`` does one by one.

        Several hidden layers: coordinate descent from three starts (as it is; matched layer by layer from the inputs
        up; from the outputs down), the nearest result being taken.

        Returns:
            index [k, N] and sign [k, N]: the aligned points are ``sign * take_along_axis(ws, index, 1)``.
        """
        ws, reference = np.asarray(ws), np.asarray(reference)
        depth = len(self.units)
        if depth == 1:
            return self._match(ws, reference, self.units[0], self.units[0])
        if depth == 0:
            return np.tile(np.arange(ws.shape[1]), (len(ws), 1)), np.ones(ws.shape)
        starts: tuple[list[tuple[np.ndarray, np.ndarray]], ...] = (
            [],
            [(self._incoming[k], self.units[k]) for k in range(depth)],
            [(self._outgoing[k], self.units[k]) for k in reversed(range(depth))],
        )
        index, sign = self._descend(ws, reference, starts[0])
        best = np.sum((sign * np.take_along_axis(ws, index, 1) - reference) ** 2, axis=1)
        for start in starts[1:]:
            index_, sign_ = self._descend(ws, reference, start)
            distance = np.sum((sign_ * np.take_along_axis(ws, index_, 1) - reference) ** 2, axis=1)
            nearer = distance < best - 1e-12 * (1.0 + best)
            best = np.where(nearer, distance, best)
            index, sign = np.where(nearer[:, None], index_, index), np.where(nearer[:, None], sign_, sign)
        return index, sign

    def _descend(
        self, ws: np.ndarray, reference: Vector, first: list[tuple[np.ndarray, np.ndarray]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Match layers in turn until nothing gets nearer; ``first``: (compared, moved) weights of the first turn."""
        index, sign = np.tile(np.arange(ws.shape[1]), (len(ws), 1)), np.ones(ws.shape)
        active, best = np.arange(len(ws)), np.full(len(ws), np.inf)
        moved = ws.copy()
        for turn in range(50):
            passes = first if turn == 0 and first else [(units, units) for units in self.units]
            for compared, units in passes:
                step, flip = self._match(moved[active], reference, compared, units)
                moved[active] = flip * np.take_along_axis(moved[active], step, 1)
                index[active] = np.take_along_axis(index[active], step, 1)
                sign[active] = flip * np.take_along_axis(sign[active], step, 1)
            distance = np.sum((moved[active] - reference) ** 2, axis=1)
            known = np.where(np.isfinite(best[active]), best[active], 0.0)
            nearer = (distance < best[active] - 1e-14 * (1.0 + known)) | (turn == 0)
            best[active] = distance
            active = active[nearer]
            if not len(active):
                break
        return index, sign

    def _match(
        self, ws: np.ndarray, reference: Vector, compared: np.ndarray, units: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Best assignment of one layer's units: index and sign [k, N]."""
        from scipy.optimize import linear_sum_assignment  # half a second to import: not needed by every user

        overlap = np.einsum("hd,kgd->khg", reference[compared], ws[:, compared])
        gain = np.abs(overlap) if self.odd else overlap
        columns = np.array([linear_sum_assignment(g, maximize=True)[1] for g in gain], int).reshape(len(ws), -1)
        step, flip = np.tile(np.arange(ws.shape[1]), (len(ws), 1)), np.ones(ws.shape)
        step[:, units] = units[columns]
        if self.odd:
            chosen = np.take_along_axis(overlap, columns[:, :, None], 2)
            flip[:, units] = np.where(chosen < 0, -1.0, 1.0)
        return step, flip

    def canonical(self, w: Vector) -> Vector:
        """Units signed and sorted by their product with a fixed pseudo-random vector."""
        return self.canonicals(np.asarray(w)[None])[0]

    def canonicals(self, points: np.ndarray) -> np.ndarray:
        """``canonical`` of each row of points [P, N]."""
        points = np.array(points)
        for units, incoming in zip(self.units, self._incoming):
            key = np.sum(np.ascontiguousarray(points[:, incoming]) * self._probe[: incoming.shape[1]], axis=2)
            sign = np.where(key < 0, -1.0, 1.0) if self.odd else np.ones(key.shape)
            order = np.argsort(-key * sign, axis=1, kind="stable")
            points[:, units] = np.take_along_axis(sign[:, :, None] * points[:, units], order[:, :, None], axis=1)
        return points

    def orbit_size(self, w: Vector, tol: float = 1e-3) -> int:
        """Group order divided by the number of elements that leave w unchanged to within ``tol`` per unit.

        Elements acting on several hidden layers at once are not searched: exact for one hidden layer, an upper bound
        for deeper networks at points with such accidental symmetry.
        """
        return self.orbit_sizes(np.asarray(w)[None], tol)[0]

    def orbit_sizes(self, points: np.ndarray, tol: float = 1e-3) -> list[int]:
        """``orbit_size`` of each row of points [P, N]."""
        points = np.asarray(points)
        counts = []
        for units in self.units:
            moving = points[:, units]  # [P, h, d]
            zero = np.sqrt(np.sum(moving**2, axis=2)) < tol
            equal = np.sqrt(np.sum((moving[:, :, None] - moving[:, None]) ** 2, axis=3)) < tol
            if self.odd:
                equal |= np.sqrt(np.sum((moving[:, :, None] + moving[:, None]) ** 2, axis=3)) < tol
            counts.append(zero.sum(1))
            left = ~zero
            for u in reversed(range(len(units))):  # the last unit left takes all that equal it
                same = equal[:, u] & left & left[:, [u]]
                counts.append(same.sum(1))
                left = left & ~same
        if not counts:
            return [1] * len(points)
        kinds, place = np.unique(np.stack(counts, axis=1), axis=0, return_inverse=True)
        sizes = [self.order() // self._stabiliser(row) for row in kinds.tolist()]
        return [sizes[k] for k in place.ravel()]

    def _stabiliser(self, counts: list[int]) -> int:
        """Order of the stabiliser; for each hidden layer the number of zero units, then h sizes of equal ones."""
        order, start = 1, 0
        for units in self.units:
            zero, *equal = counts[start : start + len(units) + 1]
            order *= (2**zero if self.odd else 1) * math.prod(map(math.factorial, (zero, *equal)))
            start += len(units) + 1
        return order

    def distances(self, points: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """``distance`` [k] of pairs [k, 2] of points [P, N]; one hidden layer: a block in one go."""
        points, pairs = np.asarray(points), np.asarray(pairs).reshape(-1, 2)
        if len(self.units) == 1:
            return unit_distances(points, pairs, self.units[0], self.odd)
        out = np.empty(len(pairs))
        for i in np.unique(pairs[:, 0]).tolist():  # deeper: all that are aligned to one point
            rows = np.flatnonzero(pairs[:, 0] == i)
            ws = points[pairs[rows, 1]]
            index, sign = self.alignments(ws, points[i])
            out[rows] = np.sqrt(np.sum((sign * np.take_along_axis(ws, index, 1) - points[i]) ** 2, axis=1))
        return out

    def matching(self, points: np.ndarray, pairs: np.ndarray, tolerance: float) -> np.ndarray:
        """Whether points i and j are images of one another, to within a distance, for pairs [k, 2]."""
        return self.distances(points, np.asarray(pairs).reshape(-1, 2)[:, ::-1]) < tolerance

    def random_image(self, w: Vector, rng: np.random.Generator) -> Vector:
        """w under a random permutation and random signs in every hidden layer."""
        w = np.array(w)
        for units in self.units:
            sign = rng.choice([-1.0, 1.0], size=len(units)) if self.odd else np.ones(len(units))
            w[units] = (sign[:, None] * w[units])[rng.permutation(len(units))]
        return w

    def describe(self) -> str:
        """Name."""
        return f"hidden-unit permutations{' and sign flips' if self.odd else ''} of {self.sizes}"

    def to_json(self) -> dict[str, Any]:
        """Kind, sizes and whether signs flip."""
        return {"kind": "hidden units", "sizes": list(self.sizes), "odd": self.odd}


def align_many(
    symmetry: Symmetry | None, points: np.ndarray, reference: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images of points [k, N] nearest to a reference: (aligned [k, N], index [k, N], sign [k, N]).

    ``aligned = sign * take_along_axis(points, index, 1)``; a symmetry that cannot tell index and sign gives the
    aligned points with identity index.
    """
    points = np.asarray(points, float)
    index, sign = np.tile(np.arange(points.shape[1]), (len(points), 1)), np.ones(points.shape)
    if symmetry is None or symmetry.order() == 1:
        return points, index, sign
    if hasattr(symmetry, "alignments"):
        index, sign = symmetry.alignments(points, reference)
        return sign * np.take_along_axis(points, index, 1), index, sign
    return np.stack([symmetry.align(w, reference) for w in points]), index, sign
