"""Everything of a curvature in one call, and its options."""

from typing import get_type_hints

import numpy as np
import pytest

from jaxland import Problem, from_function, hessian
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
