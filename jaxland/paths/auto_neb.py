"""Minimum-energy paths between trained parameter sets of networks of any size (AutoNEB, Draxler et al. 2018)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from jax.sharding import Mesh
from jaxtyping import Float

from jaxland.core.solvers import auto_band
from jaxland.errors import ArgumentError, ConvergenceError, DataError, StoreError
from jaxland.paths.profile import Meter, Profile, Recomputed
from jaxland.problem.problem import Problem
from jaxland.problem.rows import ShardedProblem, host_rows, to_host
from jaxland.runs import Stop, digest, is_writer, read_npz, sample, stoppable, write_npz

_KIND = "jaxland-path-1"
OPTIMISERS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "adam": lambda: optax.adam(1.0),
    "sgd": lambda: optax.sgd(1.0, momentum=0.9),
}
_RULES: dict[str, optax.GradientTransformation] = {}


@dataclass(frozen=True)
class Cycle:
    """Steps at one learning rate, between two insertions; ``climb`` lets the highest image climb to the saddle."""

    steps: int
    learning_rate: float
    climb: bool = False


def cycles(steps: int = 1000, learning_rate: float = 1e-2, *, climb: bool = True) -> tuple[Cycle, ...]:
    """The schedule of Draxler et al.: four cycles, two longer ones at a tenth, four at a hundredth of the rate.

    Args:
        steps: of a cycle.
        learning_rate: of the first cycles; theirs is 0.1 with stochastic gradient descent.
        climb: the last cycle refines the highest image.
    """
    early = [Cycle(steps, learning_rate)] * 4 + [Cycle(2 * steps, learning_rate / 10)] * 2
    late = [Cycle(steps, learning_rate / 100)] * 3
    return (*early, *late, Cycle(steps, learning_rate / 100, climb))


@dataclass(frozen=True)
class PathSettings:
    """How a path is relaxed.

    Attributes:
        images: points of the path at first, both ends included.
        max_images: most points; images are inserted between cycles where straight segments hide a rise.
        cycles: schedule; see ``cycles``.
        optimiser: "adam", "sgd" (momentum 0.9), or an optax transformation with learning rate 1.
        batch: rows of a mini-batch, the same for all images of a step; None for all rows.
        probes: points looked at on each segment between cycles and for the final profile.
        threshold: a rise above the straight line between two images counts when it exceeds this share of the range
            of the energy along the path.
        probe_rows: rows of the training data used between cycles (evenly spaced); None for all.
        together: images evaluated in one batch on a device; 1 needs the least memory, None takes all. Default: 1 on a
            CPU, all on an accelerator.
        block: steps between two visits to the host: progress, stopping and checkpoints.
        seed: of the order of the mini-batches.
    """

    images: int = 5
    max_images: int = 40
    cycles: tuple[Cycle, ...] = field(default_factory=cycles)
    optimiser: str | optax.GradientTransformation = "adam"
    batch: int | None = None
    probes: int = 9
    threshold: float = 0.2
    probe_rows: int | None = None
    together: int | None = -1
    block: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("images", 3), ("max_images", 3), ("probes", 0), ("block", 1)):
            if getattr(self, name) < least:
                raise ArgumentError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.max_images < self.images:
            raise ArgumentError(f"max_images ({self.max_images}) must not be less than images ({self.images})")
        if not self.cycles or any(c.steps < 1 or not c.learning_rate > 0 for c in self.cycles):
            raise ArgumentError("cycles must be a list of Cycle(steps >= 1, learning_rate > 0)")
        if self.batch is not None and self.batch < 1:
            raise ArgumentError(f"batch must be at least 1, got {self.batch}")
        if isinstance(self.optimiser, str) and self.optimiser not in OPTIMISERS:
            raise ArgumentError(f"optimiser {self.optimiser!r} is unknown; choose one of {', '.join(OPTIMISERS)}")

    @property
    def rule(self) -> optax.GradientTransformation:
        """The optax transformation."""
        if isinstance(self.optimiser, str):
            return _RULES.setdefault(self.optimiser, OPTIMISERS[self.optimiser]())
        return self.optimiser


class PathProgress(NamedTuple):
    """Where a run is: cycle (from 1) of how many, step of how many in all, images, energies and force as last seen.

    ``energies`` [images] and ``force`` (rms across the path, largest over images) are of the last mini-batch.
    """

    cycle: int
    cycles: int
    step: int
    steps: int
    images: int
    energies: np.ndarray
    force: float
    length: float
    seconds: float


@dataclass(frozen=True, eq=False)
class MinimumEnergyPath:
    """A relaxed path and the straight line it started from.

    Attributes:
        images: flat parameters [K, N], both ends included.
        profile, straight: values along the path, and along the straight line between the ends.
        history: one row per cycle: steps, learning rate, images, highest energy, barrier, force, length, seconds.
        status: "finished", "time limit" or "interrupted"; the path is usable in each case.
        steps: taken in all.
        gradients: gradients of single images taken in all.
        seconds: of this call.
        settings: the ``PathSettings`` as facts.
    """

    images: Float[np.ndarray, "K N"]
    profile: Profile
    straight: Profile
    history: pd.DataFrame
    status: str
    steps: int
    gradients: int
    seconds: float
    settings: dict[str, Any]

    @property
    def saddle(self) -> Float[np.ndarray, " N"]:
        """The highest point of the path: an image or a point between two."""
        at = self.profile.peak
        probes = int(np.argmax(self.profile.image[1:]))
        segment, within = divmod(at, probes + 1)
        if within == 0:
            return self.images[segment]
        t = self.images.dtype.type(within / (probes + 1))
        return self.images[segment] + t * (self.images[segment + 1] - self.images[segment])

    def barriers(self) -> pd.DataFrame:
        """Barrier of every measure along the path and along the straight line, with the values at the ends."""
        rows = []
        for name in self.profile.measures():
            values, line = getattr(self.profile, name), getattr(self.straight, name)
            rows.append(
                {
                    "measure": name,
                    "start": values[0],
                    "end": values[-1],
                    "highest": values.max(),
                    "barrier": self.profile.barrier(name),
                    "straight barrier": float(line.max() - max(line[0], line[-1])),
                }
            )
        return pd.DataFrame(rows)

    def to_pandas(self) -> pd.DataFrame:
        """The profile, one row per point."""
        return self.profile.to_pandas()

    def _repr_html_(self) -> str:
        head = f"<p>{self.status} after {self.steps} steps, {len(self.images)} images</p>"
        return head + self.barriers().to_html(index=False)

    def save(self, path: str | Path) -> Path:
        """Write everything to an npz file, without pickle."""
        arrays: dict[str, Any] = {"images": self.images}
        for name, profile in (("profile", self.profile), ("straight", self.straight)):
            arrays |= {f"{name}.{k}": v for k, v in asdict(profile).items() if v is not None}
        head = {
            "history": self.history.to_dict("list"),
            **{k: getattr(self, k) for k in ("status", "steps", "gradients", "seconds", "settings")},
        }
        return write_npz(path, _KIND + "-result", head, arrays)


def load_path(path: str | Path) -> MinimumEnergyPath:
    """Read what ``MinimumEnergyPath.save`` wrote.

    Raises:
        StoreError: missing, damaged, or another kind of file.
    """
    head, arrays = read_npz(path, _KIND + "-result", sealed=False)

    def profile(name: str) -> Profile:
        found: dict[str, Any] = {k: arrays.get(f"{name}.{k}") for k in Profile.__dataclass_fields__}
        return Profile(**{**found, "length": float(arrays[f"{name}.length"])})

    history = pd.DataFrame(head.pop("history"))
    return MinimumEnergyPath(arrays["images"], profile("profile"), profile("straight"), history, **head)


def minimum_energy_path(
    problem: Problem,
    start: Any,
    end: Any,
    settings: PathSettings | None = None,
    *,
    path: Any = None,
    test: tuple[Any, Any] | None = None,
    align: Callable[[np.ndarray, np.ndarray], np.ndarray] | bool = True,
    batches: Callable[[int], tuple[Any, Any]] | None = None,
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
    settings = settings or PathSettings()
    if isinstance(problem, ShardedProblem):
        raise ArgumentError(
            "give the problem before shard_data, and a mesh with axis 'data': batches are spread over it"
        )
    images = _initial(problem, start, end, path, align, settings)
    runner = _Runner(problem, settings, batches, mesh)
    meter = Meter(problem, test, mesh, recomputed)
    line = images[[0, -1]]
    identity = _identity(problem, images, settings)
    state = _State(images, None, 0, 0, 0, 0, [], [])
    if checkpoint is not None and Path(checkpoint).exists():
        state = _restore_path(Path(checkpoint), identity, images)
    keep = None if checkpoint is None else (Path(checkpoint), identity, checkpoint_every)
    with stoppable(time_limit) as stop:
        state = _relax(state, runner, meter, settings, stop, progress, keep)
        status = "finished" if state.cycle == len(settings.cycles) else str(stop.reason)
        profile = meter.profile(state.images, settings.probes)
        straight = meter.profile(line, max(settings.probes, 19))
        seconds = stop.seconds
    facts = json.loads(json.dumps(_facts(settings)))
    return MinimumEnergyPath(
        state.images,
        profile,
        straight,
        pd.DataFrame(state.history),
        status,
        state.step,
        state.gradients,
        seconds,
        facts,
    )


def flat_point(problem: Problem, w: Any) -> Float[np.ndarray, " N"]:
    """Flat host copy of parameters given flat or as a pytree."""
    flat = w if np.ndim(w) == 1 and np.size(w) == problem.size else problem.ravel(w)
    return to_host(flat).astype(problem.dtype)


def _initial(
    problem: Problem, start: Any, end: Any, path: Any, align: Any, settings: PathSettings
) -> Float[np.ndarray, "K N"]:
    def flat(name: str, w: Any) -> np.ndarray:
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


class _State(NamedTuple):
    """A run between two blocks; ``optimiser`` is None at the start of a cycle."""

    images: np.ndarray
    optimiser: list[np.ndarray] | None
    cycle: int
    within: int
    step: int
    gradients: int
    history: list[dict[str, Any]]
    energies: list[float]


class _Runner:
    """Blocks of steps for images of any number."""

    def __init__(self, problem: Problem, settings: PathSettings, batches: Any, mesh: Mesh | None) -> None:
        self.settings, self.problem, self.batches = settings, problem, batches
        self.mesh = None if mesh is None else Mesh(mesh.devices, mesh.axis_names)
        self.devices = 1 if mesh is None else int(mesh.shape.get(auto_band.IMAGES, 1))
        spread = 1 if mesh is None else int(mesh.shape.get(auto_band.DATA, 1))
        plain = problem.loss is None
        self.fixed: Any = None
        if plain:
            self.fixed = ()
        elif batches is None and (settings.batch is None or settings.batch >= problem.n):
            self.fixed = problem.data
            if problem.n % spread:
                raise ArgumentError(
                    f"{problem.n} rows do not divide over the {spread} devices of 'data': set batch to a multiple"
                )
        elif batches is None:
            assert settings.batch is not None
            if settings.batch % spread:
                raise ArgumentError(f"batch ({settings.batch}) must be a multiple of the {spread} devices of 'data'")
            self.host = host_rows(problem)
        together = settings.together
        if together == -1:
            together = 1 if jax.default_backend() == "cpu" else None
        energy, chunked = problem.energy_of, self.fixed is None
        if mesh is None and not plain and auto_band.loops_on_host(energy, problem.w, self._sample()):
            self.program = auto_band.hosted_program(energy, settings.rule, chunked)
        else:
            self.program = auto_band.program(energy, settings.rule, self.mesh, together, chunked)

    def _sample(self) -> Any:
        """A few rows like those of a batch."""
        return jax.tree.map(lambda a: a[:2], self.problem.data)

    def _batches(self, step: int, count: int) -> Any:
        if self.fixed is not None:
            return (None, None) if self.fixed == () else self.fixed
        rows = [self._batch(step + i) for i in range(count)]
        rows += [rows[-1]] * (self.settings.block - count)
        return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)

    def _batch(self, step: int) -> Any:
        if self.batches is not None:
            return jax.tree.map(np.asarray, self.batches(step))
        size, n = int(self.settings.batch or 0), self.problem.n
        epoch, at = divmod(step, n // size)
        if getattr(self, "_epoch", None) != epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.settings.seed, epoch]).permutation(n)
        chosen = self._order[at * size : (at + 1) * size]
        return jax.tree.map(lambda a: a[chosen], self.host)

    def begin(self, images: np.ndarray, optimiser: list[np.ndarray] | None) -> auto_band.BandState:
        state = self.program.start(auto_band.pad(images, auto_band.capacity(len(images), self.devices)))
        if optimiser is None:
            return state
        leaves, tree = jax.tree.flatten(state.optimiser)
        if len(leaves) != len(optimiser):
            raise StoreError("the checkpoint was written with another optimiser")
        placed = [jnp.asarray(new, old.dtype) for new, old in zip(optimiser, leaves)]
        return auto_band.BandState(state.images, jax.tree.unflatten(tree, placed))

    def advance(
        self, state: auto_band.BandState, count: int, climbing: int, rate: float, step: int, steps: int
    ) -> tuple[auto_band.BandState, auto_band.BandInfo]:
        integer = jnp.int32
        return self.program.advance(
            state,
            jnp.asarray(count, integer),
            jnp.asarray(climbing, integer),
            rate,
            jnp.asarray(steps, integer),
            self._batches(step, steps),
        )


def _relax(
    state: _State,
    runner: _Runner,
    meter: Meter,
    settings: PathSettings,
    stop: Stop,
    progress: Callable[[PathProgress], None] | None,
    keep: tuple[Path, dict[str, Any], float] | None,
) -> _State:
    total, written = sum(c.steps for c in settings.cycles), stop.seconds
    while state.cycle < len(settings.cycles):
        cycle = settings.cycles[state.cycle]
        count = len(state.images)
        climbing = -1
        if cycle.climb:
            if not state.energies:
                state = state._replace(energies=list(meter(state.images, settings.probe_rows, False)[:, 0]))
            climbing = int(np.argmax(state.energies))
        band = runner.begin(state.images, state.optimiser)
        force = length = float("nan")
        while state.within < cycle.steps:
            if stop.reason:
                break
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
                        state.cycle + 1, len(settings.cycles), state.step, total, count, energies, force, length,
                        stop.seconds,
                    )
                )  # fmt: skip
            if keep is not None and stop.passed(written, keep[2]):
                _save_path(keep, _collect(state, band, count))
                written = stop.seconds
        state = _collect(state, band, count)
        if state.within < cycle.steps:
            break
        state = _close_cycle(state, cycle, meter, settings, force, length, stop)
        if keep is not None:
            _save_path(keep, state)
            written = stop.seconds
    if keep is not None and stop.reason:
        _save_path(keep, state)
    return state


def _collect(state: _State, band: auto_band.BandState, count: int) -> _State:
    return state._replace(
        images=to_host(band.images)[:count], optimiser=[to_host(leaf) for leaf in jax.tree.leaves(band.optimiser)]
    )


def _close_cycle(
    state: _State, cycle: Cycle, meter: Meter, settings: PathSettings, force: float, length: float, stop: Stop
) -> _State:
    """Look between the images, insert where straight segments hide a rise (not after the last cycle)."""
    values = meter(auto_band.probes(state.images, settings.probes), settings.probe_rows, False)[:, 0]
    row = {
        "cycle": state.cycle + 1,
        "steps": cycle.steps,
        "learning_rate": cycle.learning_rate,
        "images": len(state.images),
        "highest": float(values.max()),
        "barrier": float(values.max() - max(values[0], values[-1])),
        "force": force,
        "length": length,
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
    return _State(
        images, None, state.cycle + 1, 0, state.step, state.gradients, [*state.history, row], list(energies)
    )


def _facts(settings: PathSettings) -> dict[str, Any]:
    facts = {k: getattr(settings, k) for k in settings.__dataclass_fields__}
    facts["cycles"] = [[c.steps, c.learning_rate, c.climb] for c in settings.cycles]
    if not isinstance(settings.optimiser, str):
        facts["optimiser"] = "custom"
    return facts


def _identity(problem: Problem, images: np.ndarray, settings: PathSettings) -> dict[str, Any]:
    """What a checkpoint must agree with: ends, settings, and a sample of the data."""
    leaves = [] if problem.loss is None else jax.tree.leaves(problem.data)
    told = digest(images, *(to_host(leaf)[sample(problem.n)] for leaf in leaves))
    return {"digest": told, "n": problem.n, "settings": json.loads(json.dumps(_facts(settings)))}


def _save_path(keep: tuple[Path, dict[str, Any], float], state: _State) -> None:
    if not is_writer():
        return
    arrays = {"images": state.images} | {f"optimiser{i}": a for i, a in enumerate(state.optimiser or [])}
    head = {
        "identity": keep[1],
        "leaves": None if state.optimiser is None else len(state.optimiser),
        **{k: getattr(state, k) for k in ("cycle", "within", "step", "gradients", "history", "energies")},
    }
    write_npz(keep[0], _KIND, head, arrays)


def _restore_path(path: Path, identity: dict[str, Any], images: np.ndarray) -> _State:
    head, arrays = read_npz(path, _KIND, sealed=False)
    for what, name in (("digest", "ends or data"), ("n", "data"), ("settings", "settings")):
        if head["identity"][what] != identity[what]:
            raise StoreError(f"{path} belongs to a run with other {name}; remove it or name another file")
    leaves = head["leaves"]
    return _State(
        arrays["images"].astype(images.dtype),
        None if leaves is None else [arrays[f"optimiser{i}"] for i in range(leaves)],
        *(head[k] for k in ("cycle", "within", "step", "gradients", "history", "energies")),
    )
