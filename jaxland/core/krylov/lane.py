"""Lanczos under one lane: a basis of fixed depth, pure, one product a step, to be jitted and vmapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxland.core.krylov import step
from jaxland.core.krylov.step import Product


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
        basis=jnp.zeros((depth, start.size), dtype),
        diagonal=jnp.zeros((depth,), dtype),
        offdiagonal=jnp.zeros((depth,), dtype),
        query=start / jnp.linalg.norm(start),
        filled=jnp.zeros((), jnp.int32),
    )


def lanczos_step(state: LanczosState, product: Float[Array, " n"]) -> LanczosState:
    """Take in ``product = A @ state.query``. Does nothing once the space is exhausted or the basis full."""
    depth, n = state.basis.shape
    alive = (jnp.vdot(state.query, state.query) > 0.5) & (state.filled < depth)
    at = jnp.minimum(state.filled, depth - 1)
    basis = state.basis.at[at].set(jnp.where(alive, state.query, state.basis[at]))

    def without(w: jax.Array) -> jax.Array:
        along = jnp.dot(basis, w, precision=step.HIGHEST)
        return w - jnp.dot(along, basis, precision=step.HIGHEST)

    took = step.lanczos_step(state.query, product, without)
    diagonal = jnp.where(alive, state.diagonal.at[at].set(took.alpha), state.diagonal)
    largest = jnp.maximum(took.size, jnp.max(jnp.abs(diagonal)))
    live = took.beta > step.rounding(n, product.dtype) * largest
    offdiagonal = state.offdiagonal.at[at].set(jnp.where(live, took.beta, 0))
    return LanczosState(
        basis=basis,
        diagonal=diagonal,
        offdiagonal=jnp.where(alive, offdiagonal, state.offdiagonal),
        query=jnp.where(alive, jnp.where(live, took.following, 0), state.query),
        filled=state.filled + alive.astype(jnp.int32),
    )


def ritz(state: LanczosState) -> Ritz:
    """Eigenpairs of T. ``coefficients[:, j] @ state.basis`` is the j-th Ritz vector."""
    depth = state.diagonal.size
    rows = jnp.arange(depth, dtype=state.filled.dtype)
    inside = rows < state.filled
    bound = 2 * jnp.max(jnp.abs(state.diagonal)) + 2 * jnp.max(state.offdiagonal) + 1
    diagonal = jnp.where(inside, state.diagonal, 2 * bound)
    coupled = jnp.where(rows + 1 < state.filled, state.offdiagonal, 0)[:-1]
    t = jnp.diag(diagonal) + jnp.diag(coupled, 1) + jnp.diag(coupled, -1)
    last = rows == jnp.maximum(state.filled - 1, 0)
    values, vectors, residuals = step.ritz_pairs(t, jnp.where(last, state.offdiagonal, 0))
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


def _filled(product: Product, start: Float[Array, " n"], depth: int) -> LanczosState:
    """``depth`` products, fewer where the space closes."""
    return jax.lax.fori_loop(0, depth, lambda _, s: lanczos_step(s, product(s.query)), lanczos_init(start, depth))


def _lowest(state: LanczosState, found: Ritz) -> Pair:
    vector = jnp.dot(found.coefficients[:, 0], state.basis, precision=step.HIGHEST)
    return Pair(found.values[0], vector / jnp.linalg.norm(vector), found.residuals[0], state.filled)


def sweep(product: Product, start: Float[Array, " n"], depth: int) -> Pair:
    """Lowest eigenpair that ``depth`` products show from a start (not zero); the residual by the recurrence."""
    state = _filled(product, start, depth)
    return _lowest(state, ritz(state))


def lowest_pair(
    product: Product, start: Float[Array, " n"], *, depth: int = 24, restarts: int = 20, tolerance: float = 1e-6
) -> Pair:
    """Lowest eigenpair from a start vector by products only, restarted until its residual is small.

    Args:
        product: ``v[n] -> A v [n]``.
        start: first guess (the previous step's vector, say); not zero. A start without any component along the lowest
            vector never finds it.
        depth: vectors kept; a restart goes on from the best vector.
        restarts: most restarts.
        tolerance: on the residual norm, relative to the largest |eigenvalue| seen.
    """
    depth = max(2, min(depth, start.size))

    def restarted(carry: tuple[Pair, jax.Array]) -> tuple[Pair, jax.Array]:
        best, count = carry
        state = _filled(product, best.vector, depth)
        found = ritz(state)
        top = jnp.max(jnp.where(jnp.isfinite(found.values), jnp.abs(found.values), 0))
        pair = _lowest(state, found)
        relative = pair.residual / jnp.maximum(top, 1e-30)
        return pair._replace(residual=relative, products=best.products + pair.products), count + 1

    def unfinished(carry: tuple[Pair, jax.Array]) -> jax.Array:
        pair, count = carry
        return (count < restarts) & ((count == 0) | (pair.residual > tolerance))

    zero = jnp.sum(start * 0)
    first = Pair(zero, start, zero + jnp.inf, jnp.zeros((), jnp.int32))
    pair, _ = jax.lax.while_loop(unfinished, restarted, (first, jnp.zeros((), jnp.int32)))
    return pair._replace(residual=jnp.linalg.norm(product(pair.vector) - pair.value * pair.vector))


class Quadrature(NamedTuple):
    """Gauss nodes and weights of z . f(A) z / |z|^2 for each start vector z (Golub & Welsch 1969)."""

    nodes: Float[Array, "probes depth"]
    weights: Float[Array, "probes depth"]

    def apply(self, f: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
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

    def advance(_: jax.Array, states: LanczosState) -> LanczosState:
        return jax.vmap(lanczos_step)(states, product(states.query))

    first = jax.vmap(lambda v: lanczos_init(v, depth))(starts)
    found = jax.vmap(ritz)(jax.lax.fori_loop(0, depth, advance, first))
    finite = jnp.isfinite(found.values)
    return jnp.where(finite, found.values, 0), jnp.where(finite, found.coefficients[:, 0] ** 2, 0)
