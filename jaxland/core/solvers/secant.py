"""Secant pairs of a quasi-Newton method and what they say of the inverse Hessian."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class History(NamedTuple):
    """The last m secant pairs, in a ring; places never filled have weight 0.

    Attributes:
        steps: s, steps taken.
        changes: y, changes of the gradient along them.
        weights: 1 / (s.y).
        newest: place of the last pair.
    """

    steps: Float[Array, "m N"]
    changes: Float[Array, "m N"]
    weights: Float[Array, " m"]
    newest: Int[Array, ""]

    @classmethod
    def empty(cls, m: int, n: int, dtype: jnp.dtype) -> History:
        """No pairs, room for m."""
        rows = jnp.zeros((m, n), dtype)
        return cls(rows, rows, jnp.zeros(m, dtype), jnp.zeros((), jnp.int32))

    def push(
        self, step: Float[Array, " N"], change: Float[Array, " N"], sy: Float[Array, ""], update: Bool[Array, ""]
    ) -> History:
        """With one more pair in place of the oldest, where ``update`` holds."""
        place = jnp.where(update, (self.newest + 1) % self.weights.shape[0], self.newest)

        def put(rows: jax.Array, row: jax.Array) -> jax.Array:
            return rows.at[place].set(jnp.where(update, row, rows[place]))

        weights = put(self.weights, 1.0 / jnp.where(update, sy, 1.0))
        return History(put(self.steps, step), put(self.changes, change), weights, place)

    @property
    def known(self) -> Bool[Array, ""]:
        """Whether there is any pair."""
        return self.weights[self.newest] > 0


def two_loop(gradient: Float[Array, " N"], history: History) -> Float[Array, " N"]:
    """Inverse Hessian estimate times gradient by the two-loop recursion (Nocedal 1980; Liu & Nocedal 1989).

    H0 = s.y / y.y of the newest pair.
    """
    steps, changes, weights, newest = history
    m = weights.shape[0]

    def back(k: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        q, alphas = carry
        i = (newest - k) % m
        alpha = weights[i] * (steps[i] @ q)
        return q - alpha * changes[i], alphas.at[i].set(alpha)

    q, alphas = jax.lax.fori_loop(0, m, back, (gradient, jnp.zeros(m, gradient.dtype)))
    last = changes[newest]
    weight = weights[newest]
    h0 = jnp.where(weight > 0, 1.0 / jnp.where(weight > 0, weight * (last @ last), 1.0), 1.0)

    def forth(k: jax.Array, r: jax.Array) -> jax.Array:
        i = (newest + 1 + k) % m
        beta = weights[i] * (changes[i] @ r)
        return r + (alphas[i] - beta) * steps[i]

    return jax.lax.fori_loop(0, m, forth, h0 * q)
