"""Eigenvector-following with exact Hessians, each kept for as many steps as it foresees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxland.core.energy.kernels import Curved, Values
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
        curvatures: of these, with a Hessian (hybrid: with a search for the mode).
    """

    x: Float[Array, " N"]
    energy: Float[Array, ""]
    rms: Float[Array, ""]
    mode: Float[Array, " N"]
    eigenvalue: Float[Array, ""]
    evaluations: Int[Array, ""]
    curvatures: Int[Array, ""]


class Probe(NamedTuple):
    """Where a search evaluates next.

    Attributes:
        x: the trial point.
        curved: the Hessian is wanted too.
    """

    x: Float[Array, " N"]
    curved: Bool[Array, ""]


@lru_cache(maxsize=64)
def where_asked(
    first: Callable[[jax.Array, PyTree], Values], second: Callable[[jax.Array, PyTree], Curved]
) -> Callable[[Probe, PyTree], Curved]:
    """Evaluation of ``Kernel.first``, or of ``Kernel.second`` where asked (zeros for the Hessian elsewhere).

    For lanes that run one by one; side by side both are computed everywhere.
    """

    def evaluate(probe: Probe, data: PyTree) -> Curved:
        n = probe.x.shape[0]

        def short() -> Curved:
            return Curved(*first(probe.x, data), jnp.zeros((n, n), probe.x.dtype))

        return jax.lax.cond(probe.curved, lambda: Curved(*second(probe.x, data)), short)

    return evaluate


