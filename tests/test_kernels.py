import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxland import Problem, mlp
from jaxland.core import kernels

RNG = np.random.default_rng(1)


@pytest.mark.parametrize("activation", ["tanh", "gelu", "sigmoid"])
@pytest.mark.parametrize(
    "loss, outputs", [("cross_entropy", 2), ("cross_entropy", 4), ("squared_error", 1), ("squared_error", 3)]
)
def test_closed_form_equals_autodiff(x64, activation, loss, outputs):
    x = RNG.normal(size=(41, 3))
    y = RNG.integers(0, outputs, 41) if loss == "cross_entropy" else RNG.normal(size=(41, outputs))
    problem = Problem.from_model(mlp((3, 4, outputs), activation), x, y, loss=loss, l2=1e-2)
    kernel = problem.kernel
    assert kernel.name.startswith("closed")
    reference = kernels.autodiff(problem.energy_of, problem.data, problem.size, 1.0)
    w, v = RNG.normal(size=(2, problem.size))
    truth = jax.jit(reference.second)(w, reference.data)
    for got in (jax.jit(kernel.first)(w, kernel.data), jax.jit(kernel.second)(w, kernel.data)):
        np.testing.assert_allclose(got.energy, truth.energy, rtol=1e-13)
        np.testing.assert_allclose(got.gradient, truth.gradient, atol=1e-13)
    np.testing.assert_allclose(got.hessian, truth.hessian, atol=1e-13)
    np.testing.assert_allclose(kernel.product(w, v, kernel.data), truth.hessian @ v, atol=1e-12)


def test_extreme_logits_stay_finite(x64):
    problem = Problem.from_model(mlp((1, 1, 2)), np.array([[1.0], [-1.0]]), np.array([0, 1]))
    w = jnp.full((problem.size,), 500.0)
    got = problem.kernel.second(w, problem.kernel.data)
    assert all(np.isfinite(part).all() for part in got)
    np.testing.assert_allclose(got.energy, problem.energy(w), rtol=1e-13)
