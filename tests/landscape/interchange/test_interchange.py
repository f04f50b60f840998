"""Archives, stores read without their problem, GraphML, CSV, and the commands import and export."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile

import jax
import networkx as nx
import numpy as np
import pandas as pd
import pytest
from shared_cases import landscape, xor

from jaxland import Problem, mlp
from jaxland.errors import ArgumentError, DataError, StoreError
from jaxland.landscape import Landscape, Store, explore
from jaxland.landscape.interchange import archive, export, pathsample
from jaxland.landscape.interchange.legacy import symmetry_of_0_2
from jaxland.problem.potentials import lennard_jones
from jaxland.problem.stored_symmetry import symmetry_from_json
from jaxland.report.imported import imported_report
from jaxland.runs import files as npz_files

ARRAYS = archive._ARRAYS


def same(a, b):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run: (its directory, its landscape)."""
    folder = tmp_path_factory.mktemp("run")
    with jax.enable_x64(True):
        found = explore(xor(), store=folder / "landscape.db", starts=12, hops=0, climbs=20, rounds=0)
    assert found.n_minima > 2 and found.degenerate.any() and not found.degenerate.all()
    return folder, found


# -- npz ---------------------------------------------------------------------------------------------------------


def test_an_archive_comes_back_as_it_was(tmp_path, run):
    _, found = run
    extras = {"moments": np.arange(6.0).reshape(2, 3), "a": np.array([1, 2])}
    path = archive.save(found, tmp_path / "l.npz", extras=extras)
    got = archive.load(path)
    same(found, got)
    for name in ARRAYS:
        assert getattr(got, name).dtype == getattr(found, name).dtype and getattr(got, name).flags.writeable
    assert got.problem is None and got.settings["group_order"] == 8
    assert got.settings["problem"] == archive.describe_problem(found)
    assert got.settings["symmetry"] == found.problem.symmetry.to_json()
    kept = {k: v for k, v in got.settings.items() if k not in ("group_order", "problem", "symmetry")}
    assert kept == found.settings
    for name, value in archive.load_extras(path).items():
        np.testing.assert_array_equal(value, extras[name])
    again = archive.save(got, tmp_path / "again.npz", extras=extras)
    assert again.read_bytes() == path.read_bytes()


def test_numpy_reads_an_archive(tmp_path):
    path = archive.save(landscape(), tmp_path / "l.npz")
    with np.load(path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["ts_ends"], landscape().ts_ends)
        np.testing.assert_array_equal(arrays["coordinates"], landscape().coordinates)


def test_an_empty_landscape_and_one_without_coordinates(tmp_path):
    for k, empty in enumerate([Landscape.from_points([], np.zeros((0, 3))), Landscape.from_points([1.0], [[]])]):
        same(empty, archive.load(archive.save(empty, tmp_path / f"{k}.npz")))


def test_archives_that_are_refused(tmp_path):
    path = archive.save(landscape(), tmp_path / "l.npz")
    with pytest.raises(StoreError, match=r"already holds l\.npz"):
        archive.save(landscape(), path)
    with pytest.raises(ArgumentError, match=r"called something\.npz"):
        archive.save(landscape(), tmp_path / "l.zip")
    with pytest.raises(DataError, match="does not exist"):
        archive.load(tmp_path / "none.npz")
    with pytest.raises(DataError, match=r"holds neither landscape\.db"):
        archive.read(tmp_path)
    np.savez(tmp_path / "other.npz", energies=np.zeros(3))
    with pytest.raises(StoreError, match="no landscape written by this jaxland"):
        archive.load(tmp_path / "other.npz")


def _resealed(path, change):
    """An archive changed by someone who knows how to seal it."""
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", members.pop("compression", zipfile.ZIP_STORED)) as new:
        for name, value in members.items():
            new.writestr(name, value)
        new.comment = b" " * npz_files._seal_length(archive.FORMAT)
    with path.open("r+b") as file:
        seal = npz_files._seal(file, archive.FORMAT)
        file.seek(-len(seal), 2)
        file.write(seal)


@pytest.mark.parametrize("trick", ["object", "huge", "bomb", "lost", "length", "format"])
def test_a_forged_archive_runs_nothing_and_allocates_nothing(tmp_path, trick):
    path = archive.save(landscape(), tmp_path / "l.npz")

    def change(members):
        if trick == "object":
            members["energies.npy"] = members["energies.npy"].replace(b"'<f8'", b"'|O' ", 1)
        elif trick == "huge":
            members["energies.npy"] = members["energies.npy"].replace(b"(40,), }", b"(9999999999,), }", 1)
        elif trick == "bomb":
            members["compression"] = zipfile.ZIP_DEFLATED
        elif trick == "lost":
            del members["hits.npy"]
        elif trick == "length":
            members["hits.npy"] = members["gradients.npy"].replace(b"(40,)", b"(39,)")[:-8]
        else:
            members["header.npy"] = members["header.npy"].replace(b"landscape-1", b"landscape-9")

    _resealed(path, change)
    with pytest.raises((StoreError, DataError)):
        archive.load(path)


