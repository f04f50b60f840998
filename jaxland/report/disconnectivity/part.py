"""The part of a tree that a page holds: the branches of most minima, what is folded under them, and their extents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jaxland.report.disconnectivity.tree import Branch, PlacedTree

# So many branches, those of most minima, are in a page: it stays below 2 MB with 100,000 minima.
MOST = 6000
# Of the lowest minima so many are among them, whatever their branches hold.
LOWEST = 500


@dataclass(frozen=True, eq=False)
class PartOfTree:
    """Branches that are kept, parents before children; a parent of a kept one is kept.

    Attributes:
        kept: [b] their indices in the tree.
        parents: [b] positions in ``kept``, -1 for a root.
        folded: [b] minima of each in children that are not kept.
        left, right: [b] positions of its outermost minima.
    """

    kept: np.ndarray
    parents: np.ndarray
    folded: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, tree: PlacedTree, most: int = MOST, lowest: int = LOWEST) -> PartOfTree:
        """The branches of most minima, and those that lead to the lowest minima."""
        branches = tree.branches
        sizes = np.array([len(b.members) for b in branches])
        parents = np.array([b.parent for b in branches])
        left, right = _extents(branches, sizes, parents, tree.x)
        chosen = np.zeros(len(branches), bool)
        # A child holds fewer minima than its parent, so that parents come with it.
        chosen[np.argsort(-sizes, kind="stable")[:most]] = True
        if not chosen.all():
            leaves = np.array([b.members[0] if len(b.members) == 1 else -1 for b in branches])
            for b in np.flatnonzero((leaves >= 0) & (leaves < lowest)).tolist():
                while b >= 0 and not chosen[b]:
                    chosen[b], b = True, int(parents[b])
        kept = np.flatnonzero(chosen)
        place = np.full(len(branches) + 1, -1)
        place[kept] = np.arange(len(kept))
        inside = np.zeros(len(branches))
        np.add.at(inside, parents[~chosen & (parents >= 0)], sizes[~chosen & (parents >= 0)])
        return cls(kept, place[parents[kept]], inside[kept].astype(int), left[kept], right[kept])


def _extents(
    branches: tuple[Branch, ...], sizes: np.ndarray, parents: np.ndarray, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Leftmost and rightmost minimum of every branch."""
    left, right = x - (sizes - 1) / 2, x + (sizes - 1) / 2
    inner = np.unique(parents[parents >= 0])
    left[inner], right[inner] = np.inf, -np.inf
    for b in range(len(branches) - 1, -1, -1):
        p = parents[b]
        if p >= 0:
            left[p], right[p] = min(left[p], left[b]), max(right[p], right[b])
    return left, right
