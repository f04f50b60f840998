"""The game every method plays: groups of coefficients are players, switched between a baseline and the input.

    f'(s) = f(T^-1(s) + r),    r = x0 - T^-1(T(x0))   fixed at the explained input x0

With the residual r held fixed, switching every player on gives f(x0) also for a transform that loses something. A
``Game`` is one pytree: the argument of every jitted step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxland.core.decomposition import split_affine
from jaxland.trim.model import Apply, Select, is_half
from jaxland.trim.transforms import Transform

# Up to so many numbers per input, every player's own share of x is stored, and coalitions are one matrix product.
MAX_SHARES = 2**16
# Directions of the input that derivatives of a model without a reverse mode follow in one pass.
DIRECTIONS = 16
# A point of the model's input: x where the inverse is affine, else (s, residual).
Point = jax.Array | tuple[jax.Array, jax.Array]
Place = TypeVar("Place", jax.Array, Point)
Scored = TypeVar("Scored", jax.Array, np.ndarray)
Arrays = jax.Array | np.ndarray
Parts = tuple[Callable[[jax.Array], jax.Array], Callable[[jax.Array], jax.Array]]


class Rows(NamedTuple):
    """Some of the explained inputs.

    Attributes:
        x: [b, *input]; s: coefficients [b, *coefficients]; base: baseline coefficients, of s's shape.
        rest: residual r [b, *input]; index: output to attribute [b].
    """

    x: jax.Array
    s: jax.Array
    base: jax.Array
    rest: jax.Array
    index: jax.Array  # type: ignore[assignment]


@partial(jax.tree_util.register_dataclass, data_fields=["params"], meta_fields=["apply", "select", "forwards"])
@dataclass(frozen=True, eq=False)
class Output:
    """One number per input, ``select(apply(params, x), index)``.

    Attributes:
        params: pytree of arrays.
        apply: the model, static; select: which of its outputs, static.
        forwards: static, whether gradients must be taken forwards: the model loops until a condition holds.
    """

    params: PyTree
    apply: Apply
    select: Select
    forwards: bool = False

    def __call__(self, x: jax.Array, index: jax.Array) -> jax.Array:
        """x [n, *input], index [n] to [n] (or to whatever ``select`` makes of the outputs), float32 at least."""
        return played(self.select(self.apply(self.params, x), index))

    def split(self, x: Arrays | jax.ShapeDtypeStruct, index: jax.Array) -> Parts | None:
        """(affine, rest): the model's affine beginning on x, and what follows; None where there is none."""
        return None if self.forwards else split_affine(lambda a: self(a, index), x)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["output", "transform", "rows", "members"],
    meta_fields=["residual_plays", "is_disjoint"],
)
@dataclass(frozen=True, eq=False)
class Game:
    """What is explained, as one pytree.

    Attributes:
        output: what the players make; None where only points are asked for (``without_model``).
        transform: T.
        rows: inputs and baselines.
        members: bool [K, *coefficients], which coefficients belong to each group.
        residual_plays: static, whether r is a player of its own (the last one).
        is_disjoint: static, whether no coefficient belongs to two groups.
    """

    output: Output | None
    transform: Transform
    rows: Rows
    members: Arrays
    residual_plays: bool
    is_disjoint: bool

    @property
    def players(self) -> int:
        """Groups, and the residual where it plays."""
        return len(self.members) + self.residual_plays

    def without_model(self) -> Game:
        """The same without the model."""
        return replace(self, output=None)

    def without_players(self) -> Game:
        """The same for steps that evaluate at points: other groups do not compile them again."""
        return replace(self, members=np.zeros(0, bool), residual_plays=False, is_disjoint=True)

    def value(self, x: jax.Array, index: jax.Array) -> jax.Array:
        """f of inputs x [n, *input], each at its own output index [n]."""
        assert self.output is not None
        return self.output(x, index)

    def at(self, point: Point) -> jax.Array:
        """The model's input x [b, *input] at a point."""
        return self.transform.inverse(point[0]) + point[1] if isinstance(point, tuple) else point

    def ends(self) -> tuple[jax.Array, jax.Array]:
        """x with every player off, and on [b, *input]. Coefficients in no group stay on."""
        loose = ~jnp.any(jnp.asarray(self.members), axis=0)
        off = self.transform.inverse(jnp.where(loose, self.rows.s, self.rows.base))
        return (off if self.residual_plays else off + self.rows.rest), self.rows.x

    def path(self) -> tuple[Point, Point]:
        """Both ends of the straight line from baseline to input, as points."""
        if self.transform.is_affine:
            return self.ends()
        rows = self.rows
        loose = ~jnp.any(jnp.asarray(self.members), axis=0)
        nothing = jnp.zeros_like(rows.rest) if self.residual_plays else rows.rest
        return (jnp.where(loose, rows.s, rows.base), nothing), (rows.s, rows.rest)

    def shares(self) -> jax.Array:
        """What each player adds to x, for an affine inverse: [b, P, *input]."""
        rows = self.rows
        step = rows.s - rows.base
        flat = (step[:, None] * jnp.asarray(self.members).astype(step.dtype)[None]).reshape(-1, *step.shape[1:])
        zero = self.transform.inverse(jnp.zeros_like(step[:1]))
        own = (self.transform.inverse(flat) - zero).reshape(step.shape[0], -1, *rows.x.shape[1:])
        return jnp.concatenate([own, rows.rest[:, None]], axis=1) if self.residual_plays else own

    def points(self, masks: jax.Array) -> jax.Array:
        """x [b, M, *input] of coalitions: masks [M, P] or [b, M, P], 1 where a player is on."""
        size = math.prod(self.rows.x.shape[1:])
        few = masks.shape[-2] < len(self.members)
        if not (self.transform.is_affine and self.is_disjoint) or few or len(self.members) * size > MAX_SHARES:
            return self._points_by_coefficients(masks)
        off, _ = self.ends()
        own = self.shares().reshape(off.shape[0], -1, size)
        moved = jnp.einsum("mp,bpd->bmd" if masks.ndim == 2 else "bmp,bpd->bmd", masks.astype(own.dtype), own)
        return (off.reshape(-1, 1, size) + moved).reshape(*moved.shape[:2], *self.rows.x.shape[1:])

    def _points_by_coefficients(self, masks: jax.Array) -> jax.Array:
        """The same: a coefficient is on where every group it belongs to is."""
        rows, groups = self.rows, len(self.members)
        masks = jnp.broadcast_to(masks, (rows.x.shape[0], *masks.shape[-2:]))
        away = jnp.tensordot(1 - masks[..., :groups], jnp.asarray(self.members).astype(masks.dtype), 1)
        s = rows.s[:, None] - (rows.s - rows.base)[:, None] * jnp.minimum(away, 1).astype(rows.s.dtype)
        x = self.transform.inverse(s.reshape(-1, *s.shape[2:])).reshape(*masks.shape[:2], *rows.x.shape[1:])
        scale = masks[..., groups] if self.residual_plays else jnp.ones(masks.shape[:2], masks.dtype)
        return x + scale.reshape(*scale.shape, *[1] * (rows.x.ndim - 1)) * rows.rest[:, None]

    def grouped(self, coefficients: jax.Array, residual: jax.Array) -> jax.Array:
        """Scores of coefficients [b, *coefficients] and of the residual [b], summed per player [b, P]."""
        members = jnp.asarray(self.members).reshape(len(self.members), -1).astype(coefficients.dtype)
        sums = jnp.matmul(flat(coefficients), members.T, precision=jax.lax.Precision.HIGHEST)
        return jnp.concatenate([sums, residual[:, None]], axis=1) if self.residual_plays else sums


