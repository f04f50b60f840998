"""The affine beginning of a function: f = rest(affine(x)), so that what is linear is done once, not at every node.

Path integrals and coalitions evaluate f at many combinations of few inputs. A first dense layer or convolution maps
combinations to combinations: it needs to see the few inputs only, and its transpose the one summed gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxland.core.decomposition.graph import Graph, Op, linear_operands, trace

Split = tuple[Callable[[ArrayLike], jax.Array], Callable[[ArrayLike], jax.Array]]
GROWTH = 20


def split_affine(f: Callable[[jax.Array], jax.Array], x: ArrayLike | jax.ShapeDtypeStruct) -> Split | None:
    """(affine, rest) with f(x) = rest(affine(x)), or None where f does not begin with one affine map of its own.

    Args:
        f: function of one array [n, ...] that treats rows independently, traced at x's shape.
        x: array or abstract value.

    Returns:
        affine: x -> z [n, ...], at most ``GROWTH`` times as large as x; rest: z -> f(x).
    """
    graph = trace(jax.make_jaxpr(f)(x), inline=False)
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return None
    start = graph.inputs[0]
    affine, dependent = {start}, {start}
    for op in graph.ops:
        used = [i for i in op.inputs if i in dependent]
        if not used:
            continue
        dependent.update(op.outputs)
        if affine.issuperset(used) and linear_operands(op, dependent.__contains__, graph) is not None:
            affine.update(op.outputs)
    late = [op for op in graph.ops if dependent.intersection(op.outputs) and not affine.issuperset(op.outputs)]
    boundary = {i for op in late for i in op.inputs if i in affine} | (affine & set(graph.outputs))
    if len(boundary) != 1:
        return None
    (middle,) = boundary
    before, after = graph.avals[start], graph.avals[middle]
    per_row = [int(np.prod(a.shape[1:])) if a.shape else 0 for a in (before, after)]
    if middle == start or not after.shape or after.shape[0] != before.shape[0] or per_row[1] > GROWTH * per_row[0]:
        return None
    first = [op for op in graph.ops if op not in late]
    rest = [op for op in graph.ops if not dependent.intersection(op.outputs) or op in late]
    return _function(graph, first, start, middle), _function(graph, rest, middle, graph.outputs[0])


def _function(graph: Graph, ops: list[Op], start: int, end: int) -> Callable[[ArrayLike], jax.Array]:
    def apply(value: ArrayLike) -> jax.Array:
        env: dict[int, Any] = {**graph.constants, start: value}
        for op in ops:
            if all(i in env for i in op.inputs):
                env.update(zip(op.outputs, op.bind(*(env[i] for i in op.inputs))))
        return env[end]

    return apply
