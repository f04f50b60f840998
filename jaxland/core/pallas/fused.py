"""Loss, gradient and Hessian-vector product of small dense networks in one Pallas kernel per network.

XLA writes the activations [lanes, n, hidden] to memory several times over; here they live in registers, and only the
weights and the data are read. One program per lane (and per share of the points) goes through its points block by
block and keeps the whole gradient; programs share nothing, since GPU grids run in no order. Under ``vmap`` Pallas
adds the lanes as the leading grid axis by itself.

Hidden layers are padded to a power of two, units along the first axis and points along the second, which is what
Triton's lowering asks for and what fills TPU registers. Padded units have zero weights; padded points weigh nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxland.core.energy.kernels import Kernel, Values, beside

ACTIVATIONS = ("tanh", "relu", "gelu")
LOSSES = ("cross_entropy", "squared_error")
# Beyond these a lane's gradient no longer fits the registers of one program.
_MOST_HIDDEN = 128
_MOST_OUTPUTS = 16
_UNROLLED_INPUTS = 15
_MOST_WEIGHTS = 16384


@dataclass(frozen=True)
class Shape:
    """What a fused kernel is compiled for.

    Attributes:
        sizes: layer widths (inputs, one or two hidden, outputs).
        activation: tanh, relu or gelu. loss: cross_entropy or squared_error. lam: weight of sum(w^2).
        block: points in registers at once, a power of two; splits: programs that share the points of a lane.
        target: "triton", "tpu", or "interpret" (any backend, slow: for tests).
    """

    sizes: tuple[int, ...]
    activation: str
    loss: str
    lam: float
    block: int
    splits: int
    target: str

    @property
    def hidden(self) -> tuple[int, ...]:
        """Padded widths of the hidden layers: powers of two, at least 16 where a matrix product is used."""
        least = 16 if self.wide or len(self.sizes) == 4 else 8
        return tuple(max(least, _power(h)) for h in self.sizes[1:-1])

    @property
    def wide(self) -> bool:
        """Whether the first layer is a matrix product instead of an unrolled sum over inputs."""
        return self.sizes[0] > _UNROLLED_INPUTS

    @property
    def inputs(self) -> int:
        """Rows of the data, padded where the first layer is a matrix product."""
        return _power(self.sizes[0]) if self.wide else self.sizes[0]

    @property
    def logits(self) -> int:
        """Outputs that matter: of two classes only the difference."""
        return 1 if self.binary else self.sizes[-1]

    @property
    def binary(self) -> bool:
        """Two classes under cross-entropy."""
        return self.loss == "cross_entropy" and self.sizes[-1] == 2


def _power(k: int) -> int:
    return 1 << (int(k) - 1).bit_length()


def supports(sizes: tuple[int, ...] | None, activation: str | None, loss: str | None) -> str | None:
    """None where a fused kernel exists for the network, else why not."""
    if sizes is None or len(sizes) not in (3, 4):
        return "it serves dense networks (jaxland.mlp) with one or two hidden layers"
    if activation not in ACTIVATIONS:
        return f"activation {activation!r} is not among {', '.join(ACTIVATIONS)}"
    if loss not in LOSSES:
        return f"the loss is not among {', '.join(LOSSES)}"
    if loss == "cross_entropy" and sizes[-1] < 2:
        return "cross-entropy needs at least two outputs"
    weights = math.prod(map(_power, sizes[:2])) + math.prod(map(_power, sizes[1:3]))
    if max(sizes[1:-1]) > _MOST_HIDDEN or sizes[-1] > _MOST_OUTPUTS or weights > _MOST_WEIGHTS:
        return f"widths {sizes} are beyond one program's registers: XLA's matrix products are better there"
    return None


def shape_for(
    sizes: tuple[int, ...],
    activation: str,
    loss: str,
    lam: float,
    n: int,
    *,
    target: str | None = None,
    block: int | None = None,
    splits: int = 1,
) -> Shape:
    """Shape of the kernel for n points; block and target default to what suits the default backend."""
    if target is None:
        target = {"cpu": "interpret", "tpu": "tpu"}.get(jax.default_backend(), "triton")
    shape = Shape(
        sizes=tuple(sizes),
        activation=activation,
        loss=loss,
        lam=float(lam),
        block=128,
        splits=splits,
        target=target,
    )
    if block is None:
        # About 4,096 numbers per hidden layer in registers: 32 a thread with four warps.
        block = 128 if target == "tpu" else int(np.clip(4096 // max(shape.hidden), 32, 256))
    return replace(shape, block=min(_power(block), max(16, _power(-(-n // splits)))))


# -- packing: linear in w, so that its transpose takes the gradient back --------------------------------------------


def _pack(shape: Shape, w: Float[Array, " N"]) -> dict[str, jax.Array]:
    """Flat weights (``ravel_pytree`` of ``jaxland.mlp``: b, W by rows, layer by layer) as padded columns."""
    sizes, pads = shape.sizes, shape.hidden
    layers, at = [], 0
    for fan_in, fan_out in itertools.pairwise(sizes):
        bias = w[at : at + fan_out]
        matrix = w[at + fan_out : at + fan_out * (1 + fan_in)].reshape(fan_in, fan_out)
        layers.append((bias, matrix))
        at += fan_out * (1 + fan_in)

    def column(v: jax.Array, to: int) -> jax.Array:
        return jnp.pad(v, [(0, 0)] * (v.ndim - 1) + [(0, to - v.shape[-1])])[..., None]

    def block(m: jax.Array, rows: int, columns: int) -> jax.Array:
        return jnp.pad(m.T, ((0, rows - m.shape[1]), (0, columns - m.shape[0])))

    bias, matrix = layers[0]
    packed = {"b1": column(bias, pads[0])}
    packed["w1"] = block(matrix, pads[0], shape.inputs) if shape.wide else column(matrix, pads[0])
    if len(sizes) == 4:
        bias, matrix = layers[1]
        packed["b2"], packed["w2"] = column(bias, pads[1]), block(matrix, pads[1], pads[0])
    bias, matrix = layers[-1]
    if shape.binary:
        bias, matrix = bias[1:] - bias[:1], matrix[:, 1:] - matrix[:, :1]
    packed["bo"], packed["wo"] = bias[:, None, None], column(matrix.T, pads[-1])
    return packed


def _lay_out(shape: Shape, x: Float[Array, "n d"], y: Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Data with points along the last axis, padded to whole blocks: inputs, targets, weights 1/n or 0."""
    n = x.shape[0]
    more = -n % (shape.block * shape.splits)
    inputs = jnp.pad(x.T, ((0, shape.inputs - x.shape[1]), (0, more)))
    if shape.loss == "cross_entropy":
        target = y.astype(x.dtype if shape.binary else jnp.int32)[None]
    else:
        target = jnp.reshape(y, (n, shape.sizes[-1])).T.astype(x.dtype)
    weight = jnp.full((1, n), 1.0 / n, x.dtype)
    return inputs, jnp.pad(target, ((0, 0), (0, more))), jnp.pad(weight, ((0, 0), (0, more)))


