"""A traced function as a flat list of operations, grouped so that each local non-linearity is one step.

``trace`` inlines every call (jit, checkpoint, custom derivatives) and numbers the values. ``schedule`` finds the
*regions* of a graph: maximal chains of local operations (elementwise, reductions, broadcasts, reshapes) of one
single value. An activation function is such a region, and so are softmax, log-softmax, layer norm and RMS norm,
however they are written. A region is evaluated as one function, at real values of its one argument: the parts of a
softmax on their own (an exponential, then a quotient of two decomposed values) would leave their domains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core as jex
from jax.typing import ArrayLike

from jaxland.errors import ProblemError


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


CALLS = _names(
    "jit pjit closed_call core_call call remat remat2 checkpoint custom_jvp_call custom_vjp_call "
    "custom_vjp_call_jaxpr custom_jvp_call_jaxpr custom_vmap_call"
)
CONTROL = frozenset({"scan", "while", "cond"})

# Linear in all operands together.
LINEAR = _names(
    "add sub add_any neg reshape squeeze expand_dims broadcast_in_dim transpose rev copy copy_p reduce_sum cumsum "
    "real imag conj complex fft concatenate pad slice split stop_gradient device_put sharding_constraint "
    "layout_constraint optimization_barrier name reduce_window_sum reshard pvary convert_element_type"
)
# Linear in these operands once the others are fixed.
PARTLY_LINEAR: dict[str, Callable[[int], tuple[int, ...]]] = {
    "select_n": lambda n: tuple(range(1, n)),
    "gather": lambda n: (0,),
    "dynamic_slice": lambda n: (0,),
    "dynamic_update_slice": lambda n: (0, 1),
    "scatter": lambda n: (0, 2),
    "scatter-add": lambda n: (0, 2),
    "scatter_add": lambda n: (0, 2),
    "select_and_scatter_add": lambda n: (0,),
    "select_and_gather_add": lambda n: (0,),
    "triangular_solve": lambda n: (1,),
    "div": lambda n: (0,),
    "custom_linear_solve": lambda n: (n - 1,),
}
BILINEAR = _names("mul dot_general conv_general_dilated ragged_dot ragged_dot_general")
# Piecewise linear, routing one operand entry to each output entry.
ROUTING = _names("max min reduce_max reduce_min reduce_window_max reduce_window_min cummax cummin sort top_k")

ELEMENTWISE = _names(
    "add sub mul div neg max min exp exp2 log log1p expm1 tanh logistic erf erfc erf_inv sin cos tan asin acos "
    "atan sinh cosh asinh acosh atanh sqrt rsqrt cbrt square integer_pow pow abs sign floor ceil round clamp "
    "select_n eq ne lt le gt ge and or not xor is_finite convert_element_type stop_gradient nextafter rem atan2 "
    "lgamma digamma polygamma bessel_i0e bessel_i1e igamma igammac copy reduce_precision name add_any"
)
SHAPE = _names("broadcast_in_dim reshape squeeze expand_dims transpose")
REDUCTION = _names("reduce_sum reduce_prod")
PARTIAL_DOMAIN = _names("div rsqrt sqrt log pow cbrt")

# First-order primitives that carry a jaxpr describing a monoid.
_MONOIDS = _names(
    "scatter scatter-add scatter_add scatter-mul scatter_mul scatter-min scatter_min scatter-max scatter_max "
    "reduce reduce_window select_and_scatter select_and_gather_add custom_linear_solve"
)
_STATEFUL = _names("get swap addupdate run_state infeed outfeed io_callback")


class UnsupportedPrimitive(ProblemError):
    """The function contains an operation that cannot be decomposed; the message names it."""


@dataclass(frozen=True, eq=False)
class Op:
    """One first-order or control-flow operation; ``inputs`` and ``outputs`` are value numbers of its graph."""

    primitive: jex.Primitive
    params: dict[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of the primitive."""
        return self.primitive.name

    def bind(self, *values: ArrayLike) -> list[jax.Array]:
        """Evaluate on arrays; always a list."""
        bound = self.primitive.get_bind_params(self.params)
        functions, params = bound if isinstance(bound, tuple) else ((), bound)
        out = self.primitive.bind(*functions, *values, **params)
        return list(out) if self.primitive.multiple_results else [out]