# -- the store of a run --------------------------------------------------------------------------------------------


def test_a_store_is_read_without_its_problem(run):
    folder, found = run
    files = {f: (folder / f).read_bytes() for f in os.listdir(folder)}
    got = archive.read(folder)
    same(found, got)
    assert got.problem is None and got.settings["group_order"] == xor().symmetry.order()
    assert "(2, 2, 2)" in got.settings["problem"] and got.statistics["rounds"] == found.statistics["rounds"]
    assert files == {f: (folder / f).read_bytes() for f in os.listdir(folder)}


def test_the_group_is_known_as_json_and_from_the_words_of_0_2(x64):
    x = np.zeros((4, 2))
    models = [mlp((2, 5, 2)), mlp((2, 3, 4, 2)), mlp((2, 3, 2), activation="relu")]
    problems = [Problem.from_model(model, x, np.array([0, 1, 0, 1]), l2=1e-3) for model in models]
    for problem in [*problems, lennard_jones(5), Problem.from_energy(lambda w: w @ w, 3)]:
        symmetry = problem.symmetry
        told = symmetry_of_0_2(symmetry.describe(), problem.size)
        assert told == symmetry.to_json() and symmetry_from_json(told).order() == symmetry.order()
        assert symmetry_of_0_2(symmetry.describe(), problem.size + 1) in (None, {"kind": "none"})
    assert symmetry_of_0_2("rotations of a lattice", 12) is None


def test_what_0_2_kept_in_words_is_read(x64, tmp_path):
    """Archives and PATHSAMPLE databases of 0.2.0 tell of a cluster in words only."""
    problem = lennard_jones(5)
    words = f"15 parameters, symmetry: {problem.symmetry.describe()}"
    old = Landscape.from_points(
        [0.0], np.arange(15.0)[None], settings={"problem": words, "group_order": 240}, log_products=[1.0]
    )
    for place in (archive.save(old, tmp_path / "a.npz"), pathsample.write(old, tmp_path / "p")[0].parent):
        got = archive.read(place) if place.suffix else pathsample.read(place).landscape
        assert got.symmetry.to_json() == problem.symmetry.to_json() and got.symmetry.zero_modes == 6
        again = archive.read(archive.save(got, tmp_path / "b.npz", force=True))
        assert again.settings["symmetry"] == problem.symmetry.to_json()


def test_a_store_is_read_while_it_is_written_and_after_a_kill(x64, tmp_path, run):
    folder, found = run
    path = shutil.copy(folder / "landscape.db", tmp_path / "landscape.db")
    with Store(path, xor()) as store:
        with store.transaction():
            store.add_tries([(0, 1)])
        assert (tmp_path / "landscape.db-wal").stat().st_size
        same(found, archive.read(tmp_path))
        killed = tmp_path / "killed"
        killed.mkdir()
        for name in ("landscape.db", "landscape.db-wal"):
            shutil.copy(tmp_path / name, killed / name)
    same(found, archive.read(killed))


def test_what_is_no_store(tmp_path):
    (tmp_path / "landscape.db").write_text("energy,1\n" * 100)
    with pytest.raises(StoreError, match="not a jaxland store"):
        archive.read(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        archive.read_store(tmp_path / "other.db")


READ = """
import os, sys
from pathlib import Path
import pandas, scipy.sparse  # now: a user without rights may not read them
import jaxland.landscape.interchange.pathsample, jaxland.landscape.interchange.export
from jaxland.errors import StoreError
from jaxland.landscape.interchange import archive
folder = Path(sys.argv[1])
os.setgid(65534); os.setuid(65534)
found = archive.read(folder / "closed"), archive.read(folder / "killed")
print([f.n_minima for f in found])
for write in (lambda: archive.save(found[0], folder / "closed" / "x.npz"),
              lambda: jaxland.landscape.interchange.pathsample.write(found[0], folder / "new"),
              lambda: jaxland.landscape.interchange.export.csv(found[0], folder / "closed")):
    try:
        write()
    except StoreError as error:
        print(error)
"""


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="needs root, to become a user without rights")
def test_a_read_only_directory_is_read_and_writing_is_refused(x64, run):
    folder, found = run
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        for part in ("closed", "killed"):
            os.mkdir(f"{name}/{part}")
            shutil.copy(folder / "landscape.db", f"{name}/{part}/landscape.db")
        with Store(f"{name}/closed/landscape.db", xor()) as store:
            with store.transaction():
                store.add_tries([(0, 1)])
            for end in ("", "-wal"):
                shutil.copy(f"{name}/closed/landscape.db{end}", f"{name}/killed/landscape.db{end}")
        got = subprocess.run([sys.executable, "-c", READ, name], capture_output=True, text=True, timeout=300)
        assert got.returncode == 0, got.stderr
        lines = got.stdout.splitlines()
        assert lines[0] == str([found.n_minima] * 2)
        assert len(lines) == 4 and all("cannot be written: Permission denied" in line for line in lines[1:])


# -- GraphML and CSV -------------------------------------------------------------------------------------------------


