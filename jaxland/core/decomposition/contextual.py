"""Contextual decomposition of any JAX function (Murdoch, Liu & Yu 2018; Singh, Murdoch & Yu 2019, ACD).

Every value that depends on the input is split in three, ``beta + gamma + const = value``: what the relevant part of
the input contributes, what the rest contributes, and what is there without either. Stored are ``beta``, ``value`` and
``const``; gamma is the difference. Only ``beta`` depends on which part is called relevant, so decomposing one input
into many parts costs one evaluation of the function for all of them and about two per part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import PyTree

from jaxland.core.decomposition.graph import BILINEAR, ELEMENTWISE, PARTIAL_DOMAIN, SHAPE, Op, Region, is_inexact
from jaxland.core.decomposition.interpret import Apply, Value, run, total_of
from jaxland.errors import ArgumentError, DataError

Mode = Literal["shapley", "acd"]


@partial(jax.tree_util.register_dataclass, data_fields=["beta", "total", "const"], meta_fields=["mixed"])
@dataclass(frozen=True)
class Parts:
    """One decomposed value.

    Attributes:
        beta: contribution of the relevant part, of the value's shape.
        total: the value itself.
        const: what neither part contributes; None is zero.
        mixed: in mode "acd", whether this is the output of a dot or convolution whose bias is still to come.
    """

    beta: jax.Array
    total: jax.Array
    const: jax.Array | None = None
    mixed: bool = False

    @property
    def gamma(self) -> jax.Array:
        """Contribution of everything else."""
        rest = self.total - self.beta
        return rest if self.const is None else rest - self.const

    @property
    def floor(self) -> jax.Array:
        """``const``, zeros included."""
        return jnp.zeros_like(self.total) if self.const is None else self.const


@partial(jax.tree_util.register_dataclass, data_fields=["total", "mask", "const"], meta_fields=[])
@dataclass(frozen=True)
class Tokens:
    """Integers of which some are relevant; decomposed where they select rows or turn to floats.

    Attributes:
        total: the integers; mask: which are relevant.
        const: what stands in their place without either part (a baseline); None: nothing does.
    """

    total: jax.Array
    mask: jax.Array
    const: jax.Array | None = None


@dataclass(frozen=True)
class Contextual:
    """The rules of contextual decomposition; see ``decompose``."""

    mode: Mode = "shapley"
    stream: ClassVar[type] = Parts

    @property
    def eager(self) -> bool:
        """Mode "acd" treats activations one primitive at a time, as the published code does."""
        return self.mode == "acd"

    def total(self, value: Parts | Tokens) -> jax.Array:
        """The undivided value."""
        return value.total

    def lift(self, array: jax.Array) -> Parts:
        """A constant: no contribution from either part."""
        return Parts(jnp.zeros_like(array), jnp.asarray(array), jnp.asarray(array))

    def dense(self, value: Parts) -> Parts:
        """Everything stored; in mode "acd" the constant is shared out first."""
        value = self._settled(value)
        return Parts(jnp.broadcast_to(value.beta, value.total.shape), value.total, value.floor)

    def special(self, op: Op, values: list[Value]) -> list[Value] | None:
        """Relevant tokens selecting embedding rows or becoming numbers."""
        if not any(isinstance(v, Tokens) for v in values):
            return None
        totals = [total_of(self, v) for v in values]
        out = op.bind(*totals)
        tokens = [v for v in values if isinstance(v, Tokens)]
        base: list[Any] = [None] * len(out)
        if any(t.const is not None for t in tokens):
            floors = [v.const if isinstance(v, Tokens) and v.const is not None else t for v, t in zip(values, totals)]
            base = op.bind(*floors)

        def numbers(mask: jax.Array) -> list[Value]:
            own = out[0] if base[0] is None else out[0] - base[0]
            return [Parts(jnp.where(mask, own, 0), out[0], base[0])]

        if op.name == "gather" and isinstance(values[1], Tokens) and not isinstance(values[0], Parts):
            mask = jnp.all(values[1].mask, axis=-1)
            offset = op.params["dimension_numbers"].offset_dims
            batch = [d for d in range(out[0].ndim) if d not in offset]
            return numbers(jax.lax.broadcast_in_dim(mask, out[0].shape, batch))
        if any(isinstance(v, Parts) for v in values):
            return None
        if op.name in SHAPE or op.name in ("slice", "rev", "dynamic_slice"):
            mask = op.bind(*(v.mask if isinstance(v, Tokens) else v for v in values))[0]
        elif op.name in ELEMENTWISE:
            mask = jnp.broadcast_to(_all([t.mask for t in tokens]), out[0].shape)
        else:
            return None
        if is_inexact(out[0]):
            return numbers(mask) if op.name == "convert_element_type" else None
        return [Tokens(out[0], mask, base[0])]

    def shift(self, op: Op, values: list[Value]) -> list[Parts]:
        """A constant joins the constant part; a bias after a dot or convolution is shared out at once in "acd"."""
        total = op.bind(*(total_of(self, v) for v in values))[0]
        const = op.bind(*(v.floor if isinstance(v, Parts) else v for v in values))[0]
        part = next(v for v in values if isinstance(v, Parts))
        sign = -1 if op.name == "sub" and part is values[1] else 1
        beta = jnp.broadcast_to(sign * part.beta, total.shape)
        shifted = Parts(beta, total, jnp.broadcast_to(const, total.shape))
        return [self._settled(shifted) if part.mixed and op.name == "add" else shifted]

    def linear(self, apply: Apply, values: list[Parts], op: Op) -> list[Parts]:
        """Each part on its own; in "acd" the constant part is shared out before entries mix."""
        mixes = op.name in BILINEAR and op.name != "mul"
        keeps = len(values) == 1 and (op.name in SHAPE or op.name in ("mul", "div", "neg", "convert_element_type"))
        if not keeps:
            values = [self._settled(v) for v in values]
        mixed = self.eager and (mixes or (op.name in SHAPE and values[0].mixed))
        betas, totals = apply(*(v.beta for v in values)), apply(*(v.total for v in values))
        consts: list[Any] = [None] * len(totals)
        if any(v.const is not None for v in values):
            consts = apply(*(v.floor for v in values))
        return [Parts(b, t, c, mixed) for b, t, c in zip(betas, totals, consts)]

    def _settled(self, value: Parts) -> Parts:
        """ACD: the constant part goes to beta and gamma in proportion to their sizes, halves where both are zero."""
        if not self.eager or value.const is None:
            return value
        beta, gamma = jnp.abs(value.beta), jnp.abs(value.gamma)
        size = beta + gamma
        share = jnp.where(size > 0, beta / jnp.where(size > 0, size, 1), jnp.asarray(0.5, size.dtype))
        return Parts(value.beta + share.astype(value.const.dtype) * value.const, value.total)

    def bilinear(self, apply: Apply, a: Parts, b: Parts) -> list[Parts]:
        """Terms with one irrelevant factor go to gamma ("acd") or are halved ("shapley")."""
        a, b = self._settled(a), self._settled(b)
        totals = apply(a.total, b.total)
        consts: list[Any] = [None] * len(totals)
        if a.const is not None and b.const is not None:
            consts = apply(a.const, b.const)
        if self.eager:
            betas = apply(a.beta, b.beta)
        else:
            first = apply(a.beta, 0.5 * (b.total + b.beta + b.floor))
            second = apply(0.5 * (a.total - a.beta + a.floor), b.beta)
            betas = [p + q for p, q in zip(first, second)]
        return [Parts(p, t, c) for p, t, c in zip(betas, totals, consts)]

    def routing(self, apply: Apply, values: list[Parts]) -> list[Value]:
        """The winner at the true value takes its parts along: the Jacobian there, applied to each part."""
        values = [self._settled(v) for v in values]
        totals = [v.total for v in values]
        out = apply(*totals)
        floating = [k for k, o in enumerate(out) if is_inexact(o)]

        def routed(parts: list[jax.Array]) -> list[jax.Array]:
            return jax.jvp(lambda *a: [apply(*a)[k] for k in floating], tuple(totals), tuple(parts))[1]

        betas = routed([v.beta for v in values])
        consts: list[Any] = [None] * len(floating)
        if any(v.const is not None for v in values):
            consts = routed([v.floor for v in values])
        result: list[Value] = list(out)
        for k, b, c in zip(floating, betas, consts):
            result[k] = Parts(b, out[k], c)
        return result

    def nonlinear(self, apply: Apply, values: list[Parts], op: Op | Region, elementwise: bool) -> list[Value]:
        """beta' = 1/2 [g(b + c) - g(c) + g(value) - g(gamma + c)], const' = g(c); ReLU in "acd": relu(beta)."""
        single = isinstance(op, Op)
        if not single or op.name not in PARTIAL_DOMAIN:
            values = [self._settled(v) for v in values]
        if self.eager and isinstance(op, Op) and op.name in ("integer_pow", "square") and op.params.get("y", 2) == 2:
            return self.bilinear(lambda a, b: [a * b], values[0], values[0])
        total = apply(*(v.total for v in values))
        alone = apply(*(v.beta + v.floor for v in values))
        if self.eager and single and op.name == "max" and elementwise:
            return [Parts(b, t) for b, t in zip(alone, total)]
        const = apply(*(v.floor for v in values))
        others = apply(*(v.total - v.beta for v in values))
        self._check_domain(op.name, total, [*alone, *const, *others])
        return [
            Parts(0.5 * ((a - c) + (t - o)), t, c) if is_inexact(t) else t
            for a, c, t, o in zip(alone, const, total, others)
        ]

    def _check_domain(self, name: str, total: list[jax.Array], parts: list[jax.Array]) -> None:
        """Refuse parts outside a function's domain. Under ``jit`` nothing can be refused: they give NaN."""
        if any(isinstance(a, jax.core.Tracer) for a in (*total, *parts)):
            return
        if _finite(total) and not _finite(parts):
            cure = 'mode="shapley" takes activations as a whole' if self.eager else "explain what goes into it"
            raise DataError(
                f"the parts of a value lie outside the domain of {name}, which is finite at the value itself: {cure}"
            )


