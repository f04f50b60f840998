"""A checked table, in the units of its source or scaled."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxland.data.recipe import Scaling, Split, split
from jaxland.errors import ArgumentError, DataError
from jaxland.options import spoken
from jaxland.showing import brief

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Dataset:
    """A checked table: no missing or infinite values, no constant features, at least two classes.

    Attributes:
        x: float64 [n, d].
        y: int64 class indices [n] (classification) or float64 [n] (regression, count).
        features: name of each of the d features, after one-hot coding (``EDUCATION=2``).
        sources: the column of the source each feature came from (``EDUCATION``).
        classes: name of each class; empty for other tasks.
        task: ``classification``, ``regression`` or ``count`` (whole numbers from 0, such as visits).
        name: what the data are called in reports.
        target: name of the target column.
        notes: what was done to the data, a sentence each.
        record: the same as plain JSON-able values.
        scaling: the map already applied to ``x``, None where x is in original units.
        target_scaling: the same of ``y``, for regression.
        imputed: bool [n, d], the entries that were filled in; None where none was.
        rows: what a user calls each row, int [n]: its line in the file, or its place in the table it was read from
            (from 0); None: its place here.
        called: "line" or "row".
        groups: name of the group of each row [n], which ``split`` keeps together; None: each row is its own.
        group: name of their column.
    """

    x: np.ndarray
    y: np.ndarray
    features: tuple[str, ...]
    sources: tuple[str, ...]
    classes: tuple[str, ...] = ()
    task: str = "classification"
    name: str = "data"
    target: str = "y"
    notes: tuple[str, ...] = ()
    record: dict[str, Any] = field(default_factory=dict)
    scaling: Scaling | None = None
    target_scaling: Scaling | None = None
    imputed: np.ndarray | None = None
    rows: np.ndarray | None = None
    called: str = "row"
    groups: np.ndarray | None = None
    group: str | None = None

    __repr__ = brief

    @property
    def n(self) -> int:
        """Rows."""
        return int(self.x.shape[0])

    @property
    def d(self) -> int:
        """Features."""
        return int(self.x.shape[1])

    @property
    def outputs(self) -> int:
        """Outputs a network needs: the number of classes, or 1 for regression."""
        return len(self.classes) if self.task == "classification" else 1

    def class_counts(self) -> np.ndarray:
        """Rows of each class [c]."""
        return np.bincount(self.y, minlength=len(self.classes)) if self.task == "classification" else np.array([])

    def check_classes(self, where: str) -> None:
        """Refuse data that leave nothing to learn.

        Raises:
            DataError: one class, or one value, only.
        """
        if self.task != "classification":
            if self.n and np.ptp(self.y) == 0:
                raise DataError(f"{where}: the value is {self.y[0]:g} in every row: there is nothing to learn")
            return
        present = np.unique(self.y)
        if len(present) < 2:
            only = self.classes[int(present[0])] if len(present) else "none"
            raise DataError(
                f"{where} has one class only ({only!r}): there is nothing to learn. At least two are needed"
            )

    def take(self, rows: np.ndarray) -> Dataset:
        """The same data restricted to some rows (indices or mask)."""
        parts = {name: getattr(self, name) for name in ("imputed", "groups")}
        parts = {name: None if part is None else part[rows] for name, part in parts.items()}
        return replace(self, x=self.x[rows], y=self.y[rows], rows=self.numbers()[rows], **parts)

    def numbers(self) -> np.ndarray:
        """What a user calls each row, int [n]."""
        return np.arange(self.n) if self.rows is None else self.rows

    def subsample(self, rows: int | None, seed: int = 0) -> Dataset:
        """``rows`` rows drawn without replacement by seed, in their old order; all where ``rows`` is None.

        Raises:
            ArgumentError: ``rows`` is not within 1..n. DataError: the rows drawn are all of one class.
        """
        if rows is None or rows == self.n:
            return self
        if not 1 <= rows <= self.n:
            raise ArgumentError(f"{spoken('rows')} must lie within 1..{self.n}, the rows of {self.name}, got {rows}")
        kept = np.sort(np.random.default_rng([seed, 11]).permutation(self.n)[:rows])
        part = self.take(kept)
        part.check_classes(f"{self.name}, {rows} rows drawn with seed {seed}")
        note = f"{rows} of {self.n} rows were drawn at random (seed {seed})."
        return replace(part, notes=self.notes + (note,), record={**self.record, "rows": rows, "rows_seed": seed})

    def split(
        self,
        test_fraction: float = 0.3,
        seed: int = 0,
        stratify: bool = True,
        *,
        scale: str = "none",
        target_scale: str = "none",
        train_rows: int | None = None,
    ) -> Split:
        """Training and test parts; unpacks as ``train, test = data.split(...)``.

        Where the data have groups, those of the test part are drawn by seed so that rows and classes come near the
        fraction.

        Args:
            test_fraction: part of the rows kept for testing, in [0, 1); 0 gives ``test = None``.
            seed: of the permutation of rows.
            stratify: keep the proportions of the classes (classification only).
            scale: ``standardise``, ``mean-abs`` or ``none``, fitted on the training part.
            target_scale: the same of a numeric target; classes stay as they are.
            train_rows: use only so many rows of the training part (drawn by the same seed); the test part stays.

        Raises:
            ArgumentError: a fraction outside [0, 1), an unknown scale, or data that are scaled already.
            DataError: a class with too few rows, or groups, to be in both parts.
        """
        return split(self, test_fraction, seed, stratify, scale, train_rows, target_scale)

    def to_pandas(self) -> pd.DataFrame:
        """A DataFrame of the features, with the target as last column (class names for classification)."""
        import pandas as pd

        frame = pd.DataFrame(self.x, columns=list(self.features))
        frame[self.target] = np.asarray(self.classes, object)[self.y] if self.task == "classification" else self.y
        return frame

    @property
    def levels(self) -> dict[str, tuple[str, ...]]:
        """Values of each one-hot coded column, in the order of its features."""
        return {column: tuple(values) for column, values in self.record.get("levels", {}).items()}

    def inputs(self) -> np.ndarray:
        """x in the units of the source."""
        return self.x if self.scaling is None else self.scaling.invert(self.x)

    def targets(self) -> np.ndarray:
        """y in the units of the source."""
        if self.target_scaling is None:
            return self.y
        return self.target_scaling.invert(self.y[:, None])[:, 0]

    def describe(self) -> str:
        """One sentence."""
        what = f"{self.name}: {self.n:,} rows, {self.d} features"
        if len(set(self.sources)) != self.d:
            what += f" from {len(set(self.sources))} columns"
        if self.task != "classification":
            y, of = self.targets(), ", counts" if self.task == "count" else ""
            return f"{what}, target {self.target}{of} from {y.min():.4g} to {y.max():.4g}"
        counts = self.class_counts()
        shown = ", ".join(f"{c}: {k:,}" for c, k in list(zip(self.classes, counts))[:6])
        more = f" and {len(counts) - 6} more" if len(counts) > 6 else ""
        return f"{what}, target {self.target} with {len(counts)} classes ({shown}{more})"

    def _repr_html_(self) -> str:
        import html

        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        return f"<p><b>{html.escape(self.describe())}</b></p><ul>{notes}</ul>"
