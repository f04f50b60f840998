"""The game every method plays: groups of coefficients are players, switched between a baseline and the input.

    f'(s) = f(T^-1(s) + r),    r = x0 - T^-1(T(x0))   fixed at the explained input x0

With the residual r held fixed, switching every player on gives f(x0) also for a transform that loses something.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.trim.model import Adapted, Target
from jaxland.trim.transforms import Transform

# Bytes of intermediate values one call of the model may need; on a CPU, what its caches like.
MEMORY = 256 * 2**20
CPU_MEMORY = 64 * 2**20
# Up to so many numbers per input, every player's own share of x is stored, and coalitions are one matrix product.
MAX_SHARES = 2**16


class Rows(NamedTuple):
    """Some of the explained inputs, as arguments of jitted functions.

    Attributes:
        x: [b, *input]; s: coefficients [b, *coefficients]; base: baseline coefficients, of s's shape.
        rest: residual r [b, *input]; index: output to attribute [b].
    """

    x: Any
    s: Any
    base: Any
    rest: Any
    index: Any


@dataclass(frozen=True, eq=False)
class Game:
    """A model, a transform, inputs and baselines, ready to be attributed.

    Attributes:
        model, target, transform: what is explained.
        rows: all explained inputs.
        members: bool [K, *coefficients], which coefficients belong to each group.
        labels: name of every player; the residual is the last where it plays.
        residual_plays: whether r is a player of its own.
        chunk: most inputs given to the model at once.
        progress: called with (done, total) after every call of the model, or None.
    """

    model: Adapted
    target: Target
    transform: Transform
    rows: Rows
    members: np.ndarray
    labels: tuple[str, ...]
    residual_plays: bool
    chunk: int
    progress: Callable[[int, int], None] | None = None

    @property
    def n(self) -> int:
        """Number of explained inputs."""
        return int(self.rows.x.shape[0])

    @property
    def players(self) -> int:
        """Groups, and the residual where it plays."""
        return len(self.labels)

    @property
    def is_disjoint(self) -> bool:
        """Whether no coefficient belongs to two groups."""
        return bool((self.members.sum(0) <= 1).all())

    @property
    def rules(self) -> dict[str, Any]:
        """Static arguments of every jitted step."""
        return {"apply": self.model.apply, "select": self.target.select, "plays": self.residual_plays}

    def blocks(self, evaluations: int = 1) -> tuple[int, list[int]]:
        """(size, starts) of blocks of rows when each row needs that many evaluations at once."""
        most = max(1, min(self.n, self.chunk // max(evaluations, 1)))
        size = math.ceil(self.n / math.ceil(self.n / most))
        return size, list(range(0, self.n, size))

    def take(self, start: int, size: int) -> Rows:
        """Rows start..start+size, padded by repetition of the last: one shape for every block."""
        return jax.tree.map(lambda a: padded(a[start : start + size], size), self.rows)

    def report(self, done: int, total: int) -> None:
        """Tell the progress callback."""
        if self.progress is not None:
            self.progress(done, total)

    def outputs(self, masks: np.ndarray, *, raw: bool = False) -> np.ndarray:
        """f with players on or off: masks [n, M, P] (or [M, P], the same for every row) to [n, M], or raw outputs.

        Non-integer entries move a player part of the way.
        """
        masks = np.asarray(masks, np.dtype(self.rows.x.dtype))
        shared = masks.ndim == 2
        count = masks.shape[-2]
        step = min(count, self.chunk)
        size, starts = self.blocks(step)
        out = []
        for start in starts:
            rows = self.take(start, size)
            own = masks if shared else padded(masks[start : start + size], size)
            parts = []
            for first in range(0, count, step):
                some = padded(np.moveaxis(own[..., first : first + step, :], -2, 0), step)
                some = jnp.asarray(np.moveaxis(some, 0, -2))
                parts.append(np.asarray(self._evaluate(rows, some, raw))[:, : count - first])
            out.append(np.concatenate(parts, axis=1)[: self.n - start])
        return np.concatenate(out)

    def _evaluate(self, rows: Rows, masks: jax.Array, raw: bool) -> Any:
        rules = dict(self.rules)
        if raw:
            rules["select"] = _raw
        if self.model.traceable:
            return evaluate(
                self.model.params, self.transform, rows, self.members, masks, disjoint=self.is_disjoint, **rules
            )
        points = compose(self.transform, rows, self.members, masks, self.residual_plays, self.is_disjoint)
        return host_values(self, points, rows.index, rules["select"])


def _raw(outputs: Any, index: Any) -> Any:
    return outputs


def padded(a: Any, size: int) -> Any:
    """At least ``size`` rows: the last one repeated."""
    missing = size - a.shape[0]
    if missing <= 0:
        return a
    xp: Any = np if isinstance(a, np.ndarray) else jnp
    return xp.concatenate([a, xp.broadcast_to(a[-1:], (missing, *a.shape[1:]))])


# -- pure functions ------------------------------------------------------------------------------------------------


@jax.jit
def analyse(transform: Transform, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Coefficients, and what the inverse does not give back of x."""
    s = transform.forward(x)
    return s, x - transform.inverse(s)


