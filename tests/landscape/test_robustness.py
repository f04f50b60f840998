"""Damaged files, full disks, directories without rights, and kill -9: rejected or unchanged, never half believed."""

import ast
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest
from shared_cases import landscape, xor

from jaxland.errors import JaxlandError, StoreError
from jaxland.landscape import Store, explore
from jaxland.landscape.interchange import archive, export, pathsample
from jaxland.landscape.interchange.pathsample import PathsampleDatabase
from jaxland.landscape.search.stationary import Point

TESTS = Path(__file__).parents[1]
GIB = 1 << 30


# -- contents ----------------------------------------------------------------------------------------------------


def digest(*parts):
    total = hashlib.sha256()
    for part in parts:
        total.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
        total.update(b"|")
    return total.hexdigest()


def of_landscape(found, *more):
    arrays = [np.ascontiguousarray(getattr(found, name)) for name in archive._ARRAYS]
    return digest(*arrays, sorted(found.settings.items(), key=str), sorted(found.statistics.items(), key=str), *more)


def of_store(store):
    """All that a search reads from a store."""
    meta = sorted(store._db.execute("SELECT key, value FROM meta"))
    jobs = list(store._db.execute("SELECT id, jobs FROM rounds ORDER BY id"))
    return digest(of_landscape(store.landscape()), store.tries, store.rounds(), store.open_round(), meta, jobs)


def of_database(got):
    return of_landscape(got.landscape, got.a, got.b, got.moments, got.ts_moments, got.notes)


def fill(store, rng, rounds):
    """Points, tries and rounds of a made-up search; yields the content after each commit."""
    yield of_store(store)
    size = store.problem.size

    def point(energy):
        x = rng.normal(size=size)
        return Point(
            x=x,
            energy=energy,
            rms=1e-10,
            negative=0,
            flat=0,
            lowest=float(rng.random()),
            log_product=float(rng.normal()),
            mode=x,
        )

    for k in range(rounds):
        with store.transaction():
            r = store.start_round(("random", "band")[k % 2], [[k, j] for j in range(8)])
            store.put("walkers", rng.integers(0, 9, 5).tolist())
        yield of_store(store)
        with store.transaction():
            ends, _ = store.add_minima([point(float(rng.normal())) for _ in range(3)], r.id)
            store.add_minima([point(0.5)], r.id)
            states = [point(5.0 + float(rng.normal())) for _ in range(3)]
            store.add_saddles(states, ends[[[0, 1], [1, 2], [0, 0]]], r.id)
            store.add_tries([(int(ends[0]), int(ends[2]))])
            store.advance(r, 8 if k < rounds - 1 else 5, 7, (4, 3), 100, 0.25)
        yield of_store(store)


def prepare(folder, problem):
    """Undamaged files of every kind; returns for each kind the contents that reading may give."""
    rng = np.random.default_rng(0)
    closed, logged, base = folder / "store", folder / "log", folder / "live.db"
    for part in (closed, logged):
        part.mkdir()
    with Store(closed / "landscape.db", problem) as store:
        *_, last = fill(store, rng, 3)
        allowed = {"store": {last}}
    (closed / "landscape.db.lock").unlink()
    with Store(base, problem) as store:
        states = [(state, of_landscape(archive.read(base))) for state in fill(store, rng, 3)]
        for end in ("", "-wal"):
            shutil.copy(f"{base}{end}", logged / f"landscape.db{end}")
    allowed["log"], allowed["log reader"] = (set(kind) for kind in zip(*states))
    allowed["reader"] = {of_landscape(archive.read(closed))}
    numbers = rng.normal(size=(40, 3)), rng.normal(size=(90, 3))
    sent = PathsampleDatabase(landscape(), np.array([0, 3]), np.array([7]), *numbers)
    pathsample.write(sent, folder / "pathsample")
    allowed["pathsample"] = {of_database(pathsample.read(folder / "pathsample"))}
    shutil.copytree(folder / "pathsample", folder / "bare")
    (folder / "bare" / pathsample.SEAL).unlink()
    (folder / "npz").mkdir()
    archive.save(landscape(), folder / "npz" / "landscape.npz", extras={"a": np.arange(3)})
    allowed["npz"] = {of_landscape(archive.load(folder / "npz" / "landscape.npz"))}
    return allowed


