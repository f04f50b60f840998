"""Limited-memory BFGS without line search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxland.core.energy.kernels import Values
from jaxland.core.solvers.quench.trial import Minimum, Start, capped, first_direction, judge, rms, verdict
from jaxland.core.solvers.secant import History, two_loop


class LBFGSState(NamedTuple):
    """What a lane carries.

    Attributes:
        x: last accepted point.
        max_step: longest step allowed.
        energy: at ``x``; inf before the first evaluation.
        gradient: at ``x``.
        history: secant pairs [m, N] behind the direction.
        step: from ``x`` to the trial point.
        scale: share of ``max_step`` that is allowed now, halved to a tenth by a rejection, doubled by an acceptance.
        evaluations: so far.
        status: see ``protocol.Status``.
    """

    x: Float[Array, " N"]
    max_step: Float[Array, ""]
    energy: Float[Array, ""]
    gradient: Float[Array, " N"]
    history: History
    step: Float[Array, " N"]
    scale: Float[Array, ""]
    evaluations: Int[Array, ""]
    status: Int[Array, ""]


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS without line search, as GMIN, OPTIM and pele do it; for N too large for N^2 storage.

    Two-loop recursion, H0 = s.y/y.y, first step min(|g|, 1/|g|), reversed if uphill, capped at the start's
    ``max_step``, accepted if the energy rises by no more than rounding noise; else the next is as long as a parabola
    through both energies and the slope says, within a tenth and a half of it. Forgets its history after many
    rejections, or where short steps go down a ridge. Evaluate with ``Kernel.first``.

    Attributes:
        tol: rms gradient of a minimum.
        max_evaluations: at which the lane gives up.
        history: pairs kept.
    """

    tol: float = 1e-6
    max_evaluations: int = 20000
    history: int = 10

    def init(self, item: Start) -> LBFGSState:
        """Start at ``item.x`` [N]."""
        n, dtype = item.x.shape[0], item.x.dtype
        zero = jnp.zeros((), jnp.int32)
        return LBFGSState(
            x=jnp.asarray(item.x),
            max_step=jnp.asarray(item.max_step, dtype),
            energy=jnp.asarray(jnp.inf, dtype),
            gradient=jnp.zeros(n, dtype),
            history=History.empty(self.history, n, dtype),
            step=jnp.zeros(n, dtype),
            scale=jnp.ones((), dtype),
            evaluations=zero,
            status=zero,
        )

    def point(self, state: LBFGSState) -> Float[Array, " N"]:
        """Trial point."""
        return state.x + state.step

    def step(self, s: LBFGSState, values: Values) -> LBFGSState:
        """Accept or reject the trial, push the pair onto the history, propose the next."""
        t = judge(s, values)
        history = s.history.push(s.step, t.change, t.sy, t.accept & t.curved)
        history = history._replace(weights=jnp.where(t.lost | t.stale, 0.0, history.weights))
        direction = jnp.where(history.known, -two_loop(t.gradient, history), first_direction(t.gradient))
        step, scale = capped(direction, t, s.max_step)
        evaluations = s.evaluations + 1
        stalled = t.lost & ~s.history.known & ~t.start
        status = verdict(t.finite | ~t.start, rms(t.gradient), self.tol, evaluations, self.max_evaluations, stalled)
        return LBFGSState(
            x=t.x,
            max_step=s.max_step,
            energy=t.energy,
            gradient=t.gradient,
            history=history,
            step=step,
            scale=scale,
            evaluations=evaluations,
            status=status,
        )

    def status(self, state: LBFGSState) -> Int[Array, ""]:
        """See ``protocol.Status``."""
        return state.status

    def result(self, state: LBFGSState) -> Minimum:
        """Last accepted point."""
        return Minimum(state.x, state.energy, rms(state.gradient), state.evaluations)
