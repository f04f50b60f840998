"""What PyTorch's layers, functions and methods do, in JAX; names are PyTorch's."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxland.errors import ProblemError

Weights = Mapping[str, jax.Array]
# ``layer(module, weights of it, inputs) -> outputs``.
Layer = Callable[[Any, Weights, jax.Array], jax.Array]


def _linear(m: Any, w: Weights, x: jax.Array) -> jax.Array:
    out = x @ w["weight"].T
    return out + w["bias"] if "bias" in w else out


def _conv(m: Any, w: Weights, x: jax.Array) -> jax.Array:
    if m.padding_mode != "zeros":
        raise ProblemError(f"padding_mode {m.padding_mode!r} of {type(m).__name__} is not known here; zeros is")
    n = len(m.kernel_size)
    pads = m.padding if isinstance(m.padding, str) else [(p, p) for p in m.padding]
    out = lax.conv_general_dilated(
        x,
        w["weight"],
        m.stride,
        pads.upper() if isinstance(pads, str) else pads,
        rhs_dilation=m.dilation,
        feature_group_count=m.groups,
        dimension_numbers=("NC" + "HWD"[:n], "OI" + "HWD"[:n], "NC" + "HWD"[:n]),
    )
    return out + w["bias"].reshape(-1, *[1] * n) if "bias" in w else out


def _over_channels(values: jax.Array, x: jax.Array) -> jax.Array:
    return values.reshape(-1, *[1] * (x.ndim - 2))


def _batch_norm(m: Any, w: Weights, x: jax.Array) -> jax.Array:
    if "running_mean" not in w:
        raise ProblemError("BatchNorm without running statistics makes each output depend on the other rows")
    out = (x - _over_channels(w["running_mean"], x)) * _over_channels(lax.rsqrt(w["running_var"] + m.eps), x)
    return out * _over_channels(w["weight"], x) + _over_channels(w["bias"], x) if "weight" in w else out


def _normalised(x: jax.Array, axes: Sequence[int], eps: float) -> jax.Array:
    mean = x.mean(axes, keepdims=True)
    return (x - mean) * lax.rsqrt(((x - mean) ** 2).mean(axes, keepdims=True) + eps)


def _layer_norm(m: Any, w: Weights, x: jax.Array) -> jax.Array:
    out = _normalised(x, tuple(range(x.ndim - len(m.normalized_shape), x.ndim)), m.eps)
    out = out * w["weight"] if "weight" in w else out
    return out + w["bias"] if "bias" in w else out


def _group_norm(m: Any, w: Weights, x: jax.Array) -> jax.Array:
    parts = x.reshape(x.shape[0], m.num_groups, -1)
    out = _normalised(parts, (2,), m.eps).reshape(x.shape)
    return out * _over_channels(w["weight"], x) + _over_channels(w["bias"], x) if "weight" in w else out


def _each(size: int | Sequence[int], n: int) -> tuple[int, ...]:
    return (size,) * n if isinstance(size, int) else tuple(size)


def _pool(x: jax.Array, m: Any, start: float, combine: Callable[..., jax.Array]) -> tuple[jax.Array, int]:
    n = x.ndim - 2
    kernel, stride, pad = (_each(v, n) for v in (m.kernel_size, m.stride or m.kernel_size, m.padding))
    if getattr(m, "ceil_mode", False) or set(_each(getattr(m, "dilation", 1), n)) != {1}:
        raise ProblemError(f"ceil_mode and dilation of {type(m).__name__} are not known here")
    out = lax.reduce_window(
        x, np.array(start, x.dtype), combine, (1, 1, *kernel), (1, 1, *stride), [(0, 0)] * 2 + [(p, p) for p in pad]
    )
    return out, math.prod(kernel)


def _max_pool(m: Any, w: Weights, x: jax.Array) -> jax.Array:
    return _pool(x, m, -np.inf, lax.max)[0]


def _avg_pool(m: Any, w: Weights, x: jax.Array) -> jax.Array:
    total, size = _pool(x, m, 0.0, lax.add)
    if any(_each(m.padding, x.ndim - 2)) and not m.count_include_pad:
        return total / _pool(jnp.ones_like(x), m, 0.0, lax.add)[0]
    return total / size


def _adaptive(pool: Callable[..., jax.Array]) -> Layer:
    def layer(m: Any, w: Weights, x: jax.Array) -> jax.Array:
        wanted = _each(m.output_size, x.ndim - 2)
        for size, axis in zip(wanted, range(2, x.ndim)):
            have = x.shape[axis]
            size = have if size is None else size
            edges = [(i * have // size, -((i + 1) * have // -size)) for i in range(size)]
            x = jnp.concatenate(
                [pool(lax.slice_in_dim(x, a, b, axis=axis), axis=axis, keepdims=True) for a, b in edges], axis
            )
        return x

    return layer


def _flatten(m: Any, w: Weights, x: jax.Array) -> jax.Array:
    return _flat(x, m.start_dim, m.end_dim)


def _flat(x: jax.Array, start_dim: int = 0, end_dim: int = -1) -> jax.Array:
    end = end_dim % x.ndim
    return x.reshape(*x.shape[:start_dim], -1, *x.shape[end + 1 :])


def _gelu(x: jax.Array, approximate: str = "none") -> jax.Array:
    return jax.nn.gelu(x, approximate=approximate == "tanh")


def _pointwise(f: Callable[..., jax.Array], *names: str) -> Layer:
    return lambda m, w, x: f(x, *(getattr(m, name) for name in names))


def _nothing(m: Any, w: Weights, x: jax.Array) -> jax.Array:
    return x


LAYERS: dict[str, Layer] = {
    "Linear": _linear,
    **dict.fromkeys(("Conv1d", "Conv2d", "Conv3d"), _conv),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "BatchNorm3d"), _batch_norm),
    "LayerNorm": _layer_norm,
    "GroupNorm": _group_norm,
    **dict.fromkeys(("MaxPool1d", "MaxPool2d", "MaxPool3d"), _max_pool),
    **dict.fromkeys(("AvgPool1d", "AvgPool2d", "AvgPool3d"), _avg_pool),
    **dict.fromkeys(("AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d"), _adaptive(jnp.mean)),
    **dict.fromkeys(("AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AdaptiveMaxPool3d"), _adaptive(jnp.max)),
    "Embedding": lambda m, w, x: w["weight"][x.astype(int)],
    "Flatten": _flatten,
    "Unflatten": lambda m, w, x: x.reshape(*x.shape[: m.dim], *m.unflattened_size, *x.shape[m.dim + 1 :]),
    **dict.fromkeys(("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "Identity"), _nothing),
    "ReLU": _pointwise(jax.nn.relu),
    "ReLU6": _pointwise(jax.nn.relu6),
    "LeakyReLU": _pointwise(jax.nn.leaky_relu, "negative_slope"),
    "ELU": _pointwise(jax.nn.elu, "alpha"),
    "SELU": _pointwise(jax.nn.selu),
    "GELU": _pointwise(_gelu, "approximate"),
    "SiLU": _pointwise(jax.nn.silu),
    "Mish": _pointwise(jax.nn.mish),
    "Hardtanh": _pointwise(jnp.clip, "min_val", "max_val"),
    "Tanh": _pointwise(jnp.tanh),
    "Sigmoid": _pointwise(jax.nn.sigmoid),
    "LogSigmoid": _pointwise(jax.nn.log_sigmoid),
    "Softplus": lambda m, w, x: jax.nn.softplus(m.beta * x) / m.beta,
    "Softmax": lambda m, w, x: jax.nn.softmax(x, -1 if m.dim is None else m.dim),
    "LogSoftmax": lambda m, w, x: jax.nn.log_softmax(x, -1 if m.dim is None else m.dim),
    "PReLU": lambda m, w, x: jnp.where(
        x >= 0, x, x * (_over_channels(w["weight"], x) if w["weight"].size > 1 else w["weight"])
    ),
}


def _reduced(f: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    def call(x: jax.Array, dim: Any = None, keepdim: bool = False) -> jax.Array:
        return f(x, axis=tuple(dim) if isinstance(dim, list) else dim, keepdims=keepdim)

    return call


def _size(x: jax.Array, dim: int | None = None) -> Any:
    return x.shape if dim is None else x.shape[dim]


def _reshaped(x: jax.Array, *shape: Any) -> jax.Array:
    return x.reshape(*(shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape))


def _permuted(x: jax.Array, *axes: Any) -> jax.Array:
    return jnp.transpose(x, axes[0] if len(axes) == 1 and isinstance(axes[0], tuple | list) else axes)


def _chunks(x: jax.Array, chunks: int, dim: int = 0) -> list[jax.Array]:
    size = -(-x.shape[dim] // chunks)
    return jnp.split(x, list(range(size, x.shape[dim], size)), dim)


def _pooling(pool: Layer) -> Callable[..., jax.Array]:
    """A function of torch.nn.functional from the layer of the same name."""

    def call(x: jax.Array, kernel_size: Any, stride: Any = None, padding: Any = 0, **rest: Any) -> jax.Array:
        m = SimpleNamespace(kernel_size=kernel_size, stride=stride, padding=padding, count_include_pad=True)
        vars(m).update(rest)
        return pool(m, {}, x)

    return call


def _adaptive_mean(x: jax.Array, output_size: Any) -> jax.Array:
    return LAYERS["AdaptiveAvgPool2d"](SimpleNamespace(output_size=output_size), {}, x)


def _first(x: Any, *_: Any, **__: Any) -> Any:
    return x


# Functions of torch and methods of tensors, by name.
CALLS: dict[str, Callable[..., Any]] = {
    **{name: getattr(operator, name) for name in ("add", "sub", "mul", "truediv", "neg", "pow", "matmul", "getitem")},
    **dict.fromkeys(("iadd",), operator.add),
    **dict.fromkeys(("imul",), operator.mul),
    "floordiv": operator.floordiv,
    "div": operator.truediv,
    "getattr": getattr,
    **{name: getattr(jnp, name) for name in ("tanh", "exp", "log", "sqrt", "sin", "cos", "abs", "square", "einsum")},
    **{name: getattr(jax.nn, name) for name in ("relu", "sigmoid", "silu", "softplus", "selu", "relu6", "mish")},
    "leaky_relu": lambda x, negative_slope=0.01, inplace=False: jax.nn.leaky_relu(x, negative_slope),
    "elu": lambda x, alpha=1.0, inplace=False: jax.nn.elu(x, alpha),
    "gelu": _gelu,
    "rsqrt": lax.rsqrt,
    "clamp": lambda x, min=None, max=None: jnp.clip(x, min, max),
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "bmm": jnp.matmul,
    "mm": jnp.matmul,
    "softmax": lambda x, dim=-1, **_: jax.nn.softmax(x, dim),
    "log_softmax": lambda x, dim=-1, **_: jax.nn.log_softmax(x, dim),
    **{name: _reduced(getattr(jnp, name)) for name in ("mean", "sum", "amax", "amin")},
    "cat": lambda tensors, dim=0: jnp.concatenate(tensors, dim),
    "stack": lambda tensors, dim=0: jnp.stack(tensors, dim),
    "flatten": _flat,
    **dict.fromkeys(("view", "reshape"), _reshaped),
    "permute": _permuted,
    "transpose": jnp.swapaxes,
    "t": jnp.transpose,
    "squeeze": lambda x, dim=None: jnp.squeeze(x, dim),
    "unsqueeze": lambda x, dim: jnp.expand_dims(x, dim),
    "chunk": _chunks,
    "size": _size,
    "dim": jnp.ndim,
    **dict.fromkeys(("contiguous", "dropout", "float", "double", "to", "detach", "clone"), _first),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d"), _pooling(_max_pool)),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), _pooling(_avg_pool)),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"), _adaptive_mean),
    "linear": lambda x, weight, bias=None: x @ weight.T if bias is None else x @ weight.T + bias,
}
_INPLACE = {"relu_": "relu", "add_": "add", "mul_": "mul", "tanh_": "tanh", "sigmoid_": "sigmoid"}


def called(name: str) -> str:
    """The name in ``CALLS`` of a function or method, in place or not."""
    return _INPLACE.get(name, name)
