"""How complete a landscape is, from how often known points were found again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Completeness:
    """An estimate from hits; searches favour wide basins, so the count is a lower bound in expectation.

    Attributes:
        found: distinct points.
        hits: times any of them was found.
        once, twice: points found exactly once, exactly twice.
        coverage: chance that the next hit is a known point, 1 - once / hits (Good 1953, Turing).
        estimate: found + once (once - 1) / (2 (twice + 1)), bias-corrected Chao (1987).
    """

    found: int
    hits: int
    once: int
    twice: int
    coverage: float
    estimate: float

    @classmethod
    def of(cls, hits: ArrayLike) -> Completeness:
        """From the number of hits of every known point."""
        counts = np.asarray(hits, int)
        total, once, twice = int(counts.sum()), int(np.sum(counts == 1)), int(np.sum(counts == 2))
        coverage = 1.0 - once / total if total else 0.0
        return cls(len(counts), total, once, twice, coverage, len(counts) + once * (once - 1) / (2 * (twice + 1)))

    def describe(self, what: str) -> str:
        """One sentence."""
        return (
            f"{self.found} {what} found {self.hits} times, {self.once} of them once: "
            f"{100 * self.coverage:.1f} % of the next finds would be known, about {self.estimate:.0f} exist"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)
