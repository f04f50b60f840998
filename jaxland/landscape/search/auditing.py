"""What a stationary point is audited by: energy, gradient and Hessian spectrum, evaluated once more."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxland.core.energy.kernels import LIFTED
from jaxland.core.krylov import lane
from jaxland.core.solvers import quench


class Audit(NamedTuple):
    """What an audit evaluates: the fields of ``Point`` but its coordinates, scalars and the mode [N]."""

    energy: jax.Array
    rms: jax.Array
    negative: jax.Array
    flat: jax.Array
    lowest: jax.Array
    log_product: jax.Array
    mode: jax.Array


@lru_cache(maxsize=32)
def exact_audit(second: Callable, zero: float) -> Callable:
    """``(x, data) -> Audit`` by the whole Hessian; eigenvalues within +-zero are flat."""

    def audit(x: jax.Array, data: Any) -> Audit:
        values = second(x, data)
        modes, basis = jnp.linalg.eigh(values.hessian)
        solid = (modes > zero) & (jnp.abs(modes - LIFTED) > 1e-6 * LIFTED)
        log_product = jnp.sum(jnp.log(jnp.where(solid, modes, 1.0)))
        lowest = jnp.min(jnp.where(jnp.abs(modes) > zero, modes, jnp.inf))
        return Audit(
            energy=values.energy,
            rms=quench.rms(values.gradient),
            negative=jnp.sum(modes < -zero),
            flat=jnp.sum(jnp.abs(modes) <= zero),
            lowest=lowest,
            log_product=log_product,
            mode=basis[:, 0],
        )

    return audit


@lru_cache(maxsize=32)
def newton_step(first: Callable, second: Callable, zero: float) -> Callable:
    """``(x, data) -> x [N]`` after one Newton step across all modes that are not flat, where it helps."""

    def step(x: jax.Array, data: Any) -> jax.Array:
        values = second(x, data)
        modes, basis = jnp.linalg.eigh(values.hessian)
        slope = basis.T @ values.gradient
        solid = jnp.abs(modes) > zero
        ahead = x - basis @ jnp.where(solid, slope / jnp.where(solid, modes, 1.0), 0.0)
        return jnp.where(quench.rms(first(ahead, data).gradient) < quench.rms(values.gradient), ahead, x)

    return step


@lru_cache(maxsize=32)
def inverse_curvature(second: Callable, least: float) -> Callable:
    """``(x, data) -> |H|^-1 [N, N]``, eigenvalues taken for ``least`` at least: what a BFGS quench sets off with.

    It takes tens of gradients instead of the hundreds in which it would learn the curvature by itself.
    """

    def inverse(x: jax.Array, data: Any) -> jax.Array:
        modes, basis = jnp.linalg.eigh(second(x, data).hessian)
        return (basis / jnp.maximum(jnp.abs(modes), least)[None]) @ basis.T

    return inverse


@lru_cache(maxsize=32)
def lanczos_audit(first: Callable, product: Callable, zero: float, steps: int) -> Callable:
    """The same where a Hessian is too large: the two lowest eigenvalues by Lanczos steps."""

    def audit(x: jax.Array, data: Any) -> Audit:
        values = first(x, data)
        n = x.shape[0]
        start = jax.random.normal(jax.random.key(0), (n,), x.dtype)

        def apply(v: jax.Array) -> jax.Array:
            return product(x, v, data)

        low, v, _, _ = lane.sweep(apply, start, steps)
        # The second lowest, with the first lifted out of the way.
        second = lane.sweep(lambda u: apply(u) + (jnp.abs(low) * 2 + 1.0) * v * (v @ u), start, steps).value
        return Audit(
            energy=values.energy,
            rms=quench.rms(values.gradient),
            negative=(low < -zero).astype(jnp.int32) + (second < -zero).astype(jnp.int32),
            flat=(jnp.abs(low) <= zero).astype(jnp.int32),
            lowest=low,
            log_product=jnp.asarray(jnp.nan, x.dtype),
            mode=v,
        )

    return audit
