"""What the networks at the minima of a landscape say of single rows: where they disagree, and over the plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxland.data import Dataset
from jaxland.data.outputs import OutputUnits
from jaxland.landscape.result import Landscape
from jaxland.landscape.weights.scoring import predictor, probabilities

# What is kept: so many of the lowest minima, rows, and cells a side of a map of two inputs.
MOST_MINIMA, MOST_ROWS, SIDE, MOST_MAPS = 1000, 6, 20, 500
# Rows among which those of most disagreement are looked for.
LOOKED_AT = 2000


@dataclass(frozen=True, eq=False)
class PredictionsPerMinimum:
    """Predictions of the lowest minima for the test rows on which they disagree most.

    Attributes:
        minima: [k] their numbers, lowest first.
        rows: [r] what the test rows are called; called: "line" or "row".
        truth: [r] what is true of them, as text.
        outputs: names of classes, or of the one output.
        values: [k, r, c] class probabilities, or outputs in the units of the file.
        spread: [r] standard deviation over the minima, of the output that differs most.
        maps: [k', R, R] in 0..1, rows from the top: over the plane of two inputs, the probability of the last class;
            None for other than two inputs or a regression.
    """

    minima: np.ndarray
    rows: np.ndarray
    called: str
    truth: tuple[str, ...]
    outputs: tuple[str, ...]
    values: np.ndarray
    spread: np.ndarray
    maps: np.ndarray | None


def predictions_per_minimum(landscape: Landscape, test: Dataset) -> PredictionsPerMinimum | None:
    """See ``PredictionsPerMinimum``; None without a model, or for outputs that are no vector per row."""
    problem = landscape.problem
    if problem is None or problem.model is None or not test.n:
        return None
    predict = predictor(problem)
    classify = problem.loss_name == "cross_entropy"
    units = OutputUnits.of(test, problem.loss_name)
    ws = landscape.coordinates[:MOST_MINIMA]

    def told(w: np.ndarray, x: np.ndarray) -> np.ndarray:
        z = predict(w, x)
        return probabilities(z) if classify else units.shown(z.reshape(*z.shape[:2], -1))

    few = told(ws[:100], test.x[:LOOKED_AT])
    spread = few.std(0).max(-1)
    rows = np.argsort(-spread, kind="stable")[:MOST_ROWS]
    values = told(ws, test.x[rows])
    names = tuple(test.classes) if classify else (test.target or "output",)
    if len(names) != values.shape[-1]:
        names = tuple(f"output {k}" for k in range(values.shape[-1]))
    goal = test.y if classify else test.targets()
    truth = [test.classes[int(v)] if classify else f"{float(np.ravel(v)[0]):.4g}" for v in goal[rows]]
    maps = None
    if classify and test.d == 2 and values.shape[-1] == 2:
        maps = told(ws[:MOST_MAPS], _plane(test.x))[..., -1].reshape(-1, SIDE, SIDE)
    return PredictionsPerMinimum(
        minima=np.arange(len(ws)),
        rows=test.numbers()[rows],
        called=test.called,
        truth=tuple(truth),
        outputs=names,
        values=values,
        spread=spread[rows],
        maps=maps,
    )


def _plane(x: np.ndarray) -> np.ndarray:
    """[R * R, 2] cells of the plane of two inputs, rows from the top."""
    low, high = x.min(0), x.max(0)
    across = np.linspace(low[0], high[0], SIDE)
    upwards = np.linspace(high[1], low[1], SIDE)
    return np.stack(np.meshgrid(across, upwards), axis=-1).reshape(-1, 2)
