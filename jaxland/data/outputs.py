"""How what a network says of a numeric target reads in the units of the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jaxland.showing import brief

if TYPE_CHECKING:
    from jaxland.data.dataset import Dataset
    from jaxland.data.preparation import Preparation


@dataclass(frozen=True)
class OutputUnits:
    """From the outputs of a network to the target: ``centre + scale * output``, or exp(output) of counts.

    Attributes:
        name: of the target.
        centre, scale: of its scaling.
        log: outputs are logarithms of expected counts.

    >>> OutputUnits("price", 100.0, 10.0).shown(np.array([0.5])).tolist()
    [105.0]
    """

    name: str = "output"
    centre: float = 0.0
    scale: float = 1.0
    log: bool = False

    __repr__ = brief

    @classmethod
    def of(cls, data: Dataset | Preparation, loss: str | None) -> OutputUnits:
        """Of data, or of what a model's file says, and the name of a loss."""
        scaling, name = data.target_scaling, data.target or "output"
        if scaling is None or loss != "squared_error":
            return cls(name, log=loss == "poisson")
        return cls(name, float(scaling.centre[0]), float(scaling.scale[0]))

    @property
    def is_plain(self) -> bool:
        """Whether outputs are in the units of the file as they are."""
        return not self.log and self.centre == 0 and self.scale == 1

    @property
    def additive(self) -> str:
        """What outputs add up in: the target, or the logarithm of what is expected of it."""
        return f"log of the expected {self.name}" if self.log else self.name

    def shown(self, outputs: np.ndarray) -> np.ndarray:
        """Outputs in the units of the file."""
        return np.exp(outputs) if self.log else self.centre + self.scale * outputs
