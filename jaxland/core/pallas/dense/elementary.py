"""exp, reciprocal and tanh of blocks of registers."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxland.core.pallas.dense.shape import Shape

# [networks] where one thread has a network, else [groups or team, networks] or, shared by these, [1, networks].
Block = jax.Array
Rows = list[Block]

# 2^f for |f| <= 1/2, relative error 3e-16.
_EXP2 = (
    1.0,
    0.69314718055995,
    0.24022650695910097,
    0.05550410866444773,
    0.009618129107606925,
    0.001333355823016397,
    0.00015403530441697656,
    1.5252657260787487e-05,
    1.3215442604231796e-06,
    1.0208690185957821e-07,
    7.0725834608047575e-09,
)
_MAGIC = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to a whole number, whose bits are then the lowest ones


def _own(shape: Shape, a: Block) -> bool:
    return shape.own and a.dtype == jnp.float64


def exp2(shape: Shape, y: Block) -> Block:
    """2^y in float64 for |y| < 1,000, without a branch."""
    if shape.target == "triton":
        shifted = y + _MAGIC
        nearest = shifted - _MAGIC
    else:  # XLA would simplify the two lines above
        nearest = jnp.round(y)
        shifted = nearest + _MAGIC
    f = y - nearest
    p = jnp.full_like(f, _EXP2[-1])
    for c in _EXP2[-2::-1]:
        p = p * f + c
    power = jax.lax.shift_left(jax.lax.bitcast_convert_type(shifted, jnp.int64), jnp.full(y.shape, 52, jnp.int64))
    return jax.lax.bitcast_convert_type(jax.lax.bitcast_convert_type(p, jnp.int64) + power, y.dtype)


def exp(shape: Shape, a: Block) -> Block:
    """e^a of numbers that are not positive."""
    return exp2(shape, jnp.maximum(a * 1.4426950408889634, -1000.0)) if _own(shape, a) else jnp.exp(a)


def reciprocal(shape: Shape, a: Block) -> Block:
    """1 / a of numbers of at least 1."""
    if not (_own(shape, a) and shape.target == "triton"):
        return 1.0 / a
    from jax.experimental.pallas import triton

    (r,) = triton.elementwise_inline_asm(
        "rcp.approx.ftz.f64 $0, $1;",
        args=[a],
        constraints="=d,d",
        pack=1,
        result_shape_dtypes=[jax.ShapeDtypeStruct(a.shape, a.dtype)],
    )
    r = r + r * (1.0 - a * r)  # 20 bits become 40, then all
    return r + r * (1.0 - a * r)


def tanhs(shape: Shape, a: Rows) -> Rows:
    """1 - 2 / (1 + e^2a) of several numbers: absolute error a few units of rounding of 1, which is what a loss sees.

    By the library with one division among as many as do not overflow.
    """
    if _own(shape, a[0]):
        return [
            1.0 - 2.0 * reciprocal(shape, 1.0 + exp2(shape, jnp.clip(2.8853900817779268 * v, -60.0, 57.0))) for v in a
        ]
    bound, together = (20.0, 12) if a[0].dtype == jnp.float64 else (9.5, 4)
    out: Rows = []
    for k in range(0, len(a), together):
        ends = [1.0 + jnp.exp(2.0 * jnp.minimum(v, bound)) for v in a[k : k + together]]
        products = ends[:1]
        for end in ends[1:]:
            products.append(products[-1] * end)
        inverse = 1.0 / products[-1]
        found: Rows = []
        for j in range(len(ends) - 1, 0, -1):
            found.append(1.0 - 2.0 * (inverse * products[j - 1]))
            inverse = inverse * ends[j]
        out += [1.0 - 2.0 * inverse, *reversed(found)]
    return out
