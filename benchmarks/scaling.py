"""Scaling law: time against parameters, data, lanes and devices, with fitted exponents and a picture.

    python benchmarks/scaling.py                                # print the tables, draw runs/scaling.png
    python benchmarks/scaling.py --page docs/performance.md     # and write them between the page's markers

CPU seconds of one thread, except over devices: there forced host devices share the cores that exist, and wall seconds
are given beside CPU seconds. An exponent is the slope of the least-squares line through log time over log size.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import floors  # sets one thread before JAX is there
import numpy as np

DEVICES = (1, 2, 4, 8)


def problem_of(hidden: int, points: int):
    from jaxland import Problem, mlp
    from jaxland.data import load

    data = load("checkerboard", n=points).split(0.0, scale="standardise").train
    return Problem.from_model(mlp((2, hidden, 2)), data.x, data.y, l2=1e-5)


def starts(problem, count: int) -> list:
    from jaxland.core.solvers.quench import Start

    return [Start(x, np.float64(1.0)) for x in np.random.default_rng(0).normal(size=(count, problem.size))]


def gradient_seconds(problem, lanes: int = 16) -> float:
    """CPU seconds of one energy and gradient, lanes one after another as on a CPU."""
    import jax
    import jax.numpy as jnp

    first = problem.kernel.first
    ws = jnp.asarray(np.stack([s.x for s in starts(problem, lanes)]))
    program = jax.jit(lambda ws, data: jax.lax.map(lambda w: first(w, data), ws))
    return floors.cpu_seconds(lambda: program(ws, problem.kernel.data), repeats=3) / lanes


def hessian_seconds(problem, lanes: int = 4) -> float:
    """CPU seconds of one exact Hessian with its energy and gradient."""
    import jax
    import jax.numpy as jnp

    second = problem.kernel.second
    ws = jnp.asarray(np.stack([s.x for s in starts(problem, lanes)]))
    program = jax.jit(lambda ws, data: jax.lax.map(lambda w: second(w, data), ws))
    return floors.cpu_seconds(lambda: program(ws, problem.kernel.data), repeats=3) / lanes


def quench_seconds(problem, count: int, lanes: int = 8, mesh=None, repeats: int = 2) -> tuple[float, float, float]:
    """(CPU seconds, wall seconds, evaluations) of a quench to rms 1e-6."""
    from jaxland.core.solvers import lanes as driver
    from jaxland.core.solvers.quench import BFGS

    items, layout, best = starts(problem, count), driver.Layout(lanes, 64, 1, 1), (np.inf, np.inf)
    solver = BFGS(1e-6)
    # More jobs than lanes, so that the program which refills them is compiled too.
    warm = items[: 2 * lanes]
    driver.run(solver, problem.kernel.first, warm, problem.kernel.data, layout=layout, mesh=mesh)
    for _ in range(repeats):
        began, wall = time.process_time(), time.perf_counter()
        found = driver.run(solver, problem.kernel.first, items, problem.kernel.data, layout=layout, mesh=mesh)
        best = min(best, (time.process_time() - began, time.perf_counter() - wall))
    return best[0] / count, best[1] / count, float(np.mean([o.result.evaluations for o in found]))


def verified_seconds(problem, count: int) -> float:
    """CPU seconds of a minimum at rms 1e-9 with its index verified."""
    from jaxland.core.solvers.protocol import Layout
    from jaxland.landscape.search.stationary import Engine

    engine, xs = Engine(problem, layout=Layout(8, 64, 1, 1)), [s.x for s in starts(problem, count)]
    engine.quench(xs[:16])
    began = time.process_time()
    found = sum(point is not None for point in engine.quench(xs))
    return (time.process_time() - began) / max(found, 1)


def exponent(sizes, seconds) -> float:
    """Slope of log time over log size."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def on_devices() -> dict:
    """In this process: 64 quenches sharded over all its devices."""
    import jax
    from jax.sharding import Mesh

    problem = problem_of(5, 1000)
    mesh = Mesh(np.array(jax.devices()), ("lanes",))
    cpu, wall, _ = quench_seconds(problem, 64, lanes=16, mesh=mesh, repeats=3)
    return {"devices": len(jax.devices()), "cpu": cpu, "wall": wall}


def over_devices() -> list[dict]:
    """The same on 1, 2, 4, 8 forced host devices, each in a process of its own."""
    found = []
    for count in DEVICES:
        flags = f"--xla_force_host_platform_device_count={count} {os.environ['XLA_FLAGS']}"
        environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        words = [sys.executable, __file__, "--devices"]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout.strip().splitlines()[-1]))
    return found


def measure() -> dict:
    hidden, points, lanes = (
        (2, 5, 10, 20, 40, 80),
        (100, 300, 1000, 3000, 10_000, 30_000, 100_000),
        (1, 2, 4, 8, 16, 64),
    )
    sized = [problem_of(h, 1000) for h in hidden]
    table = {
        "parameters": [p.size for p in sized],
        "gradient over parameters": [gradient_seconds(p) for p in sized],
        "hessian over parameters": [hessian_seconds(p) for p in sized],
        "points": list(points),
        "gradient over points": [gradient_seconds(problem_of(5, n), 8) for n in points],
        "lanes": list(lanes),
    }
    quenches = [quench_seconds(p, 24, repeats=1) for p in sized[:5]]
    table["quench over parameters"] = [cpu for cpu, _, _ in quenches]
    table["evaluations over parameters"] = [evaluations for _, _, evaluations in quenches]
    five = sized[1]
    table["quench over lanes"] = [quench_seconds(five, 64, lanes=k)[0] for k in lanes]
    table["verified"] = {h: verified_seconds(p, 64) for h, p in zip(hidden[1:3], sized[1:3])}
    table["devices"] = over_devices()
    return table


