"""Extreme eigenpairs and spectral density of a symmetric matrix known by its products.

Two forms of one method, Lanczos with full reorthogonalisation done twice ("twice is enough": Parlett 1998, section
6.9; without it copies of converged eigenvalues appear):

* ``LanczosState`` with ``lanczos_init``, ``lanczos_step``, ``lanczos_done`` and ``ritz``: one lane of fixed depth,
  pure, one product per step, to be vmapped; ``lowest_pair`` and ``quadrature`` are built of it.
* ``Krylov`` with ``krylov``, ``extend`` and ``ritz_pairs``: a (block) factorisation on panels of vectors that are
  added as it grows, driven from the host; ``eigenpairs`` is built of it. One factorisation serves both ends.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

Product = Callable[[jax.Array], jax.Array]


# -- one lane of fixed depth ---------------------------------------------------------------------------------------


class LanczosState(NamedTuple):
    """Carried state: A Q = Q T + offdiagonal[filled-1] query e^T.

    Attributes:
        basis: orthonormal rows; rows from ``filled`` on are zero.
        diagonal, offdiagonal: of T; ``offdiagonal[j]`` couples row j to row j + 1.
        query: unit vector whose product the next step needs; zero once the Krylov space is exhausted.
        filled: rows in use.
    """

    basis: Float[Array, "depth n"]
    diagonal: Float[Array, " depth"]
    offdiagonal: Float[Array, " depth"]
    query: Float[Array, " n"]
    filled: Int[Array, ""]


class Ritz(NamedTuple):
    """Eigenvalues of T in ascending order, its eigenvectors in columns, residual norms |A v - value v|.

    Entries beyond the rank have value +inf and residual +inf.
    """

    values: Float[Array, " depth"]
    coefficients: Float[Array, "depth depth"]
    residuals: Float[Array, " depth"]


def lanczos_init(start: Float[Array, " n"], depth: int) -> LanczosState:
    """State before the first product; ``start`` need not be normalised but must not be zero."""
    dtype = start.dtype
    return LanczosState(
        jnp.zeros((depth, start.size), dtype),
        jnp.zeros((depth,), dtype),
        jnp.zeros((depth,), dtype),
        start / jnp.linalg.norm(start),
        jnp.zeros((), jnp.int32),
    )


def lanczos_step(state: LanczosState, product: Float[Array, " n"]) -> LanczosState:
    """Take in ``product = A @ state.query``. Does nothing once the space is exhausted or the basis full."""
    depth, n = state.basis.shape
    alive = (jnp.vdot(state.query, state.query) > 0.5) & (state.filled < depth)
    at = jnp.minimum(state.filled, depth - 1)
    basis = state.basis.at[at].set(jnp.where(alive, state.query, state.basis[at]))
    diagonal = jnp.where(alive, state.diagonal.at[at].set(state.query @ product), state.diagonal)
    scale = jnp.linalg.norm(product)
    w = product
    for _ in range(2):
        w = w - (basis @ w) @ basis
    beta = jnp.linalg.norm(w)
    live = beta > 10 * n**0.5 * jnp.finfo(w.dtype).eps * jnp.maximum(scale, jnp.max(jnp.abs(diagonal)))
    beta = jnp.where(live, beta, 0)
    offdiagonal = jnp.where(alive, state.offdiagonal.at[at].set(beta), state.offdiagonal)
    query = jnp.where(live, w / jnp.where(live, beta, 1), 0)
    return LanczosState(
        basis, diagonal, offdiagonal, jnp.where(alive, query, state.query), state.filled + alive.astype(jnp.int32)
    )


def ritz(state: LanczosState) -> Ritz:
    """Eigenpairs of T. ``coefficients[:, j] @ state.basis`` is the j-th Ritz vector."""
    depth = state.diagonal.size
    inside = jnp.arange(depth) < state.filled
    bound = 2 * jnp.max(jnp.abs(state.diagonal)) + 2 * jnp.max(state.offdiagonal) + 1
    diagonal = jnp.where(inside, state.diagonal, 2 * bound)
    coupled = jnp.where(jnp.arange(depth) + 1 < state.filled, state.offdiagonal, 0)[:-1]
    t = jnp.diag(diagonal) + jnp.diag(coupled, 1) + jnp.diag(coupled, -1)
    values, vectors = jnp.linalg.eigh(t)
    last = jnp.maximum(state.filled - 1, 0)
    residuals = jnp.abs(state.offdiagonal[last] * vectors[last])
    valid = values < 1.5 * bound
    return Ritz(jnp.where(valid, values, jnp.inf), vectors, jnp.where(valid, residuals, jnp.inf))


def lanczos_done(state: LanczosState, tolerance: float) -> Bool[Array, ""]:
    """True when the lowest pair's residual is below ``tolerance``, the basis is full, or the space exhausted."""
    found = ritz(state).residuals[0] <= tolerance
    exhausted = jnp.vdot(state.query, state.query) < 0.5
    return (state.filled > 0) & (found | exhausted | (state.filled >= state.diagonal.size))


