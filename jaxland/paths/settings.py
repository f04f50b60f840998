"""How a path is relaxed: its images, the schedule of cycles, the optimiser and the rows of a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import optax

from jaxland.errors import ArgumentError

OPTIMISERS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "adam": lambda: optax.adam(1.0),
    "sgd": lambda: optax.sgd(1.0, momentum=0.9),
}
_RULES: dict[str, optax.GradientTransformation] = {}


@dataclass(frozen=True)
class Cycle:
    """Steps at one learning rate, between two insertions; ``climb`` lets the highest image climb to the saddle."""

    steps: int
    learning_rate: float
    climb: bool = False


def cycles(steps: int = 1000, learning_rate: float = 1e-2, *, climb: bool = True) -> tuple[Cycle, ...]:
    """The schedule of Draxler et al.: four cycles, two longer ones at a tenth, four at a hundredth of the rate.

    Args:
        steps: of a cycle.
        learning_rate: of the first cycles; theirs is 0.1 with stochastic gradient descent.
        climb: the last cycle refines the highest image.

    >>> [(c.steps, c.learning_rate) for c in cycles(100, 0.1)][3:6]
    [(100, 0.1), (200, 0.01), (200, 0.01)]
    """
    early = [Cycle(steps, learning_rate)] * 4 + [Cycle(2 * steps, learning_rate / 10)] * 2
    late = [Cycle(steps, learning_rate / 100)] * 3
    return (*early, *late, Cycle(steps, learning_rate / 100, climb))


@dataclass(frozen=True)
class PathSettings:
    """How a path is relaxed.

    Attributes:
        images: points of the path at first, both ends included.
        max_images: most points; images are inserted between cycles where straight segments hide a rise.
        cycles: schedule; see ``cycles``.
        optimiser: "adam", "sgd" (momentum 0.9), or an optax transformation with learning rate 1.
        batch: rows of a mini-batch, the same for all images of a step; None for all rows.
        probes: points looked at on each segment between cycles and for the final profile.
        threshold: a rise above the straight line between two images counts when it exceeds this share of the range
            of the energy along the path.
        probe_rows: rows of the training data used between cycles (evenly spaced); None for all.
        together: images evaluated in one batch on a device; 1 needs the least memory, None takes all. Default: 1 on a
            CPU, all on an accelerator.
        block: steps between two visits to the host: progress, stopping and checkpoints.
        seed: of the order of the mini-batches.
    """

    images: int = 5
    max_images: int = 40
    cycles: tuple[Cycle, ...] = field(default_factory=cycles)
    optimiser: str | optax.GradientTransformation = "adam"
    batch: int | None = None
    probes: int = 9
    threshold: float = 0.2
    probe_rows: int | None = None
    together: int | None = -1
    block: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("images", 3), ("max_images", 3), ("probes", 0), ("block", 1)):
            if getattr(self, name) < least:
                raise ArgumentError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.max_images < self.images:
            raise ArgumentError(f"max_images ({self.max_images}) must not be less than images ({self.images})")
        if not self.cycles or any(c.steps < 1 or not c.learning_rate > 0 for c in self.cycles):
            raise ArgumentError("cycles must be a list of Cycle(steps >= 1, learning_rate > 0)")
        if self.batch is not None and self.batch < 1:
            raise ArgumentError(f"batch must be at least 1, got {self.batch}")
        if isinstance(self.optimiser, str) and self.optimiser not in OPTIMISERS:
            raise ArgumentError(f"optimiser {self.optimiser!r} is unknown; choose one of {', '.join(OPTIMISERS)}")

    @property
    def rule(self) -> optax.GradientTransformation:
        """The optax transformation."""
        if isinstance(self.optimiser, str):
            return _RULES.setdefault(self.optimiser, OPTIMISERS[self.optimiser]())
        return self.optimiser

    def facts(self) -> dict[str, Any]:
        """JSON-able; an optax transformation is "custom"."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        found["cycles"] = [[c.steps, c.learning_rate, c.climb] for c in self.cycles]
        if not isinstance(self.optimiser, str):
            found["optimiser"] = "custom"
        return found
