"""Basin hopping: the hops of a walker follow each other within one job of a round; each is quenched, audited, stored.

Where a program does all hops of a walker (``core.pallas.whole.hops``) it decides as is done here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxland.core.solvers.quench import Walk
from jaxland.landscape.search.points import Point

if TYPE_CHECKING:
    from jaxland.landscape.search.stationary import Engine


class Hop(NamedTuple):
    """A job of a hop round. Jobs of one walker follow each other; all name the minimum that the first sets off from.

    Attributes:
        walker: number; step: of its hops.
        minimum: where the walker is when the round begins; energy: there (NaN in rounds of single hops).
        temperature: of the Metropolis rule.
    """

    walker: int
    step: int
    minimum: int
    temperature: float
    energy: float = np.nan


def chains(hops: list[Hop]) -> list[range]:
    """Places of the hops that follow each other."""
    first = [
        k
        for k, hop in enumerate(hops)
        if not k or (hop.walker, hop.step) != (hops[k - 1].walker, hops[k - 1].step + 1)
    ]
    return [range(a, b) for a, b in zip(first, [*first[1:], len(hops)])]


def allowance(rng: np.random.Generator, temperature: float) -> float:
    """Rise of the energy below which a hop is accepted: rise < -T ln(u), which is u < exp(-rise / T)."""
    return -max(temperature, 1e-300) * float(np.log(max(rng.random(), 1e-300)))


def accepts(energy: float, level: float, allowed: float) -> bool:
    """The Metropolis rule."""
    return energy <= level or energy - level < allowed


def kicked(x: np.ndarray, kick: np.ndarray) -> np.ndarray:
    """See ``core.solvers.quench.displaced``."""
    return x + max(float(np.sqrt(np.mean(x * x))), 1e-3) * kick


def hop_by_hop(engine: Engine, walks: Walk) -> tuple[list[list[Point | None]], list[np.ndarray | None]]:
    """All walkers side by side, one hop after the other; see ``Engine.hops`` and ``Engine.lost``."""
    xs, levels = list(np.asarray(walks.x, np.float64)), np.asarray(walks.energy).tolist()
    many, several, _ = walks.kicks.shape
    allowed = np.asarray(walks.allowed).tolist()
    found: list[list[Point | None]] = [[None] * several for _ in range(many)]
    lost: list[np.ndarray | None] = [None] * (many * several)
    for k in range(several):
        if engine.should_stop is not None and engine.should_stop():
            break
        points = engine.quench([kicked(x, kick) for x, kick in zip(xs, walks.kicks[:, k])])
        for w, point in enumerate(points):
            found[w][k], lost[w * several + k] = point, engine.lost[w]
            if point is not None and accepts(point.energy, levels[w], allowed[w][k]):
                xs[w], levels[w] = point.x, point.energy
    return found, lost
