"""How far a copy of a minimum is displaced before it climbs, learned from which displacements came back.

A search from too near a minimum ends nowhere; from too far it finds the pass between two strangers. Where the line
runs depends on the landscape, so it is learned: by kind of displacement (a band of sizes, of the whole network or of
one piece of it), from how many searches found a new pass out of the very minimum they had left. Among many
coordinates far displacements are taken for the worse ones at first. What is learned is kept in the store and read
where a round is planned: one seed gives one database, whoever does the jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, TypedDict

import numpy as np
from jaxtyping import Float, Int

from jaxland.problem.particles import ClusterSymmetry
from jaxland.problem.symmetry import DenseSymmetry, Symmetry

_FADE = 0.8  # weight of older rounds
_PRIOR = 8.0  # searches of every kind that are taken for granted, at the mean yield
_AT_CHANCE = 0.3  # share of the searches that go to every kind alike


class Displacement(NamedTuple):
    """A kind of displacement: normal, of low to high times the minimum's rms coordinate.

    Attributes:
        low, high: between which the size is drawn, uniform in its logarithm.
        local: of one hidden unit (atom) alone.
    """

    low: float
    high: float
    local: bool


_WHOLE, _LOCAL = (0.01, 0.025, 0.05, 0.08, 0.125, 0.2, 0.32, 0.5), (0.2, 0.4, 0.8, 1.6)
# Among up to so many coordinates the least displacements are too short to find anything; among more, passes lie near.
FEW, _LEAST = 64, 0.05
# Among more, fewer come back from farther off than this; a piece counts as a whole displaced half as far.
_FAR, _PIECE = 0.2, 0.5
KINDS = tuple(
    Displacement(low, high, local)
    for sizes, local in ((_WHOLE, False), (_LOCAL, True))
    for low, high in pairwise(sizes)
)


class Yields(TypedDict):
    """What is kept in the store: searches of each kind, and how many came back with a new pass; older ones fade."""

    searches: list[float]
    passes: list[float]


def no_yields() -> Yields:
    """Before the first search."""
    return {"searches": [0.0] * len(KINDS), "passes": [0.0] * len(KINDS)}


def counted(yields: Yields, kinds: Sequence[int], came_back: Sequence[int]) -> Yields:
    """With the searches of a batch: the kind of each, and the new passes it found out of its own minimum."""
    searches, passes = np.array(yields["searches"]), np.array(yields["passes"])
    np.add.at(searches, list(kinds), 1.0)
    np.add.at(passes, list(kinds), np.minimum(came_back, 1))
    return {"searches": searches.tolist(), "passes": passes.tolist()}


def faded(yields: Yields) -> Yields:
    """As they count in the next round."""
    return {"searches": [_FADE * n for n in yields["searches"]], "passes": [_FADE * n for n in yields["passes"]]}


def _expected(local: bool, size: int) -> Float[np.ndarray, " kinds"]:
    """Yield of each kind before anything was learned, the best one's being 1; 0 where a kind is not used."""
    used = np.array([float(local or not kind.local) for kind in KINDS])
    if size <= FEW:
        return used * [kind.low >= _LEAST for kind in KINDS]
    middle = [np.sqrt(kind.low * kind.high) * (_PIECE if kind.local else 1.0) for kind in KINDS]
    return used * np.minimum(1.0, _FAR / np.array(middle)) ** 2


def shares(yields: Yields, local: bool, size: int) -> Float[np.ndarray, " kinds"]:
    """Part of the next searches that each kind gets with ``size`` coordinates; ``local`` ones only where there are
    pieces to displace.
    """
    searches, passes = np.array(yields["searches"]), np.array(yields["passes"])
    expected = _expected(local, size)
    mean = (passes.sum() + 1.0) / (searches.sum() + _PRIOR)
    used = expected > 0
    merit = np.where(used, ((passes + _PRIOR * mean * expected) / (searches + _PRIOR)) ** 2, 0.0)
    return (1 - _AT_CHANCE) * merit / merit.sum() + _AT_CHANCE * used / used.sum()


def choose(yields: Yields, count: int, local: bool, size: int, seed: list[int]) -> list[int]:
    """Kinds of ``count`` searches: each as often as its share says, in an order drawn by ``seed``."""
    rng = np.random.default_rng(seed)
    marks = (np.arange(count) + rng.random()) / max(count, 1)
    kinds = np.searchsorted(np.cumsum(shares(yields, local, size)), marks, side="right")
    return rng.permutation(np.minimum(kinds, len(KINDS) - 1)).tolist()


def pieces(symmetry: Symmetry) -> list[Int[np.ndarray, " k"]]:
    """Coordinates that belong together: of each hidden unit, or of each atom; none where there are no such."""
    if isinstance(symmetry, DenseSymmetry):
        return [unit for layer in symmetry.units for unit in layer]
    if isinstance(symmetry, ClusterSymmetry):
        return list(np.arange(3 * symmetry.atoms).reshape(-1, 3))
    return []


def displaced(
    x: Float[np.ndarray, " N"], kind: Displacement, parts: Sequence[np.ndarray], rng: np.random.Generator
) -> Float[np.ndarray, " N"]:
    """A displaced copy of a minimum."""
    size = np.exp(rng.uniform(np.log(kind.low), np.log(kind.high))) * max(float(np.sqrt(np.mean(x * x))), 1e-2)
    moved = x.copy()
    where = parts[int(rng.integers(len(parts)))] if kind.local and parts else np.arange(x.size)
    moved[where] += size * rng.normal(size=len(where))
    return moved
