"""The part of a tree that a page holds: closed under parents, and nothing is lost without being counted."""

import numpy as np
import pytest

from jaxland.landscape.result import Landscape
from jaxland.landscape.tree import level_cut
from jaxland.report.disconnectivity import place_tree
from jaxland.report.disconnectivity.part import PartOfTree


@pytest.mark.parametrize("most", [1, 20, 10_000])
def test_minima_are_kept_or_counted(most):
    rng = np.random.default_rng(0)
    m = 200
    energies = np.sort(rng.exponential(1.0, m))
    ends = rng.integers(0, m, (2 * m, 2))
    heights = energies[ends].max(1) + rng.exponential(0.3, 2 * m)
    land = Landscape.from_points(energies, rng.normal(size=(m, 2)), heights, ends)
    tree = place_tree(land, level_cut(land))
    part = PartOfTree.of(tree, most, lowest=3)
    kept = [tree.branches[b] for b in part.kept]
    assert all(p < k for k, p in enumerate(part.parents))
    assert all(b.parent < 0 or b.parent in part.kept for b in kept)
    single = {int(b.members[0]) for b in kept if len(b.members) == 1}
    roots = sum(b.parent < 0 and len(b.members) > 1 for b in tree.branches)
    alone = sum(b.parent < 0 and len(b.members) == 1 and k not in part.kept for k, b in enumerate(tree.branches))
    combs = sum(len(b.members) for b, k in zip(kept, part.kept) if len(b.members) > 1 and not any(
        c.parent == k for c in tree.branches))  # fmt: skip
    assert len(single) + part.folded.sum() + combs + alone == m and roots >= 1
    assert {0, 1, 2} <= single or most == 10_000
    for k, b in enumerate(part.kept):
        members = tree.branches[b].members
        leaves = [i for i, c in enumerate(tree.branches) if len(c.members) == 1 and c.members[0] in members]
        if leaves and not combs:
            assert part.left[k] == min(tree.x[i] for i in leaves) and part.right[k] == max(tree.x[i] for i in leaves)
        assert part.left[k] <= part.fold_left[k] <= part.fold_right[k] <= part.right[k]
        assert part.fold_low[k] in members
