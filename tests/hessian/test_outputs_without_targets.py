"""Output k of several at points whose targets nobody knows: uncertainty and extrapolation, against closed forms."""

import numpy as np
import pytest

from jaxland import Problem, from_function, hessian
from jaxland.errors import ArgumentError

ROWS, INPUTS, OUTPUTS, L2 = 40, 3, 2, 0.05


@pytest.fixture(scope="module")
def linear():
    """Ridge regression of two outputs, its Hessian (one block per output) and its residual gradients."""
    import jax

    with jax.enable_x64(True):
        rng = np.random.default_rng(4)
        x = rng.normal(size=(ROWS, INPUTS))
        y = x @ rng.normal(size=(INPUTS, OUTPUTS)) + 0.2 * rng.normal(size=(ROWS, OUTPUTS))
        block = 2 * x.T @ x / ROWS + 2 * L2 * np.eye(INPUTS)
        w = np.linalg.solve(block, 2 * x.T @ y / ROWS)
        model = from_function(lambda p, x: x @ p, w)
        made = hessian.curvature(Problem.from_model(model, x, y, loss="squared_error", l2=L2), damping=0.0)
        yield made, np.linalg.inv(block), 2 * x[:, None, :] * (x @ w - y)[:, :, None], rng.normal(size=(5, INPUTS))


@pytest.mark.parametrize("k", range(OUTPUTS))
def test_uncertainty_of_one_output(linear, k):
    made, inverse, gradients, points = linear
    a = points @ inverse @ gradients[:, k].T / ROWS
    truth = np.sqrt(np.sum(a**2, axis=1) - np.sum(a, axis=1) ** 2 / ROWS)
    named = hessian.uncertainty(made, points, of="output", target=k)
    np.testing.assert_allclose(named.std, truth, rtol=1e-7)
    assert named.of == f"output {k}"
    np.testing.assert_allclose(hessian.uncertainty(made, points, of=lambda z, y: z[:, k]).std, truth, rtol=1e-7)


def test_extrapolation_of_one_output(linear):
    made, _, _, points = linear
    found = hessian.extrapolation(made, points, of="output", target=1, m=0)
    np.testing.assert_allclose(found.scores, np.linalg.norm(points, axis=1), rtol=1e-7)


def test_functions_that_read_targets_need_them(linear):
    made, _, _, points = linear
    with pytest.raises(ArgumentError, match=r"needs the targets.*of='output', target=k"):
        hessian.uncertainty(made, points, of=lambda z, y: z[:, 0] - y[:, 0])
    with pytest.raises(ArgumentError, match=r"this model gives 2; name one with target=0\.\.1"):
        hessian.uncertainty(made, points, of="output")
    with pytest.raises(ArgumentError, match=r"target must be an output 0\.\.1, got 2"):
        hessian.uncertainty(made, points, of="output", target=2)
