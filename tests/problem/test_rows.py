"""Sums over data are the same in chunks, in equal blocks, and over devices."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from shared_cases import PATIENT, xor

from jaxland import Problem, mlp
from jaxland.errors import ArgumentError, ProblemError
from jaxland.problem import rows
from jaxland.problem.products import Products, products_of

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(23, 3)), RNG.integers(0, 2, 23)


def problem(chunk=None, l2=1e-3):
    return Problem.from_model(mlp((3, 4, 2)), X, Y, l2=l2, chunk=chunk)


@pytest.mark.parametrize("chunk", [1, 5, 22, 23, 100])
def test_chunks_change_nothing(x64, chunk):
    whole, parts = problem(), problem(chunk)
    w, v = RNG.normal(size=(2, whole.size))
    for name, arguments in (("energy", (w,)), ("gradient", (w,)), ("hvp", (w, v)), ("hessian", (w,))):
        np.testing.assert_allclose(getattr(parts, name)(*arguments), getattr(whole, name)(*arguments), atol=1e-13)
    many = rows.map_rows(lambda x: x**2, (jnp.asarray(X),), chunk)
    np.testing.assert_allclose(many, X**2, rtol=1e-15)
    total = rows.sum_rows(lambda x, y: {"a": x.sum(0), "b": y.sum()}, (jnp.asarray(X), jnp.asarray(Y)), chunk)
    np.testing.assert_allclose(total["a"], X.sum(0), atol=1e-13)
    assert total["b"] == Y.sum()


def test_equal_blocks_weigh_each_row_once(x64):
    blocks = list(rows.equal_blocks((jnp.asarray(X), jnp.asarray(Y)), 23, 5, jnp.float64))
    assert len(blocks) == 5 and {x.shape for (x, _), _ in blocks} == {(5, 3)}
    np.testing.assert_allclose(sum(w @ x for (x, _), w in blocks), X.sum(0), atol=1e-13)


def test_rows_at_once_are_bounded_by_memory_and_chunk():
    assert rows.rows_at_once(100, 1) == 100 and rows.rows_at_once(100, 1, chunk=30) == 25
    assert rows.rows_at_once(10**6, 2**30) == 32 and rows.rows_at_once(33, 2**30) == 17
    data = (np.zeros((8, 3)),)
    assert rows.row_footprint(lambda x: jnp.sum(jnp.tanh(x @ jnp.ones((3, 5))), axis=1), data) >= 11


@pytest.mark.parametrize("kind", ["hessian", "gauss-newton"])
def test_products_against_the_hessian(x64, kind):
    one = problem()
    found = products_of(one, kind)
    assert products_of(one, kind) is found and products_of(one.at(one.w + 1), kind) is found
    w, vectors = RNG.normal(size=one.size), RNG.normal(size=(3, one.size))
    got = found.products(vectors, w, found.data)
    if kind == "hessian":
        np.testing.assert_allclose(got, vectors @ np.asarray(one.hessian(w)), atol=1e-12)
    np.testing.assert_allclose(found.gradient(w, found.data), one.gradient(w), atol=1e-14)
    with pytest.raises(ArgumentError, match="kind"):
        Products(one, "fisher")
    with pytest.raises(ProblemError, match="Gauss-Newton"):
        Products(Problem.from_energy(lambda w: w @ w, 2), "gauss-newton")


DEVICES = """
import json
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
from test_rows import RNG, problem
from jaxland.problem.products import Products
from jaxland.problem.sharded import shard_data

far = []
for shape, names, chunk in (((4,), ("data",), None), ((2, 2), ("a", "data"), 4)):
    mesh = jax.make_mesh(shape, names)
    one, spread = problem(), shard_data(problem(chunk), mesh)
    w, v = RNG.normal(size=(2, one.size))
    asked = {"energy": (w,), "gradient": (w,), "hvp": (w, v), "losses": (w,), "predict": (w,)}
    for name, arguments in asked.items():
        far.append(float(np.max(np.abs(getattr(spread, name)(*arguments) - getattr(one, name)(*arguments)))))
    assert spread.n == 23 and spread.at(w).energy() == spread.energy(w)
    for kind in ("hessian", "gauss-newton")[: 1 + (chunk is None)]:
        alone, several = Products(problem(chunk), kind), Products(problem(chunk), kind, mesh)
        vectors, weights = RNG.normal(size=(3, one.size)), RNG.normal(size=(2, 23))
        for name, lead in (("products", (vectors,)), ("gradient", ()), ("example_products", (vectors,)),
                           ("example_sums", (weights,))):
            a, b = (np.asarray(getattr(p, name)(*lead, w, p.data)) for p in (alone, several))
            far.append(float(np.max(np.abs(a - b))))
print(json.dumps(far))
"""


def test_four_devices_sum_as_one():
    here = str(Path(__file__).parent)
    paths = os.pathsep.join([here, str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count=4 {PATIENT}",
        "PYTHONPATH": paths,
    }
    code = textwrap.dedent(DEVICES)
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert out.returncode == 0, out.stderr[-2000:]
    far = json.loads(out.stdout)
    assert len(far) == 2 * 5 + 3 * 4 and max(far) < 1e-12


# -- one cache of programs, one precision --


def test_compiled_is_made_once_and_shared_with_the_same_problem_elsewhere():
    one, made = problem(), []

    def make():
        made.append(1)
        return object()

    kept = one.compiled("key", make)
    assert one.compiled("key", make) is kept and one.at(one.w + 1).compiled("key", make) is kept and len(made) == 1
    assert (
        one.with_data(X[:5], Y[:5]).compiled("key", make) is not kept and problem().compiled("key", make) is not kept
    )
    assert one.at(one.w + 1).energy_of is one.energy_of
    assert float(one.at(one.w + 1).energy()) != float(one.energy())


def test_a_problem_keeps_its_dtype_whatever_the_x64_state():
    with jax.enable_x64(True):
        double, expected = xor(), xor()
        known = [
            np.asarray(a) for a in (expected.energy(), expected.gradient(), expected.hessian(), expected.losses())
        ]
        frozen = double.with_data(np.asarray(double.x), double.y)
    # Nothing of it was read so far.
    assert double.dtype == np.float64 and double.w.dtype == jnp.float64 and frozen.x.dtype == jnp.float64
    found = [double.energy(), double.gradient(), double.hessian(), double.losses()]
    for a, b in zip(found, known):
        assert a.dtype == jnp.float64
        np.testing.assert_array_equal(a, b)
    there = double.at(np.full(double.size, 0.1))
    assert (
        there.dtype == np.float64
        and there.energy().dtype == jnp.float64
        and there.params[0]["w"].dtype == jnp.float64
    )
    single = problem()
    with jax.enable_x64(True):
        assert single.dtype == np.float32 and single.energy().dtype == jnp.float32
