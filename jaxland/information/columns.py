"""From a caller's samples to columns a mixture can be fitted to: checks, ties, scaling, normal scores.

Mutual information does not change under one-to-one maps of either variable. Three such maps are used here: shifting
and scaling each column; spreading tied values evenly over the cell between their neighbours (the value can still be
read off, and the spread is independent noise); and normal scores, rank -> normal quantile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri

from jaxland.errors import DataError

FEWEST = 20  # samples below which nothing is estimated


@dataclass(frozen=True)
class Variable:
    """One variable, possibly a vector: standardised columns [d, N] and what was found on the way.

    Attributes:
        columns: spread, centred and scaled samples [d, N].
        center, scale: [d]; original = center + scale * columns (up to the spreading of ties).
        ties: largest share of samples in one column that share their value with another.
        levels: number of distinct values of a single column (0 for vectors).
        codes: which distinct value each sample has, in each column [d, N].
    """

    name: str
    columns: Float[np.ndarray, "d n"]
    center: Float[np.ndarray, " d"]
    scale: Float[np.ndarray, " d"]
    ties: float
    levels: int
    codes: Int[np.ndarray, "d n"]

    @property
    def size(self) -> int:
        """Number of columns."""
        return len(self.columns)


def as_samples(values: Any, name: str) -> Float[np.ndarray, "n d"]:
    """A float64 array [N, d] of finite numbers.

    Raises:
        DataError: not numbers, more than two axes, too few samples, a value that is not finite.
    """
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    array = np.asarray(values)
    if array.dtype.kind == "c":
        raise DataError(f"{name} holds complex numbers: give real and imaginary part as two columns")
    if array.dtype.kind not in "biuf":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            hint = "for labels use categorical_mutual_information"
            raise DataError(f"{name} holds values that are not real numbers ({array.dtype}); {hint}") from error
    array = array.astype(np.float64)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise DataError(f"{name} must have shape [N] or [N, d], got {array.shape}")
    if array.shape[1] == 0:
        raise DataError(f"{name} has no columns")
    if array.shape[0] < FEWEST:
        raise DataError(f"{name} has {array.shape[0]} samples; at least {FEWEST} are needed")
    bad = ~np.isfinite(array)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise DataError(
            f"{name} has {int(bad.sum())} non-finite values, the first ({array[row, column]}) in row {row}, column "
            f"{column}: drop or impute these rows"
        )
    return array


def same_length(**arrays: np.ndarray) -> int:
    """The common number of samples.

    Raises:
        DataError: lengths differ.
    """
    lengths = {name: len(a) for name, a in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(
            "samples must pair up row by row, got " + ", ".join(f"{v} of {k}" for k, v in lengths.items())
        )
    return next(iter(lengths.values()))


def _spread(column: Float[np.ndarray, " n"], rng: np.random.Generator) -> tuple[np.ndarray, float, int, np.ndarray]:
    """Ties spread evenly over their cells; share of tied samples; distinct values; code of each sample."""
    levels, codes, counts = np.unique(column, return_inverse=True, return_counts=True)
    tied = float(counts[counts > 1].sum() / len(column))
    if len(levels) == len(column) or len(levels) == 1:
        return column, tied, len(levels), codes
    middle = 0.5 * (levels[1:] + levels[:-1])
    low = np.concatenate([[levels[0] - (middle[0] - levels[0])], middle])
    high = np.concatenate([middle, [levels[-1] + (levels[-1] - middle[-1])]])
    place = rng.random(len(column))
    spread = low[codes] + place * (high - low)[codes]
    return np.where(counts[codes] > 1, spread, column), tied, len(levels), codes


def variable(values: Any, name: str, seed: int = 0) -> Variable:
    """Check, spread ties, centre at the median and scale by the central 68 % (by the deviation where that vanishes).

    Raises:
        DataError: see ``as_samples``; a constant column; linearly dependent columns.
    """
    array = as_samples(values, name)
    constant = np.flatnonzero(array.max(0) == array.min(0))
    if len(constant):
        which = f"column {constant[0]} of {name}" if array.shape[1] > 1 else name
        raise DataError(f"{which} is constant ({array[0, constant[0]]:g}): it carries no information; leave it out")
    rng = np.random.default_rng([seed, 0x71E5])
    columns, ties, levels, codes = [], 0.0, 0, []
    center, scale = [], []
    for values_j in array.T:
        # Scale first: cells of values near 1e300 or 1e-300 must not overflow.
        unit = np.max(np.abs(values_j))
        column, tied, distinct, code = _spread(values_j / unit, rng)
        ties = max(ties, tied)
        codes.append(code)
        levels = distinct if array.shape[1] == 1 else 0
        mid, width = _middle(column)
        columns.append((column - mid) / width)
        center.append(mid * unit)
        scale.append(width * unit)
    found = np.stack(columns)
    if len(found) > 1 and np.linalg.eigvalsh(np.corrcoef(found))[0] < 1e-12:
        raise DataError(f"columns of {name} are linearly dependent: drop one, it adds no information")
    return Variable(
        name=name,
        columns=found,
        center=np.array(center),
        scale=np.array(scale),
        ties=ties,
        levels=levels,
        codes=np.stack(codes),
    )


def _middle(column: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Median, and half the width of the central 68 % (the deviation where that vanishes)."""
    low, mid, high = np.quantile(column, [0.1586553, 0.5, 0.8413447])
    width = 0.5 * (high - low)
    deviation = float(np.std(column))
    if width < 1e-3 * min(deviation, 0.5 * (np.quantile(column, 0.99) - np.quantile(column, 0.01))):
        width = deviation
    return float(mid), float(width if width > 0 else deviation)


