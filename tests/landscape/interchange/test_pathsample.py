"""PATHSAMPLE databases: bit-exact round trips, Fortran's ways of writing numbers, and what is refused."""

import os
import shutil
import subprocess

import numpy as np
import pytest
from shared_cases import SADDLES, extreme, landscape, muller_brown

from jaxland import Problem
from jaxland.errors import ArgumentError, DataError, StoreError
from jaxland.landscape import Landscape
from jaxland.landscape.interchange import archive, pathsample
from jaxland.landscape.interchange.archive import group_order
from jaxland.landscape.interchange.pathsample import PathsampleDatabase
from jaxland.problem.potentials import lennard_jones

KEPT = (
    "energies", "coordinates", "log_products", "orbit_sizes", "ts_energies", "ts_coordinates", "ts_ends",
    "ts_log_products", "ts_orbit_sizes",
)  # fmt: skip
# As PATHSAMPLE writes them: (2F20.10,I6,3F20.10) and (2F20.10,3I10,3F20.10).
MIN_DATA = """\
      -15.9350430600       53.1224870700     2        2.5000000000        3.7500000000        4.1250000000
      -16.5053840200      0.5270012200D+02    10        1.0000000000        1.0000000000        2.0000000000
      -15.5332   51.8      1        .5     1.5E0   +2.5
"""
TS_DATA = """\
      -15.4447342500       50.5000000000     1         2         1        1.0        1.0        1.0
      -15.3198       0.1234-100     2         3         3        1.0        1.0        1.0
"""


def same(a, b):
    for name in KEPT:
        x, y = getattr(a, name), getattr(b, name)
        assert np.array_equal(np.signbit(x), np.signbit(y)), name
        np.testing.assert_array_equal(x, y, err_msg=name)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "min.data").write_text(MIN_DATA)
    (tmp_path / "ts.data").write_text(TS_DATA)
    np.arange(18, dtype="<f8").tofile(tmp_path / "points.min")
    np.arange(12, dtype="<f8").tofile(tmp_path / "points.ts")
    return tmp_path


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


# -- round trip ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_round_trip_is_exact_to_the_bit(tmp_path, seed):
    before = landscape(seed)
    rng = np.random.default_rng(seed)
    sent = PathsampleDatabase(before, np.array([0, 3]), np.array([7]), extreme(rng, (40, 3)), extreme(rng, (90, 3)))
    pathsample.write(sent, tmp_path / "db")
    got = pathsample.read(tmp_path / "db")
    same(before, got.landscape)
    for name in ("a", "b", "moments", "ts_moments"):
        np.testing.assert_array_equal(getattr(sent, name), getattr(got, name))
    assert group_order(got.landscape) == 48 and not [n for n in got.notes if "below" not in n]
    pathsample.write(got, tmp_path / "again")
    for name in os.listdir(tmp_path / "db"):
        if name != pathsample.SEAL:
            assert (tmp_path / "db" / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_orders_are_group_order_over_orbit_size(tmp_path):
    pathsample.write(landscape(), tmp_path)
    orders = np.loadtxt(tmp_path / "min.data")[:, 2]
    np.testing.assert_array_equal(orders, 48 / landscape().orbit_sizes)
    (tmp_path / pathsample.SEAL).unlink()
    # Without the sidecar the group is not known: orbit sizes are right up to a common factor.
    orbits = pathsample.read(tmp_path).landscape.orbit_sizes
    ratio = orbits / landscape().orbit_sizes
    assert np.ptp(ratio) == 0 and (orbits == np.round(orbits)).all()


def test_orders_are_exact_where_the_group_is_beyond_doubles(tmp_path):
    group = 2**20 * 2432902008176640000
    orders = np.array([1, 2, 12345678])
    given = Landscape.from_points(
        np.zeros(3), np.zeros((3, 1)), log_products=np.zeros(3), orbit_sizes=group / orders,
        settings={"group_order": group},
    )  # fmt: skip
    pathsample.write(given, tmp_path)
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "min.data")[:, 2], orders)
    same(given, pathsample.read(tmp_path).landscape)


def test_a_cluster_has_its_point_group_and_moments_of_inertia(x64, tmp_path):
    problem = lennard_jones(3)
    r = 2 ** (1 / 6)
    x = r * np.array([[0, 0, 1.0], [1.0, 0, 1.0], [0.5, np.sqrt(0.75), 1.0]]).ravel()
    given = Landscape.from_points(
        [float(problem.energy(x))], x[None], problem=problem, log_products=[1.0],
        orbit_sizes=[problem.symmetry.orbit_size(x)],
    )  # fmt: skip
    pathsample.write(given, tmp_path)
    e, _, order, *moments = np.loadtxt(tmp_path / "min.data")
    np.testing.assert_allclose([e, order, *moments], [-3, 12, r * r / 2, r * r / 2, r * r], rtol=1e-12)
    # Also where only a description of the problem is left.
    archive.save(given, tmp_path / "l.npz")
    pathsample.write(archive.load(tmp_path / "l.npz"), tmp_path / "again")
    assert (tmp_path / "again" / "min.data").read_text() == (tmp_path / "min.data").read_text()


