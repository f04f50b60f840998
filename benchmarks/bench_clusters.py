"""Complete landscapes beside topsearch: LJ7, LJ8 and XOR, one thread, CPU seconds; LJ38; LJ13 on two threads.

    python benchmarks/bench_clusters.py                                   # ours
    python benchmarks/bench_clusters.py --topsearch VENV/bin/python       # and topsearch, installed there (pip)
    python benchmarks/bench_clusters.py --only lj13 --seconds 600         # LJ13, two threads

Known: XOR at lam 1e-2 5 minima and 16 transition states, LJ7 4 and 12, LJ8 8 and 42, LJ13 1,510 minima. pele needs a
Fortran compiler and is not run; its figures in spec are 275 quenches and 4.6 transition states per CPU second on XOR.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import argparse
import json
import subprocess
import time
from pathlib import Path

import jax
import numpy as np
import pytest

jax.config.update("jax_enable_x64", True)

from jaxland import Problem, mlp
from jaxland.core.solvers import lanes, quench
from jaxland.core.solvers.protocol import Layout, Status
from jaxland.landscape import explore
from jaxland.landscape.search.stationary import Engine
from jaxland.problem import potentials

SERIAL = Layout(8, 64, 1, 1)
KNOWN = {"xor": (5, 16), "lj7": (4, 12), "lj8": (8, 42)}


def problem_of(name: str) -> tuple[Problem, dict]:
    if name == "xor":
        x, y = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
        return Problem.from_model(mlp((2, 2, 2)), x, y, l2=1e-2), {"start_scale": 1.5}
    problem = potentials.by_name(name)
    return problem, {"box": potentials.box(problem), "max_step": 0.5}


def wrong_indices(landscape) -> int:
    """Stored points whose index is wrong by automatic differentiation."""
    problem, zero, wrong = landscape.problem, 1e-6, 0
    for points, index in ((landscape.coordinates, 0), (landscape.ts_coordinates, 1)):
        wrong += sum(int(np.sum(np.linalg.eigvalsh(problem.hessian(x)) < -zero)) != index for x in points)
    return wrong


def quenches(name: str, count: int = 400) -> float:
    """Verified minima per CPU second from random starts, at rms 1e-9; second call."""
    problem, options = problem_of(name)
    rng = np.random.default_rng(0)
    if "box" in options:
        starts = list(rng.uniform(*options["box"], (count, problem.size)))
    else:
        starts = list(1.5 * rng.normal(size=(count, problem.size)))
    engine = Engine(problem, layout=SERIAL, max_step=options.get("max_step", 1.0))
    engine.quench(starts)
    began = time.process_time()
    found = engine.quench(starts)
    return sum(p is not None for p in found) / (time.process_time() - began)


def ours(name: str) -> dict:
    """Quench rate, then a search until it believes to be complete; a short run compiles first."""
    problem, options = problem_of(name)
    explore(problem, layout=SERIAL, **{**options, "starts": 8, "hops": 1, "climbs": 8, "rounds": 6})
    began = time.process_time()
    found = explore(problem, layout=SERIAL, climbs=200, **options)
    seconds = time.process_time() - began
    hits = sum(found.statistics["saddle_hits"])
    return {
        "problem": name,
        "quenches per CPU s": quenches(name),
        "transition states per CPU s": hits / seconds,
        "minima": found.n_minima,
        "transition states": found.n_ts,
        "wrong index": wrong_indices(found),
        "CPU s": seconds,
    }


def thirteen(seconds: float) -> dict:
    """Minima of LJ13 found in so many seconds by two threads."""
    problem, options = problem_of("lj13")
    began, cpu, marks = time.monotonic(), time.process_time(), []

    def tell(p) -> None:
        if not marks or time.monotonic() - began > 1.5 * marks[-1][0]:
            marks.append((round(time.monotonic() - began, 1), p.minima, p.saddles))

    found = explore(
        problem, layout=Layout(8, 64, 1, 2), starts=500, hops=0, climbs=200, expand=64, rounds=100_000,
        time_limit=seconds, progress=tell, **options,
    )  # fmt: skip
    return {
        "problem": "lj13",
        "minima": found.n_minima,
        "transition states": found.n_ts,
        "connected": int(np.sum(found.components() == 0)),
        "wrong index": wrong_indices(found),
        "seconds": round(time.monotonic() - began, 1),
        "CPU s": round(time.process_time() - cpu, 1),
        "seconds, minima, transition states": marks,
    }


def thirty_eight(count: int = 1000) -> dict:
    """Gradients per quench of LJ38 from random starts to |F| <= 0.01; SciPy from the first 50 of them."""
    from scipy.optimize import minimize

    problem = potentials.lennard_jones(38)
    kernel, half = problem.kernel, 0.6 * 38 ** (1 / 3)
    starts = np.random.default_rng(0).uniform(-half, half, (count, problem.size))
    solver = quench.LBFGS(0.01 / np.sqrt(problem.size), 2000, 100)
    began = time.process_time()
    done = lanes.run(
        solver, kernel.first, [quench.Start(x, np.float64(0.3)) for x in starts], kernel.data, layout=SERIAL
    )
    seconds = time.process_time() - began
    both = jax.jit(lambda w: kernel.first(w, kernel.data))

    def f(w):
        values = both(w)
        return float(values.energy), np.asarray(values.gradient)

    options = {"gtol": 2e-3, "ftol": 0, "maxiter": 5000, "maxfun": 5000}
    calls = [minimize(f, x, jac=True, method="L-BFGS-B", options=options).nfev for x in starts[:50]]
    return {
        "problem": "lj38",
        "gradients per quench": float(np.mean([int(o.result.evaluations) for o in done])),
        "failures": sum(o.status != Status.CONVERGED for o in done),
        "quenches per CPU s": count / seconds,
        "SciPy's gradients per quench": float(np.mean(calls)),
    }


def topsearch(interpreter: str, name: str, seconds: float = 60) -> dict:
    script = Path(__file__).parent / "peers" / "topsearch_landscape.py"
    out = subprocess.run(
        [interpreter, "-W", "ignore", str(script), name, str(seconds)], capture_output=True, text=True, check=True
    )
    return json.loads(out.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["xor", "lj7", "lj8"])
def test_quench(benchmark, name):
    benchmark.extra_info["verified minima per CPU s"] = quenches(name)
    problem, options = problem_of(name)
    engine = Engine(problem, layout=SERIAL, max_step=options.get("max_step", 1.0))
    rng = np.random.default_rng(0)
    starts = [rng.normal(size=problem.size) * 1.2 for _ in range(64)]
    benchmark.pedantic(lambda: engine.quench(starts), rounds=3, warmup_rounds=1)


def test_lj38_quench(benchmark):
    facts = {}
    benchmark.pedantic(lambda: facts.update(thirty_eight(100)), rounds=1)
    benchmark.extra_info.update(facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=["xor", "lj7", "lj8", "lj38", "lj13"])
    parser.add_argument("--topsearch", help="Python interpreter with topsearch installed")
    parser.add_argument("--seconds", type=float, default=600, help="for lj13, two threads")
    arguments = parser.parse_args()
    for name in arguments.only:
        if name in KNOWN:
            rows = [("jaxland", ours(name))]
            if arguments.topsearch:
                rows.append(("topsearch", topsearch(arguments.topsearch, name)))
            for who, row in rows:
                print(
                    f"{name:4s} {who:10s} {row['quenches per CPU s']:8.0f} quenches/s  "
                    f"{row['transition states per CPU s']:7.2f} transition states/s  "
                    f"{row['minima']} of {KNOWN[name][0]} minima, {row['transition states']} of {KNOWN[name][1]} "
                    f"transition states, {row['wrong index']} wrong index, {row['CPU s']:.1f} CPU s",
                    flush=True,
                )
        else:
            print(json.dumps(thirty_eight() if name == "lj38" else thirteen(arguments.seconds)), flush=True)


if __name__ == "__main__":
    main()
