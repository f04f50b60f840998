"""A whole search, as a user starts it: how busy the compiled solvers are, what threads and environment do to it.

    python benchmarks/bench_explore.py                      # ten minutes of two cores
    python benchmarks/bench_explore.py --long               # and what takes minutes each: an hour
    python benchmarks/bench_explore.py --only threads --json found.json
    python benchmarks/bench_explore.py --small              # that every row runs, not how fast

Every row is a process of its own, its environment the user's unless the row says otherwise. "compiled" is the wall
time that lanes' threads spend inside compiled programs, over wall time and threads; "Python" is the CPU time of these
threads and the main one outside of them, over wall time: what the interpreter's lock was held for at most. A first,
short search compiles and is not timed. On a shared machine only ratios within a run mean anything.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ONE_BLAS = {"OPENBLAS_NUM_THREADS": "1"}
CREDIT = "default_credit_card_uci.csv"


@dataclass
class Row:
    """A line of the table."""

    name: str
    figure: str
    goal: str = ""
    note: str = ""


# -- in the child: one search, measured -----------------------------------------------------------------------------


class Clock:
    """Wall time inside compiled programs and CPU time of the threads that call them, by what was wrapped."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    def wrap(self, name: str, f: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                return f(*args, **kwargs)
            finally:
                with self.lock:
                    self.wall[name] = self.wall.get(name, 0.0) + time.perf_counter() - wall
                    self.cpu[name] = self.cpu.get(name, 0.0) + time.thread_time() - cpu

        return timed


def recipe_of(case: dict[str, Any]) -> Any:
    from jaxland.cli.recipe import Recipe
    from jaxland.data.options import TableOptions
    from jaxland.landscape.search.settings import SearchSettings
    from jaxland.models.options import NetworkOptions

    return Recipe(
        case["source"],
        table=TableOptions(**case.get("table", {})),
        network=NetworkOptions(**case.get("network", {})),
        search=SearchSettings(**case.get("search", {})),
    )


def search(case: dict[str, Any]) -> dict[str, Any]:
    """One search; what it found and how its time was spent."""
    import jax

    jax.config.update("jax_enable_x64", True)
    from jaxland.core.solvers import batches, flow, sets
    from jaxland.core.solvers.protocol import Layout
    from jaxland.landscape import Store
    from jaxland.landscape.search.completeness import Completeness
    from jaxland.landscape.search.explore import Search
    from jaxland.runs import stoppable

    recipe, clock = recipe_of(case), Clock()
    layout = Layout.default(size=recipe.problem.size)
    if case.get("threads"):
        layout = Layout(layout.lanes, layout.passes, 1, case["threads"])
    if case.get("warm", True):
        warm = {**recipe.settings.to_json(), "starts": 8, "walkers": 2, "hops": 1, "climbs": 8, "expand": 2}
        short = type(recipe.settings)(**{**warm, "pairs": 2, "rounds": 7, "seed": 99})
        with Store(None, recipe.problem) as store, stoppable(case.get("warming", 60.0)) as stop:
            Search(store, short, box=recipe.box, layout=layout, stop=stop).run()
    sets.Lanes._advance = clock.wrap("compiled", sets.Lanes._advance)
    batches._Mapped._evaluate = clock.wrap("compiled", batches._Mapped._evaluate)
    flow._Flow.work = clock.wrap("lanes", flow._Flow.work)
    first: list[float] = []
    planning = [0.0]

    def tell(p: Any) -> None:
        if p.minima and not first:
            first.append(p.seconds)

    plan = Search.plan

    def planned(self: Any) -> Any:
        began = time.perf_counter()
        try:
            return plan(self)
        finally:
            planning[0] += time.perf_counter() - began

    Search.plan = planned
    began, cpu, main = time.perf_counter(), time.process_time(), time.thread_time()
    limit = case.get("seconds")
    spent = None
    if limit is not None and case.get("cpu"):
        limit, most = None, limit * (os.cpu_count() or 1)
        spent = lambda: time.process_time() - cpu >= most  # noqa: E731
    with Store(None, recipe.problem) as store, stoppable(limit, spent) as stop:
        found = Search(store, recipe.settings, box=recipe.box, layout=layout, progress=tell, stop=stop).run()
        # In the order of storage, unlike the landscape's.
        label, energies, hits = store.components(), store.minima.energies, store.minima.hits
        connected = int((label == label[energies.argmin()]).sum()) if len(energies) else 0
    wall = time.perf_counter() - began
    main = time.thread_time() - main
    # The threads of lanes outside of compiled programs, and the main thread: who holds the interpreter's lock.
    python = main + clock.cpu.get("lanes", 0.0) - clock.cpu.get("compiled", 0.0)
    return {
        "minima": found.n_minima,
        "transition_states": found.n_ts,
        "connected": connected,
        "known": Completeness.of(hits).describe("minima"),
        "seconds": wall,
        "cpu": time.process_time() - cpu,
        "main": main,
        "planning": planning[0],
        "first": first[0] if first else None,
        "threads": layout.threads,
        "compiled": clock.wall.get("compiled", 0.0) / (wall * layout.threads),
        "python": python / wall,
        "sum": float(found.energies.sum()).hex(),
    }


