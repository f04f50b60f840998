"""What ``explain`` and ``jaxland hessian`` ask of a curvature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from jaxland.errors import ArgumentError
from jaxland.options import check_fields, option, spoken


@dataclass(frozen=True)
class ExplainOptions:
    """What is asked of every test point, and how.

    ``jaxland.options.help_texts(ExplainOptions)`` says what each field means.

    Raises:
        ArgumentError: a value makes no sense.
    """

    kind: str = option("hessian", "hessian or gauss-newton.")
    damping: float | None = option(None, "Added to the diagonal; default chosen and swept.")
    method: str = option("auto", "auto, explicit, products or gram.")
    of: str = option("loss", "Influence on: loss, predicted_loss, logit, margin, log_odds, probability, output.")
    top: int = option(5, "Training rows listed at each end.")
    modes: int = option(10, "Eigenvalues listed at each end.")
    drop_modes: int | None = option(None, "Modes dropped by the extrapolation score.")
    samples: int = option(0, "Resamples; 0 takes the closed form.")
    seed: int = option(0, "Of every random choice.")

    def __post_init__(self) -> None:
        check_fields(self, least={"damping": 0, "top": 1, "modes": 1, "drop_modes": 0, "samples": 0, "seed": 0})
        if self.samples == 1:
            raise ArgumentError(f"{spoken('samples')} must be 0 or at least 2, got 1")


class ExplainKeywords(TypedDict, total=False):
    """``ExplainOptions`` as keyword arguments."""

    kind: str
    damping: float | None
    method: str
    of: str
    top: int
    modes: int
    drop_modes: int | None
    samples: int
    seed: int
