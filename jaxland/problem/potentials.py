"""Energies with known landscapes, as problems: model surfaces, and clusters bound by pair potentials.

with jax.enable_x64(True):
    landscape = explore(potentials.lennard_jones(7))
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.core.energy.kernels import Curved
from jaxland.errors import ArgumentError
from jaxland.problem.particles import ClusterSymmetry
from jaxland.problem.problem import Problem
from jaxland.problem.scale import Scale


def mueller_brown() -> Problem:
    """The surface of Mueller & Brown (1979): 3 minima, 2 transition states in x, y."""
    return Problem.from_energy(_mueller_brown, 2, scale=Scale())


def _mueller_brown(w: jax.Array) -> jax.Array:
    height = jnp.array([-200.0, -100.0, -170.0, 15.0], w.dtype)
    a = jnp.array([-1.0, -1.0, -6.5, 0.7], w.dtype)
    b = jnp.array([0.0, 0.0, 11.0, 0.6], w.dtype)
    c = jnp.array([-10.0, -10.0, -6.5, 0.7], w.dtype)
    x = w[0] - jnp.array([1.0, 0.0, -0.5, -1.0], w.dtype)
    y = w[1] - jnp.array([0.0, 0.5, 1.5, 1.0], w.dtype)
    return jnp.sum(height * jnp.exp(a * x * x + b * x * y + c * y * y))


def six_hump_camel() -> Problem:
    """Six minima, seven transition states in x, y."""
    return Problem.from_energy(_camel, 2, scale=Scale())


def _camel(w: jax.Array) -> jax.Array:
    x, y = w
    return (4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + (-4 + 4 * y**2) * y**2


def lennard_jones(atoms: int) -> Problem:
    """A cluster of atoms bound by 4 (r^-12 - r^-6) each pair: energies in units of epsilon, lengths of sigma."""
    return cluster(atoms, _lennard_jones, scale=Scale())


def _lennard_jones(square: jax.Array) -> jax.Array:
    inverse = 1.0 / (square * square * square)
    return 4.0 * (inverse * inverse - inverse)


def morse(atoms: int, rho: float = 6.0) -> Problem:
    """A cluster bound by exp(rho (1 - r)) (exp(rho (1 - r)) - 2) each pair; rho sets the range of the force."""
    if not rho > 0:
        raise ArgumentError(f"rho must be positive, got {rho}")
    return cluster(atoms, _morse(float(rho)), scale=Scale())


@lru_cache(maxsize=16)
def _morse(rho: float) -> Callable[[jax.Array], jax.Array]:
    def pair(square: jax.Array) -> jax.Array:
        e = jnp.exp(rho * (1.0 - jnp.sqrt(square)))
        return e * (e - 2.0)

    return pair


def cluster(atoms: int, pair: Callable[[jax.Array], jax.Array], *, scale: Scale | None = None) -> Problem:
    """Identical atoms under any pair potential in any units, coordinates [3 * atoms].

    Args:
        atoms: at least 2.
        pair: elementwise and twice differentiable, ``pair(squared distances) -> energies``.
        scale: units of the search; default found.

    Returns:
        Problem with the symmetry of rigid motions, inversion and permutations, and its Hessian in closed form.
    """
    if int(atoms) != atoms or atoms < 2:
        raise ArgumentError(f"atoms must be an integer, at least 2, got {atoms}")
    need, there = 8.0 * (3.0 * atoms) ** 2, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if need > there:
        raise ArgumentError(
            f"{int(atoms):,} atoms have {3 * int(atoms):,} coordinates: one Hessian takes {need / 2**30:,.0f} GiB, "
            f"this machine has {there / 2**30:,.0f}"
        )
    energy, second = _cluster(int(atoms), pair)
    symmetry = ClusterSymmetry(int(atoms))
    return Problem.from_energy(energy, 3 * int(atoms), symmetry=symmetry, second=second, scale=scale)


@lru_cache(maxsize=64)
def _cluster(atoms: int, pair: Callable) -> tuple[Callable, Callable]:
    eye = np.eye(atoms)

    def slope(square: jax.Array) -> jax.Array:
        return jax.jvp(pair, (square,), (jnp.ones_like(square),))[1]

    def differences(w: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = w.reshape(atoms, 3)
        d = x[:, None] - x[None]
        return d, jnp.sum(d * d, axis=2) + jnp.asarray(eye, w.dtype)

    def energy(w: jax.Array) -> jax.Array:
        _, square = differences(w)
        return 0.5 * jnp.sum(jnp.where(eye > 0, 0.0, pair(square)))

    def second(w: jax.Array) -> Curved:
        d, square = differences(w)
        off = jnp.asarray(1.0 - eye, w.dtype)
        first, bend = jax.jvp(slope, (square,), (jnp.ones_like(square),))
        first, bend = first * off, bend * off
        gradient = 2.0 * jnp.sum(first[:, :, None] * d, axis=1).ravel()
        unit = jnp.eye(3, dtype=w.dtype)[None, None]
        blocks = (
            2.0 * first[:, :, None, None] * unit + 4.0 * bend[:, :, None, None] * d[..., :, None] * d[..., None, :]
        )
        own = jnp.sum(blocks, axis=1)
        blocks = own[:, None] * jnp.asarray(eye, w.dtype)[:, :, None, None] - blocks
        hessian = blocks.transpose(0, 2, 1, 3).reshape(3 * atoms, 3 * atoms)
        return Curved(0.5 * jnp.sum(off * pair(square)), gradient, hessian)

    return energy, second


def box(problem: Problem) -> tuple[Any, Any]:
    """(low, high) for random starts: the usual windows of the model surfaces; a cube as dense as the cluster."""
    if isinstance(problem.symmetry, ClusterSymmetry):
        half = 0.8 * problem.symmetry.atoms ** (1 / 3)
        return -half, half
    if problem.plain is _mueller_brown:
        return np.array([-1.6, -0.4]), np.array([1.2, 2.0])
    if problem.plain is _camel:
        return np.array([-2.0, -1.1]), np.array([2.0, 1.1])
    raise ArgumentError("only the potentials of this module have a usual box")


NAMES = "mueller-brown, six-hump-camel, lj7 (any number of atoms), morse7"


_SURFACES = {"mueller-brown": mueller_brown, "six-hump-camel": six_hump_camel}
_CLUSTERS: dict[str, Callable[[int], Problem]] = {"lj": lennard_jones, "morse": morse}


def is_name(name: str) -> bool:
    """Whether ``by_name`` knows it."""
    return name in _SURFACES or _parsed(name) is not None


def _parsed(name: str) -> tuple[str, int] | None:
    for prefix in _CLUSTERS:
        if name.startswith(prefix) and name[len(prefix) :].isdigit():
            return prefix, int(name[len(prefix) :])
    return None


def by_name(name: str) -> Problem:
    """The potential of a name such as ``lj13``, ``morse8``, ``mueller-brown``.

    Raises:
        ArgumentError: no such name.
    """
    if name in _SURFACES:
        return _SURFACES[name]()
    parsed = _parsed(name)
    if parsed is None:
        raise ArgumentError(f"no potential is called {name!r}; choose from {NAMES}")
    return _CLUSTERS[parsed[0]](parsed[1])
