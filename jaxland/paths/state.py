"""A relaxation between two blocks of steps, what is reported of it, and its checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxland.errors import StoreError
from jaxland.paths.settings import PathSettings
from jaxland.problem.problem import Problem
from jaxland.problem.rows import to_host
from jaxland.runs import Checkpoint, Stop, digest, sample

KIND = "jaxland-path-1"


class PathState(NamedTuple):
    """What is carried from block to block.

    Attributes:
        images: [K, N] the path, both ends included.
        optimiser: leaves of the optimiser's state, each over the (padded) images; None at the start of a cycle.
        cycle: index of the cycle it is in, from 0; the number of cycles once it is finished.
        within: steps taken in that cycle.
        step: steps taken in all: numbers the mini-batches.
        gradients: gradients of single images taken in all.
        history: one row per finished cycle; see ``MinimumEnergyPath.history``.
        energies: K energies found between the cycles; empty where images were inserted since, and at first.
    """

    images: np.ndarray
    optimiser: list[np.ndarray] | None = None
    cycle: int = 0
    within: int = 0
    step: int = 0
    gradients: int = 0
    history: tuple[dict[str, float], ...] = ()
    energies: tuple[float, ...] = ()


class PathProgress(NamedTuple):
    """Where a run is, as last seen.

    Attributes:
        cycle: from 1; cycles: in all.
        step: steps taken; steps: in all.
        images: K.
        energies: [K] of the last mini-batch.
        force: rms across the path, largest over images, of the last mini-batch.
        length: of the path.
        seconds: since the run began.
    """

    cycle: int
    cycles: int
    step: int
    steps: int
    images: int
    energies: np.ndarray
    force: float
    length: float
    seconds: float


@dataclass(frozen=True)
class PathCheckpoint:
    """A relaxation's file.

    Attributes:
        file: where and when.
        identity: ends, settings and a sample of the data of the run; see ``identity``.
    """

    file: Checkpoint
    identity: dict[str, Any]

    @classmethod
    def at(cls, path: str | Path, identity: dict[str, Any], every: float) -> PathCheckpoint:
        """A file to be written every so many seconds."""
        return cls(Checkpoint(Path(path), KIND, every), identity)

    def save(self, state: PathState, stop: Stop) -> None:
        """Write a state.

        Raises:
            StoreError: the place cannot be written.
        """
        arrays = {"images": state.images} | {f"optimiser{i}": a for i, a in enumerate(state.optimiser or [])}
        head = {
            "identity": self.identity,
            "leaves": None if state.optimiser is None else len(state.optimiser),
            **{k: getattr(state, k) for k in ("cycle", "within", "step", "gradients", "history", "energies")},
        }
        self.file.write(head, arrays, stop)

    def restore(self, dtype: np.dtype) -> PathState:
        """The state last written, its images in a dtype.

        Raises:
            StoreError: the file belongs to another run, or cannot be read.
        """
        head, arrays = self.file.read()
        for what, name in (("digest", "ends or data"), ("n", "data"), ("settings", "settings")):
            if head["identity"][what] != self.identity[what]:
                raise StoreError(
                    f"{self.file.path} belongs to a run with other {name}; remove it or name another file"
                )
        leaves = head["leaves"]
        return PathState(
            images=arrays["images"].astype(dtype),
            optimiser=None if leaves is None else [arrays[f"optimiser{i}"] for i in range(leaves)],
            cycle=head["cycle"],
            within=head["within"],
            step=head["step"],
            gradients=head["gradients"],
            history=tuple(head["history"]),
            energies=tuple(head["energies"]),
        )


def identity(problem: Problem, images: np.ndarray, settings: PathSettings) -> dict[str, Any]:
    """What a checkpoint must agree with: ends, settings, and a sample of the data."""
    leaves = [] if problem.loss is None else jax.tree.leaves(problem.data)
    told = digest(images, *(to_host(leaf)[sample(problem.n)] for leaf in leaves))
    return {"digest": told, "n": problem.n, "settings": json.loads(json.dumps(settings.facts()))}
