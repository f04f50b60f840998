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
        fold_left, fold_right: [b] the same of its folded minima; fold_low: number of the lowest of them. Where
            nothing is folded: its own.
    """

    kept: np.ndarray
    parents: np.ndarray
    folded: np.ndarray
    left: np.ndarray
    right: np.ndarray
    fold_left: np.ndarray
    fold_right: np.ndarray
    fold_low: np.ndarray

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
        gone = np.flatnonzero(~chosen & (parents >= 0))
        above, firsts = parents[gone], np.array([b.members[0] for b in branches])
        inside = np.bincount(above, weights=sizes[gone], minlength=len(branches)).astype(int)
        edges = [np.full(len(branches), v) for v in (np.inf, -np.inf)]
        low = np.full(len(branches), np.iinfo(int).max)
        np.minimum.at(edges[0], above, left[gone])
        np.maximum.at(edges[1], above, right[gone])
        np.minimum.at(low, above, firsts[gone])
        held = inside[kept] > 0
        return cls(
            kept=kept,
            parents=place[parents[kept]],
            folded=inside[kept],
            left=left[kept],
            right=right[kept],
            fold_left=np.where(held, edges[0][kept], left[kept]),
            fold_right=np.where(held, edges[1][kept], right[kept]),
            fold_low=np.where(held, low[kept], firsts[kept]),
        )


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
