"""What the machine can do, measured in the same run: the denominators of every ratio in the table.

    python benchmarks/floors.py            # print them

One thread. Peaks are the best that any library at hand reaches (XLA or NumPy), so that a ratio near 1 is near the
hardware and not merely near XLA. CPU seconds of the process throughout.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import time
from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np


def cpu_seconds(call, least: float = 0.05, repeats: int = 5) -> float:
    """CPU seconds of one call: the least mean over ``repeats`` runs of at least ``least`` seconds each."""
    jax.block_until_ready(call())
    count, best = 1, np.inf
    while repeats:
        began = time.process_time()
        for _ in range(count):
            out = call()
        jax.block_until_ready(out)
        spent = time.process_time() - began
        if spent < least:
            count = max(2 * count, int(1.2 * count * least / max(spent, 1e-6)))
            continue
        best, repeats = min(best, spent / count), repeats - 1
    return best


@cache
def peak(dtype: str, size: int = 768) -> float:
    """Floating-point operations a second of one core in a square matrix product."""
    with jax.enable_x64(True):
        a = np.random.default_rng(0).normal(size=(size, size)).astype(dtype)
        b, product = jnp.asarray(a), jax.jit(jnp.matmul)
        seconds = min(cpu_seconds(lambda: product(b, b)), cpu_seconds(lambda: a @ a))
    return 2.0 * size**3 / seconds


@cache
def bandwidth(megabytes: int = 128) -> float:
    """Bytes a second of one core in a triad a = b + s * c beyond the caches (3 arrays counted)."""
    with jax.enable_x64(True):
        n = megabytes * 2**20 // 8
        b, c = jnp.ones(n), jnp.ones(n)
        triad = jax.jit(lambda b, c: b + 3.0 * c)
        seconds = cpu_seconds(lambda: triad(b, c), repeats=3)
    return 3.0 * 8 * n / seconds


_FUNCTIONS = {"tanh": (jnp.tanh, np.tanh), "exp": (jnp.exp, np.exp), "log1p": (jnp.log1p, np.log1p)}


@cache
def element(name: str, dtype: str, library: str = "best") -> float:
    """Seconds of one core per element of a transcendental function, in cache; library "xla", "numpy" or "best"."""
    if library == "best":
        return min(element(name, dtype, "xla"), element(name, dtype, "numpy"))
    ours, theirs = _FUNCTIONS[name]
    a = np.random.default_rng(0).normal(size=16384).astype(dtype)
    if name == "log1p":
        a = np.abs(a)
    if library == "numpy":
        out = np.empty_like(a)
        return cpu_seconds(lambda: theirs(a, out=out), 0.02) / a.size
    with jax.enable_x64(True):

        @jax.jit
        def many(x):
            # Each pass depends on the last; + 0 * keeps the arguments where they were.
            return jax.lax.fori_loop(0, 64, lambda _, u: x + 1e-9 * ours(u), x)

        b = jnp.asarray(a)
        return cpu_seconds(lambda: many(b), 0.02) / (64 * a.size)


@dataclass(frozen=True)
class Work:
    """What an operation cannot do without: arithmetic, memory traffic, transcendental functions.

    Attributes:
        operations: floating-point operations; traffic: bytes to and from memory at least.
        tanh, exp, log1p: elements of each.
        dtype: of all of it.
    """

    operations: float = 0.0
    traffic: float = 0.0
    tanh: float = 0.0
    exp: float = 0.0
    log1p: float = 0.0
    dtype: str = "float64"

    def times(self, k: float) -> Work:
        """k of these."""
        return Work(k * self.operations, k * self.traffic, k * self.tanh, k * self.exp, k * self.log1p, self.dtype)

    def plus(self, other: Work) -> Work:
        """Both."""
        return Work(
            self.operations + other.operations,
            self.traffic + other.traffic,
            self.tanh + other.tanh,
            self.exp + other.exp,
            self.log1p + other.log1p,
            self.dtype,
        )

    def floor(self) -> tuple[float, str]:
        """Least seconds of one core, and what they go to: arithmetic and functions add up, memory overlaps."""
        arithmetic = self.operations / peak(self.dtype)
        functions = sum(getattr(self, f) * element(f, self.dtype) for f in _FUNCTIONS if getattr(self, f))
        memory = self.traffic / bandwidth()
        if memory > arithmetic + functions:
            return memory, "memory"
        return arithmetic + functions, "functions" if functions > arithmetic else "arithmetic"


def measured() -> dict[str, float]:
    """All of them, in the units they are quoted in."""
    found = {
        "float64 peak, GFLOP/s": peak("float64") / 1e9,
        "float32 peak, GFLOP/s": peak("float32") / 1e9,
        "bandwidth, GB/s": bandwidth() / 1e9,
    }
    for name in _FUNCTIONS:
        for dtype in ("float64", "float32"):
            for library in ("xla", "numpy"):
                found[f"{name} {dtype} {library}, ns"] = element(name, dtype, library) * 1e9
    return found


if __name__ == "__main__":
    for key, value in measured().items():
        print(f"{key:32s} {value:8.2f}")
