"""Networks a thread each, interpreted on the CPU, against XLA and finite differences; lowered for CUDA."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lowering import abstract_gpu

from jaxland import Problem, mlp
from jaxland.core.pallas.dense import Shape, choose, dense_kernel, elementary
from jaxland.core.pallas.dense.programs import call
from jaxland.core.pallas.dense.shape import lay_out, pack, unpack

CASES = [
    ((2, 5, 2), "tanh", "cross_entropy", 4, 1),
    ((4, 7, 1), "relu", "squared_error", 4, 1),
    ((3, 3, 2, 2), "tanh", "squared_error", 1, 1),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in [
            ((2, 5, 2), "tanh", "cross_entropy", 1, 1),
            ((2, 5, 2), "tanh", "cross_entropy", 1, 2),
            ((3, 4, 3), "gelu", "cross_entropy", 2, 1),
            ((2, 6, 5, 2), "gelu", "cross_entropy", 1, 1),
            ((3, 5, 4, 2), "tanh", "cross_entropy", 1, 1),
        ]
    ),
]


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def make(rng, sizes, activation, loss, n=45):
    x = rng.normal(size=(n, sizes[0]))
    y = rng.integers(0, sizes[-1], n) if loss == "cross_entropy" else rng.normal(size=(n, sizes[-1]))
    return Problem.from_model(mlp(sizes, activation), x, y, loss=loss, l2=1e-2)


def fused(problem, groups=1, ahead=1):
    model = problem.model
    shape = Shape(model.sizes, model.activation, problem.loss_name, 1e-2, groups, "interpret", ahead)
    return dense_kernel(shape, problem.kernel, jnp.asarray(problem.x, problem.dtype), problem.y)


def away(got, truth):
    return float(jnp.max(jnp.abs(got - truth)) / jnp.max(jnp.abs(truth)))


@pytest.mark.parametrize("sizes, activation, loss, groups, ahead", CASES)
def test_equals_xla_in_float64(x64, sizes, activation, loss, groups, ahead, rng):
    """45 points are shared unevenly; three networks leave most of a warp's threads idle."""
    problem = make(rng, sizes, activation, loss)
    kernel = fused(problem, groups, ahead)
    w, v = rng.normal(size=(2, 3, problem.size))
    found = jax.jit(jax.vmap(kernel.first, (0, None)))(w, kernel.data)
    product = jax.jit(jax.vmap(kernel.product, (0, 0, None)))(w, v, kernel.data)
    for k in range(3):
        assert abs(found.energy[k] - problem.energy(w[k])) < 1e-13 * abs(problem.energy(w[k]))
        assert away(found.gradient[k], problem.gradient(w[k])) < 1e-13
        # A product adds terms that cancel: as near as 1e-13 of their magnitudes |H| |v|.
        terms = jnp.max(jnp.abs(problem.hessian(w[k])) @ jnp.abs(v[k]))
        assert jnp.max(jnp.abs(product[k] - problem.hvp(w[k], v[k]))) < 1e-13 * terms


def emulated(text, *given):
    """What the instructions of ``elementary`` do, one after the other, a reciprocal to 20 bits."""
    if text.startswith("rcp"):
        return jnp.asarray(1.0 / given[0], jnp.float32).astype(jnp.float64) * (1 + 2.0**-21)
    a, b, c = (np.asarray(v, np.longdouble) for v in given)
    return jnp.asarray(np.asarray((-a if "neg" in text else a) * b + c, np.float64))


