"""How well networks do on data that they were not fitted to: metrics, predictions and scores of many at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxland.data import Dataset
from jaxland.errors import DataError, ProblemError
from jaxland.problem.losses import PyTree
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


def mean_auc(outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
    """AUC [S] of outputs [S, n, c]; for more than two classes the mean over classes, each against the rest."""
    if outputs.shape[-1] == 2:
        return auc(outputs[..., 1] - outputs[..., 0], y == 1)
    present = [c for c in range(outputs.shape[-1]) if 0 < (y == c).sum() < len(y)]
    scores = probabilities(outputs)
    return np.mean([auc(scores[..., c], y == c) for c in present], axis=0)


def probabilities(outputs: np.ndarray) -> np.ndarray:
    """Softmax over the last axis.

    >>> probabilities(np.array([0.0, np.log(3.0)])).round(2).tolist()
    [0.25, 0.75]
    """
    odds = np.exp(outputs - outputs.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


def rows_of(data: Dataset | tuple[ArrayLike, ArrayLike], dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [n, ...] of a dtype and targets [n, ...].

    Raises:
        DataError: no rows, or not equally many of both.
    """
    x, y = (data.x, data.y) if isinstance(data, Dataset) else data
    x, y = np.asarray(x, dtype), np.asarray(y)
    if len(x) != len(y) or not len(x):
        raise DataError(f"x and y must have the same number of rows, at least one; got {len(x)} and {len(y)}")
    return x, y


def precision(wide: bool) -> AbstractContextManager[object]:
    """float64 for a float64 problem, without touching what the caller has set."""
    return jax.enable_x64(True) if wide else nullcontext()


