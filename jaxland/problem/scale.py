"""Units of energy and length that a problem itself suggests, so that a landscape does not depend on the user's.

A search works in reduced units, u = w / length and E(length u) / energy, where wells are about as wide as 1 and curve
by about 1; its tolerances, steps and displacements are numbers in these units. Networks with a mean loss are in such
units as they are: their scale is 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from jaxland.core.energy import kernels
from jaxland.errors import ArgumentError

if TYPE_CHECKING:
    from jaxland.problem.problem import Problem

Box = tuple[ArrayLike, ArrayLike]
Walk = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]  # steps done, point, energy, gradient, step
_PILOTS = 8
_RAYS = 8
_STEPS = 250
# rms displacement at which a well is no longer harmonic, in units of the length: for the double well (w^2 - 1)^2 the
# length is then 1.8, and for a Lennard-Jones cluster a fifth of sigma.
_ANHARMONIC = 0.15


@dataclass(frozen=True)
class Scale:
    """Units of a search.

    Attributes:
        energy: of the user's units of energy.
        length: of the user's units of length.
        reach: standard deviation of the coordinates of random starts without a box, in units of ``length``.

    Raises:
        ArgumentError: one is not positive and finite.
    """

    energy: float = 1.0
    length: float = 1.0
    reach: float = 1.0

    def __post_init__(self) -> None:
        for name in ("energy", "length", "reach"):
            value = float(getattr(self, name))
            if not (np.isfinite(value) and value > 0):
                raise ArgumentError(f"{name} of a scale must be positive and finite, got {value:g}")

    @property
    def gradient(self) -> float:
        """Unit of gradients."""
        return self.energy / self.length

    @property
    def curvature(self) -> float:
        """Unit of Hessians."""
        return self.energy / self.length**2

    @property
    def is_one(self) -> bool:
        """Whether reduced units are the user's."""
        return self.energy == 1.0 and self.length == 1.0

    def to_json(self) -> dict[str, float]:
        """JSON-able."""
        return {"energy": self.energy, "length": self.length, "reach": self.reach}


def scale_of(problem: Problem, box: Box | None = None) -> Scale:
    """The problem's own scale where it has one, 1 for a network, else found from its energy; always the same one.

    Eight walks go downhill from random starts, in the box or, without one, about as far from the origin as the
    energy first has a well along a ray. The length is four times the rms displacement at which the wells they end in
    are harmonic no more; the energy is length^2 times the rms curvature there.
    """
    if problem.scale is not None:
        return problem.scale
    if problem.plain is None:
        return Scale()
    with problem.precision():
        return _found(problem, box)


def reduced(problem: Problem, scale: Scale) -> Problem:
    """The problem in units of its scale: E(length u) / energy; the same one whenever it is asked for."""
    if scale.is_one:
        return problem
    if problem.plain is None:
        raise ArgumentError("only a plain energy (Problem.from_energy) can have a scale other than 1")
    plain, second = problem.plain, problem.second
    return problem.compiled(
        ("scale", scale),
        lambda: replace(
            problem,
            plain=_Energy(plain, scale),
            second=None if second is None else _Second(second, scale),
            symmetry=problem.symmetry.reduced(scale.length),
            scale=Scale(),
            programs=None,
        ),
    )


@dataclass(frozen=True)
class _Energy:
    """Energy in reduced units."""

    plain: Callable[[jax.Array], jax.Array]
    scale: Scale

    def __call__(self, u: Float[Array, " N"]) -> Float[Array, ""]:
        return self.plain(self.scale.length * u) / self.scale.energy


@dataclass(frozen=True)
class _Second:
    """Energy, gradient and Hessian in reduced units."""

    second: Callable[[jax.Array], Any]
    scale: Scale

    def __call__(self, u: Float[Array, " N"]) -> kernels.Curved:
        energy, gradient, hessian = self.second(self.scale.length * u)
        s = self.scale
        return kernels.Curved(energy / s.energy, gradient / s.gradient, hessian / s.curvature)