@partial(jax.jit, static_argnums=2)
def raw_outputs(params: Any, x: jax.Array, apply: Any) -> Any:
    """The model, compiled once."""
    return apply(params, x)


def ends(transform: Transform, rows: Rows, members: Any, plays: bool) -> tuple[jax.Array, jax.Array]:
    """x with every player off, and on [b, *input]. Coefficients in no group stay on."""
    loose = ~jnp.any(jnp.asarray(members), axis=0)
    off = transform.inverse(jnp.where(loose, rows.s, rows.base))
    return (off if plays else off + rows.rest), rows.x


def shares(transform: Transform, rows: Rows, members: Any, plays: bool) -> jax.Array:
    """What each player adds to x, for an affine inverse: [b, P, *input]."""
    step = rows.s - rows.base
    flat = (step[:, None] * jnp.asarray(members)).reshape(-1, *step.shape[1:])
    zero = transform.inverse(jnp.zeros_like(step[:1]))
    own = (transform.inverse(flat) - zero).reshape(step.shape[0], -1, *rows.x.shape[1:])
    return jnp.concatenate([own, rows.rest[:, None]], axis=1) if plays else own


def by_coefficients(transform: Transform, rows: Rows, members: Any, masks: jax.Array, plays: bool) -> jax.Array:
    """Points x [b, M, *input] of coalitions: a coefficient is on where every group it belongs to is."""
    groups = members.shape[0]
    masks = jnp.broadcast_to(masks, (rows.x.shape[0], *masks.shape[-2:]))
    away = jnp.tensordot(1 - masks[..., :groups], jnp.asarray(members).astype(masks.dtype), 1)
    s = rows.s[:, None] - (rows.s - rows.base)[:, None] * jnp.minimum(away, 1)
    x = transform.inverse(s.reshape(-1, *s.shape[2:])).reshape(*masks.shape[:2], *rows.x.shape[1:])
    scale = masks[..., groups] if plays else jnp.ones(masks.shape[:2], masks.dtype)
    return x + scale.reshape(*scale.shape, *[1] * (rows.x.ndim - 1)) * rows.rest[:, None]


def points_of(
    transform: Transform, rows: Rows, members: Any, masks: jax.Array, plays: bool, disjoint: bool
) -> jax.Array:
    """Points x [b, M, *input] of coalitions masks [M, P] or [b, M, P]."""
    size = math.prod(rows.x.shape[1:])
    few = masks.shape[-2] < members.shape[0]
    if not (transform.is_affine and disjoint) or few or members.shape[0] * size > MAX_SHARES:
        return by_coefficients(transform, rows, members, masks, plays)
    off, _ = ends(transform, rows, members, plays)
    own = shares(transform, rows, members, plays).reshape(off.shape[0], -1, size)
    moved = jnp.einsum("mp,bpd->bmd" if masks.ndim == 2 else "bmp,bpd->bmd", masks.astype(own.dtype), own)
    return (off.reshape(-1, 1, size) + moved).reshape(*moved.shape[:2], *rows.x.shape[1:])


