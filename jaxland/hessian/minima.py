"""Influence, uncertainty and extrapolation over a set of minima: what holds in every good minimum, and what does not.

With weights p_m (occupations of a group of minima, say; they are normalised):

    influence      sum_m p_m I_m, and in how much of the weight its sign is the same
    uncertainty    within^2 = sum_m p_m var_m (RUE in each minimum), between^2 = sum_m p_m (f_m - mean f)^2
    extrapolation  sqrt(sum_m p_m E_m^2)
"""

from __future__ import annotations

import warnings as python_warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxland.errors import ArgumentError, ConvergenceError
from jaxland.hessian.building import EXPLICIT_LIMIT, default_damping
from jaxland.hessian.building import curvature as curvature_at
from jaxland.hessian.curvature import Curvature, CurvatureWarning, Known
from jaxland.hessian.extrapolation import extrapolation
from jaxland.hessian.influence import influence
from jaxland.hessian.quantity import Asked
from jaxland.hessian.spectrum import hessian_blocks, point_array
from jaxland.hessian.uncertainty import uncertainty
from jaxland.problem.precision import in_precision
from jaxland.problem.problem import Problem


@dataclass(frozen=True, eq=False)
class MinimaInfluence:
    """Influence over a set of minima.

    Attributes:
        values: I in each minimum [M, T, n].
        mean: weighted mean [T, n].
        spread: weighted standard deviation between minima [T, n].
        same_sign: share of the weight in which the sign is that of the mean [T, n].
        agreement: Spearman correlation of each minimum's influence with the mean, averaged over test points [M].
        weights: p_m [M].
    """

    values: Float[np.ndarray, "M T n"]
    mean: Float[np.ndarray, "T n"]
    spread: Float[np.ndarray, "T n"]
    same_sign: Float[np.ndarray, "T n"]
    agreement: Float[np.ndarray, " M"]
    weights: Float[np.ndarray, " M"]

    def robust(self, share: float = 0.95) -> np.ndarray:
        """Mean influence where its sign holds in at least ``share`` of the weight, else 0 [T, n]."""
        return np.where(self.same_sign >= share, self.mean, 0.0)

    def to_pandas(self) -> pd.DataFrame:
        """One row per minimum."""
        return pd.DataFrame({"weight": self.weights, "rank correlation with the mean": self.agreement})


@dataclass(frozen=True, eq=False)
class MinimaUncertainty:
    """Uncertainty over a set of minima.

    Attributes:
        values: f in each minimum [M, T].
        mean: weighted mean of f [T].
        within: root of the weighted mean RUE variance [T].
        between: weighted standard deviation of f between minima [T].
        total: root of the sum of both squares [T].
        weights: p_m [M].
    """

    values: Float[np.ndarray, "M T"]
    mean: Float[np.ndarray, " T"]
    within: Float[np.ndarray, " T"]
    between: Float[np.ndarray, " T"]
    total: Float[np.ndarray, " T"]
    weights: Float[np.ndarray, " M"]

    def to_pandas(self) -> pd.DataFrame:
        """One row per test point."""
        return pd.DataFrame({"mean": self.mean, "within": self.within, "between": self.between, "total": self.total})


@dataclass(frozen=True, eq=False)
class MinimaExtrapolation:
    """Extrapolation over a set of minima.

    Attributes:
        values: E in each minimum [M, T].
        soft: soft score in each minimum [M, T].
        score: weighted root mean square of E [T].
        soft_score: of the soft score [T].
        weights: p_m [M].
    """

    values: Float[np.ndarray, "M T"]
    soft: Float[np.ndarray, "M T"]
    score: Float[np.ndarray, " T"]
    soft_score: Float[np.ndarray, " T"]
    weights: Float[np.ndarray, " M"]

    def to_pandas(self) -> pd.DataFrame:
        """One row per test point."""
        return pd.DataFrame({"score": self.score, "soft score": self.soft_score, "largest": self.values.max(axis=0)})


