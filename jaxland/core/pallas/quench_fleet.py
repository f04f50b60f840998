"""The whole quench as a program of ``core.solvers.fleet``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.core.pallas.dense.shape import Shape
from jaxland.core.pallas.whole_quench import State, advance, begin
from jaxland.core.solvers.protocol import Status
from jaxland.core.solvers.quench import Minimum, Start

# Threads that fill a GPU of 132 multiprocessors with 8 warps on each.
_THREADS = 33_792
_POINTS_A_LAUNCH = 64_000


@dataclass(frozen=True)
class WholeQuench:
    """The program of ``core.solvers.fleet`` that quenches in one kernel; items are ``quench.Start`` [jobs].

    Attributes:
        shape: of the networks and their data; tol, limit, passes: see ``advance``.
    """

    shape: Shape
    tol: float
    limit: int
    passes: int

    @classmethod
    def of(cls, shape: Shape, points: int, jobs: int, *, tol: float, limit: int) -> WholeQuench:
        """Few jobs share the points of each among several threads; launches take a tenth of a second or so."""
        # One thread a network pays where the last, slowest networks are few among many: 54 against 30 ns a network
        # and evaluation at full load (H100, 5 hidden units), but eight times as long for a network by itself.
        team = 1 if 2 * jobs >= 3 * _THREADS else 8
        passes = int(np.clip(_POINTS_A_LAUNCH // points, 1, 64))
        ahead = 2 if team == 1 and shape.units <= 6 else 1
        return cls(replace(shape, team=team, ahead=ahead, own=True), tol, limit, passes)

    @property
    def lanes(self) -> int:
        """Networks that fill the machine."""
        return _THREADS // self.shape.team

    def begin(self, items: Start) -> State:
        """See ``fleet.Program``."""
        return begin(jnp.asarray(items.x), jnp.asarray(items.max_step), self.shape.team)

    def advance(self, states: State, data: Any) -> State:
        """See ``fleet.Program``; ``data`` is that of the dense kernel."""
        return advance(self.shape, states, data[0], tol=self.tol, limit=self.limit, passes=self.passes)

    def status(self, states: State) -> jax.Array:
        """See ``fleet.Program``."""
        return states.status

    def result(self, states: State) -> Minimum:
        """See ``fleet.Program``."""
        size = self.shape.parameters
        rms = jnp.sqrt(jnp.sum(states.gradient * states.gradient, axis=0) / size)
        return Minimum(states.x[:size].T, states.energy, rms, states.evaluations)

    def choose(self, fresh: jax.Array, new: State, old: State) -> State:
        """See ``fleet.Program``; an inverse Hessian is not read before it is made."""
        picked = {
            name: jnp.where(fresh, getattr(new, name), getattr(old, name))
            for name in State._fields
            if name != "inverse"
        }
        return State(inverse=old.inverse, **picked)

    def park(self, states: State, idle: jax.Array) -> State:
        """See ``fleet.Program``."""
        return states._replace(status=jnp.where(idle, jnp.int32(Status.STALLED), states.status))

    def take(self, states: State, lanes: jax.Array) -> State:
        """See ``fleet.Program``."""
        return jax.tree.map(lambda a: a[..., lanes], states)
