"""Basin hopping as one program a walker: quench, note the minimum, decide, displace, quench again.

The rule and the numbers are the host's: a walker goes on from a minimum that lies lower, or higher by less than
-T ln(chance); displacements and chances come with the walker, drawn from its own stream. Energies here are those of
quenches at their own tolerance, before any finish or audit. That is harmless: every end is finished, audited and
stored whatever was decided, so that the decision only chooses where the next displacement, of .6 of all coordinates,
sets off; an energy is off by N rms^2 / (2 lambda), 1e-13 for a quench of 27 weights to 1e-9 along a mode of 1e-4, and
so the rule decides as it would after the audit. A quench that gave up, or rests on a saddle that the audit turns
down, costs one hop.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxland.core.pallas.whole import bfgs, lbfgs
from jaxland.core.pallas.whole.bfgs import Dense
from jaxland.core.pallas.whole.lbfgs import Limited
from jaxland.core.pallas.whole.program import Block, Direction, Judged, Program
from jaxland.core.pallas.whole.threads import Threads
from jaxland.core.solvers.protocol import Status
from jaxland.core.solvers.quench import Walk


class State(NamedTuple):
    """L walkers of H hops each.

    Attributes:
        quench: under way, with its status; RUNNING until the last hop has ended.
        base: minima that the walkers are in; level: their energies.
        kicks: displacement of every hop, in units of the rms coordinate.
        allowed: rise of the energy that every hop may have, see ``quench.Walk``.
        hop: under way, or the last.
        ends, energies, codes, counts: of every hop's quench, coordinates, energy, status and evaluations.
    """

    quench: bfgs.State | lbfgs.State
    base: Float[Array, "N L"]
    level: Float[Array, " L"]
    kicks: Float[Array, "H N L"]
    allowed: Float[Array, "H L"]
    hop: Int[Array, " L"]
    ends: Float[Array, "H N L"]
    energies: Float[Array, "H L"]
    codes: Int[Array, "H L"]
    counts: Int[Array, "H L"]

    @property
    def trial(self) -> Any:
        """Of the quench."""
        return self.quench.trial

    @property
    def weights(self) -> Any:
        """Of the quench's secant pairs."""
        return self.quench.weights  # type: ignore[union-attr]


def begin(walks: Walk, quench: bfgs.State | lbfgs.State) -> State:
    """State at the start of walks [B] whose first quenches begin as given."""
    rows, (lanes, hops, size) = quench.trial.shape[0], walks.kicks.shape
    dtype = walks.x.dtype

    def laid(a: jax.Array) -> jax.Array:
        """[B, .., N] as [.., N, B], padded."""
        return jnp.moveaxis(jnp.pad(a, (*((0, 0),) * (a.ndim - 1), (0, rows - size))), 0, -1)

    return State(
        quench=quench,
        base=laid(jnp.asarray(walks.x)),
        level=jnp.array(walks.energy, dtype),
        kicks=laid(jnp.asarray(walks.kicks)),
        allowed=jnp.array(walks.allowed, dtype).T,
        hop=jnp.zeros(lanes, jnp.int32),
        ends=jnp.zeros((hops, rows, lanes), dtype),
        energies=jnp.zeros((hops, lanes), dtype),
        codes=jnp.zeros((hops, lanes), jnp.int32),
        counts=jnp.zeros((hops, lanes), jnp.int32),
    )


class _Walking(Program):
    """What follows a quench that has ended."""

    def __init__(
        self, shape: Any, points: int, limits: Any, weights: Any, state: State, inputs: Any, scratch: Any
    ) -> None:
        super().__init__(shape, points, limits, weights, state.quench, inputs, scratch)
        self.walk = state

    def forget(self, anew: Block, lanes: Block) -> None:
        """What the model has learned, where a quench begins anew."""
        raise NotImplementedError

    def move(self, t: Judged, d: Direction) -> Block:
        """See ``Program``; where a quench has ended the next one begins."""
        status = super().move(t, d)
        ended = t.running & (status != Status.RUNNING)
        self.here.settle()
        some = jnp.max(ended.astype(jnp.int32))

        def onward(k: Any, c: Any) -> Any:
            self._onward(ended, status, self.here.after(k))
            return c

        jax.lax.fori_loop(np.int32(0), some, onward, np.int32(0))
        return self.s.status[self.here.lanes]

    def _onward(self, ended: Block, status: Block, here: Threads) -> None:
        s, w = self.s, self.walk
        lanes, last = here.lanes, np.int32(self.walk.kicks.shape[0] - 1)
        hop, energy, level, count = w.hop[lanes], s.energy[lanes], w.level[lanes], s.evaluations[lanes]
        rise = energy - level
        accept = ended & (status == Status.CONVERGED) & ((rise <= 0) | (rise < w.allowed[hop, lanes]))
        anew = ended & (hop < last)

        def note(i: Any, square: Any) -> Any:
            x = s.x[i, lanes]
            base = jnp.where(accept, x, w.base[i, lanes])
            w.base[i, lanes], w.ends[hop, i, lanes] = base, jnp.where(ended, x, w.ends[hop, i, lanes])
            return square + base * base

        square = here.total(here.own_rows(note, self.zero))
        size = jnp.maximum(jnp.sqrt(square * (1.0 / self.shape.parameters)), 1e-3)
        following = jnp.where(anew, hop + 1, hop)

        def displace(i: Any, c: Any) -> Any:
            x = w.base[i, lanes] + size * w.kicks[following, i, lanes]
            for ref in (s.x, s.trial):
                ref[i, lanes] = jnp.where(anew, x, ref[i, lanes])
            for ref in (s.step, s.gradient):
                ref[i, lanes] = jnp.where(anew, 0.0, ref[i, lanes])
            return c

        here.own_rows(displace, np.int32(0))
        scale, noted = s.scale[lanes], [ref[hop, lanes] for ref in (w.energies, w.codes, w.counts)]
        here.settle()
        for ref, old, new in zip((w.energies, w.codes, w.counts), noted, (energy, status, count)):
            ref[hop, lanes] = jnp.where(ended, new, old)
        w.level[lanes], w.hop[lanes] = jnp.where(accept, energy, level), following
        s.energy[lanes] = jnp.where(anew, jnp.inf, energy)
        s.scale[lanes] = jnp.where(anew, 1.0, scale)
        s.evaluations[lanes] = jnp.where(anew, 0, count)
        s.status[lanes] = jnp.where(anew, np.int32(Status.RUNNING), status)
        self.forget(anew, lanes)
        here.settle()


class DenseHops(_Walking, Dense):
    """Hops by BFGS."""

    def forget(self, anew: Block, lanes: Block) -> None:
        """See ``_Walking``."""
        self.s.fresh[lanes] = jnp.where(anew, 1, self.s.fresh[lanes])


class LimitedHops(_Walking, Limited):
    """Hops by L-BFGS."""

    def forget(self, anew: Block, lanes: Block) -> None:
        """See ``_Walking``."""
        weights = self.s.weights

        def drop(k: Any, c: Any) -> Any:
            weights[k, lanes] = jnp.where(anew, 0.0, weights[k, lanes])
            return c

        jax.lax.fori_loop(np.int32(0), np.int32(weights.shape[0]), drop, np.int32(0))
