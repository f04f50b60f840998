"""Extreme eigenpairs of a symmetric matrix of very high order, within a fixed number of stored vectors.

Thick-restart Lanczos (Wu & Simon, SIAM J. Matrix Anal. Appl. 22, 2000) with full reorthogonalisation in two passes,
for both ends of the spectrum at once. The basis may lie in columns over the devices of a mesh, and it may be stored
in a shorter format: a vector rounded to bfloat16 is off by 1e-3 of its length, but in nearly random directions, so
that inner products with other vectors are off by 1e-3 / sqrt(N) only: the basis stays semiorthogonal (Simon, Math.
Comp. 42, 1984) and the projected matrix accurate, while Ritz vectors carry the rounding. ``correct`` removes it: a
Rayleigh-Ritz step on vectors and their residuals in full precision, whose residuals are then recomputed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxland.core.krylov.step import HIGHEST, Product, cleaned, lanczos_step, ritz_pairs, rounding

Total = Callable[[jax.Array], jax.Array]
_GROUP = 8


class Basis(NamedTuple):
    """State: A Q = Q T + (coupling column) query; basis vectors in rows, those from ``filled`` on without meaning.

    Attributes:
        rows: stored vectors [capacity, n]; Q has them divided by their norms, which rounding moves off 1.
        norms: of the rows [filled].
        projected: T [filled, filled], on the host in float64.
        coupling: row of T that belongs to ``query`` [filled].
        query: unit vector [n] whose product comes next, already rounded to the format of the rows.
        filled: vectors in use.
        products, restarts: so far.
        exhausted: the space closed.
        seed: of fresh directions.
        order: of the matrix; coordinates of the vectors beyond it are zero.
    """

    rows: Float[Array, "capacity n"]
    norms: np.ndarray
    projected: np.ndarray
    coupling: np.ndarray
    query: Float[Array, " n"]
    filled: int
    products: int
    restarts: int
    exhausted: bool
    seed: int
    order: int


def _group(rows: jax.Array, i: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Rows of the i-th group, in the precision of the arithmetic."""
    start = i * _GROUP
    return jax.lax.dynamic_slice(rows, (start, jnp.zeros_like(start)), (_GROUP, rows.shape[1])).astype(dtype)


