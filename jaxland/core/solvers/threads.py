"""Threads of a CPU while lanes run on its cores: every lane keeps to the core it is on.

JAX's LAPACK is SciPy's, whose BLAS starts as many threads as there are cores from every lane, and these spin; XLA
offers every product inside a lane to a pool of all cores. ``one_blas_thread`` holds back the one for as long as lanes
run, ``compiler_options`` the other in the lanes' own programs. Neither changes what anything else computes with.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import jax

# Its attributes are made at run time.
CONFIG: Any = jax.config


@lru_cache(maxsize=1)
def _libraries() -> tuple[Any, ...]:
    """The BLAS libraries of this process, SciPy's and NumPy's among them; finding them takes milliseconds."""
    import scipy.linalg  # noqa: F401  (what JAX would load at its first factorisation)
    from threadpoolctl import ThreadpoolController

    return tuple(ThreadpoolController().select(user_api="blas").lib_controllers)


def _set(counts: Iterable[int]) -> None:
    for library, count in zip(_libraries(), counts):
        # Since 3.7 threadpoolctl lets one thread set an OpenBLAS, and ignores all others until it is told.
        free = getattr(library, "clear_controlling_thread", None)
        if free is not None:
            free(force=True)
        library.set_num_threads(count)
        if free is not None:
            free(force=True)


class _Scopes:
    """Open scopes of all threads: the first one limits, the last one restores."""

    def __init__(self) -> None:
        self.lock, self.open = threading.Lock(), 0
        self.before: list[int] = []

    def enter(self) -> None:
        with self.lock:
            if self.open == 0:
                self.before = [library.get_num_threads() for library in _libraries()]
                _set([1] * len(self.before))
            self.open += 1

    def leave(self) -> None:
        with self.lock:
            self.open -= 1
            if self.open == 0:
                _set(self.before)


_SCOPES = _Scopes()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS keeps to the calling thread inside the block, in all threads; scopes may nest and overlap."""
    _SCOPES.enter()
    try:
        yield
    finally:
        _SCOPES.leave()


def hold_back_here() -> None:
    """The same for the calling thread, until it ends, where a BLAS built on OpenMP counts per thread."""
    for library in _libraries():
        if getattr(library, "threading_layer", "") == "openmp":
            library.set_num_threads(1)


def device() -> jax.Device:
    """Where the next computation runs."""
    chosen = CONFIG.jax_default_device
    if chosen is None:
        return jax.local_devices()[0]
    return jax.local_devices(backend=chosen)[0] if isinstance(chosen, str) else chosen


def on_accelerator() -> bool:
    """Whether the next computation runs on a GPU or TPU, where work goes in whole batches; tests may pretend."""
    return device().platform != "cpu"


def compiler_options(platform: str) -> dict[str, bool] | None:
    """Of a program that has a core of a CPU to itself; none on an accelerator."""
    return {"xla_cpu_multi_thread_eigen": False} if platform == "cpu" else None


def held_back(platform: str) -> AbstractContextManager[None]:
    """``one_blas_thread`` where lanes run on a CPU."""
    return one_blas_thread() if platform == "cpu" else nullcontext()
