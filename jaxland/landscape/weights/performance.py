"""How well the networks at many minima do on data that they were not fitted to: one number each, of any kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.errors import ArgumentError, DataError, ProblemError
from jaxland.landscape.result import Landscape
from jaxland.problem.problem import Problem

BLOCK = 32


def auc(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Area under the ROC curve [S] of scores [S, n] for labels [n] (Mann-Whitney, ties counted half)."""
    from scipy.stats import rankdata

    positive = np.asarray(positive, bool)
    good, bad = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(scores, axis=-1)[..., positive].sum(-1)
    return (ranks - good * (good + 1) / 2) / (good * bad)


def accuracy(outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Share of rows [S] whose largest output [S, n, c] is the label [n]."""
    return (outputs.argmax(-1) == y).mean(-1)


def r_squared(outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Share of the variance of targets explained [S] by outputs [S, n, ...]."""
    y = np.asarray(y, float).reshape(len(y), -1)
    residual = outputs.reshape(len(outputs), *y.shape) - y
    return 1 - (residual**2).sum((1, 2)) / ((y - y.mean(0)) ** 2).sum()


def precision(wide: bool) -> AbstractContextManager[Any]:
    """float64 for a float64 problem, without touching what the caller has set."""
    return jax.enable_x64(True) if wide else nullcontext()


@dataclass(frozen=True, eq=False)
class Scorer:
    """A model and held-out data; turns many parameter vectors into one number each, higher being better.

    Attributes:
        metric: ``AUC`` (two classes), ``accuracy`` (more), ``R2`` (squared error) or ``-loss`` (any other loss).
        x, y: the data.
        predict: jitted ``(ws [S, N], x) -> outputs [S, n, ...]``.
        gradient: jitted ``(w [N], x) -> [d]``: mean over rows of the mean absolute gradient of the centred outputs.
        losses: for a loss without a metric of its own.
        wide: the problem is in float64, and so is everything evaluated here, whatever JAX is set to now.
    """

    metric: str
    x: np.ndarray
    y: np.ndarray
    predict: Callable[..., Any]
    gradient: Callable[..., Any]
    losses: Callable[..., Any] | None = None
    wide: bool = False

    @classmethod
    def of(cls, problem: Problem, x: Any, y: Any) -> Scorer:
        """Scorer of a problem's model on (x [n, d], y [n]).

        Raises:
            ProblemError: the problem has no model.
            DataError: x or y do not fit, or hold one class only where the metric needs two.
        """
        x, y = np.asarray(x, problem.dtype), np.asarray(y)
        if len(x) != len(y) or not len(x):
            raise DataError(f"x and y must have the same number of rows, at least one; got {len(x)} and {len(y)}")
        outputs_of, wide = problem.outputs_of, problem.dtype == np.float64
        with precision(wide):
            shape = jax.eval_shape(outputs_of, problem.w, jnp.asarray(x[:1])).shape
        losses = None
        if problem.loss_name == "cross_entropy":
            metric = "AUC" if shape[-1] == 2 else "accuracy"
            if metric == "AUC" and len(np.unique(y)) < 2:
                raise DataError("the test data hold one class only: the AUC needs both")
        elif problem.loss_name == "squared_error":
            metric = "R2"
        elif problem.loss is not None:
            metric, losses = "-loss", jax.jit(lambda ws, a, b: jax.lax.map(lambda w: problem.losses_of(w, a, b), ws))
        else:
            raise ProblemError("a plain energy has no data to be scored on")

        def centred(w: jax.Array, row: jax.Array) -> jax.Array:
            z = outputs_of(w, row[None])[0].reshape(-1)
            return z - jnp.mean(z) if z.size > 1 else z

        def gradient(w: jax.Array, rows: jax.Array) -> jax.Array:
            slopes = jax.vmap(lambda row: jax.jacrev(centred, 1)(w, row))(rows)
            return jnp.mean(jnp.abs(slopes), axis=(0, 1))

        predict = jax.jit(lambda ws, a: jax.lax.map(lambda w: outputs_of(w, a), ws))
        return cls(metric, x, y, predict, jax.jit(gradient), losses, wide)

    def outputs(self, ws: Any, x: Any = None) -> np.ndarray:
        """Outputs [S, n, ...] of parameter vectors [S, N], on x or the data held."""
        ws = np.atleast_2d(ws)
        with precision(self.wide):
            x = jnp.asarray(self.x if x is None else x)
            blocks = [np.asarray(self.predict(_padded(ws[i : i + BLOCK]), x)) for i in range(0, len(ws), BLOCK)]
        return np.concatenate(blocks)[: len(ws)]

    def __call__(self, ws: Any, x: Any = None) -> np.ndarray:
        """The metric [S] of parameter vectors [S, N], on the data held or on changed inputs x."""
        ws = np.atleast_2d(ws)
        x = self.x if x is None else x
        with precision(self.wide):
            return np.concatenate([self._block(ws[i : i + BLOCK], x) for i in range(0, len(ws), BLOCK)])

    def slopes(self, w: np.ndarray) -> np.ndarray:
        """``gradient`` at w on the data held, times the standard deviation of each input [d]."""
        with precision(self.wide):
            return np.asarray(self.gradient(w, self.x)) * self.x.std(0)

    def _block(self, ws: np.ndarray, x: np.ndarray) -> np.ndarray:
        padded = _padded(ws)
        if self.losses is not None:
            return -np.asarray(self.losses(padded, x, self.y))[: len(ws)].mean(1)
        outputs = np.asarray(self.predict(padded, x))[: len(ws)]
        if self.metric == "AUC":
            return auc(outputs[..., 1] - outputs[..., 0], self.y == 1)
        return accuracy(outputs, self.y) if self.metric == "accuracy" else r_squared(outputs, self.y)


def _padded(ws: np.ndarray) -> np.ndarray:
    """Blocks of 1 or BLOCK rows: two shapes to compile, not one for every number of vectors."""
    wanted = 1 if len(ws) == 1 else BLOCK
    return np.concatenate([ws, np.repeat(ws[-1:], wanted - len(ws), axis=0)]) if len(ws) < wanted else ws


@dataclass(frozen=True, eq=False)
class Values:
    """Numbers of every minimum.

    Attributes:
        names: [k].
        table: [M, k].
    """

    names: tuple[str, ...]
    table: np.ndarray

    def __getitem__(self, name: str) -> np.ndarray:
        """One column [M]."""
        if name not in self.names:
            raise ArgumentError(f"there is no value {name!r}, only {', '.join(self.names)}")
        return self.table[:, self.names.index(name)]

    def to_pandas(self) -> Any:
        """One row per minimum."""
        import pandas as pd

        return pd.DataFrame(self.table, columns=list(self.names)).rename_axis("minimum")

    def _repr_html_(self) -> str:
        return self.to_pandas().to_html(border=0, float_format=lambda v: f"{v:.5g}", max_rows=12)


def _mean_auc(outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
    """AUC [S] of outputs [S, n, c]; for more than two classes the mean over classes, each against the rest."""
    if outputs.shape[-1] == 2:
        return auc(outputs[..., 1] - outputs[..., 0], y == 1)
    present = [c for c in range(outputs.shape[-1]) if 0 < (y == c).sum() < len(y)]
    scores = probabilities(outputs)
    return np.mean([auc(scores[..., c], y == c) for c in present], axis=0)


def probabilities(outputs: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    odds = np.exp(outputs - outputs.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


def predictor(problem: Problem) -> Callable[[Any, Any], np.ndarray]:
    """``(parameter vectors [S, N], inputs [n, ...]) -> outputs [S, n, ...]`` of a problem's model, compiled once.

    Raises:
        ProblemError: the problem has no model.
    """
    outputs_of, wide = problem.outputs_of, problem.dtype == np.float64
    predict = jax.jit(lambda block, a: jax.lax.map(lambda w: outputs_of(w, a), block))

    def outputs(ws: Any, x: Any) -> np.ndarray:
        ws = np.atleast_2d(ws).astype(problem.dtype)
        with precision(wide):
            x = jnp.asarray(x, problem.dtype)
            blocks = [np.asarray(predict(_padded(ws[i : i + BLOCK]), x)) for i in range(0, len(ws), BLOCK)]
        return np.concatenate(blocks)[: len(ws)]

    return outputs


_METRICS: dict[str, tuple[str, ...]] = {"cross_entropy": ("loss", "accuracy", "AUC"), "squared_error": ("loss", "R2")}


def values(
    landscape: Landscape,
    data: Any = None,
    metrics: Sequence[str] | None = None,
    *,
    of_outputs: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] | None = None,
    of_params: Mapping[str, Callable[[Any], float]] | None = None,
) -> Values:
    """Numbers of every minimum: performance on data, and any function of the outputs or of the parameters.

    Args:
        landscape: with its problem.
        data: (x, y) or a ``Dataset``; needed for metrics and for functions of the outputs.
        metrics: of ``loss`` (mean, without the regulariser), ``accuracy``, ``AUC`` (more than two classes: mean over
            classes, each against the rest) and ``R2``; default those that fit the problem's loss, none without data.
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
        x, y = (data.x, data.y) if hasattr(data, "x") else data
        x, y = np.asarray(x, problem.dtype), np.asarray(y)
        if len(x) != len(y) or not len(x):
            raise DataError(f"x and y must have the same number of rows, at least one; got {len(x)} and {len(y)}")
        columns = _of_data(problem, landscape.coordinates, x, y, metrics, of_outputs)
    for name, function in of_params.items():
        with precision(problem.dtype == np.float64):
            each = [function(problem.unravel(jnp.asarray(w, problem.dtype))) for w in landscape.coordinates]
        columns[name] = np.array([_number(v, name) for v in each])
    table = np.stack([np.asarray(v, float) for v in columns.values()], axis=1)
    return Values(tuple(columns), table.reshape(landscape.n_minima, len(columns)))


def _of_data(
    problem: Problem, ws: np.ndarray, x: np.ndarray, y: np.ndarray, metrics: Sequence[str], functions: dict[str, Any]
) -> dict[str, np.ndarray]:
    if "AUC" in metrics and len(np.unique(y)) < 2:
        raise DataError("the data hold one class only: the AUC needs both; leave it out of metrics")
    loss = jax.jit(lambda block, a, b: jax.lax.map(lambda w: jnp.mean(problem.losses_of(w, a, b)), block))
    found: dict[str, list[np.ndarray]] = {name: [] for name in (*metrics, *functions)}
    of_all = {"accuracy": accuracy, "AUC": _mean_auc, "R2": r_squared}
    chosen = {name: of_all[name] for name in metrics if name in of_all}
    predict = predictor(problem) if chosen or functions else None
    for start in range(0, len(ws), BLOCK):
        block = ws[start : start + BLOCK].astype(problem.dtype)
        if "loss" in metrics:
            with precision(problem.dtype == np.float64):
                found["loss"].append(np.asarray(loss(_padded(block), x, y))[: len(block)])
        if predict is not None:
            outputs = predict(block, x)
            for name, metric in chosen.items():
                found[name].append(metric(outputs, y))
            for name, function in functions.items():
                found[name].append(np.array([_number(function(z, y), name) for z in outputs]))
    return {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in found.items()}


def _number(value: Any, name: str) -> float:
    try:
        return float(np.asarray(value).reshape(()))
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{name} must give one number per minimum, got {np.shape(value)}") from error
