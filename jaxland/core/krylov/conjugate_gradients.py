"""(A + damping I) x = b for many right-hand sides by conjugate gradients with products only.

Columns that are finished are masked; known eigenpairs deflate the system: as a start vector (the solution in their
span) and as a spectral preconditioner, which stays right when they are only approximate.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

Scalar = float | jax.Array


class Deflation(NamedTuple):
    """Approximate eigenpairs of A: values [m], orthonormal vectors in rows [m, n]."""

    values: Float[Array, " m"]
    vectors: Float[Array, "m n"]


class CGState(NamedTuple):
    """Carried state of k systems; ``direction`` [k, n] is what the next step needs the products of.

    Attributes:
        x: iterates.
        residual: b - (A + damping I) x.
        direction: search directions.
        rz: residual . preconditioned residual.
        target: residual norm at which a system is finished.
        active: systems still running.
        negative: systems stopped because direction . (A + damping I) direction <= 0.
        rayleigh: lowest direction . A direction / |direction|^2 seen: an upper bound of the lowest eigenvalue of A.
        iterations: steps each system took.
    """

    x: Float[Array, "k n"]
    residual: Float[Array, "k n"]
    direction: Float[Array, "k n"]
    rz: Float[Array, " k"]
    target: Float[Array, " k"]
    active: Bool[Array, " k"]
    negative: Bool[Array, " k"]
    rayleigh: Float[Array, " k"]
    iterations: Int[Array, " k"]


class Solution(NamedTuple):
    """What ``conjugate_gradients`` returns.

    Attributes:
        x: solutions [k, n]; the best iterate where ``converged`` is false.
        residuals: |b - (A + damping I) x| / |b|, recomputed from x.
        iterations: steps each system took.
        converged: relative residual within the tolerance.
        negative: negative curvature was met: A + damping I is not positive definite.
        rayleigh: lowest Rayleigh quotient of A seen; a damping above minus the lowest eigenvalue cures ``negative``.
    """

    x: Float[Array, "k n"]
    residuals: Float[Array, " k"]
    iterations: Int[Array, " k"]
    converged: Bool[Array, " k"]
    negative: Bool[Array, " k"]
    rayleigh: Float[Array, " k"]


def deflated_start(b: Float[Array, "k n"], damping: Scalar, modes: Deflation) -> Float[Array, "k n"]:
    """Solution within the span of the modes."""
    return ((b @ modes.vectors.T) / (modes.values + damping)[None]) @ modes.vectors


def preconditioned(r: Float[Array, "k n"], damping: Scalar, modes: Deflation | None) -> Float[Array, "k n"]:
    """Inverse of A + damping I in the span of the modes, 1 / (lowest mode + damping) outside it."""
    if modes is None:
        return r
    edge = jnp.min(modes.values) + damping
    return r + ((r @ modes.vectors.T) * (edge / (modes.values + damping) - 1)[None]) @ modes.vectors


def cg_init(
    b: Float[Array, "k n"],
    start: Float[Array, "k n"],
    product: Float[Array, "k n"],
    damping: Scalar,
    tolerance: Scalar,
    modes: Deflation | None = None,
) -> CGState:
    """State before the first step; ``product`` is A times ``start``."""
    residual = b - product - damping * start
    target = tolerance * jnp.linalg.norm(b, axis=1)
    z = preconditioned(residual, damping, modes)
    k = b.shape[0]
    return CGState(
        x=start,
        residual=residual,
        direction=z,
        rz=jnp.sum(residual * z, axis=1),
        target=target,
        active=jnp.linalg.norm(residual, axis=1) > target,
        negative=jnp.zeros((k,), bool),
        rayleigh=jnp.full((k,), jnp.inf, b.dtype),
        iterations=jnp.zeros((k,), jnp.int32),
    )


def cg_step(state: CGState, product: Float[Array, "k n"], damping: Scalar, modes: Deflation | None = None) -> CGState:
    """Take in ``product`` = A times ``state.direction`` (Hestenes & Stiefel 1952, preconditioned)."""
    d = state.direction
    length = jnp.sum(d * d, axis=1)
    bare = jnp.sum(d * product, axis=1)
    curvature = bare + damping * length
    usable = length > 0
    negative = state.active & usable & (curvature <= 0)
    move = state.active & usable & (curvature > 0) & jnp.isfinite(curvature)
    seen = jnp.where(state.active & usable, bare / jnp.where(usable, length, 1), jnp.inf)
    alpha = jnp.where(move, state.rz / jnp.where(move, curvature, 1), 0)[:, None]
    x = state.x + alpha * d
    residual = state.residual - alpha * (product + damping * d)
    z = preconditioned(residual, damping, modes)
    rz = jnp.sum(residual * z, axis=1)
    ratio = jnp.where(move, rz / jnp.where(state.rz != 0, state.rz, 1), 0)[:, None]
    active = move & (jnp.linalg.norm(residual, axis=1) > state.target)
    return CGState(
        x=x,
        residual=residual,
        direction=jnp.where(active[:, None], z + ratio * d, 0),
        rz=jnp.where(move, rz, state.rz),
        target=state.target,
        active=active,
        negative=state.negative | negative,
        rayleigh=jnp.minimum(state.rayleigh, seen),
        iterations=state.iterations + move.astype(jnp.int32),
    )


def cg_done(state: CGState) -> Bool[Array, ""]:
    """True when no system runs any more."""
    return ~jnp.any(state.active)


@partial(jax.jit, static_argnames=("product", "max_iterations"))
def conjugate_gradients(
    product: Callable[..., jax.Array],
    b: Float[Array, "k n"],
    args: tuple[PyTree, ...] = (),
    *,
    damping: Scalar = 0.0,
    tolerance: Scalar = 1e-6,
    max_iterations: int = 1000,
    modes: Deflation | None = None,
) -> Solution:
    """Solve (A + damping I) x = b for every row b.

    Args:
        product: ``product(V[k, n], *args) -> V A [k, n]``, A symmetric; the same function object compiles once.
        b: right-hand sides.
        args: arrays the product needs (parameters, data): jit arguments, not closures.
        damping: added to the diagonal.
        tolerance: relative residual at which a system is finished.
        max_iterations: most steps.
        modes: eigenpairs of A to deflate by; values + damping must be positive.
    """
    start = jnp.zeros_like(b) if modes is None else deflated_start(b, damping, modes)
    image = jnp.zeros_like(b) if modes is None else product(start, *args)
    state = cg_init(b, start, image, damping, tolerance, modes)

    def advance(carry: tuple[CGState, jax.Array]) -> tuple[CGState, jax.Array]:
        s, count = carry
        return cg_step(s, product(s.direction, *args), damping, modes), count + 1

    state, _ = jax.lax.while_loop(
        lambda c: ~cg_done(c[0]) & (c[1] < max_iterations), advance, (state, jnp.zeros((), jnp.int32))
    )
    size = jnp.linalg.norm(b, axis=1)
    error = jnp.linalg.norm(b - product(state.x, *args) - damping * state.x, axis=1)
    relative = error / jnp.where(size > 0, size, 1)
    return Solution(
        x=state.x,
        residuals=relative,
        iterations=state.iterations,
        converged=relative <= 2 * tolerance,
        negative=state.negative,
        rayleigh=state.rayleigh,
    )
