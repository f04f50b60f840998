"""Evaluation tools against what can be computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxland import trim
from jaxland.errors import ArgumentError, DataError, ProblemError
from jaxland.models import mlp

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(0)
X, W = RNG.normal(size=(6, 8)), RNG.normal(size=8)


def linear(x):
    return x @ W


def test_curves_of_a_linear_function():
    r = trim.attribute(linear, X, method="ig")
    d, i = trim.deletion(r, steps=8), trim.insertion(r, steps=8)
    ordered = np.sort(X * W, axis=1)[:, ::-1]
    left = np.concatenate([np.zeros((6, 1)), np.cumsum(ordered, 1)], 1)
    np.testing.assert_allclose(i.values, left, atol=1e-12)
    np.testing.assert_allclose(d.values, (X @ W)[:, None] - left, atol=1e-12)
    assert list(d.to_pandas()["fraction"]) == [k / 8 for k in range(9)]
    few = trim.deletion(r, steps=3, by="magnitude")
    assert few.fraction[0] == 0 and few.fraction[-1] == 1 and len(few.fraction) == 4


def test_areas_are_right_side_up_whatever_side_of_the_baseline_the_inputs_are_on():
    """Where most outputs are below that of the baseline the two areas were exchanged."""
    for sign in (1.0, -1.0):
        r = trim.attribute(lambda x, sign=sign: sign * jnp.abs(x @ W), X, method="ablation")
        for by in ("score", "magnitude"):
            assert trim.insertion(r, by=by).area > trim.deletion(r, by=by).area
    # Half of the inputs above the baseline, half below: the areas do not divide by a mean near zero.
    both = trim.attribute(linear, np.concatenate([X, -X]), method="ablation")
    gain = np.concatenate([np.zeros((12, 1)), np.cumsum(np.sort(both.scores, axis=1)[:, ::-1], 1)], 1)
    area = np.trapezoid(gain.mean(0), dx=1 / 8) / np.abs(both.f_x).mean()
    np.testing.assert_allclose(trim.insertion(both, steps=8).area, area, rtol=1e-9)


def test_fidelity_of_exact_and_of_wrong_attributions():
    r = trim.attribute(linear, X, method="ablation")
    np.testing.assert_allclose(trim.infidelity(r), 0, atol=1e-24)
    np.testing.assert_allclose(trim.sensitivity_n(r)["correlation"], 1, atol=1e-9)
    wrong = type(r)(**{**r.__dict__, "scores": -r.scores})
    assert (trim.infidelity(wrong) > 3.9).all()
    np.testing.assert_allclose(trim.sensitivity_n(wrong, [1, 4])["correlation"], -1, atol=1e-9)


def test_knock_out_accuracy():
    labels = (X[:, 0] > 0).astype(int)
    f = lambda x: jnp.stack([-50 * x[:, 0], 50 * x[:, 0]], 1) + 0.01 * x[:, 1:3]  # noqa: E731
    r = trim.attribute(f, X, method="ig", target=1)
    table = trim.knock_out(r, labels, counts=[0, 1, 8])
    assert table["top"][0] == table["bottom"][1] == 1
    x1 = X.copy()
    x1[:, 0] = 0
    np.testing.assert_allclose(table["top"][1], (np.asarray(f(x1)).argmax(1) == labels).mean())
    assert list(trim.knock_out(r, labels, overall=True)["removed"]) == [0, 1, 2, 4]
    single = trim.attribute(lambda x: x[:, 0], X)
    assert trim.knock_out(single, labels, counts=[0])["top"][0] == 1


def test_random_parameters_change_an_explanation_of_the_model():
    model = mlp((8, 30, 3), "tanh", key=jax.random.key(0))
    r = trim.attribute(model, X, method="ig", target=0)
    got = trim.randomised_parameters(r, copies=4)
    assert got.shape == (4,) and np.abs(got.mean()) < 0.6
    with pytest.raises(ProblemError, match="not known"):
        trim.randomised_parameters(trim.attribute(lambda x: x.sum(1), X))


def test_bad_arguments():
    r = trim.attribute(linear, X)
    for call, error in (
        (lambda: trim.deletion(r, steps=0), ArgumentError),
        (lambda: trim.deletion(r, by="size"), ArgumentError),
        (lambda: trim.infidelity(r, keep=1.0), ArgumentError),
        (lambda: trim.sensitivity_n(r, [8]), ArgumentError),
        (lambda: trim.knock_out(r, np.zeros(3)), DataError),
        (lambda: trim.knock_out(r, np.zeros(6), counts=[9]), ArgumentError),
    ):
        with pytest.raises(error):
            call()


def test_black_box_is_evaluated_on_the_host():
    r = trim.attribute(trim.black_box(lambda x: np.asarray(x) @ W), X, method="ablation")
    np.testing.assert_allclose(trim.infidelity(r, samples=20), 0, atol=1e-24)


def test_float64_is_explained_in_float64_outside_x64():
    with jax.enable_x64(False):
        r = trim.attribute(linear, X, method="ig")
        assert r.f_x.dtype == np.float64 and r.play.game.rows.x.dtype == np.float64
        np.testing.assert_allclose(r.scores, X * W, rtol=1e-14)
        np.testing.assert_allclose(trim.insertion(r, steps=8).values[:, -1], X @ W, rtol=1e-14)
        np.testing.assert_allclose(trim.infidelity(r), 0, atol=1e-24)
        # A model of float32 stays one.
        single = trim.attribute(mlp((8, 3, 2), key=jax.random.key(0)), X)
        assert single.f_x.dtype == np.float32
    double = mlp((8, 3, 2), key=jax.random.key(0))
    with jax.enable_x64(False):
        found = trim.attribute(double, X)
    np.testing.assert_allclose(found.f_x, trim.attribute(double, X).f_x, rtol=1e-14)
