"""What solvers evaluate: energy, gradient and Hessian as pure functions of (w, data), by the fastest exact way known.

``autodiff`` serves any energy. ``one_hidden`` serves dense networks with one hidden layer in closed form: one matrix
product over the data gives the whole Hessian, where automatic differentiation needs N products with it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxland.core.energy import derivatives as curvature


class Values(NamedTuple):
    """Energy [] and gradient [N]."""

    energy: jax.Array
    gradient: jax.Array


class Curved(NamedTuple):
    """Energy [], gradient [N] and Hessian [N, N]."""

    energy: jax.Array
    gradient: jax.Array
    hessian: jax.Array


class Kernel(NamedTuple):
    """Pure functions of (w[N], data), and the data they take (a jit argument, never a closure).

    ``hessian_cost`` estimates a Hessian's operations, so that callers can choose between exact Hessians and products.
    """

    first: Callable[[jax.Array, Any], Values]
    second: Callable[[jax.Array, Any], Curved]
    product: Callable[[jax.Array, jax.Array, Any], jax.Array]
    data: Any
    name: str
    hessian_cost: float


def autodiff(energy: Callable[[jax.Array, Any], jax.Array], data: Any, n: int, gradient_cost: float) -> Kernel:
    """Kernel of any energy by automatic differentiation; Hessian by n forward-over-reverse products."""

    def first(w: Float[Array, " N"], data: Any) -> Values:
        return Values(*jax.value_and_grad(energy)(w, data))

    def second(w: Float[Array, " N"], data: Any) -> Curved:
        value, gradient = jax.value_and_grad(energy)(w, data)
        return Curved(value, gradient, curvature.hessian(lambda u: energy(u, data), w))

    def product(w: Float[Array, " N"], v: Float[Array, " N"], data: Any) -> Float[Array, " N"]:
        return curvature.hvp(lambda u: energy(u, data), w, v)

    return Kernel(first, second, product, data, "autodiff", 3.0 * n * gradient_cost)


def closed_form(second: Callable[[jax.Array], Any], data: Any, n: int) -> Kernel:
    """Kernel of an energy whose Hessian is known in closed form, ``second(w) -> (energy, gradient, Hessian)``."""
    return Kernel(*_closed_functions(second), data, "closed form", 10.0 * n * n)


@lru_cache(maxsize=64)
def _closed_functions(second: Callable) -> tuple[Callable, Callable, Callable]:
    def values(w: jax.Array, data: Any) -> Values:
        return Values(*second(w)[:2])  # XLA drops the Hessian that nobody reads

    def product(w: jax.Array, v: jax.Array, data: Any) -> jax.Array:
        return jax.jvp(lambda u: second(u)[1], (w,), (v,))[1]

    return values, lambda w, data: Curved(*second(w)), product


LIFTED = 1e4


def lifted(kernel: Kernel, zero_space: Callable[[jax.Array], jax.Array]) -> Kernel:
    """The kernel with the zero modes of a continuous symmetry lifted to the eigenvalue ``LIFTED`` in its Hessians.

    H' = (I - Z Z^T) H (I - Z Z^T) + LIFTED Z Z^T: nobody follows, counts or divides by a rigid motion then.
    """
    second, product = _lifted_functions(kernel.second, kernel.product, zero_space)
    return kernel._replace(second=second, product=product)


@lru_cache(maxsize=64)
def _lifted_functions(second: Callable, product: Callable, zero_space: Callable) -> tuple[Callable, Callable]:
    def lifted_second(w: jax.Array, data: Any) -> Curved:
        energy, gradient, hessian = second(w, data)
        z = zero_space(w)
        hessian = hessian - z @ (z.T @ hessian)
        hessian = hessian - (hessian @ z) @ z.T + LIFTED * (z @ z.T)
        return Curved(energy, gradient, 0.5 * (hessian + hessian.T))

    def lifted_product(w: jax.Array, v: jax.Array, data: Any) -> jax.Array:
        z = zero_space(w)
        along = z.T @ v
        r = product(w, v - z @ along, data)
        return r - z @ (z.T @ r) + LIFTED * (z @ along)

    return lifted_second, lifted_product


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
    activation: Callable[[jax.Array], jax.Array],
    loss: str,
    lam: float,
    x: Float[Array, "n d"],
    y: Array,
    *,
    is_tanh: bool,
) -> Kernel:
    """Closed-form kernel of a dense network with one hidden layer, mean loss plus lam * sum(w^2).

    With a = W1^T x + b1, t = s(a), z = W2^T t + b2, residual r = dl/dz and output curvature S = d2l/dz2,

        H = (1/n) sum_i J_i^T S_i J_i + (1/n) sum_ic r_ic d2 z_ic,

    where S = sum_a p_a (e_a - p)(e_a - p)^T for softmax cross-entropy, which makes the first sum one matrix product
    F F^T of features over (example, class), and the second sum block-sparse. Two classes need one feature row per
    example, since only the difference of the logits matters. Flat order of w: b1, W1 by rows, b2, W2 by rows, as
    ``ravel_pytree`` gives it for ``jaxland.mlp``. Examples run along the last axis.

    Args:
        sizes: (inputs d, hidden h, outputs c).
        activation: elementwise and twice differentiable almost everywhere.
        loss: "cross_entropy" or "squared_error" (summed over outputs).
        lam: weight of the sum of squares.
        x: inputs [n, d]; y: labels [n] or targets [n, c].
        is_tanh: use tanh's derivatives in closed form.
    """
    d, h, c = sizes
    size = h * (d + 1) + c * (h + 1)
    binary = loss == "cross_entropy" and c == 2
    n = x.shape[0]
    inputs = jnp.concatenate([jnp.ones((1, n), x.dtype), x.T])  # [1 + d, n]
    if loss == "cross_entropy":
        labels = y.astype(jnp.int32)
        target = labels.astype(x.dtype) if binary else jax.nn.one_hot(labels, c, dtype=x.dtype, axis=0)
    else:
        target = jnp.reshape(y, (n, c)).T.astype(x.dtype)
    cost = 2.0 * n * (1 if binary else c) * size**2
    functions = _one_hidden_functions(sizes, activation, loss, lam, is_tanh)
    return Kernel(*functions, (inputs, target), "closed form, one hidden layer", cost)


@lru_cache(maxsize=64)
def _one_hidden_functions(
    sizes: tuple[int, int, int], activation: Callable, loss: str, lam: float, is_tanh: bool
) -> tuple[Callable, Callable, Callable]:
    """The three functions of ``one_hidden``, shared by problems that differ in data only: compiled once."""
    d, h, c = sizes
    n_first = h * (d + 1)
    size = n_first + c * (h + 1)
    derivatives = _tanh_derivatives if is_tanh else _elementwise_derivatives(activation)
    act = jnp.tanh if is_tanh else activation
    binary = loss == "cross_entropy" and c == 2

    def split(w: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        first = w[:n_first].reshape(1 + d, h)
        return first, w[n_first : n_first + c], w[n_first + c :].reshape(h, c)

    def output_terms(z: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Sum of losses, dl/dz [c, n], and softmax p (or ones) [c, n]."""
        if loss == "cross_entropy":
            top = jnp.max(z, axis=0)
            e = jnp.exp(z - top[None])
            total = jnp.sum(e, axis=0)
            p = e / total[None]
            value = sum_log(total, c) + jnp.sum(top) - jnp.sum(target * z)
            return value, p - target, p
        delta = z - target
        return jnp.sum(delta * delta), 2.0 * delta, jnp.ones_like(z)

    def binary_terms(z: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The same in terms of the difference of the two logits, z[n]; p is the probability of class 1."""
        # Not abs: its derivative at 0 is 0, and Hessian-vector products need that of p there (w = 0 is stationary).
        e = jnp.exp(-jnp.where(z >= 0, z, -z))
        p = jnp.where(z >= 0, 1.0, e) / (1.0 + e)
        value = sum_log(1.0 + e, 2) + jnp.sum(jnp.maximum(z, 0.0) - target * z)
        return value, p - target, p

    def first(w: Float[Array, " N"], data: Any) -> Values:
        inputs, target = data
        rows = inputs.shape[1]
        w1, b2, w2 = split(w)
        if is_tanh:
            t = act(w1.T @ inputs)
            slope = 1.0 - t * t
        else:
            t, slope = jax.jvp(act, (a := w1.T @ inputs,), (jnp.ones_like(a),))
        if binary:
            u = w2[:, 1] - w2[:, 0]
            value, r, _ = binary_terms(u @ t + (b2[1] - b2[0]), target)
            gu, gb = t @ r / rows, jnp.sum(r) / rows
            back = slope * (r * (1.0 / rows))[None] * u[:, None]
            g2 = jnp.stack([-gu, gu], axis=1)
            gb2 = jnp.stack([-gb, gb])
        else:
            value, r, _ = output_terms(w2.T @ t + b2[:, None], target)
            r = r / rows
            g2, gb2 = t @ r.T, jnp.sum(r, axis=1)
            back = slope * (w2 @ r)
        g1 = inputs @ back.T
        gradient = jnp.concatenate([g1.ravel(), gb2, g2.ravel()])
        return Values(value / rows + lam * jnp.sum(w * w), gradient + 2.0 * lam * w)

    # Two classes: reduced variables (W1, u = W2[:,1] - W2[:,0], c = b2[1] - b2[0]) and their signs in w.
    where = np.concatenate(
        [np.arange(n_first), np.full(2, n_first + h), np.repeat(n_first + np.arange(h), 2)]
        if binary
        else [np.arange(size)]
    )
    sign = np.ones(size)
    if binary:
        sign[n_first::2] = -1.0

    def second(w: Float[Array, " N"], data: Any) -> Curved:
        inputs, target = data
        rows = inputs.shape[1]
        w1, b2, w2 = split(w)
        t, slope, bend = derivatives(w1.T @ inputs)  # [h, n]
        if binary:
            u = w2[:, 1] - w2[:, 0]
            value, r, p = binary_terms(u @ t + (b2[1] - b2[0]), target)
            r = r / rows
            features = jnp.concatenate(
                [
                    ((slope * u[:, None])[None] * inputs[:, None]).reshape(n_first, rows),
                    t,
                    jnp.ones((1, rows), w.dtype),
                ]
            )
            core = (features * (p * (1.0 - p) / rows)[None]) @ features.T
            g = features @ r
            pull = r[None] * u[:, None]  # dl/dt [h, n]
            couple = inputs @ (slope * r[None]).T  # [1 + d, h]
            cross = (couple[:, :, None] * jnp.eye(h, dtype=w.dtype)[None]).reshape(n_first, h)
            core = core.at[:n_first, n_first : n_first + h].add(cross)
            core = core.at[n_first : n_first + h, :n_first].add(cross.T)
        else:
            value, r, p = output_terms(w2.T @ t + b2[:, None], target)
            r = r / rows
            if loss == "cross_entropy":
                root = jnp.sqrt(p / rows)  # [c, n]
                direction = (jnp.eye(c, dtype=w.dtype)[:, :, None] - p[None]) * root[:, None]  # [a, c, n]
            else:
                scale = jnp.sqrt(jnp.asarray(2.0 / rows, w.dtype))
                direction = jnp.broadcast_to((jnp.eye(c, dtype=w.dtype) * scale)[:, :, None], (c, c, rows))
            hidden = slope[None] * jnp.einsum("jc,acn->ajn", w2, direction)  # [a, h, n]
            to_first = (inputs[:, None, None] * hidden[None]).transpose(0, 2, 1, 3).reshape(n_first, c * rows)
            to_bias = direction.transpose(1, 0, 2).reshape(c, c * rows)
            to_second = (t[:, None, None] * direction.transpose(1, 0, 2)[None]).reshape(h * c, c * rows)
            features = jnp.concatenate([to_first, to_bias, to_second])
            core = features @ features.T
            pull = w2 @ r
            g = jnp.concatenate([(inputs @ (slope * pull).T).ravel(), jnp.sum(r, axis=1), (t @ r.T).ravel()])
            couple = jnp.einsum("kn,jn,cn->kjc", inputs, slope, r)
            cross = (couple[:, :, None, :] * jnp.eye(h, dtype=w.dtype)[None, :, :, None]).reshape(n_first, h * c)
            core = core.at[:n_first, n_first + c :].add(cross)
            core = core.at[n_first + c :, :n_first].add(cross.T)
        pairs = (inputs[:, None] * inputs[None]).reshape(-1, rows)
        block = (pairs @ (bend * pull).T).reshape(1 + d, 1 + d, h)
        block = (
            (block[:, :, :, None] * jnp.eye(h, dtype=w.dtype)[None, None])
            .transpose(0, 2, 1, 3)
            .reshape(n_first, n_first)
        )
        core = core.at[:n_first, :n_first].add(block)
        signs = jnp.asarray(sign, w.dtype)
        if binary:
            core, g = core[where][:, where] * (signs[:, None] * signs[None]), g[where] * signs
        hess = core + 2.0 * lam * jnp.eye(size, dtype=w.dtype)
        return Curved(value / rows + lam * jnp.sum(w * w), g + 2.0 * lam * w, (hess + hess.T) / 2)

    def product(w: Float[Array, " N"], v: Float[Array, " N"], data: Any) -> Float[Array, " N"]:
        return jax.jvp(lambda u: first(u, data).gradient, (w,), (v,))[1]

    return first, second, product