def _finite(arrays: list[jax.Array]) -> bool:
    return all(bool(jnp.isfinite(a).all()) for a in arrays if is_inexact(a))


class Decomposition(NamedTuple):
    """``beta + gamma + const`` is the output of the function, to rounding.

    Attributes:
        beta, gamma, const, total: each of the function's output shape, with a leading axis of parts where a stack of
            parts was given (``const`` and ``total`` have none: they do not depend on the part).
    """

    beta: PyTree
    gamma: PyTree
    const: PyTree
    total: PyTree


def _all(masks: list[jax.Array]) -> jax.Array:
    together = masks[0]
    for mask in masks[1:]:
        together = together & mask
    return together


def _begin(
    value: ArrayLike, relevant: ArrayLike | None, const: ArrayLike | None, name: str
) -> Parts | Tokens | ArrayLike:
    """The decomposed input for one leaf."""
    if relevant is None:
        return value
    value, relevant = jnp.asarray(value), jnp.asarray(relevant)
    if relevant.shape != value.shape:
        raise DataError(f"relevant{name} has shape {relevant.shape}, the input has {value.shape}: they must agree")
    if not is_inexact(value) and relevant.dtype != bool:
        raise DataError(f"the input{name} is of integers: say which are relevant by a mask of booleans")
    const = None if const is None else jnp.broadcast_to(jnp.asarray(const, value.dtype), value.shape)
    if not is_inexact(value):
        return Tokens(value, relevant, const)
    if relevant.dtype == bool:
        relevant = jnp.where(relevant, value if const is None else value - const, 0)
    return Parts(relevant.astype(value.dtype), value, const)


