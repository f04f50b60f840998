"""Eigenvector-following on an accelerator: Hessians of all lanes in the same passes, gradients between them.

Under vmap a lane that wants a Hessian makes all of them compute theirs, and a Hessian with its eigenvectors costs 20
to 60 gradients. So all take one in the first pass of a turn, asked or not, and go on by gradients in the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxland.core.energy.kernels import Curved, Values
from jaxland.core.solvers.fleet import Vmapped
from jaxland.core.solvers.protocol import Status
from jaxland.core.solvers.saddle.following import EigenvectorFollowing, FollowingState


@dataclass(frozen=True, kw_only=True)
class InTurns(Vmapped):
    """A program of ``core.solvers.fleet``; a launch takes ``passes`` turns, evaluated by ``Kernel.second``.

    Attributes:
        solver: whose Hessians serve for ``solver.keep`` steps; evaluate: ``(x, data) -> Curved``.
        first: ``(x, data) -> Values``; gradients: of a turn, after its Hessian.
    """

    solver: EigenvectorFollowing
    evaluate: Callable[[jax.Array, PyTree], Curved]
    first: Callable[[jax.Array, PyTree], Values]
    gradients: int = 4

    def _turn(self, states: FollowingState, data: PyTree) -> FollowingState:
        solver = self.solver

        def curve(s: FollowingState) -> FollowingState:
            s = s._replace(curved=jnp.ones((), bool))
            return solver.step(s, Curved(*self.evaluate(solver.point(s).x, data)))

        def correct(s: FollowingState) -> FollowingState:
            return solver.correct(s, Values(*self.first(solver.point(s).x, data)))

        def gliding(s: FollowingState) -> jax.Array:
            return (s.status == Status.RUNNING) & ~s.curved

        def goes_on(carry: tuple[jax.Array, FollowingState]) -> jax.Array:
            return (carry[0] < self.gradients) & jnp.any(gliding(carry[1]))

        def body(carry: tuple[jax.Array, FollowingState]) -> tuple[jax.Array, FollowingState]:
            return carry[0] + 1, self.choose(gliding(carry[1]), jax.vmap(correct)(carry[1]), carry[1])

        states = self.choose(states.status == Status.RUNNING, jax.vmap(curve)(states), states)
        return jax.lax.while_loop(goes_on, body, (jnp.zeros((), jnp.int32), states))[1]

    def advance(self, states: FollowingState, data: PyTree) -> FollowingState:
        """See ``fleet.Program``."""

        def goes_on(carry: tuple[jax.Array, FollowingState]) -> jax.Array:
            return (carry[0] < self.passes) & jnp.any(carry[1].status == Status.RUNNING)

        def body(carry: tuple[jax.Array, FollowingState]) -> tuple[jax.Array, FollowingState]:
            return carry[0] + 1, self._turn(carry[1], data)

        return jax.lax.while_loop(goes_on, body, (jnp.zeros((), jnp.int32), states))[1]
