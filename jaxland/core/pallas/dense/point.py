"""One point of many networks: loss, gradient and Hessian-vector product, in lists of blocks of registers."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxland.core.pallas.dense.elementary import (
    Block,
    Rows,
    dot,
    exp,
    flipped,
    fused,
    gelus,
    logistic,
    negative,
    reciprocal,
    tanhs,
    total,
)
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
    """The inverse of ``parts``."""
    own = [*p["b1"], *(a for row in p["w1"] for a in row)]
    outer = [a for row in p["wo"] for a in row]
    if len(shape.sizes) == 3:
        return own + outer, list(p["bo"])
    return own, [*p["b2"], *(a for row in p["w2"] for a in row), *p["bo"], *outer]


def _activate(shape: Shape, a: Rows, *, bent: bool) -> tuple[Rows, Rows, Rows]:
    """Activation, slope and second derivative; where that is not asked for, the slope short of ``_steep``."""
    if shape.activation == "relu":
        flat = [v <= 0 for v in a]
        slope = [jnp.where(off, 0.0, 1.0).astype(v.dtype) for v, off in zip(a, flat)]
        return [jnp.where(off, 0.0, v) for v, off in zip(a, flat)], slope, [jnp.zeros_like(v) for v in a]
    if shape.activation == "gelu":
        return gelus(shape, a, bent=bent)
    t, quarter = tanhs(shape, a)
    if not bent:
        return t, quarter, []
    slope = [4.0 * v for v in quarter]
    return t, slope, [-2.0 * v * s for v, s in zip(t, slope)]


def _steep(shape: Shape, rows: Rows) -> Rows:
    """Times what the slopes of ``_activate`` fall short of: cheaper once a logit than once a unit."""
    return [4.0 * v for v in rows] if shape.activation == "tanh" else rows


class _Head:
    """Loss of a point and derivatives by its logits.

    Attributes:
        loss: without its logarithm; factor: whose logarithm is to be taken off.
        residual: derivatives by the logits.
    """

    def __init__(self, shape: Shape, z: Rows, y: Rows) -> None:
        self.shape = shape
        if shape.binary:
            lacking = logistic(shape, z[0])
            self.factor = 1.0 - lacking
            one = y[0] > 0
            wrong = negative(z[0]) == one
            self.curvature = lacking * self.factor
            self.residual = [flipped(jnp.where(wrong, self.factor, lacking), one)]
            self.loss = jnp.where(wrong, jnp.abs(z[0]), 0.0)
        elif shape.loss == "cross_entropy":
            top = z[0]
            for other in z[1:]:
                top = jnp.maximum(top, other)
            powers = [exp(shape, a - top) for a in z]
            self.factor = reciprocal(shape, total(powers))
            hot = [y[0] == j for j in range(len(z))]
            self.p = [a * self.factor for a in powers]
            self.residual = [jnp.where(h, p - 1.0, p) for p, h in zip(self.p, hot)]
            self.loss = top - total([jnp.where(h, a, 0.0) for h, a in zip(hot, z)])
        else:
            delta = [a - b for a, b in zip(z, y)]
            self.residual = [a + a for a in delta]
            self.loss, self.factor = dot(shape, delta, delta), jnp.ones_like(delta[0])

    def curved(self, dz: Rows) -> Rows:
        """Change of the residual with the logits."""
        if self.shape.binary:
            return [self.curvature * dz[0]]
        if self.shape.loss == "cross_entropy":
            mean = dot(self.shape, self.p, dz)
            return [p * (a - mean) for p, a in zip(self.p, dz)]
        return [a + a for a in dz]


def _dots(shape: Shape, rows: list[Rows], values: Rows, start: Rows | None = None) -> Rows:
    """For every row start + sum_k row[k] * values[k]."""
    return [dot(shape, row, values, None if start is None else start[k]) for k, row in enumerate(rows)]


def _columns(shape: Shape, rows: list[Rows], values: Rows, start: Rows | None = None) -> Rows:
    """For every k start[k] + sum_c values[c] * rows[c][k]."""
    return _dots(shape, [list(column) for column in zip(*rows)], values, start)


def _across(shape: Shape, rows: Rows) -> Rows:
    """Sums over the groups of a network; in a team in every thread, since other blocks would cross warps."""
    if shape.groups == 1:
        return rows
    summed = [jnp.sum(a, axis=-2, keepdims=True) for a in rows]
    return [jnp.broadcast_to(a, shape.block) for a in summed] if shape.team > 1 else summed


def _logits(shape: Shape, bias: Rows, rows: list[Rows], values: Rows) -> Rows:
    """Of all the groups of a network."""
    if shape.groups == 1:
        return _dots(shape, rows, values, bias)
    return [a + b for a, b in zip(_across(shape, _dots(shape, rows, values)), bias)]


def _outer(shape: Shape, a: Rows, b: Rows, sofar: list[Rows]) -> list[Rows]:
    """sofar[i][j] + a[i] b[j]."""
    return [[fused(shape, u, v, s) for v, s in zip(b, row)] for u, row in zip(a, sofar)]


def _added(a: Rows, b: Rows) -> Rows:
    return [u + v for u, v in zip(a, b)]


def _times(a: Rows, b: Rows) -> Rows:
    return [u * v for u, v in zip(a, b)]


def point_gradient(
    shape: Shape, p: dict[str, Any], g: dict[str, Any], x: Rows, y: Rows, live: Block | None = None
) -> tuple[Block, Block, dict[str, Any]]:
    """One point: loss without its logarithm, the factor whose logarithm it lacks, g with the gradient added by row.

    A thread whose ``live`` is false adds nothing.
    """
    t, slope, _ = _activate(shape, _columns(shape, p["w1"], x, p["b1"]), bent=False)
    if len(shape.sizes) == 3:
        head = _Head(shape, _logits(shape, p["bo"], p["wo"], t), y)
        r = _kept(head.residual, live)
        back = _times(slope, _columns(shape, p["wo"], _steep(shape, r)))
        new: dict[str, Any] = {"wo": _outer(shape, r, t, g["wo"])}
    else:
        t2, slope2, _ = _activate(shape, _columns(shape, p["w2"], t, p["b2"]), bent=False)
        head = _Head(shape, _dots(shape, p["wo"], t2, p["bo"]), y)
        r = _kept(head.residual, live)
        back2 = _times(slope2, _columns(shape, p["wo"], _steep(shape, r)))
        back = _times(slope, _dots(shape, p["w2"], _steep(shape, back2)))
        new = {"wo": _outer(shape, r, t2, g["wo"]), "w2": _outer(shape, t, back2, g["w2"])}
        new["b2"] = _added(g["b2"], back2)
    new |= {"bo": _added(g["bo"], r), "b1": _added(g["b1"], back), "w1": _outer(shape, x, back, g["w1"])}
    if live is None:
        return head.loss, head.factor, new
    return jnp.where(live, head.loss, 0.0), jnp.where(live, head.factor, 1.0), new


def _kept(rows: Rows, live: Block | None) -> Rows:
    return rows if live is None else [jnp.where(live, a, 0.0) for a in rows]


def _bent(shape: Shape, slope: Rows, dpull: Rows, bend: Rows, pull: Rows, da: Rows) -> Rows:
    """Derivative of slope(a) pull: slope dpull + bend pull da."""
    return [fused(shape, s, a, k * b * m) for s, a, k, b, m in zip(slope, dpull, bend, pull, da)]


def point_product(
    shape: Shape, p: dict[str, Any], v: dict[str, Any], g: dict[str, Any], x: Rows, y: Rows
) -> dict[str, Any]:
    """One point: Hessian of its loss times v, by every row added to g (forward over reverse, by hand)."""
    t, slope, bend = _activate(shape, _columns(shape, p["w1"], x, p["b1"]), bent=True)
    da = _columns(shape, v["w1"], x, v["b1"])
    dt = _times(slope, da)
    if len(shape.sizes) == 3:
        both = _dots(shape, p["wo"], dt, _dots(shape, v["wo"], t))
        z = _across(shape, _dots(shape, p["wo"], t) + both)
        c = shape.logits
        head = _Head(shape, _added(z[:c], p["bo"]), y)
        r, dr = head.residual, head.curved(_added(z[c:], v["bo"]))
        pull = _columns(shape, p["wo"], r)
        dpull = _columns(shape, p["wo"], dr, _columns(shape, v["wo"], r))
        new: dict[str, Any] = {"wo": _outer(shape, dr, t, _outer(shape, r, dt, g["wo"]))}
    else:
        t2, slope2, bend2 = _activate(shape, _columns(shape, p["w2"], t, p["b2"]), bent=True)
        da2 = _columns(shape, p["w2"], dt, _columns(shape, v["w2"], t, v["b2"]))
        dt2 = _times(slope2, da2)
        head = _Head(shape, _dots(shape, p["wo"], t2, p["bo"]), y)
        dz = _dots(shape, p["wo"], dt2, _dots(shape, v["wo"], t2, v["bo"]))
        r, dr = head.residual, head.curved(dz)
        pull2 = _columns(shape, p["wo"], r)
        dpull2 = _columns(shape, p["wo"], dr, _columns(shape, v["wo"], r))
        back2 = _times(slope2, pull2)
        dback2 = _bent(shape, slope2, dpull2, bend2, pull2, da2)
        pull = _dots(shape, p["w2"], back2)
        dpull = _dots(shape, p["w2"], dback2, _dots(shape, v["w2"], back2))
        new = {
            "wo": _outer(shape, dr, t2, _outer(shape, r, dt2, g["wo"])),
            "w2": _outer(shape, t, dback2, _outer(shape, dt, back2, g["w2"])),
            "b2": _added(g["b2"], dback2),
        }
    dback = _bent(shape, slope, dpull, bend, pull, da)
    return new | {"bo": _added(g["bo"], dr), "b1": _added(g["b1"], dback), "w1": _outer(shape, x, dback, g["w1"])}
