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
    On an accelerator full precision is asked for: that its default is a shorter format is no fault (see
    ``default_digits``). A CPU has no other, and is asked as its users ask it.
    """
    precision = None if jax.default_backend() == "cpu" else jax.lax.Precision.HIGHEST
    rng = np.random.default_rng(0)
    wrong = 0
    for dtype in (np.float64, np.float32):
        x, matrix = rng.normal(size=(rows, 3)).astype(dtype), rng.normal(size=(3, 3)).astype(dtype)
        with jax.enable_x64(True):
            got = jax.jit(
                jax.vmap(lambda row, m: jnp.sum(jnp.matmul(m, row, precision=precision) ** 2), in_axes=(0, None))
            )(x, matrix)
        truth = np.sum((x.astype(np.float64) @ matrix.T.astype(np.float64)) ** 2, axis=1)
        wrong += int(np.sum(np.abs(np.asarray(got, np.float64) - truth) > 1e-4 * (1e-3 + truth)))
    return wrong


def default_digits() -> float:
    """Digits of a float32 matrix product when no precision is asked for: 3 in TF32 or bfloat16, else 6 to 7."""
    a = np.random.default_rng(0).normal(size=(2, 256, 256)).astype(np.float32)
    truth = a[0].astype(np.float64) @ a[1].astype(np.float64)
    error = np.abs(np.asarray(jnp.matmul(a[0], a[1]), np.float64) - truth).max() / np.abs(truth).max()
    return float(-np.log10(max(error, 1e-9)))


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
    digits = default_digits()
    detail = f"{digits:.0f} digits by default"
    if digits < 5:
        detail += ": JAX takes a shorter format here; jaxland asks for full precision where results need more"
    found.append(Check("float32 products", True, detail))
    return found
