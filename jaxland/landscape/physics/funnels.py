"""Funnels: parts of a landscape that drain into one minimum, and how hard the way down is.

A minimum is as deep as the climb from it to any lower one. Those at least ``depth`` deep are bottoms of funnels; from
every other minimum the way leads over the lowest path to a lower one, and so on down to a bottom. So two funnels are
parts of the disconnectivity graph that stay apart over more than ``depth``, and shallow side branches belong to the
funnel that they branch off from. The same measures can be had of monotonic-sequence basins, which ask for a lower
neighbour instead of a small climb (``tree.monotonic_basins``).

The frustration of a landscape (de Souza, Stevenson, Niblett, Farrell & Wales 2017) is

    f = sum_a p_a (V_a^+ - V_0) / (V_a - V_0)

over all minima a but the lowest, with V_a^+ the highest transition state on the lowest path from a down to it, and
p_a the equilibrium occupation without the lowest minimum. It is 1 where nothing has to be climbed, and large where
nearly as good minima are kept apart by barriers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from jaxland.errors import ArgumentError
from jaxland.landscape.physics.thermodynamics import checked, checked_temperatures, log_weights
from jaxland.landscape.result import Landscape
from jaxland.landscape.tree import MergeTree, merge_tree, monotonic_basins
from jaxland.showing import brief

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class Funnels:
    """The funnels of a landscape, by the energy of their bottoms.

    Attributes:
        of: int [M] the funnel each minimum drains into, 0..F-1.
        bottoms: int [F] lowest minimum of each.
        sizes: int [F] number of minima; hits: [F] how often they were found: the share of quenches that ended there.
        energies: [F] of the bottoms.
        depths: [F] height that must be climbed from the bottom to reach any lower minimum; infinite at the bottom of
            a component.
        barriers: [F] energy of the highest transition state on the lowest path to the lowest minimum of all, above
            the bottom; infinite where there is no path, 0 for the lowest.
        basins: int [F] number of monotonic-sequence basins in it.
        frustration: [F] of the funnel towards its own bottom (see the module), all its minima alike; NaN for a funnel
            of one minimum.
        depth: the least depth of a funnel; NaN where bottoms were given.
        temperature: where occupations were asked for, else None; occupations: [F] equilibrium probability.
    """

    of: np.ndarray
    bottoms: np.ndarray
    sizes: np.ndarray
    hits: np.ndarray
    energies: np.ndarray
    depths: np.ndarray
    barriers: np.ndarray
    basins: np.ndarray
    frustration: np.ndarray
    depth: float
    temperature: float | None = None
    occupations: np.ndarray | None = None

    __repr__ = brief

    @property
    def n(self) -> int:
        """F."""
        return len(self.bottoms)

    def members(self, funnel: int) -> np.ndarray:
        """Minima of a funnel, ascending."""
        if not 0 <= funnel < self.n:
            raise ArgumentError(f"there is no funnel {funnel}, only 0..{self.n - 1}")
        return np.flatnonzero(self.of == funnel)

    def means(self, values: ArrayLike) -> np.ndarray:
        """Mean [F] over the members of each funnel of one number per minimum [M]; NaN entries are left out.

        Raises:
            ArgumentError: not one number for each minimum of the landscape the funnels are of.
        """
        values = np.asarray(values, float)
        if values.shape != self.of.shape:
            raise ArgumentError(
                f"values must have one number for each of the {len(self.of)} minima that the funnels are of, got "
                f"{values.shape}"
            )
        known = np.isfinite(values)
        count = np.bincount(self.of[known], minlength=self.n)
        total = np.bincount(self.of[known], values[known], minlength=self.n)
        return np.divide(total, count, out=np.full(self.n, np.nan), where=count > 0)

    def to_pandas(self) -> pandas.DataFrame:
        """One row per funnel."""
        import pandas as pd

        frame = pd.DataFrame(
            {
                "bottom": self.bottoms,
                "energy": self.energies,
                "minima": self.sizes,
                "basins": self.basins,
                "found": self.hits / max(self.hits.sum(), 1),
                "depth": self.depths,
                "barrier to lowest": self.barriers,
                "frustration": self.frustration,
            }
        )
        if self.occupations is not None:
            frame["occupation"] = self.occupations
        return frame.rename_axis("funnel")

    def _repr_html_(self) -> str:
        return self.to_pandas().to_html(border=0, float_format=lambda v: f"{v:.5g}", max_rows=12)


def depths(landscape: Landscape) -> np.ndarray:
    """Height [M] that must be climbed from each minimum to reach a lower one; infinite at the lowest of a component.

    Of two minima with one energy the first counts as the lower.

    >>> depths(Landscape.from_points([0.0, 1.0], np.zeros((2, 1)), [1.5], [[0, 1]])).tolist()
    [inf, 0.5]
    """
    return _climbs(merge_tree(landscape.energies, landscape.ts_energies, landscape.ts_ends))[0]


def _climbs(tree: MergeTree) -> tuple[np.ndarray, np.ndarray]:
    """``depths``, and the lowest minimum [M] of the part joined by that climb: itself where there is no lower one."""
    m = len(tree.leaf_energies)
    climb, onward = np.full(m, np.inf), np.arange(m)
    lowest = np.concatenate([np.arange(m), np.zeros(len(tree.energies), int)])
    for k, (i, j) in enumerate(tree.children.tolist()):
        a, b = sorted((int(lowest[i]), int(lowest[j])))
        lowest[m + k] = onward[b] = a
        climb[b] = tree.energies[k] - tree.leaf_energies[b]
    return climb, onward


def funnels(
    landscape: Landscape,
    depth: float | None = None,
    *,
    bottoms: ArrayLike | None = None,
    temperature: float | None = None,
    vibrations: bool = True,
) -> Funnels:
    """Group minima by the funnel they drain into, and measure the funnels.

    Args:
        landscape: with at least one minimum.
        depth: least depth of a funnel, in units of the energy. Default a tenth of the climb from the lowest minimum
            to the highest meeting point of its component.
        bottoms: int [M] instead of ``depth``: the bottom of each minimum, such as ``monotonic_basins(landscape)``.
        temperature: add the occupation of each funnel at it (needs log products, unless ``vibrations`` is False).

    Raises:
        ArgumentError: no minima, a depth that is negative, or bottoms that are not the lowest of their own.
        DataError: log products are missing.
    """
    m = landscape.n_minima
    if not m:
        raise ArgumentError("the landscape has no minima: there are no funnels")
    if depth is not None and bottoms is not None:
        raise ArgumentError("give either depth or bottoms, not both")
    tree = merge_tree(landscape.energies, landscape.ts_energies, landscape.ts_ends)
    climbs, onward = _climbs(tree)
    barriers = tree.barriers(np.arange(m), 0)
    if bottoms is not None:
        bottom, depth = _given(bottoms, m), math.nan
    else:
        if depth is None:
            depth = 0.1 * float(barriers[np.isfinite(barriers)].max() - landscape.energies[0])
        if not (depth >= 0 and math.isfinite(depth)):
            raise ArgumentError(f"depth must be a finite number, not negative, got {depth}")
        bottom = _drained(climbs, onward, depth)
    basin = monotonic_basins(landscape)
    found, of = np.unique(bottom, return_inverse=True)
    occupations = None
    if temperature is not None:
        (t,) = checked_temperatures(temperature)
        logs = log_weights(landscape, t, vibrations=vibrations)[0]
        occupations = np.bincount(of, np.exp(logs - np.logaddexp.reduce(logs)), minlength=len(found))
        temperature = float(t)
    groups = np.split(np.argsort(of, kind="stable"), np.cumsum(np.bincount(of))[:-1])
    return Funnels(
        of=of,
        bottoms=found,
        sizes=np.bincount(of),
        hits=np.bincount(of, np.asarray(landscape.hits, float)),
        energies=landscape.energies[found],
        depths=climbs[found],
        barriers=barriers[found] - landscape.energies[found],
        basins=np.array([len(np.unique(basin[g])) for g in groups]),
        frustration=np.array([_frustration(tree, g, None) for g in groups]),
        depth=float(depth),
        temperature=temperature,
        occupations=occupations,
    )


def _given(bottoms: ArrayLike, m: int) -> np.ndarray:
    """The bottom [M] of each minimum, checked."""
    bottom = np.asarray(bottoms)
    sound = bottom.shape == (m,) and np.issubdtype(bottom.dtype, np.integer)
    if not sound or (bottom < 0).any() or (bottom > np.arange(m)).any() or (bottom[bottom] != bottom).any():
        raise ArgumentError(f"bottoms must name for each of the {m} minima the lowest one of its group")
    return bottom


def _drained(climbs: np.ndarray, onward: np.ndarray, depth: float) -> np.ndarray:
    """The bottom [M] that each minimum drains into by climbs lower than ``depth``."""
    bottom = np.arange(len(climbs))
    for i in range(len(climbs)):
        # The way leads to a lower minimum, whose own bottom is known by now.
        if climbs[i] < depth:
            bottom[i] = bottom[onward[i]]
    return bottom


def frustration(
    landscape: Landscape,
    temperature: float | None = None,
    *,
    members: ArrayLike | None = None,
    vibrations: bool = True,
) -> float:
    """Frustration of a landscape, or of some minima, towards the lowest of them (see the module).

    Args:
        landscape: minima that are not joined to the lowest are left out, and so are those with its very energy.
        temperature: of the occupations; None counts all minima alike.
        members: indices; default all.

    Returns:
        NaN where no other minimum is left.
    """
    chosen = np.arange(landscape.n_minima) if members is None else checked(members, landscape.n_minima, "members")
    logs = None
    if temperature is not None:
        logs = log_weights(landscape, temperature, vibrations=vibrations)[0]
    return _frustration(merge_tree(landscape.energies, landscape.ts_energies, landscape.ts_ends), chosen, logs)


def _frustration(tree: MergeTree, members: np.ndarray, logs: np.ndarray | None) -> float:
    lowest = int(members[0])
    bottom = float(tree.leaf_energies[lowest])
    climbs, above = tree.barriers(members, lowest) - bottom, tree.leaf_energies[members] - bottom
    counted = np.isfinite(climbs) & (above > 1e-12 * max(abs(bottom), float(np.max(np.abs(above), initial=0.0))))
    if not counted.any():
        return math.nan
    weights = (np.zeros(len(members)) if logs is None else logs[members])[counted]
    p = np.exp(weights - np.logaddexp.reduce(weights))
    return float(p @ (climbs[counted] / above[counted]))