@pytest.mark.skipif(shutil.which("gfortran") is None, reason="no Fortran compiler")
def test_fortran_reads_the_same_bits(tmp_path):
    before = landscape()
    pathsample.write(before, tmp_path)
    (tmp_path / "read.f90").write_text(
        "program r\nreal(8) :: e, f, ix, iy, iz, x(7)\ninteger :: o, k\nopen(1, file='min.data')\n"
        "open(2, file='points.min', access='direct', form='unformatted', recl=56)\n"
        "open(3, file='bits', access='stream', form='unformatted')\ndo k = 1, 40\nread(1, *) e, f, o, ix, iy, iz\n"
        "read(2, rec=k) x\nwrite(3) e, f, x\nend do\nend program\n"
    )
    subprocess.run(["gfortran", "read.f90", "-o", "read"], cwd=tmp_path, check=True)
    subprocess.run(["./read"], cwd=tmp_path, check=True)
    bits = np.fromfile(tmp_path / "bits").reshape(40, 9)
    np.testing.assert_array_equal(bits, np.column_stack([before.energies, before.log_products, before.coordinates]))


# -- what others wrote ----------------------------------------------------------------------------------------


def test_files_as_fortran_writes_them(folder):
    (folder / "min.A").write_text("1\n2\n")
    (folder / "min.B").write_text("  2\n   1\n   3   \n")
    got = pathsample.read(folder)
    found = got.landscape
    np.testing.assert_array_equal(found.energies, [-16.50538402, -15.93504306, -15.5332])
    np.testing.assert_array_equal(found.log_products, [52.700122, 53.12248707, 51.8])
    np.testing.assert_array_equal(found.coordinates, np.arange(18.0).reshape(3, 6)[[1, 0, 2]])
    np.testing.assert_array_equal(found.ts_ends, [[0, 1], [2, 2]])
    np.testing.assert_array_equal(found.ts_log_products, [50.5, 0.1234e-100])
    np.testing.assert_array_equal(found.degenerate, [False, True])
    np.testing.assert_array_equal(found.orbit_sizes, [1, 5, 10])
    np.testing.assert_array_equal(got.moments[1], [2.5, 3.75, 4.125])
    np.testing.assert_array_equal(got.a, [0])
    np.testing.assert_array_equal(got.b, [1, 2])
    assert got.notes == () and "1 minima in A, 2 in B" in got.describe()


@pytest.mark.parametrize(
    "word, value",
    [
        ("1.0D+02", 100.0), ("1.0E-3", 1e-3), ("0.1234-100", 0.1234e-100), ("-0.5+120", -0.5e120), ("-.5d0", -0.5),
        ("12", 12.0), ("1.", 1.0), ("+3.25Q-2", 0.0325), ("1e5", 1e5), ("0.30000000000000004E+00", 0.1 + 0.2),
    ],
)  # fmt: skip
def test_numbers_as_fortran_writes_them(folder, word, value):
    change(folder / "min.data", "-15.5332", word)
    assert value in pathsample.read(folder).landscape.energies


@pytest.mark.parametrize("word", ["nan", "NaN", "Infinity", "1_0", "0x10", "1.0D", "1.2.3", "2*1.0", "1,5", "1e9999"])
def test_what_is_no_number_is_refused(folder, word):
    change(folder / "min.data", "51.8", word)
    with pytest.raises(DataError, match=r"min.data, line 3, column log product"):
        pathsample.read(folder)


@pytest.mark.parametrize(
    "name, old, new, words",
    [
        ("min.data", "-15.9350430600", "********", r"min.data, line 1, column energy: .* did not fit its field"),
        ("min.data", "    10 ", "  10.5 ", r"line 2, column order.*whole number"),
        ("min.data", "    10 ", "     0 ", r"line 2, column order: must be at least 1"),
        ("min.data", "2.0000000000", "", r"line 2: 5 columns where PATHSAMPLE has 6 \(energy, log product"),
        ("min.data", "1.5E0", "é", "line 3: not plain text"),
        (
            "ts.data",
            "         2         1 ",
            "         0         1 ",
            r"ts.data, line 1, column min1: .* no minimum 0",
        ),
        (
            "ts.data",
            "         2         1 ",
            "         2         4 ",
            r"line 1, column min2: .* no minimum 4 among 3",
        ),
        ("ts.data", "         2         1 ", "         2       1.0 ", r"line 1, column min2: '1.0' is not a whole"),
        ("ts.data", "0.1234-100", "", r"line 2: 7 columns where PATHSAMPLE has 8"),
    ],
)
def test_the_message_names_file_line_and_column(folder, name, old, new, words):
    change(folder / name, old, new)
    with pytest.raises(DataError, match=words):
        pathsample.read(folder)


