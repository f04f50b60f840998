"""Closed-form energy, gradient and Hessian of dense networks with one hidden layer.

One matrix product over the data gives the whole Hessian, where automatic differentiation needs N products with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from jaxland.core.energy.kernels import Curved, Kernel, Values

Data = tuple[jax.Array, jax.Array]
Activation = Callable[[jax.Array], jax.Array]


def sum_log(factors: Float[Array, " n"], bound: float) -> jax.Array:
    """Sum of ln of factors in [1, bound], by the logarithms of products short enough not to overflow.

    A product's relative rounding is the sum's absolute one: the error is that of ln(1 + e) with 1 + e rounded, while
    dozens of points share a logarithm, which was a third of a small network's gradient on a CPU.
    """
    exponent = float(np.log2(float(jnp.finfo(factors.dtype).max)))
    halvings = int(min(6, np.log2(exponent / np.log2(max(bound, 2)))))
    n = factors.shape[0]
    factors = jnp.pad(factors, (0, -n % 2**halvings), constant_values=1.0)
    for _ in range(halvings):
        half = factors.shape[0] // 2
        factors = factors[:half] * factors[half:]
    return jnp.sum(jnp.log(factors))


def _tanh_derivatives(a: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    t = jnp.tanh(a)
    slope = 1.0 - t * t
    return t, slope, -2.0 * t * slope


def _elementwise_derivatives(f: Callable) -> Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]]:
    def derivatives(a: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        def tangent(u: jax.Array) -> tuple[jax.Array, jax.Array]:
            return jax.jvp(f, (u,), (jnp.ones_like(u),))

        (value, slope), (_, bend) = jax.jvp(tangent, (a,), (jnp.ones_like(a),))
        return value, slope, bend

    return derivatives


def one_hidden(
    sizes: tuple[int, int, int],
    activation: Activation,
    loss: str,
    lam: float,
    x: Float[Array, "n d"],
    y: Shaped[Array, "n *c"],
    *,
    is_tanh: bool,
) -> Kernel:
    """Closed-form kernel of a dense network with one hidden layer, mean loss plus lam * sum(w^2).

    With a = W1^T x + b1, t = s(a), z = W2^T t + b2, residual r = dl/dz and output curvature S = d2l/dz2,

        H = (1/n) sum_i J_i^T S_i J_i + (1/n) sum_ic r_ic d2 z_ic,

    where S = diag(p) - p p^T for softmax cross-entropy and the second sum is block-sparse. J_i is an outer product of
    what a layer takes in and what comes back to it, so that a block of H is a product of matrices over the rows, of
    pairs of the former with pairs of the latter. Of two classes only the difference of the logits matters. Flat
    order of w: b1, W1 by rows, b2, W2 by rows, as ``ravel_pytree`` gives it for ``jaxland.mlp``. Examples run along
    the last axis.

    Args:
        sizes: (inputs d, hidden h, outputs c).
        activation: elementwise and twice differentiable almost everywhere.
        loss: "cross_entropy" or "squared_error" (summed over outputs).
        lam: weight of the sum of squares.
        x: inputs [n, d]; y: labels [n] or targets [n, c].
        is_tanh: use tanh's derivatives in closed form.
    """
    network = _network(sizes, activation, loss, lam, is_tanh)
    n, c = x.shape[0], sizes[2]
    inputs = jnp.concatenate([jnp.ones((1, n), x.dtype), x.T])  # [1 + d, n]
    if loss == "cross_entropy":
        labels = y.astype(jnp.int32)
        target = labels.astype(x.dtype) if network.binary else jax.nn.one_hot(labels, c, dtype=x.dtype, axis=0)
    else:
        target = jnp.reshape(y, (n, c)).T.astype(x.dtype)
    outputs = 1 if network.binary else c
    d, h = 1 + sizes[0], sizes[1]
    cost = n * (0.5 * d * (d + 1) * h * (h + 1) + 2.0 * d * h * (h + 1) * outputs)
    return Kernel(
        first=network.first,
        second=network.second,
        product=network.product,
        data=(inputs, target),
        name="closed form, one hidden layer",
        hessian_cost=cost,
    )


class _Terms(NamedTuple):
    """What a loss contributes: its sum [], dl/dz, and softmax p (ones for squared errors), both [c, n] or [n]."""

    value: jax.Array
    residual: jax.Array
    p: jax.Array


class _Back(NamedTuple):
    """What the second layer hands back, over rows.

    Attributes:
        value: sum of the loss [].
        residual: dl/dz / n [c, n].
        pull: dl/dt / n [h, n].
        mixed: w2 S / n [h, c, n], of the output curvature S.
        w2: weights of the second layer [h, c].
        bend: upper triangle of S / n [c (c + 1) / 2, n].
    """

    value: jax.Array
    residual: jax.Array
    pull: jax.Array
    mixed: jax.Array
    w2: jax.Array
    bend: jax.Array


def _places(m: int) -> np.ndarray:
    """Place of each pair among the pairs of an upper triangle [m, m]."""
    out = np.zeros((m, m), np.int32)
    i, j = np.triu_indices(m)
    out[i, j] = out[j, i] = np.arange(len(i))
    return out


@dataclass(frozen=True)
class _Network:
    """The functions of ``one_hidden`` as methods; shared by problems that differ in data only: compiled once."""

    sizes: tuple[int, int, int]
    activation: Activation
    loss: str
    lam: float
    is_tanh: bool

    @property
    def n_first(self) -> int:
        """Parameters of the first layer."""
        d, h, _ = self.sizes
        return h * (d + 1)

    @property
    def size(self) -> int:
        """Parameters in all."""
        _, h, c = self.sizes
        return self.n_first + c * (h + 1)

    @property
    def binary(self) -> bool:
        """Two classes under cross-entropy: only the difference of the logits matters."""
        return self.loss == "cross_entropy" and self.sizes[2] == 2

    def split(self, w: Float[Array, " N"]) -> tuple[jax.Array, jax.Array, jax.Array]:
        """W1 with b1 in row 0 [1 + d, h], b2 [c], W2 [h, c]."""
        d, h, c = self.sizes
        first = w[: self.n_first].reshape(1 + d, h)
        return first, w[self.n_first : self.n_first + c], w[self.n_first + c :].reshape(h, c)

    def output_terms(self, z: Float[Array, "c n"], target: jax.Array) -> _Terms:
        """Of the outputs z."""
        if self.loss == "cross_entropy":
            top = jnp.max(z, axis=0)
            e = jnp.exp(z - top[None])
            total = jnp.sum(e, axis=0)
            p = e / total[None]
            value = sum_log(total, self.sizes[2]) + jnp.sum(top) - jnp.sum(target * z)
            return _Terms(value, p - target, p)
        delta = z - target
        return _Terms(jnp.sum(delta * delta), 2.0 * delta, jnp.ones_like(z))

    def binary_terms(self, z: Float[Array, " n"], target: jax.Array) -> _Terms:
        """Of the difference z of two logits; p is the probability of class 1."""
        # Not abs: its derivative at 0 is 0, and Hessian-vector products need that of p there (w = 0 is stationary).
        e = jnp.exp(-jnp.where(z >= 0, z, -z))
        p = jnp.where(z >= 0, 1.0, e) / (1.0 + e)
        value = sum_log(1.0 + e, 2) + jnp.sum(jnp.maximum(z, 0.0) - target * z)
        return _Terms(value, p - target, p)

    def first(self, w: Float[Array, " N"], data: Data) -> Values:
        """Energy and gradient."""
        inputs, target = data
        rows = inputs.shape[1]
        w1, b2, w2 = self.split(w)
        if self.is_tanh:
            t = jnp.tanh(w1.T @ inputs)
            slope = 1.0 - t * t
        else:
            t, slope = jax.jvp(self.activation, (a := w1.T @ inputs,), (jnp.ones_like(a),))
        if self.binary:
            u = w2[:, 1] - w2[:, 0]
            value, r, _ = self.binary_terms(u @ t + (b2[1] - b2[0]), target)
            gu, gb = t @ r / rows, jnp.sum(r) / rows
            back = slope * (r * (1.0 / rows))[None] * u[:, None]
            g2 = jnp.stack([-gu, gu], axis=1)
            gb2 = jnp.stack([-gb, gb])
        else:
            value, r, _ = self.output_terms(w2.T @ t + b2[:, None], target)
            r = r / rows
            g2, gb2 = t @ r.T, jnp.sum(r, axis=1)
            back = slope * (w2 @ r)
        g1 = inputs @ back.T
        gradient = jnp.concatenate([g1.ravel(), gb2, g2.ravel()])
        return Values(value / rows + self.lam * jnp.sum(w * w), gradient + 2.0 * self.lam * w)

    def _back(self, w: jax.Array, target: jax.Array, t: jax.Array) -> _Back:
        """Through the second layer; of two classes in terms of the difference of their logits, one output."""
        _, b2, w2 = self.split(w)
        rows = t.shape[1]
        if self.binary:
            u = (w2[:, 1] - w2[:, 0])[:, None]
            value, r, p = self.binary_terms(u[:, 0] @ t + (b2[1] - b2[0]), target)
            bend = (p * (1.0 - p) / rows)[None]
            r = (r / rows)[None]
            return _Back(value=value, residual=r, pull=u * r, mixed=u[:, None] * bend[None], w2=u, bend=bend)
        value, r, p = self.output_terms(w2.T @ t + b2[:, None], target)
        r = r / rows
        first, second = np.triu_indices(self.sizes[2])
        same = jnp.asarray(first == second, w.dtype)[:, None]
        if self.loss == "cross_entropy":
            p = p / jnp.sqrt(jnp.asarray(rows, w.dtype))
            scaled = p / jnp.sqrt(jnp.asarray(rows, w.dtype))
            mixed = scaled[None] * w2[:, :, None] - p[None] * (w2 @ p)[:, None]
            bend = same * scaled[first] - p[first] * p[second]
        else:
            mixed = jnp.broadcast_to(w2[:, :, None] * (2.0 / rows), (*w2.shape, rows))
            bend = jnp.broadcast_to(same * (2.0 / rows), (len(first), rows))
        return _Back(value=value, residual=r, pull=w2 @ r, mixed=mixed, w2=w2, bend=bend)

    def second(self, w: Float[Array, " N"], data: Data) -> Curved:
        """Energy, gradient and Hessian.

        Every block is a moment of the rows: of pairs of inputs with pairs of hidden units, of inputs with pairs of a
        hidden unit and a weight of the second layer, of pairs of hidden units with pairs of outputs. That takes a
        quarter of the operations of the product of all features with themselves.
        """
        inputs, target = data
        rows = inputs.shape[1]
        (d, h, c), n_first = self.sizes, self.n_first
        c = 1 if self.binary else c
        derivatives = _tanh_derivatives if self.is_tanh else _elementwise_derivatives(self.activation)
        t, slope, bend = derivatives(self.split(w)[0].T @ inputs)  # [h, n]
        back = self._back(w, target, t)
        top = jnp.concatenate([jnp.ones((1, rows), w.dtype), t])  # [1 + h, n]
        coupled = slope[:, None] * back.mixed  # [h, c, n]

        i, j = np.triu_indices(h)
        across = jnp.sum(coupled[i] * back.w2[j][:, :, None], axis=1) * slope[j]
        across = across + jnp.asarray(i == j, w.dtype)[:, None] * (bend * back.pull)[i]
        k, m = np.triu_indices(1 + d)
        both = (inputs[k] * inputs[m]) @ across.T  # [pairs of inputs, pairs of units]
        within = both[_places(1 + d)][:, :, _places(h)].transpose(0, 2, 1, 3).reshape(n_first, n_first)

        if d < h:  # the fewer products
            ahead = (inputs[:, None, None] * coupled[None]).reshape(-1, rows)
            cross = (ahead @ top.T).reshape(1 + d, h, c, 1 + h).transpose(0, 1, 3, 2)
        else:
            behind = (coupled[:, None] * top[None, :, None]).reshape(-1, rows)
            cross = (inputs @ behind.T).reshape(1 + d, h, 1 + h, c)
        couple = (inputs @ (slope[:, None] * back.residual[None]).reshape(h * c, rows).T).reshape(1 + d, h, 1, c)
        own = jnp.asarray(np.eye(h, 1 + h, 1), w.dtype)
        cross = (cross + couple * own[None, :, :, None]).reshape(n_first, (1 + h) * c)

        if c == 1:
            upper = (top * back.bend) @ top.T
        else:
            k, m = np.triu_indices(1 + h)
            upper = ((top[k] * top[m]) @ back.bend.T)[_places(1 + h)][:, :, _places(c)]
            upper = upper.transpose(0, 2, 1, 3).reshape((1 + h) * c, (1 + h) * c)

        core = jnp.block([[within, cross], [cross.T, upper]])
        g = jnp.concatenate([(inputs @ (slope * back.pull).T).ravel(), (top @ back.residual.T).ravel()])
        if self.binary:
            where, sign = self._of_difference
            signs = jnp.asarray(sign, w.dtype)
            core, g = core[where][:, where] * (signs[:, None] * signs[None]), g[where] * signs
        hess = core + 2.0 * self.lam * jnp.eye(self.size, dtype=w.dtype)
        energy = back.value / rows + self.lam * jnp.sum(w * w)
        return Curved(energy, g + 2.0 * self.lam * w, (hess + hess.T) / 2)

    @property
    def _of_difference(self) -> tuple[np.ndarray, np.ndarray]:
        """Of two classes, which variable with one output each parameter belongs to, and its sign there, both [N]."""
        n_first, h = self.n_first, self.sizes[1]
        where = np.concatenate([np.arange(n_first), np.repeat(n_first + np.arange(1 + h), 2)])
        sign = np.ones(self.size)
        sign[n_first::2] = -1.0
        return where, sign

    def product(self, w: Float[Array, " N"], v: Float[Array, " N"], data: Data) -> Float[Array, " N"]:
        """Hessian times v."""
        return jax.jvp(lambda u: self.first(u, data).gradient, (w,), (v,))[1]


@lru_cache(maxsize=64)
def _network(sizes: tuple[int, int, int], activation: Activation, loss: str, lam: float, is_tanh: bool) -> _Network:
    return _Network(sizes, activation, loss, lam, is_tanh)
