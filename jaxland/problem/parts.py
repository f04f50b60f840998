"""What a model, its data and a loss come to in a Problem: each part checked, and named as the Problem's field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxland.errors import ArgumentError
from jaxland.models.mlp import ODD_ACTIVATIONS
from jaxland.models.model import Model
from jaxland.problem import contracts
from jaxland.problem.losses import L2, PyTree, check_targets, checked_rows, named_loss
from jaxland.problem.symmetry import DenseSymmetry, NoSymmetry, Symmetry


class Parts(NamedTuple):
    """Fields of a ``Problem`` that follow from its model, data, loss and regulariser."""

    params: PyTree
    loss: Callable[[PyTree, Any, Any], jax.Array]
    x: PyTree
    y: PyTree
    regulariser: Callable[[PyTree], jax.Array] | None
    loss_name: str | None
    output_loss: Callable[[Any, Any], jax.Array]
    symmetry: Symmetry


def parts_of(
    model: Model,
    x: Any,
    y: Any,
    *,
    loss: str | Callable[[Any, Any], jax.Array],
    l2: float | str,
    regulariser: Callable[[PyTree], jax.Array] | None,
    params: PyTree | None,
) -> Parts:
    """See ``Problem.from_model``.

    Raises:
        ArgumentError, DataError, ProblemError: as there.
    """
    if isinstance(l2, str):
        raise ArgumentError(f'l2 must be a number or "auto", got {l2!r}')
    loss_name, per_output = named_loss(loss)
    contracts.check_weight(l2)
    if regulariser is not None and l2:
        raise ArgumentError("give either l2 or regulariser, not both")
    params = model.params if params is None else params
    contracts.check_parameters(params)
    if regulariser is not None:
        contracts.check_regulariser(regulariser, params)
    x, y = checked_rows(x, y)
    shapes = contracts.output_shapes(model, params, x)
    if loss_name is None:
        contracts.check_loss(per_output, model, params, x, y)
    else:
        y = check_targets(loss_name, y, shapes)

    def per_example(p: PyTree, xs: Any, ys: Any) -> jax.Array:
        return per_output(model.apply(p, xs), ys)

    symmetry: Symmetry = NoSymmetry()
    if model.sizes is not None and regulariser is None:
        symmetry = DenseSymmetry(model.sizes, odd=model.activation in ODD_ACTIVATIONS)
    return Parts(
        params=params,
        loss=per_example,
        x=x,
        y=y,
        regulariser=regulariser if regulariser is not None else (L2(float(l2)) if l2 else None),
        loss_name=loss_name,
        output_loss=per_output,
        symmetry=symmetry,
    )
