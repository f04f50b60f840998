"""Basin hopping as one program a walker, interpreted: the chain of minima that the host's rule makes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lowering import abstract_gpu

from jaxland import Problem, mlp
from jaxland.core.pallas.dense import choose, dense_kernel
from jaxland.core.pallas.whole import WholeHops, WholeQuench
from jaxland.core.pallas.whole.program import Limits
from jaxland.core.solvers import fleet, lanes, quench
from jaxland.core.solvers.protocol import Status

WALKERS, HOPS = 5, 4


@pytest.fixture(scope="module")
def case():
    """XOR of two signs with noise, 2 hidden units; walks from minima."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(37, 2))
        problem = Problem.from_model(mlp((2, 2, 2)), x, (x[:, 0] * x[:, 1] > 0).astype(int), l2=1e-3)
        shape = choose((2, 2, 2), "tanh", "cross_entropy", 1e-3, 8, "interpret")
        kernel = dense_kernel(shape, problem.kernel, jnp.asarray(x), problem.y)
        ends = by_lanes(kernel, rng.normal(size=(WALKERS, problem.size)))
        walks = quench.Walk(
            x=np.array([end.x for end in ends]),
            energy=np.array([end.energy for end in ends]),
            max_step=np.ones(WALKERS),
            kicks=0.8 * rng.normal(size=(WALKERS, HOPS, problem.size)),
            allowed=-0.02 * np.log(rng.random((WALKERS, HOPS))),
        )
        return kernel, walks


def by_lanes(kernel, starts):
    items = [quench.Start(x, np.float64(1.0)) for x in starts]
    found = lanes.run(quench.BFGS(1e-9, 3000), kernel.first, items, kernel.data)
    assert all(o.status == Status.CONVERGED for o in found)
    return [o.result for o in found]


def by_the_host(kernel, walks):
    """Energies of all hops; which were accepted."""
    x, level, energies, accepted = walks.x.copy(), walks.energy.copy(), [], []
    for k in range(HOPS):
        size = np.maximum(np.sqrt(np.mean(x * x, axis=1)), 1e-3)
        ends = by_lanes(kernel, x + size[:, None] * walks.kicks[:, k])
        energy = np.array([end.energy for end in ends])
        good = (energy <= level) | (energy - level < walks.allowed[:, k])
        x, level = np.where(good[:, None], [end.x for end in ends], x), np.where(good, energy, level)
        energies.append(energy)
        accepted.append(good)
    return np.array(energies).T, np.array(accepted).T


@pytest.mark.parametrize(
    "groups, team, history, width",
    [
        (1, 16, 0, 2),
        pytest.param(1, 1, 0, 32, marks=pytest.mark.slow),
        pytest.param(2, 2, 10, 8, marks=pytest.mark.slow),
    ],
)
def test_the_chain_of_the_hosts_rule(x64, case, groups, team, history, width):
    kernel, walks = case
    shape = replace(kernel.dense, groups=groups, team=team)
    program = WholeHops(WholeQuench(shape, Limits(1e-9, 3000, 40), history))
    ended = fleet.run(program, walks, kernel.data, lanes=width)
    energies, accepted = by_the_host(kernel, walks)
    assert accepted.any() and not accepted.all()
    assert (ended.status == Status.CONVERGED).all() and (ended.result.status == Status.CONVERGED).all()
    assert ended.result.x.shape == (WALKERS, HOPS, kernel.dense.parameters) and (ended.result.evaluations > 1).all()
    np.testing.assert_allclose(ended.result.energy, energies, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("sizes, team, history", [((2, 5, 2), 1, 0), ((2, 5, 2), 8, 0), ((23, 8, 2), 16, 10)])
def test_lowers_for_cuda(sizes, team, history):
    with jax.enable_x64(True), abstract_gpu():
        shape = choose(sizes, "tanh", "cross_entropy", 1e-5, 8)
        program = WholeHops(WholeQuench(replace(shape, team=team), Limits(1e-6, 5000, 64), history))

        def of(*shape):
            return jax.ShapeDtypeStruct(shape, np.float64)

        size = shape.parameters
        walks = quench.Walk(x=of(64, size), energy=of(64), max_step=of(64), kicks=of(64, 3, size), allowed=of(64, 3))
        states = jax.eval_shape(program.begin, walks)
        traced = jax.jit(lambda *a: program.advance(a[0], (a[1:], None))).trace(
            states, of(sizes[0], 1000), of(1, 1000)
        )
        assert "__gpu$xla.gpu.triton" in traced.lower(lowering_platforms=("cuda",)).as_text()