compose = jax.jit(points_of, static_argnums=(4, 5))


def values(params: Any, x: jax.Array, index: jax.Array, apply: Any, select: Any) -> jax.Array:
    """Selected outputs [n]."""
    return select(apply(params, x), index)


@partial(jax.jit, static_argnames=("apply", "select", "plays", "disjoint"))
def evaluate(
    params: Any,
    transform: Transform,
    rows: Rows,
    members: Any,
    masks: jax.Array,
    *,
    apply: Any,
    select: Any,
    plays: bool,
    disjoint: bool,
) -> jax.Array:
    """f at coalitions: [b, M], or [b, M, ...] for raw outputs."""
    points = points_of(transform, rows, members, masks, plays, disjoint)
    b, m = points.shape[:2]
    out = values(params, points.reshape(b * m, *points.shape[2:]), jnp.repeat(rows.index, m), apply, select)
    return out.reshape(b, m, *out.shape[1:])


def host_values(game: Game, points: Any, index: Any, select: Any) -> np.ndarray:
    """f of a black box at points [b, M, *input], on the host."""
    points = np.asarray(points)
    b, m = points.shape[:2]
    out = game.model.apply((), points.reshape(b * m, *points.shape[2:]))
    chosen = np.asarray(select(jnp.asarray(out), jnp.repeat(jnp.asarray(index), m)))
    return chosen.reshape(b, m, *chosen.shape[1:])


def rows_in_memory(model: Adapted, target: Target, x: Any, gradient: bool, asked: int | None) -> int:
    """Most inputs to give to the model at once: what was asked for, or what suits the device, within ``MEMORY``."""
    if not model.traceable:
        return asked or 4096
    leaves, tree = jax.tree.flatten(model.params)
    kinds = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    per_row = _bytes_per_row(model.apply, target.select, x.shape[1:], x.dtype, tree, kinds, gradient)
    most = max(1, MEMORY // per_row)
    suits = max(1, (CPU_MEMORY if jax.default_backend() == "cpu" else MEMORY) // per_row)
    return int(min(asked or suits, most))


@lru_cache(maxsize=256)
def _bytes_per_row(
    apply: Any, select: Any, shape: tuple[int, ...], dtype: Any, tree: Any, kinds: tuple[Any, ...], gradient: bool
) -> int:
    """Bytes of intermediate values one more input costs: two rows less one, so that parameters do not count."""

    def f(x: Any, params: Any, index: Any) -> Any:
        return values(params, x, index, apply, select)

    call = jax.grad(lambda x, p, i: jnp.sum(f(x, p, i).real)) if gradient else f
    params = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*kind) for kind in kinds])

    def bytes_of(rows: int) -> int:
        index = jax.ShapeDtypeStruct((rows,), np.int32)
        return _bytes(jax.make_jaxpr(call)(jax.ShapeDtypeStruct((rows, *shape), dtype), params, index))

    return max(bytes_of(2) - bytes_of(1), math.prod(shape) * dtype.itemsize, 1)


def _bytes(jaxpr: Any) -> int:
    """Bytes of every value a jaxpr computes: an upper bound of what lives at once."""
    from jax.extend import core as jex

    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    total = 0
    for eqn in jaxpr.eqns:
        total += sum(math.prod(v.aval.shape) * _itemsize(v.aval) for v in eqn.outvars if hasattr(v.aval, "shape"))
        total += max((_bytes(inner) for inner in jex.jaxprs_in_params(eqn.params)), default=0)
    return total


def _itemsize(aval: Any) -> int:
    return getattr(aval.dtype, "itemsize", 4)
