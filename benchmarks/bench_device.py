"""One accelerator, every kind of work, each row beside its goal and the limit of the hardware.

    python benchmarks/bench_device.py                       # on a GPU: five to six minutes
    python benchmarks/bench_device.py --only gradient,quench --json found.json
    python benchmarks/bench_device.py --small               # anywhere: that every row runs, not how fast

Checkerboard 4 x 4, 1,000 standardised points, tanh, cross-entropy + 1e-5 sum w^2. Times are wall time, medians after
one call to compile, which is given apart. A row that fails says why and the others go on; rows that would begin after
``--seconds`` are left out; the JSON file is complete after every row. Limits are counted from the formulas: lane
operations of a point (below) over the multiply-adds of 132 multiprocessors of 1.755 GHz, or of what XLA needs.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import importlib.util
import json
import math
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxland import Problem, doctor, mlp
from jaxland.cli.recipe import SEARCH, Recipe
from jaxland.core.pallas.whole import WholeBand, WholeHops, WholeQuench
from jaxland.core.solvers import batches, fleet, lanes, quench, saddle, threads
from jaxland.core.solvers.band import ElasticBand, along_band
from jaxland.core.solvers.protocol import Status
from jaxland.data import load
from jaxland.data.options import TableOptions
from jaxland.landscape import Store, explore
from jaxland.landscape.search import solving
from jaxland.landscape.search.explore import Search
from jaxland.landscape.search.stationary import Engine
from jaxland.models.options import NetworkOptions
from jaxland.runs import stoppable

ROOT = Path(__file__).resolve().parent.parent
FP64 = 132 * 64 * 1.755e9  # multiply-adds a second of an H100 or H200; float32 has twice as many
# Loss and gradient of a point, by hidden units: FP64 instructions, in float32 all of them; counted by gpu_code.py.
OPERATIONS = {5: 152, 10: 282, 32: 932, 64: 1872}
OPERATIONS_32 = {5: 119, 10: 206, 32: 608, 64: 1224}
CURVED = {5: 0.73e-6 + 0.62e-6, 10: 1.12e-6 + 2.9e-6}  # seconds of an exact Hessian and eigh in XLA's batches


@dataclass
class Row:
    """A line of the table; ``ratio`` is the share of the limit reached."""

    name: str
    figure: float
    unit: str
    goal: float | None = None
    limit: float | None = None
    less_is_better: bool = False
    compile: float | None = None
    note: str = ""
    ratio: float | None = field(init=False, default=None)
    met: bool | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.limit and self.figure:
            self.ratio = self.limit / self.figure if self.less_is_better else self.figure / self.limit
        if self.goal:
            self.met = self.figure <= self.goal if self.less_is_better else self.figure >= self.goal


@dataclass(frozen=True)
class Sizes:
    """How much of everything: the device's sizes, or what a CPU can interpret."""

    points: int = 1000
    widths: tuple[int, ...] = (5, 10, 32, 64)
    networks: tuple[int, ...] = (4096, 33_792)
    quenches: tuple[tuple[int, int], ...] = ((5, 200_000), (10, 60_000))
    verified: tuple[tuple[int, int], ...] = ((5, 135_168), (10, 67_584))
    searches: int = 16_384
    audits: int = 4096
    spread: tuple[tuple[tuple[int, ...], int, int], ...] = (
        ((30, 3, 2), 398, 4096),
        ((23, 8, 2), 2000, 2048),
        ((23, 8, 2), 21_000, 512),
    )
    curved: tuple[tuple[tuple[int, ...], int, int, int], ...] = (
        ((30, 3, 2), 398, 1024, 256),
        ((23, 8, 2), 2000, 512, 64),
        ((23, 8, 2), 21_000, 256, 16),
    )
    evaluations: int = 4000
    wide: tuple[int, ...] = (784, 256, 256, 10)
    huge: tuple[int, ...] = (1024, 2560, 2560, 256)
    rows: int = 1024
    repeats: int = 5


SMALL = Sizes(
    points=24,
    widths=(5,),
    networks=(16,),
    quenches=((5, 4),),
    verified=((5, 8),),
    searches=8,
    audits=16,
    spread=(((30, 3, 2), 24, 8),),
    curved=(((5, 2, 2), 24, 4, 2),),
    evaluations=40,
    wide=(8, 16, 3),
    huge=(8, 24, 3),
    rows=32,
    repeats=2,
)


@dataclass
class Bench:
    """What rows share: sizes, clock, and where results go."""

    sizes: Sizes
    small: bool
    budget: float
    began: float = field(default_factory=time.perf_counter)

    @property
    def spent(self) -> float:
        return time.perf_counter() - self.began

    @property
    def left(self) -> float:
        return self.budget - self.spent


Part = tuple[str, Callable[[Bench], Iterator[Row]]]


# -- clocks ----------------------------------------------------------------------------------------------------------