# -- finding it ----------------------------------------------------------------------------------------------------


def check_box(box: Box | None, size: int) -> None:
    """Raise ``ArgumentError`` unless box is None or (low, high), low below high, for ``size`` coordinates."""
    if box is None:
        return
    try:
        low, high = (np.broadcast_to(np.asarray(b, float), size) for b in box)
    except (ValueError, TypeError) as error:
        raise ArgumentError(f"box must be (low, high), each a number or a vector of {size} coordinates") from error
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise ArgumentError(f"box must be (low, high) of finite numbers, low below high, got {box}")


def _found(problem: Problem, box: Box | None) -> Scale:
    kernel, n = problem.kernel, problem.size
    rng = np.random.default_rng(20261127)
    if box is not None:
        low, high = (np.broadcast_to(np.asarray(b, float), n) for b in box)
        spread = float(np.sqrt(np.mean((high - low) ** 2) / 12.0))
        starts = rng.uniform(low, high, (_PILOTS, n))
    else:
        spread = _first_wells(kernel, rng.normal(size=(_RAYS, n)))
        starts = spread * rng.normal(size=(_PILOTS, n))
    if not (np.isfinite(spread) and spread > 0):
        return Scale()
    ends = jax.jit(lambda xs, data: jax.lax.map(lambda x: _descend(kernel, x, spread, data), xs))(starts, kernel.data)
    slopes, curvatures, widths = _wells(kernel, ends, spread, rng.normal(size=(3, n)))
    # A kink, a plateau or a wall is no well.
    wells = np.isfinite(curvatures) & (curvatures > 0) & (slopes < 0.05 * curvatures * spread)
    if not wells.any():
        steep = slopes[np.isfinite(slopes) & (slopes > 0)]
        return _rounded(float(np.median(steep)) * spread if len(steep) else 1.0, spread, spread)
    length = float(np.exp(np.median(np.log(widths[wells])))) / _ANHARMONIC
    return _rounded(length**2 * float(np.exp(np.median(np.log(curvatures[wells])))), length, spread)


def _rounded(energy: float, length: float, spread: float) -> Scale:
    """To three digits: the scale is the same where rounding differs."""
    energy, length = float(f"{energy:.3g}"), float(f"{length:.3g}")
    if not (0 < energy < np.inf and 0 < length < np.inf):
        return Scale()
    return Scale(energy, length, float(f"{spread / length:.3g}"))


def _first_wells(kernel: kernels.Kernel, directions: Float[np.ndarray, "k N"]) -> float:
    """Median rms coordinate at which the energy first has a well along rays from the origin; 1: none has."""
    program = jax.jit(
        lambda zs, reach, data: jax.lax.map(
            lambda pair: jax.lax.map(lambda s: kernel.first(s * pair[0], data).energy, pair[1]), (zs, reach)
        )
    )
    grid = 2.0 ** np.arange(-80.0, 81.0)
    reach = np.broadcast_to(grid, (len(directions), len(grid)))
    found = np.ones(len(directions))
    for _ in range(3):  # the first octaves with a well, then finer ones around it
        energies = np.asarray(program(directions, reach, kernel.data))
        place = np.array([_first_well(e) for e in energies])
        inside = place > 0
        if not inside.any():
            return 1.0
        directions, reach, place = directions[inside], reach[inside], place[inside]
        found = np.take_along_axis(reach, place[:, None], 1)[:, 0]
        low, high = (np.take_along_axis(reach, place[:, None] + k, 1)[:, 0] for k in (-1, 1))
        reach = np.geomspace(low, high, len(grid), axis=1)
    return float(np.exp(np.median(np.log(found))))


def _first_well(energies: Float[np.ndarray, " k"]) -> int:
    """The first inner place lower than both its neighbours by more than rounding; 0: there is none."""
    back, here, ahead = energies[:-2], energies[1:-1], energies[2:]
    with np.errstate(invalid="ignore", over="ignore"):
        noise = 1e-13 * np.maximum(np.abs(here), np.where(np.isfinite(ahead), np.abs(ahead), 0.0))
        well = np.isfinite(here) & ~(back - here <= noise) & ~(ahead - here <= noise)
    return 1 + int(np.argmax(well)) if well.any() else 0


