"""Jobs of several stages on the cores of a CPU: whatever can be computed next is, by whichever core is free.

A *job* is a generator: it yields what it wants evaluated, a list of ``Request``, is sent the ``Answer`` to each, and
returns its result. So a quench enters its audit while others still run, and no core waits for the slowest lane of a
stage. What a job computes depends on the job alone; only the order in which jobs end depends on the machine.
"""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
import time
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, cast

import jax
import numpy as np
from jaxtyping import PyTree

from jaxland.core.solvers.batches import map_stacked
from jaxland.core.solvers.lanes import in_threads
from jaxland.core.solvers.protocol import Evaluate, Layout, Solver, Status
from jaxland.core.solvers.sets import Lanes, Pace, drive

# Jobs in flight, in lanes of all threads: enough that every stage may fill a set of lanes.
_AHEAD = 2
# Rows of an audit taken together.
_ROWS = 8

R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class Stage:
    """Something that jobs ask for, known by its identity: build it once.

    Attributes:
        solver: one lane of an iterative method; None: a single evaluation of ``evaluate(item, data)``.
        evaluate: pure ``(point, data) -> evaluation``; hashable and reused between calls.
        data: argument of ``evaluate``.
    """

    solver: Solver | None
    evaluate: Evaluate
    data: PyTree


class Request(NamedTuple):
    """One item for one stage."""

    stage: Stage
    item: PyTree


class Answer(NamedTuple):
    """How a request ended; the result of the solver, or the evaluation (host arrays)."""

    status: Status
    result: PyTree


Job = Generator[list[Request], list[Answer], R]


def together(jobs: Sequence[Job[R]]) -> Job[list[R]]:
    """Several jobs as one, their requests side by side."""
    results: dict[int, R] = {}
    answers: dict[int, list[Answer] | None] = dict.fromkeys(range(len(jobs)))
    while answers:
        asked: dict[int, list[Request]] = {}
        for k, sent in answers.items():
            try:
                asked[k] = next(jobs[k]) if sent is None else jobs[k].send(sent)
            except StopIteration as end:
                results[k] = end.value
        got = iter((yield [request for wanted in asked.values() for request in wanted]) if asked else [])
        answers = {k: [next(got) for _ in wanted] for k, wanted in asked.items()}
    return [results[k] for k in range(len(jobs))]


@dataclass(eq=False)
class _Open:
    """A job in flight: its number, and the answers it waits for."""

    number: int
    job: Job[Any]
    answers: list[Answer | None] = field(default_factory=list)
    missing: int = 0


class _Waiting(NamedTuple):
    """A request nobody has taken: older jobs first; ``order`` never ties."""

    number: int
    order: int
    job: _Open
    place: int
    item: PyTree


