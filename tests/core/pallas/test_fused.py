"""The fused Pallas kernel, interpreted on the CPU, against XLA, finite differences and known answers."""

import contextlib
import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lowering import abstract_gpu

from jaxland import Problem, mlp
from jaxland.core.energy import kernels
from jaxland.core.pallas import fused, trial
from jaxland.core.solvers import lanes, quench
from jaxland.errors import ArgumentError

RNG = np.random.default_rng(3)
CASES = [
    ((2, 5, 2), "tanh", "cross_entropy"),
    ((3, 4, 3), "gelu", "cross_entropy"),
    ((20, 5, 3), "tanh", "cross_entropy"),
    ((4, 7, 1), "relu", "squared_error"),
    ((2, 6, 5, 2), "gelu", "cross_entropy"),
    ((2, 5, 6, 3), "relu", "cross_entropy"),
    ((3, 5, 4, 2), "tanh", "squared_error"),
]


def make(sizes, activation, loss, n=45, **options):
    x = RNG.normal(size=(n, sizes[0]))
    y = RNG.integers(0, sizes[-1], n) if loss == "cross_entropy" else RNG.normal(size=(n, sizes[-1]))
    return Problem.from_model(mlp(sizes, activation), x, y, loss=loss, l2=1e-2, **options)


def fuse(problem, **options):
    model = problem.model
    shape = fused.shape_for(model.sizes, model.activation, problem.loss_name, 1e-2, problem.n, **options)
    return fused.kernel(shape, problem.kernel, problem.x, problem.y)


def away(got, truth):
    return float(jnp.max(jnp.abs(got - truth)) / jnp.max(jnp.abs(truth)))


SLOW = [pytest.param(*case, marks=pytest.mark.slow) for case in (CASES[1], CASES[5])]


@pytest.mark.parametrize("sizes, activation, loss", [CASES[0], *CASES[2:5], CASES[6], *SLOW])
def test_equals_xla_in_float64(x64, sizes, activation, loss):
    """45 points leave a tail in the last of several blocks; two splits are two programs per lane."""
    problem = make(sizes, activation, loss)
    kernel = fuse(problem, block=16, splits=2 if len(sizes) == 3 else 1)
    w, v = RNG.normal(size=(2, problem.size))
    energy, gradient = jax.jit(kernel.first)(w, kernel.data)
    assert abs(energy - problem.energy(w)) < 1e-13 * abs(energy)
    assert away(gradient, problem.gradient(w)) < 1e-13
    assert away(jax.jit(kernel.product)(w, v, kernel.data), problem.hvp(w, v)) < 1e-13


@pytest.mark.parametrize("sizes, activation, loss", CASES[:1] + CASES[4:5])
def test_finite_differences(x64, sizes, activation, loss):
    problem = make(sizes, activation, loss)
    kernel = fuse(problem, block=16)
    first = jax.jit(lambda w: kernel.first(w, kernel.data))
    w, v = np.random.default_rng(0).normal(size=(2, problem.size))
    h = 3e-4  # central differences of fourth order: a large third derivative spoils those of second
    values = [first(w + k * h * v) for k in (-2, -1, 1, 2)]
    slope, product = (sum(c * term for c, term in zip((1, -8, 8, -1), terms)) / (12 * h) for terms in zip(*values))
    assert abs(slope - first(w).gradient @ v) < 1e-8
    assert away(kernel.product(w, v, kernel.data), product) < 1e-8


@pytest.mark.parametrize("sizes, activation, loss", [CASES[2], pytest.param(*CASES[4], marks=pytest.mark.slow)])
def test_equals_xla_in_float32(sizes, activation, loss):
    problem = make(sizes, activation, loss)
    assert problem.dtype == np.float32
    kernel = fuse(problem, block=32)
    w, v = RNG.normal(size=(2, problem.size)).astype(np.float32)
    energy, gradient = jax.jit(kernel.first)(w, kernel.data)
    assert energy.dtype == gradient.dtype == np.float32
    assert abs(energy - problem.energy(w)) < 1e-6 * abs(energy)
    assert away(gradient, problem.gradient(w)) < 1e-6
    # A product adds terms that cancel: as near to the truth as 1e-6 of their magnitudes |H| |v|, or as XLA's own.
    got, xla = jax.jit(kernel.product)(w, v, kernel.data), problem.hvp(w, v)
    with jax.enable_x64(True):
        exact = problem.astype("float64")
        w, v = w.astype(np.float64), v.astype(np.float64)
        truth, terms = exact.hvp(w, v), jnp.max(jnp.abs(exact.hessian(w)) @ jnp.abs(v))
    assert np.max(np.abs(got - truth)) < max(1e-6 * terms, 2 * np.max(np.abs(xla - truth)))


def test_lanes_are_a_grid_axis(x64):
    """vmap over 7 networks, on its own and inside a loop, gives each network's own numbers."""
    problem = make((2, 5, 2), "tanh", "cross_entropy")
    kernel = fuse(problem, block=16)
    ws = RNG.normal(size=(7, problem.size))
    many = jax.jit(jax.vmap(kernel.first, (0, None)))(ws, kernel.data)
    assert jax.make_jaxpr(jax.vmap(kernel.first, (0, None)))(ws, kernel.data).pretty_print().count("pallas_call") == 1
    for w, gradient in zip(ws, many.gradient):
        assert away(gradient, problem.gradient(w)) < 1e-13

    @jax.jit
    @jax.vmap
    def descend(w):
        return jax.lax.while_loop(
            lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] - 0.1 * kernel.first(c[1], kernel.data).gradient), (0, w)
        )[1]

    slow = ws
    for _ in range(3):
        slow = slow - 0.1 * jnp.stack([problem.gradient(w) for w in slow])
    assert away(descend(ws), slow) < 1e-13


