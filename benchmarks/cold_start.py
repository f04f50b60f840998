"""What a user waits for: import, first minima, and compilation, per command, with an empty and with a warm cache.

    python benchmarks/cold_start.py                                # the table of all commands, wall and CPU seconds
    python benchmarks/cold_start.py --page docs/performance.md     # and into the page
    python benchmarks/cold_start.py --programs                     # what explore compiles, and for how long

Every command runs in a process of its own with its own compilation cache: first empty, then as the first run left it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RETRIEVAL = "/jax/compilation_cache/cache_retrieval_time_sec"
COMPILE = "/jax/core/compile/backend_compile_duration"
TRACE = ("/jax/core/compile/jaxpr_trace_duration", "/jax/core/compile/jaxpr_to_mlir_module_duration")


def child(facts: Path, command: list[str]) -> None:
    """Run one command in this process, counting what JAX compiles."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    programs: list[tuple[str, float]] = []
    spent = {"trace": 0.0, "retrieval": 0.0, "hits": 0.0}
    import jax

    def duration(name: str, seconds: float, **details: object) -> None:
        if name == COMPILE:
            programs.append((str(details.get("fun_name", "?")), seconds))
        elif name in TRACE:
            spent["trace"] += seconds
        elif name == RETRIEVAL:
            spent["retrieval"] += seconds
            spent["hits"] += 1

    jax.monitoring.register_event_duration_secs_listener(duration)
    from jaxland import cli

    sys.argv = ["jaxland", *command]
    try:
        cli.main()
    finally:
        facts.write_text(json.dumps({"programs": programs, **spent}))


def first_minima(store: Path, began: float, process: subprocess.Popen) -> float | None:
    """Seconds from ``began`` until the store holds a minimum; None if it never does."""
    while process.poll() is None:
        if store.exists():
            try:
                with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
                    if connection.execute("select count(*) from minima").fetchone()[0]:
                        return time.monotonic() - began
            except sqlite3.Error:
                pass
        time.sleep(0.02)
    return None


def run(command: list[str], cache: Path, store: Path | None = None) -> dict:
    """Wall, CPU, time to the first minimum, and compilations of one command."""
    facts = cache.parent / "facts.json"
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "JAX_PLATFORMS": "cpu"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, __file__, "--child", str(facts), *command],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    first = first_minima(store, began, process) if store is not None else None
    _, errors = process.communicate()
    wall = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise RuntimeError(f"{command} failed: {errors[-500:]}")
    found = json.loads(facts.read_text())
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu, "first": first, **found}


def import_seconds(module: str) -> tuple[float, float]:
    """Least wall and CPU seconds of a fresh interpreter that imports a module and ends."""
    best = (np.inf, np.inf)
    for _ in range(3):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
        wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, (wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    return best


def commands(folder: Path) -> dict[str, list[str]]:
    """Every command, small enough that waiting is mostly starting."""
    from jaxland import mlp
    from jaxland.models import save

    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2))
    product = x[:, :1] * x[:, 1:]
    for name, table, head in (
        ("latents", np.hstack([x, product + 0.1 * rng.normal(size=(400, 1))]), "a,b,c"),
        ("inputs", x, "x0,x1"),
        ("train", np.hstack([x, product > 0]), "x0,x1,y"),
    ):
        np.savetxt(folder / f"{name}.csv", table, delimiter=",", header=head, comments="", fmt="%.6g")
    facts = {"features": ["x0", "x1"], "classes": ["0", "1"], "target": "y", "loss": "cross_entropy", "l2": 1e-4}
    model = str(save(folder / "model.npz", mlp((2, 5, 2)), **facts))
    words = {
        "doctor": "",
        "explore": "checkerboard --minima 20 --starts 40 --climbs 20 --rounds 3 --quiet",
        "hessian": f"{model} {folder}/train.csv --quiet",
        "trim": f"{model} {folder}/inputs.csv --transform identity --quiet",
        "mi": f"{folder}/latents.csv --bootstraps 5 --null 0",
    }
    out = {name: [] if name == "doctor" else ["--out", str(folder / name)] for name in words}
    return {name: [name, *text.split(), *out[name]] for name, text in words.items()}


def programs(got: dict, state: str) -> str:
    """What one run compiled, slowest first."""
    listed = sorted(got["programs"], key=lambda pair: -pair[1])
    head = f"{state} cache: {len(listed)} programs, {sum(seconds for _, seconds in listed):.2f} s"
    return "\n".join([head, *(f"    {name:40s} {seconds:7.3f}" for name, seconds in listed)])


def page(imports: list[list[str]], rows: list[list[str]]) -> str:
    """Both tables."""
    from table import rows_of

    heads = (
        ["import", "", "wall", "CPU"],
        ["command", "cache", "wall", "CPU", "first minimum", "programs", "from cache", "compiling", "tracing"],
    )
    return "\n\n".join(rows_of(head, body) for head, body in zip(heads, (imports, rows)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", action="store_true", help="list what explore compiles")
    parser.add_argument("--page", type=Path, help="page to write the tables into")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for command, words in commands(folder).items():
            if args.programs and command != "explore":
                continue
            for state in ("empty", "warm"):
                for old in folder.glob("explore/*") if command == "explore" else ():
                    old.unlink()
                store = folder / "explore" / "landscape.db" if command == "explore" else None
                got = run(words, folder / "cache" / command, store)
                if args.programs:
                    print(programs(got, state))
                    continue
                times = [got["wall"], got["cpu"], got["first"]]
                compiling = [sum(seconds for _, seconds in got["programs"]), got["trace"]]
                rows.append(
                    [command, state, *("" if t is None else f"{t:.1f} s" for t in times), str(len(got["programs"]))]
                    + [f"{got['hits']:.0f}", *(f"{t:.2f} s" for t in compiling)]
                )
    if args.programs:
        return
    imports = []
    for module in ("jaxland", "jaxland.problem", "jaxland.cli"):
        imports.append([module, "", *(f"{t:.2f} s" for t in import_seconds(module))])
    text = page(imports, rows)
    print(text)
    if args.page:
        from table import fill

        args.page.write_text(fill(args.page.read_text(), "cold start", text))


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "--child":
        child(Path(sys.argv[2]), sys.argv[3:])
    else:
        main()
