"""Every sum over data: in chunks with rematerialisation, over the devices of a mesh, over processes; memory per row.

A mesh may hold the devices of one process or, after ``jax.distributed.initialize``, those of all processes (each must
then make the same calls in the same order). Rows are filled up to a multiple of the devices by copies of the first
one, which weigh nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

PyTree = Any


def to_host(array: Any) -> np.ndarray:
    """NumPy copy of an array wherever its parts are; every process must call it when they are in several."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable and not array.is_fully_replicated:
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(array, tiled=True))
    return np.asarray(array)


# -- chunks ----------------------------------------------------------------------------------------------------------


def sum_rows(
    f: Callable[..., PyTree], data: tuple[Any, ...], chunk: int | None, axes: tuple[str, ...] = ()
) -> PyTree:
    """Sum of ``f(*rows)`` over blocks of at most ``chunk`` rows; ``f`` must itself sum over the rows it is given.

    Blocks are evaluated one after another under ``jax.checkpoint``, so that derivatives of the sum keep no more than
    one block of intermediate values.

    Args:
        f: ``f(*rows) -> pytree``.
        data: arrays with the rows in front.
        chunk: None: all at once.
        axes: mesh axes over which the rows differ, within ``summed_over``.
    """
    n = jax.tree.leaves(data)[0].shape[0]
    if chunk is None or chunk >= n:
        return f(*data)
    blocks, rest = _blocks(data, n, chunk)
    step = jax.checkpoint(lambda rows: f(*rows))
    first = jax.tree.map(
        lambda a: _varying(jnp.zeros(a.shape, a.dtype), axes),
        jax.eval_shape(step, jax.tree.map(lambda a: a[0], blocks)),
    )
    total, _ = jax.lax.scan(lambda acc, rows: (jax.tree.map(jnp.add, acc, step(rows)), None), first, blocks)
    return total if rest is None else jax.tree.map(jnp.add, total, step(rest))


def map_rows(f: Callable[..., PyTree], data: tuple[Any, ...], chunk: int | None) -> PyTree:
    """``f(*rows)`` on blocks of at most ``chunk`` rows, outputs joined along the rows, in their order."""
    n = jax.tree.leaves(data)[0].shape[0]
    if chunk is None or chunk >= n:
        return f(*data)
    blocks, rest = _blocks(data, n, chunk)
    parts = jax.lax.map(lambda rows: f(*rows), blocks)
    joined = jax.tree.map(lambda a: a.reshape((-1,) + a.shape[2:]), parts)
    return joined if rest is None else jax.tree.map(lambda a, b: jnp.concatenate([a, b]), joined, f(*rest))


def _blocks(data: Any, n: int, chunk: int) -> tuple[Any, Any]:
    """([blocks, chunk, ...], the rows left over or None)."""
    full = n // chunk * chunk
    blocks = jax.tree.map(lambda a: a[:full].reshape((-1, chunk) + a.shape[1:]), data)
    return blocks, jax.tree.map(lambda a: a[full:], data) if full < n else None


def equal_blocks(data: Any, n: int, chunk: int, dtype: Any) -> Iterator[tuple[Any, jax.Array]]:
    """(rows, their weights) in blocks of one shape, for loops on the host; the last is filled by rows of weight 0."""
    for start in range(0, n, chunk):
        rows = np.minimum(np.arange(start, start + chunk), n - 1)
        weight = jnp.asarray(np.arange(start, start + chunk) < n, dtype)
        yield jax.tree.map(lambda a, rows=rows: a[rows], data), weight


# -- memory ----------------------------------------------------------------------------------------------------------


def row_footprint(f: Callable[..., PyTree], data: tuple[Any, ...]) -> int:
    """Numbers that ``f`` computes per row of data, counted in its trace: what a chunk size should be chosen by."""

    def numbers(rows: int) -> int:
        shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct((rows,) + a.shape[1:], a.dtype), data)
        return _traced_size(jax.make_jaxpr(f)(*shapes).jaxpr)

    return max(1, (numbers(8) - numbers(4)) // 4)


def rows_at_once(rows: int, per_row: int, chunk: int | None = None) -> int:
    """Rows to take at once where each needs so many numbers: what stays in a CPU's cache, or fills an accelerator.

    Args:
        rows: of the data; blocks come out as equal as they can be.
        per_row: numbers computed per row (``row_footprint``, times vectors).
        chunk: at most so many.
    """
    numbers = 2**20 if jax.default_backend() == "cpu" else 2**27
    most = max(32, numbers // per_row)
    if chunk is not None:
        most = min(most, chunk)
    return -(-rows // -(-rows // most))


def _traced_size(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        inner = [p for p in equation.params.values() if hasattr(p, "jaxpr") or hasattr(p, "eqns")]
        for closed in inner:
            total += _traced_size(getattr(closed, "jaxpr", closed))
        if not inner:
            total += sum(int(v.aval.size) for v in equation.outvars)
    return total


# -- devices ---------------------------------------------------------------------------------------------------------


def automatic(mesh: Mesh) -> Mesh:
    """The same devices with axes of the automatic type: only the sums here are spread."""
    return Mesh(mesh.devices, mesh.axis_names)


def spread_rows(tree: PyTree, mesh: Mesh, axes: tuple[str, ...]) -> PyTree:
    """Arrays with their rows spread over mesh axes, filled up by copies of the first row."""
    sharding = NamedSharding(mesh, PartitionSpec(axes))
    devices = int(np.prod([mesh.shape[axis] for axis in axes]))

    def spread(leaf: Any) -> jax.Array:
        host = to_host(leaf)
        padding = -len(host) % devices
        host = np.concatenate([host, np.repeat(host[:1], padding, axis=0)]) if padding else host
        return jax.make_array_from_callback(host.shape, sharding, lambda part: host[part])

    return jax.tree.map(spread, tree)


def replicated(tree: PyTree, mesh: Mesh) -> PyTree:
    """Arrays with a copy on every device of a mesh."""
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(
        lambda a: jax.make_array_from_callback(np.shape(a), whole, lambda part: to_host(a)[part]), tree
    )


def spread_over(
    local: Callable[..., Any],
    mesh: Mesh,
    axes: tuple[str, ...],
    specs: tuple[PartitionSpec, ...],
    *,
    total: bool = True,
) -> Callable[..., Any]:
    """``local`` on each device's rows: summed over the devices, or joined along the rows (``total=False``).

    Args:
        local: gets its arguments as each device holds them; sums over rows in it (``sum_rows``) say ``axes``.
        mesh: devices.
        axes: over which the rows are spread.
        specs: of the arguments; those without an axis are the same everywhere, and derivatives with respect to them
            within ``local`` are each device's own.
        total: see above.
    """

    def own(*arguments: Any) -> Any:
        mine = [
            a if len(spec) else jax.tree.map(lambda leaf: _varying(leaf, axes), a)
            for a, spec in zip(arguments, specs)
        ]
        found = local(*mine)
        return jax.lax.psum(found, axes) if total else found

    out = PartitionSpec() if total else PartitionSpec(axes)
    return jax.shard_map(own, mesh=mesh, in_specs=specs, out_specs=out)


def _varying(a: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    return jax.lax.pcast(a, axes, to="varying") if axes else a
