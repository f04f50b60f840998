"""Mutual information from nearest neighbours (Kraskov, Stoegbauer & Grassberger 2004): an independent check.

    I = psi(k) + psi(N) - < psi(n_x + 1) + psi(n_y + 1) >                                       (their eq. 8)

with n_x, n_y the samples strictly closer in x, in y, than the k-th neighbour in the maximum norm of (x, y).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import digamma

from jaxland.errors import ArgumentError
from jaxland.information.columns import Variable, normal_scores, same_length, variable


def ksg(x: Any, y: Any, *, k: int = 3, maps: str = "scores", seed: int = 0) -> float:
    """Mutual information of x [N] or [N, dx] and y in nats.

    Ties are spread, and columns replaced by their normal scores ("scores", which changes no information and helps
    with heavy tails) or scaled to unit width ("raw"). Good for smooth densities and a few dimensions; biased low
    where the information is large (beyond about ln N).

    Raises:
        DataError: lengths differ, values not finite, a constant column.
        ArgumentError: k outside 1..N-1, unknown maps.

    >>> rng = np.random.default_rng(0)
    >>> x, noise = rng.normal(size=(2, 2000))
    >>> round(ksg(x, 0.6 * x + 0.8 * noise), 1)  # a normal pair: -ln(1 - 0.6^2) / 2
    0.2
    """
    if maps not in ("raw", "scores"):
        raise ArgumentError(f"maps must be raw or scores, got {maps!r}")
    left, right = variable(x, "x", seed), variable(y, "y", seed + 1)
    same_length(x=left.columns.T, y=right.columns.T)
    if maps == "scores":
        left, right = (replace(v, columns=normal_scores(v.columns)) for v in (left, right))
    return ksg_of(left, right, k)


def ksg_of(x: Variable, y: Variable, k: int = 3) -> float:
    """The same for variables already prepared, in the coordinates they have."""
    from scipy.spatial import cKDTree

    n = x.columns.shape[1]
    if not 1 <= k < n:
        raise ArgumentError(f"k must lie in 1..{n - 1}, got {k}")
    joint = np.concatenate([x.columns, y.columns]).T
    radius = cKDTree(joint).query(joint, k=k + 1, p=np.inf)[0][:, -1]
    counts = (_closer(v.columns.T, radius) for v in (x, y))
    return float(digamma(k) + digamma(n) - sum(np.mean(digamma(c)) for c in counts))


def _closer(samples: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """n + 1: samples strictly within each radius, the sample itself included."""
    inside = np.nextafter(radius, 0)
    if samples.shape[1] == 1:
        column = samples[:, 0]
        ordered = np.sort(column)
        high = np.searchsorted(ordered, column + inside, side="right")
        return np.maximum(high - np.searchsorted(ordered, column - inside, side="left"), 1)
    from scipy.spatial import cKDTree

    return np.asarray(cKDTree(samples).query_ball_point(samples, inside, p=np.inf, return_length=True))