def _without(rows: jax.Array, w: jax.Array, filled: jax.Array, total: Total) -> jax.Array:
    """w without its components along the first ``filled`` rows, group by group: no copy of the basis is made."""
    groups = -(-filled // _GROUP)

    def measure(i: jax.Array, c: jax.Array) -> jax.Array:
        part = jnp.dot(_group(rows, i, w.dtype), w, precision=HIGHEST)
        return jax.lax.dynamic_update_slice(c, part, (i * _GROUP,))

    along = total(jax.lax.fori_loop(0, groups, measure, jnp.zeros((rows.shape[0],), w.dtype)))
    along = jnp.where(jnp.arange(rows.shape[0], dtype=filled.dtype) < filled, along, 0)

    def remove(i: jax.Array, w: jax.Array) -> jax.Array:
        part = jax.lax.dynamic_slice(along, (i * _GROUP,), (_GROUP,))
        return w - jnp.dot(part, _group(rows, i, w.dtype), precision=HIGHEST)

    return jax.lax.fori_loop(0, groups, remove, w)


class _Absorbed(NamedTuple):
    """The basis with one row more, what ``lanczos_step`` found, and the norm of the query that became a row."""

    rows: jax.Array
    following: jax.Array
    alpha: jax.Array
    beta: jax.Array
    size: jax.Array
    norm: jax.Array


def _absorb(rows: jax.Array, query: jax.Array, product: jax.Array, filled: jax.Array, total: Total) -> _Absorbed:
    """Store ``query`` in place ``filled`` and take in its product."""
    rows = jax.lax.dynamic_update_slice(rows, query.astype(rows.dtype)[None], (filled, jnp.zeros_like(filled)))
    norm = jnp.sqrt(total(query @ query))
    step = lanczos_step(query / norm, product / norm, lambda w: _without(rows, w, filled + 1, total), total)
    return _Absorbed(
        rows=rows,
        following=step.following.astype(rows.dtype).astype(query.dtype),
        alpha=step.alpha,
        beta=step.beta,
        size=step.size,
        norm=norm,
    )


def _clean(rows: jax.Array, w: jax.Array, filled: jax.Array, total: Total) -> jax.Array:
    """Unit vector of w without its components along the basis, rounded to the format of the rows."""
    w = cleaned(w, lambda v: _without(rows, v, filled, total))
    norm = jnp.sqrt(total(w @ w))
    return (w / jnp.where(norm > 0, norm, 1)).astype(rows.dtype).astype(w.dtype)


def _combine(rows: jax.Array, c: jax.Array, filled: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Vectors [k, n] of coefficient columns [capacity, k]."""
    c = jnp.where(jnp.arange(rows.shape[0])[:, None] < filled, c, 0)

    def body(i: jax.Array, out: jax.Array) -> jax.Array:
        start = i * _GROUP
        part = jax.lax.dynamic_slice(c, (start, jnp.zeros_like(start)), (_GROUP, c.shape[1]))
        return out + jnp.dot(part.T, _group(rows, i, c.dtype), precision=HIGHEST)

    empty = jnp.zeros((c.shape[1], rows.shape[1]), c.dtype)
    return jax.lax.fori_loop(0, -(-filled // _GROUP), body, empty).astype(dtype)


def _shorten(rows: jax.Array, c: jax.Array, filled: jax.Array, total: Total) -> tuple[jax.Array, jax.Array]:
    """The basis with combinations of its rows in front, and their norms."""
    blocks = [_combine(rows, c[:, j : j + _GROUP], filled, rows.dtype) for j in range(0, c.shape[1], _GROUP)]
    squares = [jnp.sum(jnp.square(block.astype(c.dtype)), axis=1) for block in blocks]
    norms = jnp.sqrt(total(jnp.concatenate(squares)))
    return jax.lax.dynamic_update_slice(rows, jnp.concatenate(blocks), (0, 0)), norms


class _Kernels(NamedTuple):
    """Compiled functions of one mesh; see the functions of these names."""

    absorb: Callable[..., _Absorbed]
    clean: Callable[..., jax.Array]
    combine: Callable[..., jax.Array]
    shorten: Callable[..., tuple[jax.Array, jax.Array]]
    gram: Callable[..., jax.Array]


@lru_cache(maxsize=16)
def _kernels(mesh: Mesh | None, axis: str) -> _Kernels:
    def total(value: jax.Array) -> jax.Array:
        return value if mesh is None else jax.lax.psum(value, axis)

    def over(f: Callable[..., Any], ins: tuple[PartitionSpec, ...], outs: Any) -> Callable[..., Any]:
        if mesh is None:
            return f
        return jax.shard_map(f, mesh=mesh, in_specs=ins, out_specs=outs, check_vma=False)

    def gram(a: jax.Array, b: jax.Array) -> jax.Array:
        return total(jnp.dot(a, b.T, precision=HIGHEST))

    r, v, s = PartitionSpec(None, axis), PartitionSpec(axis), PartitionSpec()
    places = {"rows": r, "following": v, "alpha": s, "beta": s, "size": s, "norm": s}
    absorbed: Any = _Absorbed(**places)  # type: ignore[arg-type]
    return _Kernels(
        absorb=jax.jit(over(partial(_absorb, total=total), (r, v, v, s), absorbed), donate_argnums=0),
        clean=jax.jit(over(partial(_clean, total=total), (r, v, s), v)),
        combine=jax.jit(over(lambda rows, c, filled: _combine(rows, c, filled, c.dtype), (r, s, s), r)),
        shorten=jax.jit(over(partial(_shorten, total=total), (r, s, s), (r, s)), donate_argnums=0),
        gram=jax.jit(over(gram, (r, r), s)),
    )


def basis(
    n: int,
    capacity: int,
    *,
    dtype: DTypeLike,
    storage: DTypeLike | None = None,
    mesh: Mesh | None = None,
    axis: str = "data",
    seed: int = 0,
    order: int | None = None,
) -> Basis:
    """An empty basis with a random first query.

    Args:
        n: length of the vectors; with a mesh, a multiple of the size of its axis.
        capacity: vectors stored at most, rounded up to a multiple of 8.
        dtype: of products and of all arithmetic.
        storage: format of the stored vectors, such as ``jnp.bfloat16``; default ``dtype``.
        mesh, axis: devices over which the columns of the basis are spread.
        seed: of the start.
        order: of the matrix, where vectors are longer; default n.
    """
    order = n if order is None else order
    rows = -(-capacity // _GROUP) * _GROUP
    storage = dtype if storage is None else storage
    start = _random(n, order, [seed], dtype, mesh, axis)
    if mesh is None:
        empty = jnp.zeros((rows, n), storage)
    else:
        where = NamedSharding(mesh, PartitionSpec(None, axis))
        empty = jax.jit(lambda: jnp.zeros((rows, n), storage), out_shardings=where)()
    return Basis(
        rows=empty,
        norms=np.zeros(0),
        projected=np.zeros((0, 0)),
        coupling=np.zeros(0),
        query=_kernels(mesh, axis).clean(empty, start, jnp.zeros((), jnp.int32)),
        filled=0,
        products=0,
        restarts=0,
        exhausted=False,
        seed=seed,
        order=order,
    )


def _random(n: int, order: int, seed: list[int], dtype: DTypeLike, mesh: Mesh | None, axis: str) -> jax.Array:
    values = np.zeros(n, dtype)
    values[:order] = np.random.default_rng(seed).standard_normal(order)
    if mesh is None:
        return jnp.asarray(values)
    return jax.make_array_from_callback((n,), NamedSharding(mesh, PartitionSpec(axis)), lambda part: values[part])


def extend(state: Basis, product: Product, steps: int, *, mesh: Mesh | None = None, axis: str = "data") -> Basis:
    """At most ``steps`` further products; ends early when the basis is full or the space closed. Consumes ``state``.

    Raises:
        ArithmeticError: a product is not finite.
    """
    kernels = _kernels(mesh, axis)
    rows, norms, projected, coupling, query, filled, products, restarts, exhausted, seed, order = state
    capacity, n = rows.shape
    for _ in range(steps):
        if exhausted or filled == capacity:
            break
        image = product(query)
        took = kernels.absorb(rows, query, image, jnp.asarray(filled, jnp.int32))
        rows = took.rows
        a, b = float(took.alpha), float(took.beta)
        if not np.isfinite(a):
            raise ArithmeticError(f"product {products + 1} of the Lanczos run is not finite")
        norms = np.append(norms, float(took.norm))
        grown = np.zeros((filled + 1, filled + 1))
        grown[:filled, :filled] = projected
        grown[filled, :filled] = grown[:filled, filled] = coupling
        grown[filled, filled] = a
        projected, filled, products = grown, filled + 1, products + 1
        coupling = np.zeros(filled)
        if filled == order:
            exhausted = True
        elif b <= rounding(n, query.dtype) * max(float(took.size), float(np.max(np.abs(np.diag(projected))))):
            fresh = _random(n, order, [seed, products], query.dtype, mesh, axis)
            query = kernels.clean(rows, fresh, jnp.asarray(filled, jnp.int32))
        else:
            query = took.following
            coupling[-1] = b
    return Basis(
        rows=rows,
        norms=norms,
        projected=projected,
        coupling=coupling,
        query=query,
        filled=filled,
        products=products,
        restarts=restarts,
        exhausted=exhausted,
        seed=seed,
        order=order,
    )


def restart(state: Basis, lowest: int, highest: int, *, mesh: Mesh | None = None, axis: str = "data") -> Basis:
    """Keep the Ritz vectors wanted at both ends and half of the remaining room beside them. Consumes ``state``."""
    values, vectors, _ = ritz_pairs(state.projected, state.coupling)
    size = len(values)
    extra = max(0, size - lowest - highest - 2) // 2
    low = lowest + (extra // 2 if highest else extra) if lowest else 0
    high = highest + (extra - extra // 2 if lowest else extra) if highest else 0
    kept = np.concatenate([np.arange(low), np.arange(size - high, size)])
    c = np.zeros((state.rows.shape[0], -(-len(kept) // _GROUP) * _GROUP))
    c[:size, : len(kept)] = vectors[:, kept] / state.norms[:, None]
    rows, norms = _kernels(mesh, axis).shorten(
        state.rows, jnp.asarray(c, state.query.dtype), jnp.asarray(state.filled, jnp.int32)
    )
    return state._replace(
        rows=rows,
        norms=np.asarray(norms, float)[: len(kept)],
        projected=np.diag(values[kept]),
        coupling=state.coupling @ vectors[:, kept],
        filled=len(kept),
        restarts=state.restarts + 1,
    )


def ends(values: np.ndarray, lowest: int, highest: int) -> np.ndarray:
    """Entries of an ascending list at both ends: the lowest ascending, then the highest descending."""
    return np.concatenate([values[:lowest], values[len(values) - highest :][::-1]])


def vectors(
    state: Basis, lowest: int, highest: int, *, mesh: Mesh | None = None, axis: str = "data"
) -> Float[Array, "k n"]:
    """Ritz vectors in rows, in the precision of the arithmetic: lowest ascending, then highest descending."""
    _, coefficients, _ = ritz_pairs(state.projected, state.coupling)
    size = state.filled
    lowest, highest = min(lowest, size), min(highest, size)
    c = np.zeros((state.rows.shape[0], lowest + highest))
    c[:size] = ends(coefficients.T, lowest, highest).T / state.norms[:, None]
    return _kernels(mesh, axis).combine(state.rows, jnp.asarray(c, state.query.dtype), jnp.asarray(size, jnp.int32))


class Checked(NamedTuple):
    """Unit vectors [k, n], Rayleigh quotients [k], explicit residual norms |A x - value x| [k], products taken."""

    vectors: Float[Array, "k n"]
    values: np.ndarray
    residuals: np.ndarray
    products: int


@jax.jit
def _residual(x: jax.Array, image: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    value = (x @ image) / (x @ x)
    error = image - value * x
    return error, value, jnp.sqrt((error @ error) / (x @ x))


@jax.jit
def _merge(c: jax.Array, x: jax.Array, errors: jax.Array) -> jax.Array:
    k = x.shape[0]
    return jnp.dot(c[:k].T, x, precision=HIGHEST) + jnp.dot(c[k:].T, errors, precision=HIGHEST)


def correct(
    product: Product,
    x: Float[Array, "k n"],
    lowest: int,
    *,
    tolerance: float,
    rounds: int = 2,
    mesh: Mesh | None = None,
    axis: str = "data",
) -> Checked:
    """Explicit residuals of approximate eigenvectors and, where they exceed the tolerance, their correction.

    One round is a Rayleigh-Ritz step on span{x_i, A x_i - value_i x_i} in the precision of x, Gram matrices solved in
    float64 on the host; it holds 3 k vectors and takes 2 k products.

    Args:
        product: ``v[n] -> A v``.
        x: vectors, the first ``lowest`` of them for the lowest values, the others for the highest.
        lowest: see ``x``.
        tolerance: on the residuals, relative to the largest |value|.
        rounds: at most.
    """
    import scipy.linalg

    gram = _kernels(mesh, axis).gram
    k, used = x.shape[0], 0
    for round_ in range(rounds + 1):
        found = [_residual(x[i], product(x[i])) for i in range(k)]
        used += k
        values = np.array([float(f[1]) for f in found])
        residuals = np.array([float(f[2]) for f in found])
        limit = tolerance * float(np.max(np.abs(values)))
        if round_ == rounds or (residuals <= limit).all() or x.shape[1] < 2 * k:
            break
        lengths = np.array([float(jnp.sqrt(f[0] @ f[0])) for f in found])
        errors = jnp.stack([f[0] / max(length, 1e-30) for f, length in zip(found, lengths)])
        images = jnp.stack([product(errors[i]) for i in range(k)])
        used += k
        xx, xe, ee = (np.asarray(gram(*pair), float) for pair in ((x, x), (x, errors), (errors, errors)))
        ea = np.asarray(gram(errors, images), float)
        xa = np.asarray(gram(x, images), float)
        ax = xx * values + xe * lengths  # x_i . A x_j, A x_j = value_j x_j + length_j e_j
        overlap = np.block([[xx, xe], [xe.T, ee]])
        matrix = np.block([[(ax + ax.T) / 2, xa], [xa.T, (ea + ea.T) / 2]])
        # Directions that the others span already are left out: their Gram eigenvalue is rounding.
        weight, axes = np.linalg.eigh(overlap)
        keep = weight > 1e3 * float(jnp.finfo(x.dtype).eps) * weight[-1]
        whiten = axes[:, keep] / np.sqrt(weight[keep])
        _, inside = scipy.linalg.eigh(whiten.T @ matrix @ whiten)
        c = whiten @ inside
        chosen = ends(c.T, lowest, k - lowest).T
        x = _merge(jnp.asarray(chosen, x.dtype), x, errors)
        x = x / jnp.linalg.norm(x, axis=1, keepdims=True)
    order = np.concatenate([np.argsort(values[:lowest]), lowest + np.argsort(-values[lowest:])])
    x = x / jnp.linalg.norm(x, axis=1, keepdims=True)
    return Checked(x[order], values[order], residuals[order], used)
