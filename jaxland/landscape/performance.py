"""How well the networks at many minima do on data that they were not fitted to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.errors import DataError, ProblemError
from jaxland.problem import Problem

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
