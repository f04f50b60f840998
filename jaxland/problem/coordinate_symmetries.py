"""Symmetries of coordinates by themselves: periods, like blocks that may be exchanged, and a change of units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxland.errors import ArgumentError
from jaxland.problem.symmetry import Symmetry, Vector


class PeriodicSymmetry(Symmetry):
    """Coordinates that are the same again after a period: angles, torsions, positions in a cell.

    >>> PeriodicSymmetry([360.0, np.inf]).align(np.array([350.0, 7.0]), np.array([0.0, 0.0])).tolist()
    [-10.0, 7.0]

    Args:
        periods: of each coordinate [N], in its units; infinite where a coordinate has none.
    """

    def __init__(self, periods: Sequence[float] | np.ndarray) -> None:
        self.periods = np.array(periods, float)
        if self.periods.ndim != 1 or not np.all(self.periods > 0):
            raise ArgumentError("periods must be positive numbers, one per coordinate; np.inf where there is none")
        self._finite = np.isfinite(self.periods)
        self._period = np.where(self._finite, self.periods, 1.0)

    def align(self, w: Vector, reference: Vector) -> Vector:
        """Each coordinate within half a period of the reference's."""
        w = np.asarray(w, float)
        turns = np.round((w - np.asarray(reference)) / self._period)
        return w - np.where(self._finite, turns * self._period, 0.0)

    def canonical(self, w: Vector) -> Vector:
        """Each coordinate in [0, period)."""
        w = np.asarray(w, float)
        return np.where(self._finite, np.mod(w, self._period), w)

    def orbit_size(self, w: Vector) -> int:
        """1: what is a period away is the same point."""
        return 1

    def order(self) -> int:
        """1."""
        return 1

    def random_image(self, w: Vector, rng: np.random.Generator) -> Vector:
        """w a few periods away."""
        return np.asarray(w) + np.where(self._finite, self._period * rng.integers(-3, 4, size=np.shape(w)), 0.0)

    def describe(self) -> str:
        """Name."""
        return f"periods of {int(self._finite.sum())} of {len(self.periods)} coordinates"

    def to_json(self) -> dict[str, Any]:
        """Kind and periods (None: infinite)."""
        return {"kind": "periodic", "periods": [p if np.isfinite(p) else None for p in self.periods.tolist()]}


class PermutationSymmetry(Symmetry):
    """Blocks of coordinates that may be exchanged: like components, oscillators, sites.

    >>> PermutationSymmetry([[0, 1], [2, 3]]).canonical(np.array([5.0, 6.0, 1.0, 2.0])).tolist()
    [1.0, 2.0, 5.0, 6.0]

    Args:
        *groups: each a list of equally long blocks of indices; the blocks of a group are alike. No index twice.
    """

    def __init__(self, *groups: Sequence[Sequence[int]]) -> None:
        try:
            self.groups = [np.array(group, int).reshape(len(group), -1) for group in groups]
        except (ValueError, TypeError) as error:
            raise ArgumentError("each group must be a list of equally long blocks of indices") from error
        every = np.concatenate([g.ravel() for g in self.groups]) if groups else np.zeros(0, int)
        if not len(every) or len(set(every.tolist())) < len(every) or every.min() < 0:
            raise ArgumentError("groups must hold at least one index, each once, none negative")

    def align(self, w: Vector, reference: Vector) -> Vector:
        """The image nearest to the reference: one assignment per group."""
        from scipy.optimize import linear_sum_assignment

        w, reference = np.array(w), np.asarray(reference)
        for blocks in self.groups:
            chosen = linear_sum_assignment(-(reference[blocks] @ w[blocks].T))[1]
            w[blocks] = w[blocks[chosen]]
        return w

    def canonical(self, w: Vector) -> Vector:
        """Blocks of each group in lexicographic order."""
        w = np.array(w)
        for blocks in self.groups:
            w[blocks] = w[blocks[np.lexsort(np.round(w[blocks], 8).T[::-1])]]
        return w

    def orbit_size(self, w: Vector, tol: float = 1e-4) -> int:
        """Order of the group over the permutations of equal blocks."""
        size, w = self.order(), np.asarray(w)
        for blocks in self.groups:
            left = list(range(len(blocks)))
            while left:
                same = [k for k in left if np.linalg.norm(w[blocks[k]] - w[blocks[left[0]]]) < tol]
                size //= math.factorial(len(same))
                left = [k for k in left if k not in same]
        return size

    def order(self) -> int:
        """Product of the factorials of the groups' sizes."""
        return math.prod(math.factorial(len(blocks)) for blocks in self.groups)

    def random_image(self, w: Vector, rng: np.random.Generator) -> Vector:
        """w with the blocks of each group shuffled."""
        w = np.array(w)
        for blocks in self.groups:
            w[blocks] = w[rng.permutation(blocks)]
        return w

    def reduced(self, length: float) -> Symmetry:
        """Itself."""
        return self

    def describe(self) -> str:
        """Name."""
        return f"permutations of {', '.join(str(len(blocks)) for blocks in self.groups)} like blocks of coordinates"

    def to_json(self) -> dict[str, Any]:
        """Kind and groups."""
        return {"kind": "permutations", "groups": [blocks.tolist() for blocks in self.groups]}


class Reduced(Symmetry):
    """A group acting on coordinates in units of a length."""

    def __init__(self, whole: Symmetry, length: float) -> None:
        self.whole, self.length, self.zero_modes = whole, float(length), whole.zero_modes
        if hasattr(whole, "zero_space"):
            space = whole.zero_space
            self.zero_space = lambda w: space(length * w)

    def align(self, w: Vector, reference: Vector) -> Vector:
        """See ``Symmetry``."""
        return self.whole.align(self.length * np.asarray(w), self.length * np.asarray(reference)) / self.length

    def canonical(self, w: Vector) -> Vector:
        """See ``Symmetry``."""
        return self.whole.canonical(self.length * np.asarray(w)) / self.length

    def orbit_size(self, w: Vector) -> int:
        """See ``Symmetry``."""
        return self.whole.orbit_size(self.length * np.asarray(w))

    def order(self) -> int:
        """See ``Symmetry``."""
        return self.whole.order()

    def random_image(self, w: Vector, rng: np.random.Generator) -> Vector:
        """See ``Symmetry``."""
        return self.whole.random_image(self.length * np.asarray(w), rng) / self.length

    def describe(self) -> str:
        """Of the group in the user's units."""
        return self.whole.describe()

    def to_json(self) -> dict[str, Any]:
        """Of the group in the user's units."""
        return self.whole.to_json()

    def matches(self, w: Vector, reference: Vector, tolerance: float) -> bool:
        """See ``Symmetry``."""
        return self.whole.matches(
            self.length * np.asarray(w), self.length * np.asarray(reference), self.length * tolerance
        )

    def distance(self, w: Vector, reference: Vector) -> float:
        """See ``Symmetry``."""
        return self.whole.distance(self.length * np.asarray(w), self.length * np.asarray(reference)) / self.length
