"""Relax the images of a path: rows of each step, blocks of steps on the devices, insertion between cycles."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxland.core.solvers import auto_band
from jaxland.errors import ArgumentError, ConvergenceError, StoreError
from jaxland.paths.profile import Meter
from jaxland.paths.settings import Cycle, PathSettings
from jaxland.paths.state import PathCheckpoint, PathProgress, PathState
from jaxland.problem.problem import Problem, PyTree
from jaxland.problem.rows import to_host
from jaxland.problem.sharded import host_rows
from jaxland.runs import Stop

BatchOf = Callable[[int], tuple[PyTree, PyTree]]


class Batches:
    """Rows of each step: all of them, mini-batches drawn from the problem's data, or those of a function.

    Attributes:
        fixed: the data where all steps see all rows; () for a plain energy; None for mini-batches.
    """

    def __init__(self, problem: Problem, settings: PathSettings, given: BatchOf | None, devices: int) -> None:
        """``devices``: over how many the rows of a batch are spread."""
        self._given, self._seed, self._block, self._n = given, settings.seed, settings.block, problem.n
        self._size, self._epoch = int(settings.batch or 0), -1
        self.fixed: PyTree | None = None
        if problem.loss is None:
            self.fixed = ()
        elif given is None and (settings.batch is None or settings.batch >= problem.n):
            self.fixed = problem.data
            if problem.n % devices:
                raise ArgumentError(
                    f"{problem.n} rows do not divide over the {devices} devices of 'data': set batch to a multiple"
                )
        elif given is None:
            if self._size % devices:
                raise ArgumentError(f"batch ({self._size}) must be a multiple of the {devices} devices of 'data'")
            self._rows = host_rows(problem)

    def __call__(self, step: int, count: int) -> PyTree:
        """Rows of ``count`` steps from ``step`` on, stacked and filled up to a whole block; or ``fixed``."""
        if self.fixed is not None:
            return (None, None) if self.fixed == () else self.fixed
        rows = [self._batch(step + i) for i in range(count)]
        rows += [rows[-1]] * (self._block - count)
        return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)

    def _batch(self, step: int) -> PyTree:
        if self._given is not None:
            return jax.tree.map(np.asarray, self._given(step))
        epoch, at = divmod(step, self._n // self._size)
        if self._epoch != epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self._seed, epoch]).permutation(self._n)
        chosen = self._order[at * self._size : (at + 1) * self._size]
        return jax.tree.map(lambda a: a[chosen], self._rows)


class Runner:
    """Blocks of steps for images of any number."""

    def __init__(self, problem: Problem, settings: PathSettings, batches: BatchOf | None, mesh: Mesh | None) -> None:
        """``batches``: see ``minimum_energy_path``; ``mesh`` has axes "images", "data" or both."""
        self.devices = 1 if mesh is None else int(mesh.shape.get(auto_band.IMAGES, 1))
        spread = 1 if mesh is None else int(mesh.shape.get(auto_band.DATA, 1))
        self.batches = Batches(problem, settings, batches, spread)
        together = settings.together
        if together == -1:
            together = 1 if jax.default_backend() == "cpu" else None
        energy, chunked = problem.energy_of, self.batches.fixed is None
        if mesh is None and _loops_on_host(problem):
            self.program = auto_band.hosted_program(energy, settings.rule, chunked)
        else:
            placed = None if mesh is None else Mesh(mesh.devices, mesh.axis_names)
            self.program = auto_band.program(energy, settings.rule, placed, together, chunked)

    def begin(self, images: np.ndarray, optimiser: list[np.ndarray] | None) -> auto_band.BandState:
        """Images [K, N] and, where a cycle goes on, leaves of the optimiser's state, placed on the devices."""
        state = self.program.start(auto_band.pad(images, auto_band.capacity(len(images), self.devices)))
        if optimiser is None:
            return state
        leaves, tree = jax.tree.flatten(state.optimiser)
        if len(leaves) != len(optimiser):
            raise StoreError("the checkpoint was written with another optimiser")
        placed = [jnp.asarray(new, old.dtype) for new, old in zip(optimiser, leaves)]
        return auto_band.BandState(state.images, jax.tree.unflatten(tree, placed))

    def advance(
        self, band: auto_band.BandState, count: int, climbing: int, rate: float, step: int, steps: int
    ) -> tuple[auto_band.BandState, auto_band.BandInfo]:
        """``steps`` steps from step number ``step`` on, of ``count`` images, of which one (or -1: none) climbs."""
        integer = jnp.int32
        return self.program.advance(
            band,
            jnp.asarray(count, integer),
            jnp.asarray(climbing, integer),
            rate,
            jnp.asarray(steps, integer),
            self.batches(step, steps),
        )


