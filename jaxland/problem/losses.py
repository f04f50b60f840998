"""Losses per example, the usual regulariser, and what they ask of the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxland.errors import ArgumentError, DataError

PyTree = Any


def cross_entropy(outputs: Float[Array, "n c"], labels: Any) -> Float[Array, " n"]:
    """Softmax cross-entropy per example, in nats; ``labels`` [n] are class indices."""
    logp = jax.nn.log_softmax(outputs, axis=-1)
    return -jnp.take_along_axis(logp, labels[:, None].astype(jnp.int32), axis=-1)[:, 0]


def squared_error(outputs: Float[Array, "n ..."], targets: Any) -> Float[Array, " n"]:
    """Squared error per example, summed over outputs; targets [n] or of the outputs' shape."""
    targets = jnp.reshape(targets, outputs.shape)
    return jnp.sum((outputs - targets) ** 2, axis=tuple(range(1, outputs.ndim)))


LOSSES: dict[str, Callable] = {"cross_entropy": cross_entropy, "squared_error": squared_error}


@dataclass(frozen=True)
class L2:
    """Regulariser lam * sum(theta^2), no factor 1/2 (Niroomand & Wales 2023)."""

    lam: float = 0.0

    def __call__(self, params: PyTree) -> jax.Array:
        """Value of the regulariser."""
        return self.lam * jnp.sum(jnp.stack([jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)]))


def named_loss(loss: str | Callable[[Any, Any], jax.Array]) -> tuple[str | None, Callable[[Any, Any], jax.Array]]:
    """(name, function) of a built-in loss; (None, the function) of one's own.

    Raises:
        ArgumentError: no loss has this name.
    """
    if not isinstance(loss, str):
        return None, loss
    if loss not in LOSSES:
        raise ArgumentError(f"loss {loss!r} is unknown; choose one of {', '.join(LOSSES)} or pass a function")
    return loss, LOSSES[loss]


def checked_rows(x: Any, y: Any) -> tuple[Any, Any]:
    """x and y as JAX arrays.

    Raises:
        DataError: lengths differ, no rows, or values that are not finite; the message says where.
    """
    x, y = jax.tree.map(jnp.asarray, x), jax.tree.map(jnp.asarray, y)
    lengths = {int(leaf.shape[0]) if leaf.ndim else -1 for leaf in jax.tree.leaves((x, y))}
    if len(lengths) != 1 or lengths == {-1}:
        raise DataError(f"x and y must have the same number of rows, got lengths {sorted(lengths)}")
    if lengths == {0}:
        raise DataError("x and y are empty: at least one row is needed")
    for name, tree in (("x", x), ("y", y)):
        for leaf in jax.tree.leaves(tree):
            if jnp.issubdtype(leaf.dtype, jnp.inexact):
                bad = np.argwhere(~np.isfinite(np.asarray(leaf)))
                if len(bad):
                    raise DataError(
                        f"{name} has {len(bad)} values that are not finite; the first is at index "
                        f"{tuple(int(i) for i in bad[0])}. Remove or impute them first"
                    )
    return x, y


def check_labels(y: Any, output_shape: tuple[int, ...]) -> None:
    """Raise ``DataError`` unless y [n] are class indices for outputs of shape [n, classes]."""
    if len(output_shape) != 2:
        raise DataError(f"cross_entropy needs model outputs of shape [n, classes], got {output_shape}")
    labels = np.asarray(y)
    if labels.ndim != 1:
        raise DataError(f"cross_entropy needs class indices y of shape [n], got {labels.shape}")
    if not np.array_equal(labels, np.round(labels)) or labels.min() < 0 or labels.max() >= output_shape[1]:
        raise DataError(
            f"labels must be integers 0..{output_shape[1] - 1} for a model with {output_shape[1]} outputs, "
            f"got values from {labels.min()} to {labels.max()}"
        )
