"""Numbers of every minimum of a landscape: performance on data, or any function of its outputs or parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxland.data import Dataset
from jaxland.errors import ArgumentError, DataError, ProblemError
from jaxland.landscape.result import Landscape
from jaxland.landscape.weights.scoring import (
    BLOCK,
    accuracy,
    mean_auc,
    padded,
    precision,
    predictor,
    r_squared,
    rows_of,
)
from jaxland.problem.losses import PyTree
from jaxland.problem.precision import in_precision
from jaxland.problem.problem import Problem
from jaxland.showing import brief

if TYPE_CHECKING:
    import pandas

OfOutputs = Callable[[np.ndarray, np.ndarray], ArrayLike]
OfParams = Callable[[PyTree], ArrayLike]


@dataclass(frozen=True, eq=False)
class ValuesPerMinimum:
    """Numbers of every minimum, one column a measure.

    Attributes:
        names: [k].
        table: [M, k].
    """

    names: tuple[str, ...]
    table: np.ndarray

    __repr__ = brief

    def __getitem__(self, name: str) -> np.ndarray:
        """One column [M]."""
        if name not in self.names:
            raise ArgumentError(f"there is no value {name!r}, only {', '.join(self.names)}")
        return self.table[:, self.names.index(name)]

    def to_pandas(self) -> pandas.DataFrame:
        """One row per minimum."""
        import pandas as pd

        return pd.DataFrame(self.table, columns=list(self.names)).rename_axis("minimum")

    def summary(self, energies: np.ndarray) -> pandas.DataFrame:
        """One row per measure: at the lowest of the energies [M], range, rank correlation with them (Spearman)."""
        import pandas as pd
        from scipy.stats import spearmanr

        rows = []
        for name in self.names:
            v = self[name]
            known = np.isfinite(v)
            steady = known.sum() < 3 or np.ptp(v[known]) == 0
            rho = np.nan if steady else float(spearmanr(energies[known], v[known]).statistic)
            rows.append((name, v[0], v[known].min(), np.median(v[known]), v[known].max(), rho))
        columns = ["", "lowest loss", "smallest", "median", "largest", "rank correlation with training loss"]
        return pd.DataFrame(rows, columns=columns)

    def _repr_html_(self) -> str:
        return self.to_pandas().to_html(border=0, float_format=lambda v: f"{v:.5g}", max_rows=12)


_METRICS: dict[str, tuple[str, ...]] = {"cross_entropy": ("loss", "accuracy", "AUC"), "squared_error": ("loss", "R2")}


@in_precision
def values_per_minimum(
    landscape: Landscape,
    data: Dataset | tuple[ArrayLike, ArrayLike] | None = None,
    metrics: Sequence[str] | None = None,
    *,
    of_outputs: Mapping[str, OfOutputs] | None = None,
    of_params: Mapping[str, OfParams] | None = None,
) -> ValuesPerMinimum:
    """Numbers of every minimum: performance on data, and any function of the outputs or of the parameters.

    Args:
        landscape: with its problem.
        data: (x, y) or a ``Dataset``; needed for metrics and for functions of the outputs.
        metrics: of ``loss`` (mean, without the regulariser; in the target's own units where a ``Dataset`` tells how
            it was scaled), ``accuracy``, ``AUC`` (more than two classes: mean over classes, each against the rest)
            and ``R2``; default those that fit the problem's loss, none without data.
        of_outputs: functions of (outputs [n, ...], y [n, ...]) by name.
        of_params: functions of the parameters (as the model takes them: a pytree; a plain energy's are a vector).

    Raises:
        ProblemError: the landscape has no problem, or the problem no model where one is needed.
        DataError: x and y do not fit each other, or hold one class only where the AUC is asked for.
        ArgumentError: an unknown metric, no data where they are needed, nothing asked for, or a function whose result
            is no number.
    """
    problem = landscape.problem
    if problem is None:
        raise ProblemError("the landscape has no problem: its minima are not known to be networks")
    known = _METRICS.get(problem.loss_name or "", ("loss",) if problem.loss is not None else ())
    metrics = (known if data is not None else ()) if metrics is None else tuple(metrics)
    for name in metrics:
        if name not in known:
            raise ArgumentError(
                f"metric {name!r} does not fit this problem; choose from {', '.join(known) or 'none'}"
            )
    of_outputs, of_params = dict(of_outputs or {}), dict(of_params or {})
    if not (metrics or of_outputs or of_params):
        raise ArgumentError("nothing to evaluate: give data, of_outputs or of_params")
    columns: dict[str, np.ndarray] = {}
    if metrics or of_outputs:
        if data is None:
            raise ArgumentError("metrics and functions of the outputs need data=(x, y)")
        x, y = rows_of(data, problem.dtype)
        columns = _of_data(problem, landscape.coordinates, x, y, metrics, of_outputs)
        scaled = data.target_scaling if isinstance(data, Dataset) else None
        if scaled is not None and problem.loss_name == "squared_error" and "loss" in columns:
            columns["loss"] = columns["loss"] * float(scaled.scale[0]) ** 2
    for name, function in of_params.items():
        with precision(problem.dtype == np.float64):
            each = [function(problem.unravel(jnp.asarray(w, problem.dtype))) for w in landscape.coordinates]
        columns[name] = np.array([_number(v, name) for v in each])
    table = np.stack([np.asarray(v, float) for v in columns.values()], axis=1)
    return ValuesPerMinimum(tuple(columns), table.reshape(landscape.n_minima, len(columns)))


def _of_data(
    problem: Problem,
    ws: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    metrics: Sequence[str],
    functions: Mapping[str, OfOutputs],
) -> dict[str, np.ndarray]:
    """Columns [M] of parameter vectors [M, N] by name."""
    if "AUC" in metrics and len(np.unique(y)) < 2:
        raise DataError("the data hold one class only: the AUC needs both; leave it out of metrics")
    loss = jax.jit(lambda block, a, b: jax.lax.map(lambda w: jnp.mean(problem.losses_of(w, a, b)), block))
    found: dict[str, list[np.ndarray]] = {name: [] for name in (*metrics, *functions)}
    of_all = {"accuracy": accuracy, "AUC": mean_auc, "R2": r_squared}
    chosen = {name: of_all[name] for name in metrics if name in of_all}
    predict = predictor(problem) if chosen or functions else None
    for start in range(0, len(ws), BLOCK):
        block = ws[start : start + BLOCK].astype(problem.dtype)
        if "loss" in metrics:
            with precision(problem.dtype == np.float64):
                found["loss"].append(np.asarray(loss(padded(block), x, y))[: len(block)])
        if predict is not None:
            outputs = predict(block, x)
            for name, metric in chosen.items():
                found[name].append(metric(outputs, y))
            for name, function in functions.items():
                found[name].append(np.array([_number(function(z, y), name) for z in outputs]))
    return {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in found.items()}


def _number(value: object, name: str) -> float:
    try:
        return float(np.asarray(value).reshape(()))
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{name} must give one number per minimum, got {np.asarray(value).shape}") from error
