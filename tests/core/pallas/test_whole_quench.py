"""A quench as one program, interpreted: evaluation by evaluation the BFGS of the lanes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lowering import abstract_gpu

from jaxland import Problem, mlp
from jaxland.core.pallas import whole
from jaxland.core.pallas.dense import choose, dense_kernel
from jaxland.core.pallas.whole import WholeQuench
from jaxland.core.pallas.whole.program import Limits
from jaxland.core.solvers import fleet, lanes, quench
from jaxland.core.solvers.protocol import Status
from jaxland.landscape.search.stationary import Engine

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def case():
    """XOR of two signs with noise, 3 hidden units; ends of the lanes' BFGS from 40 starts."""
    with jax.enable_x64(True):
        x = RNG.normal(size=(61, 2))
        problem = Problem.from_model(mlp((2, 3, 2)), x, (x[:, 0] * x[:, 1] > 0).astype(int), l2=1e-3)
        shape = choose((2, 3, 2), "tanh", "cross_entropy", 1e-3, 8, "interpret")
        kernel = dense_kernel(shape, problem.kernel, jnp.asarray(x), problem.y)
        starts = quench.Start(RNG.normal(size=(40, problem.size)), np.ones(40))
        items = [quench.Start(w, np.float64(1.0)) for w in starts.x]
        return kernel, starts, lanes.run(quench.BFGS(1e-8, 3000), problem.kernel.first, items, problem.kernel.data)


@pytest.mark.parametrize("team, width", [(1, 32), (8, 8)])
def test_ends_where_lanes_do(x64, case, team, width):
    kernel, starts, truth = case
    program = WholeQuench(replace(kernel.dense, team=team), Limits(1e-8, 3000, 40))
    ended = fleet.run(program, starts, kernel.data, lanes=width)
    np.testing.assert_array_equal(ended.status, [o.status for o in truth])
    np.testing.assert_allclose(ended.result.energy, [o.result.energy for o in truth], rtol=1e-12)
    # The same judgement of every trial: rounding may move a search by a step or two, not more.
    assert np.max(np.abs(ended.result.evaluations - [o.result.evaluations for o in truth])) <= 3
    assert np.all(ended.result.rms <= 1e-8)


def test_bad_starts_end_alone(x64, case):
    """A start that is no number and a limit too low stop themselves, not their neighbours or who comes after them."""
    kernel, starts, truth = case
    x = starts.x[:9].copy()
    x[1] = np.nan
    program = WholeQuench(replace(kernel.dense, team=8), Limits(1e-8, 3000, 64))
    ended = fleet.run(program, quench.Start(x, np.ones(9)), kernel.data, lanes=4)
    assert ended.status.tolist() == [Status.NONFINITE if k == 1 else Status.CONVERGED for k in range(9)]
    energies = np.array([o.result.energy for o in truth[:9]])
    np.testing.assert_allclose(np.delete(ended.result.energy, 1), np.delete(energies, 1), rtol=1e-12)
    x = x[:4]
    short = fleet.run(
        WholeQuench(kernel.dense, Limits(1e-8, 5, 64)), quench.Start(x[2:], np.ones(2)), kernel.data, lanes=32
    )
    assert short.status.tolist() == [Status.MAX_STEPS] * 2 and short.result.evaluations.tolist() == [5, 5]


def spread(kernel, groups, team, **more):
    """The case's networks by several threads each; 3 units leave one of 2 or 4 groups a unit that is not."""
    return replace(kernel.dense, groups=groups, team=team, **more)


def test_the_same_steps_as_lanes_with_limited_memory(x64, case):
    """Two groups of units, two threads a group; more pairs than the history holds."""
    kernel, starts, _ = case
    some = quench.Start(starts.x[:3], np.ones(3))
    ended = fleet.run(WholeQuench(spread(kernel, 2, 2), Limits(1e-8, 12, 12), 3), some, kernel.data, lanes=8)
    solver = quench.LBFGS(1e-8, 12, 3)
    truth = lanes.run(solver, kernel.first, [quench.Start(w, np.float64(1.0)) for w in some.x], kernel.data)
    np.testing.assert_allclose(ended.result.x, [o.result.x for o in truth], atol=1e-11)
    assert ended.result.evaluations.tolist() == [12] * 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "groups, team, history", [(1, 1, 5), (4, 1, 0), (4, 1, 5), (2, 8, 0), (4, 2, 5), (4, 16, 5), (2, 64, 5)]
)
def test_threads_that_share_a_network_end_where_lanes_do(x64, case, groups, team, history):
    """Up to four warps a network. Rounding may send L-BFGS down another side: the same minima all the same."""
    kernel, starts, truth = case
    program = WholeQuench(spread(kernel, groups, team), Limits(1e-8, 3000, 40), history)
    ended = fleet.run(program, starts, kernel.data, lanes=32)
    assert (ended.status == Status.CONVERGED).all()
    if history:
        items = [quench.Start(w, np.float64(1.0)) for w in starts.x]
        truth = lanes.run(quench.LBFGS(1e-8, 3000, history), kernel.first, items, kernel.data)
    energies = np.array([o.result.energy for o in truth])
    assert np.mean(np.abs(ended.result.energy - energies) < 1e-9) > 0.9
    assert np.max(np.min(np.abs(ended.result.energy[:, None] - energies), axis=1)) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-13), ("float32", 1e-6)])
