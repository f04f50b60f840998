"""A problem too big for one device: its rows spread over a mesh (see ``jaxland.problem.rows``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxland.core.energy import kernels
from jaxland.errors import ArgumentError, ProblemError
from jaxland.problem.problem import Problem
from jaxland.problem.rows import automatic, replicated, spread_over, spread_rows, sum_rows, to_host


@dataclass(frozen=True, eq=False)
class ShardedProblem(Problem):
    """A problem whose rows lie on many devices; made by ``shard_data``.

    ``energy``, ``gradient``, ``hvp`` and everything else built on ``energy_of`` are sums over the devices, which
    differ from those of one device by rounding only. Parameters are replicated.

    Attributes:
        mesh: devices.
        axis: mesh axis over which rows are spread.
        rows: number of examples; the arrays hold copies of the first row beyond them, which weigh nothing.
    """

    mesh: Mesh | None = None
    axis: str = "data"
    rows: int = 0

    @property
    def n(self) -> int:
        """Number of training examples."""
        return self.rows

    def _energy_of(self) -> Callable[[jax.Array, tuple[Any, Any]], jax.Array]:
        """Each device goes through its rows in chunks."""
        unravel, reg, chunk, axis, n = self._flat[1], self.regulariser, self.chunk, self.axis, self.rows
        mesh, losses = self.mesh, self.losses_of
        assert mesh is not None

        def part(w: jax.Array, x: Any, y: Any, weight: jax.Array) -> jax.Array:
            return jnp.sum(weight * losses(w, x, y))

        def local(w: jax.Array, x: Any, y: Any) -> jax.Array:
            rows = jax.tree.leaves(x)[0].shape[0]
            weight = (jax.lax.axis_index(axis) * rows + jnp.arange(rows) < n).astype(w.dtype)
            return sum_rows(lambda *r: part(w, *r), (x, y, weight), chunk, (axis,))

        by_row = PartitionSpec((axis,))
        total = spread_over(local, mesh, (axis,), (PartitionSpec(), by_row, by_row))

        def energy(w: jax.Array, data: tuple[Any, Any]) -> jax.Array:
            value = total(w, *data) / n
            return value if reg is None else value + reg(unravel(w))

        return energy

    def _kernel(self) -> kernels.Kernel:
        """By autodiff."""
        return kernels.autodiff(self.energy_of, self.data, self.size, 2.0 * self.n * self.size)

    def losses(self, w: Any = None, x: Any = None, y: Any = None) -> jax.Array:
        """Per-example losses on the training data, or on (x, y)."""
        found = super().losses(w, x, y)
        return found if x is not None else found[: self.rows]

    def predict(self, w: Any = None, x: Any = None) -> jax.Array:
        """Model outputs on the training data, or on x."""
        found = super().predict(w, x)
        return found if x is not None else found[: self.rows]

    def with_data(self, x: Any, y: Any) -> Problem:
        """The same model and loss over other data, spread likewise."""
        assert self.mesh is not None
        kept = {f.name: getattr(self, f.name) for f in fields(Problem) if f.init}
        return shard_data(Problem(**kept).with_data(x, y), self.mesh, self.axis)


def shard_data(problem: Problem, mesh: Mesh, axis: str = "data") -> ShardedProblem:
    """The same problem with its rows spread over one axis of a mesh.

    Args:
        problem: per-example losses and data; every process passes the same.
        mesh: devices, of one process or of all.
        axis: name of the axis; parameters are replicated over it and every other axis.

    Raises:
        ProblemError: a plain energy, which has no rows.
        ArgumentError: the mesh has no such axis.
    """
    if problem.loss is None:
        raise ProblemError("a plain energy has no rows to spread over a mesh")
    if axis not in mesh.axis_names:
        raise ArgumentError(f"the mesh has axes {', '.join(map(str, mesh.axis_names))}, none of them {axis!r}")
    mesh = automatic(mesh)
    x, y = spread_rows(problem.data, mesh, (axis,))
    kept = {f.name: getattr(problem, f.name) for f in fields(Problem) if f.init}
    kept |= {"x": x, "y": y, "params": replicated(problem.params, mesh)}
    return ShardedProblem(**kept, mesh=mesh, axis=axis, rows=problem.n)


def host_rows(problem: Problem) -> tuple[Any, Any]:
    """(x, y) of a problem on the host, without padding rows."""
    return jax.tree.map(lambda a: to_host(a)[: problem.n], problem.data)