def million(case: dict[str, Any]) -> dict[str, Any]:
    """Synthetic points into a store, planned over, exported."""
    import jax
    import numpy as np

    jax.config.update("jax_enable_x64", True)
    from jaxland.landscape import Store
    from jaxland.landscape.interchange.export import csv
    from jaxland.landscape.search.pairs import Distances, Pairs
    from jaxland.landscape.search.points import Point

    problem, count, block = recipe_of(case).problem, case["points"], 20_000
    rng, size = np.random.default_rng(0), problem.size
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "landscape.db", problem) as store:
        began = time.perf_counter()
        for done in range(0, count, block):
            xs, energies = rng.normal(size=(min(block, count - done), size)), rng.uniform(size=block)
            points = [
                Point(x=x, energy=float(e), rms=0.0, negative=0, flat=0, lowest=1.0, log_product=0.0, mode=x)
                for x, e in zip(xs, energies)
            ]
            with store.transaction():
                store.add_minima(points, 0)
        stored = time.perf_counter() - began
        began = time.perf_counter()
        pairs = Pairs(store, Distances(store.minima))
        pairs.nearest(32), pairs.join(32), pairs.lowest(32)
        planned = time.perf_counter() - began
        began = time.perf_counter()
        csv(store.landscape(), Path(folder) / "tables")
        exported = time.perf_counter() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"rate": count / stored, "planned": planned, "exported": exported, "memory": memory}


def child(case: dict[str, Any]) -> None:
    began = {"search": search, "million": million}[case.get("what", "search")]
    print(json.dumps(began(case)))


# -- in the parent: the rows ----------------------------------------------------------------------------------------


