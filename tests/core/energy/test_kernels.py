import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxland import Problem, mlp
from jaxland.core.energy import kernels, one_hidden

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


@pytest.mark.parametrize("bound", [2, 10, 1000])
@pytest.mark.parametrize("n", [1, 63, 1000])
def test_logarithms_of_products_equal_sums_of_logarithms(bound, n):
    for dtype in (np.float32, np.float64):
        with jax.enable_x64(dtype == np.float64):
            unit = np.finfo(dtype).eps
            for factors in (RNG.uniform(1, bound, n), np.full(n, float(bound)), np.ones(n), 1 + 1e-6 * RNG.random(n)):
                got = one_hidden.sum_log(jnp.asarray(factors, dtype), bound)
                truth = np.sum(np.log(factors.astype(dtype).astype(np.longdouble)))
                assert got.dtype == dtype and abs(float(got) - truth) <= unit * n * max(1.0, abs(truth))