def restricted(v: Variable, rows: Int[np.ndarray, " m"], which: Sequence[int]) -> Variable:
    """Some columns of a variable at some rows, centred and scaled anew."""
    columns = v.columns[np.asarray(which)][:, rows]
    center, scale = np.array([_middle(column) for column in columns]).T
    codes = v.codes[np.asarray(which)][:, rows]
    counts = [np.unique(code, return_counts=True)[1] for code in codes]
    return Variable(
        name=v.name,
        columns=(columns - center[:, None]) / scale[:, None],
        center=v.center[np.asarray(which)] + center * v.scale[np.asarray(which)],
        scale=scale * v.scale[np.asarray(which)],
        ties=max(float(c[c > 1].sum() / len(rows)) for c in counts),
        levels=len(counts[0]) if len(counts) == 1 else 0,
        codes=codes,
    )


def joined(a: Variable, b: Variable) -> Variable:
    """Both as one variable."""
    return Variable(
        name=f"{a.name}, {b.name}",
        columns=np.concatenate([a.columns, b.columns]),
        center=np.concatenate([a.center, b.center]),
        scale=np.concatenate([a.scale, b.scale]),
        ties=max(a.ties, b.ties),
        levels=0,
        codes=np.concatenate([a.codes, b.codes]),
    )


def normal_scores(
    columns: Float[np.ndarray, "d n"], train: Int[np.ndarray, " m"] | None = None
) -> Float[np.ndarray, "d n"]:
    """Normal quantile of each sample's rank among the training samples (all of them by default).

    Samples outside the training half get the interpolated rank, beyond its ends the rank of the end; ties must have
    been spread.

    >>> normal_scores(np.array([[5.0, -100.0, 1e9]])).round(2).tolist()
    [[0.0, -0.97, 0.97]]
    """
    n = columns.shape[1]
    train = np.arange(n) if train is None else train
    out = np.empty_like(columns)
    quantiles = ndtri((np.arange(len(train)) + 0.5) / len(train))
    for row, column in zip(out, columns):
        known = np.sort(column[train])
        if len(train) == n:
            row[np.argsort(column, kind="stable")] = quantiles
        else:
            row[:] = np.interp(column, known, quantiles)
    return out


def copies(*variables: Variable) -> Int[np.ndarray, " n"]:
    """Group 0..G-1 of each row: repeated measurements of nearly continuous data share one, all others stand alone.

    Copies must not sit in a training and a test fold at once, and resampling has to draw them together. Data on a
    lattice repeat by nature and are left alone: there one column's value meets many values of another.
    """
    codes = np.concatenate([v.codes for v in variables])
    n = codes.shape[1]
    if any(len(np.unique(c)) == n for c in codes):
        return np.arange(n)
    _, group = np.unique(codes, axis=1, return_inverse=True)
    group = np.ravel(group)
    distinct = int(group.max()) + 1
    fewest = min(len(np.unique(c)) for c in codes)
    return np.arange(n) if fewest < 0.9 * distinct or distinct < FEWEST else group
