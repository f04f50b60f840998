"""Explore a landscape: random quenches, basin hopping, eigenvector-following, bands, until nothing is left to try.

with jax.enable_x64(True):
    landscape = explore(problem, seed=0)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxland.core.lanes import Layout
from jaxland.core.saddle import Guess
from jaxland.errors import ArgumentError, ConvergenceError
from jaxland.landscape.connect import Distances, missing_connections, unexpanded
from jaxland.landscape.result import Landscape
from jaxland.landscape.stationary import Engine, Point, Tolerances, TransitionState
from jaxland.landscape.store import Round, Store
from jaxland.problem import Problem

_KINDS = {"random": 1, "hop": 2, "climb": 3, "expand": 4, "band": 5}


@dataclass(frozen=True)
class Settings:
    """What a search does; stored with its results. A different search of the same problem may continue a store.

    Attributes:
        seed: of every random choice; a job's numbers derive from it and the job, never from the worker.
        starts: random quenches from normal coordinates of standard deviation ``start_scale``.
        start_scale: see above; a (low, high) box per coordinate may be given to ``explore`` instead.
        walkers, hops: basin-hopping walkers, and steps of each.
        hop_size: standard deviation of a hop per coordinate, relative to the rms coordinate of the minimum.
        temperature: of the Metropolis rule; None takes a quarter of the spread of the random quenches' energies.
        climbs: eigenvector-following searches from random coordinates; repeated while a round of them finds mostly
            known transition states and yet a new one, so that small landscapes are completed.
        searches: eigenvector-following searches from displaced copies of every expanded minimum.
        expand: minima expanded per round.
        pairs: bands per round.
        minima: stop when so many are connected to the lowest; None: until nothing is left to try.
        rounds: stop after so many rounds of expansion and bands.
        max_step: longest step of a quench.
        images: of an elastic band.
    """

    seed: int = 0
    starts: int = 200
    start_scale: float = 1.0
    walkers: int = 32
    hops: int = 3
    hop_size: float = 0.6
    temperature: float | None = None
    climbs: int = 100
    searches: int = 6
    expand: int = 16
    pairs: int = 32
    minima: int | None = None
    rounds: int = 50
    max_step: float = 1.0
    images: int = 11

    def __post_init__(self) -> None:
        for name in ("starts", "walkers", "hops", "climbs", "searches", "pairs", "expand", "rounds"):
            if int(getattr(self, name)) < 0:
                raise ArgumentError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("start_scale", "hop_size", "max_step"):
            if not float(getattr(self, name)) > 0:
                raise ArgumentError(f"{name} must be positive, got {getattr(self, name)}")
        if self.images < 3:
            raise ArgumentError(f"images must be at least 3, got {self.images}")
        if self.starts < 1:
            raise ArgumentError("starts must be at least 1: something must be quenched first")


class Progress(NamedTuple):
    """Where a search stands; handed to the progress callback after every batch."""

    stage: str
    round: int
    done: int
    total: int
    minima: int
    saddles: int
    connected: int
    components: int
    best: float
    seconds: float


class _OutOfTime(Exception):
    """The time limit or an interrupt ended the search between two commits."""


class Search:
    """One run over a store; ``run`` continues wherever the store stands."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        box: tuple[Any, Any] | None = None,
        layout: Layout | None = None,
        batch: int = 64,
        progress: Callable[[Progress], None] | None = None,
        time_limit: float | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self.store, self.settings, self.batch = store, settings, batch
        self.problem = store.problem
        self.box = (
            None if box is None else tuple(np.broadcast_to(np.asarray(b, float), self.problem.size) for b in box)
        )
        self.began, self.limit, self.asked = time.monotonic(), time_limit, should_stop
        self.progress = progress
        self.engine = Engine(
            self.problem,
            store.tolerances,
            layout=layout,
            max_step=settings.max_step,
            images=settings.images,
            should_stop=self._stopping,
        )
        self.distances = Distances(self.problem.symmetry, store.minima.coordinates)
        self.interrupted = False
        self._walkers: list[int] = []

    def _stopping(self) -> bool:
        late = self.limit is not None and time.monotonic() - self.began > self.limit
        return late or (self.asked is not None and self.asked())

    # -- jobs --------------------------------------------------------------------------------------------------

    def _rng(self, kind: str, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.settings.seed, _KINDS[kind], *numbers])

    def _random_point(self, kind: str, job: int) -> np.ndarray:
        rng = self._rng(kind, job)
        if self.box is not None:
            return rng.uniform(*self.box)
        return self.settings.start_scale * rng.normal(size=self.problem.size)

    def _displaced(self, minimum: int, search: int) -> np.ndarray:
        """A copy of a minimum, displaced by 5 to 50 % of its rms coordinate: far enough for a negative curvature."""
        x, rng = self.store.minima.coordinates[minimum], self._rng("expand", minimum, search)
        size = np.exp(rng.uniform(np.log(0.05), np.log(0.5))) * max(float(np.sqrt(np.mean(x * x))), 1e-2)
        return x + size * rng.normal(size=x.size)

    def _quench_jobs(self, r: Round, jobs: list[Any]) -> list[list[Point]]:
        if r.kind == "random":
            starts = [self._random_point("random", job) for job in jobs]
        else:
            starts = []
            for walker, step, minimum, _ in jobs:
                x = self.store.minima.coordinates[minimum]
                size = self.settings.hop_size * max(float(np.sqrt(np.mean(x * x))), 1e-3)
                starts.append(x + size * self._rng("hop", walker, step).normal(size=x.size))
        return [[] if p is None else [p] for p in self.engine.quench(starts)]

    def _saddle_jobs(self, r: Round, jobs: list[Any]) -> list[list[TransitionState]]:
        if r.kind == "band":
            pairs = []
            for i, j in jobs:
                a, b = self.store.minima.coordinates[i], self.store.minima.coordinates[j]
                pairs.append((a, self.problem.symmetry.align(b, a)))
            lists = self.engine.bands(pairs)
        elif r.kind == "climb":
            lists = [[Guess(x, np.zeros_like(x))] for x in (self._random_point("climb", job) for job in jobs)]
        else:
            lists = [[Guess(x, np.zeros_like(x))] for x in (self._displaced(*job) for job in jobs)]
        flat = [guess for guesses in lists for guess in guesses]
        found = self.engine.transition_states(flat)
        out: list[list[TransitionState]] = []
        start = 0
        for guesses in lists:
            out.append([ts for ts in found[start : start + len(guesses)] if ts is not None])
            start += len(guesses)
        return out

    # -- one round -----------------------------------------------------------------------------------------------

    def _finish(self, r: Round) -> None:
        """Run the jobs of a round that are not merged yet, a batch per transaction."""
        quenching = r.kind in ("random", "hop")
        while r.next_job < len(r.jobs):
            began = time.monotonic()
            jobs = r.jobs[r.next_job : r.next_job + self.batch]
            results: list[Any] = self._quench_jobs(r, jobs) if quenching else self._saddle_jobs(r, jobs)
            if self._stopping():
                raise _OutOfTime  # jobs dropped by the lanes look like failures: nothing of this batch is merged
            with self.store.transaction():
                found = new_minima = new_saddles = 0
                for job, finds in zip(jobs, results):
                    if r.kind == "band":
                        self.store.add_try(*job)
                    for find in finds:
                        found += 1
                        if isinstance(find, Point):
                            number, fresh = self.store.add_minimum(find, r.id)
                            new_minima += fresh
                            if r.kind == "hop":
                                self._metropolis(job, number)
                        else:
                            ends = [self.store.add_minimum(end, r.id) for end in find.ends]
                            new_minima += sum(fresh for _, fresh in ends)
                            new_saddles += self.store.add_saddle(find.saddle, (ends[0][0], ends[1][0]), r.id)[1]
                r = self.store.advance(
                    r, r.next_job + len(jobs), found, (new_minima, new_saddles), time.monotonic() - began
                )
                if r.kind == "hop" and r.next_job == len(r.jobs):
                    self.store.put("walkers", self._walkers)
                if r.kind == "expand" and r.next_job == len(r.jobs):
                    known = set(self.store.get("expanded", []))
                    self.store.put("expanded", sorted(known | {job[0] for job in r.jobs}))
            self._tell(r)

    def _tell(self, r: Round) -> None:
        if self.progress is None:
            return
        store = self.store
        label = store.components()
        lowest = int(np.argmin(store.minima.energies)) if len(store.minima) else 0
        self.progress(
            Progress(
                r.kind,
                r.id,
                r.next_job,
                len(r.jobs),
                len(store.minima),
                len(store.saddles),
                int(np.sum(label == label[lowest])) if len(label) else 0,
                int(label.max()) + 1 if len(label) else 0,
                store.minima.energies[lowest] if len(label) else np.nan,
                time.monotonic() - self.began,
            )
        )

    def _metropolis(self, job: Any, number: int) -> None:
        walker, step, minimum, temperature = job
        rise = self.store.minima.energies[number] - self.store.minima.energies[minimum]
        if rise <= 0 or self._rng("hop", walker, step, 1).random() < np.exp(-rise / max(temperature, 1e-300)):
            self._walkers[walker] = number

    # -- the plan ------------------------------------------------------------------------------------------------

    def _next(self) -> Round | None:
        """Plan the next round from the store alone, so that a resumed search plans what an unbroken one would."""
        s, store = self.settings, self.store
        done = store.rounds()
        if not done:
            return store.start_round("random", list(range(s.starts)))
        if not len(store.minima):
            raise ConvergenceError(
                f"none of {s.starts} random starts reached a verified minimum (rms gradient "
                f"{store.tolerances.rms:g}); raise the regularisation, lower start_scale, or loosen the tolerance"
            )
        kinds = [row["kind"] for row in done]
        hops = kinds.count("hop")
        if s.walkers and hops < s.hops:
            order = np.argsort(store.minima.energies, kind="stable")
            start = [int(order[k % len(order)]) for k in range(s.walkers)]
            self._walkers = store.get("walkers", start)
            temperature = s.temperature
            if temperature is None:
                energies = np.array(store.minima.energies)
                temperature = 0.25 * float(np.std(energies)) if hops == 0 else store.get("temperature")
                store.put("temperature", temperature)
            return store.start_round(
                "hop", [[w, hops, self._walkers[w], temperature] for w in range(len(self._walkers))]
            )
        climbs = [row for row in done if row["kind"] == "climb"]
        if s.climbs and not climbs:
            return store.start_round("climb", list(range(s.climbs)))
        if climbs and len(climbs) < s.rounds and 0 < climbs[-1]["new_saddles"] < 0.5 * climbs[-1]["found"]:
            first = sum(row["total"] for row in climbs)
            return store.start_round("climb", list(range(first, first + s.climbs)))
        if kinds.count("expand") + kinds.count("band") >= s.rounds:
            return None
        label = store.components()
        lowest = int(np.argmin(store.minima.energies))
        if s.minima is not None and int(np.sum(label == label[lowest])) >= s.minima:
            return None
        to_expand = unexpanded(store, set(store.get("expanded", [])), s.expand) if s.searches else []
        for kind in ("band", "expand") if kinds[-1] == "expand" else ("expand", "band"):
            if kind == "expand" and to_expand:
                return store.start_round("expand", [[i, k] for i in to_expand for k in range(s.searches)])
            if kind == "band" and s.pairs:
                pairs = missing_connections(store, self.distances, s.pairs)
                if pairs:
                    return store.start_round("band", [list(pair) for pair in pairs])
        return None

    def run(self) -> Landscape:
        """Continue until the settings are met, nothing is left, time is up, or the caller asks to stop."""
        self._walkers = self.store.get("walkers", [])
        if self.store.get("settings") != asdict(self.settings):
            with self.store.transaction():
                self.store.put("settings", asdict(self.settings))
        try:
            while not self._stopping():
                r = self.store.open_round()
                if r is None:
                    with self.store.transaction():
                        r = self._next()
                    if r is None:
                        break
                elif r.kind == "hop":
                    self._walkers = [job[2] for job in r.jobs] if r.next_job == 0 else self._walkers
                self._finish(r)
            else:
                self.interrupted = True
        except _OutOfTime:
            self.interrupted = True
        return self.store.landscape(asdict(self.settings))


