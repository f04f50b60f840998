"""Derivative sums of a problem over its data: in chunks sized for the cache, over a mesh, data as arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float

from jaxland.core.energy import derivatives
from jaxland.errors import ArgumentError, ProblemError
from jaxland.problem.problem import Problem
from jaxland.problem.rows import automatic, map_rows, row_footprint, rows_at_once, spread_over, spread_rows, sum_rows

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
        if mesh is not None:
            mesh = automatic(mesh)
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
        weight = jnp.concatenate([data[2], jnp.zeros((self.padding,), data[2].dtype)])
        x, y = spread_rows(data[:2], self.mesh, self.axes)
        return x, y, spread_rows(weight, self.mesh, self.axes)

    @cached_property
    def footprint(self) -> int:
        """Numbers the losses compute per row."""
        problem, w = self.problem, self.problem.w
        return row_footprint(lambda x, y: problem.losses_of(w, x, y), problem.data)

    def rows(self, k: int, total: int | None = None) -> int:
        """Rows to take at once for k vectors."""
        total = max(1, (self.n + self.padding) // self.shards if total is None else total)
        return rows_at_once(total, max(1, k) * self.footprint, self.problem.chunk)

    def _sum(
        self, local: Callable[..., jax.Array], lead: Any, w: jax.Array, data: Any, split_lead: bool
    ) -> jax.Array:
        if self.mesh is None:
            return local(lead, w, data)
        lead_spec = PartitionSpec(None, self.axes) if split_lead else PartitionSpec()
        specs = (lead_spec, PartitionSpec(), PartitionSpec(self.axes))
        return spread_over(local, self.mesh, self.axes, specs)(lead, w, data)

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
            return sum_rows(lambda *r: block(v, u, *r), rows, chunk, self.axes)

        return self._sum(local, vectors, w, data, False) / self.n

    def _gradient(self, w: jax.Array, data: Any) -> jax.Array:
        if self.plain:
            return jax.grad(lambda u: self.problem.energy_of(u, (None, None)))(w)
        problem, chunk = self.problem, self.rows(1)

        def local(_: Any, u: jax.Array, rows: Any) -> jax.Array:
            def block(x: Any, y: Any, weight: jax.Array) -> jax.Array:
                return jax.grad(lambda t: jnp.sum(weight * problem.losses_of(t, x, y)))(u)

            return sum_rows(block, rows, chunk, self.axes)

        return self._regularised(self._sum(local, jnp.zeros(()), w, data, False) / self.n, None, w)

    def _example_products(self, vectors: jax.Array, w: jax.Array, data: Any) -> jax.Array:
        problem, chunk = self.problem, self.rows(vectors.shape[0])

        def local(v: jax.Array, u: jax.Array, rows: Any) -> jax.Array:
            def block(x: Any, y: Any, weight: jax.Array) -> jax.Array:
                return derivatives.example_products(lambda t: problem.losses_of(t, x, y), u, v)

            return map_rows(block, rows, chunk)

        if self.mesh is None:
            return local(vectors, w, data)
        specs = (PartitionSpec(), PartitionSpec(), PartitionSpec(self.axes))
        return spread_over(local, self.mesh, self.axes, specs, total=False)(vectors, w, data)[: self.n]

    def _example_sums(self, weights: jax.Array, w: jax.Array, data: Any) -> jax.Array:
        problem, chunk = self.problem, self.rows(weights.shape[0])
        weights = jnp.pad(weights, ((0, 0), (0, self.padding)))

        def local(c: jax.Array, u: jax.Array, rows: Any) -> jax.Array:
            def block(each: jax.Array, x: Any, y: Any, _: jax.Array) -> jax.Array:
                return derivatives.example_sums(lambda t: problem.losses_of(t, x, y), u, each.T)

            return sum_rows(block, (c.T, *rows), chunk, self.axes)

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
    return problem.compiled(("products", kind, mesh), lambda: Products(problem, kind, mesh))
