"""A landscape and what a PATHSAMPLE database keeps besides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from jaxland.landscape.result import Landscape


@dataclass(frozen=True, eq=False)
class PathsampleDatabase:
    """A landscape and what PATHSAMPLE keeps besides.

    Attributes:
        landscape: minima sorted by energy.
        a, b: minima of the product set A and the reactant set B, as ascending indices into the landscape.
        moments: [M, 3] principal moments of inertia.
        ts_moments: [T, 3].
        notes: what a reader should know: files that were not there, odd contents.
    """

    landscape: Landscape
    a: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    b: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    moments: np.ndarray | None = None
    ts_moments: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def extras(self) -> dict[str, np.ndarray]:
        """What does not fit into the landscape, to be kept beside it (see ``archive.save``)."""
        named = {"a": self.a, "b": self.b, "moments": self.moments, "ts_moments": self.ts_moments}
        return {name: value for name, value in named.items() if value is not None and len(value)}

    @classmethod
    def restored(cls, landscape: Landscape, extras: Mapping[str, np.ndarray]) -> PathsampleDatabase:
        """From a landscape and its ``extras``."""
        none = np.zeros(0, int)
        a, b = (extras.get(name, none) for name in ("a", "b"))
        return cls(landscape=landscape, a=a, b=b, moments=extras.get("moments"), ts_moments=extras.get("ts_moments"))

    def describe(self) -> str:
        """One sentence."""
        sets = f"; {len(self.a)} minima in A, {len(self.b)} in B" if len(self.a) or len(self.b) else ""
        return self.landscape.describe() + sets


def moments_of_inertia(coordinates: np.ndarray, atoms: int) -> np.ndarray:
    """Principal moments [K, 3], ascending, of clusters of atoms of mass 1; coordinates [K, 3 * atoms].

    >>> moments_of_inertia(np.array([[0.0, 0.0, 1.0, 0.0, 0.0, -1.0]]), 2).tolist()
    [[0.0, 2.0, 2.0]]
    """
    x = np.asarray(coordinates, float).reshape(-1, atoms, 3)
    x = x - x.mean(1, keepdims=True)
    inertia = np.sum(x * x, axis=(1, 2))[:, None, None] * np.eye(3) - np.einsum("kai,kaj->kij", x, x)
    return np.linalg.eigvalsh(inertia)
