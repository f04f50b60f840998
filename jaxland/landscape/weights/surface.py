"""What a network of two inputs decides over their plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxland.data import Dataset
from jaxland.errors import DataError, ProblemError
from jaxland.landscape.result import Landscape
from jaxland.landscape.weights.scoring import precision
from jaxland.problem.precision import in_precision

MARGIN = 0.06


@dataclass(frozen=True, eq=False)
class DecisionSurface:
    """Outputs of the network at the lowest minimum on a grid of two inputs, in the units of the file.

    Attributes:
        x, y: [R] grid points of the first and the second input.
        outputs: [R, R, c], rows going with y.
        data: the rows the grid covers.
    """

    x: np.ndarray
    y: np.ndarray
    outputs: np.ndarray
    data: Dataset

    @property
    def points(self) -> np.ndarray:
        """[n, 2] inputs of the data, in the units of the file."""
        return self.data.inputs()


@in_precision
def decision_surface(landscape: Landscape, data: Dataset, resolution: int = 220) -> DecisionSurface:
    """Evaluate the network at the lowest minimum over the plane of its two inputs.

    Raises:
        DataError: the data have not two features. ProblemError: the landscape has no problem with a model.
    """
    problem = landscape.problem
    if data.d != 2:
        raise DataError(f"a decision surface needs two features, not {data.d}")
    if problem is None or problem.model is None:
        raise ProblemError("the landscape has no network whose decisions could be drawn")
    inputs = data.inputs()
    low, high = inputs.min(0), inputs.max(0)
    pad = MARGIN * (high - low)
    x, y = (np.linspace(low[i] - pad[i], high[i] + pad[i], resolution) for i in range(2))
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    scaled = grid if data.scaling is None else data.scaling.apply(grid)
    with precision(problem.dtype == np.float64):
        outputs = np.asarray(problem.predict(landscape.best.astype(problem.dtype), scaled.astype(problem.dtype)))
    return DecisionSurface(x, y, outputs.reshape(resolution, resolution, -1), data)
