"""Attributions of a group beside other measures of the importance of inputs: permutation and input gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jaxland.data.recipe import grouped
from jaxland.landscape.result import Landscape
from jaxland.landscape.weights.attribution import WeightAttribution
from jaxland.landscape.weights.parameters import ParameterTable
from jaxland.landscape.weights.scoring import Scorer

if TYPE_CHECKING:
    import pandas

OTHERS = ("permutation importance", "input gradient")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Attributions of a group beside permutation importance and input gradients of the same minima.

    Attributes:
        labels: [s] source columns.
        conserved_mass, conserved_paths: [s] see ``WeightAttribution``.
        agreement: [s] 1 / spread_ratio of ``WeightAttribution``.
        all_paths: [s] path mass of all weights.
        permutation: [s] drop of the metric when the column is shuffled in the test data.
        permutation_std: [s] standard error of it, from the scatter over shuffles and minima.
        gradient: [s] mean abs(d output / d input) times the input's standard deviation.
        members: the minima they were averaged over.
        correlations: rank correlation (Spearman) and its p-value by (ours, theirs).
    """

    labels: tuple[str, ...]
    metric: str
    conserved_mass: np.ndarray
    conserved_paths: np.ndarray
    agreement: np.ndarray
    all_paths: np.ndarray
    permutation: np.ndarray
    permutation_std: np.ndarray
    gradient: np.ndarray
    members: np.ndarray
    correlations: dict[tuple[str, str], tuple[float, float]]

    def leading(self, most: int = 5) -> list[str]:
        """Inputs whose shuffling costs more than two standard errors, and 5 % of the dearest; dearest first."""
        return _leading(self.labels, self.permutation, self.permutation_std, most)

    def to_pandas(self, what: str = "inputs") -> pandas.DataFrame:
        """``inputs``: one row per source column; ``correlations``: one row per pair of measures."""
        import pandas as pd

        if what == "correlations":
            rows = [
                {"measure": a, "compared with": b, "rho": r, "p": p} for (a, b), (r, p) in self.correlations.items()
            ]
            return pd.DataFrame(rows, columns=["measure", "compared with", "rho", "p"])
        frame = pd.DataFrame(
            {
                "input": self.labels,
                "conserved mass": self.conserved_mass,
                "conserved paths": self.conserved_paths,
                "agreement": self.agreement,
                "all paths": self.all_paths,
                f"permutation ({self.metric})": self.permutation,
                "± permutation": self.permutation_std,
                "input gradient": self.gradient,
            }
        )
        return frame.sort_values(f"permutation ({self.metric})", ascending=False, ignore_index=True)


@dataclass(frozen=True, eq=False)
class InputImportance:
    """What the network at the lowest minimum needs of its inputs, where there is no group to compare.

    Attributes:
        labels: [s] source columns.
        metric: what is measured on the test data.
        permutation, permutation_std: [s] drop of it when the column is shuffled, and its standard error.
        gradient: [s] mean abs(d output / d input) times the input's standard deviation.
        repeats: shuffles of each column.
    """

    labels: tuple[str, ...]
    metric: str
    permutation: np.ndarray
    permutation_std: np.ndarray
    gradient: np.ndarray
    repeats: int

    def leading(self, most: int = 5) -> list[str]:
        """As ``Comparison.leading``."""
        return _leading(self.labels, self.permutation, self.permutation_std, most)

    def to_pandas(self) -> pandas.DataFrame:
        """One row per source column, dearest first."""
        import pandas as pd

        name = f"permutation ({self.metric})"
        frame = pd.DataFrame(
            {
                "input": self.labels,
                name: self.permutation,
                "± permutation": self.permutation_std,
                "input gradient": self.gradient,
            }
        )
        return frame.sort_values(name, ascending=False, ignore_index=True, kind="stable")


def importance_of_lowest(
    landscape: Landscape, table: ParameterTable, scorer: Scorer, *, seed: int, repeats: int = 10
) -> InputImportance:
    """Permutation importance and input gradients of the network at the lowest minimum."""
    drops, gradient = _importance(landscape.best, table, scorer, repeats, seed)
    return InputImportance(
        labels=grouped(table.origins)[0],
        metric=scorer.metric,
        permutation=drops.mean(0),
        permutation_std=drops.std(0, ddof=1) / np.sqrt(repeats),
        gradient=gradient,
        repeats=repeats,
    )


