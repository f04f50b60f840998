"""Quenches and transition states per CPU second, beside SciPy and (where installed) optimistix.

    python benchmarks/bench_landscape.py            # the whole table
    make bench                                       # the same cases under pytest-benchmark

One thread for everybody; CPU seconds of the process; compilation apart. The loss is the checkerboard of the field's
own program: 4 x 4 squares, 1,000 points, one tanh layer, mean cross-entropy + 1e-5 * sum(w^2).
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import time
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

jax.config.update("jax_enable_x64", True)

from jaxland import Problem, mlp
from jaxland.core.solvers import lanes, quench
from jaxland.core.solvers.protocol import Layout, Status
from jaxland.core.solvers.saddle import Guess
from jaxland.data import load
from jaxland.landscape.search.stationary import Engine

SERIAL = Layout(8, 64, 1, 1)
FORTRAN = {5: 5.0, 10: 1.0}  # minima per second of an idle core, loose 1e-6 then tight 1e-9 (spec/landscape.md)


@lru_cache
def checkerboard(hidden: int) -> Problem:
    data = load("checkerboard", n=1000)
    part = data.split(0.0, scale="standardise").train
    return Problem.from_model(mlp((2, hidden, 2)), part.x, part.y, l2=1e-5)


def starts(problem: Problem, count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).normal(size=(count, problem.size)))


def cpu(call, repeat: int = 1):
    """Result and least CPU seconds over ``repeat`` calls."""
    best, result = np.inf, None
    for _ in range(repeat):
        began = time.process_time()
        result = call()
        best = min(best, time.process_time() - began)
    return result, best


def loose(problem: Problem, xs: list[np.ndarray]) -> float:
    """Minima at rms 1e-6 per call; returns the fraction that converged."""
    items = [quench.Start(x, np.float64(1.0)) for x in xs]
    done = lanes.run(quench.BFGS(1e-6), problem.kernel.first, items, problem.kernel.data, layout=SERIAL)
    return float(np.mean([o.status == Status.CONVERGED for o in done]))


def tight(problem: Problem, xs: list[np.ndarray]) -> float:
    """Verified minima at rms 1e-9 (index audited); returns the fraction that was stored."""
    found = Engine(problem, layout=SERIAL).quench(xs)
    return float(np.mean([p is not None for p in found]))


def scipy_lbfgs(problem: Problem, xs: list[np.ndarray]) -> tuple[float, float]:
    """SciPy's L-BFGS-B with the jitted gradient of the same loss; (fraction at rms 1e-6, evaluations each)."""
    from scipy.optimize import minimize

    both = jax.jit(jax.value_and_grad(problem.energy_of))
    data = problem.data

    def f(w):
        value, gradient = both(w, data)
        return float(value), np.asarray(gradient)

    f(xs[0])
    ok, evaluations = [], []
    options = {"maxcor": 20, "maxiter": 50_000, "maxfun": 50_000, "ftol": 0.0}
    for x in xs:
        # SciPy stops on the largest component: the loosest setting that still gives rms 1e-6 is tried first.
        got = minimize(f, x, jac=True, method="L-BFGS-B", options={**options, "gtol": 2e-6})
        ok.append(np.sqrt(np.mean(got.jac**2)) <= 1e-6)
        evaluations.append(got.nfev)
    return float(np.mean(ok)), float(np.mean(evaluations))


def optimistix_lbfgs(problem: Problem, xs: list[np.ndarray]):
    """optimistix's L-BFGS under vmap over all starts, to a comparable tolerance."""
    optx = pytest.importorskip("optimistix")
    energy = problem.energy_of
    solver = optx.LBFGS(rtol=1e-9, atol=1e-12)

    @jax.jit
    def many(ws, data):
        def one(w):
            out = optx.minimise(lambda u, a: energy(u, a), solver, w, args=data, max_steps=5000, throw=False)
            return out.value, out.stats["num_steps"]

        return jax.vmap(one)(ws)

    ws = jnp.asarray(np.stack(xs))
    jax.block_until_ready(many(ws, problem.data))
    (values, steps), seconds = cpu(lambda: jax.block_until_ready(many(ws, problem.data)))
    rms = [float(np.sqrt(np.mean(np.square(problem.gradient(w))))) for w in values]
    return seconds, float(np.mean(np.array(rms) <= 1e-6)), float(np.mean(steps))


def transition_states(problem: Problem, count: int) -> tuple[int, float]:
    """Verified transition states with both downhill paths, from displaced minima."""
    engine = Engine(problem, layout=SERIAL)
    minima = [p for p in engine.quench(starts(problem, 24)) if p is not None]
    rng = np.random.default_rng(1)
    guesses = []
    for k in range(count):
        x = minima[k % len(minima)].x
        size = np.exp(rng.uniform(np.log(0.05), np.log(0.5))) * np.sqrt(np.mean(x * x))
        guesses.append(Guess(x + size * rng.normal(size=x.size), np.zeros_like(x)))
    engine.transition_states(guesses[:2])
    found, seconds = cpu(lambda: engine.transition_states(guesses))
    return sum(ts is not None for ts in found), seconds


