"""Many jobs on an accelerator: states stay on the device, the host visits between launches, all lanes at once.

``lanes`` hands out every job by itself, which suits a CPU, where a job takes milliseconds. On a GPU thousands end in
one launch: here they are retired and replaced as arrays. A *program* is a solver over all lanes at once:
``protocol.Solver`` under vmap (``Vmapped``), or a whole solver in one kernel (``core.pallas.whole``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxland.core.solvers.protocol import Evaluate, Solver, Status
from jaxland.core.solvers.sets import is_out_of_memory, matmul_precision

# Lanes of vmapped solvers come in two sizes, so that the number of jobs compiles nothing.
_FEW = 512


@runtime_checkable
class Program(Protocol):
    """A solver over a fleet of lanes; hashable, since it is static under jit."""

    def __hash__(self) -> int: ...

    def begin(self, items: PyTree) -> PyTree:
        """States at the start of jobs stacked on a leading axis."""

    def advance(self, states: PyTree, data: PyTree) -> PyTree:
        """States after some evaluations of every lane whose status is RUNNING."""

    def status(self, states: PyTree) -> jax.Array:
        """``Status`` [lanes]."""

    def result(self, states: PyTree) -> PyTree:
        """What ended lanes hand out, lanes on the leading axis."""

    def choose(self, fresh: jax.Array, new: PyTree, old: PyTree) -> PyTree:
        """States with those of ``new`` where ``fresh`` [lanes]."""

    def park(self, states: PyTree, idle: jax.Array) -> PyTree:
        """States whose ``idle`` [lanes] have ended before they began: they have no job."""

    def take(self, states: PyTree, lanes: jax.Array) -> PyTree:
        """States of these lanes alone."""

    def beside(self, states: PyTree, others: PyTree) -> PyTree:
        """States of the lanes of two fleets, the second's numbered after the first's."""

    def last(self, lanes: int) -> tuple[int, Program] | None:
        """Lanes for the last jobs of so many lanes, and the program that goes on with them; None: all stays."""

    def adopt(self, states: PyTree) -> PyTree:
        """Its own states from those of the program whose last jobs it goes on with."""


@dataclass(frozen=True)
class Vmapped:
    """A solver of single lanes, all lanes in step.

    Attributes:
        solver: see ``protocol.Solver``; evaluate: ``(point, data) -> evaluation``; passes: evaluations of a launch.
    """

    solver: Solver
    evaluate: Evaluate
    passes: int = 32

    def begin(self, items: PyTree) -> PyTree:
        """See ``Program``."""
        return jax.vmap(self.solver.init)(items)

    def advance(self, states: PyTree, data: PyTree) -> PyTree:
        """See ``Program``."""
        solver = self.solver

        def one(state: PyTree) -> PyTree:
            return solver.step(state, self.evaluate(solver.point(state), data))

        def goes_on(carry: tuple[jax.Array, PyTree]) -> jax.Array:
            return (carry[0] < self.passes) & jnp.any(self.status(carry[1]) == Status.RUNNING)

        def body(carry: tuple[jax.Array, PyTree]) -> tuple[jax.Array, PyTree]:
            running = self.status(carry[1]) == Status.RUNNING
            return carry[0] + 1, self.choose(running, jax.vmap(one)(carry[1]), carry[1])

        return jax.lax.while_loop(goes_on, body, (jnp.zeros((), jnp.int32), states))[1]

    def status(self, states: PyTree) -> jax.Array:
        """See ``Program``."""
        return jax.vmap(self.solver.status)(states)

    def result(self, states: PyTree) -> PyTree:
        """See ``Program``."""
        return jax.vmap(self.solver.result)(states)

    def choose(self, fresh: jax.Array, new: PyTree, old: PyTree) -> PyTree:
        """See ``Program``."""

        def leaf(a: jax.Array, b: jax.Array) -> jax.Array:
            return jnp.where(fresh.reshape(fresh.shape + (1,) * (a.ndim - 1)), a, b)

        return jax.tree.map(leaf, new, old)

    def park(self, states: PyTree, idle: jax.Array) -> PyTree:
        """See ``Program``; every solver of this room keeps its status in a field of that name."""
        return states._replace(status=jnp.where(idle, jnp.int32(Status.STALLED), states.status))

    def take(self, states: PyTree, lanes: jax.Array) -> PyTree:
        """See ``Program``."""
        return jax.tree.map(lambda a: a[lanes], states)

    def beside(self, states: PyTree, others: PyTree) -> PyTree:
        """See ``Program``."""
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), states, others)

    def last(self, lanes: int) -> tuple[int, Program] | None:
        """See ``Program``; few jobs would keep many lanes waiting."""
        return (_FEW, self) if lanes > _FEW else None

    def adopt(self, states: PyTree) -> PyTree:
        """See ``Program``."""
        return states


class Ended(NamedTuple):
    """All jobs, as they stand when the fleet comes home; host arrays.

    Attributes:
        status: ``Status`` [jobs]; RUNNING where ``should_stop`` cut a job off.
        result: of the solver, jobs on the leading axis; meaningless where RUNNING.
    """

    status: np.ndarray
    result: PyTree


class _Compiled(NamedTuple):
    """Jitted parts of one program.

    Attributes:
        begin: (items, idle [lanes]) -> states. advance: (states, data) -> states.
        read: states -> (status [lanes], result). refill: (states, items, fresh [lanes]) -> states.
        shrink: (states, lanes) -> states of these lanes. merge: (states, others, lanes) -> of these lanes of both.
        adopt: states of the program before -> its own.
    """

    begin: Callable[..., PyTree]
    advance: Callable[..., PyTree]
    read: Callable[..., tuple[jax.Array, PyTree]]
    refill: Callable[..., PyTree]
    shrink: Callable[..., PyTree]
    merge: Callable[..., PyTree]
    adopt: Callable[[PyTree], PyTree]


@lru_cache(maxsize=64)
def _compiled(program: Program) -> _Compiled:
    def refill(states: PyTree, items: PyTree, fresh: jax.Array) -> PyTree:
        return program.choose(fresh, program.begin(items), states)

    return _Compiled(
        begin=jax.jit(lambda items, idle: program.park(program.begin(items), idle)),
        advance=jax.jit(program.advance, donate_argnums=0),
        read=jax.jit(lambda states: (program.status(states), program.result(states))),
        refill=jax.jit(refill, donate_argnums=0),
        shrink=jax.jit(program.take),
        merge=jax.jit(lambda states, others, lanes: program.take(program.beside(states, others), lanes)),
        adopt=jax.jit(program.adopt),
    )


def pace(program: Program, items: PyTree, data: PyTree) -> float:
    """Seconds of an evaluation while all of these items (jobs on the leading axis) are in full flight."""
    count = jax.tree.leaves(items)[0].shape[0]
    compiled = _compiled(program)

    def evaluations(states: PyTree) -> int:
        return int(np.sum(np.asarray(compiled.read(states)[1].evaluations)))

    with jax.default_matmul_precision(matmul_precision()):
        states = compiled.begin(items, jnp.zeros(count, bool))
        states = compiled.advance(states, data)  # compiles; the first steps are no sample of the others
        before = evaluations(states)
        began = time.perf_counter()
        states = jax.block_until_ready(compiled.advance(states, data))
        spent = time.perf_counter() - began
        return spent / max(evaluations(states) - before, 1)


def run(
    program: Program,
    items: PyTree,
    data: PyTree,
    *,
    lanes: int = 4096,
    squads: int = 2,
    should_stop: Callable[[], bool] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Ended:
    """All jobs through a few squads of lanes: while the host visits one, the device is at work on the others.

    Args:
        program: see ``Program``; reused between calls (compiled programs are cached by it).
        items: what ``program.begin`` takes, jobs on the leading axis of every leaf.
        data: argument of ``program.advance``, shared by all lanes.
        lanes: of a squad; halved, and all jobs begun anew, where memory runs out.
        squads: most of them, as many as are full.
        should_stop: asked between launches; jobs in flight are dropped when it says True.
        progress: called between launches with (jobs ended, jobs).
    """
    items = jax.tree.map(np.asarray, items)
    while True:
        try:
            with jax.default_matmul_precision(matmul_precision()):
                return _run(program, items, data, lanes, squads, should_stop, progress)
        except Exception as error:
            if not is_out_of_memory(error) or lanes <= 1:
                raise
            lanes //= 2


class _Squad:
    """Lanes that are launched together.

    Attributes:
        held: each lane's job [lanes]; -1: none.
        states: of the program; read: status and result after the launch in flight.
    """

    def __init__(self, compiled: _Compiled, states: PyTree, held: np.ndarray) -> None:
        self.compiled, self.states, self.held = compiled, states, held
        self.read: tuple[jax.Array, PyTree] | None = None

    @property
    def live(self) -> int:
        """Lanes with a job."""
        return int(np.count_nonzero(self.held >= 0))

    def launch(self, data: PyTree) -> None:
        """Go on; does not wait."""
        self.states = self.compiled.advance(self.states, data)
        self.read = self.compiled.read(self.states)

    def retire(self, status: np.ndarray, result: PyTree) -> np.ndarray:
        """Wait for the launch; write what ended at its jobs' places. Lanes that are free now."""
        assert self.read is not None
        codes, found = np.asarray(self.read[0]), self.read[1]
        ended = np.flatnonzero((codes != Status.RUNNING) & (self.held >= 0))
        if len(ended):
            jobs = self.held[ended]
            status[jobs] = codes[ended]
            for all_, some in zip(jax.tree.leaves(result), jax.tree.leaves(found)):
                all_[jobs] = np.asarray(some)[ended]
            self.held[ended] = -1
        self.read = None
        return ended

    def refill(self, items: PyTree, free: np.ndarray, jobs: np.ndarray) -> None:
        """Begin jobs in free lanes."""
        self.held[free] = jobs
        mask = np.zeros(len(self.held), bool)
        mask[free] = True
        self.states = self.compiled.refill(self.states, _chosen(items, self.held), jnp.asarray(mask))

    def take_over(self, other: _Squad) -> None:
        """The jobs of another squad besides its own; all of them fit."""
        held = np.concatenate([self.held, other.held])
        order = np.argsort(held < 0, kind="stable")[: len(self.held)]
        self.states = self.compiled.merge(self.states, other.states, jnp.asarray(order))
        self.held = held[order]

    def hand_over(self, lanes: int, compiled: _Compiled) -> None:
        """Fewer lanes, enough for all jobs, and the program that goes on with them."""
        order = np.argsort(self.held < 0, kind="stable")[:lanes]
        self.states = compiled.adopt(self.compiled.shrink(self.states, jnp.asarray(order)))
        self.held, self.compiled = self.held[order], compiled


