"""Stream many independent jobs through a fixed number of lanes.

A *solver* is pure and knows one lane: ``init(item) -> state``, ``point(state) -> where to evaluate next``,
``step(state, evaluation) -> state``, ``status(state) -> int`` (0 while running), ``result(state) -> pytree``. The
driver evaluates, advances every lane by up to ``passes`` passes inside one compiled block, retires what has ended and
refills from the queue. Results never depend on the number of lanes, threads or devices.

On a CPU each lane runs on its own (``lax.map``: caches stay warm, no lane waits for another), and each core drives
its own set of lanes, in blocks of a tenth of a second; on an accelerator all lanes of a device are evaluated together
(``vmap``), sharded over devices. What needs one evaluation and no steps goes through ``core.solvers.batches``, jobs
of several stages through ``core.solvers.flow``.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from jaxland.core.solvers.protocol import Evaluate, Layout, Outcome, Solver, Status
from jaxland.core.solvers.sets import Pace, drive, matmul_precision
from jaxland.core.solvers.threads import CONFIG, device, held_back, hold_back_here


def local_mesh() -> Mesh | None:
    """The devices of this process in a row; None where there is one."""
    devices = jax.local_devices()
    return Mesh(np.array(devices), ("lanes",)) if len(devices) > 1 else None


@dataclass
class _List:
    """A list of jobs as the source of several sets of lanes.

    Attributes:
        items: what ``solver.init`` takes, one per job; waiting: numbers of the jobs nobody has begun.
        data: argument of the evaluation.
        share: jobs a thread holds at most, so that a short list is spread over all.
        take: takes a finished job.
        stopping: asked between blocks.
    """

    items: Sequence[PyTree]
    waiting: queue.SimpleQueue[int]
    data: PyTree
    share: int
    take: Callable[[Outcome], None]
    stopping: Callable[[], bool]

    def draw(self, room: int, pace: Pace) -> list[tuple[Hashable, PyTree]]:
        """See ``Source``."""
        drawn: list[tuple[Hashable, PyTree]] = []
        while len(drawn) < min(room, self.share):
            try:
                job = self.waiting.get_nowait()
            except queue.Empty:
                break
            drawn.append((job, self.items[job]))
        return drawn

    def emit(self, job: Hashable, status: Status, result: PyTree) -> None:
        """See ``Source``."""
        self.take(Outcome(cast(int, job), status, result))


def in_threads(count: int, work: Callable[[], None], halt: threading.Event, done: queue.SimpleQueue) -> Iterator:
    """Run ``work`` in threads of this thread's JAX settings; hand out what they put into ``done``.

    A thread that fails ends all: its error is raised here. Leaving early sets ``halt``, which ``work`` must heed.
    """
    ended = object()
    on_cpu = device().platform == "cpu"
    x64, where, precision = CONFIG.jax_enable_x64, CONFIG.jax_default_device, matmul_precision()

    def thread() -> None:
        try:
            with jax.enable_x64(x64), jax.default_device(where), jax.default_matmul_precision(precision):
                if on_cpu:
                    hold_back_here()
                work()
            done.put(ended)
        except BaseException as error:
            done.put(error)

    with held_back(device().platform):
        threads = [threading.Thread(target=thread, daemon=True) for _ in range(count)]
        for each in threads:
            each.start()
        alive = count
        try:
            while alive:
                got = done.get()
                if got is ended:
                    alive -= 1
                elif isinstance(got, BaseException):
                    raise got
                else:
                    yield got
        finally:
            halt.set()
            for each in threads:
                each.join()


def stream(
    solver: Solver,
    evaluate: Evaluate,
    items: Sequence[PyTree],
    data: PyTree,
    *,
    layout: Layout | None = None,
    mesh: Mesh | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Iterator[Outcome]:
    """Hand out the jobs' outcomes as they finish, in any order.

    Args:
        solver: one lane of the method; hashable and reused between calls (programs are cached by it).
        evaluate: pure ``(point, data) -> evaluation``; hashable and reused likewise.
        items: what ``solver.init`` takes, one per job, all of one shape.
        data: argument of ``evaluate``, shared by all lanes.
        layout: see ``Layout``; default by backend.
        mesh: shard the lanes over its axis "lanes"; the number of lanes must be a multiple of its size.
        should_stop: asked between blocks; jobs in flight are dropped when it says True.
    """
    if not len(items):
        return
    layout = layout or Layout.default(len(items))
    if mesh is not None:
        layout = replace(layout, lanes=layout.slots(mesh.shape["lanes"]), threads=1)
    done: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    halt, count = threading.Event(), max(1, layout.threads)
    source = _List(
        items=items,
        waiting=queue.SimpleQueue(),
        data=data,
        share=-(-len(items) // count),
        take=done.put,
        stopping=lambda: halt.is_set() or (should_stop is not None and should_stop()),
    )
    for index in range(len(items)):
        source.waiting.put(index)

    def work() -> None:
        drive(solver, evaluate, layout, mesh, source)

    yield from in_threads(count, work, halt, done)


def run(
    solver: Solver,
    evaluate: Evaluate,
    items: Sequence[PyTree],
    data: PyTree,
    *,
    layout: Layout | None = None,
    mesh: Mesh | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Outcome]:
    """All outcomes in the order of the items; see ``stream``. Jobs dropped by ``should_stop`` are missing."""
    outcomes = stream(solver, evaluate, items, data, layout=layout, mesh=mesh, should_stop=should_stop)
    return sorted(outcomes, key=lambda outcome: outcome.job)
