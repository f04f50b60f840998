"""Models in files: whole, checked, of either precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxland import mlp
from jaxland.errors import DataError, ProblemError
from jaxland.models import from_function, load, save
from jaxland.runs import write_npz

X = np.random.default_rng(0).normal(size=(5, 3))


@pytest.mark.parametrize("x64", [False, True])
def test_a_model_comes_back_as_it_was(tmp_path, x64):
    with jax.enable_x64(x64):
        model = mlp((3, 4, 2), "gelu", key=jax.random.key(1))
        params = jax.tree.map(lambda a: a + 1, model.params)
        back, facts = load(save(tmp_path / "m.npz", model, params, classes=["a", "b"]))
        assert facts == {"classes": ["a", "b"]}
        assert back.params[0]["w"].dtype == (jnp.float64 if x64 else jnp.float32)
        np.testing.assert_array_equal(back(jnp.asarray(X)), model(jnp.asarray(X), params))
        assert (back.sizes, back.activation, back.name) == (model.sizes, model.activation, model.name)


def test_files_that_are_refused(tmp_path):
    path = tmp_path / "m.npz"
    with pytest.raises(DataError, match="does not exist"):
        load(path)
    head = {"sizes": [3, 2], "activation": "tanh", "metadata": {}}
    for weights, words in ((np.zeros(3), "do not fit"), (np.full(8, np.nan), "not all finite")):
        write_npz(path, "jaxland-mlp-1", head, {"weights": weights.astype(np.float32)})
        with pytest.raises(DataError, match=words):
            load(path)
    write_npz(path, "jaxland-mlp-1", {}, {})
    with pytest.raises(DataError, match="not a model file"):
        load(path)
    with pytest.raises(ProblemError, match="only networks made by"):
        save(path, from_function(lambda p, x: x @ p, np.ones((3, 2))))
