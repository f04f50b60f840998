"""How conserved weights are looked for."""

from __future__ import annotations

from dataclasses import dataclass

from jaxland.errors import ArgumentError
from jaxland.options import check_fields, option, spoken


@dataclass(frozen=True)
class ConservationSettings:
    """How conserved weights are looked for and tested.

    ``jaxland.options.help_texts(ConservationSettings)`` says what each field means.

    Raises:
        ArgumentError: a value makes no sense.
    """

    threshold: float = option(0.01, "n, the standard deviation below which a weight is conserved.")
    min_members: int = option(5, "Smallest group that is analysed, at least 2.")
    draws: int = option(300, "Random groups per tested group.")
    null_members: int = option(40, "Most members of a random group (a standard deviation needs no more).")
    alpha: float = option(0.05, "False discovery rate of what is called significant.")
    shuffles: int = option(40, "Seeds of the validation, in which conserved weights are shuffled.")
    test_rows: int = option(4000, "Most test rows used for validation and comparison, drawn by seed.")
    compare: int = option(
        4,
        "Groups to compare with permutation importance and gradients: the headline first, then the others by q. Each "
        "costs some hundred evaluations of the test data.",
    )
    seed: int = option(0, "Of random groups and shuffles.")

    def __post_init__(self) -> None:
        least = {
            "min_members": 2,
            "draws": 1,
            "null_members": 2,
            "shuffles": 1,
            "test_rows": 1,
            "compare": 0,
            "seed": 0,
        }
        check_fields(self, least=least, positive=("threshold", "alpha"))
        if self.alpha >= 1:
            raise ArgumentError(f"{spoken('alpha')} must be below 1, got {self.alpha}")
