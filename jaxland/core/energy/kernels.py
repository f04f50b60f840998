"""What solvers evaluate: energy, gradient and Hessian as pure functions of (w, data), by the fastest exact way known.

``autodiff`` serves any energy, ``closed_form`` one whose Hessian is known, ``one_hidden`` (next door) dense networks
with one hidden layer, ``core.pallas`` small networks on GPUs and TPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxland.core.energy import derivatives


class Values(NamedTuple):
    """Energy and gradient; with a leading axis of images along a band."""

    energy: Float[Array, "*images"]
    gradient: Float[Array, "*images N"]


class Curved(NamedTuple):
    """Energy, gradient and Hessian."""

    energy: Float[Array, ""]
    gradient: Float[Array, " N"]
    hessian: Float[Array, "N N"]


class Kernel(NamedTuple):
    """Pure functions of (w[N], data), and the data they take (a jit argument, never a closure).

    Attributes:
        first: ``(w, data) -> Values``.
        second: ``(w, data) -> Curved``.
        product: ``(w, v, data) -> H v``.
        data: arrays of the functions' own layout.
        name: how it is computed, for reports.
        hessian_cost: operations of a Hessian, so that callers can choose between exact Hessians and products.
        dense: where ``first`` is the dense Pallas kernel its shape, from which whole solvers are made.
    """

    first: Callable[[jax.Array, PyTree], Values]
    second: Callable[[jax.Array, PyTree], Curved]
    product: Callable[[jax.Array, jax.Array, PyTree], jax.Array]
    data: PyTree
    name: str
    hessian_cost: float
    dense: Hashable | None = None


def autodiff(energy: Callable[[jax.Array, PyTree], jax.Array], data: PyTree, n: int, gradient_cost: float) -> Kernel:
    """Kernel of any energy by automatic differentiation; Hessian by n forward-over-reverse products."""

    def first(w: Float[Array, " N"], data: PyTree) -> Values:
        return Values(*jax.value_and_grad(energy)(w, data))

    def second(w: Float[Array, " N"], data: PyTree) -> Curved:
        value, gradient = jax.value_and_grad(energy)(w, data)
        return Curved(value, gradient, derivatives.hessian(lambda u: energy(u, data), w))

    def product(w: Float[Array, " N"], v: Float[Array, " N"], data: PyTree) -> Float[Array, " N"]:
        return derivatives.hvp(lambda u: energy(u, data), w, v)

    return Kernel(
        first=first,
        second=second,
        product=product,
        data=data,
        name="autodiff",
        hessian_cost=3.0 * n * gradient_cost,
    )


def closed_form(
    second: Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]], data: PyTree, n: int
) -> Kernel:
    """Kernel of an energy whose Hessian is known in closed form, ``second(w) -> (energy, gradient, Hessian)``."""
    first, both, product = _closed_functions(second)
    return Kernel(
        first=first,
        second=both,
        product=product,
        data=data,
        name="closed form",
        hessian_cost=10.0 * n * n,
    )


@lru_cache(maxsize=64)
def _closed_functions(second: Callable) -> tuple[Callable, Callable, Callable]:
    def values(w: jax.Array, data: PyTree) -> Values:
        return Values(*second(w)[:2])  # XLA drops the Hessian that nobody reads

    def product(w: jax.Array, v: jax.Array, data: PyTree) -> jax.Array:
        return jax.jvp(lambda u: second(u)[1], (w,), (v,))[1]

    return values, lambda w, data: Curved(*second(w)), product


def beside(
    base: Kernel,
    first: Callable[[jax.Array, PyTree], Values],
    product: Callable[[jax.Array, jax.Array, PyTree], jax.Array],
    data: PyTree,
    name: str,
    dense: Hashable | None = None,
) -> Kernel:
    """``base`` with gradient and product by other functions of data of their own; the exact Hessian stays its own."""
    own_first, own_product, second = _beside_functions(first, product, base.second)
    return Kernel(
        first=own_first,
        second=second,
        product=own_product,
        data=(data, base.data),
        name=f"{name}; {base.name}",
        hessian_cost=base.hessian_cost,
        dense=dense,
    )


@lru_cache(maxsize=64)
def _beside_functions(
    first: Callable[..., Values], product: Callable[..., jax.Array], second: Callable[..., Curved]
) -> tuple[Callable[..., Values], Callable[..., jax.Array], Callable[..., Curved]]:
    return (
        lambda w, data: first(w, data[0]),
        lambda w, v, data: product(w, v, data[0]),
        lambda w, data: second(w, data[1]),
    )


def coarse_far(fine: Kernel, coarse: Kernel, near: float) -> Kernel:
    """``fine``, with Hessians over fewer rows wherever the rms gradient is above ``near``.

    Energy and gradient are always those of all rows, so stationary points are too; far from them a sampled Hessian
    points the way (subsampled Newton), near them and in an audit the Hessian is whole.

    Args:
        fine: over all rows.
        coarse: the same energy over some of them.
        near: rms gradient.
    """
    first, product, second = _coarse_functions(fine.first, fine.product, fine.second, coarse.second, near)
    return Kernel(
        first=first,
        second=second,
        product=product,
        data=(fine.data, coarse.data),
        name=fine.name,
        hessian_cost=coarse.hessian_cost,
        dense=fine.dense,
    )


@lru_cache(maxsize=64)
def _coarse_functions(
    first: Callable[..., Values],
    product: Callable[..., jax.Array],
    second: Callable[..., Curved],
    coarse: Callable[..., Curved],
    near: float,
) -> tuple[Callable[..., Values], Callable[..., jax.Array], Callable[..., Curved]]:
    def curved(w: jax.Array, data: PyTree) -> Curved:
        values = first(w, data[0])
        far = jnp.mean(values.gradient * values.gradient) > near * near
        hessian = jax.lax.cond(
            far, lambda: coarse(w, data[1]).hessian, lambda: second(w, data[0]).hessian.astype(w.dtype)
        )
        return Curved(values.energy, values.gradient, hessian)

    return lambda w, data: first(w, data[0]), lambda w, v, data: product(w, v, data[0]), curved


LIFTED = 1e4


def lifted(kernel: Kernel, zero_space: Callable[[jax.Array], jax.Array]) -> Kernel:
    """The kernel with the zero modes of a continuous symmetry lifted to the eigenvalue ``LIFTED`` in its Hessians.

    H' = (I - Z Z^T) H (I - Z Z^T) + LIFTED Z Z^T: nobody follows, counts or divides by a rigid motion then.
    """
    second, product = _lifted_functions(kernel.second, kernel.product, zero_space)
    return kernel._replace(second=second, product=product)


@lru_cache(maxsize=64)
def _lifted_functions(second: Callable, product: Callable, zero_space: Callable) -> tuple[Callable, Callable]:
    def lifted_second(w: jax.Array, data: PyTree) -> Curved:
        energy, gradient, hessian = second(w, data)
        z = zero_space(w)
        hessian = hessian - z @ (z.T @ hessian)
        hessian = hessian - (hessian @ z) @ z.T + LIFTED * (z @ z.T)
        return Curved(energy, gradient, 0.5 * (hessian + hessian.T))

    def lifted_product(w: jax.Array, v: jax.Array, data: PyTree) -> jax.Array:
        z = zero_space(w)
        along = z.T @ v
        r = product(w, v - z @ along, data)
        return r - z @ (z.T @ r) + LIFTED * (z @ along)

    return lifted_second, lifted_product
