"""What a user hands in: losses by name, rows that mix, parameters and points of the wrong kind."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxland import Problem, from_function, hessian, mlp
from jaxland.errors import ArgumentError, DataError, ProblemError
from jaxland.models.mlp import ACTIVATIONS
from jaxland.models.options import ACTIVATIONS as NAMES
from jaxland.problem import contracts, poisson

RNG = np.random.default_rng(8)
X = RNG.normal(size=(30, 3))


def test_poisson_is_minus_the_logarithm_of_the_probability(x64):
    rate, counts = RNG.normal(size=(30, 1)), RNG.poisson(3, size=30)
    np.testing.assert_allclose(poisson(rate, counts), -stats.poisson(np.exp(rate[:, 0])).logpmf(counts), rtol=1e-12)


def test_counts_are_fitted_by_their_rate(x64):
    """One output without inputs: the lowest loss is at the logarithm of the mean."""
    counts = RNG.poisson(4, size=30)
    model = from_function(lambda p, x: jnp.broadcast_to(p, (len(x), 1)), np.log(np.mean(counts)) * np.ones(1))
    problem = Problem.from_model(model, X, counts, loss="poisson")
    np.testing.assert_allclose(problem.gradient(), 0, atol=1e-12)
    np.testing.assert_allclose(problem.hessian(), [[np.mean(counts)]])
    for bad in (counts - 5, counts + 0.5):
        with pytest.raises(DataError, match="poisson needs counts"):
            problem.with_data(X, bad)


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, y: jnp.abs(o[:, 0] - y[::-1]),
        lambda o, y: o[:, 0] / jnp.sum(o**2),
        lambda o, y: jnp.cumsum(o[:, 0]),
        lambda o, y: jnp.where(jnp.arange(len(o)) == 0, 2.0, 1.0) * o[:, 0],
        lambda o, y: o[:, 0] + jnp.prod(o) - jax.lax.stop_gradient(jnp.prod(o)),
    ],
    ids=["reversed", "normalised", "cumulated", "numbered", "gradient only"],
)
def test_losses_that_mix_rows_are_refused(x64, loss):
    model = from_function(lambda p, x: x @ p, RNG.normal(size=(3, 1)))
    with pytest.raises(ProblemError, match="mixes rows"):
        Problem.from_model(model, X, X[:, 0], loss=loss)


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, y: jnp.abs(o[:, 0] - y),
        lambda o, y: jax.vmap(lambda a, b: jnp.sum((a - b) ** 2))(o, y),
        lambda o, y: jax.lax.map(lambda row: jnp.sum(row[0] * row[1]), (o, y[:, None])),
        lambda o, y: jnp.log(o[:, 0] ** 2 + 1e-9) + 1e6,
    ],
    ids=["plain", "vmap", "map", "large"],
)
def test_losses_of_single_rows_are_taken(x64, loss):
    model = from_function(lambda p, x: x @ p, RNG.normal(size=(3, 1)))
    problem = Problem.from_model(model, X, X[:, 0], loss=loss)
    each = np.stack([problem.at(problem.w).with_data(X[i : i + 1], X[i : i + 1, 0]).gradient() for i in range(3)])
    np.testing.assert_allclose(each.mean(0), problem.with_data(X[:3], X[:3, 0]).gradient(), rtol=1e-10)


def test_a_point_is_a_vector_or_like_the_parameters():
    problem = Problem.from_model(mlp((3, 2, 2)), X, (X[:, 0] > 0).astype(int))
    assert problem.at(problem.params).energy() == problem.at(np.asarray(problem.w)).energy()
    assert problem.at(np.asarray(problem.w).tolist()).energy() == problem.energy()
    for w in (np.zeros(3), [1.0], 2.0, problem.params[:1], "w"):
        with pytest.raises(ArgumentError, match="w must"):
            problem.at(w)
    with pytest.raises(DataError, match="parameter 5 is not finite"):
        problem.at(problem.w.at[5].set(np.inf))
    with pytest.raises(ArgumentError, match="both x and y"):
        problem.losses(None, X)


def test_a_mixing_note_needs_a_reason():
    picked = contracts.with_copies(5)
    assert picked.tolist() == [0, 0, 2, 3, 4]
    rows = RNG.normal(size=(5, 2))
    assert contracts.mixing_note(rows, rows[picked], picked) == ""
    assert "other rows" in contracts.mixing_note(rows, rows[picked] + 1, picked)
    assert "dropout" in contracts.mixing_note(rows, rows[picked] * np.arange(5)[:, None], picked)


def test_outputs_in_several_arrays_are_asked_by_a_function(x64):
    w = RNG.normal(size=(3, 2))
    model = from_function(lambda p, x: {"mean": x @ p, "size": jnp.ones(len(x))}, w)
    problem = Problem.from_model(model, X, X @ w, loss=lambda o, y: jnp.sum((o["mean"] - y) ** 2, axis=1), l2=0.01)
    plain = Problem.from_model(from_function(lambda p, x: x @ p, w), X, X @ w, loss="squared_error", l2=0.01)
    both = [hessian.curvature(p, damping=0.1) for p in (problem, plain)]
    asked = [
        hessian.uncertainty(both[0], X[:3], of=lambda o, y: o["mean"][:, 1]).std,
        hessian.uncertainty(both[1], X[:3], of="output", target=1).std,
    ]
    np.testing.assert_allclose(*asked, rtol=1e-10)
    with pytest.raises(ArgumentError, match="dict of mean, size"):
        hessian.uncertainty(both[0], X[:3], of="output", target=1)
    assert hessian.explain(problem, (X[:2], X[:2] @ w)).uncertainty.std.shape == (2,)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_curvature_of_half_precision_is_computed_in_single(dtype):
    y = (X[:, 0] > 0).astype(int)
    half = Problem.from_model(mlp((3, 2, 2), dtype=dtype), jnp.asarray(X, dtype), y, l2=0.1)
    made = hessian.curvature(half, damping=1.0)
    assert made.problem.dtype == np.float32
    exact = hessian.curvature(Problem.from_model(mlp((3, 2, 2)), X, y, l2=0.1).at(made.problem.w), damping=1.0)
    near = [hessian.influence(c, (X[:2], y[:2])).values for c in (made, exact)]
    np.testing.assert_allclose(*near, atol=0.02)


def test_the_command_offers_every_activation():
    assert set(NAMES) == set(ACTIVATIONS)
