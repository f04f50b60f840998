"""Complete landscapes with known answers, determinism, resume, and what the store refuses."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from itertools import permutations, product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from shared_cases import SADDLES, XOR_X, XOR_Y, muller_brown, same, xor

from jaxland import Problem, mlp
from jaxland.core.solvers import threads
from jaxland.errors import ArgumentError, ConvergenceError, PrecisionError, StoreError
from jaxland.landscape import SearchSettings, Store, explore

TESTS = str(Path(__file__).parents[2])


@pytest.fixture(scope="module")
def two():
    with jax.enable_x64(True):
        return explore(xor(), start_scale=1.5, seed=2)


@pytest.fixture(scope="module")
def three():
    with jax.enable_x64(True):
        return explore(xor(3), start_scale=1.5, seed=2)


def audit(landscape):
    """Every stored point once more, by automatic differentiation."""
    problem = landscape.problem
    for x, e, index in [
        *((x, e, 0) for x, e in zip(landscape.coordinates, landscape.energies)),
        *((x, e, 1) for x, e in zip(landscape.ts_coordinates, landscape.ts_energies)),
    ]:
        assert np.sqrt(np.mean(np.square(problem.gradient(x)))) <= 1.01e-9
        assert np.sum(np.linalg.eigvalsh(problem.hessian(x)) < -1e-8) == index
        np.testing.assert_allclose(problem.energy(x), e, rtol=1e-12)
    for e, ends in zip(landscape.ts_energies, landscape.ts_ends):
        assert (e > landscape.energies[ends]).all()


def test_xor_with_two_hidden_units_is_complete(x64, two):
    np.testing.assert_allclose(two.energies, [0.4265389, 0.4692146, 0.5929038, 0.5929038, 0.6931472], atol=1e-6)
    assert two.n_ts == 16 and (two.components() == 0).all()
    assert two.orbit_sizes.sum() == 33
    audit(two)


@pytest.mark.slow
def test_xor_with_three_hidden_units_is_complete(x64, three):
    assert (three.n_minima, three.n_ts) == (4, 18)
    audit(three)


def test_xor_with_weak_regularisation_is_complete(x64):
    found = explore(xor(lam=1e-3), start_scale=3.0, seed=2, climbs=300)
    assert (found.n_minima, found.n_ts) == (7, 19)
    audit(found)


@pytest.mark.slow
def test_stationary_points_of_two_units_are_found_with_three(x64, two, three):
    higher = np.concatenate([three.energies, three.ts_energies])
    # The lowest minimum of the smaller network, with a dead unit added, is a saddle of the larger.
    assert np.min(np.abs(higher - two.energies[0])) < 1e-7


def test_muller_brown_is_complete(x64):
    problem = Problem.from_energy(muller_brown, 2)
    landscape = explore(problem, box=([-1.6, -0.4], [1.2, 2.0]), starts=60, climbs=60, hops=1, max_step=0.3)
    np.testing.assert_allclose(landscape.energies, [-146.699517, -108.166724, -80.767818], atol=1e-6)
    minima = [[-0.558224, 1.441726], [0.623499, 0.028038], [-0.050011, 0.466694]]
    np.testing.assert_allclose(landscape.coordinates, minima, atol=1e-6)
    np.testing.assert_allclose(landscape.ts_energies, sorted(SADDLES.values()), atol=1e-6)
    assert (landscape.components() == 0).all()
    audit(landscape)


@pytest.mark.slow
def test_six_hump_camel_is_complete(x64):
    def camel(w):
        x, y = w
        return (4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + (-4 + 4 * y**2) * y**2

    box = ([-2, -1.1], [2, 1.1])
    landscape = explore(Problem.from_energy(camel, 2), box=box, starts=60, climbs=60, hops=1, max_step=0.3)
    np.testing.assert_allclose(landscape.energies, np.repeat([-1.031628453, -0.215463824, 2.104250310], 2), atol=1e-8)
    saddles = [0.0, *np.repeat([0.543718601, 2.229357198, 2.229470818], 2)]
    np.testing.assert_allclose(landscape.ts_energies, saddles, atol=1e-8)
    audit(landscape)


def test_one_seed_gives_one_database_whatever_the_batch(x64, tmp_path):
    from jaxland.core.solvers.protocol import Layout

    options = {"starts": 40, "climbs": 20, "rounds": 2, "hops": 2, "walkers": 6, "minima": 60, "seed": 4}
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (60, 2))
    problem = Problem.from_model(mlp((2, 3, 2)), x, (x[:, 0] * x[:, 1] > 0).astype(int), l2=1e-3)
    a = explore(problem, store=tmp_path / "a.db", **options)
    b = explore(problem, store=tmp_path / "b.db", layout=Layout(2, 17, 1, 1), **options)
    same(a, b)
    other = explore(problem, **{**options, "seed": 5})
    assert not np.array_equal(a.hits, other.hits)


RUN = """
import sys, jax, numpy as np
jax.config.update("jax_enable_x64", True)
sys.path[:0] = [{tests!r}, {tests!r} + "/landscape/search"]
from shared_cases import xor
from jaxland.landscape import explore
def tell(p):
    print(p.minima, flush=True)
