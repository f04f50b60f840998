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

    def __call__(self, rows: list[PyTree], data: PyTree) -> PyTree:
        """Host results of a first part of the rows, on a leading axis."""
        if _on_cpu():
            return self._evaluate(self.alone, rows[:_SERIAL], _SERIAL, data)
        self.most = min(self.most, 1 << _affordable(rows[0]).bit_length() - 1)
        while True:
            size = min(self.most, max(_LEAST, 1 << (len(rows) - 1).bit_length()))
            try:
                return self._evaluate(self.beside, rows[:size], size, data)
            except Exception as error:
                if not is_out_of_memory(error) or size == 1:
                    raise
                self.most = size // 2

    def _evaluate(self, program: Callable[..., PyTree], part: list[PyTree], size: int, data: PyTree) -> PyTree:
        padded = part + [part[-1]] * (size - len(part))
        stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(v) for v in leaves]), *padded)
        with jax.default_matmul_precision(matmul_precision()):
            return jax.tree.map(lambda leaf: np.asarray(leaf)[: len(part)], program(stacked, data))


@lru_cache(maxsize=64)
def _mapped(f: Evaluate) -> _Mapped:
    return _Mapped(f)


def map_rows(f: Evaluate, rows: Iterable[PyTree], data: PyTree) -> list[PyTree]:
    """``f(row, data)`` for every row; host results in order.

    Batches follow the device: eight rows one by one on a CPU; side by side on an accelerator, a power of two up to
    4,096, as many as its memory holds a Hessian of each, halved (and remembered) where it does run out. Float32
    products are never TF32 there.

    Args:
        f: pure, hashable and reused between calls (programs are cached by it).
        rows: all of one shape.
        data: argument of ``f``, shared by all rows.
    """
    rows = list(rows)
    out: list[PyTree] = []
    while len(out) < len(rows):
        host = _mapped(f)(rows[len(out) :], data)
        count = jax.tree.leaves(host)[0].shape[0]
        out.extend(jax.tree.map(lambda leaf, i=i: leaf[i], host) for i in range(count))
    return out
