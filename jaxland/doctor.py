"""Checks of an installation; ``jaxland doctor`` prints them."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Check(NamedTuple):
    """One finding."""

    name: str
    ok: bool
    detail: str


def batched_matvec_errors(rows: int = 40_000) -> int:
    """Rows whose vmapped product with a small matrix, then summed, comes out wrong under jit.

    jax 0.10.2 on a CPU gets most of them wrong once there are more than 16,384 in float64 (32,768 in float32), and
    says nothing (jax issue 39103); 0.10.1 is right. Any number but 0 means: do not trust this installation.
    """
    rng = np.random.default_rng(0)
    wrong = 0
    for dtype in (np.float64, np.float32):
        x, matrix = rng.normal(size=(rows, 3)).astype(dtype), rng.normal(size=(3, 3)).astype(dtype)
        with jax.enable_x64(True):
            got = jax.jit(jax.vmap(lambda row, m: jnp.sum((m @ row) ** 2), in_axes=(0, None)))(x, matrix)
        truth = np.sum((x.astype(np.float64) @ matrix.T.astype(np.float64)) ** 2, axis=1)
        wrong += int(np.sum(np.abs(np.asarray(got, np.float64) - truth) > 1e-4 * (1e-3 + truth)))
    return wrong


def checks() -> list[Check]:
    """All checks, in the order a reader wants them."""
    names = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "networkx")
    found = [Check("python", True, f"{platform.python_version()} on {platform.machine()}")]
    found.append(Check("versions", True, ", ".join(f"{n} {version(n)}" for n in names)))
    bad = {"0.10.2": "wrong numbers on a CPU", "0.11.1": "breaks flax at import"}.get(version("jax"))
    found.append(Check("jax release", bad is None, bad or "not one of the known bad ones"))
    devices = jax.devices()
    found.append(Check("devices", True, ", ".join(f"{d.platform}:{d.id} {d.device_kind}" for d in devices)))
    with jax.enable_x64(True):
        eps = float(jnp.finfo(jnp.asarray(1.0) + 0).eps)
    found.append(Check("float64", eps < 1e-15, "available" if eps < 1e-15 else "not available on this device"))
    wrong = batched_matvec_errors()
    detail = "right" if wrong == 0 else f"{wrong} wrong rows: install another JAX (jax!=0.10.2)"
    found.append(Check("batched reductions", wrong == 0, detail))
    return found
