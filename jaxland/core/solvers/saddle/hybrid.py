"""Hybrid eigenvector-following: the lowest mode by a few products, L-BFGS across it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxland.core.energy.kernels import Kernel, Values
from jaxland.core.krylov import lane
from jaxland.core.solvers.protocol import Status
from jaxland.core.solvers.quench.trial import rms
from jaxland.core.solvers.saddle.following import Guess, Saddle, following_step
from jaxland.core.solvers.secant import History, two_loop


class Softest(NamedTuple):
    """Evaluation of the hybrid search.

    Attributes:
        energy, gradient: at the point.
        eigenvalue, mode: lowest eigenpair found there from the last one.
        residual: of that pair, |H v - value v|.
    """

    energy: Float[Array, ""]
    gradient: Float[Array, " N"]
    eigenvalue: Float[Array, ""]
    mode: Float[Array, " N"]
    residual: Float[Array, ""]


Evaluate = Callable[[Guess, PyTree], Softest]


@lru_cache(maxsize=64)
def softest(
    first: Callable[[jax.Array, PyTree], Values],
    product: Callable[[jax.Array, jax.Array, PyTree], jax.Array],
    steps: int,
) -> Evaluate:
    """Evaluation of ``HybridFollowing``: gradient, and ``steps`` Hessian-vector products from the last mode."""

    def evaluate(point: Guess, data: PyTree) -> Softest:
        x = jnp.asarray(point.x)
        values = first(x, data)
        pair = lane.sweep(lambda v: product(x, v, data), jnp.asarray(point.v), steps)
        return Softest(values.energy, values.gradient, pair.value, pair.vector, pair.residual)

    return evaluate


def softest_of(kernel: Kernel, steps: int = 12) -> Evaluate:
    """``softest`` for a kernel."""
    return softest(kernel.first, kernel.product, steps)


class HybridState(NamedTuple):
    """What a lane carries.

    Attributes:
        x: last point.
        energy: at ``x``; inf before the first evaluation.
        gradient: at ``x``.
        mode: lowest mode found there, of unit length: the next Lanczos run starts from it.
        eigenvalue: of ``mode``.
        history: secant pairs [m, N] of the motion across the mode.
        step: from ``x`` to the trial point.
        radius: longest move along the mode allowed now.
        evaluations: so far.
        status: see ``protocol.Status``.
    """

    x: Float[Array, " N"]
    energy: Float[Array, ""]
    gradient: Float[Array, " N"]
    mode: Float[Array, " N"]
    eigenvalue: Float[Array, ""]
    history: History
    step: Float[Array, " N"]
    radius: Float[Array, ""]
    evaluations: Int[Array, ""]
    status: Int[Array, ""]


@dataclass(frozen=True)
class HybridFollowing:
    """For N too large for exact Hessians: uphill along the lowest mode, L-BFGS in the subspace orthogonal to it.

    The mode comes from a few Lanczos steps started from the last one; evaluate with ``softest_of(kernel)``. The index
    of what it returns must still be verified, since a second negative mode is not seen.

    Attributes:
        tol: rms gradient of a stationary point.
        max_evaluations: at which the lane gives up.
        radius, max_radius: first and largest move along the mode; the latter bounds moves across it too.
        history: secant pairs kept.
    """

    tol: float = 1e-9
    max_evaluations: int = 1000
    radius: float = 0.2
    max_radius: float = 0.5
    history: int = 8

    def init(self, item: Guess) -> HybridState:
        """Start at item.x; item.v = 0 starts Lanczos from a fixed direction."""
        n, dtype = item.x.shape[0], item.x.dtype
        zero = jnp.zeros((), jnp.int32)
        fixed = jnp.cos(1.0 + jnp.arange(n, dtype=dtype) ** 2)
        length = jnp.sqrt(item.v @ item.v)
        mode = jnp.where(length > 0, item.v / jnp.where(length > 0, length, 1.0), fixed / jnp.sqrt(fixed @ fixed))
        nothing = jnp.zeros(n, dtype)
        one = jnp.ones((), dtype)
        return HybridState(
            x=jnp.asarray(item.x),
            energy=jnp.asarray(jnp.inf, dtype),
            gradient=nothing,
            mode=mode,
            eigenvalue=one,
            history=History.empty(self.history, n, dtype),
            step=nothing,
            radius=self.radius * one,
            evaluations=zero,
            status=zero,
        )

    def point(self, state: HybridState) -> Guess:
        """Trial point and the mode to start from."""
        return Guess(state.x + state.step, state.mode)

    def step(self, s: HybridState, values: Softest) -> HybridState:
        """Move, adapt the uphill radius by the predicted eigenvalue, push the orthogonal history."""
        start = s.evaluations == 0
        finite = (
            jnp.isfinite(values.energy) & jnp.all(jnp.isfinite(values.gradient)) & jnp.isfinite(values.eigenvalue)
        )
        mode = jnp.where(finite, values.mode, s.mode)
        mode = mode * jnp.where(mode @ s.mode < 0, -1.0, 1.0)
        x = jnp.where(finite, s.x + s.step, s.x)
        g = jnp.where(finite, values.gradient, s.gradient)
        eigenvalue = jnp.where(finite, values.eigenvalue, s.eigenvalue)

        def off(u: jax.Array) -> jax.Array:
            return u - (u @ mode) * mode

        taken, change = off(s.step), off(g - s.gradient)
        sy = taken @ change
        update = finite & ~start & (sy > 1e-10 * jnp.sqrt((taken @ taken) * (change @ change))) & (sy > 0)

        history = s.history.push(taken, change, sy, update)
        turn = jnp.abs(eigenvalue - s.eigenvalue) / jnp.maximum(jnp.abs(eigenvalue), 1e-12)
        radius = jnp.where(turn < 0.5, 1.2 * s.radius, jnp.where(turn > 1.0, 0.7 * s.radius, s.radius))
        radius = jnp.where(start, self.radius, jnp.clip(radius, 1e-3, self.max_radius)).astype(x.dtype)
        radius = jnp.where(finite, radius, 0.3 * s.radius)

        slope = g @ mode
        up = following_step(slope, eigenvalue)
        up = jnp.where((jnp.abs(slope) < 1e-8) & (eigenvalue > 0), radius, up)
        up = jnp.clip(up, -radius, radius)
        across = off(g)
        norm = jnp.sqrt(across @ across)
        first = across * jnp.minimum(1.0, 1.0 / jnp.where(norm > 0, norm, 1.0)) * 0.1
        down = jnp.where(history.known, off(two_loop(across, history)), first)
        down = jnp.where(down @ across < 0, first, down)
        # Where the surface still curves up along the mode, climbing comes first.
        reach = jnp.sqrt(down @ down)
        cap = jnp.where(eigenvalue < 0, self.max_radius, 0.5 * jnp.abs(up))
        down = down * jnp.minimum(1.0, cap / jnp.where(reach > 0, reach, 1.0))
        step = up * mode - down

        evaluations = s.evaluations + 1
        status = jnp.where(evaluations >= self.max_evaluations, Status.MAX_STEPS, Status.RUNNING)
        at_rest = finite & (rms(g) <= self.tol) & ~start
        status = jnp.where(at_rest & (eigenvalue < 0), Status.CONVERGED, status)
        status = jnp.where(start & ~finite, Status.NONFINITE, status).astype(jnp.int32)
        energy = jnp.where(finite, values.energy, s.energy)
        return HybridState(
            x=x,
            energy=energy,
            gradient=g,
            mode=mode,
            eigenvalue=eigenvalue,
            history=history,
            step=step,
            radius=radius,
            evaluations=evaluations,
            status=status,
        )

    def status(self, state: HybridState) -> Int[Array, ""]:
        """See ``protocol.Status``."""
        return state.status

    def result(self, state: HybridState) -> Saddle:
        """Last point."""
        return Saddle(
            x=state.x,
            energy=state.energy,
            rms=rms(state.gradient),
            mode=state.mode,
            eigenvalue=state.eigenvalue,
            evaluations=state.evaluations,
            curvatures=state.evaluations,
        )
