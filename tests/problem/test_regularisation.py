"""The weight of the regulariser by held-out loss."""

import numpy as np
import pytest

from jaxland import Problem, mlp
from jaxland.errors import ArgumentError
from jaxland.problem.regularisation import choose_l2


def rows(n, d, noise, rng):
    x = rng.normal(size=(n, d))
    return x, (x[:, 0] + noise * rng.normal(size=n) > 0).astype(int)


def test_noise_asks_for_more_weight_than_signal(x64):
    rng = np.random.default_rng(0)
    problem = Problem.from_model(mlp((6, 2, 2)), *rows(60, 6, 3.0, rng), l2="auto")
    noisy, clean = problem.l2_choice, Problem.from_model(mlp((6, 2, 2)), *rows(60, 6, 0.0, rng), l2="auto").l2_choice
    assert noisy.l2 > clean.l2
    assert (noisy.rows, noisy.held_out) == (45, 15)
    assert noisy.l2 == min(noisy.table, key=lambda row: row.held_out).l2 == problem.regulariser.lam
    assert noisy.table[-1].trained == max(row.trained for row in noisy.table)
    said = noisy.describe()
    assert f"L2 weight {noisy.l2:g}" in said[0] and sum("<- chosen" in line for line in said) == 1
    assert len(noisy.to_pandas()) == len(noisy.table)


def test_senseless_weights_are_refused(x64):
    x, y = rows(40, 3, 1.0, np.random.default_rng(1))
    with pytest.raises(ArgumentError, match='a number or "auto"'):
        Problem.from_model(mlp((3, 2, 2)), x, y, l2="best")
    with pytest.raises(ArgumentError, match="not both"):
        Problem.from_model(mlp((3, 2, 2)), x, y, l2="auto", regulariser=lambda p: 0.0)
    with pytest.raises(ArgumentError, match="at least 8"):
        Problem.from_model(mlp((3, 2, 2)), x[:6], y[:6], l2="auto")


def test_rows_to_hold_out_can_be_given(x64):
    problem = Problem.from_model(mlp((2, 1, 2)), *rows(24, 2, 1.0, np.random.default_rng(2)))
    choice = choose_l2(problem, grid=(1e-3,), starts=1, held=np.arange(5))
    assert (choice.rows, choice.held_out) == (19, 5)
