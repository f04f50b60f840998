"""How sure a prediction is under resampling of the training data (RUE: Schulam & Saria 2019).

    theta_b = theta - H_d^-1 (1/n) sum_i (w_bi - 1) g_i,   w_b ~ Multinomial(n; 1/n)

and its closed form for a linearised quantity f, the infinitesimal jackknife, with a_i = grad f . H_d^-1 g_i / n:

    Var f = sum_i a_i^2 - (sum_i a_i)^2 / n

beside the linearised Laplace approximation grad f . H_d^-1 grad f / n.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float

from jaxland.data.outputs import OutputUnits
from jaxland.errors import ArgumentError, ProblemError
from jaxland.hessian.curvature import Curvature, required
from jaxland.hessian.influence import example_products
from jaxland.hessian.quantity import (
    OF_CLASSES,
    Asked,
    Quantity,
    Tree,
    blocks,
    of_class,
    output_shape,
    quantity,
    query_points,
)
from jaxland.options import whole_number
from jaxland.problem.precision import in_precision
from jaxland.problem.problem import Problem
from jaxland.showing import brief

METHODS = ("linear", "resample")


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Spread of a quantity over resampled training sets.

    Attributes:
        value: f at the trained parameters [T].
        std: its standard deviation [T].
        laplace: standard deviation by the linearised Laplace approximation [T]; NaN where its variance is negative
            (H_d not positive definite).
        samples: f over resamples [B, T], for method "resample".
        of, method, predictions, kind, damping: how it was computed.
        warnings: what to distrust.
        normal_in: what of f is taken as normal: "" for f itself, "log", or "log-odds" of probabilities.
        middle, spread: its value and standard deviation [T].
    """

    value: Float[np.ndarray, " T"]
    std: Float[np.ndarray, " T"]
    laplace: Float[np.ndarray, " T"]
    samples: Float[np.ndarray, "B T"] | None
    of: str
    method: str
    predictions: str
    kind: str
    damping: float
    warnings: tuple[str, ...] = ()
    normal_in: str = ""
    middle: Float[np.ndarray, " T"] | None = None
    spread: Float[np.ndarray, " T"] | None = None

    __repr__ = brief

    def in_units(self, units: OutputUnits) -> Uncertainty:
        """Of the output, in the units of the file."""
        slope = units.shown(self.value) if units.log else np.full_like(self.value, units.scale)
        return replace(
            self,
            value=units.shown(self.value),
            std=slope * self.std,
            laplace=slope * self.laplace,
            samples=None if self.samples is None else units.shown(self.samples),
            of=f"expected {units.name}" if units.log else units.name,
            normal_in="log" if units.log else "",
            middle=self.value if units.log else None,
            spread=self.std if units.log else None,
        )

    def interval(self, level: float = 0.9) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
        """Central interval: quantiles of the resamples, else normal in ``normal_in``."""
        if not 0 < level < 1:
            raise ArgumentError(f"level must be between 0 and 1, got {level}")
        if self.samples is not None:
            low, high = np.quantile(self.samples, [(1 - level) / 2, (1 + level) / 2], axis=0)
            return low, high
        from scipy.special import expit
        from scipy.stats import norm

        middle = self.value if self.middle is None else self.middle
        spread = self.std if self.spread is None else self.spread
        half = float(norm.ppf((1 + level) / 2)) * spread
        back = {"": np.asarray, "log": np.exp, "log-odds": expit}[self.normal_in]
        return back(middle - half), back(middle + half)

    def to_pandas(self) -> pd.DataFrame:
        """One row per test point."""
        low, high = self.interval()
        return pd.DataFrame(
            {
                "test point": np.arange(len(self.value)),
                self.of: self.value,
                "std": self.std,
                "5 %": low,
                "95 %": high,
                "Laplace std": self.laplace,
            }
        )

    def _repr_html_(self) -> str:
        return self.to_pandas().to_html(index=False, max_rows=20)


def default_quantity(curvature: Curvature) -> str:
    """ "probability" for classifiers, else "output" for one output, else "loss"."""
    problem = curvature.problem
    if problem.model is None:
        return "loss"
    try:
        shape = output_shape(problem, "the default")
    except ArgumentError:
        return "loss"
    width = int(np.prod(shape[1:]))
    if problem.loss_name in ("squared_error", "poisson"):
        return "output" if width == 1 else "loss"
    return "probability" if len(shape) == 2 and width > 1 else "loss"


