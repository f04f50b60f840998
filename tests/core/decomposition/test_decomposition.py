"""Contextual decomposition: one test per class of primitive, known answers, control flow, models."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax import lax

from jaxland import from_nnx
from jaxland.core.decomposition import UnsupportedPrimitive, decompose, decompose_parts, rescaled, split_affine

pytestmark = pytest.mark.usefixtures("x64")


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def split(x, seed=99):
    """A relevant part, a constant part, the rest implied: none of the three zero."""
    parts = np.random.default_rng(seed).uniform(size=(2, *x.shape))
    return 0.6 * parts[0] * x, 0.3 * parts[1] * x


def check(f, x, *, mode="shapley", tol=1e-12, const=True):
    """beta + gamma + const = f, and gamma is what decomposing the complement finds."""
    x = jnp.asarray(x)
    beta0, c0 = split(x)
    c0 = c0 if const else None
    rest0 = x - beta0 - (0 if c0 is None else c0)
    d = decompose(f, x, beta0, const=c0, mode=mode)
    e = decompose(f, x, rest0, const=c0, mode=mode)
    out = jax.tree.leaves(f(x))
    for leaf, b, g, c, t, other in zip(out, *map(jax.tree.leaves, (d.beta, d.gamma, d.const, d.total, e.beta))):
        scale = max(1.0, float(jnp.max(jnp.abs(leaf))))
        assert jnp.all(jnp.isfinite(b)), "beta not finite"
        np.testing.assert_allclose(t, leaf, atol=tol * scale, rtol=0)
        np.testing.assert_allclose(b + g + c, leaf, atol=tol * scale, rtol=0)
        if mode == "shapley":
            np.testing.assert_allclose(other, g, atol=100 * tol * scale, rtol=0)
    return d


def as_flax_promotes(f):
    """Flax's layers mix float32 statistics and integers with float64 values."""

    @functools.wraps(f)
    def run(*args):
        with jax.numpy_dtype_promotion("standard"):
            return f(*args)

    return run


W = normal(1, 5, 4)
V = normal(2, 3, 5)

LINEAR = {
    "add const": lambda x: x + 2.0,
    "const minus": lambda x: 3.0 - x,
    "scalar operand": lambda x: jnp.sum(x) + jnp.arange(4.0),
    "dot": lambda x: x @ W + 1,
    "mul const": lambda x: x * jnp.arange(5.0)[None],
    "div const": lambda x: x / 3,
    "neg": lambda x: -x,
    "sum": lambda x: x.sum(0),
    "mean": lambda x: x.mean(),
    "cumsum": lambda x: jnp.cumsum(x, 1),
    "reshape transpose": lambda x: x.reshape(5, 3).T,
    "flip slice": lambda x: x[::-1, 1:4],
    "concatenate": lambda x: jnp.concatenate([x, 2 * x, jnp.ones((3, 1))], 1),
    "pad": lambda x: jnp.pad(x, 1, constant_values=2.0),
    "broadcast": lambda x: jnp.broadcast_to(x[None], (2, 3, 5)),
    "gather": lambda x: x[jnp.array([0, 2, 1]), jnp.array([1, 1, 4])],
    "scatter": lambda x: jnp.ones((4, 5)).at[:3].set(x).at[0].add(x[0]),
    "dynamic slice": lambda x: lax.dynamic_slice(x, (jnp.array(1), jnp.array(0)), (2, 5)),
    "dynamic update": lambda x: lax.dynamic_update_slice(jnp.ones((4, 5)), x[:1], (2, 0)),
    "where const": lambda x: jnp.where(jnp.arange(5) > 2, x, 7.0),
    "fft": lambda x: jnp.abs(jnp.real(jnp.fft.ifft(jnp.fft.fft(x)))) * 0 + jnp.fft.irfft(jnp.fft.rfft(x), 5),
    "real imag": lambda x: jnp.real(jnp.fft.rfft(x)) - jnp.imag(jnp.fft.rfft(x)),
    "convert": lambda x: x.astype(jnp.float32).astype(jnp.float64),
    "avg pool": as_flax_promotes(lambda x: linen.avg_pool(x[..., None], (2,), (1,))),
    "triangular solve": lambda x: jax.scipy.linalg.solve_triangular(
        jnp.eye(3) + jnp.tril(jnp.ones((3, 3))), x, lower=True
    ),
    "stop gradient": lambda x: lax.stop_gradient(x),
    "split": lambda x: jnp.split(x, [2], axis=1)[0],
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear_primitives_act_on_each_part(name):
    f = LINEAR[name]
    tol = 1e-6 if name == "convert" else 1e-12
    d = check(f, V, tol=tol)
    beta0, c0 = split(V)
    np.testing.assert_allclose(d.beta, f(beta0) - f(jnp.zeros_like(V)), atol=tol)
    np.testing.assert_allclose(d.const, f(c0), atol=tol)
    check(f, V, mode="acd", tol=tol)


NONLINEAR = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "leaky": jax.nn.leaky_relu,
    "gelu": jax.nn.gelu,
    "exact gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "mish": jax.nn.mish,
    "hard swish": jax.nn.hard_swish,
    "exp": jnp.exp,
    "log1p": lambda x: jnp.log1p(x**2),
    "sqrt": lambda x: jnp.sqrt(1 + x**2),
    "reciprocal": lambda x: 1 / (2 + jnp.tanh(x)),
    "power": lambda x: x**3 - x**2,
    "trigonometric": lambda x: jnp.sin(x) * jnp.cos(x),
    "erf": jax.scipy.special.erf,
    "sign abs": lambda x: jnp.sign(x) * jnp.abs(x),
    "clip": lambda x: jnp.clip(x, -0.5, 0.5),
    "where on value": lambda x: jnp.where(x > 0, x, 0.1 * x),
    "power spectrum": lambda x: jnp.abs(jnp.fft.rfft(x)) ** 2,
}


