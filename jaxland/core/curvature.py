"""Derivatives of a loss: sums over rows in chunks, Hessian- and Gauss-Newton-vector products, exact Hessians."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

PyTree = Any


def sum_rows(f: Callable[..., PyTree], data: tuple[Any, ...], chunk: int | None) -> PyTree:
    """Sum of ``f(*rows)`` over blocks of at most ``chunk`` rows; ``f`` must itself sum over the rows it is given.

    Blocks are evaluated one after another under ``jax.checkpoint``, so that derivatives of the sum keep no more than
    one block of intermediate values.
    """
    n = jax.tree.leaves(data)[0].shape[0]
    if chunk is None or chunk >= n:
        return f(*data)
    full = n // chunk
    blocks = jax.tree.map(lambda a: a[: full * chunk].reshape((full, chunk) + a.shape[1:]), data)
    step = jax.checkpoint(lambda rows: f(*rows))
    first = jax.tree.map(jnp.zeros_like, jax.eval_shape(step, jax.tree.map(lambda a: a[0], blocks)))
    total, _ = jax.lax.scan(lambda acc, rows: (jax.tree.map(jnp.add, acc, step(rows)), None), first, blocks)
    if full * chunk < n:
        rest = step(jax.tree.map(lambda a: a[full * chunk :], data))
        total = jax.tree.map(jnp.add, total, rest)
    return total


def hvp(f: Callable[[jax.Array], jax.Array], w: Float[Array, " N"], v: Float[Array, " N"]) -> Float[Array, " N"]:
    """Hessian of f at w times v, forward over reverse: about two gradients."""
    return jax.jvp(jax.grad(f), (w,), (v,))[1]


def hessian(f: Callable[[jax.Array], jax.Array], w: Float[Array, " N"]) -> Float[Array, "N N"]:
    """Exact Hessian, symmetrised; N Hessian-vector products in one batch."""
    h = jax.vmap(lambda v: hvp(f, w, v))(jnp.eye(w.size, dtype=w.dtype))
    return (h + h.T) / 2


def gauss_newton_vp(
    outputs: Callable[[jax.Array], jax.Array],
    loss: Callable[[jax.Array], jax.Array],
    w: Float[Array, " N"],
    v: Float[Array, " N"],
) -> Float[Array, " N"]:
    """Generalised Gauss-Newton matrix J^T (d2 loss / d outputs2) J times v (Schraudolph 2002).

    Args:
        outputs: ``w -> model outputs``.
        loss: ``outputs -> scalar``, convex for a positive semidefinite product.
        w: parameters.
        v: vector.
    """
    z, jv = jax.jvp(outputs, (w,), (v,))
    hjv = jax.jvp(jax.grad(loss), (z,), (jv,))[1]
    return jax.vjp(outputs, w)[1](hjv)[0]