def rows_of(header: list[str], rows: list[list[str]]) -> str:
    from table import rows_of

    return rows_of(header, rows)


def page(found: dict) -> str:
    """Tables of the measured points, and the exponents."""
    from table import short

    size, n = found["parameters"], found["points"]
    fits = {
        "gradient, over parameters (1,000 points)": exponent(size[2:], found["gradient over parameters"][2:]),
        "exact Hessian, over parameters": exponent(size[2:], found["hessian over parameters"][2:]),
        "quench, over parameters": exponent(size[:5], found["quench over parameters"]),
        "evaluations of a quench, over parameters": exponent(size[:5], found["evaluations over parameters"]),
        "gradient, over points (5 hidden units)": exponent(n[2:], found["gradient over points"][2:]),
    }
    over_size = [
        [
            f"{s:,}", "", short(found["gradient over parameters"][k]), short(found["hessian over parameters"][k]),
            short(found["quench over parameters"][k]) if k < 5 else "",
            f"{found['evaluations over parameters'][k]:.0f}" if k < 5 else "",
        ]
        for k, s in enumerate(size)
    ]  # fmt: skip
    over_points = [
        [f"{k:,}", "", short(t), f"{t / k * 1e9:.1f} ns"] for k, t in zip(n, found["gradient over points"])
    ]
    over_lanes = [[str(k), "", short(t)] for k, t in zip(found["lanes"], found["quench over lanes"])]
    devices = [[str(d["devices"]), "", short(d["cpu"]), short(d["wall"])] for d in found["devices"]]
    hours = [
        [f"{h} hidden units, {s:,} parameters", "", short(t), f"{t * 1e6 / 3600:.1f}"]
        for (h, t), s in zip(found["verified"].items(), size[1:3])
    ]
    parts = [
        rows_of(["exponent of the time", "", "slope"], [[name, "", f"{slope:.2f}"] for name, slope in fits.items()]),
        rows_of(["parameters", "", "gradient", "exact Hessian", "quench to 1e-6", "evaluations"], over_size),
        rows_of(["points", "", "gradient, 5 hidden units", "a point"], over_points),
        rows_of(["lanes", "", "CPU of a quench, 5 hidden units"], over_lanes),
        rows_of(["forced host devices", "", "CPU of a quench", "wall of a quench"], devices),
        rows_of(["on paper: a million quenches", "", "a verified minimum (rms 1e-9)", "CPU hours here"], hours),
    ]
    return "\n\n".join(parts)


def draw(found: dict, path: Path) -> None:
    """Log-log picture of every law."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), constrained_layout=True)
    size, n = found["parameters"], found["points"]
    for name, mark in (("gradient", "o"), ("hessian", "s"), ("quench", "^")):
        times = found[f"{name} over parameters"]
        k = len(times)
        fit = slice(0, k) if name == "quench" else slice(2, k)
        label = {"hessian": "exact Hessian"}.get(name, name)
        slope = exponent(size[fit], times[fit])
        axes[0].loglog(size[:k], times, mark + "-", label=f"{label}: slope {slope:.2f}", lw=1)
    axes[0].set(xlabel="parameters N", ylabel="CPU seconds", title="network size (1,000 points)")
    times = found["gradient over points"]
    slope = exponent(n[2:], times[2:])
    axes[1].loglog(n, times, "o-", lw=1, label=f"gradient, 5 hidden units: slope {slope:.2f}")
    axes[1].set(xlabel="points n", ylabel="CPU seconds", title="data")
    axes[2].loglog(found["lanes"], found["quench over lanes"], "o-", lw=1, label="CPU of a quench, over lanes")
    counts = [d["devices"] for d in found["devices"]]
    axes[2].loglog(counts, [d["cpu"] for d in found["devices"]], "s-", lw=1, label="CPU, over forced devices")
    axes[2].loglog(counts, [d["wall"] for d in found["devices"]], "^--", lw=1, label="wall, over forced devices")
    axes[2].set(xlabel="lanes, devices", ylabel="seconds a quench", title="lanes and devices (5 hidden units)")
    axes[2].set_xticks([1, 2, 4, 8, 16, 64], ["1", "2", "4", "8", "16", "64"])
    axes[0].set_xticks(size, [str(k) for k in size])
    low, high = axes[2].get_ylim()
    axes[2].set_ylim(low / 3, high * 5)
    for axis in axes:
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.legend(frameon=False, fontsize=8)
        axis.grid(alpha=0.25, which="both", lw=0.4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--page", type=Path, help="page to write the tables into")
    parser.add_argument("--picture", type=Path, default=Path("runs/scaling.png"))
    args = parser.parse_args()
    import jax

    jax.config.update("jax_enable_x64", True)
    if args.devices:
        print(json.dumps(on_devices()))
        return
    found = measure()
    draw(found, args.picture)
    text = page(found)
    print(text)
    if args.page:
        from table import fill

        args.page.write_text(fill(args.page.read_text(), "scaling", text))


if __name__ == "__main__":
    main()