@pytest.mark.parametrize("target", ["interpret", "triton"])
def test_branchless_functions(x64, rng, monkeypatch, target):
    """exp, the logistic function and tanh keep their digits near 0 and 1; against 80-bit numbers."""
    monkeypatch.setattr(elementary, "_assembly", emulated)  # eagerly: XLA would simplify rounding by a magic number
    shape = Shape((2, 5, 2), "tanh", "cross_entropy", 0.0, target=target)
    a = rng.normal(size=1000) * 10.0 ** rng.uniform(-9, 2, 1000)
    wide = np.abs(a).astype(np.longdouble)
    (t,), (slope,) = jax.tree.map(np.asarray, elementary.tanhs(shape, [jnp.asarray(a)]))
    np.testing.assert_allclose(t, np.tanh(a), rtol=0, atol=3e-16)
    near = wide < 250
    found = slope, elementary.exp(shape, -jnp.abs(a)), elementary.logistic(shape, jnp.asarray(a))
    truth = np.cosh(wide) ** -2 / 4, np.exp(-wide), 1 / (1 + np.exp(wide))
    for got, exact in zip(found, truth):
        assert np.max(np.abs(np.asarray(got)[near] / exact[near] - 1) / (1 + wide[near])) < 8e-16
    b = np.linspace(-9.0, 9.0, 500, dtype=np.longdouble)
    k, m = np.sqrt(2 / (4 * np.arctan(np.longdouble(1)))), np.longdouble(0.044715)
    rise, z = 2 * k * (1 + 3 * m * b * b), k * (b + m * b**3)
    p, q = 1 / (1 + np.exp(-2 * z)), 1 / (1 + np.exp(2 * z))
    dp = p * q * rise
    ddp = dp * (q - p) * rise + p * q * 12 * k * m * b
    truth = b * p, p + b * dp, 2 * dp + b * ddp
    terms = np.abs(b * p), p + np.abs(b * dp), 2 * dp + np.abs(b * dp * rise) + np.abs(b * b * p * q)
    found = elementary.gelus(shape, [jnp.asarray(b, jnp.float64)], bent=True)
    for (got,), exact, size in zip(found, truth, terms):
        assert np.max(np.abs(np.asarray(got) - exact) / (size * (1 + np.abs(z)))) < 1e-15
    ends = jnp.array([1e9, -1e300, np.inf, -np.inf])
    (t,), (slope,) = elementary.tanhs(shape, [ends])
    np.testing.assert_array_equal(t, np.sign(ends))
    assert np.all(slope < 1e-200) and np.isnan(elementary.tanhs(shape, [jnp.full(1, jnp.nan)])[0][0]).all()


def test_equals_xla_in_float32(rng):
    problem = make(rng, (2, 5, 2), "tanh", "cross_entropy")
    assert problem.dtype == np.float32
    kernel = fused(problem)
    w = rng.normal(size=problem.size).astype(np.float32)
    found = jax.jit(kernel.first)(w, kernel.data)
    assert found.gradient.dtype == np.float32
    assert abs(found.energy - problem.energy(w)) < 1e-6 * abs(found.energy)
    assert away(found.gradient, problem.gradient(w)) < 1e-6


def test_gradients_by_finite_differences(x64, rng):
    problem = make(rng, (2, 5, 2), "tanh", "cross_entropy")
    kernel = fused(problem)
    first = jax.jit(lambda w: kernel.first(w, kernel.data))
    w, v = rng.normal(size=(2, problem.size))
    h = 3e-4
    values = [first(w + k * h * v) for k in (-2, -1, 1, 2)]
    slope, product = (sum(c * term for c, term in zip((1, -8, 8, -1), terms)) / (12 * h) for terms in zip(*values))
    assert abs(slope - first(w).gradient @ v) < 1e-8
    assert away(kernel.product(w, v, kernel.data), product) < 1e-8


def test_saturated_units_and_certain_points_stay_finite(x64, rng):
    """Weights far beyond any that matter: tanh is 1, the loss is a hinge, nothing overflows."""
    problem = make(rng, (2, 5, 2), "tanh", "cross_entropy")
    kernel = fused(problem)
    w = 1e3 * rng.normal(size=problem.size)
    found = jax.jit(kernel.first)(w, kernel.data)
    assert np.isfinite(found.energy) and np.isfinite(found.gradient).all()
    assert away(found.gradient, problem.gradient(w)) < 1e-12


def test_all_networks_of_nested_maps_are_one_call(x64, rng):
    problem = make(rng, (2, 3, 2), "tanh", "cross_entropy")
    kernel = fused(problem)
    w = rng.normal(size=(3, 4, problem.size))
    many = jax.vmap(jax.vmap(kernel.first, (0, None)), (0, None))
    assert str(jax.make_jaxpr(many)(w, kernel.data)).count("pallas_call") == 1
    found = jax.jit(many)(w, kernel.data)
    assert away(found.gradient[2, 1], problem.gradient(w[2, 1])) < 1e-13
    with pytest.raises(NotImplementedError, match="one set of points"):
        jax.vmap(kernel.first)(w[:, 0], jax.tree.map(lambda a: jnp.stack([jnp.asarray(a)] * 3), kernel.data))


