"""A Gaussian mixture: its coordinates, densities, marginals.

A density over z[D] with K components of full covariance. With the features phi = [1, z_i, z_i z_j (i <= j)] (F of
them) the log of each weighted component is linear, theta . phi:

    log p_k(z_n) = (theta phi)[k, n]

with the samples n as the last axis. Columns are expected standardised (unit scale, centred).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

DEAD = -1e30  # log-weight of a component that carries nothing
LOG_2PI = float(np.log(2.0 * np.pi))


class Mixture(NamedTuple):
    """Components, JAX on the device or NumPy on the host.

    Attributes:
        log_weight: [..., K]; ``DEAD`` where a component carries nothing.
        mean: [..., K, D].
        chol: lower Cholesky factors of the covariances [..., K, D, D].
    """

    log_weight: Any
    mean: Any
    chol: Any


def features(z: Float[Array, "d n"]) -> Float[Array, "f n"]:
    """phi = [1, z_i, z_i z_j for i <= j], F = 1 + D + D (D + 1) / 2 rows."""
    i, j = np.triu_indices(z.shape[0])
    return jnp.concatenate([jnp.ones_like(z[:1]), z, z[i] * z[j]])


def encode(mixture: Mixture) -> Float[Array, "... k p"]:
    """Coordinates in which any point is a mixture: [log weight, mean, log diagonal, rest of the Cholesky factor]."""
    xp = np if isinstance(mixture.chol, np.ndarray) else jnp
    d = mixture.mean.shape[-1]
    i, j = np.tril_indices(d, -1)
    diagonal = xp.log(xp.diagonal(mixture.chol, axis1=-2, axis2=-1))
    return xp.concatenate([mixture.log_weight[..., None], mixture.mean, diagonal, mixture.chol[..., i, j]], -1)


def decode(point: Float[Array, "... k p"]) -> Mixture:
    """The mixture at these coordinates."""
    xp = np if isinstance(point, np.ndarray) else jnp
    d = dimension(point.shape[-1])
    place = np.zeros((d, d), int)
    place[np.diag_indices(d)] = 1 + d + np.arange(d)
    place[np.tril_indices(d, -1)] = np.arange(1 + 2 * d, point.shape[-1])
    entries = point[..., place]
    on = np.eye(d, dtype=bool)
    below = xp.where(np.tri(d, k=-1, dtype=bool), entries, 0.0)
    chol = xp.where(on, xp.exp(xp.where(on, entries, 0.0)), below)
    return Mixture(point[..., 0], point[..., 1 : 1 + d], chol)


def dimension(parameters: int) -> int:
    """D, from the number of coordinates (or features) of a component."""
    return next(d for d in range(1, parameters) if 1 + d + d * (d + 1) // 2 == parameters)


def natural(point: Float[Array, "... k p"]) -> Float[Array, "... k f"]:
    """theta, so that log(weight_k N(z; mean_k, cov_k)) = theta_k . features(z), from encoded coordinates."""
    d = dimension(point.shape[-1])
    mean = [point[..., 1 + i] for i in range(d)]
    inverse = _inverse_lower(point, d)
    precision = [
        [sum((inverse[m][i] * inverse[m][j] for m in range(max(i, j), d)), 0.0) for j in range(d)] for i in range(d)
    ]
    linear = [sum((precision[i][j] * mean[j] for j in range(d)), 0.0) for i in range(d)]
    log_det = jnp.sum(point[..., 1 + d : 1 + 2 * d], -1)
    quadratic = sum((linear[i] * mean[i] for i in range(d)), 0.0)
    constant = point[..., 0] - 0.5 * d * LOG_2PI - log_det - 0.5 * quadratic
    pairs = [(-0.5 if i == j else -1.0) * precision[i][j] for i, j in zip(*np.triu_indices(d))]
    return jnp.stack([constant, *linear, *pairs], -1)


def _inverse_lower(point: Array, d: int) -> list[list[Array]]:
    """Entries of the inverse Cholesky factor; written out for few dimensions, where calls cost more than flops."""
    if d > 3:
        chol = decode(point).chol
        eye = jnp.broadcast_to(jnp.eye(d, dtype=chol.dtype), chol.shape)
        full = jax.scipy.linalg.solve_triangular(chol, eye, lower=True)
        return [[full[..., i, j] for j in range(d)] for i in range(d)]
    low = {(i, j): point[..., 1 + 2 * d + n] for n, (i, j) in enumerate(below(d))}
    rows: list[list[Array]] = []
    for i in range(d):
        pivot = jnp.exp(-point[..., 1 + d + i])
        row = [-sum((low[i, m] * rows[m][j] for m in range(j, i)), 0.0) * pivot for j in range(i)]
        rows.append([*row, pivot])
    return rows


def below(d: int) -> list[tuple[int, int]]:
    """Places below the diagonal, in the order of the encoding."""
    return [(i, j) for i in range(d) for j in range(i)]


def log_density(mixture: Mixture, z: Float[Array, "d n"]) -> Float[Array, " n"]:
    """log p(z_n)."""
    return jax.scipy.special.logsumexp(natural(encode(mixture)) @ features(z), axis=0)


def covariance(mixture: Mixture) -> Float[Array, "... k d d"]:
    """Component covariances."""
    return jnp.einsum("...ij,...kj->...ik", mixture.chol, mixture.chol)


def marginal(mixture: Mixture, dims: Sequence[int]) -> Mixture:
    """The mixture of some coordinates, in closed form: means and covariance blocks."""
    xp = np if isinstance(mixture.chol, np.ndarray) else jnp
    index = np.asarray([int(d) for d in dims])
    if list(index) == list(range(len(index))):
        chol = mixture.chol[..., : len(index), : len(index)]
    else:
        block = (mixture.chol @ xp.swapaxes(mixture.chol, -1, -2))[..., index[:, None], index[None, :]]
        chol = xp.linalg.cholesky(block)
    return Mixture(mixture.log_weight, mixture.mean[..., index], chol)


def pad(mixture: Mixture, size: int) -> Mixture:
    """The same density with dead components appended (log-weight -1e30, unit covariance)."""
    order, d = mixture.mean.shape
    extra = size - order
    return Mixture(
        np.concatenate([mixture.log_weight, np.full(extra, DEAD)]),
        np.concatenate([mixture.mean, np.zeros((extra, d))]),
        np.concatenate([mixture.chol, np.broadcast_to(np.eye(d), (extra, d, d))]),
    )
