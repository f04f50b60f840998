"""One point of many networks: loss, gradient and Hessian-vector product, in lists of blocks of registers."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp

from jaxland.core.pallas.dense.elementary import Block, Rows, exp, reciprocal, tanhs
from jaxland.core.pallas.dense.shape import Shape


def parts(shape: Shape, own: Rows, shared: Rows) -> dict[str, Any]:
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


def flat(shape: Shape, p: dict[str, Any]) -> tuple[Rows, Rows]:
    """The inverse of ``_parts``."""
    own = [*p["b1"], *(a for row in p["w1"] for a in row)]
    outer = [a for row in p["wo"] for a in row]
    if len(shape.sizes) == 3:
        return own + outer, list(p["bo"])
    return own, [*p["b2"], *(a for row in p["w2"] for a in row), *p["bo"], *outer]


def _activate(shape: Shape, a: Rows, *, bent: bool) -> tuple[Rows, Rows, Rows]:
    """Activation, its slope and, where asked, its second derivative."""
    if shape.activation == "relu":
        slope = [jnp.where(v > 0, 1.0, 0.0).astype(v.dtype) for v in a]
        return [jnp.maximum(v, 0.0) for v in a], slope, [jnp.zeros_like(v) for v in a]
    if shape.activation == "tanh":
        t = tanhs(shape, a)
        slope = [1.0 - v * v for v in t]
        return t, slope, [-2.0 * v * s for v, s in zip(t, slope)] if bent else []
    # gelu's tanh form, as jax.nn.gelu has it by default: a (1 + t) / 2 with t = tanh(k (a + m a^3)).
    k, m = math.sqrt(2.0 / math.pi), 0.044715
    t = tanhs(shape, [k * (v + m * v * v * v) for v in a])
    inner = [k * (1.0 + 3.0 * m * v * v) for v in a]
    flat = [(1.0 - u * u) * g for u, g in zip(t, inner)]  # dt/da
    value = [0.5 * v * (1.0 + u) for v, u in zip(a, t)]
    slope = [0.5 * (1.0 + u) + 0.5 * v * f for v, u, f in zip(a, t, flat)]
    bend = [
        f + 0.5 * v * (-2.0 * u * f * g + (1.0 - u * u) * (6.0 * k * m) * v) for v, u, f, g in zip(a, t, flat, inner)
    ]
    return value, slope, bend if bent else []


class _Head:
    """Loss of a point and derivatives by its logits."""

    def __init__(self, shape: Shape, z: Rows, y: Rows) -> None:
        self.shape = shape
        if shape.binary:
            positive = z[0] >= 0
            e = exp(shape, -jnp.where(positive, z[0], -z[0]))
            p = jnp.where(positive, 1.0, e) * reciprocal(shape, 1.0 + e)
            self.p, self.residual = [p], [p - y[0]]
            self.loss, self.factor = jnp.where(positive, z[0], 0.0) - y[0] * z[0], 1.0 + e
        elif shape.loss == "cross_entropy":
            top = z[0]
            for other in z[1:]:
                top = jnp.maximum(top, other)
            powers = [exp(shape, a - top) for a in z]
            summed = total(powers)
            inverse = reciprocal(shape, summed)
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
    """Sum of a list."""
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
    """Sums over the groups of a network; in a team in every thread, since other blocks would cross warps."""
    if shape.groups == 1:
        return rows
    summed = [jnp.sum(a, axis=-2, keepdims=True) for a in rows]
    return [jnp.broadcast_to(a, shape.block) for a in summed] if shape.team > 1 else summed


def _outer(a: Rows, b: Rows) -> list[Rows]:
    return [[u * v for v in b] for u in a]


def point_gradient(
    shape: Shape, p: dict[str, Any], x: Rows, y: Rows, live: Block | None = None
) -> tuple[Block, Block, dict[str, Any]]:
    """One point: loss without its logarithm, the factor whose logarithm is missing, gradient by every row.

    A thread whose ``live`` is false adds nothing.
    """
    t, slope, _ = _activate(shape, _affine(p["b1"], p["w1"], x), bent=False)
    if len(shape.sizes) == 3:
        head = _Head(shape, [a + b for a, b in zip(_across(shape, _dots(p["wo"], t)), p["bo"])], y)
        r = _kept(head.residual, live)
        back = [s * a for s, a in zip(slope, _columns(p["wo"], r))]
        g: dict[str, Any] = {"wo": _outer(r, t)}
    else:
        t2, slope2, _ = _activate(shape, _affine(p["b2"], p["w2"], t), bent=False)
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
    t, slope, bend = _activate(shape, _affine(p["b1"], p["w1"], x), bent=True)
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
        t2, slope2, bend2 = _activate(shape, _affine(p["b2"], p["w2"], t), bent=True)
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