@dataclass(frozen=True, eq=False)
class Minima:
    """A set of minima of one problem, made by ``hessian.minima``.

    Attributes:
        problem: loss and data.
        params: flat parameter vectors [M, N].
        weights: p_m [M], sum 1.
        damping: one for all, so that their numbers compare.
        kind: of the curvature.
        lanes: minima whose matrices are formed together.
        eigenvalues: all of them [M, N] where the matrices are explicit, else None.
    """

    problem: Problem
    params: Float[np.ndarray, "M N"]
    weights: Float[np.ndarray, " M"]
    damping: float
    kind: str
    lanes: int | None
    eigenvalues: Float[np.ndarray, "M N"] | None
    _template: Curvature = field(repr=False)

    def curvatures(self) -> Iterator[Curvature]:
        """Curvature of each minimum in turn; explicit matrices are formed ``lanes`` at a time."""
        if self._template.method != "explicit" or self.kind != "hessian":
            for w in self.params:
                with python_warnings.catch_warnings():
                    python_warnings.simplefilter("ignore", CurvatureWarning)
                    yield curvature_at(
                        self.problem, w, kind=self.kind, damping=self.damping, method=self._template.method
                    )
            return
        at = 0
        for block in hessian_blocks(self.problem, self.params, self.lanes):
            for matrix in block:
                problem = self.problem.at(self.params[at])
                yield replace(self._template, problem=problem, damping=self.damping, known=Known(matrix=matrix))
                at += 1

    def influence(self, test: Any, *, of: Asked = "loss", target: int | None = None) -> MinimaInfluence:
        """Influence of every training example on every test point in every minimum; arguments as ``influence``."""
        from scipy.stats import spearmanr

        values = np.stack(
            [
                _values(influence(c, test, of=of, target=target, relative=False, sweep=False, top=0).values)
                for c in self.curvatures()
            ]
        )
        p = self.weights[:, None, None]
        mean = np.sum(p * values, axis=0)
        same = np.sum(p * (np.sign(values) == np.sign(mean)), axis=0)
        agreement = [np.mean([spearmanr(a, b).statistic for a, b in zip(v, mean)]) for v in values]
        spread = np.sqrt(np.sum(p * (values - mean) ** 2, axis=0))
        return MinimaInfluence(
            values=values,
            mean=mean,
            spread=spread,
            same_sign=same,
            agreement=np.array(agreement),
            weights=self.weights,
        )

    def uncertainty(self, test: Any, *, of: Asked | None = None, target: int | None = None) -> MinimaUncertainty:
        """RUE within minima and spread between them; arguments as ``uncertainty`` (give a ``target`` class, lest the
        predicted class differ between minima)."""
        found = [uncertainty(c, test, of=of, target=target) for c in self.curvatures()]
        values = np.stack([u.value for u in found])
        p = self.weights[:, None]
        mean = np.sum(p * values, axis=0)
        within = np.sum(p * np.stack([u.std for u in found]) ** 2, axis=0)
        between = np.sum(p * (values - mean) ** 2, axis=0)
        return MinimaUncertainty(
            values=values,
            mean=mean,
            within=np.sqrt(within),
            between=np.sqrt(between),
            total=np.sqrt(within + between),
            weights=self.weights,
        )

    def extrapolation(
        self,
        test: Any,
        *,
        of: Asked | None = None,
        target: int | None = None,
        m: int | None = None,
        threshold: float | None = None,
    ) -> MinimaExtrapolation:
        """LEES over the set; arguments as ``extrapolation``."""
        found = [extrapolation(c, test, of=of, target=target, m=m, threshold=threshold) for c in self.curvatures()]
        values, soft = np.stack([e.scores for e in found]), np.stack([e.soft for e in found])
        p = self.weights[:, None]
        return MinimaExtrapolation(
            values=values,
            soft=soft,
            score=np.sqrt(np.sum(p * values**2, axis=0)),
            soft_score=np.sqrt(np.sum(p * soft**2, axis=0)),
            weights=self.weights,
        )


@in_precision
def minima(
    problem: Problem,
    params: Any,
    weights: Any = None,
    *,
    kind: str = "hessian",
    damping: float | None = None,
    lanes: int | None = None,
) -> Minima:
    """A set of minima to ask influence, uncertainty and extrapolation of.

    Args:
        problem: loss and data.
        params: flat parameter vectors [M, N], as the landscape gives them.
        weights: weight of each, such as the group occupation; default equal. Normalised.
        kind: "hessian" or "gauss-newton".
        damping: one for all minima; default 1.2 times the modulus of the lowest eigenvalue met, and at least 1e-4 of
            the largest (0 where every Hessian is safely positive definite).
        lanes: minima whose Hessians are formed together; default by memory.
    """
    points = point_array(problem, params)
    share = np.full(len(points), 1.0) if weights is None else np.asarray(weights, float)
    if share.shape != (len(points),) or not np.isfinite(share).all() or share.min() < 0 or share.sum() <= 0:
        raise ArgumentError(f"weights must be {len(points)} finite numbers, not negative and not all zero")
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore", CurvatureWarning)
        template = curvature_at(problem, points[0], kind=kind, damping=damping)
    eigenvalues = None
    if problem.size <= EXPLICIT_LIMIT and kind == "hessian":
        eigenvalues = np.concatenate([np.linalg.eigvalsh(h) for h in hessian_blocks(problem, points, lanes)])
        low, high = float(eigenvalues.min()), float(eigenvalues.max())
        if damping is None:
            damping = default_damping(low, high)
        elif low + damping <= 0:
            at = int(eigenvalues[:, 0].argmin())
            raise ConvergenceError(
                f"params[{at}] has an eigenvalue {low:.3g}: it is no minimum, or needs a damping above {-low:.2g}"
            )
    return Minima(
        problem=problem,
        params=points,
        weights=share / share.sum(),
        damping=template.damping if damping is None else float(damping),
        kind=kind,
        lanes=lanes,
        eigenvalues=eigenvalues,
        _template=template,
    )


def _values(values: np.ndarray | None) -> np.ndarray:
    assert values is not None
    return values