def damaged(raw, rng):
    """Bytes flipped, overwritten, cut off, put in, taken out, or moved."""
    b = bytearray(raw)
    how, at = int(rng.integers(8)), int(rng.integers(len(b)))
    if how <= 2:
        b[at] ^= int(rng.integers(1, 256))
    elif how == 3:
        for k in rng.integers(0, len(b), int(rng.integers(2, 17))):
            b[k] ^= int(rng.integers(1, 256))
    elif how == 4:
        del b[at:]
    elif how == 5:
        b[at:at] = rng.bytes(int(rng.integers(1, 17)))
    elif how == 6:
        del b[at : at + int(rng.integers(1, 65))]
    else:
        length, source = int(rng.integers(1, 513)), int(rng.integers(len(b)))
        block = bytes(length) if rng.random() < 0.5 else bytes(b[source : source + length])
        b[at : at + len(block)] = block
    return bytes(b)


def test_no_pickle_and_no_eval():
    forbidden = {"eval", "exec", "pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    for path in (TESTS.parent / "jaxland").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = set()
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name.split(".")[0] for alias in node.names}
                names.add((getattr(node, "module", None) or "").split(".")[0])
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                names = {node.func.id}
            elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                # numpy's default is False; saying True is what is forbidden.
                names = {"pickle"} if getattr(node.value, "value", None) is not False else set()
            assert not names & forbidden, f"{path}, line {getattr(node, 'lineno', 0)}"


class Hang(BaseException):
    pass


def _hang(*_):
    raise Hang


def child(folder, counts, seed):
    """Read damaged files under a limit of memory and time; prints how it went as JSON."""
    jax.config.update("jax_enable_x64", True)
    folder, problem = Path(folder), xor()
    allowed = prepare(folder, problem)

    def open_store(part):
        with Store(part / "landscape.db", problem) as store:
            return of_store(store)

    read = {
        "store": open_store,
        "log": open_store,
        "reader": lambda part: of_landscape(archive.read(part)),
        "log reader": lambda part: of_landscape(archive.read(part)),
        "pathsample": lambda part: of_database(pathsample.read(part)),
        "bare": lambda part: of_database(pathsample.read(part)),
        "npz": lambda part: of_landscape(archive.load(part / "landscape.npz")),
    }
    home = {kind: folder / kind for kind in read} | {"reader": folder / "store", "log reader": folder / "log"}
    victims = {"log": ["landscape.db-wal"], "log reader": ["landscape.db-wal"]}
    memory = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (memory + GIB, resource.RLIM_INFINITY))
    signal.signal(signal.SIGALRM, _hang)
    tally, failures = {kind: Counter() for kind in counts}, []
    scratch = folder / "damaged"
    for kind, count in counts.items():
        names = victims.get(kind) or sorted(os.listdir(home[kind]))
        for i in range(count):
            rng = np.random.default_rng([seed, sorted(read).index(kind), i])
            shutil.rmtree(scratch, ignore_errors=True)
            shutil.copytree(home[kind], scratch)
            victim = scratch / names[int(rng.integers(len(names)))]
            victim.write_bytes(damaged(victim.read_bytes(), rng))
            # A store of no bytes at all is a new one: nothing is left that could be believed.
            if kind == "store" and not victim.stat().st_size:
                continue
            signal.alarm(30)
            try:
                got = read[kind](scratch)
                fine = kind == "bare" or got in allowed[kind]
                verdict = "read" if fine else "changed"
            except JaxlandError:
                verdict = "rejected"
            except (Exception, Hang) as error:
                verdict = "crashed"
                failures.append(f"{kind} {i}: {type(error).__name__}: {error}")
            finally:
                signal.alarm(0)
            if verdict == "changed":
                failures.append(f"{kind} {i}: {victim.name} was read with other contents")
            tally[kind][verdict] += 1
    print(json.dumps({"tally": tally, "failures": failures[:20]}))


CHILD = """
import json, sys
sys.path[:0] = sys.argv[4:]
from test_robustness import child
child(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]))
"""


def damage(tmp_path, counts, seed):
    """Run the child; returns its tally."""
    places = str(TESTS), str(Path(__file__).parent)
    command = [sys.executable, "-c", CHILD, str(tmp_path), json.dumps(counts), str(seed), *places]
    got = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    assert got.returncode == 0, got.stderr[-2000:]
    out = json.loads(got.stdout.splitlines()[-1])
    assert out["failures"] == []
    for kind, count in counts.items():
        tally = out["tally"][kind]
        assert sum(tally.values()) >= 0.98 * count and set(tally) <= {"read", "rejected"}
        assert tally.get("rejected", 0) > 0 or kind.startswith("log")  # a damaged log may end where the damage begins
    print(out["tally"])
    return out["tally"]


COUNTS = {"store": 150, "log": 50, "reader": 50, "log reader": 40, "pathsample": 100, "bare": 50, "npz": 60}


