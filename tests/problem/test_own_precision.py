"""A float64 problem computes in float64 whatever the caller's x64 state; asking for one is an argument."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxland import Problem, hessian, mlp
from jaxland.errors import PrecisionError
from jaxland.landscape import explore

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(30, 2)), RNG.integers(0, 2, 30)


def made(**how):
    return Problem.from_model(mlp((2, 2, 2)), X, Y, l2=0.05, **how)


def test_float64_is_one_argument():
    problem = made(dtype="float64")
    assert not jax.config.read("jax_enable_x64") and problem.dtype == np.float64 and problem.x.dtype == np.float64
    w = np.linspace(-1, 1, problem.size)
    with jax.enable_x64(True):
        expected = Problem.from_model(mlp((2, 2, 2)), X, Y, l2=0.05)
        energy, product = float(expected.energy(w)), np.asarray(expected.hvp(w, w))
    assert float(problem.energy(w)) == pytest.approx(energy, rel=1e-14)
    np.testing.assert_allclose(problem.hvp(w, w), product, rtol=1e-12)
    wells = Problem.from_energy(lambda w: jnp.sum((w**2 - 1) ** 2), 2, dtype="float64")
    assert wells.w.dtype == np.float64 and wells.gradient(np.array([0.5, 2.0])).dtype == np.float64
    assert made().dtype == np.float32


@pytest.mark.parametrize("first", [False, True])
def test_no_read_outside_poisons_it(first):
    with jax.enable_x64(True):
        problem = made()
    for state in (first, not first, first):
        with jax.enable_x64(state):
            kinds = [problem.w, problem.unravel(problem.w)[0]["w"], problem.ravel(problem.params), problem.energy()]
            kinds += [problem.hessian(), problem.predict(), problem.at(np.asarray(problem.w)).w]
            kinds += [problem.with_data(X, Y).x, problem.losses(), problem.at(problem.params).gradient()]
            assert {str(a.dtype) for a in kinds} == {"float64"}


@pytest.mark.slow
def test_the_systems_run_in_the_problems_precision():
    problem = made(dtype="float64")
    found = explore(problem, minima=2, rounds=1, starts=4)
    assert found.coordinates.dtype == np.float64 and found.gradients.max() < 1e-8
    with jax.enable_x64(True):
        again = explore(problem, minima=2, rounds=1, starts=4)
    np.testing.assert_array_equal(found.energies, again.energies)
    curvature = hessian.curvature(problem.at(found.best))
    assert curvature.gradient_norm < 1e-8
    spread = hessian.uncertainty(curvature, (X[:2], Y[:2]))
    assert spread.std.dtype == np.float64 and (spread.std > 0).all()
    with pytest.raises(PrecisionError, match='dtype="float64"'):
        explore(made(), minima=1)
