"""Transforms one after another, and two functions of your own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxland.errors import ArgumentError
from jaxland.trim.transforms.base import Shape, Transform, register, sizes


@register("first", "second")
@dataclass(frozen=True)
class Compose(Transform):
    """``second`` applied to the coefficients of ``first``."""

    first: Transform
    second: Transform

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.first.name}+{self.second.name}"

    @property
    def input_shape(self) -> Shape:
        """That of the first."""
        return self.first.input_shape

    @property
    def coefficient_shape(self) -> Shape:
        """That of the second."""
        return self.second.coefficient_shape

    @property
    def is_exact(self) -> bool:
        """Both are."""
        return self.first.is_exact and self.second.is_exact

    @property
    def is_affine(self) -> bool:
        """Both are."""
        return self.first.is_affine and self.second.is_affine

    @property
    def groups(self) -> np.ndarray:
        """Those of the second."""
        return self.second.groups

    @property
    def group_labels(self) -> tuple[str, ...]:
        """Those of the second."""
        return self.second.group_labels

    def forward(self, x: jax.Array) -> jax.Array:
        """First, then second."""
        return self.second.forward(self.first.forward(x))

    def inverse(self, s: jax.Array) -> jax.Array:
        """Undo the second, then the first."""
        return self.first.inverse(self.second.inverse(s))


@register()
@dataclass(frozen=True)
class Pair(Transform):
    """A user's own two functions on batches; see ``pair``.

    Attributes:
        analyse, synthesise: x [n, *shape] to s [n, *coefficients], and back.
        exact: whether they undo each other; affine: whether ``synthesise`` is affine.
        ids: group of every coefficient, flattened; labels: names of the groups.
        label: what to call it in reports.
    """

    analyse: Callable[[jax.Array], jax.Array]
    synthesise: Callable[[jax.Array], jax.Array]
    shape: Shape
    coefficients: Shape
    exact: bool
    affine: bool
    ids: tuple[int, ...]
    labels: tuple[str, ...]
    label: str

    @property
    def name(self) -> str:
        """What to call it in reports."""
        return self.label

    @property
    def input_shape(self) -> Shape:
        """Shape of one input."""
        return self.shape

    @property
    def coefficient_shape(self) -> Shape:
        """Shape of the coefficients of one input."""
        return self.coefficients

    @property
    def is_exact(self) -> bool:
        """As found on random inputs."""
        return self.exact

    @property
    def is_affine(self) -> bool:
        """As declared."""
        return self.affine

    @property
    def groups(self) -> np.ndarray:
        """As given."""
        return np.array(self.ids).reshape(self.coefficients)

    @property
    def group_labels(self) -> tuple[str, ...]:
        """As given."""
        return self.labels

    def forward(self, x: jax.Array) -> jax.Array:
        """The user's function."""
        return self.analyse(x)

    def inverse(self, s: jax.Array) -> jax.Array:
        """The user's function."""
        return self.synthesise(s)


def compose(first: Transform, *others: Transform) -> Transform:
    """Transforms one after another: ``compose(rfft(100), pair(...))``.

    Raises:
        ArgumentError: one's coefficients do not fit the next one's input.

    >>> from jaxland.trim import dct, dwt
    >>> compose(dct(8), dwt(8, "haar")).name
    'dct+dwt'
    """
    for part in (first, *others):
        if not isinstance(part, Transform):
            raise ArgumentError(f"compose takes transforms, such as rfft(64), got {part!r}")
    out = first
    for other in others:
        if out.coefficient_shape != other.input_shape:
            raise ArgumentError(
                f"{other.name} takes inputs of shape {other.input_shape}, {out.name} gives {out.coefficient_shape}"
            )
        out = Compose(out, other)
    return out


def pair(
    forward: Callable[[jax.Array], jax.Array],
    inverse: Callable[[jax.Array], jax.Array],
    shape: int | Sequence[int],
    *,
    groups: ArrayLike | None = None,
    labels: Sequence[str] | None = None,
    affine: bool = False,
    name: str = "own",
) -> Pair:
    """Two functions of your own on batches, ``forward(x[n, ...])`` and ``inverse(s[n, ...])``, in jax.numpy.

    Args:
        forward, inverse: traced by JAX; whether they undo each other is found by trying random inputs.
        shape: of one input.
        groups: group number of every coefficient; default each its own. labels: names of the groups.
        affine: say so when the inverse is affine: paths are then followed in x, which is faster.
        name: what to call it.

    Raises:
        ArgumentError: a function fails, or shapes do not fit.

    >>> import jax.numpy as jnp
    >>> pair(jnp.arcsinh, jnp.sinh, 3).is_exact
    True
    """
    shape = sizes(shape, name)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *shape)), jnp.result_type(float))
    try:
        s = forward(x)
        back = inverse(s)
    except Exception as error:
        raise ArgumentError(f"transform {name!r} failed on a batch of shape {x.shape}: {error}") from error
    if back.shape != x.shape:
        raise ArgumentError(f"inverse of transform {name!r} gives shape {back.shape}, not the input's {x.shape}")
    exact = bool(jnp.max(jnp.abs(back - x)) < 1e3 * jnp.finfo(x.dtype).eps * max(1.0, float(jnp.max(jnp.abs(s)))))
    coefficients = tuple(s.shape[1:])
    ids = np.arange(math.prod(coefficients)) if groups is None else np.asarray(groups)
    if ids.size != math.prod(coefficients):
        raise ArgumentError(f"groups must number all {math.prod(coefficients)} coefficients, got {ids.size}")
    names = tuple(str(k) for k in range(int(ids.max()) + 1)) if labels is None else tuple(labels)
    return Pair(
        analyse=forward,
        synthesise=inverse,
        shape=shape,
        coefficients=coefficients,
        exact=exact,
        affine=affine,
        ids=tuple(ids.ravel().tolist()),
        labels=names,
        label=name,
    )