@dataclass(frozen=True, eq=False)
class Region:
    """Local operations on one value ``root``, evaluated as one function with several outputs."""

    root: int
    ops: tuple[Op, ...]
    outputs: tuple[int, ...]

    @property
    def name(self) -> str:
        """Names of its operations."""
        return ", ".join(dict.fromkeys(op.name for op in self.ops))

    @property
    def constants(self) -> tuple[int, ...]:
        """Values from outside the region other than the root."""
        inside = {self.root} | {o for op in self.ops for o in op.outputs}
        return tuple(dict.fromkeys(i for op in self.ops for i in op.inputs if i not in inside))

    def function(self, constants: dict[int, ArrayLike]) -> Callable[[ArrayLike], list[jax.Array]]:
        """The region as ``root value -> output values``."""

        def apply(value: ArrayLike) -> list[jax.Array]:
            env: dict[int, Any] = {**constants, self.root: value}
            for op in self.ops:
                env.update(zip(op.outputs, op.bind(*(env[i] for i in op.inputs))))
            return [env[o] for o in self.outputs]

        return apply

    def elementwise(self, graph: Graph) -> bool:
        """Whether each output entry depends on the root entry at the same place only."""
        shape = graph.avals[self.root].shape
        return all(op.name in ELEMENTWISE for op in self.ops) and all(
            graph.avals[o].shape == shape for o in self.outputs
        )


Step = Op | Region


@dataclass(frozen=True, eq=False)
class Graph:
    """A function without calls: operations in order, numbered values, constants by number."""

    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: dict[int, ArrayLike]
    avals: dict[int, Any]

    def inexact(self, i: int) -> bool:
        """Whether value ``i`` is real or complex (and not an integer, a boolean or a key)."""
        return is_inexact(self.avals[i])


def is_inexact(value: ArrayLike | jax.core.AbstractValue) -> bool:
    """Whether an array or abstract value is floating point or complex."""
    dtype = getattr(value, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)


def opened(jaxpr: jex.Jaxpr | jex.ClosedJaxpr) -> tuple[jex.Jaxpr, list[ArrayLike]]:
    """(jaxpr, constants) of a jaxpr, closed or not; one class from JAX 0.11 on, two before."""
    plain: Any = getattr(jaxpr, "jaxpr", jaxpr)
    return plain, list(getattr(jaxpr, "consts", ()))


def _inner(op: jex.JaxprEqn) -> jex.Jaxpr | jex.ClosedJaxpr | None:
    """The jaxpr a call primitive runs, or None for any other primitive."""
    if op.primitive.name not in CALLS:
        return None
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr", "call"):
        if key in op.params:
            return op.params[key]
    raise UnsupportedPrimitive(
        f"call primitive {op.primitive.name!r} has none of the parameters that hold its function"
    )


def trace(closed: jex.ClosedJaxpr, inline: bool = True) -> Graph:
    """Flatten a closed jaxpr: calls are inlined (unless ``inline`` is false), every value gets a number.

    Raises:
        UnsupportedPrimitive: a higher-order primitive other than a call, scan, while or cond; a stateful primitive.
    """
    ops: list[Op] = []
    constants: dict[int, ArrayLike] = {}
    avals: dict[int, Any] = {}

    def number(aval: jax.core.AbstractValue) -> int:
        avals[len(avals)] = aval
        return len(avals) - 1

    def constant(value: ArrayLike, aval: jax.core.AbstractValue) -> int:
        i = number(aval)
        constants[i] = value
        return i

    def flatten(jaxpr: jex.Jaxpr, consts: Sequence[ArrayLike], args: Sequence[int]) -> list[int]:
        env: dict[jex.Var, int] = dict(zip(jaxpr.invars, args))
        env.update((v, constant(c, v.aval)) for v, c in zip(jaxpr.constvars, consts))

        def read(atom: jex.Literal | jex.Var) -> int:
            return constant(atom.val, atom.aval) if isinstance(atom, jex.Literal) else env[atom]

        for eqn in jaxpr.eqns:
            inputs = tuple(read(a) for a in eqn.invars)
            inner = _inner(eqn) if inline else None
            if inner is not None:
                outputs = flatten(*opened(inner), inputs)
            else:
                if inline:
                    _check_supported(eqn)
                outputs = [number(v.aval) for v in eqn.outvars]
                ops.append(Op(eqn.primitive, eqn.params, inputs, tuple(outputs)))
            env.update(zip(eqn.outvars, outputs))
        return [read(a) for a in jaxpr.outvars]

    jaxpr, consts = opened(closed)
    inputs = [number(v.aval) for v in jaxpr.invars]
    outputs = flatten(jaxpr, consts, inputs)
    return Graph(tuple(ops), tuple(inputs), tuple(outputs), constants, avals)


def _check_supported(eqn: jex.JaxprEqn) -> None:
    name = eqn.primitive.name
    if name in CONTROL or name in _MONOIDS:
        return
    if name in _STATEFUL or next(iter(jex.jaxprs_in_params(eqn.params)), None) is not None:
        raise UnsupportedPrimitive(
            f"the function uses the primitive {name!r}, which cannot be decomposed; supported control flow is jit, "
            "checkpoint, custom_jvp, custom_vjp, scan, while and cond. Rewrite that part or use a perturbation method"
        )