class _Flow:
    """What the threads share; everything below ``ready`` is guarded by it."""

    def __init__(
        self, jobs: Sequence[Job[Any]], layout: Layout, stopping: Callable[[], bool], done: queue.SimpleQueue
    ) -> None:
        self.jobs, self.layout, self.stopping, self.done = jobs, layout, stopping, done
        self.ready = threading.Condition()
        self.queues: dict[Stage, list[_Waiting]] = {}
        self.paces: dict[Stage, Pace] = {}
        self.order = itertools.count()
        self.begun = self.ended = 0

    # -- jobs --------------------------------------------------------------------------------------------------

    def advance(self, job: _Open, answers: list[Answer] | None) -> None:
        """Run a job to its next requests, or to its end."""
        while True:
            try:
                asked = next(job.job) if answers is None else job.job.send(answers)
            except StopIteration as end:
                self.done.put((job.number, end.value))
                with self.ready:
                    self.ended += 1
                    self.ready.notify_all()
                return
            if asked:
                break
            answers = []
        with self.ready:
            job.answers, job.missing = [None] * len(asked), len(asked)
            for place, request in enumerate(asked):
                waiting = _Waiting(job.number, next(self.order), job, place, request.item)
                heapq.heappush(self.queues.setdefault(request.stage, []), waiting)
            self.ready.notify_all()

    def answer(self, waiting: _Waiting, status: Status, result: PyTree) -> None:
        """Hand a job one of its answers; the last one sets it going."""
        job = waiting.job
        with self.ready:
            job.answers[waiting.place] = Answer(status, result)
            job.missing -= 1
            if job.missing:
                return
        self.advance(job, cast(list[Answer], job.answers))

    def _start(self) -> None:
        """Begin the next job. Called with the lock held."""
        number = self.begun
        self.begun += 1
        self.ready.release()
        try:
            self.advance(_Open(number, self.jobs[number]), None)
        finally:
            self.ready.acquire()

    # -- threads -----------------------------------------------------------------------------------------------

    def work(self) -> None:
        """What every thread does until no job is left."""
        sets: dict[Stage, Lanes] = {}
        while (stage := self._choose()) is not None:
            if stage.solver is None:
                self._evaluate(stage)
            else:
                source = _StageSource(self, stage)
                lanes = sets.get(stage)
                if lanes is not None:
                    lanes.source = source
                sets[stage] = drive(stage.solver, stage.evaluate, self.layout, None, source, lanes)
                self.paces[stage] = sets[stage].pace

    def _choose(self) -> Stage | None:
        """The stage to serve: one that fills a set of lanes, the oldest job's first; then new jobs; then any."""
        most = _AHEAD * self.layout.threads * self.layout.lanes
        with self.ready:
            while not self.stopping():
                waiting = {stage: q for stage, q in self.queues.items() if q}
                full = [stage for stage, q in waiting.items() if len(q) >= self._enough(stage)]
                if full:
                    return min(full, key=lambda stage: waiting[stage][0][:2])
                if self.begun < len(self.jobs) and self.begun - self.ended < most:
                    self._start()
                elif waiting:
                    return min(waiting, key=lambda stage: waiting[stage][0][:2])
                elif self.ended == len(self.jobs):
                    self.ready.notify_all()
                    return None
                else:
                    self.ready.wait(0.2)
            return None

    def _enough(self, stage: Stage) -> int:
        """Requests of a stage that keep a thread busy for a block, but no more than its share of what is left."""
        most = _ROWS if stage.solver is None else self.layout.lanes
        wanted = self.paces[stage].lanes(most) if stage in self.paces else 1
        return min(wanted, -(-(len(self.jobs) - self.ended) // self.layout.threads))

    def take(self, stage: Stage, room: int) -> list[_Waiting]:
        """The oldest requests of a stage, at most ``room`` and a fair share of what waits or has not begun."""
        with self.ready:
            q = self.queues.get(stage, [])
            share = -(-(len(q) + len(self.jobs) - self.begun) // self.layout.threads)
            return [heapq.heappop(q) for _ in range(min(room, share, len(q)))]

    def _evaluate(self, stage: Stage) -> None:
        """A few rows of a stage without steps; its first call compiles and is not timed."""
        known = self.paces.get(stage)
        taken = self.take(stage, known.lanes(_ROWS) if known else _ROWS)
        if not taken:
            return
        rows = jax.tree.map(lambda *leaves: np.stack(leaves), *(waiting.item for waiting in taken))
        began = time.monotonic()
        found = map_stacked(stage.evaluate, rows, stage.data)
        self.paces.setdefault(stage, Pace())
        if known is not None:
            known.note(time.monotonic() - began, 0, len(taken))
        for k, waiting in enumerate(taken):
            self.answer(waiting, Status.CONVERGED, jax.tree.map(lambda leaf, k=k: leaf[k], found))


@dataclass
class _StageSource:
    """One stage as the source of a set of lanes; see ``sets.Source``."""

    flow: _Flow
    stage: Stage

    @property
    def data(self) -> PyTree:
        """See ``sets.Source``."""
        return self.stage.data

    def draw(self, room: int, pace: Pace) -> list[tuple[Hashable, PyTree]]:
        """See ``sets.Source``."""
        held = self.flow.layout.lanes - room
        taken = self.flow.take(self.stage, max(0, pace.lanes(self.flow.layout.lanes) - held))
        return [(waiting, waiting.item) for waiting in taken]

    def emit(self, job: Hashable, status: Status, result: PyTree) -> None:
        """See ``sets.Source``."""
        self.flow.answer(cast(_Waiting, job), status, result)

    def stopping(self) -> bool:
        """See ``sets.Source``."""
        return self.flow.stopping()


def flow(
    jobs: Sequence[Job[R]], *, layout: Layout | None = None, should_stop: Callable[[], bool] | None = None
) -> Iterator[tuple[int, R]]:
    """Hand out the jobs' results as they end: (number of the job, result), in any order.

    Args:
        jobs: begun in their order, a few at a time; each a generator that runs in one thread at a time.
        layout: of the lanes; default by device.
        should_stop: asked between blocks; jobs in flight are dropped when it says True.
    """
    layout = layout or Layout.default()
    halt = threading.Event()
    done: queue.SimpleQueue[tuple[int, R]] = queue.SimpleQueue()
    shared = _Flow(jobs, layout, lambda: halt.is_set() or (should_stop is not None and should_stop()), done)
    yield from in_threads(max(1, layout.threads), shared.work, halt, done)