@in_precision
def uncertainty(
    curvature: Curvature,
    test: Any,
    *,
    of: Asked | None = None,
    target: int | None = None,
    method: str = "linear",
    predictions: str = "re-evaluated",
    samples: int = 200,
    seed: int = 0,
    batch: int = 32,
) -> Uncertainty:
    """Resampling uncertainty of a quantity at test points.

    Args:
        curvature: from ``hessian.curvature``.
        test: x, or (x, y) where the quantity needs targets.
        of, target: see ``quantity``; default the probability of the predicted class, or the output (regression).
            The class stays the one that the trained parameters predict.
        method: "linear": closed form, no sampling; "resample": draw theta_b.
        predictions: for "resample": "re-evaluated" at each theta_b, or "linearised".
        samples: resamples B.
        seed: of the multinomial weights.
        batch: test points, or resamples, solved together.
    """
    from scipy.special import expit

    problem = required(curvature, "uncertainty").problem
    if problem.loss is None:
        raise ProblemError("uncertainty by resampling needs per-example losses; this problem is a plain energy")
    if method not in METHODS:
        raise ArgumentError(f"method must be 'linear' or 'resample', got {method!r}")
    if predictions not in ("re-evaluated", "linearised"):
        raise ArgumentError(f"predictions must be 're-evaluated' or 'linearised', got {predictions!r}")
    whole_number("samples", samples, 2 if method == "resample" else 0)
    whole_number("seed", seed)
    whole_number("batch", batch, 1)
    f = quantity(curvature.products.problem, default_quantity(curvature) if of is None else of, target)
    x, y = query_points(problem, test, f.needs_y)
    value = np.asarray(f.values(problem.w, x, y), float)
    odds = f.name.startswith("probability")
    # Of a probability near 1 the slope vanishes, that of its log-odds does not.
    g = quantity(curvature.products.problem, "log_odds", target) if odds else f
    spread, laplace = _closed_form(curvature, g, (x, y), batch)
    middle = np.asarray(g.values(problem.w, x, y), float)
    slope = expit(middle) * expit(-middle) if odds else 1.0
    std, laplace = slope * spread, slope * laplace
    drawn = None
    if method == "resample":
        steps = resampled_steps(curvature, samples, seed, batch)
        if predictions == "linearised":
            drawn = value + _linearised(curvature, f, (x, y), steps, batch)
        else:
            drawn = _moved(curvature, *_fixed(problem, f, (x, y), of, target), steps)
        std = drawn.std(axis=0, ddof=1)
    return Uncertainty(
        value=value,
        std=std,
        laplace=laplace,
        samples=drawn,
        of=f.name,
        method=method,
        predictions=predictions if method == "resample" else "linearised",
        kind=curvature.kind,
        damping=curvature.damping,
        warnings=curvature.warnings,
        normal_in="log-odds" if odds else "",
        middle=middle,
        spread=spread,
    )


def _closed_form(
    curvature: Curvature, f: Quantity, points: tuple[Tree, Tree], batch: int
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """Standard deviations by the infinitesimal jackknife and by the linearised Laplace approximation."""
    n, variance, spread = curvature.n, [], []
    for _, block in blocks(points, batch):
        gradients = f.gradients(curvature.problem.w, *block)
        solved = curvature.solve(gradients).x
        a = np.asarray(example_products(curvature, solved), float) / n
        variance.append(np.sum(a**2, axis=0) - np.sum(a, axis=0) ** 2 / n)
        spread.append(np.asarray(jnp.sum(gradients * solved, axis=1), float) / n)
    laplace = np.concatenate(spread)
    return np.sqrt(np.maximum(np.concatenate(variance), 0)), np.sqrt(np.where(laplace >= 0, laplace, np.nan))


def _linearised(
    curvature: Curvature, f: Quantity, points: tuple[Tree, Tree], steps: Float[Array, "B N"], batch: int
) -> Float[np.ndarray, "B T"]:
    """What f changes by in each step, to first order."""
    w = curvature.problem.w
    slopes = [np.asarray(f.gradients(w, *block) @ steps.T, float) for _, block in blocks(points, batch)]
    return np.concatenate(slopes).T


def _fixed(
    problem: Problem, f: Quantity, points: tuple[Tree, Tree], of: Asked | None, target: int | None
) -> tuple[Quantity, tuple[Tree, Tree]]:
    """A quantity of the predicted class, and points, of the class that was predicted before parameters moved."""
    asked = f.name if of is None else of
    if target is not None or not isinstance(asked, str) or asked not in OF_CLASSES:
        return f, points
    x, _ = points
    predicted = jnp.argmax(problem.outputs_of(problem.w, x), axis=1)
    return of_class(problem, asked), (x, predicted)


def _moved(
    curvature: Curvature, f: Quantity, points: tuple[Tree, Tree], steps: Float[Array, "B N"]
) -> Float[np.ndarray, "B T"]:
    """f after each step."""
    move = jax.jit(lambda w, s, a, b: jax.lax.map(lambda d: f.plain(w + d, a, b), s))
    return np.asarray(move(curvature.problem.w, steps, *points), float)


@in_precision
def resampled_steps(curvature: Curvature, samples: int, seed: int = 0, batch: int = 32) -> Float[Array, "B N"]:
    """theta_b - theta for B multinomial resamples of the training set."""
    problem, n = curvature.problem, curvature.n
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1.0 / n), size=samples) - 1.0
    steps = []
    for start in range(0, samples, batch):
        part = jnp.asarray(weights[start : start + batch] / n, problem.dtype)
        right = curvature.products.example_sums(part, problem.w, curvature.products.data)
        steps.append(-curvature.solve(right).x)
    return jnp.concatenate(steps)
