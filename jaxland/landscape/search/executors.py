"""Rounds of jobs through anything that submits: process pools, loky, Dask, mpi4py, Ray's adapter, submitit.

What travels is bytes (``shards``), the settings, and a *factory*: a function of a module or a frozen dataclass with
``__call__``, which builds the problem once in every worker process.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, Protocol, runtime_checkable

import jax

from jaxland.core.solvers import threads
from jaxland.core.solvers.protocol import Layout
from jaxland.errors import ArgumentError
from jaxland.landscape.schema import Round
from jaxland.landscape.search.jobs import Batch, Box, Finds, Runner
from jaxland.landscape.search.settings import SearchSettings
from jaxland.landscape.search.shards import pack_batch, pack_finds, unpack_batch, unpack_finds
from jaxland.landscape.search.stationary import Tolerances
from jaxland.landscape.store import Store
from jaxland.problem.problem import Problem
from jaxland.problem.scale import Scale


@runtime_checkable
class Submitting(Protocol):
    """A ``concurrent.futures.Executor``, or what has its ``submit``: the result has ``result()`` and ``cancel()``."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        """Run ``fn(*args)`` somewhere."""


_RUNNERS: dict[Hashable, Runner] = {}


def run_batch(
    factory: Callable[[], Problem],
    settings: SearchSettings,
    tolerances: Tolerances,
    box: Box | None,
    scale: Scale,
    layout: Layout | None,
    data: bytes,
) -> bytes:
    """Run one packed batch in a worker process, in float64; the problem is built on the first call."""
    with jax.enable_x64(True):
        key = (factory, settings, tolerances, repr(box), scale, layout)
        if key not in _RUNNERS:
            _RUNNERS[key] = Runner(factory(), settings, tolerances, box=box, scale=scale, layout=layout)
        batch, coordinates = unpack_batch(data)
        return pack_finds(batch, _RUNNERS[key].run(batch, coordinates))


class Through:
    """``compute`` of a ``Search``: every batch of a round is submitted, finds are handed back in order.

    Args:
        executor: anything with ``submit``; its workers must be able to import jaxland and the factory.
        factory: builds the problem; hashable, so that a worker builds it once.
        store, settings, box: of the search.
        layout: of the lanes in a worker; default one thread each on a CPU.
        should_stop: asked before each wait; pending batches are cancelled.
    """

    def __init__(
        self,
        executor: Submitting,
        factory: Callable[[], Problem],
        store: Store,
        settings: SearchSettings,
        *,
        box: Box | None = None,
        layout: Layout | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        try:
            hash(factory)
        except TypeError as error:
            raise ArgumentError(
                "factory must be hashable (a module's function or a frozen dataclass with __call__), so that a "
                "worker builds the problem once"
            ) from error
        self.executor, self.store, self.should_stop = executor, store, should_stop
        if layout is None and not threads.on_accelerator():
            layout = Layout(8, 4096, 1, 1)
        self.arguments = (factory, settings, store.tolerances, box, store.scale, layout)

    def __call__(self, r: Round, batches: list[Batch]) -> Iterator[Finds]:
        """Finds of the batches, in order."""
        coordinates = self.store.minima.coordinates
        futures = [
            self.executor.submit(run_batch, *self.arguments, pack_batch(batch, coordinates)) for batch in batches
        ]
        try:
            for batch, future in zip(batches, futures):
                if self.should_stop is not None and self.should_stop():
                    return
                yield unpack_finds(future.result(), batch)
        finally:
            for future in futures:
                future.cancel()
