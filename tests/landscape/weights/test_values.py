import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxland import Problem, mlp
from jaxland.data import load
from jaxland.errors import ArgumentError, DataError, ProblemError
from jaxland.landscape.physics.averaging import average_predictions
from jaxland.landscape.result import Landscape
from jaxland.landscape.weights.scoring import probabilities
from jaxland.landscape.weights.values import values_per_minimum


def networks(problem, m=40, seed=0, **columns):
    """Random weights as minima: what is evaluated need not be one."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(m, problem.size))
    energies = [float(problem.energy(w)) for w in points]
    return Landscape.from_points(energies, points, problem=problem, **columns)


def test_every_metric_against_scikit_learn(x64):
    metrics = pytest.importorskip("sklearn.metrics")
    for name, widths in (("checkerboard", (2, 3, 2)), ("wine", (13, 3, 3))):
        split = load(name).split(0.4, scale="standardise")
        problem = Problem.from_model(mlp(widths), split.train.x, split.train.y, l2=1e-3)
        land = networks(problem)
        found = values_per_minimum(land, split.test)
        assert found.names == ("loss", "accuracy", "AUC") and found.table.shape == (40, 3)
        for k in (0, 17, 39):
            p = probabilities(np.asarray(problem.predict(land.coordinates[k], split.test.x)))
            y = split.test.y
            assert found["loss"][k] == pytest.approx(metrics.log_loss(y, p))
            assert found["accuracy"][k] == pytest.approx(metrics.accuracy_score(y, p.argmax(1)))
            score = p[:, 1] if widths[-1] == 2 else p
            assert found["AUC"][k] == pytest.approx(metrics.roc_auc_score(y, score, multi_class="ovr"))


def test_regression_and_functions_of_outputs_and_parameters(x64):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 2))
    y = x[:, 0] * x[:, 1]
    problem = Problem.from_model(mlp((2, 3, 1)), x, y, loss="squared_error", l2=1e-3)
    land = networks(problem, 35)
    found = values_per_minimum(
        land,
        (x, y),
        of_outputs={"worst": lambda z, t: np.abs(z[:, 0] - t).max(), "rows": lambda z, t: len(z)},
        of_params={"size": lambda p: jnp.sqrt(sum(jnp.sum(a**2) for a in jax.tree.leaves(p)))},
    )
    assert found.names == ("loss", "R2", "worst", "rows", "size")
    z = np.asarray(problem.predict(land.coordinates[34], x))[:, 0]
    assert found["worst"][34] == pytest.approx(np.abs(z - y).max()) and set(found["rows"]) == {50}
    assert found["R2"][34] == pytest.approx(1 - ((z - y) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    np.testing.assert_allclose(found["size"], np.linalg.norm(land.coordinates, axis=1))
    # The loss is without the regulariser.
    np.testing.assert_allclose(found["loss"] + 1e-3 * found["size"] ** 2, land.energies)
    assert list(found.to_pandas().columns) == list(found.names) and "<table" in found._repr_html_()
    with pytest.raises(ArgumentError, match="no value 'AUC', only loss"):
        found["AUC"]


def test_values_of_a_plain_energy(x64):
    problem = Problem.from_energy(lambda w: jnp.sum(w**2), 3)
    land = networks(problem, 4)
    got = values_per_minimum(land, of_params={"sum": lambda w: w.sum()})
    np.testing.assert_allclose(got["sum"], land.coordinates.sum(1))
    with pytest.raises(ArgumentError, match="choose from none"):
        values_per_minimum(land, (np.zeros((2, 1)), np.zeros(2)), ["accuracy"])
    with pytest.raises(ProblemError, match="no model"):
        values_per_minimum(land, (np.zeros((2, 1)), np.zeros(2)), of_outputs={"f": lambda z, y: 0.0})


def test_a_float64_landscape_is_evaluated_in_float64_whatever_jax_is_set_to():
    with jax.enable_x64(True):
        split = load("checkerboard", n=60).split(0.5)
        problem = Problem.from_model(mlp((2, 3, 2)), split.train.x, split.train.y, l2=1e-3)
        land = networks(problem, 5, log_products=np.zeros(5))
        inside = values_per_minimum(land, split.test), average_predictions(land, split.test.x)
    outside = values_per_minimum(land, split.test), average_predictions(land, split.test.x)
    np.testing.assert_array_equal(inside[0].table, outside[0].table)
    np.testing.assert_array_equal(inside[1].mean, outside[1].mean)


def test_bad_values_are_named(x64):
    problem = Problem.from_model(mlp((2, 3, 2)), np.zeros((4, 2)), np.array([0, 1, 0, 1]))
    land = networks(problem, 3)
    bare = Landscape.from_points(land.energies, land.coordinates)
    data = (np.zeros((4, 2)), np.array([0, 1, 0, 1]))
    for call, error, words in [
        (lambda: values_per_minimum(bare, data), ProblemError, "no problem"),
        (lambda: values_per_minimum(land), ArgumentError, "nothing to evaluate"),
        (lambda: values_per_minimum(land, metrics=["loss"]), ArgumentError, "data="),
        (lambda: values_per_minimum(land, data, ["R2"]), ArgumentError, "choose from loss, accuracy, AUC"),
        (lambda: values_per_minimum(land, (data[0], data[1][:2])), DataError, "4 and 2"),
        (lambda: values_per_minimum(land, (data[0], np.zeros(4, int))), DataError, "one class only"),
        (
            lambda: values_per_minimum(land, data, of_outputs={"f": lambda z, y: z}),
            ArgumentError,
            "f must give one number",
        ),
        (lambda: values_per_minimum(land, of_params={"g": lambda p: None}), ArgumentError, "g must give one number"),
    ]:
        with pytest.raises(error, match=words):
            call()


def test_averages_by_hand(x64):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 2)), rng.integers(0, 2, 30)
    problem = Problem.from_model(mlp((2, 3, 2)), x, y, l2=1e-3)
    logs, orbits = rng.normal(size=40), rng.choice([8.0, 48.0], 40)
    land = networks(problem, 40, log_products=logs, orbit_sizes=orbits)
    got = average_predictions(land, x)
    # Posterior weight of a basin: likelihood, prior, width, number of images.
    posterior = land.orbit_sizes * np.exp(-30 * land.energies - land.log_products / 2)
    weights = posterior / posterior.sum()
    p = np.stack([probabilities(np.asarray(problem.predict(w, x))) for w in land.coordinates])
    mean = np.tensordot(weights, p, 1)
    assert got.temperature == 1 / 30 and got.minima.tolist() == np.flatnonzero(weights > 1e-12).tolist()
    np.testing.assert_allclose(got.weights, weights[got.minima], rtol=1e-9)
    np.testing.assert_allclose(got.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(got.std, np.sqrt(np.tensordot(weights, (p - mean) ** 2, 1)), rtol=1e-6)
    assert got.effective == pytest.approx(np.exp(-(weights * np.log(weights)).sum()))
    assert got.to_pandas()["weight"].is_monotonic_decreasing
    few = average_predictions(land, x, 1e6, minima=[4, 7], vibrations=False)
    assert few.minima.tolist() == [4, 7]
    expected = land.orbit_sizes[[4, 7]] / land.orbit_sizes[[4, 7]].sum()
    np.testing.assert_allclose(few.weights, expected, rtol=1e-5)
    cold = average_predictions(land, x, 1e-6)
    assert cold.minima.tolist() == [0] and (cold.std == 0).all() and cold.effective == 1
    np.testing.assert_allclose(cold.mean, p[0], rtol=1e-12)


def test_averaging_needs_what_it_needs(x64):
    problem = Problem.from_energy(lambda w: jnp.sum(w**2), 3)
    land = networks(problem, 4, log_products=np.zeros(4))
    bare = Landscape.from_points(land.energies, land.coordinates, log_products=np.zeros(4))
    with pytest.raises(ProblemError, match="no problem"):
        average_predictions(bare, np.zeros((1, 2)))
    with pytest.raises(ArgumentError, match="give a temperature"):
        average_predictions(land, np.zeros((1, 2)))
    with pytest.raises(ProblemError, match="no model"):
        average_predictions(land, np.zeros((1, 2)), 1.0)
    with pytest.raises(ArgumentError, match="minima: there is no minimum 4"):
        average_predictions(land, np.zeros((1, 2)), 1.0, minima=[4])
