"""Merge tree of a landscape, its cut into energy levels with named groups, and monotonic-sequence basins.

The merge tree is exact: union-find over transition states in order of energy (Kruskal), so that the energy at which
two minima meet is that of the highest transition state on the lowest path between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxland.errors import ArgumentError
from jaxland.landscape.network import UnionFind, kruskal
from jaxland.landscape.result import Landscape


@dataclass(frozen=True, eq=False)
class MergeTree:
    """A forest: leaves 0..M-1 are minima, node M+k is made by merge k.

    Attributes:
        leaf_energies: [M].
        children: [K, 2] the nodes joined by each merge.
        energies: [K] energy of each merge, ascending.
        states: [K] the transition state that made it.
    """

    leaf_energies: np.ndarray
    children: np.ndarray
    energies: np.ndarray
    states: np.ndarray

    @cached_property
    def parents(self) -> np.ndarray:
        """[M + K] the node above each node; -1 for a root."""
        out = np.full(len(self.leaf_energies) + len(self.energies), -1)
        for k, pair in enumerate(self.children):
            out[pair] = len(self.leaf_energies) + k
        return out

    def barrier(self, i: int, j: int) -> float:
        """Energy at which two minima meet; infinite where they never do, the minimum's own where i = j."""
        if i == j:
            return float(self.leaf_energies[i])
        m, above = len(self.leaf_energies), set()
        while i >= 0:
            above.add(i)
            i = int(self.parents[i])
        while j >= 0 and j not in above:
            j = int(self.parents[j])
        return float(self.energies[j - m]) if j >= 0 else math.inf

    @cached_property
    def _line(self) -> tuple[np.ndarray, np.ndarray]:
        """Place [M] of each leaf in an order without crossings, and maxima [L, M] of the 2^l gaps from each place on.

        The gap after a leaf is the energy at which it and the next one meet.
        """
        m = len(self.leaf_energies)
        first, last = (np.concatenate([np.arange(m), np.zeros(len(self.energies), int)]) for _ in range(2))
        after, gap = np.full(m, -1), np.full(m, np.inf)
        for k, (i, j) in enumerate(self.children.tolist()):
            first[m + k], last[m + k] = first[i], last[j]
            after[last[i]], gap[last[i]] = first[j], self.energies[k]
        order = []
        for root in np.flatnonzero(self.parents == -1).tolist():
            leaf = int(first[root])
            while leaf >= 0:
                order.append(leaf)
                leaf = int(after[leaf])
        place = np.empty(m, int)
        place[order] = np.arange(m)
        table = [gap[order]]
        while 2 ** len(table) < m:
            half, below = 2 ** (len(table) - 1), table[-1]
            table.append(np.maximum(below, np.append(below[half:], np.full(half, np.inf))))
        return place, np.array(table)

    def barriers(self, i: ArrayLike, j: ArrayLike) -> np.ndarray:
        """``barrier`` of many pairs of minima at once (arrays of one shape, or that broadcast)."""
        i, j = np.broadcast_arrays(np.asarray(i, int), np.asarray(j, int))
        place, table = self._line
        left, right = np.minimum(place[i], place[j]), np.maximum(place[i], place[j])
        level = np.frexp(np.maximum(right - left, 1))[1] - 1
        out = np.maximum(table[level, left], table[level, right - 2**level])
        return np.where(i == j, self.leaf_energies[i], out)

    def members(self, node: int) -> np.ndarray:
        """Minima below a node, ascending."""
        m, found, stack = len(self.leaf_energies), [], [int(node)]
        while stack:
            k = stack.pop()
            if k < m:
                found.append(k)
            else:
                stack.extend(self.children[k - m].tolist())
        return np.array(sorted(found), int)


