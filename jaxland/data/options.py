"""How a table becomes training and test data: what ``load`` and ``Dataset.split`` take, with a help text each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from jaxland.data.dialect import Dialect
from jaxland.data.recipe import SCALES
from jaxland.options import check_fields, option

if TYPE_CHECKING:
    from jaxland.data import Dataset, Split, Table


@dataclass(frozen=True)
class TableOptions(Dialect):
    """How a table is read."""

    target: str | None = option(None, "Column to predict.")
    categorical: tuple[str, ...] = option((), "Column of codes to one-hot.")
    drop: tuple[str, ...] = option((), "Column to ignore.")
    group: str | None = option(
        None, "Column of groups (patients, sites): their rows are never in both training and test; no input."
    )
    keep: tuple[str, ...] = option((), "Column to keep though it seems to number the rows.")
    missing: str = option("refuse", "Missing values: refuse, mean, median or mode.")
    constant: str = option("refuse", "Columns with one value: refuse or drop.")
    task: str | None = option(None, "What the target is: classify, regress or count; default by its values.")
    max_levels: int = option(50, "Most different values of a column of text or codes.")

    def read(self, source: str | Table, seed: int = 0) -> Dataset:
        """``jaxland.data.load`` with these options.

        Raises:
            DataError, ArgumentError: as ``load``.
        """
        from jaxland.data import load

        return load(source, seed=seed, **asdict(self))


@dataclass(frozen=True)
class SplitOptions:
    """Which rows train and how they are scaled."""

    rows: int | None = option(None, "Training rows, drawn by seed; default all.")
    test_fraction: float = option(0.3, "Part of the rows kept for testing.")
    scale: str = option("standardise", "standardise, mean-abs or none.")
    target_scale: str = option("standardise", "Of a numeric target: standardise, mean-abs or none.")

    def __post_init__(self) -> None:
        check_fields(self, least={"rows": 1, "test_fraction": 0}, choices={"scale": SCALES})

    def split(self, data: Dataset, seed: int = 0) -> Split:
        """``Dataset.split`` with these options."""
        return data.split(
            self.test_fraction, seed, scale=self.scale, target_scale=self.target_scale, train_rows=self.rows
        )
