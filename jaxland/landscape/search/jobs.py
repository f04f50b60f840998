"""What one job of a search does: from its kind and numbers to audited points, the same on every worker.

Random numbers derive from the seed and the job, coordinates from the store's numbering: a job gives the same points
wherever it runs, so a round may be shared out in any way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
from jax.sharding import Mesh
from numpy.typing import ArrayLike

from jaxland.core.solvers.lanes import Layout
from jaxland.core.solvers.saddle import Guess
from jaxland.landscape.search.settings import SearchSettings
from jaxland.landscape.search.stationary import Engine, Point, Tolerances, TransitionState
from jaxland.problem.problem import Problem

QUENCHES = ("random", "hop")
SINGLE_ENDED = ("climb", "expand")
PAIRS = ("lowest", "join", "untrap", "nearest", "chance")
_SEEDS = {kind: k + 1 for k, kind in enumerate((*QUENCHES, *SINGLE_ENDED))}

Coordinates = Mapping[int, np.ndarray] | Sequence[np.ndarray] | np.ndarray
Box = tuple[ArrayLike, ArrayLike]
# What JSON keeps of a job; ``Batch`` says what the numbers mean.
Job = int | list[int] | list[float]
Find = Point | TransitionState


class Batch(NamedTuple):
    """Consecutive jobs of one round, and nothing else a worker would have to know of the store.

    Attributes:
        kind: of the round.
        jobs: random and climb: a number; hop: [walker, step, minimum, temperature]; expand: [minimum, search]; pair
            strategies: [minimum, minimum].
    """

    kind: str
    jobs: Sequence[Job]

    def numbers(self) -> list[int]:
        """Jobs of a random or climb round."""
        return cast(list[int], self.jobs)

    def hops(self) -> list[tuple[int, int, int, float]]:
        """Jobs of a hop round: walker, step, minimum, temperature."""
        return [(int(w), int(k), int(i), t) for w, k, i, t in cast(list[list[float]], self.jobs)]

    def couples(self) -> list[tuple[int, int]]:
        """Jobs of an expand round (minimum, search) or of a pair strategy (minimum, minimum)."""
        return [(a, b) for a, b in cast(list[list[int]], self.jobs)]

    def minima(self) -> list[int]:
        """Minima whose coordinates the jobs need, ascending."""
        if self.kind in ("random", "climb"):
            return []
        if self.kind == "hop":
            return sorted({minimum for _, _, minimum, _ in self.hops()})
        if self.kind == "expand":
            return sorted({minimum for minimum, _ in self.couples()})
        return sorted({i for pair in self.couples() for i in pair})


class Finds(NamedTuple):
    """What a batch found: a list of minima or of transition states per job, and the work it took (see Engine)."""

    lists: list[list[Find]]
    work: int


def generator(seed: int, kind: str, *numbers: int) -> np.random.Generator:
    """Random numbers of one job."""
    return np.random.default_rng([seed, _SEEDS[kind], *numbers])


class Runner:
    """Runs batches of one problem under one choice of settings.

    Args:
        problem: in float64.
        settings: what the search does.
        tolerances, layout, mesh: see ``Engine``.
        box: (low, high): random starts are uniform in it instead of normal.
        should_stop: asked between blocks of passes.

    Attributes:
        batches: run so far.
    """

    def __init__(
        self,
        problem: Problem,
        settings: SearchSettings,
        tolerances: Tolerances | None = None,
        *,
        box: Box | None = None,
        layout: Layout | None = None,
        mesh: Mesh | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self.problem, self.settings = problem, settings
        self.box = None if box is None else tuple(np.broadcast_to(np.asarray(b, float), problem.size) for b in box)
        self.stopping = should_stop or (lambda: False)
        self.batches = 0
        self.engine = Engine(
            problem,
            tolerances,
            layout=layout,
            mesh=mesh,
            max_step=settings.max_step,
            images=settings.images,
            precision=settings.precision,
            should_stop=should_stop,
        )

    def _random_point(self, kind: str, job: int) -> np.ndarray:
        rng = generator(self.settings.seed, kind, job)
        if self.box is not None:
            return rng.uniform(*self.box)
        return self.settings.start_scale * rng.normal(size=self.problem.size)

    def _displaced(self, x: np.ndarray, minimum: int, search: int) -> np.ndarray:
        """A copy of a minimum, displaced by 5 to 50 % of its rms coordinate: far enough for a negative curvature."""
        rng = generator(self.settings.seed, "expand", minimum, search)
        size = np.exp(rng.uniform(np.log(0.05), np.log(0.5))) * max(float(np.sqrt(np.mean(x * x))), 1e-2)
        return x + size * rng.normal(size=x.size)

    def _hop(self, x: np.ndarray, walker: int, step: int) -> np.ndarray:
        size = self.settings.hop_size * max(float(np.sqrt(np.mean(x * x))), 1e-3)
        return x + size * generator(self.settings.seed, "hop", walker, step).normal(size=x.size)

    def run(self, batch: Batch, coordinates: Coordinates) -> Finds:
        """All jobs of a batch; ``coordinates[i]`` of the minima they name."""
        before = self.engine.work
        lists: list[list[Find]]
        if batch.kind == "random":
            lists = self._quenched([self._random_point("random", job) for job in batch.numbers()])
        elif batch.kind == "hop":
            lists = self._quenched([self._hop(coordinates[i], walker, step) for walker, step, i, _ in batch.hops()])
        else:
            lists = self._transition_states(batch, coordinates)
        self.batches += 1
        return Finds(lists, self.engine.work - before)

    def _quenched(self, starts: list[np.ndarray]) -> list[list[Find]]:
        return [[] if p is None else [p] for p in self.engine.quench(starts)]

    def _transition_states(self, batch: Batch, coordinates: Coordinates) -> list[list[Find]]:
        if batch.kind in PAIRS:
            align = self.problem.symmetry.align
            pairs = [(coordinates[i], align(coordinates[j], coordinates[i])) for i, j in batch.couples()]
            guesses = self.engine.bands(pairs)
        else:
            if batch.kind == "climb":
                starts = [self._random_point("climb", job) for job in batch.numbers()]
            else:
                starts = [self._displaced(coordinates[i], i, k) for i, k in batch.couples()]
            guesses = [[Guess(x, np.zeros_like(x))] for x in starts]
        found = iter(self.engine.transition_states([guess for several in guesses for guess in several]))
        lists = [[next(found) for _ in several] for several in guesses]
        return [[ts for ts in several if ts is not None] for several in lists]
