"""Building a curvature: what is checked, which method and damping are chosen, what the reader is warned of."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxland.errors import ArgumentError, DataError
from jaxland.hessian.curvature import Curvature, CurvatureWarning, Known, checked_damping
from jaxland.hessian.gram import gram_applies
from jaxland.options import spoken
from jaxland.problem.contracts import few_rows, mixing_note, with_copies
from jaxland.problem.precision import in_precision
from jaxland.problem.problem import Problem, required
from jaxland.problem.products import Products, products_of

EXPLICIT_LIMIT = 4000
METHODS = ("explicit", "products", "gram")


@in_precision
def curvature(
    problem: Problem,
    w: Any = None,
    *,
    kind: str = "hessian",
    damping: float | None = None,
    method: str = "auto",
    tolerance: float = 1e-6,
    max_iterations: int = 2000,
    deflation: int = 100,
    matrix: Any = None,
    mesh: Mesh | None = None,
    seed: int = 0,
) -> Curvature:
    """Curvature of a problem's loss at one point: once, for influence, uncertainty, extrapolation and spectrum.

    Args:
        problem: any ``Problem``; a plain energy has a spectrum only.
        w: where (flat vector or pytree); default the problem's own parameters.
        kind: "hessian", or "gauss-newton" (positive semidefinite for convex losses of the outputs).
        damping: d of H + d I. None: 0 where the lowest eigenvalue is safely positive, else 1.2 times its modulus, at
            least 1e-4 times the largest; results then carry a sweep over larger dampings.
        method: "explicit" (the matrix; default up to 4,000 parameters), "products", "gram" (exact inverse of a
            Gauss-Newton matrix through rows x outputs, where that is far below the number of parameters), "auto".
        tolerance, max_iterations: of conjugate gradients: relative residual, and steps they may take.
        deflation: most top modes to deflate by.
        matrix: a curvature matrix [N, N] computed elsewhere, to be used instead of the problem's own.
        mesh: spread the rows over these devices.
        seed: of the Lanczos start vector.

    Raises:
        DataError: losses or gradients that are not finite, with the row.
        ArgumentError, ProblemError: arguments that make no sense for this problem.
        ConvergenceError: Hessian-vector products are not finite.

    Warns:
        CurvatureWarning: not at a stationary point; H_d is not positive definite; dropout or batch statistics active.
    """
    problem = required(problem, "curvature")
    if jnp.issubdtype(problem.dtype, jnp.floating) and problem.dtype.itemsize < 4:
        # Products of half precision have three digits: no curvature can be inverted with them.
        problem = problem.astype(jnp.float32)
    products = products_of(problem, kind, mesh)
    problem = _standing(problem, w)
    method = _chosen_method(problem, products, method if matrix is None else "explicit")
    norm, stationarity = _gradient_size(products, problem)
    made = Curvature(
        problem=problem,
        kind=kind,
        method=method,
        damping=0.0 if damping is None else checked_damping(damping),
        damping_chosen=damping is None,
        gradient_norm=norm,
        stationarity=stationarity,
        tolerance=_checked_tolerance(tolerance),
        max_iterations=max_iterations,
        deflation=deflation,
        products=products,
        known=Known(matrix=None if matrix is None else _checked_matrix(matrix, problem.size)),
    )
    made = _damped(made, *_extremes(made, seed))
    for note in made.warnings:
        warnings.warn(note, CurvatureWarning, stacklevel=2)
    return made


def _standing(problem: Problem, w: Any) -> Problem:
    """The problem at w."""
    problem = problem if w is None else problem.at(w)
    if not bool(jnp.isfinite(problem.w).all()):
        raise DataError(f"parameter {int(jnp.argmin(jnp.isfinite(problem.w)))} is not finite")
    return problem


def _checked_tolerance(tolerance: float) -> float:
    if not 0 < tolerance < 1:
        raise ArgumentError(f"tolerance must be between 0 and 1, got {tolerance}")
    return tolerance


def _damped(made: Curvature, low: float, high: float, slack: float) -> Curvature:
    """With its eigenvalue estimates, the damping they call for where none was given, and its warnings."""
    damping = default_damping(low, high, slack) if made.damping_chosen else made.damping
    made = replace(made, damping=float(damping), lowest=low, highest=high)
    return replace(made, warnings=tuple(_notes(made)))


def _notes(made: Curvature) -> Iterator[str]:
    """What the reader should distrust."""
    yield from model_notes(made.problem)
    if made.stationarity > 1e-2:
        yield (
            f"not a stationary point: |grad L| = {made.gradient_norm:.2g}, {made.stationarity:.2g} of a typical "
            "example's gradient. Train further before trusting influence, uncertainty or extrapolation"
        )
    if made.lowest + made.damping < 0:
        yield (
            f"H + {made.damping:g} I is not positive definite: the lowest eigenvalue of H is {made.lowest:.3g} or "
            f"less. Use a damping above {1.1 * abs(made.lowest):.2g}, or {spoken('kind', 'gauss-newton')}"
        )


def _checked_matrix(matrix: Any, size: int) -> np.ndarray:
    h = np.asarray(matrix, float)
    if h.shape != (size, size) or not np.isfinite(h).all():
        raise DataError(f"matrix must be finite and of shape ({size}, {size}), got {h.shape}")
    if np.max(np.abs(h - h.T)) > 1e-3 * np.max(np.abs(h)):
        raise DataError("matrix is not symmetric")
    return (h + h.T) / 2


def _chosen_method(problem: Problem, products: Products, method: str) -> str:
    if method == "auto":
        if problem.size <= EXPLICIT_LIMIT:
            return "explicit"
        return "gram" if gram_applies(products, limit=min(problem.size // 4, EXPLICIT_LIMIT)) else "products"
    if method not in METHODS:
        raise ArgumentError(f"method {method!r} is unknown; choose auto, {', '.join(METHODS)}")
    if method == "gram" and not gram_applies(products, limit=None):
        raise ArgumentError(
            f"method 'gram' needs {spoken('kind', 'gauss-newton')}, one device, outputs in one array, and no "
            "regulariser but l2"
        )
    if method == "explicit" and problem.size > 20_000:
        raise ArgumentError(
            f"an explicit matrix of {problem.size} parameters takes {problem.size**2 * 8 / 1e9:.0f} GB: use "
            f"{spoken('method', 'products')}"
        )
    return method


def default_damping(low: float, high: float, slack: float = 0.0) -> float:
    """Damping for eigenvalues between ``low`` (to within ``slack`` above the true one) and ``high``.

    >>> default_damping(1e-3, 1.0), default_damping(-0.5, 1.0), default_damping(0.0, 1.0)
    (0.0, 0.6, 0.0001)
    """
    if low - slack > 1e-6 * high:
        return 0.0
    least = 1.2 * max(0.0, min(slack, 0.2 * abs(low)) - low)
    return max(least, 1e-4 * max(high, 0.0), float(np.finfo(float).tiny))


def _extremes(made: Curvature, seed: int) -> tuple[float, float, float]:
    """Extreme Ritz values, and the residual of the lowest: the nearest eigenvalue is no farther than that."""
    if made.known.matrix is not None:
        values = np.linalg.eigvalsh(made.known.matrix)
        return float(values[0]), float(values[-1]), 0.0
    found = made.modes(1, 1, tolerance=1e-4, max_products=int(min(made.size, 96)), seed=seed)
    slack = 0.0 if found.factorisation.exhausted else float(found.lowest.residuals[0])
    return float(found.lowest.values[0]), float(found.highest.values[0]), slack


def _gradient_size(products: Products, problem: Problem) -> tuple[float, float]:
    """|grad L|, and the same over the root mean square of the examples' gradients."""
    gradient = products.gradient(problem.w, products.data)
    norm = float(jnp.linalg.norm(gradient))
    scale = 1.0 if products.plain else _example_scale(products, problem)
    if not np.isfinite(norm):
        raise DataError("the gradient of the loss is not finite at these parameters")
    return norm, norm / scale if scale > 0 else 0.0


