"""What every transform offers: s = T(x), an inverse (exact or best in the least-squares sense), groups over s.

Every transform is a frozen dataclass and a pytree (its matrices are leaves, its shapes are not): it can be an
argument of a jitted function. ``forward`` and ``inverse`` take a leading batch axis. ``groups`` numbers the group of
every coefficient, -1 for none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.errors import ArgumentError

Shape = tuple[int, ...]
Kind = TypeVar("Kind", bound=type)


def sizes(shape: int | Sequence[int], name: str) -> Shape:
    """A shape as a tuple of positive sizes.

    Raises:
        ArgumentError: it is empty, or a size is not positive.
    """
    given = np.atleast_1d(np.asarray(shape))
    dims = tuple(given.astype(int).tolist()) if np.issubdtype(given.dtype, np.integer) and given.ndim == 1 else ()
    if not dims or min(dims) < 1:
        raise ArgumentError(f"shape of {name} must be one or more positive sizes, got {shape!r}")
    return dims


def axes_of(axes: int | Sequence[int] | None, shape: Shape, name: str) -> Shape:
    """Axes in ascending order, counted from 0; where None all along which something is spread.

    Raises:
        ArgumentError: not axes of the shape, or one twice.
    """
    if axes is None:
        return _spread(shape)
    given = (axes,) if isinstance(axes, int) else tuple(axes)
    wrapped = tuple(sorted(a + len(shape) if a < 0 else a for a in given))
    if not wrapped or len(set(wrapped)) < len(wrapped) or wrapped[0] < 0 or wrapped[-1] >= len(shape):
        raise ArgumentError(f"axes of {name} must be different axes of the input shape {shape}, got {axes!r}")
    return wrapped


def _spread(shape: Shape) -> Shape:
    """All axes but those of length 1, and but a first or last one of up to four channels beside longer ones."""
    long = tuple(a for a, n in enumerate(shape) if n > 1) or tuple(range(len(shape)))
    for channels, others in ((long[-1], long[:-1]), (long[0], long[1:])):
        if others and shape[channels] <= 4 < min(shape[a] for a in others):
            return others
    return long


@dataclass(frozen=True)
class Transform:
    """What every transform offers; subclass it, or use ``pair`` for two functions of your own."""

    @property
    def name(self) -> str:
        """What to call it in reports."""
        return type(self).__name__.lower()

    @property
    def input_shape(self) -> Shape:
        """Shape of one input."""
        raise NotImplementedError

    @property
    def coefficient_shape(self) -> Shape:
        """Shape of the coefficients of one input."""
        return self.input_shape

    @property
    def is_exact(self) -> bool:
        """Whether inverse(forward(x)) = x for every x."""
        return True

    @property
    def is_affine(self) -> bool:
        """Whether the inverse is affine: straight lines in s are straight lines in x."""
        return True

    @property
    def groups(self) -> np.ndarray:
        """Group of every coefficient, int [coefficient_shape]; each its own unless a transform says better."""
        return np.arange(math.prod(self.coefficient_shape)).reshape(self.coefficient_shape)

    @property
    def group_labels(self) -> tuple[str, ...]:
        """Name of every group."""
        return tuple(str(k) for k in range(int(self.groups.max()) + 1))

    def forward(self, x: jax.Array) -> jax.Array:
        """x [n, *input_shape] to s [n, *coefficient_shape]."""
        raise NotImplementedError

    def inverse(self, s: jax.Array) -> jax.Array:
        """s [n, *coefficient_shape] to x [n, *input_shape]."""
        raise NotImplementedError


def register(*data: str) -> Callable[[Kind], Kind]:
    """Class decorator: a dataclass as a pytree whose leaves are the named fields; the others are static."""

    def wrap(cls: Kind) -> Kind:
        static = [f.name for f in fields(cls) if f.name not in data]
        return jax.tree_util.register_dataclass(cls, data_fields=list(data), meta_fields=static)

    return wrap


def along(matrix: np.ndarray, x: jax.Array, axis: int) -> jax.Array:
    """matrix [m, n] applied along one axis of x."""
    return jnp.moveaxis(jnp.tensordot(x, jnp.asarray(matrix, x.dtype), [[axis], [1]]), -1, axis)


@dataclass(frozen=True)
class Shaped(Transform):
    """A transform of inputs of a given shape."""

    shape: Shape

    @property
    def input_shape(self) -> Shape:
        """Shape of one input."""
        return self.shape


@register()
@dataclass(frozen=True)
class Identity(Shaped):
    """The inputs themselves."""

    def forward(self, x: jax.Array) -> jax.Array:
        """x."""
        return x

    def inverse(self, s: jax.Array) -> jax.Array:
        """s."""
        return s


def identity(shape: int | Sequence[int]) -> Identity:
    """No transform: attribute to the inputs themselves.

    >>> identity((2, 2)).group_labels
    ('0', '1', '2', '3')
    """
    return Identity(sizes(shape, "identity"))
