"""Model: a pure ``apply(params, x)``, its parameters, and what is known of its symmetry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from jaxland.showing import brief, table

PyTree = Any


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

    __repr__ = brief
    _repr_html_ = table

    def __reduce__(self) -> tuple[Any, ...]:
        # Closures do not pickle; a dense network is known by its sizes.
        params = jax.tree.map(np.asarray, self.params)
        if self.sizes is not None:
            return _dense, (self.sizes, self.activation, params, self.name)
        return Model, (self.apply, params, self.init, None, self.activation, self.name)

    @property
    def n_params(self) -> int:
        """Number of parameters."""
        return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(self.params))

    def __call__(self, x: Any, params: PyTree | None = None) -> jax.Array:
        """Outputs [n, ...] of the model at its own, or the given, parameters."""
        return self.apply(self.params if params is None else params, x)


def _dense(sizes: tuple[int, ...], activation: str, params: PyTree, name: str) -> Model:
    """A dense network from what was pickled; parameters stay NumPy arrays, which keep their precision."""
    from jaxland.models.mlp import mlp

    return replace(mlp(sizes, activation), params=params, name=name)
