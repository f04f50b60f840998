"""Solutions of (H + d I) x = b: by a factorised matrix, through the Gram matrix, or by conjugate gradients."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxland.core.krylov import conjugate_gradients as cg
from jaxland.core.krylov import grown
from jaxland.core.krylov.step import ritz_pairs
from jaxland.errors import ConvergenceError
from jaxland.hessian.curvature import Curvature, CurvatureWarning, Solved
from jaxland.hessian.gram import GramInverse
from jaxland.options import spoken
from jaxland.problem.products import Products

FACTORS = 4  # dampings whose factors are kept


def dense_matrix(products: Products, w: Float[Array, " N"]) -> Float[np.ndarray, "N N"]:
    """The symmetric matrix behind some products, on the host.

    Raises:
        ConvergenceError: it is not finite.
    """
    n = w.size
    batch = min(n, 64)
    h = np.empty((n, n))
    for start in range(0, n, batch):
        first = min(start, n - batch)
        rows = jnp.zeros((batch, n), w.dtype).at[jnp.arange(batch), first + jnp.arange(batch)].set(1)
        h[first : first + batch] = np.asarray(products.products(rows, w, products.data))
    h = (h + h.T) / 2
    if not np.isfinite(h).all():
        raise ConvergenceError(f"the curvature is not finite in parameter {int(np.argwhere(~np.isfinite(h))[0][0])}")
    return h


def explicit(curvature: Curvature, b: Float[Array, "k N"]) -> Solved:
    """By Cholesky, or by the eigensystem where it is known or H_d is not positive definite.

    Raises:
        ConvergenceError: H_d is singular.
    """
    right = np.asarray(b, float)
    x = _explicit(curvature, right)
    error = right - x @ curvature.matrix() - curvature.damping * x
    return Solved(jnp.asarray(x, b.dtype), _relative(error, right), np.zeros(len(b), int))


def _explicit(curvature: Curvature, b: Float[np.ndarray, "k N"]) -> Float[np.ndarray, "k N"]:
    import scipy.linalg

    damping = curvature.damping
    factor = _factor(curvature) if curvature.known.eigen is None else None
    if factor is not None:
        return scipy.linalg.cho_solve(factor, b.T, check_finite=False).T
    values, vectors = curvature.eigensystem()
    damped = values + damping
    nearest = float(np.min(np.abs(damped)))
    if nearest <= 1e-13 * max(float(np.max(np.abs(values))), 1e-300):
        raise ConvergenceError(
            f"H + {damping:g} I is singular (an eigenvalue of {nearest:.1e} beside a largest of "
            f"{np.max(np.abs(values)):.1e}): use a damping above {max(0.0, -values[0]) + 1e-6 * values[-1]:.2g}"
        )
    if damped[0] < 0:
        note = f"H + {damping:g} I has {int(np.sum(damped < 0))} negative eigenvalues, down to {damped[0]:.3g}"
        warnings.warn(note, CurvatureWarning, stacklevel=5)
    return (b @ vectors.T / damped) @ vectors


def _factor(curvature: Curvature) -> tuple[np.ndarray, bool] | None:
    """Cholesky factor of H_d, or None where H_d is not positive definite."""
    import scipy.linalg

    factors, damping = curvature.known.factors, curvature.damping
    if damping not in factors:
        for old in list(factors)[FACTORS - 1 :]:
            del factors[old]
        damped = curvature.matrix() + damping * np.eye(curvature.size)
        try:
            factors[damping] = scipy.linalg.cho_factor(damped, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            factors[damping] = None
    return factors[damping]


def gram(curvature: Curvature, b: Float[Array, "k N"]) -> Solved:
    """Through the Gram matrix of rows x outputs, which is factorised once."""
    if curvature.known.gram is None:
        curvature.known.gram = GramInverse(curvature.products, curvature.problem.w)
    x = curvature.known.gram.solve(b, curvature.damping)
    error = np.asarray(b - curvature.times(x) - curvature.damping * x, float)
    return Solved(x, _relative(error, np.asarray(b, float)), np.zeros(len(b), int))


def by_products(curvature: Curvature, b: Float[Array, "k N"], tolerance: float) -> Solved:
    """By conjugate gradients, deflated by the top modes.

    Raises:
        ConvergenceError: negative curvature, or no convergence.
    """
    modes = _deflation(curvature)
    batch = int(np.clip(2**26 // curvature.size, 1, 32))
    parts = []
    for start in range(0, len(b), batch):
        found = cg.conjugate_gradients(
            curvature.products.product,
            b[start : start + batch],
            (curvature.problem.w, curvature.products.data),
            damping=curvature.damping,
            tolerance=tolerance,
            max_iterations=curvature.max_iterations,
            modes=modes,
        )
        _judge(curvature, found, tolerance)
        parts.append(Solved(found.x, np.asarray(found.residuals, float), np.asarray(found.iterations)))
    return Solved(
        jnp.concatenate([p.x for p in parts]),
        np.concatenate([p.residuals for p in parts]),
        np.concatenate([p.iterations for p in parts]),
    )


def _deflation(curvature: Curvature) -> cg.Deflation | None:
    """Top modes worth deflating by: above the damping and resolved."""
    known, damping = curvature.known, curvature.damping
    if curvature.deflation <= 0:
        return None
    values: np.ndarray
    vectors: np.ndarray | jax.Array
    if known.eigen is not None:
        values, vectors = known.eigen
        keep = np.flatnonzero(values > damping)[::-1][: curvature.deflation]
        values, vectors = values[keep], vectors[keep]
    else:
        if damping not in known.deflation:
            known.deflation[damping] = _resolved_top(curvature)
        values, vectors = known.deflation[damping]
    if not len(values):
        return None
    dtype = curvature.problem.dtype
    return cg.Deflation(jnp.asarray(values, dtype), jnp.asarray(vectors, dtype))


def _resolved_top(curvature: Curvature) -> tuple[Float[np.ndarray, " m"], Float[Array, "m N"]]:
    """Top Ritz pairs above the damping whose residual is below a tenth of their value, from a grown factorisation."""
    wanted = min(curvature.deflation, curvature.size // 3)
    steps = int(min(curvature.size, max(64, 2.5 * wanted)))
    found = curvature.factorisation()
    if found is None:
        found = curvature.modes(0, 1, tolerance=1e-4, max_products=min(curvature.size, 96)).factorisation
    while True:
        values, coefficients, residuals = ritz_pairs(found.projected, found.coupling)
        above = values > curvature.damping
        settled = above & (residuals <= 1e-2 * np.abs(values))
        if found.exhausted or found.filled >= steps or (above.sum() and settled.sum() >= min(wanted, above.sum())):
            break
        found = curvature.grow(min(48, steps - found.filled))
    keep = np.flatnonzero(above & (residuals <= 0.1 * np.abs(values)))[::-1][:wanted]
    return values[keep], grown.combine(found, coefficients[:, keep])


def _judge(curvature: Curvature, found: cg.Solution, tolerance: float) -> None:
    damping = curvature.damping
    if bool(found.negative.any()):
        seen = min(float(jnp.min(found.rayleigh)), curvature.lowest)
        raise ConvergenceError(
            f"negative curvature: H + {damping:g} I is not positive definite (H has curvature {seen:.3g} or "
            f"less along some direction). Use a damping above {1.1 * abs(seen):.2g}, or "
            f"{spoken('kind', 'gauss-newton')}"
        )
    residual = float(jnp.max(jnp.where(jnp.isfinite(found.residuals), found.residuals, jnp.inf)))
    limit = max(10 * tolerance, 1e3 * float(jnp.finfo(found.x.dtype).eps))
    if residual > limit:
        raise ConvergenceError(
            f"conjugate gradients reached a relative residual of {residual:.1e}, not {tolerance:.1e}, in "
            f"{int(jnp.max(found.iterations))} steps at damping {damping:g}: raise max_iterations, the "
            f"damping or deflation (now {curvature.deflation} modes), or use float64"
        )


def _relative(error: Float[np.ndarray, "k N"], right: Float[np.ndarray, "k N"]) -> Float[np.ndarray, " k"]:
    size = np.linalg.norm(right, axis=1)
    return np.linalg.norm(error, axis=1) / np.where(size > 0, size, 1)