@pytest.mark.parametrize("sizes, loss, groups", [((2, 5, 2), "cross_entropy", 4), ((3, 4, 2, 3), "squared_error", 1)])
def test_rows_of_weights(x64, sizes, loss, groups, rng):
    """``unpack`` is the transpose of ``pack``: <pack(w), r> = <w, unpack(r)>."""
    shape = Shape(sizes, "tanh", loss, 0.0, groups)
    w = rng.normal(size=(shape.parameters, 2))
    own, shared = pack(shape, w)
    assert (own.shape[0], shared.shape[0]) == shape.rows
    r = rng.normal(size=own.shape), rng.normal(size=shared.shape)
    back = unpack(shape, *map(jnp.asarray, r))
    np.testing.assert_allclose(jnp.sum(own * r[0]) + jnp.sum(shared * r[1]), jnp.sum(w * back), rtol=1e-12)


def test_which_networks_are_served():
    def shape(sizes, loss="cross_entropy", itemsize=8, activation="tanh"):
        return choose(sizes, activation, loss, 0.0, itemsize)

    assert [shape((2, h, 2)).groups for h in (5, 10, 32, 64)] == [1, 1, 4, 8]
    assert shape((30, 3, 2)).groups == 4 and shape((2, 5, 5, 2), itemsize=4).groups == 1
    assert "registers" in shape((2, 300, 2)) and "registers" in shape((200, 5, 2))
    assert [shape((2, h, 2)).for_products(8).groups for h in (5, 10, 32, 64)] == [1, 2, 8, 16]
    assert "activation 'sin'" in shape((2, 5, 2), activation="sin")
    assert "one or two hidden" in shape((2, 5, 5, 5, 2))
    assert "two outputs" in shape((2, 5, 1)) and not isinstance(shape((2, 5, 1), "squared_error"), str)


@pytest.mark.parametrize(
    "sizes, activation, loss",
    [
        ((2, 5, 2), "tanh", "cross_entropy"),
        ((2, 32, 2), "tanh", "cross_entropy"),
        ((3, 4, 3), "gelu", "cross_entropy"),
        ((2, 2, 2, 1), "relu", "squared_error"),
    ],
)
def test_lowers_for_cuda(sizes, activation, loss):
    """No GPU here: Triton's compiler is on the device."""
    for itemsize in (4, 8):
        dtype = f"float{8 * itemsize}"
        with jax.enable_x64(itemsize == 8), abstract_gpu():
            shape = choose(sizes, activation, loss, 1e-5, itemsize)
            w = jax.ShapeDtypeStruct((64, shape.parameters), dtype)
            x, y = jax.ShapeDtypeStruct((1000, sizes[0]), dtype), jax.ShapeDtypeStruct((1000,), dtype)

            def both(w, v, x, y, shape=shape):
                data = lay_out(shape, x, y)
                return call(shape, [w], data), call(shape, [w, v], data)

            text = jax.jit(both).trace(w, w, x, y).lower(lowering_platforms=("cuda",)).as_text()
            assert text.count("__gpu$xla.gpu.triton") >= 2 and f"fma.rn.f{8 * itemsize}" in text


def test_sharded_over_devices(x64, rng):
    """Under shard_map, as lanes are laid over devices; lowered only."""
    from jax.sharding import PartitionSpec

    problem = make(rng, (2, 3, 2), "tanh", "cross_entropy", n=24)
    kernel = fused(problem)
    kernel = dense_kernel(replace(kernel.dense, target="triton"), problem.kernel, jnp.asarray(problem.x), problem.y)
    with abstract_gpu("lanes") as mesh:
        many = jax.shard_map(
            jax.vmap(kernel.first, (0, None)),
            mesh=mesh,
            in_specs=(PartitionSpec("lanes"), PartitionSpec()),
            out_specs=PartitionSpec("lanes"),
            check_vma=False,
        )
        text = jax.jit(many).trace(jnp.zeros((8, problem.size)), kernel.data).lower(lowering_platforms=("cuda",))
    assert "xla.gpu.triton" in text.as_text()
