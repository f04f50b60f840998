"""Where jobs of solvers run: as a fleet on one accelerator, through lanes on several or on a CPU; what they cost."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from jaxland.core.solvers import fleet, lanes, threads
from jaxland.core.solvers.fleet import Ended
from jaxland.core.solvers.protocol import Layout, Solver, Status
from jaxland.landscape.search.points import price

# On an accelerator, where an evaluation holds Hessians or bands: passes of a launch, and lanes that wait for one
# another.
SHORT, _SQUAD = 4, 512


class Solving:
    """Runs solvers.

    Args:
        layout: of the lanes.
        mesh: devices with an axis "lanes" to shard them over; None: all local accelerators, where there are several.
        should_stop: asked between blocks of passes.

    Attributes:
        work: what has been spent, in gradients (a count, not a time: the same on every machine).
    """

    def __init__(self, layout: Layout, mesh: Mesh | None, should_stop: Callable[[], bool] | None) -> None:
        self.layout, self.should_stop = layout, should_stop
        self.mesh = mesh or (lanes.local_mesh() if threads.on_accelerator() else None)
        # One accelerator: all stays on it. Several, or a CPU: lanes.
        self._fleet = threads.on_accelerator() and self.mesh is None
        self.work = 0

    @property
    def _squad(self) -> int:
        """Lanes of a squad whose evaluations are dear."""
        return min(self.layout.lanes, _SQUAD)

    def _solve(self, solver: Solver, evaluate: Callable, items: PyTree, data: PyTree, weight: int = 1) -> Ended:
        """Every item (stacked on a leading axis) through the solver: how each ended, and where."""
        if self._fleet:
            if weight == 1:
                return self._counted(fleet.Vmapped(solver, evaluate), items, data, self.layout.lanes, 1)
            # Lanes wait for the slowest of a launch: few passes and small squads where an evaluation is dear.
            return self._counted(fleet.Vmapped(solver, evaluate, SHORT), items, data, self._squad, weight)
        count = jax.tree.leaves(items)[0].shape[0]
        status, result = np.zeros(count, np.int32), None
        stream = lanes.stream(
            solver,
            evaluate,
            [jax.tree.map(lambda a, i=i: a[i], items) for i in range(count)],
            data,
            layout=self.layout,
            mesh=self.mesh,
            should_stop=self.should_stop,
        )
        for outcome in stream:
            self.work += int(price(outcome.result, weight))
            if result is None:
                result = jax.tree.map(lambda a: np.zeros((count, *a.shape), a.dtype), outcome.result)
            status[outcome.job] = outcome.status
            for leaf, one in zip(jax.tree.leaves(result), jax.tree.leaves(outcome.result)):
                leaf[outcome.job] = one
        return Ended(status, result)

    def _counted(self, program: fleet.Program, items: PyTree, data: PyTree, most: int, weight: int) -> Ended:
        """Every item through a program in squads of so many lanes; its work is counted."""
        squads = max(2, self.layout.lanes // most)
        ended = fleet.run(program, items, data, lanes=most, squads=squads, should_stop=self.should_stop)
        self.work += int(np.sum(price(ended.result, weight)[ended.status != Status.RUNNING]))
        return ended
