"""DeepLIFT, rescale rule (Shrikumar, Greenside & Kundaje 2017), of any JAX function.

``rescaled(f, reference)`` returns a function whose value is f's and whose reverse-mode gradient at x is the vector of
DeepLIFT multipliers between x and the reference. Entrywise non-linearities get the slope of their secant. What the
published rule leaves open is completed so that sum(multiplier * (x - reference)) = f(x) - f(reference): products
share their cross term equally, pooled maxima go to the winner, softmax and normalisations use their Jacobian averaged
along the straight line (Gauss-Legendre).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import PyTree

from jaxland.core.decomposition.graph import Op, Region, is_inexact
from jaxland.core.decomposition.interpret import Apply, Value, run, total_of
from jaxland.errors import DataError

NODES = 8


@partial(jax.tree_util.register_dataclass, data_fields=["value", "reference"], meta_fields=[])
@dataclass(frozen=True)
class Pair:
    """A value (through which the gradient flows) beside its value at the reference."""

    value: jax.Array
    reference: jax.Array

    @property
    def at(self) -> jax.Array:
        """The value, without gradient."""
        return lax.stop_gradient(self.value)

    @property
    def step(self) -> jax.Array:
        """Zero, with the gradient of the value."""
        return self.value - self.at


@dataclass(frozen=True)
class Rescale:
    """The rules of DeepLIFT."""

    stream: ClassVar[type] = Pair
    eager: ClassVar[bool] = False

    def total(self, value: Pair) -> jax.Array:
        """The value at x."""
        return value.at

    def lift(self, array: jax.Array) -> Pair:
        """The same at x and at the reference."""
        return Pair(jnp.asarray(array), jnp.asarray(array))

    def dense(self, value: Pair) -> Pair:
        """Already stored in full."""
        return value

    def special(self, op: Op, values: list[Value]) -> list[Value] | None:
        """None: every operation takes the general way."""
        return None

    def shift(self, op: Op, values: list[Value]) -> list[Pair]:
        """Both move."""
        ends = [[getattr(v, key) if isinstance(v, Pair) else v for v in values] for key in ("value", "reference")]
        return [Pair(op.bind(*ends[0])[0], op.bind(*ends[1])[0])]

    def linear(self, apply: Apply, values: list[Pair], op: Op) -> list[Pair]:
        """Both at once."""
        ends = apply(*(v.value for v in values)), apply(*(v.reference for v in values))
        return [Pair(v, r) for v, r in zip(*ends)]

    def bilinear(self, apply: Apply, a: Pair, b: Pair) -> list[Pair]:
        """Each factor's change times the other's mean."""
        first = apply(a.step, 0.5 * (b.at + b.reference))
        second = apply(0.5 * (a.at + a.reference), b.step)
        totals, references = apply(a.at, b.at), apply(a.reference, b.reference)
        return [Pair(t + p + q, r) for t, p, q, r in zip(totals, first, second, references)]

    def routing(self, apply: Apply, values: list[Pair]) -> list[Value]:
        """The change of a maximum goes to the winner at whichever end is higher, as a multiple of its own change."""
        ends = tuple(v.at for v in values), tuple(v.reference for v in values)
        steps, changes = tuple(v.step for v in values), tuple(v.at - v.reference for v in values)
        outs = [apply(*e) for e in ends]
        floating = [k for k, o in enumerate(outs[0]) if is_inexact(o)]

        def routed(k: int, end: int, moved: tuple[jax.Array, ...]) -> jax.Array:
            return jax.jvp(lambda *a: apply(*a)[k], ends[end], moved)[1]

        result: list[Value] = list(outs[0])
        for k in floating:
            change = outs[0][k] - outs[1][k]
            terms = []
            for end in (0, 1):
                own = routed(k, end, changes)
                slope = jnp.where(jnp.abs(own) > _tiny(own), change / jnp.where(own == 0, 1, own), 0)
                terms.append(slope * routed(k, end, steps))
            at_value = jnp.abs(routed(k, 0, changes)) > _tiny(change)
            use = jnp.where((change >= 0) & at_value, terms[0], terms[1])
            result[k] = Pair(outs[0][k] + use, outs[1][k])
        return result

    def nonlinear(self, apply: Apply, values: list[Pair], op: Op | Region, elementwise: bool) -> list[Value]:
        """Slope of the secant entry by entry, the derivative where the ends meet; else the mean Jacobian."""
        ends = tuple(v.at for v in values), tuple(v.reference for v in values)
        steps, changes = tuple(v.step for v in values), tuple(v.at - v.reference for v in values)
        totals, references = apply(*ends[0]), apply(*ends[1])
        floating = [k for k, o in enumerate(totals) if is_inexact(o)]
        result: list[Value] = list(totals)

        def moved(at: tuple[jax.Array, ...], by: tuple[jax.Array, ...]) -> list[jax.Array]:
            return jax.jvp(lambda *a: [apply(*a)[k] for k in floating], at, by)[1]

        if elementwise:
            slopes = moved(ends[0], (jnp.ones_like(changes[0]),))
            flat = jnp.abs(changes[0]) <= _tiny(changes[0])
            for k, slope in zip(floating, slopes):
                # A modulus is real and its argument complex: so is the secant.
                kind = np.promote_types(totals[k].dtype, changes[0].dtype)
                secant = (totals[k] - references[k]).astype(kind) / jnp.where(flat, 1, changes[0]).astype(kind)
                m = lax.stop_gradient(jnp.where(flat, slope.astype(kind), secant))
                result[k] = Pair(totals[k].astype(kind) + m * steps[0].astype(kind), references[k])
            return result
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        parts = [
            [0.5 * w * o for o in moved(tuple(r + (t + 1) / 2 * c for r, c in zip(ends[1], changes)), steps)]
            for t, w in zip(nodes.tolist(), weights.tolist())
        ]
        for k, terms in zip(floating, zip(*parts)):
            result[k] = Pair(totals[k] + sum(terms[1:], terms[0]), references[k])
        return result


def _tiny(like: jax.Array) -> float:
    return 1e-10 if jnp.finfo(like.dtype).bits == 64 else 1e-7


def rescaled(f: Callable[[PyTree], PyTree], x: PyTree, reference: PyTree) -> PyTree:
    """f(x), whose reverse-mode gradient with respect to x is DeepLIFT's multipliers.

    Args:
        f: pure function of one pytree, returning an array.
        x: input; differentiate with respect to it.
        reference: baseline of the same structure and shapes.

    Raises:
        UnsupportedPrimitive: f uses an operation that cannot be decomposed, by name.
    """
    leaves, tree = jax.tree.flatten(x)
    ends = jax.tree.leaves(reference)
    if [jnp.shape(a) for a in leaves] != [jnp.shape(a) for a in ends]:
        raise DataError("reference must have the structure and shapes of the input")
    closed = jax.make_jaxpr(lambda *a: f(jax.tree.unflatten(tree, a)))(*leaves)
    rules = Rescale()
    args = [Pair(a, lax.stop_gradient(jnp.asarray(r, jnp.asarray(a).dtype))) for a, r in zip(leaves, ends)]
    out = run(rules, closed, args)
    values = [v.value if isinstance(v, Pair) else total_of(rules, v) for v in out]
    return values[0] if len(values) == 1 else values
