"""L-BFGS of dense networks as one program, the last secant pairs in device memory.

Two sweeps over the pairs a pass: 4 m N numbers read where BFGS reads and writes 3 N^2.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxland.core.pallas.dense.elementary import fused
from jaxland.core.pallas.dense.shape import Shape
from jaxland.core.pallas.whole.program import Block, Direction, Program, at_start
from jaxland.core.pallas.whole.threads import padded


class State(NamedTuple):
    """L-BFGS of L networks with N parameters, padded to whole tiles, m pairs.

    Attributes:
        x: last accepted points.
        gradient: there.
        step: proposed; trial: x + step, evaluated next.
        steps, changes, weights: the last secant pairs, in a ring, see ``core.solvers.secant``.
        energy: at x; max_step: longest step allowed; scale: length scale of the next step, at most 1.
        newest: place of the last pair.
        evaluations: so far; status: see ``protocol.Status``.
    """

    x: Float[Array, "N L"]
    gradient: Float[Array, "N L"]
    step: Float[Array, "N L"]
    trial: Float[Array, "N L"]
    steps: Float[Array, "m N L"]
    changes: Float[Array, "m N L"]
    weights: Float[Array, "m L"]
    energy: Float[Array, " L"]
    max_step: Float[Array, " L"]
    scale: Float[Array, " L"]
    newest: Int[Array, " L"]
    evaluations: Int[Array, " L"]
    status: Int[Array, " L"]


def begin(shape: Shape, x: Float[Array, "B N"], max_step: Float[Array, " B"], history: int) -> State:
    """State at the start of B quenches that keep ``history`` pairs."""
    lanes, rows = x.shape[0], padded(shape, Limited.tile_of(shape))
    return State(
        **at_start(x, max_step, rows),
        steps=jnp.zeros((history, rows, lanes), x.dtype),
        changes=jnp.zeros((history, rows, lanes), x.dtype),
        weights=jnp.zeros((history, lanes), x.dtype),
        newest=jnp.zeros(lanes, jnp.int32),
    )


@runtime_checkable
class Followed(Protocol):
    """What a step has shown, for the model; see ``Judged``."""

    @property
    def running(self) -> Block: ...
    @property
    def accept(self) -> Block: ...
    @property
    def curved(self) -> Block: ...
    @property
    def lost(self) -> Block: ...
    @property
    def stale(self) -> Block: ...
    @property
    def sy(self) -> Block: ...


class Limited(Program):
    """Limited memory: the two-loop recursion."""

    @staticmethod
    def scratch(rows: int, state: Any) -> tuple[int, ...]:
        """The vector that becomes B g, and a factor of every pair."""
        return rows, state.weights.shape[0]

    def _push(self, t: Followed) -> tuple[Any, Any, Any]:
        """The pair into the oldest's place where it is to be kept; (newest place, knew, knows any pair)."""
        s, here = self.s, self.here
        lanes, m = here.lanes, s.weights.shape[0]
        newest = s.newest[lanes]
        was_known = s.weights[newest, lanes] > 0
        update = t.running & t.accept & t.curved
        following = jnp.where(newest + 1 == m, 0, newest + 1)
        place = jnp.where(update, following, newest)

        def put(i: Any, c: Any) -> Any:
            step, change = s.step[i, lanes], self.change_ref[i, lanes]
            old_step, old_change = s.steps[place, i, lanes], s.changes[place, i, lanes]
            s.steps[place, i, lanes] = jnp.where(update, step, old_step)
            s.changes[place, i, lanes] = jnp.where(update, change, old_change)
            return c

        here.own_rows(put, np.int32(0))
        old = s.weights[place, lanes]
        here.settle()
        s.weights[place, lanes] = jnp.where(update, 1.0 / jnp.where(update, t.sy, 1.0), old)
        s.newest[lanes] = place
        here.settle()
        forget = t.running & (t.lost | t.stale)

        def drop(k: Any, c: Any) -> Any:
            s.weights[k, lanes] = jnp.where(forget, 0.0, s.weights[k, lanes])
            return c

        jax.lax.fori_loop(np.int32(0), np.int32(m), drop, np.int32(0))
        here.settle()
        return place, was_known, (update | was_known) & ~forget

    def _sweep(self, pairs: Any, place: Any, factor: Any, others: list[Any], scale: Any = 1.0) -> list[Any]:
        """v = scale (v + factor pairs[place]) in the scratch vector; its products with each of ``others(row)``."""
        here, v_ref = self.here, self.rest[0]
        tile = [np.int32(k) for k in range(here.tile)]

        def rows(i: Any, c: Any) -> Any:
            for a in tile:
                v = scale * fused(self.shape, factor, pairs[place, i + a, here.lanes], v_ref[i + a, here.lanes])
                v_ref[i + a, here.lanes] = v
                c = tuple(fused(self.shape, v, other(i + a, v), sofar) for sofar, other in zip(c, others))
            return c

        return [here.total(a) for a in here.own_tiles(rows, (self.zero,) * len(others))]

    def propose(self, t: Followed) -> Direction:
        """See ``Program``; the two-loop recursion, H0 = s.y / y.y of the newest pair."""
        s, here = self.s, self.here
        lanes, (v_ref, factor_ref), m = here.lanes, self.rest, np.int32(self.s.weights.shape[0])
        newest, was_known, known = self._push(t)

        def start(i: Any, square: Any) -> Any:
            y = s.changes[newest, i, lanes]
            v_ref[i, lanes] = s.gradient[i, lanes]
            return fused(self.shape, y, y, square)

        square = here.total(here.own_rows(start, self.zero))

        def back(k: Any, carry: Any) -> Any:
            """Less the last pair's share; along the next one's step."""
            factor, earlier = carry
            place = jnp.where(newest < k, newest - k + m, newest - k)
            (along,) = self._sweep(s.changes, earlier, -factor, [lambda i, _: s.steps[place, i, lanes]])
            factor = s.weights[place, lanes] * along
            factor_ref[place, lanes] = factor
            return factor, place

        nothing = jnp.zeros(lanes.shape, self.zero.dtype)
        factor, oldest = jax.lax.fori_loop(np.int32(0), m, back, (nothing, newest))
        weight = s.weights[newest, lanes]
        scale = jnp.where(weight > 0, 1.0 / jnp.where(weight > 0, weight * square, 1.0), 1.0)
        self._sweep(s.changes, oldest, -factor, [], scale)
        here.settle()

        def forth(k: Any, carry: Any) -> Any:
            """More of the last pair's step; along the next one's change."""
            factor, earlier = carry
            place = jnp.where(newest + 1 + k >= m, newest + 1 + k - m, newest + 1 + k)
            (along,) = self._sweep(s.steps, earlier, factor, [lambda i, _: s.changes[place, i, lanes]])
            return factor_ref[place, lanes] - s.weights[place, lanes] * along, place

        factor, last = jax.lax.fori_loop(np.int32(0), m, forth, (nothing, newest))
        others = [lambda i, _: s.gradient[i, lanes], lambda _, v: v]
        downhill, length = self._sweep(s.steps, last, factor, others)
        return Direction(v_ref, -downhill, length, ~was_known, ~known)
