"""Dense networks in files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxland.errors import DataError, ProblemError, StoreError
from jaxland.models.mlp import mlp
from jaxland.models.model import Model, PyTree
from jaxland.runs import read_npz, write_npz

_KIND = "jaxland-mlp-1"


def save(path: str | Path, model: Model, params: PyTree | None = None, **metadata: Any) -> Path:
    """Write a dense network (made by ``mlp``) and metadata (JSON-able values, arrays) to an npz file, without pickle.

    What a model wants of its data travels along: ``save(path, model, **Preparation.of_split(data, split).facts())``.
    """
    if model.sizes is None:
        raise ProblemError("only networks made by jaxland.mlp can be saved; save other models with their own library")
    flat, _ = ravel_pytree(model.params if params is None else params)
    arrays = {name: value for name, value in metadata.items() if isinstance(value, np.ndarray)}
    facts = {name: value for name, value in metadata.items() if name not in arrays}
    head = {"sizes": model.sizes, "activation": model.activation, "metadata": facts}
    return write_npz(path, _KIND, head, {**arrays, "weights": flat})


def load(path: str | Path) -> tuple[Model, dict[str, Any]]:
    """Read what ``save`` wrote: the model with its parameters, and the metadata.

    Raises:
        DataError: the file is missing, not an npz of this format, damaged, or its weights do not fit its sizes.
    """
    if not Path(path).exists():
        raise DataError(f"model file {path} does not exist")
    try:
        head, arrays = read_npz(path, _KIND, sealed=False)
        weights = arrays.pop("weights")
        sizes, activation, metadata = head["sizes"], head["activation"], head["metadata"]
    except (StoreError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a model file written by jaxland ({error})") from error
    model = mlp(sizes, activation, dtype=jnp.asarray(weights).dtype)
    flat, unravel = ravel_pytree(model.params)
    if weights.shape != flat.shape:
        raise DataError(f"{path}: {weights.size} weights do not fit sizes {tuple(sizes)} ({flat.size})")
    if not np.isfinite(weights).all():
        raise DataError(f"{path}: weights are not all finite")
    return replace(model, params=unravel(jnp.asarray(weights, flat.dtype))), {**metadata, **arrays}
