"""Thermodynamics and kinetics of explored landscapes, from the search to the report and the command."""

import itertools
import json
import math
import re
from dataclasses import replace

import jax
import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from jaxland import Problem, mlp
from jaxland.cli import thermo
from jaxland.data import load
from jaxland.errors import ArgumentError, DataError, JaxlandError
from jaxland.landscape import explore
from jaxland.landscape.interchange import archive
from jaxland.landscape.physics.analysis import analyse
from jaxland.landscape.physics.kinetics import RateNetwork
from jaxland.landscape.physics.thermodynamics import thermodynamics
from jaxland.landscape.result import Landscape
from jaxland.landscape.search.stationary import Engine
from jaxland.problem.particles import ClusterSymmetry
from jaxland.report import thermodynamics as drawing
from jaxland.report.figures import save


@pytest.fixture(scope="module")
def xor():
    """All 5 minima and 16 transition states of the XOR network at lam = 1e-2."""
    with jax.enable_x64(True):
        x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        problem = Problem.from_model(mlp((2, 2, 2)), x, np.array([0, 1, 1, 0]), l2=1e-2)
        land = explore(problem, starts=100, climbs=200, seed=0)
        assert (land.n_minima, land.n_ts) == (5, 16)
        return land


def images(symmetry, w):
    """Every image of w under the group, in the order of its elements."""
    units, out = symmetry.units[0], []
    for order in itertools.permutations(range(2)):
        for sign in itertools.product([1.0, -1.0], repeat=2):
            moved = np.array(w)
            moved[units] = (np.array(sign)[:, None] * np.array(w)[units])[list(order)]
            out.append(moved)
    return out


def test_orbits_count_every_image_of_the_symmetry(xor):
    """Classes with orbit sizes must behave as the whole network of images does: occupations, rates, passage times."""
    symmetry, t = xor.problem.symmetry, 0.02
    whole, of = [], []
    for a in range(xor.n_minima):
        for w in images(symmetry, xor.coordinates[a]):
            if not any(np.linalg.norm(w - v) < 1e-3 for v in whole):
                whole.append(w)
                of.append(a)
    of = np.array(of)
    np.testing.assert_array_equal(np.bincount(of), xor.orbit_sizes)
    # Which images a transition state joins: down both sides from one image, then moved by the group.
    with jax.enable_x64(True):
        engine = Engine(xor.problem)
        falls = engine.downhill(engine.audit(list(xor.ts_coordinates)))
    near = np.array(whole)
    edges = []
    for k, fall in enumerate(falls):
        states, *sides = (images(symmetry, w) for w in (xor.ts_coordinates[k], *(e.x for e in fall.ends)))
        distinct = {min(i for i, other in enumerate(states) if np.linalg.norm(w - other) < 1e-3) for w in states}
        assert len(distinct) == xor.ts_orbit_sizes[k]
        for pair in zip(*sides):
            found = [int(np.linalg.norm(near - e, axis=1).argmin()) for e in pair]
            assert all(np.linalg.norm(near[i] - e) < 1e-3 for i, e in zip(found, pair))
            assert sorted(of[found]) == sorted(xor.ts_ends[k])
            # A state that some elements leave alone stands in the list several times.
            edges.append((k, *found, xor.ts_orbit_sizes[k] / 8))
    # The path down from a symmetric state may fork; then each element takes its own branch.
    kept = [e for e in edges if e[1] != e[2]]
    states = [k for k, *_ in kept]
    every = Landscape.from_points(
        xor.energies[of],
        near,
        xor.ts_energies[states],
        [(i, j) for _, i, j, _ in kept],
        log_products=xor.log_products[of],
        ts_log_products=xor.ts_log_products[states],
        ts_orbit_sizes=[w for *_, w in kept],
    )
    p = thermodynamics(every, t).occupations[0]
    got = thermodynamics(xor, t)
    np.testing.assert_allclose(np.bincount(of, p), got.occupations[0], rtol=1e-12)
    # Z per class is divided by the order of the group.
    assert got.free_energies[0] - thermodynamics(every, t).free_energies[0] == pytest.approx(t * math.log(8))
    classes, full = RateNetwork.of(xor, t), RateNetwork.of(every, t)
    times = classes.first_passage([0]).times
    whole_times = full.first_passage(of == 0).times
    np.testing.assert_allclose(whole_times, times[of], rtol=1e-9)
    both = classes.rate_constants([0], [3, 4])
    total = full.rate_constants(of == 0, of >= 3)
    assert total.log_ab == pytest.approx(both.log_ab, abs=1e-10)
    assert total.log_time_ba == pytest.approx(both.log_time_ba, abs=1e-10)


