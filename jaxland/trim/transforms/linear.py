"""Any matrix of components, with its pseudo-inverse or non-negative least squares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxland.errors import ArgumentError, DataError
from jaxland.trim.transforms.base import Shape, Transform, register, sizes


@register("components", "mean", "analysis")
@dataclass(frozen=True)
class Linear(Transform):
    """x = mean + s @ components, for any components [k, d] over the flattened input.

    ``analysis`` [d, k] gives s = (x - mean) @ analysis; None means the non-negative least-squares solution (NMF),
    which is solved and never differentiated. Groups: one per component.
    """

    components: jax.Array
    mean: jax.Array
    analysis: jax.Array | None
    shape: Shape
    label: str = "linear"

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
        """[k]."""
        return (int(self.components.shape[0]),)

    @property
    def is_exact(self) -> bool:
        """Whether analysis @ components is the identity."""
        if self.analysis is None:
            return False
        product = np.asarray(self.analysis, np.float64) @ np.asarray(self.components, np.float64)
        tolerance = 100 * len(product) * float(jnp.finfo(self.components.dtype).eps)
        return bool(np.abs(product - np.eye(len(product))).max() < tolerance)

    @property
    def group_labels(self) -> tuple[str, ...]:
        """Number of the component."""
        return tuple(f"{self.label} {k}" for k in range(self.coefficient_shape[0]))

    def forward(self, x: jax.Array) -> jax.Array:
        """Coefficients [n, k]."""
        flat = x.reshape(x.shape[0], -1) - self.mean.astype(x.dtype)[None]
        if self.analysis is not None:
            return flat @ self.analysis.astype(x.dtype)
        return nonnegative_least_squares(jax.lax.stop_gradient(flat), self.components.astype(x.dtype))

    def inverse(self, s: jax.Array) -> jax.Array:
        """Mean plus the components' sum."""
        flat = s @ self.components.astype(s.dtype) + self.mean.astype(s.dtype)[None]
        return flat.reshape(s.shape[0], *self.shape)


@partial(jax.jit, static_argnames=("sweeps",))
def nonnegative_least_squares(x: jax.Array, components: jax.Array, sweeps: int = 2000) -> jax.Array:
    """argmin_{s >= 0} |x - s @ components|^2 for every row, by cyclic coordinate descent over the whole batch.

    Args:
        x: [n, d]; components: [k, d].
        sweeps: at most so many passes; it stops when no coefficient moves by more than rounding.

    Returns:
        s [n, k]
    """
    gram, target = components @ components.T, x @ components.T
    diagonal = jnp.maximum(jnp.diag(gram), jnp.finfo(x.dtype).tiny)
    tolerance = 4 * jnp.finfo(x.dtype).eps

    def coordinate(k: jax.Array, s: jax.Array) -> jax.Array:
        moved = s[:, k] + (target[:, k] - s @ gram[:, k]) / diagonal[k]
        return s.at[:, k].set(jnp.maximum(moved, 0))

    def sweep(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        i, s, _ = state
        new = jax.lax.fori_loop(0, s.shape[1], coordinate, s)
        scale = jnp.maximum(jnp.max(jnp.abs(new)), jnp.finfo(x.dtype).tiny)
        return i + 1, new, jnp.max(jnp.abs(new - s)) > tolerance * scale

    start = jnp.array(0), jnp.zeros((x.shape[0], components.shape[0]), x.dtype), jnp.array(True)
    return jax.lax.while_loop(lambda state: (state[0] < sweeps) & state[2], sweep, start)[1]


def linear(
    components: ArrayLike,
    *,
    shape: int | Sequence[int] | None = None,
    mean: ArrayLike | None = None,
    analysis: ArrayLike | None = None,
    nonnegative: bool = False,
    name: str = "part",
) -> Linear:
    """Any matrix of components: x = mean + s @ components.

    Args:
        components: [k, d] over the flattened input.
        shape: of one input; default (d,).
        mean: [d]; default 0.
        analysis: [d, k] with s = (x - mean) @ analysis; default the pseudo-inverse.
        nonnegative: find s by non-negative least squares instead (parts of an NMF).
        name: label of the parts.

    Raises:
        DataError: shapes do not fit, or values are not finite.
        ArgumentError: both analysis and nonnegative.

    >>> import numpy as np
    >>> transform = linear([[1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    >>> transform.is_exact, np.allclose(transform.forward(np.array([[3.0, 3.0, 4.0]])), [[3, 2]])
    (False, True)
    """
    matrix = np.asarray(components)
    if matrix.ndim != 2:
        raise DataError(f"components must be a matrix [parts, features], got shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise DataError("components has values that are not finite")
    k, d = matrix.shape
    shape = (d,) if shape is None else sizes(shape, "linear")
    if math.prod(shape) != d:
        raise DataError(f"components have {d} columns, which do not fill an input of shape {shape}")
    middle = np.zeros(d, matrix.dtype) if mean is None else np.asarray(mean).reshape(-1)
    if middle.shape != (d,):
        raise DataError(f"mean must have {d} entries, got {middle.shape}")
    back = None
    if nonnegative:
        if analysis is not None:
            raise ArgumentError("give either analysis or nonnegative=True, not both")
        if (matrix < 0).any():
            raise DataError("nonnegative=True needs components without negative entries")
    else:
        back = np.linalg.pinv(matrix) if analysis is None else np.asarray(analysis)
        if back.shape != (d, k):
            raise DataError(f"analysis must have shape {(d, k)}, got {back.shape}")
    for label, values in (("mean", middle), ("analysis", back)):
        if values is not None and not np.isfinite(values).all():
            raise DataError(f"{label} has values that are not finite")
    return Linear(
        components=jnp.asarray(matrix),
        mean=jnp.asarray(middle),
        analysis=None if back is None else jnp.asarray(back),
        shape=shape,
        label=name,
    )


def fitted(estimator: object, shape: int | Sequence[int] | None = None) -> Linear:
    """A fitted scikit-learn PCA, NMF, FastICA, TruncatedSVD or anything with ``components_``, as a transform.

    Raises:
        DataError: it is not fitted.
    """
    components = getattr(estimator, "components_", None)
    if components is None:
        raise DataError(f"{type(estimator).__name__} has no components_: fit it first, or use linear(matrix)")
    if hasattr(estimator, "reconstruction_err_"):
        return linear(components, shape=shape, nonnegative=True, name="part")
    mean = getattr(estimator, "mean_", None)
    if hasattr(estimator, "mixing_"):
        mixing = np.asarray(estimator.mixing_)
        return linear(mixing.T, shape=shape, mean=mean, analysis=np.asarray(components).T, name="ic")
    return linear(components, shape=shape, mean=mean, name="pc")