@pytest.mark.parametrize("name", NONLINEAR)
def test_entrywise_nonlinearities_follow_the_three_part_rule(name):
    g = NONLINEAR[name]
    d = check(g, V)
    if name != "power spectrum":
        b, c = split(V)
        rest = V - b - c
        np.testing.assert_allclose(d.beta, 0.5 * (g(b + c) - g(c) + g(V) - g(rest + c)), atol=1e-12)
        np.testing.assert_allclose(d.const, g(c), atol=1e-12)
    check(g, V, mode="acd")


VECTOR = {
    "softmax": jax.nn.softmax,
    "log softmax": jax.nn.log_softmax,
    "logsumexp": jax.nn.logsumexp,
    "own softmax": lambda x: (
        jnp.exp(x - x.max(-1, keepdims=True)) / jnp.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True)
    ),
    "masked softmax": lambda x: jax.nn.softmax(jnp.where(jnp.arange(5) < 3, x, -jnp.inf)),
    "standardize": jax.nn.standardize,
    "rms norm": lambda x: x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6),
    "l2 norm": lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True),
    "variance": lambda x: jnp.var(x, axis=1),
    "product": lambda x: jnp.prod(x, axis=1),
    "norm": jnp.linalg.norm,
}


@pytest.mark.parametrize("name", VECTOR)
def test_normalisations_are_one_step_evaluated_at_real_values(name):
    g = VECTOR[name]
    d = check(g, V)
    b, c = split(V)
    np.testing.assert_allclose(d.beta, 0.5 * (g(b + c) - g(c) + g(V) - g(V - b)), atol=1e-12)
    if name != "l2 norm":  # undefined at zero
        assert np.isfinite(decompose(g, V * 50, b * 50, mode="acd").beta).all()


ROUTED = {
    "reduce max": lambda x: x.max(1),
    "reduce min": lambda x: x.min(),
    "max pool": lambda x: linen.max_pool(x[..., None], (2,), (2,)),
    "maxout": lambda x: jnp.maximum(x[:, :2], x[:, 2:4]),
    "minimum of two": lambda x: jnp.minimum(x @ W, x[:, :4]),
    "sort": lambda x: jnp.sort(x, axis=1),
    "top k": lambda x: lax.top_k(x, 2)[0],
    "cummax": lambda x: lax.cummax(x, axis=1),
    "median": lambda x: jnp.median(x, axis=1),
    "argmax gather": lambda x: jnp.take_along_axis(x, jnp.argmax(x, 1)[:, None], 1),
}


