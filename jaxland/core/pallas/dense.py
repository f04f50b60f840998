"""Loss, gradient and Hessian-vector product of small dense networks, a thread a network.

Every thread of a program holds one network (or, for wide layers, a group of its hidden units) in registers: weights,
and one running sum per weight. It goes through the points one by one; a point's inputs are one address for all threads,
read once and broadcast. Nothing is reduced across threads while points are visited, so the loop has no barrier, and no
shuffle where a network is one thread's. Thousands of networks fill a GPU; where there are fewer, the points are split
over several programs whose sums XLA adds.

Networks run along the last axis: weights are [rows, groups, networks], so that a warp reads whole cache lines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

ACTIVATIONS = ("tanh", "relu", "gelu")
LOSSES = ("cross_entropy", "squared_error")
WARP = 32
# Numbers a thread can keep (weights and sums) before the compiler spills: 255 registers of 4 bytes, less temporaries.
_ROOM = {8: 92, 4: 190}
_MOST_GROUPS = 16
_MOST_OUTPUTS = 8

Block = jax.Array  # [networks] where one thread has a network, else [groups, networks] or, shared by them, [1, networks]


@dataclass(frozen=True)
class Shape:
    """What a program does; hashable, since it is static under jit.

    Attributes:
        sizes: (inputs, hidden, outputs) or (inputs, hidden, hidden, outputs).
        activation, loss: see ``ACTIVATIONS`` and ``LOSSES``.
        lam: weight of the sum of squares of all weights.
        groups: threads a network's (first) hidden layer is spread over: 1, 2, 4, 8 or 16.
        target: "triton", or "interpret" where there is no GPU.
        ahead: points in flight in one thread.
        team: threads that share a network's points (each holds all of its weights): 1, or with ``groups`` 1 up to 32.
    """

    sizes: tuple[int, ...]
    activation: str
    loss: str
    lam: float
    groups: int = 1
    target: str = "triton"
    ahead: int = 1
    team: int = 1

    @property
    def binary(self) -> bool:
        """Two classes: only the difference of the two logits matters."""
        return self.loss == "cross_entropy" and self.sizes[-1] == 2

    @property
    def logits(self) -> int:
        """Numbers that leave the network: 1 where binary."""
        return 1 if self.binary else self.sizes[-1]

    @property
    def units(self) -> int:
        """Hidden units of the first layer in one thread."""
        return -(-self.sizes[1] // self.groups)

    @property
    def networks(self) -> int:
        """Networks a program of one warp serves."""
        return WARP // (self.groups * self.team)

    @property
    def rows(self) -> tuple[int, int]:
        """Rows of weights that differ between the threads of a network, and that they share."""
        d, last = self.sizes[0], self.sizes[-2]
        if len(self.sizes) == 3:
            return self.units * (1 + d + self.logits), self.logits
        return self.units * (1 + d), last * (1 + self.sizes[1]) + self.logits * (1 + last)

    @property
    def parameters(self) -> int:
        """Length of the flat weight vector."""
        return sum((a + 1) * b for a, b in zip(self.sizes, self.sizes[1:]))


def choose(
    sizes: tuple[int, ...], activation: str, loss: str, lam: float, itemsize: int, target: str = "triton"
) -> Shape | str:
    """The shape that serves a network, or why there is none."""
    if len(sizes) not in (3, 4):
        return "it serves dense networks (jaxland.mlp) with one or two hidden layers"
    if activation not in ACTIVATIONS:
        return f"activation {activation!r} is not among {', '.join(ACTIVATIONS)}"
    if loss not in LOSSES:
        return f"the loss is not among {', '.join(LOSSES)}"
    if loss == "cross_entropy" and sizes[-1] < 2:
        return "cross-entropy needs at least two outputs"
    shape = Shape(tuple(sizes), activation, loss, float(lam), target=target)
    if sizes[-1] <= _MOST_OUTPUTS:
        groups = 1
        while groups <= (_MOST_GROUPS if len(sizes) == 3 else 1):
            made = Shape(**{**shape.__dict__, "groups": groups})
            if 2 * sum(made.rows) <= _ROOM[itemsize]:
                return made
            groups *= 2
    return f"widths {sizes} are beyond a thread's registers: XLA's matrix products are better there"


# -- weights: rows of networks ---------------------------------------------------------------------------------------


def pack(shape: Shape, w: Float[Array, "N B"]) -> tuple[jax.Array, jax.Array]:
    """Flat weights (``ravel_pytree`` of ``jaxland.mlp``: b, W by rows, layer by layer) of B networks as rows.

    Own rows [rows, groups, B] (b1, W1 and, with one hidden layer, W2, unit by unit), shared rows [rows, B]. Linear in w.
    """
    sizes, at, layers = shape.sizes, 0, []
    lanes = w.shape[1]
    for fan_in, fan_out in zip(sizes, sizes[1:]):
        bias = w[at : at + fan_out]
        layers.append((bias, w[at + fan_out : at + fan_out * (1 + fan_in)].reshape(fan_in, fan_out, lanes)))
        at += fan_out * (1 + fan_in)
    if shape.binary:
        bias, matrix = layers[-1]
        layers[-1] = (bias[1:] - bias[:1], matrix[:, 1:] - matrix[:, :1])

    def spread(rows: jax.Array) -> jax.Array:  # [k, hidden, B] -> [k * units, groups, B]
        more = shape.units * shape.groups - rows.shape[1]
        rows = jnp.pad(rows, ((0, 0), (0, more), (0, 0)))
        return rows.reshape(-1, shape.groups, lanes)

    (b1, w1), (bo, wo) = layers[0], layers[-1]
    own = [spread(b1[None]), spread(w1)]
    if len(sizes) == 3:
        return jnp.concatenate([*own, spread(wo.transpose(1, 0, 2))]), bo
    b2, w2 = layers[1]
    shared = [b2, w2.reshape(-1, lanes), bo, wo.transpose(1, 0, 2).reshape(-1, lanes)]
    return jnp.concatenate(own), jnp.concatenate(shared)


def unpack(shape: Shape, own: jax.Array, shared: jax.Array) -> Float[Array, "N B"]:
    """The transpose of ``pack``: sums per row back to the flat gradient."""
    like = jax.ShapeDtypeStruct((shape.parameters, own.shape[-1]), own.dtype)
    return jax.linear_transpose(partial(pack, shape), like)((own, shared))[0]


def lay_out(shape: Shape, x: Float[Array, "n d"], y: Array) -> tuple[jax.Array, jax.Array]:
    """Points along the last axis: inputs [d, n], targets [1 or c, n] in the inputs' dtype."""
    if shape.loss == "cross_entropy":
        return jnp.asarray(x).T, jnp.asarray(y).astype(x.dtype)[None]
    return jnp.asarray(x).T, jnp.reshape(y, (x.shape[0], shape.sizes[-1])).T.astype(x.dtype)


