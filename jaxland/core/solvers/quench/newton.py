"""Trust-region Newton with exact Hessians."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxland.core.energy.kernels import Curved
from jaxland.core.solvers.quench.trial import Minimum, Start, allowed_rise, rms, verdict


def trust_region_step(
    values: Float[Array, " N"], gradient: Float[Array, " N"], radius: jax.Array
) -> Float[Array, " N"]:
    """Minimiser of g.s + s.diag(values).s/2 over |s| <= radius, in the Hessian's eigenbasis, values ascending.

    Solves the secular equation |g / (values + mu)| = radius by safeguarded Newton iterations (More & Sorensen 1983).
    """
    lowest = values[0]
    tiny = jnp.finfo(gradient.dtype).tiny
    norm = jnp.sqrt(gradient @ gradient)
    low = jnp.maximum(0.0, -lowest) * (1 + 1e-12) + 1e-14 * jnp.where(lowest <= 0, jnp.max(jnp.abs(values)), 0.0)
    high = jnp.maximum(low, norm / radius - lowest) + tiny

    def length(mu: jax.Array) -> jax.Array:
        q = gradient / (values + mu)
        return jnp.sqrt(q @ q)

    inside = (lowest > 0) & (length(jnp.where(lowest > 0, 0.0, 1.0 - lowest)) <= radius)

    def refine(_: jax.Array, carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        mu, low, high = carry
        shifted = values + mu
        q = gradient / shifted
        square = q @ q + tiny
        reach = jnp.sqrt(square)
        low, high = jnp.where(reach > radius, mu, low), jnp.where(reach > radius, high, mu)
        newton = mu + (reach / radius - 1.0) * square / (q @ (q / shifted) + tiny)
        return jnp.clip(newton, low, high), low, high

    # The lowest mode alone bounds mu from below; from there Newton's iterations approach the root monotonically.
    low = jnp.maximum(low, jnp.abs(gradient[0]) / radius - lowest)
    mu, _, _ = jax.lax.fori_loop(0, 8, refine, (low, low, jnp.maximum(low, high)))
    step = -gradient / (values + jnp.where(inside, 0.0, mu))
    reach = jnp.sqrt(step @ step)
    return step * jnp.minimum(1.0, radius / (reach + tiny))


class NewtonState(NamedTuple):
    """What a lane carries.

    Attributes:
        x: last accepted point.
        energy: at ``x``; inf before the first evaluation.
        gradient: at ``x``.
        hessian: at ``x``.
        step: from ``x`` to the trial point.
        predicted: change of the energy that the quadratic model expects of ``step``.
        radius: of the trust region.
        evaluations: so far.
        status: see ``protocol.Status``.
    """

    x: Float[Array, " N"]
    energy: Float[Array, ""]
    gradient: Float[Array, " N"]
    hessian: Float[Array, "N N"]
    step: Float[Array, " N"]
    predicted: Float[Array, ""]
    radius: Float[Array, ""]
    evaluations: Int[Array, ""]
    status: Int[Array, ""]


@dataclass(frozen=True)
class Newton:
    """Trust-region Newton with exact Hessians (evaluate with ``Kernel.second``): ends quadratically, leaves saddles.

    Ends converged when the rms gradient is at most ``tol`` and no Hessian eigenvalue lies below ``-zero``; at a
    saddle the trust-region step follows the negative mode down.

    Attributes:
        tol: rms gradient of a minimum.
        max_evaluations: at which the lane gives up.
        radius, max_radius: first and largest radius of the trust region (the start's ``max_step`` bounds the first).
        zero: Hessian eigenvalues above ``-zero`` are not negative.
    """

    tol: float = 1e-9
    max_evaluations: int = 500
    radius: float = 0.3
    max_radius: float = 10.0
    zero: float = 1e-8

    def init(self, item: Start) -> NewtonState:
        """Start at ``item.x`` [N]."""
        n, dtype = item.x.shape[0], item.x.dtype
        zero = jnp.zeros((), jnp.int32)
        return NewtonState(
            x=jnp.asarray(item.x),
            energy=jnp.asarray(jnp.inf, dtype),
            gradient=jnp.zeros(n, dtype),
            hessian=jnp.eye(n, dtype=dtype),
            step=jnp.zeros(n, dtype),
            predicted=-jnp.ones((), dtype),
            radius=jnp.minimum(self.radius, item.max_step).astype(dtype),
            evaluations=zero,
            status=zero,
        )

    def point(self, state: NewtonState) -> Float[Array, " N"]:
        """Trial point."""
        return state.x + state.step

    def step(self, s: NewtonState, values: Curved) -> NewtonState:
        """Accept or reject the trial, adapt the radius, diagonalise, propose the next."""
        start = s.evaluations == 0
        finite = jnp.isfinite(values.energy) & jnp.all(jnp.isfinite(values.hessian))
        drop = values.energy - s.energy
        noise = allowed_rise(s.energy)
        ratio = jnp.where(finite, drop / jnp.minimum(s.predicted, -jnp.finfo(s.x.dtype).tiny), -1.0)
        # Below rounding noise of the energy the gradient decides.
        flat = jnp.abs(s.predicted) < 10 * noise
        accept = start | jnp.where(flat, finite & (drop <= 10 * noise), ratio > 1e-4)
        length = jnp.sqrt(s.step @ s.step)
        radius = jnp.where(~flat & (ratio < 0.25), 0.25 * length, s.radius)
        radius = jnp.where((ratio > 0.75) & (length > 0.9 * s.radius), 2.0 * s.radius, radius)
        radius = jnp.where(start, s.radius, jnp.minimum(radius, self.max_radius)).astype(s.x.dtype)

        x = jnp.where(accept, s.x + s.step, s.x)
        energy = jnp.where(accept, values.energy, s.energy)
        gradient = jnp.where(accept, values.gradient, s.gradient)
        hessian = jnp.where(accept, values.hessian, s.hessian)
        modes, basis = jnp.linalg.eigh(jnp.where(jnp.isfinite(hessian), hessian, 0.0))
        slope = basis.T @ gradient
        # A saddle met exactly: push off along the lowest mode so that the step can follow it.
        push = jnp.where((modes[0] < -self.zero) & (jnp.abs(slope[0]) < 1e-8), 1e-6, 0.0)
        move = trust_region_step(modes, slope.at[0].add(push), radius)
        predicted = slope @ move + 0.5 * jnp.sum(modes * move * move)
        evaluations = s.evaluations + 1
        at_rest = rms(gradient) <= self.tol
        status = verdict(
            finite | ~start,
            jnp.where(at_rest & (modes[0] >= -self.zero), 0.0, jnp.inf),
            self.tol,
            evaluations,
            self.max_evaluations,
            radius < 1e-13,
        )
        return NewtonState(
            x=x,
            energy=energy,
            gradient=gradient,
            hessian=hessian,
            step=basis @ move,
            predicted=predicted,
            radius=radius,
            evaluations=evaluations,
            status=status,
        )

    def status(self, state: NewtonState) -> Int[Array, ""]:
        """See ``protocol.Status``."""
        return state.status

    def result(self, state: NewtonState) -> Minimum:
        """Last accepted point."""
        return Minimum(state.x, state.energy, rms(state.gradient), state.evaluations)
