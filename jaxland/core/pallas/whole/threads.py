"""Which thread reads and writes what, and a network's weights by thread."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from jaxland.core.pallas.dense.elementary import known_after
from jaxland.core.pallas.dense.shape import Shape, pack

Carry = Any


class Weights(NamedTuple):
    """Reduced rows (see ``dense.pack``) by the flat weights they are made of: w[plus] - w[minus].

    Attributes:
        plus, minus: of own rows; a place whose weight is always zero where there is none.
        shared: of shared rows; (k,) is weight k, (j, k) is w[k] - w[j], the difference of two logits.
        row, sign: of every flat weight, the reduced sum its gradient is made of (own rows by row and group, then
            shared ones), and its sign there; 0 beyond the last weight.
    """

    plus: Int[np.ndarray, "own groups"]
    minus: Int[np.ndarray, "own groups"]
    shared: list[tuple[int, ...]]
    row: Int[np.ndarray, " rows"]
    sign: np.ndarray

    @property
    def sums(self) -> int:
        """Reduced sums of a network."""
        return self.plus.size + len(self.shared)


def weights_of(shape: Shape, rows: int) -> Weights:
    """Weights of a state whose vectors have so many rows; beyond ``shape.parameters`` they are zero."""
    with jax.ensure_compile_time_eval():
        unit = jnp.eye(shape.parameters, dtype=jnp.float32)
        own, shared = (np.asarray(a) for a in pack(shape, unit))
    nothing = shape.parameters  # read only where a unit or a second logit is missing
    plus, minus = (
        np.where((sign * own > 0).any(-1), np.argmax(sign * own, -1), nothing).astype(np.int32) for sign in (1, -1)
    )
    row, sign = np.zeros(rows, np.int32), np.zeros(rows)
    for at, matrix in enumerate([*own.reshape(-1, shape.parameters), *shared]):
        for k in np.flatnonzero(matrix):
            row[k], sign[k] = at, matrix[k]
    made_of = [tuple(int(k) for k in (*np.flatnonzero(r < 0), *np.flatnonzero(r > 0))) for r in shared]
    return Weights(plus, minus, made_of, row, sign)


def padded(shape: Shape, tile: int) -> int:
    """Rows of a state's vectors: whole tiles for every thread, and a zero where threads hold units that are not."""
    each = tile * shape.threads
    return -(-(shape.parameters + (shape.groups > 1)) // each) * each


class Threads:
    """Where a program's threads read and write: networks along the last axis, their threads along those before.

    Args:
        shape: what the program serves.
        rows: of a state's vectors, see ``padded``.
        tile: rows that a thread takes at once.
    """

    def __init__(self, shape: Shape, rows: int, tile: int) -> None:
        from jax.experimental import pallas as pl

        self.shape, self.rows, self.tile = shape, rows, tile
        self.axes = len(shape.block) - 1
        at = pl.program_id(0) * np.int32(shape.networks)
        self.lanes = at + self._along(self.axes)
        number: Any = np.int32(0)
        for axis in range(self.axes):
            number = number * np.int32(shape.block[axis]) + self._along(axis)
        self.first = number * np.int32(tile)

    def after(self, known: Any) -> Threads:
        """The same, places worked out anew once that is known: kept over the loop over points they cost registers."""
        made = copy(self)
        made.lanes = known_after(self.shape, self.lanes, known)
        return made

    def _along(self, axis: int) -> jax.Array:
        block = [1] * (self.axes + 1)
        block[axis] = self.shape.block[axis]
        return jax.lax.broadcasted_iota(jnp.int32, tuple(block), axis)

    @property
    def group(self) -> jax.Array:
        """Number of a thread's group."""
        return self._along(self.axes - 1)

    def zero(self, dtype: Any) -> jax.Array:
        """A zero in every thread."""
        return jnp.zeros(self.shape.block, dtype)

    def spread(self, a: Any) -> Any:
        """In every thread of a team."""
        return jnp.broadcast_to(a, self.shape.block) if self.shape.team > 1 else a

    def total(self, a: Any) -> Any:
        """Sum over a network's threads."""
        for axis in range(self.axes):
            a = jnp.sum(a, axis=axis, keepdims=True)
        return a

    def own_tiles(self, body: Callable[[Any, Carry], Carry], carry: Carry) -> Carry:
        """``body(first row, carry)`` for every tile of rows of a thread."""
        each = self.tile * self.shape.threads
        stride, count = np.int32(each), np.int32(self.rows // each)
        return jax.lax.fori_loop(np.int32(0), count, lambda k, c: body(k * stride + self.first, c), carry)

    def own_rows(self, body: Callable[[Any, Carry], Carry], carry: Carry) -> Carry:
        """``body(row, carry)`` for every row of a thread."""

        def tile(i: Any, carry: Carry) -> Carry:
            return jax.lax.fori_loop(np.int32(0), np.int32(self.tile), lambda k, c: body(i + k, c), carry)

        return self.own_tiles(tile, carry)

    def settle(self) -> None:
        """What the threads of a network have written is seen by all."""
        if self.axes and self.shape.target == "triton":
            from jax.experimental.pallas import triton

            triton.debug_barrier()