def test_damaged_files_are_rejected_or_read_unchanged(tmp_path):
    tally = damage(tmp_path, COUNTS, 0)
    assert "read" not in tally["npz"] and tally["pathsample"].get("read", 0) <= 5


@pytest.mark.slow
def test_ten_thousand_damaged_files(tmp_path):
    damage(tmp_path, {kind: 20 * count for kind, count in COUNTS.items()}, int(os.environ.get("JAXLAND_SEED", "1")))


# -- full disks and missing rights -------------------------------------------------------------------------------


@contextmanager
def no_file_beyond(size):
    """Writing beyond so many bytes of any file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


WRITERS = {
    "pathsample": lambda found, folder, force: pathsample.write(found, folder, force=force),
    "npz": lambda found, folder, force: archive.save(found, folder / "l.npz", force=force),
    "graphml": lambda found, folder, force: export.graphml(found, folder, force=force),
    "csv": lambda found, folder, force: export.csv(found, folder, coordinates=True, force=force),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_leaves_what_was_there(tmp_path, writer):
    write, folder = WRITERS[writer], tmp_path / "out"
    with no_file_beyond(2000), pytest.raises(StoreError, match="cannot be written: File too large"):
        write(landscape(), folder, False)
    assert not folder.exists()
    write(landscape(), folder, False)
    before = {name: (folder / name).read_bytes() for name in os.listdir(folder)}
    with no_file_beyond(2000), pytest.raises(StoreError, match="cannot be written: File too large"):
        write(landscape(1), folder, True)
    assert before == {name: (folder / name).read_bytes() for name in os.listdir(folder)}


@pytest.mark.parametrize("renames", range(7))
def test_a_crash_between_two_renames_is_noticed(tmp_path, monkeypatch, renames):
    """A database replaced by another: whatever the moment, one of both is read, or nothing."""
    pathsample.write(landscape(), tmp_path, a=[0], b=[1])
    replace, count = os.replace, 0

    def crash(*args):
        nonlocal count
        count += 1
        if count > renames:
            raise OSError(5, "Input/output error")
        replace(*args)

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(StoreError, match="Input/output error"):
        pathsample.write(landscape(1), tmp_path, a=[2], b=[3], force=True)
    monkeypatch.undo()
    if renames == 0:
        assert of_database(pathsample.read(tmp_path)).strip()
        np.testing.assert_array_equal(pathsample.read(tmp_path).landscape.energies, landscape().energies)
    else:
        with pytest.raises(StoreError, match=r"does not fit jaxland\.sha256"):
            pathsample.read(tmp_path)


SMALL = {"starts": 30, "hops": 1, "walkers": 4, "climbs": 16, "rounds": 2, "searches": 2, "expand": 3, "seed": 3}


@pytest.fixture(scope="module")
def problem():
    with jax.enable_x64(True):
        return xor()


@pytest.fixture(scope="module")
def unbroken(problem, tmp_path_factory):
    """A small search left alone."""
    path = tmp_path_factory.mktemp("unbroken") / "landscape.db"
    with jax.enable_x64(True):
        explore(problem, store=path, **SMALL)
        return outcome(path, problem)


def outcome(path, problem):
    """What must be the same however often a run was broken off: all but the seconds."""
    with Store(path, problem) as store:
        found = store.landscape()
        arrays = [np.ascontiguousarray(getattr(found, name)) for name in archive._ARRAYS]
        rounds = [{k: v for k, v in r.items() if k != "seconds"} for r in store.rounds()]
        return digest(*arrays, sorted(store.tries.items()), rounds)


def test_a_store_on_a_full_disk_keeps_its_last_commit(x64, tmp_path, problem):
    path, rng, states = tmp_path / "landscape.db", np.random.default_rng(0), []
    with Store(path, problem) as store:
        (pages,) = store._db.execute("PRAGMA page_count").fetchone()
        store._db.execute(f"PRAGMA max_page_count={pages + 6}")
        with pytest.raises(StoreError, match=r"the disk is full.*intact"):
            for state in fill(store, rng, 1000):
                states.append(state)
        with pytest.raises(StoreError, match="opened again"), store.transaction():
            store.put("more", 1)
    assert len(states) > 10 and archive.read(tmp_path).n_minima > 10
    with Store(path, problem) as store:
        assert of_store(store) == states[-1]
        for _ in fill(store, rng, 10):
            pass
    assert archive.read(tmp_path).n_minima > 30


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 192 KiB, enough to begin a store, and a function that makes it larger."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a small file system")

    def enlarge():
        subprocess.run(["mount", "-o", "remount,size=16m", str(folder)], check=True)

    try:
        yield folder, enlarge
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_really_full(x64, small_disk, problem, unbroken):
    folder, enlarge = small_disk
    path = folder / "landscape.db"
    ballast = folder / "ballast"
    Store(path, problem).close()
    space = os.statvfs(folder)
    ballast.write_bytes(bytes(max(0, space.f_bavail * space.f_bsize - 44_000)))
    with pytest.raises(StoreError, match="full"):
        explore(problem, store=path, **SMALL)
    archive.read(folder)
    with pytest.raises(StoreError, match="No space left on device"):
        pathsample.write(landscape(t=2000), folder / "db")
    assert not (folder / "db").exists()
    ballast.unlink()
    enlarge()
    explore(problem, store=path, **SMALL)
    assert outcome(path, problem) == unbroken


NOBODY = """
import os, sys
sys.path[:0] = [sys.argv[2]]
import jax
jax.config.update("jax_enable_x64", True)
from shared_cases import xor
from jaxland.errors import StoreError
from jaxland.landscape import Store
problem = xor()
os.setgid(65534); os.setuid(65534)
for place in ("run", "new"):
    try:
        Store(f"{sys.argv[1]}/{place}/landscape.db", problem)
    except StoreError as error:
        print(error)
