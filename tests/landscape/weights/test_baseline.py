"""The linear model beside a network: coefficients and scores of a model that is known."""

import jax
import numpy as np

from jaxland import Problem, mlp
from jaxland.landscape.result import Landscape
from jaxland.landscape.weights.baseline import linear_baseline
from jaxland.landscape.weights.parameters import ParameterTable


def test_it_is_the_logistic_regression_of_the_same_loss(x64):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 3))
    y = (x @ [2.0, -1.0, 0.0] + rng.logistic(size=800) > 0).astype(int)
    train, test = slice(0, 400), slice(400, None)
    problem = Problem.from_model(mlp((3, 2, 2)), x[train], y[train], l2=1e-3)
    w = 0.1 * rng.normal(size=(1, problem.size))
    land = Landscape.from_points([0.5], w, problem=problem)
    table = ParameterTable.of(problem, problem.size, ("a", "b", "c"), None, ("0", "1"))
    found = linear_baseline(land, table, (x[test], y[test]))
    # Two outputs share a difference of coefficients, b / 2 each: l2 b^2 / 2, as scikit-learn has it.
    peer = LogisticRegression(C=1 / (400 * 1e-3), max_iter=1000).fit(x[train], y[train])
    assert found.metric == "AUC" and found.rows == 400 and found.labels == ("a", "b", "c")
    assert abs(found.linear - roc_auc_score(y[test], peer.decision_function(x[test]))) < 2e-4
    expected = np.abs(peer.coef_[0]) / 2 * x[test].std(0)
    np.testing.assert_allclose(found.importance, expected, rtol=0.02, atol=2e-3)
    assert found.leading(2) == ["a", "b"] and found.better < -2
    assert 0.005 < found.linear_std < 0.03
    assert linear_baseline(Landscape.from_points([0.5], w), table, (x[test], y[test])) is None
    assert jax.config.jax_enable_x64
