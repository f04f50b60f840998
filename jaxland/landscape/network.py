"""The network of minima (nodes) and transition states (edges)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from jaxland.errors import ArgumentError

if TYPE_CHECKING:
    from jaxland.landscape.result import Landscape


class UnionFind:
    """Disjoint sets of 0..n-1, with path halving; the smallest member stands for its set."""

    def __init__(self, n: int) -> None:
        self.parent = list(range(n))

    def find(self, i: int) -> int:
        """The member that stands for i's set."""
        parent = self.parent
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def join(self, i: int, j: int) -> bool:
        """Unite two sets; False if they were one already."""
        i, j = self.find(i), self.find(j)
        if i == j:
            return False
        self.parent[max(i, j)] = min(i, j)
        return True

    def roots(self) -> np.ndarray:
        """``find`` of every member [n]."""
        at = np.array(self.parent, int)
        while not np.array_equal(above := at[at], at):
            at = above
        return at

    def labels(self) -> np.ndarray:
        """Set of each member [n], numbered by smallest member."""
        return np.unique(self.roots(), return_inverse=True)[1]


def kruskal(n: int, ends: ArrayLike, heights: ArrayLike) -> np.ndarray:
    """Edges of the minimum spanning forest of n nodes: numbers in ``ends`` [T, 2], ascending by ``heights`` [T].

    Infinite and NaN heights are no edges; of equal ones the first comes first.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    ends, heights = np.asarray(ends, int).reshape(-1, 2), np.asarray(heights, float)
    order = np.argsort(heights, kind="stable")
    order = order[np.isfinite(heights[order]) & (ends[order, 0] != ends[order, 1])]
    low, high = ends[order].min(1), ends[order].max(1)
    first = np.sort(np.unique(low * n + high, return_index=True)[1])  # of parallel edges the lowest
    # Ranks instead of heights: SciPy takes 0 for no edge and leaves the order of equal ones open.
    graph = coo_array((first + 1.0, (low[first], high[first])), shape=(n, n)).tocsr()
    return order[np.sort(minimum_spanning_tree(graph).data).astype(int) - 1]


def components(n: int, ends: np.ndarray) -> np.ndarray:
    """Connected components [n] of a graph with edges ``ends`` [T, 2], numbered by smallest member."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.asarray(ends, int).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(n, n)).tocsr()
    label = connected_components(graph, directed=False)[1] if n else np.zeros(0, int)
    first, place = np.unique(label, return_index=True, return_inverse=True)[1:]
    return np.argsort(np.argsort(first))[place]


def to_networkx(landscape: Landscape) -> Any:
    """networkx.MultiGraph of a landscape.

    Nodes are minima with energy, gradient, log_product, orbit_size, lowest_eigenvalue, hits and ``degenerate``, the
    list of transition states that join the minimum with its own images: they are no edges. Every other transition
    state is an edge, its index the key, with energy, log_product, orbit_size and eigenvalue; two minima may be joined
    by several.
    """
    import networkx as nx

    graph = nx.MultiGraph()
    for i in range(landscape.n_minima):
        graph.add_node(
            i,
            energy=float(landscape.energies[i]),
            gradient=float(landscape.gradients[i]),
            log_product=float(landscape.log_products[i]),
            orbit_size=float(landscape.orbit_sizes[i]),
            lowest_eigenvalue=float(landscape.lowest_eigenvalues[i]),
            hits=int(landscape.hits[i]),
            degenerate=[],
        )
    for t, (i, j) in enumerate(landscape.ts_ends.tolist()):
        if i == j:
            graph.nodes[i]["degenerate"].append(t)
            continue
        graph.add_edge(
            i,
            j,
            key=t,
            energy=float(landscape.ts_energies[t]),
            log_product=float(landscape.ts_log_products[t]),
            orbit_size=float(landscape.ts_orbit_sizes[t]),
            eigenvalue=float(landscape.ts_eigenvalues[t]),
        )
    return graph


def lowest_path(landscape: Landscape, start: int, end: int) -> tuple[list[int], list[int]]:
    """The path between two minima whose highest transition state is lowest (ties: lowest second highest on the way).

    Returns:
        minima along the path, and the transition states between them; both empty where no path exists.
    """
    m = landscape.n_minima
    for name, value in (("start", start), ("end", end)):
        if not 0 <= value < m:
            raise ArgumentError(f"{name} must be a minimum 0..{m - 1}, got {value}")
    # In the minimum spanning tree the only path between two nodes is the minimax path.
    neighbours: list[list[tuple[int, int]]] = [[] for _ in range(m)]
    for t in kruskal(m, landscape.ts_ends, landscape.ts_energies).tolist():
        i, j = landscape.ts_ends[t].tolist()
        neighbours[i].append((j, t))
        neighbours[j].append((i, t))
    came: dict[int, tuple[int, int]] = {start: (-1, -1)}
    queue = [start]
    while queue:
        i = queue.pop()
        for j, t in neighbours[i]:
            if j not in came:
                came[j] = (i, t)
                queue.append(j)
    if end not in came:
        return [], []
    minima, states = [end], []
    while minima[-1] != start:
        i, t = came[minima[-1]]
        minima.append(i)
        states.append(t)
    return minima[::-1], states[::-1]


def barriers(landscape: Landscape, start: int = 0) -> np.ndarray:
    """Energy [M] of the highest transition state on the lowest path from each minimum to ``start``.

    The minimum's own energy at ``start``; infinite where there is no path.
    """
    return barrier_heights(landscape.energies, landscape.ts_ends, landscape.ts_energies, start)


def barrier_heights(energies: ArrayLike, ends: ArrayLike, ts_energies: ArrayLike, start: int) -> np.ndarray:
    """``barriers`` of plain arrays: energies [M] of minima, ends [T, 2] and energies [T] of transition states."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order

    energies = np.asarray(energies, float)
    m, ends, heights = len(energies), np.asarray(ends, int).reshape(-1, 2), np.asarray(ts_energies, float)
    tree = kruskal(m, ends, heights)
    graph = coo_array((np.ones(len(tree)), ends[tree].T), shape=(m, m)).tocsr()
    order, before = breadth_first_order(graph, start, directed=False)
    over = dict(zip(map(tuple, np.sort(ends[tree], axis=1).tolist()), heights[tree].tolist()))
    out = np.full(m, np.inf)
    out[start] = energies[start]
    for i in order[1:].tolist():
        j = int(before[i])
        out[i] = max(out[j], over[min(i, j), max(i, j)])
    return out
