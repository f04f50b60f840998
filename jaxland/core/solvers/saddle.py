"""Transition states: eigenvector-following with exact Hessians, and its hybrid with Hessian-vector products.

Both follow one mode uphill and minimise in all others (Cerjan & Miller 1981; Munro & Wales 1999), one evaluation per
pass. Items are ``(x [N], v [N])``: the start and the direction to follow first; v = 0 follows the lowest mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxland.core.energy.kernels import Curved, Kernel
from jaxland.core.krylov import lane
from jaxland.core.solvers.lanes import Status
from jaxland.core.solvers.quench import History, allowed_rise, rms, two_loop


class Saddle(NamedTuple):
    """Where a search ended: coordinates [N], energy, rms gradient, followed mode [N] and eigenvalue, evaluations."""

    x: Float[Array, " N"]
    energy: jax.Array
    rms: jax.Array
    mode: Float[Array, " N"]
    eigenvalue: jax.Array
    evaluations: jax.Array


class Guess(NamedTuple):
    """Item of a search: where to start, and the direction to follow first (zeros: the lowest mode), both [N]."""

    x: Any
    v: Any


def following_step(slope: jax.Array, value: jax.Array) -> jax.Array:
    """Length 2F / (|l| (1 + sqrt(1 + 4 (F/l)^2))) of a step uphill along a mode of slope F and eigenvalue l."""
    denominator = jnp.abs(value) + jnp.sqrt(value * value + 4.0 * slope * slope)
    return jnp.where(denominator > 0, 2.0 * slope / jnp.where(denominator > 0, denominator, 1.0), 0.0)


class _ExactState(NamedTuple):
    x: jax.Array
    energy: jax.Array
    gradient: jax.Array
    hessian: jax.Array
    mode: jax.Array
    tracking: jax.Array
    step: jax.Array
    predicted: jax.Array
    radius: jax.Array
    eigenvalue: jax.Array
    convex: jax.Array
    evaluations: jax.Array
    status: jax.Array


@dataclass(frozen=True)
class EigenvectorFollowing:
    """All modes at once, from exact Hessians (evaluate with ``Kernel.second``).

    Steps s_i = +-2 g_i / [|l_i| (1 + sqrt(1 + 4 (g_i/l_i)^2))], + for the followed mode and - for the others, capped
    at an adaptive radius. A start vector is followed by overlap until its mode is the lowest, then the lowest is.
    Ends converged only at rms <= ``tol`` with exactly one eigenvalue below ``-zero``; gives up (``STALLED``) after
    ``patience`` evaluations in a row without a negative eigenvalue: L2 makes walls that can be climbed forever.
    """

    tol: float = 1e-9
    max_evaluations: int = 300
    radius: float = 0.3
    max_radius: float = 1.0
    zero: float = 1e-8
    patience: int = 30

    def init(self, item: Guess) -> _ExactState:
        """Start at item.x along item.v."""
        n, dtype = item.x.shape[0], item.x.dtype
        zero = jnp.zeros((), jnp.int32)
        nothing = jnp.zeros(n, dtype)
        length = jnp.sqrt(item.v @ item.v)
        return _ExactState(
            item.x,
            jnp.asarray(jnp.inf, dtype),
            nothing,
            jnp.eye(n, dtype=dtype),
            item.v / jnp.where(length > 0, length, 1.0),
            length > 0,
            nothing,
            jnp.ones((), dtype),
            jnp.asarray(self.radius, dtype),
            jnp.zeros((), dtype),
            zero,
            zero,
            zero,
        )

    def point(self, state: _ExactState) -> Float[Array, " N"]:
        """Trial point."""
        return state.x + state.step

    def step(self, s: _ExactState, values: Curved) -> _ExactState:
        """Accept or reject the trial by how well its energy was predicted, choose the mode, propose the next."""
        start = s.evaluations == 0
        finite = jnp.isfinite(values.energy) & jnp.all(jnp.isfinite(values.hessian))
        noise = 10 * allowed_rise(s.energy)
        miss = jnp.abs(values.energy - s.energy - s.predicted) / jnp.maximum(jnp.abs(s.predicted), noise)
        miss = jnp.where(finite, miss, jnp.inf)
        small = s.radius < 1e-3 * self.radius
        accept = start | (finite & ((miss < 2.0) | small))
        radius = jnp.where(miss < 0.3, 1.5 * s.radius, jnp.where(miss > 1.0, 0.4 * s.radius, s.radius))
        radius = jnp.where(start, self.radius, jnp.clip(radius, 1e-6, self.max_radius)).astype(s.x.dtype)

        x = jnp.where(accept, s.x + s.step, s.x)
        energy = jnp.where(accept, values.energy, s.energy)
        gradient = jnp.where(accept, values.gradient, s.gradient)
        hessian = jnp.where(accept, values.hessian, s.hessian)
        modes, basis = jnp.linalg.eigh(jnp.where(jnp.isfinite(hessian), hessian, 0.0))
        slope = basis.T @ gradient
        overlap = jnp.abs(basis.T @ s.mode)
        followed = jnp.where(s.tracking, jnp.argmax(overlap), 0)
        tracking = s.tracking & ~((followed == 0) & (modes[0] < 0))
        mode = basis[:, followed]
        mode = mode * jnp.where(s.mode @ mode < 0, -1.0, 1.0)
        # At a minimum the slope vanishes: set off along the chosen direction.
        along = jnp.arange(modes.size) == followed
        still = jnp.abs(slope) < 1e-6 * jnp.maximum(1.0, jnp.abs(modes))
        move = jnp.where(along, 1.0, -1.0) * following_step(slope, modes)
        set_off = radius * jnp.where(basis[:, followed] @ mode < 0, -1.0, 1.0)
        move = jnp.where(along & still & (modes > self.zero), set_off, move)
        length = jnp.sqrt(move @ move)
        move = move * jnp.minimum(1.0, radius / jnp.where(length > 0, length, 1.0))
        predicted = slope @ move + 0.5 * jnp.sum(modes * move * move)

        evaluations = s.evaluations + 1
        index = jnp.sum(modes < -self.zero)
        at_rest = rms(gradient) <= self.tol
        convex = jnp.where(modes[0] < 0, 0, s.convex + 1)
        status = jnp.where(evaluations >= self.max_evaluations, Status.MAX_STEPS, Status.RUNNING)
        status = jnp.where(convex >= self.patience, Status.STALLED, status)
        wrong = jnp.where(index == 0, ~still[0] & (evaluations > 20), index > 1)
        status = jnp.where(at_rest & wrong, Status.WRONG_INDEX, status)
        status = jnp.where(at_rest & (index == 1), Status.CONVERGED, status)
        status = jnp.where(start & ~finite, Status.NONFINITE, status).astype(jnp.int32)
        return _ExactState(
            x,
            energy,
            gradient,
            hessian,
            mode,
            tracking,
            basis @ move,
            predicted,
            radius,
            modes[0],
            convex,
            evaluations,
            status,
        )

    def status(self, state: _ExactState) -> jax.Array:
        """See ``lanes.Status``."""
        return state.status

    def result(self, state: _ExactState) -> Saddle:
        """Last accepted point."""
        return Saddle(state.x, state.energy, rms(state.gradient), state.mode, state.eigenvalue, state.evaluations)


class Softest(NamedTuple):
    """Evaluation of the hybrid search: energy, gradient [N], lowest eigenpair found from the last one."""

    energy: jax.Array
    gradient: jax.Array
    eigenvalue: jax.Array
    mode: jax.Array
    residual: jax.Array


@lru_cache(maxsize=64)
def softest(first: Callable, product: Callable, steps: int) -> Callable[[Guess, Any], Softest]:
    """Evaluation of ``HybridFollowing``: gradient, and ``steps`` Hessian-vector products from the last mode."""

    def evaluate(point: Guess, data: Any) -> Softest:
        values = first(point.x, data)
        pair = lane.sweep(lambda v: product(point.x, v, data), point.v, steps)
        return Softest(values.energy, values.gradient, pair.value, pair.vector, pair.residual)

    return evaluate


def softest_of(kernel: Kernel, steps: int = 12) -> Callable[[Guess, Any], Softest]:
    """``softest`` for a kernel."""
    return softest(kernel.first, kernel.product, steps)


class _HybridState(NamedTuple):
    x: jax.Array
    energy: jax.Array
    gradient: jax.Array
    mode: jax.Array
    eigenvalue: jax.Array
    history: History
    step: jax.Array
    radius: jax.Array
    evaluations: jax.Array
    status: jax.Array


@dataclass(frozen=True)
class HybridFollowing:
    """For N too large for exact Hessians: uphill along the lowest mode, L-BFGS in the subspace orthogonal to it.

    The mode comes from a few Lanczos steps started from the last one; evaluate with ``softest_of(kernel)``. The index
    of what it returns must still be verified, since a second negative mode is not seen.
    """

    tol: float = 1e-9
    max_evaluations: int = 1000
    radius: float = 0.2
    max_radius: float = 0.5
    history: int = 8

    def init(self, item: Guess) -> _HybridState:
        """Start at item.x; item.v = 0 starts Lanczos from a fixed direction."""
        n, dtype = item.x.shape[0], item.x.dtype
        zero = jnp.zeros((), jnp.int32)
        fixed = jnp.cos(1.0 + jnp.arange(n, dtype=dtype) ** 2)
        length = jnp.sqrt(item.v @ item.v)
        mode = jnp.where(length > 0, item.v / jnp.where(length > 0, length, 1.0), fixed / jnp.sqrt(fixed @ fixed))
        nothing = jnp.zeros(n, dtype)
        one = jnp.ones((), dtype)
        return _HybridState(
            item.x,
            jnp.asarray(jnp.inf, dtype),
            nothing,
            mode,
            one,
            History.empty(self.history, n, dtype),
            nothing,
            self.radius * one,
            zero,
            zero,
        )

    def point(self, state: _HybridState) -> Guess:
        """Trial point and the mode to start from."""
        return Guess(state.x + state.step, state.mode)

    def step(self, s: _HybridState, values: Softest) -> _HybridState:
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
        return _HybridState(
            x,
            energy,
            g,
            mode,
            eigenvalue,
            history,
            step,
            radius,
            evaluations,
            status,
        )

    def status(self, state: _HybridState) -> jax.Array:
        """See ``lanes.Status``."""
        return state.status

    def result(self, state: _HybridState) -> Saddle:
        """Last point."""
        return Saddle(state.x, state.energy, rms(state.gradient), state.mode, state.eigenvalue, state.evaluations)
