"""Predictions averaged over the minima of a landscape, each weighted by its occupation at a temperature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from jaxland.errors import ArgumentError, ProblemError
from jaxland.landscape.physics.analysis import widths_known
from jaxland.landscape.physics.thermodynamics import checked, checked_temperatures, log_weights
from jaxland.landscape.result import Landscape
from jaxland.landscape.weights.scoring import BLOCK, predictor, probabilities
from jaxland.problem.precision import in_precision
from jaxland.problem.problem import PyTree

if TYPE_CHECKING:
    import pandas

NEGLIGIBLE = 1e-12


@dataclass(frozen=True, eq=False)
class AveragedPrediction:
    """The mean over minima of what their networks predict.

    Attributes:
        temperature: of the weights.
        minima: int [K] the minima that count (weight above 1e-12 of all).
        weights: [K], summing to 1.
        mean: [n, ...] class probabilities (cross-entropy) or outputs.
        std: [n, ...] standard deviation over the minima: what the network cannot know from its loss alone.
        effective: number of minima that effectively count: exp of the Shannon entropy of the weights.
    """

    temperature: float
    minima: np.ndarray
    weights: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    effective: float

    def to_pandas(self) -> pandas.DataFrame:
        """One row per minimum that counts, heaviest first."""
        import pandas as pd

        frame = pd.DataFrame({"minimum": self.minima, "weight": self.weights})
        return frame.sort_values("weight", ascending=False, ignore_index=True, kind="stable")


@in_precision
def average_predictions(
    landscape: Landscape,
    x: PyTree,
    temperature: float | None = None,
    *,
    minima: ArrayLike | None = None,
    vibrations: bool = True,
) -> AveragedPrediction:
    """Occupation-weighted prediction of a landscape's networks.

    With mean loss E over n rows the occupation at T = 1/n is the Bayesian posterior over the minima, each basin in
    its Laplace approximation: cross-entropy as the likelihood, the regulariser lam |w|^2 as a Gaussian prior of
    variance T / (2 lam). Squared error means Gaussian noise of variance n T / 2 (1/2 at T = 1/n): choose
    T = 2 sigma^2 / n for noise of variance sigma^2. Images of a minimum under the symmetry of the network predict the
    same and are counted in its weight. The width of each basin enters its weight, not its prediction.

    Args:
        landscape: with its problem and, unless ``vibrations`` is False, log products.
        x: inputs [n, ...], scaled as in training.
        temperature: default 1 / (number of training rows).
        minima: indices of the minima to average over, such as a group; default all.
        vibrations: False weighs by loss alone.

    Raises:
        ProblemError: the landscape has no problem, or the problem no model.
        ArgumentError: a temperature that is not positive, or no such minimum. DataError: log products are missing.
    """
    problem = landscape.problem
    if problem is None:
        raise ProblemError("the landscape has no problem: its minima predict nothing")
    if not landscape.n_minima:
        raise ArgumentError("the landscape has no minima: there is nothing to average")
    if temperature is None:
        if not problem.n:
            raise ArgumentError("give a temperature: the problem has no rows to take 1/n of")
        temperature = 1.0 / problem.n
    t = checked_temperatures(temperature)
    chosen = np.arange(landscape.n_minima) if minima is None else checked(minima, landscape.n_minima, "minima")
    logs = log_weights(landscape, t[0], vibrations=vibrations)[0][chosen]
    weights = np.exp(logs - np.logaddexp.reduce(logs))
    counted = weights > NEGLIGIBLE
    chosen, weights = chosen[counted], weights[counted] / weights[counted].sum()
    mean, std = _moments(landscape, chosen, weights, x)
    return AveragedPrediction(
        temperature=float(t[0]),
        minima=chosen,
        weights=weights,
        mean=mean,
        std=std,
        effective=float(np.exp(-(weights * np.log(weights)).sum())),
    )


def _moments(
    landscape: Landscape, chosen: np.ndarray, weights: np.ndarray, x: PyTree
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and standard deviation [n, ...] of what the chosen minima predict."""
    problem = landscape.problem
    predict = predictor(problem)
    reference: np.ndarray | None = None
    first = second = np.zeros(())
    for start in range(0, len(chosen), BLOCK):
        part = slice(start, start + BLOCK)
        outputs = predict(landscape.coordinates[chosen[part]], x)
        if problem.loss_name == "cross_entropy":
            outputs = probabilities(outputs)
        # Moments about one network's prediction: about zero they would lose their digits where all agree.
        reference = outputs[0] if reference is None else reference
        first = first + np.tensordot(weights[part], outputs - reference, 1)
        second = second + np.tensordot(weights[part], (outputs - reference) ** 2, 1)
    assert reference is not None
    return first + reference, np.sqrt(np.maximum(second - first**2, 0.0))


@dataclass(frozen=True)
class AveragedPerformance:
    """How well the networks of a landscape do together, beside the lowest minimum alone.

    Attributes:
        measure: "test loss" (mean cross-entropy) or "mean squared error".
        averaged: of the predictions averaged at T = 1/rows.
        lowest: of the lowest minimum.
        effective: number of networks that effectively count.
        rows: training rows.
    """

    measure: str
    averaged: float
    lowest: float
    effective: float
    rows: int


def averaged_performance(landscape: Landscape, x: ArrayLike, y: ArrayLike) -> AveragedPerformance | None:
    """What averaging over the minima as the posterior does (T = 1/n) gives on (x, y).

    Returns:
        None for a loss that is no likelihood, or where the widths of the basins are not known.
    """
    problem = landscape.problem
    if problem is None or problem.loss_name not in ("cross_entropy", "squared_error"):
        return None
    if not widths_known(landscape):
        return None
    both = [average_predictions(landscape, x, minima=chosen) for chosen in (None, [0])]
    labels = np.asarray(y)
    if problem.loss_name == "cross_entropy":
        measure, rows = "test loss", np.arange(len(labels))
        got = [float(-np.log(np.maximum(p.mean[rows, labels.astype(int)], 1e-300)).mean()) for p in both]
    else:
        measure, flat = "mean squared error", labels.reshape(len(labels), -1)
        got = [float(((p.mean.reshape(len(labels), -1) - flat) ** 2).sum(1).mean()) for p in both]
    return AveragedPerformance(
        measure=measure, averaged=got[0], lowest=got[1], effective=both[0].effective, rows=problem.n
    )