@pytest.mark.parametrize("name", ROUTED)
def test_the_winner_takes_its_parts_along(name):
    f = ROUTED[name]
    d = check(f, V)
    beta0, _ = split(V)
    np.testing.assert_allclose(d.beta, jax.jvp(f, (V,), (beta0,))[1], atol=1e-12)
    check(f, V, mode="acd")


PRODUCTS = {
    "mul": lambda x: (x @ W) * x[:, :4],
    "dot": lambda x: x @ x.T,
    "conv": lambda x: jax.vmap(lambda a: jnp.convolve(a, a[:3], mode="same"))(x),
    "quotient": lambda x: (x @ W) / (3 + jnp.tanh(x[:, :4])),
    "power": lambda x: (1 + x[:, :2] ** 2) ** x[:, 3:],
    "atan2": lambda x: jnp.arctan2(x[:, :2], x[:, 3:]),
    "gate": lambda x: jax.nn.sigmoid(x @ W) * jnp.tanh(x[:, :4] @ W[:4]),
    "scatter mul": lambda x: jnp.ones(5).at[0].multiply(x[0, 0] * x[1, 1]),
}


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("mode", ["shapley", "acd"])
def test_products_of_two_dependents(name, mode):
    check(PRODUCTS[name], V, mode=mode)


def test_cross_terms_go_to_the_rest_or_are_halved():
    x = jnp.array([3.0, 5.0])
    relevant = jnp.array([True, False])
    for f in (lambda s: s[0] * s[1], jnp.prod):
        assert float(decompose(f, x, relevant).beta) == pytest.approx(7.5)
    assert float(decompose(lambda s: s[0] * s[1], x, relevant, mode="acd").beta) == 0


def layer(params, x):
    for w, b in params[:-1]:
        x = jax.nn.relu(x @ w + b[None])
    return x @ params[-1][0] + params[-1][1][None]


def acd_by_hand(params, beta, gamma):
    """The published rules, layer by layer: bias in proportion, relu(beta)."""
    for k, (w, b) in enumerate(params):
        beta, gamma = beta @ w, gamma @ w
        share = np.abs(beta) / (np.abs(beta) + np.abs(gamma))
        beta, gamma = beta + share * b, gamma + (1 - share) * b
        if k < len(params) - 1:
            first = np.maximum(beta, 0)
            beta, gamma = first, np.maximum(beta + gamma, 0) - first
    return beta, gamma


def test_acd_mode_is_the_published_layer_rule():
    params = [(normal(3, 5, 7), normal(4, 7)), (normal(5, 7, 6), normal(6, 6)), (normal(7, 6, 2), normal(8, 2))]
    beta0, _ = split(V)
    d = decompose(lambda x: layer(params, x), V, beta0, mode="acd")
    beta, gamma = acd_by_hand(jax.tree.map(np.asarray, params), np.asarray(beta0), np.asarray(V - beta0))
    np.testing.assert_allclose(d.beta, beta, atol=1e-12)
    np.testing.assert_allclose(d.gamma, gamma, atol=1e-12)


def test_acd_batch_norm_shares_its_value_at_zero():
    w, bias, mean, scale, shift = normal(3, 5, 4), normal(4, 4), normal(5, 4), np.abs(normal(6, 4)), normal(7, 4)
    f = lambda x: jax.nn.relu((x @ w + bias[None] - mean[None]) * scale[None] + shift[None]) @ jnp.ones((4, 1))  # noqa: E731
    beta0, _ = split(V)
    beta, gamma = np.asarray(beta0 @ w), np.asarray((V - beta0) @ w)
    share = np.abs(beta) / (np.abs(beta) + np.abs(gamma))
    beta, gamma = (beta + share * bias) * scale, (gamma + (1 - share) * bias) * scale
    zero = shift - mean * scale
    share = np.abs(beta) / (np.abs(beta) + np.abs(gamma))
    expected = np.maximum(beta + share * zero, 0).sum(1, keepdims=True)
    np.testing.assert_allclose(decompose(f, V, beta0, mode="acd").beta, expected, atol=1e-12)


