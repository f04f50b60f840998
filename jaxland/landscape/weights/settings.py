"""How conserved weights are looked for."""

from __future__ import annotations

from dataclasses import dataclass

from jaxland.errors import ArgumentError


@dataclass(frozen=True)
class ConservationSettings:
    """How conserved weights are looked for and tested.

    Attributes:
        threshold: n, the standard deviation below which a weight is conserved.
        min_members: smallest group that is analysed, at least 2.
        draws: random groups per tested group.
        null_members: most members of a random group (a standard deviation needs no more).
        alpha: false discovery rate of what is called significant.
        shuffles: seeds of the validation.
        test_rows: most test rows used, drawn by seed.
        compare: how many groups to compare with permutation importance and gradients: the headline first, then the
            others by q_group. Every such group costs some hundred evaluations of the test data.
        seed: of random groups and shuffles.
    """

    threshold: float = 0.01
    min_members: int = 5
    draws: int = 300
    null_members: int = 40
    alpha: float = 0.05
    shuffles: int = 40
    test_rows: int = 4000
    compare: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.min_members < 2:
            raise ArgumentError(f"min_members must be at least 2, got {self.min_members}")
        if not (self.threshold > 0 and self.draws >= 1 and self.null_members >= 2 and self.shuffles >= 1):
            raise ArgumentError("threshold must be positive, draws and shuffles at least 1, null_members at least 2")