def decompose(
    f: Callable[[PyTree], PyTree], x: PyTree, relevant: PyTree, *, const: PyTree = None, mode: Mode = "shapley"
) -> Decomposition:
    """Split the output of any JAX function between a relevant part of its input and the rest.

    Args:
        f: pure function of one pytree, returning a pytree of arrays; traced, never changed. Anything built from
            first-order primitives, jit, checkpoint, custom derivatives, ``scan``, ``while`` and ``cond`` will do.
        x: input (pytree). Integer leaves (token ids) may be decomposed where they index a table or become floats.
        relevant: pytree like ``x``: per leaf the relevant part itself (floats, of the leaf's shape), a boolean mask
            of relevant entries, or None for a leaf that is not decomposed.
        const: pytree like ``x`` or None: the part of the input that belongs to neither (a baseline, a residual), so
            that ``x = relevant + rest + const``. None is zero.
        mode: "shapley" treats the two parts alike and carries biases in ``const``; "acd" follows the published code
            (bias shared in proportion, relu(beta) to beta, cross terms to gamma, ``const`` zero at the end).

    Returns:
        Decomposition; ``const`` in mode "shapley" is ``f(const)`` as long as no maximum is routed on the way.

    Raises:
        UnsupportedPrimitive: f uses an operation that cannot be decomposed, by name.
        DataError: shapes do not agree; a part lies outside a function's domain, by the primitive's name.

    In mode "shapley" (equations of Singh, Murdoch & Yu 2019, extended to three parts):

        linear W:        beta' = W beta                     const' = W const
        product a, b:    beta' = b_a b_b + b_a c_b + c_a b_b + 1/2 (b_a g_b + g_a b_b)
        max-pooling:     the winner at the true value takes its parts along
        otherwise:       beta' = 1/2 [g(b + c) - g(c) + g(b + g + c) - g(g + c)],  const' = g(c)
    """
    if mode not in ("shapley", "acd"):
        raise ArgumentError(f"mode must be 'shapley' or 'acd', got {mode!r}")
    leaves, tree = jax.tree.flatten(x)
    relevants = _matching(relevant, tree, "relevant")
    consts = [None] * len(leaves) if const is None else _matching(const, tree, "const")
    names = ["" if len(leaves) == 1 else f" (leaf {k})" for k in range(len(leaves))]
    args = [_begin(*a) for a in zip(leaves, relevants, consts, names)]
    closed, shape = jax.make_jaxpr(lambda *a: f(jax.tree.unflatten(tree, a)), return_shape=True)(*leaves)
    rules = Contextual(mode)
    outputs = [_end(rules, v) for v in run(rules, closed, args)]
    out = jax.tree.structure(shape)
    return Decomposition(
        *(
            jax.tree.unflatten(out, [getattr(v, part) for v in outputs])
            for part in ("beta", "gamma", "floor", "total")
        )
    )


