"""Models of others: built by module:function, weights from checkpoints of Flax and safetensors."""

import jax
import numpy as np
import pandas as pd
import pytest
import typer
from flax import linen, nnx, serialization
from flax.traverse_util import flatten_dict
from typer.testing import CliRunner

from jaxland.cli import hessian, trim
from jaxland.cli.opening import opened
from jaxland.data.options import TableOptions
from jaxland.errors import ArgumentError, DataError, ProblemError
from jaxland.models.foreign import built

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(0)
BUILDERS = """
import jax, jax.numpy as jnp
from flax import linen, nnx
from jaxland import mlp

class Net(nnx.Module):
    def __init__(self, rngs):
        self.first, self.norm = nnx.Linear(3, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.drop, self.last = nnx.Dropout(0.5, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)
    def __call__(self, x):
        return self.last(self.drop(jnp.tanh(self.norm(self.first(x)))))

class Old(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(2)(jnp.tanh(linen.Dense(4)(x)))

def net(seed=0):
    return Net(nnx.Rngs(seed))

def with_facts():
    return net(), {"features": ["a", "b", "c"], "classes": ["no", "yes"], "target": "answer", "l2": 0.01,
                   "centre": [0.0, 0.0, 0.0], "scale": [1.0, 2.0, 1.0], "name": "my net"}

def old():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return Old(), Old().init(jax.random.key(0), jnp.zeros((1, 3)))

def plain():
    return (lambda w, x: x @ w), jnp.ones((3, 2))

def dense():
    return mlp((3, 4, 2))

def fails():
    raise RuntimeError("out of cheese")

def nothing():
    return 7

number = 3
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "foreign_builders.py").write_text(BUILDERS)
    frame = pd.DataFrame(RNG.normal(size=(40, 3)), columns=["a", "b", "c"])
    frame["answer"] = np.where(frame["a"] > 0, "yes", "no")
    frame.to_csv(folder / "table.csv", index=False)
    return folder


@pytest.fixture(autouse=True)
def there(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))


def command(module, *arguments):
    app = typer.Typer()
    app.callback()(lambda: None)
    module.register(app)
    return CliRunner().invoke(app, [module.__name__.split(".")[-1], *map(str, arguments)], catch_exceptions=False)


def trained():
    """The module of the builder with other weights and running statistics, and its outputs."""
    import foreign_builders

    module = foreign_builders.net(seed=5)
    x = RNG.normal(size=(7, 3))
    module.train()
    module(x)
    module.eval()
    return module, x, np.asarray(module(x))


def test_orbax_and_safetensors_of_nnx(place):
    import orbax.checkpoint as ocp

    safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed (extra: checkpoints)")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        module, x, expected = trained()
    state = nnx.state(module)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(place / "orbax", state)
    model, facts = built("foreign_builders:with_facts", place / "orbax")
    np.testing.assert_allclose(model(x), expected, rtol=1e-12)
    assert model.name == "my net" and facts["l2"] == 0.01
    kept = nnx.split(module, lambda _, leaf: not isinstance(leaf, nnx.RngState), ...)[1]
    flat = {k: np.asarray(v) for k, v in flatten_dict(nnx.to_pure_dict(kept), sep=".").items()}
    safetensors.save_file(flat, place / "net.safetensors")
    model, _ = built("foreign_builders:net", place / "net.safetensors")
    np.testing.assert_allclose(model(x), expected, rtol=1e-12)
    safetensors.save_file({k: v for k, v in flat.items() if k != "last.bias"}, place / "less.safetensors")
    with pytest.raises(DataError, match=r"lacks 1 of the model's 8 arrays, such as last.bias; it holds first.bias"):
        built("foreign_builders:net", place / "less.safetensors")
    safetensors.save_file(flat | {"last.bias": np.zeros(3)}, place / "other.safetensors")
    with pytest.raises(DataError, match=r"last.bias has shape \(3,\), the model's \(2,\)"):
        built("foreign_builders:net", place / "other.safetensors")


def test_msgpack_of_linen_and_other_returns(place):
    import foreign_builders
    import jax

    module, _ = foreign_builders.old()
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        other = module.init(jax.random.key(3), np.zeros((1, 3)))
    (place / "old.msgpack").write_bytes(serialization.to_bytes(other))
    x = RNG.normal(size=(5, 3))
    model, _ = built("foreign_builders:old", place / "old.msgpack")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        np.testing.assert_allclose(model(x), module.apply(other, x), rtol=1e-12)
    assert isinstance(module, linen.Module)
    np.testing.assert_allclose(built("foreign_builders:plain")[0](x), x @ np.ones((3, 2)))
    assert built("foreign_builders:dense")[0].sizes == (3, 4, 2)


@pytest.mark.slow
def test_hessian_and_trim_from_the_shell(place, tmp_path):
    done = command(trim, "foreign_builders:with_facts", "table.csv", "--out", tmp_path / "t", "--rows", 8)
    assert done.exit_code == 0, done.output
    assert "integrated_gradients on columns: 8 inputs" in done.output
    done = command(hessian, "foreign_builders:net", "table.csv", "--target", "answer", "--l2", 0.1, "--points", 3,
                   "--kind", "gauss-newton", "--out", tmp_path / "h")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "40 training rows" in done.output and "3 points" in done.output


@pytest.mark.parametrize(
    ("reference", "error", "match"),
    [
        ("no_such_module:f", ArgumentError, "no_such_module cannot be imported"),
        ("foreign_builders:none", ArgumentError, "has no function 'none'"),
        ("foreign_builders:number", ArgumentError, "is no function, but int"),
        ("foreign_builders:fails", ArgumentError, "fails: RuntimeError: out of cheese"),
        ("foreign_builders:nothing", ProblemError, "returns int, which is no model"),
        ("foreign_builders", ArgumentError, "is no module:function"),
    ],
)
def test_builders_that_do_not_build(reference, error, match):
    with pytest.raises(error, match=match):
        built(reference)


def test_files_without_a_builder(place):
    (place / "weights.safetensors").write_bytes(b"xx")
    with pytest.raises(ArgumentError, match=r"weights.safetensors holds weights alone: name the function"):
        opened("weights.safetensors")
    with pytest.raises(DataError, match=r"is not a readable .safetensors file"):
        opened("weights.safetensors", "foreign_builders:net")
    with pytest.raises(DataError, match="do not exist"):
        opened("none.safetensors", "foreign_builders:net")
    with pytest.raises(ArgumentError, match="does not say which table it was made from"):
        opened("foreign_builders:net").read(None, TableOptions())
