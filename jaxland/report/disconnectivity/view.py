"""What both drawings of a disconnectivity graph share: the part that is drawn, its tree, colours and energy axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from jaxland.errors import ArgumentError
from jaxland.landscape.result import Landscape
from jaxland.landscape.tree import (
    LevelCut,
    level_cut,
    merge_tree,
    monotonic_basins,
    persistence,
    skeleton,
    stand_ins,
)
from jaxland.report.disconnectivity.colours import Groups, Paint, by_group, by_part, by_value
from jaxland.report.disconnectivity.tree import PlacedTree, place_tree

# So many lines can be told apart; of them so many are of the lowest minima.
MOST, LOWEST = 4000, 500


@dataclass(frozen=True)
class Colouring:
    """By what lines are coloured: at most one of groups, values, monotonic and partition (default: notable groups).

    Attributes:
        groups: names (``level_node``) of groups to colour and label, or a mapping to colours; default: the largest
            ones of the level that shows most structure; an empty list for none.
        values: [M] one number per minimum (test accuracy, say): colours instead of groups, with a colour bar. A
            branch has the mean of its minima.
        monotonic: colour by monotonic-sequence basin instead.
        partition: int [M] colour by these parts instead, such as the bottoms of ``funnels``.
        partition_label: what the legend calls a part, before its number.
        partition_colours: of the parts to colour; default the largest.
    """

    groups: Groups | None = None
    values: ArrayLike | None = None
    monotonic: bool = False
    partition: ArrayLike | None = None
    partition_label: str = "funnel of minimum"
    partition_colours: Mapping[int, str] | None = None

    def paint(self, view: _Part, whole: Landscape, tree: PlacedTree) -> Paint:
        """Colours of the branches of the part that is drawn."""
        if self.values is not None:
            return by_value(tree, per_minimum(self.values, whole)[view.minima])
        if self.monotonic:
            return by_part(tree, monotonic_basins(whole)[view.minima], "basin of minimum", self.partition_colours)
        if self.partition is not None:
            parts = per_minimum(self.partition, whole, "partition").astype(int)[view.minima]
            return by_part(tree, parts, self.partition_label, self.partition_colours)
        return by_group(view.landscape, view.cut, tree, self.groups)

    def check(self, landscape: Landscape, cut: LevelCut) -> None:
        """Raise ``ArgumentError`` for several ways of colouring, unknown groups, or a wrong number of numbers."""
        if self.values is not None:
            per_minimum(self.values, landscape)
        for name in self.groups or ():
            cut.group(name)
        if sum((bool(self.groups), self.values is not None, self.monotonic, self.partition is not None)) > 1:
            raise ArgumentError("colour by one of groups, values, monotonic and partition, not by several")
        if self.partition is not None:
            per_minimum(self.partition, landscape, "partition")


@dataclass(frozen=True, eq=False)
class _Part:
    """The part of a landscape that is drawn: pieces of some size, not hundreds of lone lines; of a large one the
    deepest minima."""

    landscape: Landscape
    cut: LevelCut
    minima: np.ndarray
    left_out: str
    counts: np.ndarray


@dataclass(frozen=True, eq=False)
class View:
    """Everything a drawing needs.

    Attributes:
        landscape, cut: of the part that is drawn.
        minima: [m] its minima, as numbered in the whole.
        counts: [m] how many minima each stands for: itself, and those that meet it first and are not drawn.
        tree, paint: its lines and their colours.
        low, high: ends of the energy axis, without margins.
        notes: what is left out.
    """

    landscape: Landscape
    cut: LevelCut
    minima: np.ndarray
    counts: np.ndarray
    tree: PlacedTree
    paint: Paint
    low: float
    high: float
    notes: tuple[str, ...]

    @property
    def order(self) -> list[int]:
        """Branches in drawing order: coloured ones last, so that nothing hides them."""
        return sorted(range(len(self.tree.lines)), key=lambda b: self.paint.width[b])


def view(landscape: Landscape, cut: LevelCut | None, colouring: Colouring, top: float | None) -> View:
    """Prepare a drawing of a landscape; ``top`` is the upper end of the energy axis."""
    cut = level_cut(landscape) if cut is None else cut
    colouring.check(landscape, cut)
    part = _thinned(_drawn(landscape, cut), landscape, cut, colouring)
    tree = place_tree(part.landscape, part.cut)
    low, delta = float(part.landscape.energies[0]), part.cut.delta
    full = float(max(part.cut.energies[0], part.landscape.energies[-1])) + 0.6 * delta
    high = visible_top(part.landscape, part.cut) if top is None else float(top)
    high = max(high, low + delta) if high < full - delta else full
    notes = [part.left_out] if part.left_out else []
    if high < full - delta:
        notes.append(_above(part.cut, tree, high, full))
    return View(
        landscape=part.landscape,
        cut=part.cut,
        minima=part.minima,
        counts=part.counts,
        tree=tree,
        paint=colouring.paint(part, landscape, tree),
        low=low,
        high=high,
        notes=tuple(notes),
    )


def visible_top(landscape: Landscape, cut: LevelCut) -> float:
    """Top of the energy axis: all, unless a few high branchings would squeeze the others into the lower half."""
    meets = merge_tree(landscape.energies, landscape.ts_energies, landscape.ts_ends).energies
    lowest, full = float(landscape.energies[0]), float(cut.energies[0])
    if len(meets) < 20:
        return full
    bulk = float(max(np.quantile(meets, 0.97), np.quantile(landscape.energies, 0.97)))
    bulk += 0.1 * (bulk - lowest) + cut.delta
    return bulk if bulk - lowest < 0.5 * (full - lowest) else full


def per_minimum(values: ArrayLike, landscape: Landscape, name: str = "values") -> np.ndarray:
    """float [M], or ``ArgumentError``."""
    array = np.asarray(values, float)
    if array.shape != (landscape.n_minima,):
        raise ArgumentError(f"{name} must have one number per minimum ({landscape.n_minima}), got {array.shape}")
    return array


def _drawn(landscape: Landscape, cut: LevelCut) -> _Part:
    labels = landscape.components()
    sizes = np.bincount(labels)
    large = sizes >= max(2, 0.02 * landscape.n_minima)
    large[0] = True
    if sizes[large].sum() < 5:
        large = sizes >= 2
        large[0] = True
    if sizes[large].sum() < 2 or large.all():
        every = np.arange(landscape.n_minima)
        return _Part(landscape, cut, every, "", np.ones_like(every))
    kept = np.flatnonzero(large[labels])
    lost, pieces = landscape.n_minima - len(kept), int((~large).sum())
    note = f"{lost} minima in {pieces} unconnected piece{'s' if pieces != 1 else ''} not drawn"
    part = landscape.restricted(kept)
    return _Part(part, replace(cut, nodes=cut.nodes[:, kept]), kept, note, np.ones_like(kept))


def _thinned(part: _Part, whole: Landscape, cut: LevelCut, colouring: Colouring) -> _Part:
    """Of more than ``MOST`` minima the lowest, those deepest below the pass to a lower one, and those of groups that
    are asked for."""
    m = part.landscape.n_minima
    if m <= MOST:
        return part
    land = part.landscape
    tree = merge_tree(land.energies, land.ts_energies, land.ts_ends)
    chosen = np.arange(m) < LOWEST
    chosen[np.argsort(-persistence(tree), kind="stable")[: MOST - LOWEST]] = True
    asked = np.zeros(whole.n_minima, bool)
    for name in colouring.groups or ():
        asked[cut.group(name)[:2]] = True
    kept = np.flatnonzero(chosen | asked[part.minima])
    first = stand_ins(tree, kept)
    counts = np.bincount(np.searchsorted(kept, first[first >= 0]), minlength=len(kept))
    note = f"{m - len(kept):,} shallower minima not drawn, counted with the groups they belong to"
    return _Part(
        landscape=skeleton(land, kept),
        cut=replace(part.cut, nodes=part.cut.nodes[:, kept]),
        minima=part.minima[kept],
        left_out="; ".join(filter(None, (part.left_out, note))),
        counts=counts,
    )


def _above(cut: LevelCut, tree: PlacedTree, high: float, full: float) -> str:
    count = sum(1 for b in tree.branches if len(b.members) > 1 and cut.energies[b.last_level - 1] > high)
    return f"{count} branching{'s' if count != 1 else ''} up to {full:.3g} lie{'s' if count == 1 else ''} above"