def merge_tree(energies: ArrayLike, ts_energies: ArrayLike, ts_ends: ArrayLike) -> MergeTree:
    """Merge tree of minima [M] joined by transition states (energies [T], ends [T, 2])."""
    energies, ts_energies = np.asarray(energies, float), np.asarray(ts_energies, float)
    ends = np.asarray(ts_ends, int).reshape(-1, 2)
    m = len(energies)
    states = kruskal(m, ends, ts_energies)
    sets, top = UnionFind(m), list(range(m))
    children = []
    for k, (i, j) in enumerate(ends[states].tolist()):
        i, j = sets.find(i), sets.find(j)
        children.append((top[i], top[j]))
        sets.join(i, j)
        top[sets.find(i)] = m + k
    return MergeTree(energies, np.array(children, int).reshape(-1, 2), ts_energies[states], states)


@dataclass(frozen=True, eq=False)
class LevelCut:
    """Groups of minima at equally spaced energies e_l = first - (l - 1) delta, l = 1 at the top.

    At level l two minima are together if joined by transition states with E_ts < e_l; a minimum is listed if
    E_min < e_l + delta. A group is called ``level_node``: node counts the groups of the level from 1, by lowest
    member.

    Attributes:
        first, delta: the grid.
        energies: [L].
        nodes: [L, M] number of the group of each minimum at each level, 0 where it is not listed.
    """

    first: float
    delta: float
    energies: np.ndarray
    nodes: np.ndarray

    @property
    def levels(self) -> int:
        """L."""
        return len(self.energies)

    def groups(self, level: int) -> dict[str, np.ndarray]:
        """Members (ascending indices) of every group of a level, by name."""
        if not 1 <= level <= self.levels:
            raise ArgumentError(f"level must be 1..{self.levels}, got {level}")
        row = self.nodes[level - 1]
        order = np.argsort(row, kind="stable")
        order = order[row[order] > 0]
        starts = np.flatnonzero(np.diff(row[order], prepend=0))
        return {f"{level}_{row[part[0]]}": np.sort(part) for part in np.split(order, starts[1:]) if len(part)}

    def group(self, name: str) -> np.ndarray:
        """Members of the group ``level_node``."""
        try:
            level, node = (int(part) for part in name.split("_"))
        except ValueError as error:
            raise ArgumentError(f"a group is named level_node, such as 3_1; got {name!r}") from error
        if not 1 <= level <= self.levels:
            raise ArgumentError(f"group {name!r}: level must be 1..{self.levels}")
        members = np.flatnonzero(self.nodes[level - 1] == node)
        if node < 1 or not len(members):
            raise ArgumentError(f"there is no group {name!r}: level {level} has {self.nodes[level - 1].max()} groups")
        return members

    def name_of(self, minimum: int, level: int) -> str | None:
        """Name of the group of a minimum at a level; None where it is not listed."""
        if not 1 <= level <= self.levels:
            raise ArgumentError(f"level must be 1..{self.levels}, got {level}")
        node = int(self.nodes[level - 1, minimum])
        return f"{level}_{node}" if node else None

    def distinct(self, min_members: int = 2) -> list[tuple[str, int, np.ndarray]]:
        """Every group with enough members, each set of members once: (name at its top level, last level, members).

        A group keeps its members over several levels where no minimum splits off.
        """
        seen: dict[bytes, int] = {}
        out: list[tuple[str, int, np.ndarray]] = []
        for level in range(1, self.levels + 1):
            for name, members in self.groups(level).items():
                if len(members) < min_members:
                    continue
                key = members.tobytes()
                if key in seen:
                    out[seen[key]] = (out[seen[key]][0], level, members)
                else:
                    seen[key] = len(out)
                    out.append((name, level, members))
        return out

    def to_pandas(self) -> Any:
        """One row per group of every level."""
        import pandas as pd

        rows = [
            {
                "group": name,
                "level": level,
                "energy": self.energies[level - 1],
                "members": len(g),
                "lowest": int(g[0]),
            }
            for level in range(1, self.levels + 1)
            for name, g in self.groups(level).items()
        ]
        return pd.DataFrame(rows, columns=["group", "level", "energy", "members", "lowest"])


