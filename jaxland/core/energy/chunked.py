"""A mean over rows taken a chunk of rows at a time, by the kernel of a chunk: memory is bounded, speed stays."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxland.core.energy.kernels import Curved, Kernel, Values

T = TypeVar("T")


class Chunks(NamedTuple):
    """Rows cut up.

    Attributes:
        whole: data of the full chunks, stacked on a leading axis; None where there is none.
        rest: data of the last, shorter chunk; None where rows divide evenly.
        shares: parts of the rows in a full chunk and in the rest, both [].
    """

    whole: Any
    rest: Any
    shares: tuple[jax.Array, jax.Array]


def chunked(kernel: Kernel, rows: int, chunk: int, lam: float) -> Kernel:
    """``kernel`` with its sums over rows taken ``chunk`` rows at a time.

    Args:
        kernel: of the mean loss, without a regulariser; rows are the last axis of its data.
        rows: how many there are.
        chunk: rows evaluated at once.
        lam: weight of the sum of squares, added once.
    """
    full = rows // chunk

    def cut(a: jax.Array) -> jax.Array:
        return jnp.moveaxis(a[..., : full * chunk].reshape(*a.shape[:-1], full, chunk), -2, 0)

    dtype = jnp.result_type(*[a for a in jax.tree.leaves(kernel.data) if jnp.issubdtype(a.dtype, jnp.floating)])
    rest = rows - full * chunk
    data = Chunks(
        whole=jax.tree.map(cut, kernel.data) if full else None,
        rest=jax.tree.map(lambda a: a[..., full * chunk :], kernel.data) if rest else None,
        shares=(jnp.asarray(chunk / rows, dtype), jnp.asarray(rest / rows, dtype)),
    )
    first, second, product = _functions(kernel.first, kernel.second, kernel.product, float(lam))
    return Kernel(
        first=first,
        second=second,
        product=product,
        data=data,
        name=f"{kernel.name}, {chunk:,} rows at a time",
        hessian_cost=kernel.hessian_cost,
    )


def _mean(f: Callable[[Any], T], data: Chunks) -> T:
    """Mean over the rows of a function that takes the mean over a chunk's."""
    parts: list[T] = []
    if data.whole is not None:
        shape = jax.eval_shape(f, jax.tree.map(lambda a: a[0], data.whole))
        zero = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shape)

        def add(total: T, piece: Any) -> tuple[T, None]:
            return jax.tree.map(jnp.add, total, f(piece)), None

        total, _ = jax.lax.scan(add, zero, data.whole)
        parts.append(jax.tree.map(lambda a: a * data.shares[0], total))
    if data.rest is not None:
        parts.append(jax.tree.map(lambda a: a * data.shares[1], f(data.rest)))
    return parts[0] if len(parts) == 1 else jax.tree.map(jnp.add, *parts)


@lru_cache(maxsize=64)
def _functions(
    first: Callable[..., Values], second: Callable[..., Curved], product: Callable[..., jax.Array], lam: float
) -> tuple[Callable[..., Values], Callable[..., Curved], Callable[..., jax.Array]]:
    def values(w: Float[jax.Array, " N"], data: Chunks) -> Values:
        energy, gradient = _mean(lambda piece: first(w, piece), data)
        return Values(energy + lam * jnp.sum(w * w), gradient + 2.0 * lam * w)

    def curved(w: Float[jax.Array, " N"], data: Chunks) -> Curved:
        energy, gradient, hessian = _mean(lambda piece: second(w, piece), data)
        lifted = hessian + 2.0 * lam * jnp.eye(w.shape[0], dtype=w.dtype)
        return Curved(energy + lam * jnp.sum(w * w), gradient + 2.0 * lam * w, lifted)

    def times(w: Float[jax.Array, " N"], v: Float[jax.Array, " N"], data: Chunks) -> Float[jax.Array, " N"]:
        return _mean(lambda piece: product(w, v, piece), data) + 2.0 * lam * v

    return values, curved, times
