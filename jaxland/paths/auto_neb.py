"""Minimum-energy paths between trained parameter sets of networks of any size (AutoNEB, Draxler et al. 2018)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from jax.sharding import Mesh
from jaxtyping import Float
from numpy.typing import ArrayLike

from jaxland.errors import ArgumentError, DataError
from jaxland.paths.profile import Meter, Recomputed
from jaxland.paths.relaxation import BatchOf, Runner, relax
from jaxland.paths.result import MinimumEnergyPath
from jaxland.paths.settings import PathSettings
from jaxland.paths.state import PathCheckpoint, PathProgress, PathState, identity
from jaxland.problem.precision import in_precision
from jaxland.problem.problem import Problem, PyTree, required
from jaxland.problem.rows import to_host
from jaxland.problem.sharded import ShardedProblem
from jaxland.runs import stoppable

Align = Callable[[np.ndarray, np.ndarray], np.ndarray] | bool


@in_precision
def minimum_energy_path(
    problem: Problem,
    start: PyTree,
    end: PyTree,
    settings: PathSettings | None = None,
    *,
    path: ArrayLike | None = None,
    test: tuple[PyTree, PyTree] | None = None,
    align: Align = True,
    batches: BatchOf | None = None,
    recomputed: Recomputed | None = None,
    mesh: Mesh | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 60.0,
    time_limit: float | None = None,
    progress: Callable[[PathProgress], None] | None = None,
) -> MinimumEnergyPath:
    """A path between two parameter sets whose highest loss is as low as AutoNEB finds it.

    Args:
        problem: the loss over the training data; ``problem.chunk`` bounds the rows evaluated at once.
        start, end: trained parameters, flat or as pytrees.
        settings: see ``PathSettings``.
        path: start from these points [K, N] instead of the straight line; ends as given there.
        test: (x, y) held out, for the profile.
        align: True moves ``end`` to its image under ``problem.symmetry`` nearest to ``start``; a function
            ``(end, start) -> end`` of flat vectors does what it likes; False leaves it.
        batches: ``step -> (x, y)`` instead of mini-batches drawn from the problem's data: for data that do not fit in
            memory, or augmentation. The same step must give the same batch.
        recomputed: batch statistics to recompute wherever the full loss is evaluated.
        mesh: axes "images" (images spread over devices) and "data" (rows of a mini-batch spread), either or both.
        checkpoint: npz file, written every ``checkpoint_every`` seconds, after every cycle and at the end; a run that
            finds one of the same ends, data and settings goes on from it, bit for bit.
        time_limit: seconds of relaxation; Ctrl-C stops likewise after the current block of steps. Both return the
            path as it is, with its profile.
        progress: called after every block of steps.

    Raises:
        DataError: ends of a wrong size, not finite, or identical.
        ArgumentError: a batch that does not divide over the devices, or a problem from ``shard_data``.
        StoreError: the checkpoint belongs to another run, or cannot be read or written.
        ConvergenceError: the loss became infinite or nan: the learning rate is too large.
    """
    problem, settings = required(problem, "minimum_energy_path"), settings or PathSettings()
    if isinstance(problem, ShardedProblem):
        raise ArgumentError(
            "give the problem before shard_data, and a mesh with axis 'data': batches are spread over it"
        )
    images = initial_path(problem, start, end, settings, path=path, align=align)
    runner = Runner(problem, settings, batches, mesh)
    meter = Meter(problem, test, mesh, recomputed)
    state, keep = PathState(images), None
    if checkpoint is not None:
        keep = PathCheckpoint.at(checkpoint, identity(problem, images, settings), checkpoint_every)
        if keep.file.path.exists():
            state = keep.restore(images.dtype)
    with stoppable(time_limit) as stop:
        state = relax(state, runner, meter, settings, stop, progress, keep)
        status = "finished" if state.cycle == len(settings.cycles) else str(stop.reason)
        return MinimumEnergyPath(
            images=state.images,
            profile=meter.profile(state.images, settings.probes),
            straight=meter.profile(images[[0, -1]], max(settings.probes, 19)),
            history=pd.DataFrame(state.history),
            status=status,
            steps=state.step,
            gradients=state.gradients,
            seconds=stop.seconds,
            settings=json.loads(json.dumps(settings.facts())),
        )


def flat_point(problem: Problem, w: PyTree) -> Float[np.ndarray, " N"]:
    """Flat host copy of parameters given flat or as a pytree."""
    flat = w if np.ndim(w) == 1 and np.size(w) == problem.size else problem.ravel(w)
    return to_host(flat).astype(problem.dtype)


def initial_path(
    problem: Problem, start: PyTree, end: PyTree, settings: PathSettings, *, path: ArrayLike | None, align: Align
) -> Float[np.ndarray, "K N"]:
    """Points of the straight line between the (aligned) ends, or those of ``path``, checked."""

    def flat(name: str, w: PyTree) -> np.ndarray:
        row = flat_point(problem, w)
        if row.shape != (problem.size,):
            raise DataError(f"{name} has {row.size} parameters, the problem has {problem.size}")
        if not np.isfinite(row).all():
            raise DataError(f"{name} is not finite")
        return row

    if path is not None:
        rows = np.asarray(path, problem.dtype)
        if rows.ndim != 2 or rows.shape[1] != problem.size or len(rows) < 3 or not np.isfinite(rows).all():
            raise DataError(f"path must be finite points [K >= 3, {problem.size}], got shape {rows.shape}")
        return rows
    a, b = flat("start", start), flat("end", end)
    if align is True:
        b = np.asarray(problem.symmetry.align(b, a), problem.dtype)
    elif callable(align):
        b = flat("the aligned end", align(b, a))
    if np.array_equal(a, b):
        raise DataError("start and end are the same point" + (" after alignment" if align else ""))
    t = np.linspace(0, 1, settings.images, dtype=problem.dtype)[:, None]
    rows = a + t * (b - a)
    rows[-1] = b
    return rows
