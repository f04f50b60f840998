"""What influences are: records of every training example's bearing on every test point.

I_i = (1/n) grad f . H_d^-1 g_i        predicted change of f when example i is removed
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from jaxland.errors import ArgumentError, ConvergenceError
from jaxland.showing import brief


@dataclass(frozen=True, eq=False)
class SelfInfluence:
    """How strongly each training example bears on itself.

    Attributes:
        values: g_i . H_d^-1 g_i [n].
        length: |H_d^-1 g_i| [n], what RelatIF divides by.
        residuals: of the solves [n].
    """

    values: Float[np.ndarray, " n"]
    length: Float[np.ndarray, " n"]
    residuals: Float[np.ndarray, " n"]

    def to_pandas(self) -> pd.DataFrame:
        """One row per training example."""
        return pd.DataFrame({"example": np.arange(len(self.values)), "self_influence": self.values})


@dataclass(frozen=True, eq=False)
class DampingSweep:
    """How much the ranking of training examples depends on the damping.

    Attributes:
        dampings: ascending [s].
        positive_definite: whether the solves went through without negative curvature [s].
        to_first: Spearman correlation of each row's influence with that at ``dampings[first]``, least over test
            points [s].
        to_next: the same between neighbouring dampings [s]; NaN for the last.
        first: index of the damping in use.
    """

    dampings: Float[np.ndarray, " s"]
    positive_definite: Bool[np.ndarray, " s"]
    to_first: Float[np.ndarray, " s"]
    to_next: Float[np.ndarray, " s"]
    first: int

    __repr__ = brief

    def to_pandas(self) -> pd.DataFrame:
        """One row per damping."""
        return pd.DataFrame(
            {
                "damping": self.dampings,
                "positive definite": self.positive_definite,
                "rank correlation with the one in use": self.to_first,
                "rank correlation with the next": self.to_next,
            }
        )

    def _repr_html_(self) -> str:
        return self.to_pandas().to_html(index=False)


@dataclass(frozen=True, eq=False)
class Influence:
    """Influence of n training examples on T test points.

    Attributes:
        values: I [T, n]; None where only the top was asked for.
        quantity: value of f at each test point [T].
        self_influence: g_i . H_d^-1 g_i and |H_d^-1 g_i|, where computed.
        most_positive, most_negative: indices [T, top] of the examples with the largest and smallest I.
        positive_values, negative_values: their I [T, top].
        residuals, iterations: of the solves [T].
        of, sign, kind, method, damping: how it was computed.
        warnings: what to distrust.
        sweep: dependence on the damping, where jaxland chose it.

    The mean of three numbers as a model: without the last it falls by about (8 - 4) / 3.

    >>> from jaxland import Problem, from_function, hessian
    >>> mean = from_function(lambda w, x: w + 0 * x[:, 0], np.array([4.0]))
    >>> problem = Problem.from_model(mean, np.ones((3, 1)), np.array([1.0, 3.0, 8.0]), loss="squared_error")
    >>> found = hessian.influence(hessian.curvature(problem), np.ones((1, 1)), of="output")
    >>> found.values.round(2).tolist()
    [[1.0, 0.33, -1.33]]
    """

    values: Float[np.ndarray, "T n"] | None
    quantity: Float[np.ndarray, " T"]
    self_influence: SelfInfluence | None
    most_positive: Int[np.ndarray, "T top"]
    most_negative: Int[np.ndarray, "T top"]
    positive_values: Float[np.ndarray, "T top"]
    negative_values: Float[np.ndarray, "T top"]
    residuals: Float[np.ndarray, " T"]
    iterations: Int[np.ndarray, " T"]
    of: str
    sign: str
    kind: str
    method: str
    damping: float
    warnings: tuple[str, ...] = ()
    sweep: DampingSweep | None = field(default=None, repr=False)

    __repr__ = brief

    def _matrix(self) -> Float[np.ndarray, "T n"]:
        if self.values is None:
            raise ArgumentError("the full matrix was not kept: call influence without top, or with full=True")
        return self.values

    def relatif(self, kind: str = "theta") -> Float[np.ndarray, "T n"]:
        """RelatIF [T, n]: "theta" divides by |H_d^-1 g_i|, "l" by sqrt(g_i . H_d^-1 g_i); 0 where the gradient is 0.

        Raises:
            ArgumentError: self-influence was not computed, or kind unknown.
            ConvergenceError: "l" with negative self-influence (H_d not positive definite).
        """
        if self.self_influence is None:
            raise ArgumentError(
                "RelatIF needs the self-influence of every example: call influence(..., relative=True)"
            )
        if kind not in ("theta", "l"):
            raise ArgumentError(f"kind must be 'theta' or 'l', got {kind!r}")
        if kind == "theta":
            scale = self.self_influence.length
        else:
            values = self.self_influence.values
            if values.min() < 0:
                raise ConvergenceError(
                    f"example {int(values.argmin())} has negative self-influence: H_d is not positive definite, "
                    "raise the damping above the lowest eigenvalue's modulus"
                )
            scale = np.sqrt(values)
        return np.where(scale > 0, self._matrix() / np.where(scale > 0, scale, 1), 0.0)

    def left_out(self, rows: Any) -> Float[np.ndarray, " T"]:
        """Predicted change of f [T] when these training rows (indices, or a mask [n]) are left out in retraining.

        The loss stays a mean: n / (n - k) times the sum over the k rows of I_i - mean I, as at a stationary point
        the mean gradient balances the regulariser, whose share grows.

        Raises:
            ArgumentError: no such rows, or all of them; influences of another sign than removal.
        """
        n, asked = self._matrix().shape[1], np.asarray(rows)
        if asked.dtype == bool and asked.shape == (n,):
            asked = np.flatnonzero(asked)
        if asked.ndim != 1 or not np.isin(asked, np.arange(n)).all():
            raise ArgumentError(f"rows must be indices of training rows, 0 to {n - 1}, or a mask [{n}]")
        asked = np.unique(asked.astype(int))
        return self._retrained(self._matrix()[:, asked].sum(1, keepdims=True), np.array([len(asked)]))[:, 0]

    def groups(self, labels: Any, *, centred: bool = True) -> tuple[np.ndarray, Float[np.ndarray, "T g"]]:
        """Names of groups, and the predicted change of f [T, g] when each alone is left out in retraining.

        Args:
            labels: group of each training example [n].
            centred: as ``left_out`` has it; False: the plain sums of I, which are those of a loss that keeps its
                divisor n.

        Raises:
            ArgumentError: labels that do not fit, or one group of all; centred sums of another sign than removal.
        """
        labels, values = np.asarray(labels), self._matrix()
        n = values.shape[1]
        if labels.shape != (n,):
            raise ArgumentError(f"labels must have one entry for each of {n} examples, got {labels.shape}")
        names, at = np.unique(labels, return_inverse=True)
        sums = values @ np.eye(len(names))[at]
        if not centred:
            return names, sums
        return names, self._retrained(sums, np.bincount(at))

    def _retrained(self, sums: Float[np.ndarray, "T g"], sizes: Int[np.ndarray, " g"]) -> Float[np.ndarray, "T g"]:
        """From sums of I over sets of rows to the change of f when each set is left out of a mean."""
        values = self._matrix()
        n = values.shape[1]
        if self.sign != "removal":
            raise ArgumentError(f"rows are left out by influences of sign 'removal', these have sign {self.sign!r}")
        if sizes.max(initial=0) == n:
            raise ArgumentError("all rows are left out: nothing remains to train on")
        return (sums - sizes * values.mean(1, keepdims=True)) * n / (n - sizes)

    def to_pandas(self) -> pd.DataFrame:
        """The most positive and most negative examples of every test point, one row each."""
        rows = []
        for t in range(len(self.quantity)):
            for which, index, value in (
                ("positive", self.most_positive[t], self.positive_values[t]),
                ("negative", self.most_negative[t], self.negative_values[t]),
            ):
                rows += [
                    {"test point": t, "side": which, "rank": r + 1, "training example": int(i), "influence": float(v)}
                    for r, (i, v) in enumerate(zip(index, value))
                ]
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{note}</li>" for note in self.warnings)
        head = f"<p>influence on {self.of}, {self.kind}, damping {self.damping:g}, sign: {self.sign}</p>"
        return head + (f"<ul>{notes}</ul>" if notes else "") + self.to_pandas().to_html(index=False, max_rows=20)