def _leading(labels: tuple[str, ...], drops: np.ndarray, errors: np.ndarray, most: int) -> list[str]:
    order = np.argsort(-drops, kind="stable")[:most]
    return [labels[i] for i in order if drops[i] > 2 * errors[i] and drops[i] >= 0.05 * drops[order[0]]]


def compare_group(
    landscape: Landscape,
    members: np.ndarray,
    attribution: WeightAttribution,
    table: ParameterTable,
    scorer: Scorer,
    *,
    seed: int,
    cache: dict[int, tuple[np.ndarray, np.ndarray]],
    repeats: int = 3,
) -> Comparison:
    """Permutation importance and input gradients of a group's three lowest minima beside its attribution.

    Args:
        landscape: whose minima.
        members: int [k] of the group, lowest first.
        attribution: of the group, per source column.
        table: what each weight is.
        scorer: on the test data.
        seed: of the shuffles.
        cache: drops of every shuffle [repeats, s] and input gradient [s] by minimum, filled as needed.
        repeats: shuffles of each input column.
    """
    labels = attribution.labels
    members = members[:3]
    for i in members.tolist():
        if i not in cache:
            cache[i] = _importance(landscape.coordinates[i], table, scorer, repeats, seed)
    drops = np.concatenate([cache[i][0] for i in members.tolist()])
    permutation, error = drops.mean(0), drops.std(0, ddof=1) / np.sqrt(len(drops))
    gradient = np.mean([cache[i][1] for i in members.tolist()], axis=0)
    ours = {
        "conserved mass": attribution.mass,
        "conserved paths": attribution.path_mass.sum(1),
        "agreement": 1.0 / attribution.spread_ratio,
        "all paths": attribution.total_path_mass.sum(1),
    }
    values = {**ours, OTHERS[0]: permutation, OTHERS[1]: gradient}
    pairs = [*((a, b) for a in ours for b in OTHERS), OTHERS]
    return Comparison(
        labels=labels,
        metric=scorer.metric,
        conserved_mass=ours["conserved mass"],
        conserved_paths=ours["conserved paths"],
        agreement=ours["agreement"],
        all_paths=ours["all paths"],
        permutation=permutation,
        permutation_std=error,
        gradient=gradient,
        members=members,
        correlations={(a, b): rank_correlation(values[a], values[b]) for a, b in pairs},
    )


def rank_correlation(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Spearman's rho and its p-value over the entries known in both; NaN for fewer than three or for equal ones."""
    from scipy.stats import spearmanr

    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < 3 or np.ptp(a[known]) == 0 or np.ptp(b[known]) == 0:
        return float("nan"), float("nan")
    found = spearmanr(a[known], b[known])
    return float(found.statistic), float(found.pvalue)


def _importance(
    w: np.ndarray, table: ParameterTable, scorer: Scorer, repeats: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Drops of every shuffle [repeats, s] and input gradient [s] per source column of one minimum."""
    labels, origin = grouped(table.origins)
    drops = permutation_drops(w, origin, scorer, repeats, np.random.default_rng([seed, 23]))
    gradient = np.bincount(origin, weights=scorer.slopes(w), minlength=len(labels))
    return drops, gradient


def permutation_drops(
    w: np.ndarray, origin: np.ndarray, scorer: Scorer, repeats: int, rng: np.random.Generator
) -> np.ndarray:
    """Drops of the metric [repeats, s] when the features of one source (``origin`` [d], 0 to s - 1) are shuffled."""
    base = float(scorer(w)[0])
    orders = [rng.permutation(len(scorer.y)) for _ in range(repeats)]
    drops = np.zeros((repeats, int(origin.max()) + 1))
    for s in range(drops.shape[1]):
        columns = np.flatnonzero(origin == s)
        for k, order in enumerate(orders):
            x = scorer.x.copy()
            x[:, columns] = x[order][:, columns]
            drops[k, s] = base - float(scorer(w, x)[0])
    return drops
