"""One Lanczos step, one reading of Ritz pairs, one test of enough; the bases differ in how they store their vectors.

Reorthogonalisation is full and done twice ("twice is enough": Parlett 1998, section 6.9); without it copies of
converged eigenvalues appear. ``lane`` keeps a basis of fixed depth under vmap, ``grown`` panels that are added from
the host, ``thick_restart`` a fixed number of vectors over the devices of a mesh, in a short format where memory asks
for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, overload, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Product = Callable[[jax.Array], jax.Array]


class Step(NamedTuple):
    """What one product adds to a factorisation A Q = Q T + following beta: of one vector, or of a block of b.

    Attributes:
        following: unit vector [n] or orthonormal rows [b, n] whose product comes next, orthogonal to the basis.
        alpha: query . A query, [] or [b, b].
        beta: following . A query, [] or [b, b] (upper triangular).
        size: norm of the product [].
        rest: the product without its components along the basis, of its shape: following^T beta.
    """

    following: jax.Array
    alpha: jax.Array
    beta: jax.Array
    size: jax.Array
    rest: jax.Array


# Never TF32, which keeps three digits: orthogonality is what a Lanczos basis lives by.
HIGHEST = jax.lax.Precision.HIGHEST


def _whole(value: jax.Array) -> jax.Array:
    return value


@jax.jit
def orthonormal(w: Float[Array, "b n"]) -> tuple[jax.Array, jax.Array]:
    """Rows q and matrix r with w = r^T q."""
    if w.shape[0] == 1:
        norm = jnp.linalg.norm(w)
        return w / jnp.where(norm > 0, norm, 1), norm[None, None]
    q, r = jnp.linalg.qr(w.T)
    return q.T, r


def cleaned(w: jax.Array, without: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """w with its components along a basis taken off twice."""
    return without(without(w))


def lanczos_step(
    query: jax.Array,
    product: jax.Array,
    without: Callable[[jax.Array], jax.Array],
    total: Callable[[jax.Array], jax.Array] = _whole,
) -> Step:
    """Take in ``product`` = A query, the query being part of the basis already.

    Args:
        query: unit vector [n], or orthonormal rows [b, n].
        product: of its shape.
        without: takes the components along the basis off (once).
        total: sum over the devices that share the coordinates of a vector; vectors only, no blocks.
    """
    alpha = total(jnp.dot(query, product.T, precision=HIGHEST))
    size = jnp.sqrt(total(jnp.sum(product * product)))
    rest = cleaned(product, without)
    if rest.ndim == 2:
        following, beta = orthonormal(rest)
    else:
        beta = jnp.sqrt(total(jnp.sum(rest * rest)))
        following = rest / jnp.where(beta > 0, beta, 1)
    return Step(following, alpha, beta, size, rest)


def rounding(n: int, dtype: jnp.dtype) -> float:
    """Norms below this times the largest number met are rounding: the Krylov space is closed."""
    return 10 * n**0.5 * float(jnp.finfo(dtype).eps)


@overload
def ritz_pairs(
    projected: np.ndarray, coupling: np.ndarray
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, "m m"], Float[np.ndarray, " m"]]: ...
@overload
def ritz_pairs(
    projected: jax.Array, coupling: jax.Array
) -> tuple[Float[jax.Array, " m"], Float[jax.Array, "m m"], Float[jax.Array, " m"]]: ...
def ritz_pairs(projected, coupling):  # type: ignore[no-untyped-def]
    """Ritz values (ascending), coefficient columns, and residual norms |A v - value v| by the recurrence.

    Args:
        projected: T [m, m]; NumPy arrays are solved on the host, JAX's may be traced.
        coupling: what couples the next query [last], or block of them [b, last], to the last rows of T.
    """
    xp, eigh = (np, _host_eigh) if isinstance(projected, np.ndarray) else (jnp, jnp.linalg.eigh)
    values, vectors = eigh(projected)
    rows = xp.atleast_2d(coupling)
    return values, vectors, xp.linalg.norm(rows @ vectors[-rows.shape[1] :], axis=0)


def _host_eigh(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import scipy.linalg

    if len(t) > 1 and not np.triu(t, 2).any():
        return scipy.linalg.eigh_tridiagonal(np.diag(t).copy(), np.diag(t, 1).copy())
    return scipy.linalg.eigh(t)


@runtime_checkable
class Factorisation(Protocol):
    """What ``enough`` looks at: T and its coupling to the next query, how many vectors, whether the space closed."""

    @property
    def projected(self) -> np.ndarray:
        """T [filled, filled]."""

    @property
    def coupling(self) -> np.ndarray:
        """See ``ritz_pairs``."""

    @property
    def filled(self) -> int:
        """Basis vectors."""

    @property
    def exhausted(self) -> bool:
        """The basis spans the whole space."""


def enough(space: Factorisation, lowest: int, highest: int, tolerance: float) -> bool:
    """Whether the wanted residuals are below ``tolerance`` times the largest |value|, or the space is exhausted."""
    if space.exhausted:
        return True
    if space.filled < lowest + highest + 1:
        return False
    values, _, residuals = ritz_pairs(space.projected, space.coupling)
    limit = tolerance * float(np.max(np.abs(values)))
    ends = np.concatenate([residuals[:lowest], residuals[len(residuals) - highest :]])
    return bool((ends <= limit).all())
