"""One evaluation per row, no steps: audits and energies of many points in compiled batches of few shapes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, PyTree
from numpy.typing import ArrayLike

from jaxland.core.solvers import threads
from jaxland.core.solvers.sets import is_out_of_memory, matmul_precision
from jaxland.core.solvers.threads import compiler_options, held_back
from jaxland.core.solvers.threads import device as _device

Evaluate = Callable[[PyTree, PyTree], PyTree]
# On a CPU rows follow one another, eight to a visit; on an accelerator they stand side by side. Every size is a
# program to compile: few, and no more than half of the rows are padding (beyond the least).
_SERIAL, _SIZES = 8, (16, 128, 1024, 4096)
_MOST = _SIZES[-1]
# Matrices [N, N] that an exact Hessian and its eigenvectors hold at once, per row.
_SQUARES = 8


def _affordable(row: PyTree) -> int:
    """Rows for which the free memory of the device holds Hessians; no limit where a device does not say."""
    stats = _device().memory_stats() or {}
    if "bytes_limit" not in stats:
        return _MOST
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(row)]
    each = _SQUARES * sum(leaf.size for leaf in leaves) ** 2 * max(leaf.dtype.itemsize for leaf in leaves)
    free = stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return max(1, int(free // max(each, 1)))


class _Mapped:
    """One function over rows, compiled; remembers which batches were too large for the device."""

    def __init__(self, f: Evaluate) -> None:
        self.most = _MOST
        self.alone = jax.jit(_one_by_one(f), compiler_options=compiler_options("cpu"))
        # Of several threads one compiles, the others find it done.
        self.lock, self.compiled = threading.Lock(), False
        self.beside = jax.jit(lambda rows, data: jax.vmap(lambda row: f(row, data))(rows))

    def __call__(self, rows: PyTree, data: PyTree) -> PyTree:
        """Host results of a first part of the rows, on a leading axis."""
        count = _length(rows)
        if not threads.on_accelerator():
            return self._evaluate(self.alone, rows, _SERIAL, data)
        self.most = min(self.most, 1 << _affordable(jax.tree.map(lambda a: a[0], rows)).bit_length() - 1)
        while True:
            sizes = [size for size in (*_SIZES, self.most) if size <= self.most]
            size = max((size for size in sizes if count >= size // 2), default=min(sizes))
            try:
                return self._evaluate(self.beside, rows, size, data)
            except Exception as error:
                if not is_out_of_memory(error) or size == 1:
                    raise
                self.most = size // 2

    def _evaluate(self, program: Callable[..., PyTree], rows: PyTree, size: int, data: PyTree) -> PyTree:
        count = min(size, _length(rows))
        part = jax.tree.map(
            lambda a: np.concatenate([a[:count], np.repeat(a[count - 1 : count], size - count, 0)]), rows
        )
        with jax.default_matmul_precision(matmul_precision()):
            if program is self.alone:
                live = np.arange(size) < count
                with nullcontext() if self.compiled else self.lock:
                    found = program(part, live, data)
                self.compiled = True
            else:
                found = program(part, data)
            return jax.tree.map(lambda leaf: np.asarray(leaf)[:count], found)


def _one_by_one(f: Evaluate) -> Callable[[PyTree, Bool[ArrayLike, " rows"], PyTree], PyTree]:
    """``(rows, live, data) -> results``, zeros where a row is not live."""

    def several(rows: PyTree, live: Bool[ArrayLike, " rows"], data: PyTree) -> PyTree:
        def one(item: tuple[PyTree, jax.Array]) -> PyTree:
            row, alive = item
            shapes = jax.eval_shape(f, row, data)
            nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
            return jax.lax.cond(alive, lambda: f(row, data), lambda: nothing)

        return jax.lax.map(one, (rows, live))

    return several


def _length(rows: PyTree) -> int:
    return int(jax.tree.leaves(rows)[0].shape[0])


@lru_cache(maxsize=64)
def _mapped(f: Evaluate) -> _Mapped:
    return _Mapped(f)


def map_stacked(f: Evaluate, rows: PyTree, data: PyTree) -> PyTree:
    """``f(row, data)`` for every row of a stack; host results on a leading axis.

    Batches follow the device: eight rows one by one on a CPU; side by side on an accelerator, in one of four sizes up
    to 4,096, as many as its memory holds a Hessian of each, halved (and remembered) where it does run out. Float32
    products are never TF32 there.

    Args:
        f: pure, hashable and reused between calls (programs are cached by it).
        rows: at least one, on the leading axis of every leaf.
        data: argument of ``f``, shared by all rows.
    """
    rows = jax.tree.map(np.asarray, rows)
    parts, done, count = [], 0, _length(rows)
    with held_back("accelerator" if threads.on_accelerator() else "cpu"):
        while done < count:
            parts.append(_mapped(f)(jax.tree.map(lambda a, done=done: a[done:], rows), data))
            done += _length(parts[-1])
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def map_rows(f: Evaluate, rows: Iterable[PyTree], data: PyTree) -> list[PyTree]:
    """``map_stacked`` of single rows, all of one shape; host results in order."""
    rows = list(rows)
    if not rows:
        return []
    stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(v) for v in leaves]), *rows)
    host = map_stacked(f, stacked, data)
    return [jax.tree.map(lambda leaf, i=i: leaf[i], host) for i in range(len(rows))]
