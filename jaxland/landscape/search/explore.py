"""Explore a landscape: random quenches, basin hopping, then a campaign of eigenvector-following and bands.

with jax.enable_x64(True):
    landscape = explore(problem, seed=0)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import numpy as np
from jax.sharding import Mesh

from jaxland.core.solvers.lanes import Layout
from jaxland.errors import ArgumentError
from jaxland.landscape.result import Landscape
from jaxland.landscape.search.campaign import next_round
from jaxland.landscape.search.executors import Through
from jaxland.landscape.search.jobs import PAIRS, Batch, Finds, Runner, generator
from jaxland.landscape.search.pairs import Distances
from jaxland.landscape.search.settings import SearchOptions, SearchSettings
from jaxland.landscape.search.stationary import Point, Tolerances
from jaxland.landscape.store import Round, Store
from jaxland.options import chosen, spelled_out
from jaxland.problem.problem import Problem
from jaxland.runs import Stop, stoppable


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


Compute = Callable[[Round, list[Batch]], Iterable[Finds]]


class Search:
    """One run over a store; ``run`` continues wherever the store stands.

    Args:
        store: kept up to date, a batch of jobs per transaction.
        settings: what to do.
        box, layout, mesh: see ``explore``.
        batch: jobs per batch; does not change what is found.
        progress: see ``explore``.
        stop: asked between blocks of passes; None: never stops early.
        compute: who runs the batches of a round, in order; None: this process.
    """

    def __init__(
        self,
        store: Store,
        settings: SearchSettings,
        *,
        box: tuple[Any, Any] | None = None,
        layout: Layout | None = None,
        mesh: Mesh | None = None,
        batch: int = 64,
        progress: Callable[[Progress], None] | None = None,
        stop: Stop | None = None,
        compute: Compute | None = None,
    ) -> None:
        self.store, self.settings, self.batch = store, settings, batch
        self.stop, self.progress = stop or Stop(), progress
        if compute is None:
            runner = Runner(
                store.problem,
                settings,
                store.tolerances,
                box=box,
                layout=layout,
                mesh=mesh,
                should_stop=self.stop,
            )
            compute = partial(_in_this_process, runner, store)
        self.compute = compute
        self.distances = Distances(store.problem.symmetry, store.minima.coordinates)
        self.interrupted = False

    # -- one round -----------------------------------------------------------------------------------------------

    def _finish(self, r: Round) -> None:
        """Run the jobs of a round that are not merged yet, a batch per transaction."""
        batches = [
            Batch(r.kind, r.jobs[first : first + self.batch]) for first in range(r.next_job, len(r.jobs), self.batch)
        ]
        began = self.stop.seconds
        for batch, finds in zip(batches, self.compute(r, batches)):
            if self.stop():
                raise _OutOfTime  # jobs dropped by the lanes look like failures: nothing of this batch is merged
            r = self._merge(r, batch, finds, self.stop.seconds - began)
            began = self.stop.seconds
            self._tell(r)
        if r.next_job < len(r.jobs):
            raise _OutOfTime

    def _merge(self, r: Round, batch: Batch, finds: Finds, seconds: float) -> Round:
        store = self.store
        with store.transaction():
            found = new_minima = new_saddles = 0
            walkers = store.get("moved", {}) if r.kind == "hop" else {}
            for job, several in zip(batch.jobs, finds.lists):
                if r.kind in PAIRS:
                    store.add_try(*job)
                for find in several:
                    found += 1
                    if isinstance(find, Point):
                        number, fresh = store.add_minimum(find, r.id)
                        new_minima += fresh
                        if r.kind == "hop" and self._accepted(job, number):
                            walkers[str(job[0])] = number
                    else:
                        ends = [store.add_minimum(end, r.id) for end in find.ends]
                        new_minima += sum(fresh for _, fresh in ends)
                        new_saddles += store.add_saddle(find.saddle, (ends[0][0], ends[1][0]), r.id)[1]
            r = store.advance(r, r.next_job + len(batch.jobs), found, (new_minima, new_saddles), finds.work, seconds)
            ended = r.next_job == len(r.jobs)
            if r.kind == "hop":
                store.put("moved", {} if ended else walkers)
                if ended:
                    store.put("walkers", [walkers.get(str(job[0]), job[2]) for job in r.jobs])
            if r.kind == "expand" and ended:
                done = store.get("expanded", {})
                for minimum, search in r.jobs:
                    done[str(minimum)] = max(done.get(str(minimum), 0), search + 1)
                store.put("expanded", done)
        return r

    def _accepted(self, job: Any, number: int) -> bool:
        """The Metropolis rule."""
        walker, step, minimum, temperature = job
        rise = self.store.minima.energies[number] - self.store.minima.energies[minimum]
        chance = generator(self.settings.seed, "hop", walker, step, 1).random()
        return rise <= 0 or chance < float(np.exp(-rise / max(temperature, 1e-300)))

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
                self.stop.seconds,
            )
        )

    def run(self) -> Landscape:
        """Continue until the settings are met, nothing is left, time is up, or the caller asks to stop."""
        store = self.store
        if store.get("settings") != self.settings.to_json():
            with store.transaction():
                store.put("settings", self.settings.to_json())
        try:
            while not self.stop():
                r = store.open_round()
                if r is None:
                    r = self.plan()
                    if r is None:
                        break
                self._finish(r)
            else:
                self.interrupted = True
        except _OutOfTime:
            self.interrupted = True
        return store.landscape(self.settings.to_json())

    def plan(self) -> Round | None:
        """Start the next round; None when the search is finished."""
        with self.store.transaction():
            planned = next_round(self.store, self.settings, self.distances)
            return None if planned is None else self.store.start_round(*planned)


def _in_this_process(runner: Runner, store: Store, r: Round, batches: list[Batch]) -> Iterator[Finds]:
    for batch in batches:
        yield runner.run(batch, store.minima.coordinates)


@spelled_out(SearchSettings)
def explore(
    problem: Problem,
    settings: SearchSettings | None = None,
    *,
    store: str | Path | Store | None = None,
    executor: Executor | None = None,
    factory: Callable[[], Problem] | None = None,
    mesh: Mesh | None = None,
    box: tuple[Any, Any] | None = None,
    tolerances: Tolerances | None = None,
    layout: Layout | None = None,
    progress: Callable[[Progress], None] | None = None,
    time_limit: float | None = None,
    **options: Unpack[SearchOptions],
) -> Landscape:
    """Minima and transition states of a problem's loss.

    Args:
        problem: in float64.
        settings: what the search does; default ``SearchSettings()``.
        store: file to keep (and to continue); None keeps nothing.
        box: (low, high), scalars or [N]: random starts are uniform in it instead of normal.
        tolerances: see ``Tolerances``.
        executor: any ``concurrent.futures`` executor whose workers run the jobs; the result does not depend on it.
        factory: with ``executor``: a function of a module (or frozen dataclass with ``__call__``) that builds the
            same problem in a worker process.
        mesh: devices with an axis "lanes"; default all local devices.
        layout: of the lanes; default by device.
        progress: called after every batch with a ``Progress``.
        time_limit: seconds; what was found by then is returned, and a further call with the same store continues.
            Ctrl-C stops likewise at the next safe place; pressed twice it raises KeyboardInterrupt.
        **options: fields of ``SearchSettings`` that replace those of ``settings``; ``help_texts(SearchSettings)``
            explains them.

    Returns:
        Landscape. Every minimum has index 0 and every transition state index 1 at rms gradient ``tolerances.rms``.

    Raises:
        PrecisionError: the problem is not in float64.
        ArgumentError: a setting makes no sense. StoreError: the store cannot be used.
        ConvergenceError: no random start reached a minimum.
    """
    if (executor is None) != (factory is None):
        raise ArgumentError("executor and factory go together: the factory builds the problem in the workers")
    wanted = chosen(SearchSettings, settings, options)
    opened = store if isinstance(store, Store) else Store(store, problem, tolerances)
    try:
        with stoppable(time_limit) as stop:
            search = Search(opened, wanted, box=box, layout=layout, mesh=mesh, progress=progress, stop=stop)
            if executor is not None and factory is not None:
                search.compute = Through(executor, factory, opened, wanted, box=box, layout=layout, should_stop=stop)
            return search.run()
    finally:
        if opened is not store:
            opened.close()
