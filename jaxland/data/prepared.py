"""Rows of a table as a model takes them, each with what it was to the model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from jaxland.data.seen import NEW, TEST, TRAINING
from jaxland.showing import brief, table


@dataclass(frozen=True, eq=False)
class Prepared:
    """Rows of a table as a model takes them.

    Attributes:
        x: inputs [n, ...], scaled.
        y: targets [n], classes in the model's order; None where the table has none.
        roles: int8 [n], TRAINING, TEST or NEW (see ``jaxland.data.seen``).
        rows: what a user calls each row, int [n]: its line in the file, or its position.
        called: "line" or "row".
        raw: the features in original units [n, d].
        name: of the table. notes: what was done, a sentence each.
        columns: names of the columns behind the features (or of the features); empty where they are not known.
        classes: names of the classes in the order of y; empty for numbers.
    """

    x: np.ndarray
    y: np.ndarray | None
    roles: np.ndarray
    rows: np.ndarray
    called: str
    raw: np.ndarray
    name: str
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    __repr__ = brief
    _repr_html_ = table

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.x)

    def take(self, rows: np.ndarray) -> Prepared:
        """Some rows (indices or mask)."""
        y = None if self.y is None else self.y[rows]
        return replace(self, x=self.x[rows], y=y, roles=self.roles[rows], rows=self.rows[rows], raw=self.raw[rows])

    def part(self, role: int) -> Prepared:
        """Rows of one role."""
        return self.take(self.roles == role)

    def describe(self) -> str:
        """How many rows of which role."""
        counts = np.bincount(self.roles, minlength=3)
        if counts[NEW] == self.n:
            return f"{self.name}: {self.n:,} rows"
        words = {TRAINING: "trained the model", TEST: "were kept for testing it", NEW: "it has not seen"}
        told = ", ".join(f"{counts[role]:,} {what}" for role, what in words.items() if counts[role])
        return f"{self.name}: {self.n:,} rows ({told})"
