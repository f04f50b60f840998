"""Which of two kernels of one energy is faster on this device: tried once, never assumed."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.core.energy.kernels import Kernel, Values

_trials: dict[tuple, bool] = {}


def is_faster(fused: Kernel, base: Kernel, size: int, dtype: Any, key: tuple, *, lanes: int = 1024) -> bool:
    """Timed trial of both kernels' gradients over ``lanes`` networks of ``size`` weights; once per device and key.

    False on a CPU (where Pallas is interpreted) and where the fused kernel does not compile or disagrees.
    """
    if jax.default_backend() == "cpu":
        return False
    key = (*key, str(dtype), jax.devices()[0].device_kind)
    if key not in _trials:
        w = jax.random.normal(jax.random.key(0), (lanes, size), dtype)

        def clock(one: Kernel) -> tuple[float, Values]:
            many = jax.jit(jax.vmap(one.first, (0, None)))
            values = jax.block_until_ready(many(w, one.data))
            times = []
            for _ in range(5):
                began = time.perf_counter()
                jax.block_until_ready(many(w, one.data))
                times.append(time.perf_counter() - began)
            return min(times), values

        try:
            (ours, got), (theirs, truth) = clock(fused), clock(base)
        except Exception:  # a lowering that this jax, driver or device lacks: XLA serves every shape
            _trials[key] = False
        else:
            tolerance = 1e-4 if np.dtype(dtype).itemsize < 8 else 1e-10
            scale = jnp.max(jnp.abs(truth.gradient))
            close = bool(jnp.max(jnp.abs(got.gradient - truth.gradient)) <= tolerance * scale)
            _trials[key] = close and ours < theirs
    return _trials[key]