@pytest.mark.parametrize("choice", ["xla", "fused"])
def test_products_where_both_logits_are_equal(x64, choice):
    """At w = 0, a stationary point by symmetry, p = 1/2 exactly and its derivative counts."""
    problem = make((2, 3, 2), "tanh", "cross_entropy", kernel_choice=choice)
    w, v = np.zeros(problem.size), RNG.normal(size=problem.size)
    truth = problem.kernel.second(w, problem.kernel.data).hessian @ v
    assert away(problem.kernel.product(w, v, problem.kernel.data), truth) < 1e-12


@pytest.mark.parametrize(
    "target, platform, dtypes", [("triton", "cuda", ("float32", "float64")), ("tpu", "tpu", ("float32",))]
)
@pytest.mark.parametrize("sizes", [(2, 5, 2), (2, 16, 16, 3), (30, 10, 2)])
def test_lowers_for_accelerators(target, platform, dtypes, sizes):
    """Mosaic and Triton accept the program (their compilers are on the device: not run here)."""
    n_params = sum(a * b + b for a, b in itertools.pairwise(sizes))
    for dtype in dtypes:
        with jax.enable_x64(dtype == "float64"):
            shape = fused.shape_for(sizes, "tanh", "cross_entropy", 1e-5, 1000, target=target)
            first, product = fused.functions(shape)

            def both(w, v, x, y, shape=shape, first=first, product=product):
                data = fused._lay_out(shape, x, y)
                return jax.vmap(lambda a: first(a, data))(w), jax.vmap(lambda a, b: product(a, b, data))(w, v)

            w = jax.ShapeDtypeStruct((64, n_params), dtype)
            x, y = jax.ShapeDtypeStruct((1000, sizes[0]), dtype), jax.ShapeDtypeStruct((1000,), np.int32)
            with abstract_gpu() if platform == "cuda" else contextlib.nullcontext():
                text = jax.jit(both).trace(w, w, x, y).lower(lowering_platforms=(platform,)).as_text()
            assert ("__gpu$xla.gpu.triton" if target == "triton" else "tpu_custom_call") in text
            if target == "triton":
                assert "grid_x = 64" in text


def test_choice(x64):
    problem = make((2, 5, 2), "tanh", "cross_entropy")
    assert problem.kernel.name.startswith("closed form")  # on a CPU XLA
    assert replace(problem, kernel_choice="fused").kernel.name.startswith("fused, a thread a network (interpret)")
    assert not trial.is_faster(problem.kernel, problem.kernel, problem.size, problem.dtype, ())
    with pytest.raises(ArgumentError, match="kernel_choice 'fast'"):
        replace(problem, kernel_choice="fast").kernel  # noqa: B018
    for other, reason in (
        (make((2, 5, 2), "sin", "cross_entropy"), "activation 'sin'"),
        (make((2, 4, 4, 4, 2), "tanh", "cross_entropy"), "one or two hidden"),
        (make((2, 300, 2), "tanh", "cross_entropy"), "registers"),
        (Problem.from_energy(lambda w: w @ w, 3), "dense networks"),
    ):
        with pytest.raises(ArgumentError, match=reason):
            replace(other, kernel_choice="fused").kernel  # noqa: B018
        assert isinstance(other.kernel, kernels.Kernel)


def test_quench_and_exact_hessian(x64):
    """The same minimum from the same start; the exact Hessian is the base kernel's."""
    problem = make((2, 3, 2), "tanh", "cross_entropy", n=24)
    pallas = replace(problem, kernel_choice="fused")
    start = [quench.Start(RNG.normal(size=problem.size), np.float64(1.0))]
    ends = [lanes.run(quench.BFGS(1e-9), p.kernel.first, start, p.kernel.data)[0].result for p in (problem, pallas)]
    np.testing.assert_allclose(ends[1].energy, ends[0].energy, rtol=1e-12)
    w = ends[0].x
    np.testing.assert_array_equal(
        pallas.kernel.second(w, pallas.kernel.data).hessian, problem.kernel.second(w, problem.kernel.data).hessian
    )


def test_sharded_over_devices(x64):
    """Under shard_map, as lanes are laid over devices; lowered only: Pallas' interpreter knows no mesh."""
    from jax.sharding import PartitionSpec

    problem = make((2, 3, 2), "tanh", "cross_entropy", n=24)
    kernel = fuse(problem, target="triton")
    lanes_axis, whole = PartitionSpec("lanes"), PartitionSpec()
    w = jnp.zeros((8, problem.size))
    with abstract_gpu("lanes") as mesh:
        many = jax.shard_map(
            jax.vmap(kernel.first, (0, None)), mesh=mesh, in_specs=(lanes_axis, whole), out_specs=lanes_axis
        )
        text = jax.jit(many).trace(w, kernel.data).lower(lowering_platforms=("cuda",)).as_text()
    assert "xla.gpu.triton" in text


@pytest.mark.slow
def test_xor_landscape_is_the_same(x64):
    """The known points of the XOR network (2 hidden units, lam 1e-2), all through the kernel."""
    from jaxland.landscape import explore

    x, y = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    problem = Problem.from_model(mlp((2, 2, 2)), x, y, l2=1e-2, kernel_choice="fused")
    assert problem.kernel.name.startswith("fused")
    found = explore(problem, start_scale=1.5, seed=2)
    np.testing.assert_allclose(
        np.sort(found.energies), [0.4265389, 0.4692146, 0.5929038, 0.5929038, 0.6931472], atol=1e-6
    )
    assert len(found.ts_energies) == 16