def once(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result of one call."""
    began = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - began, result


def median(call: Callable[[], Any], repeats: int) -> float:
    """Median seconds of a warm call; short ones are issued back to back."""
    alone, _ = once(call)
    several = int(np.clip(0.02 / max(alone, 1e-7), 1, 50))

    def burst() -> Any:
        for _ in range(several):
            out = call()
        return out

    return statistics.median(once(burst)[0] for _ in range(repeats)) / several


@contextlib.contextmanager
def inside() -> Iterator[dict[str, float]]:
    """Seconds inside the calls that compute: fleets, lanes, batched evaluations."""
    spent = {"fleet": 0.0, "lanes": 0.0, "batches": 0.0}

    def clocked(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*args, **options)
            finally:
                spent[name] += time.perf_counter() - began

        return wrapped

    def streamed(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Iterator[Any]:
            found = iter(call(*args, **options))
            step = clocked("lanes", lambda: next(found, None))
            while (outcome := step()) is not None:
                yield outcome

        return wrapped

    old = fleet.run, lanes.stream, batches._Mapped._evaluate
    fleet.run, lanes.stream = clocked("fleet", old[0]), streamed(old[1])
    batches._Mapped._evaluate = clocked("batches", old[2])
    try:
        yield spent
    finally:
        fleet.run, lanes.stream, batches._Mapped._evaluate = old


def share(call: Callable[[], Any]) -> tuple[float, Any, str]:
    """Seconds and result of a call, and how much of it was inside what computes."""
    with inside() as spent:
        seconds, result = once(call)
    parts = ", ".join(f"{name} {t / seconds:.0%}" for name, t in spent.items() if t)
    return seconds, result, f"{parts}, the rest host Python {1 - sum(spent.values()) / seconds:.0%}"


def profile(call: Callable[[], Any], count: int = 6) -> str:
    """The functions in which a call spent most of its own time."""
    meter = cProfile.Profile()
    with contextlib.suppress(ValueError):  # another profiler is at work
        meter.enable()
    call()
    meter.disable()
    rows = sorted(pstats.Stats(meter).stats.items(), key=lambda item: -item[1][2])[:count]
    return "; ".join(f"{Path(f).name}:{line} {name} {own:.2f} s" for (f, line, name), (_, _, own, _, _) in rows)


def on_host(make: Callable[[], Callable[[], Any]], bench: Bench) -> str:
    """The same on the host's CPU, for a note; nothing where that is where we are, or where there is no time."""
    if jax.default_backend() == "cpu" or bench.left < 20:
        return ""
    try:
        with jax.default_device(jax.devices("cpu")[0]):
            call = make()
            seconds, _ = once(call)
            if seconds > 4:
                return f"host CPU {seconds:.3g} s, compilation included"
            return f"host CPU {once(call)[0]:.3g} s"
    except Exception as error:
        return f"host CPU: {type(error).__name__}"


# -- problems --------------------------------------------------------------------------------------------------------


@cache
def checkerboard(hidden: int, points: int, dtype: str = "float64", choice: str = "auto") -> Problem:
    data = load("checkerboard", n=points).split(0.0, scale="standardise").train
    model = mlp((2, hidden, 2), dtype=jnp.dtype(dtype))
    return Problem.from_model(model, np.asarray(data.x, dtype), data.y, l2=1e-5, kernel_choice=choice)


def clusters(sizes: tuple[int, ...], rows: int, dtype: Any = np.float32) -> Problem:
    """A dense network on as many normal clusters as it has outputs."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, sizes[-1], rows)
    x = 2 * rng.normal(size=(sizes[-1], sizes[0]))[y] + rng.normal(size=(rows, sizes[0]))
    model = mlp(sizes, "tanh", key=jax.random.key(0), dtype=jnp.dtype(dtype))
    return Problem.from_model(model, (x / math.sqrt(sizes[0])).astype(dtype), y, l2=1e-4)


@cache
def noisy(sizes: tuple[int, ...], rows: int, choice: str = "auto") -> Problem:
    """A table as tables are: normal inputs, two classes that overlap."""
    rng = np.random.default_rng(0)
    x, (a, b, c) = rng.normal(size=(rows, sizes[0])), rng.normal(size=(3, sizes[0])) / math.sqrt(sizes[0])
    y = (rng.logistic(size=rows) < 2 * (x @ a) + 2 * (x @ b) * (x @ c)).astype(int)
    return Problem.from_model(mlp(sizes, dtype=jnp.float64), x, y, l2=1e-4, kernel_choice=choice)


def trained(problem: Problem, steps: int = 800) -> Problem:
    """After full-batch steps of Adam, so that its Hessian is nearly positive."""
    import optax

    rule = optax.adam(1e-2)

    @jax.jit
    def run(w: jax.Array, data: Any) -> jax.Array:
        def step(carry: tuple[jax.Array, Any], _: None) -> tuple[tuple[jax.Array, Any], None]:
            w, state = carry
            update, state = rule.update(jax.grad(problem.energy_of)(w, data), state)
            return (optax.apply_updates(w, update), state), None

        return jax.lax.scan(step, (w, rule.init(w)), None, length=steps)[0][0]

    return problem.at(run(problem.w, problem.data))


def normal(problem: Problem, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, problem.size)).astype(problem.dtype)


# -- 1, 6: gradients and products ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One kernel at one size; compiled ahead, many at once."""

    hidden: int
    networks: int
    dtype: str
    choice: str
    product: bool = False

    @property
    def name(self) -> str:
        what = "product" if self.product else "gradient"
        kernel = "XLA" if self.choice == "xla" else "dense"
        return f"{what} {kernel} h {self.hidden}, {self.networks:,}, {self.dtype}"

    def inputs(self, points: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        problem = checkerboard(self.hidden, points, self.dtype, self.choice)
        kernel = problem.kernel
        w = jnp.asarray(normal(problem, self.networks))
        if self.product:
            v = jnp.asarray(normal(problem, self.networks, 1))
            return jax.vmap(kernel.product, (0, 0, None)), (w, v, kernel.data)
        return jax.vmap(kernel.first, (0, None)), (w, kernel.data)

    def compiled(self, points: int) -> tuple[float, Callable[..., Any], tuple[Any, ...]]:
        with jax.default_matmul_precision("highest"):
            call, arguments = self.inputs(points)
            began = time.perf_counter()
            program = jax.jit(call).lower(*arguments).compile()
        return time.perf_counter() - began, program, arguments

    def goal(self, points: int) -> tuple[float, float]:
        """Nanoseconds a network: the limit, and 30 % of it."""
        single = self.dtype == "float32"
        count = (OPERATIONS_32 if single else OPERATIONS)[self.hidden] * (1.4 if self.product else 1)
        limit = count * points / (FP64 * (2 if single else 1)) * 1e9
        return limit, limit / 0.3


def cases(sizes: Sizes, product: bool) -> list[Case]:
    """XLA and dense next to each other; XLA where its arrays [networks, points, hidden] fit."""
    wanted = [(h, n, "float64") for h in sizes.widths for n in sizes.networks]
    wanted += [(h, sizes.networks[-1], "float32") for h in sizes.widths if h != 32]
    if product:
        wanted = [(h, sizes.networks[-1], "float64") for h in sizes.widths if h <= 10]
    wide = 1_200_000
    return [
        Case(h, n, dtype, choice, product)
        for h, n, dtype in wanted
        for choice in ("xla", "fused")
        if choice == "fused" or h * n * (2 if dtype == "float64" else 1) <= 2 * wide
    ]


def gradients(product: bool) -> Callable[[Bench], Iterator[Row]]:
    """All programs compiled at once, then timed one by one; each dense one compared with XLA's numbers."""

    def rows(bench: Bench) -> Iterator[Row]:
        todo, points = cases(bench.sizes, product), bench.sizes.points
        pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1))
        futures = {case: pool.submit(case.compiled, points) for case in todo}
        seen: dict[tuple[int, int, str], tuple[float, Any]] = {}
        # Nothing is timed while anything compiles: XLA's trials of its own kernels run on the same device.
        wait(futures.values(), timeout=max(10.0, bench.left))
        for case in todo:
            key = case.hidden, case.networks, case.dtype
            try:
                seconds, program, arguments = futures.pop(case).result(timeout=max(10.0, bench.left))
                figure = median(lambda p=program, a=arguments: p(*a), bench.sizes.repeats) / case.networks
                found = program(*arguments)
                head = np.asarray(found[:64] if product else found.gradient[:64])
                del found, program, arguments
                note = ""
                if case.choice == "xla":
                    seen[key] = figure, head
                elif key in seen:
                    before, truth = seen.pop(key)
                    error = np.max(np.abs(head - truth)) / np.max(np.abs(truth))
                    note = f"{before / figure:.2f} times XLA, differs by {error:.1e}"
                limit, goal = case.goal(points)
                yield Row(
                    case.name, figure * 1e9, "ns a network", goal if case.choice == "fused" else None, limit,
                    less_is_better=True, compile=seconds, note=note,
                )  # fmt: skip
            except Exception as error:
                yield failed(case.name, error)
        pool.shutdown(wait=False, cancel_futures=True)

    return rows


