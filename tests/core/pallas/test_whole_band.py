"""An elastic band as one program, interpreted: evaluation by evaluation the band of the lanes."""

from dataclasses import replace

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
from jaxland.core.solvers.protocol import Status

RNG = np.random.default_rng(0)
SOLVER = ElasticBand(5, max_evaluations=14, tol=1e-3, history=3)


@pytest.fixture(scope="module")
def case():
    """XOR of two signs with noise, 3 hidden units; pairs of points."""
    with jax.enable_x64(True):
        x = RNG.normal(size=(37, 2))
        problem = Problem.from_model(mlp((2, 3, 2)), x, (x[:, 0] * x[:, 1] > 0).astype(int), l2=1e-3)
        shape = choose((2, 3, 2), "tanh", "cross_entropy", 1e-3, 8, "interpret")
        return dense_kernel(shape, problem.kernel, jnp.asarray(x), problem.y), RNG.normal(size=(6, 2, problem.size))


def lanes_of(solver, kernel, items):
    return lanes.run(solver, along_band(kernel.first), list(items), kernel.data)


@pytest.mark.parametrize("groups, team", [(1, 1), (2, 4)])
def test_the_same_steps_as_lanes(x64, case, groups, team):
    kernel, pairs = case
    program = WholeBand(replace(kernel.dense, groups=groups, team=team, own=True), SOLVER, 5)
    ended = fleet.run(program, pairs, kernel.data, lanes=32 // (groups * team))
    truth = lanes_of(SOLVER, kernel, pairs)
    assert ended.status.tolist() == [o.status for o in truth]
    for name in ("images", "energies", "tangents", "evaluations"):
        found = np.array([getattr(o.result, name) for o in truth])
        np.testing.assert_allclose(getattr(ended.result, name), found, atol=1e-9, err_msg=name)
