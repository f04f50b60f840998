"""BFGS of small dense networks as one program, the inverse Hessian in device memory.

It is swept in tiles of 4 x 2, twice a pass: a twentieth of the gradient's time up to some fifty weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxland.core.pallas.dense.elementary import dot, fused, less
from jaxland.core.pallas.dense.shape import Shape
from jaxland.core.pallas.whole.program import Direction, Judged, Program, at_start
from jaxland.core.pallas.whole.threads import padded

# Of the inverse Hessian in registers at once, and in float64 while it grows: a sweep waits for memory, and what is in
# flight is what it has registers for. Compilers unroll the product's.
COLUMNS, GROWN = 2, 4


class State(NamedTuple):
    """BFGS of L networks with N parameters, padded to whole tiles.

    Attributes:
        x: last accepted points.
        gradient: there.
        step: proposed; trial: x + step, evaluated next.
        inverse: inverse Hessian estimates (meaningless where ``fresh``).
        energy: at x; max_step: longest step allowed; scale: length scale of the next step, at most 1.
        fresh: 1 where no secant pair is known.
        evaluations: so far; status: see ``protocol.Status``.
    """

    x: Float[Array, "N L"]
    gradient: Float[Array, "N L"]
    step: Float[Array, "N L"]
    trial: Float[Array, "N L"]
    inverse: Float[Array, "N N L"]
    energy: Float[Array, " L"]
    max_step: Float[Array, " L"]
    scale: Float[Array, " L"]
    fresh: Int[Array, " L"]
    evaluations: Int[Array, " L"]
    status: Int[Array, " L"]


def begin(shape: Shape, x: Float[Array, "B N"], max_step: Float[Array, " B"]) -> State:
    """State at the start of B quenches."""
    lanes, rows = x.shape[0], padded(shape, Dense.tile_of(shape))
    return State(
        **at_start(x, max_step, rows),
        inverse=jnp.zeros((rows, rows, lanes), x.dtype),
        fresh=jnp.ones(lanes, jnp.int32),
    )


class Dense(Program):
    """Full inverse Hessian estimate."""

    @staticmethod
    def scratch(rows: int, state: Any) -> tuple[int, ...]:
        """B y and B g."""
        return rows, rows

    def propose(self, t: Judged) -> Direction:
        """See ``Program``; B grows by s p^T - (B y) q^T, and is applied to the gradient in the same sweep."""
        s, here, change_ref, zero, shape = self.s, self.here, self.change_ref, self.zero, self.shape
        lanes, (by_ref, bg_ref) = here.lanes, self.rest
        grown_width = GROWN if zero.dtype == jnp.float64 else COLUMNS
        tile, columns, wide = ([np.int32(k) for k in range(count)] for count in (here.tile, COLUMNS, grown_width))
        fresh = s.fresh[lanes]
        was_fresh = fresh > 0
        safe_sy, safe_yy = jnp.where(t.curved, t.sy, 1.0), jnp.where(t.curved, t.yy, 1.0)
        self._renew(was_fresh & t.curved, safe_sy / safe_yy)
        update = t.running & t.curved

        def across(width: int, body: Any, carry: Any) -> Any:
            """``body(first column, carry)`` for every tile of so many columns."""
            count = np.int32(-(-shape.parameters // width))
            return jax.lax.fori_loop(np.int32(0), count, lambda k, c: body(k * np.int32(width), c), carry)

        def product(i: Any, yby: Any) -> Any:
            """Rows i.. of B y."""

            def block(j: Any, sofar: Any) -> Any:
                y = [change_ref[j + b, lanes] for b in columns]
                return [
                    dot(shape, [s.inverse[i + a, j + b, lanes] for b in columns], y, c) for a, c in zip(tile, sofar)
                ]

            for a, by in zip(tile, across(COLUMNS, block, [zero] * len(tile))):
                by_ref[i + a, lanes] = by
                yby = fused(shape, by, change_ref[i + a, lanes], yby)
            return yby

        yby = here.total(here.own_tiles(product, zero))
        here.settle()
        inverse_sy = jnp.where(update, 1.0 / safe_sy, 0.0)  # by zeros nothing grows
        grow = jnp.where(update, (1.0 + yby * inverse_sy) * inverse_sy, 0.0)

        def rank_two(i: Any, c: Any) -> Any:
            """Rows i.. of B + s p^T - (B y) q^T, and of its product with the gradient."""
            step_i = [s.step[i + a, lanes] for a in tile]
            by_i = [by_ref[i + a, lanes] for a in tile]

            def block(j: Any, sofar: Any) -> Any:
                step = [s.step[j + b, lanes] for b in wide]
                q = [v * inverse_sy for v in step]
                p = [less(shape, by_ref[j + b, lanes], inverse_sy, v * grow) for b, v in zip(wide, step)]
                g = [s.gradient[j + b, lanes] for b in wide]
                old = [[s.inverse[i + a, j + b, lanes] for b in wide] for a in tile]
                out = []
                for a, row, sum_, si, bi in zip(tile, old, sofar, step_i, by_i):
                    grown = [fused(shape, si, u, less(shape, bi, v, m)) for m, u, v in zip(row, p, q)]
                    for b, m in zip(wide, grown):
                        s.inverse[i + a, j + b, lanes] = m
                    out.append(dot(shape, grown, g, sum_))
                return out

            for a, direction in zip(tile, across(grown_width, block, [zero] * len(tile))):
                bg_ref[i + a, lanes] = direction
                slope = less(shape, direction, s.gradient[i + a, lanes], c[0])
                c = slope, fused(shape, direction, direction, c[1])
            return c

        slope, square = (here.total(a) for a in here.own_tiles(rank_two, (zero, zero)))
        next_fresh = (was_fresh & ~t.curved) | t.lost
        s.fresh[lanes] = jnp.where(t.running, next_fresh.astype(jnp.int32), fresh)
        return Direction(bg_ref, slope, square, was_fresh, next_fresh)

    def _renew(self, renew: Any, scale: Any) -> None:
        """A number times the unit matrix where there is a first pair: a sweep of its own, which few passes need."""
        inverse, lanes = self.s.inverse, self.here.lanes
        some = jnp.max(renew.astype(jnp.int32))
        square = [(np.int32(a), np.int32(b)) for a in range(self.here.tile) for b in range(GROWN)]

        def tiles(i: Any, c: Any) -> Any:
            def tile(k: Any, c: Any) -> Any:
                places = [(i + a, k * np.int32(GROWN) + b) for a, b in square]
                for (a, b), old in zip(places, [inverse[a, b, lanes] for a, b in places]):
                    inverse[a, b, lanes] = jnp.where(renew, jnp.where(a == b, scale, 0.0), old)
                return c

            return jax.lax.fori_loop(np.int32(0), some * np.int32(self.here.rows // GROWN), tile, c)

        self.here.own_tiles(tiles, np.int32(0))
