"""Networks of the sizes deep learning uses, without batch statistics: residual and transformer (Flax nnx).

Group and layer normalisation keep each example's output a function of that example alone, which per-example losses,
Hessian products and interpolated parameters rely on; see docs/large_networks.md for batch normalisation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxland.errors import ArgumentError
from jaxland.models.adapters import from_nnx
from jaxland.models.model import Model


def _maybe_remat(block: nnx.Module, remat: bool) -> Any:
    return jax.checkpoint(lambda x: block(x)) if remat else block


class _Block(nnx.Module):
    """Two 3x3 convolutions with a shortcut; a wider block halves the image (He et al. 2016, shortcut A: padding)."""

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int, rngs: nnx.Rngs) -> None:
        self.stride, self.extra = stride, outputs - inputs
        self.first = nnx.Conv(inputs, outputs, (3, 3), strides=stride, use_bias=False, rngs=rngs)
        self.first_norm = nnx.GroupNorm(outputs, num_groups=min(groups, outputs), rngs=rngs)
        self.second = nnx.Conv(outputs, outputs, (3, 3), use_bias=False, rngs=rngs)
        self.second_norm = nnx.GroupNorm(outputs, num_groups=min(groups, outputs), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        out = jax.nn.relu(self.first_norm(self.first(x)))
        out = self.second_norm(self.second(out))
        x = x[:, :: self.stride, :: self.stride]
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (self.extra // 2, self.extra - self.extra // 2)))
        return jax.nn.relu(out + x)


class _ResNet(nnx.Module):
    def __init__(
        self, depth: int, width: int, channels: int, classes: int, groups: int, remat: bool, rngs: nnx.Rngs
    ) -> None:
        self.remat = remat
        self.stem = nnx.Conv(channels, width, (3, 3), use_bias=False, rngs=rngs)
        self.stem_norm = nnx.GroupNorm(width, num_groups=min(groups, width), rngs=rngs)
        blocks, inputs = [], width
        for stage in range(3):
            for i in range((depth - 2) // 6):
                outputs = width << stage
                blocks.append(_Block(inputs, outputs, 2 if stage and not i else 1, groups, rngs))
                inputs = outputs
        self.blocks = nnx.List(blocks)
        self.head = nnx.Linear(inputs, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(self.stem_norm(self.stem(x)))
        for block in self.blocks:
            x = _maybe_remat(block, self.remat)(x)
        return self.head(jnp.mean(x, axis=(1, 2)))


def resnet(
    depth: int = 20,
    width: int = 16,
    *,
    channels: int = 3,
    classes: int = 10,
    groups: int = 8,
    remat: bool = False,
    seed: int = 0,
) -> Model:
    """Residual network for small images (He et al. 2016, section 4.2) with group instead of batch normalisation.

    Args:
        depth: 6 k + 2 layers; 20 with width 16 has 2.7e5 parameters.
        width: channels of the first of three stages; each stage doubles them and halves the image.
        channels, classes: of the images [n, height, width, channels] and of the outputs [n, classes].
        groups: of the normalisation.
        remat: keep one block's intermediate values at a time for the backward pass and compute them twice.
        seed: of the initial parameters.
    """
    if depth < 8 or (depth - 2) % 6:
        raise ArgumentError(f"depth must be 6 k + 2 (8, 14, 20, ...), got {depth}")
    name = f"resnet-{depth} width {width}"
    return _model(lambda: _ResNet(depth, width, channels, classes, groups, remat, nnx.Rngs(0)), seed, name)


class _Layer(nnx.Module):
    """Causal attention and a two-layer perceptron, each behind a layer norm (pre-norm)."""

    def __init__(self, width: int, heads: int, rngs: nnx.Rngs) -> None:
        self.heads = heads
        self.attention_norm = nnx.LayerNorm(width, rngs=rngs)
        self.query_key_value = nnx.Linear(width, 3 * width, rngs=rngs)
        self.mix = nnx.Linear(width, width, rngs=rngs)
        self.perceptron_norm = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        n, length, width = x.shape
        parts = self.query_key_value(self.attention_norm(x)).reshape(n, length, 3, self.heads, width // self.heads)
        q, k, v = parts[:, :, 0], parts[:, :, 1], parts[:, :, 2]
        scores = jnp.einsum("nqhd,nkhd->nhqk", q, k) * (width // self.heads) ** -0.5
        scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -1e9)
        mixed = jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(scores, axis=-1), v)
        x = x + self.mix(mixed.reshape(n, length, width))
        return x + self.down(jax.nn.gelu(self.up(self.perceptron_norm(x))))


class _Transformer(nnx.Module):
    def __init__(
        self, vocabulary: int, length: int, width: int, layers: int, heads: int, remat: bool, rngs: nnx.Rngs
    ) -> None:
        self.remat = remat
        self.tokens = nnx.Param(jnp.zeros((vocabulary, width)))
        self.positions = nnx.Param(jnp.zeros((length, width)))
        self.layers = nnx.List([_Layer(width, heads, rngs) for _ in range(layers)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, vocabulary, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = self.tokens[...][tokens] + self.positions[...][: tokens.shape[1]]
        for layer in self.layers:
            x = _maybe_remat(layer, self.remat)(x)
        return self.head(self.norm(x))


def transformer(
    vocabulary: int = 256,
    length: int = 64,
    *,
    width: int = 384,
    layers: int = 6,
    heads: int = 6,
    remat: bool = False,
    seed: int = 0,
) -> Model:
    """Causal transformer: tokens [n, length] (integers) to next-token logits [n, length, vocabulary].

    The default has 1.1e7 parameters. Its loss is ``next_token_loss``. ``remat`` keeps one
    layer's intermediate values at a time for the backward pass.
    """
    if width % heads:
        raise ArgumentError(f"width must be a multiple of heads, got {width} and {heads}")
    name = f"transformer {layers} x {width}"
    return _model(lambda: _Transformer(vocabulary, length, width, layers, heads, remat, nnx.Rngs(0)), seed, name)


def next_token_loss(outputs: jax.Array, tokens: Any) -> jax.Array:
    """Cross-entropy per sequence in nats per token: logits [n, length, vocabulary], following tokens [n, length]."""
    logp = jax.nn.log_softmax(outputs, axis=-1)
    return -jnp.mean(jnp.take_along_axis(logp, tokens[..., None].astype(jnp.int32), axis=-1)[..., 0], axis=-1)


def _model(build: Callable[[], nnx.Module], seed: int, name: str) -> Model:
    """The module is only traced, and its parameters drawn by NumPy: nothing is compiled to initialise it."""
    shapes = from_nnx(nnx.eval_shape(build))

    def init(key: jax.Array) -> Any:
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).astype(np.uint32))
        return jax.tree_util.tree_map_with_path(lambda path, leaf: _initial(path, leaf, rng), shapes.params)

    return Model(shapes.apply, init(jax.random.key(seed)), init, name=name)


def _initial(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct, rng: np.random.Generator) -> jax.Array:
    """Weights normal with variance 2 / fan in (He et al. 2015), embeddings with 1 / width; scales 1, biases 0."""
    kind = str(getattr(path[-1], "key", path[-1]))
    if kind in ("scale", "bias"):
        return jnp.full(leaf.shape, float(kind == "scale"), jnp.float32)
    variance = 2 / np.prod(leaf.shape[:-1]) if kind == "kernel" else 1 / leaf.shape[-1]
    return jnp.asarray(variance**0.5 * rng.standard_normal(leaf.shape), jnp.float32)
