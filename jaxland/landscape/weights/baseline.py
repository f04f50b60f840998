"""What a linear model of the same data does and leans on: the yardstick beside which a network is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxland.data.recipe import grouped
from jaxland.landscape.result import Landscape
from jaxland.landscape.weights.comparison import Comparison, rank_correlation
from jaxland.landscape.weights.parameters import ParameterTable
from jaxland.landscape.weights.scoring import Scorer, measured
from jaxland.problem.losses import L2
from jaxland.problem.problem import Problem

if TYPE_CHECKING:
    import pandas

RESAMPLES = 200


@dataclass(frozen=True, eq=False)
class LinearBaseline:
    """A linear model (logistic regression, or least squares) with the network's loss, regulariser and training rows.

    Attributes:
        metric: what is measured on the test rows; more is better.
        rows: test rows.
        linear, network: the metric of the linear model and of the network at the lowest minimum.
        linear_std, network_std: standard deviations over bootstrap resamplings of the test rows.
        difference_std: that of ``network - linear``, both on the same resampled rows.
        labels: [s] source columns.
        importance: [s] sum over a source's columns of |coefficient| times the column's standard deviation in the
            test rows, outputs centred.
        correlations: rank correlation (Spearman) of ``importance`` with other measures, and p-values, by name.
    """

    metric: str
    rows: int
    linear: float
    network: float
    linear_std: float
    network_std: float
    difference_std: float
    labels: tuple[str, ...]
    importance: np.ndarray
    correlations: dict[str, tuple[float, float]]

    @property
    def better(self) -> float:
        """How many standard deviations the network is better than the linear model."""
        return (self.network - self.linear) / max(self.difference_std, 1e-12)

    def leading(self, most: int = 5) -> list[str]:
        """Sources the linear model leans on most."""
        return [self.labels[i] for i in np.argsort(-self.importance, kind="stable")[:most]]

    def to_pandas(self) -> pandas.DataFrame:
        """One row per source, most important first."""
        import pandas as pd

        frame = pd.DataFrame({"input": self.labels, "linear model": self.importance})
        return frame.sort_values("linear model", ascending=False, ignore_index=True, kind="stable")


def linear_baseline(
    landscape: Landscape,
    table: ParameterTable,
    test: tuple[ArrayLike, ArrayLike],
    comparison: Comparison | None = None,
    *,
    seed: int = 0,
) -> LinearBaseline | None:
    """Fit a linear model as the network was fitted, and put both beside each other on the test rows.

    Args:
        landscape: with the problem of a dense network.
        table: what each weight of the network is: sources and sizes.
        test: held-out (x, y).
        comparison: other measures to correlate the coefficients with.
        seed: of the resamplings.

    Returns:
        None where the model's layers are not known, or the loss is neither cross-entropy nor squared error.
    """
    problem = landscape.problem
    if table.sizes is None or problem is None or problem.loss_name not in ("cross_entropy", "squared_error"):
        return None
    network = Scorer.of(problem, *test)
    linear, w = _fitted(problem, (table.sizes[0], table.sizes[-1]), test)
    y = network.y
    outputs = np.concatenate([network.outputs(landscape.best), linear.outputs(w)])
    rng = np.random.default_rng([seed, 24])
    takes = [take for take in rng.integers(0, len(y), (RESAMPLES, len(y))) if len(np.unique(y[take])) > 1]
    drawn = np.array([measured(network.metric, outputs[:, take], y[take]) for take in takes])
    own, plain = measured(network.metric, outputs, y)
    spread = drawn.std(0, ddof=1)
    slopes = linear.slopes(w)
    labels, where = grouped(table.origins)
    importance = np.bincount(where, weights=slopes, minlength=len(labels))
    others: dict[str, np.ndarray] = {}
    if comparison is not None and comparison.labels == labels:
        others = {"permutation importance": comparison.permutation, "input gradient": comparison.gradient}
    return LinearBaseline(
        metric=network.metric,
        rows=len(y),
        linear=float(plain),
        network=float(own),
        linear_std=float(spread[1]),
        network_std=float(spread[0]),
        difference_std=float((drawn[:, 0] - drawn[:, 1]).std(ddof=1)),
        labels=labels,
        importance=importance,
        correlations={name: rank_correlation(importance, values) for name, values in others.items()},
    )


def _fitted(whole: Problem, sizes: tuple[int, int], test: tuple[ArrayLike, ArrayLike]) -> tuple[Scorer, np.ndarray]:
    """A scorer of the linear model on the test rows, and its parameters."""
    from scipy.optimize import minimize

    from jaxland.models import mlp

    with whole.precision():
        model = mlp(sizes, dtype=whole.dtype)
        plain = Problem.from_model(model, *whole.data, loss=whole.loss_name or "")
        shrunk = whole.regulariser if isinstance(whole.regulariser, L2) else None
        problem = replace(plain, regulariser=shrunk)
        both = jax.jit(jax.value_and_grad(problem.energy_of))

        def evaluate(w: np.ndarray) -> tuple[float, np.ndarray]:
            value, slope = both(jnp.asarray(w, problem.dtype), problem.data)
            return float(value), np.asarray(slope, float)

        found = minimize(evaluate, np.zeros(problem.size), jac=True, method="L-BFGS-B", options={"maxiter": 2000})
    return Scorer.of(problem, *test), found.x
