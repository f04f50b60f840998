"""Models of other libraries, as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxland.errors import DependencyError, ProblemError
from jaxland.models.model import Model, PyTree


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
        raise DependencyError.of("Equinox", "equinox") from error

    params, static = eqx.partition(eqx.nn.inference_mode(module), eqx.is_inexact_array)

    def apply(p: PyTree, x: jax.Array) -> jax.Array:
        return jax.vmap(eqx.combine(p, static))(x)

    return Model(apply, params, name=type(module).__name__)
