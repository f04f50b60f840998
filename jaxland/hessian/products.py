"""Derivative sums of a problem over its data: in chunks sized for the cache, over a mesh, data as arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from jaxland.core.energy import derivatives as derivatives
from jaxland.errors import ArgumentError, ProblemError
from jaxland.problem.problem import Problem

KINDS = ("hessian", "gauss-newton")


class Products:
    """Matrix products and gradient sums as pure functions of ``(vectors or weights, w, data)``.

    The plain functions (``product``) serve inside other jitted code, the jitted ones (``products``, ``gradient``)
    from the host.

    Args:
        problem: per-example losses or a plain energy.
        kind: "hessian" or "gauss-newton" (the regulariser always enters with its Hessian).
        mesh: devices over which the rows are spread, every axis of it; None for one device.
    """

    def __init__(self, problem: Problem, kind: str = "hessian", mesh: Mesh | None = None) -> None:
        if kind not in KINDS:
            raise ArgumentError(f"kind {kind!r} is unknown; choose one of {', '.join(KINDS)}")
        self.plain = problem.loss is None
        if kind == "gauss-newton" and (problem.model is None or problem.output_loss is None):
            raise ProblemError(
                "Gauss-Newton products need the model's outputs and their loss: build the problem with "
                "Problem.from_model, or use kind='hessian'"
            )
        if self.plain and mesh is not None:
            raise ProblemError("a plain energy has no rows to spread over a mesh")
        if mesh is not None:  # axes of whatever type become automatic: only the sums here are spread
            mesh = Mesh(mesh.devices, mesh.axis_names)
        self.problem, self.kind, self.mesh, self.n = problem, kind, mesh, problem.n
        self.axes = () if mesh is None else tuple(mesh.axis_names)
        self.shards = 1 if mesh is None else int(mesh.size)
        self.padding = -self.n % self.shards
        self.data = () if self.plain else self._spread((problem.x, problem.y, jnp.ones((self.n,), problem.dtype)))
        self.products = jax.jit(self.product)
        self.gradient = jax.jit(self._gradient)
        self.example_products = jax.jit(self._example_products)
        self.example_sums = jax.jit(self._example_sums)
        self.losses = jax.jit(lambda w, data: problem.losses_of(w, data[0], data[1]))

    # -- rows ------------------------------------------------------------------------------------------------------

    def _spread(self, data: tuple[Any, Any, jax.Array]) -> tuple[Any, ...]:
        if self.mesh is None:
            return data
        pad, sharding = self.padding, NamedSharding(self.mesh, PartitionSpec(self.axes))
        x, y = jax.tree.map(lambda a: jnp.concatenate([a, a[:1].repeat(pad, axis=0)]) if pad else a, data[:2])
        weight = jnp.concatenate([data[2], jnp.zeros((pad,), data[2].dtype)])
        return jax.tree.map(lambda a: jax.device_put(a, sharding), (x, y, weight))

    @cached_property
    def footprint(self) -> int:
        """Numbers the losses compute per row."""
        problem, w = self.problem, self.problem.w
        return derivatives.row_footprint(lambda x, y: problem.losses_of(w, x, y), problem.data)

    def rows(self, k: int, total: int | None = None) -> int:
        """Rows to take at once for k vectors: what stays in a CPU's cache, or fills an accelerator."""
        numbers = 2**20 if jax.default_backend() == "cpu" else 2**27
        total = max(1, (self.n + self.padding) // self.shards if total is None else total)
        most = max(32, numbers // (max(1, k) * self.footprint))
        if self.problem.chunk is not None:
            most = min(most, self.problem.chunk)
        return -(-total // -(-total // most))

    def _sum(
        self, local: Callable[..., jax.Array], lead: Any, w: jax.Array, data: Any, split_lead: bool
    ) -> jax.Array:
        if self.mesh is None:
            return local(lead, w, data)
        rows, axes = PartitionSpec(self.axes), self.axes
        lead_spec = PartitionSpec(None, self.axes) if split_lead else PartitionSpec()
        return jax.shard_map(
            lambda a, b, d: jax.lax.psum(local(a, b, d), axes),
            mesh=self.mesh,
            in_specs=(lead_spec, PartitionSpec(), rows),
            out_specs=PartitionSpec(),
            check_vma=False,
        )(lead, w, data)

    def _regularised(self, total: jax.Array, lead: jax.Array | None, w: jax.Array) -> jax.Array:
        reg, unravel = self.problem.regulariser, self.problem.unravel
        if reg is None:
            return total
        if lead is None:
            return total + jax.grad(lambda u: reg(unravel(u)))(w)
        return total + derivatives.hessian_products(lambda u: reg(unravel(u)), w, lead)

    # -- pure functions --------------------------------------------------------------------------------------------

    def product(self, vectors: Float[Array, "k N"], w: Float[Array, " N"], data: Any) -> Float[Array, "k N"]:
        """Curvature matrix of the whole loss (mean over rows plus regulariser) times each vector; no damping."""
        if self.plain:
            return derivatives.hessian_products(lambda u: self.problem.energy_of(u, (None, None)), w, vectors)
        return self._regularised(self.data_product(vectors, w, data), vectors, w)

    def data_product(self, vectors: Float[Array, "k N"], w: Float[Array, " N"], data: Any) -> Float[Array, "k N"]:
        """The same without the regulariser."""
        problem, chunk = self.problem, self.rows(vectors.shape[0])

        def block(v: jax.Array, u: jax.Array, x: Any, y: Any, weight: jax.Array) -> jax.Array:
            if self.kind == "hessian":
                return derivatives.hessian_products(lambda t: jnp.sum(weight * problem.losses_of(t, x, y)), u, v)
            output_loss = problem.output_loss
            assert output_loss is not None
            return derivatives.gauss_newton_products(
                lambda t: problem.outputs_of(t, x), lambda z: jnp.sum(weight * output_loss(z, y)), u, v
            )

        def local(v: jax.Array, u: jax.Array, rows: Any) -> jax.Array:
            return derivatives.sum_rows(lambda *r: block(v, u, *r), rows, chunk)

        return self._sum(local, vectors, w, data, False) / self.n

    def _gradient(self, w: jax.Array, data: Any) -> jax.Array:
        if self.plain:
            return jax.grad(lambda u: self.problem.energy_of(u, (None, None)))(w)
        problem, chunk = self.problem, self.rows(1)

        def local(_: Any, u: jax.Array, rows: Any) -> jax.Array:
            def block(x: Any, y: Any, weight: jax.Array) -> jax.Array:
                return jax.grad(lambda t: jnp.sum(weight * problem.losses_of(t, x, y)))(u)

            return derivatives.sum_rows(block, rows, chunk)

        return self._regularised(self._sum(local, jnp.zeros(()), w, data, False) / self.n, None, w)

    def _example_products(self, vectors: jax.Array, w: jax.Array, data: Any) -> jax.Array:
        problem, chunk = self.problem, self.rows(vectors.shape[0])

        def local(v: jax.Array, u: jax.Array, rows: Any) -> jax.Array:
            def block(x: Any, y: Any, weight: jax.Array) -> jax.Array:
                return derivatives.example_products(lambda t: problem.losses_of(t, x, y), u, v)

            return derivatives.map_rows(block, rows, chunk)

        if self.mesh is None:
            return local(vectors, w, data)
        rows = PartitionSpec(self.axes)
        spread = jax.shard_map(
            local,
            mesh=self.mesh,
            in_specs=(PartitionSpec(), PartitionSpec(), rows),
            out_specs=rows,
            check_vma=False,
        )
        return spread(vectors, w, data)[: self.n]

    def _example_sums(self, weights: jax.Array, w: jax.Array, data: Any) -> jax.Array:
        problem, chunk = self.problem, self.rows(weights.shape[0])
        weights = jnp.pad(weights, ((0, 0), (0, self.padding)))

        def local(c: jax.Array, u: jax.Array, rows: Any) -> jax.Array:
            def block(each: jax.Array, x: Any, y: Any, _: jax.Array) -> jax.Array:
                return derivatives.example_sums(lambda t: problem.losses_of(t, x, y), u, each.T)

            return derivatives.sum_rows(block, (c.T, *rows), chunk)

        return self._sum(local, weights, w, data, True)

    # -- per-example gradients, in blocks --------------------------------------------------------------------------

    @cached_property
    def _block_gradients(self) -> Callable[..., jax.Array]:
        losses = self.problem.losses_of

        def gradients(w: jax.Array, x: Any, y: Any) -> jax.Array:
            return derivatives.example_gradients(losses, w, x, y)

        return jax.jit(gradients)

    def gradient_blocks(self, w: jax.Array, rows: int) -> Any:
        """Yields (row numbers [r], gradients [r, N]) over the training data, ``rows`` at a time."""
        x, y = self.problem.data
        for start in range(0, self.n, rows):
            part = slice(start, min(start + rows, self.n))
            block = jax.tree.map(lambda a, part=part: a[part], (x, y))
            yield np.arange(part.start, part.stop), self._block_gradients(w, *block)


def products_of(problem: Problem, kind: str, mesh: Mesh | None = None) -> Products:
    """The ``Products`` of a problem, compiled once for as long as the problem lives."""
    known = problem.__dict__.setdefault("_hessian_products", {})
    if (kind, mesh) not in known:
        known[kind, mesh] = Products(problem, kind, mesh)
    return known[kind, mesh]
