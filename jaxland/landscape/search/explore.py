"""Explore a landscape: random quenches, basin hopping, then a campaign of eigenvector-following and bands.

with jax.enable_x64(True):
    landscape = explore(problem, seed=0)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Unpack

import jax
from jax.sharding import Mesh

from jaxland.core.solvers.lanes import Layout
from jaxland.errors import ArgumentError
from jaxland.landscape.result import Landscape
from jaxland.landscape.schema import Round
from jaxland.landscape.search.campaign import next_round
from jaxland.landscape.search.executors import Through
from jaxland.landscape.search.jobs import Batch, Box, Finds, Runner
from jaxland.landscape.search.pairs import Distances
from jaxland.landscape.search.rounds import Progress, batches, merge, standing
from jaxland.landscape.search.settings import SearchOptions, SearchSettings
from jaxland.landscape.search.stationary import Tolerances
from jaxland.landscape.store import Store
from jaxland.options import chosen, spelled_out
from jaxland.problem.problem import Problem
from jaxland.runs import Stop, stoppable


class _OutOfTime(Exception):
    """The time limit or an interrupt ended the search between two commits."""


Compute = Callable[[Round, list[Batch]], Iterable[Finds]]


class Search:
    """One run over a store; ``run`` continues wherever the store stands.

    Args:
        store: kept up to date, a batch of jobs per transaction.
        settings: what to do.
        box, layout, mesh: see ``explore``.
        batch: jobs per batch; does not change what is found; default by device.
        progress: see ``explore``.
        stop: asked between blocks of passes; None: never stops early.
        compute: who runs the batches of a round, in order; None: this process.
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
        on_cpu = jax.default_backend() == "cpu"
        # Kept with the results: whoever continues the store plans the same rounds on any device.
        kept = (store.get("settings") or {}).get("breadth")
        settings = replace(settings, breadth=settings.breadth or kept or (1 if on_cpu else 32))
        self.store, self.settings = store, settings
        self.batch = batch or (64 if on_cpu else 8192)
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
        self.distances = Distances(store.minima)
        self.interrupted = False

    def _finish(self, r: Round) -> None:
        """Run the jobs of a round that are not merged yet, a batch per transaction."""
        todo, began = batches(r, self.batch), self.stop.seconds
        for batch, finds in zip(todo, self.compute(r, todo)):
            if self.stop():
                raise _OutOfTime  # jobs dropped by the lanes look like failures: nothing of this batch is merged
            r = merge(self.store, self.settings, r, batch, finds, self.stop.seconds - began)
            began = self.stop.seconds
            if self.progress is not None:
                self.progress(standing(self.store, r, self.stop.seconds))
        if r.next_job < len(r.jobs):
            raise _OutOfTime

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
