"""Whether a prediction extrapolates: local ensembles (LEES; Madras, Atwood & D'Amour 2020).

    E_m(x) = |U^T grad f(x)| = sqrt(|grad f|^2 - |V_m^T grad f|^2)

with V_m the top m eigenvectors of H and U all others: how far the prediction can move along directions that the
training data do not fix. Only V_m is needed. The soft score |e (|H| + e)^-1 grad f| needs no m.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxland.core.krylov import grown
from jaxland.core.krylov.step import ritz_pairs
from jaxland.errors import ArgumentError, ConvergenceError, ProblemError
from jaxland.hessian.curvature import Curvature, required
from jaxland.hessian.probing import quadrature
from jaxland.hessian.quantity import Asked, Quantity, Tree, blocks, quantity, query_points
from jaxland.options import whole_number
from jaxland.problem.losses import L2
from jaxland.problem.precision import in_precision
from jaxland.showing import brief

ORDERS = ("signed", "magnitude")


@dataclass(frozen=True, eq=False)
class Extrapolation:
    """Local-ensemble scores of T test points.

    Attributes:
        scores: E_m at the chosen m [T].
        m: modes dropped.
        threshold: eigenvalue the dropped modes lie above, where one was used.
        sweep: E_m for m = 0..M [T, M + 1].
        eigenvalues: of the M resolved modes, in the order they are dropped.
        residuals: |H v - value v| of those modes; 0 from a dense factorisation.
        soft: soft score [T] at scale ``softness``.
        value: f [T].
        of, order, kind: how it was computed.
        warnings: what to distrust.
    """

    scores: Float[np.ndarray, " T"]
    m: int
    threshold: float | None
    sweep: Float[np.ndarray, "T M1"]
    eigenvalues: Float[np.ndarray, " M"]
    residuals: Float[np.ndarray, " M"]
    soft: Float[np.ndarray, " T"]
    softness: float
    value: Float[np.ndarray, " T"]
    of: str
    order: str
    kind: str
    warnings: tuple[str, ...] = ()

    __repr__ = brief

    def at(self, m: int) -> Float[np.ndarray, " T"]:
        """Scores with m modes dropped."""
        if not 0 <= m < self.sweep.shape[1]:
            raise ArgumentError(f"m must be 0..{self.sweep.shape[1] - 1} (the modes resolved), got {m}")
        return self.sweep[:, m]

    def to_pandas(self) -> pd.DataFrame:
        """One row per test point."""
        return pd.DataFrame(
            {
                "test point": np.arange(len(self.scores)),
                self.of: self.value,
                f"LEES (m = {self.m})": self.scores,
                "soft score": self.soft,
                "gradient norm": self.sweep[:, 0],
            }
        )

    def _repr_html_(self) -> str:
        return self.to_pandas().to_html(index=False, max_rows=20)


def default_quantity(curvature: Curvature) -> str:
    """ "logit" for classifiers (far better than the loss at finding unseen classes), else "output" or "loss"."""
    from jaxland.hessian.uncertainty import default_quantity as of_uncertainty

    name = of_uncertainty(curvature)
    return "logit" if name == "probability" else name


@in_precision
def extrapolation(
    curvature: Curvature,
    test: Any,
    *,
    of: Asked | None = None,
    target: int | None = None,
    m: int | None = None,
    threshold: float | None = None,
    order: str = "signed",
    softness: float | None = None,
    max_products: int = 1000,
    batch: int = 32,
) -> Extrapolation:
    """Local-ensemble extrapolation scores, with the sweep over m.

    Args:
        curvature: from ``hessian.curvature``; its damping does not enter.
        test: x, or (x, y) where the quantity needs targets.
        of, target: see ``quantity``; default the logit of the predicted class, or the output (regression).
        m: number of top modes to drop.
        threshold: or drop the modes with eigenvalue (modulus, for order "magnitude") above this; default 1e-3 times
            the largest, plus what an l2 regulariser adds to every eigenvalue (2 l2).
        order: "signed": by eigenvalue, negative modes stay in U (Dawid et al. 2022); "magnitude": by modulus (Madras
            et al. 2020).
        softness: e of the soft score; default the threshold, or the modulus of the last dropped eigenvalue.
        max_products: most Lanczos vectors, without a dense factorisation.
        batch: test points treated together.

    Raises:
        ConvergenceError: the modes asked for cannot be resolved within ``max_products``.
        ProblemError, ArgumentError, DataError: a plain energy, or arguments and points that do not fit.
    """
    problem = required(curvature, "extrapolation").problem
    _check(curvature, order, m, threshold)
    whole_number("batch", batch, 1)
    f = quantity(curvature.products.problem, default_quantity(curvature) if of is None else of, target)
    x, y = query_points(problem, test, f.needs_y)
    if m is None and threshold is None:
        reg = problem.regulariser
        threshold = 1e-3 * curvature.highest + (2 * reg.lam if isinstance(reg, L2) else 0.0)
    if curvature.method == "explicit":
        modes = _dense_modes(curvature, order, m, threshold)
    else:
        modes = _lanczos_modes(curvature, order, m, threshold, max_products)
    softness = _softness(softness, threshold, modes, order, curvature.highest)
    sweep, soft = _scores(curvature, f, (x, y), modes, softness=softness, batch=batch)
    return Extrapolation(
        scores=sweep[:, modes.dropped],
        m=modes.dropped,
        threshold=threshold,
        sweep=sweep,
        eigenvalues=modes.values,
        residuals=modes.residuals,
        soft=soft,
        softness=softness,
        value=np.asarray(f.values(problem.w, x, y), float),
        of=f.name,
        order=order,
        kind=curvature.kind,
        warnings=curvature.warnings,
    )


def _check(curvature: Curvature, order: str, m: int | None, threshold: float | None) -> None:
    if curvature.problem.loss is None:
        raise ProblemError("extrapolation needs a prediction; this problem is a plain energy")
    if order not in ORDERS:
        raise ArgumentError(f"order must be 'signed' or 'magnitude', got {order!r}")
    if m is not None and threshold is not None:
        raise ArgumentError("give either m or threshold, not both")
    if m is not None and whole_number("m", m) >= curvature.size:
        raise ArgumentError(f"m must be 0..{curvature.size - 1}, got {m}")
    if threshold is not None and not threshold > 0:
        raise ArgumentError(f"threshold must be positive, got {threshold}")


class _Modes(NamedTuple):
    """Resolved modes in the order they are dropped: vectors in rows, |H v - value v|, and how many to drop."""

    values: Float[np.ndarray, " M"]
    vectors: Float[np.ndarray, "M N"]
    residuals: Float[np.ndarray, " M"]
    dropped: int


def _scores(
    curvature: Curvature, f: Quantity, points: tuple[Tree, Tree], modes: _Modes, *, softness: float, batch: int
) -> tuple[Float[np.ndarray, "T M1"], Float[np.ndarray, " T"]]:
    """E_m for m = 0..M, and the soft score."""
    sweep, soft = [], []
    for start, block in blocks(points, batch):
        gradients = f.gradients(curvature.problem.w, *block)
        if not bool(jnp.isfinite(gradients).all()):
            raise ConvergenceError(f"the gradient of {f.name} is not finite for a test point from row {start} on")
        known, rest = _split(np.asarray(gradients, float), modes.vectors)
        outside = np.sum(rest**2, axis=1, keepdims=True)
        tails = np.cumsum(known[:, ::-1] ** 2, axis=1)[:, ::-1]
        sweep.append(np.sqrt(np.concatenate([tails + outside, outside], axis=1)))
        inside = np.sum((known * softness / (np.abs(modes.values) + softness)) ** 2, axis=1)
        soft.append(np.sqrt(inside + _soft_outside(curvature, rest, softness)))
    return np.concatenate(sweep), np.concatenate(soft)


def _key(values: Float[np.ndarray, " M"], order: str) -> Float[np.ndarray, " M"]:
    return np.abs(values) if order == "magnitude" else values


def _softness(given: float | None, threshold: float | None, modes: _Modes, order: str, highest: float) -> float:
    if given is not None:
        if not given > 0:
            raise ArgumentError(f"softness must be positive, got {given}")
        return float(given)
    if threshold is not None:
        return float(threshold)
    last = float(_key(modes.values, order)[modes.dropped - 1]) if modes.dropped else highest
    return max(last, float(np.finfo(float).tiny))


def _dense_modes(curvature: Curvature, order: str, m: int | None, threshold: float | None) -> _Modes:
    values, vectors = curvature.eigensystem()
    at = np.argsort(-_key(values, order), kind="stable")
    dropped = int(np.sum(_key(values, order) > threshold)) if m is None else m
    return _Modes(values=values[at], vectors=vectors[at], residuals=np.zeros(len(values)), dropped=dropped)


def _lanczos_modes(
    curvature: Curvature, order: str, m: int | None, threshold: float | None, max_products: int
) -> _Modes:
    """Modes that are resolved, from the top down, and how many of them to drop."""
    if m == 0:
        return _Modes(np.zeros(0), np.zeros((0, curvature.size)), np.zeros(0), 0)
    fact = curvature.factorisation()
    if fact is None:
        fact = curvature.modes(0, 1, tolerance=1e-3, max_products=64).factorisation
    limit = min(max_products, curvature.size)
    while True:
        values, coefficients, residuals = ritz_pairs(fact.projected, fact.coupling)
        at = np.argsort(-_key(values, order), kind="stable")
        key = _key(values, order)[at]
        level = threshold if threshold is not None else (float(abs(key[m - 1])) if m and m <= len(key) else np.inf)
        good = residuals[at] <= (1e-4 if threshold is None else 1e-3) * max(level, 1e-300)
        settled = len(good) if good.all() else int(np.argmin(good))
        above = int(np.sum(key > threshold)) if threshold is not None else int(m or 0)
        if fact.exhausted or (len(key) >= above + 1 and settled >= above and np.isfinite(level)):
            break
        if fact.filled >= limit:
            smallest = f"{key[settled - 1]:.2g} ({settled} modes)" if settled else "none"
            raise ConvergenceError(
                f"{above} modes lie above the cut but only {settled} are resolved after {fact.filled} Lanczos "
                f"vectors (smallest resolved eigenvalue: {smallest}): the cut lies in an unresolved cluster. Raise "
                f"max_products, cut higher, or use the soft score with softness={level:.2g} and a higher threshold"
            )
        fact = curvature.grow(min(32, limit - fact.filled))
    keep = at[: max(settled, above)] if not fact.exhausted else at
    vectors = np.asarray(grown.combine(fact, coefficients[:, keep]), float)
    return _Modes(values=values[keep], vectors=vectors, residuals=residuals[keep], dropped=above)


def _split(
    gradients: Float[np.ndarray, "T N"], vectors: Float[np.ndarray, "M N"]
) -> tuple[Float[np.ndarray, "T M"], Float[np.ndarray, "T N"]]:
    """Components along the modes and what is left; nothing is left of a full basis."""
    known = gradients @ vectors.T
    if len(vectors) == vectors.shape[1]:
        return known, np.zeros_like(gradients)
    rest = gradients - known @ vectors
    return known, rest - (rest @ vectors.T) @ vectors


def _soft_outside(
    curvature: Curvature, rest: Float[np.ndarray, "T N"], softness: float, depth: int = 48
) -> Float[np.ndarray, " T"]:
    """|e (|H| + e)^-1 r|^2 for what the modes leave over, by Lanczos quadrature."""
    size = np.sum(rest**2, axis=1)
    total = np.zeros(len(rest))
    live = np.flatnonzero(size > 1e-30)
    lanes = int(np.clip(2**27 // (depth * curvature.size), 1, 16))
    for start in range(0, len(live), lanes):
        part = live[start : start + lanes]
        padded = np.resize(part, lanes)
        quad = quadrature(curvature, rest[padded] / np.sqrt(size[padded])[:, None], depth)
        total[part] = quad.apply(lambda v: (softness / (np.abs(v) + softness)) ** 2)[: len(part)] * size[part]
    return total