"""


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="needs root, to become a user without rights")
def test_a_store_in_a_read_only_directory_is_left_alone(x64, problem):
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        Store(f"{name}/run/landscape.db", problem).close()
        before = {f: Path(name, "run", f).read_bytes() for f in os.listdir(f"{name}/run")}
        got = subprocess.run(
            [sys.executable, "-c", NOBODY, name, str(TESTS)], capture_output=True, text=True, timeout=300
        )
        assert got.returncode == 0, got.stderr
        lines = got.stdout.splitlines()
        assert len(lines) == 2 and all("cannot be written" in line and name in line for line in lines)
        assert before == {f: Path(name, "run", f).read_bytes() for f in os.listdir(f"{name}/run")}
        assert os.listdir(name) == ["run"]


# -- kill -9 -----------------------------------------------------------------------------------------------------


def test_a_kill_before_the_first_commit_is_no_obstacle(x64, tmp_path, problem):
    import sqlite3

    path = tmp_path / "landscape.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode=WAL")
    db.close()
    assert path.stat().st_size > 0
    with Store(path, problem) as store:
        assert len(store.minima) == 0


RUN = """
import sys
sys.path[:0] = [{tests!r}, {tests!r} + "/landscape/search"]
import jax
jax.config.update("jax_enable_x64", True)
from shared_cases import xor
from jaxland.landscape import Store
from jaxland.landscape.search.explore import Search
from jaxland.landscape.search.settings import SearchSettings
problem = xor()
with Store({path!r}, problem) as store:
    print("open", flush=True)
    Search(store, SearchSettings(**{settings!r}), batch=4).run()
print("done", flush=True)
"""


@pytest.mark.slow
def test_fifty_kills_at_random_times_leave_no_trace(x64, tmp_path, problem):
    """JAXLAND_KILLS changes the number, JAXLAND_SEED the times. A finished run is compared, and another begun."""
    kills = int(os.environ.get("JAXLAND_KILLS", "50"))
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "xla"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    rng = np.random.default_rng(int(os.environ.get("JAXLAND_SEED", "0")))

    def start(path):
        code = RUN.format(tests=str(TESTS), path=str(path), settings=SMALL)
        environment = {**os.environ, **cache}
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)

    for name in ("first", "reference"):
        began = time.monotonic()
        process = start(tmp_path / name)
        assert process.stdout.readline() == "open\n"
        opened = time.monotonic()
        assert process.stdout.readline() == "done\n" and process.wait() == 0
    starting, searching = opened - began, time.monotonic() - opened
    reference = outcome(tmp_path / "reference", problem)
    assert outcome(tmp_path / "first", problem) == reference

    done = runs = broken = 0
    while done < kills or broken:
        path = tmp_path / f"run{runs}"
        process = start(path)
        last = done >= kills
        if not last:
            # One in five while it starts, or before it has opened the store; the others while it searches.
            if rng.random() < 0.2:
                time.sleep(rng.uniform(0.5, 1.1) * starting)
            else:
                process.stdout.readline()
                time.sleep(rng.uniform(0, 0.6) * searching)
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
        code = process.wait()
        process.stdout.close()
        if code == -signal.SIGKILL:
            done, broken = done + 1, broken + 1
            continue
        assert code == 0
        assert outcome(path, problem) == reference, f"run {runs}, killed {broken} times"
        runs, broken = runs + 1, 0
    print(f"{done} kills over {runs} runs")
    assert runs >= 1
