"""One set of lanes: its compiled programs, how long they take, and the loop that fills, advances and empties it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, PyTree, Shaped

from jaxland.core.solvers import threads
from jaxland.core.solvers.protocol import Evaluate, Layout, Solver, Status
from jaxland.core.solvers.threads import CONFIG, compiler_options, device

# Length of a block: long beside the host's visit (about a millisecond of Python, one thread at a time), short enough
# for Ctrl-C, time limits and refilling. Where lanes wait for one another, blocks are cut by passes instead.
_BLOCK_SECONDS = 0.1
_LONGEST_SECONDS = 1.0
# Evaluations of the first block, which tells how long one takes.
_FIRST_PASSES = 4


def _select(
    mask: Bool[Array, " lanes"], new: Shaped[Array, "lanes ..."], old: Shaped[Array, "lanes ..."]
) -> Shaped[Array, "lanes ..."]:
    return jnp.where(mask.reshape(mask.shape + (1,) * (new.ndim - 1)), new, old)


@dataclass
class Pace:
    """How long one program takes on this machine, as measured while it runs; the length of blocks follows it.

    Attributes:
        evaluation: seconds of one evaluation of one lane; None before the program was compiled and timed.
        busy, ended: seconds spent so far, and jobs that ended in them.
    """

    evaluation: float | None = None
    busy: float = 0.0
    ended: int = 0

    def job(self) -> float | None:
        """Seconds of a job; None before one has ended."""
        return self.busy / self.ended if self.ended else None

    def note(self, seconds: float, evaluations: float, ended: int) -> None:
        """Take a block into account."""
        self.busy, self.ended = self.busy + seconds, self.ended + ended
        if evaluations:
            new = seconds / evaluations
            self.evaluation = new if self.evaluation is None else 0.7 * self.evaluation + 0.3 * new

    def lanes(self, most: int) -> int:
        """Lanes that fill a block: few where jobs are long, so that the first of them end early."""
        each = self.job()
        return 1 if each is None else int(np.clip(_BLOCK_SECONDS / max(each, 1e-9), 1, most))


@dataclass
class _Programs:
    """A solver and what it evaluates, compiled.

    Attributes:
        begin: (items) -> states. refill: (states, items, mask) -> states.
        advance: (states, idle, passes, data) -> states, status, result, evaluations made [lanes].
        paces: by the shapes it was compiled for.
        lock: held by the thread that compiles; the others find it done.
    """

    begin: Callable[..., PyTree]
    advance: Callable[..., tuple[PyTree, jax.Array, PyTree, jax.Array]]
    refill: Callable[..., PyTree]
    paces: dict[Hashable, Pace] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


@lru_cache(maxsize=256)
def _programs(
    solver: Solver, evaluate: Evaluate, together: int | None, mesh: Mesh | None, platform: str
) -> _Programs:
    def one(state: PyTree, idle: jax.Array, passes: jax.Array, data: PyTree) -> tuple[jax.Array, PyTree]:
        def running(carry: tuple[jax.Array, PyTree]) -> jax.Array:
            k, s = carry
            return (k < passes) & (solver.status(s) == Status.RUNNING) & ~idle

        def body(carry: tuple[jax.Array, PyTree]) -> tuple[jax.Array, PyTree]:
            k, s = carry
            return k + 1, solver.step(s, evaluate(solver.point(s), data))

        return jax.lax.while_loop(running, body, (jnp.zeros((), jnp.int32), state))

    def block(
        states: PyTree, idle: jax.Array, passes: jax.Array, data: PyTree
    ) -> tuple[PyTree, jax.Array, PyTree, jax.Array]:
        lane = partial(one, passes=passes, data=data)
        if together is None:
            made, states = jax.vmap(lane)(states, idle)
        else:
            made, states = jax.lax.map(
                lambda args: lane(*args), (states, idle), batch_size=None if together == 1 else together
            )
        return states, jax.vmap(solver.status)(states), jax.vmap(solver.result)(states), made

    if mesh is not None:
        lanes, whole = PartitionSpec("lanes"), PartitionSpec()
        # No collective inside, so nothing to check; a user's energy may loop over constants.
        block = jax.shard_map(
            block,
            mesh=mesh,
            in_specs=(lanes, lanes, whole, whole),
            out_specs=(lanes, lanes, lanes, lanes),
            check_vma=False,
        )

    def refill(states: PyTree, items: PyTree, mask: jax.Array) -> PyTree:
        return jax.tree.map(partial(_select, mask), jax.vmap(solver.init)(items), states)

    return _Programs(
        begin=jax.jit(jax.vmap(solver.init)),
        advance=jax.jit(block, donate_argnums=0, compiler_options=compiler_options(platform)),
        refill=jax.jit(refill, donate_argnums=0),
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether a computation failed for want of memory, and may succeed in smaller batches."""
    return "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()


def matmul_precision() -> str | None:
    """Precision of products inside solvers: never TF32, which loses the digits by which a quench converges.

    What the caller has set with ``jax.default_matmul_precision`` stands.
    """
    return CONFIG.jax_default_matmul_precision or ("highest" if threads.on_accelerator() else None)


@runtime_checkable
class Source(Protocol):
    """Who feeds a set of lanes and takes what it brings; asked by one thread at a time, of several."""

    @property
    def data(self) -> PyTree:
        """Argument of the evaluation."""

    def draw(self, room: int, pace: Pace) -> list[tuple[Hashable, PyTree]]:
        """Jobs to begin, at most ``room``: what they are known by, and their items."""

    def emit(self, job: Hashable, status: Status, result: PyTree) -> None:
        """Take a job that ended; host arrays."""

    def stopping(self) -> bool:
        """Asked between blocks."""