def linear_operands(op: Op, dependent: Callable[[int], bool], graph: Graph) -> tuple[int, ...] | None:
    """Positions of the operands in which ``op`` is linear, if every dependent operand is among them, else None."""
    if not all(graph.inexact(o) for o in op.outputs):
        return None
    n = len(op.inputs)
    where = [k for k, i in enumerate(op.inputs) if dependent(i)]
    if op.name in LINEAR:
        positions = tuple(k for k in range(n) if graph.inexact(op.inputs[k]))
    elif op.name in PARTLY_LINEAR:
        positions = PARTLY_LINEAR[op.name](n)
    elif op.name in BILINEAR and len(where) == 1:
        positions = (where[0],)
    else:
        return None
    return positions if set(where) <= set(positions) else None


def _is_shift(op: Op, consumers: dict[int, list[Op]]) -> bool:
    """Whether a running maximum only serves to be subtracted, as in every stable softmax."""
    pending, seen = [op.outputs[0]], set()
    while pending:
        i = pending.pop()
        for user in consumers.get(i, ()):
            if user.name in ("stop_gradient", "sub"):
                return True
            if user.name in SHAPE | {"max", "is_finite", "select_n", "convert_element_type"} and user not in seen:
                seen.add(user)
                pending.extend(user.outputs)
    return False


def schedule(graph: Graph, dependent_inputs: Sequence[bool], eager: bool = False) -> list[Step]:
    """Steps in an order in which they can run, constants first.

    Args:
        graph: what to schedule.
        dependent_inputs: which inputs carry a decomposition.
        eager: keep activations as single operations; only normalisations (softmax, layer norm) become regions.
    """
    dependent = {i for i, d in zip(graph.inputs, dependent_inputs) if d}
    consumers: dict[int, list[Op]] = {}
    for op in graph.ops:
        for i in op.inputs:
            consumers.setdefault(i, []).append(op)
    root: dict[int, int] = {}
    members: dict[int, list[Op]] = {}
    before: list[Step] = []
    after: list[Op] = []
    for op in graph.ops:
        roots = {root.get(i, i) for i in op.inputs if i in dependent}
        if not roots:
            before.append(op)
            continue
        dependent.update(op.outputs)
        after.append(op)
        local = op.name in ELEMENTWISE or op.name in SHAPE or op.name in REDUCTION
        local = local or (op.name in ("reduce_max", "reduce_min") and _is_shift(op, consumers))
        if local and len(roots) == 1 and graph.inexact(r := roots.pop()):
            root.update(dict.fromkeys(op.outputs, r))
            members.setdefault(r, []).append(op)
    regions = {r: ops for r, ops in members.items() if _worth_fusing(ops, dependent.__contains__, graph, eager)}
    return before + _in_order(after, regions, graph, consumers)


def _worth_fusing(ops: list[Op], dependent: Callable[[int], bool], graph: Graph, eager: bool) -> bool:
    nonlinear = [op for op in ops if linear_operands(op, dependent, graph) is None]
    if not eager:
        return bool(nonlinear)
    return any(op.name in REDUCTION for op in ops) and any(op.name in PARTIAL_DOMAIN for op in nonlinear)


def _in_order(
    after: list[Op], regions: dict[int, list[Op]], graph: Graph, consumers: dict[int, list[Op]]
) -> list[Step]:
    """The dependent steps in topological order; a region takes the place of its operations."""
    inside = {op: r for r, ops in regions.items() for op in ops}
    built: dict[int, Region] = {}
    for r, ops in regions.items():
        made = [o for op in ops for o in op.outputs]
        kept = tuple(
            o for o in made if o in graph.outputs or any(inside.get(user) != r for user in consumers.get(o, ()))
        )
        if kept:
            built[r] = Region(r, tuple(ops), kept)
    placed: list[Step | None] = [built.get(inside[op]) if op in inside else op for op in after]
    steps: list[Step] = [s for s in dict.fromkeys(placed) if s is not None]
    made_by = {o: s for s in steps for o in s.outputs}
    done: set[Step] = set()
    order: list[Step] = []

    def needs(step: Step) -> Iterator[Step]:
        inputs = step.inputs if isinstance(step, Op) else (step.root, *step.constants)
        return (made_by[i] for i in inputs if i in made_by)

    for start in steps:
        stack = [start]
        while stack:
            step = stack[-1]
            missing = [s for s in needs(step) if s not in done]
            if step in done or not missing:
                stack.pop()
                if step not in done:
                    done.add(step)
                    order.append(step)
            else:
                stack.extend(missing)
    return order
