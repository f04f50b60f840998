"""Any number of workers, machines, devices or executors end in one database."""

import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import jax
import numpy as np
import pytest
from shared_cases import same, xor

from jaxland.errors import ArgumentError, StoreError
from jaxland.landscape import Store, explore
from jaxland.landscape.search.jobs import Batch, Finds, Runner
from jaxland.landscape.search.merge import absorb
from jaxland.landscape.search.settings import SearchSettings, WorkOptions
from jaxland.landscape.search.shards import pack_batch, pack_finds, unpack_batch, unpack_finds
from jaxland.landscape.search.workers import Spool, work
from jaxland.runs import Stop

TESTS = str(Path(__file__).parents[2])

SETTINGS = SearchSettings(seed=3, starts=40, start_scale=1.5, walkers=6, hops=2, climbs=40, searches=3, rounds=4)
OPTIONS = {name: getattr(SETTINGS, name) for name in SearchSettings.__dataclass_fields__}
CACHE = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}


@pytest.fixture(scope="module")
def alone():
    with jax.enable_x64(True):
        return explore(xor(), **OPTIONS)


WORKER = """
import sys
sys.path[:0] = [{tests!r}, {tests!r} + "/landscape/search"]
import jax
jax.config.update("jax_enable_x64", True)
from shared_cases import xor
from test_scale_out import SETTINGS
from jaxland.core.solvers.protocol import Layout
from jaxland.landscape.search.workers import work
work(xor(), {path!r}, SETTINGS, batch=7, lease=3.0, layout=Layout(4, 64, 1, 1))
"""


def start(path, cache):
    code = WORKER.format(tests=TESTS, path=str(path))
    environment = {**os.environ, **CACHE, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    # To a file: nobody reads a pipe while they run, and XLA's warnings about a shared cache fill one.
    with open(cache / "workers.log", "ab") as log:
        return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=log, stderr=log)


def test_four_workers_one_of_them_killed_equal_one(x64, tmp_path, alone):
    run = tmp_path / "run"
    workers = [start(run, tmp_path) for _ in range(4)]
    until = time.monotonic() + 120
    while not list(run.glob("spool/round-*/*.claim")) and time.monotonic() < until:
        time.sleep(0.05)
    owner = next(iter(run.glob("spool/round-*/*.claim"))).read_text()
    victim = next(w for w in workers if owner.split(":")[1] == str(w.pid))
    victim.kill()
    for worker in workers:
        worker.wait(timeout=300)
    log = (tmp_path / "workers.log").read_text()
    assert [w.returncode for w in workers if w is not victim] == [0, 0, 0], log[-3000:]
    with Store(run / "landscape.db", xor()) as store:
        same(alone, store.landscape())
    assert Spool(run).finished and not list(run.glob("spool/round-*"))


def test_one_worker_equals_explore(x64, tmp_path, alone):
    done = work(xor(), tmp_path, SETTINGS, batch=11)
    assert done > 4
    with Store(tmp_path / "landscape.db", xor()) as store:
        same(alone, store.landscape())
    assert work(xor(), tmp_path, SETTINGS, batch=11) == 0


def test_a_worker_without_the_lead_does_batches_only(x64, tmp_path):
    spool, problem = Spool(tmp_path), xor()
    runner = Runner(problem, SETTINGS)
    assert not spool.work_once(runner)
    with Store(tmp_path / "landscape.db", problem) as store:
        r = store.start_round("random", list(range(10)))
        batches = [Batch("random", r.jobs[:5]), Batch("random", r.jobs[5:])]
        spool.publish(r, batches, store.minima.coordinates)
        assert (
            work(
                problem,
                tmp_path,
                SETTINGS,
                lead=False,
                stop=Stop(20, lambda: spool.status()["done"] == 2),
            )
            == 2
        )
        assert spool.status() == {"open": 0, "claimed": 0, "done": 2}
        finds = list(spool.gather(r, batches, store.minima.coordinates, runner))
    assert [len(f.lists) for f in finds] == [5, 5] and runner.batches == 0


def test_damaged_finds_are_done_again(x64, tmp_path):
    spool, problem = Spool(tmp_path), xor()
    runner = Runner(problem, SETTINGS)
    with Store(None, problem) as store:
        r = store.start_round("random", list(range(6)))
        batches = [Batch("random", r.jobs)]
        folder = spool.publish(r, batches, [])
        spool.work_once(runner)
        (path,) = folder.glob("*.finds")
        good = path.read_bytes()
        path.write_bytes(good[:-20] + b"x" * 20)
        (finds,) = spool.gather(r, batches, [], runner)
    assert pack_finds(batches[0], finds) == good and runner.batches == 2


def module_xor():
    return xor()