# -- 2 to 5: quenches, transition states, audits ---------------------------------------------------------------------


def quench_limit(hidden: int, points: int, evaluations: float) -> float:
    return FP64 / (OPERATIONS[hidden] * points * evaluations)


def loose(hidden: int, count: int) -> Callable[[Bench], Iterator[Row]]:
    def rows(bench: Bench) -> Iterator[Row]:
        points = bench.sizes.points
        problem = checkerboard(hidden, points, "float64", "fused")
        kernel = problem.kernel
        program = WholeQuench.of(kernel.dense, points, count, tol=1e-6, limit=bench.sizes.evaluations)
        items = quench.Start(normal(problem, count), np.ones(count))
        launches: list[float] = []

        def call() -> fleet.Ended:
            launches.clear()
            return fleet.run(
                program, items, kernel.data, lanes=64 if bench.small else program.lanes,
                progress=lambda *_: launches.append(time.perf_counter()),
            )  # fmt: skip

        first, found = once(call)
        times = [once(call)[0] for _ in range(2)]
        seconds = statistics.median(times)
        done = found.status == Status.CONVERGED
        mean = float(np.mean(found.result.evaluations))
        gaps = np.diff(launches) if len(launches) > 1 else np.zeros(1)
        yield Row(
            f"quench to 1e-6, h {hidden}, {count:,} starts", count / seconds, "quenches/s",
            {5: 80_000, 10: 20_000}[hidden], quench_limit(hidden, points, mean), compile=first - seconds,
            note=f"{np.mean(done):.2%} converged, {mean:.0f} evaluations (most {np.max(found.result.evaluations)}), "
            f"team {program.shape.team}, {len(launches)} launches of {1e3 * np.median(gaps):.0f} ms",
        )  # fmt: skip

    return rows


