"""What ``jaxland thermo`` asks of a landscape, with a help text each; ``keywords`` are those of ``analyse``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from jaxland.errors import ArgumentError
from jaxland.options import check_fields, option

if TYPE_CHECKING:
    import numpy as np

Sets = tuple[list[int], list[int]]


class AnalysisKeywords(TypedDict):
    """What ``analyse`` takes."""

    temperature: float | None
    temperatures: np.ndarray | None
    depth: float | None
    modes: int | None
    vibrations: bool | None


@dataclass(frozen=True)
class AnalysisOptions:
    """Temperatures, funnels and sets of minima that are looked at."""

    temperature: float | None = option(
        None, "Of occupations and rates, in units of the energy; default 1/(training rows)."
    )
    grid: str = option("", "Temperatures of the curves as LOW:HIGH:COUNT.")
    a: str = option("", "Minima of set A, as 0,3,4; default the lowest funnel.")
    b: str = option("", "Minima of set B; default the second lowest funnel.")
    depth: float | None = option(None, "Least depth of a funnel.")
    modes: int | None = option(None, "Vibrational modes; default the number of coordinates, less 6 of a molecule.")
    equal_widths: bool = option(False, "Take all basins as equally wide.")

    def __post_init__(self) -> None:
        check_fields(self, least={"depth": 0, "modes": 0}, positive=("temperature",))

    def keywords(self) -> AnalysisKeywords:
        """Those of ``analyse``, but for the sets.

        Raises:
            ArgumentError: the grid is none.
        """
        return {
            "temperature": self.temperature,
            "temperatures": self._temperatures(),
            "depth": self.depth,
            "modes": self.modes,
            "vibrations": False if self.equal_widths else None,
        }

    @property
    def sets(self) -> Sets | None:
        """A and B, where they are given.

        Raises:
            ArgumentError: only one is, or one is no list of numbers.
        """
        if bool(self.a) != bool(self.b):
            raise ArgumentError("give both --a and --b, or neither")
        return (indices("--a", self.a), indices("--b", self.b)) if self.a else None

    def _temperatures(self) -> np.ndarray | None:
        import numpy as np

        if not self.grid:
            return None
        try:
            low, high, count = self.grid.split(":")
            ends, number = (float(low), float(high)), int(count)
        except ValueError as error:
            raise ArgumentError(f"--grid takes LOW:HIGH:COUNT such as 1e-4:1e-1:100, got {self.grid!r}") from error
        if not (0 < ends[0] < ends[1] < float("inf") and 2 <= number <= 100_000):
            raise ArgumentError(f"--grid needs 0 < LOW < HIGH and COUNT of at least 2, got {self.grid!r}")
        return np.geomspace(*ends, number)


def indices(option: str, text: str) -> list[int]:
    """Numbers of minima as ``0,3,4``.

    Raises:
        ArgumentError: the text is something else.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ArgumentError(f"{option} takes numbers of minima such as 0,3,4, got {text!r}") from error
