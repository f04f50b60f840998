"""Everything of a curvature in one call, and its options."""

from typing import get_type_hints

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from jaxland import Problem, from_function, hessian, mlp
from jaxland.errors import ArgumentError
from jaxland.hessian.options import ExplainKeywords


@pytest.fixture(scope="module")
def line():
    x = np.array([[1.0], [2.0], [4.0]])
    y = np.array([[2.1], [3.8], [8.1]])
    w = np.sum(x * y) / np.sum(x**2)
    return Problem.from_model(from_function(lambda p, x: x @ p, np.array([[w]])), x, y, loss="squared_error")


def test_the_keywords_are_the_fields():
    assert get_type_hints(ExplainKeywords) == get_type_hints(hessian.ExplainOptions)


def test_one_call_gives_what_the_parts_give(line):
    found = hessian.explain(line, np.array([[3.0], [5.0]]), of="output", top=2, modes=1)
    assert found.spectrum.highest[0] == pytest.approx(2 * np.mean([1.0, 4.0, 16.0]), rel=1e-5)
    made = hessian.curvature(line)
    points = np.array([[3.0], [5.0]])
    np.testing.assert_allclose(found.uncertainty.std, hessian.uncertainty(made, points).std)
    np.testing.assert_allclose(found.extrapolation.scores, hessian.extrapolation(made, points).scores)
    table = found.to_pandas()
    assert list(table["test point"]) == [0, 1]
    np.testing.assert_allclose(table["output"], found.uncertainty.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 0}, "top must be at least 1"),
        ({"modes": 0}, "modes must be at least 1"),
        ({"samples": 1}, "samples must be 0 or at least 2"),
        ({"mode": 3}, "unknown option 'mode'"),
    ],
)
def test_senseless_options_are_refused(line, options, message):
    with pytest.raises(ArgumentError, match=message):
        hessian.explain(line, np.array([[3.0]]), **options)


@pytest.fixture(scope="module")
def three_classes():
    """A linear model of three overlapping classes at its minimum, in float64; inputs of twelve points."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 40)
    x = rng.normal(size=(40, 2)) + np.array([[1.5, 0.0], [-1.0, 1.0], [0.0, -1.5]])[y]
    problem = Problem.from_model(mlp((2, 3)), x, y, l2=1e-2, dtype="float64")

    def evaluate(w):
        return float(problem.energy(w)), np.asarray(problem.gradient(w), float)

    w = minimize(evaluate, np.asarray(problem.w, float), jac=True, tol=1e-12).x
    return problem.at(w), rng.normal(size=(12, 2))


def test_a_prediction_turns_over_where_another_class_may_lead(three_classes):
    problem, points = three_classes
    found = hessian.explain(problem, points, of="probability", modes=2)
    z = np.sort(np.asarray(problem.predict(None, points)), axis=1)
    np.testing.assert_allclose(found.margin.value, z[:, 2] - z[:, 1], rtol=1e-12)
    low, high = found.uncertainty.interval()
    assert ((low > 0) & (low < found.uncertainty.value) & (found.uncertainty.value < high) & (high < 1)).all()
    turning = found.could_turn()
    assert 0 < turning.sum() < 12 and (found.margin.value[turning].max() < found.margin.value[~turning].max())
    # Resampled: the class stays the one that was predicted, so that its lead may be lost.
    drawn = hessian.explain(problem, points, of="probability", modes=2, samples=400)
    closest = int(np.argmin(found.margin.value))
    assert drawn.margin.samples[:, closest].min() < 0 and drawn.could_turn()[closest]
    assert (drawn.could_turn() == turning).mean() > 0.8


def test_of_two_classes_the_probability_says_it():
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(30, 1)), np.array([[0.0, 2.0]])
    y = (x[:, 0] + rng.normal(size=30) > 0).astype(int)
    problem = Problem.from_model(from_function(lambda p, a: a @ p, w), x, y, l2=1e-2, dtype="float64")
    made = hessian.curvature(problem)
    points = np.array([[0.02], [3.0], [40.0]])
    found, lead = hessian.uncertainty(made, points), hessian.uncertainty(made, points, of="margin")
    np.testing.assert_allclose(np.array(found.interval()), expit(np.array(lead.interval())), rtol=1e-9)
