"""What one job of a search does: from its kind and numbers to audited points, the same on every worker.

Random numbers derive from the seed and the job, coordinates from the store's numbering: a job gives the same points
wherever it runs, so a round may be shared out in any way.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
from jax.sharding import Mesh
from numpy.typing import ArrayLike

from jaxland.core.solvers.batches import map_stacked
from jaxland.core.solvers.flow import Job as Flowing
from jaxland.core.solvers.flow import flow, together
from jaxland.core.solvers.protocol import Layout
from jaxland.core.solvers.quench import Walk
from jaxland.core.solvers.saddle import Guess
from jaxland.landscape.search.displacement import KINDS, displaced, pieces
from jaxland.landscape.search.hopping import Hop, accepts, allowance, chains, kicked
from jaxland.landscape.search.kinks import Kinks, Sample, judge
from jaxland.landscape.search.pipeline import Meter, Pipeline
from jaxland.landscape.search.settings import SearchSettings
from jaxland.landscape.search.stationary import Engine, Point, Tolerances, TransitionState
from jaxland.problem.problem import Problem
from jaxland.problem.scale import Scale, reduced, scale_of

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
        jobs: random and climb: a number; hop: see ``hopping.Hop``; expand: [minimum, search, kind of displacement];
            pair strategies: [minimum, minimum].
    """

    kind: str
    jobs: Sequence[Job]

    def numbers(self) -> list[int]:
        """Jobs of a random or climb round."""
        return cast(list[int], self.jobs)

    def hops(self) -> list[Hop]:
        """Jobs of a hop round."""
        return [
            Hop(int(w), int(k), int(i), *map(float, rest)) for w, k, i, *rest in cast(list[list[float]], self.jobs)
        ]

    def only(self, places: range) -> Batch:
        """The jobs at these places."""
        return Batch(self.kind, self.jobs[places.start : places.stop])

    def units(self) -> list[range]:
        """Places of jobs that are done together."""
        return chains(self.hops()) if self.kind == "hop" else [range(k, k + 1) for k in range(len(self.jobs))]

    def parts(self, size: int) -> Iterator[range]:
        """Places of about so many jobs at a time; units stay whole."""
        first = last = 0
        for unit in self.units():
            if unit.stop - first > size and unit.start > first:
                yield range(first, unit.start)
                first = unit.start
            last = unit.stop
        if last > first:
            yield range(first, last)

    def expansions(self) -> list[tuple[int, int, int]]:
        """Jobs of an expand round: minimum, search, kind of displacement (an open round of 0.2.0 has none)."""
        return [(job[0], job[1], job[2] if len(job) > 2 else 0) for job in cast(list[list[int]], self.jobs)]

    def couples(self) -> list[tuple[int, int]]:
        """Jobs of a pair strategy."""
        return [(a, b) for a, b in cast(list[list[int]], self.jobs)]

    def origins(self) -> list[tuple[int, ...]]:
        """Minima that each job sets off from."""
        if self.kind in ("random", "climb"):
            return [()] * len(self.jobs)
        if self.kind == "hop":
            return [(hop.minimum,) for hop in self.hops()]
        if self.kind == "expand":
            return [(minimum,) for minimum, _, _ in self.expansions()]
        return list(self.couples())

    def minima(self) -> list[int]:
        """Minima whose coordinates the jobs need, ascending."""
        return sorted({i for several in self.origins() for i in several})


class Finds(NamedTuple):
    """What a batch found.

    Attributes:
        lists: minima or transition states of each job.
        work: it took (see Engine).
        kinks: quenches that ended on kinks.
    """

    lists: list[list[Find]]
    work: int
    kinks: Kinks = Kinks()


class Part(NamedTuple):
    """Consecutive jobs of a batch that have ended.

    Attributes:
        first: place of the first among the batch's; lists, work: see ``Finds``.
        kinks: of each job; empty where there is none.
    """

    first: int
    lists: list[list[Find]]
    work: int
    kinks: Sequence[Kinks] = ()

    def each(self) -> Iterator[tuple[int, Finds]]:
        """Place and finds of each job; the work of jobs that ran together counts with the first of them."""
        for k, several in enumerate(self.lists):
            yield self.first + k, Finds([several], 0 if k else self.work, self.kinks[k] if self.kinks else Kinks())


def generator(seed: int, kind: str, *numbers: int) -> np.random.Generator:
    """Random numbers of one job."""
    return np.random.default_rng([seed, _SEEDS[kind], *numbers])


