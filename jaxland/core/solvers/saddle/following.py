"""Eigenvector-following with exact Hessians."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxland.core.energy.kernels import Curved
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


class FollowingState(NamedTuple):
    """What a lane carries.

    Attributes:
        x: last accepted point.
        energy: at ``x``; inf before the first evaluation.
        gradient: at ``x``.
        hessian: at ``x``.
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
    """All modes at once, from exact Hessians (evaluate with ``Kernel.second``).

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
    """

    tol: float = 1e-9
    max_evaluations: int = 300
    radius: float = 0.3
    max_radius: float = 1.0
    zero: float = 1e-8
    patience: int = 30

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

    def point(self, state: FollowingState) -> Float[Array, " N"]:
        """Trial point."""
        return state.x + state.step

    def step(self, s: FollowingState, values: Curved) -> FollowingState:
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
        return FollowingState(
            x=x,
            energy=energy,
            gradient=gradient,
            hessian=hessian,
            mode=mode,
            tracking=tracking,
            step=basis @ move,
            predicted=predicted,
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