def default_levels(tree: MergeTree, target: int = 40, limit: int = 500) -> tuple[float, float]:
    """(first, delta): a round delta with some ``target`` levels over 95 % of the merges; ``first`` above all."""
    lowest = float(tree.leaf_energies.min())
    top = float(max(tree.leaf_energies.max(), tree.energies.max() if len(tree.energies) else lowest))
    span = top - lowest
    if span <= 0:
        unit = abs(lowest) if 0 < abs(lowest) < 1e-6 else 1.0
        return lowest + unit, unit
    bulk = float(np.quantile(tree.energies, 0.95)) - lowest if len(tree.energies) else span
    raw = max(bulk / target, span / limit, 1e-12 * max(abs(top), abs(lowest)))
    decade = 10.0 ** math.floor(math.log10(raw))
    delta = decade * min((1, 2, 2.5, 5, 10), key=lambda step: abs(math.log(step * decade / raw)))
    first = delta * (math.floor(top / delta) + 1)
    return first, delta


def level_cut(
    landscape: Landscape, first: float | None = None, delta: float | None = None, levels: int | None = None
) -> LevelCut:
    """Cut the merge tree at e_l = first - (l - 1) delta.

    Args:
        landscape: with at least one minimum.
        first, delta: default as ``default_levels`` chooses.
        levels: how many; default down to the lowest minimum.
    """
    if not landscape.n_minima:
        raise ArgumentError("the landscape has no minima: nothing to cut")
    tree = merge_tree(landscape.energies, landscape.ts_energies, landscape.ts_ends)
    chosen = default_levels(tree)
    first = chosen[0] if first is None else float(first)
    delta = chosen[1] if delta is None else float(delta)
    if not (delta > 0 and math.isfinite(first) and math.isfinite(delta)):
        raise ArgumentError(f"delta must be positive and first finite, got first={first}, delta={delta}")
    lowest = float(landscape.energies[0])
    if levels is None:
        levels = max(1, math.ceil((first - lowest) / delta + 1 - 1e-9))
        levels += bool(lowest < first - levels * delta + delta)
    if not 1 <= levels <= 100_000:
        raise ArgumentError(f"first={first:g} and delta={delta:g} give {levels} levels; choose a larger delta")
    energies = first - delta * np.arange(levels)
    nodes = np.zeros((levels, landscape.n_minima), int)
    sets, k = UnionFind(landscape.n_minima), 0
    m = landscape.n_minima
    leaf = [0] * (m + len(tree.energies))
    leaf[:m] = range(m)
    for level in range(levels - 1, -1, -1):
        while k < len(tree.energies) and tree.energies[k] < energies[level]:
            i, j = tree.children[k].tolist()
            sets.join(leaf[i], leaf[j])
            leaf[m + k] = leaf[i]
            k += 1
        listed = np.flatnonzero(landscape.energies < energies[level] + delta)
        roots = sets.roots()[listed]
        # Minima ascend in energy, so the smallest member stands for the lowest energy.
        nodes[level, listed] = np.unique(roots, return_inverse=True)[1] + 1 if len(listed) else 0
    return LevelCut(first, delta, energies, nodes)


def energy_windows(landscape: Landscape, counts: tuple[int, ...] = (5, 10, 20, 50, 100, 200, 500, 1000)) -> LevelCut:
    """The k lowest minima for each k, joined or not: what do all good networks share, whatever lies between them?

    Level 1 is the largest k below M; ``energies`` is the energy of the first minimum left out, ``delta`` NaN.
    """
    kept = sorted((k for k in counts if 0 < k < landscape.n_minima), reverse=True)
    if not kept:
        raise ArgumentError(
            f"the landscape has {landscape.n_minima} minima: none of the counts {counts} is below that"
        )
    nodes = np.arange(landscape.n_minima)[None, :] < np.array(kept)[:, None]
    return LevelCut(float(landscape.energies[kept[0]]), math.nan, landscape.energies[kept], nodes.astype(int))


