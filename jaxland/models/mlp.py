"""Dense networks."""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.errors import ArgumentError
from jaxland.models.model import Model, PyTree

ACTIVATIONS: dict[str, Callable] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "sin": jnp.sin,
    "identity": lambda a: a,
}
ODD_ACTIVATIONS = frozenset({"tanh", "sin"})


def _init_mlp(sizes: Sequence[int], dtype: Any) -> Callable[[jax.Array], PyTree]:
    def init(key: jax.Array) -> PyTree:
        layers = []
        for k, (fan_in, fan_out) in zip(jax.random.split(key, len(sizes) - 1), itertools.pairwise(sizes)):
            scale = float(1.0 / np.sqrt(fan_in))
            layers.append(
                {
                    "w": scale * jax.random.normal(k, (fan_in, fan_out), dtype),
                    "b": jnp.zeros((fan_out,), dtype),
                }
            )
        return tuple(layers)

    return init


def mlp(
    sizes: Sequence[int],
    activation: str = "tanh",
    *,
    key: jax.Array | None = None,
    dtype: Any = None,
) -> Model:
    """Dense network: ``activation`` after every layer but the last, biases everywhere.

    Args:
        sizes: widths ``(inputs, hidden..., outputs)``, at least two.
        activation: one of tanh, relu, gelu, sigmoid, softplus, sin, identity.
        key: PRNG key of the initial parameters (default ``jax.random.key(0)``); weights are normal with standard
            deviation 1/sqrt(fan in), biases 0.
        dtype: of the parameters; default is JAX's default float (float64 inside ``jax.enable_x64()``).

    Returns:
        Model whose ``params`` is a tuple over layers of ``{"w": [in, out], "b": [out]}``.

    Raises:
        ArgumentError: fewer than two sizes, a size below 1, or an unknown activation.

    >>> model = mlp((2, 5, 3))
    >>> model(jnp.ones((7, 2))).shape
    (7, 3)
    """
    widths = tuple(sizes) if isinstance(sizes, Iterable) else ()
    if len(widths) < 2 or not all(isinstance(k, numbers.Integral) and k >= 1 for k in widths):
        raise ArgumentError(f"sizes must be at least two widths, whole numbers of at least 1, got {sizes!r}")
    widths = tuple(map(int, widths))
    if activation not in ACTIVATIONS:
        raise ArgumentError(f"activation {activation!r} is unknown; choose one of {', '.join(ACTIVATIONS)}")
    act = ACTIVATIONS[activation]

    def affine(x: jax.Array, layer: PyTree) -> jax.Array:
        out = x @ layer["w"]
        return out + jnp.broadcast_to(layer["b"], out.shape)

    def apply(params: PyTree, x: jax.Array) -> jax.Array:
        *hidden, last = params
        for layer in hidden:
            x = act(affine(x, layer))
        return affine(x, last)

    init = _init_mlp(widths, jnp.result_type(float) if dtype is None else dtype)
    name = "mlp " + "-".join(map(str, widths)) + f" {activation}"
    params = init(jax.random.key(0) if key is None else key)
    return Model(apply=apply, params=params, init=init, sizes=widths, activation=activation, name=name)


def hidden_units(model: Model, x: Any) -> jax.Array:
    """Activations [n, h] of the last hidden layer of a network made by ``mlp`` (or read from its file).

    Raises:
        ArgumentError: it has no hidden layer, or is no such network.
    """
    if model.sizes is None or model.activation is None or len(model.sizes) < 3:
        raise ArgumentError(f"{model.name} is no dense network with a hidden layer")
    below = mlp(model.sizes[:-1], model.activation)
    return ACTIVATIONS[model.activation](below.apply(model.params[:-1], x))
