"""Any arguments of a Problem are refused in one sentence of our own, or give a Problem that keeps its contracts."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxland import Problem, from_function, mlp
from jaxland.errors import JaxlandError

RNG = np.random.default_rng(3)
X = RNG.normal(size=(6, 2))
HOLED = np.where(np.arange(12).reshape(6, 2) == 4, np.nan, X)
INPUTS = {
    "array": X,
    "float32": X.astype(np.float32),
    "float16": X.astype(np.float16),
    "integers": np.arange(12).reshape(6, 2),
    "truth": X > 0,
    "list": X.tolist(),
    "ragged": [[1.0, 2.0], [3.0]],
    "text": np.array([["a", "b"]] * 6),
    "objects": X.astype(object),
    "mixed": [[1.0, "b"]] * 6,
    "none": None,
    "number": 3.0,
    "nothing": [],
    "empty": np.zeros((0, 2)),
    "no columns": np.zeros((6, 0)),
    "wide": np.zeros((6, 3)),
    "line": X[:, 0],
    "cube": X[:, :, None],
    "nan": HOLED,
    "inf": X * np.inf,
    "complex": X * (1 + 1j),
    "table": pd.DataFrame(X, columns=["a", "b"]),
    "table with truth": pd.DataFrame({"a": X[:, 0] > 0, "b": X[:, 1]}),
    "table with text": pd.DataFrame({"a": ["u"] * 6, "b": X[:, 1]}),
    "table with gaps": pd.DataFrame({"a": pd.array([1, None, 3, 4, 5, 6], dtype="Int64"), "b": X[:, 1]}),
    "dates": pd.DataFrame({"a": pd.date_range("2024-01-01", periods=6), "b": X[:, 1]}),
    "pair": (X, X),
    "dict": {"a": X},
    "fewer": X[:4],
}
Y = np.array([0, 1, 1, 0, 1, 0])
TARGETS = {
    "classes": Y,
    "list": Y.tolist(),
    "floats": Y.astype(float),
    "truth": Y.astype(bool),
    "column": Y[:, None],
    "halves": Y + 0.5,
    "beyond": Y + 1,
    "negative": -Y,
    "text": np.where(Y, "u", "v"),
    "series": pd.Series(Y),
    "gaps": pd.Series([0, 1, None, 0, 1, 0], dtype="Int64"),
    "category": pd.Series(np.where(Y, "u", "v")).astype("category"),
    "numbers": X,
    "normal": X[:, 0],
    "fewer": Y[:4],
    "none": None,
    "nan": np.where(Y, np.nan, 1.0),
    "complex": Y * 1j,
    "counts": np.array([0, 3, 1, 0, 7, 2]),
    "cube": np.zeros((6, 2, 2)),
    "dict": {"a": Y},
}


def first(outputs):
    return outputs["a"] if isinstance(outputs, dict) else outputs


LOSSES = {
    "cross_entropy": "cross_entropy",
    "squared_error": "squared_error",
    "poisson": "poisson",
    "unknown": "hinge",
    "mine": lambda o, y: jnp.sum(jnp.abs(first(o)), axis=1),
    "scalar": lambda o, y: jnp.mean(first(o) ** 2),
    "column": lambda o, y: jnp.sum(first(o) ** 2, axis=1, keepdims=True),
    "batch mean": lambda o, y: jnp.sum((first(o) - jnp.mean(first(o), axis=0, keepdims=True)) ** 2, axis=1),
    "over rows": lambda o, y: jnp.sum(jax.nn.softmax(first(o), axis=0), axis=1),
    "sorted": lambda o, y: jnp.sort(first(o)[:, 0]),
    "gradient only": lambda o, y: (
        first(o)[:, 0] + jnp.max(first(o)) ** 2 - jax.lax.stop_gradient(jnp.max(first(o)) ** 2)
    ),
    "whole": lambda o, y: jnp.argmax(first(o), axis=1),
    "tuple": lambda o, y: (first(o)[:, 0], 1),
    "numpy": lambda o, y: np.abs(np.asarray(first(o)))[:, 0],
    "branch": lambda o, y: first(o)[:, 0] if first(o)[0, 0] > 0 else first(o)[:, 1],
    "raises": lambda o, y: 1 / 0,
    "complex": lambda o, y: first(o)[:, 0] * 1j,
}
W = {"w": RNG.normal(size=(2, 2)).astype(np.float32)}
MODELS = {
    "mlp": mlp((2, 3, 2)),
    "one output": mlp((2, 3, 1)),
    "plain": from_function(lambda p, x: jnp.asarray(x, p["w"].dtype) @ p["w"], W),
    "cast": from_function(lambda p, x: x @ p["w"].astype(x.dtype), W),
    "dict": from_function(lambda p, x: {"a": x @ p["w"].astype(x.dtype)}, W),
    "no rows": from_function(lambda p, x: jnp.sum(x @ p["w"].astype(x.dtype), axis=0), W),
    "integers": from_function(lambda p, x: x @ p["w"], {"w": np.ones((2, 2), int)}),
    "complex": from_function(lambda p, x: x @ p["w"], {"w": np.ones((2, 2)) * 1j}),
    "nothing": from_function(lambda p, x: x, {}),
    "words": from_function(lambda p, x: x, {"w": "abc"}),
    "numpy": from_function(lambda p, x: np.asarray(x) @ p["w"], W),
    "raises": from_function(lambda p, x: undefined, W),
}
ARGUMENTS = st.fixed_dictionaries(
    {
        "model": st.sampled_from(list(MODELS)),
        "x": st.sampled_from(list(INPUTS)),
        "y": st.sampled_from(list(TARGETS)),
        "loss": st.sampled_from(list(LOSSES)),
    },
    optional={
        "l2": st.sampled_from([0.0, 0.1, -1.0, float("nan"), float("inf")]),
        "chunk": st.sampled_from([None, 4, 0, -2]),
        "kernel_choice": st.sampled_from(["auto", "xla", "best"]),
        "regulariser": st.sampled_from([lambda p: 0.1 * sum(jnp.sum(a**2) for a in jax.tree.leaves(p)), lambda p: p]),
    },
)
# One sound argument each, so that many examples differ from a sound problem in one place only.
SOUND = {"model": "plain", "x": "array", "y": "classes", "loss": "cross_entropy"}


@st.composite
def arguments(draw):
    """Arguments of which two at most are drawn, or all."""
    drawn = draw(ARGUMENTS)
    if draw(st.booleans()):
        return drawn
    kept = draw(st.lists(st.sampled_from(list(drawn)), min_size=1, max_size=2))
    return {**SOUND, **{name: drawn[name] for name in kept}}


def built_or_refused(names):
    """Whether a problem was built."""
    given = dict(names)
    model, x, y, loss = (
        table[given.pop(key)] for table, key in ((MODELS, "model"), (INPUTS, "x"), (TARGETS, "y"), (LOSSES, "loss"))
    )
    try:
        problem = Problem.from_model(model, x, y, loss=loss, **given)
    except JaxlandError as error:
        assert str(error) and "\n" not in str(error)
        return False
    losses = np.asarray(problem.loss(problem.params, *problem.data))
    assert losses.shape == (problem.n,) and losses.dtype.kind == "f"
    back = jax.tree.map(lambda a: a[::-1], problem.data)
    np.testing.assert_allclose(problem.loss(problem.params, *back), losses[::-1], rtol=1e-3, atol=1e-4)
    alone = jax.tree.map(lambda a: a[2:3], problem.data)
    np.testing.assert_allclose(problem.loss(problem.params, *alone), losses[2:3], rtol=1e-3, atol=1e-4)
    for w in (np.full(problem.size, np.nan), np.zeros(problem.size + 1), float("nan"), {"w": 1.0}):
        with pytest.raises(JaxlandError):
            problem.at(w)
    return True


SMALL = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck), "database": None}


@settings(max_examples=60, **SMALL)
@given(arguments())
def test_any_arguments_are_checked(names):
    built_or_refused(names)


@pytest.mark.slow
@settings(max_examples=3000, **{**SMALL, "derandomize": False})
@given(arguments())
def test_many_arguments_are_checked(names):
    built_or_refused(names)


@pytest.mark.parametrize(
    "loss", ["scalar", "column", "batch mean", "over rows", "sorted", "gradient only", "whole", "tuple"]
)
def test_losses_that_break_the_contract_are_refused(loss):
    assert not built_or_refused({**SOUND, "loss": loss})


@pytest.mark.parametrize(
    "x", ["array", "float32", "integers", "truth", "list", "objects", "table", "table with truth"]
)
def test_inputs_as_people_have_them_are_taken(x):
    assert built_or_refused({**SOUND, "x": x})
