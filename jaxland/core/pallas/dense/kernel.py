"""The energy of a problem by the dense programs."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float

from jaxland.core.energy.kernels import Kernel, Values, beside
from jaxland.core.pallas.dense.programs import gradients, hessian_products
from jaxland.core.pallas.dense.shape import Shape, lay_out

Data = tuple[jax.Array, jax.Array]


def _merged(batched: bool, size: int, a: jax.Array) -> jax.Array:
    """[size, B, N] as [size * B, N], an array that is not batched repeated."""
    a = a if batched else jnp.broadcast_to(a, (size, *a.shape))
    return a.reshape(-1, a.shape[-1])


@lru_cache(maxsize=64)
def functions(shape: Shape) -> tuple[Callable[..., Values], Callable[..., jax.Array]]:
    """``first(w, data) -> Values`` and ``product(w, v, data) -> [N]``, data from ``lay_out``.

    Under ``vmap``, however deep, all networks go into one call of the kernel.
    """

    @custom_vmap
    def firsts(w: jax.Array, data: Data) -> Values:
        loss, gradient = gradients(shape, w, data)
        return Values(loss + shape.lam * jnp.sum(w * w, axis=1), gradient + 2.0 * shape.lam * w)

    @custom_vmap
    def products_of(w: jax.Array, v: jax.Array, data: Data) -> jax.Array:
        return hessian_products(shape, w, v, data) + 2.0 * shape.lam * v

    @firsts.def_vmap
    def _(size: int, batched: Any, w: jax.Array, data: Data) -> tuple[Values, Values]:
        _one_set_of_points(batched[1])
        found = firsts(_merged(batched[0], size, w), data)
        found = jax.tree.map(lambda a: a.reshape(size, -1, *a.shape[1:]), found)
        return found, jax.tree.map(lambda _: True, found)

    @products_of.def_vmap
    def _(size: int, batched: Any, w: jax.Array, v: jax.Array, data: Data) -> tuple[jax.Array, bool]:
        _one_set_of_points(batched[2])
        found = products_of(_merged(batched[0], size, w), _merged(batched[1], size, v), data)
        return found.reshape(size, -1, found.shape[1]), True

    def first(w: Float[Array, " N"], data: Data) -> Values:
        found = firsts(w[None], data)
        return Values(found.energy[0], found.gradient[0])

    def product(w: Float[Array, " N"], v: Float[Array, " N"], data: Data) -> Float[Array, " N"]:
        return products_of(w[None], v[None], data)[0]

    return first, product


def _one_set_of_points(batched: Any) -> None:
    if any(jax.tree.leaves(batched)):
        raise NotImplementedError("the dense kernel evaluates many networks on one set of points, not on many")


def dense_kernel(shape: Shape, base: Kernel, x: Float[Array, "n d"], y: Array) -> Kernel:
    """``base`` with gradient and Hessian-vector product by this kernel; the exact Hessian stays the base kernel's.

    Args:
        shape: from ``choose``.
        base: XLA's kernel of the same energy.
        x: inputs [n, d]; y: labels [n] or targets [n, c].
    """
    name = f"fused, a thread a network ({shape.target})"
    return beside(base, *functions(shape), lay_out(shape, x, y), name, dense=shape)