def test_gradients(dtype, tolerance):
    """Two programs of four networks, a team of two for each of four groups of units, three classes."""
    with jax.enable_x64(dtype == "float64"):
        x = RNG.normal(size=(61, 5)).astype(dtype)
        problem = Problem.from_model(mlp((5, 7, 3), dtype=dtype), x, RNG.integers(0, 3, 61), l2=1e-3)
        shape = choose((5, 7, 3), "tanh", "cross_entropy", 1e-3, problem.dtype.itemsize, "interpret")
        shape = replace(shape, groups=4, team=2)
        kernel = dense_kernel(shape, problem.kernel, jnp.asarray(x), problem.y)
        w = RNG.normal(size=(8, problem.size)).astype(dtype)
        program = WholeQuench(shape, Limits(1e-6, 1, 1), 4)
        states = program.advance(program.begin(quench.Start(w, np.ones(8, dtype))), kernel.data)
        exact = jax.vmap(problem.gradient)(w)
        assert states.gradient.dtype == dtype
        np.testing.assert_allclose(
            states.gradient[: problem.size].T, exact, rtol=0, atol=tolerance * np.abs(exact).max()
        )


@pytest.mark.parametrize(
    "sizes, team, history, dtype",
    [
        ((2, 5, 2), 1, 0, "float64"),
        ((2, 10, 2), 8, 0, "float64"),
        ((2, 5, 2), 8, 0, "float32"),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in [
                ((23, 8, 2), 1, 0, "float64"),
                ((23, 8, 2), 16, 10, "float64"),
                ((30, 3, 2), 2, 10, "float32"),
            ]
        ),
    ],
)
def test_lowers_for_cuda(sizes, team, history, dtype):
    with jax.enable_x64(dtype == "float64"), abstract_gpu():
        shape = choose(sizes, "tanh", "cross_entropy", 1e-5, np.dtype(dtype).itemsize)
        program = WholeQuench(replace(shape, team=team), Limits(1e-6, 5000, 64), history)
        size = shape.parameters
        start = quench.Start(jax.ShapeDtypeStruct((64, size), dtype), jax.ShapeDtypeStruct((64,), dtype))
        x, y = jax.ShapeDtypeStruct((sizes[0], 1000), dtype), jax.ShapeDtypeStruct((1, 1000), dtype)
        traced = jax.jit(lambda *a: program.advance(a[0], (a[1:], None))).trace(
            jax.eval_shape(program.begin, start), x, y
        )
        assert "__gpu$xla.gpu.triton" in traced.lower(lowering_platforms=("cuda",)).as_text()


def test_few_jobs_share_their_points():
    shape = choose((2, 5, 2), "tanh", "cross_entropy", 1e-5, 8)
    assert WholeQuench.of(shape, 1000, 3000, tol=1e-6, limit=9).shape.team == 8
    many = WholeQuench.of(shape, 21_000, 140_000, tol=1e-6, limit=9)
    assert (many.shape.team, many.lanes, many.limits.passes) == (1, 33_792, 3)
    wide = choose((23, 8, 2), "tanh", "cross_entropy", 1e-5, 8)
    few = WholeQuench.of(wide, 21_000, 64, tol=1e-6, limit=9, history=10)
    assert (few.shape.groups, few.shape.team, few.shape.warps, few.lanes, few.limits.passes) == (8, 16, 4, 264, 48)
    assert WholeQuench.of(wide, 21_000, 6400, tol=1e-6, limit=9).shape.team == 1


def test_taken_only_where_a_trial_says_so(x64, monkeypatch):
    """The clock decides between two programs of one solver; what does not compile loses."""
    x = RNG.normal(size=(40, 30))
    problem = Problem.from_model(mlp((30, 3, 2)), x, RNG.integers(0, 2, 40), l2=1e-3, kernel_choice="fused")
    starts, kernel = quench.Start(RNG.normal(size=(5, problem.size)), np.ones(5)), problem.kernel
    seconds = {WholeQuench: 1e-9, fleet.Vmapped: 1e-3}
    monkeypatch.setattr(whole.fleet, "pace", lambda program, *_: seconds[type(program)])
    monkeypatch.setattr(whole.fleet, "_trials", {})
    for solver, history in ((quench.LBFGS(1e-6, 99, 7), 7), (quench.BFGS(1e-6, 99), 0)):
        seconds[WholeQuench] = 1e-9
        program = whole.chosen(kernel, 40, solver, starts)
        assert (program.history, program.limits.limit, program.shape.groups) == (history, 99, 4)
        seconds[WholeQuench] = 1.0
        assert whole.chosen(kernel, 40, solver, starts) == program  # tried once
        whole.fleet._trials.clear()
        assert whole.chosen(kernel, 40, solver, starts) is None
        whole.fleet._trials.clear()

    def fails(*_):
        raise RuntimeError("no such lowering")

    monkeypatch.setattr(whole.fleet, "pace", fails)
    assert whole.chosen(kernel, 40, quench.BFGS(1e-6, 99), starts) is None
    assert whole.chosen(board_kernel(), 40, quench.BFGS(1e-6, 99), starts) is not None  # measured once for all
    engine = Engine(problem)
    engine._fleet = True
    assert isinstance(engine.descent(1e-6), quench.LBFGS)


def board_kernel():
    x = RNG.normal(size=(9, 2))
    return Problem.from_model(mlp((2, 3, 2)), x, RNG.integers(0, 2, 9), l2=1e-3, kernel_choice="fused").kernel