# -- a point, in lists of blocks -------------------------------------------------------------------------------------

Rows = list[Any]


def _parts(shape: Shape, own: Rows, shared: Rows) -> dict[str, Any]:
    """Rows by name: b1 [u], w1 [d][u], then wo [c][u], bo [c] or b2 [v], w2 [u][v], bo [c], wo [c][v]."""
    u, d, c = shape.units, shape.sizes[0], shape.logits
    p: dict[str, Any] = {"b1": own[:u], "w1": [own[u * (1 + k) : u * (2 + k)] for k in range(d)]}
    if len(shape.sizes) == 3:
        at = u * (1 + d)
        p["wo"], p["bo"] = [own[at + u * k : at + u * (k + 1)] for k in range(c)], shared
        return p
    h, v = shape.sizes[1:3]
    p["b2"], p["w2"] = shared[:v], [shared[v * (1 + i) : v * (2 + i)] for i in range(h)]
    at = v * (1 + h)
    p["bo"], p["wo"] = shared[at : at + c], [shared[at + c + v * k : at + c + v * (k + 1)] for k in range(c)]
    return p


def _rows(shape: Shape, p: dict[str, Any]) -> tuple[Rows, Rows]:
    """The inverse of ``_parts``."""
    own = [*p["b1"], *(a for row in p["w1"] for a in row)]
    outer = [a for row in p["wo"] for a in row]
    if len(shape.sizes) == 3:
        return own + outer, list(p["bo"])
    return own, [*p["b2"], *(a for row in p["w2"] for a in row), *p["bo"], *outer]


