"""The store: files of 0.2.0 are converted, points are known again whatever the batch, blocks equal single calls."""

import hashlib
import json
import sqlite3
import zlib

import jax
import numpy as np
import pytest
from shared_cases import xor

from jaxland.errors import StoreError
from jaxland.landscape import Store, Tolerances, explore
from jaxland.landscape.catalogue import ROW, Catalogue
from jaxland.landscape.interchange import archive
from jaxland.landscape.search.stationary import Point
from jaxland.problem.particles import ClusterSymmetry
from jaxland.problem.symmetry import DenseSymmetry, NoSymmetry

SMALL = {"starts": 20, "hops": 1, "walkers": 4, "climbs": 10, "rounds": 1, "seed": 3}

# The tables of jaxland 0.2.0, word for word.
SCHEMA_2 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE minima (
    id INTEGER PRIMARY KEY, energy REAL NOT NULL, rms REAL NOT NULL, lowest REAL NOT NULL, flat INTEGER NOT NULL,
    log_product REAL, orbit TEXT NOT NULL, hits INTEGER NOT NULL, round INTEGER NOT NULL, x BLOB NOT NULL,
    checksum INTEGER NOT NULL);
CREATE TABLE saddles (
    id INTEGER PRIMARY KEY, energy REAL NOT NULL, rms REAL NOT NULL, lowest REAL NOT NULL, flat INTEGER NOT NULL,
    log_product REAL, orbit TEXT NOT NULL, hits INTEGER NOT NULL, round INTEGER NOT NULL, x BLOB NOT NULL,
    end_1 INTEGER NOT NULL REFERENCES minima(id), end_2 INTEGER NOT NULL REFERENCES minima(id),
    checksum INTEGER NOT NULL);
CREATE TABLE pairs (first INTEGER, second INTEGER, tries INTEGER NOT NULL, PRIMARY KEY (first, second));
CREATE TABLE rounds (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, jobs TEXT NOT NULL, next_job INTEGER NOT NULL, total INTEGER NOT NULL,
    found INTEGER NOT NULL, new_minima INTEGER NOT NULL, new_saddles INTEGER NOT NULL, work INTEGER NOT NULL,
    seconds REAL NOT NULL, checksum INTEGER NOT NULL);
"""
POINT = "id, energy, rms, lowest, flat, log_product, orbit, hits, round, x"
SEALED_2 = {
    "meta": "key, value",
    "minima": "id, hits, round, checksum",
    "saddles": "id, hits, round, checksum",
    "pairs": "first, second, tries",
    "rounds": "id, kind, jobs, next_job, total, found, new_minima, new_saddles, work, seconds, checksum",
}


def write_0_2(source, path, problem):
    """A store as jaxland 0.2.0 wrote it, with what is in another one."""

    def crc(blob, *values):
        return zlib.crc32(repr(values).encode(), zlib.crc32(blob))

    old, new = sqlite3.connect(source), sqlite3.connect(path)
    new.execute("PRAGMA journal_mode=WAL")
    with new:
        for statement in SCHEMA_2.split(";"):
            new.execute(statement)
        for row in old.execute(f"SELECT {POINT} FROM minima"):
            new.execute(f"INSERT INTO minima VALUES ({'?, ' * 10}?)", (*row, crc(row[9], *row[1:7])))
        for row in old.execute(f"SELECT {POINT}, end_1, end_2 FROM saddles"):
            new.execute(f"INSERT INTO saddles VALUES ({'?, ' * 12}?)", (*row, crc(row[9], *row[1:7], *row[10:])))
        new.executemany("INSERT INTO pairs VALUES (?, ?, ?)", old.execute("SELECT * FROM pairs"))
        for row in old.execute("SELECT * FROM rounds"):
            new.execute(
                f"INSERT INTO rounds VALUES ({'?, ' * 10}?)", (*row[:-1], crc(row[2].encode(), row[0], row[1]))
            )
        meta = dict(old.execute("SELECT key, value FROM meta WHERE key != 'seal'"))
        probes = [float(problem.energy(w)) for w in np.random.default_rng(11).normal(size=(3, problem.size))]
        words = "hidden-unit permutations and sign flips of (2, 2, 2)"
        facts = {"size": problem.size, "symmetry": words, "probes": probes}
        meta["fingerprint"] = json.dumps(facts, sort_keys=True)
        new.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        total = sum(
            int.from_bytes(hashlib.blake2b(repr((table, *row)).encode(), digest_size=16).digest(), "big")
            for table, columns in SEALED_2.items()
            for row in new.execute(f"SELECT {columns} FROM {table}")
        )
        new.execute("INSERT INTO meta VALUES ('seal', ?)", (json.dumps(f"{total % 2**128:032x}"),))
        new.execute(f"PRAGMA application_id={0x4A4C4E44}")
        new.execute("PRAGMA user_version=2")
    old.close()
    new.close()


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A finished search of this version, and the same written by 0.2.0."""
    folder = tmp_path_factory.mktemp("stores")
    with jax.enable_x64(True):
        explore(xor(), store=folder / "new.db", **SMALL)
        write_0_2(folder / "new.db", folder / "old.db", xor())
    return folder


