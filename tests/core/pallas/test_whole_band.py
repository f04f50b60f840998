"""An elastic band as one program, interpreted: evaluation by evaluation the band of the lanes."""

from dataclasses import replace
from itertools import chain

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lowering import abstract_gpu

from jaxland import Problem, mlp
from jaxland.core.pallas import whole
from jaxland.core.pallas.dense import choose, dense_kernel
from jaxland.core.pallas.whole import WholeBand
from jaxland.core.solvers import fleet, lanes
from jaxland.core.solvers.band import ElasticBand, along_band
from jaxland.core.solvers.protocol import Layout, Status
from jaxland.landscape.search.stationary import Engine

RNG = np.random.default_rng(0)
SOLVER = ElasticBand(5, max_evaluations=14, tol=1e-3, history=2)


@pytest.fixture(scope="module")
def case():
    """XOR of two signs with noise, 2 hidden units; pairs of points."""
    with jax.enable_x64(True):
        x = RNG.normal(size=(37, 2))
        problem = Problem.from_model(mlp((2, 2, 2)), x, (x[:, 0] * x[:, 1] > 0).astype(int), l2=1e-3)
        shape = choose((2, 2, 2), "tanh", "cross_entropy", 1e-3, 8, "interpret")
        return dense_kernel(shape, problem.kernel, jnp.asarray(x), problem.y), RNG.normal(size=(6, 2, problem.size))


def compared(solver, kernel, items, groups, team, lanes_of_fleet, passes=5):
    program = WholeBand(replace(kernel.dense, groups=groups, team=team), solver, passes)
    ended = fleet.run(program, items, kernel.data, lanes=lanes_of_fleet)
    truth = lanes.run(solver, along_band(kernel.first), list(items), kernel.data)
    assert ended.status.tolist() == [o.status for o in truth]
    for name in ("images", "energies", "tangents", "evaluations"):
        found = np.array([getattr(o.result, name) for o in truth])
        np.testing.assert_allclose(getattr(ended.result, name), found, atol=1e-9, err_msg=name)
    return ended


def test_the_same_steps_as_lanes(x64, case):
    """Two groups of units, a team of 16; more bands than lanes, two launches and a half a band."""
    kernel, pairs = case
    ended = compared(SOLVER, kernel, pairs[:3], 2, 16, 2)
    assert ended.status.tolist() == [Status.MAX_STEPS] * 3


@pytest.mark.slow
@pytest.mark.parametrize("groups, team, width", [(1, 1, 32), (1, 8, 4), (2, 1, 16), (2, 64, 3)])
def test_bands_of_any_threads_end_where_lanes_do(x64, case, groups, team, width):
    """Paths given whole; one is no number and ends alone. Rounding grows with every step: few are compared."""
    kernel, pairs = case
    rng = np.random.default_rng(1)
    paths = pairs[:, :1] + np.linspace(0, 1, 6)[:, None] * (pairs[:, 1:] - pairs[:, :1])
    paths = paths + 0.1 * rng.normal(size=paths.shape)
    paths[3, 2, 0] = np.nan
    solver = ElasticBand(6, max_evaluations=16, tol=0.025, history=4, max_step=0.3)
    ended = compared(solver, kernel, paths, groups, team, width, 50)
    assert ended.status[3] == Status.NONFINITE and {Status.CONVERGED, Status.MAX_STEPS} <= set(ended.status)


@pytest.mark.slow
def test_bands_without_direction(x64, case):
    """One folded back on itself, whose tangent rounding decides in lanes, and one of equal points."""
    kernel, pairs = case
    paths = pairs[:2, :1] + np.linspace(0, 1, 5)[:, None] * (pairs[:2, 1:] - pairs[:2, :1])
    paths[0, 3] = paths[0, 1]
    paths[1] = paths[1, :1]
    solver = ElasticBand(5, max_evaluations=3, tol=1e-9)
    program = WholeBand(replace(kernel.dense, groups=1, team=4), solver, 5)
    ended = fleet.run(program, paths, kernel.data, lanes=8)
    truth = lanes.run(solver, along_band(kernel.first), list(paths), kernel.data)
    assert ended.status.tolist() == [o.status for o in truth]
    assert np.isfinite(ended.result.images).all() and np.isfinite(ended.result.tangents).all()
    np.testing.assert_allclose(ended.result.images[1], truth[1].result.images, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sizes, jobs, dtype", [((2, 5, 2), 1024, "float64"), ((2, 5, 2), 40_000, "float32"), ((23, 8, 2), 64, "float64")]
)
def test_lowers_for_cuda(sizes, jobs, dtype):
    with jax.enable_x64(dtype == "float64"), abstract_gpu():
        shape = choose(sizes, "tanh", "cross_entropy", 1e-5, np.dtype(dtype).itemsize)
        program = WholeBand.of(shape, 1000, jobs, ElasticBand())
        pairs = jax.ShapeDtypeStruct((32, 2, shape.parameters), dtype)
        x, y = jax.ShapeDtypeStruct((sizes[0], 1000), dtype), jax.ShapeDtypeStruct((1, 1000), dtype)
        states = jax.eval_shape(program.begin, pairs)
        traced = jax.jit(lambda *a: program.advance(a[0], (a[1:], None))).trace(states, x, y)
        assert "__gpu$xla.gpu.triton" in traced.lower(lowering_platforms=("cuda",)).as_text()


def test_bands_share_a_gpu():
    shape = choose((2, 5, 2), "tanh", "cross_entropy", 1e-5, 8)
    many = WholeBand.of(shape, 1000, 1024, ElasticBand())
    assert (many.shape.team, many.lanes, many.passes) == (32, 1056, 20)
    few = WholeBand.of(shape, 21_000, 32, ElasticBand())
    assert (few.shape.team, few.lanes, few.passes) == (128, 264, 20)
    assert WholeBand.of(shape, 1000, 40_000, ElasticBand()).shape.team == 1


@pytest.mark.slow
def test_a_search_takes_it_where_a_trial_says_so(x64, monkeypatch):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(24, 2))
    problem = Problem.from_model(
        mlp((2, 2, 2)), x, (x[:, 0] * x[:, 1] > 0).astype(int), l2=1e-3, kernel_choice="fused"
    )
    engine = Engine(problem, images=5, layout=Layout(8, 32, None, 1))
    engine._fleet = True
    pairs = [tuple(pair) for pair in rng.normal(size=(2, 2, problem.size))]
    seconds, ran = {WholeBand: 1e-9, fleet.Vmapped: 1e-3}, []
    monkeypatch.setattr(whole.fleet, "pace", lambda program, *_: seconds[type(program)])
    monkeypatch.setattr(whole.fleet, "_trials", {})
    monkeypatch.setattr(
        fleet, "run", lambda program, *a, _run=fleet.run, **o: ran.append(program) or _run(program, *a, **o)
    )
    found = engine.bands(pairs)
    seconds[WholeBand] = 1.0
    whole.fleet._trials.clear()
    usual = engine.bands(pairs)
    assert [type(program) for program in ran] == [WholeBand, fleet.Vmapped]
    assert [len(several) for several in found] == [len(several) for several in usual] and any(found)
    for ours, theirs in zip(chain(*found), chain(*usual)):
        np.testing.assert_allclose(ours.x, theirs.x, atol=1e-9)
        np.testing.assert_allclose(ours.v, theirs.v, atol=1e-8)
