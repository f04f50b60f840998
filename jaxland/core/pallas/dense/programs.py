"""All points of many networks: a program a warp of networks, and a stretch of the points."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxland.core.pallas.dense.elementary import Block, Rows
from jaxland.core.pallas.dense.point import flat, parts, point_gradient, point_product
from jaxland.core.pallas.dense.shape import Shape, pack, unpack


def _terms(dtype: Any) -> int:
    """Factors of 1/2 and more whose product stays a normal number, with room."""
    return 512 if dtype == jnp.float64 else 64


def sums(
    shape: Shape, own: Rows, shared: Rows, x_ref: Any, y_ref: Any, first: Any, last: Any
) -> tuple[Block, Rows, Rows]:
    """Loss and gradient summed over the points first..last - 1, by rows.

    In a team every thread visits each ``team``-th point (``first`` must be 0 and ``last`` static); its sums are added
    up at the end.
    """
    p = parts(shape, own, shared)
    zero = [jnp.zeros_like(a) for a in own], [jnp.zeros_like(a) for a in shared]
    nothing = jnp.zeros_like(shared[0])
    points = last
    last = last // np.int32(shape.team) if shape.team > 1 else last

    def add(i: Any, carry: Any, live: Block | None = None) -> Any:
        loss, product, *g = carry
        point = _point(shape, x_ref, y_ref, i, points)
        part, factor, found = point_gradient(shape, p, parts(shape, *g), *point, live)
        return loss + part, product * factor, *flat(shape, found)

    # Logarithms of products of many points: a logarithm a point would cost a tenth of the loop.
    stride = np.int32(max(1, int(_terms(nothing.dtype) / max(1.0, math.log2(shape.sizes[-1])))))

    def stretch(carry: Any) -> Any:
        at, loss, g_own, g_shared = carry
        until = jnp.minimum(at + stride, last)
        loss, product, g_own, g_shared = _loop(shape, at, until, add, (loss, nothing + 1.0, g_own, g_shared))
        return until, loss - jnp.log(product), g_own, g_shared

    _, loss, g_own, g_shared = jax.lax.while_loop(lambda c: c[0] < last, stretch, (first, nothing, *zero))
    if shape.team == 1:
        return loss, g_own, g_shared
    if points % shape.team:
        live = last * np.int32(shape.team) + member(shape) < points
        loss, product, g_own, g_shared = add(last, (loss, nothing + 1.0, g_own, g_shared), live)
        loss = loss - jnp.log(product)

    def together(a: Block) -> Block:
        return jnp.sum(a, axis=0, keepdims=True)

    def once(a: Block) -> Block:
        """Of what all groups know; equal numbers, a power of two of them, add up exactly."""
        a = together(a)
        return a if shape.groups == 1 else jnp.sum(a, axis=-2, keepdims=True) * (1.0 / shape.groups)

    return once(loss), [together(a) for a in g_own], [once(a) for a in g_shared]


def products(
    shape: Shape,
    weights: tuple[Rows, Rows],
    tangents: tuple[Rows, Rows],
    x_ref: Any,
    y_ref: Any,
    first: Any,
    last: Any,
) -> tuple[Rows, Rows]:
    """Hessian-vector products summed over the points first..last - 1, by rows."""
    p, v = parts(shape, *weights), parts(shape, *tangents)

    def visit(i: Any, carry: Any) -> Any:
        return flat(shape, point_product(shape, p, v, parts(shape, *carry), *_point(shape, x_ref, y_ref, i, last)))

    zero = [jnp.zeros_like(a) for a in weights[0]], [jnp.zeros_like(a) for a in weights[1]]
    return _loop(shape, first, last, visit, zero)


def member(shape: Shape) -> jax.Array:
    """Number [team, 1] of a thread in its team; of every thread where a network has groups too."""
    return jax.lax.broadcasted_iota(jnp.int32, (shape.team, 1) if shape.groups == 1 else shape.block, 0)


def _point(shape: Shape, x_ref: Any, y_ref: Any, i: Any, points: Any) -> tuple[Rows, Rows]:
    at = i if shape.team == 1 else jnp.minimum(i * np.int32(shape.team) + member(shape), np.int32(points - 1))
    return [x_ref[k, at] for k in range(shape.sizes[0])], [y_ref[k, at] for k in range(y_ref.shape[0])]


def _loop(shape: Shape, first: Any, last: Any, visit: Any, carry: Any) -> Any:
    """``visit(i, carry)`` for every point, ``shape.ahead`` at a time in float64; float32 has many warps."""
    ahead = np.int32(shape.ahead)
    if shape.ahead > 1 and jax.tree.leaves(carry)[0].dtype == jnp.float64:
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


def _program(shape: Shape, points: int, splits: int, with_product: bool, *refs: Any) -> None:
    from jax.experimental import pallas as pl

    at = pl.program_id(0) * np.int32(shape.networks)
    share = np.int32(-(-points // splits))
    first = pl.program_id(1) * share
    last = jnp.minimum(first + share, np.int32(points))
    weights = read_rows(shape, refs[0], refs[1], at)
    if with_product:
        tangents = read_rows(shape, refs[2], refs[3], at)
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


def gradients(
    shape: Shape, w: Float[Array, "B N"], data: tuple[jax.Array, jax.Array]
) -> tuple[Float[Array, " B"], Float[Array, "B N"]]:
    """Mean loss over all points and its gradient, of B networks."""
    *loss, gradient = call(shape, [w], data)
    return loss[0], gradient


def hessian_products(
    shape: Shape, w: Float[Array, "B N"], v: Float[Array, "B N"], data: tuple[jax.Array, jax.Array]
) -> Float[Array, "B N"]:
    """Products of the mean loss's Hessians with v, of B networks."""
    return call(shape.for_products(w.dtype.itemsize), [w, v], data)[-1]


def call(
    shape: Shape, weights: list[Float[Array, "B N"]], data: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, ...]:
    """Means over all points: (loss [B], gradient [B, N]) of B networks, or (products [B, N],) given tangents too."""
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
    return (flat,) if len(weights) == 2 else (jnp.sum(found[0], axis=0)[:lanes] / points, flat)