def contents(path):
    with sqlite3.connect(path) as db:
        return {
            table: list(db.execute(f"SELECT * FROM {table}")) for table in ("minima", "saddles", "pairs", "rounds")
        }


def test_a_store_of_0_2_is_converted_and_goes_on(x64, stores, tmp_path):
    path = tmp_path / "landscape.db"
    path.write_bytes((stores / "old.db").read_bytes())
    assert archive.read(path).settings["group_order"] == 8  # read as it is
    with Store(path, xor()) as store:
        assert store.get("fingerprint")["group"] == xor().symmetry.to_json()
        seal = store.seal
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (3,)
    assert contents(path) == contents(stores / "new.db")
    with Store(path, xor()) as store, Store(stores / "new.db", xor()) as fresh:
        assert store.seal == seal == fresh.seal
    assert archive.read(path).n_minima == archive.read(stores / "new.db").n_minima
    more = {**SMALL, "rounds": 2}
    explore(xor(), store=path, **more)
    explore(xor(), store=stores / "new.db", **more)
    a, b = contents(path), contents(stores / "new.db")
    assert (a["minima"], a["saddles"], a["pairs"]) == (b["minima"], b["saddles"], b["pairs"])


def test_a_store_of_0_2_of_another_problem_is_refused_and_left_alone(x64, stores):
    before = (stores / "old.db").read_bytes()
    with pytest.raises(StoreError, match="another problem"):
        Store(stores / "old.db", xor(lam=2e-2))
    assert (stores / "old.db").read_bytes() == before


def test_a_damaged_store_of_0_2_is_refused(x64, stores, tmp_path):
    path = tmp_path / "landscape.db"
    path.write_bytes((stores / "old.db").read_bytes())
    with sqlite3.connect(path) as db:
        db.execute("UPDATE minima SET hits = hits + 1 WHERE id = 0")
    db.close()
    with pytest.raises(StoreError, match="fail their checksum"):
        Store(path, xor())


# -- batches -------------------------------------------------------------------------------------------------------

GROUPS = [NoSymmetry(), DenseSymmetry((2, 3, 2), True), DenseSymmetry((3, 4, 1), False), ClusterSymmetry(4)]