explore(xor(3), store={path!r}, start_scale=1.5, seed=2, progress=tell)
"""


@pytest.mark.parametrize("kills", [2])
def test_a_killed_run_ends_where_an_unbroken_one_does(x64, tmp_path, three, kills):
    path = tmp_path / "run.db"
    code = RUN.format(tests=TESTS, path=str(path))
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = {**os.environ, **cache}
    rng = np.random.default_rng(0)
    for _ in range(kills):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(int(rng.integers(1, 6))):
            process.stdout.readline()
        time.sleep(rng.uniform(0, 0.2))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    same(three, explore(xor(3), store=path, start_scale=1.5, seed=2))


def test_a_time_limit_is_only_a_pause(x64, tmp_path, two):
    path = tmp_path / "run.db"
    explore(xor(), store=path, start_scale=1.5, seed=2, time_limit=0.3)
    same(two, explore(xor(), store=path, start_scale=1.5, seed=2))


def test_points_found_with_hessians_of_few_rows_are_points_of_all(x64):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (60, 2))
    problem = Problem.from_model(mlp((2, 3, 2)), x, (x[:, 0] * x[:, 1] > 0).astype(int), l2=1e-3)
    found = explore(problem, hessian_rows=20, starts=10, hops=0, climbs=10, pairs=0, rounds=1)
    assert found.n_minima > 2 and found.n_ts > 2
    audit(found)


@pytest.mark.slow
def test_quenches_informed_by_curvature_are_the_same_in_jobs_and_in_batches(x64):
    """Work included."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 6))
    problem = Problem.from_model(mlp((6, 8, 2)), x, (x[:, 0] * x[:, 1] > 0).astype(int), l2=1e-3)
    settings = SearchSettings(starts=6, walkers=2, hops=1, climbs=6, pairs=0, rounds=1)
    kept = []
    for mesh in (None, Mesh(np.array(jax.local_devices()[:1]), ("lanes",))):
        with Store(None, problem) as store:
            found = explore(problem, settings, store=store, mesh=mesh)
            kept.append((found.energies, [(r["found"], r["new_saddles"], r["work"]) for r in store.rounds()]))
    assert found.n_minima > 2 and found.n_ts > 0
    audit(found)
    np.testing.assert_allclose(kept[0][0], kept[1][0], rtol=1e-12)
    assert kept[0][1] == kept[1][1]


def test_alignment_is_exact_for_one_hidden_layer(x64):
    rng = np.random.default_rng(0)
    for h in range(1, 6):
        problem = Problem.from_model(mlp((2, h, 2)), XOR_X, XOR_Y)
        symmetry = problem.symmetry
        a, b = rng.normal(size=(2, problem.size))
        images = []
        for order in permutations(range(h)):
            for signs in product([1.0, -1.0], repeat=h):
                image = b.copy()
                image[symmetry.units[0]] = np.array(signs)[:, None] * b[symmetry.units[0]][list(order)]
                images.append(image)
        best = min(np.linalg.norm(np.array(images) - a, axis=1))
        aligned = symmetry.align(b, a)
        np.testing.assert_allclose(np.linalg.norm(aligned - a), best, rtol=1e-12)
        np.testing.assert_allclose(problem.energy(aligned), problem.energy(b), rtol=1e-12)
        distinct = len(np.unique(np.round(images, 9), axis=0))
        assert symmetry.orbit_size(b) == distinct == symmetry.order()


