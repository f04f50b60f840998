"""Models and inputs of other kinds: loops, half precision, tokens, outputs in a dict, complex numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxland import trim
from jaxland.errors import ArgumentError, DataError, ProblemError

RNG = np.random.default_rng(5)
X = RNG.normal(size=(3, 8)).astype(np.float32)
W = RNG.normal(size=(8, 2)).astype(np.float32)


def looped(x):
    """sum over features of sin(sin(x)), by a loop that JAX cannot run backwards."""
    return jax.lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, x))[1].sum(1)


def test_a_while_loop_is_decomposed_and_differentiated_forwards():
    want = np.sin(np.sin(X))
    for method in ("cd", "ablation", "ig", "deeplift"):
        result = trim.attribute(looped, X, method=method)
        np.testing.assert_allclose(result.scores, want, atol=2e-6)
        assert any("forwards" in note for note in result.notes) == (method in ("ig", "deeplift"))


@pytest.mark.parametrize("method", ["ig", "saliency", "deeplift"])
def test_gradients_forwards_are_gradients_backwards(method):
    """Of coefficients of a Fourier transform; the same passes written so that JAX can run them backwards."""
    scanned = lambda x: jax.lax.fori_loop(0, 2, lambda _, c: jnp.sin(c), x).sum(1)  # noqa: E731
    there, back = (trim.attribute(f, X, transform=trim.rfft(8), method=method) for f in (looped, scanned))
    np.testing.assert_allclose(there.scores, back.scores, atol=2e-6)


def test_loops_that_end_row_by_row():
    """Under ``vmap`` every row has a condition of its own."""

    def halved(v):
        return jax.lax.while_loop(lambda c: jnp.abs(c).max() > 1, lambda c: 0.5 * c, v).sum()

    x = X * np.float32([[1], [3], [9]])
    passes = np.ceil(np.log2(np.abs(x).max(1)))
    assert len(set(passes)) == 3
    want = x * 0.5 ** passes[:, None]
    for method in ("cd", "deeplift", "ixg"):
        np.testing.assert_allclose(trim.attribute(jax.vmap(halved), x, method=method).scores, want, atol=1e-6)
    with pytest.warns(trim.CompletenessWarning, match="another number of passes"):
        trim.attribute(jax.vmap(halved), x, method="ig")


def test_the_dear_way_is_said_before_it_is_gone():
    with pytest.warns(trim.CostWarning, match="64 derivatives"):
        trim.attribute(looped, np.tile(X, 8), method="ixg")
    own = jax.custom_vjp(lambda v: 2 * v)
    own.defvjp(lambda v: (2 * v, None), lambda _, g: (2 * g,))
    with pytest.raises(ProblemError, match="custom_vjp"):
        trim.attribute(lambda v: own(looped(v)), X, method="ig")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_played_in_single(dtype):
    w = jnp.asarray(W, dtype)
    exact = trim.attribute(lambda x: jnp.tanh(x @ W)[:, 0], X, transform=trim.rfft(8), method="shapley").scores
    for f, x in (
        (lambda v: jnp.tanh(v @ w)[:, 0], jnp.asarray(X, dtype)),
        (lambda v: jnp.tanh(v.astype(dtype) @ w)[:, 0], X),
    ):
        for method in ("shapley", "ig", "cd"):
            result = trim.attribute(f, x, transform=trim.rfft(8), method=method, warn=False)
            assert result.scores.dtype == np.float32 and np.isfinite(result.scores).all()
        shapley = trim.attribute(f, x, transform=trim.rfft(8), method="shapley")
        np.testing.assert_allclose(shapley.scores, exact, atol=0.05)
        # f itself is rounded to half precision, at points that differ by the rounding of float32.
        np.testing.assert_allclose(shapley.gap, 0, atol=2e-3 if dtype == "float16" else 2e-2)


def test_tokens():
    table = jnp.asarray(RNG.normal(size=(9, 2)), jnp.float32)
    tokens = RNG.integers(1, 9, size=(4, 5))
    f = lambda t: table[t].sum(1)[:, 1]  # noqa: E731
    want = np.asarray(table)[tokens][..., 1] - float(table[0, 1])
    for method in ("ablation", "shapley", "occlusion"):
        np.testing.assert_allclose(trim.attribute(f, tokens, method=method).scores, want, atol=1e-5)
    padded = trim.attribute(f, tokens, method="ablation", baseline=np.full(5, 3))
    np.testing.assert_allclose(padded.scores, np.asarray(table)[tokens][..., 1] - float(table[3, 1]), atol=1e-5)
    for baseline, word in ((None, 0), (np.full(5, 3), 3)):
        own = np.asarray(table)[tokens][..., 1] - float(table[word, 1])
        np.testing.assert_allclose(trim.attribute(f, tokens, method="cd", baseline=baseline).scores, own, atol=1e-5)
    with pytest.raises(ProblemError, match="whole numbers"):
        trim.attribute(f, tokens, method="ig")
    with pytest.raises(ProblemError, match="only be explained as they are"):
        trim.attribute(f, tokens, method="cd", transform=trim.dct(5))
    # Whole numbers that a model takes as numbers are numbers.
    counts = trim.attribute(lambda x: x @ W[:5, 0], tokens, method="ig")
    np.testing.assert_allclose(counts.scores, tokens * W[:5, 0], rtol=1e-4)


def test_outputs_in_a_dict_or_tuple_need_a_target():
    plain = trim.attribute(lambda x: x @ W, X, target=1).scores
    named = trim.attribute(lambda x: {"logits": x @ W, "x": x}, X, target=lambda o: o["logits"][:, 1])
    both = trim.attribute(lambda x: (x, x @ W), X, target=lambda o: o[1][:, 1], method="ablation")
    np.testing.assert_allclose(named.scores, plain, atol=1e-5)
    np.testing.assert_allclose(both.scores, plain, atol=1e-5)
    box = trim.attribute(trim.black_box(lambda x: {"y": x @ W}), X, target=lambda o: o["y"][:, 1], method="ablation")
    np.testing.assert_allclose(box.scores, plain, atol=1e-5)
    with pytest.raises(ArgumentError, match=r"dict of logits.*function of them"):
        trim.attribute(lambda x: {"logits": x @ W}, X, target=0)
    with pytest.raises(ArgumentError, match="complex"):
        trim.attribute(lambda x: x @ (W + 1j), X, target=0)
    with pytest.raises(ArgumentError, match="one real number each, it gives complex"):
        trim.attribute(lambda x: x @ (W + 1j), X, target=lambda o: o[:, 0])
    with pytest.raises(DataError, match="one array"):
        trim.attribute(lambda v: v[0].sum(1) + v[1].sum(1), (X, X[:, :2]))


class Layer:
    """A function with a state: a random mask drawn once for a batch, or statistics of the batch."""

    def __init__(self, kind):
        self.kind = kind
        self.key = jax.random.key(0)

    def __call__(self, x):
        y = jnp.tanh(x @ W)
        if self.kind == "dropout":
            y = y * jax.random.bernoulli(self.key, 0.5, y.shape).astype(y.dtype)
        elif self.kind == "centred":
            y = y - y.mean(0, keepdims=True)
        elif self.kind == "scaled":
            y = y / jnp.sum(jnp.abs(y))
        return y


@pytest.mark.parametrize(
    ("kind", "words"), [("dropout", "dropout off"), ("centred", "other rows"), ("scaled", "other rows")]
)
def test_a_model_whose_rows_depend_on_rows_is_noticed(kind, words):
    for f in (Layer(kind), trim.black_box(lambda x: np.asarray(Layer(kind)(jnp.asarray(x))))):
        with pytest.warns(trim.ModelWarning, match=words):
            found = trim.attribute(f, X, method="ablation", target=0)
        assert any(words in note for note in found.notes)
    with pytest.warns(trim.ModelWarning, match=words):
        trim.attribute(Layer(kind), X[:1], method="ablation", target=0)


def test_a_model_of_single_rows_is_not_suspected(recwarn):
    for x in (X, X[:1], X[:2]):
        trim.attribute(Layer("plain"), x, method="ablation", target=0)
        trim.attribute(lambda v: jnp.tanh(v @ W).astype(jnp.bfloat16), x, method="ablation", target=0)
    assert not [w for w in recwarn if issubclass(w.category, trim.ModelWarning)]


@pytest.mark.parametrize(
    ("name", "f"),
    [
        ("log1p", lambda x: jnp.log1p(jnp.exp(x @ W))),
        ("sqrt", lambda x: jnp.sqrt(jnp.square(x @ W) + 1e-3)),
        ("acosh", lambda x: jnp.arccosh(1 + jnp.square(x @ W))),
        ("lgamma", lambda x: jax.scipy.special.gammaln(jax.nn.sigmoid(x @ W) + 0.1)),
    ],
)
def test_parts_outside_a_domain_name_the_primitive(name, f):
    mask = jnp.asarray(np.arange(8) % 3 == 0)[None].repeat(3, 0)
    try:
        split = trim.decompose(f, jnp.asarray(X), mask, mode="acd")
    except DataError as error:
        assert name in str(error) and "shapley" in str(error)
        with pytest.raises(DataError, match=name):
            trim.attribute(lambda x: f(x).sum(1), X, method="cd", mode="acd", groups=np.arange(8) % 3)
    else:
        assert np.isfinite(split.beta).all()
    assert np.isfinite(trim.decompose(f, jnp.asarray(X), mask).beta).all()