def allowed_of(seed: int, hop: Hop) -> float:
    """See ``hopping.allowance``."""
    return allowance(generator(seed, "hop", hop.walker, hop.step, 1), hop.temperature)


class Runner:
    """Runs batches of one problem under one choice of settings, in units of its scale, as its store has them.

    Args:
        problem: in float64.
        settings: what the search does.
        tolerances, layout, mesh: see ``Engine``.
        box: (low, high): random starts are uniform in it instead of normal.
        scale: of the store; default found as a new store finds it.
        should_stop: asked between blocks of passes.

    Attributes:
        batches: run so far.
        box: in units of the scale; width: standard deviation of random starts without one.
    """

    def __init__(
        self,
        problem: Problem,
        settings: SearchSettings,
        tolerances: Tolerances | None = None,
        *,
        box: Box | None = None,
        scale: Scale | None = None,
        layout: Layout | None = None,
        mesh: Mesh | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        scale = scale_of(problem, box) if scale is None else scale
        self.problem, self.settings = reduced(problem, scale), settings
        self.width = settings.start_scale * scale.reach
        self.box = None
        if box is not None:
            self.box = tuple(np.broadcast_to(np.asarray(b, float) / scale.length, problem.size) for b in box)
        self.stopping = should_stop or (lambda: False)
        self.batches = 0
        self._pieces = pieces(problem.symmetry)
        rows = settings.sampled(problem.n)
        self.engine = Engine(
            self.problem,
            tolerances,
            layout=layout,
            mesh=mesh,
            max_step=settings.max_step,
            images=settings.images,
            # In units of another scale a tolerance means another number of digits: take all that there are.
            exact=not scale.is_one,
            precision=settings.precision,
            sample=None if rows is None else (rows, settings.seed),
            should_stop=should_stop,
        )

    def _random_point(self, kind: str, job: int) -> np.ndarray:
        rng = generator(self.settings.seed, kind, job)
        if self.box is not None:
            return rng.uniform(*self.box)
        return self.width * rng.normal(size=self.problem.size)

    def _displaced(self, x: np.ndarray, minimum: int, search: int, kind: int) -> np.ndarray:
        return displaced(x, KINDS[kind], self._pieces, generator(self.settings.seed, "expand", minimum, search))

    def _walk(self, hops: Sequence[Hop], coordinates: Coordinates) -> Walk:
        """The hops of one walker."""
        s, size = self.settings, self.problem.size
        kicks = [generator(s.seed, "hop", hop.walker, hop.step).normal(size=size) for hop in hops]
        return Walk(
            x=coordinates[hops[0].minimum],
            energy=np.array(hops[0].energy),
            max_step=np.array(s.max_step, float),
            kicks=s.hop_size * np.array(kicks),
            allowed=np.array([allowed_of(s.seed, hop) for hop in hops]),
        )

    def run(self, batch: Batch, coordinates: Coordinates) -> Finds:
        """All jobs of a batch; ``coordinates[i]`` of the minima they name. Meaningless where ``stopping``."""
        lists: list[list[Find]] = [[] for _ in batch.jobs]
        work, kinks = 0, Kinks()
        for found in self.stream(batch, coordinates):
            work += found.work
            for place, several in zip(range(found.first, found.first + len(found.lists)), found.lists):
                lists[place] = several
            for one in found.kinks:
                kinks = kinks.plus(one)
        self.batches += 1
        return Finds(lists, work, kinks)

    def stream(self, batch: Batch, coordinates: Coordinates, batched: int = 64) -> Generator[Part, None, None]:
        """The same as the jobs end, in any order; those cut off by ``should_stop`` are missing.

        On accelerators (and where ``Engine.pipeline`` says so) ``batched`` jobs at a time.
        """
        pipeline = self.engine.pipeline
        if pipeline is not None:
            units = batch.units()
            jobs = [self._job(pipeline, batch.only(unit), coordinates) for unit in units]
            for k, (lists, work, kinks) in flow(jobs, layout=self.engine.layout, should_stop=self.stopping):
                yield Part(units[k].start, lists, work, kinks)
            return
        for part in batch.parts(batched):
            before = self.engine.work
            lists = self._several(batch.only(part), coordinates)
            if self.stopping():
                return  # jobs dropped by the lanes look like failures
            yield Part(part.start, lists, self.engine.work - before, self._kinks(batch.kind))

    # -- one job at a time -------------------------------------------------------------------------------------

    def _job(
        self, pipeline: Pipeline, unit: Batch, coordinates: Coordinates
    ) -> Flowing[tuple[list[list[Find]], int, list[Kinks]]]:
        """Finds and kinks of each job of a unit, and the work."""
        meter = Meter()
        if unit.kind == "hop":
            return (yield from self._hops(pipeline, meter, self._walk(unit.hops(), coordinates)))
        if unit.kind == "random":
            (start,) = self._starts(unit, coordinates)
            point = yield from pipeline.quench(meter, start, self.settings.max_step)
            kinks = yield from pipeline.kinks(meter)
            return [[] if point is None else [point]], meter.work, [kinks]
        if unit.kind in PAIRS:
            ((first, second),) = self._aligned(unit, coordinates)
            guesses = yield from pipeline.band(meter, first, second)
        else:
            guesses = [Guess(x, np.zeros_like(x)) for x in self._starts(unit, coordinates)]
        found = yield from together([pipeline.transition_state(meter, guess) for guess in guesses])
        return [[ts for ts in found if ts is not None]], meter.work, [Kinks()]

    def _hops(
        self, pipeline: Pipeline, meter: Meter, walk: Walk
    ) -> Flowing[tuple[list[list[Find]], int, list[Kinks]]]:
        lists: list[list[Find]] = []
        kinks: list[Kinks] = []
        x, level = np.asarray(walk.x), float(walk.energy)
        for kick, allowed in zip(walk.kicks, walk.allowed):
            point = yield from pipeline.quench(meter, kicked(x, kick), self.settings.max_step)
            lists.append([] if point is None else [point])
            kinks.append((yield from pipeline.kinks(meter)))
            if point is not None and accepts(point.energy, level, float(allowed)):
                x, level = point.x, point.energy
        return lists, meter.work, kinks

    # -- many together -----------------------------------------------------------------------------------------

    def _several(self, batch: Batch, coordinates: Coordinates) -> list[list[Find]]:
        if batch.kind == "hop":
            return self._walked(batch, coordinates)
        if batch.kind == "random":
            return [[] if p is None else [p] for p in self.engine.quench(self._starts(batch, coordinates))]
        if batch.kind in PAIRS:
            guesses = self.engine.bands(self._aligned(batch, coordinates))
        else:
            guesses = [[Guess(x, np.zeros_like(x))] for x in self._starts(batch, coordinates)]
        found = iter(self.engine.transition_states([guess for several in guesses for guess in several]))
        lists = [[next(found) for _ in several] for several in guesses]
        return [[ts for ts in several if ts is not None] for several in lists]

    def _walked(self, batch: Batch, coordinates: Coordinates) -> list[list[Find]]:
        """Finds of every hop; walkers with as many hops go side by side."""
        hops, units = batch.hops(), batch.units()
        lists: list[list[Find]] = [[] for _ in hops]
        lost: list[np.ndarray | None] = [None] * len(hops)
        for several in sorted({len(unit) for unit in units}):
            alike = [unit for unit in units if len(unit) == several]
            walks = [self._walk([hops[k] for k in unit], coordinates) for unit in alike]
            found = self.engine.hops(Walk(*(np.stack(leaves) for leaves in zip(*walks))))
            places = [k for unit in alike for k in unit]
            for k, point, where in zip(places, [p for row in found for p in row], self.engine.lost):
                lists[k], lost[k] = [] if point is None else [point], where
        self.engine.lost = lost
        return lists

    def _kinks(self, kind: str) -> list[Kinks]:
        """Of each of the quenches that just ran together."""
        lost = self.engine.lost
        if kind not in QUENCHES or self.engine.sampling is None or all(x is None for x in lost):
            return []
        at = [k for k, x in enumerate(lost) if x is not None]
        rows = map_stacked(self.engine.sampling, np.array([lost[k] for k in at]), self.engine.kernel.data)
        found = [Kinks()] * len(lost)
        for k, *sample in zip(at, *rows):
            x = lost[k]
            assert x is not None
            found[k] = judge(x, Sample(*sample))
        return found

    def _starts(self, batch: Batch, coordinates: Coordinates) -> list[np.ndarray]:
        """Where the quenches and searches of a batch set off."""
        if batch.kind == "expand":
            return [self._displaced(coordinates[i], i, k, kind) for i, k, kind in batch.expansions()]
        return [self._random_point(batch.kind, job) for job in batch.numbers()]

    def _aligned(self, batch: Batch, coordinates: Coordinates) -> list[tuple[np.ndarray, np.ndarray]]:
        """Both ends of each band, the second in the image nearest to the first."""
        align = self.problem.symmetry.align
        return [(coordinates[i], align(coordinates[j], coordinates[i])) for i, j in batch.couples()]