class Bench:
    """What the rows share: how large they are, and how a child is started."""

    def __init__(self, small: bool, data: Path | None, cpu: bool) -> None:
        self.small, self.data, self.cpu = small, data, cpu

    def run(self, case: dict[str, Any], extra: dict[str, str] | None = None) -> dict[str, Any]:
        """A case in a process of its own."""
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", **(extra or {})}
        words = [sys.executable, __file__, "--child", json.dumps(case)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        return json.loads(done.stdout.strip().splitlines()[-1])

    def case(self, source: str, seconds: float | None = None, **more: Any) -> dict[str, Any]:
        """One search; a small one with ``--small``."""
        if self.small:
            source, seconds = "xor", None
            tiny = {"starts": 8, "walkers": 0, "climbs": 4, "searches": 1, "expand": 2, "pairs": 2, "rounds": 2}
            more = {**more, "search": tiny, "network": {"hidden": "2"}, "table": {}, "warm": False}
        return {"source": source, "seconds": seconds, "cpu": self.cpu, **more}


def counts(found: dict[str, Any]) -> str:
    return f"{found['minima']} minima, {found['transition_states']} transition states"


def shares(bench: Bench) -> Iterator[Row]:
    for name, case in (
        ("checkerboard, 200 minima", bench.case("checkerboard", search={"minima": 200})),
        ("breast_cancer --hidden 3, 60 s", bench.case("breast_cancer", 60, network={"hidden": "3"})),
        ("lj13, 60 s", bench.case("lj13", 60)),
    ):
        got = bench.run(case)
        note = (
            f"{counts(got)} in {got['seconds']:.1f} s, CPU {got['cpu']:.1f} s, planning {got['planning']:.2f} s, "
            f"Python {got['python']:.0%}, first minimum stored after {got['first']:.1f} s"
        )
        yield Row(f"share compiled, {name}", f"{got['compiled']:.0%}", "85 %", note)
        if "checkerboard" in name:
            yield Row("checkerboard, 200 minima, wall", f"{got['seconds']:.1f} s", "13.7 s in 0.2.0")


def environments(bench: Bench) -> Iterator[Row]:
    case = bench.case("breast_cancer", 60, network={"hidden": "3"})
    user, one = bench.run(case), bench.run(case, ONE_BLAS)
    best = sum(user[k] for k in ("minima", "transition_states"))
    other = sum(one[k] for k in ("minima", "transition_states"))
    yield Row("breast_cancer --hidden 3, 60 s, default environment", counts(user), "454, 580: twice 0.2.0's best")
    yield Row("the same, OPENBLAS_NUM_THREADS=1", counts(one))
    yield Row("points found, default / one BLAS thread", f"{best / max(other, 1):.2f}", "1")


def threads(bench: Bench) -> Iterator[Row]:
    alone = None
    for count in (1, 2, 16):
        case = bench.case("checkerboard", search={"rounds": 4, "minima": None}, threads=count)
        got = bench.run(case)
        alone = alone or got
        if got["sum"] != alone["sum"]:
            raise AssertionError(f"{count} threads found other minima than one")
        yield Row(
            f"checkerboard, 4 rounds, {count} threads",
            f"{got['seconds']:.1f} s",
            note=f"{alone['seconds'] / got['seconds']:.2f} times one thread; Python {got['python']:.0%} of the wall, "
            f"{got['python'] * got['seconds']:.2f} s in all; {os.cpu_count()} cores",
        )


def store(bench: Bench) -> Iterator[Row]:
    count = 2000 if bench.small else 1_000_000
    case = {**bench.case("checkerboard", network={"hidden": "5"}), "what": "million", "points": count}
    got = bench.run(case)
    yield Row(f"{count:,} synthetic points stored", f"{got['rate']:,.0f} points/s", "20,000 points/s")
    yield Row(
        "planned over", f"{got['planned']:.1f} s", note=f"three strategies; exported in {got['exported']:.1f} s"
    )
    yield Row("most memory", f"{got['memory']:.1f} GiB")


def campaigns(bench: Bench) -> Iterator[Row]:
    large = {"minima": 10_000, "rounds": 100_000}
    # Weaker decay, more minima: those of the default are few enough that most finds are known ones.
    for words, network in (("checkerboard", {}), ("checkerboard --l2 1e-6", {"l2": 1e-6})):
        got = bench.run(bench.case("checkerboard", 900, search=large, network=network))
        note = f"{got['connected']} connected; {got['known']}"
        yield Row(f"{words}, 15 minutes", counts(got), "10,000, 20,000", note)
    got = bench.run(bench.case("lj13", 480, search={"minima": None, "rounds": 100_000}))
    yield Row("lj13, 8 minutes", counts(got), "1,500 of 1,510 minima", f"{got['seconds']:.0f} s")
    if bench.data is None and not bench.small:
        yield Row("credit card, 5 minutes", "left out", note=f"--data DIRECTORY with {CREDIT}")
        return
    source = "" if bench.data is None else str(bench.data / CREDIT)
    case = bench.case(source, 300, table={"target": "default"}, network={"hidden": "8"}, warm=False)
    got = bench.run({**case, "search": {**case.get("search", {}), "minima": None}} if bench.small else case)
    first = "never" if got["first"] is None else f"{got['first']:.1f} s"
    yield Row("credit card, all rows, 8 hidden, 5 minutes", f"{got['connected']} connected", "200", counts(got))
    yield Row("of which the first minimum", first, "15 s", "compilation included")


def peers(bench: Bench) -> Iterator[Row]:
    """The tables of bench_landscape.py, its peers with the threads that a user's environment gives them."""
    cores = str(os.cpu_count())
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, cores), "XLA_FLAGS": " ", "JAX_PLATFORMS": "cpu"}
    words = [sys.executable, "-c", "print(1)"] if bench.small else [sys.executable, HERE / "bench_landscape.py"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    for line in done.stdout.strip().splitlines():
        yield Row("bench_landscape.py", line)


ROWS = {"shares": shares, "environments": environments, "threads": threads, "store": store, "peers": peers}
LONG = {"campaigns": campaigns}


def table(rows: list[Row]) -> str:
    lines = ["| | measured | goal | |", "|---|---:|---:|---|"]
    return "\n".join([*lines, *(f"| {r.name} | {r.figure} | {r.goal} | {r.note} |" for r in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="rows, separated by commas: " + ", ".join([*ROWS, *LONG]))
    parser.add_argument("--long", action="store_true", help="campaigns of minutes too")
    parser.add_argument("--small", action="store_true", help="every row on a tiny problem")
    parser.add_argument("--cpu", action="store_true", help="time limits in CPU seconds of all cores")
    parser.add_argument("--data", type=Path, help=f"directory with {CREDIT}")
    parser.add_argument("--json", type=Path, help="file to write, complete after every row")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(json.loads(args.child))
        return
    everything = {**ROWS, **LONG}
    wanted = args.only.split(",") if args.only else list(everything if args.long or args.small else ROWS)
    bench, rows = Bench(args.small, args.data, args.cpu), []
    for name in wanted:
        try:
            for row in everything[name](bench):
                rows.append(row)
                print(f"{row.name}: {row.figure} {row.note}", flush=True)
        except RuntimeError as error:
            rows.append(Row(name, "failed", note=str(error)))
            print(f"{name} failed: {error}", flush=True)
        if args.json:
            args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    print(table(rows))


if __name__ == "__main__":
    main()
