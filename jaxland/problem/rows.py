"""A loss too big for one device: rows of data spread over a mesh, sums taken over its axis.

Works over the local devices of one process and, after ``jax.distributed.initialize``, over those of all processes
(each must then make the same calls in the same order).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxland.core.energy import kernels
from jaxland.errors import ArgumentError, ProblemError
from jaxland.problem.problem import Problem

PyTree = Any


def to_host(array: Any) -> np.ndarray:
    """NumPy copy of an array wherever its parts are; every process must call it when they are in several."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable and not array.is_fully_replicated:
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(array, tiled=True))
    return np.asarray(array)


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

    @cached_property
    def energy_of(self) -> Callable[[jax.Array, tuple[Any, Any]], jax.Array]:
        """Pure ``(w[N], data) -> L(w)``; each device goes through its rows in chunks."""
        unravel, reg, chunk, axis, n = self._flat[1], self.regulariser, self.chunk, self.axis, self.rows
        mesh, losses = self.mesh, self.losses_of
        assert mesh is not None

        def local(w: jax.Array, x: Any, y: Any) -> jax.Array:
            rows = jax.tree.leaves(x)[0].shape[0]
            weight = (jax.lax.axis_index(axis) * rows + jnp.arange(rows) < n).astype(w.dtype)
            block = rows if chunk is None else min(chunk, rows)

            def part(x: Any, y: Any, weight: jax.Array) -> jax.Array:
                return jnp.sum(weight * losses(w, x, y))

            full = rows // block * block
            total = jax.lax.pcast(jnp.zeros((), w.dtype), (axis,), to="varying")
            if full > block:
                blocks = jax.tree.map(lambda a: a[:full].reshape(-1, block, *a.shape[1:]), (x, y, weight))
                step = jax.checkpoint(part)
                total, _ = jax.lax.scan(lambda sum_, rows: (sum_ + step(*rows), None), total, blocks)
            else:
                total = total + part(*jax.tree.map(lambda a: a[:full], (x, y, weight)))
            if full < rows:
                total = total + part(*jax.tree.map(lambda a: a[full:], (x, y, weight)))
            return jax.lax.psum(total, axis)

        by_row = PartitionSpec(axis)
        total = jax.shard_map(local, mesh=mesh, in_specs=(PartitionSpec(), by_row, by_row), out_specs=PartitionSpec())

        def energy(w: jax.Array, data: tuple[Any, Any]) -> jax.Array:
            value = total(w, *data) / n
            return value if reg is None else value + reg(unravel(w))

        return energy

    @cached_property
    def kernel(self) -> kernels.Kernel:
        """Energy, gradient and Hessian by autodiff."""
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
        fields = {f: getattr(self, f) for f in Problem.__dataclass_fields__}
        return shard_data(Problem(**fields).with_data(x, y), self.mesh, self.axis)


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
    mesh = Mesh(mesh.devices, mesh.axis_names)
    sharding = NamedSharding(mesh, PartitionSpec(axis))
    rows = problem.n
    padding = -rows % int(mesh.shape[axis])

    def spread(leaf: Any) -> jax.Array:
        host = to_host(leaf)
        host = np.concatenate([host, np.repeat(host[:1], padding, axis=0)]) if padding else host
        return jax.make_array_from_callback(host.shape, sharding, lambda part: host[part])

    x, y = jax.tree.map(spread, problem.data)
    fields = {f: getattr(problem, f) for f in Problem.__dataclass_fields__}
    whole = NamedSharding(mesh, PartitionSpec())
    params = jax.tree.map(
        lambda a: jax.make_array_from_callback(np.shape(a), whole, lambda part: to_host(a)[part]), problem.params
    )
    return ShardedProblem(**{**fields, "x": x, "y": y, "params": params}, mesh=mesh, axis=axis, rows=rows)


def host_rows(problem: Problem) -> tuple[Any, Any]:
    """(x, y) of a problem on the host, without padding rows."""
    return jax.tree.map(lambda a: to_host(a)[: problem.n], problem.data)
