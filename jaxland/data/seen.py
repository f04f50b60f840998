"""Which rows a model has seen: fingerprints of its training and test rows, which travel in its file."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from jaxland.showing import brief, table

NEW, TRAINING, TEST = 0, 1, 2
ROLES = ("new", "training", "test")


def fingerprints(x: np.ndarray) -> np.ndarray:
    """64 bits per row of x [n, d], features in original units: uint64 [n]. A missing value is NaN."""
    rows = np.ascontiguousarray(np.where(np.isnan(x), np.nan, x + 0.0), "<f8")
    digests = b"".join(blake2b(row, digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


@dataclass(frozen=True, eq=False)
class Seen:
    """The rows of a table that trained a model, and those kept for testing it.

    Attributes:
        train_at, test_at: their positions in the table the model was made from [n], [m].
        train, test: their fingerprints, uint64 [n], [m].
    """

    train_at: np.ndarray
    test_at: np.ndarray
    train: np.ndarray
    test: np.ndarray

    __repr__ = brief
    _repr_html_ = table

    @classmethod
    def of(cls, x: np.ndarray, train_at: np.ndarray, test_at: np.ndarray) -> Seen:
        """Of a whole table x [N, d] in original units and the positions of its parts."""
        marks = fingerprints(x)
        return cls(np.asarray(train_at, int), np.asarray(test_at, int), marks[train_at], marks[test_at])

    def roles(self, x: np.ndarray) -> np.ndarray:
        """TRAINING, TEST or NEW for every row of x [n, d], int8 [n].

        By position where the table is the one it was; the rest by fingerprint. No more rows are known than were
        seen: of rows that equal one another the first ones are.
        """
        marks = fingerprints(x)
        out = np.zeros(len(x), np.int8)
        parts = ((self.train_at, self.train, TRAINING), (self.test_at, self.test, TEST))
        lacking = []
        for at, known, role in parts:
            there = np.zeros(len(at), bool)
            inside = at < len(x)
            there[inside] = marks[at[inside]] == known[inside]
            out[at[there]] = role
            lacking.append((known[~there], role))
        for known, role in lacking:
            free = np.flatnonzero(out == NEW)
            out[free[_first_of(marks[free], known)]] = role
        return out

    def to_arrays(self) -> dict[str, np.ndarray]:
        """For a file of numbers."""
        return {f"seen_{name}": getattr(self, name) for name in ("train_at", "test_at", "train", "test")}


def _first_of(marks: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Which marks [n] are wanted: of equal ones as many as ``wanted`` [m] holds, the first ones; bool [n]."""
    kinds, counts = np.unique(wanted, return_counts=True)
    if not len(kinds):
        return np.zeros(len(marks), bool)
    place = np.minimum(np.searchsorted(kinds, marks), len(kinds) - 1)
    order = np.argsort(marks, kind="stable")
    ranked = marks[order]
    rank = np.empty(len(marks), int)
    rank[order] = np.arange(len(marks)) - np.searchsorted(ranked, ranked, side="left")
    return (kinds[place] == marks) & (rank < counts[place])
