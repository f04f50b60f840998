import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxland import Problem, from_equinox, from_function, from_linen, from_nnx, mlp
from jaxland.doctor import batched_matvec_errors
from jaxland.errors import ArgumentError, DataError, ProblemError
from jaxland.models import load, save

RNG = np.random.default_rng(0)
X = RNG.normal(size=(53, 3))
Y = (X[:, 0] > 0).astype(int)


def test_this_jax_computes_right_numbers():
    assert batched_matvec_errors() == 0


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_chunks_change_nothing(x64, loss):
    model = mlp((3, 4, 2))
    y = Y if loss == "cross_entropy" else RNG.normal(size=(53, 2))
    whole = Problem.from_model(model, X, y, l2=1e-2, loss=loss)
    parts = Problem.from_model(model, X, y, l2=1e-2, loss=loss, chunk=7)
    w = RNG.normal(size=whole.size)
    np.testing.assert_allclose(whole.energy(w), parts.energy(w), rtol=1e-13)
    np.testing.assert_allclose(whole.gradient(w), parts.gradient(w), atol=1e-14)
    np.testing.assert_allclose(whole.hessian(w), parts.hessian(w), atol=1e-13)


def test_energy_is_mean_loss_plus_l2(x64):
    problem = Problem.from_model(mlp((3, 4, 2)), X, Y, l2=0.3)
    w = RNG.normal(size=problem.size)
    logits = np.asarray(problem.predict(w))
    mean = np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(53), Y])
    np.testing.assert_allclose(problem.energy(w), mean + 0.3 * np.sum(w**2), rtol=1e-13)


def test_gradient_and_hessian_against_finite_differences(x64):
    problem = Problem.from_model(mlp((3, 4, 3, 2), "gelu"), X, Y, l2=0.1)
    w, v = RNG.normal(size=(2, problem.size))
    e = 1e-5
    numeric = (problem.energy(w + e * v) - problem.energy(w - e * v)) / (2 * e)
    np.testing.assert_allclose(problem.gradient(w) @ v, numeric, rtol=1e-7)
    numeric = (problem.gradient(w + e * v) - problem.gradient(w - e * v)) / (2 * e)
    np.testing.assert_allclose(problem.hvp(w, v), numeric, atol=1e-7)
    np.testing.assert_allclose(problem.hessian(w) @ v, problem.hvp(w, v), atol=1e-12)


def test_from_energy(x64):
    problem = Problem.from_energy(lambda w: jnp.sum((w**2 - 1) ** 2), 3)
    assert problem.size == 3 and problem.n == 0
    np.testing.assert_allclose(problem.gradient(np.array([1.0, -1.0, 1.0])), 0)
    with pytest.raises(ProblemError, match="per-example"):
        problem.losses()


def test_adapters_agree_with_plain_functions():
    from flax import linen, nnx

    x = np.asarray(X, np.float32)

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.a, self.b = nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, x):
            return self.b(nnx.tanh(self.a(x)))

    net = Net(nnx.Rngs(0))
    model = from_nnx(net)
    np.testing.assert_allclose(model(x), net(x), rtol=1e-6)
    problem = Problem.from_model(model, x, Y)
    assert problem.size == 3 * 4 + 4 + 4 * 2 + 2
    assert np.isfinite(problem.gradient()).all()

    module = linen.Dense(2)
    variables = module.init(jax.random.key(0), x)
    np.testing.assert_allclose(from_linen(module, variables)(x), module.apply(variables, x), rtol=1e-6)

    eqx = pytest.importorskip("equinox")
    layer = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(1))
    np.testing.assert_allclose(from_equinox(layer)(x), jax.vmap(layer)(x), rtol=1e-6)

    plain = from_function(lambda p, x: x @ p, np.ones((3, 2), np.float32))
    assert Problem.from_model(plain, x, Y).size == 6


def test_models_survive_a_file(tmp_path, x64):
    model = mlp((3, 5, 2), "relu", key=jax.random.key(3))
    path = save(tmp_path / "m.npz", model, scale=[1, 2])
    back, metadata = load(path)
    np.testing.assert_array_equal(back(X), model(X))
    assert metadata == {"scale": [1, 2]}
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="not a model file"):
        load(path)


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda m: Problem.from_model(m, X, Y[:5]), DataError, "same number of rows"),
        (lambda m: Problem.from_model(m, X[:0], Y[:0]), DataError, "empty"),
        (lambda m: Problem.from_model(m, np.where(X > 2, np.nan, X), Y), DataError, "not finite"),
        (lambda m: Problem.from_model(m, X, Y + 1), DataError, "labels"),
        (lambda m: Problem.from_model(m, X, Y, loss="hinge"), ArgumentError, "hinge"),
        (lambda m: Problem.from_model(m, X, Y, l2=-1), ArgumentError, "l2"),
        (lambda m: mlp((3,)), ArgumentError, "sizes"),
        (lambda m: mlp((3, 2), "swish"), ArgumentError, "activation"),
    ],
)
def test_bad_input_gets_one_clear_message(call, error, words):
    with pytest.raises(error, match=words):
        call(mlp((3, 4, 2)))


@pytest.mark.parametrize("sizes, odd", [((3, 5, 2), True), ((3, 5, 2), False), ((3, 4, 4, 2), True), ((3, 2), True)])
def test_many_alignments_equal_one_by_one(sizes, odd):
    from jaxland.problem.symmetry import DenseSymmetry

    symmetry, rng = DenseSymmetry(sizes, odd), np.random.default_rng(1)
    reference = rng.normal(size=symmetry.size)
    points = np.stack(
        [symmetry.random_image(reference + 0.3 * rng.normal(size=symmetry.size), rng) for _ in range(9)]
    )
    index, sign = symmetry.alignments(points, reference)
    expected = np.stack([symmetry.align(w, reference) for w in points])
    np.testing.assert_array_equal(sign * np.take_along_axis(points, index, 1), expected)


@pytest.mark.parametrize("odd", [True, False])
def test_alignment_of_deep_networks_finds_noisy_images(odd):
    from jaxland.problem.symmetry import DenseSymmetry

    symmetry, rng = DenseSymmetry((4, 5, 4, 3, 2), odd), np.random.default_rng(2)
    reference = rng.normal(size=symmetry.size)
    near = reference + 0.2 * rng.normal(size=(40, symmetry.size))
    images = np.stack([symmetry.random_image(w, rng) for w in near])
    aligned = np.stack([symmetry.align(w, reference) for w in images])
    found = np.isclose(((aligned - reference) ** 2).sum(1), ((near - reference) ** 2).sum(1))
    assert found.mean() >= 0.9