def gradient_by_row(f: Callable[[Place], jax.Array], point: Place, *, forwards: bool) -> Place:
    """Gradient of every row's real f with respect to that row.

    Args:
        f: point to values [b]; a row's value depends on that row alone.
        point: where.
        forwards: follow the directions of a row one by one, ``DIRECTIONS`` at a time: what a loop until a condition
            holds allows; as many evaluations as a row has numbers.
    """
    if not forwards:
        return jax.grad(lambda p: jnp.sum(f(p)))(point)
    leaves, tree = jax.tree.flatten(point)

    def of_leaf(k: int) -> jax.Array:
        a = leaves[k]
        size = math.prod(a.shape[1:])

        def along(j: jax.Array, unit: complex) -> jax.Array:
            way = jnp.zeros((len(a), size), a.dtype).at[:, j].set(jnp.asarray(unit, a.dtype)).reshape(a.shape)
            ways = [way if i == k else jnp.zeros_like(b) for i, b in enumerate(leaves)]
            return jax.jvp(f, (point,), (jax.tree.unflatten(tree, ways),))[1]

        def all_along(unit: complex) -> jax.Array:
            found = jax.lax.map(partial(along, unit=unit), jnp.arange(size), batch_size=min(size, DIRECTIONS))
            return found.T.reshape(a.shape)

        # A gradient by complex numbers is d/dx - i d/dy.
        return all_along(1) - 1j * all_along(1j) if jnp.iscomplexobj(a) else all_along(1)

    return jax.tree.unflatten(tree, [of_leaf(k) for k in range(len(leaves))])


def played(value: Scored) -> Scored:
    """Outputs as numbers to subtract: half precision in single, whole numbers and truth values as floats."""
    if is_half(value.dtype) or not jnp.issubdtype(value.dtype, jnp.inexact):
        return value.astype(jnp.float32 if is_half(value.dtype) else jnp.result_type(float))
    return value


def flat(a: jax.Array) -> jax.Array:
    """[b, ...] to [b, d]."""
    return a.reshape(a.shape[0], -1)


def padded(a: Arrays, size: int) -> Arrays:
    """At least ``size`` rows: the last one repeated."""
    missing = size - a.shape[0]
    if missing <= 0:
        return a
    if isinstance(a, np.ndarray):
        return np.concatenate([a, np.broadcast_to(a[-1:], (missing, *a.shape[1:]))])
    return jnp.concatenate([a, jnp.broadcast_to(a[-1:], (missing, *a.shape[1:]))])


@jax.jit
def analyse(transform: Transform, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Coefficients, and what the inverse does not give back of x."""
    s = transform.forward(x)
    return s, x - transform.inverse(s)


@jax.jit
def points_of(game: Game, masks: jax.Array) -> jax.Array:
    """``game.points``, compiled: for models that JAX cannot trace."""
    return game.points(masks)


@jax.jit
def evaluate(game: Game, masks: jax.Array) -> jax.Array:
    """f at coalitions: [b, M], or [b, M, ...] for raw outputs."""
    points = game.points(masks)
    b, m = points.shape[:2]
    out = game.value(points.reshape(b * m, *points.shape[2:]), jnp.repeat(game.rows.index, m))
    return out.reshape(b, m, *out.shape[1:])