def test_writing_an_activation_differently_changes_nothing():
    ours = [
        lambda x: x * jax.nn.sigmoid(x),
        lambda x: x / (1 + jnp.exp(-x)),
        jax.jit(jax.nn.silu),
        jax.checkpoint(jax.nn.silu),
    ]
    beta0, c0 = split(V)
    reference = decompose(jax.nn.silu, V, beta0, const=c0).beta
    for f in ours:
        np.testing.assert_allclose(decompose(f, V, beta0, const=c0).beta, reference, atol=1e-14)


# -- control flow ------------------------------------------------------------------------------------------------


def cell(h, x):
    h = jnp.tanh(x @ W[:, :4] + h @ W[:4])
    return h, h[..., :2]


def unrolled(xs, f=cell):
    h = jnp.zeros(4)
    ys = []
    for x in xs:
        h, y = f(h, x)
        ys.append(y)
    return h, jnp.stack(ys)


@pytest.mark.parametrize("mode", ["shapley", "acd"])
def test_scan_equals_its_unrolled_loop(mode):
    beta0, c0 = split(V)
    scan = decompose(lambda xs: lax.scan(cell, jnp.zeros(4), xs), V, beta0, const=c0, mode=mode)
    loop = decompose(unrolled, V, beta0, const=c0, mode=mode)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), scan.beta, loop.beta)
    check(lambda xs: lax.scan(cell, jnp.zeros(4), xs, reverse=True, unroll=2), V, mode=mode)


def test_scan_with_mixed_carries():
    def body(carry, x):
        k, h, fixed, late = carry
        return (k + 1, h * 0.5 + x * k, fixed * 2, late + h.sum()), (k, h, fixed)

    check(lambda xs: lax.scan(body, (0, jnp.zeros(5), jnp.ones(2), 0.0), xs), V)
    check(lambda xs: lax.scan(lambda c, _: (c @ W[:4] + 1, None), xs[:, :4], None, length=3)[0], V)
    check(lambda xs: lax.scan(lambda c, x: (c, x), 0.0, xs[:0])[1].sum() + xs.sum(), V)


def test_while_follows_the_true_value():
    def f(x):
        return lax.while_loop(lambda s: jnp.sum(s[1] ** 2) < 50, lambda s: (s[0] + 1, s[1] * 1.5 + 0.1), (0, x))

    d = check(f, V)
    assert int(d.total[0]) == int(f(V)[0]) > 1
    check(lambda x: lax.fori_loop(0, 3, lambda i, h: jnp.tanh(h + i), x), V)


def test_cond_and_switch_take_the_true_branch():
    for sign in (1, -1):
        f = lambda x: lax.cond(x.sum() * sign > 0, lambda a: jnp.tanh(a), lambda a: jnp.ones_like(a), x)  # noqa: E731, B023
        check(f, V)
    check(lambda x: lax.switch(jnp.argmax(x[0]) % 3, [jnp.sin, jnp.cos, lambda a: a], x), V)
    check(lambda x: jax.vmap(lambda a: lax.cond(a[0] > 0, jnp.sin, lambda b: 2 * b, a))(x), V)


def test_calls_are_inlined():
    @jax.custom_vjp
    def g(x):
        return jnp.tanh(x) ** 2

    g.defvjp(lambda x: (g(x), x), lambda x, t: (t,))

    @jax.custom_jvp
    def h(x):
        return jax.jit(jnp.sin)(x)

    h.defjvp(lambda p, t: (h(*p), t[0]))
    for f in (g, h, jax.checkpoint(lambda x: g(h(x))), jax.jit(lambda x: jax.jit(g)(x) + 1)):
        check(f, V)
    d = jax.jit(lambda x, b: decompose(jax.jit(g), x, b).beta)(V, split(V)[0])
    np.testing.assert_allclose(d, decompose(g, V, split(V)[0]).beta, atol=1e-14)


def test_unknown_higher_order_primitives_raise_by_name():
    mesh = jax.make_mesh((1,), ("i",))
    mapped = jax.shard_map(jnp.sin, mesh=mesh, in_specs=jax.P(), out_specs=jax.P())
    with pytest.raises(UnsupportedPrimitive, match="shard_map"):
        decompose(mapped, V, V)


