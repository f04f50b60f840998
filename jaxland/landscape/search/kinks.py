"""Where a quench ends without a minimum: on a kink of the loss (relu, |x|, max), stationary in Clarke's sense or not.

A minimum on a kink has no vanishing gradient and passes no audit by it. It is told by gradient sampling (Burke, Lewis
& Overton 2005): gradients at random points within a small radius; the point is stationary at this radius when their
convex hull comes near 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxland.core.energy.kernels import Kernel

if TYPE_CHECKING:
    from jaxland.problem.problem import Problem

RADII = (1e-6, 1e-5, 1e-4, 1e-3)
NEAR = 0.02  # the hull's least norm over the largest gradient
_JUMP = 10.0  # gradients differ by so many times what the curvature explains


class Kinks(NamedTuple):
    """Quenches that ended on kinks.

    Attributes:
        ended: so many.
        stationary: of these, Clarke-stationary at a radius of ``RADII``.
        lowest: lowest energy among them; inf where there is none.
        at: coordinates [N] of that point.
    """

    ended: int = 0
    stationary: int = 0
    lowest: float = np.inf
    at: tuple[float, ...] = ()

    def plus(self, other: Kinks) -> Kinks:
        """Both together."""
        first = self if self.lowest <= other.lowest else other
        return Kinks(
            self.ended + other.ended, self.stationary + other.stationary, first.lowest, tuple(map(float, first.at))
        )

    def to_json(self) -> dict[str, Any]:
        """JSON-able."""
        return {**self._asdict(), "lowest": self.lowest if self.ended else None, "at": list(self.at)}

    @classmethod
    def of_json(cls, told: dict[str, Any] | None) -> Kinks:
        """What ``to_json`` wrote; none where there is nothing."""
        if not told or not told["ended"]:
            return cls()
        return cls(int(told["ended"]), int(told["stationary"]), float(told["lowest"]), tuple(told["at"]))


class Sample(NamedTuple):
    """What is evaluated around a point [N].

    Attributes:
        energy: there.
        gradients: [radii, count, N] at random points at each radius.
        curvature: rms curvature there.
    """

    energy: jax.Array
    gradients: jax.Array
    curvature: jax.Array


def may_kink(problem: Problem) -> bool:
    """Whether a loss may have kinks, for all that is known of it."""
    return problem.model is None or problem.model.activation in (None, "relu")


def judge(x: Float[np.ndarray, " N"], sample: Sample) -> Kinks:
    """Whether the point where a quench gave up lies on a kink, and is stationary there."""
    energy, curvature, n = float(sample.energy), float(sample.curvature), len(x)
    around = np.asarray(sample.gradients)
    if not (np.isfinite(energy) and np.isfinite(around).all()):
        return Kinks()
    kinked = stationary = False
    for radius, g in zip(RADII, around):
        top = float(np.sqrt(np.max(np.sum(g * g, axis=1))))
        jump = float(np.max(np.linalg.norm(g - g.mean(0), axis=1)))
        if top > 0 and jump > max(_JUMP * radius * curvature * n**0.5, 1e-3 * top):
            kinked = True
            stationary |= bool(least_norm(g / top) <= NEAR)
    return Kinks(1, int(stationary), energy, tuple(map(float, x))) if kinked else Kinks()


def sampling(kernel: Kernel, n: int) -> Callable[[jax.Array, Any], Sample]:
    """``(x[N], data) -> Sample``."""
    return _sampling(kernel.first, kernel.product, int(np.clip(2 * n, 12, 128)))


@lru_cache(maxsize=32)
def _sampling(first: Callable, product: Callable, count: int) -> Callable[[jax.Array, Any], Sample]:
    def sample(x: jax.Array, data: Any) -> Sample:
        # The same directions for every point: what is found depends on the point alone.
        directions = jax.random.normal(jax.random.key(5), (count, x.shape[0]), x.dtype)
        units = directions / jnp.sqrt(jnp.sum(directions**2, axis=1, keepdims=True))
        radii = jnp.asarray(RADII, x.dtype)
        around = jax.lax.map(lambda r: jax.lax.map(lambda v: first(x + r * v, data).gradient, units), radii)
        bent = jax.lax.map(lambda v: product(x, v, data), units[:4])
        return Sample(first(x, data).energy, around, jnp.sqrt(jnp.mean(jnp.sum(bent**2, axis=1))))

    return sample


def least_norm(gradients: Float[np.ndarray, "k N"]) -> float:
    """Norm of the point of the convex hull that is nearest to 0."""
    from scipy.optimize import nnls

    # Non-negative least squares with a heavy row that makes the weights sum to 1.
    heavy = 1e3
    rows = np.concatenate([gradients.T, np.full((1, len(gradients)), heavy)])
    weights, _ = nnls(rows, np.append(np.zeros(gradients.shape[1]), heavy), maxiter=50 * len(gradients))
    total = float(weights.sum())
    return float(np.linalg.norm(gradients.T @ weights) / total) if total > 0 else np.inf
