"""Minimisers over one lane: dense BFGS and L-BFGS without line search, trust-region Newton with exact Hessians.

All three evaluate once per pass and keep the trial point in the state, so that lanes of a batch stay in step and a
rejected step costs one pass, not an inner loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxland.core.energy.kernels import Curved, Values
from jaxland.core.solvers.lanes import Status


class Minimum(NamedTuple):
    """Where a quench ended: coordinates [N], energy, rms gradient |g|/sqrt(N), evaluations used."""

    x: Float[Array, " N"]
    energy: jax.Array
    rms: jax.Array
    evaluations: jax.Array


class Start(NamedTuple):
    """Item of a quench: coordinates [N], and the longest step allowed (short steps stay in the start's basin)."""

    x: Any
    max_step: Any = 1.0


def rms(g: Float[Array, " N"]) -> jax.Array:
    """Root mean square of a gradient."""
    return jnp.sqrt(jnp.mean(g * g))


def allowed_rise(energy: jax.Array) -> jax.Array:
    """Rounding noise of an energy, which a step may add without being rejected: decides convergence in float32."""
    unit = 1e-6 if energy.dtype == jnp.float32 else 1e-13
    return unit * jnp.maximum(1.0, jnp.abs(energy))


class _BFGSState(NamedTuple):
    x: jax.Array
    max_step: jax.Array
    energy: jax.Array
    gradient: jax.Array
    inverse: jax.Array
    step: jax.Array
    scale: jax.Array
    fresh: jax.Array
    evaluations: jax.Array
    status: jax.Array


def _status(
    ok: jax.Array, rms_now: jax.Array, tol: float, evaluations: jax.Array, limit: int, stalled: jax.Array
) -> jax.Array:
    status = jnp.where(evaluations >= limit, Status.MAX_STEPS, Status.RUNNING)
    status = jnp.where(stalled, Status.STALLED, status)
    status = jnp.where(rms_now <= tol, Status.CONVERGED, status)
    return jnp.where(ok, status, Status.NONFINITE).astype(jnp.int32)


class _Trial(NamedTuple):
    """A judged trial point: what is kept, the secant pair, and the length scale of the next step."""

    start: jax.Array
    finite: jax.Array
    accept: jax.Array
    x: jax.Array
    energy: jax.Array
    gradient: jax.Array
    change: jax.Array
    sy: jax.Array
    yy: jax.Array
    curved: jax.Array
    scale: jax.Array
    lost: jax.Array
    stale: jax.Array


def _judge(s: Any, values: Values) -> _Trial:
    """Accept a trial whose energy rises by no more than rounding noise; after a rejection a shorter one, to where a
    parabola through both energies and the slope has its minimum, within a tenth and a half of the step.

    ``lost`` after many rejections in a row: the model is wrong, forget it. ``curved``: the pair may mend it.
    ``stale`` where a short accepted step met negative curvature: pairs from stiffer places would keep steps short.
    """
    start = s.evaluations == 0
    finite = jnp.isfinite(values.energy) & jnp.all(jnp.isfinite(values.gradient))
    accept = finite & (start | (values.energy <= s.energy + allowed_rise(s.energy)))
    change = jnp.where(finite, values.gradient - s.gradient, 0.0)
    sy, yy, ss = s.step @ change, change @ change, s.step @ s.step
    curved = finite & ~start & (sy > 1e-12 * jnp.sqrt(ss * yy)) & (sy > 0)
    slope = s.step @ s.gradient
    bottom = jnp.clip(-slope / (2.0 * (values.energy - s.energy - slope)), 0.1, 0.5)
    shorter = jnp.where(finite, bottom, 0.1) * jnp.minimum(s.scale, jnp.sqrt(ss) / s.max_step)
    scale = jnp.where(accept, jnp.minimum(1.0, 2.0 * s.scale), shorter)
    return _Trial(
        start,
        finite,
        accept,
        jnp.where(accept, s.x + s.step, s.x),
        jnp.where(accept, values.energy, s.energy),
        jnp.where(accept, values.gradient, s.gradient),
        change,
        sy,
        yy,
        curved,
        scale,
        scale < 1e-10,
        accept & ~start & (sy <= 0) & (ss < (0.1 * s.max_step) ** 2),
    )


def _first_direction(gradient: jax.Array) -> jax.Array:
    """Downhill, of length min(|g|, 1)."""
    norm = jnp.sqrt(gradient @ gradient)
    return -gradient * jnp.minimum(1.0, 1.0 / jnp.where(norm > 0, norm, 1.0))


def _capped(direction: jax.Array, trial: _Trial, max_step: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The next step (reversed if uphill, capped) and its length scale."""
    direction = jnp.where(direction @ trial.gradient > 0, -direction, direction)
    reach = jnp.sqrt(direction @ direction)
    scale = jnp.where(trial.lost, 1e-3, trial.scale).astype(direction.dtype)
    return direction * jnp.minimum(1.0, max_step * scale / jnp.where(reach > 0, reach, 1.0)), scale


@dataclass(frozen=True)
class BFGS:
    """Quasi-Newton with the full inverse Hessian estimate [N, N]: fewest gradients while N^2 is cheap.

    Steps are capped at the start's ``max_step`` (Euclidean) and rejected if the energy rises by more than rounding
    noise, ten times shorter next; evaluate with ``Kernel.first``.
    """

    tol: float = 1e-6
    max_evaluations: int = 5000

    def init(self, item: Start) -> _BFGSState:
        """Start at ``item.x`` [N]."""
        n, dtype = item.x.shape[0], item.x.dtype
        zero = jnp.zeros((), jnp.int32)
        return _BFGSState(
            item.x,
            jnp.asarray(item.max_step, dtype),
            jnp.asarray(jnp.inf, dtype),
            jnp.zeros(n, dtype),
            jnp.eye(n, dtype=dtype),
            jnp.zeros(n, dtype),
            jnp.ones((), dtype),
            jnp.ones((), bool),
            zero,
            zero,
        )

    def point(self, state: _BFGSState) -> Float[Array, " N"]:
        """Trial point."""
        return state.x + state.step

    def step(self, s: _BFGSState, values: Values) -> _BFGSState:
        """Accept or reject the trial, update the inverse Hessian, propose the next."""
        n = s.x.shape[0]
        t = _judge(s, values)
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
        direction = jnp.where(fresh, _first_direction(t.gradient), -(inverse @ t.gradient))
        step, scale = _capped(direction, t, s.max_step)
        evaluations = s.evaluations + 1
        stalled = t.lost & s.fresh & ~t.start
        status = _status(t.finite | ~t.start, rms(t.gradient), self.tol, evaluations, self.max_evaluations, stalled)
        return _BFGSState(t.x, s.max_step, t.energy, t.gradient, inverse, step, scale, fresh, evaluations, status)

    def status(self, state: _BFGSState) -> jax.Array:
        """See ``lanes.Status``."""
        return state.status

    def result(self, state: _BFGSState) -> Minimum:
        """Last accepted point."""
        return Minimum(state.x, state.energy, rms(state.gradient), state.evaluations)


class History(NamedTuple):
    """The last m secant pairs of a quasi-Newton method, in a ring: steps and gradient changes [m, N], 1 / (s.y) [m].

    ``newest`` is the place of the last pair; unused places have weight 0.
    """

    steps: jax.Array
    changes: jax.Array
    weights: jax.Array
    newest: jax.Array

    @classmethod
    def empty(cls, m: int, n: int, dtype: Any) -> History:
        """No pairs, room for m."""
        rows = jnp.zeros((m, n), dtype)
        return cls(rows, rows, jnp.zeros(m, dtype), jnp.zeros((), jnp.int32))

    def push(self, step: jax.Array, change: jax.Array, sy: jax.Array, update: jax.Array) -> History:
        """With one more pair in place of the oldest, where ``update`` holds."""
        place = jnp.where(update, (self.newest + 1) % self.weights.shape[0], self.newest)

        def put(rows: jax.Array, row: jax.Array) -> jax.Array:
            return rows.at[place].set(jnp.where(update, row, rows[place]))

        weights = put(self.weights, 1.0 / jnp.where(update, sy, 1.0))
        return History(put(self.steps, step), put(self.changes, change), weights, place)

    @property
    def known(self) -> jax.Array:
        """Whether there is any pair."""
        return self.weights[self.newest] > 0


def two_loop(gradient: jax.Array, history: History) -> jax.Array:
    """Inverse Hessian estimate times gradient by the two-loop recursion (Nocedal 1980; Liu & Nocedal 1989).

    H0 = s.y / y.y of the newest pair.
    """
    steps, changes, weights, newest = history
    m = weights.shape[0]

    def back(k: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        q, alphas = carry
        i = (newest - k) % m
        alpha = weights[i] * (steps[i] @ q)
        return q - alpha * changes[i], alphas.at[i].set(alpha)

    q, alphas = jax.lax.fori_loop(0, m, back, (gradient, jnp.zeros(m, gradient.dtype)))
    last = changes[newest]
    weight = weights[newest]
    h0 = jnp.where(weight > 0, 1.0 / jnp.where(weight > 0, weight * (last @ last), 1.0), 1.0)

    def forth(k: jax.Array, r: jax.Array) -> jax.Array:
        i = (newest + 1 + k) % m
        beta = weights[i] * (changes[i] @ r)
        return r + (alphas[i] - beta) * steps[i]

    return jax.lax.fori_loop(0, m, forth, h0 * q)


class _LBFGSState(NamedTuple):
    x: jax.Array
    max_step: jax.Array
    energy: jax.Array
    gradient: jax.Array
    history: History
    step: jax.Array
    scale: jax.Array
    evaluations: jax.Array
    status: jax.Array


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS without line search, as GMIN, OPTIM and pele do it; for N too large for N^2 storage.

    Two-loop recursion, H0 = s.y/y.y, first step min(|g|, 1/|g|), reversed if uphill, capped at the start's
    ``max_step``, accepted if the energy rises by no more than rounding noise, else ten times shorter; forgets its
    history after many rejections, or where short steps go down a ridge. Evaluate with ``Kernel.first``.
    """

    tol: float = 1e-6
    max_evaluations: int = 20000
    history: int = 10

    def init(self, item: Start) -> _LBFGSState:
        """Start at ``item.x`` [N]."""
        n, dtype = item.x.shape[0], item.x.dtype
        zero = jnp.zeros((), jnp.int32)
        return _LBFGSState(
            item.x,
            jnp.asarray(item.max_step, dtype),
            jnp.asarray(jnp.inf, dtype),
            jnp.zeros(n, dtype),
            History.empty(self.history, n, dtype),
            jnp.zeros(n, dtype),
            jnp.ones((), dtype),
            zero,
            zero,
        )

    def point(self, state: _LBFGSState) -> Float[Array, " N"]:
        """Trial point."""
        return state.x + state.step

    def step(self, s: _LBFGSState, values: Values) -> _LBFGSState:
        """Accept or reject the trial, push the pair onto the history, propose the next."""
        t = _judge(s, values)
        history = s.history.push(s.step, t.change, t.sy, t.accept & t.curved)
        history = history._replace(weights=jnp.where(t.lost | t.stale, 0.0, history.weights))
        direction = jnp.where(history.known, -two_loop(t.gradient, history), _first_direction(t.gradient))
        step, scale = _capped(direction, t, s.max_step)
        evaluations = s.evaluations + 1
        stalled = t.lost & ~s.history.known & ~t.start
        status = _status(t.finite | ~t.start, rms(t.gradient), self.tol, evaluations, self.max_evaluations, stalled)
        return _LBFGSState(t.x, s.max_step, t.energy, t.gradient, history, step, scale, evaluations, status)

    def status(self, state: _LBFGSState) -> jax.Array:
        """See ``lanes.Status``."""
        return state.status

    def result(self, state: _LBFGSState) -> Minimum:
        """Last accepted point."""
        return Minimum(state.x, state.energy, rms(state.gradient), state.evaluations)


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

    def refine(_: int, carry: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
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


class _NewtonState(NamedTuple):
    x: jax.Array
    energy: jax.Array
    gradient: jax.Array
    hessian: jax.Array
    step: jax.Array
    predicted: jax.Array
    radius: jax.Array
    lowest: jax.Array
    evaluations: jax.Array
    status: jax.Array


@dataclass(frozen=True)
class Newton:
    """Trust-region Newton with exact Hessians (evaluate with ``Kernel.second``): ends quadratically, leaves saddles.

    Ends converged when the rms gradient is at most ``tol`` and no Hessian eigenvalue lies below ``-zero``; at a
    saddle the trust-region step follows the negative mode down.
    """

    tol: float = 1e-9
    max_evaluations: int = 500
    radius: float = 0.3
    max_radius: float = 10.0
    zero: float = 1e-8

    def init(self, item: Start) -> _NewtonState:
        """Start at ``item.x`` [N]."""
        n, dtype = item.x.shape[0], item.x.dtype
        zero = jnp.zeros((), jnp.int32)
        return _NewtonState(
            item.x,
            jnp.asarray(jnp.inf, dtype),
            jnp.zeros(n, dtype),
            jnp.eye(n, dtype=dtype),
            jnp.zeros(n, dtype),
            -jnp.ones((), dtype),
            jnp.minimum(self.radius, item.max_step).astype(dtype),
            jnp.zeros((), dtype),
            zero,
            zero,
        )

    def point(self, state: _NewtonState) -> Float[Array, " N"]:
        """Trial point."""
        return state.x + state.step

    def step(self, s: _NewtonState, values: Curved) -> _NewtonState:
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
        status = _status(
            finite | ~start,
            jnp.where(at_rest & (modes[0] >= -self.zero), 0.0, jnp.inf),
            self.tol,
            evaluations,
            self.max_evaluations,
            radius < 1e-13,
        )
        return _NewtonState(
            x, energy, gradient, hessian, basis @ move, predicted, radius, modes[0], evaluations, status
        )

    def status(self, state: _NewtonState) -> jax.Array:
        """See ``lanes.Status``."""
        return state.status

    def result(self, state: _NewtonState) -> Minimum:
        """Last accepted point."""
        return Minimum(state.x, state.energy, rms(state.gradient), state.evaluations)