# 2^f for |f| <= 1/2, relative error 3e-16; and for |f| <= 1/64 after a table of 32.
_EXP2 = (
    1.0, 0.69314718055995, 0.24022650695910097, 0.05550410866444773, 0.009618129107606925, 0.001333355823016397,
    0.00015403530441697656, 1.5252657260787487e-05, 1.3215442604231796e-06, 1.0208690185957821e-07,
    7.0725834608047575e-09,
)  # fmt: skip
_MAGIC = 6755399441055744.0
FLAGS = {"exp": "lib", "rec": "div", "interpret": False, "single": False}


def _exp2(y: Block) -> Block:
    """2^y in float64 for |y| < 1,000: rounding by a magic number, whose low bits are the exponent."""
    if FLAGS["interpret"]:
        nearest = jnp.round(y)
        shifted = nearest + _MAGIC
    else:
        shifted = y + _MAGIC
        nearest = shifted - _MAGIC
    f = y - nearest
    p = jnp.full_like(f, _EXP2[-1])
    for c in _EXP2[-2::-1]:
        p = p * f + c
    bits = jax.lax.shift_left(jax.lax.bitcast_convert_type(shifted, jnp.int64), jnp.full(y.shape, 52, jnp.int64))
    return jax.lax.bitcast_convert_type(jax.lax.bitcast_convert_type(p, jnp.int64) + bits, y.dtype)


def _exp(a: Block) -> Block:
    if a.dtype == jnp.float64 and FLAGS["exp"] == "own":
        return _exp2(a * 1.4426950408889634)
    return jnp.exp(a)


def _reciprocal(a: Block) -> Block:
    if a.dtype == jnp.float64 and FLAGS["rec"] == "newton":
        from jax.experimental.pallas import triton

        (r,) = triton.elementwise_inline_asm(
            "rcp.approx.ftz.f64 $0, $1;", args=[a], constraints="=d,d", pack=1,
            result_shape_dtypes=[jax.ShapeDtypeStruct(a.shape, a.dtype)],
        )
        r = r + r * (1.0 - a * r)
        return r + r * (1.0 - a * r)
    return 1.0 / a


def _tanhs(a: Rows) -> Rows:
    """1 - 2 / (1 + e^2a) of several numbers with one division among as many as do not overflow.

    Absolute error a few units of rounding of 1, which is what a loss sees.
    """
    double = a[0].dtype == jnp.float64
    bound, together = (20.0, 12) if double else (9.5, 4)
    if FLAGS["single"]:
        together = 1
    out: Rows = []
    for k in range(0, len(a), together):
        if double and FLAGS["exp"] == "own":
            ends = [1.0 + _exp2(jnp.clip(2.8853900817779268 * v, -60.0, 57.0)) for v in a[k : k + together]]
        else:
            ends = [1.0 + jnp.exp(2.0 * jnp.minimum(v, bound)) for v in a[k : k + together]]
        products = ends[:1]
        for end in ends[1:]:
            products.append(products[-1] * end)
        inverse = _reciprocal(products[-1])
        found: Rows = []
        for j in range(len(ends) - 1, 0, -1):
            found.append(1.0 - 2.0 * (inverse * products[j - 1]))
            inverse = inverse * ends[j]
        out += [1.0 - 2.0 * inverse, *reversed(found)]
    return out


def _activate(name: str, a: Rows, *, bent: bool) -> tuple[Rows, Rows, Rows]:
    """Activation, its slope and, where asked, its second derivative."""
    if name == "relu":
        slope = [jnp.where(v > 0, 1.0, 0.0).astype(v.dtype) for v in a]
        return [jnp.maximum(v, 0.0) for v in a], slope, [jnp.zeros_like(v) for v in a]
    if name == "tanh":
        t = _tanhs(a)
        slope = [1.0 - v * v for v in t]
        return t, slope, [-2.0 * v * s for v, s in zip(t, slope)] if bent else []
    # gelu's tanh form, as jax.nn.gelu has it by default: a (1 + t) / 2 with t = tanh(k (a + m a^3)).
    k, m = math.sqrt(2.0 / math.pi), 0.044715
    t = _tanhs([k * (v + m * v * v * v) for v in a])
    inner = [k * (1.0 + 3.0 * m * v * v) for v in a]
    flat = [(1.0 - u * u) * g for u, g in zip(t, inner)]  # dt/da
    value = [0.5 * v * (1.0 + u) for v, u in zip(a, t)]
    slope = [0.5 * (1.0 + u) + 0.5 * v * f for v, u, f in zip(a, t, flat)]
    bend = [
        f + 0.5 * v * (-2.0 * u * f * g + (1.0 - u * u) * (6.0 * k * m) * v)
        for v, u, f, g in zip(a, t, flat, inner)
    ]
    return value, slope, bend if bent else []