def _run(
    program: Program,
    items: PyTree,
    data: PyTree,
    lanes: int,
    squads: int,
    should_stop: Callable[[], bool] | None,
    progress: Callable[[int, int], object] | None,
) -> Ended:
    count = jax.tree.leaves(items)[0].shape[0]
    few, after = program.last(lanes) or (lanes, program)
    if count <= few:
        lanes, program = few, after
    compiled = _compiled(program)
    going: list[_Squad] = []
    begun = 0
    while begun < count and len(going) < max(1, min(squads, count // lanes)):
        held = np.where(np.arange(begun, begun + lanes) < count, np.arange(begun, begun + lanes), -1)
        states = compiled.begin(_chosen(items, held), jnp.asarray(held < 0))
        going.append(_Squad(compiled, states, held))
        going[-1].launch(data)
        begun = min(begun + lanes, count)
    status, result = np.zeros(count, np.int32), _room(compiled.read, going[0].states, count) if going else None
    done = 0
    while done < count and not (should_stop is not None and should_stop()):
        waiting: _Squad | None = None  # half empty: the next such one of this round takes it over
        for squad in tuple(going):
            free = squad.retire(status, result)
            done += len(free)
            if progress is not None:
                progress(done, count)
            if len(fresh := free[: count - begun]):
                squad.refill(items, fresh, np.arange(begun, begun + len(fresh)))
                begun += len(fresh)
            if waiting is not None and squad.live + waiting.live <= len(squad.held):
                squad.take_over(waiting)
                going.remove(waiting)
                waiting = None
            if not squad.live:
                going.remove(squad)
            elif begun == count and waiting is None and 2 * squad.live <= len(squad.held) and squad is not going[-1]:
                waiting = squad
            else:
                if len(going) == 1 and squad.live <= few < len(squad.held):
                    squad.hand_over(few, _compiled(after))
                squad.launch(data)
        if waiting is not None:
            waiting.launch(data)
    return Ended(status, result)


def _chosen(items: PyTree, held: np.ndarray) -> PyTree:
    """The items of the lanes' jobs; any item where there is no job."""
    return jax.tree.map(lambda a: a[np.maximum(held, 0)], items)


def _room(read: Callable[..., tuple[jax.Array, PyTree]], states: PyTree, count: int) -> PyTree:
    shapes = jax.eval_shape(read, states)[1]
    return jax.tree.map(lambda a: np.zeros((count, *a.shape[1:]), a.dtype), shapes)
