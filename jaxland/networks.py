"""Networks of the sizes deep learning uses, without batch statistics: residual and transformer (Flax nnx).

Group and layer normalisation keep each example's output a function of that example alone, which per-example losses,
Hessian products and interpolated parameters rely on; see docs/large_networks.md for batch normalisation.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxland.errors import ArgumentError
from jaxland.models import Model, from_nnx


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
    def __init__(self, depth: int, width: int, channels: int, classes: int, groups: int, rngs: nnx.Rngs) -> None:
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
            x = block(x)
        return self.head(jnp.mean(x, axis=(1, 2)))


def resnet(
    depth: int = 20, width: int = 16, *, channels: int = 3, classes: int = 10, groups: int = 8, seed: int = 0
) -> Model:
    """Residual network for small images (He et al. 2016, section 4.2) with group instead of batch normalisation.

    Args:
        depth: 6 k + 2 layers; 20 with width 16 has 2.7e5 parameters.
        width: channels of the first of three stages; each stage doubles them and halves the image.
        channels, classes: of the images [n, height, width, channels] and of the outputs [n, classes].
        groups: of the normalisation.
        seed: of the initial parameters.
    """
    if depth < 8 or (depth - 2) % 6:
        raise ArgumentError(f"depth must be 6 k + 2 (8, 14, 20, ...), got {depth}")
    network = _ResNet(depth, width, channels, classes, groups, nnx.Rngs(seed))
    return _named(network, f"resnet-{depth} width {width}")


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
    def __init__(self, vocabulary: int, length: int, width: int, layers: int, heads: int, rngs: nnx.Rngs) -> None:
        self.tokens = nnx.Embed(vocabulary, width, rngs=rngs)
        self.positions = nnx.Embed(length, width, rngs=rngs)
        self.layers = nnx.List([_Layer(width, heads, rngs) for _ in range(layers)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, vocabulary, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = self.tokens(tokens) + self.positions(jnp.arange(tokens.shape[1]))
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


def transformer(
    vocabulary: int = 256, length: int = 64, *, width: int = 384, layers: int = 6, heads: int = 6, seed: int = 0
) -> Model:
    """Causal transformer: tokens [n, length] (integers) to next-token logits [n, length, vocabulary].

    The default has 1.1e7 parameters. Its loss is ``next_token_loss``.
    """
    if width % heads:
        raise ArgumentError(f"width must be a multiple of heads, got {width} and {heads}")
    network = _Transformer(vocabulary, length, width, layers, heads, nnx.Rngs(seed))
    return _named(network, f"transformer {layers} x {width}")


def next_token_loss(outputs: jax.Array, tokens: Any) -> jax.Array:
    """Cross-entropy per sequence in nats per token: logits [n, length, vocabulary], following tokens [n, length]."""
    logp = jax.nn.log_softmax(outputs, axis=-1)
    return -jnp.mean(jnp.take_along_axis(logp, tokens[..., None].astype(jnp.int32), axis=-1)[..., 0], axis=-1)


def _named(network: nnx.Module, name: str) -> Model:
    network.eval()
    made = from_nnx(network)
    return Model(made.apply, made.params, name=name)