@pytest.mark.parametrize("pool", [pytest.param("threads", marks=pytest.mark.slow), "processes"])
def test_executors_give_the_same_database(x64, alone, pool):
    if pool == "threads":
        executor = ThreadPoolExecutor(2)
    else:
        executor = ProcessPoolExecutor(2, mp_context=get_context("spawn"))
    with executor:
        found = explore(
            xor(),
            executor=executor,
            factory=module_xor,
            **OPTIONS,
        )
    same(alone, found)


def test_executor_without_factory(x64):
    with pytest.raises(ArgumentError, match="go together"), ThreadPoolExecutor(1) as pool:
        explore(xor(), executor=pool)


DEVICES = """
import sys
sys.path[:0] = [{tests!r}, {tests!r} + "/landscape/search"]
import jax
jax.config.update("jax_enable_x64", True)
from shared_cases import xor
from test_scale_out import OPTIONS
from jaxland.landscape import explore
assert len(jax.local_devices()) == 8
mesh = jax.sharding.Mesh(jax.local_devices(), ("lanes",))
explore(xor(), store={out!r}, mesh=mesh, **OPTIONS)
"""


@pytest.mark.slow
def test_eight_devices_give_the_database_of_one(x64, tmp_path):
    explore(xor(), store=tmp_path / "one.db", **OPTIONS)
    code = DEVICES.format(tests=TESTS, out=str(tmp_path / "eight.db"))
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **flags}, check=True, timeout=500)
    with Store(tmp_path / "one.db", xor()) as one, Store(tmp_path / "eight.db", xor()) as eight:
        # In the order of storage: two minima of one energy may sort either way by rounding.
        assert one.ends.tolist() == eight.ends.tolist() and one.tries == eight.tries
        for a, b in ((one.minima, eight.minima), (one.saddles, eight.saddles)):
            assert a.hits.tolist() == b.hits.tolist()
            np.testing.assert_allclose(b.energies, a.energies, rtol=1e-12)
            np.testing.assert_allclose(b.coordinates, a.coordinates, atol=1e-7)


def test_shards_keep_every_bit_and_refuse_damage(x64):
    problem = xor()
    runner = Runner(problem, SETTINGS)
    quenches = Batch("random", [0, 1, 2])
    finds = runner.run(quenches, [])
    minima = [several[0].x for several in finds.lists if several]
    climbs = Batch("expand", [[0, 0], [0, 1], [1, 0]])
    for batch, found in ((quenches, finds), (climbs, runner.run(climbs, minima))):
        data = pack_finds(batch, found)
        back = unpack_finds(data, batch)
        assert pack_finds(batch, back) == data and isinstance(back, Finds) and back.work == found.work
        with pytest.raises(StoreError, match="other jobs"):
            unpack_finds(data, Batch(batch.kind, batch.jobs[1:]))
        rng = np.random.default_rng(0)
        for _ in range(200):
            bad = bytearray(data)
            bad[rng.integers(len(bad))] ^= 1 << rng.integers(8)
            with pytest.raises(StoreError, match=r"damaged|not a jaxland shard"):
                unpack_finds(bytes(bad), batch)
        for cut in (0, 10, 60, len(data) // 2, len(data) - 1):
            with pytest.raises(StoreError, match=r"damaged|not a jaxland shard"):
                unpack_finds(data[:cut], batch)
    batch, coordinates = unpack_batch(pack_batch(climbs, minima))
    assert batch == climbs and all(np.array_equal(coordinates[i], minima[i]) for i in (0, 1))


def test_independent_runs_merge_in_any_order_any_number_of_times(x64, tmp_path):
    paths = [tmp_path / f"{seed}.db" for seed in range(3)]
    for seed, path in enumerate(paths):
        explore(xor(), store=path, **{**OPTIONS, "seed": seed, "starts": 4, "climbs": 12, "rounds": 1, "hops": 0})
    merged = []
    for k, order in enumerate(([0, 1, 2], [2, 0, 1], [1, 2, 0, 1])):
        with Store(tmp_path / f"merged{k}.db", xor()) as store:
            absorb(store, [paths[i] for i in order])
            seal = store.seal
            assert all(news == (0, 0) for news in absorb(store, paths).values()) and store.seal == seal
            merged.append(store.landscape())
    same(merged[0], merged[1])
    same(merged[0], merged[2])
    one_by_one = tmp_path / "one_by_one.db"
    for path in reversed(paths):
        with Store(one_by_one, xor()) as store:
            absorb(store, [path])
    with Store(one_by_one, xor()) as store:
        found = store.landscape()
    np.testing.assert_allclose(found.energies, merged[0].energies, rtol=1e-9)
    np.testing.assert_allclose(found.ts_energies, merged[0].ts_energies, rtol=1e-9)
    assert sum(found.hits) == sum(merged[0].hits)
    with Store(paths[0], xor()) as one:
        assert found.n_ts > len(one.saddles)


def test_runs_of_another_problem_do_not_merge(x64, tmp_path):
    explore(xor(3), store=tmp_path / "other.db", starts=2, climbs=0, hops=0, rounds=0)
    with Store(tmp_path / "here.db", xor()) as store, pytest.raises(StoreError, match="another problem"):
        absorb(store, [tmp_path / "other.db"])


def jaxland(*arguments, cache):
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "COLUMNS": "200"}
    command = [sys.executable, "-m", "jaxland", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)