def test_orbit_size_counts_distinct_images(x64):
    symmetry = xor(3).symmetry
    w = np.random.default_rng(1).normal(size=symmetry.size)
    w[symmetry.units[0][0]] = 0.0
    w[symmetry.units[0][1]] = -w[symmetry.units[0][2]]
    images = [symmetry.random_image(w, np.random.default_rng(k)) for k in range(2000)]
    assert symmetry.orbit_size(w) == len(np.unique(np.round(images, 9), axis=0))


def test_alignment_of_deeper_networks_undoes_a_random_image(x64):
    problem = Problem.from_model(mlp((2, 4, 3, 2)), XOR_X, XOR_Y)
    rng = np.random.default_rng(0)
    for k in range(10):
        w = rng.normal(size=problem.size)
        image = problem.symmetry.random_image(w, np.random.default_rng(k))
        np.testing.assert_allclose(problem.energy(image), problem.energy(w), rtol=1e-12)
        np.testing.assert_allclose(problem.symmetry.canonical(image), problem.symmetry.canonical(w), atol=1e-12)


# -- errors --------------------------------------------------------------------------------------------------------


def test_float32_is_refused_with_advice():
    with pytest.raises(PrecisionError, match='dtype="float64"'):
        explore(Problem.from_model(mlp((2, 2, 2)), XOR_X.astype(np.float32), XOR_Y))


def test_bad_settings(x64):
    with pytest.raises(ArgumentError, match="start"):
        explore(xor(), starts=0)
    with pytest.raises(ArgumentError, match="unknown option 'walks'"):
        explore(xor(), walks=3)


def test_a_loss_without_minima_says_so(x64):
    with pytest.raises(ConvergenceError, match="verified minimum"):
        explore(Problem.from_energy(lambda w: jnp.sum(w), 3), starts=5)


@pytest.fixture(scope="module")
def small_store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "landscape.db"
    with jax.enable_x64(True):
        explore(xor(), store=path, starts=20, hops=0, climbs=10, rounds=0)
    return path


@pytest.fixture
def stored(x64, tmp_path, small_store):
    return Path(shutil.copy(small_store, tmp_path / "landscape.db"))


def test_a_store_of_another_problem_is_refused_and_left_alone(stored):
    before = stored.read_bytes()
    for other in (xor(3), xor(lam=2e-2)):
        with pytest.raises(StoreError, match="another problem"):
            Store(stored, other)
    assert stored.read_bytes() == before


@pytest.mark.parametrize("damage", ["header", "row", "truncate", "text", "checksum"])
def test_damage_is_found_and_left_alone(stored, damage):
    if damage in ("row", "checksum"):
        with sqlite3.connect(stored) as db:
            what = "energy = energy + 1e-3" if damage == "row" else "checksum = checksum + 1"
            db.execute(f"UPDATE minima SET {what} WHERE id = 0")
        db.close()
    else:
        raw = bytearray(stored.read_bytes())
        if damage == "header":
            raw[:16] = b"not a database!!"
        elif damage == "truncate":
            raw = raw[: len(raw) // 2]
        else:
            raw = bytearray(b"minimum,energy\n1,2\n")
        stored.write_bytes(raw)
    before = stored.read_bytes()
    with pytest.raises(StoreError, match=r"damaged|not a jaxland store"):
        Store(stored, xor())
    assert stored.read_bytes() == before


def test_a_second_writer_is_refused(stored):
    with Store(stored, xor()), pytest.raises(StoreError, match="another process"):
        Store(stored, xor())


def test_a_directory_that_cannot_be_made_is_said(x64, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        Store(tmp_path / "file" / "landscape.db", xor())


@pytest.mark.slow
def test_an_accelerators_paths_find_the_same_landscape(x64, two, monkeypatch):
    """XOR by whole batches, squads and searches in turns, as a GPU would: complete, with the same energies."""
    monkeypatch.setattr(threads, "on_accelerator", lambda: True)
    found = explore(xor(), start_scale=1.5, seed=2, breadth=1)
    assert (found.n_minima, found.n_ts) == (two.n_minima, two.n_ts) == (5, 16)
    np.testing.assert_allclose(found.energies, two.energies, atol=1e-8)
    np.testing.assert_allclose(np.sort(found.ts_energies), np.sort(two.ts_energies), atol=1e-8)
    assert (found.components() == 0).all()