def _example_scale(products: Products, problem: Problem) -> float:
    """Root mean square norm of per-example gradients (of at most 256 rows); names rows that are not finite."""
    losses = np.asarray(problem.losses(), float)
    bad = np.flatnonzero(~np.isfinite(losses))
    if len(bad):
        raise DataError(f"the loss of {len(bad)} training rows is not finite; the first is row {bad[0]}")
    small = problem.n * problem.size <= 2e7
    picked = range(problem.n) if small else range(0, problem.n, -(-problem.n // 256))
    total, count = 0.0, 0
    rows = np.fromiter(picked, int)
    step = max(1, min(256, int(2**24 // problem.size)))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        block = jax.tree.map(lambda a, part=part: a[part], problem.data)
        squares = np.asarray(jnp.sum(products._block_gradients(problem.w, *block) ** 2, axis=1), float)
        if not np.isfinite(squares).all():
            raise DataError(f"the gradient of training row {part[np.argmin(np.isfinite(squares))]} is not finite")
        total, count = total + float(squares.sum()), count + len(part)
    return (total / count) ** 0.5


def model_notes(problem: Problem) -> Iterator[str]:
    """What ``mixing_note`` says of the problem's model."""
    if problem.model is None or problem.n < 2:
        return
    rows = few_rows(problem.x)
    picked = with_copies(len(jax.tree.leaves(rows)[0]))
    again = jax.tree.map(lambda a: a[picked], rows)
    note = mixing_note(problem.predict(None, rows), problem.predict(None, again), picked)
    if note:
        yield note
