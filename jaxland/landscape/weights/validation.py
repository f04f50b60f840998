"""Do conserved weights matter? What shuffling them among themselves costs, beside shuffling others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxland.landscape.result import Landscape
from jaxland.landscape.weights.null import GroupStatistics
from jaxland.landscape.weights.parameters import ParameterTable
from jaxland.landscape.weights.scoring import Scorer
from jaxland.problem.symmetry import align_many

if TYPE_CHECKING:
    import pandas

SHUFFLES_PER_SET = 3


@dataclass(frozen=True, eq=False)
class Validation:
    """Loss of test performance when weights are shuffled among themselves.

    The first comparison is the paper's: all live conserved weights against equally many random live others, wherever
    they are. Weights of some layers may matter more whatever their spread, so the second is like for like: only in
    layers that have both kinds, equally many of each, shuffled within their layer.

    Attributes:
        metric: see ``scoring.Scorer``.
        what: ``conserved``, or ``agreeing`` where fewer than two weights are conserved and the weights with a
            significantly small spread (q_value at most alpha) stand in for them.
        size: how many weights are shuffled; like_size: the same for the like-for-like comparison (0: impossible).
        baseline: [S] metric of the untouched minimum of each seed.
        conserved: [S] drop when the conserved weights are shuffled.
        others: [S] drop when a random set of others is, mean of ``SHUFFLES_PER_SET`` shuffles of each set.
        matched: [S] drop when the not conserved weights most alike in size are.
        like_conserved, like_others: [S] drops of the like-for-like comparison (NaN where impossible).
        p_value, p_like: share of the random sets whose mean drop reaches the mean drop of the conserved ones: are
            these weights special among sets of weights?
        note: what could not be done as said above; empty otherwise.
    """

    metric: str
    what: str
    size: int
    like_size: int
    baseline: np.ndarray
    conserved: np.ndarray
    others: np.ndarray
    matched: np.ndarray
    like_conserved: np.ndarray
    like_others: np.ndarray
    p_value: float
    p_like: float
    note: str = ""

    @property
    def supported(self) -> bool:
        """The conserved weights matter more than random others, at 5 %."""
        return bool(self.p_value <= 0.05 and self.conserved.mean() > self.others.mean())

    @property
    def supported_like(self) -> bool:
        """The same, like for like."""
        return bool(self.p_like <= 0.05 and self.like_conserved.mean() > self.like_others.mean())

    def to_pandas(self) -> pandas.DataFrame:
        """One row per seed."""
        import pandas as pd

        return pd.DataFrame(
            {
                "baseline": self.baseline,
                "drop, conserved": self.conserved,
                "drop, random others": self.others,
                "drop, others of like size": self.matched,
                "drop, conserved (same layers)": self.like_conserved,
                "drop, others (same layers)": self.like_others,
            }
        ).rename_axis("seed")


def shuffled(w: np.ndarray, sets: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Each set of weights shuffled among themselves; never the identity for two or more."""
    out = w.copy()
    for chosen in sets:
        order = np.arange(len(chosen))
        while len(chosen) > 1 and np.array_equal(order, np.arange(len(chosen))):
            order = rng.permutation(len(chosen))
        out[chosen] = w[chosen[order]]
    return out


class _Sets(NamedTuple):
    """Which weights are shuffled.

    Attributes:
        what, note: see ``Validation``.
        chosen: int [k] the tested weights; spare: int [m] the others, live ones where there are enough.
        alike: int [min(k, m)] the others most alike in size to the tested ones.
        pairs: tested weights and live others of each layer (biases apart) that has at least two of both.
    """

    what: str
    note: str
    chosen: np.ndarray
    spare: np.ndarray
    alike: np.ndarray
    pairs: list[tuple[np.ndarray, np.ndarray]]

    @property
    def size(self) -> int:
        """How many weights of each kind are shuffled."""
        return min(len(self.chosen), len(self.spare))

    @property
    def like_size(self) -> int:
        """The same within layers."""
        return sum(min(len(a), len(b)) for a, b in self.pairs)


