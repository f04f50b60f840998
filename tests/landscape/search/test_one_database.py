"""One seed gives one database, bit for bit: lanes, threads, forced devices, workers, executors, stops."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from shared_cases import xor

from jaxland.core.solvers.protocol import Layout
from jaxland.landscape import Store, explore
from jaxland.landscape.search.explore import Search
from jaxland.landscape.search.settings import SearchSettings
from jaxland.runs import Stop

TESTS = str(Path(__file__).parents[2])
SETTINGS = SearchSettings(seed=6, starts=24, start_scale=1.5, walkers=4, hops=2, climbs=12, searches=2, rounds=5)

RUN = """
import sys
sys.path[:0] = [{tests!r}, {tests!r} + "/landscape/search"]
import jax
jax.config.update("jax_enable_x64", True)
from shared_cases import xor
from test_one_database import SETTINGS
from jaxland.landscape import explore
from jaxland.landscape.search.workers import work
assert len(jax.local_devices()) == {devices}
if {workers}:
    work(xor(), {path!r}, SETTINGS, batch=5)
else:
    explore(xor(), SETTINGS, store={path!r} + "/landscape.db")
"""


def contents(store):
    """All that is known, but for the seconds it took."""
    rounds = [{k: v for k, v in row.items() if k != "seconds"} for row in store.rounds()]
    points = [store.minima.rows.tobytes(), store.minima.coordinates.tobytes()]
    points += [store.saddles.rows.tobytes(), store.saddles.coordinates.tobytes()]
    return rounds, points, store.tries, store.get("unmerged")


def of(path):
    with Store(path, xor()) as store:
        return contents(store)


def run(path, devices=1, workers=0):
    code = RUN.format(tests=TESTS, path=str(path), devices=devices, workers=workers)
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    with open(path / "log", "ab") as log:
        return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=log, stderr=log)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    import jax

    path = tmp_path_factory.mktemp("reference") / "landscape.db"
    with jax.enable_x64(True):
        explore(xor(), SETTINGS, store=path)
        return of(path)


def test_stops_lose_nothing_that_was_computed(x64, tmp_path, reference):
    """Jobs that ended after one that was cut off are kept, and not run again."""
    path, runs = tmp_path / "landscape.db", 0
    kept = 0
    while True:
        with Store(path, xor()) as store:
            seen = []
            stop = Stop(None, lambda seen=seen: len(seen) > 3)
            search = Search(store, SETTINGS, stop=stop, progress=lambda p, seen=seen: seen.append(p))
            search.run()
            kept += store.get("unmerged") is not None
            runs += 1
            assert runs < 60
            if not search.interrupted:
                break
    assert runs > 2
    assert of(path) == reference


def test_one_lane_in_one_thread(x64, tmp_path, reference):
    explore(xor(), SETTINGS, store=tmp_path / "one.db", layout=Layout(1, 4096, 1, 1))
    assert of(tmp_path / "one.db") == reference


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2, 16])
@pytest.mark.parametrize("lanes", [1, 2, 8, 64])
def test_lanes_and_threads(x64, tmp_path, reference, lanes, threads):
    explore(xor(), SETTINGS, store=tmp_path / "any.db", layout=Layout(lanes, 64 if lanes == 8 else 4096, 1, threads))
    assert of(tmp_path / "any.db") == reference


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 4])
def test_forced_devices(x64, tmp_path, reference, devices):
    process = run(tmp_path, devices)
    assert process.wait(timeout=600) == 0, (tmp_path / "log").read_text()[-3000:]
    assert of(tmp_path / "landscape.db") == reference


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 4])
def test_workers(x64, tmp_path, reference, workers):
    processes = [run(tmp_path, 1, workers) for _ in range(workers)]
    assert [p.wait(timeout=900) for p in processes] == [0] * workers, (tmp_path / "log").read_text()[-3000:]
    assert of(tmp_path / "landscape.db") == reference


def test_kept_finds_are_those_of_the_round(x64, tmp_path):
    from jaxland.landscape.search.jobs import Batch, Runner
    from jaxland.landscape.search.rounds import keep, ready, unmerged

    problem = xor()
    runner = Runner(problem, SETTINGS)
    with Store(tmp_path / "a.db", problem) as store:
        r = store.start_round("random", list(range(6)))
        found = {part.first + 2: next(part.each())[1] for part in runner.stream(Batch("random", [2, 3, 5]), [])}
        ended = {2: found[2], 3: found[3], 5: found[4]}
        before = store.seal
        keep(store, r, ended)
    with Store(tmp_path / "a.db", problem) as store:
        back = unmerged(store, r)
        assert store.seal == before and unmerged(store, r) == {}
    assert list(back) == [2, 3, 5] and [f.work for f in back.values()] == [f.work for f in ended.values()]
    for k in back:
        np.testing.assert_array_equal([p.x for p in back[k].lists[0]], [p.x for p in ended[k].lists[0]])
    batch, finds = ready(r, 2, back)
    assert batch.jobs == [2, 3] and len(finds.lists) == 2 and list(back) == [5]
