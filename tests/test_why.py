"""Why this row: every system's part has a known answer on a problem that is known."""

import numpy as np
import pytest

from jaxland import Problem, mlp
from jaxland.data import Dataset
from jaxland.errors import ArgumentError, ProblemError
from jaxland.landscape.result import Landscape
from jaxland.report.html import Page
from jaxland.report.why import moved_figure, reasons, verdict, why_section
from jaxland.why import why


@pytest.fixture(scope="module")
def known():
    """A logistic model (no hidden layer) of a strong column, a weak one and noise; two more networks beside it."""
    import jax
    from scipy.optimize import minimize

    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(260, 3))
        y = (x @ [3.0, 0.7, 0.0] + rng.logistic(size=260) > 0).astype(int)
        names = ("strong", "weak", "noise")
        data = Dataset(x, y, names, names, ("no", "yes"))
        train, test = data.take(np.arange(200)), data.take(np.arange(200, 260))
        problem = Problem.from_model(mlp((3, 2)), train.x, train.y, l2=1e-3)
        both = jax.jit(jax.value_and_grad(problem.energy_of))

        def evaluate(w):
            value, slope = both(w, problem.data)
            return float(value), np.asarray(slope)

        w = minimize(evaluate, np.zeros(problem.size), jac=True, method="BFGS", options={"gtol": 1e-10}).x
        points = np.stack([w, 0.8 * w, -w])
        land = Landscape.from_points([0.3, 0.31, 0.9], points, [0.95, 0.96], [[0, 1], [1, 2]], problem=problem)
        yield land, train, test, problem.unravel(problem.ravel(problem.unravel(w)))


@pytest.mark.slow
def test_every_system_answers(known):
    land, train, test, (layer,) = known
    row = int(np.argmax(test.x[:, 0]))
    found = why(land, row, train, test)
    assert (
        found.said == "yes"
        and found.of == "log-odds of yes"
        and found.where == "kept for testing"
        and found.row == row + 200
    )
    # Of a linear model, integrated gradients are coefficients times the distance from the mean row.
    slope = np.asarray(layer["w"])[:, 1] - np.asarray(layer["w"])[:, 0]
    np.testing.assert_allclose(found.moved, slope * (test.x[row] - train.x.mean(0)), rtol=1e-6, atol=1e-8)
    assert abs(found.gap) < 1e-8 and abs(found.moved.sum() - found.above) < 1e-6
    assert found.inputs()["column"][0] == "strong"
    # Two of three networks say yes; the third has all signs turned.
    assert found.networks.count == 3 and found.networks.agreeing == pytest.approx(2 / 3)
    told = found.training_rows()
    signs = np.sign(told[f"change of the {found.explanation.influence.of} without it"])
    assert (signs[told["what it does"] == "supports it"] <= 0).all()
    assert set(train.y[told["training row"][told["what it does"] == "supports it"]]) == {1}
    evidence = found.evidence().set_index("column")
    assert (
        evidence.loc["strong", "information on the target"] > 0.2 > evidence.loc["noise", "information on the target"]
    )
    assert evidence.loc["strong", "among them"] > 0.9 and evidence.loc["strong", "training rows alike"] == 50
    sentence, doubt = verdict(found)
    assert doubt and "67% of the networks agree" in sentence and "because of strong" in sentence
    page = Page("t")
    why_section(page, found)
    assert f"Why row {found.row}?" in page.render() and moved_figure(found).axes


@pytest.mark.slow
def test_doubt_is_raised_where_it_is_due(known):
    land, train, test, _ = known
    near = int(np.argmin(np.abs(test.x[:, 0])))
    sure = why(land.restricted(np.array([0, 1])), int(np.argmax(test.x[:, 0])), train, test)
    assert {question: doubt for question, _, _, doubt in reasons(sure)}["How sure is it? (Hessian)"] is False
    torn = why(land, near, train, test)
    assert torn.explanation.uncertainty.std[0] > sure.explanation.uncertainty.std[0]


def test_a_row_that_is_not_there_and_a_landscape_without_a_network(known):
    land, train, test, _ = known
    with pytest.raises(ArgumentError, match="rows 0 to 59"):
        why(land, 60, train, test)
    bare = Landscape.from_points(land.energies, land.coordinates)
    with pytest.raises(ProblemError, match="no network"):
        why(bare, 0, train)
