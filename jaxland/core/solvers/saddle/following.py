"""Eigenvector-following with exact Hessians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxland.core.energy.kernels import Curved, Kernel, Values
from jaxland.core.solvers.protocol import Status
from jaxland.core.solvers.quench.trial import allowed_rise, rms


class Guess(NamedTuple):
    """Item of a search.

    Attributes:
        x: where to start [N].
        v: the direction to follow first [N]; zeros follow the lowest mode.
    """

    x: Float[Array | np.ndarray, " N"]
    v: Float[Array | np.ndarray, " N"]


class Saddle(NamedTuple):
    """What a search reports.

    Attributes:
        x: coordinates of the last accepted point.
        energy: there.
        rms: gradient there, |g| / sqrt(N).
        mode: followed mode, of unit length.
        eigenvalue: lowest of the Hessian (hybrid: of the followed mode).
        evaluations: used.
    """

    x: Float[Array, " N"]
    energy: Float[Array, ""]
    rms: Float[Array, ""]
    mode: Float[Array, " N"]
    eigenvalue: Float[Array, ""]
    evaluations: Int[Array, ""]


def following_step(slope: Float[Array, "*m"], value: Float[Array, "*m"]) -> Float[Array, "*m"]:
    """Length 2F / (|l| (1 + sqrt(1 + 4 (F/l)^2))) of a step uphill along a mode of slope F and eigenvalue l."""
    denominator = jnp.abs(value) + jnp.sqrt(value * value + 4.0 * slope * slope)
    return jnp.where(denominator > 0, 2.0 * slope / jnp.where(denominator > 0, denominator, 1.0), 0.0)


class Probe(NamedTuple):
    """Where to evaluate, and whether the Hessian is due there; if not, only energy and gradient count."""

    x: Float[Array, " N"]
    due: Bool[Array, ""]


def curved_when_due(kernel: Kernel) -> Callable[[Probe, PyTree], Curved]:
    """Evaluation of ``EigenvectorFollowing`` that updates its Hessians: exact ones only where they are due."""
    return _when_due(kernel.first, kernel.second)


@lru_cache(maxsize=64)
def _when_due(first: Callable[..., Values], second: Callable[..., Curved]) -> Callable[[Probe, PyTree], Curved]:
    def evaluate(probe: Probe, data: PyTree) -> Curved:
        def plain() -> Curved:
            values = first(probe.x, data)
            n = probe.x.shape[0]
            return Curved(values.energy, values.gradient, jnp.zeros((n, n), values.gradient.dtype))

        return jax.lax.cond(probe.due, lambda: second(probe.x, data), plain)

    return evaluate


def updated(
    hessian: Float[Array, "N N"], step: Float[Array, " N"], change: Float[Array, " N"]
) -> Float[Array, "N N"]:
    """A Hessian mended by the change of the gradient along a step, of any index (Bofill 1994).

    Murtagh and Sargent's update and Powell's, by how well the error lies along the step.
    """
    error = change - hessian @ step
    ss, ee, es = step @ step, error @ error, error @ step
    sound = (ss > 0) & (ee > 0) & jnp.isfinite(ee)
    ss, ee = jnp.where(sound, ss, 1.0), jnp.where(sound, ee, 1.0)
    part = es * es / (ee * ss)
    along = jnp.outer(error, step) / ss
    powell = along + along.T - (es / (ss * ss)) * jnp.outer(step, step)
    # part / es stays finite where the error lies across the step.
    mended = hessian + (es / (ee * ss)) * jnp.outer(error, error) + (1.0 - part) * powell
    return jnp.where(sound, mended, hessian)


class FollowingState(NamedTuple):
    """What a lane carries.

    Attributes:
        x: last accepted point.
        energy: at ``x``; inf before the first evaluation.
        gradient: at ``x``.
        hessian: at ``x``, exact or updated.
        age: steps since it was exact.
        due: it is to be exact at the trial point.
        mode: the direction followed, of unit length (zeros before the first evaluation where none was asked for).
        tracking: the mode is found by its overlap with the last one; False: the lowest is followed.
        step: from ``x`` to the trial point.
        predicted: change of the energy that the quadratic model expects of ``step``.
        radius: longest step allowed now.
        eigenvalue: lowest of ``hessian``.
        convex: evaluations in a row without a negative eigenvalue.
        evaluations: so far.
        status: see ``protocol.Status``.
    """

    x: Float[Array, " N"]
    energy: Float[Array, ""]
    gradient: Float[Array, " N"]
    hessian: Float[Array, "N N"]
    age: Int[Array, ""]
    due: Bool[Array, ""]
    mode: Float[Array, " N"]
    tracking: Bool[Array, ""]
    step: Float[Array, " N"]
    predicted: Float[Array, ""]
    radius: Float[Array, ""]
    eigenvalue: Float[Array, ""]
    convex: Int[Array, ""]
    evaluations: Int[Array, ""]
    status: Int[Array, ""]


@dataclass(frozen=True)
class EigenvectorFollowing:
    """All modes at once, from exact Hessians (evaluate with ``Kernel.second``), or exact ones now and then, updated
    between (``curved_when_due``): where a step was badly predicted, after ``exact_every`` steps, and at rest.

    Steps s_i = +-2 g_i / [|l_i| (1 + sqrt(1 + 4 (g_i/l_i)^2))], + for the followed mode and - for the others, capped
    at an adaptive radius. A start vector is followed by overlap until its mode is the lowest, then the lowest is.
    Ends converged only at rms <= ``tol`` with exactly one eigenvalue below ``-zero``; gives up (``STALLED``) after
    ``patience`` evaluations in a row without a negative eigenvalue: L2 makes walls that can be climbed forever.

    Attributes:
        tol: rms gradient of a stationary point.
        max_evaluations: at which the lane gives up.
        radius, max_radius: first and largest step.
        zero: Hessian eigenvalues within +-zero are flat.
        patience: see above.
        exact_every: steps from one exact Hessian to the next; 1: all are.
    """

    tol: float = 1e-9
    max_evaluations: int = 300
    radius: float = 0.3
    max_radius: float = 1.0
    zero: float = 1e-8
    patience: int = 30
    exact_every: int = 1

    def init(self, item: Guess) -> FollowingState:
        """Start at item.x along item.v."""
        n, dtype = item.x.shape[0], item.x.dtype
        zero = jnp.zeros((), jnp.int32)
        nothing = jnp.zeros(n, dtype)
        length = jnp.sqrt(item.v @ item.v)
        return FollowingState(
            x=jnp.asarray(item.x),
            energy=jnp.asarray(jnp.inf, dtype),
            gradient=nothing,
            hessian=jnp.eye(n, dtype=dtype),
            age=zero,
            due=jnp.ones((), bool),
            mode=jnp.asarray(item.v) / jnp.where(length > 0, length, 1.0),
            tracking=length > 0,
            step=nothing,
            predicted=jnp.ones((), dtype),
            radius=jnp.asarray(self.radius, dtype),
            eigenvalue=jnp.zeros((), dtype),
            convex=zero,
            evaluations=zero,
            status=zero,
        )

    def point(self, state: FollowingState) -> Float[Array, " N"] | Probe:
        """Trial point."""
        ahead = state.x + state.step
        return ahead if self.exact_every == 1 else Probe(ahead, state.due)

    def step(self, s: FollowingState, values: Curved) -> FollowingState:
        """Accept or reject the trial by how well its energy was predicted, choose the mode, propose the next."""
        start = s.evaluations == 0
        finite = jnp.isfinite(values.energy) & jnp.all(jnp.isfinite(values.hessian))
        finite = finite & jnp.all(jnp.isfinite(values.gradient))
        noise = 10 * allowed_rise(s.energy)
        miss = jnp.abs(values.energy - s.energy - s.predicted) / jnp.maximum(jnp.abs(s.predicted), noise)
        miss = jnp.where(finite, miss, jnp.inf)
        small = s.radius < 1e-3 * self.radius
        accept = start | (finite & ((miss < 2.0) | small))
        radius = jnp.where(miss < 0.3, 1.5 * s.radius, jnp.where(miss > 1.0, 0.4 * s.radius, s.radius))
        radius = jnp.where(s.predicted == 0, s.radius, radius)  # the same place again
        radius = jnp.where(start, self.radius, jnp.clip(radius, 1e-6, self.max_radius)).astype(s.x.dtype)

        x = jnp.where(accept, s.x + s.step, s.x)
        energy = jnp.where(accept, values.energy, s.energy)
        gradient = jnp.where(accept, values.gradient, s.gradient)
        exact = s.due | (self.exact_every == 1)
        ahead = jnp.where(exact, values.hessian, updated(s.hessian, s.step, values.gradient - s.gradient))
        hessian = jnp.where(accept, ahead, s.hessian)
        age = jnp.where(accept, jnp.where(exact, 0, s.age + 1), s.age)
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
        # No step by a bad model: the exact one at the same place first. So at rest, where the index counts.
        again = (age > 0) & (at_rest | (miss > 1.0))
        due = again | (age + 1 >= self.exact_every)
        at_rest = at_rest & (age == 0)
        convex = jnp.where(modes[0] < 0, 0, s.convex + 1)
        status = jnp.where(evaluations >= self.max_evaluations, Status.MAX_STEPS, Status.RUNNING)
        status = jnp.where(convex >= self.patience, Status.STALLED, status)
        wrong = jnp.where(index == 0, ~still[0] & (evaluations > 20), index > 1)
        status = jnp.where(at_rest & wrong, Status.WRONG_INDEX, status)
        status = jnp.where(at_rest & (index == 1), Status.CONVERGED, status)
        status = jnp.where(start & ~finite, Status.NONFINITE, status).astype(jnp.int32)
        return FollowingState(
            x=x,
            energy=energy,
            gradient=gradient,
            hessian=hessian,
            age=age.astype(jnp.int32),
            due=due,
            mode=mode,
            tracking=tracking,
            step=jnp.where(again, 0.0, basis @ move),
            predicted=jnp.where(again, 0.0, predicted),
            radius=radius,
            eigenvalue=modes[0],
            convex=convex,
            evaluations=evaluations,
            status=status,
        )

    def status(self, state: FollowingState) -> Int[Array, ""]:
        """See ``protocol.Status``."""
        return state.status

    def result(self, state: FollowingState) -> Saddle:
        """Last accepted point."""
        return Saddle(
            x=state.x,
            energy=state.energy,
            rms=rms(state.gradient),
            mode=state.mode,
            eigenvalue=state.eigenvalue,
            evaluations=state.evaluations,
        )
