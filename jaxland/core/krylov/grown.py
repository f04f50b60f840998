"""A Lanczos factorisation that grows from the host: blocks of vectors on panels that are added as memory is needed.

One factorisation serves both ends of the spectrum, and goes on where it stopped.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxland.core.krylov.step import (
    HIGHEST,
    Product,
    cleaned,
    enough,
    lanczos_step,
    orthonormal,
    ritz_pairs,
    rounding,
)


class Krylov(NamedTuple):
    """Block Lanczos factorisation A Q = Q T + coupling^T query at the last block; basis vectors in rows of panels.

    Attributes:
        panels: arrays [panel, n]; rows of the last one from ``filled`` on are zero.
        projected: T [filled, filled], block tridiagonal, on the host.
        coupling: ``query`` . A . last block; zero rows where the space was exhausted.
        query: orthonormal block [block, n] whose product comes next.
        filled: basis vectors.
        exhausted: the basis spans the whole space.
        seed: of the fresh directions that replace exhausted ones.
    """

    panels: tuple[Float[Array, "panel n"], ...]
    projected: np.ndarray
    coupling: np.ndarray
    query: Float[Array, "block n"]
    filled: int
    exhausted: bool
    seed: int


@jax.jit
def _project(panel: jax.Array, w: jax.Array) -> jax.Array:
    along = jnp.dot(w, panel.T, precision=HIGHEST)
    return w - jnp.dot(along, panel, precision=HIGHEST)


@partial(jax.jit, donate_argnums=0)
def _store(panel: jax.Array, rows: jax.Array, at: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice(panel, rows, (at, jnp.zeros_like(at)))


@jax.jit
def _combine(panel: jax.Array, coefficients: jax.Array) -> jax.Array:
    return jnp.dot(coefficients, panel, precision=HIGHEST)


def _without(panels: list[jax.Array], w: jax.Array) -> jax.Array:
    for panel in panels:
        w = _project(panel, w)
    return w


def krylov(
    n: int,
    *,
    block: int = 1,
    panel: int = 48,
    dtype: DTypeLike | None = None,
    seed: int = 0,
    start: jax.Array | np.ndarray | None = None,
) -> Krylov:
    """An empty factorisation, to be given to ``extend``.

    Args:
        n: order of the matrix.
        block: vectors multiplied at once; one vector sees one copy of a degenerate eigenvalue, b vectors see b.
        panel: vectors added to the memory at a time, rounded up to a multiple of ``block``.
        dtype: of the vectors.
        seed: of the random start block.
        start: start block [block, n] or vector [n] instead.
    """
    dtype = jnp.result_type(float) if dtype is None else dtype
    if start is None:
        start = np.random.default_rng(seed).standard_normal((max(1, min(block, n)), n))
    query, _ = orthonormal(jnp.atleast_2d(jnp.asarray(start, dtype)))
    b = query.shape[0]
    rows = -(-min(panel, n) // b) * b
    empty = (jnp.zeros((rows, n), dtype),)
    return Krylov(
        panels=empty,
        projected=np.zeros((0, 0)),
        coupling=np.zeros((b, b)),
        query=query,
        filled=0,
        exhausted=False,
        seed=seed,
    )


def extend(factorisation: Krylov, product: Product, steps: int) -> Krylov:
    """Grow by ``steps`` block steps (fewer if the space is exhausted): one call of ``product`` [block, n] each.

    Raises:
        ArithmeticError: a product is not finite.
    """
    given, projected, coupling, query, filled, exhausted, seed = factorisation
    panels = list(given)
    panels[-1] = jnp.array(panels[-1], copy=True)
    rows, n = panels[0].shape
    size = filled + steps * query.shape[0]
    t = np.zeros((size, size))
    t[:filled, :filled] = projected
    scale = float(np.max(np.abs(projected))) if filled else 0.0
    for _ in range(steps):
        if exhausted:
            break
        b = query.shape[0]
        if filled == rows * len(panels):
            panels.append(jnp.zeros((rows, n), query.dtype))
        panels[-1] = _store(panels[-1], query, jnp.asarray(filled - rows * (len(panels) - 1), jnp.int32))
        took = lanczos_step(query, product(query), partial(_without, panels))
        alpha, beta = np.asarray(took.alpha, float), np.asarray(took.beta, float)
        if not np.isfinite(alpha).all():
            raise ArithmeticError(f"product {filled // b + 1} of the Lanczos run is not finite")
        here = slice(filled, filled + b)
        if filled:
            back = slice(filled - coupling.shape[1], filled)
            t[here, back] = coupling
            t[back, here] = coupling.T
        t[here, here] = (alpha + alpha.T) / 2
        filled += b
        scale = max(scale, float(took.size) / b**0.5)
        negligible = rounding(n, query.dtype) * scale
        query, coupling = took.following, beta
        if filled + b > n or (np.abs(np.diag(beta)) <= negligible).any():
            query, coupling, exhausted = _refill(panels, took.rest, negligible, n - filled, [seed, filled])
    return Krylov(
        panels=tuple(panels),
        projected=t[:filled, :filled],
        coupling=coupling,
        query=query,
        filled=filled,
        exhausted=exhausted,
        seed=seed,
    )


def _refill(
    panels: list[jax.Array], w: jax.Array, negligible: float, room: int, seed: list[int]
) -> tuple[jax.Array, np.ndarray, bool]:
    """Next block where some of its directions are null: those are replaced by fresh random ones, not coupled to T."""
    b, n = w.shape
    u, s, v = np.linalg.svd(np.asarray(w, float), full_matrices=False)
    wide = min(b, room)
    if wide == 0:
        return w, np.zeros((b, b)), True
    kept = int(np.sum(s[:wide] > negligible))
    beta = np.zeros((wide, b))
    beta[:kept] = s[:kept, None] * u[:, :kept].T
    rows = jnp.asarray(v[:kept], w.dtype)
    new = jnp.asarray(np.random.default_rng(seed).standard_normal((wide - kept, n)), w.dtype)
    for _ in range(2):
        new = cleaned(new, partial(_without, panels))
        new = _project(rows, new)
        if wide > kept:
            new = orthonormal(new)[0]
    return jnp.concatenate([rows, new]), beta, False


def combine(factorisation: Krylov, coefficients: np.ndarray) -> Float[Array, "k n"]:
    """Vectors (rows) of coefficient columns [count, k]."""
    rows, dtype = factorisation.panels[0].shape[0], factorisation.query.dtype
    total = jnp.zeros((coefficients.shape[1], factorisation.query.shape[1]), dtype)
    for i, panel in enumerate(factorisation.panels):
        part = coefficients[i * rows : (i + 1) * rows]
        if part.shape[0] < rows:
            part = np.concatenate([part, np.zeros((rows - part.shape[0], part.shape[1]))])
        total = total + _combine(panel, jnp.asarray(part.T, dtype))
    return total


class Eigenpairs(NamedTuple):
    """Eigenpairs of one end of the spectrum, nearest that end first.

    Attributes:
        values: eigenvalues [k].
        vectors: unit vectors in rows [k, n].
        residuals: |A v - value v| [k], recomputed from one more product each.
        converged: residual within the tolerance [k].
    """

    values: np.ndarray
    vectors: jax.Array
    residuals: np.ndarray
    converged: np.ndarray


class Modes(NamedTuple):
    """Both ends of a spectrum and the factorisation that gave them.

    Attributes:
        lowest, highest: ``Eigenpairs``.
        products: products with A that were needed.
        factorisation: to be extended by whoever wants more.
    """

    lowest: Eigenpairs
    highest: Eigenpairs
    products: int
    factorisation: Krylov


def eigenpairs(
    product: Product,
    n: int,
    *,
    lowest: int = 0,
    highest: int = 0,
    tolerance: float = 1e-8,
    block: int = 1,
    panel: int = 48,
    max_products: int = 1000,
    dtype: DTypeLike | None = None,
    seed: int = 0,
    factorisation: Krylov | None = None,
) -> Modes:
    """The lowest and highest eigenpairs of a symmetric matrix by (block) Lanczos.

    Args:
        product: ``V[block, n] -> V A [block, n]``; also called with other leading sizes for the final residuals.
        n: order of the matrix.
        lowest, highest: number of pairs wanted at each end.
        tolerance: on the residual norm, relative to the largest |eigenvalue|.
        block: vectors multiplied at once; at least the multiplicity of a degenerate eigenvalue whose copies matter.
        panel: vectors added to the memory at a time; convergence is looked at whenever one is full.
        max_products: most products; pairs not converged by then are returned with their residuals.
        dtype: of the vectors.
        seed: of the start block.
        factorisation: continue this one instead of starting anew.
    """
    lowest, highest = min(lowest, n), min(highest, n)
    fact = krylov(n, block=block, panel=panel, dtype=dtype, seed=seed) if factorisation is None else factorisation
    b = fact.query.shape[0]
    used = fact.filled
    stride = max(1, fact.panels[0].shape[0] // b)
    while not enough(fact, lowest, highest, tolerance) and fact.filled < max_products:
        fact = extend(fact, product, min(stride, -(-(max_products - fact.filled) // b)))
    values, coefficients, _ = ritz_pairs(fact.projected, fact.coupling)
    low = np.arange(min(lowest, len(values)))
    high = len(values) - 1 - np.arange(min(highest, len(values)))
    scale = max(float(np.max(np.abs(values))), float(np.finfo(float).tiny))
    both = np.concatenate([low, high])
    vectors = combine(fact, coefficients[:, both])
    residuals = np.zeros(0)
    if len(both):
        vectors = vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True)
        error = product(vectors) - jnp.asarray(values[both], vectors.dtype)[:, None] * vectors
        residuals = np.asarray(jnp.linalg.norm(error, axis=1), float)
    good = residuals <= max(tolerance, 50 * n**0.5 * float(jnp.finfo(fact.query.dtype).eps)) * scale
    split = len(low)

    def end(part: slice) -> Eigenpairs:
        return Eigenpairs(values[both[part]], vectors[part], residuals[part], good[part])

    return Modes(end(slice(0, split)), end(slice(split, None)), fact.filled - used + len(both), fact)
