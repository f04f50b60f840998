"""Programs lowered for CUDA on a machine that has none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax
from jax.sharding import AbstractMesh


@contextlib.contextmanager
def abstract_gpu(axis: str = "device") -> Iterator[AbstractMesh]:
    """A mesh of one abstract H100, in force: newer JAX asks which GPU Pallas lowers for, older names none."""
    auto = (jax.sharding.AxisType.Auto,)
    try:
        device = jax.sharding.AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=132, platform="cuda")
        mesh = AbstractMesh((1,), (axis,), axis_types=auto, abstract_device=device)
    except (AttributeError, TypeError):
        mesh = AbstractMesh((1,), (axis,), axis_types=auto)
    with jax.sharding.use_abstract_mesh(mesh):
        yield mesh
