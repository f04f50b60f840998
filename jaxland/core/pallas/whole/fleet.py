"""Whole quenches, elastic bands and basin hopping as programs of ``core.solvers.fleet``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxland.core.energy.kernels import Kernel
from jaxland.core.pallas.dense.shape import Shape
from jaxland.core.pallas.whole import band, bfgs, hops, lbfgs
from jaxland.core.pallas.whole.program import Limits, launch
from jaxland.core.pallas.whole.threads import padded
from jaxland.core.solvers.band import Band, ElasticBand, tangents
from jaxland.core.solvers.fleet import Program, Vmapped, pace
from jaxland.core.solvers.protocol import Status
from jaxland.core.solvers.quench import BFGS, LBFGS, Hops, Minimum, Start, Walk, displaced

# Threads that fill a GPU of 132 multiprocessors with 8 warps on each.
_THREADS = 33_792
_POINTS_A_LAUNCH = 64_000
_MOST_THREADS = 128  # of a network
_LEAST_POINTS = 64  # of a thread
_TEAM = 8  # of few networks, a thread each until then
_LEAST_BAND_POINTS = 24  # bands are few: a third of a pass in sums over threads is dearer than an idle GPU

# Fields of a state that hold a row a parameter.
_VECTORS = ("x", "gradient", "step", "trial", "inverse", "steps", "changes", "base", "kicks", "ends")

State = bfgs.State | lbfgs.State
AnyState = TypeVar("AnyState", bound=tuple)
_trials: dict[tuple, bool] = {}


class _Whole(Generic[AnyState]):
    """What the programs of this room have in common; lanes are the last axis of all that a state holds."""

    shape: Shape

    @property
    def lanes(self) -> int:
        """Networks that fill the machine."""
        return _THREADS // self.shape.threads

    def status(self, states: AnyState) -> jax.Array:
        """See ``fleet.Program``."""
        return states.status  # type: ignore[attr-defined]

    def choose(self, fresh: jax.Array, new: AnyState, old: AnyState) -> AnyState:
        """See ``fleet.Program``; what a model has learned is not read before it is made anew."""
        kept = ("inverse", "steps", "changes")
        names = [name for name in old._fields if name not in kept]  # type: ignore[attr-defined]
        replaced = {name: jnp.where(fresh, getattr(new, name), getattr(old, name)) for name in names}
        return old._replace(**replaced)  # type: ignore[attr-defined]

    def park(self, states: AnyState, idle: jax.Array) -> AnyState:
        """See ``fleet.Program``."""
        status = jnp.where(idle, jnp.int32(Status.STALLED), self.status(states))
        return states._replace(status=status)  # type: ignore[attr-defined]

    def take(self, states: AnyState, lanes: jax.Array) -> AnyState:
        """See ``fleet.Program``."""
        return jax.tree.map(lambda a: a[..., lanes], states)

    def beside(self, states: AnyState, others: AnyState) -> AnyState:
        """See ``fleet.Program``."""
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=-1), states, others)

    def last(self, lanes: int) -> tuple[int, Program] | None:
        """See ``fleet.Program``."""
        return None

    def adopt(self, states: AnyState) -> AnyState:
        """See ``fleet.Program``."""
        return states


@dataclass(frozen=True)
class WholeQuench(_Whole[State]):
    """The program of ``core.solvers.fleet`` that quenches in one kernel; items are ``quench.Start`` [jobs].

    Attributes:
        shape: of the networks and their data; limits: see there.
        history: secant pairs of L-BFGS; 0: BFGS.
    """

    shape: Shape
    limits: Limits
    history: int = 0

    @classmethod
    def of(cls, shape: Shape, points: int, jobs: int, *, tol: float, limit: int, history: int = 0) -> WholeQuench:
        """Few jobs share the points of each among several threads; launches take a tenth of a second or so."""
        team = _team(shape, points, jobs)
        passes = int(np.clip(_POINTS_A_LAUNCH * (team if shape.groups > 1 else 1) // points, 1, 64))
        ahead = 2 if team == 1 and shape.groups == 1 and shape.units <= 6 else 1
        return cls(replace(shape, team=team, ahead=ahead), Limits(tol, limit, passes), history)

    def begin(self, items: Start) -> State:
        """See ``fleet.Program``."""
        x, step = jnp.asarray(items.x), jnp.asarray(items.max_step)
        if self.history:
            return lbfgs.begin(self.shape, x, step, self.history)
        return bfgs.begin(self.shape, x, step)

    def advance(self, states: State, data: Any) -> State:
        """See ``fleet.Program``; ``data`` is that of the dense kernel."""
        if isinstance(states, lbfgs.State):
            return launch(lbfgs.Limited, self.shape, states, data[0], self.limits)
        return launch(bfgs.Dense, self.shape, states, data[0], self.limits)

    def result(self, states: State) -> Minimum:
        """See ``fleet.Program``."""
        size = self.shape.parameters
        rms = jnp.sqrt(jnp.sum(states.gradient * states.gradient, axis=0) / size)
        return Minimum(states.x[:size].T, states.energy, rms, states.evaluations)

    def last(self, lanes: int) -> tuple[int, WholeQuench] | None:
        """See ``fleet.Program``; the last, slowest networks go on in teams, which fill the machine again."""
        after = replace(self, shape=replace(self.shape, team=_TEAM, ahead=1))
        few = lanes // _TEAM
        if self.shape.threads > 1 or few < after.shape.networks or few % after.shape.networks:
            return None
        return few, after

    def adopt(self, states: State) -> State:
        """See ``fleet.Program``; vectors are padded to the tiles of more threads."""
        return padded_to(states, self.rows)

    @property
    def rows(self) -> int:
        """Of a state's vectors."""
        method = lbfgs.Limited if self.history else bfgs.Dense
        return padded(self.shape, method.tile_of(self.shape))