class Pair(NamedTuple):
    """One eigenpair with its residual norm |A v - value v| and the number of products it took."""

    value: Float[Array, ""]
    vector: Float[Array, " n"]
    residual: Float[Array, ""]
    products: Int[Array, ""]


def lowest_pair(
    product: Product, start: Float[Array, " n"], *, depth: int = 24, restarts: int = 20, tolerance: float = 1e-6
) -> Pair:
    """Lowest eigenpair from a start vector by products only; pure, to be jitted and vmapped over lanes.

    Args:
        product: ``v[n] -> A v [n]``.
        start: first guess (the previous step's vector, say); not zero. A start without any component along the lowest
            vector never finds it.
        depth: vectors kept; a restart goes on from the best vector.
        restarts: most restarts.
        tolerance: on the residual norm, relative to the largest |eigenvalue| seen.
    """
    depth = max(2, min(depth, start.size))

    def sweep(carry: tuple[Pair, jax.Array]) -> tuple[Pair, jax.Array]:
        best, count = carry
        state = jax.lax.fori_loop(
            0, depth, lambda _, s: lanczos_step(s, product(s.query)), lanczos_init(best.vector, depth)
        )
        found = ritz(state)
        vector = found.coefficients[:, 0] @ state.basis
        vector = vector / jnp.linalg.norm(vector)
        top = jnp.max(jnp.where(jnp.isfinite(found.values), jnp.abs(found.values), 0))
        pair = Pair(
            found.values[0], vector, found.residuals[0] / jnp.maximum(top, 1e-30), best.products + state.filled
        )
        return pair, count + 1

    def unfinished(carry: tuple[Pair, jax.Array]) -> jax.Array:
        pair, count = carry
        return (count < restarts) & ((count == 0) | (pair.residual > tolerance))

    zero = jnp.sum(start * 0)
    first = Pair(zero, start, zero + jnp.inf, jnp.zeros((), jnp.int32))
    pair, _ = jax.lax.while_loop(unfinished, sweep, (first, jnp.zeros((), jnp.int32)))
    return pair._replace(residual=jnp.linalg.norm(product(pair.vector) - pair.value * pair.vector))


class Quadrature(NamedTuple):
    """Gauss nodes and weights of z . f(A) z / |z|^2 for each start vector z (Golub & Welsch 1969)."""

    nodes: Float[Array, "probes depth"]
    weights: Float[Array, "probes depth"]

    def apply(self, f: Callable[[Any], Any]) -> np.ndarray:
        """z . f(A) z / |z|^2 for each start vector, exact for polynomials f of degree below 2 depth."""
        nodes, weights = np.asarray(self.nodes, float), np.asarray(self.weights, float)
        return np.sum(np.where(weights > 0, weights * f(np.where(weights > 0, nodes, 1.0)), 0.0), axis=1)


def quadrature(product: Product, starts: Float[Array, "k n"], depth: int) -> tuple[jax.Array, jax.Array]:
    """Nodes [k, depth] and weights [k, depth] of k start vectors; weight 0 marks unused entries. Pure.

    Args:
        product: ``V[k, n] -> V A [k, n]``.
        starts: not zero.
        depth: products with each.
    """
    depth = min(depth, starts.shape[1])

    def advance(_: Any, states: LanczosState) -> LanczosState:
        return jax.vmap(lanczos_step)(states, product(states.query))

    first = jax.vmap(lambda v: lanczos_init(v, depth))(starts)
    found = jax.vmap(ritz)(jax.lax.fori_loop(0, depth, advance, first))
    finite = jnp.isfinite(found.values)
    return jnp.where(finite, found.values, 0), jnp.where(finite, found.coefficients[:, 0] ** 2, 0)


# -- a factorisation that grows --------------------------------------------------------------------------------------


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
    return w - (w @ panel.T) @ panel


