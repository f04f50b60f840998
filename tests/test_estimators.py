"""Estimators keep scikit-learn's rules; their uncertainty is that of resampled training sets."""

import pickle

import numpy as np
import pytest
from sklearn.datasets import make_moons
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from jaxland import Problem, mlp
from jaxland.estimators import LandscapeClassifier, LandscapeRegressor

QUICK = {"hidden": (3,), "starts": 4, "minima": 2, "rounds": 0, "random_state": 0}


@pytest.mark.slow
@parametrize_with_checks([LandscapeClassifier(**QUICK), LandscapeRegressor(**QUICK)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_a_classifier_and_its_landscape():
    x, y = make_moons(80, noise=0.2, random_state=0)
    labels = np.array(["left", "right"])[y]
    found = LandscapeClassifier(hidden=(4,), starts=6, minima=4, random_state=0).fit(x, labels)
    assert found.score(x, labels) > 0.9 and found.landscape_.n_minima >= 1
    chance = found.predict_proba(x[:5])
    np.testing.assert_allclose(chance.sum(1), 1.0)
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.predict_proba(x[:5]), chance)
    assert again.problem_.dtype == np.float64
    averaged = found.set_params(average=True).predict_proba(x[:5])
    assert averaged.shape == chance.shape and np.isfinite(averaged).all()


@pytest.mark.slow
def test_a_regressor_knows_where_it_is_unsure():
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(-2, 0.5, 60))[:, None]
    y = 40.0 * np.sin(2 * x[:, 0]) + rng.normal(size=60)
    model = make_pipeline(StandardScaler(), LandscapeRegressor(hidden=(5,), random_state=0)).fit(x, y)
    assert model.score(x, y) > 0.98
    _, std = model.predict(np.array([[-1.0], [2.0]]), return_std=True)
    assert 0 < std[0] < std[1]
    assert cross_val_score(LandscapeRegressor(**QUICK), x, y, cv=2).shape == (2,)


def test_problems_pickle():
    x, y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2
    problem = Problem.from_model(mlp((2, 3, 2)), x, y, l2=0.1, dtype="float64")
    again = pickle.loads(pickle.dumps(problem))
    assert again.dtype == np.float64 and float(again.energy()) == float(problem.energy())
    w = np.linspace(-1, 1, problem.size)
    np.testing.assert_array_equal(again.hessian(w), problem.hessian(w))
