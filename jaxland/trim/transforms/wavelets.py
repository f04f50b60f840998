"""Orthonormal wavelets, periodised, with filters computed here (haar, db1..db8, sym5).

The filters are a few lines of spectral factorisation, good to 1e-14, where PyWavelets' table of sym5 is good to 1e-12
only; a step is a matrix product, which jit, grad and vmap take, and needs no package at run time.
tests/trim/test_trim_transforms.py holds filters and coefficients against PyWavelets.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.errors import ArgumentError
from jaxland.trim.transforms.base import Shape, Shaped, along, axes_of, register, sizes


@register()
@dataclass(frozen=True)
class DWT(Shaped):
    """Orthonormal periodised wavelet transform along ``axes`` (PyWavelets' mode "periodization").

    Coefficients stay in the input's shape, coarse before fine along every axis (Mallat's layout). Groups: the coarse
    block ``A<level>`` and the details of every level, by orientation in more than one dimension: a letter per axis, a
    for smooth and d for detail (PyWavelets' keys).
    """

    axes: Shape
    wavelet: str
    levels: int

    def _blocks(self) -> list[tuple[str, tuple[slice, ...]]]:
        """(label, where) of every block of coefficients, coarse first."""
        whole = [slice(None)] * len(self.shape)
        blocks = []
        for level in range(1, self.levels + 1):
            for letters in itertools.product("ad", repeat=len(self.axes)):
                where = list(whole)
                for a, letter in zip(self.axes, letters):
                    half = self.shape[a] >> level
                    where[a] = slice(0, half) if letter == "a" else slice(half, 2 * half)
                name = "".join(letters)
                if "d" in name:
                    blocks.append((f"d{level}" if len(name) == 1 else f"{name}{level}", tuple(where)))
        where = list(whole)
        for a in self.axes:
            where[a] = slice(0, self.shape[a] >> self.levels)
        return [(f"a{self.levels}", tuple(where)), *reversed(blocks)]

    @property
    def groups(self) -> np.ndarray:
        """Coarse block, then details by level and orientation."""
        ids = np.zeros(self.shape, int)
        for k, (_, where) in enumerate(self._blocks()):
            ids[where] = k
        return ids

    @property
    def group_labels(self) -> tuple[str, ...]:
        """Names of the blocks."""
        return tuple(label for label, _ in self._blocks())

    def forward(self, x: jax.Array) -> jax.Array:
        """Level by level on the coarse block."""
        x = jnp.asarray(x)
        for level in range(self.levels):
            where = self._coarse(level)
            block = x[where]
            for a in self.axes:
                block = along(_wavelet_step(self.wavelet, self.shape[a] >> level), block, a + 1)
            x = block if level == 0 else x.at[where].set(block)
        return x

    def inverse(self, s: jax.Array) -> jax.Array:
        """The transpose, in reverse order."""
        s = jnp.asarray(s)
        for level in reversed(range(self.levels)):
            where = self._coarse(level)
            block = s[where]
            for a in self.axes:
                block = along(_wavelet_step(self.wavelet, self.shape[a] >> level).T, block, a + 1)
            s = block if level == 0 else s.at[where].set(block)
        return s

    def _coarse(self, level: int) -> tuple[slice, ...]:
        inner = [slice(0, d >> level) if a in self.axes else slice(None) for a, d in enumerate(self.shape)]
        return (slice(None), *inner)


@lru_cache(maxsize=64)
def _wavelet_step(wavelet: str, n: int) -> np.ndarray:
    """Orthonormal [n, n]: smooth coefficients in the first half of the rows, details in the second."""
    low = scaling_filter(wavelet)
    length = len(low)
    high = low[::-1] * (-1.0) ** (np.arange(length) + 1)
    matrix = np.zeros((n, n))
    for k in range(n // 2):
        for j in range(length):
            column = (2 * k + length // 2 - j) % n
            matrix[k, column] += low[j]
            matrix[n // 2 + k, column] += high[j]
    return matrix


@lru_cache(maxsize=64)
def scaling_filter(wavelet: str) -> np.ndarray:
    """Decomposition low-pass filter of haar, db1..db8 or sym5, by spectral factorisation (Daubechies 1992, ch. 6).

    The half-band polynomial's roots z come in pairs z, 1/z: Daubechies' wavelets take those inside the unit circle,
    symlets the choice with the most linear phase.
    """
    names = {"haar": (1, False), "sym5": (5, True), **{f"db{p}": (p, False) for p in range(1, 9)}}
    if wavelet not in names:
        raise ArgumentError(f"wavelet {wavelet!r} is unknown; choose one of {', '.join(names)}")
    order, symmetric = names[wavelet]
    ys = np.roots([math.comb(order - 1 + k, k) for k in reversed(range(order))]) if order > 1 else np.array([])
    half = 1 - 2 * ys
    inside = half - np.sqrt(half**2 - 1 + 0j)
    inside = np.where(np.abs(inside) < 1, inside, 1 / inside)
    if not symmetric:
        return _filter(inside, order)[::-1]
    kept = [z for z in inside if z.imag >= -1e-12]
    filters = []
    for flips in itertools.product((False, True), repeat=len(kept)):
        roots = [w for z, f in zip(kept, flips) for w in _with_conjugate(1 / z if f else z)]
        filters.append(_filter(np.array(roots), order))
    return min(filters, key=lambda h: (round(_phase_bend(h), 9), h[np.argmax(np.abs(h)) - 1]))


def _with_conjugate(z: complex) -> list[complex]:
    return [z] if abs(z.imag) < 1e-12 else [z, z.conjugate()]


def _filter(roots: np.ndarray, order: int) -> np.ndarray:
    coefficients = np.real(np.poly(np.concatenate([roots, -np.ones(order)])))
    return math.sqrt(2) * coefficients / coefficients.sum()


def _phase_bend(h: np.ndarray) -> float:
    w = np.linspace(0.01, 0.9 * np.pi, 200)
    phase = np.unwrap(np.angle(np.exp(-1j * np.outer(w, np.arange(len(h)))) @ h))
    slope = (w @ phase) / (w @ w)
    return float(np.max(np.abs(phase - slope * w)))


def dwt(
    shape: int | Sequence[int],
    wavelet: str = "haar",
    *,
    levels: int | None = None,
    axes: int | Sequence[int] | None = None,
) -> DWT:
    """Orthonormal periodised wavelet transform.

    Args:
        shape: length of a signal, or shape of one input.
        wavelet: haar, db1..db8 or sym5.
        levels: halvings; default as many as every transformed size allows without falling below the filter's length.
        axes: axes to transform; default as in ``rfft``.

    Raises:
        ArgumentError: a size cannot be halved that often, an unknown wavelet.

    >>> dwt(16, "haar", levels=3).group_labels
    ('a3', 'd3', 'd2', 'd1')
    """
    shape = sizes(shape, "dwt")
    axes = axes_of(axes, shape, "dwt")
    length = len(scaling_filter(wavelet))
    lengths = [shape[a] for a in axes]
    halvings = min((n & -n).bit_length() - 1 for n in lengths)
    if levels is None:
        longest = min(int(math.log2(max(n / max(length - 1, 1), 1))) for n in lengths)
        levels = min(halvings, max(longest, 1))
    if not 1 <= levels <= halvings:
        raise ArgumentError(
            f"dwt with {levels} levels needs sizes divisible by {2 ** max(levels, 1)}, got {tuple(lengths)}: "
            "choose fewer levels or pad the inputs; an odd length cannot be halved"
        )
    return DWT(shape, axes, wavelet, levels)
