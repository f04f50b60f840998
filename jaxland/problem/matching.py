"""Assignment problems in blocks: the best pairing of a few units for thousands of pairs of points at once.

Exact by dynamic programming over subsets of columns (Held & Karp 1962): 2^(h-1) h additions and comparisons for a
problem, each done for the whole block. Every sum is taken in a fixed order, so that a result never depends on what
else is in its block.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

LARGEST = 8  # beyond so many units SciPy's Jonker-Volgenant, one problem at a time, is faster
_BLOCK = 1024


@lru_cache(maxsize=LARGEST)
def _steps(h: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For r = 1..h: of every subset of r columns, in order, each column and the place of the subset without it."""
    steps = []
    before: dict[tuple[int, ...], int] = {(): 0}
    for r in range(1, h + 1):
        subsets = list(combinations(range(h), r))
        columns = np.array(subsets)
        places = np.array([[before[s[:j] + s[j + 1 :]] for j in range(r)] for s in subsets])
        steps.append((columns, places))
        before = {s: k for k, s in enumerate(subsets)}
    return steps


def best_gain(gain: Float[np.ndarray, "h h k"]) -> Float[np.ndarray, " k"]:
    """Largest sum of gain[r, column of r] over all assignments of rows to columns, for each of k problems."""
    h, _, k = gain.shape
    if h > LARGEST:
        from scipy.optimize import linear_sum_assignment

        chosen = [linear_sum_assignment(gain[:, :, i], maximize=True) for i in range(k)]
        return np.array([gain[rows, columns, i].sum() for i, (rows, columns) in enumerate(chosen)])
    best = np.zeros((1, k))
    for row, (columns, places) in enumerate(_steps(h)):
        now = best[places[:, 0]] + gain[row, columns[:, 0]]
        for j in range(1, columns.shape[1]):
            np.maximum(now, best[places[:, j]] + gain[row, columns[:, j]], out=now)
        best = now
    return best[0]


def unit_distances(
    points: Float[np.ndarray, "P N"], pairs: Int[np.ndarray, "k 2"], units: Int[np.ndarray, "h d"], odd: bool
) -> Float[np.ndarray, " k"]:
    """Distance of points i to the nearest image of points j, for pairs (i, j): units permuted, with signs where odd.

    Args:
        points: flat parameters.
        pairs: rows of ``points``.
        units: what moves with each unit; all else stays in place.
        odd: whether a unit may change its sign.
    """
    fixed = np.setdiff1d(np.arange(points.shape[1]), units)
    moving = np.ascontiguousarray(np.moveaxis(points[:, units], 0, 2))  # [h, d, P]
    resting = np.ascontiguousarray(points[:, fixed])
    # Sums run along the last axis of plain arrays: NumPy's order of adding then depends on their length alone.
    square = np.sum(np.ascontiguousarray(points[:, units.ravel()]) ** 2, axis=1)
    out = np.empty(len(pairs))
    for start in range(0, len(pairs), _BLOCK):
        i, j = pairs[start : start + _BLOCK].T
        overlap = np.zeros((len(units), len(units), len(i)))
        for a, b in zip(np.moveaxis(moving[:, :, i], 1, 0), np.moveaxis(moving[:, :, j], 1, 0)):
            overlap += a[:, None] * b[None]
        apart = np.sum((resting[i] - resting[j]) ** 2, axis=1)
        gain = best_gain(np.abs(overlap) if odd else overlap)
        out[start : start + _BLOCK] = apart + np.maximum(square[i] + square[j] - 2 * gain, 0.0)
    return np.sqrt(out)
