"""Where the lines of a disconnectivity graph stand: a tree of branches, placed without crossings."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from jaxland.landscape.result import Landscape
from jaxland.landscape.tree import LevelCut


@dataclass(frozen=True, eq=False)
class Branch:
    """A group over the levels where its members stay the same; a single minimum is a branch down to its energy.

    Attributes:
        members: ascending indices.
        level, last_level: first and last level of the run.
        parent: index of the branch above, -1 for a root.
        name: ``level_node`` at the first level.
    """

    members: np.ndarray
    level: int
    last_level: int
    parent: int
    name: str


@dataclass(frozen=True, eq=False)
class PlacedTree:
    """Where everything is drawn.

    Attributes:
        branches: parents before children.
        x: [B] horizontal position of each branch: the mean of its minima, which stand one apart.
        lines: [B] polyline [k, 2] of each branch, from the parent's point down.
    """

    branches: tuple[Branch, ...]
    x: np.ndarray
    lines: tuple[np.ndarray, ...]

    def branch_of(self, members: np.ndarray) -> int | None:
        """The branch with exactly these members."""
        for b, branch in enumerate(self.branches):
            if len(branch.members) == len(members) and np.array_equal(branch.members, members):
                return b
        return None


def place_tree(landscape: Landscape, cut: LevelCut) -> PlacedTree:
    """Place the tree of a level cut: the largest child of a branch in the middle, the others at alternating sides."""
    branches, children = _branches(landscape, cut)
    x = _positions(landscape.n_minima, branches, children)
    lines = tuple(_line(landscape, cut, branches, b, x, not children[b]) for b in range(len(branches)))
    return PlacedTree(branches, x, lines)


def _branches(landscape: Landscape, cut: LevelCut) -> tuple[tuple[Branch, ...], list[list[int]]]:
    """Branches, parents first, and the children of each; those of the roots are in the last list.

    Minima are sorted by their groups from the top level down, so that every group is a range of places.
    """
    nodes = cut.nodes
    labels = landscape.components()
    order = np.lexsort([*nodes[::-1], labels])
    # Row at which a place and the one before it part: -1 between components, ``levels`` for never.
    apart = nodes[:, order[1:]] != nodes[:, order[:-1]]
    parting = np.where(apart.any(0), apart.argmax(0), cut.levels)
    parting = np.concatenate([[-1], np.where(np.diff(labels[order]) != 0, -1, parting)])
    listed = nodes > 0
    ends = np.where(listed.any(0), cut.levels - 1 - listed[::-1].argmax(0), 0)
    branches: list[Branch] = []
    children: list[list[int]] = []
    roots: list[int] = []
    todo: deque[tuple[int, int, int, int]] = deque()

    def parts(low: int, high: int, row: int, parent: int) -> None:
        """Queue the groups of places low..high at a row."""
        cuts = low + 1 + np.flatnonzero(parting[low + 1 : high] <= row)
        for first, last in zip((low, *cuts.tolist()), (*cuts.tolist(), high)):
            todo.append((first, last, row, parent))

    starts = np.flatnonzero(parting == -1)
    for low, high in zip(starts.tolist(), [*starts[1:].tolist(), len(order)]):
        parts(low, high, 0, -1)
    while todo:
        low, high, row, parent = todo.popleft()
        members = np.sort(order[low:high])
        single = high - low == 1
        last = max(row, int(ends[members[0]])) if single else int(parting[low + 1 : high].min()) - 1
        index = len(branches)
        branches.append(Branch(members, row + 1, last + 1, parent, f"{row + 1}_{nodes[row, members[0]]}"))
        children.append([])
        (children[parent] if parent >= 0 else roots).append(index)
        if not single and last + 1 < cut.levels:
            parts(low, high, last + 1, index)
    return tuple(branches), [*children, roots]


def _positions(count: int, branches: tuple[Branch, ...], children: list[list[int]]) -> np.ndarray:
    """[B] horizontal position of each branch; ``count`` minima stand one apart."""
    x_leaf = np.zeros(count)
    position = 0
    stack = list(reversed(_arranged(children[-1], branches, 0)))
    while stack:
        b = stack.pop()
        if not children[b]:
            members = branches[b].members
            x_leaf[members] = position + np.arange(len(members))
            position += len(members)
        else:
            stack.extend(reversed(_arranged(children[b], branches, branches[b].last_level)))
    return np.array([x_leaf[branch.members].mean() for branch in branches])


def _arranged(siblings: list[int], branches: tuple[Branch, ...], depth: int) -> list[int]:
    """Largest in the middle, the next ones at the lighter side; ties go left and right by turns down the tree."""
    order = sorted(siblings, key=lambda b: (-len(branches[b].members), branches[b].members[0]))
    out: deque[int] = deque(order[:1])
    weight = {"left": 0, "right": 0}
    for b in order[1:]:
        left, right = weight["left"], weight["right"]
        side = "left" if left < right or (left == right and depth % 2) else "right"
        weight[side] += len(branches[b].members)
        (out.appendleft if side == "left" else out.append)(b)
    return list(out)


def _line(
    landscape: Landscape, cut: LevelCut, branches: tuple[Branch, ...], b: int, x: np.ndarray, leaf: bool
) -> np.ndarray:
    """Polyline [k, 2] of branch b; ``leaf``: nothing branches off below."""
    branch = branches[b]
    top = cut.energies[branch.level - 1]
    points = []
    if branch.parent >= 0:
        points.append((x[branch.parent], cut.energies[branches[branch.parent].last_level - 1]))
    else:
        points.append((x[b], max(top, landscape.energies[branch.members].max()) + 0.6 * cut.delta))
    if len(branch.members) == 1:
        end = float(landscape.energies[branch.members[0]])
        points += [(x[b], max(top, end)), (x[b], end)]
    else:
        points += [(x[b], top), (x[b], cut.energies[branch.last_level - 1])]
        if leaf:
            # Joined at the lowest level there is: a comb of short lines.
            points.append((x[b], float(landscape.energies[branch.members[0]])))
    return np.array(points, float)
