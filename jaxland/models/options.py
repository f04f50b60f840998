"""The network that a command trains: what ``mlp`` and ``Problem.from_model`` take, with a help text each."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxland.errors import ArgumentError
from jaxland.options import check_fields, option, spoken

ACTIVATIONS = ("tanh", "relu", "gelu", "sigmoid", "softplus", "sin", "identity")


@dataclass(frozen=True)
class NetworkOptions:
    """A dense network and its regulariser."""

    hidden: str = option("5", "Hidden units; several layers as 8,4.")
    activation: str = option("tanh", "tanh, sigmoid, gelu, softplus, sin or relu.")
    l2: float | str = option(
        1e-4, "Weight of the sum of squared parameters; auto: by held-out loss, which says what it chose from."
    )

    def __post_init__(self) -> None:
        check_fields(self, choices={"activation": ACTIVATIONS})
        if not all(width >= 1 for width in self.widths):
            raise ArgumentError(f"{spoken('hidden')} takes widths of at least 1, got {self.hidden!r}")
        if self.l2 == "auto":
            return
        try:
            weight = float(self.l2)
        except ValueError:
            weight = math.nan
        if not (math.isfinite(weight) and weight >= 0):
            raise ArgumentError(f"{spoken('l2')} must be a finite number of at least 0, or auto, got {self.l2}")
        object.__setattr__(self, "l2", weight)

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the hidden layers.

        Raises:
            ArgumentError: ``hidden`` is not a list of numbers.
        """
        try:
            return tuple(int(part) for part in str(self.hidden).split(","))
        except ValueError as error:
            raise ArgumentError(f"{spoken('hidden')} takes widths such as 8 or 8,4, got {self.hidden!r}") from error