def test_side_effects_and_unused_inputs():
    d = decompose(lambda x: jnp.ones(2), V, V)
    np.testing.assert_array_equal(d.beta, 0)
    np.testing.assert_array_equal(d.const, 1)
    check(lambda x: {"a": x, "b": (x.sum(), jnp.arange(3))}["a"], V)


# -- tokens --------------------------------------------------------------------------------------------------------

TABLE = normal(11, 9, 4)


@pytest.mark.parametrize(
    "embed",
    [
        lambda i: jnp.asarray(TABLE)[i],
        lambda i: jnp.take(TABLE, i, axis=0),
        lambda i: jax.nn.one_hot(i, 9, dtype=TABLE.dtype) @ TABLE,
    ],
)
def test_tokens_split_where_they_become_vectors(embed):
    ids = jnp.array([[1, 4, 4, 8], [0, 2, 3, 5]])
    mask = jnp.array([[True, False, True, False], [False, False, True, True]])
    f = lambda i: jnp.tanh(embed(i) @ W[:4]).sum(1)  # noqa: E731
    got = decompose(f, ids, mask)
    vectors = jnp.asarray(TABLE)[ids]
    want = decompose(lambda e: jnp.tanh(e @ W[:4]).sum(1), vectors, jnp.where(mask[..., None], vectors, 0))
    np.testing.assert_allclose(got.beta, want.beta, atol=1e-13)
    np.testing.assert_allclose(got.beta + got.gamma + got.const, f(ids), atol=1e-13)


# -- models --------------------------------------------------------------------------------------------------------


class Block(nnx.Module):
    def __init__(self, rngs):
        kw = {"rngs": rngs, "param_dtype": jnp.float64, "dtype": jnp.float64}
        self.embed = nnx.Embed(11, 8, **kw)
        self.attention = nnx.MultiHeadAttention(num_heads=2, in_features=8, decode=False, **kw)
        self.first, self.second = nnx.LayerNorm(8, **kw), nnx.RMSNorm(8, **kw)
        self.up, self.down = nnx.Linear(8, 16, **kw), nnx.Linear(16, 8, **kw)
        self.head = nnx.Linear(8, 3, **kw)

    @as_flax_promotes
    def body(self, h):
        h = h + self.attention(self.first(h))
        h = h + self.down(jax.nn.gelu(self.up(self.second(h))))
        return jax.nn.log_softmax(self.head(h.mean(1)))

    def __call__(self, ids):
        return self.body(self.embed(ids))


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_transformer_is_complete_and_finite(scale):
    model = Block(nnx.Rngs(0))
    check(model.body, scale * normal(20, 2, 6, 8), tol=1e-11)
    check(model.body, scale * normal(20, 2, 6, 8), tol=1e-11, const=False)
    d = decompose(
        model.body,
        normal(20, 2, 6, 8),
        jnp.where((jnp.arange(6) < 2)[None, :, None], normal(20, 2, 6, 8), 0),
        mode="acd",
    )
    assert np.isfinite(d.beta).all()
    ids = jnp.arange(12).reshape(2, 6) % 11
    d = decompose(model, ids, jnp.broadcast_to(jnp.arange(6)[None] < 3, (2, 6)))
    np.testing.assert_allclose(d.beta + d.gamma + d.const, model(ids), atol=1e-11)


@pytest.mark.parametrize("kind", [nnx.OptimizedLSTMCell, nnx.LSTMCell, nnx.GRUCell, nnx.SimpleCell])
def test_recurrent_networks(kind):
    rngs = nnx.Rngs(0)
    model = from_nnx(nnx.RNN(kind(5, 6, rngs=rngs, param_dtype=jnp.float64, dtype=jnp.float64)))
    f = lambda x: model(x)[:, -1]  # noqa: E731
    x = normal(21, 2, 7, 5)
    check(f, x, tol=1e-11)
    masks = jnp.eye(7, dtype=bool)[:, None, :, None] & jnp.ones((1, 2, 7, 5), bool)
    parts = decompose_parts(f, x, masks)
    one = decompose(f, x, masks[3])
    np.testing.assert_allclose(parts.beta[3], one.beta, atol=1e-13)
    np.testing.assert_allclose(parts.total, f(x), atol=1e-12)