def test_files_of_other_programs_with_the_same_names(folder):
    # topsearch: index and energy; two indices (from 0) and energy.
    (folder / "ts.data").write_text("0 1 -15.44473\n2 2 -15.31986\n")
    with pytest.raises(DataError, match=r"ts.data, line 1: 3 columns where PATHSAMPLE has 8.*topsearch"):
        pathsample.read(folder)
    (folder / "min.data").write_text("0 -16.50538\n1 -15.93504\n")
    with pytest.raises(DataError, match=r"min.data, line 1: 2 columns where PATHSAMPLE has 6.*topsearch"):
        pathsample.read(folder)
    (folder / "min.data").write_bytes(np.arange(40.0).tobytes())
    with pytest.raises(DataError, match="line 1: not plain text"):
        pathsample.read(folder)
    (folder / "min.data").write_text("1" * 10000)
    with pytest.raises(DataError, match="line 1: longer than"):
        pathsample.read(folder)


def test_a_directory_without_a_database(tmp_path):
    with pytest.raises(DataError, match=r"holds no min.data"):
        pathsample.read(tmp_path)
    (tmp_path / "min.data").write_text("\n")
    with pytest.raises(DataError, match="holds no minima"):
        pathsample.read(tmp_path)


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "is empty"), ("2\n1\n", "announces 2 minima and lists 1"), ("1\n1 2\n", "more than the 1"),
        ("2\n1\n1\n", "twice"), ("1\n4\n", "minimum 4 does not fit"), ("1\n0\n", "minimum 0 does not fit"),
        ("99999999999999\n", "count 99999999999999 does not fit"), ("-1\n", "count -1"), ("a\n", "whole number"),
    ],
)  # fmt: skip
def test_sets_that_make_no_sense(folder, text, words):
    (folder / "min.A").write_text(text)
    with pytest.raises(DataError, match=r"min\.A.*" + words):
        pathsample.read(folder)


def test_a_minimum_in_both_sets(folder):
    (folder / "min.A").write_text("1 2")
    (folder / "min.B").write_text("2 3 2")
    with pytest.raises(DataError, match="minimum 2 is in both"):
        pathsample.read(folder)


# -- points ----------------------------------------------------------------------------------------


def test_points_may_be_missing(folder):
    (folder / "points.ts").unlink()
    got = pathsample.read(folder)
    assert got.notes == ("no points.ts: no coordinates",) and np.isnan(got.landscape.ts_coordinates).all()
    (folder / "points.min").unlink()
    (folder / "ts.data").unlink()
    got = pathsample.read(folder)
    assert got.landscape.coordinates.shape == (3, 0) and got.landscape.n_ts == 0
    assert got.notes == ("no ts.data: minima only", "no points.min: no coordinates")
    pathsample.write(got, folder / "out")
    again = pathsample.read(folder / "out")
    same(got.landscape, again.landscape)
    assert not (folder / "out" / "points.min").exists()


def test_points_that_do_not_fit(folder):
    for count, words in ((17, "136 bytes, which are not 3 records"), (0, "0 bytes")):
        np.arange(count, dtype="<f8").tofile(folder / "points.min")
        with pytest.raises(DataError, match=words):
            pathsample.read(folder)
    np.arange(15, dtype="<f8").tofile(folder / "points.min")
    with pytest.raises(DataError, match=r"points.ts has 96 bytes, which are not 2 records of 5 numbers"):
        pathsample.read(folder)
    with pytest.raises(DataError, match=r"points.min has 120 bytes, which are not 3 records of 6 numbers"):
        pathsample.read(folder, size=6)
    (folder / "points.min").unlink()
    with pytest.raises(DataError, match=r"holds points.ts but no points.min"):
        pathsample.read(folder)


def test_points_of_other_machines_and_compilers(folder):
    x = np.random.default_rng(0).normal(size=18)
    x.astype(">f8").tofile(folder / "points.min")
    with pytest.raises(DataError, match="big-endian"):
        pathsample.read(folder)
    mark = np.array([48], "<i4").tobytes()
    (folder / "points.min").write_bytes(b"".join(mark + row.tobytes() + mark for row in x.reshape(3, 6)))
    with pytest.raises(DataError, match="Fortran record markers"):
        pathsample.read(folder, size=6)
    x[4] = np.nan
    x.tofile(folder / "points.min")
    with pytest.raises(DataError, match=r"points.min, record 1: not all of its 6 numbers are finite"):
        pathsample.read(folder)


# -- with a problem ----------------------------------------------------------------------------------------