def teams(bench: Bench) -> Iterator[Row]:
    """An evaluation of fewer networks than fill the machine, by the threads that share the points of each."""
    for hidden in (5,) if bench.small else (5, 10):
        points = bench.sizes.points
        problem = checkerboard(hidden, points, "float64", "fused")
        whole = WholeQuench.of(problem.kernel.dense, points, 10**6, tol=1e-9, limit=bench.sizes.evaluations)
        for team in (1, 8) if bench.small else (1, 2, 4, 8):
            shape = replace(whole.shape, team=team, ahead=whole.shape.ahead if team == 1 else 1)
            count = shape.networks if bench.small else min(8192, 33_792 // team)
            case = f"whole BFGS, h {hidden}, {count:,} networks, team of {team}"
            try:
                items = quench.Start(normal(problem, count), np.ones(count))
                seconds = fleet.pace(replace(whole, shape=shape), items, problem.kernel.data)
                limit = 1e9 * quench_limit(hidden, points, 1) ** -1
                yield Row(case, 1e9 * seconds, "ns an evaluation", limit=limit, less_is_better=True)
            except Exception as error:
                yield failed(case, error)


@cache
def engine(hidden: int, points: int) -> Engine:
    return Engine(checkerboard(hidden, points))


@cache
def minima(hidden: int, points: int, count: int) -> tuple[Any, ...]:
    found = engine(hidden, points).quench(normal(checkerboard(hidden, points), count))
    return tuple(p for p in found if p is not None)


def verified(hidden: int, count: int) -> Callable[[Bench], Iterator[Row]]:
    def rows(bench: Bench) -> Iterator[Row]:
        points = bench.sizes.points
        work = engine(hidden, points)
        starts = normal(work.problem, count)
        first, _ = once(lambda: work.quench(starts))
        seconds, found, note = share(lambda: work.quench(starts))
        good = sum(p is not None for p in found)
        limit = 1 / (1 / quench_limit(hidden, points, 256) + CURVED[hidden])
        yield Row(
            f"verified at 1e-9, h {hidden}, {count:,} starts", good / seconds, "minima/s",
            {5: 50_000, 10: 12_000}[hidden], limit, compile=first - seconds,
            note=f"{good / count:.2%} verified; {note}; {work.kernel.name}",
        )  # fmt: skip
        if hidden == 5:
            began, where = time.perf_counter(), profile(lambda: work.quench(starts))
            yield Row(f"profile of verified, h {hidden}", time.perf_counter() - began, "s", note=where)

    return rows


def transition_states(bench: Bench) -> Iterator[Row]:
    points, count = bench.sizes.points, bench.sizes.searches
    work = engine(5, points)
    known = [p.x for p in minima(5, points, 8 if bench.small else 2048)]
    rng = np.random.default_rng(1)

    def guess(x: np.ndarray) -> saddle.Guess:
        return saddle.Guess(x + 0.25 * np.sqrt(np.mean(x * x)) * rng.normal(size=x.size), np.zeros_like(x))

    guesses = [guess(known[k % len(known)]) for k in range(count)]
    first, _ = once(lambda: work.transition_states(guesses))
    before = work.work
    seconds, found, note = share(lambda: work.transition_states(guesses))
    good = sum(ts is not None for ts in found)
    spent = (work.work - before) * OPERATIONS[5] * points / FP64
    yield Row(
        f"transition states with both ends, h 5, {count:,} searches", good / seconds, "transition states/s",
        5000, good / spent, compile=first - seconds, note=f"{good / count:.1%} found; {note}",
    )  # fmt: skip
    ascent, saddles, how = share(lambda: work.saddles(guesses))
    yield Row("of which the ascent", ascent, "s", note=f"{sum(s is not None for s in saddles)} saddles; {how}")
    began, where = time.perf_counter(), profile(lambda: work.transition_states(guesses))
    yield Row("profile of transition states", time.perf_counter() - began, "s", note=where)


def audits(hidden: int) -> Callable[[Bench], Iterator[Row]]:
    def rows(bench: Bench) -> Iterator[Row]:
        points, count = bench.sizes.points, bench.sizes.audits
        work = engine(hidden, points)
        xs = normal(work.problem, count)
        ws, data = jnp.asarray(xs), work.kernel.data
        part = min(count, 1024)
        second = jax.jit(lambda w, data: jax.vmap(work.kernel.second, (0, None))(w, data).hessian)
        compiling, hessians = once(lambda: second(ws[:part], data))
        one = median(lambda: second(ws[:part], data), bench.sizes.repeats) / part
        matrices = jnp.concatenate([hessians] * (count // part))
        eigh = jax.jit(jnp.linalg.eigh)
        more, _ = once(lambda: eigh(matrices))
        other = median(lambda: eigh(matrices), bench.sizes.repeats) / count
        known = {5: (0.73, 0.62), 10: (1.12, 2.9)}[hidden]
        yield Row(
            f"exact Hessian, h {hidden}, batch {part:,}", 1e6 * one, "us each", limit=known[0],
            less_is_better=True, compile=compiling, note="limit: measured before",
        )  # fmt: skip
        yield Row(
            f"eigh, N {work.problem.size}, batch {count:,}", 1e6 * other, "us each", limit=known[1],
            less_is_better=True, compile=more, note="limit: measured before",
        )  # fmt: skip
        del hessians, matrices
        first, _ = once(lambda: work.audit(list(xs)))
        seconds, _, note = share(lambda: work.audit(list(xs)))
        yield Row(
            f"audit, h {hidden}, {count:,} points", 1e6 * seconds / count, "us a point",
            limit=1e6 * CURVED[hidden], less_is_better=True, compile=first - seconds, note=note,
        )  # fmt: skip

    return rows


def bands(bench: Bench) -> Iterator[Row]:
    """Elastic bands between random points as whole programs, beside vmap: the same work whatever a landscape."""
    points, count = bench.sizes.points, bench.sizes.searches // 4
    problem = checkerboard(5, points, "float64", "fused")
    kernel, images = problem.kernel, 5 if bench.small else 11
    solver = ElasticBand(images, max_evaluations=6 if bench.small else 60, max_step=0.2)
    pairs = normal(problem, 2 * count).reshape(count, 2, -1)
    program = WholeBand.of(kernel.dense, points, count, solver)
    usual = fleet.Vmapped(solver, along_band(kernel.first), 4)
    took, found = {}, {}
    for name, made, full in (("vmap", usual, min(count, 512)), ("whole", program, program.lanes)):
        # Interpreted lanes without a job are as slow as those with one.
        most = -(-count // program.shape.networks) * program.shape.networks if bench.small else full

        def call(made: fleet.Program = made, most: int = most) -> fleet.Ended:
            return fleet.run(made, pairs, kernel.data, lanes=most)

        first, found[name] = once(call)
        took[name], _ = once(call)
        evaluations = int(np.sum(found[name].result.evaluations))
        limit = FP64 / (OPERATIONS[5] * points * (images - 2) * evaluations / count)
        yield Row(
            f"elastic bands by {name}, h 5, {count:,} of {images} images", count / took[name], "bands/s",
            limit=limit, compile=first - took[name], note=f"{evaluations / count:.0f} evaluations",
        )  # fmt: skip
    same = np.abs(found["whole"].result.energies - found["vmap"].result.energies).max(axis=1) < 1e-6
    note = f"{np.mean(same):.1%} of the bands alike to 1e-6 at their ends, {program.shape.threads} threads each"
    yield Row("whole bands beside vmap", took["vmap"] / took["whole"], "times", note=note)


def hopping(bench: Bench) -> Iterator[Row]:
    """Three hops of every walker in one program, beside rounds of whole quenches; quenches to 1e-9."""
    points, count = bench.sizes.points, bench.sizes.searches // 4
    problem = checkerboard(5, points, "float64", "fused")
    kernel, size, rng = problem.kernel, problem.size, np.random.default_rng(2)
    limit = bench.sizes.evaluations
    one = WholeQuench.of(kernel.dense, points, count, tol=1e-9, limit=limit)
    together = one.shape.networks
    lanes = -(-count // together) * together if bench.small else one.lanes
    start = fleet.run(one, quench.Start(normal(problem, count), np.ones(count)), kernel.data, lanes=lanes).result
    walks = quench.Walk(
        x=start.x,
        energy=start.energy,
        max_step=np.ones(count),
        kicks=0.6 * rng.normal(size=(count, 3, size)),
        allowed=-0.01 * np.log(rng.random((count, 3))),
    )
    program = WholeHops(one)

    def rounds() -> None:
        x = start.x
        for k in range(3):
            kicked = x + np.sqrt(np.mean(x * x, axis=1, keepdims=True)) * walks.kicks[:, k]
            fleet.run(one, quench.Start(kicked, np.ones(count)), kernel.data, lanes=lanes)

    first, found = once(lambda: fleet.run(program, walks, kernel.data, lanes=lanes))
    seconds, _ = once(lambda: fleet.run(program, walks, kernel.data, lanes=lanes))
    apart, _ = once(rounds)
    mean = float(np.mean(found.result.evaluations))
    yield Row(
        f"basin hopping, h 5, {count:,} walkers of 3 hops", 3 * count / seconds, "hops/s",
        limit=quench_limit(5, points, mean), compile=first - seconds,
        note=f"{apart / seconds:.2f} times rounds of quenches, {mean:.0f} evaluations a hop",
    )  # fmt: skip


def spread(bench: Bench) -> Iterator[Row]:
    """Networks spread over threads: BFGS and L-BFGS as whole programs beside vmap."""
    for sizes, rows, count in bench.sizes.spread:
        problem = noisy(sizes, rows, "fused")
        for name, solver in (("BFGS", quench.BFGS(1e-6, 4000)), ("L-BFGS", quench.LBFGS(1e-6, 10_000))):
            case = f"{name}, N {problem.size}, {rows:,} rows, {count:,} networks"
            try:
                yield from whole_quenches(bench, problem, solver, count, case)
            except Exception as error:
                yield failed(case, error)


def whole_quenches(
    bench: Bench, problem: Problem, solver: quench.BFGS | quench.LBFGS, count: int, case: str
) -> Iterator[Row]:
    """An evaluation of all networks in full flight, and whole quenches."""
    kernel, rows, (d, h, _) = problem.kernel, problem.n, problem.model.sizes
    items = quench.Start(normal(problem, count), np.ones(count))
    limit = (h * (2 * d + 33) + 30) * rows / FP64  # what a point takes, as counted in the program
    program = WholeQuench.of(
        kernel.dense, rows, count, tol=1e-6, limit=bench.sizes.evaluations if bench.small else solver.max_evaluations,
        history=getattr(solver, "history", 0),
    )  # fmt: skip
    compiling, ours = once(lambda: fleet.pace(program, items, kernel.data))
    try:
        note = f"{fleet.pace(fleet.Vmapped(solver, kernel.first), items, kernel.data) / ours:.2f} times vmap"
    except Exception as error:
        note = f"vmap: {type(error).__name__}"
    yield Row(
        f"whole {case}", 1e9 * ours, "ns an evaluation", limit=1e9 * limit, less_is_better=True,
        compile=compiling, note=f"{note}, {program.shape.threads} threads a network",
    )  # fmt: skip
    lanes = count if bench.small else program.lanes
    seconds, ended = once(lambda: fleet.run(program, items, kernel.data, lanes=lanes))
    mean = float(np.mean(ended.result.evaluations))
    yield Row(
        f"quench to 1e-6, {case}", count / seconds, "quenches/s", limit=1 / (mean * limit),
        note=f"{np.mean(ended.status == Status.CONVERGED):.2%} converged, {mean:.0f} evaluations",
    )  # fmt: skip


def hessians(bench: Bench) -> Iterator[Row]:
    """Exact Hessians by moments, as a GPU takes them, beside those of batched automatic differentiation."""
    for sizes, rows, count, fewer in bench.sizes.curved:
        problem = noisy(sizes, rows)
        kernel = problem.kernel

        def moments(w: jax.Array, data: Any, second: Any = kernel.second) -> jax.Array:
            return jax.vmap(second, (0, None))(w, data).hessian

        def products(w: jax.Array, data: Any, energy: Any = problem.energy_of) -> jax.Array:
            return jax.vmap(jax.hessian(energy), (0, None))(w, data)

        took = {}
        for name, call, data, batch in (
            ("moments", moments, kernel.data, count),
            ("autodiff", products, problem.data, fewer),
        ):
            case = f"exact Hessian by {name}, N {problem.size}, {rows:,} rows, batch {batch:,}"
            try:
                w = jnp.asarray(normal(problem, batch))
                began = time.perf_counter()
                with jax.default_matmul_precision("highest"):
                    program = jax.jit(call).lower(w, data).compile()
                compiling = time.perf_counter() - began
                took[name] = median(lambda p=program, w=w, d=data: p(w, d), bench.sizes.repeats) / batch
                memory = program.memory_analysis()
                held = "" if memory is None else f"{memory.temp_size_in_bytes / batch / 1e6:.3g} MB a point"
                faster = f", {took[name] / took['moments']:.2f} times the moments'" if name == "autodiff" else ""
                yield Row(
                    case, 1e6 * took[name], "us each", limit=1e6 * kernel.hessian_cost / FP64,
                    less_is_better=True, compile=compiling, note=held + faster,
                )  # fmt: skip
            except Exception as error:
                yield failed(case, error)


# -- 7: the pipeline -------------------------------------------------------------------------------------------------


def explored(bench: Bench) -> Iterator[Row]:
    """The command as a user starts it, cold and again, and the same search by settings chosen by hand."""
    for state, limit in (("cold", 60.0),) if bench.small else (("cold", 60.0), ("warm", 25.0)):
        name = f"checkerboard --l2 1e-6, {state}"
        yield from commanded(bench, name, "checkerboard", 10_000, limit, network=NetworkOptions(l2=1e-6))
    problem = checkerboard(5, bench.sizes.points)
    big = {
        "starts": 4096, "walkers": 512, "hops": 1, "climbs": 4096, "searches": 6, "expand": 512, "pairs": 512,
        "minima": 2000, "rounds": 20, "breadth": 1,
    }  # fmt: skip
    if bench.left > 120 or bench.small:
        chosen = LITTLE if bench.small else big
        seconds, found, note = share(lambda: explore(problem, seed=0, time_limit=20, **chosen))
        text = f"in {seconds:.1f} s: {found.n_minima:,} minima; {note}"
        yield Row("explore by hand: transition states", found.n_ts / seconds, "a second", 20_000 / 60, note=text)


LITTLE = {
    "breadth": 1,
    "starts": 6,
    "walkers": 2,
    "hops": 1,
    "climbs": 2,
    "searches": 1,
    "expand": 2,
    "pairs": 2,
    "rounds": 1,
}


def commanded(bench: Bench, name: str, source: str, wanted: int, limit: float, **parts: Any) -> Iterator[Row]:
    """``jaxland explore SOURCE --minima WANTED`` in this process: default settings, a store on disk, no report."""
    settings = replace(SEARCH, minima=wanted, **(LITTLE if bench.small else {}))
    recipe = Recipe(source, search=settings, **parts)
    limit = min(limit, max(10.0, bench.left))
    seen: list[tuple[float, int]] = []

    def tell(p: Any) -> None:
        seen.append((p.seconds, p.minima))

    def call() -> Any:
        with (
            tempfile.TemporaryDirectory() as folder,
            Store(Path(folder) / "landscape.db", recipe.problem) as store,
            stoppable(limit) as stop,
        ):
            return Search(store, settings, stop=stop, progress=tell).run()

    with compiling() as programs:
        seconds, found, note = share(call)
    connected = int(np.sum(found.components() == 0))
    news = next((t for t, minima in seen if minima), math.nan)
    kinds: dict[str, list[float]] = {}
    for r in found.statistics["rounds"]:
        kinds.setdefault(r["kind"], []).append(r["seconds"])
    rounds = ", ".join(f"{len(each)} {kind} {sum(each):.1f} s" for kind, each in kinds.items())
    text = (
        f"in {seconds:.1f} s of {limit:.0f}: {found.n_minima:,} minima, the first after {news:.1f} s; "
        f"{len(programs)} compilations of {sum(programs):.1f} s; {note}"
    )
    case = f"explore {name}, N {recipe.problem.size}"
    yield Row(f"{case}: connected minima", connected, "minima", wanted, note=text)
    yield Row(f"{case}: joined", connected / seconds, "minima/s", wanted / limit)
    yield Row(f"{case}: found", found.n_ts / seconds, "transition states/s", 2 * wanted / limit, note=rounds)


@contextlib.contextmanager
def compiling() -> Iterator[list[float]]:
    """Seconds of each compilation inside the block."""
    took: list[float] = []

    def heard(event: str, seconds: float, **_: Any) -> None:
        if "backend_compile" in event:
            took.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        yield took
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)


def credit_card_file() -> Path | None:
    """The public table of credit card customers, where a copy of it lies."""
    given = os.environ.get("JAXLAND_DATA")
    places = [Path(given)] if given else []
    places += [ROOT / "shared" / "data", ROOT.parent / "shared" / "data", ROOT]
    for place in places:
        for path in [place] if place.is_file() else sorted(place.glob("default_credit_card*.csv")):
            return path
    return None


def credit_card(bench: Bench) -> Iterator[Row]:
    """``jaxland explore TABLE --target default --hidden 8 --minima 200``: 21,000 of 30,000 rows."""
    path = credit_card_file()
    if path is None:
        raise FileNotFoundError("the credit card table is not here (JAXLAND_DATA names its file or folder)")
    yield from commanded(
        bench, "credit card, cold", str(path), 200, 30.0, table=TableOptions(target="default"),
        network=NetworkOptions(hidden="2" if bench.small else "8"),
    )  # fmt: skip


# -- 9: right on a device --------------------------------------------------------------------------------------------


def doctored(bench: Bench) -> Iterator[Row]:
    """What ``jaxland doctor`` says of this machine."""
    found = doctor.checks()
    wrong = [f"{check.name}: {check.detail}" for check in found if not check.ok]
    yield Row("doctor: complaints", len(wrong), "complaints", less_is_better=True, note="; ".join(wrong) or "none")


class Crowded(fleet.Vmapped):
    """A fleet that holds no more than 64 lanes: what a CPU, whose memory does not end, shows of halving."""

    def begin(self, items: Any) -> Any:
        if items.x.shape[0] > 64:
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return super().begin(items)


def halved(bench: Bench) -> Iterator[Row]:
    """Newton steps of more lanes than memory holds Hessians for: lanes are halved, and every job ends."""
    problem = noisy((23, 2 if bench.small else 8, 2), 200, "xla")
    kernel, small = problem.kernel, bench.small
    solver, lanes = quench.Newton(1e-3, 3), 256 if small else 1 << 19
    tried: list[int] = []
    real = fleet._run

    def counted(program: Any, items: Any, data: Any, lanes: int, *rest: Any) -> Any:
        tried.append(lanes)
        return real(program, items, data, lanes, *rest)

    items = quench.Start(0.1 * normal(problem, lanes), np.ones(lanes))
    fleet._run = counted
    try:
        program = (Crowded if small else fleet.Vmapped)(solver, kernel.second, 3)
        seconds, ended = once(lambda: fleet.run(program, items, kernel.data, lanes=lanes, squads=1))
    finally:
        fleet._run = real
    missing = int(np.sum(ended.status == Status.RUNNING))
    yield Row(
        f"out of memory: {lanes:,} lanes of {problem.size} parameters", tried[-1], "lanes at last",
        note=f"{len(tried) - 1} times halved, {missing} jobs missing, {seconds:.1f} s",
    )  # fmt: skip


# -- 8: everything else ----------------------------------------------------------------------------------------------


def lanczos(bench: Bench) -> Iterator[Row]:
    from jaxland.core.krylov import grown

    rows, k = bench.sizes.rows, 2 if bench.small else 10

    def make() -> Callable[[], Any]:
        problem = clusters(bench.sizes.wide, rows)
        products = jax.jit(jax.vmap(problem.hvp, (None, 0)))
        w = problem.w
        return lambda: grown.eigenpairs(
            lambda v: products(w, v), problem.size, highest=k, tolerance=1e-4, max_products=150, dtype=jnp.float32
        )

    call = make()
    first, _ = once(call)
    seconds, found = once(call)
    size = clusters(bench.sizes.wide, rows).size
    limit = FP64 * 2 / (6.0 * size * rows)
    yield Row(
        f"Lanczos, grown basis, N {size:,}, {k} highest", found.products / seconds, "products/s", limit=limit,
        compile=first - seconds, note=f"{found.products} products in {seconds:.2f} s; {on_host(make, bench)}",
    )  # fmt: skip


def thick_restart(bench: Bench) -> Iterator[Row]:
    from jaxland.hessian.modes import extreme_modes

    rows, basis = bench.sizes.rows // 4, 16 if bench.small else 48
    problem = clusters(bench.sizes.huge, rows)

    def call() -> Any:
        return extreme_modes(
            problem, basis=basis, lowest=0, highest=4, tolerance=1e-3, max_products=200, time_limit=20
        )

    first, _ = once(call)
    seconds, found = once(call)
    limit = FP64 * 2 / (6.0 * problem.size * rows)
    yield Row(
        f"Lanczos, thick restart, N {problem.size:,}, 4 highest", found.products / seconds, "products/s", limit=limit,
        compile=first - seconds, note=f"{found.status}: {found.products} products in {seconds:.2f} s",
    )  # fmt: skip


def influence(bench: Bench) -> Iterator[Row]:
    from jaxland import hessian

    sizes, rows, count = ((8, 4, 3), 40, 3) if bench.small else ((64, 32, 10), 1437, 20)

    def make() -> Callable[[], Any]:
        problem = trained(clusters(sizes, rows, np.float64))
        test = problem.x[:count], problem.y[:count]

        def call() -> Any:
            curvature = hessian.curvature(problem, damping=1e-2, method="products", tolerance=1e-4)
            return hessian.influence(curvature, test, relative=False, sweep=False).values

        return call

    call = make()
    first, _ = once(call)
    seconds, _ = once(call)
    yield Row(
        f"influence of {count} test points, N {clusters(sizes, 10).size:,}, {rows:,} rows", seconds, "s",
        less_is_better=True, compile=first - seconds, note=on_host(make, bench),
    )  # fmt: skip


def attribution(name: str) -> Callable[[Bench], Iterator[Row]]:
    def rows(bench: Bench) -> Iterator[Row]:
        import bench_trim

        if bench.small:
            bench_trim.BATCH = 4
        with jax.enable_x64(False):
            call = bench_trim.ours()[name]
            first, _ = once(call)
            seconds = median(call, bench.sizes.repeats)
            note = on_host(lambda: bench_trim.ours()[name], bench)
            if importlib.util.find_spec("captum") and importlib.util.find_spec("torch") and not bench.small:
                peer = bench_trim.theirs().get(name)
                if peer is not None:
                    peer()
                    took, count = once(peer)
                    count = count if isinstance(count, int) else bench_trim.BATCH
                    note += f"; captum on one thread of the host {1e3 * took / count:.3g} ms an input"
        yield Row(
            name, 1e3 * seconds / bench_trim.BATCH, "ms an input", less_is_better=True, compile=first - seconds,
            note=f"batch {bench_trim.BATCH} in {seconds:.3g} s; {note}",
        )  # fmt: skip

    return rows


def mixtures(bench: Bench) -> Iterator[Row]:
    from jaxland import information

    n, left, right, resamples = (120, 1, 1, 2) if bench.small else (5000, 4, 3, 10)
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(n, right))
    latents = np.sinh(factors[:, np.arange(left) % right]) + 0.5 * rng.normal(size=(n, left))
    options = {"orders": (1, 2), "null": 0} if bench.small else {}

    def call() -> Any:
        return information.matrix(latents, factors, bootstraps=resamples, **options)

    first, _ = once(call)
    seconds, _ = once(call)
    yield Row(
        f"mixture table, {left} x {right} pairs, n {n:,}, {resamples} bootstraps", seconds / (left * right),
        "s a pair", less_is_better=True, compile=first - seconds, note=f"{seconds:.2f} s in all",
    )  # fmt: skip


def auto_neb(bench: Bench) -> Iterator[Row]:
    from jaxland.models.networks import resnet
    from jaxland.paths import Cycle, PathSettings, minimum_energy_path

    pixels, depth, width, batch = (8, 8, 8, 4) if bench.small else (32, 20, 16, 128)
    rng, rows = np.random.default_rng(0), 2 * batch
    x = rng.normal(size=(rows, pixels, pixels, 3)).astype(np.float32)
    y = rng.integers(0, 10, rows)

    def problem(seed: int) -> Problem:
        return Problem.from_model(resnet(depth, width, seed=seed), x, y, l2=1e-4, chunk=batch)

    start, end, images, block = problem(0), problem(1), 6, 2 if bench.small else 10

    def call(blocks: int) -> Any:
        settings = PathSettings(
            images=images, max_images=images, cycles=(Cycle(blocks * block, 1e-3),), batch=batch, probes=0,
            probe_rows=batch, block=block,
        )  # fmt: skip
        return minimum_energy_path(start, start.w, end.w, settings, align=False)

    first, _ = once(lambda: call(1))
    short, _ = once(lambda: call(1))
    long, _ = once(lambda: call(4))
    step = (long - short) / (3 * block) if long > 1.1 * short else long / (4 * block)
    rate = (images - 2) * batch / step
    # 4.1e7 multiply-adds forward for an image of 32 x 32 (He et al. 2016), twice that backward.
    limit = None if bench.small else FP64 * 2 / (3 * 4.1e7)
    yield Row(
        f"AutoNEB step of a ResNet-{depth}, {pixels} x {pixels}, {images - 2} images of {batch}", rate, "images/s",
        limit=limit, compile=first - short, note=f"{1e3 * step:.1f} ms a step",
    )  # fmt: skip


# -- the machine, and the run ----------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Card, driver, versions, cores."""
    facts: dict[str, Any] = {
        "device": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "devices": jax.device_count(),
        "jax": jax.__version__,
        "cores": os.cpu_count(),
    }
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        asked = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.max.sm", "--format=csv,noheader"]
        facts["card"] = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return facts


def peaks(bench: Bench) -> Iterator[Row]:
    """Multiply-adds by a plain elementwise chain; bandwidth of a copy."""
    size, length = (1 << 14, 8) if bench.small else (1 << 22, 256)
    for dtype in (jnp.float64, jnp.float32):
        x = jnp.full(size, 0.5, dtype)

        @jax.jit
        def chain(x: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
            y, z = x, x + b
            for _ in range(length // 2):
                y, z = y * a + b, z * a + b
            return y + z

        a, b = jnp.asarray(0.999, dtype), jnp.asarray(1e-3, dtype)
        compiling, _ = once(lambda c=chain, x=x, a=a, b=b: c(x, a, b))
        seconds = median(lambda c=chain, x=x, a=a, b=b: c(x, a, b), bench.sizes.repeats)
        limit = FP64 * (1 if dtype == jnp.float64 else 2)
        yield Row(
            f"peak of {np.dtype(dtype).name}", size * length / seconds / 1e12, "1e12 multiply-adds/s",
            limit=limit / 1e12, compile=compiling,
        )  # fmt: skip
    x = jnp.zeros((1 << 14) if bench.small else (1 << 26), jnp.float32)
    add = jax.jit(lambda x: x + 1)
    once(lambda: add(x))
    seconds = median(lambda: add(x), bench.sizes.repeats)
    yield Row("copy", 2 * x.nbytes / seconds / 1e12, "TB/s", limit=3.35, note="limit: an H100; an H200 has 4.8")


def parts(sizes: Sizes) -> list[Part]:
    """What has never been measured on a GPU first, the most important of it leading."""
    return [
        ("doctor", doctored),
        ("peaks", peaks),
        *((f"verified-{h}", verified(h, count)) for h, count in sizes.verified),
        ("transition", transition_states),
        ("explore", explored),
        ("credit", credit_card),
        ("lanczos", lanczos),
        ("thick", thick_restart),
        ("influence", influence),
        ("ig", attribution("MLP IG-50")),
        ("kernelshap", attribution("MLP KernelSHAP-200, 33 bands")),
        ("cd", attribution("MLP CD, 33 bands")),
        ("mixture", mixtures),
        ("neb", auto_neb),
        ("memory", halved),
        ("bands", bands),
        ("hopping", hopping),
        ("spread", spread),
        ("teams", teams),
        ("hessian", hessians),
        *((f"audit-{h}", audits(h)) for h, _ in sizes.verified),
        *((f"quench-{h}", loose(h, count)) for h, count in sizes.quenches),
        ("gradient", gradients(False)),
        ("product", gradients(True)),
    ]


def failed(name: str, error: BaseException) -> Row:
    text = (str(error).splitlines() or [""])[0]
    return Row(name, math.nan, "FAILED", note=f"{type(error).__name__}: {text[:200]}")


def short(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # NaN where it failed


def line(row: Row) -> str:
    ratio = "-" if row.ratio is None else f"{row.ratio:.1%}"
    met = {None: "", True: " met", False: " not met"}[row.met]
    compiling = "" if row.compile is None else f"[compile {max(row.compile, 0.0):.1f} s] "
    return (
        f"{row.name:52s} {short(row.figure):>10s} {row.unit:20s} goal {short(row.goal) + met:15s} "
        f"limit {short(row.limit):>9s} {ratio:>7s}  {compiling}{row.note}"
    )


def run(bench: Bench, only: list[str], place: Path | None) -> list[Row]:
    """Every part in order; rows are printed and kept as they come."""
    facts, done, current = machine(), [], ["start"]
    print("  ".join(f"{key} {value}" for key, value in facts.items()), flush=True)

    def keep() -> None:
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            rows = [{k: None if v != v else v for k, v in asdict(r).items()} for r in done]
            place.write_text(json.dumps({"machine": facts, "seconds": round(bench.spent, 1), "rows": rows}, indent=1))

    def add(row: Row) -> None:
        done.append(row)
        print(line(row), flush=True)
        keep()

    def cut() -> None:
        print(f"CUT after {bench.spent:.0f} s in {current[0]}", flush=True)
        os._exit(3)

    watchdog = threading.Timer(min(355.0, bench.budget + 90.0), cut)
    watchdog.daemon = True
    if not bench.small:
        watchdog.start()
    for name, part in parts(bench.sizes):
        if only and not any(name.startswith(wanted) for wanted in only):
            continue
        if bench.left <= 0:
            print(f"SKIPPED {name}: {bench.spent:.0f} s are spent", flush=True)
            continue
        current[0] = name
        try:
            for row in part(bench):
                add(row)
        except Exception as error:
            add(failed(name, error))
    watchdog.cancel()
    print(f"{len(done)} rows in {bench.spent:.0f} s", flush=True)
    return done


def main(arguments: list[str] | None = None) -> list[Row]:
    """Print the table; exit code 0 whatever failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=270, help="no part begins later than this")
    parser.add_argument("--only", default="", help="parts, by the beginning of their names, with commas")
    parser.add_argument("--small", action="store_true", help="tiny sizes, for a CPU")
    parser.add_argument("--pretend", action="store_true", help="go by whole batches on a CPU as on an accelerator")
    parser.add_argument("--json", type=Path, help="file to keep the rows in")
    given = parser.parse_args(arguments)
    jax.config.update("jax_enable_x64", True)
    if given.pretend:
        threads.on_accelerator = lambda: True
        fleet._FEW = solving._SQUAD = 16  # no more lanes than there are jobs
    bench = Bench(SMALL if given.small else Sizes(), given.small, given.seconds)
    return run(bench, [name for name in given.only.split(",") if name], given.json)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # without waiting for compilations that were given up