class Conv(nnx.Module):
    def __init__(self, rngs):
        kw = {"rngs": rngs, "param_dtype": jnp.float64, "dtype": jnp.float64}
        self.a, self.b = nnx.Conv(1, 4, (3, 3), **kw), nnx.Conv(4, 6, (3, 3), strides=2, feature_group_count=2, **kw)
        self.norm, self.group = nnx.BatchNorm(4, use_running_average=True, **kw), nnx.GroupNorm(6, num_groups=3, **kw)
        self.out = nnx.Linear(6, 3, **kw)

    @as_flax_promotes
    def __call__(self, x):
        x = nnx.max_pool(jax.nn.relu(self.norm(self.a(x))), (2, 2), (2, 2))
        x = nnx.avg_pool(jax.nn.silu(self.group(self.b(x))), (2, 2), (1, 1))
        return self.out(x.max((1, 2)))


@pytest.mark.parametrize("mode", ["shapley", "acd"])
def test_convolutional_network(mode):
    check(Conv(nnx.Rngs(0)), normal(22, 2, 12, 12, 1), mode=mode, tol=1e-11)


def test_linear_part_alone_is_exact_for_bias_free_relu():
    params = [(normal(3, 5, 7), jnp.zeros(7)), (normal(4, 7, 2), jnp.zeros(2))]
    d = decompose(lambda x: layer(params, x), V, V)
    np.testing.assert_allclose(d.beta, layer(params, V), atol=1e-13)


# -- DeepLIFT ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "table", [LINEAR, NONLINEAR, ROUTED, PRODUCTS], ids=["linear", "nonlinear", "routed", "products"]
)
def test_rescale_is_complete(table):
    reference = normal(30, *V.shape)
    for name, f in table.items():
        if name in ("stop gradient", "convert", "scatter mul", "power", "cummax", "atan2"):
            continue
        out = f(V)
        total = jnp.sum(out - f(reference))
        m = jax.grad(lambda x, f=f: jnp.sum(jnp.real(rescaled(f, x, reference))))(V)
        np.testing.assert_allclose(rescaled(f, V, reference), out, atol=1e-12, err_msg=name)
        tol = 0.2 if name in ("sort", "top k", "median", "argmax gather") else 5e-6
        if table is ROUTED and tol > 0.1:
            continue
        np.testing.assert_allclose(jnp.sum(m * (V - reference)), total, atol=tol, err_msg=name)


def test_rescale_of_vector_functions_and_loops_is_nearly_complete():
    reference = 0.5 * V
    for f in (jax.nn.softmax, jax.nn.standardize, lambda xs: lax.scan(cell, jnp.zeros(4), xs)[0]):
        m = jax.grad(lambda x, f=f: rescaled(f, x, reference)[..., 0].sum())(V)
        gap = jnp.sum(m * (V - reference)) - (f(V) - f(reference))[..., 0].sum()
        assert abs(float(gap)) < 1e-6


def test_rescale_of_dense_layers_by_hand():
    w, b, u = normal(3, 5, 7), normal(4, 7), normal(5, 7)
    x, r = V[0], V[1]
    f = lambda a: jax.nn.relu(a @ w + b) @ u  # noqa: E731
    z, z0 = x @ w + b, r @ w + b
    want = w @ (u * (jnp.maximum(z, 0) - jnp.maximum(z0, 0)) / (z - z0))
    np.testing.assert_allclose(jax.grad(lambda a: rescaled(f, a, r))(x), want, atol=1e-13)


# -- ties ----------------------------------------------------------------------------------------------------------


def by_reshape(h):
    return h.reshape(h.shape[0], 3, 2, 3, 2).max((2, 4))


def by_window(h):
    return lax.reduce_window(h, -jnp.inf, lax.max, (1, 2, 2), (1, 2, 2), "VALID")


def by_pairs(h):
    rows = jnp.maximum(h[:, :, ::2], h[:, :, 1::2])
    return jnp.maximum(rows[:, ::2], rows[:, 1::2])