@dataclass(frozen=True, eq=False)
class Scorer:
    """A model and held-out data; turns many parameter vectors into one number each, higher being better.

    Attributes:
        metric: ``AUC`` (two classes), ``accuracy`` (more), ``R2`` (squared error), ``log-likelihood`` (a row,
            Poisson) or ``-loss`` (a loss of one's own).
        x, y: the data.
        predict: jitted ``(ws [S, N], x) -> outputs [S, n, ...]``.
        gradient: jitted ``(w [N], x) -> [d]``: mean over rows of the mean absolute gradient of the centred outputs.
        losses: jitted ``(ws [S, N], x, y) -> losses [S, n]``, for a loss without a metric of its own.
        wide: the problem is in float64, and so is everything evaluated here, whatever JAX is set to now.
    """

    metric: str
    x: np.ndarray
    y: np.ndarray
    predict: Callable[[ArrayLike, ArrayLike], jax.Array]
    gradient: Callable[[ArrayLike, ArrayLike], jax.Array]
    losses: Callable[[ArrayLike, ArrayLike, ArrayLike], jax.Array] | None = None
    wide: bool = False

    @classmethod
    def of(cls, problem: Problem, x: ArrayLike, y: ArrayLike) -> Scorer:
        """Scorer of a problem's model on (x [n, d], y [n]).

        Raises:
            ProblemError: the problem has no model.
            DataError: x or y do not fit, or hold one class only where the metric needs two.
        """
        x, y = rows_of((x, y), problem.dtype)
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
            metric = "log-likelihood" if problem.loss_name == "poisson" else "-loss"
            losses = jax.jit(lambda ws, a, b: jax.lax.map(lambda w: problem.losses_of(w, a, b), ws))
        else:
            raise ProblemError("a plain energy has no data to be scored on")

        def centred(w: jax.Array, row: jax.Array) -> jax.Array:
            z = outputs_of(w, row[None])[0].reshape(-1)
            return z - jnp.mean(z) if z.size > 1 else z

        def gradient(w: jax.Array, rows: jax.Array) -> jax.Array:
            slopes = jax.vmap(lambda row: jax.jacrev(centred, 1)(w, row))(rows)
            return jnp.mean(jnp.abs(slopes), axis=(0, 1))

        predict = jax.jit(lambda ws, a: jax.lax.map(lambda w: outputs_of(w, a), ws))
        return cls(
            metric=metric,
            x=x,
            y=y,
            predict=predict,
            gradient=jax.jit(gradient),
            losses=losses,
            wide=wide,
        )

    @classmethod
    def held_out(cls, problem: Problem, test: Dataset | tuple[ArrayLike, ArrayLike], rows: int, seed: int) -> Scorer:
        """A scorer on at most ``rows`` of the test rows, drawn by seed.

        Raises:
            ProblemError, DataError: as ``of``.
        """
        x, y = (test.x, test.y) if isinstance(test, Dataset) else test
        x, y = np.asarray(x), np.asarray(y)
        if len(x) != len(y):
            raise DataError(f"test: x has {len(x)} rows and y {len(y)}")
        if len(x) > rows:
            kept = np.sort(np.random.default_rng([seed, 31]).permutation(len(x))[:rows])
            x, y = x[kept], y[kept]
        return cls.of(problem, x, y)

    def outputs(self, ws: ArrayLike, x: ArrayLike | None = None) -> np.ndarray:
        """Outputs [S, n, ...] of parameter vectors [S, N], on x or the data held."""
        ws = np.atleast_2d(ws)
        with precision(self.wide):
            x = jnp.asarray(self.x if x is None else x)
            blocks = [np.asarray(self.predict(padded(ws[i : i + BLOCK]), x)) for i in range(0, len(ws), BLOCK)]
        return np.concatenate(blocks)[: len(ws)]

    def __call__(self, ws: ArrayLike, x: ArrayLike | None = None) -> np.ndarray:
        """The metric [S] of parameter vectors [S, N], on the data held or on changed inputs x."""
        ws = np.atleast_2d(ws)
        x = self.x if x is None else np.asarray(x)
        with precision(self.wide):
            return np.concatenate([self._block(ws[i : i + BLOCK], x) for i in range(0, len(ws), BLOCK)])

    def slopes(self, w: np.ndarray) -> np.ndarray:
        """``gradient`` at w on the data held, times the standard deviation of each input [d]."""
        with precision(self.wide):
            return np.asarray(self.gradient(w, self.x)) * self.x.std(0)

    def _block(self, ws: np.ndarray, x: np.ndarray) -> np.ndarray:
        filled = padded(ws)
        if self.losses is not None:
            return -np.asarray(self.losses(filled, x, self.y))[: len(ws)].mean(1)
        return measured(self.metric, np.asarray(self.predict(filled, x))[: len(ws)], self.y)


def measured(metric: str, outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
    """AUC, accuracy or R2 [S] of outputs [S, n, ...] for targets y [n, ...]."""
    if metric == "AUC":
        return auc(outputs[..., 1] - outputs[..., 0], y == 1)
    return accuracy(outputs, y) if metric == "accuracy" else r_squared(outputs, y)


def padded(ws: np.ndarray) -> np.ndarray:
    """Blocks of 1 or BLOCK rows: two shapes to compile, not one for every number of vectors."""
    wanted = 1 if len(ws) == 1 else BLOCK
    return np.concatenate([ws, np.repeat(ws[-1:], wanted - len(ws), axis=0)]) if len(ws) < wanted else ws


def predictor(problem: Problem) -> Callable[[ArrayLike, PyTree], np.ndarray]:
    """``(parameter vectors [S, N], inputs [n, ...]) -> outputs [S, n, ...]`` of a problem's model, compiled once.

    Raises:
        ProblemError: the problem has no model.
    """
    outputs_of, wide = problem.outputs_of, problem.dtype == np.float64
    predict = jax.jit(lambda block, a: jax.lax.map(lambda w: outputs_of(w, a), block))

    def outputs(ws: ArrayLike, x: PyTree) -> np.ndarray:
        ws = np.atleast_2d(ws).astype(problem.dtype)
        with precision(wide):
            x = jnp.asarray(x, problem.dtype)
            blocks = [np.asarray(predict(padded(ws[i : i + BLOCK]), x)) for i in range(0, len(ws), BLOCK)]
        return np.concatenate(blocks)[: len(ws)]

    return outputs
