"""A quench as one program, interpreted: evaluation by evaluation the BFGS of the lanes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lowering import abstract_gpu

from jaxland import Problem, mlp
from jaxland.core.pallas import whole_quench
from jaxland.core.pallas.dense import choose, dense_kernel
from jaxland.core.pallas.quench_fleet import WholeQuench
from jaxland.core.solvers import fleet, lanes, quench
from jaxland.core.solvers.protocol import Status

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
    program = WholeQuench(replace(kernel.dense, team=team, own=team == 8), 1e-8, 3000, 40)
    ended = fleet.run(program, starts, kernel.data, lanes=width)
    np.testing.assert_array_equal(ended.status, [o.status for o in truth])
    np.testing.assert_allclose(ended.result.energy, [o.result.energy for o in truth], rtol=1e-12)
    # The same judgement of every trial: rounding may move a search by a step or two, not more.
    assert np.max(np.abs(ended.result.evaluations - [o.result.evaluations for o in truth])) <= 3
    assert np.all(ended.result.rms <= 1e-8)


def test_bad_starts_end_alone(x64, case):
    """A start that is no number and a limit too low stop themselves, not their neighbours."""
    kernel, starts, truth = case
    x = starts.x[:4].copy()
    x[1] = np.nan
    ended = fleet.run(WholeQuench(kernel.dense, 1e-8, 3000, 64), quench.Start(x, np.ones(4)), kernel.data, lanes=32)
    assert ended.status.tolist() == [Status.CONVERGED, Status.NONFINITE, Status.CONVERGED, Status.CONVERGED]
    np.testing.assert_allclose(ended.result.energy[2], truth[2].result.energy, rtol=1e-12)
    short = fleet.run(WholeQuench(kernel.dense, 1e-8, 5, 64), quench.Start(x[2:], np.ones(2)), kernel.data, lanes=32)
    assert short.status.tolist() == [Status.MAX_STEPS] * 2 and short.result.evaluations.tolist() == [5, 5]


@pytest.mark.parametrize("hidden, team, dtype", [(5, 1, "float64"), (10, 8, "float64"), (5, 8, "float32")])
def test_lowers_for_cuda(hidden, team, dtype):
    with jax.enable_x64(dtype == "float64"), abstract_gpu():
        shape = choose((2, hidden, 2), "tanh", "cross_entropy", 1e-5, np.dtype(dtype).itemsize)
        shape = replace(shape, team=team, own=True)
        start = jax.ShapeDtypeStruct((64, shape.parameters), dtype), jax.ShapeDtypeStruct((64,), dtype)
        state = jax.eval_shape(lambda *a: whole_quench.begin(*a, team), *start)
        x, y = jax.ShapeDtypeStruct((2, 1000), dtype), jax.ShapeDtypeStruct((1, 1000), dtype)

        def advance(state, x, y):
            return whole_quench.advance(shape, state, (x, y), tol=1e-6, limit=5000, passes=64)

        text = jax.jit(advance).trace(state, x, y).lower(lowering_platforms=("cuda",)).as_text()
        assert "__gpu$xla.gpu.triton" in text


def test_few_jobs_share_their_points():
    shape = choose((2, 5, 2), "tanh", "cross_entropy", 1e-5, 8)
    assert WholeQuench.of(shape, 1000, 3000, tol=1e-6, limit=9).shape.team == 8
    many = WholeQuench.of(shape, 21_000, 140_000, tol=1e-6, limit=9)
    assert (many.shape.team, many.lanes, many.passes) == (1, 33_792, 3)
