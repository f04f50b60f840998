"""Where a quench starts and ends, and how the quasi-Newton minimisers judge a trial point."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxland.core.energy.kernels import Values
from jaxland.core.solvers.protocol import Status


class Start(NamedTuple):
    """Item of a quench.

    Attributes:
        x: coordinates [N].
        max_step: longest step allowed (short steps stay in the start's basin).
    """

    x: Float[Array | np.ndarray, " N"]
    max_step: float | np.floating | Float[Array | np.ndarray, ""] = 1.0


class Informed(NamedTuple):
    """Item of a BFGS quench that knows the curvature where it starts.

    Attributes:
        x: coordinates [N].
        max_step: longest step allowed.
        inverse: estimate of the inverse Hessian, positive definite [N, N].
    """

    x: Float[Array | np.ndarray, " N"]
    max_step: float | np.floating | Float[Array | np.ndarray, ""]
    inverse: Float[Array | np.ndarray, "N N"]


class Walk(NamedTuple):
    """Item of basin hopping: one walker's next H hops.

    Attributes:
        x: the minimum it is in [N]; energy: there.
        max_step: longest step of a quench.
        kicks: displacement of every hop, in units of the rms coordinate of the minimum it leaves.
        allowed: rise of the energy below which a hop's minimum is accepted, as is a lower one (Metropolis: -T ln u).
    """

    x: Float[Array | np.ndarray, "*jobs N"]
    energy: Float[Array | np.ndarray, "*jobs"]
    max_step: Float[Array | np.ndarray, "*jobs"]
    kicks: Float[Array | np.ndarray, "*jobs H N"]
    allowed: Float[Array | np.ndarray, "*jobs H"]


class Hops(NamedTuple):
    """What basin hopping reports, of every hop's quench.

    Attributes:
        x: where it ended; energy: there; status: how; evaluations: used.
    """

    x: Float[Array | np.ndarray, "*jobs H N"]
    energy: Float[Array | np.ndarray, "*jobs H"]
    status: Int[Array | np.ndarray, "*jobs H"]
    evaluations: Int[Array | np.ndarray, "*jobs H"]


def displaced(x: Float[Array, " N"], kick: Float[Array, " N"]) -> Float[Array, " N"]:
    """Where a hop's quench sets off."""
    return x + jnp.maximum(rms(x), 1e-3) * kick


class Minimum(NamedTuple):
    """What a quench reports.

    Attributes:
        x: coordinates of the last accepted point.
        energy: there.
        rms: gradient there, |g| / sqrt(N).
        evaluations: used.
    """

    x: Float[Array, " N"]
    energy: Float[Array, ""]
    rms: Float[Array, ""]
    evaluations: Int[Array, ""]


def rms(g: Float[Array, " N"]) -> Float[Array, ""]:
    """Root mean square of a gradient."""
    return jnp.sqrt(jnp.mean(g * g))


def allowed_rise(energy: Float[Array, ""]) -> Float[Array, ""]:
    """Rounding noise of an energy, which a step may add without being rejected: decides convergence in float32."""
    unit = 1e-6 if energy.dtype == jnp.float32 else 1e-13
    return unit * jnp.maximum(1.0, jnp.abs(energy))


@runtime_checkable
class Carried(Protocol):
    """What the states of the quasi-Newton minimisers have in common.

    Attributes:
        x: last accepted point.
        max_step: longest step allowed.
        energy: at ``x``; inf before the first evaluation.
        gradient: at ``x``.
        step: from ``x`` to the trial point.
        scale: share of ``max_step`` that is allowed now.
        evaluations: so far.
        status: see ``protocol.Status``.
    """

    @property
    def x(self) -> Float[Array, " N"]: ...
    @property
    def max_step(self) -> Float[Array, ""]: ...
    @property
    def energy(self) -> Float[Array, ""]: ...
    @property
    def gradient(self) -> Float[Array, " N"]: ...
    @property
    def step(self) -> Float[Array, " N"]: ...
    @property
    def scale(self) -> Float[Array, ""]: ...
    @property
    def evaluations(self) -> Int[Array, ""]: ...
    @property
    def status(self) -> Int[Array, ""]: ...


class Trial(NamedTuple):
    """A judged trial point.

    Attributes:
        start: this was the first evaluation.
        finite: energy and gradient are finite.
        accept: the trial is the new point.
        x, energy, gradient: of the point that is kept.
        change: of the gradient along the trial step; 0 where not finite.
        sy, yy: step . change, change . change.
        curved: the pair (step, change) may mend the model.
        scale: share of ``max_step`` that the next step may have.
        lost: many rejections in a row; the model is wrong, forget it.
        stale: a short accepted step met negative curvature; pairs from stiffer places would keep steps short.
    """

    start: Bool[Array, ""]
    finite: Bool[Array, ""]
    accept: Bool[Array, ""]
    x: Float[Array, " N"]
    energy: Float[Array, ""]
    gradient: Float[Array, " N"]
    change: Float[Array, " N"]
    sy: Float[Array, ""]
    yy: Float[Array, ""]
    curved: Bool[Array, ""]
    scale: Float[Array, ""]
    lost: Bool[Array, ""]
    stale: Bool[Array, ""]


def judge(s: Carried, values: Values) -> Trial:
    """Accept a trial whose energy rises by no more than rounding noise; after a rejection a shorter one, to where a
    parabola through both energies and the slope has its minimum, within a tenth and a half of the step.
    """
    start = s.evaluations == 0
    finite = jnp.isfinite(values.energy) & jnp.all(jnp.isfinite(values.gradient))
    accept = finite & (start | (values.energy <= s.energy + allowed_rise(s.energy)))
    change = jnp.where(finite, values.gradient - s.gradient, 0.0)
    sy, yy, ss = s.step @ change, change @ change, s.step @ s.step
    slope = s.step @ s.gradient
    bottom = jnp.clip(-slope / (2.0 * (values.energy - s.energy - slope)), 0.1, 0.5)
    shorter = jnp.where(finite, bottom, 0.1) * jnp.minimum(s.scale, jnp.sqrt(ss) / s.max_step)
    scale = jnp.where(accept, jnp.minimum(1.0, 2.0 * s.scale), shorter)
    return Trial(
        start=start,
        finite=finite,
        accept=accept,
        x=jnp.where(accept, s.x + s.step, s.x),
        energy=jnp.where(accept, values.energy, s.energy),
        gradient=jnp.where(accept, values.gradient, s.gradient),
        change=change,
        sy=sy,
        yy=yy,
        curved=finite & ~start & (sy > 1e-12 * jnp.sqrt(ss * yy)) & (sy > 0),
        scale=scale,
        lost=scale < 1e-10,
        stale=accept & ~start & (sy <= 0) & (ss < (0.1 * s.max_step) ** 2),
    )


def verdict(
    ok: Bool[Array, ""],
    rms_now: Float[Array, ""],
    tol: float,
    evaluations: Int[Array, ""],
    limit: int,
    stalled: Bool[Array, ""],
) -> Int[Array, ""]:
    """``Status`` after an evaluation: not finite unless ``ok``, else converged, stalled, at the limit or running."""
    status = jnp.where(evaluations >= limit, Status.MAX_STEPS, Status.RUNNING)
    status = jnp.where(stalled, Status.STALLED, status)
    status = jnp.where(rms_now <= tol, Status.CONVERGED, status)
    return jnp.where(ok, status, Status.NONFINITE).astype(jnp.int32)


def first_direction(gradient: Float[Array, " N"]) -> Float[Array, " N"]:
    """Downhill, of length min(|g|, 1)."""
    norm = jnp.sqrt(gradient @ gradient)
    return -gradient * jnp.minimum(1.0, 1.0 / jnp.where(norm > 0, norm, 1.0))


def capped(direction: Float[Array, " N"], trial: Trial, max_step: Float[Array, ""]) -> tuple[jax.Array, jax.Array]:
    """The next step (reversed if uphill, capped) and its length scale."""
    direction = jnp.where(direction @ trial.gradient > 0, -direction, direction)
    reach = jnp.sqrt(direction @ direction)
    scale = jnp.where(trial.lost, 1e-3, trial.scale).astype(direction.dtype)
    return direction * jnp.minimum(1.0, max_step * scale / jnp.where(reach > 0, reach, 1.0)), scale