# -- one block of points --------------------------------------------------------------------------------------------


def _act(name: str, a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Activation and its slope."""
    if name == "tanh":
        t = jnp.tanh(a)
        return t, 1.0 - t * t
    if name == "relu":
        return jnp.maximum(a, 0.0), jnp.where(a > 0, 1.0, 0.0).astype(a.dtype)
    # gelu's tanh form, as jax.nn.gelu has it by default
    k = math.sqrt(2.0 / math.pi)
    t = jnp.tanh(k * (a + 0.044715 * a * a * a))
    return 0.5 * a * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * a * (1.0 - t * t) * k * (1.0 + 3 * 0.044715 * a * a)


def _head(shape: Shape, z: list[jax.Array], y: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
    """Loss per point [1, block] and its derivative by every logit."""
    if shape.binary:
        positive = z[0] >= 0
        # Not abs: its derivative at 0 is 0, and p must have its own there.
        e = jnp.exp(-jnp.where(positive, z[0], -z[0]))
        p = jnp.where(positive, 1.0, e) / (1.0 + e)
        return jnp.log1p(e) + jnp.where(positive, z[0], 0.0) - y[0] * z[0], [p - y[0]]
    if shape.loss == "cross_entropy":
        top = z[0]
        for other in z[1:]:
            top = jnp.maximum(top, other)
        top = jax.lax.stop_gradient(top)
        powers = [jnp.exp(a - top) for a in z]
        total = sum(powers[1:], powers[0])
        hot = [jnp.where(y[0] == j, 1.0, 0.0).astype(z[0].dtype) for j in range(len(z))]
        chosen = sum((h * a for h, a in zip(hot, z)), jnp.zeros_like(total))
        return jnp.log(total) + top - chosen, [a / total - h for a, h in zip(powers, hot)]
    delta: list[jax.Array] = [a - b for a, b in zip(z, y)]
    return sum((a * a for a in delta), jnp.zeros_like(delta[0])), [2.0 * a for a in delta]


def _dot(a: jax.Array, b: jax.Array, left: int, right: int) -> jax.Array:
    """Contraction of axis ``left`` of a with axis ``right`` of b, in the arrays' own precision (never TF32)."""
    return jax.lax.dot_general(a, b, (((left,), (right,)), ((), ())), precision=jax.lax.Precision.HIGHEST)


def _block(shape: Shape, p: dict[str, Any], x: Any, y: list[jax.Array], weight: jax.Array) -> tuple[jax.Array, dict]:
    """Weighted loss [1, 1] of a block of points and its gradient by the packed weights, by back-propagation."""

    def across(rows: jax.Array) -> jax.Array:
        return jnp.sum(rows, axis=1, keepdims=True)

    first = (
        _dot(p["w1"], x, 1, 0)
        if shape.wide
        else sum((w * row for w, row in zip(p["w1"][1:], x[1:])), p["w1"][0] * x[0])
    )
    t1, slope1 = _act(shape.activation, first + p["b1"])
    t, slope = _act(shape.activation, _dot(p["w2"], t1, 1, 0) + p["b2"]) if "w2" in p else (t1, slope1)
    z = [jnp.sum(w * t, axis=0, keepdims=True) + b for w, b in zip(p["wo"], p["bo"])]
    losses, r = _head(shape, z, y)
    r = [a * weight for a in r]
    g: dict[str, Any] = {"wo": [across(t * a) for a in r], "bo": [across(a) for a in r]}
    back = slope * sum((w * a for w, a in zip(p["wo"][1:], r[1:])), p["wo"][0] * r[0])
    if "w2" in p:
        g["w2"], g["b2"] = _dot(back, t1, 1, 1), across(back)
        back = slope1 * _dot(p["w2"], back, 0, 0)
    g["w1"] = _dot(back, x, 1, 1) if shape.wide else [across(back * row) for row in x]
    g["b1"] = across(back)
    return across(losses * weight), g


# -- the kernel -----------------------------------------------------------------------------------------------------


def _names(shape: Shape) -> tuple[str, ...]:
    return ("b1", "w1", "b2", "w2", "bo", "wo") if len(shape.sizes) == 4 else ("b1", "w1", "bo", "wo")


def _program(shape: Shape, blocks: int, with_product: bool, *refs: Any) -> None:
    """Body of one grid program: reads weights (and a tangent), loops over its blocks, writes sums."""
    from jax.experimental import pallas as pl

    names = _names(shape)
    given, (x_ref, y_ref, weight_ref), out = (
        refs[: len(names) * (1 + with_product)],
        refs[len(names) * (1 + with_product) :][:3],
        refs[len(names) * (1 + with_product) + 3 :],
    )

    def read(parts: Any) -> dict[str, Any]:
        listed = {"bo", "wo"} if shape.wide else {"bo", "wo", "w1"}
        return {
            name: [ref[k] for k in range(ref.shape[0])] if name in listed else ref[...]
            for name, ref in zip(names, parts)
        }

    p = read(given[: len(names)])
    v = read(given[len(names) :]) if with_product else None
    first = pl.program_id(0) * np.int32(blocks * shape.block) if shape.splits > 1 else np.int32(0)

    def rows(ref: Any, at: Any) -> list[jax.Array]:
        return [ref[pl.ds(k, 1), pl.ds(at, shape.block)] for k in range(ref.shape[0])]

    def add(i: Any, total: Any) -> Any:
        at = pl.multiple_of(first + i * np.int32(shape.block), shape.block)
        x = x_ref[:, pl.ds(at, shape.block)] if shape.wide else rows(x_ref, at)
        one = partial(_block, shape, x=x, y=rows(y_ref, at), weight=weight_ref[:, pl.ds(at, shape.block)])
        part = one(p) if v is None else jax.jvp(lambda u: one(u)[1], (p,), (v,))[1]
        return jax.tree.map(jnp.add, total, part)

    dtype = x_ref.dtype
    empty: Any = jax.tree.map(jnp.zeros_like, p)
    if v is None:
        empty = (jnp.zeros((1, 1), dtype), empty)
    total = jax.lax.fori_loop(np.int32(0), np.int32(blocks), add, empty)
    if v is None:
        value, total = total
        out[0][...] = value
        out = out[1:]
    for name, ref in zip(names, out):
        if isinstance(total[name], list):
            for k, part in enumerate(total[name]):
                ref[k] = part
        else:
            ref[...] = total[name]


def _call(shape: Shape, packed: list[dict[str, jax.Array]], data: Any) -> Sequence[jax.Array]:
    """Sums over all points: the energy (without regulariser) where one set of weights is given, and the gradient."""
    from jax.experimental import pallas as pl

    names = _names(shape)
    operands = [part[name] for part in packed for name in names] + list(data)
    blocks = data[0].shape[1] // (shape.block * shape.splits)
    outputs = [packed[0][name] for name in names]
    if len(packed) == 1:
        outputs = [packed[0]["bo"][0], *outputs]

    options: dict[str, Any] = {"interpret": shape.target == "interpret"}
    if shape.splits > 1:

        def shared(*parts: jax.Array) -> list[jax.Array]:
            return [jnp.broadcast_to(a, (shape.splits, *a.shape)) for a in parts]

        def whole(a: jax.Array) -> pl.BlockSpec:
            return pl.BlockSpec(a.shape, lambda i, rank=a.ndim: (0,) * rank)

        def part(a: jax.Array) -> pl.BlockSpec:
            return pl.BlockSpec((None, *a.shape), lambda i, rank=a.ndim: (i,) + (0,) * rank)

        options |= {
            "grid": (shape.splits,),
            "in_specs": [whole(a) for a in operands],
            "out_specs": [part(a) for a in outputs],
        }
    if shape.target == "triton":
        from jax.experimental.pallas import triton

        options["compiler_params"] = triton.CompilerParams(num_warps=4, num_stages=2)
    sums = pl.pallas_call(
        partial(_program, shape, blocks, len(packed) == 2),
        # By eval_shape, so that under shard_map the outputs vary over the mesh as the weights do.
        out_shape=jax.eval_shape(shared if shape.splits > 1 else lambda *a: list(a), *outputs),
        name="jaxland_fused_" + ("product" if len(packed) == 2 else "gradient"),
        **options,
    )(*operands)
    return [jnp.sum(a, axis=0) for a in sums] if shape.splits > 1 else sums


@lru_cache(maxsize=64)
def functions(shape: Shape) -> tuple[Callable, Callable]:
    """``first(w, data) -> Values`` and ``product(w, v, data) -> [N]`` with data from ``lay_out``."""
    names = _names(shape)
    pack = partial(_pack, shape)

    def unpack(sums: Sequence[jax.Array], w: jax.Array) -> jax.Array:
        return jax.linear_transpose(pack, w)(dict(zip(names, sums)))[0]

    def first(w: Float[Array, " N"], data: Any) -> Values:
        value, *sums = _call(shape, [pack(w)], data)
        return Values(value[0, 0] + shape.lam * jnp.sum(w * w), unpack(sums, w) + 2.0 * shape.lam * w)

    def product(w: Float[Array, " N"], v: Float[Array, " N"], data: Any) -> Float[Array, " N"]:
        return unpack(_call(shape, [pack(w), pack(v)], data), w) + 2.0 * shape.lam * v

    return first, product


def kernel(shape: Shape, base: Kernel, x: Float[Array, "n d"], y: Array) -> Kernel:
    """``base`` with gradient and Hessian-vector product fused; the exact Hessian stays the base kernel's.

    Args:
        shape: from ``shape_for``.
        base: XLA's kernel of the same energy.
        x: inputs [n, d]; y: labels [n] or targets [n, c].
    """
    return beside(base, *functions(shape), _lay_out(shape, x, y), f"fused ({shape.target})")
