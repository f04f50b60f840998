"""Searches by whole programs, interpreted, as an accelerator runs them: the points of the lanes' path."""

from itertools import chain

import jax
import numpy as np
import pytest

from jaxland import Problem, mlp
from jaxland.core.pallas import whole
from jaxland.core.solvers import fleet, threads
from jaxland.core.solvers.protocol import Layout
from jaxland.core.solvers.quench import Walk
from jaxland.landscape import explore
from jaxland.landscape.search.hopping import hop_by_hop
from jaxland.landscape.search.stationary import Engine

LAYOUT = Layout(32, 32, None, 1)


@pytest.fixture
def ran(monkeypatch):
    """Programs that ran, and the precision of their items; the whole ones win every trial."""
    found = []

    def run(program, items, *rest, _run=fleet.run, **options):
        found.append((type(program).__name__, jax.tree.leaves(items)[0].dtype.name))
        options["lanes"] = 32
        return _run(program, items, *rest, **options)

    monkeypatch.setattr(fleet, "run", run)
    monkeypatch.setattr(threads, "on_accelerator", lambda: True)
    monkeypatch.setattr(whole.fleet, "_faster", lambda *_: True)
    return found


def problem(choice="fused"):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 2))
    return Problem.from_model(mlp((2, 2, 2)), x, (x[:, 0] * x[:, 1] > 0).astype(int), l2=1e-4, kernel_choice=choice)


def walks(size, rng):
    minima = [p for p in Engine(problem("xla")).quench(rng.normal(size=(6, size))) if p is not None][:5]
    return Walk(
        x=np.array([p.x for p in minima]),
        energy=np.array([p.energy for p in minima]),
        max_step=np.ones(5),
        kicks=0.6 * rng.normal(size=(5, 3, size)),
        allowed=-0.01 * np.log(rng.random((5, 3))),
    )


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["double", "mixed"])
def test_minima_and_hops_are_those_of_lanes(x64, ran, monkeypatch, precision):
    rng = np.random.default_rng(1)
    starts, going = rng.normal(size=(32, 12)), walks(12, rng)
    monkeypatch.setattr(threads, "on_accelerator", lambda: False)
    usual = Engine(problem("xla"))
    truth, (walked, _) = usual.quench(starts), hop_by_hop(usual, going)
    monkeypatch.setattr(threads, "on_accelerator", lambda: True)
    engine = Engine(problem(), precision=precision, layout=LAYOUT)
    ran.clear()
    found, hops = engine.quench(starts), engine.hops(going)
    searched = "float64" if precision == "double" else "float32"
    assert {dtype for name, dtype in ran if name != "Vmapped"} == {searched}
    assert [name for name, _ in ran if name != "Vmapped"] == ["WholeQuench", "WholeHops"]
    known = np.unique(np.round([p.energy for p in truth if p is not None], 9))
    for ours, theirs in ((found, truth), (list(chain(*hops)), list(chain(*walked)))):
        assert all(p is not None and p.rms <= 1e-9 and p.negative == 0 for p in ours)
        same = np.array([abs(a.energy - b.energy) < 1e-9 for a, b in zip(ours, theirs)])
        assert same.all() if precision == "double" else same.mean() > 0.9
    assert len(known) > 3
    # Nothing is lost: every minimum that lanes found in float64 is found.
    energies = np.array([p.energy for p in found])
    assert all(np.min(np.abs(energies - e)) < 2e-9 for e in known)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["double", "mixed"])
def test_explore_by_whole_programs(x64, ran, monkeypatch, precision):
    options = {
        "starts": 32,
        "walkers": 4,
        "hops": 2,
        "climbs": 0,
        "searches": 0,
        "pairs": 4,
        "images": 5,
        "rounds": 2,
    }
    options |= {"seed": 3, "breadth": 1, "layout": LAYOUT}
    monkeypatch.setattr(threads, "on_accelerator", lambda: False)
    usual = explore(problem("xla"), **options)
    monkeypatch.setattr(threads, "on_accelerator", lambda: True)
    ran.clear()
    found = explore(problem(), precision=precision, **options)
    assert {"WholeQuench", "WholeHops", "WholeBand"} <= {name for name, _ in ran}
    for e in usual.energies:
        assert np.min(np.abs(found.energies - e)) < 1e-9
