"""Sums over rows a chunk at a time are the sums."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxland import Problem, mlp
from jaxland.problem import kernel as problem_kernel


@pytest.mark.parametrize(("classes", "chunk"), [(2, 7), (2, 10), (3, 16)])
def test_chunks_change_nothing_but_memory(x64, classes, chunk):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 4)), rng.integers(0, classes, 30)
    made = [Problem.from_model(mlp((4, 3, classes)), x, y, l2=1e-2, chunk=c) for c in (None, chunk)]
    whole, cut = (problem.kernel for problem in made)
    assert ("at a time" in cut.name) == (chunk < 30) and "closed form" in cut.name
    w, v = jnp.asarray(rng.normal(size=(2, made[0].size)))
    for a, b in zip(whole.second(w, whole.data), cut.second(w, cut.data)):
        np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-12)
    for a, b in zip(whole.first(w, whole.data), cut.first(w, cut.data)):
        np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(cut.product(w, v, cut.data), whole.product(w, v, whole.data), rtol=1e-10, atol=1e-12)


def test_hessians_far_from_rest_take_fewer_rows_and_near_it_all(x64):
    from jaxland.core.energy.kernels import coarse_far

    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(40, 3)), rng.integers(0, 2, 40)
    fine = Problem.from_model(mlp((3, 2, 2)), x, y, l2=1e-2)
    few = fine.with_data(x[:10], y[:10])
    w = jnp.asarray(rng.normal(size=fine.size))
    far = coarse_far(fine.kernel, few.kernel, 1e-9)
    near = coarse_far(fine.kernel, few.kernel, 1e9)
    for kernel, rows in ((far, few), (near, fine)):
        energy, gradient, hessian = kernel.second(w, kernel.data)
        np.testing.assert_allclose(energy, fine.energy(w), rtol=1e-12)
        np.testing.assert_allclose(gradient, fine.gradient(w), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(hessian, rows.hessian(w), rtol=1e-9, atol=1e-10)


def test_an_accelerator_takes_hessians_of_many_rows_in_pieces(x64, monkeypatch):
    """Gradients of all rows at once, as ever: only a Hessian's intermediates would fill a device."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 3)), rng.integers(0, 2, 50)
    plain = Problem.from_model(mlp((3, 2, 2)), x, y, l2=1e-2)
    monkeypatch.setattr(problem_kernel, "_PIECE", 16)
    monkeypatch.setattr(problem_kernel.jax, "default_backend", lambda: "gpu")
    kernel = problem_kernel.xla_kernel(plain)
    monkeypatch.undo()
    w = jnp.asarray(rng.normal(size=plain.size))
    found, truth = kernel.second(w, kernel.data), plain.kernel.second(w, plain.kernel.data)
    assert kernel.name.endswith("16 rows at a time") and kernel.hessian_cost == plain.kernel.hessian_cost
    np.testing.assert_allclose(found.hessian, truth.hessian, atol=1e-15)
    np.testing.assert_allclose(kernel.first(w, kernel.data).gradient, truth.gradient, atol=1e-15)
