"""Stationary points of one kind in memory: growing arrays, and each point known again modulo symmetry."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from jaxland.landscape.search.stationary import Point, Tolerances
from jaxland.problem.symmetry import Symmetry

# What is kept of a point besides its coordinates; ``ends`` are -1 for a minimum.
ROW = np.dtype(
    [
        ("energy", "f8"),
        ("rms", "f8"),
        ("lowest", "f8"),
        ("flat", "i8"),
        ("log_product", "f8"),
        ("orbit", "f8"),
        ("hits", "i8"),
        ("round", "i8"),
        ("ends", "i8", (2,)),
        ("checksum", "i8"),
    ]
)


class Catalogue:
    """Points numbered as they come.

    Args:
        symmetry: of the problem.
        tolerances: when two points are the same.
    """

    def __init__(self, symmetry: Symmetry, tolerances: Tolerances) -> None:
        self.symmetry, self.tolerances = symmetry, tolerances
        self._count = 0
        self._rows, self._x = np.zeros(0, ROW), np.zeros((0, 0))
        self._sorted, self._by_energy = np.zeros(0), np.zeros(0, int)

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> np.ndarray:
        """[M] of ``ROW``; a view that the next ``append`` may leave behind."""
        return self._rows[: self._count]

    @property
    def energies(self) -> Float[np.ndarray, " M"]:
        """Of each point."""
        return self.rows["energy"]

    @property
    def hits(self) -> Int[np.ndarray, " M"]:
        """How often each was found."""
        return self.rows["hits"]

    @property
    def ends(self) -> Int[np.ndarray, "M 2"]:
        """The minima each transition state joins."""
        return self.rows["ends"]

    @property
    def coordinates(self) -> Float[np.ndarray, "M N"]:
        """Of each point; a view that the next ``append`` may leave behind."""
        return self._x[: self._count]

    def points(self, negative: int) -> list[Point]:
        """All of them, of this index, without modes."""
        nothing, names = np.zeros(0), ["energy", "rms", "lowest", "flat", "log_product"]
        return [
            Point(
                x=x,
                energy=energy,
                rms=rms,
                negative=negative,
                flat=flat,
                lowest=lowest,
                log_product=log_product,
                mode=nothing,
            )
            for x, (energy, rms, lowest, flat, log_product) in zip(self.coordinates, self.rows[names].tolist())
        ]

    def append(self, rows: np.ndarray, coordinates: np.ndarray) -> None:
        """Add points: rows [k] of ``ROW`` and coordinates [k, N]."""
        before, count = self._count, self._count + len(rows)
        if count > len(self._rows) or self._x.shape[1] != coordinates.shape[1]:
            room = max(count, 2 * len(self._rows), 64)
            grown, x = np.zeros(room, ROW), np.zeros((room, coordinates.shape[1]))
            grown[:before] = self.rows
            if before:
                x[:before] = self.coordinates
            self._rows, self._x = grown, x
        self._rows[before:count], self._x[before:count] = rows, coordinates
        self._count = count
        order = np.argsort(rows["energy"], kind="stable")
        energies = rows["energy"][order]
        places = np.searchsorted(self._sorted, energies, side="right")
        self._sorted = np.insert(self._sorted, places, energies)
        self._by_energy = np.insert(self._by_energy, places, before + order)

    def _width(self, energies: np.ndarray) -> np.ndarray:
        return self.tolerances.energy * np.maximum(1.0, np.abs(energies))

    def find(self, energies: Float[np.ndarray, " k"], xs: Float[np.ndarray, "k N"]) -> Int[np.ndarray, " k"]:
        """The stored point that each is modulo symmetry, the one nearest in energy if several; -1: none."""
        found = np.full(len(energies), -1)
        width = self._width(energies)
        low = np.searchsorted(self._sorted, energies - width, side="left")
        high = np.searchsorted(self._sorted, energies + width, side="right")
        query = np.repeat(np.arange(len(energies)), high - low)
        if not len(query):
            return found
        first = np.repeat(np.cumsum(high - low) - (high - low), high - low)
        stored = self._by_energy[np.arange(len(query)) - first + np.repeat(low, high - low)]
        order = np.lexsort((stored, np.abs(self.energies[stored] - energies[query]), query))
        query, stored = query[order], stored[order]
        while len(query):  # the nearest candidate of every point, then the second nearest of those left, ...
            ask = np.flatnonzero(np.diff(query, prepend=-1))
            same = self._same(xs[query[ask]], self.coordinates[stored[ask]])
            found[query[ask[same]]] = stored[ask[same]]
            left = np.ones(len(query), bool)
            left[ask] = False
            left &= found[query] < 0
            query, stored = query[left], stored[left]
        return found

    def _same(self, xs: np.ndarray, references: np.ndarray) -> np.ndarray:
        """Whether each point [k, N] is its reference [k, N] modulo symmetry."""
        k = len(xs)
        pairs = np.stack([np.arange(k), np.arange(k) + k], axis=1)
        return self.symmetry.matching(np.concatenate([xs, references]), pairs, self.tolerances.distance)

    def identify(self, energies: ArrayLike, xs: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Which points these are, as if each were looked for, and where unknown added, one after the other.

        Returns:
            numbers [k]: of the stored point, or the one a new point gets when all new ones are appended in order.
            new [k]: whether it is the first of an unknown point.
        """
        energy, x = np.asarray(energies, float), np.asarray(xs, float)
        k = len(energy)
        new = np.zeros(k, bool)
        if not k:
            return np.zeros(0, int), new
        numbers = self.find(energy, x)
        width = self._width(energy)
        apart = np.where(numbers >= 0, np.abs(energy - self.energies[numbers]) if len(self) else 0.0, np.inf)
        ordered, wide = np.sort(energy), 2 * width
        near = np.searchsorted(ordered, energy + wide, "right") - np.searchsorted(ordered, energy - wide)
        count = len(self)
        for i in range(k):
            if numbers[i] >= 0:
                continue
            numbers[i], new[i] = count, True
            count += 1
            if near[i] < 2:  # nobody but itself
                continue
            rest = np.arange(i + 1, k)
            away = np.abs(energy[rest] - energy[i])
            rest = rest[(away <= width[rest]) & (away < apart[rest])]
            if len(rest):
                rest = rest[self._same(x[rest], np.broadcast_to(x[i], (len(rest), x.shape[1])))]
                numbers[rest], apart[rest] = numbers[i], np.abs(energy[rest] - energy[i])
        return numbers, new
