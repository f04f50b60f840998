"""Hessian-vector products of networks too large for a matrix: chunks of rows, vectors spread over devices."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxland.core.energy import derivatives as curvature
from jaxland.core.solvers.auto_band import loops_on_host
from jaxland.problem.problem import Problem, PyTree
from jaxland.problem.rows import equal_blocks

Product = Callable[[jax.Array], jax.Array]


def padded_product(problem: Problem, length: int, mesh: Mesh | None, axis: str) -> Product:
    """Hessian-vector products [length] at the problem's point; coordinates beyond its parameters are zero.

    Args:
        problem: rows go through in chunks, from the host where its program would unroll them.
        length: of the vectors, at least the number of parameters.
        mesh, axis: devices over which the vectors lie.
    """
    size, w, data = problem.size, problem.w, problem.data
    energy = problem.energy_of

    def padded(w: jax.Array, v: jax.Array, data: PyTree) -> jax.Array:
        return jnp.pad(curvature.hvp(lambda u: energy(u, data), w, v[:size]), (0, length - size))

    where = None if mesh is None else NamedSharding(mesh, PartitionSpec(axis))
    compiled = problem.compiled(("padded product", length, mesh, axis), lambda: jax.jit(padded, out_shardings=where))
    if mesh is None and problem.loss is not None and problem.chunk is not None and problem.chunk < problem.n:
        sample = jax.tree.map(lambda a: a[:2], data)
        if loops_on_host(problem.energy_of, w, sample):
            return hosted_product(problem)
    return lambda v: compiled(w, v, data)


def hosted_product(problem: Problem) -> Product:
    """Chunk after chunk from the host; the last one is filled up with rows that weigh nothing."""
    chunk, n, w = int(problem.chunk or problem.n), problem.n, problem.w
    reg, unravel = problem.regulariser, problem.unravel
    blocks = [(*rows, weight / n) for rows, weight in equal_blocks(problem.data, n, chunk, problem.dtype)]

    def part(w: jax.Array, v: jax.Array, x: PyTree, y: PyTree, weight: jax.Array) -> jax.Array:
        return curvature.hvp(lambda u: jnp.sum(weight * problem.losses_of(u, x, y)), w, v)

    of_rows, rest = problem.compiled("hosted product", lambda: jax.jit(part)), None
    if reg is not None:
        rest = problem.compiled(
            "product of the regulariser", lambda: jax.jit(lambda w, v: curvature.hvp(lambda u: reg(unravel(u)), w, v))
        )

    def product(v: jax.Array) -> jax.Array:
        total = sum(of_rows(w, v, *block) for block in blocks)
        return total if rest is None else total + rest(w, v)

    return product
