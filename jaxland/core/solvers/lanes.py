"""Stream many independent jobs through a fixed number of lanes.

A *solver* is pure and knows one lane: ``init(item) -> state``, ``point(state) -> where to evaluate next``,
``step(state, evaluation) -> state``, ``status(state) -> int`` (0 while running), ``result(state) -> pytree``. The
driver evaluates, advances every lane by up to ``passes`` passes inside one compiled block, retires what has ended and
refills from the queue. Results never depend on the number of lanes, threads or devices.

On a CPU each lane runs on its own (``lax.map``: caches stay warm, no lane waits for another), and each core drives
its own set of lanes; on an accelerator all lanes of a device are evaluated together (``vmap``), sharded over devices.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

PyTree = Any
_BLOCK_SECONDS = 1.0


class Status(IntEnum):
    """How a lane ended."""

    RUNNING = 0
    CONVERGED = 1
    MAX_STEPS = 2
    NONFINITE = 3
    STALLED = 4
    WRONG_INDEX = 5


@runtime_checkable
class Solver(Protocol):
    """One lane of an iterative method; hashable, since it is static under jit."""

    def init(self, item: PyTree) -> PyTree:
        """State at the start of a job."""

    def point(self, state: PyTree) -> PyTree:
        """Where the driver evaluates next."""

    def step(self, state: PyTree, evaluation: PyTree) -> PyTree:
        """State after one evaluation."""

    def status(self, state: PyTree) -> jax.Array:
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


def _select(mask: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(mask.reshape(mask.shape + (1,) * (new.ndim - 1)), new, old)


@lru_cache(maxsize=256)
def _programs(
    solver: Any, evaluate: Callable, together: int | None, mesh: Mesh | None
) -> tuple[Callable, Callable, Callable]:
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
        count = idle.shape[0]
        if together is None or together >= count:
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


def _compiled_once(program: Callable) -> Callable:
    """The program, its first call by one thread alone: the others find it compiled."""
    lock, known = threading.Lock(), threading.Event()

    def call(*arguments: Any) -> Any:
        if known.is_set():
            return program(*arguments)
        with lock:
            result = program(*arguments)
        known.set()
        return result

    return call


def _is_out_of_memory(error: Exception) -> bool:
    return "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()


def _drive(
    solver: Solver,
    evaluate: Callable,
    source: queue.SimpleQueue,
    items: Sequence[PyTree],
    data: PyTree,
    layout: Layout,
    mesh: Mesh | None,
    share: int,
    emit: Callable[[Outcome], None],
    stopping: Callable[[], bool],
) -> None:
    """Run one set of lanes until the source is empty; halve the lanes and repeat their jobs when memory runs out."""
    lanes = layout.lanes
    again: list[int] = []

    def draw() -> int:
        if again:
            return again.pop()
        try:
            return source.get_nowait()
        except queue.Empty:
            return -1

    while True:
        begin, advance, refill = _programs(cast(Hashable, solver), evaluate, layout.together, mesh)
        passes = layout.passes
        held = np.full(lanes, -1)
        states: PyTree = None
        try:
            while not stopping():
                fresh = np.zeros(lanes, bool)
                for lane in np.flatnonzero(held < 0)[: max(0, share - int(np.sum(held >= 0)))]:
                    held[lane] = draw()
                    fresh[lane] = held[lane] >= 0
                if (held < 0).all():
                    return
                if fresh.any():
                    chosen = [items[i] if i >= 0 else items[0] for i in held]
                    batch = jax.tree.map(lambda *leaves: np.stack([np.asarray(v) for v in leaves]), *chosen)
                    if states is None:
                        states = begin(batch)
                    else:
                        states = refill(states, batch, fresh)
                began = time.monotonic()
                states, status, result = advance(states, jnp.asarray(held < 0), jnp.asarray(passes, jnp.int32), data)
                codes = np.asarray(status)
                # Blocks of about a second at most: Ctrl-C, time limits and refilling wait for no longer.
                spent = time.monotonic() - began
                if spent > _BLOCK_SECONDS and passes > 1:
                    passes = max(1, passes // 2)
                elif spent < 0.1 * _BLOCK_SECONDS and passes < layout.passes:
                    passes = min(layout.passes, 2 * passes)
                ended = np.flatnonzero((codes != Status.RUNNING) & (held >= 0))
                if len(ended):
                    host = jax.tree.map(np.asarray, result)
                    for lane in ended:
                        piece = jax.tree.map(lambda leaf, lane=lane: np.array(leaf[lane]), host)
                        emit(Outcome(int(held[lane]), Status(int(codes[lane])), piece))
                        held[lane] = -1
            return
        except Exception as error:
            if not _is_out_of_memory(error) or lanes == 1:
                raise
            again.extend(int(i) for i in held if i >= 0)
            lanes //= 2


def stream(
    solver: Solver,
    evaluate: Callable[[PyTree, PyTree], PyTree],
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
        size = mesh.shape["lanes"]
        # Two lanes a device at least: a loop over one is compiled away, and its rounding with it.
        layout = Layout(max(2 * size, layout.lanes // size * size), layout.passes, layout.together, 1)
    source: queue.SimpleQueue = queue.SimpleQueue()
    for index in range(len(items)):
        source.put(index)
    done: queue.SimpleQueue = queue.SimpleQueue()
    halt = threading.Event()
    config: Any = jax.config
    x64 = bool(config.jax_enable_x64)
    device = config.jax_default_device
    # Float32 products in TF32 lose the digits by which a quench converges: off, unless the caller asked for them.
    accelerated = jax.default_backend() != "cpu"
    precision = config.jax_default_matmul_precision or ("highest" if accelerated else None)

    def stopping() -> bool:
        return halt.is_set() or (should_stop is not None and should_stop())

    def work() -> None:
        try:
            with jax.enable_x64(x64), jax.default_device(device), jax.default_matmul_precision(precision):
                _drive(solver, evaluate, source, items, data, layout, mesh, share, done.put, stopping)
            done.put(None)
        except BaseException as error:
            done.put(error)

    # No thread starts with more than its share, so that a short list of jobs is spread over all.
    share = -(-len(items) // max(1, layout.threads))
    threads = [threading.Thread(target=work, daemon=True) for _ in range(max(1, layout.threads))]
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
    evaluate: Callable[[PyTree, PyTree], PyTree],
    items: Sequence[PyTree],
    data: PyTree,
    **options: Any,
) -> list[Outcome]:
    """All outcomes in the order of the items; see ``stream``. Jobs dropped by ``should_stop`` are missing."""
    return sorted(stream(solver, evaluate, items, data, **options), key=lambda outcome: outcome.job)


def map_rows(
    f: Callable[[PyTree, PyTree], PyTree], rows: Iterable[PyTree], data: PyTree, *, batch: int = 32
) -> list[PyTree]:
    """``f(row, data)`` for every row, in compiled batches of one shape; host results in order."""
    rows = list(rows)
    if not rows:
        return []
    program = _mapped(f)
    out: list[PyTree] = []
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        padded = part + [part[-1]] * (batch - len(part))
        stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(v) for v in leaves]), *padded)
        host = jax.tree.map(np.asarray, program(stacked, data))
        out.extend(jax.tree.map(lambda leaf, i=i: leaf[i], host) for i in range(len(part)))
    return out


@lru_cache(maxsize=64)
def _mapped(f: Callable) -> Callable:
    serial = jax.default_backend() == "cpu"

    def program(rows: PyTree, data: PyTree) -> PyTree:
        def one(row: PyTree) -> PyTree:
            return f(row, data)

        return jax.lax.map(one, rows) if serial else jax.vmap(one)(rows)

    return jax.jit(program)
