"""Lanczos quadrature of a curvature: what its spectrum does to given vectors, by products only."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxland.core.krylov import lane
from jaxland.hessian.curvature import Curvature


@partial(jax.jit, static_argnames=("product", "depth"))
def _quadrature(
    product: Callable[..., Float[Array, "k N"]],
    starts: Float[Array, "p N"],
    args: tuple[Float[Array, " N"], PyTree[Array]],
    depth: int,
) -> tuple[Float[Array, "p depth"], Float[Array, "p depth"]]:
    return lane.quadrature(lambda v: product(v, *args), starts, depth)


def quadrature(curvature: Curvature, starts: Float[np.ndarray, "p N"], depth: int) -> lane.Quadrature:
    """Nodes and weights of each start vector after ``depth`` products."""
    args = (curvature.problem.w, curvature.products.data)
    first = jnp.asarray(starts, curvature.problem.dtype)
    return lane.Quadrature(*_quadrature(curvature.products.product, first, args, depth))
