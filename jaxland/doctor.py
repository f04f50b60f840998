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


def batched_matvec_errors(rows: int = 40_000, lanes: int = 4) -> int:
    """Rows that a jitted vmap of a matrix-vector product gets wrong by more than 1e-10.

    jax 0.10.2 on a CPU returns silently wrong numbers once the reduction is longer than 16,384 (jax issue 39103);
    0.10.1 is right. Any number but 0 means: do not trust this installation.
    """
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        a = rng.normal(size=(rows, 4))
        b = rng.normal(size=(lanes, rows))
        got = jax.jit(jax.vmap(lambda v, m: v @ m, in_axes=(0, None)))(jnp.asarray(b), jnp.asarray(a))
        back = jax.jit(jax.vmap(lambda u, m: m @ u, in_axes=(0, None)))(got, jnp.asarray(a))
        truth = b @ a
        return int(
            np.sum(np.abs(np.asarray(got) - truth) > 1e-10 * (1 + np.abs(truth)))
            + np.sum(np.any(np.abs(np.asarray(back) - truth @ a.T) > 1e-9 * (1 + np.abs(truth @ a.T)), axis=0))
        )


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
