"""Quasi-Monte Carlo points: Sobol sequences with nested scrambling, uniform and normal.

The first 2^m points of a Sobol sequence fill every elementary interval evenly; nested uniform scrambling (Owen 1995)
keeps that, makes each point uniform, and so gives unbiased integrals whose error falls as n^-3/2 for smooth
integrands. The scrambling is the hash of Laine & Karras (2011) in the form of Burley (2020), a handful of integer
operations a point, so every job can own its scrambling. The spread over independent scramblings states the error.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, UInt32

BITS = 32
Bits = TypeVar("Bits", np.ndarray, jax.Array)
# Degree, interior coefficients and first direction numbers of the primitive polynomials of dimensions 2 to 10
# (Joe & Kuo 2008).
_PRIMITIVE = (
    (1, 0, (1,)),
    (2, 1, (1, 3)),
    (3, 1, (1, 3, 1)),
    (3, 2, (1, 1, 1)),
    (4, 1, (1, 1, 3, 3)),
    (4, 4, (1, 3, 5, 13)),
    (5, 2, (1, 1, 5, 5, 17)),
    (5, 4, (1, 1, 5, 5, 5)),
    (5, 7, (1, 1, 7, 11, 19)),
)


def _directions(dimension: int) -> np.ndarray:
    """Direction numbers [BITS] of one dimension, counted from 0."""
    if dimension == 0:
        return (np.uint64(1) << np.arange(BITS - 1, -1, -1, dtype=np.uint64)).astype(np.uint64)
    degree, inner, first = _PRIMITIVE[dimension - 1]
    m = [int(value) for value in first]
    for i in range(degree, BITS):
        value = m[i - degree] ^ (m[i - degree] << degree)
        for j in range(1, degree):
            if (inner >> (degree - 1 - j)) & 1:
                value ^= m[i - j] << j
        m.append(value)
    return np.array([value << (BITS - 1 - i) for i, value in enumerate(m)], dtype=np.uint64)


@lru_cache(maxsize=32)
def sobol(n: int, dimensions: int) -> UInt32[np.ndarray, "d n"]:
    """The first n points of the unscrambled Sobol sequence as 32-bit fractions.

    Args:
        n: number of points; a power of two keeps the balance.
        dimensions: up to 10 from the table here, beyond from SciPy.
    """
    if dimensions > len(_PRIMITIVE) + 1:
        from scipy.stats import qmc

        unit = qmc.Sobol(dimensions, scramble=False, bits=BITS).random(n)
        return np.ascontiguousarray((unit.T * 2.0**BITS).astype(np.uint32))
    index = np.arange(n, dtype=np.uint64)
    gray = index ^ (index >> np.uint64(1))
    points = np.zeros((dimensions, n), dtype=np.uint64)
    for d in range(dimensions):
        directions = _directions(d)
        for bit in range(max(1, int(n - 1).bit_length())):
            points[d] ^= np.where((gray >> np.uint64(bit)) & np.uint64(1), directions[bit], np.uint64(0))
    return points.astype(np.uint32)


def _reverse_bits(x: Bits) -> Bits:
    for shift, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF)):
        x = ((x >> np.uint32(shift)) & np.uint32(mask)) | ((x & np.uint32(mask)) << np.uint32(shift))
    return (x >> np.uint32(16)) | (x << np.uint32(16))


def scramble(points: Bits, seeds: Bits) -> Bits:
    """Nested uniform scrambling of points [d, n], one seed a dimension (Burley 2020: hashes of the reversed bits).

    Both uint32 and both NumPy or both JAX; the result is of their kind.
    """
    x = _reverse_bits(points) + seeds[:, None]
    for multiplier in (0x6C50B47C, 0xB82F1E52, 0xC7AFE638, 0x8D22F6E6):
        x = x ^ (x * np.uint32(multiplier))
    return _reverse_bits(x)


def uniforms(key: Array, points: UInt32[Array, "d n"], dtype: DTypeLike = jnp.float32) -> Float[Array, "d n"]:
    """One scrambling of the points, in the open unit cube."""
    seeds = jax.random.bits(key, (points.shape[0],), jnp.uint32)
    scrambled = scramble(points, seeds)
    if jnp.dtype(dtype) == jnp.float32:
        scrambled = scrambled >> 9  # 23 bits, so that no value rounds to 1
        return (scrambled.astype(dtype) + 0.5) * jnp.asarray(2.0**-23, dtype)
    return (scrambled.astype(dtype) + 0.5) * jnp.asarray(2.0**-BITS, dtype)


def normals(key: Array, points: UInt32[Array, "d n"], dtype: DTypeLike = jnp.float32) -> Float[Array, "d n"]:
    """Standard normal points from one scrambling, by the inverse distribution function."""
    return jax.scipy.special.ndtri(uniforms(key, points, dtype))


def host_normals(seed: int, points: UInt32[np.ndarray, "d n"]) -> Float[np.ndarray, "d n"]:
    """The same on the host, float64, scrambled from an integer seed: for tables made once and used many times."""
    from scipy.special import ndtri

    seeds = np.random.default_rng(seed).integers(0, 2**BITS, size=len(points), dtype=np.uint32)
    return ndtri((scramble(points, seeds).astype(np.float64) + 0.5) * 2.0**-BITS)