def _descend(kernel: kernels.Kernel, x: jax.Array, spread: float, data: Any) -> jax.Array:
    """Steepest descent whose steps have a length of their own: it knows no unit of energy."""
    start = kernel.first(x, data)
    longest = spread * x.shape[0] ** 0.5

    def running(carry: Walk) -> jax.Array:
        return (carry[0] < _STEPS) & (carry[4] > 1e-7 * longest)

    def body(carry: Walk) -> Walk:
        k, x, energy, gradient, step = carry
        # By the largest component first: squares of forces beyond 1e154 overflow.
        top = jnp.max(jnp.abs(gradient))
        unit = gradient / jnp.where(top > 0, top, 1.0)
        norm = jnp.sqrt(unit @ unit)
        trial = x - step * unit / jnp.where(norm > 0, norm, 1.0)
        there = kernel.first(trial, data)
        better = jnp.isfinite(there.energy) & jnp.all(jnp.isfinite(there.gradient)) & (there.energy < energy)
        return (
            k + 1,
            jnp.where(better, trial, x),
            jnp.where(better, there.energy, energy),
            jnp.where(better, there.gradient, gradient),
            jnp.where(better, jnp.minimum(1.2 * step, 0.3 * longest), 0.4 * step),
        )

    first = (jnp.zeros((), jnp.int32), x, start.energy, start.gradient, jnp.asarray(0.1 * longest, x.dtype))
    return jax.lax.while_loop(running, body, first)[1]


def _wells(
    kernel: kernels.Kernel, ends: jax.Array, spread: float, directions: Float[np.ndarray, "k N"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """At each end [P]: rms gradient, rms curvature, and the rms displacement that ends its harmonic neighbourhood."""
    n = ends.shape[1]
    reach = spread * 2.0 ** np.arange(-24.0, 3.0)
    units = directions * (n / np.sum(directions**2, axis=1, keepdims=True)) ** 0.5

    def one(x: jax.Array, data: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        here = kernel.first(x, data).gradient

        def towards(v: jax.Array) -> tuple[jax.Array, jax.Array]:
            bend = jax.jvp(lambda w: kernel.first(w, data).gradient, (x,), (v,))[1]

            def miss(h: jax.Array) -> jax.Array:
                ahead = kernel.first(x + h * v, data).gradient - here - h * bend
                return jnp.sqrt(jnp.mean(ahead**2)) / (h * jnp.sqrt(jnp.mean(bend**2)))

            return jnp.mean(bend**2), jax.lax.map(miss, jnp.asarray(reach, x.dtype))

        squares, misses = jax.lax.map(towards, jnp.concatenate([units, -units]))
        return jnp.sqrt(jnp.mean(here**2)), jnp.sqrt(jnp.mean(squares)), misses

    program = jax.jit(lambda xs, data: jax.lax.map(lambda x: one(x, data), xs))
    slopes, curvatures, misses = map(np.asarray, program(ends, kernel.data))
    # Differences of gradients over the shortest steps are rounding: the last harmonic step counts, and how much
    # farther the bound is reached.
    harmonic = np.where(np.isfinite(misses), misses, np.inf) <= 0.5
    last = np.minimum(misses.shape[2] - 1 - np.argmax(harmonic[:, :, ::-1], axis=2), len(reach) - 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        here, ahead = (np.log(np.take_along_axis(misses, last[..., None] + k, 2)[..., 0]) for k in (0, 1))
        part = np.clip(np.nan_to_num((np.log(0.5) - here) / (ahead - here)), 0.0, 1.0)
    known = harmonic.any(2) & ~harmonic[:, :, -1]
    width = np.where(known, reach[last] * 2.0**part, spread * _ANHARMONIC)
    return slopes, curvatures, np.exp(np.mean(np.log(width), axis=1))