@lru_cache(maxsize=64)
def everywhere(second: Callable[[jax.Array, PyTree], Curved]) -> Callable[[Probe, PyTree], Curved]:
    """Evaluation of ``Kernel.second`` at every point, for a search that keeps no Hessian."""
    return lambda probe, data: second(probe.x, data)


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
        modes, basis: eigenvalues and -vectors of the Hessian kept.
        age: steps accepted since that Hessian was taken.
        mode: the direction followed, of unit length (zeros before the first evaluation where none was asked for).
        tracking: the mode is found by its overlap with the last one; False: the lowest is followed.
        step: from ``x`` to the trial point; zeros where the Hessian is taken at ``x``.
        foreseen: slopes along ``basis`` that the quadratic model expects after ``step``.
        predicted: change of the energy that it expects.
        curved: the Hessian is wanted at the trial point.
        radius: longest step allowed now.
        convex: steps in a row without a negative eigenvalue.
        evaluations, curvatures: so far; see ``Saddle``.
        status: see ``protocol.Status``.
    """

    x: Float[Array, " N"]
    energy: Float[Array, ""]
    gradient: Float[Array, " N"]
    modes: Float[Array, " N"]
    basis: Float[Array, "N N"]
    age: Int[Array, ""]
    mode: Float[Array, " N"]
    tracking: Bool[Array, ""]
    step: Float[Array, " N"]
    foreseen: Float[Array, " N"]
    predicted: Float[Array, ""]
    curved: Bool[Array, ""]
    radius: Float[Array, ""]
    convex: Int[Array, ""]
    evaluations: Int[Array, ""]
    curvatures: Int[Array, ""]
    status: Int[Array, ""]


class _Judged(NamedTuple):
    """A trial as judged by its energy.

    Attributes:
        first, moved, accept: whether it is the first one, whether it was a step, whether it is the new point.
        x, energy, gradient: of the point that is kept.
        radius: longest step allowed from there.
    """

    first: Bool[Array, ""]
    moved: Bool[Array, ""]
    accept: Bool[Array, ""]
    finite: Bool[Array, ""]
    x: Float[Array, " N"]
    energy: Float[Array, ""]
    gradient: Float[Array, " N"]
    radius: Float[Array, ""]


@dataclass(frozen=True)
class EigenvectorFollowing:
    """All modes at once, from exact Hessians.

    Steps s_i = +-2 g_i / [|l_i| (1 + sqrt(1 + 4 (g_i/l_i)^2))], + for the followed mode and - for the others, capped
    at an adaptive radius. A start vector is followed by overlap until its mode is the lowest, then the lowest is.
    A Hessian serves for up to ``keep`` steps, while each new gradient changes the next step by less than ``drift`` of
    the last one's length: gradients alone then correct it, at a small part of a Hessian's price. Evaluate with
    ``where_asked``, or with ``everywhere`` where ``keep`` is 0.
    Ends converged only at rms <= ``tol`` with exactly one eigenvalue there below ``-zero``; gives up (``STALLED``)
    after ``patience`` steps in a row without a negative eigenvalue: L2 makes walls that can be climbed forever.

    Attributes:
        tol: rms gradient of a stationary point.
        max_evaluations: at which the lane gives up.
        radius, max_radius: first and largest step.
        zero: Hessian eigenvalues within +-zero are flat.
        patience: see above.
        keep, drift: see above; with ``keep`` 0 every trial point has its own Hessian.
    """

    tol: float = 1e-9
    max_evaluations: int = 300
    radius: float = 0.3
    max_radius: float = 1.0
    zero: float = 1e-8
    patience: int = 30
    keep: int = 8
    drift: float = 0.5

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
            modes=jnp.ones(n, dtype),
            basis=jnp.eye(n, dtype=dtype),
            age=zero,
            mode=jnp.asarray(item.v) / jnp.where(length > 0, length, 1.0),
            tracking=length > 0,
            step=nothing,
            foreseen=nothing,
            predicted=jnp.ones((), dtype),
            curved=jnp.ones((), bool),
            radius=jnp.asarray(self.radius, dtype),
            convex=zero,
            evaluations=zero,
            curvatures=zero,
            status=zero,
        )

    def point(self, state: FollowingState) -> Probe:
        """Trial point."""
        return Probe(state.x + state.step, state.curved)

    def _judge(self, s: FollowingState, values: Values | Curved) -> _Judged:
        """Accept or reject the trial by how well its energy was predicted."""
        first, moved = s.evaluations == 0, s.step @ s.step > 0
        finite = jnp.isfinite(values.energy) & jnp.all(jnp.isfinite(values.gradient))
        if isinstance(values, Curved):
            finite = finite & jnp.all(jnp.isfinite(values.hessian))
        noise = 10 * allowed_rise(s.energy)
        miss = jnp.abs(values.energy - s.energy - s.predicted) / jnp.maximum(jnp.abs(s.predicted), noise)
        miss = jnp.where(finite, miss, jnp.inf)
        small = s.radius < 1e-3 * self.radius
        accept = first | (finite & (~moved | (miss < 2.0) | small))
        # What a Hessian from elsewhere has missed says nothing against the radius.
        radius = jnp.where(miss < 0.3, 1.5 * s.radius, s.radius)
        radius = jnp.where((miss > 1.0) & (s.age == 0), 0.4 * s.radius, radius)
        radius = jnp.where(moved, jnp.clip(radius, 1e-6, self.max_radius), s.radius)
        return _Judged(
            first=first,
            moved=moved,
            accept=accept,
            finite=finite,
            x=jnp.where(accept, s.x + s.step, s.x),
            energy=jnp.where(accept, values.energy, s.energy),
            gradient=jnp.where(accept, values.gradient, s.gradient),
            radius=radius.astype(s.x.dtype),
        )

    def _move(
        self, slope: Float[Array, " N"], modes: Float[Array, " N"], along: Float[Array, " N"], radius: jax.Array
    ) -> Float[Array, " N"]:
        """Step in the basis of the modes; ``along`` is +-1 for the mode followed, 0 for the others."""
        up = along != 0
        still = jnp.abs(slope) < 1e-6 * jnp.maximum(1.0, jnp.abs(modes))
        move = jnp.where(up, 1.0, -1.0) * following_step(slope, modes)
        # At a minimum the slope vanishes: set off along the chosen direction.
        move = jnp.where(up & still & (modes > self.zero), along * radius, move)
        length = jnp.sqrt(move @ move)
        return move * jnp.minimum(1.0, radius / jnp.where(length > 0, length, 1.0))

    def step(self, s: FollowingState, values: Curved) -> FollowingState:
        """Judge the trial, choose the mode, propose the next step or ask for the Hessian where the search is."""
        t = self._judge(s, values)
        fresh = s.curved & t.accept

        def diagonalised() -> tuple[jax.Array, jax.Array]:
            modes, basis = jnp.linalg.eigh(jnp.where(jnp.isfinite(values.hessian), values.hessian, 0.0))
            return modes, basis

        return self._next(s, t, fresh, *jax.lax.cond(fresh, diagonalised, lambda: (s.modes, s.basis)))

    def correct(self, s: FollowingState, values: Values) -> FollowingState:
        """``step`` where no Hessian is wanted at the trial point: side by side, none is diagonalised in vain."""
        return self._next(s, self._judge(s, values), jnp.zeros((), bool), s.modes, s.basis)

    def _next(
        self, s: FollowingState, t: _Judged, fresh: jax.Array, modes: Float[Array, " N"], basis: Float[Array, "N N"]
    ) -> FollowingState:
        slope = basis.T @ t.gradient
        followed = jnp.where(s.tracking, jnp.argmax(jnp.abs(basis.T @ s.mode)), 0)
        tracking = s.tracking & ~((followed == 0) & (modes[0] < 0))
        sign = jnp.where(s.mode @ basis[:, followed] < 0, -1.0, 1.0)
        along = jnp.where(jnp.arange(modes.size) == followed, sign, 0.0)
        move = self._move(slope, modes, along, t.radius)

        age = jnp.where(fresh, 0, s.age + (t.accept & t.moved)).astype(jnp.int32)
        turn = move - self._move(s.foreseen, modes, along, t.radius)
        trusted = t.accept & (turn @ turn < self.drift**2 * (s.step @ s.step)) & (age < self.keep)
        evaluations = s.evaluations + 1
        index = jnp.sum(modes < -self.zero)
        at_rest = rms(t.gradient) <= self.tol
        ask = (age > 0) & (~trusted | at_rest)
        convex = jnp.where(modes[0] < 0, 0, s.convex + (t.moved | t.first)).astype(jnp.int32)
        still = jnp.abs(slope[0]) < 1e-6 * jnp.maximum(1.0, jnp.abs(modes[0]))
        wrong = (age == 0) & jnp.where(index == 0, ~still & (evaluations > 20), index > 1)
        status = jnp.where(evaluations >= self.max_evaluations, Status.MAX_STEPS, Status.RUNNING)
        status = jnp.where(convex >= self.patience, Status.STALLED, status)
        status = jnp.where(at_rest & wrong, Status.WRONG_INDEX, status)
        status = jnp.where(at_rest & (age == 0) & (index == 1), Status.CONVERGED, status)
        status = jnp.where(t.first & ~t.finite, Status.NONFINITE, status).astype(jnp.int32)
        return FollowingState(
            x=t.x,
            energy=t.energy,
            gradient=t.gradient,
            modes=modes,
            basis=basis,
            age=age,
            mode=sign * basis[:, followed],
            tracking=tracking,
            step=jnp.where(ask, 0.0, basis @ move),
            foreseen=slope + modes * move,
            predicted=slope @ move + 0.5 * jnp.sum(modes * move * move),
            curved=ask if self.keep else jnp.ones((), bool),
            radius=t.radius,
            convex=convex,
            evaluations=evaluations,
            curvatures=s.curvatures + s.curved.astype(jnp.int32),
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
            eigenvalue=state.modes[0],
            evaluations=state.evaluations,
            curvatures=state.curvatures,
        )
