"""Fourier and cosine transforms."""

from __future__ import annotations

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
class RFFT(Shaped):
    """Discrete Fourier transform of real inputs along ``axes``, one-sided along the last of them.

    The inverse takes the missing half to be the complex conjugate: any coefficients give a real x, and the pair
    +k, -k is one player. Groups: every frequency in one dimension; in more, ``bands`` rings of equal width in
    |frequency| / maximum. Other axes (channels) share the groups.
    """

    axes: Shape
    bands: int | None = None

    @property
    def coefficient_shape(self) -> Shape:
        """Half the frequencies along the last axis."""
        return tuple(d // 2 + 1 if a == self.axes[-1] else d for a, d in enumerate(self.shape))

    @property
    def radius(self) -> np.ndarray:
        """|frequency| of every coefficient, in units of the largest."""
        total = np.zeros(self.coefficient_shape)
        for a in self.axes:
            n = self.shape[a]
            f = np.fft.rfftfreq(n) if a == self.axes[-1] else np.fft.fftfreq(n)
            total = total + f.reshape([-1 if b == a else 1 for b in range(len(self.shape))]) ** 2
        radius = np.sqrt(total)
        return radius / max(radius.max(), 1e-300)

    @property
    def groups(self) -> np.ndarray:
        """Frequencies, or rings."""
        if len(self.axes) == 1 and self.bands is None:
            n = self.coefficient_shape[self.axes[0]]
            line = np.arange(n).reshape([-1 if b == self.axes[0] else 1 for b in range(len(self.shape))])
            return np.broadcast_to(line, self.coefficient_shape)
        bands = self._bands
        return np.minimum((self.radius * bands).astype(int), bands - 1)

    @property
    def _bands(self) -> int:
        return self.bands or max(min(self.shape[a] for a in self.axes) // 2, 1)

    @property
    def group_labels(self) -> tuple[str, ...]:
        """Frequencies k (cycles per input), or the middle of each ring."""
        if len(self.axes) == 1 and self.bands is None:
            return tuple(f"k={k}" for k in range(self.coefficient_shape[self.axes[0]]))
        return tuple(f"|k|={(k + 0.5) / self._bands:.3f}" for k in range(self._bands))

    def forward(self, x: jax.Array) -> jax.Array:
        """Complex coefficients."""
        return jnp.fft.rfftn(x, axes=[a + 1 for a in self.axes])

    def inverse(self, s: jax.Array) -> jax.Array:
        """Real inputs of the original, even or odd, length."""
        return jnp.fft.irfftn(s, s=[self.shape[a] for a in self.axes], axes=[a + 1 for a in self.axes])


@register()
@dataclass(frozen=True)
class DCT(Shaped):
    """Orthonormal discrete cosine transform (type II) along ``axes``."""

    axes: Shape

    def forward(self, x: jax.Array) -> jax.Array:
        """Real coefficients."""
        for a in self.axes:
            x = along(_cosines(self.shape[a]), x, a + 1)
        return x

    def inverse(self, s: jax.Array) -> jax.Array:
        """The transpose."""
        for a in self.axes:
            s = along(_cosines(self.shape[a]).T, s, a + 1)
        return s


@lru_cache(maxsize=64)
def _cosines(n: int) -> np.ndarray:
    k, t = np.arange(n)[:, None], np.arange(n)[None]
    matrix = math.sqrt(2 / n) * np.cos(np.pi * k * (2 * t + 1) / (2 * n))
    matrix[0] /= math.sqrt(2)
    return matrix


def rfft(shape: int | Sequence[int], *, axes: int | Sequence[int] | None = None, bands: int | None = None) -> RFFT:
    """Fourier transform of real inputs of the given shape.

    Args:
        shape: length of a signal, or shape of one input such as (28, 28) or (256, 256, 1).
        axes: axes of that shape to transform; default all but those of length 1, and but a first or last one of up
            to four channels beside longer ones.
        bands: number of rings of |frequency|; default one per frequency (1D) or half the smallest size.

    Raises:
        ArgumentError: not a shape, not its axes, no band.

    >>> transform = rfft(6)
    >>> transform.coefficient_shape, transform.group_labels
    ((4,), ('k=0', 'k=1', 'k=2', 'k=3'))
    """
    shape = sizes(shape, "rfft")
    if bands is not None and bands < 1:
        raise ArgumentError(f"bands must be at least 1, got {bands}")
    return RFFT(shape, axes_of(axes, shape, "rfft"), bands)


def dct(shape: int | Sequence[int], *, axes: int | Sequence[int] | None = None) -> DCT:
    """Orthonormal cosine transform; arguments as in ``rfft``.

    >>> import numpy as np
    >>> s = dct(4).forward(np.ones((1, 4)))
    >>> np.allclose(s, [[2, 0, 0, 0]], atol=1e-6)
    True
    """
    shape = sizes(shape, "dct")
    return DCT(shape, axes_of(axes, shape, "dct"))
