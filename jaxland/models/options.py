"""The network that a command trains: what ``mlp`` and ``Problem.from_model`` take, with a help text each."""

from __future__ import annotations

from dataclasses import dataclass

from jaxland.errors import ArgumentError
from jaxland.options import option


@dataclass(frozen=True)
class NetworkOptions:
    """A dense network and its regulariser."""

    hidden: str = option("5", "Hidden units; several layers as 8,4.")
    activation: str = option("tanh", "tanh, sigmoid, gelu, softplus, sin or relu.")
    l2: float | str = option(
        1e-4, "Weight of the sum of squared parameters; auto: by held-out loss, which says what it chose from."
    )

    def __post_init__(self) -> None:
        if self.l2 == "auto":
            return
        try:
            object.__setattr__(self, "l2", float(self.l2))
        except ValueError as error:
            raise ArgumentError(f"--l2 takes a number or auto, got {self.l2!r}") from error

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the hidden layers.

        Raises:
            ArgumentError: ``hidden`` is not a list of numbers.
        """
        try:
            return tuple(int(part) for part in self.hidden.split(","))
        except ValueError as error:
            raise ArgumentError(f"--hidden takes widths such as 8 or 8,4, got {self.hidden!r}") from error