def test_an_analysis_of_the_xor_network(xor):
    found = analyse(xor)
    assert found.temperature == 0.25 and found.rows == 4 and found.vibrations
    summary = found.summary()
    assert json.loads(json.dumps(summary)) == summary
    assert summary["connected"] == 5 and summary["modes"] == 12
    assert found.minima()["occupation"].sum() == pytest.approx(1)
    assert found.funnels.occupations.sum() == pytest.approx(1)
    chosen = analyse(xor, 0.01, sets=([0], [1, 2]), temperatures=[0.01, 0.02], depth=0.001)
    exact = RateNetwork.of(xor, 0.01).rate_constants([0], [1, 2])
    assert chosen.kinetics.rates.log_time_ab == exact.log_time_ab and chosen.rows == 0
    assert chosen.kinetics.names == ("A", "B") and 0.01 in chosen.kinetics.to_pandas()["temperature"].tolist()
    with pytest.raises(ArgumentError, match="A: there is no minimum 7"):
        analyse(xor, sets=([7], [0]))


def pieces(seed=0, m=60, t=70):
    """A landscape in several components, without a problem."""
    rng = np.random.default_rng(seed)
    energies = np.sort(rng.uniform(0.2, 0.6, m))
    ends = rng.integers(0, m, (t, 2))
    heights = np.maximum(energies[ends[:, 0]], energies[ends[:, 1]]) + rng.exponential(0.05, t)
    return Landscape.from_points(
        energies, rng.normal(size=(m, 9)), heights, ends, log_products=rng.normal(-20, 2, m),
        ts_log_products=rng.normal(-18, 2, t), hits=rng.integers(1, 20, m),
    )  # fmt: skip


def test_analysis_of_a_landscape_in_pieces(tmp_path):
    land = pieces()
    assert land.components().max() > 1
    found = analyse(land)
    apart = np.setdiff1d(np.arange(60), found.connected)
    table = found.minima()
    assert (table["funnel_bottom"][apart] == -1).all() and table["log_waiting_time"][apart].isna().all()
    assert set(table["funnel_bottom"][found.connected]) == set(found.funnel_table()["bottom"])
    bottoms = found.funnel_table()["bottom"].to_numpy()
    np.testing.assert_array_equal(land.energies[bottoms], found.funnels.energies)
    with pytest.raises(DataError, match=f"minimum {apart[0]} of B is not joined"):
        analyse(land, sets=([0], [apart[0]]))
    for name, figure in {
        "occupation": drawing.occupation_figure(found),
        "funnels": drawing.funnel_figure(found),
        "rates": drawing.rates_figure(found.kinetics.scan),
    }.items():
        assert all(p.stat().st_size > 1000 for p in save(figure, tmp_path / name, dpi=50))
    text = drawing.thermodynamics_report(
        found, tmp_path / "r.html", values={"test <AUC>": np.linspace(0, 1, 60)}, command="jaxland thermo x"
    ).read_text()
    assert text.count("<svg") >= 5 and "minima not joined yet" not in text.split("<svg")[0]
    assert "mean test &lt;AUC&gt;" in text and "jaxland thermo x" in text
    assert "nan" not in re.sub("<svg.*?</svg>", "", text, flags=re.S)


def test_reports_say_what_is_not_known(tmp_path):
    bare = pieces()
    bare = Landscape.from_points(bare.energies, bare.coordinates, bare.ts_energies, bare.ts_ends)
    found = analyse(bare)
    assert not found.vibrations
    text = drawing.thermodynamics_report(found, tmp_path / "bare.html").read_text()
    assert "widths of the basins are not known" in text and "barriers alone" in text
    for lone in (Landscape.from_points([0.5], [[1.0]]), Landscape.from_points([0.5, 0.6], [[1.0], [2.0]])):
        found = analyse(lone)
        assert found.kinetics is None and found.summary()["frustration"] is None
        text = drawing.thermodynamics_report(found, tmp_path / "lone.html").read_text()
        assert "Only one minimum is connected" in text


