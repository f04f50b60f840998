"""Stream many independent jobs through a fixed number of lanes.

A *solver* is pure and knows one lane: ``init(item) -> state``, ``point(state) -> where to evaluate next``,
``step(state, evaluation) -> state``, ``status(state) -> int`` (0 while running), ``result(state) -> pytree``. The
driver evaluates, advances every lane by up to ``passes`` passes inside one compiled block, retires what has ended and
refills from the queue. Results never depend on the number of lanes, threads or devices.

On a CPU each lane runs on its own (``lax.map``: caches stay warm, no lane waits for another), and each core drives
its own set of lanes; on an accelerator all lanes of a device are evaluated together (``vmap``), sharded over devices.
What needs one evaluation and no steps goes through ``core.solvers.batches``.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Int, PyTree, Shaped

Evaluate = Callable[[PyTree, PyTree], PyTree]
_BLOCK_SECONDS = 1.0
# Its attributes are made at run time.
CONFIG: Any = jax.config


class Status(IntEnum):
    """How a lane ended."""

    RUNNING = 0
    CONVERGED = 1
    MAX_STEPS = 2
    NONFINITE = 3
    STALLED = 4
    WRONG_INDEX = 5
    DEGENERATE = 6


@runtime_checkable
class Solver(Protocol):
    """One lane of an iterative method; hashable, since it is static under jit."""

    def init(self, item: PyTree) -> PyTree:
        """State at the start of a job."""

    def point(self, state: PyTree) -> PyTree:
        """Where the driver evaluates next."""

    def step(self, state: PyTree, evaluation: PyTree) -> PyTree:
        """State after one evaluation."""

    def status(self, state: PyTree) -> Int[Array, ""]:
        """``Status`` of the lane."""

    def result(self, state: PyTree) -> PyTree:
        """What is handed out when the lane ends."""


class Outcome(NamedTuple):
    """A finished job: its place among the items, how it ended, its result (host arrays)."""

    job: int
    status: Status
    result: PyTree


@dataclass(frozen=True)
class Layout:
    """How lanes are laid out; the default suits the device.

    Attributes:
        lanes: lanes per thread (CPU) or in all (accelerator).
        passes: evaluations per lane between two visits to the host at most; fewer where they take long.
        together: lanes evaluated in one batch; 1 maps over lanes, None takes all of them.
        threads: host threads, each with its own lanes (a CPU device runs them on different cores).
    """

    lanes: int = 32
    passes: int = 64
    together: int | None = 1
    threads: int = 1

    @classmethod
    def default(cls, n_items: int | None = None) -> Layout:
        """Layout for the default backend and a number of jobs, where known."""
        if jax.default_backend() == "cpu":
            threads = min(os.cpu_count() or 1, 16)
            lanes = 8 if n_items is None else int(np.clip(-(-n_items // threads), 1, 8))
            return cls(lanes=1 << (lanes - 1).bit_length(), passes=64, together=1, threads=threads)
        lanes = 4096 if n_items is None else int(np.clip(n_items, 16, 4096))
        return cls(lanes=1 << (lanes - 1).bit_length(), passes=32, together=None, threads=1)

    def slots(self, devices: int = 1) -> int:
        """States held: for the lanes, but two batches a device at least, all of them full.

        A loop over one batch is compiled away and its rounding with it: one lane would not take the program of many.
        """
        if self.together is None:
            return max(1, self.lanes // devices) * devices
        batches = max(2, -(-self.lanes // (devices * self.together)))
        return batches * self.together * devices


def _select(
    mask: Bool[Array, " lanes"], new: Shaped[Array, "lanes ..."], old: Shaped[Array, "lanes ..."]
) -> Shaped[Array, "lanes ..."]:
    return jnp.where(mask.reshape(mask.shape + (1,) * (new.ndim - 1)), new, old)


@lru_cache(maxsize=256)
def _programs(
    solver: Solver, evaluate: Evaluate, together: int | None, mesh: Mesh | None
) -> tuple[Callable[..., PyTree], Callable[..., tuple[PyTree, jax.Array, PyTree]], Callable[..., PyTree]]:
    """``begin(items)``, ``advance(states, idle, passes, data)`` and ``refill(states, items, mask)``, each jitted."""

    def one(state: PyTree, idle: jax.Array, passes: jax.Array, data: PyTree) -> PyTree:
        def running(carry: tuple[jax.Array, PyTree]) -> jax.Array:
            k, s = carry
            return (k < passes) & (solver.status(s) == Status.RUNNING) & ~idle

        def body(carry: tuple[jax.Array, PyTree]) -> tuple[jax.Array, PyTree]:
            k, s = carry
            return k + 1, solver.step(s, evaluate(solver.point(s), data))

        return jax.lax.while_loop(running, body, (jnp.zeros((), jnp.int32), state))[1]

    def block(states: PyTree, idle: jax.Array, passes: jax.Array, data: PyTree) -> tuple[PyTree, jax.Array, PyTree]:
        lane = partial(one, passes=passes, data=data)
        if together is None:
            states = jax.vmap(lane)(states, idle)
        else:
            states = jax.lax.map(
                lambda args: lane(*args), (states, idle), batch_size=None if together == 1 else together
            )
        return states, jax.vmap(solver.status)(states), jax.vmap(solver.result)(states)

    if mesh is not None:
        lanes, whole = PartitionSpec("lanes"), PartitionSpec()
        # No collective inside, so nothing to check; a user's energy may loop over constants.
        block = jax.shard_map(
            block,
            mesh=mesh,
            in_specs=(lanes, lanes, whole, whole),
            out_specs=(lanes, lanes, lanes),
            check_vma=False,
        )

    def refill(states: PyTree, items: PyTree, mask: jax.Array) -> PyTree:
        return jax.tree.map(partial(_select, mask), jax.vmap(solver.init)(items), states)

    return (
        jax.jit(jax.vmap(solver.init)),
        _compiled_once(jax.jit(block, donate_argnums=0)),
        jax.jit(refill, donate_argnums=0),
    )


def _compiled_once(program: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """The program, its first call by one thread alone: the others find it compiled."""
    lock, known = threading.Lock(), threading.Event()

    def call(*arguments: PyTree) -> PyTree:
        if known.is_set():
            return program(*arguments)
        with lock:
            result = program(*arguments)
        known.set()
        return result

    return call


def is_out_of_memory(error: Exception) -> bool:
    """Whether a computation failed for want of memory, and may succeed in smaller batches."""
    return "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()


def matmul_precision() -> str | None:
    """Precision of products inside solvers: never TF32, which loses the digits by which a quench converges.

    What the caller has set with ``jax.default_matmul_precision`` stands.
    """
    return CONFIG.jax_default_matmul_precision or ("highest" if jax.default_backend() != "cpu" else None)


@dataclass
class _Jobs:
    """What the threads of one stream share.

    Attributes:
        items: what ``solver.init`` takes, one per job.
        waiting: numbers of the jobs nobody has begun.
        data: argument of the evaluation.
        share: jobs a thread starts with at most, so that a short list is spread over all.
        emit: takes a finished job.
        stopping: asked between blocks.
    """

    items: Sequence[PyTree]
    waiting: queue.SimpleQueue[int]
    data: PyTree
    share: int
    emit: Callable[[Outcome], None]
    stopping: Callable[[], bool]

    def batch(self, held: np.ndarray) -> PyTree:
        """The items of these jobs on a leading axis; any item where there is no job (< 0)."""
        chosen = [self.items[i] if i >= 0 else self.items[0] for i in held]
        return jax.tree.map(lambda *leaves: np.stack([np.asarray(v) for v in leaves]), *chosen)


class _Set:
    """One set of lanes: ``held`` [slots] says which job each of them is at (-1: none)."""

    def __init__(self, solver: Solver, evaluate: Evaluate, layout: Layout, mesh: Mesh | None, jobs: _Jobs) -> None:
        self.jobs, self.layout = jobs, layout
        self.begin, self.advance, self.refill = _programs(cast(Hashable, solver), evaluate, layout.together, mesh)
        self.held = np.full(layout.slots(1 if mesh is None else mesh.shape["lanes"]), -1)
        self.passes = layout.passes
        self.states: PyTree = None

    def draw(self, again: list[int]) -> bool:
        """Give waiting jobs to free lanes; whether any lane is at work."""
        room = min(self.jobs.share, self.layout.lanes) - int(np.sum(self.held >= 0))
        fresh = np.zeros(len(self.held), bool)
        for lane in np.flatnonzero(self.held < 0)[: max(0, room)]:
            if again:
                self.held[lane] = again.pop()
            else:
                try:
                    self.held[lane] = self.jobs.waiting.get_nowait()
                except queue.Empty:
                    break
            fresh[lane] = True
        if fresh.any():
            batch = self.jobs.batch(self.held)
            self.states = self.begin(batch) if self.states is None else self.refill(self.states, batch, fresh)
        return bool((self.held >= 0).any())

    def block(self) -> None:
        """One visit to the device: advance all lanes, hand out what has ended."""
        began = time.monotonic()
        passes = jnp.asarray(self.passes, jnp.int32)
        self.states, status, result = self.advance(self.states, jnp.asarray(self.held < 0), passes, self.jobs.data)
        codes = np.asarray(status)
        # Blocks of about a second at most: Ctrl-C, time limits and refilling wait for no longer.
        spent = time.monotonic() - began
        if spent > _BLOCK_SECONDS and self.passes > 1:
            self.passes = max(1, self.passes // 2)
        elif spent < 0.1 * _BLOCK_SECONDS and self.passes < self.layout.passes:
            self.passes = min(self.layout.passes, 2 * self.passes)
        ended = np.flatnonzero((codes != Status.RUNNING) & (self.held >= 0))
        if len(ended):
            host = jax.tree.map(np.asarray, result)
            for lane in ended:
                piece = jax.tree.map(lambda leaf, lane=lane: np.array(leaf[lane]), host)
                self.jobs.emit(Outcome(int(self.held[lane]), Status(int(codes[lane])), piece))
                self.held[lane] = -1


def _drive(solver: Solver, evaluate: Evaluate, layout: Layout, mesh: Mesh | None, jobs: _Jobs) -> None:
    """Run one set of lanes until no job waits; halve the lanes and repeat their jobs when memory runs out."""
    again: list[int] = []
    while True:
        lanes = _Set(solver, evaluate, layout, mesh, jobs)
        try:
            while not jobs.stopping() and lanes.draw(again):
                lanes.block()
            return
        except Exception as error:
            fewer = replace(layout, lanes=max(1, layout.lanes // 2))
            devices = 1 if mesh is None else mesh.shape["lanes"]
            if not is_out_of_memory(error) or fewer.slots(devices) == layout.slots(devices):
                raise
            again.extend(int(i) for i in lanes.held if i >= 0)
            layout = fewer


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
    done: queue.SimpleQueue[Outcome | BaseException | None] = queue.SimpleQueue()
    halt = threading.Event()
    count = max(1, layout.threads)
    jobs = _Jobs(
        items=items,
        waiting=queue.SimpleQueue(),
        data=data,
        share=-(-len(items) // count),
        emit=done.put,
        stopping=lambda: halt.is_set() or (should_stop is not None and should_stop()),
    )
    for index in range(len(items)):
        jobs.waiting.put(index)
    x64, device, precision = CONFIG.jax_enable_x64, CONFIG.jax_default_device, matmul_precision()

    def work() -> None:
        try:
            with jax.enable_x64(x64), jax.default_device(device), jax.default_matmul_precision(precision):
                _drive(solver, evaluate, layout, mesh, jobs)
            done.put(None)
        except BaseException as error:
            done.put(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    alive = len(threads)
    try:
        while alive:
            got = done.get()
            if got is None:
                alive -= 1
            elif isinstance(got, BaseException):
                raise got
            else:
                yield got
    finally:
        halt.set()
        for thread in threads:
            thread.join()


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
