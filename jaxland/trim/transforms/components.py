"""Components found in data: principal, independent, non-negative.

NMF and FastICA are kept beside scikit-learn's: they run on NumPy in the base installation, are seeded without global
state, and give what a transform needs (unit parts, the whitened analysis matrix).
tests/trim/test_trim_transforms.py holds them against scikit-learn; ``fitted`` takes its estimators instead.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from jaxland.errors import ArgumentError, DataError
from jaxland.trim.transforms.base import Shape
from jaxland.trim.transforms.linear import Linear, linear


def _rows(data: ArrayLike) -> tuple[np.ndarray, Shape]:
    rows = np.asarray(data)
    if rows.ndim < 2 or not np.isfinite(rows).all():
        raise DataError(f"data must be finite rows [n, ...], got shape {rows.shape}")
    return rows.reshape(len(rows), -1), rows.shape[1:]


def pca(data: ArrayLike, parts: int | None = None) -> Linear:
    """Principal components of data [n, ...]; all of them (an exact transform, if n allows) or the first few.

    Raises:
        DataError: data are not finite rows. ArgumentError: more parts than rows or features.

    >>> pca([[1.0, 2.0], [2.0, 4.0], [3.0, 6.5]]).is_exact
    True
    """
    rows, shape = _rows(data)
    mean = rows.mean(0)
    count = min(rows.shape) if parts is None else parts
    if not 1 <= count <= min(rows.shape):
        raise ArgumentError(f"parts must be between 1 and {min(rows.shape)}, got {parts}")
    basis = np.linalg.svd(rows - mean, full_matrices=False)[2][:count]
    return linear(basis, shape=shape, mean=mean, analysis=basis.T, name="pc")


def nmf(data: ArrayLike, parts: int, *, sweeps: int = 300, seed: int = 0) -> Linear:
    """Non-negative parts of data [n, ...] >= 0, by hierarchical alternating least squares (Cichocki & Phan 2009)."""
    rows, shape = _rows(data)
    if (rows < 0).any():
        raise DataError("nmf needs data without negative values")
    if not 1 <= parts <= rows.shape[1]:
        raise ArgumentError(f"parts must be between 1 and {rows.shape[1]}, got {parts}")
    rng = np.random.default_rng(seed)
    scale = math.sqrt(rows.mean() / parts)
    w, h = scale * rng.uniform(0.5, 1.5, (len(rows), parts)), scale * rng.uniform(0.5, 1.5, (parts, rows.shape[1]))
    for _ in range(sweeps):
        for left, right, m in ((w.T, h, rows.T), (h, w.T, rows)):
            gram, target = right @ right.T, right @ m
            for k in range(parts):
                left[k] = np.maximum(left[k] + (target[k] - gram[k] @ left) / max(gram[k, k], 1e-12), 1e-12)
    h = np.where(h > 1e-9 * h.max(), h, 0) / np.maximum(np.linalg.norm(h, axis=1, keepdims=True), 1e-300)
    return linear(h.astype(np.asarray(data).dtype, copy=False), shape=shape, nonnegative=True, name="part")


def ica(data: ArrayLike, parts: int, *, steps: int = 500, seed: int = 0) -> Linear:
    """Independent components of data [n, ...], by symmetric FastICA with tanh (Hyvärinen 1999)."""
    rows, shape = _rows(data)
    if not 1 <= parts <= min(rows.shape):
        raise ArgumentError(f"parts must be between 1 and {min(rows.shape)}, got {parts}")
    mean = rows.mean(0)
    _, scale, basis = np.linalg.svd(rows - mean, full_matrices=False)
    whitening = basis[:parts].T * (math.sqrt(len(rows)) / np.maximum(scale[:parts], 1e-300))
    z = (rows - mean) @ whitening
    w = np.linalg.qr(np.random.default_rng(seed).normal(size=(parts, parts)))[0]
    for _ in range(steps):
        y = np.tanh(z @ w.T)
        u, _, v = np.linalg.svd(y.T @ z / len(z) - (1 - y**2).mean(0)[:, None] * w)
        old, w = w, u @ v
        if np.abs(np.abs(np.sum(w * old, axis=1)) - 1).max() < 1e-10:
            break
    analysis = whitening @ w.T
    return linear(np.linalg.pinv(analysis), shape=shape, mean=mean, analysis=analysis, name="ic")
