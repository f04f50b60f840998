"""The spectrum of the curvature: extreme modes, density, trace, log-determinant, effective parameters.

Few parameters: all eigenvalues. Many: extreme modes by Lanczos, the rest by stochastic Lanczos quadrature
(Ubaru, Chen & Saad 2017) with random vectors orthogonal to the modes already found, which enter exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from jaxland.core.energy import derivatives as derivatives
from jaxland.core.krylov.lane import Quadrature
from jaxland.errors import ArgumentError, ConvergenceError, DataError
from jaxland.hessian.curvature import Curvature
from jaxland.hessian.probing import quadrature
from jaxland.problem.precision import in_precision
from jaxland.problem.problem import Problem
from jaxland.showing import brief


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Spectrum of H (without damping) of N parameters.

    Attributes:
        lowest, highest: eigenvalues nearest each end.
        lowest_residuals, highest_residuals: |H v - value v| of each.
        lowest_vectors, highest_vectors: unit eigenvectors in rows.
        converged: whether every residual is within the tolerance.
        values: eigenvalues known exactly; all of them where ``exact``.
        nodes, weights: quadrature [probes, depth] of the rest of the spectrum; empty where ``exact``.
        size: N.
        exact: ``values`` is the whole spectrum.
        null_coordinates: parameters the loss of the data does not depend on to second order (dead inputs or units).
        damping, kind: of the curvature.
        products: matrix-vector products this took.
    """

    lowest: Float[np.ndarray, " k"]
    highest: Float[np.ndarray, " m"]
    lowest_residuals: Float[np.ndarray, " k"]
    highest_residuals: Float[np.ndarray, " m"]
    lowest_vectors: Float[np.ndarray, "k N"]
    highest_vectors: Float[np.ndarray, "m N"]
    converged: bool
    values: Float[np.ndarray, " known"]
    nodes: Float[np.ndarray, "probes depth"]
    weights: Float[np.ndarray, "probes depth"]
    size: int
    exact: bool
    null_coordinates: Int[np.ndarray, " z"]
    damping: float
    kind: str
    products: int

    __repr__ = brief

    def sum_of(self, f: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
        """sum_j f(eigenvalue_j) and its standard error (0 where exact)."""
        total = float(np.sum(f(self.values)))
        if self.exact:
            return total, 0.0
        rest = (self.size - len(self.values)) * Quadrature(self.nodes, self.weights).apply(f)  # type: ignore[arg-type]
        error = float(np.std(rest, ddof=1) / len(rest) ** 0.5) if len(rest) > 1 else float("inf")
        return total + float(np.mean(rest)), error

    def trace(self) -> tuple[float, float]:
        """Trace of H and its standard error."""
        return self.sum_of(lambda v: v)

    def log_determinant(self, damping: float | None = None) -> tuple[float, float]:
        """log det(H + damping I) and its standard error.

        Raises:
            ConvergenceError: H + damping I is not positive definite.
        """
        d = self.damping if damping is None else damping
        low = min(float(np.min(part)) for part in (self.values, self.nodes[self.weights > 0]) if part.size)
        if low + d <= 0:
            raise ConvergenceError(
                f"log det needs H + damping I positive definite: the lowest eigenvalue is {low:.3g}, damping {d:g}"
            )
        return self.sum_of(lambda v: np.log(np.maximum(v + d, np.finfo(float).tiny)))

    def effective_parameters(self, damping: float | None = None) -> tuple[float, float]:
        """sum l / (l + damping) over eigenvalues l > 0, and its standard error: parameters that the data fix."""
        d = self.damping if damping is None else damping
        return self.sum_of(lambda v: np.where(v > 0, v / (np.abs(v) + d + np.finfo(float).tiny), 0.0))

    def negative(self) -> tuple[float, float]:
        """Number of eigenvalues below -1e-10 times the largest modulus, and its standard error."""
        scale = max(float(np.max(np.abs(part))) for part in (self.values, self.nodes) if part.size)
        return self.sum_of(lambda v: (v < -1e-10 * scale).astype(float))

    def density(
        self, grid: Any = None, width: float | None = None
    ) -> tuple[Float[np.ndarray, " g"], Float[np.ndarray, " g"]]:
        """Grid and density of eigenvalues (integral 1), Gaussians of standard deviation ``width``."""
        ends = np.concatenate([self.values, self.nodes[self.weights > 0]])
        span = float(np.ptp(ends)) or 1.0
        width = 0.01 * span if width is None else width
        if not width > 0:
            raise ArgumentError(f"width must be positive, got {width}")
        grid = np.linspace(ends.min() - 4 * width, ends.max() + 4 * width, 800) if grid is None else np.asarray(grid)

        def smooth(at: np.ndarray, weight: np.ndarray) -> np.ndarray:
            z = (grid[:, None] - at.ravel()) / width
            return np.exp(-0.5 * z**2) @ weight.ravel() / (width * (2 * np.pi) ** 0.5)

        density = smooth(self.values, np.full(len(self.values), 1.0 / self.size))
        if not self.exact:
            share = (self.size - len(self.values)) / self.size / len(self.nodes)
            density = density + smooth(self.nodes, share * self.weights)
        return grid, density

    def to_pandas(self) -> pd.DataFrame:
        """Extreme eigenvalues with residuals."""
        rows = [("highest", i + 1, v, r) for i, (v, r) in enumerate(zip(self.highest, self.highest_residuals))]
        rows += [("lowest", i + 1, v, r) for i, (v, r) in enumerate(zip(self.lowest, self.lowest_residuals))]
        return pd.DataFrame(rows, columns=["end", "rank", "eigenvalue", "residual"])

    def summary(self) -> pd.DataFrame:
        """Trace, effective parameters, negative eigenvalues, log-determinant (where defined), with errors."""
        rows = [("trace", *self.trace()), ("effective parameters", *self.effective_parameters())]
        rows += [("negative eigenvalues", *self.negative())]
        try:
            rows += [(f"log det(H + {self.damping:g} I)", *self.log_determinant())]
        except ConvergenceError:
            rows += [(f"log det(H + {self.damping:g} I): not positive definite", float("nan"), float("nan"))]
        rows += [("null coordinates", len(self.null_coordinates), 0.0), ("parameters", self.size, 0.0)]
        return pd.DataFrame(rows, columns=["quantity", "value", "standard error"])

    def _repr_html_(self) -> str:
        return self.summary().to_html(index=False) + self.to_pandas().to_html(index=False)


@in_precision
def spectrum(
    curvature: Curvature,
    *,
    lowest: int = 10,
    highest: int = 10,
    tolerance: float = 1e-8,
    max_products: int = 1000,
    block: int = 1,
    probes: int = 8,
    depth: int = 64,
    seed: int = 0,
) -> Spectrum:
    """Extreme modes, density and sums over the spectrum.

    Args:
        curvature: from ``hessian.curvature``.
        lowest, highest: modes wanted at each end.
        tolerance: on their residuals, relative to the largest |eigenvalue|.
        max_products: most Lanczos vectors.
        block: above 1, sees that many copies of a degenerate eigenvalue.
        probes, depth: of stochastic quadrature; 0 probes leaves density and sums out of reach.
        seed: of start vectors and probes.
    """
    if probes < 0 or depth < 1:
        raise ArgumentError(f"probes must not be negative and depth at least 1, got {probes} and {depth}")
    null = null_coordinates(curvature, seed)
    if curvature.method == "explicit":
        return _dense(curvature, lowest, highest, null)
    found = curvature.modes(lowest, highest, tolerance=tolerance, max_products=max_products, block=block, seed=seed)
    ends = (found.lowest, found.highest)
    settled = np.concatenate([np.asarray(end.vectors, float)[end.converged] for end in ends])
    none = np.zeros((0, 0))
    nodes, weights = _probes(curvature, settled, probes, depth, seed) if probes else (none, none)
    return Spectrum(
        lowest=found.lowest.values,
        highest=found.highest.values,
        lowest_residuals=found.lowest.residuals,
        highest_residuals=found.highest.residuals,
        lowest_vectors=np.asarray(found.lowest.vectors, float),
        highest_vectors=np.asarray(found.highest.vectors, float),
        converged=bool(all(end.converged.all() for end in ends)),
        values=np.concatenate([end.values[end.converged] for end in ends]),
        nodes=nodes,
        weights=weights,
        size=curvature.size,
        exact=False,
        null_coordinates=null,
        damping=curvature.damping,
        kind=curvature.kind,
        products=found.factorisation.filled + probes * depth,
    )


def _dense(curvature: Curvature, lowest: int, highest: int, null: Int[np.ndarray, " z"]) -> Spectrum:
    """All of it, from the factorised matrix."""
    values, vectors = curvature.eigensystem()
    matrix = curvature.matrix()
    low, high = vectors[: min(lowest, len(values))], vectors[::-1][: min(highest, len(values))]
    lows, highs = values[: len(low)], values[::-1][: len(high)]

    def residuals(rows: np.ndarray, at: np.ndarray) -> np.ndarray:
        return np.linalg.norm(rows @ matrix - at[:, None] * rows, axis=1)

    return Spectrum(
        lowest=lows,
        highest=highs,
        lowest_residuals=residuals(low, lows),
        highest_residuals=residuals(high, highs),
        lowest_vectors=low,
        highest_vectors=high,
        converged=True,
        values=values,
        nodes=np.zeros((0, 0)),
        weights=np.zeros((0, 0)),
        size=curvature.size,
        exact=True,
        null_coordinates=null,
        damping=curvature.damping,
        kind=curvature.kind,
        products=curvature.size,
    )


def _probes(
    curvature: Curvature, known: Float[np.ndarray, "k N"], probes: int, depth: int, seed: int
) -> tuple[Float[np.ndarray, "probes depth"], Float[np.ndarray, "probes depth"]]:
    """Quadrature from random vectors orthogonal to the modes already known."""
    rng = np.random.default_rng([seed, 1])
    lanes = int(np.clip(2**27 // (depth * curvature.size), 1, probes))
    nodes, weights = [], []
    for start in range(0, probes, lanes):
        z = rng.standard_normal((lanes, curvature.size))
        z = z - (z @ known.T) @ known
        found = quadrature(curvature, z, depth)
        nodes.append(np.asarray(found.nodes, float)[: probes - start])
        weights.append(np.asarray(found.weights, float)[: probes - start])
    return np.concatenate(nodes), np.concatenate(weights)


@in_precision
def null_coordinates(curvature: Curvature, seed: int = 0) -> Int[np.ndarray, " z"]:
    """Parameters whose row of the data's curvature is exactly zero: dead inputs or units (regulariser left out)."""
    products, problem = curvature.products, curvature.problem
    if products.plain:
        return np.zeros(0, int)
    z = jnp.asarray(np.random.default_rng([seed, 2]).standard_normal((2, curvature.size)), problem.dtype)
    image = np.asarray(jax.jit(products.data_product)(z, problem.w, products.data))
    return np.flatnonzero((image == 0).all(axis=0))


@in_precision
def spectra(problem: Problem, params: Any, *, batch: int | None = None) -> Float[np.ndarray, "M N"]:
    """All Hessian eigenvalues, ascending, at each of M points: batched, for small networks.

    Args:
        problem: gives loss and data.
        params: flat parameter vectors [M, N].
        batch: points whose Hessians are formed together; default by memory.
    """
    points = point_array(problem, params)
    return np.concatenate([np.linalg.eigvalsh(block) for block in hessian_blocks(problem, points, batch)])


def point_array(problem: Problem, params: Any) -> Float[np.ndarray, "M N"]:
    """Flat parameter vectors as one array, checked."""
    points = np.asarray([np.asarray(p) for p in params])
    if points.ndim != 2 or points.shape[1] != problem.size or not len(points):
        raise DataError(f"params must be flat vectors [M, {problem.size}], got shape {points.shape}")
    if not np.isfinite(points).all():
        raise DataError(f"params[{int(np.argwhere(~np.isfinite(points))[0][0])}] is not finite")
    return points


def hessian_blocks(
    problem: Problem, points: Float[np.ndarray, "M N"], batch: int | None = None
) -> Iterator[Float[np.ndarray, "b N N"]]:
    """Exact Hessians as float64 at consecutive points, one compiled shape."""
    n = problem.size
    batch = int(np.clip(2**22 // n**2, 1, len(points))) if batch is None else min(batch, len(points))
    energy = problem.energy_of
    batched = problem.compiled(
        "hessian.batched",
        lambda: jax.jit(lambda ws, data: jax.vmap(lambda w: derivatives.hessian(lambda u: energy(u, data), w))(ws)),
    )
    for start in range(0, len(points), batch):
        part = points[start : start + batch]
        padded = part[np.minimum(np.arange(batch), len(part) - 1)]
        yield np.asarray(batched(jnp.asarray(padded, problem.dtype), problem.data), float)[: len(part)]
