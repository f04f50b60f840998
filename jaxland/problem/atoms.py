"""Atoms of ASE: its calculators as problems, problems as its calculators, xyz files of minima and paths.

problem = from_ase(atoms)                # an Atoms with a calculator: energies and forces are asked on the host
landscape = explore(problem, box=(-2.0, 2.0))
atoms.calc = calculator(problem)         # and the other way round
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxland.errors import ArgumentError, DependencyError, ProblemError
from jaxland.problem.particles import ClusterSymmetry, ParticleSymmetry
from jaxland.problem.problem import Problem
from jaxland.problem.scale import Scale
from jaxland.problem.symmetry import Symmetry
from jaxland.runs import write_whole

if TYPE_CHECKING:
    from ase import Atoms

# Of central differences of forces, in units of length: truncation and rounding meet at about the cube root of 1e-16.
STEP = 1e-5


def from_ase(atoms: Atoms, *, step: float = STEP) -> Problem:
    """The potential energy of a free cluster or molecule under its calculator, coordinates [3 * atoms].

    Energies and forces come from the calculator, one call at a time, on the host; second derivatives are central
    differences of forces. In the calculator's units (eV and angstrom in ASE). Atoms of one element are exchanged,
    unless their initial charges, magnetic moments or tags tell them apart.

    Args:
        atoms: with a calculator that gives energies and forces.
        step: of the differences.

    Raises:
        ProblemError: no calculator, a periodic cell, or a single atom.
    """
    if atoms.calc is None:
        raise ProblemError("the atoms have no calculator: set atoms.calc first")
    if bool(np.any(atoms.pbc)):
        raise ProblemError("periodic cells are not known here: atoms.pbc must be False")
    count = len(atoms)
    if count < 2:
        raise ProblemError(f"a cluster has at least two atoms, got {count}")
    asked = _Asked(atoms.copy(), atoms.calc)
    with jax.enable_x64(True):
        energy = _differentiable(asked, 3 * count, float(step))
        start = jnp.asarray(atoms.get_positions().reshape(-1), jnp.float64)
        # A calculator is dear, and electronvolt and angstrom suit atoms: no scale is looked for.
        return Problem(start, plain=energy, symmetry=_symmetry(atoms), kernel_choice="xla", scale=Scale())


def _symmetry(atoms: Atoms) -> Symmetry:
    """Motions of the whole, and exchanges of atoms that nothing tells apart."""
    told = zip(
        atoms.get_chemical_symbols(),
        atoms.get_initial_charges().tolist(),
        atoms.get_initial_magnetic_moments().tolist(),
        atoms.get_tags().tolist(),
    )
    kinds = [" ".join(map(str, each)) for each in told]
    return ClusterSymmetry(len(atoms)) if len(set(kinds)) == 1 else ParticleSymmetry(kinds)


class _Asked:
    """One calculator, asked by one thread at a time."""

    def __init__(self, atoms: Any, calculator: Any) -> None:
        self.atoms, self.lock = atoms, threading.Lock()
        self.atoms.calc = calculator

    def energy(self, w: ArrayLike) -> np.ndarray:
        with self.lock:
            self.atoms.set_positions(np.asarray(w, float).reshape(-1, 3))
            return np.asarray(self.atoms.get_potential_energy(), np.float64)

    def gradient(self, w: ArrayLike) -> np.ndarray:
        with self.lock:
            self.atoms.set_positions(np.asarray(w, float).reshape(-1, 3))
            return -np.asarray(self.atoms.get_forces(), np.float64).reshape(-1)


def _on_host(f: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...], w: jax.Array) -> jax.Array:
    """float64 f(w) by a call of Python, bit by bit: XLA's own threads know nothing of a caller's x64 state, and JAX
    would round what passes through them to float32."""

    def asked(words: ArrayLike) -> np.ndarray:
        given = np.ascontiguousarray(np.asarray(words, np.uint32)).view(np.float64).reshape(-1)
        return np.ascontiguousarray(f(given)).reshape(-1).view(np.uint32).reshape(*shape, 2)

    words = jax.lax.bitcast_convert_type(w, jnp.uint32)
    told = jax.ShapeDtypeStruct((*shape, 2), np.uint32)
    found = jax.pure_callback(asked, told, words, vmap_method="sequential")
    return jax.lax.bitcast_convert_type(found, jnp.float64)


def _differentiable(asked: _Asked, size: int, step: float) -> Any:
    """``energy(w)`` with gradients from forces and Hessian products from their central differences."""
    of_energy, of_gradient = partial(_on_host, asked.energy, ()), partial(_on_host, asked.gradient, (size,))

    @jax.custom_jvp
    def gradient(w: jax.Array) -> jax.Array:
        return of_gradient(w)

    @gradient.defjvp
    def _(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
        (w,), (v,) = primals, tangents
        length = jnp.sqrt(jnp.sum(v * v))
        unit = v / jnp.where(length > 0, length, 1.0)
        difference = of_gradient(w + step * unit) - of_gradient(w - step * unit)
        return gradient(w), difference * (length / (2.0 * step))

    @jax.custom_jvp
    def energy(w: jax.Array) -> jax.Array:
        return of_energy(w)

    @energy.defjvp
    def _(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
        (w,), (v,) = primals, tangents
        return energy(w), jnp.dot(gradient(w), v)

    return energy


def calculator(problem: Problem) -> Any:
    """A problem over 3 N coordinates as an ASE calculator: energies, and forces from its gradient.

    Raises:
        DependencyError: ASE is not installed. ProblemError: the coordinates are not three to an atom.
    """
    try:
        from ase.calculators.calculator import Calculator, all_changes
    except ImportError as error:
        raise DependencyError.of("ASE", "ase") from error
    if problem.size % 3:
        raise ProblemError(f"{problem.size} coordinates are not three to an atom")

    class JaxlandCalculator(Calculator):
        """Energies and forces of a jaxland problem."""

        implemented_properties = ["energy", "forces"]  # noqa: RUF012 (a list, as ASE has it)

        def calculate(
            self, atoms: Any = None, properties: Sequence[str] = ("energy",), system_changes: Any = all_changes
        ) -> None:
            """As ASE asks for it."""
            super().calculate(atoms, properties, system_changes)
            positions: np.ndarray = self.atoms.get_positions()  # type: ignore[union-attr]
            w = positions.reshape(-1)
            if w.size != problem.size:
                raise ProblemError(f"the problem has {problem.size // 3} atoms, these are {w.size // 3}")
            self.results = {
                "energy": float(problem.energy(w)),
                "forces": -np.asarray(problem.gradient(w), float).reshape(-1, 3),
            }

    return JaxlandCalculator()


def write_xyz(
    path: str | Path,
    points: ArrayLike,
    energies: ArrayLike | None = None,
    *,
    symbols: str | Sequence[str] = "X",
    names: Sequence[str] | None = None,
) -> Path:
    """Points [M, 3 N] as frames of an extended xyz file, which ASE, OVITO, VMD and Jmol read.

    Args:
        path: of the file.
        points: coordinates.
        energies: [M], kept with each frame.
        symbols: of the atoms: one for all, or one each.
        names: of the frames [M].

    Raises:
        ArgumentError: the coordinates are not three to an atom, or not as many symbols as atoms.
    """
    frames = np.asarray(points, float)
    if frames.ndim != 2 or frames.shape[1] % 3:
        raise ArgumentError(f"points must have shape [M, 3 atoms], got {frames.shape}: these are no atoms in space")
    atoms = frames.shape[1] // 3
    kinds = [symbols] * atoms if isinstance(symbols, str) else list(symbols)
    if len(kinds) != atoms:
        raise ArgumentError(f"symbols must name {atoms} atoms, got {len(kinds)}")
    lines: list[str] = []
    for k, frame in enumerate(frames.reshape(len(frames), atoms, 3)):
        facts = ["Properties=species:S:1:pos:R:3", 'pbc="F F F"']
        if energies is not None:
            facts.append(f"energy={float(np.asarray(energies)[k])!r}")
        if names is not None:
            facts.append(f'name="{names[k]}"')
        lines += [str(atoms), " ".join(facts)]
        lines += [f"{kind} {x:.12g} {y:.12g} {z:.12g}" for kind, (x, y, z) in zip(kinds, frame)]
    return write_whole(path, "\n".join(lines) + "\n")