@pytest.fixture
def muller(x64):
    problem = Problem.from_energy(muller_brown, 2)
    minima = np.array([[0.623499, 0.028038], [-0.558224, 1.441726], [-0.050011, 0.466694]])
    saddles = np.array(list(SADDLES))
    energy = [float(problem.energy(x)) for x in minima]
    given = Landscape.from_points(
        energy, minima, [float(problem.energy(x)) for x in saddles], [[1, 2], [0, 2]], problem=problem,
        ts_coordinates=saddles, log_products=np.ones(3), ts_log_products=np.ones(2),
    )  # fmt: skip
    return problem, given


def test_energies_are_compared_with_the_problem(tmp_path, muller):
    problem, given = muller
    pathsample.write(given, tmp_path)
    got = pathsample.read(tmp_path, problem=problem).landscape
    assert got.problem is problem
    same(given, got)
    (tmp_path / pathsample.SEAL).unlink()
    points = np.fromfile(tmp_path / "points.ts")
    points[2] += 1e-3
    points.tofile(tmp_path / "points.ts")
    with pytest.raises(DataError, match=r"ts.data, line 2: energy .* but the problem gives .* \(1 of 2 disagree\)"):
        pathsample.read(tmp_path, problem=problem)
    assert pathsample.read(tmp_path, problem=problem, energy_tolerance=None).landscape.n_ts == 2
    with pytest.raises(DataError, match="which are not 3 records of 3 numbers"):
        pathsample.read(tmp_path, problem=Problem.from_energy(lambda w: w @ w, 3))


def test_odd_contents_are_noted(folder, x64):
    change(folder / "ts.data", "-15.4447342500", "-15.9947342500")
    change(folder / "min.data", "     2 ", "     3 ")
    problem = Problem.from_energy(lambda w: w @ w, 6)
    notes = pathsample.read(folder, problem=problem, energy_tolerance=None).notes
    assert "1 transition states lie below a minimum they join, the first in ts.data, line 1" in notes
    assert any("orders of 3 points" in note for note in notes)


# -- writing ----------------------------------------------------------------------------------------


def test_a_database_that_is_there_is_not_overwritten(tmp_path):
    paths = pathsample.write(landscape(), tmp_path, a=[0])
    before = {path: path.read_bytes() for path in paths}
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"already holds .*min.data.*--force"):
        pathsample.write(landscape(1), tmp_path)
    assert before == {path: path.read_bytes() for path in paths}
    pathsample.write(landscape(1), tmp_path, force=True)
    got = pathsample.read(tmp_path)
    same(landscape(1), got.landscape)
    # min.A of the earlier database would name minima of another landscape.
    assert len(got.a) == 0 and not (tmp_path / "min.A").exists() and (tmp_path / "notes.txt").exists()
    assert not list(tmp_path.glob(".partial*"))


def test_what_cannot_be_written(tmp_path):
    lacking = Landscape.from_points([0.0, 1.0], np.zeros((2, 1)))
    with pytest.raises(DataError, match="no log product"):
        pathsample.write(lacking, tmp_path / "a")
    pathsample.write(lacking, tmp_path / "a", log_product=0.0)
    with pytest.raises(DataError, match="no minima"):
        pathsample.write(Landscape.from_points([], np.zeros((0, 2))), tmp_path / "b")
    with pytest.raises(ArgumentError, match="minimum 3 is in both"):
        pathsample.write(landscape(), tmp_path / "b", a=[3, 1], b=[3])
    with pytest.raises(ArgumentError, match=r"a must hold minima 0\.\.39"):
        pathsample.write(landscape(), tmp_path / "b", a=[40])
    holes = landscape()
    holes.coordinates[3, 2] = np.nan
    with pytest.raises(DataError, match="coordinates of minimum 3"):
        pathsample.write(holes, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_the_sidecar_is_read_by_sha256sum_and_guards_the_files(tmp_path):
    pathsample.write(landscape(), tmp_path, a=[1])
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "-c", "--quiet", pathsample.SEAL], cwd=tmp_path, check=True)
    change(tmp_path / "min.A", "2", "3")
    with pytest.raises(StoreError, match=r"min.A does not fit jaxland.sha256.*remove jaxland.sha256"):
        pathsample.read(tmp_path)
    (tmp_path / "min.A").unlink()
    with pytest.raises(StoreError, match=r"min.A is missing"):
        pathsample.read(tmp_path)
    change(tmp_path / pathsample.SEAL, '"group_order": 48', '"group_order": 96')
    with pytest.raises(StoreError, match=r"jaxland.sha256 is damaged"):
        pathsample.read(tmp_path)
    (tmp_path / pathsample.SEAL).unlink()
    (tmp_path / "min.B").write_text("1\n4\n")
    assert pathsample.read(tmp_path).b.tolist() == [3]