def test_plan_work_status_report_as_a_user_types_them(tmp_path):
    small = ["--starts", 30, "--climbs", 20, "--rounds", 2, "--minima", 0, "--quiet"]
    run = tmp_path / "run"
    assert "holds no run.json" in jaxland("work", run, cache=tmp_path).stderr
    planned = jaxland("plan", "mueller-brown", "--out", run, *small, cache=tmp_path)
    assert planned.returncode == 0, planned.stderr
    worked = jaxland("work", run, "--workers", 2, "--quiet", cache=tmp_path)
    assert worked.returncode == 0 and "batches done here" in worked.stdout, worked.stderr
    status = jaxland("status", run, cache=tmp_path).stdout
    assert "3 minima" in status and "2 transition states" in status and "finished" in status
    assert jaxland("plan", "mueller-brown", "--out", run, *small, cache=tmp_path).returncode == 0
    assert "finished" not in jaxland("status", run, cache=tmp_path).stdout
    report = jaxland("report", run, cache=tmp_path)
    assert report.returncode == 0 and (run / "report.html").stat().st_size > 1000, report.stderr
    for seed in (1, 2):
        jaxland("explore", "mueller-brown", "--out", tmp_path / f"s{seed}", "--seed", seed, *small, cache=tmp_path)
    merged = jaxland("merge", tmp_path / "s1", tmp_path / "s2", "--out", tmp_path / "both", cache=tmp_path)
    assert merged.returncode == 0 and "3 minima" in merged.stdout, merged.stderr
    (run / "run.json").write_text("{")
    assert "damaged" in jaxland("work", run, cache=tmp_path).stderr


SMALL = {**OPTIONS, "starts": 20, "climbs": 10, "hops": 0, "pairs": 0, "rounds": 1}


def test_what_only_submits_will_do(x64):
    class Immediate:
        def submit(self, fn, /, *args):
            pool = ThreadPoolExecutor(1)
            return pool.submit(fn, *args)

    same(explore(xor(), **SMALL), explore(xor(), executor=Immediate(), factory=module_xor, **SMALL))


@pytest.mark.slow
def test_two_dask_processes_give_the_same_database(x64):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(2, processes=True, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
        client.get_executor() as executor,
    ):
        client.run(sys.path.extend, [TESTS, f"{TESTS}/landscape/search"])
        found = explore(xor(), executor=executor, factory=module_xor, **SMALL)
    same(explore(xor(), **SMALL), found)


@pytest.mark.slow
def test_a_run_worked_on_by_submitit_and_by_dask(tmp_path):
    pytest.importorskip("submitit")
    distributed = pytest.importorskip("distributed")
    small = ["--starts", 30, "--climbs", 20, "--rounds", 2, "--minima", 0, "--quiet"]
    for name in ("alone", "jobs", "cluster"):
        assert jaxland("plan", "mueller-brown", "--out", tmp_path / name, *small, cache=tmp_path).returncode == 0
    assert jaxland("work", tmp_path / "alone", "--quiet", cache=tmp_path).returncode == 0
    done = jaxland("work", tmp_path / "jobs", "--on", "local", "--workers", 2, cache=tmp_path)
    assert done.returncode == 0 and "batches done there" in done.stdout, done.stderr
    with distributed.LocalCluster(2, processes=True, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        done = jaxland("work", tmp_path / "cluster", "--on", address, "--workers", 2, cache=tmp_path)
    assert done.returncode == 0 and "2 workers of tcp://" in done.stdout, done.stderr
    from jaxland.problem import potentials

    with jax.enable_x64(True):
        problem = potentials.by_name("mueller-brown")
        kept = []
        for name in ("alone", "jobs", "cluster"):
            with Store(tmp_path / name / "landscape.db", problem) as store:
                kept.append(store.landscape())
    same(kept[0], kept[1])
    same(kept[0], kept[2])


def test_engines_that_are_not_there_are_named():
    from jaxland.cli.engines import parsed

    for options, message in (
        ({"on": "pbs"}, "--on must be here, slurm, local"),
        ({"resource": ("timeout_min=5",)}, "is for --on slurm"),
    ):
        with pytest.raises(ArgumentError, match=message):
            WorkOptions(**options)
    with pytest.raises(ArgumentError, match="takes name=value"):
        parsed(["timeout_min"])
