"""What a group of minima must be compared with: random groups of other minima, and p-values from them.

See ``jaxland.landscape.weights`` for the definitions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxland.landscape.result import Landscape
from jaxland.landscape.weights.parameters import ParameterTable
from jaxland.problem.symmetry import align_many

if TYPE_CHECKING:
    import pandas

LIVE_SHARE = 0.05


class GroupStatistics(NamedTuple):
    """Of one group, [N] each, or of many, [draws, N] each: aligned to one member.

    Attributes:
        mean, std: over the members, after alignment.
        live, keep: bool, live; live and conserved.
    """

    mean: np.ndarray
    std: np.ndarray
    live: np.ndarray
    keep: np.ndarray


class RandomGroups(NamedTuple):
    """Groups drawn at random, in the frame of the tested group's lowest member.

    Attributes:
        mean, std, square: [draws, N] mean, standard deviation and mean square over each.
        kind: what they were drawn from: ``others`` or ``all`` minima.
    """

    mean: np.ndarray
    std: np.ndarray
    square: np.ndarray
    kind: str

    def statistics(self, table: ParameterTable, threshold: float) -> GroupStatistics:
        """[draws, N] each."""
        live = live_weights(self.square, table, threshold)
        return GroupStatistics(self.mean, self.std, live, live & (self.std < threshold))


@dataclass(frozen=True, eq=False)
class ThresholdSweep:
    """How many live weights are conserved at other n: is there any at which a group stands out?

    Attributes:
        thresholds: [T] values of n.
        count: [T] live conserved weights of the group.
        expected: [T] mean over the random groups (NaN where there is no null).
        p_value: [T].
    """

    thresholds: np.ndarray
    count: np.ndarray
    expected: np.ndarray
    p_value: np.ndarray

    def to_pandas(self) -> pandas.DataFrame:
        """One row per threshold."""
        import pandas as pd

        return pd.DataFrame(
            {"n": self.thresholds, "live conserved": self.count, "by chance": self.expected, "p": self.p_value}
        )


def q_values(p: np.ndarray) -> np.ndarray:
    """p-values [k] corrected for k tests after Benjamini & Hochberg (1995); NaN entries are no tests and stay NaN.

    >>> q_values(np.array([0.01, 0.04, np.nan, 0.03])).round(3).tolist()
    [0.03, 0.04, nan, 0.04]
    """
    from scipy.stats import false_discovery_control

    p = np.asarray(p, float)
    out, known = np.full(p.shape, np.nan), np.isfinite(p)
    if known.any():
        out[known] = false_discovery_control(p[known])
    return out


def live_weights(square: np.ndarray, table: ParameterTable, threshold: float) -> np.ndarray:
    """bool [..., N] by the definition at the top; ``square`` are the mean squares over the group."""
    floor = np.full(square.shape, 3 * threshold)
    for depth in np.unique(table.layer):
        for bias in (False, True):
            here = (table.layer == depth) & (table.bias == bias)
            # Biases are measured against the weights of their layer: there are few of them.
            scale = here if not bias else (table.layer == depth) & ~table.bias
            if here.any() and scale.any():
                size = np.sqrt(square[..., scale].mean(-1, keepdims=True))
                floor[..., here] = np.maximum(floor[..., here], LIVE_SHARE * size)
    return np.sqrt(square) > floor


def random_groups(
    landscape: Landscape,
    members: np.ndarray,
    reference: np.ndarray,
    draws: int,
    null_members: int,
    rng: np.random.Generator,
) -> RandomGroups | None:
    """Random groups as large as a group (or ``null_members``), of minima that are not in it.

    Args:
        landscape: whose minima.
        members: int [k] of the group.
        reference: [N] coordinates of its lowest member.
        draws: how many random groups.
        null_members: most members of a random group.
        rng: consumed.

    Returns:
        None where the group holds all minima.
    """
    symmetry = getattr(landscape.problem, "symmetry", None)
    size = min(len(members), null_members)
    pool, kind = np.setdiff1d(np.arange(landscape.n_minima), members), "others"
    if len(pool) < 2 * size:
        # Too few others for independent draws: random relabelling of all minima instead.
        pool, kind = np.arange(landscape.n_minima), "all"
        if len(members) == landscape.n_minima:
            return None
    _, frame_index, frame_sign = align_many(symmetry, landscape.coordinates[pool], reference)
    framed = symmetry is None or symmetry.order() == 1 or hasattr(symmetry, "alignments")
    std = np.empty((draws, landscape.size))
    mean, square = np.empty_like(std), np.empty_like(std)
    for d in range(draws):
        drawn = np.sort(rng.permutation(len(pool))[:size])
        points, lowest = landscape.coordinates[pool[drawn]], int(drawn[0])
        target = points[0] if framed or symmetry is None else symmetry.align(points[0], reference)
        own, _, _ = align_many(symmetry, points, target)
        index, sign = frame_index[lowest], frame_sign[lowest]
        std[d] = own.std(0, ddof=1)[index]
        mean[d] = sign * own.mean(0)[index]
        square[d] = (own**2).mean(0)[index]
    return RandomGroups(mean, std, square, kind)


def sweep(std: np.ndarray, live: np.ndarray, null: GroupStatistics | None, threshold: float) -> ThresholdSweep:
    """How many of the live weights (std [N], live bool [N]) are conserved at other n than ``threshold``."""
    thresholds = threshold * np.array([0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0])
    count = np.array([int(((std < n) & live).sum()) for n in thresholds])
    expected, p = np.full(len(thresholds), np.nan), np.full(len(thresholds), np.nan)
    if null is not None:
        chance = np.stack([((null.std < n) & null.live).sum(1) for n in thresholds])
        expected = chance.mean(1)
        p = np.where(count > 0, (1 + (chance >= count[:, None]).sum(1)) / (1 + chance.shape[1]), 1.0)
    return ThresholdSweep(thresholds, count, expected, p)