def explore(
    problem: Problem,
    *,
    store: str | Path | Store | None = None,
    box: tuple[Any, Any] | None = None,
    tolerances: Tolerances | None = None,
    layout: Layout | None = None,
    progress: Callable[[Progress], None] | None = None,
    time_limit: float | None = None,
    **settings: Any,
) -> Landscape:
    """Minima and transition states of a problem's loss.

    Args:
        problem: in float64.
        store: file to keep (and to continue); None keeps nothing.
        box: (low, high), scalars or [N]: random starts are uniform in it instead of normal.
        tolerances: see ``Tolerances``.
        layout: of the lanes; default by device.
        progress: called after every batch with a ``Progress``.
        time_limit: seconds; what was found by then is returned, and a further call with the same store continues.
        **settings: fields of ``Settings``: seed, starts, walkers, hops, climbs, searches, minima, rounds, ...

    Returns:
        Landscape. Every minimum has index 0 and every transition state index 1 at rms gradient ``tolerances.rms``.

    Raises:
        PrecisionError: the problem is not in float64.
        ArgumentError: a setting makes no sense. StoreError: the store cannot be used.
        ConvergenceError: no random start reached a minimum.
    """
    unknown = set(settings) - set(Settings.__dataclass_fields__)
    if unknown:
        raise ArgumentError(
            f"unknown settings {', '.join(sorted(unknown))}; choose from {', '.join(Settings.__dataclass_fields__)}"
        )
    chosen = Settings(**settings)
    opened = store if isinstance(store, Store) else Store(store, problem, tolerances)
    try:
        search = Search(opened, chosen, box=box, layout=layout, progress=progress, time_limit=time_limit)
        return search.run()
    finally:
        if opened is not store:
            opened.close()
