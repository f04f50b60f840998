"""Many jobs on an accelerator without the host: the queue, the results and the refilling live on the device.

``lanes`` hands out every job by itself, which suits a CPU, where a job takes milliseconds. On a GPU thousands end in
one launch; here the host only asks now and then how many are left. A *program* is a solver over all lanes at once:
``lanes.Solver`` under vmap (``Vmapped``), or a whole solver in one kernel (``core.pallas.whole_quench``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxland.core.solvers.lanes import Evaluate, Solver, Status, is_out_of_memory, matmul_precision

# Few shapes are compiled: jobs come in powers of four from here, lanes in two sizes, the smaller for few jobs and for
# the last ones of many, which would keep the larger size waiting.
_LEAST = 256
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


@dataclass(frozen=True)
class Vmapped:
    """A solver of single lanes, all lanes in step.

    Attributes:
        solver: see ``lanes.Solver``; evaluate: ``(point, data) -> evaluation``; passes: evaluations of a launch.
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


class Ended(NamedTuple):
    """All jobs, as they stand when the fleet comes home; host arrays.

    Attributes:
        status: ``Status`` [jobs]; RUNNING where ``should_stop`` cut a job off.
        result: of the solver, jobs on the leading axis; meaningless where RUNNING.
    """

    status: np.ndarray
    result: PyTree


class _Fleet(NamedTuple):
    """What lives on the device.

    Attributes:
        states: of the program; held: job of each lane, or the number of jobs where it has none.
        next: first job nobody has begun; left: jobs not ended.
        status, result: of the ended jobs; one place more than there are jobs takes what nobody wants.
    """

    states: PyTree
    held: jax.Array
    next: jax.Array
    left: jax.Array
    status: jax.Array
    result: PyTree


def _harvest(program: Program, fleet: _Fleet, items: PyTree, count: jax.Array) -> _Fleet:
    """Write what has ended to its place, give the freed lanes the next jobs."""
    codes = program.status(fleet.states)
    ended = (codes != Status.RUNNING) & (fleet.held < count)
    room = fleet.status.shape[0] - 1
    place = jnp.where(ended, fleet.held, room)
    status = fleet.status.at[place].set(codes)
    result = jax.tree.map(lambda all_, some: all_.at[place].set(some), fleet.result, program.result(fleet.states))
    job = fleet.next + jnp.cumsum(ended.astype(jnp.int32)) - 1
    fresh = ended & (job < count)
    begun = program.begin(jax.tree.map(lambda a: a[jnp.clip(job, 0, count - 1)], items))
    more = jnp.sum(ended.astype(jnp.int32))
    return _Fleet(
        states=program.choose(fresh, begun, fleet.states),
        held=jnp.where(fresh, job, jnp.where(ended, count, fleet.held)),
        next=jnp.minimum(fleet.next + more, count),
        left=fleet.left - more,
        status=status,
        result=result,
    )


class _Compiled(NamedTuple):
    """Jitted parts of one program; what moves states knows nothing of the jobs, whose number compiles nothing then.

    Attributes:
        launch: (items, count, lanes) -> fleet; advance: (states, data) -> states.
        harvest: (fleet, items, count) -> fleet; shrink: (fleet, count, lanes) -> fleet of fewer lanes.
    """

    launch: Callable[..., _Fleet]
    advance: Callable[..., PyTree]
    harvest: Callable[..., _Fleet]
    shrink: Callable[..., _Fleet]


@lru_cache(maxsize=64)
def _compiled(program: Program) -> _Compiled:
    @partial(jax.jit, static_argnums=2)
    def launch(items: PyTree, count: jax.Array, lanes: int) -> _Fleet:
        room = jax.tree.leaves(items)[0].shape[0]
        held = jnp.minimum(jnp.arange(lanes, dtype=jnp.int32), count)
        states = program.begin(jax.tree.map(lambda a: a[jnp.minimum(held, count - 1)], items))
        shapes = jax.eval_shape(program.result, states)
        return _Fleet(
            states=program.park(states, held >= count),
            held=held,
            next=jnp.minimum(jnp.int32(lanes), count),
            left=count,
            status=jnp.zeros(room + 1, jnp.int32),
            result=jax.tree.map(lambda a: jnp.zeros((room + 1, *a.shape[1:]), a.dtype), shapes),
        )

    @partial(jax.jit, static_argnums=2)
    def shrink(fleet: _Fleet, count: jax.Array, lanes: int) -> _Fleet:
        order = jnp.argsort(fleet.held >= count, stable=True)[:lanes]
        return fleet._replace(states=program.take(fleet.states, order), held=fleet.held[order])

    return _Compiled(
        launch=launch,
        advance=jax.jit(program.advance, donate_argnums=0),
        harvest=jax.jit(partial(_harvest, program), donate_argnums=0),
        shrink=shrink,
    )


def run(
    program: Program,
    items: PyTree,
    data: PyTree,
    *,
    lanes: int = 4096,
    should_stop: Callable[[], bool] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Ended:
    """All jobs through at most ``lanes`` lanes.

    Args:
        program: see ``Program``; reused between calls (compiled programs are cached by it).
        items: what ``program.begin`` takes, jobs on the leading axis of every leaf.
        data: argument of ``program.advance``, shared by all lanes.
        lanes: most lanes; halved, and all jobs begun anew, where memory runs out.
        should_stop: asked between launches; jobs in flight are dropped when it says True.
        progress: called between launches with (jobs ended, jobs).
    """
    count = jax.tree.leaves(items)[0].shape[0]
    room = _LEAST
    while room < count:
        room *= 4
    padded = jax.tree.map(lambda a: np.concatenate([a, np.repeat(a[-1:], room - count, axis=0)]), items)
    while True:
        try:
            with jax.default_matmul_precision(matmul_precision()):
                return _run(program, padded, count, data, lanes, should_stop, progress)
        except Exception as error:
            if not is_out_of_memory(error) or lanes <= 1:
                raise
            lanes //= 2


def _run(
    program: Program,
    items: PyTree,
    count: int,
    data: PyTree,
    lanes: int,
    should_stop: Callable[[], bool] | None,
    progress: Callable[[int, int], object] | None,
) -> Ended:
    compiled = _compiled(program)
    items, number = jax.device_put(items), jnp.int32(count)
    few = isinstance(program, Vmapped) and lanes > _FEW
    if few and count <= _FEW:
        lanes = _FEW
    fleet = compiled.launch(items, number, lanes)
    left = count
    while left and not (should_stop is not None and should_stop()):
        states = compiled.advance(fleet.states, data)
        fleet = compiled.harvest(fleet._replace(states=states), items, number)
        left = int(fleet.left)
        if progress is not None:
            progress(count - left, count)
        if few and lanes > _FEW and 0 < left <= _FEW:
            lanes = _FEW
            fleet = compiled.shrink(fleet, number, lanes)
    return Ended(
        status=np.asarray(fleet.status)[:count],
        result=jax.tree.map(lambda a: np.asarray(a)[:count], fleet.result),
    )