@dataclass(frozen=True)
class WholeBand(_Whole[band.State]):
    """The program that relaxes elastic bands in one kernel each; items are pairs [jobs, 2, N], or paths [jobs, K, N].

    Attributes:
        shape: of the networks and their data; solver: what it does; passes: most evaluations of a launch.
    """

    shape: Shape
    solver: ElasticBand
    passes: int

    @classmethod
    def of(cls, shape: Shape, points: int, jobs: int, solver: ElasticBand) -> WholeBand:
        """As many threads a band as there are for it; launches take a tenth of a second or so."""
        team = _shared(shape, points, jobs, _LEAST_BAND_POINTS)
        passes = _POINTS_A_LAUNCH * team // (points * solver.images)
        most = max(1, solver.max_evaluations // 3)  # a trial wants several launches
        return cls(replace(shape, team=team), solver, int(np.clip(passes, 1, most)))

    def begin(self, items: jax.Array) -> band.State:
        """See ``fleet.Program``."""
        images = jax.vmap(self.solver.init)(items).images
        return band.begin(self.shape, images, self.solver.history)

    def advance(self, states: band.State, data: Any) -> band.State:
        """See ``fleet.Program``; ``data`` is that of the dense kernel."""
        one = self.solver
        limits = band.BandLimits(one.tol, one.max_evaluations, self.passes, one.max_step)
        return launch(band.Bands, self.shape, states, data[0], limits)

    def result(self, states: band.State) -> Band:
        """See ``fleet.Program``."""
        count, lanes = states.energy.shape
        images = states.trial.T.reshape(lanes, count, -1)[..., : self.shape.parameters]
        energies = states.energy.T
        return Band(images, energies, jax.vmap(tangents)(images, energies), states.evaluations)


@dataclass(frozen=True)
class WholeHops(_Whole[hops.State]):
    """The program that hops from basin to basin in one kernel; items are ``quench.Walk`` [jobs].

    Attributes:
        quench: the program of each hop.
    """

    quench: WholeQuench

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        """Of the networks and their data."""
        return self.quench.shape

    def begin(self, items: Walk) -> hops.State:
        """See ``fleet.Program``."""
        start = jax.vmap(displaced)(jnp.asarray(items.x), jnp.asarray(items.kicks)[:, 0])
        return hops.begin(items, self.quench.begin(Start(start, items.max_step)))

    def advance(self, states: hops.State, data: Any) -> hops.State:
        """See ``fleet.Program``; ``data`` is that of the dense kernel."""
        method = hops.LimitedHops if self.quench.history else hops.DenseHops
        return launch(method, self.shape, states, data[0], self.quench.limits)

    def status(self, states: hops.State) -> jax.Array:
        """See ``fleet.Program``."""
        return states.quench.status

    def result(self, states: hops.State) -> Hops:
        """See ``fleet.Program``."""
        x = jnp.moveaxis(states.ends, -1, 0)[..., : self.shape.parameters]
        return Hops(x, states.energies.T, states.codes.T, states.counts.T)

    def choose(self, fresh: jax.Array, new: hops.State, old: hops.State) -> hops.State:
        """See ``fleet.Program``."""
        kept = self.quench.choose(fresh, new.quench, old.quench)
        return jax.tree.map(lambda a, b: jnp.where(fresh, a, b), new._replace(quench=kept), old._replace(quench=kept))

    def park(self, states: hops.State, idle: jax.Array) -> hops.State:
        """See ``fleet.Program``."""
        return states._replace(quench=self.quench.park(states.quench, idle))

    def last(self, lanes: int) -> tuple[int, WholeHops] | None:
        """See ``WholeQuench``."""
        found = self.quench.last(lanes)
        return None if found is None else (found[0], WholeHops(found[1]))

    def adopt(self, states: hops.State) -> hops.State:
        """See ``WholeQuench``."""
        return padded_to(states._replace(quench=self.quench.adopt(states.quench)), self.quench.rows)


def padded_to(states: AnyState, rows: int) -> AnyState:
    """The same with so many rows in every vector, zeros below."""

    def grown(name: str, a: jax.Array) -> jax.Array:
        more = (0, rows - a.shape[-2])
        before = [(0, 0)] * (a.ndim - 2)
        if name == "inverse":
            before[-1] = more
        return jnp.pad(a, [*before, more, (0, 0)])

    fields = [name for name in states._fields if name in _VECTORS]  # type: ignore[attr-defined]
    return states._replace(**{name: grown(name, getattr(states, name)) for name in fields})  # type: ignore[attr-defined]


def _team(shape: Shape, points: int, jobs: int) -> int:
    """Threads (times groups) that share a network's points.

    One costs least where networks are many, 30 against 54 ns an evaluation at full load (H100, 5 hidden units), but
    leaves a machine idle that has few: a quarter of it, one warp to each two of its schedulers, still holds its own.
    """
    if shape.groups == 1:
        return 1 if 4 * jobs >= _THREADS else _TEAM
    return _shared(shape, points, jobs, _LEAST_POINTS)


def _shared(shape: Shape, points: int, jobs: int, least: int) -> int:
    """Threads (times groups) for each job where all have a GPU to themselves, ``least`` points for each."""
    wanted = min(_THREADS // (shape.groups * max(jobs, 1)), _MOST_THREADS // shape.groups, points // least)
    return 1 << max(wanted, 1).bit_length() - 1


def chosen(kernel: Kernel, points: int, solver: BFGS | LBFGS, items: Start) -> WholeQuench | None:
    """The program that does what the solver does to these items, where there is one and it is faster.

    A thread a network was measured once for all. Everything else is tried on these items beside the solver under
    vmap, once per program, number of items and device; None where the program does not compile or memory does not
    hold it. The result is the same but for rounding.
    """
    if not isinstance(kernel.dense, Shape):
        return None
    jobs, history = len(items.x), solver.history if isinstance(solver, LBFGS) else 0
    program = WholeQuench.of(
        kernel.dense, points, jobs, tol=solver.tol, limit=solver.max_evaluations, history=history
    )
    if program.shape.groups == 1 and not history:
        return program
    return program if _faster(program, Vmapped(solver, kernel.first), items, jobs, points, kernel.data) else None


def chosen_hops(kernel: Kernel, points: int, solver: BFGS | LBFGS, walks: Walk) -> WholeHops | None:
    """The same for walkers: where a whole quench is taken, its hops follow each other without a visit of the host."""
    program = chosen(kernel, points, solver, Start(walks.x, walks.max_step))
    return None if program is None else WholeHops(program)


def chosen_band(
    kernel: Kernel, points: int, usual: Vmapped, items: Float[Array | np.ndarray, "jobs m N"]
) -> WholeBand | None:
    """The same for elastic bands, beside the program that would relax these items otherwise."""
    if not isinstance(kernel.dense, Shape) or not isinstance(usual.solver, ElasticBand):
        return None
    program = WholeBand.of(kernel.dense, points, len(items), usual.solver)
    return program if _faster(program, usual, items, len(items), points, kernel.data) else None


def _faster(
    program: WholeQuench | WholeBand, usual: Vmapped, items: PyTree, jobs: int, points: int, data: PyTree
) -> bool:
    """Whether a whole program did more evaluations a second of these items than vmap."""
    some = min(jobs, program.lanes)
    key = (program, points, usual, some.bit_length(), jax.devices()[0].device_kind)
    if key not in _trials:
        # Items repeated to fill whole programs are no work done.
        ours = _pace(program, items, data, np.arange(program.lanes) % some) * (program.lanes / some)
        theirs = _pace(usual, items, data, np.arange(1 << some.bit_length() - 1))
        _trials[key] = ours < theirs
    return _trials[key]


def _pace(program: Program, items: PyTree, data: PyTree, some: np.ndarray) -> float:
    """``fleet.pace`` on some of the items; endless where there is a lowering that this jax or driver lacks, or no
    memory: the other serves.
    """
    try:
        return pace(program, jax.tree.map(lambda a: np.asarray(a)[some], items), data)
    except Exception:
        return np.inf