def _shapes(tree: PyTree) -> Hashable:
    return tuple((np.shape(leaf), str(getattr(leaf, "dtype", ""))) for leaf in jax.tree.leaves(tree))


class Lanes:
    """One set of lanes: ``held`` [slots] says which job each of them is at (None: none)."""

    def __init__(self, solver: Solver, evaluate: Evaluate, layout: Layout, mesh: Mesh | None, source: Source) -> None:
        self.source, self.layout = source, layout
        self.devices = 1 if mesh is None else mesh.shape["lanes"]
        # Lanes one after another, in a thread of their own: blocks are cut by time.
        self.serial = layout.together == 1 and mesh is None
        platform = device().platform if mesh is None else mesh.devices.flat[0].platform
        self.programs = _programs(cast(Hashable, solver), evaluate, layout.together, mesh, platform)
        self.held: list[Hashable | None] = [None] * layout.slots(self.devices)
        self.items: list[PyTree] = [None] * len(self.held)
        self.states: PyTree = None
        self.pace, self.passes = Pace(), layout.passes

    def idle(self) -> np.ndarray:
        """Lanes without a job [slots]."""
        return np.array([job is None for job in self.held])

    def draw(self, again: list[tuple[Hashable, PyTree]]) -> bool:
        """Give waiting jobs to free lanes; whether any lane is at work."""
        free = np.flatnonzero(self.idle())
        room = self.layout.lanes - (len(self.held) - len(free))
        fresh = [again.pop() for _ in range(min(room, len(again)))]
        if room > len(fresh):
            fresh += self.source.draw(room - len(fresh), self.pace)
        if fresh:
            mask = np.zeros(len(self.held), bool)
            for lane, (job, item) in zip(free.tolist(), fresh):
                self.held[lane], self.items[lane], mask[lane] = job, item, True
            chosen = [fresh[0][1] if item is None else item for item in self.items]
            batch = jax.tree.map(lambda *leaves: np.stack([np.asarray(v) for v in leaves]), *chosen)
            if self.states is None:
                self.states = self.programs.begin(batch)
                self._meet()
            else:
                self.states = self.programs.refill(self.states, batch, mask)
        return len(fresh) > 0 or len(free) < len(self.held)

    def _meet(self) -> None:
        """Find the pace of the program on these shapes; compile it where nobody has."""
        key = (len(self.held), _shapes(self.states), _shapes(self.source.data))
        with self.programs.lock:
            self.pace = self.programs.paces.setdefault(key, self.pace)
            if self.pace.evaluation is None:
                self._advance(0)
                self.block(_FIRST_PASSES)

    def _advance(self, passes: int) -> tuple[np.ndarray, PyTree, np.ndarray]:
        arguments = self.states, self.idle(), np.int32(passes), self.source.data
        self.states, status, result, made = self.programs.advance(*arguments)
        return np.asarray(status), result, np.asarray(made)

    def _next(self) -> int:
        """Passes of the next block."""
        each = self.pace.evaluation
        if not self.serial or each is None:
            return self.passes
        active = len(self.held) - int(self.idle().sum())
        return int(np.clip(_BLOCK_SECONDS / max(each * active, 1e-9), 1, self.layout.passes))

    def block(self, passes: int | None = None) -> None:
        """One visit to the device: advance all lanes, hand out what has ended."""
        began, passes = time.monotonic(), min(passes or self._next(), self.layout.passes)
        codes, result, made = self._advance(passes)
        spent = time.monotonic() - began
        if spent > _LONGEST_SECONDS and self.passes > 1:
            self.passes = max(1, self.passes // 2)
        elif spent < 0.1 * _LONGEST_SECONDS and self.passes < self.layout.passes:
            self.passes = min(self.layout.passes, 2 * self.passes)
        ended = np.flatnonzero((codes != Status.RUNNING) & ~self.idle())
        self.pace.note(spent, float(made.sum() if self.serial else made.max()), len(ended))
        if len(ended):
            leaves, tree = jax.tree.flatten(result)
            host = [np.asarray(leaf) for leaf in leaves]
            for lane in ended.tolist():
                job, self.held[lane], self.items[lane] = self.held[lane], None, None
                piece = jax.tree.unflatten(tree, [np.array(leaf[lane]) for leaf in host])
                self.source.emit(job, Status(int(codes[lane])), piece)


def drive(
    solver: Solver, evaluate: Evaluate, layout: Layout, mesh: Mesh | None, source: Source, lanes: Lanes | None = None
) -> Lanes:
    """Run one set of lanes (a given one, or a new one) until nothing waits; returned to be used again.

    Where memory runs out the lanes are halved and their jobs repeated.
    """
    again: list[tuple[Hashable, PyTree]] = []
    while True:
        lanes = lanes or Lanes(solver, evaluate, layout, mesh, source)
        try:
            while not source.stopping() and lanes.draw(again):
                lanes.block()
            return lanes
        except Exception as error:
            layout = lanes.layout
            fewer = replace(layout, lanes=max(1, layout.lanes // 2))
            if not is_out_of_memory(error) or fewer.slots(lanes.devices) == layout.slots(lanes.devices):
                raise
            again.extend((job, item) for job, item in zip(lanes.held, lanes.items) if job is not None)
            layout, lanes = fewer, None
