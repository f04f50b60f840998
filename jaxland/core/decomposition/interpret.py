"""Run a graph on decomposed values under a set of rules, control flow included.

A value is a plain array where it does not depend on the decomposed input, else a pytree of the rules' class
(``rules.stream``). Integers and booleans computed from decomposed values are plain arrays too: comparisons, indices
and loop conditions are those of the true, undivided value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core as jex
from jax.typing import ArrayLike

from jaxland.core.decomposition.graph import (
    BILINEAR,
    CONTROL,
    ELEMENTWISE,
    ROUTING,
    Graph,
    Op,
    Region,
    is_inexact,
    linear_operands,
    opened,
    schedule,
    trace,
)

# An array, or a pytree of the rules' class.
Value = Any
Apply = Callable[..., list[jax.Array]]


@runtime_checkable
class Rules(Protocol):
    """How one class of decomposed values passes through each class of operation."""

    @property
    def stream(self) -> type:
        """Class of decomposed values."""

    @property
    def eager(self) -> bool:
        """Whether activations are single operations (see ``graph.schedule``)."""

    def total(self, value: Value) -> jax.Array:
        """The true value."""

    def lift(self, array: jax.Array) -> Value:
        """A decomposed value that does not depend on the input."""

    def dense(self, value: Value) -> Value:
        """The same value with every part stored: one fixed structure for loop carries."""

    def shift(self, op: Op, values: list[Value]) -> list[Value]:
        """``add`` or ``sub`` of one decomposed and one plain operand."""

    def linear(self, apply: Apply, values: list[Value], op: Op) -> list[Value]:
        """``apply`` is linear in its arguments together."""

    def bilinear(self, apply: Apply, a: Value, b: Value) -> list[Value]:
        """``apply`` is linear in each argument."""

    def routing(self, apply: Apply, values: list[Value]) -> list[Value]:
        """``apply`` passes entries of its arguments on, chosen by their values."""

    def nonlinear(self, apply: Apply, values: list[Value], op: Op | Region, elementwise: bool) -> list[Value]:
        """Anything else. ``elementwise``: one argument, entry by entry."""

    def special(self, op: Op, values: list[Value]) -> list[Value] | None:
        """A rule that goes before all others, or None."""


def run(rules: Rules, closed: jex.ClosedJaxpr, args: Sequence[Value]) -> list[Value]:
    """Outputs of a closed jaxpr on decomposed values.

    Raises:
        UnsupportedPrimitive: an operation that cannot be decomposed, by name.
    """
    graph = trace(closed)
    env: dict[int, Value] = dict(graph.constants)
    env.update(zip(graph.inputs, args))
    dependent = [not is_plain(rules, a) for a in args]
    for step in schedule(graph, dependent, rules.eager):
        if isinstance(step, Region):
            outputs = _region(rules, step, graph, env)
        else:
            outputs = _operation(rules, step, graph, [env[i] for i in step.inputs])
        env.update(zip(step.outputs, outputs))
    return [env[o] for o in graph.outputs]


def is_plain(rules: Rules, value: Value) -> bool:
    """Whether a value is an ordinary array."""
    return not isinstance(value, rules.stream) and not hasattr(value, "mask")


def total_of(rules: Rules, value: Value) -> Any:
    """The true value of anything that can stand in the environment."""
    return value if is_plain(rules, value) else rules.total(value)


def _region(rules: Rules, region: Region, graph: Graph, env: dict[int, Value]) -> list[Value]:
    constants = {i: env[i] for i in region.constants}
    value = env[region.root]
    apply = region.function(constants)
    if is_plain(rules, value):
        return apply(value)
    return rules.nonlinear(apply, [value], region, region.elementwise(graph))


def _operation(rules: Rules, op: Op, graph: Graph, values: list[Value]) -> list[Value]:
    plain = [is_plain(rules, v) for v in values]
    if all(plain):
        return op.bind(*values)
    if op.name in CONTROL:
        return {"scan": _scan, "while": _while, "cond": _cond}[op.name](rules, op, values)
    special = rules.special(op, values)
    if special is not None:
        return special
    values = [v if isinstance(v, rules.stream) else total_of(rules, v) for v in values]
    if not any(isinstance(v, rules.stream) for v in values) or not any(graph.inexact(o) for o in op.outputs):
        return op.bind(*(total_of(rules, v) for v in values))
    if op.name in ("add", "sub") and not all(isinstance(v, rules.stream) for v in values):
        return rules.shift(op, values)
    streams = {i for i, v in zip(op.inputs, values) if isinstance(v, rules.stream)}
    positions = linear_operands(op, streams.__contains__, graph)
    if positions is not None:
        lifted = [v if isinstance(v, rules.stream) else rules.lift(v) for v in (values[k] for k in positions)]
        return rules.linear(_partial(op, values, positions), lifted, op)
    where = tuple(k for k, v in enumerate(values) if isinstance(v, rules.stream))
    if op.name in BILINEAR:
        return rules.bilinear(_partial(op, values, where), values[where[0]], values[where[1]])
    if op.name in ROUTING and (op.name not in ("max", "min") or len(where) == 2):
        where = tuple(k for k, v in enumerate(values) if is_inexact(total_of(rules, v)))
        lifted = [v if isinstance(v, rules.stream) else rules.lift(v) for v in (values[k] for k in where)]
        return rules.routing(_first_winner(op) or _partial(op, values, where), lifted)
    same = all(graph.avals[o].shape == total_of(rules, values[where[0]]).shape for o in op.outputs)
    elementwise = op.name in ELEMENTWISE and len(where) == 1 and same
    return rules.nonlinear(_partial(op, values, where), [values[k] for k in where], op, elementwise)


def _partial(op: Op, values: list[Value], positions: Sequence[int]) -> Apply:
    """``op`` as a function of the operands at ``positions``; the others stay as they are."""

    def apply(*given: ArrayLike) -> list[jax.Array]:
        full = list(values)
        for k, value in zip(positions, given):
            full[k] = value
        return op.bind(*full)

    return apply


def _first_winner(op: Op) -> Apply | None:
    """A maximum whose derivative goes to the first of equal entries, as that of a pooling window does."""
    if op.name in ("max", "min"):
        first = jnp.greater_equal if op.name == "max" else jnp.less_equal
        return lambda a, b: [jnp.where(first(a, b), a, b)]
    if op.name not in ("reduce_max", "reduce_min"):
        return None
    axes = tuple(sorted(op.params["axes"]))
    best = jnp.argmax if op.name == "reduce_max" else jnp.argmin

    def pick(x: ArrayLike) -> list[jax.Array]:
        x = jnp.asarray(x)
        rest = [d for d in range(x.ndim) if d not in axes]
        flat = jnp.transpose(x, (*rest, *axes)).reshape((*(x.shape[d] for d in rest), -1))
        return [jnp.take_along_axis(flat, best(flat, axis=-1, keepdims=True), axis=-1)[..., 0]]

    return pick


# -- control flow ------------------------------------------------------------------------------------------------


def _unify(rules: Rules, value: Value, as_stream: bool) -> Value:
    """One structure for a value that must have the same one on every pass or branch."""
    if not as_stream:
        return value
    return rules.dense(value if isinstance(value, rules.stream) else rules.lift(value))


def _streams(rules: Rules, values: Sequence[Value]) -> list[bool]:
    return [isinstance(v, rules.stream) for v in values]


def _settle(rules: Rules, carry: Sequence[Value], body: Callable[[list[Value]], list[Value]]) -> list[Value]:
    """Carry values lifted until one pass of ``body`` leaves the set of decomposed ones unchanged."""
    kinds = _streams(rules, carry)
    while True:
        carry = [_unify(rules, v, k) for v, k in zip(carry, kinds)]
        found: list[bool] = []

        def probe(c: list[Value], found: list[bool] = found) -> list[jax.Array]:
            out = body(c)
            found[:] = _streams(rules, out)
            return [total_of(rules, v) for v in out]

        jax.eval_shape(probe, carry)
        merged = [a or b for a, b in zip(kinds, found)]
        if merged == kinds:
            return list(carry)
        kinds = merged


def _scan_split(op: Op, values: list[Value]) -> tuple[list[Value], list[Value], list[Value]]:
    params = op.params
    if "num_consts" in params:
        n, m = params["num_consts"], params["num_consts"] + params["num_carry"]
        return values[:n], values[n:m], values[m:]
    consts, carry, xs = params["ft_in"].update(values).unpack()
    return list(consts), list(carry), list(xs)


def _scan(rules: Rules, op: Op, values: list[Value]) -> list[Value]:
    params = op.params
    consts, carry, xs = _scan_split(op, values)
    if params["length"] == 0:
        return op.bind(*(total_of(rules, v) for v in values))
    xs = [_unify(rules, x, isinstance(x, rules.stream)) for x in xs]
    first = [jax.tree.map(lambda a: a[0], x) for x in xs]
    n = len(carry)
    carry = _settle(rules, carry, lambda c: run(rules, params["jaxpr"], [*consts, *c, *first])[:n])
    kinds = _streams(rules, carry)

    def body(c: list[Value], x: list[Value]) -> tuple[list[Value], list[Value]]:
        out = run(rules, params["jaxpr"], [*consts, *c, *x])
        ys = [_unify(rules, y, isinstance(y, rules.stream)) for y in out[n:]]
        return [_cast(_unify(rules, v, k), old) for v, k, old in zip(out[:n], kinds, c)], ys

    carry, ys = lax.scan(body, carry, xs, length=params["length"], reverse=params["reverse"], unroll=params["unroll"])
    return [*carry, *ys]


def _cast(new: Value, old: Value) -> Value:
    """Weak types lost by the rules would otherwise change the type of a carry."""
    return jax.tree.map(lambda a, b: jnp.asarray(a, jnp.asarray(b).dtype), new, old)


def _while(rules: Rules, op: Op, values: list[Value]) -> list[Value]:
    params = op.params
    n, m = params["cond_nconsts"], params["body_nconsts"]
    cond_consts = [total_of(rules, v) for v in values[:n]]
    body_consts = values[n : n + m]
    test = jex.jaxpr_as_fun(params["cond_jaxpr"])
    carry = _settle(rules, values[n + m :], lambda c: run(rules, params["body_jaxpr"], [*body_consts, *c]))
    kinds = _streams(rules, carry)

    def goes_on(c: list[Value]) -> jax.Array:
        return test(*cond_consts, *(total_of(rules, v) for v in c))[0]

    def body(c: list[Value]) -> list[Value]:
        out = run(rules, params["body_jaxpr"], [*body_consts, *c])
        new = [_cast(_unify(rules, v, k), old) for v, k, old in zip(out, kinds, c)]
        going = goes_on(c)
        # ``vmap`` gives every example a condition of its own: those that are done stay as they are.
        return new if going.ndim == 0 else [_where(going, v, old) for v, old in zip(new, c)]

    return lax.while_loop(lambda c: jnp.any(goes_on(c)), body, carry)


def _where(going: jax.Array, new: Value, old: Value) -> Value:
    """``new`` where the examples in front go on."""

    def chosen(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(going.reshape(going.shape + (1,) * (a.ndim - going.ndim)), a, b)

    return jax.tree.map(chosen, new, old)


def _cond(rules: Rules, op: Op, values: list[Value]) -> list[Value]:
    index, *operands = values
    branches = op.params["branches"]
    kinds = [False] * len(opened(branches[0])[0].outvars)
    for branch in branches:
        found: list[bool] = []

        def probe(args: list[Value], branch: jex.ClosedJaxpr = branch, found: list[bool] = found) -> list[jax.Array]:
            out = run(rules, branch, args)
            found[:] = _streams(rules, out)
            return [total_of(rules, v) for v in out]

        jax.eval_shape(probe, operands)
        kinds = [a or b for a, b in zip(kinds, found)]

    def taken(branch: jex.ClosedJaxpr) -> Callable[[list[Value]], list[Value]]:
        return lambda args: [_unify(rules, v, k) for v, k in zip(run(rules, branch, args), kinds)]

    return lax.switch(total_of(rules, index), [taken(b) for b in branches], operands)
