"""Doubly nudged elastic band between two points (Trygubenko & Wales 2004)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxland.core.energy.kernels import Values
from jaxland.core.solvers.protocol import Status
from jaxland.core.solvers.secant import History, two_loop


class Band(NamedTuple):
    """What a relaxation reports.

    Attributes:
        images: the band as last evaluated, with both ends.
        energies: of the images.
        tangents: unit tangents at the images.
        evaluations: of the whole band.
    """

    images: Float[Array, "K N"]
    energies: Float[Array, " K"]
    tangents: Float[Array, "K N"]
    evaluations: Int[Array, ""]


def tangents(images: Float[Array, "K N"], energies: Float[Array, " K"]) -> Float[Array, "K N"]:
    """Unit tangents by the upwind rule of Henkelman & Jonsson (2000); bisecting where the energies tie.

    At an extremum the larger energy difference weighs the vector to the higher neighbour. An end gets its segment.
    """
    up = images[2:] - images[1:-1]
    down = images[1:-1] - images[:-2]
    rise, fall = energies[2:] - energies[1:-1], energies[:-2] - energies[1:-1]
    large = jnp.maximum(jnp.abs(rise), jnp.abs(fall))
    small = jnp.minimum(jnp.abs(rise), jnp.abs(fall))
    next_higher = energies[2:] > energies[:-2]
    mixed = up * jnp.where(next_higher, large, small)[:, None] + down * jnp.where(next_higher, small, large)[:, None]
    climbing, falling = (rise > 0) & (fall <= 0), (rise <= 0) & (fall > 0)
    inner = jnp.where(climbing[:, None], up, jnp.where(falling[:, None], down, mixed))
    inner = jnp.where(
        (large == 0)[:, None] | (energies[2:] == energies[:-2])[:, None], _unit(up) + _unit(down), inner
    )
    inner = jnp.where(jnp.sum(inner * inner, axis=1, keepdims=True) > 0, inner, images[2:] - images[:-2])
    return jnp.concatenate([_unit(images[1:2] - images[:1]), _unit(inner), _unit(images[-1:] - images[-2:-1])])


def _unit(rows: jax.Array) -> jax.Array:
    length = jnp.sqrt(jnp.sum(rows * rows, axis=1, keepdims=True))
    return rows / jnp.where(length > 0, length, 1.0)


def doubly_nudged(
    images: Float[Array, "K N"], energies: Float[Array, " K"], gradients: Float[Array, "K N"], spring: jax.Array
) -> Float[Array, "K N"]:
    """g_DNEB = g_perp + s_par + s_perp - (s_perp . ghat_perp) ghat_perp at the inner images, 0 at the ends."""
    t = tangents(images, energies)[1:-1]
    g = gradients[1:-1]
    across = g - jnp.sum(g * t, axis=1, keepdims=True) * t
    back, ahead = images[1:-1] - images[:-2], images[1:-1] - images[2:]
    s = spring * (back + ahead)
    distance_back = jnp.sqrt(jnp.sum(back * back, axis=1, keepdims=True))
    distance_ahead = jnp.sqrt(jnp.sum(ahead * ahead, axis=1, keepdims=True))
    along = spring * (distance_back - distance_ahead) * t
    s_across = s - jnp.sum(s * t, axis=1, keepdims=True) * t
    unit = _unit(across)
    s_across = s_across - jnp.sum(s_across * unit, axis=1, keepdims=True) * unit
    inner = across + along + s_across
    edge = jnp.zeros_like(images[:1])
    return jnp.concatenate([edge, inner, edge])


@lru_cache(maxsize=64)
def along_band(first: Callable[[jax.Array, PyTree], Values]) -> Callable[[jax.Array, PyTree], Values]:
    """Evaluation of a band: ``Kernel.first`` at every image, energies [K] and gradients [K, N]."""

    def evaluate(images: jax.Array, data: PyTree) -> Values:
        return jax.vmap(lambda w: first(w, data))(images)

    return evaluate


class ElasticState(NamedTuple):
    """What a lane carries.

    Attributes:
        images: the band as last evaluated.
        energies: of the images; zeros before the first evaluation.
        force: doubly nudged gradient at the images, zeros at the ends.
        spring: constant, set at the first evaluation.
        history: secant pairs [m, K * N] of the force along steps of the whole band.
        step: from ``images`` to the trial band.
        evaluations: of the whole band so far.
        status: see ``protocol.Status``.
    """

    images: Float[Array, "K N"]
    energies: Float[Array, " K"]
    force: Float[Array, "K N"]
    spring: Float[Array, ""]
    history: History
    step: Float[Array, "K N"]
    evaluations: Int[Array, ""]
    status: Int[Array, ""]


@dataclass(frozen=True)
class ElasticBand:
    """Relaxes ``images`` points between two ends; items are pairs [2, N], or [images, N] for a path to start from.

    L-BFGS on the doubly nudged force without line search: the force is the gradient of nothing. The spring constant
    is set at the first evaluation so that spring and true forces balance at the initial spacing. A band need not
    converge: its maxima are starts for eigenvector-following.

    Attributes:
        images: of a band, both ends included.
        max_evaluations: of the whole band, at which it is handed out as it is.
        tol: rms force of the inner images.
        max_step: longest move of an image.
        history: secant pairs kept.
    """

    images: int = 11
    max_evaluations: int = 60
    tol: float = 1e-3
    max_step: float = 0.2
    history: int = 4

    def init(self, item: Float[Array, "m N"]) -> ElasticState:
        """Straight line between the two ends, or the given path."""
        if item.shape[0] == 2:
            t = jnp.linspace(0.0, 1.0, self.images, dtype=item.dtype)[:, None]
            item = item[:1] + t * (item[1:] - item[:1])
        zero = jnp.zeros((), jnp.int32)
        return ElasticState(
            images=item,
            energies=jnp.zeros(item.shape[0], item.dtype),
            force=jnp.zeros_like(item),
            spring=jnp.ones((), item.dtype),
            history=History.empty(self.history, item.size, item.dtype),
            step=jnp.zeros_like(item),
            evaluations=zero,
            status=zero,
        )

    def point(self, state: ElasticState) -> Float[Array, "K N"]:
        """Trial images."""
        return state.images + state.step

    def step(self, s: ElasticState, values: Values) -> ElasticState:
        """Forces at the trial, history, next move."""
        start = s.evaluations == 0
        images = s.images + s.step
        energies, gradients = values.energy, values.gradient
        finite = jnp.all(jnp.isfinite(energies)) & jnp.all(jnp.isfinite(gradients))
        segments = jnp.sqrt(jnp.sum((images[1:] - images[:-1]) ** 2, axis=1))
        balance = jnp.mean(jnp.sqrt(jnp.sum(gradients[1:-1] ** 2, axis=1))) / (jnp.mean(segments) + 1e-30)
        spring = jnp.where(start, balance, s.spring)
        force = doubly_nudged(images, energies, gradients, spring)
        taken, change = s.step.ravel(), (force - s.force).ravel()
        sy = taken @ change
        update = ~start & (sy > 1e-8 * jnp.sqrt((taken @ taken) * (change @ change)))

        history = s.history.push(taken, change, sy, update)
        flat = force.ravel()
        first = flat * (0.1 * self.max_step / (jnp.max(jnp.sqrt(jnp.sum(force**2, axis=1))) + 1e-30))
        move = -jnp.where(history.known, two_loop(flat, history), first)
        move = jnp.where(move @ flat > 0, -first, move).reshape(force.shape)
        longest = jnp.max(jnp.sqrt(jnp.sum(move * move, axis=1)))
        move = move * jnp.minimum(1.0, self.max_step / jnp.where(longest > 0, longest, 1.0))
        size = jnp.sqrt(jnp.mean(force[1:-1] ** 2))
        evaluations = s.evaluations + 1
        status = jnp.where(evaluations >= self.max_evaluations, Status.MAX_STEPS, Status.RUNNING)
        status = jnp.where(size <= self.tol, Status.CONVERGED, status)
        status = jnp.where(finite, status, Status.NONFINITE).astype(jnp.int32)
        return ElasticState(
            images=images,
            energies=energies,
            force=force,
            spring=spring,
            history=history,
            step=move,
            evaluations=evaluations,
            status=status,
        )

    def status(self, state: ElasticState) -> Int[Array, ""]:
        """See ``protocol.Status``; ``MAX_STEPS`` is a usable end."""
        return state.status

    def result(self, state: ElasticState) -> Band:
        """The band as last evaluated."""
        return Band(state.images, state.energies, tangents(state.images, state.energies), state.evaluations)