def _sets(own: GroupStatistics, agreeing: np.ndarray, table: ParameterTable) -> _Sets | None:
    """None where fewer than two weights are conserved or left over."""
    from scipy.optimize import linear_sum_assignment

    tested, what, note = own.keep, "conserved", ""
    if tested.sum() < 2:
        tested, what = agreeing, "agreeing"
    chosen, live_spare = np.flatnonzero(tested), np.flatnonzero(own.live & ~tested)
    spare = live_spare
    if len(spare) < len(chosen):
        spare = np.flatnonzero(~tested)
        note = "fewer other live weights than tested ones are left: dead ones are among the others"
    if len(spare) < 2 or len(chosen) < 2:
        return None
    if len(spare) < len(chosen):
        note = "fewer other weights than tested ones are left: only so many tested ones were shuffled at a time"
    kind = table.layer * 2 + table.bias
    pairs = [(chosen[kind[chosen] == k], live_spare[kind[live_spare] == k]) for k in np.unique(kind[chosen])]
    magnitude = np.log(np.maximum(np.abs(own.mean), 1e-12))
    columns = linear_sum_assignment(np.abs(magnitude[chosen][:, None] - magnitude[spare][None]))[1]
    return _Sets(
        what=what,
        note=note,
        chosen=chosen,
        spare=spare,
        alike=spare[columns],
        pairs=[(a, b) for a, b in pairs if min(len(a), len(b)) >= 2],
    )


def _trials(w: np.ndarray, sets: _Sets, rng: np.random.Generator) -> list[np.ndarray]:
    """Shuffled copies of w [N]: conserved, alike, conserved by layer, then some of others and of others by layer."""

    def some(pool: np.ndarray, k: int) -> np.ndarray:
        return pool if k == len(pool) else rng.choice(pool, k, replace=False)

    def least(pair: tuple[np.ndarray, np.ndarray]) -> int:
        return min(len(pair[0]), len(pair[1]))

    own = [
        shuffled(w, [some(sets.chosen, sets.size)], rng),
        shuffled(w, [sets.alike], rng),
        shuffled(w, [some(pair[0], least(pair)) for pair in sets.pairs], rng),
    ]
    others, likes = some(sets.spare, sets.size), [some(pair[1], least(pair)) for pair in sets.pairs]
    return [
        *own,
        *(shuffled(w, [others], rng) for _ in range(SHUFFLES_PER_SET)),
        *(shuffled(w, likes, rng) for _ in range(SHUFFLES_PER_SET)),
    ]


def validate(
    landscape: Landscape,
    members: np.ndarray,
    own: GroupStatistics,
    agreeing: np.ndarray,
    table: ParameterTable,
    scorer: Scorer,
    *,
    shuffles: int,
    seed: int,
) -> Validation | None:
    """Shuffle live conserved weights, random others, and others of like size; see ``Validation``.

    The five lowest minima of the group take turns.

    Args:
        landscape: whose minima.
        members: int [k] of the group, lowest first.
        own: of the group, [N] each.
        agreeing: bool [N] weights that stand in where fewer than two are conserved.
        table: what each weight is.
        scorer: on the test data.
        shuffles: how many seeds.
        seed: of the shuffles.

    Returns:
        None where fewer than two weights are conserved or left over.
    """
    sets = _sets(own, agreeing, table)
    if sets is None:
        return None
    symmetry = getattr(landscape.problem, "symmetry", None)
    lowest = members[:5]
    aligned, _, _ = align_many(symmetry, landscape.coordinates[lowest], landscape.coordinates[members[0]])
    base, at = scorer(aligned), np.arange(shuffles) % len(lowest)
    rng = np.random.default_rng([seed, 22, *members[:3].tolist(), len(members)])
    trials = [trial for s in range(shuffles) for trial in _trials(aligned[at[s]], sets, rng)]
    drops = base[at][:, None] - scorer(np.stack(trials)).reshape(shuffles, -1)
    conserved, matched, like_conserved = drops[:, :3].T
    k = SHUFFLES_PER_SET
    others, like_others = drops[:, 3 : 3 + k].mean(1), drops[:, 3 + k :].mean(1)
    if not sets.pairs:
        like_conserved = like_others = np.full(shuffles, np.nan)

    def reached(other: np.ndarray, own: np.ndarray) -> float:
        return float((1 + (other >= own.mean()).sum()) / (1 + shuffles))

    return Validation(
        metric=scorer.metric,
        what=sets.what,
        size=sets.size,
        like_size=sets.like_size,
        baseline=base[at],
        conserved=conserved,
        others=others,
        matched=matched,
        like_conserved=like_conserved,
        like_others=like_others,
        p_value=reached(others, conserved),
        p_like=reached(like_others, like_conserved) if sets.pairs else float("nan"),
        note=sets.note,
    )