class _Head:
    """Loss of a point and derivatives by its logits."""

    def __init__(self, shape: Shape, z: Rows, y: Rows) -> None:
        self.shape = shape
        if shape.binary:
            positive = z[0] >= 0
            e = _exp(jnp.maximum(-jnp.where(positive, z[0], -z[0]), -700.0))
            p = jnp.where(positive, 1.0, e) * _reciprocal(1.0 + e)
            self.p, self.residual = [p], [p - y[0]]
            self.loss, self.factor = jnp.where(positive, z[0], 0.0) - y[0] * z[0], 1.0 + e
        elif shape.loss == "cross_entropy":
            top = z[0]
            for other in z[1:]:
                top = jnp.maximum(top, other)
            powers = [jnp.exp(a - top) for a in z]
            summed = total(powers)
            inverse = 1.0 / summed
            hot = [jnp.where(y[0] == j, 1.0, 0.0).astype(z[0].dtype) for j in range(len(z))]
            self.p = [a * inverse for a in powers]
            self.residual = [p - h for p, h in zip(self.p, hot)]
            self.loss, self.factor = top - total([h * a for h, a in zip(hot, z)]), summed
        else:
            delta = [a - b for a, b in zip(z, y)]
            self.p, self.residual = [], [2.0 * a for a in delta]
            self.loss, self.factor = total([a * a for a in delta]), jnp.ones_like(delta[0])

    def curved(self, dz: Rows) -> Rows:
        """Change of the residual with the logits."""
        if self.shape.binary:
            return [self.p[0] * (1.0 - self.p[0]) * dz[0]]
        if self.shape.loss == "cross_entropy":
            mean = total([p * a for p, a in zip(self.p, dz)])
            return [p * (a - mean) for p, a in zip(self.p, dz)]
        return [2.0 * a for a in dz]


