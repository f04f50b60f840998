"""Symmetries out of a file: the groups that jaxland knows, and what can be kept of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxland.errors import DataError, ProblemError
from jaxland.problem.coordinate_symmetries import PeriodicSymmetry, PermutationSymmetry
from jaxland.problem.particles import ClusterSymmetry, ParticleSymmetry
from jaxland.problem.symmetry import DenseSymmetry, NoSymmetry, Symmetry, Vector


class StoredSymmetry(Symmetry):
    """What a file tells of a group that jaxland does not know: its order, its zero modes, a few words."""

    def __init__(self, words: str, order: int, zero_modes: int) -> None:
        self.words, self._order, self.zero_modes = str(words), int(order), int(zero_modes)

    def order(self) -> int:
        """As stored."""
        return self._order

    def describe(self) -> str:
        """As stored."""
        return self.words

    def _unknown(self) -> ProblemError:
        return ProblemError(f"the file tells only the order of this symmetry ({self.words}): give the problem itself")

    def align(self, w: Vector, reference: Vector) -> Vector:
        """Not known."""
        raise self._unknown()

    def canonical(self, w: Vector) -> Vector:
        """Not known."""
        raise self._unknown()

    def orbit_size(self, w: Vector) -> int:
        """Not known."""
        raise self._unknown()

    def random_image(self, w: Vector, rng: np.random.Generator) -> Vector:
        """Not known."""
        raise self._unknown()


def symmetry_from_json(told: Mapping[str, Any]) -> Symmetry:
    """The symmetry that ``Symmetry.to_json`` wrote.

    Raises:
        DataError: it is not of that form.
    """
    try:
        match told["kind"]:
            case "none":
                return NoSymmetry()
            case "hidden units":
                return DenseSymmetry(told["sizes"], told["odd"])
            case "cluster":
                return ClusterSymmetry(told["atoms"], told["orientations"])
            case "particles":
                return ParticleSymmetry(
                    told["species"],
                    told["dimensions"],
                    rotation=told["rotation"],
                    reflection=told["reflection"],
                    exchange=told["exchange"],
                )
            case "periodic":
                return PeriodicSymmetry([np.inf if p is None else p for p in told["periods"]])
            case "permutations":
                return PermutationSymmetry(*told["groups"])
            case "other":
                return StoredSymmetry(told["words"], told["order"], told["zero_modes"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"not a symmetry that jaxland wrote: {told!r}") from error
    raise DataError(f"a symmetry of kind {told['kind']!r} is unknown to this jaxland")
