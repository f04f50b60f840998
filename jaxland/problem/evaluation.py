"""A Problem's pure functions of (w, data), and the compiled programs of its conveniences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxland.core.energy import derivatives
from jaxland.problem.losses import PyTree
from jaxland.problem.rows import sum_rows

Energy = Callable[[jax.Array, tuple[Any, Any]], jax.Array]


def mean_loss(
    loss: Callable[[PyTree, Any, Any], jax.Array],
    regulariser: Callable[[PyTree], jax.Array] | None,
    unravel: Callable[[jax.Array], PyTree],
    chunk: int | None,
) -> Energy:
    """L(w) = (1/n) sum_i l(w; x_i, y_i) + R(w), the sum in blocks of ``chunk`` rows."""

    def energy(w: jax.Array, data: tuple[Any, Any]) -> jax.Array:
        p = unravel(w)
        x, y = data
        total = sum_rows(lambda xs, ys: jnp.sum(loss(p, xs, ys)), (x, y), chunk)
        value = total / jax.tree.leaves(x)[0].shape[0]
        return value if regulariser is None else value + regulariser(p)

    return energy


def program(name: str, energy: Energy) -> Callable[..., jax.Array]:
    """The jitted "energy", "gradient", "hvp" or "hessian" of an energy."""
    match name:
        case "energy":
            return jax.jit(energy)
        case "gradient":
            return jax.jit(jax.grad(energy))
        case "hvp":
            return jax.jit(lambda w, v, data: derivatives.hvp(lambda u: energy(u, data), w, v))
        case "hessian":
            return jax.jit(lambda w, data: derivatives.hessian(lambda u: energy(u, data), w))
    raise ValueError(f"no program {name!r}")