def total(terms: Rows) -> Block:
    while len(terms) > 1:  # a tree: short chains of dependent additions
        terms = [a + b for a, b in zip(terms[::2], terms[1::2])] + terms[len(terms) // 2 * 2 :]
    return terms[0]


def _dots(rows: list[Rows], values: Rows) -> Rows:
    """For every row sum_k row[k] * values[k]."""
    return [total([a * b for a, b in zip(row, values)]) for row in rows]


def _columns(rows: list[Rows], values: Rows) -> Rows:
    """For every k sum_c values[c] * rows[c][k]."""
    return [total([row[k] * v for row, v in zip(rows, values)]) for k in range(len(rows[0]))]


def _affine(bias: Rows, rows: list[Rows], x: Rows) -> Rows:
    """bias[j] + sum_k rows[k][j] x[k]."""
    out = list(bias)
    for row, v in zip(rows, x):
        out = [a + w * v for a, w in zip(out, row)]
    return out


def _across(shape: Shape, rows: Rows) -> Rows:
    """Sums over the threads of a network."""
    return rows if shape.groups == 1 else [jnp.sum(a, axis=0, keepdims=True) for a in rows]


def _outer(a: Rows, b: Rows) -> list[Rows]:
    return [[u * v for v in b] for u in a]


def point_gradient(
    shape: Shape, p: dict[str, Any], x: Rows, y: Rows, live: Block | None = None
) -> tuple[Block, Block, dict[str, Any]]:
    """One point: loss without its logarithm, the factor whose logarithm is missing, gradient by every row.

    A thread whose ``live`` is false adds nothing.
    """
    t, slope, _ = _activate(shape.activation, _affine(p["b1"], p["w1"], x), bent=False)
    if len(shape.sizes) == 3:
        head = _Head(shape, [a + b for a, b in zip(_across(shape, _dots(p["wo"], t)), p["bo"])], y)
        r = _kept(head.residual, live)
        back = [s * a for s, a in zip(slope, _columns(p["wo"], r))]
        g: dict[str, Any] = {"wo": _outer(r, t)}
    else:
        t2, slope2, _ = _activate(shape.activation, _affine(p["b2"], p["w2"], t), bent=False)
        head = _Head(shape, [a + b for a, b in zip(_dots(p["wo"], t2), p["bo"])], y)
        r = _kept(head.residual, live)
        back2 = [s * a for s, a in zip(slope2, _columns(p["wo"], r))]
        back = [s * a for s, a in zip(slope, _dots(p["w2"], back2))]
        g = {"wo": _outer(r, t2), "w2": _outer(t, back2), "b2": back2}
    g |= {"bo": r, "b1": back, "w1": _outer(x, back)}
    if live is None:
        return head.loss, head.factor, g
    return jnp.where(live, head.loss, 0.0), jnp.where(live, head.factor, 1.0), g


def _kept(rows: Rows, live: Block | None) -> Rows:
    return rows if live is None else [jnp.where(live, a, 0.0) for a in rows]


def point_product(shape: Shape, p: dict[str, Any], v: dict[str, Any], x: Rows, y: Rows) -> dict[str, Any]:
    """One point: Hessian of its loss times v, by every row (forward over reverse, by hand)."""
    t, slope, bend = _activate(shape.activation, _affine(p["b1"], p["w1"], x), bent=True)
    da = _affine(v["b1"], v["w1"], x)
    dt = [s * a for s, a in zip(slope, da)]
    if len(shape.sizes) == 3:
        both = [
            total([a * b for a, b in zip(row, t)] + [a * b for a, b in zip(base, dt)])
            for row, base in zip(v["wo"], p["wo"])
        ]
        z = _across(shape, _dots(p["wo"], t) + both)
        c = shape.logits
        head = _Head(shape, [a + b for a, b in zip(z[:c], p["bo"])], y)
        r, dr = head.residual, head.curved([a + b for a, b in zip(z[c:], v["bo"])])
        pull = _columns(p["wo"], r)
        dpull = [a + b for a, b in zip(_columns(p["wo"], dr), _columns(v["wo"], r))]
        g: dict[str, Any] = {"wo": [[a * k + b * m for k, m in zip(t, dt)] for a, b in zip(dr, r)]}
    else:
        t2, slope2, bend2 = _activate(shape.activation, _affine(p["b2"], p["w2"], t), bent=True)
        da2 = [a + b for a, b in zip(_affine(v["b2"], v["w2"], t), _columns(p["w2"], dt))]
        dt2 = [s * a for s, a in zip(slope2, da2)]
        head = _Head(shape, [a + b for a, b in zip(_dots(p["wo"], t2), p["bo"])], y)
        dz = [a + b + c for a, b, c in zip(_dots(v["wo"], t2), _dots(p["wo"], dt2), v["bo"])]
        r, dr = head.residual, head.curved(dz)
        pull2 = _columns(p["wo"], r)
        dpull2 = [a + b for a, b in zip(_columns(p["wo"], dr), _columns(v["wo"], r))]
        back2 = [s * a for s, a in zip(slope2, pull2)]
        dback2 = [s * a + k * b * m for s, a, k, b, m in zip(slope2, dpull2, bend2, pull2, da2)]
        pull = _dots(p["w2"], back2)
        dpull = [a + b for a, b in zip(_dots(p["w2"], dback2), _dots(v["w2"], back2))]
        g = {
            "wo": [[a * k + b * m for k, m in zip(t2, dt2)] for a, b in zip(dr, r)],
            "w2": [[k * a + m * b for a, b in zip(dback2, back2)] for k, m in zip(t, dt)],
            "b2": dback2,
        }
    dback = [s * a + k * b * m for s, a, k, b, m in zip(slope, dpull, bend, pull, da)]
    g |= {"bo": dr, "b1": dback, "w1": _outer(x, dback)}
    return g


# -- all points ------------------------------------------------------------------------------------------------------


def _terms(dtype: Any) -> int:
    """Factors of at most e^.. 2 (binary) whose product stays finite, with room."""
    return 512 if dtype == jnp.float64 else 64


def sums(
    shape: Shape, own: Rows, shared: Rows, x_ref: Any, y_ref: Any, first: Any, last: Any
) -> tuple[Block, Rows, Rows]:
    """Loss and gradient summed over the points first..last - 1, by rows.

    In a team every thread visits each ``team``-th point (``first`` must be 0 and ``last`` static); its sums are added
    up at the end.
    """
    p = _parts(shape, own, shared)
    zero = [jnp.zeros_like(a) for a in own], [jnp.zeros_like(a) for a in shared]
    flat = jnp.zeros_like(shared[0])
    points = last
    last = last // np.int32(shape.team) if shape.team > 1 else last

    def add(i: Any, carry: Any, live: Block | None = None) -> Any:
        loss, product, g_own, g_shared = carry
        part, factor, g = point_gradient(shape, p, *_point(shape, x_ref, y_ref, i, points), live)
        more_own, more_shared = _rows(shape, g)
        added = [a + b for a, b in zip(g_own, more_own)], [a + b for a, b in zip(g_shared, more_shared)]
        return loss + part, product * factor, *added

    # Logarithms of products of many points: a logarithm a point would cost a tenth of the loop.
    stride = np.int32(max(1, int(_terms(flat.dtype) / max(1.0, math.log2(shape.sizes[-1])))))

    def stretch(carry: Any) -> Any:
        at, loss, g_own, g_shared = carry
        until = jnp.minimum(at + stride, last)
        loss, product, g_own, g_shared = _loop(shape, at, until, add, (loss, flat + 1.0, g_own, g_shared))
        return until, loss + jnp.log(product), g_own, g_shared

    _, loss, g_own, g_shared = jax.lax.while_loop(lambda c: c[0] < last, stretch, (first, flat, *zero))
    if shape.team == 1:
        return loss, g_own, g_shared
    if points % shape.team:
        live = last * np.int32(shape.team) + member(shape) < points
        loss, product, g_own, g_shared = add(last, (loss, flat + 1.0, g_own, g_shared), live)
        loss = loss + jnp.log(product)

    def together(a: Block) -> Block:
        return jnp.sum(a, axis=0, keepdims=True)

    return together(loss), [together(a) for a in g_own], [together(a) for a in g_shared]


def products(
    shape: Shape, weights: tuple[Rows, Rows], tangents: tuple[Rows, Rows], x_ref: Any, y_ref: Any, first: Any, last: Any
) -> tuple[Rows, Rows]:
    """Hessian-vector products summed over the points first..last - 1, by rows."""
    p, v = _parts(shape, *weights), _parts(shape, *tangents)

    def visit(i: Any, carry: Any) -> Any:
        own, shared = _rows(shape, point_product(shape, p, v, *_point(shape, x_ref, y_ref, i, last)))
        return [a + b for a, b in zip(carry[0], own)], [a + b for a, b in zip(carry[1], shared)]

    zero = [jnp.zeros_like(a) for a in weights[0]], [jnp.zeros_like(a) for a in weights[1]]
    return _loop(shape, first, last, visit, zero)


def member(shape: Shape) -> jax.Array:
    """Number [team, 1] of a thread in its team."""
    return jax.lax.broadcasted_iota(jnp.int32, (shape.team, 1), 0)


def _point(shape: Shape, x_ref: Any, y_ref: Any, i: Any, points: Any) -> tuple[Rows, Rows]:
    at = i if shape.team == 1 else jnp.minimum(i * np.int32(shape.team) + member(shape), np.int32(points - 1))
    return [x_ref[k, at] for k in range(shape.sizes[0])], [y_ref[k, at] for k in range(y_ref.shape[0])]


def _loop(shape: Shape, first: Any, last: Any, visit: Any, carry: Any) -> Any:
    """``visit(i, carry)`` for every point, ``shape.ahead`` at a time."""
    ahead = np.int32(shape.ahead)
    if shape.ahead > 1:
        whole = (last - first) // ahead

        def several(k: Any, carry: Any) -> Any:
            for j in range(shape.ahead):
                carry = visit(first + k * ahead + np.int32(j), carry)
            return carry

        carry = jax.lax.fori_loop(np.int32(0), whole, several, carry)
        first = first + whole * ahead
    return jax.lax.fori_loop(first, last, visit, carry)


def read_rows(shape: Shape, own_ref: Any, shared_ref: Any, at: Any) -> tuple[Rows, Rows]:
    """Own rows as [groups, networks] (or [networks]) blocks, shared rows as [1, networks] (or [networks])."""
    from jax.experimental import pallas as pl

    lanes = pl.ds(at, shape.networks)
    own = [own_ref[k, 0, lanes] if shape.groups == 1 else own_ref[k, :, lanes] for k in range(own_ref.shape[0])]
    shared = [
        shared_ref[k, lanes] if shape.groups == 1 else shared_ref[k, lanes][None] for k in range(shared_ref.shape[0])
    ]
    return own, shared


# -- programs: a warp of networks, and a stretch of the points --------------------------------------------------------


def _program(shape: Shape, points: int, splits: int, with_product: bool, *refs: Any) -> None:
    from jax.experimental import pallas as pl

    at = pl.program_id(0) * np.int32(shape.networks)
    share = np.int32(-(-points // splits))
    first = pl.program_id(1) * share
    last = jnp.minimum(first + share, np.int32(points))
    weights = read_rows(shape, *refs[:2], at)
    if with_product:
        tangents = read_rows(shape, *refs[2:4], at)
        own, shared = products(shape, weights, tangents, refs[4], refs[5], first, last)
        outputs = refs[6:]
    else:
        loss, own, shared = sums(shape, *weights, refs[2], refs[3], first, last)
        outputs = refs[5:]
        refs[4][pl.program_id(1), pl.ds(at, shape.networks)] = loss if shape.groups == 1 else loss[0]
    own_ref, shared_ref = outputs
    lanes, split = pl.ds(at, shape.networks), pl.program_id(1)
    for k, a in enumerate(own):
        if shape.groups == 1:
            own_ref[k, split, 0, lanes] = a
        else:
            own_ref[k, split, :, lanes] = a
    for k, a in enumerate(shared):
        shared_ref[k, split, lanes] = a if shape.groups == 1 else a[0]


def splits_for(shape: Shape, networks: int, points: int) -> int:
    """Programs that share a network's points, so that a GPU of 132 multiprocessors has 8 warps on each."""
    programs = -(-networks // shape.networks)
    return int(np.clip(1056 // programs, 1, max(1, points // 32)))


def call(
    shape: Shape, weights: list[Float[Array, "B N"]], data: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array | None, Float[Array, "B N"]]:
    """Sums over all points for B networks: (loss [B], gradient [B, N]) or, given tangents too, (None, products)."""
    from jax.experimental import pallas as pl

    lanes, points = weights[0].shape[0], data[0].shape[1]
    splits = splits_for(shape, lanes, points)
    padded = -(-lanes // shape.networks) * shape.networks
    packed = [pack(shape, jnp.pad(w, ((0, padded - lanes), (0, 0))).T) for w in weights]
    own, shared = packed[0]
    outputs = [
        jax.ShapeDtypeStruct((own.shape[0], splits, *own.shape[1:]), own.dtype),
        jax.ShapeDtypeStruct((shared.shape[0], splits, padded), own.dtype),
    ]
    if len(weights) == 1:
        outputs = [jax.ShapeDtypeStruct((splits, padded), own.dtype), *outputs]
    options: dict[str, Any] = {"interpret": True}
    if shape.target == "triton":
        from jax.experimental.pallas import triton

        options = {"compiler_params": triton.CompilerParams(num_warps=1, num_stages=1)}
    found = pl.pallas_call(
        partial(_program, shape, points, splits, len(weights) == 2),
        out_shape=outputs,
        grid=(padded // shape.networks, splits),
        name="jaxland_dense_" + ("product" if len(weights) == 2 else "gradient"),
        **options,
    )(*(a for pair in packed for a in pair), *data)
    flat = unpack(shape, jnp.sum(found[-2], axis=1), jnp.sum(found[-1], axis=1))[:, :lanes].T / points
    return (None if len(weights) == 2 else jnp.sum(found[0], axis=0)[:lanes] / points), flat