def _matching(tree: Any, structure: Any, name: str) -> list[Value]:
    leaves, found = jax.tree.flatten(tree, is_leaf=lambda leaf: leaf is None)
    if len(leaves) != structure.num_leaves:
        raise DataError(f"{name} must have the structure of the input {structure}, got {found}")
    return leaves


def _end(rules: Contextual, value: Value) -> Parts:
    if isinstance(value, Parts):
        return rules._settled(value)
    total = jnp.asarray(total_of(rules, value))
    return Parts(jnp.zeros_like(total), total, total)


def decompose_parts(
    f: Callable[[PyTree], PyTree], x: PyTree, parts: PyTree, *, const: PyTree = None, mode: Mode = "shapley"
) -> Decomposition:
    """``decompose`` for a stack of parts: ``parts`` has a leading axis [K] per leaf, and so have beta and gamma.

    The value itself and its constant part are evaluated once for all parts.
    """

    def one(part: PyTree) -> tuple[tuple[PyTree, PyTree], tuple[PyTree, PyTree]]:
        d = decompose(f, x, part, const=const, mode=mode)
        return (d.beta, d.gamma), (d.const, d.total)

    (beta, gamma), (floor, total) = jax.vmap(one, out_axes=(0, None))(parts)
    return Decomposition(beta, gamma, floor, total)
