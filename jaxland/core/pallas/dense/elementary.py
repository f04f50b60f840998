"""Multiply-add, reciprocal, exponential and logistic function of blocks of registers.

XLA's compiler leaves products and sums of a Triton program apart (a chain of them runs at half the peak), so every
multiply-add of a loop is asked for by name. Float64 has a branchless exponential of its own, float32 the device's.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxland.core.pallas.dense.shape import Shape

# [networks] where one thread has a network, else [groups or team, networks] or, shared by these, [1, networks].
Block = jax.Array
Rows = list[Block]

# tanh(f ln 2 / 2) = f ODD(f^2) / EVEN(f^2), |f| <= 1/2, error 2e-18: 2^f = (EVEN + f ODD) / (EVEN - f ODD).
_EVEN = (1.0, 0.053382223961954389513, 0.00022893369320354305544)
_ODD = (0.34657359027997265305, 0.0046248418494190573891, 5.2870894117744031163e-6)
_MAGIC = 6755399441055744.0  # 1.5 * 2^52: adding it rounds to a whole number, whose bits are then the lowest ones
_LOG2E = math.log2(math.e)
_GELU, _CUBIC = math.sqrt(2.0 / math.pi), 0.044715  # of jax.nn.gelu's tanh form, its default
_FUSED = "fma.rn.{0} $0, $1, $2, $3;"
_LESS = "{{ .reg .{0} minus; neg.{0} minus, $1; fma.rn.{0} $0, minus, $2, $3; }}"


_LETTERS = {"float64": "d", "float32": "f", "int32": "r"}


def _assembly(text: str, *given: Block | float) -> Block:
    """One instruction of blocks and numbers of one type; ``{0}`` in the text is that type."""
    like = jnp.result_type(*given)
    size = jnp.broadcast_shapes(*(jnp.shape(a) for a in given))
    kind = f"f{8 * like.itemsize}"
    return _inline(text.format(kind), [jnp.broadcast_to(jnp.asarray(a, like), size) for a in given])


def _inline(text: str, given: list[Block]) -> Block:
    """A number like the first of blocks of one shape."""
    from jax.experimental.pallas import triton

    letters = [_LETTERS[str(a.dtype)] for a in given]
    (out,) = triton.elementwise_inline_asm(
        text,
        args=given,
        constraints=",".join([f"={letters[0]}", *letters]),
        pack=1,
        result_shape_dtypes=[jax.ShapeDtypeStruct(given[0].shape, given[0].dtype)],
    )
    return out


def known_after(shape: Shape, a: Block, other: Block) -> Block:
    """a, as if it were made of the other: nothing that follows from it is worked out, and kept, before."""
    if shape.target != "triton":
        return a
    return _inline("mov.b32 $0, $1;", [a, jnp.broadcast_to(other, a.shape)])


def fused(shape: Shape, a: Block | float, b: Block | float, c: Block | float) -> Block:
    """a b + c, on a GPU rounded once."""
    return _assembly(_FUSED, a, b, c) if shape.target == "triton" else jnp.asarray(a * b + c)


def less(shape: Shape, a: Block | float, b: Block | float, c: Block | float) -> Block:
    """c - a b, on a GPU rounded once."""
    return _assembly(_LESS, a, b, c) if shape.target == "triton" else jnp.asarray(c - a * b)


def dot(shape: Shape, a: Rows, b: Rows, start: Block | None = None) -> Block:
    """start + sum_k a[k] b[k]."""
    summed = a[0] * b[0] if start is None else fused(shape, a[0], b[0], start)
    for u, v in zip(a[1:], b[1:]):
        summed = fused(shape, u, v, summed)
    return summed


def total(terms: Rows) -> Block:
    """Sum of a list."""
    while len(terms) > 1:  # a tree: short chains of dependent additions
        terms = [a + b for a, b in zip(terms[::2], terms[1::2])] + terms[len(terms) // 2 * 2 :]
    return terms[0]


def _bits(a: Block) -> Block:
    return jax.lax.bitcast_convert_type(a, jnp.int64 if a.dtype == jnp.float64 else jnp.int32)


def negative(a: Block) -> Block:
    """Whether the sign bit is set: no arithmetic of floats."""
    return _bits(a) < 0


def flipped(a: Block, where: Block) -> Block:
    """-a where so, by its sign bit."""
    bits = _bits(a)
    sign = jnp.where(where, jnp.full_like(bits, jnp.iinfo(bits.dtype).min), jnp.zeros_like(bits))
    return jax.lax.bitcast_convert_type(bits ^ sign, a.dtype)


def _bounded(a: Block, bound: float) -> Block:
    """|a|, or about ``bound``, a power of two, where that is less; no number stays none.

    By the upper half of a float64, where units of whole numbers are idle and those of floats are not.
    """
    if a.dtype != jnp.float64:
        return jnp.abs(a)
    bits = _bits(a)
    upper = jax.lax.shift_right_logical(bits, jnp.full_like(bits, 32)).astype(jnp.int32) & jnp.int32(0x7FFFFFFF)
    most = jnp.int32(1023 + int(math.log2(bound)) << 20)
    upper = jnp.where((upper > most) & (upper < jnp.int32(0x7FF80000)), most, upper)
    lower = bits & jnp.int64(0xFFFFFFFF)
    bits = jax.lax.shift_left(upper.astype(jnp.int64), jnp.full_like(bits, 32)) | lower
    return jax.lax.bitcast_convert_type(bits, a.dtype)


def reciprocal(shape: Shape, a: Block) -> Block:
    """1 / a of numbers of about 1 and more."""
    if shape.target != "triton":
        return 1.0 / a
    r = _assembly("rcp.approx.ftz.{0} $0, $1;", a)
    if a.dtype != jnp.float64:
        return r
    error = less(shape, a, r, 1.0)  # of 20 bits; of 60 where its square is taken along
    return fused(shape, r, fused(shape, error, error, error), r)


def _power(shape: Shape, rate: Any, a: Block) -> tuple[Block, Block]:
    """Numerator and denominator of 2^-(rate a) in float64, 0 <= rate a < 1,000."""
    if shape.target == "triton":
        shifted = less(shape, rate, a, _MAGIC)
        f = less(shape, rate, a, _MAGIC - shifted)
    else:  # XLA would simplify the lines above
        nearest = jnp.round(-rate * a)
        shifted, f = nearest + _MAGIC, -rate * a - nearest
    square = f * f
    even, odd = (fused(shape, fused(shape, c[2], square, c[1]), square, c[0]) for c in (_EVEN, _ODD))
    above, below = fused(shape, f, odd, even), less(shape, f, odd, even)
    whole = jax.lax.shift_left(_bits(shifted), jnp.full(a.shape, 52, jnp.int64))
    return jax.lax.bitcast_convert_type(_bits(above) + whole, a.dtype), below


def _exp2(shape: Shape, y: Block) -> Block:
    """2^y of float32."""
    return _assembly("ex2.approx.ftz.{0} $0, $1;", y) if shape.target == "triton" else jnp.exp2(y)


def exp(shape: Shape, a: Block) -> Block:
    """e^a of numbers that are not positive."""
    if a.dtype != jnp.float64:
        return _exp2(shape, a * _LOG2E)
    above, below = _power(shape, _LOG2E, _bounded(a, 512.0))
    return above * reciprocal(shape, below)


def tail(shape: Shape, rate: Any, a: Block) -> Block:
    """1 / (1 + 2^(rate a)) for rate a >= 0, less than 1,000 in float64; relative error a few units of rounding.

    So near 0 or 1 as a logistic function may come, it and what it lacks of 1 keep their digits.
    """
    above, below = (_exp2(shape, a * -rate), 1.0) if a.dtype != jnp.float64 else _power(shape, rate, a)
    return above * reciprocal(shape, below + above)


def logistic(shape: Shape, z: Block) -> Block:
    """1 / (1 + e^|z|)."""
    return tail(shape, _LOG2E, _bounded(z, 512.0))


def tanhs(shape: Shape, a: Rows) -> tuple[Rows, Rows]:
    """tanh, to an absolute error of a few units of rounding of 1; a quarter of its derivative, to a relative one."""
    tails = [tail(shape, 2.0 * _LOG2E, _bounded(v, 256.0)) for v in a]
    t = [flipped(less(shape, 2.0, c, 1.0), negative(v)) for v, c in zip(a, tails)]
    return t, [less(shape, c, c, c) for c in tails]


def gelus(shape: Shape, a: Rows, *, bent: bool) -> tuple[Rows, Rows, Rows]:
    """gelu's tanh form, a p with p = 1 / (1 + e^-2z), z = k (a + m a^3); its derivative and, if asked, the second."""
    values: Rows = []
    slopes: Rows = []
    bends: Rows = []
    for v in a:
        size, below = _bounded(v, 16.0), negative(v)
        square = size * size
        c = tail(shape, fused(shape, 2 * _LOG2E * _GELU * _CUBIC, square, 2 * _LOG2E * _GELU), size)
        p = jnp.where(below, c, 1.0 - c)
        pq = less(shape, c, c, c)
        twice = fused(shape, 6 * _GELU * _CUBIC, square, 2 * _GELU)  # 2 dz/da
        dp = pq * twice
        values.append(v * p)
        slopes.append(fused(shape, v, dp, p))
        if not bent:
            continue
        tanh = flipped(less(shape, 2.0, c, 1.0), below)
        ddp = less(shape, tanh * twice, dp, (pq * v) * (12 * _GELU * _CUBIC))
        bends.append(fused(shape, v, ddp, 2.0 * dp))
    return values, slopes, bends