@partial(jax.jit, donate_argnums=0)
def _store(panel: jax.Array, rows: jax.Array, at: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice(panel, rows, (at, jnp.zeros_like(at)))


@jax.jit
def _inner(query: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array]:
    return query @ w.T, jnp.linalg.norm(w)


@jax.jit
def _orthonormal(w: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Rows q and matrix r with w = r^T q."""
    if w.shape[0] == 1:
        norm = jnp.linalg.norm(w)
        return w / jnp.where(norm > 0, norm, 1), norm[None, None]
    q, r = jnp.linalg.qr(w.T)
    return q.T, r


@jax.jit
def _combine(panel: jax.Array, coefficients: jax.Array) -> jax.Array:
    return coefficients @ panel


def _clean(panels: list[jax.Array], w: jax.Array) -> jax.Array:
    for _ in range(2):
        for panel in panels:
            w = _project(panel, w)
    return w


def krylov(n: int, *, block: int = 1, panel: int = 48, dtype: Any = None, seed: int = 0, start: Any = None) -> Krylov:
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
    query, _ = _orthonormal(jnp.atleast_2d(jnp.asarray(start, dtype)))
    b = query.shape[0]
    rows = -(-min(panel, n) // b) * b
    empty = (jnp.zeros((rows, n), dtype),)
    return Krylov(empty, np.zeros((0, 0)), np.zeros((b, b)), query, 0, False, seed)


def extend(factorisation: Krylov, product: Product, steps: int) -> Krylov:
    """Grow by ``steps`` block steps (fewer if the space is exhausted): one call of ``product`` [block, n] each.

    Raises:
        ArithmeticError: a product is not finite.
    """
    given, projected, coupling, query, filled, exhausted, seed = factorisation
    panels = list(given)
    panels[-1] = jnp.array(panels[-1], copy=True)
    rows, n = panels[0].shape
    eps = float(jnp.finfo(query.dtype).eps)
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
        w = product(query)
        inner, norm = _inner(query, w)
        w = _clean(panels, w)
        fresh, beta = _orthonormal(w)
        alpha, beta = np.asarray(inner, float), np.asarray(beta, float)
        if not np.isfinite(alpha).all():
            raise ArithmeticError(f"product {filled // b + 1} of the Lanczos run is not finite")
        here = slice(filled, filled + b)
        if filled:
            back = slice(filled - coupling.shape[1], filled)
            t[here, back] = coupling
            t[back, here] = coupling.T
        t[here, here] = (alpha + alpha.T) / 2
        filled += b
        scale = max(scale, float(norm) / b**0.5)
        negligible = 10 * n**0.5 * eps * scale
        if filled + b > n or (np.abs(np.diag(beta)) <= negligible).any():
            fresh, beta, exhausted = _refill(panels, w, negligible, n - filled, [seed, filled])
        query, coupling = fresh, beta
    return Krylov(tuple(panels), t[:filled, :filled], coupling, query, filled, exhausted, seed)


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
        new = _clean(panels, new)
        new = new - (new @ rows.T) @ rows
        if wide > kept:
            new = _orthonormal(new)[0]
    return jnp.concatenate([rows, new]), beta, False


def ritz_pairs(factorisation: Krylov) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All Ritz values (ascending), coefficient columns, and residual norms of a factorisation, on the host."""
    import scipy.linalg

    t, last = factorisation.projected, factorisation.coupling.shape[1]
    if len(t) > 1 and not np.triu(t, 2).any():
        values, vectors = scipy.linalg.eigh_tridiagonal(np.diag(t).copy(), np.diag(t, 1).copy())
    else:
        values, vectors = scipy.linalg.eigh(t)
    return values, vectors, np.linalg.norm(factorisation.coupling @ vectors[-last:], axis=0)


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
    dtype: Any = None,
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
    while not enough(fact, ritz_pairs, lowest, highest, tolerance) and fact.filled < max_products:
        fact = extend(fact, product, min(stride, -(-(max_products - fact.filled) // b)))
    values, coefficients, _ = ritz_pairs(fact)
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


def enough(space: Any, ritz: Callable, lowest: int, highest: int, tolerance: float) -> bool:
    """Whether the wanted residuals are below ``tolerance`` times the largest |value|, or the space is exhausted.

    ``ritz(space)`` gives values (ascending), vectors and residuals; ``space`` knows ``exhausted`` and ``filled``.
    """
    if space.exhausted:
        return True
    if space.filled < lowest + highest + 1:
        return False
    values, _, residuals = ritz(space)
    limit = tolerance * float(np.max(np.abs(values)))
    ends = np.concatenate([residuals[:lowest], residuals[len(residuals) - highest :]])
    return bool((ends <= limit).all())
