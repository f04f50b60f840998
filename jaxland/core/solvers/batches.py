"""One evaluation per row, no steps: audits and energies of many points in compiled batches of few shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import jax
import numpy as np
from jaxtyping import PyTree

from jaxland.core.solvers.lanes import CONFIG, is_out_of_memory, matmul_precision

Evaluate = Callable[[PyTree, PyTree], PyTree]
# On a CPU rows follow one another, eight to a visit; on an accelerator as many as lanes stand side by side.
_SERIAL, _LEAST, _MOST = 8, 16, 4096
# Matrices [N, N] that an exact Hessian and its eigenvectors hold at once, per row.
_SQUARES = 8


def _device() -> jax.Device:
    """Where the next computation runs."""
    chosen = CONFIG.jax_default_device
    if chosen is None:
        return jax.local_devices()[0]
    return jax.local_devices(backend=chosen)[0] if isinstance(chosen, str) else chosen


def _on_cpu() -> bool:
    return _device().platform == "cpu"


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
        self.alone = jax.jit(lambda rows, data: jax.lax.map(lambda row: f(row, data), rows))
        self.beside = jax.jit(lambda rows, data: jax.vmap(lambda row: f(row, data))(rows))

    def __call__(self, rows: PyTree, data: PyTree) -> PyTree:
        """Host results of a first part of the rows, on a leading axis."""
        count = _length(rows)
        if _on_cpu():
            return self._evaluate(self.alone, rows, _SERIAL, data)
        self.most = min(self.most, 1 << _affordable(jax.tree.map(lambda a: a[0], rows)).bit_length() - 1)
        while True:
            size = min(self.most, max(_LEAST, 1 << (count - 1).bit_length()))
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
            return jax.tree.map(lambda leaf: np.asarray(leaf)[:count], program(part, data))


def _length(rows: PyTree) -> int:
    return int(jax.tree.leaves(rows)[0].shape[0])


@lru_cache(maxsize=64)
def _mapped(f: Evaluate) -> _Mapped:
    return _Mapped(f)


def map_stacked(f: Evaluate, rows: PyTree, data: PyTree) -> PyTree:
    """``f(row, data)`` for every row of a stack; host results on a leading axis.

    Batches follow the device: eight rows one by one on a CPU; side by side on an accelerator, a power of two up to
    4,096, as many as its memory holds a Hessian of each, halved (and remembered) where it does run out. Float32
    products are never TF32 there.

    Args:
        f: pure, hashable and reused between calls (programs are cached by it).
        rows: at least one, on the leading axis of every leaf.
        data: argument of ``f``, shared by all rows.
    """
    rows = jax.tree.map(np.asarray, rows)
    parts, done, count = [], 0, _length(rows)
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
