"""Models: a pure ``apply(params, x)``, its parameters, and what is known of its symmetry.

``mlp`` builds one; ``from_nnx``, ``from_linen``, ``from_equinox`` and ``from_function`` adapt what exists.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxland.errors import ArgumentError, DataError, DependencyError, ProblemError, StoreError
from jaxland.runs import read_npz, write_npz

PyTree = Any
_KIND = "jaxland-mlp-1"

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


@dataclass(frozen=True, eq=False)
class Model:
    """A model as every system takes it.

    Attributes:
        apply: pure function ``apply(params, x[n, ...]) -> outputs[n, ...]``.
        params: one set of parameters (a pytree); gives shapes and dtypes.
        init: ``init(key) -> params`` or None where random initial parameters are not known.
        sizes: layer widths ``(inputs, hidden..., outputs)`` of a dense network, else None.
        activation: name of the activation of a dense network, else None.
        name: what to call it in reports.
    """

    apply: Callable[[PyTree, Any], jax.Array]
    params: PyTree
    init: Callable[[jax.Array], PyTree] | None = None
    sizes: tuple[int, ...] | None = None
    activation: str | None = None
    name: str = field(default="model")

    @property
    def n_params(self) -> int:
        """Number of parameters."""
        return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(self.params))

    def __call__(self, x: Any, params: PyTree | None = None) -> jax.Array:
        """Outputs [n, ...] of the model at its own, or the given, parameters."""
        return self.apply(self.params if params is None else params, x)


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
    widths = tuple(int(s) for s in sizes)
    if len(widths) < 2 or min(widths) < 1:
        raise ArgumentError(f"sizes must be at least two positive widths, got {tuple(sizes)}")
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
    return Model(apply, init(jax.random.key(0) if key is None else key), init, widths, activation, name)


def from_function(apply: Callable, params: PyTree, *, name: str = "model") -> Model:
    """Any pure ``apply(params, x) -> outputs`` with its parameters."""
    if not callable(apply):
        raise ProblemError(f"apply must be callable as apply(params, x), got {type(apply).__name__}")
    return Model(apply, params, name=name)


def from_nnx(module: Any) -> Model:
    """A Flax nnx module: its ``nnx.Param`` leaves are the parameters, all other state is held as it is now.

    Call ``module.eval()`` first: dropout and batch statistics in training mode make the loss a different function.
    """
    from flax import nnx

    graph, params, *rest = nnx.split(module, nnx.Param, ...)
    pure = nnx.to_pure_dict(params)

    def apply(p: PyTree, x: jax.Array) -> jax.Array:
        state, *fixed = jax.tree.map(lambda leaf: leaf, (params, *rest))
        nnx.replace_by_pure_dict(state, p)
        return nnx.merge(graph, state, *fixed)(x)

    return Model(apply, pure, name=type(module).__name__)


def from_linen(module: Any, variables: PyTree, **call: Any) -> Model:
    """A Flax linen module bound to ``variables``; every collection but ``params`` is held fixed.

    Args:
        module: the linen module.
        variables: what ``module.init`` returned.
        **call: keyword arguments of the call, such as ``train=False``.
    """
    if "params" not in variables:
        raise ProblemError(f"variables has no 'params' collection, only {sorted(variables)}")
    fixed = {k: v for k, v in variables.items() if k != "params"}

    def apply(p: PyTree, x: jax.Array) -> jax.Array:
        return module.apply({"params": p, **fixed}, x, **call)

    return Model(apply, variables["params"], name=type(module).__name__)


def from_equinox(module: Any) -> Model:
    """An Equinox module; called per example (vmapped), as Equinox layers expect."""
    try:
        import equinox as eqx
    except ImportError as error:
        raise DependencyError("Equinox is not installed: pip install 'jaxland[equinox]'") from error

    params, static = eqx.partition(eqx.nn.inference_mode(module), eqx.is_inexact_array)

    def apply(p: PyTree, x: jax.Array) -> jax.Array:
        return jax.vmap(eqx.combine(p, static))(x)

    return Model(apply, params, name=type(module).__name__)


def save(path: str | Path, model: Model, params: PyTree | None = None, **metadata: Any) -> Path:
    """Write a dense network (made by ``mlp``) and JSON-able metadata to an npz file, without pickle."""
    if model.sizes is None:
        raise ProblemError("only networks made by jaxland.mlp can be saved; save other models with their own library")
    flat, _ = ravel_pytree(model.params if params is None else params)
    head = {"sizes": model.sizes, "activation": model.activation, "metadata": metadata}
    return write_npz(path, _KIND, head, {"weights": flat})


def load(path: str | Path) -> tuple[Model, dict[str, Any]]:
    """Read what ``save`` wrote: the model with its parameters, and the metadata.

    Raises:
        DataError: the file is missing, not an npz of this format, damaged, or its weights do not fit its sizes.
    """
    if not Path(path).exists():
        raise DataError(f"model file {path} does not exist")
    try:
        head, arrays = read_npz(path, _KIND, sealed=False)
        weights = arrays["weights"]
        sizes, activation, metadata = head["sizes"], head["activation"], head["metadata"]
    except (StoreError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a model file written by jaxland ({error})") from error
    model = mlp(sizes, activation, dtype=jnp.asarray(weights).dtype)
    flat, unravel = ravel_pytree(model.params)
    if weights.shape != flat.shape:
        raise DataError(f"{path}: {weights.size} weights do not fit sizes {tuple(sizes)} ({flat.size})")
    if not np.isfinite(weights).all():
        raise DataError(f"{path}: weights are not all finite")
    params = unravel(jnp.asarray(weights, flat.dtype))
    return Model(model.apply, params, model.init, model.sizes, model.activation, model.name), metadata
