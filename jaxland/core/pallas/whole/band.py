"""Doubly nudged elastic bands of small dense networks, a program a band: the arithmetic of ``core.solvers.band``.

The threads of a band share the points of one image after the other, so that none is idle whatever the number of
images; neighbours' coordinates come from device memory. The ends, which never move, are evaluated once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxland.core.pallas.dense.shape import Shape
from jaxland.core.pallas.whole.lbfgs import Limited
from jaxland.core.pallas.whole.program import Block, Direction, Limits
from jaxland.core.pallas.whole.threads import padded
from jaxland.core.solvers.protocol import Status


@dataclass(frozen=True)
class BandLimits(Limits):
    """Of a launch; tolerance and limit are of the whole band.

    Attributes:
        max_step: longest move of an image.
    """

    max_step: float


class State(NamedTuple):
    """L bands of K images with N parameters each, padded to whole tiles; m secant pairs.

    Attributes:
        trial: images, evaluated next; where a band has ended, as last evaluated.
        gradient: doubly nudged gradient at the images last evaluated, 0 at the ends.
        step: from there to ``trial``.
        steps, changes, weights: secant pairs of the nudged gradient, in a ring, see ``core.solvers.secant``.
        energy: of the images; spring: constant, set at the first evaluation.
        newest: place of the last pair.
        evaluations: of the whole band; status: see ``protocol.Status``.
    """

    trial: Float[Array, "K*N L"]
    gradient: Float[Array, "K*N L"]
    step: Float[Array, "K*N L"]
    steps: Float[Array, "m K*N L"]
    changes: Float[Array, "m K*N L"]
    weights: Float[Array, "m L"]
    energy: Float[Array, "K L"]
    spring: Float[Array, " L"]
    newest: Int[Array, " L"]
    evaluations: Int[Array, " L"]
    status: Int[Array, " L"]


def begin(shape: Shape, images: Float[Array, "B K N"], history: int) -> State:
    """State at the start of B bands that keep ``history`` pairs."""
    lanes, count, size = images.shape
    each = padded(shape, Bands.tile_of(shape))
    start = jnp.pad(images, ((0, 0), (0, 0), (0, each - size))).reshape(lanes, -1).T
    rows, dtype = len(start), images.dtype
    return State(
        trial=start,
        gradient=jnp.zeros((rows, lanes), dtype),
        step=jnp.zeros((rows, lanes), dtype),
        steps=jnp.zeros((history, rows, lanes), dtype),
        changes=jnp.zeros((history, rows, lanes), dtype),
        weights=jnp.zeros((history, lanes), dtype),
        energy=jnp.zeros((count, lanes), dtype),
        spring=jnp.ones(lanes, dtype),
        newest=jnp.zeros(lanes, jnp.int32),
        evaluations=jnp.zeros(lanes, jnp.int32),
        status=jnp.zeros(lanes, jnp.int32),
    )


class Nudged(NamedTuple):
    """An evaluated band, as ``Limited.propose`` wants it; numbers of every band.

    Attributes:
        running: before the evaluation; finite: all energies and gradients.
        accept, lost, stale: always, never and never: there is no energy to judge a band by.
        curved: the pair of step and change is worth keeping; sy: step . change.
        square: of the nudged gradient, and ``longest``: of an image's part of it, its length.
        evaluations: this one included.
    """

    running: Block
    finite: Block
    accept: Block
    lost: Block
    stale: Block
    curved: Block
    sy: Block
    square: Block
    longest: Block
    evaluations: Block


class Bands(Limited):
    """Elastic bands by L-BFGS on the nudged gradient, without line search."""

    limits: BandLimits

    @staticmethod
    def images(state: State) -> int:
        """See ``Program``."""
        return state.energy.shape[0]

    def _count(self) -> int:
        return self.images(self.s)

    def _each(self, body: Any, carry: Any, first: Any, last: Any) -> Any:
        """``body(row at which image k begins, k, carry)`` for the images first..last - 1."""
        rows = np.int32(self.one.rows)
        return jax.lax.fori_loop(first, last, lambda k, c: body(k * rows, k, c), carry)

    def _sums(self, row: Any, count: int) -> tuple[Block, ...]:
        """Totals of the numbers that ``row(i)`` makes of every row of an image."""

        def add(i: Any, c: Any) -> Any:
            return tuple(a + b for a, b in zip(c, row(i)))

        return tuple(self.here.total(a) for a in self.one.own_rows(add, (self.zero,) * count))

    def _starting(self, lanes: Any) -> tuple[Block, Any]:
        """Which bands are evaluated for the first time, and 1 where there are any."""
        start = (self.s.status[lanes] == Status.RUNNING) & (self.s.evaluations[lanes] == 0)
        return start, jnp.max(start.astype(jnp.int32))

    def _evaluated(self) -> tuple[Block, Block]:
        """Energies and gradients of all images; whether all are finite, and the spring constants."""
        s, here, lanes, count = self.s, self.here, self.here.lanes, self._count()
        _, some = self._starting(lanes)
        nothing = jnp.zeros(lanes.shape, self.zero.dtype)

        def image(k: Any) -> Any:
            value, _ = self.evaluate(k * np.int32(self.one.rows))
            s.energy[k, here.after(value).lanes] = value
            here.settle()
            return k + 1

        def goes_on(k: Any) -> Any:
            return k < np.int32(count - 1) + self._starting(here.after(k).lanes)[1]

        # Only its number is carried from image to image: the loop over points needs every register.
        last = jax.lax.while_loop(goes_on, image, 1 - some)
        here, one = (threads.after(last) for threads in (here, self.one))
        lanes, rows = here.lanes, np.int32(one.rows)
        start, some = self._starting(lanes)

        def check(at: Any, k: Any, carry: Any) -> Any:
            def square(i: Any, c: Any) -> Any:
                g = self.new_ref[at + i, lanes]
                return c + g * g

            finite, pull = carry
            norm = here.total(one.own_rows(square, self.zero))
            inner = (k > 0) & (k < count - 1)
            good = (jnp.abs(s.energy[k, lanes]) < jnp.inf) & (norm < jnp.inf)
            return finite & good, pull + jnp.where(inner, jnp.sqrt(norm), 0.0)

        carry = jnp.ones(lanes.shape, bool), nothing
        finite, pull = self._each(check, carry, 1 - some, np.int32(count - 1) + some)

        def segment(at: Any, k: Any, length: Any) -> Any:
            def square(i: Any, c: Any) -> Any:
                d = s.trial[at + rows + i, lanes] - s.trial[at + i, lanes]
                return c + d * d

            return length + jnp.sqrt(here.total(one.own_rows(square, self.zero)))

        length = self._each(segment, nothing, np.int32(0), np.int32(count - 1) * some)
        balance = pull * (1.0 / (count - 2)) / (length * (1.0 / (count - 1)) + 1e-30)
        spring = jnp.where(start, balance, s.spring[lanes])
        here.settle()
        s.spring[lanes] = spring
        return finite, spring

    def _tangent(self, at: Any, k: Any) -> tuple[Block, Block, Block, Block]:
        """(a, b, length) of the tangent (a up + b down) / length at an inner image, and its segments' difference."""
        s, lanes = self.s, self.here.lanes
        here, above, below = s.energy[k, lanes], s.energy[k + 1, lanes], s.energy[k - 1, lanes]

        def segments(i: Any) -> tuple[Block, Block]:
            up, down = self._segments(at, i)
            return up * up, down * down

        ahead, back = (jnp.sqrt(a) for a in self._sums(segments, 2))
        rise, fall = above - here, below - here
        large, small = (f(jnp.abs(rise), jnp.abs(fall)) for f in (jnp.maximum, jnp.minimum))
        climbing, falling = (rise > 0) & (fall <= 0), (rise <= 0) & (fall > 0)
        higher = above > below
        a = jnp.where(climbing, 1.0, jnp.where(falling, 0.0, jnp.where(higher, large, small)))
        b = jnp.where(climbing, 0.0, jnp.where(falling, 1.0, jnp.where(higher, small, large)))
        flat = (large == 0) | (above == below)
        a = jnp.where(flat, 1.0 / jnp.where(ahead > 0, ahead, 1.0), a)
        b = jnp.where(flat, 1.0 / jnp.where(back > 0, back, 1.0), b)

        def square(i: Any) -> tuple[Block, Block]:
            up, down = self._segments(at, i)
            mixed, whole = a * up + b * down, up + down
            return mixed * mixed, whole * whole

        mixed, whole = self._sums(square, 2)
        # Folded back on itself: zero but for the rounding of a product fused with a sum.
        noise = float(4 * jnp.finfo(self.zero.dtype).eps ** 2)
        fold = mixed <= noise * ((a * ahead) ** 2 + (b * back) ** 2)
        length = jnp.sqrt(jnp.where(fold, whole, mixed))
        a, b = jnp.where(fold, 1.0, a), jnp.where(fold, 1.0, b)
        return a, b, jnp.where(length > 0, length, 1.0), back - ahead

    def _segments(self, at: Any, i: Any) -> tuple[Block, Block]:
        """A row of the vectors to the next image and from the last one."""
        s, lanes, rows = self.s, self.here.lanes, np.int32(self.one.rows)
        here = s.trial[at + i, lanes]
        return s.trial[at + rows + i, lanes] - here, here - s.trial[at - rows + i, lanes]

    def _nudged(self, finite: Block, spring: Block) -> Nudged:
        """Nudged gradients of the evaluated band; the old gradient and its change are replaced."""
        s, here, lanes, count = self.s, self.here, self.here.lanes, self._count()
        running = s.status[lanes] == Status.RUNNING

        def image(at: Any, k: Any, carry: Any) -> Any:
            a, b, length, slack = self._tangent(at, k)
            scale = 1.0 / length

            def row(i: Any) -> tuple[Block, Block, Block]:
                """Tangent, spring's and true gradient."""
                up, down = self._segments(at, i)
                return (a * up + b * down) * scale, spring * (down - up), self.new_ref[at + i, lanes]

            def along(i: Any) -> tuple[Block, Block]:
                t, pull, g = row(i)
                return g * t, pull * t

            gt, st = self._sums(along, 2)

            def across(i: Any) -> tuple[Block, Block]:
                t, pull, g = row(i)
                c = g - gt * t
                return c * c, (pull - st * t) * c

            norm, overlap = self._sums(across, 2)
            overlap = overlap / jnp.where(norm > 0, norm, 1.0)

            def nudge(i: Any, c: Any) -> Any:
                sy, yy, ss, square = c
                t, pull, g = row(i)
                off, step, old = g - gt * t, s.step[at + i, lanes], s.gradient[at + i, lanes]
                new = off + spring * slack * t + ((pull - st * t) - overlap * off)
                change = new - old
                self.change_ref[at + i, lanes] = change
                s.gradient[at + i, lanes] = jnp.where(running, new, old)
                return sy + step * change, yy + change * change, ss + step * step, square + new * new

            *sofar, total, longest = carry
            *sofar, square = self.one.own_rows(nudge, (*sofar, self.zero))
            square = here.total(square)
            return *sofar, total + square, jnp.maximum(longest, jnp.sqrt(square))

        nothing = jnp.zeros(lanes.shape, self.zero.dtype)
        carry = (*(self.zero,) * 3, nothing, nothing)
        sy, yy, ss, square, longest = self._each(image, carry, np.int32(1), np.int32(count - 1))
        sy, yy, ss = (here.total(a) for a in (sy, yy, ss))
        here.settle()
        evaluations = s.evaluations[lanes]
        return Nudged(
            running=running,
            finite=finite,
            accept=jnp.ones(lanes.shape, bool),
            lost=jnp.zeros(lanes.shape, bool),
            stale=jnp.zeros(lanes.shape, bool),
            curved=(evaluations > 0) & (sy > 1e-8 * jnp.sqrt(ss * yy)),
            sy=sy,
            square=square,
            longest=longest,
            evaluations=evaluations + 1,
        )

    def _onward(self, t: Nudged, d: Direction) -> Block:
        """The next trial; status of every band."""
        s, here, lanes, count = self.s, self.here, self.here.lanes, self._count()
        downhill = d.fresh | (d.slope > 0)
        first = 0.1 * self.limits.max_step / (t.longest + 1e-30)

        def move(i: Any) -> Block:
            return jnp.where(downhill, s.gradient[i, lanes] * first, d.ref[i, lanes])

        def image(at: Any, k: Any, longest: Any) -> Any:
            def square(i: Any) -> tuple[Block]:
                m = move(at + i)
                return (m * m,)

            return jnp.maximum(longest, jnp.sqrt(self._sums(square, 1)[0]))

        nothing = jnp.zeros(lanes.shape, self.zero.dtype)
        longest = self._each(image, nothing, np.int32(1), np.int32(count - 1))
        factor = -jnp.minimum(1.0, self.limits.max_step / jnp.where(longest > 0, longest, 1.0))
        size = jnp.sqrt(t.square * (1.0 / ((count - 2) * self.shape.parameters)))
        ended = jnp.where(t.evaluations >= self.limits.limit, np.int32(Status.MAX_STEPS), np.int32(Status.RUNNING))
        ended = jnp.where(size <= self.limits.tol, np.int32(Status.CONVERGED), ended)
        ended = jnp.where(t.finite, ended, np.int32(Status.NONFINITE))
        goes_on = t.running & (ended == Status.RUNNING)

        def step_on(i: Any, c: Any) -> Any:
            step = jnp.where(goes_on, factor * move(i), 0.0)
            s.step[i, lanes], s.trial[i, lanes] = step, s.trial[i, lanes] + step
            return c

        here.own_rows(step_on, np.int32(0))
        status = jnp.where(t.running, ended, s.status[lanes])
        evaluations = jnp.where(t.running, t.evaluations, s.evaluations[lanes])
        here.settle()
        s.evaluations[lanes], s.status[lanes] = evaluations, status
        here.settle()
        return status

    def one_pass(self) -> Block:
        """See ``Program``."""
        finite, spring = self._evaluated()
        self.here, self.one = (threads.after(spring) for threads in (self.here, self.one))
        t = self._nudged(finite, spring)
        return self._onward(t, self.propose(t))

    def run(self) -> None:
        """See ``Program``; the ends never pull."""
        last = np.int32((self._count() - 1) * self.one.rows)

        def still(i: Any, c: Any) -> Any:
            for at in (np.int32(0), last):
                self.change_ref[at + i, self.here.lanes] = self.zero
            return c

        self.one.own_rows(still, np.int32(0))
        super().run()