def _loops_on_host(problem: Problem) -> bool:
    if problem.loss is None:
        return False
    few = jax.tree.map(lambda a: a[:2], problem.data)
    return auto_band.loops_on_host(problem.energy_of, problem.w, few)


def relax(
    state: PathState,
    runner: Runner,
    meter: Meter,
    settings: PathSettings,
    stop: Stop,
    progress: Callable[[PathProgress], None] | None = None,
    checkpoint: PathCheckpoint | None = None,
) -> PathState:
    """Run the cycles that are left, until ``stop`` asks to end.

    Raises:
        ConvergenceError: the loss became infinite or nan. StoreError: the checkpoint cannot be written.
    """
    while state.cycle < len(settings.cycles):
        state, seen = _steps(state, runner, meter, settings, stop, progress, checkpoint)
        cycle = settings.cycles[state.cycle]
        if state.within < cycle.steps:
            break
        state = _close(state, cycle, meter, settings, seen, stop)
        if checkpoint is not None:
            checkpoint.save(state, stop)
    if checkpoint is not None and stop.reason:
        checkpoint.save(state, stop)
    return state


def _steps(
    state: PathState,
    runner: Runner,
    meter: Meter,
    settings: PathSettings,
    stop: Stop,
    progress: Callable[[PathProgress], None] | None,
    checkpoint: PathCheckpoint | None,
) -> tuple[PathState, tuple[float, float]]:
    """The steps of a cycle that are left; and force and length as last seen (nan where none was left)."""
    cycle, count = settings.cycles[state.cycle], len(state.images)
    climbing = -1
    if cycle.climb:
        if not state.energies:
            state = state._replace(energies=tuple(meter(state.images, settings.probe_rows, False)[:, 0]))
        climbing = int(np.argmax(state.energies))
    band = runner.begin(state.images, state.optimiser)
    force = length = float("nan")
    while state.within < cycle.steps and not stop.reason:
        steps = min(settings.block, cycle.steps - state.within)
        band, info = runner.advance(band, count, climbing, cycle.learning_rate, state.step, steps)
        energies, force = to_host(info.energies)[:count], float(to_host(info.force)[:count].max())
        length = float(info.length)
        if not np.isfinite(energies).all() or not np.isfinite(force):
            raise ConvergenceError(
                f"the loss along the path is not finite in cycle {state.cycle + 1}: lower its learning rate "
                f"({cycle.learning_rate:g})"
            )
        state = state._replace(
            within=state.within + steps,
            step=state.step + steps,
            gradients=state.gradients + steps * (count - 2),
        )
        if progress is not None:
            progress(
                PathProgress(
                    cycle=state.cycle + 1,
                    cycles=len(settings.cycles),
                    step=state.step,
                    steps=sum(c.steps for c in settings.cycles),
                    images=count,
                    energies=energies,
                    force=force,
                    length=length,
                    seconds=stop.seconds,
                )
            )
        if checkpoint is not None and checkpoint.file.due(stop):
            checkpoint.save(_collected(state, band, count), stop)
    return _collected(state, band, count), (force, length)


def _collected(state: PathState, band: auto_band.BandState, count: int) -> PathState:
    return state._replace(
        images=to_host(band.images)[:count], optimiser=[to_host(leaf) for leaf in jax.tree.leaves(band.optimiser)]
    )


def _close(
    state: PathState, cycle: Cycle, meter: Meter, settings: PathSettings, seen: tuple[float, float], stop: Stop
) -> PathState:
    """Look between the images, insert where straight segments hide a rise (not after the last cycle)."""
    values = meter(auto_band.probes(state.images, settings.probes), settings.probe_rows, False)[:, 0]
    row = {
        "cycle": state.cycle + 1,
        "steps": cycle.steps,
        "learning_rate": cycle.learning_rate,
        "images": len(state.images),
        "highest": float(values.max()),
        "barrier": float(values.max() - max(values[0], values[-1])),
        "force": seen[0],
        "length": seen[1],
        "seconds": stop.seconds,
    }
    images = state.images
    energies = values[:: settings.probes + 1]
    last = state.cycle + 1 == len(settings.cycles)
    if not last and settings.probes and len(images) < settings.max_images:
        room = settings.max_images - len(images)
        where = auto_band.insertions(values, settings.probes, settings.threshold, room)
        if where:
            images, energies = auto_band.insert(images, where), np.zeros(0)
    return PathState(
        images=images,
        cycle=state.cycle + 1,
        step=state.step,
        gradients=state.gradients,
        history=(*state.history, row),
        energies=tuple(energies),
    )
