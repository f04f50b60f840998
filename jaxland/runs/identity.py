"""Whose file it is: what tells one problem from another, without keeping its data."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

_DRAWS = 100


@runtime_checkable
class _Symmetry(Protocol):
    def describe(self) -> str: ...
    def to_json(self) -> dict[str, Any]: ...


@runtime_checkable
class HasLoss(Protocol):
    """What is asked of a ``Problem`` here."""

    @property
    def size(self) -> int: ...
    @property
    def symmetry(self) -> _Symmetry: ...
    def energy(self, w: Any) -> Any: ...


def identity(problem: HasLoss) -> dict[str, Any]:
    """Size, symmetry (in words and as ``group``) and energies at three points of a fixed list, as JSON."""
    return {
        "size": problem.size,
        "symmetry": problem.symmetry.describe(),
        "group": problem.symmetry.to_json(),
        "probes": probes(problem),
    }


def agree(stored: Mapping[str, Any], mine: Mapping[str, Any], rtol: float = 1e-7) -> bool:
    """Whether two identities are of one problem; energies to within ``rtol``."""
    same = stored["size"] == mine["size"] and stored["symmetry"] == mine["symmetry"]
    return bool(same and np.allclose(stored["probes"], mine["probes"], rtol=rtol, atol=0, equal_nan=True))


def probes(problem: HasLoss, near: Any = None) -> list[float]:
    """Energies that tell other data or another loss: at three points drawn from a normal distribution, the first ones
    where the energy is finite (it may be defined in a part of space only); NaN for those that are not found.

    With ``near`` (flat parameters [N]): there, and half a unit either way along a random direction.
    """
    if near is None:
        return _finite_probes(problem)
    seed = int.from_bytes(hashlib.sha256(str(problem.size).encode()).digest()[:4], "little")
    step = np.random.default_rng(seed).standard_normal(problem.size) / problem.size**0.5
    near = np.asarray(near)
    return [float(problem.energy(near + (s * step).astype(near.dtype))) for s in (0.0, 0.5, -0.5)]


def _finite_probes(problem: HasLoss) -> list[float]:
    rng = np.random.default_rng(11)
    found = [e for e in (float(problem.energy(w)) for w in rng.normal(size=(3, problem.size))) if math.isfinite(e)]
    for k in range(_DRAWS):
        if len(found) == 3:
            break
        # Wider and narrower, every other one with positive coordinates alone.
        w = 4.0 ** (k % 7 - 3) * rng.normal(size=problem.size)
        energy = float(problem.energy(np.abs(w) if k % 2 else w))
        found += [energy] if math.isfinite(energy) else []
    return found + [math.nan] * (3 - len(found))


def digest(*arrays: Any) -> str:
    """SHA-256 of the bytes of arrays, in their order."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def sample(rows: int, most: int = 256) -> np.ndarray:
    """Numbers of at most so many rows, spread evenly: those whose ``digest`` stands for the data."""
    return np.linspace(0, rows - 1, min(rows, most)).astype(int)