def inside(f, *args, repeats: int = 200) -> float:
    """Seconds of one call of f inside a compiled loop that depends on its result."""

    @jax.jit
    def loop(w, *rest):
        def body(_, u):
            out = jax.tree.leaves(f(u, *rest))
            return u - 1e-12 * sum(jnp.sum(leaf) for leaf in out)

        return jax.lax.fori_loop(0, repeats, body, w)

    jax.block_until_ready(loop(*args))
    # The median: the system's clock now and then books a short call on no one.
    times = [cpu(lambda: jax.block_until_ready(loop(*args)))[1] for _ in range(9)]
    return float(np.median(times)) / repeats


def parts(problem: Problem) -> dict[str, float]:
    """Where the time goes, in microseconds: gradient, Hessian, diagonalisation, and the floors."""
    kernel, w = problem.kernel, jnp.asarray(starts(problem, 1)[0])
    n, size = problem.n, problem.size
    hidden = (size - 2) // 5
    a = jnp.asarray(np.random.default_rng(0).normal(size=(256, 256)))
    product = inside(lambda u: u @ a, a, repeats=50)
    peak = 2 * 256**3 / product
    elements = jnp.asarray(np.random.default_rng(0).normal(size=(hidden, n)))
    tanh = inside(jnp.tanh, elements) / elements.size
    work = n * hidden * (2 * 3 + 2 + 3 + 2 + 2 * 3)  # two small products, output layer, slope, back-propagation
    return {
        "gradient, closed form": inside(kernel.first, w, kernel.data) * 1e6,
        "gradient, autodiff": inside(jax.value_and_grad(problem.energy_of), w, problem.data) * 1e6,
        "energy, gradient, Hessian": inside(kernel.second, w, kernel.data) * 1e6,
        "eigh of the Hessian": inside(lambda u: jnp.linalg.eigh(u)[1], kernel.second(w, kernel.data).hessian) * 1e6,
        "floor of a gradient: tanh": tanh * n * hidden * 1e6,
        "floor of a gradient: arithmetic at peak": work / peak * 1e6,
        "floor of a Hessian: arithmetic at peak": 2 * n * (4 * hidden + 1) ** 2 / peak * 1e6,
        "measured float64 peak, GFLOP/s": peak / 1e9,
    }


# -- pytest-benchmark ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [5, 10])
def test_loose_quench(benchmark, hidden):
    problem = checkerboard(hidden)
    xs = starts(problem, 32)
    loose(problem, xs[:2])
    benchmark.pedantic(partial(loose, problem, xs), rounds=3)
    benchmark.extra_info["minima per second"] = len(xs) / benchmark.stats["median"]


@pytest.mark.parametrize("hidden", [5, 10])
def test_tight_quench(benchmark, hidden):
    problem = checkerboard(hidden)
    xs = starts(problem, 32)
    tight(problem, xs[:2])
    benchmark.pedantic(partial(tight, problem, xs), rounds=3)
    benchmark.extra_info["minima per second"] = len(xs) / benchmark.stats["median"]


def test_scipy_quench(benchmark):
    problem = checkerboard(5)
    benchmark.pedantic(partial(scipy_lbfgs, problem, starts(problem, 4)), rounds=1)


def test_transition_states(benchmark):
    benchmark.pedantic(partial(transition_states, checkerboard(5), 64), rounds=1)


def main() -> None:
    for hidden in (5, 10):
        problem = checkerboard(hidden)
        xs = starts(problem, 128)
        print(f"\ncheckerboard 4x4, 1,000 points, {hidden} hidden units, {problem.size} parameters")
        rows = []
        for name, call in (("jaxland, rms 1e-6", loose), ("jaxland, rms 1e-9, index verified", tight)):
            call(problem, xs[:2])
            share, seconds = cpu(partial(call, problem, xs), 3)
            rows.append((name, share * len(xs) / seconds, share))
        few = xs[: 12 if hidden == 5 else 6]
        (share, evaluations), seconds = cpu(partial(scipy_lbfgs, problem, few))
        rows.append((f"SciPy L-BFGS-B, rms 1e-6 ({evaluations:.0f} gradients)", share * len(few) / seconds, share))
        try:
            seconds, share, steps = optimistix_lbfgs(problem, xs[:32])
            rows.append((f"optimistix L-BFGS, vmap ({steps:.0f} steps)", share * 32 / seconds, share))
        except pytest.skip.Exception:
            pass
        print(f"{'':48s} minima / CPU s   converged")
        for name, rate, share in rows:
            print(f"{name:48s} {rate:14.1f} {share:11.2f}")
        scipy_rate = next(rate for name, rate, _ in rows if name.startswith("SciPy"))
        print(f"against SciPy at 1e-6: {rows[0][1] / max(scipy_rate, 1e-9):.1f} times")
        print(f"against the Fortran's {FORTRAN[hidden]:.1f}/s at 1e-9: {rows[1][1] / FORTRAN[hidden]:.1f} times")
        found, seconds = transition_states(problem, 96)
        print(f"transition states: {found} of 96 searches, {found / seconds:.1f} per CPU s")
        print("where the time goes (microseconds):")
        for name, value in parts(problem).items():
            print(f"    {name:44s} {value:9.1f}")


if __name__ == "__main__":
    main()