def test_graphml_keeps_every_transition_state(tmp_path, run):
    _, found = run
    (path,) = export.graphml(found, tmp_path)
    graph = nx.read_graphml(path, node_type=int, force_multigraph=True)
    assert graph.number_of_nodes() == found.n_minima
    own = ~found.degenerate
    assert graph.number_of_edges() == own.sum()
    for i, node in graph.nodes(data=True):
        assert node["energy"] == found.energies[i] and type(node["hits"]) is int
        assert node["log_product"] == found.log_products[i] and node["component"] == found.components()[i]
        listed = [int(t) for t in node.get("degenerate", "").split()]
        assert listed == [t for t in np.flatnonzero(found.degenerate) if found.ts_ends[t, 0] == i]
        energies = [float(e) for e in node.get("degenerate_energies", "").split()]
        assert energies == found.ts_energies[listed].tolist()
    for i, j, t, edge in graph.edges(keys=True, data=True):
        assert {i, j} == set(found.ts_ends[int(t)]) and edge["energy"] == found.ts_energies[int(t)]
    assert graph.graph["problem"].startswith("12 parameters")
    text = path.read_text()
    ids = [part.split('"')[1] for part in text.split("<key ")[1:]]
    assert len(ids) == len(set(ids))
    with pytest.raises(StoreError, match="already holds"):
        export.graphml(found, tmp_path)


def test_graphml_leaves_out_what_is_not_known(tmp_path):
    (path,) = export.graphml(Landscape.from_points([0.0, 1.0], np.zeros((2, 1)), [2.0], [[0, 1]]), tmp_path)
    assert "nan" not in path.read_text() and "log_product" not in nx.read_graphml(path).nodes["0"]


def test_csv_comes_back_bit_by_bit(tmp_path):
    given = landscape()
    export.csv(given, tmp_path, coordinates=True)
    minima, states, x, ts_x = (
        pd.read_csv(tmp_path / name, index_col=0, float_precision="round_trip") for name in export.TABLES
    )
    np.testing.assert_array_equal(minima["energy"], given.energies)
    np.testing.assert_array_equal(minima["log_products"], given.log_products)
    np.testing.assert_array_equal(states[["minimum_1", "minimum_2"]], given.ts_ends)
    np.testing.assert_array_equal(states["energy"], given.ts_energies)
    np.testing.assert_array_equal(x, given.coordinates)
    np.testing.assert_array_equal(ts_x, given.ts_coordinates)
    export.csv(given, tmp_path / "short")
    assert sorted(os.listdir(tmp_path / "short")) == ["minima.csv", "transition_states.csv"]


# -- report and commands ---------------------------------------------------------------------------------------------


def test_the_report_of_any_landscape(tmp_path, run):
    _, found = run
    one = Landscape.from_points([1.5], np.zeros((1, 0)))
    apart = Landscape.from_points(np.arange(5.0), np.zeros((5, 2)))
    for k, case in enumerate([found, one, apart, landscape().restricted(np.arange(20))]):
        page = imported_report(case, tmp_path / str(k), notes=["odd <file>"], sets={"A": np.array([0])}).read_text()
        assert "<svg" in page and "odd &lt;file&gt;" in page and "http" not in page.split("<body>")[0]
        assert (tmp_path / str(k) / "disconnectivity.png").stat().st_size > 1000


def jaxland(*args):
    command = [sys.executable, "-m", "jaxland", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "COLUMNS": "200"})


def test_the_commands_take_a_run_out_and_bring_it_back(tmp_path, run):
    folder, found = run
    first = jaxland("export", folder, "--to", "pathsample", "--out", tmp_path / "db", "--a", "0", "--b", "2,1")
    assert first.returncode == 0, first.stderr
    assert str(tmp_path / "db" / "min.data") in first.stdout
    second = jaxland("import", tmp_path / "db", "--out", tmp_path / "run")
    assert second.returncode == 0, second.stderr
    assert "1 minima in A, 2 in B" in second.stdout and str(tmp_path / "run" / "report.html") in second.stdout
    assert {"report.html", "landscape.npz", "disconnectivity.png", "minima.csv"} <= set(os.listdir(tmp_path / "run"))
    third = jaxland("export", tmp_path / "run", "--to", "pathsample", "--out", tmp_path / "again")
    assert third.returncode == 0, third.stderr
    for name in os.listdir(tmp_path / "db"):
        assert (tmp_path / "db" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    got = pathsample.read(tmp_path / "again").landscape
    np.testing.assert_array_equal(got.coordinates, found.coordinates)


def test_a_mistake_is_one_line(tmp_path, run):
    folder, _ = run
    (tmp_path / "min.data").write_text("0 1.5\n")
    for args, words in (
        (("import", tmp_path, "--out", tmp_path / "o"), "2 columns where PATHSAMPLE has 6"),
        (("import", folder, "--out", tmp_path / "o"), "holds no min.data"),
        (("export", folder, "--to", "gml", "--out", tmp_path / "o"), "--to must be one of pathsample, graphml"),
    ):
        got = jaxland(*args)
        assert got.returncode == 2 and words in got.stderr and "Traceback" not in got.stderr
        assert not (tmp_path / "o").exists()
