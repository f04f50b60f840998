"""Known answers of spec/trim.md, completeness, baselines, residuals, groups, models, chunks, and clear errors."""

import warnings
from functools import lru_cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jaxland import trim
from jaxland.errors import ArgumentError, DataError, ProblemError
from jaxland.models import mlp
from jaxland.trim.attribute import CompletenessWarning

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 12))
EXACT = (
    "ig",
    "ixg",
    "ablation",
    "cd",
    "deeplift",
    "shapley",
    "shapley_sampling",
    "kernel_shap",
    "occlusion",
    "smoothgrad",
)


@lru_cache
def network(activation="tanh", bias=True, sizes=(12, 9, 8, 3)):
    with jax.enable_x64(True):
        model = mlp(sizes, activation, key=jax.random.key(1))
        if bias:
            params = tuple({"w": p["w"], "b": 0.3 * jnp.cos(jnp.arange(p["b"].size))} for p in model.params)
            model = type(model)(model.apply, params, model.init, model.sizes, model.activation)
    return model


@pytest.mark.parametrize("n", [12, 11])
@pytest.mark.parametrize("method", EXACT)
def test_linear_function_in_frequencies(n, method):
    """Known answer 1: a_k = (c_k / N) Re(conj(W_k) X_k)."""
    w, x = RNG.normal(size=n), RNG.normal(size=(4, n))
    c = np.full(n // 2 + 1, 2.0)
    c[0] = 1
    if n % 2 == 0:
        c[-1] = 1
    want = c / n * np.real(np.conj(np.fft.rfft(w)) * np.fft.rfft(x))
    result = trim.attribute(lambda a: a @ w, x, transform=trim.rfft(n), method=method)
    np.testing.assert_allclose(result.scores, want, atol=4e-15 if method in ("ig", "ixg") else 2e-14)
    np.testing.assert_allclose(result.scores.sum(1), x @ w, atol=2e-14)


@pytest.mark.parametrize("n", [12, 11])
def test_parseval(n):
    """Known answer 2: |irfft(1_k X)|^2 = (c_k / N) |X_k|^2."""
    t, x = trim.rfft(n), jnp.asarray(RNG.normal(size=(1, n)))
    s = t.forward(x)
    for k in range(n // 2 + 1):
        one = t.inverse(jnp.where(jnp.arange(n // 2 + 1) == k, s, 0))
        c = 1 if k == 0 or 2 * k == n else 2
        np.testing.assert_allclose(jnp.sum(one**2), c / n * jnp.abs(s[0, k]) ** 2, atol=1e-13)


def test_power_at_one_frequency():
    """Known answer 3: IG gives all of |X_K|^2 to K, input-times-gradient twice that."""
    f = lambda x: jnp.abs(jnp.fft.rfft(x)[:, 3]) ** 2  # noqa: E731
    value = np.abs(np.fft.rfft(X)[:, 3]) ** 2
    for method, factor in (("ig", 1), ("ixg", 2), ("ablation", 1), ("shapley", 1), ("cd", 1)):
        scores = trim.attribute(f, X, transform=trim.rfft(12), method=method).scores
        np.testing.assert_allclose(scores[:, 3], factor * value, rtol=1e-12)
        np.testing.assert_allclose(np.delete(scores, 3, axis=1), 0, atol=1e-12)


def test_bias_free_relu_network():
    """Known answer 4: IG = input-times-gradient, and the sum is f."""
    model = network("relu", bias=False)
    a = trim.attribute(model, X, transform=trim.rfft(12), method="ig", target=1)
    b = trim.attribute(model, X, transform=trim.rfft(12), method="ixg", target=1)
    np.testing.assert_allclose(a.coefficients, b.coefficients, atol=1e-13)
    np.testing.assert_allclose(a.scores.sum(1), a.f_x, atol=1e-13)


def test_product_of_two():
    """Known answer 5: f = s1 s2 = 15."""
    f = lambda s: s[:, 0] * s[:, 1]  # noqa: E731
    x = np.array([[3.0, 5.0]])
    want = {"ig": 7.5, "ablation": 15, "shapley": 7.5, "kernel_shap": 7.5, "cd": 7.5, "deeplift": 7.5, "ixg": 15}
    for method, value in want.items():
        np.testing.assert_allclose(trim.attribute(f, x, method=method).scores, value, atol=1e-12, err_msg=method)
    np.testing.assert_allclose(trim.attribute(f, x, method="cd", mode="acd").scores, 0, atol=1e-14)


def test_completeness_of_integrated_gradients():
    """Known answer 6: 1e-6 on smooth networks, about 1e-3 at 50 nodes with kinks."""
    smooth = trim.attribute(network("tanh"), X, transform=trim.rfft(12), target=0)
    kinks = trim.attribute(network("relu"), X, transform=trim.rfft(12), target=0, warn=False)
    assert np.abs(smooth.gap).max() < 1e-12
    assert np.abs(kinks.gap).max() < 2e-2


@pytest.mark.parametrize("method", ["ig", "shapley", "shapley_sampling", "kernel_shap", "deeplift"])
def test_complete_methods_add_up(method):
    x = RNG.normal(size=(4, 12))
    for transform in (trim.dct(12), trim.dwt((12,), "db2", levels=1)):
        r = trim.attribute(network("tanh"), x, transform=transform, method=method, baseline="mean", background=X)
        np.testing.assert_allclose(r.gap, 0, atol=2e-4 if method == "deeplift" else 1e-11)
        np.testing.assert_allclose(r.scores.sum(1), r.f_x - r.f_base, atol=2e-4)


def test_shapley_methods_agree():
    groups = np.array([0, 0, 1, 1, 2, 2, 3])
    kw = {"transform": trim.rfft(12), "groups": groups, "target": 2}
    exact = trim.attribute(network(), X, method="shapley", **kw).scores
    full = trim.attribute(network(), X, method="kernel_shap", samples=14, **kw).scores
    np.testing.assert_allclose(full, exact, atol=1e-12)
    many = trim.attribute(network(), X, method="shapley_sampling", permutations=400, **kw).scores
    np.testing.assert_allclose(many, exact, atol=0.02)
    kernel = trim.attribute(network(), X, method="kernel_shap", samples=10, **kw).scores
    np.testing.assert_allclose(kernel.sum(1), exact.sum(1), atol=1e-12)
    some = trim.attribute(network(), X, transform=trim.identity(12), method="kernel_shap", samples=2000).scores
    ref = trim.attribute(network(), X, transform=trim.identity(12), method="shapley").scores
    np.testing.assert_allclose(some, ref, atol=0.03)


def test_shapley_by_brute_force():
    import itertools

    f, x = network(), X[:2]
    r = trim.attribute(f, x, groups=np.arange(12) // 4, method="shapley", target=0)
    value = lambda on: np.asarray(f(x * np.repeat([k in on for k in range(3)], 4)))[:, 0]  # noqa: E731
    for i in range(3):
        total = 0.0
        for order in itertools.permutations(range(3)):
            before = set(order[: order.index(i)])
            total = total + value(before | {i}) - value(before)
        np.testing.assert_allclose(r.scores[:, i], total / 6, atol=1e-13)


def test_expected_gradients():
    background = RNG.normal(size=(7, 12))
    few = trim.attribute(
        network(), X, transform=trim.rfft(12), method="gradient_shap", background=background, samples=2000
    )
    bases = [trim.attribute(network(), X, transform=trim.rfft(12), baseline=b, baseline_in="x") for b in background]
    np.testing.assert_allclose(few.scores, np.mean([b.scores for b in bases], axis=0), atol=0.05)
    np.testing.assert_allclose(few.f_base, np.mean([b.f_base for b in bases], axis=0), atol=0.03)
    one = trim.attribute(network(), X, method="gradient_shap", background=background[:1], samples=300)
    np.testing.assert_allclose(one.f_base, trim.attribute(network(), X, baseline=background[0]).f_base, atol=1e-12)
    np.testing.assert_allclose(one.gap, 0, atol=1e-3)


def test_smoothgrad_saliency_occlusion():
    g = jax.grad(lambda x: network()(x)[:, 1].sum())(X)
    s = trim.attribute(network(), X, method="saliency", target=1)
    np.testing.assert_allclose(s.coefficients, np.abs(g), atol=1e-14)
    quiet = trim.attribute(network(), X, method="smoothgrad", target=1, noise=0.0, samples=3)
    np.testing.assert_allclose(quiet.coefficients, X * g, atol=1e-14)
    f = lambda x: x @ np.arange(12.0)  # noqa: E731
    o = trim.attribute(f, X, method="occlusion", window=3, stride=2)
    drop = X * np.arange(12.0)
    windows = [slice(a, a + 3) for a in range(0, 11, 2)]
    cover = sum(np.isin(np.arange(12), np.arange(12)[w]).astype(int) for w in windows)
    want = sum(np.isin(np.arange(12), np.arange(12)[w]) * drop[:, w].sum(1, keepdims=True) for w in windows) / cover
    np.testing.assert_allclose(o.coefficients, want, atol=1e-12)


def test_contextual_decomposition_splits_are_complete():
    t, f = trim.rfft(12), network()
    base = np.asarray(t.forward(jnp.asarray(X.mean(0, keepdims=True))))
    r = trim.attribute(f, X, transform=t, method="cd", target=1, baseline=base)
    for k in (0, 3, 6):
        two = trim.attribute(
            f, X, transform=t, method="cd", target=1, baseline=base, groups=(np.arange(7) != k).astype(int)
        )
        np.testing.assert_allclose(two.gap, 0, atol=1e-13)
        np.testing.assert_allclose(two.scores[:, 0], r.scores[:, k], atol=1e-13)


# -- lossy transforms ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ig", "kernel_shap", "deeplift", "ablation", "cd", "gradient_shap", "occlusion"])
def test_lossy_transform_with_the_residual_fixed_or_playing(method):
    data = np.abs(RNG.normal(size=(40, 12)))
    x, f = data[:4], network()
    kw = {"background": data} if method == "gradient_shap" else {}
    kw |= {"nodes": 100} if method == "ig" else {}
    for transform in (trim.nmf(data, 4), trim.compose(trim.pca(data, 8), trim.dct(8))):
        fixed = trim.attribute(f, x, transform=transform, method=method, residual="fixed", warn=False, **kw)
        np.testing.assert_allclose(fixed.f_x, np.asarray(f(x)).max(1), atol=1e-12)
        player = trim.attribute(f, x, transform=transform, method=method, residual="player", warn=False, **kw)
        assert player.labels[-1] == "residual" and player.scores.shape[1] == fixed.scores.shape[1] + 1
        if method in ("ig", "kernel_shap", "deeplift"):
            np.testing.assert_allclose(fixed.gap, 0, atol=2e-3 if method == "deeplift" else 1e-9)
            np.testing.assert_allclose(player.gap, 0, atol=2e-3 if method == "deeplift" else 1e-9)
            mean = np.asarray(transform.inverse(jnp.zeros((1, *transform.coefficient_shape))))
            np.testing.assert_allclose(
                player.f_base, np.asarray(f(mean))[:, np.asarray(f(x)).argmax(1)][0], atol=1e-12
            )
        assert np.abs(fixed.scores).max() > 1e-3, "a recomputed residual would make f' constant"


def test_residual_as_player_by_hand():
    data = RNG.normal(size=(30, 12))
    t, w = trim.pca(data, 3), RNG.normal(size=12)
    rest = X - np.asarray(t.inverse(t.forward(jnp.asarray(X))))
    for method in ("ig", "ablation", "cd", "shapley", "deeplift", "ixg", "kernel_shap"):
        r = trim.attribute(lambda x: x @ w, X, transform=t, method=method, residual="player")
        np.testing.assert_allclose(r.scores[:, -1], rest @ w, atol=1e-12)


def test_own_nonlinear_transform():
    t = trim.pair(lambda x: jnp.sinh(x), lambda s: jnp.arcsinh(s), 12, name="sinh")
    assert t.is_exact and not t.is_affine
    for method in ("ig", "kernel_shap", "shapley_sampling", "deeplift"):
        r = trim.attribute(
            network(), X, transform=t, method=method, warn=False, **({"nodes": 400} if method == "ig" else {})
        )
        np.testing.assert_allclose(r.gap, 0, atol=1e-4 if method == "ig" else 1e-12)
    r = trim.attribute(network(), X, transform=t, method="cd", groups=np.arange(12) // 6)
    np.testing.assert_allclose(r.gap, 0, atol=1e-12)
    trim.attribute(network(), X, transform=t, method="gradient_shap", background=X, warn=False)
    trim.attribute(network(), X, transform=t, method="smoothgrad", samples=2)
    trim.attribute(network(), X, transform=t, method="occlusion", window=2)


# -- chunks, groups, baselines, models --------------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(trim.METHODS))
def test_chunks_do_not_change_the_result(method):
    kw = {"background": X} if method == "expected_gradients" else {}
    options = {"samples": 7} if method in ("smoothgrad", "expected_gradients") else {}
    options |= {"nodes": 7} if method == "integrated_gradients" else {}
    x = RNG.normal(size=(7, 12))
    transform = trim.dwt(12, "haar") if method == "shapley" else trim.rfft(12)
    base = trim.attribute(network(), x, transform=transform, method=method, warn=False, **kw, **options)
    for chunk in (1, 5, 100):
        if method == "smoothgrad" and chunk != 100:
            continue
        r = trim.attribute(network(), x, transform=transform, method=method, chunk=chunk, warn=False, **kw, **options)
        np.testing.assert_allclose(r.scores, base.scores, atol=1e-13, err_msg=str(chunk))
        np.testing.assert_allclose(r.gap, base.gap, atol=1e-13)


def test_groups():
    t = trim.rfft(12)
    full = trim.attribute(network(), X, transform=t, target=0)
    ids = np.array([0, 0, 1, 1, 1, -1, 2])
    grouped = trim.attribute(network(), X, transform=t, target=0, groups=ids, labels=["low", "mid", "high"])
    assert grouped.labels == ("low", "mid", "high")
    part = trim.attribute(network(), X, transform=t, target=0, groups=[[0, 1], [2, 3, 4]], method="ablation")
    whole = trim.attribute(network(), X, transform=t, target=0, groups=ids, method="ablation")
    np.testing.assert_allclose(part.scores, whole.scores[:, :2], atol=1e-13)
    masks = [np.arange(7) < 2, (np.arange(7) > 1) & (np.arange(7) < 5)]
    again = trim.attribute(network(), X, transform=t, target=0, groups=masks, method="ablation")
    np.testing.assert_allclose(part.scores, again.scores, atol=1e-14)
    overlap = trim.attribute(network(), X, transform=t, target=0, groups=[[0, 1, 2], [2, 3]], method="ablation")
    three = np.asarray(jnp.fft.rfft(X)).copy()
    three[:, :3] = 0
    drop = full.f_x - np.asarray(network()(jnp.fft.irfft(three, 12)))[:, 0]
    np.testing.assert_allclose(overlap.scores[:, 0], drop, atol=1e-12)
    with pytest.raises(ArgumentError, match="overlap"):
        trim.attribute(network(), X, transform=t, groups=[[0, 1, 2], [2, 3]], method="kernel_shap")
    image = trim.rfft((8, 6, 2), axes=(0, 1), bands=3)
    assert image.groups.shape == (8, 4, 2) and image.groups.max() == 2 and len(image.group_labels) == 3
    assert image.radius.max() == 1


def test_baselines_in_either_space():
    t, b = trim.rfft(12), RNG.normal(size=12)
    by_x = trim.attribute(network(), X, transform=t, baseline=b, baseline_in="x")
    by_s = trim.attribute(network(), X, transform=t, baseline=np.fft.rfft(b))
    np.testing.assert_allclose(by_x.scores, by_s.scores, atol=1e-13)
    np.testing.assert_allclose(by_x.f_base, np.asarray(network()(b[None]))[0, np.asarray(network()(X)).argmax(1)])
    mean = trim.attribute(network(), X, transform=t, baseline="mean", background=X)
    again = trim.attribute(network(), X, transform=t, baseline=X.mean(0), baseline_in="x")
    np.testing.assert_allclose(mean.scores, again.scores, atol=1e-13)
    trim.attribute(network(), X, transform=t, baseline="sample", background=X)


def test_targets():
    model = network()
    outputs = np.asarray(model(X))
    default = trim.attribute(model, X)
    assert "logit" in default.notes[0]
    np.testing.assert_allclose(default.f_x, outputs.max(1))
    each = trim.attribute(model, X, target=outputs.argmax(1))
    np.testing.assert_allclose(each.scores, default.scores)
    own = trim.attribute(model, X, target=lambda o: o[:, 1] - o[:, 0], method="cd")
    np.testing.assert_allclose(own.f_x, outputs[:, 1] - outputs[:, 0])
    prob = trim.attribute(model, X, target=lambda o: jax.nn.softmax(o)[:, 1])
    np.testing.assert_allclose(prob.gap, 0, atol=1e-9)
    assert trim.attribute(lambda x: model(x)[:, :1], X).scores.shape == (5, 12)


class Small(nnx.Module):
    def __init__(self, rngs):
        kw = {"rngs": rngs, "param_dtype": jnp.float64, "dtype": jnp.float64}
        self.a, self.b = nnx.Linear(12, 6, **kw), nnx.Linear(6, 3, **kw)
        self.drop = nnx.Dropout(0.5, rngs=rngs, deterministic=True)

    def __call__(self, x):
        return self.b(self.drop(jax.nn.relu(self.a(x))))


class SmallLinen(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3, param_dtype=jnp.float64)(linen.tanh(linen.Dense(6, param_dtype=jnp.float64)(x)))


@pytest.mark.parametrize("method", ["ig", "cd", "ablation", "deeplift"])
def test_every_kind_of_model(method):
    module = Small(nnx.Rngs(0))
    plain = lambda x: module(x)  # noqa: E731
    a = trim.attribute(module, X, method=method, target=1).scores
    np.testing.assert_allclose(a, trim.attribute(plain, X, method=method, target=1).scores, atol=1e-13)
    variables = SmallLinen().init(jax.random.key(0), X)
    b = trim.attribute(SmallLinen().bind(variables), X, method=method, target=1).scores
    c = trim.attribute(SmallLinen().apply, X, params=variables, method=method, target=1).scores
    np.testing.assert_allclose(b, c, atol=1e-13)
    net = eqx.nn.MLP(12, 3, 6, 1, key=jax.random.key(0))
    d = trim.attribute(net, X, method=method, target=1).scores
    e = trim.attribute(jax.vmap(net), X, method=method, target=1).scores
    np.testing.assert_allclose(d, e, atol=1e-12)


def test_changed_parameters_are_seen_and_a_second_call_does_not_compile():
    module = Small(nnx.Rngs(0))
    first = trim.attribute(module, X, target=1)
    module.b.bias[...] = jnp.ones(3) * 5
    second = trim.attribute(module, X, target=1)
    np.testing.assert_allclose(second.f_x - first.f_x, 5, atol=1e-12)
    with jax.log_compiles(False):
        from jaxland.trim import gradients

        before = gradients._path_step._cache_size()
        trim.attribute(module, X + 1, target=1)
        assert gradients._path_step._cache_size() == before


def test_black_box():
    model = network()
    calls = []

    def python(x):
        calls.append(len(x))
        return np.asarray(model(np.asarray(x, np.float64) + 0.0))

    for method in ("ablation", "kernel_shap", "shapley_sampling", "occlusion"):
        a = trim.attribute(trim.black_box(python), X, transform=trim.rfft(12), method=method, target=1)
        b = trim.attribute(model, X, transform=trim.rfft(12), method=method, target=1)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-12)
    assert calls
    found = trim.attribute(lambda x: np.array([float(row.sum()) for row in x]), X[:1], method="ablation")
    np.testing.assert_allclose(found.scores, X[:1], atol=1e-12)
    with pytest.raises(ProblemError, match="black box"):
        trim.attribute(trim.black_box(python), X, method="ig")


def test_scikit_learn_estimator():
    from sklearn.linear_model import LogisticRegression

    y = (X[:, 0] > np.median(X[:, 0])).astype(int)
    est = LogisticRegression().fit(X, y)
    r = trim.attribute(est.predict_proba, X, method="kernel_shap", target=1)
    np.testing.assert_allclose(r.f_x, est.predict_proba(X)[:, 1])
    np.testing.assert_allclose(r.gap, 0, atol=1e-12)


def test_result_is_data():
    r = trim.attribute(network(), X, transform=trim.rfft(12), target=1)
    assert list(r.to_pandas().columns) == ["f", "f_baseline", "gap", *r.labels]
    assert len(r.summary()) == 7 and r.top(2).shape == (5, 2)
    assert "integrated_gradients" in r._repr_html_()
    done = []
    trim.attribute(network(), X, chunk=2, progress=lambda a, b: done.append((a, b)))
    assert done[-1][0] == done[-1][1] and [a for a, _ in done] == list(range(1, len(done) + 1))


def test_large_gap_warns_and_says_what_to_do():
    steep = lambda x: jnp.tanh(200 * (x[:, 0] - 0.5 * x[:, 1]))  # noqa: E731
    with pytest.warns(CompletenessWarning, match="raise nodes"):
        r = trim.attribute(steep, X, nodes=3, baseline=np.full(12, 0.3))
    assert any("raise nodes" in n for n in r.notes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trim.attribute(steep, X, nodes=3, baseline=np.full(12, 0.3), warn=False)


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "error", "match"),
    [
        ({"transform": trim.rfft(10)}, DataError, r"expects inputs of shape \[n, 10\]"),
        ({"target": 3}, ArgumentError, "target 3 is out of range"),
        ({"target": np.array([0, 1, 2, 7, 0])}, ArgumentError, "at row 3"),
        ({"target": 0.5}, ArgumentError, "must be an index"),
        ({"method": "lime"}, ArgumentError, "unknown; choose one of"),
        ({"nodez": 3}, ArgumentError, "no option 'nodez'"),
        ({"nodes": 0}, ArgumentError, "nodes must be at least 1"),
        ({"rule": "simpson"}, ArgumentError, "rule must be"),
        ({"transform": trim.pca(RNG.normal(size=(30, 12)), 4)}, ArgumentError, "residual='fixed'"),
        ({"residual": "drop"}, ArgumentError, "residual must be"),
        ({"baseline": np.ones(5)}, DataError, "does not broadcast"),
        ({"baseline": "median"}, ArgumentError, "baseline 'median' is unknown"),
        ({"baseline": "mean"}, ArgumentError, "needs background"),
        ({"method": "gradient_shap"}, ArgumentError, "pass background"),
        ({"groups": np.zeros(5, int)}, DataError, "groups must number"),
        ({"groups": [[0, 99]]}, DataError, "group 0 must hold indices"),
        ({"groups": np.arange(12) // 6, "labels": ["a"]}, ArgumentError, "labels must name 2 groups"),
        ({"chunk": 0}, ArgumentError, "chunk must be"),
        (
            {"method": "shapley", "transform": trim.rfft(12), "groups": "coefficients", "x": np.ones((1, 40))},
            DataError,
            "expects",
        ),
        ({"method": "cd", "mode": "lrp"}, ArgumentError, "mode must be"),
        ({"x": np.full((2, 12), np.nan)}, DataError, "not finite, the first at index"),
        ({"x": np.zeros((0, 12))}, DataError, "no rows"),
        ({"method": "kernel_shap", "samples": 5}, ArgumentError, "at least"),
    ],
)
def test_bad_input_gets_one_clear_message(kwargs, error, match):
    kwargs = dict(kwargs)
    with pytest.raises(error, match=match):
        trim.attribute(network(), kwargs.pop("x", X), **kwargs)


def test_nan_attributions_say_where():
    f = lambda x: jnp.sqrt(jnp.abs(x)).sum(1)  # noqa: E731
    x = X.copy()
    x[2, 4] = 0
    with pytest.raises(DataError, match="input 2, coefficient"):
        trim.attribute(f, x, method="ixg")
    with pytest.raises(DataError, match="output is not finite at row 1"):
        trim.attribute(lambda a: jnp.log(a[:, 0]), np.array([[1.0], [-1.0]]))


def test_too_many_players_for_exact_shapley():
    with pytest.raises(ArgumentError, match="at most 14 groups"):
        trim.attribute(lambda x: x.sum(1), np.ones((1, 20)), method="shapley")
    with pytest.raises(DataError, match="fails on an input"):
        trim.attribute(lambda x: x @ np.ones(5), X)
    with pytest.raises(ProblemError, match="callable"):
        trim.attribute(3, X)