def by_two_maxima(h):
    return h.reshape(h.shape[0], 6, 3, 2).max(3).reshape(h.shape[0], 3, 2, 3).max(2)


@pytest.mark.parametrize("pool", [by_reshape, by_two_maxima])
@pytest.mark.parametrize("mode", ["acd", "shapley"])
def test_the_first_of_equal_entries_wins_however_a_maximum_is_written(pool, mode):
    x = jnp.asarray(np.round(normal(11, 4, 6, 6)))
    mask = jnp.asarray(np.random.default_rng(1).random(x.shape) < 0.5)
    relu = lambda f: lambda v: f(jax.nn.relu(v))  # noqa: E731
    assert (by_window(jax.nn.relu(x)) == 0).any()
    want, got = (decompose(relu(f), x, mask, mode=mode).beta for f in (by_window, pool))
    np.testing.assert_array_equal(got, want)
    multipliers = [
        jax.grad(lambda v, f=f: rescaled(relu(f), v, jnp.zeros_like(v)).sum())(x) for f in (by_window, pool)
    ]
    np.testing.assert_allclose(multipliers[1], multipliers[0], atol=1e-12)


def test_the_first_row_wins_where_pairs_are_compared():
    d = decompose(by_pairs, jnp.zeros((1, 6, 6)) + 1, jnp.asarray(np.arange(36).reshape(1, 6, 6) % 2 == 0))
    np.testing.assert_array_equal(d.beta, 1)


# -- loops with a condition per example ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["acd", "shapley"])
def test_loops_that_end_example_by_example(mode):
    """Halved until small: a linear map whose power differs from row to row."""
    halved = jax.vmap(lambda v: lax.while_loop(lambda c: jnp.max(jnp.abs(c)) > 0.3, lambda c: 0.5 * c, v))
    counted = jax.vmap(
        lambda v: lax.while_loop(lambda c: (c[0] < 4) & (c[1].sum() > 1), lambda c: (c[0] + 1, 0.7 * c[1]), (0, v))[1]
    )
    x = jnp.asarray(np.abs(normal(12, 5, 3))) * jnp.asarray([[0.1], [1.0], [3.0], [9.0], [0.3]])
    mask = jnp.asarray([True, False, True])[None].repeat(5, 0)
    for f in (halved, counted):
        d = decompose(f, x, mask, mode=mode)
        np.testing.assert_allclose(d.beta, jnp.where(mask, f(x), 0), atol=1e-14)
    steps = jax.vmap(
        lambda v: lax.while_loop(lambda c: c[0] < v[0], lambda c: (c[0] + 1, jnp.tanh(c[1])), (0.0, v))[1]
    )
    check(steps, x, mode=mode, const=False)


# -- affine beginning ----------------------------------------------------------------------------------------------


def test_affine_beginning_of_a_network():
    w, b = normal(3, 5, 7), normal(4, 7)
    f = lambda x: jax.nn.relu((x @ w + b[None]).reshape(-1, 7)) @ normal(5, 7)  # noqa: E731
    x = jnp.asarray(V)
    affine, rest = split_affine(f, x)
    np.testing.assert_allclose(affine(x), x @ w + b[None], atol=1e-14)
    np.testing.assert_allclose(rest(affine(x)), f(x), atol=1e-14)
    np.testing.assert_allclose(
        jax.grad(lambda a: rest(affine(a)).sum())(x), jax.grad(lambda a: f(a).sum())(x), atol=1e-14
    )
    for g in (
        lambda x: jnp.tanh(x),
        lambda x: x @ w + jnp.tanh(x @ w),
        lambda x: x * jax.nn.relu(x @ normal(6, 5, 5)),
    ):
        if (parts := split_affine(g, x)) is not None:
            np.testing.assert_allclose(parts[1](parts[0](x)), g(x), atol=1e-14)
    assert split_affine(lambda x: jnp.tanh(x), x) is None
    assert split_affine(lambda x: jnp.tanh(x) + x @ normal(6, 5, 5), x) is None
    assert split_affine(lambda x: jax.nn.relu(x @ normal(7, 5, 500)), x) is None
