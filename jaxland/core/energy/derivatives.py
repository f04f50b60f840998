"""Derivatives of a loss: Hessian- and Gauss-Newton-vector products, exact Hessians, gradients of single examples."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree


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


def hessian_products(
    f: Callable[[jax.Array], jax.Array], w: Float[Array, " N"], vectors: Float[Array, "k N"]
) -> Float[Array, "k N"]:
    """Hessian of f at w times each row of ``vectors``; the gradient is linearised once for all of them."""
    return jax.vmap(jax.linearize(jax.grad(f), w)[1])(vectors)


def gauss_newton_products(
    outputs: Callable[[jax.Array], jax.Array],
    loss: Callable[[jax.Array], jax.Array],
    w: Float[Array, " N"],
    vectors: Float[Array, "k N"],
) -> Float[Array, "k N"]:
    """``gauss_newton_vp`` for each row of ``vectors``; the outputs are linearised once for all of them."""
    z, push = jax.linearize(outputs, w)
    pull = jax.linear_transpose(push, w)
    middle = jax.linearize(jax.grad(loss), z)[1]
    return jax.vmap(lambda v: pull(middle(push(v)))[0])(vectors)


def example_gradients(
    losses: Callable[[jax.Array, PyTree, PyTree], jax.Array], w: Float[Array, " N"], x: PyTree, y: PyTree
) -> Float[Array, "n N"]:
    """Gradient of each example's loss: n x N numbers, so give it a block of rows and reduce."""

    def one(xi: PyTree, yi: PyTree) -> jax.Array:
        row = jax.tree.map(lambda a: a[None], (xi, yi))
        return jax.grad(lambda u: losses(u, *row)[0])(w)

    return jax.vmap(one)(x, y)


def example_products(
    losses: Callable[[jax.Array], jax.Array], w: Float[Array, " N"], vectors: Float[Array, "k N"]
) -> Float[Array, "n k"]:
    """g_i . v_k for every example i and vector k by forward mode: the gradients g_i themselves are never formed."""
    return jax.vmap(jax.linearize(losses, w)[1])(vectors).T


def example_sums(
    losses: Callable[[jax.Array], jax.Array], w: Float[Array, " N"], weights: Float[Array, "k n"]
) -> Float[Array, "k N"]:
    """sum_i c_ki g_i for every row k of ``weights`` by reverse mode: the g_i themselves are never formed."""
    return jax.vmap(lambda c: jax.vjp(losses, w)[1](c)[0])(weights)
