"""BFGS with the full inverse Hessian estimate, without line search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxland.core.energy.kernels import Values
from jaxland.core.solvers.quench.trial import (
    Informed,
    Minimum,
    Start,
    capped,
    first_direction,
    judge,
    rms,
    verdict,
)


class BFGSState(NamedTuple):
    """What a lane carries.

    Attributes:
        x: last accepted point.
        max_step: longest step allowed.
        energy: at ``x``; inf before the first evaluation.
        gradient: at ``x``.
        inverse: estimate of the inverse Hessian.
        step: from ``x`` to the trial point.
        scale: share of ``max_step`` that is allowed now, halved to a tenth by a rejection, doubled by an acceptance.
        fresh: ``inverse`` has seen no pair yet; the next step goes down the gradient.
        evaluations: so far.
        status: see ``protocol.Status``.
    """

    x: Float[Array, " N"]
    max_step: Float[Array, ""]
    energy: Float[Array, ""]
    gradient: Float[Array, " N"]
    inverse: Float[Array, "N N"]
    step: Float[Array, " N"]
    scale: Float[Array, ""]
    fresh: Bool[Array, ""]
    evaluations: Int[Array, ""]
    status: Int[Array, ""]


@dataclass(frozen=True)
class BFGS:
    """Quasi-Newton with the full inverse Hessian estimate [N, N]: fewest gradients while N^2 is cheap.

    Steps are capped at the start's ``max_step`` (Euclidean). A step whose energy rises by more than rounding noise is
    rejected; the next is as long as a parabola through both energies and the slope says, within a tenth and a half of
    it. Evaluate with ``Kernel.first``.

    Attributes:
        tol: rms gradient of a minimum.
        max_evaluations: at which the lane gives up.
    """

    tol: float = 1e-6
    max_evaluations: int = 5000

    def init(self, item: Start | Informed) -> BFGSState:
        """Start at ``item.x`` [N], down the gradient or, informed, by the inverse Hessian given."""
        n, dtype = item.x.shape[0], item.x.dtype
        zero = jnp.zeros((), jnp.int32)
        return BFGSState(
            x=jnp.asarray(item.x),
            max_step=jnp.asarray(item.max_step, dtype),
            energy=jnp.asarray(jnp.inf, dtype),
            gradient=jnp.zeros(n, dtype),
            inverse=jnp.asarray(item.inverse) if isinstance(item, Informed) else jnp.eye(n, dtype=dtype),
            step=jnp.zeros(n, dtype),
            scale=jnp.ones((), dtype),
            fresh=jnp.full((), not isinstance(item, Informed)),
            evaluations=zero,
            status=zero,
        )

    def point(self, state: BFGSState) -> Float[Array, " N"]:
        """Trial point."""
        return state.x + state.step

    def step(self, s: BFGSState, values: Values) -> BFGSState:
        """Accept or reject the trial, update the inverse Hessian, propose the next."""
        n = s.x.shape[0]
        t = judge(s, values)
        safe_sy, safe_yy = jnp.where(t.curved, t.sy, 1.0), jnp.where(t.curved, t.yy, 1.0)
        base = jnp.where(s.fresh & t.curved, jnp.eye(n, dtype=s.x.dtype) * (safe_sy / safe_yy), s.inverse)
        by = base @ t.change
        ratio = s.step / safe_sy
        grown = (
            base
            + (1.0 + t.change @ by / safe_sy) * jnp.outer(s.step, ratio)
            - jnp.outer(by, ratio)
            - jnp.outer(ratio, by)
        )
        inverse = jnp.where(t.lost, jnp.eye(n, dtype=s.x.dtype), jnp.where(t.curved, grown, s.inverse))
        fresh = (s.fresh & ~t.curved) | t.lost
        direction = jnp.where(fresh, first_direction(t.gradient), -(inverse @ t.gradient))
        step, scale = capped(direction, t, s.max_step)
        evaluations = s.evaluations + 1
        stalled = t.lost & s.fresh & ~t.start
        status = verdict(t.finite | ~t.start, rms(t.gradient), self.tol, evaluations, self.max_evaluations, stalled)
        return BFGSState(
            x=t.x,
            max_step=s.max_step,
            energy=t.energy,
            gradient=t.gradient,
            inverse=inverse,
            step=step,
            scale=scale,
            fresh=fresh,
            evaluations=evaluations,
            status=status,
        )

    def status(self, state: BFGSState) -> Int[Array, ""]:
        """See ``protocol.Status``."""
        return state.status

    def result(self, state: BFGSState) -> Minimum:
        """Last accepted point."""
        return Minimum(state.x, state.energy, rms(state.gradient), state.evaluations)