def test_the_explore_report_has_the_sections(tmp_path, x64):
    from jaxland.landscape.interpretation import interpret
    from jaxland.landscape.weights.conserved import conserved_weights
    from jaxland.landscape.weights.settings import ConservationSettings
    from jaxland.report.landscape import explore_report

    split = load("checkerboard", n=120).split(0.5, scale="standardise")
    problem = Problem.from_model(mlp((2, 2, 2)), split.train.x, split.train.y, l2=1e-3)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(30, problem.size))
    energies = np.sort(rng.uniform(0.3, 0.6, 30))
    ends = [[i, i // 2] for i in range(1, 30)]
    heights = [energies[i] + 0.05 * rng.random() for i in range(1, 30)]
    land = Landscape.from_points(
        energies, points, heights, ends, problem=problem, log_products=rng.normal(size=30),
        ts_log_products=rng.normal(size=29),
    )  # fmt: skip
    told = interpret(land, conserved_weights(land, settings=ConservationSettings(draws=5)), data=split)
    text = explore_report(told, tmp_path / "r.html").read_text()
    for heading in ("Which networks noise leads to", "Funnels", "Does a lower loss mean better test results?"):
        assert f">{heading}</h2>" in text
    assert "T = 1/60" in text and "Averaged over the minima" in text and "mean test accuracy" in text


@pytest.fixture
def command():
    """The command in this process; errors come as exceptions."""
    app = typer.Typer()
    app.callback()(lambda: None)
    thermo.register(app)

    def run(*args):
        return CliRunner().invoke(app, ["thermo", *map(str, args)], catch_exceptions=True, env={"COLUMNS": "200"})

    return run


def test_the_command_reads_a_landscape_without_its_data(tmp_path, command):
    land = pieces()
    archive.save(land, tmp_path / "landscape.npz")
    pd.DataFrame({"loss": np.linspace(0, 1, 60)}).to_csv(tmp_path / "values.csv")
    got = command(tmp_path, "--temperature", "0.02", "--grid", "1e-3:1:20")
    assert got.exit_code == 0, got.output
    assert "occupied most" in got.output and "rates at T = 0.02" in got.output and "report:" in got.output
    out = tmp_path / "thermodynamics"
    names = {p.name for p in out.iterdir()}
    assert names >= {
        "report.html", "summary.json", "curves.csv", "minima.csv", "funnels.csv", "rates.csv", "occupation.png",
        "funnels.svg",
    }  # fmt: skip
    assert len(pd.read_csv(out / "curves.csv")) == 20 and len(pd.read_csv(out / "minima.csv")) == 60
    direct = analyse(land, 0.02)
    summary = json.loads((out / "summary.json").read_text())
    assert summary == json.loads(json.dumps(direct.summary()))
    assert "mean test loss" in (out / "report.html").read_text()
    printed = command(tmp_path / "landscape.npz", "--temperature", "0.02", "--json", "--out", tmp_path / "other")
    assert json.loads(printed.output) == summary
    widths = command(tmp_path, "--equal-widths", "--modes", "3", "--json", "--out", tmp_path / "w")
    assert not json.loads(widths.output)["vibrations"] and json.loads(widths.output)["modes"] == 3


def test_the_command_takes_sets_and_moments_of_an_imported_database(tmp_path, command):
    land = pieces()
    joined = np.flatnonzero(land.components() == 0)
    extras = {"a": joined[:2], "b": joined[5:7], "moments": np.full((60, 3), 4.2)}
    archive.save(land, tmp_path / "landscape.npz", extras=extras)
    summary = json.loads(command(tmp_path, "--json").output)
    assert summary["kinetics"]["A"] == joined[:2].tolist() and summary["kinetics"]["B"] == joined[5:7].tolist()
    assert summary["modes"] == 3
    atoms = replace(pieces(), settings={"symmetry": ClusterSymmetry(2).to_json()})
    archive.save(atoms, tmp_path / "atoms.npz")
    assert json.loads(command(tmp_path / "atoms.npz", "--json", "--out", tmp_path / "o").output)["modes"] == 4
    given = json.loads(command(tmp_path, "--json", "--a", joined[3], "--b", joined[0]).output)
    assert given["kinetics"]["A"] == [int(joined[3])]


@pytest.mark.parametrize(
    "args, words",
    [
        (["--temperature", "-1"], "positive"),
        (["--grid", "1:2"], "LOW:HIGH:COUNT"),
        (["--grid", "2:1:5"], "0 < LOW < HIGH"),
        (["--a", "0"], "both --a and --b"),
        (["--a", "x", "--b", "1"], "--a takes numbers"),
        (["--a", "0", "--b", "0"], "overlap"),
        (["--depth", "-1"], "depth"),
    ],
)
def test_bad_options_are_one_clear_error(tmp_path, command, args, words):
    archive.save(pieces(), tmp_path / "landscape.npz")
    got = command(tmp_path, *args)
    assert isinstance(got.exception, JaxlandError) and words in str(got.exception)
    assert not (tmp_path / "thermodynamics").exists()


def test_a_missing_run_is_named(tmp_path, command):
    got = command(tmp_path / "nowhere")
    assert isinstance(got.exception, DataError) and "nowhere does not exist" in str(got.exception)