def monotonic_basins(landscape: Landscape) -> np.ndarray:
    """Bottom [M] of the monotonic sequence from each minimum: repeatedly over the lowest transition state that leads
    to a lower minimum, until there is none (Berry & Breitengraser-Kunz 1995)."""
    step = np.arange(landscape.n_minima)
    height = np.full(landscape.n_minima, np.inf)
    for (i, j), e in zip(landscape.ts_ends.tolist(), landscape.ts_energies.tolist()):
        low, high = min(i, j), max(i, j)
        if low != high and e < height[high]:
            height[high], step[high] = e, low
    bottom = np.arange(landscape.n_minima)
    for i in range(landscape.n_minima):
        bottom[i] = i if step[i] == i else bottom[step[i]]
    return bottom


def skeleton(landscape: Landscape, minima: ArrayLike) -> Landscape:
    """Some minima alone, joined by the transition states at which they meet over any path.

    The merge tree of the result is the merge tree of the whole landscape with the other leaves taken away: the
    disconnectivity graph of the bottoms of its monotonic sequences, say
    (``skeleton(landscape, np.unique(monotonic_basins(landscape)))``).

    Args:
        minima: indices to keep.

    Raises:
        ArgumentError: none, or one that is no minimum.
    """
    kept = np.unique(np.asarray(minima, int))
    if not len(kept) or kept[0] < 0 or kept[-1] >= landscape.n_minima:
        raise ArgumentError(f"minima must be at least one index of 0..{landscape.n_minima - 1}")
    tree = merge_tree(landscape.energies, landscape.ts_energies, landscape.ts_ends)
    # The lowest kept minimum below each node of the tree, -1 where there is none.
    below = np.full(landscape.n_minima + len(tree.energies), -1)
    below[kept] = kept
    states, ends = [], []
    for k, (i, j) in enumerate(tree.children.tolist()):
        a, b = sorted((int(below[i]), int(below[j])))
        below[landscape.n_minima + k] = b if a < 0 else a
        if a >= 0:
            states.append(int(tree.states[k]))
            ends.append((a, b))
    chosen = np.array(states, int)
    changes: dict[str, Any] = {}
    for name in (f for f in landscape.__dataclass_fields__ if f.startswith("ts_")):
        value = getattr(landscape, name)
        changes[name] = None if value is None else np.asarray(value)[chosen]
    changes["ts_ends"] = np.array(ends, int).reshape(-1, 2)
    return replace(landscape, **changes).restricted(kept)


def persistence(tree: MergeTree) -> np.ndarray:
    """How far each minimum lies below the energy at which it meets a lower one [M]; infinite where it never does."""
    m = len(tree.leaf_energies)
    out, lowest = np.full(m, np.inf), np.concatenate([np.arange(m), np.zeros(len(tree.energies), int)])
    for k, (i, j) in enumerate(tree.children.tolist()):
        low, high = sorted((int(lowest[i]), int(lowest[j])))
        lowest[m + k] = low
        out[high] = tree.energies[k] - tree.leaf_energies[high]
    return out


def stand_ins(tree: MergeTree, kept: np.ndarray) -> np.ndarray:
    """The kept minimum that each minimum meets first [M], the lower of two; -1 where it meets none."""
    m = len(tree.leaf_energies)
    below = np.full(m + len(tree.energies), -1)
    below[kept] = kept
    for k, (i, j) in enumerate(tree.children.tolist()):
        a, b = sorted((int(below[i]), int(below[j])))
        below[m + k] = b if a < 0 else a
    parents = tree.parents
    for node in range(m + len(tree.energies) - 1, -1, -1):
        if below[node] < 0 and parents[node] >= 0:
            below[node] = below[parents[node]]
    return below[:m]
