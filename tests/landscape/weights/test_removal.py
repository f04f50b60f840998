"""What removing one weight costs, against arithmetic."""

import numpy as np
import pytest

from jaxland import Problem, from_function
from jaxland.errors import ProblemError
from jaxland.landscape.weights.removal import removal_costs


def linear(n=12, d=3, l2=0.0):
    """y = x w exactly, columns of x orthogonal with mean square 1, 4 and 9."""
    x = np.linalg.qr(np.random.default_rng(0).normal(size=(n, d)))[0] * np.sqrt(n) * np.arange(1, d + 1)
    w = np.array([1.0, -0.5, 0.0])
    model = from_function(lambda w, x: x @ w[:, None], w)
    return Problem.from_model(model, x, x @ w[:, None], loss="squared_error", l2=l2), w


def test_removal_of_a_linear_weight_costs_its_share_of_the_variance(x64):
    problem, w = linear()
    scale = float(problem.energy(np.zeros(3))) / (w**2 * [1, 4, 9]).sum()  # of the squared error
    np.testing.assert_allclose(removal_costs(problem, w), scale * w**2 * [1, 4, 9], atol=1e-12)
    both = removal_costs(problem, np.stack([w, 2 * w]))
    np.testing.assert_allclose(both, (removal_costs(problem, w) + removal_costs(problem, 2 * w)) / 2, atol=1e-12)


def test_the_regulariser_is_left_out(x64):
    (plain, w), (ridge, _) = linear(), linear(l2=10.0)
    np.testing.assert_allclose(removal_costs(ridge, w), removal_costs(plain, w), atol=1e-12)


def test_few_rows_are_drawn_by_seed(x64):
    problem, w = linear()
    once, again = (removal_costs(problem, w, rows=5, seed=3) for _ in range(2))
    assert np.array_equal(once, again) and not np.allclose(once, removal_costs(problem, w))


def test_an_energy_has_no_data():
    with pytest.raises(ProblemError, match="no data"):
        removal_costs(Problem.from_energy(lambda w: (w**2).sum(), 2), np.ones(2))
