"""Losses per example, the usual regulariser, and what they ask of the data."""

from __future__ import annotations

import numbers
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


def poisson(outputs: Float[Array, "n ..."], counts: Any) -> Float[Array, " n"]:
    """-log p(count) per example for Poisson counts of rate exp(output), summed over outputs, in nats."""
    counts = jnp.reshape(counts, outputs.shape).astype(outputs.dtype)
    each = jnp.exp(outputs) - counts * outputs + jax.scipy.special.gammaln(counts + 1)
    return jnp.sum(each, axis=tuple(range(1, outputs.ndim)))


LOSSES: dict[str, Callable] = {"cross_entropy": cross_entropy, "squared_error": squared_error, "poisson": poisson}


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
    if callable(loss):
        return None, loss
    if not isinstance(loss, str) or loss not in LOSSES:
        raise ArgumentError(f"loss {loss!r} is unknown; choose one of {', '.join(LOSSES)} or pass a function")
    return loss, LOSSES[loss]


def checked_rows(x: Any, y: Any) -> tuple[Any, Any]:
    """x and y as JAX arrays.

    Raises:
        DataError: no numbers, lengths differ, no rows, or values that are not finite; the message says where.
    """
    x, y = as_arrays("x", x), as_arrays("y", y)
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


def as_arrays(name: str, given: Any) -> Any:
    """Numbers as JAX arrays: arrays, lists of numbers, tables of numbers, and pytrees of them.

    Raises:
        DataError: text, ragged lists, or nothing; the message names the column of a table.
    """
    if given is None:
        raise DataError(f"{name} is missing")
    if isinstance(given, dict):
        return {key: as_arrays(f"{name}[{key!r}]", part) for key, part in given.items()}
    several = isinstance(given, tuple | list) and any(np.ndim(part) for part in given if hasattr(part, "shape"))
    if several and not isinstance(given, list):
        parts = [as_arrays(f"{name}[{k}]", part) for k, part in enumerate(given)]
        return type(given)(*parts) if hasattr(given, "_fields") else type(given)(parts)
    if isinstance(given, jax.Array):
        return given
    if hasattr(given, "to_numpy"):
        given = _of_pandas(name, given)
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise DataError(f"{name} has rows of different lengths") from error
    if array.dtype.kind in "OUSMm":
        example = next((v for v in array.ravel()[:1000].tolist() if not isinstance(v, numbers.Number)), None)
        if example is not None or not array.size:
            what = "" if example is None else f" such as {example!r}"
            raise DataError(
                f"{name} must hold numbers, it holds {array.dtype}{what}: jaxland.data.load turns a table into "
                "numbers and classes"
            )
        array = array.astype(np.float64)
    return jnp.asarray(array)


def _of_pandas(name: str, table: Any) -> np.ndarray:
    """A DataFrame or Series of numbers and truth values, missing ones as NaN."""
    if hasattr(table, "to_pandas"):  # another library's, such as polars'
        table = table.to_pandas()
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    columns = {str(c): table[c] for c in table.columns} if hasattr(table, "columns") else {name: table}
    for column, series in columns.items():
        if not (is_numeric_dtype(series) or is_bool_dtype(series)):
            raise DataError(
                f"column {column!r} of {name} is not numeric ({series.dtype}): jaxland.data.load turns a table into "
                "numbers and classes"
            )
    if not hasattr(table, "columns"):
        return np.asarray(table.to_numpy() if table.dtype.kind in "biuf" and not table.hasnans else _plain(table))
    return np.stack([_plain(series) for series in columns.values()], axis=1)


def _plain(series: Any) -> np.ndarray:
    return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))


def check_targets(loss: str, y: Any, outputs: Any) -> Any:
    """Targets as a named loss takes them.

    Args:
        loss: its name.
        outputs: shapes of the outputs of a few rows.

    Raises:
        DataError: they do not fit the loss or the outputs.
    """
    if not hasattr(outputs, "shape"):
        raise DataError(
            f"{loss} needs model outputs in one array, got a {type(outputs).__name__}: give a loss of your own"
        )
    if jnp.issubdtype(outputs.dtype, jnp.complexfloating):
        raise DataError(f"{loss} needs real outputs, this model's are complex: give a loss of your own")
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise DataError(f"{loss} needs outputs of floating-point numbers, this model gives {outputs.dtype}")
    if loss == "cross_entropy":
        check_labels(y, outputs.shape)
        return y.astype(jnp.int32)
    wanted, given = outputs.shape[1:], jnp.shape(y)[1:] if hasattr(y, "shape") else None
    if given is None or tuple(k for k in given if k != 1) != tuple(k for k in wanted if k != 1):
        raise DataError(
            f"{loss} needs targets of the outputs' shape [n{''.join(f', {k}' for k in wanted)}], got {jnp.shape(y)}"
        )
    if loss == "poisson":
        values = np.asarray(y)
        bad = np.argwhere((values < 0) | (values != np.round(values)))
        if len(bad):
            raise DataError(f"poisson needs counts, y holds {values[tuple(bad[0])]:g} in row {bad[0][0]}")
    return y


def check_labels(y: Any, output_shape: tuple[int, ...]) -> None:
    """Raise ``DataError`` unless y [n] are class indices for outputs of shape [n, classes]."""
    if len(output_shape) != 2:
        raise DataError(f"cross_entropy needs model outputs of shape [n, classes], got {output_shape}")
    labels = np.asarray(y) if hasattr(y, "shape") else np.zeros(())
    if np.iscomplexobj(labels):
        raise DataError("cross_entropy needs class indices, y is complex")
    if labels.ndim != 1:
        raise DataError(f"cross_entropy needs class indices y of shape [n], got {labels.shape}")
    if not np.array_equal(labels, np.round(labels)) or labels.min() < 0 or labels.max() >= output_shape[1]:
        raise DataError(
            f"labels must be integers 0..{output_shape[1] - 1} for a model with {output_shape[1]} outputs, "
            f"got values from {labels.min()} to {labels.max()}"
        )
