"""What fits are made of: columns under keys, rows of weights, and both on the device in shapes of known programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxland.core import mixture as gm
from jaxland.core.solvers import em
from jaxland.information.options import MOST_COMPONENTS, Options

SIZES = (8, 16, 32, 48, MOST_COMPONENTS)  # numbers of components that programs are compiled for
ROWS = 64  # rows of weights on the device at once
ALL = "all", 0


class Key(NamedTuple):
    """Which columns are meant.

    Attributes:
        owner: number of the variable, or of the class.
        map: "raw" or "scores".
        version: ``ALL`` samples, ("fold", f) mapped by the training samples of fold f, or ("shuffle", q).
    """

    owner: int
    map: str
    version: tuple[str, int] = ALL


@dataclass
class Columns:
    """Columns [N] one after another, found again by their keys."""

    rows: list[Float[np.ndarray, " n"]] = field(default_factory=list)
    places: dict[Key, Int[np.ndarray, " d"]] = field(default_factory=dict)

    def put(self, key: Key, columns: Float[np.ndarray, "d n"]) -> None:
        """Add the columns of a key."""
        self.places[key] = np.arange(len(self.rows), len(self.rows) + len(columns))
        self.rows.extend(columns)

    def values(self, key: Key) -> Float[np.ndarray, "d n"]:
        """The columns of a key."""
        return np.stack([self.rows[place] for place in self.places[key]])


@dataclass(frozen=True)
class Density:
    """A density to be fitted: some columns under some rows of weights.

    Attributes:
        columns: places of its columns in the table.
        fold_columns: the same as mapped by each fold's training samples.
        full: row of weights of all its samples.
        train, test: rows of each fold's weights.
        samples: its samples' places along the table's columns.
    """

    columns: Int[np.ndarray, " d"]
    fold_columns: Int[np.ndarray, "f d"]
    full: int
    train: Int[np.ndarray, " f"]
    test: Int[np.ndarray, " f"]
    samples: Int[np.ndarray, " n"]


class Table:
    """Columns and weights on the device, padded to shapes that programs exist for.

    Args:
        columns: float64 [C, N] on the host.
        weights: rows that stay: full, folds, classes.
    """

    def __init__(
        self, columns: Float[np.ndarray, "c n"], weights: Float[np.ndarray, "r n"], options: Options
    ) -> None:
        self.options, self.host, self.fixed = options, columns, weights
        self.n = columns.shape[1]
        self.padded = em.bucket(self.n)
        rows = int(options.memory * 2**30 / 2 / (self.padded * np.dtype(options.dtype).itemsize))
        self.rows = ROWS if len(weights) <= ROWS else 1 << (len(weights) - 1).bit_length()
        if rows < self.rows:
            self.rows = max(rows, len(weights))
        count = max(16, 1 << (len(columns) - 1).bit_length())
        self.columns = self._place(columns, count)
        self.weights = self._place(weights, self.rows)

    def _place(self, rows: Float[np.ndarray, "r n"], count: int) -> jax.Array:
        out = np.zeros((count, self.padded), self.options.dtype)
        out[: len(rows), : self.n] = rows
        return jnp.asarray(out)

    def fit(
        self,
        columns: Sequence[Int[np.ndarray, " d"]],
        rows: Sequence[int] | Int[np.ndarray, " b"],
        start: gm.Mixture,
        *,
        held_out: Int[np.ndarray, " b"] | None = None,
        weights: jax.Array | None = None,
    ) -> em.Fits:
        """``core.solvers.em.fit`` of each lane's columns under its row of weights, under the options."""
        o = self.options
        return em.fit(
            self.columns,
            self.weights if weights is None else weights,
            np.asarray(columns),
            np.asarray(rows),
            start,
            held_out=held_out,
            solver=em.EM(
                tol=o.tol,
                floor=1e-10 if o.dtype == "float64" else 1e-5,
                max_steps=o.max_steps,
                accelerate=o.accelerate,
            ),
            layout=em.default_layout(len(rows), o.width),
        )

    def passing(
        self, make: Callable[[int], Float[np.ndarray, " n"]], count: int
    ) -> Iterator[tuple[Int[np.ndarray, " r"], jax.Array]]:
        """Batches (indices, weights on the device) of ``count`` further rows, made when needed, as memory allows."""
        for first in range(0, count, self.rows):
            index = np.arange(first, min(first + self.rows, count))
            yield index, self._place(np.stack([make(int(i)) for i in index]), self.rows)


def fold_weights(fold: Int[np.ndarray, " n"], folds: int) -> Float[np.ndarray, "r n"]:
    """Rows of weights: all samples, then training and then test samples of each fold."""
    rows = [np.ones(len(fold)), *(fold != f for f in range(folds)), *(fold == f for f in range(folds))]
    return np.stack(rows).astype(np.float64)


def padded_order(order: int) -> int:
    """Number of components a program is compiled for."""
    return next(size for size in SIZES if size >= order)


def stack(mixtures: Sequence[gm.Mixture], size: int | None = None) -> gm.Mixture:
    """Mixtures one after another, padded to the same number of components."""
    size = size or max(len(m.log_weight) for m in mixtures)
    return gm.Mixture(*(np.stack(a) for a in zip(*(gm.pad(gm.Mixture(*m), size) for m in mixtures))))


def pick(mixtures: gm.Mixture, index: int) -> gm.Mixture:
    """One of many, without its dead components moved."""
    return gm.Mixture(*(np.asarray(a)[index] for a in mixtures))


def components(mixture: gm.Mixture) -> int:
    """Living components."""
    return int(np.sum(np.asarray(mixture.log_weight) > 0.5 * gm.DEAD))


def trim(mixture: gm.Mixture) -> gm.Mixture:
    """Without dead components, heaviest first."""
    order = np.argsort(-np.asarray(mixture.log_weight), kind="stable")[: components(mixture)]
    return gm.Mixture(*(np.asarray(a)[order] for a in mixture))