def sample(symmetry, rng, count, kinds=12):
    """Images of a few points with energies that partly coincide."""
    size = getattr(symmetry, "size", 12)
    originals, energies = rng.normal(size=(kinds, size)), np.repeat(rng.normal(size=kinds // 3), 3)
    which = rng.integers(0, kinds, count)
    xs = np.stack([symmetry.random_image(originals[k], rng) for k in which])
    return energies[which] * (1 + 1e-12 * rng.normal(size=count)), xs + 1e-9 * rng.normal(size=xs.shape), which


@pytest.mark.parametrize("symmetry", GROUPS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("batch", [1, 7, 200])
def test_points_are_known_again_whatever_the_batch(symmetry, batch):
    energies, xs, which = sample(symmetry, np.random.default_rng(0), 200)
    catalogue, numbers = Catalogue(symmetry, Tolerances()), []
    for k in range(0, 200, batch):
        found, new = catalogue.identify(energies[k : k + batch], xs[k : k + batch])
        rows = np.zeros(int(new.sum()), ROW)
        rows["energy"] = energies[k : k + batch][new]
        catalogue.append(rows, symmetry.canonicals(xs[k : k + batch][new]))
        numbers += found.tolist()
    first = {}
    assert numbers == [first.setdefault(k, len(first)) for k in which.tolist()]


def test_two_known_points_within_reach_are_told_apart_by_energy():
    catalogue = Catalogue(NoSymmetry(), Tolerances(energy=1e-3, distance=1.0))
    energies, xs = np.array([0.0, 4e-4, 1e-4, 3.9e-4]), np.array([[0.0], [1.5], [0.75], [0.75]])
    assert [part.tolist() for part in catalogue.identify(energies, xs)] == [[0, 1, 0, 1], [True, True, False, False]]


@pytest.mark.parametrize("symmetry", [*GROUPS, DenseSymmetry((2, 9, 1), True), DenseSymmetry((2, 3, 2, 1), True)])
def test_a_block_of_pairs_equals_one_by_one(symmetry):
    rng = np.random.default_rng(1)
    points = rng.normal(size=(12, getattr(symmetry, "size", 12)))
    points[1] = symmetry.random_image(points[0], rng)
    pairs = np.stack(np.triu_indices(12, 1), axis=1)
    block = symmetry.distances(points, pairs)
    single = [symmetry.distances(points[[i, j]], np.array([[0, 1]]))[0] for i, j in pairs]
    np.testing.assert_array_equal(block, single)  # to the last bit: nothing depends on what else is in a block
    np.testing.assert_allclose(block, [symmetry.distance(points[j], points[i]) for i, j in pairs], atol=1e-6)
    np.testing.assert_array_equal(symmetry.matching(points, pairs, 1e-2), (pairs == [0, 1]).all(1))
    np.testing.assert_array_equal(symmetry.canonicals(points), [symmetry.canonical(x) for x in points])
    assert symmetry.orbit_sizes(points) == [symmetry.orbit_size(x) for x in points]


def point(energy, x):
    return Point(x=x, energy=energy, rms=0.0, negative=0, flat=0, lowest=1.0, log_product=np.nan, mode=x)


def test_hits_add_up_in_any_batches(x64):
    rng = np.random.default_rng(2)
    energies, xs, _ = sample(xor().symmetry, rng, 60)
    points = [point(e, x) for e, x in zip(energies.tolist(), xs)]
    seals = set()
    for batch in (1, 8, 60):
        with Store(None, xor()) as store, store.transaction():
            for k in range(0, 60, batch):
                store.add_minima(points[k : k + batch], 0)
            assert store.minima.hits.sum() == 60
            rows = store._db.execute("SELECT id, hits, energy FROM minima").fetchall()
            seals.add((store.seal, tuple(rows)))
    assert len(seals) == 1


def test_a_minimum_met_again_by_the_search_that_left_it_is_no_hit(x64, tmp_path):
    problem, rng = xor(), np.random.default_rng(1)
    points = [point(float(k), rng.normal(size=problem.size)) for k in range(3)]
    with Store(tmp_path / "a.db", problem) as store, store.transaction():
        store.add_minima(points[:2], 0)
        numbers, _ = store.add_minima(points, 1, left=[(0,), (0,), (1, 0)])
        assert numbers.tolist() == [0, 1, 2]
    with Store(tmp_path / "a.db", problem) as store:
        assert store.minima.hits.tolist() == [1, 2, 1]
