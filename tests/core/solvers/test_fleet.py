"""Many jobs with the queue on the device (here: the CPU as one): the ends of lanes, whatever the width."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxland import Problem, mlp
from jaxland.core.solvers import fleet, lanes, quench, saddle, threads
from jaxland.core.solvers.fleet import Vmapped
from jaxland.core.solvers.protocol import Layout, Status
from jaxland.landscape.search.stationary import Engine

RNG = np.random.default_rng(5)


def problem():
    x = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    return Problem.from_model(mlp((2, 2, 2)), x, np.array([0, 1, 1, 0]), l2=1e-2)


@pytest.mark.parametrize("width", [1, 64])
def test_every_job_ends_where_lanes_end_it(x64, width):
    one, starts = problem(), RNG.normal(size=(50, 12))
    solver = quench.BFGS(1e-8)
    truth = lanes.run(solver, one.kernel.first, [quench.Start(w, np.float64(1.0)) for w in starts], one.kernel.data)
    seen = []
    ended = fleet.run(
        Vmapped(solver, one.kernel.first),
        quench.Start(starts, np.ones(50)),
        one.kernel.data,
        lanes=width,
        progress=lambda done, count: seen.append((done, count)),
    )
    assert (ended.status == Status.CONVERGED).all() and seen[-1] == (50, 50)
    np.testing.assert_allclose(ended.result.energy, [o.result.energy for o in truth], rtol=1e-9)


def test_stopping_leaves_jobs_running(x64):
    one = problem()
    ended = fleet.run(
        Vmapped(quench.BFGS(1e-8), one.kernel.first),
        quench.Start(RNG.normal(size=(9, 12)), np.ones(9)),
        one.kernel.data,
        should_stop=lambda: True,
    )
    assert (ended.status == Status.RUNNING).all()


def test_the_number_of_jobs_compiles_nothing(x64, monkeypatch):
    """1,100 jobs begin in the larger size and their last in the smaller; 1,500 take the same programs."""
    traces = []

    class Counted(quench.BFGS):
        def step(self, s, values):
            traces.append(1)
            return super().step(s, values)

    monkeypatch.setattr(fleet, "_FEW", 128)
    one, program = problem(), Vmapped(Counted(1e-6), problem().kernel.first)
    for count in (1100, 1500):
        starts = quench.Start(RNG.normal(size=(count, 12)), np.ones(count))
        assert (fleet.run(program, starts, one.kernel.data, lanes=512).status == Status.CONVERGED).all()
        if count == 1100:
            first = len(traces)
    assert len(traces) == first


def test_memory_that_runs_out_halves_the_lanes(x64, monkeypatch):
    tried = []
    true_run = fleet._run

    def tight(program, items, data, lanes, *rest):
        tried.append(lanes)
        if lanes > 16:
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return true_run(program, items, data, lanes, *rest)

    monkeypatch.setattr(fleet, "_run", tight)
    one = problem()
    ended = fleet.run(
        Vmapped(quench.BFGS(1e-6), one.kernel.first),
        quench.Start(RNG.normal(size=(20, 12)), np.ones(20)),
        one.kernel.data,
        lanes=64,
    )
    assert tried == [64, 32, 16] and (ended.status == Status.CONVERGED).all()


@pytest.mark.parametrize("lanes_, squads", [(8, 1), (8, 4), (16, 3)])
def test_squads_lose_and_repeat_no_job(x64, lanes_, squads):
    """Squads fill up from one queue and take over each other's last jobs: each ends once, where it ends alone."""
    one, starts = problem(), 1.5 * RNG.normal(size=(77, 12))
    program = Vmapped(quench.BFGS(1e-8), one.kernel.first, 16)
    items, seen = quench.Start(starts, np.ones(77)), []
    alone = fleet.run(program, items, one.kernel.data, lanes=128, squads=1)
    ended = fleet.run(
        program, items, one.kernel.data, lanes=lanes_, squads=squads, progress=lambda done, _: seen.append(done)
    )
    assert (ended.status == Status.CONVERGED).all() and seen == sorted(seen) and seen[-1] == 77
    np.testing.assert_array_equal(ended.result.evaluations, alone.result.evaluations)
    np.testing.assert_allclose(ended.result.x, alone.result.x, atol=1e-9)


def test_searches_in_turns_end_on_saddles_with_fewer_hessians(x64):
    """The saddles that a Hessian at every point finds, by two thirds as many at most."""
    one = problem()
    guesses = saddle.Guess(1.2 * RNG.normal(size=(40, 12)), np.zeros((40, 12)))
    following = saddle.EigenvectorFollowing(1e-9)
    turns = saddle.InTurns(solver=following, evaluate=one.kernel.second, first=one.kernel.first, passes=2)
    every = Vmapped(saddle.EigenvectorFollowing(1e-9, keep=0), saddle.everywhere(one.kernel.second), 4)
    some, all_ = (fleet.run(program, guesses, one.kernel.data, lanes=64) for program in (turns, every))
    found = [ended.result.energy[ended.status == Status.CONVERGED] for ended in (some, all_)]
    assert min(map(len, found)) > 10 and len(found[0]) > 0.8 * len(found[1])
    known = np.unique(np.round(found[1], 7))
    assert np.mean(np.isin(np.round(found[0], 7), known)) > 0.7
    assert 3 * some.result.curvatures.sum() < 2 * all_.result.curvatures.sum()
    assert (some.result.curvatures <= some.result.evaluations).all()


def test_an_engine_finds_the_same_with_a_fleet(x64, monkeypatch):
    """Quenches, saddles, downhill paths and bands of XOR by lanes and by a fleet."""
    by_lanes = Engine(problem())
    monkeypatch.setattr(threads, "on_accelerator", lambda: True)
    by_fleet = Engine(problem())
    assert by_fleet.pipeline is None and by_fleet.descent(1e-9).tol == 1e-9
    starts = 1.5 * RNG.normal(size=(24, 12))
    b = by_fleet.quench(starts)
    monkeypatch.undo()
    a = by_lanes.quench(starts)
    monkeypatch.setattr(threads, "on_accelerator", lambda: True)
    assert [p is None for p in a] == [p is None for p in b]
    np.testing.assert_allclose([p.energy for p in a if p], [p.energy for p in b if p], atol=1e-9)
    minima = [p.x for p in a if p][:6]
    guesses = by_fleet.bands(list(zip(minima[::2], minima[1::2])))
    assert any(guesses)
    found = by_fleet.transition_states([g for several in guesses for g in several])
    known = np.array([0.48, 0.7])
    assert all(known[0] < ts.saddle.energy < known[1] for ts in found if ts) and any(found)
    assert by_fleet.quench([]) == [] and by_fleet.saddles([]) == [] and by_fleet.bands([]) == []
    assert jnp.result_type(float) == jnp.float64 and jax.default_backend()


def test_lanes_of_an_accelerator_fit_its_memory(monkeypatch):
    monkeypatch.setattr(threads, "on_accelerator", lambda: True)
    lanes_of = {size: Layout.default(size=size).lanes for size in (27, 210, 450, 1500, 20_000, 10**9)}
    assert lanes_of == {27: 4096, 210: 4096, 450: 2048, 1500: 128, 20_000: 512, 10**9: 16}
    assert Layout.default(100).lanes == 128 and Layout.default(100, 1500).lanes == 128
