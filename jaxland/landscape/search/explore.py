"""Explore a landscape: random quenches, basin hopping, then a campaign of eigenvector-following and bands.

with jax.enable_x64(True):
    landscape = explore(problem, seed=0)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Unpack

from jax.sharding import Mesh

from jaxland.core.solvers import threads
from jaxland.core.solvers.protocol import Layout
from jaxland.errors import ArgumentError
from jaxland.landscape.result import Landscape
from jaxland.landscape.schema import Round
from jaxland.landscape.search.campaign import next_round
from jaxland.landscape.search.executors import Submitting, Through
from jaxland.landscape.search.flatness import flat_minima
from jaxland.landscape.search.jobs import Batch, Box, Finds, Runner
from jaxland.landscape.search.pairs import Distances
from jaxland.landscape.search.rounds import Progress, batches, keep, merge, ready, standing, unmerged
from jaxland.landscape.search.settings import SearchOptions, SearchSettings
from jaxland.landscape.search.stationary import Tolerances
from jaxland.landscape.store import Store
from jaxland.options import chosen, spelled_out
from jaxland.problem.precision import in_precision
from jaxland.problem.problem import Problem, required
from jaxland.problem.scale import check_box
from jaxland.runs import Stop, stoppable


class _OutOfTime(Exception):
    """The time limit or an interrupt ended the search between two commits."""


Compute = Callable[[Round, list[Batch]], Iterable[Finds]]
# Seconds between two commits, and between two looks at the progress display.
_COMMIT, _SHOW = 1.0, 0.3


class Search:
    """One run over a store; ``run`` continues wherever the store stands.

    Args:
        store: kept up to date: a transaction about every second, or for every batch that comes back.
        settings: what to do.
        box, layout, mesh: see ``explore``.
        batch: jobs per batch, where they go out in batches; does not change what is found; default by device.
        progress: see ``explore``.
        stop: asked between blocks of passes; None: never stops early.
        compute: who runs the batches of a round, in order; None: this process, job by job.
    """

    def __init__(
        self,
        store: Store,
        settings: SearchSettings,
        *,
        box: Box | None = None,
        layout: Layout | None = None,
        mesh: Mesh | None = None,
        batch: int | None = None,
        progress: Callable[[Progress], None] | None = None,
        stop: Stop | None = None,
        compute: Compute | None = None,
    ) -> None:
        on_cpu = not threads.on_accelerator()
        # Kept with the results: whoever continues the store plans the same rounds on any device.
        kept = (store.get("settings") or {}).get("breadth")
        settings = replace(settings, breadth=settings.breadth or kept or (1 if on_cpu else 32))
        self.store, self.settings = store, settings
        self.batch = batch or (64 if on_cpu else 8192)
        self.stop, self.progress = stop or Stop(), progress
        self._make = partial(
            Runner,
            store.problem,
            settings,
            store.tolerances,
            box=box,
            scale=store.scale,
            layout=layout,
            mesh=mesh,
            should_stop=self.stop,
        )
        self.compute = compute
        self.distances = Distances(store.minima)
        self.interrupted = False

    @cached_property
    def runner(self) -> Runner:
        """Runs the jobs in this process."""
        return self._make()

    def _finish(self, r: Round) -> None:
        """Run the jobs of a round that are not merged yet; what they found is merged in their order."""
        began = self.stop.seconds
        self._show(r)
        for batch, finds in self._here(r) if self.compute is None else self._elsewhere(self.compute, r):
            r = merge(self.store, self.settings, r, batch, finds, self.stop.seconds - began)
            began = self.stop.seconds
            self._show(r)
        if r.next_job < len(r.jobs):
            raise _OutOfTime

    def _show(self, r: Round, ended: int = 0) -> None:
        """Tell the caller where the search stands, ``ended`` jobs of the round besides the merged ones."""
        if self.progress is not None:
            self.progress(standing(self.store, r, self.stop.seconds, ended))

    def _elsewhere(self, compute: Compute, r: Round) -> Iterator[tuple[Batch, Finds]]:
        todo = batches(r, self.batch)
        for batch, finds in zip(todo, compute(r, todo)):
            if self.stop():
                return
            yield batch, finds

    def _here(self, r: Round) -> Iterator[tuple[Batch, Finds]]:
        """Jobs in their order, as many at a time as have ended since the last commit."""
        first, jobs = r.next_job, r.jobs
        ended = unmerged(self.store, r)
        todo = [k for k in range(first, len(jobs)) if k not in ended]
        committed = shown = self.stop.seconds
        parts = self.runner.stream(Batch(r.kind, [jobs[k] for k in todo]), self.store.minima.coordinates, self.batch)
        with closing(parts):
            for part in parts:
                for k, finds in part.each():
                    ended[todo[k]] = finds
                now = self.stop.seconds
                if now - committed > _COMMIT and first in ended:
                    piece = ready(r, first, ended)
                    first, committed, shown = first + len(piece[0].jobs), now, now
                    yield piece
                elif now - shown > _SHOW:
                    shown = now
                    self._show(r._replace(next_job=first), len(ended))
        if first in ended:
            yield ready(r, first, ended)
        keep(self.store, r, ended)

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
        self._note_flat()
        return store.landscape(self.settings.to_json())

    def _note_flat(self) -> None:
        """Say in the store which of its minima are points of one valley."""
        found = flat_minima(self.store)
        told = None if found is None else found.to_json()
        if self.store.get("flat") != told:
            with self.store.transaction():
                self.store.put("flat", told)

    def plan(self) -> Round | None:
        """Start the next round; None when the search is finished."""
        with self.store.transaction():
            planned = next_round(self.store, self.settings, self.distances)
            ended = planned if isinstance(planned, str) else None
            if self.store.get("ended") != ended:
                self.store.put("ended", ended)
            return None if isinstance(planned, str) else self.store.start_round(*planned)


@in_precision
@spelled_out(SearchSettings)
def explore(
    problem: Problem,
    settings: SearchSettings | None = None,
    *,
    store: str | Path | Store | None = None,
    executor: Submitting | None = None,
    factory: Callable[[], Problem] | None = None,
    mesh: Mesh | None = None,
    box: Box | None = None,
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
        box: (low, high), scalars or [N], in your units: random starts are uniform in it instead of normal.
        tolerances: see ``Tolerances``.
        executor: any ``concurrent.futures`` executor (Dask's, loky's, submitit's too) whose workers run the jobs; the
            result does not depend on it.
        factory: with ``executor``: a function of a module (or frozen dataclass with ``__call__``) that builds the
            same problem in a worker process.
        mesh: devices with an axis "lanes"; default all local devices.
        layout: of the lanes; default by device.
        progress: called a few times a second with a ``Progress``.
        time_limit: seconds; what was found by then is returned, and a further call with the same store continues.
            Ctrl-C stops likewise at the next safe place; pressed twice it raises KeyboardInterrupt.
        **options: fields of ``SearchSettings`` that replace those of ``settings``; ``help_texts(SearchSettings)``
            explains them.

    Returns:
        Landscape, in your units. Every minimum has index 0 and every transition state index 1 at rms gradient
        ``tolerances.rms``, in units of the problem's scale (see ``jaxland.problem.scale``).

    Raises:
        PrecisionError: the problem is not in float64.
        ArgumentError: a setting makes no sense. StoreError: the store cannot be used.
        ConvergenceError: no random start reached a minimum.
    """
    if (executor is None) != (factory is None):
        raise ArgumentError("executor and factory go together: the factory builds the problem in the workers")
    problem = required(problem, "explore")
    check_box(box, problem.size)
    if progress is not None and not callable(progress):
        raise ArgumentError(f"progress must be a function of a Progress, or None, got {progress!r}")
    if time_limit is not None and not time_limit > 0:
        raise ArgumentError(f"time_limit must be above 0 seconds, got {time_limit}")
    wanted = chosen(SearchSettings, settings, options)
    opened = store if isinstance(store, Store) else Store(store, problem, tolerances, box=box)
    try:
        with stoppable(time_limit) as stop:
            # Batches small enough that every worker of an executor gets some of a round.
            batch = None if executor is None else 16
            search = Search(
                opened, wanted, box=box, layout=layout, mesh=mesh, batch=batch, progress=progress, stop=stop
            )
            if executor is not None and factory is not None:
                search.compute = Through(executor, factory, opened, wanted, box=box, layout=layout, should_stop=stop)
            return search.run()
    finally:
        if opened is not store:
            opened.close()
