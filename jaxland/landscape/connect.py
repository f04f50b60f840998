"""Which minima to join next: missing connections on shortest paths, and unexpanded minima near the bottom."""

from __future__ import annotations

import numpy as np

from jaxland.core.symmetry import Symmetry
from jaxland.landscape.store import Store


class Distances:
    """Aligned distances between stored minima, computed once each."""

    def __init__(self, symmetry: Symmetry, coordinates: list[np.ndarray]) -> None:
        self.symmetry, self.coordinates = symmetry, coordinates
        self._known: dict[tuple[int, int], float] = {}

    def __call__(self, i: int, j: int) -> float:
        """Euclidean distance of minimum i to the nearest image of minimum j."""
        key = (min(i, j), max(i, j))
        if key not in self._known:
            a, b = self.coordinates[key[0]], self.coordinates[key[1]]
            self._known[key] = float(np.linalg.norm(self.symmetry.align(b, a) - a))
        return self._known[key]


def missing_connections(
    store: Store, distances: Distances, count: int, *, limit: int = 300, max_tries: int = 1
) -> list[tuple[int, int]]:
    """Pairs to try next, for many bands at once.

    Complete graph over minima; an edge weighs 0 if connected, infinity if tried, else distance^2 (Carr, Trygubenko &
    Wales 2005). For each minimum not yet joined to the lowest one, lowest first: the shortest path to the lowest, and
    on it the longest edge that is not connected.

    Args:
        store: what is known.
        distances: cache.
        count: number of pairs wanted.
        limit: consider so many of the lowest minima; bounds the work to limit^2 distances.
        max_tries: a pair tried so often is closed.
    """
    from scipy.sparse.csgraph import dijkstra

    m = len(store.minima)
    if m < 2:
        return []
    label = store.components()
    by_energy = np.argsort(store.minima.energies, kind="stable")
    lowest = int(by_energy[0])
    if (label == label[lowest]).all():
        return []
    outside = [int(i) for i in by_energy if label[i] != label[lowest]][: limit // 2]
    inside = [int(i) for i in by_energy if label[i] == label[lowest]][: limit - len(outside)]
    nodes = sorted(set(inside) | set(outside) | {lowest})
    place = {node: k for k, node in enumerate(nodes)}
    tiny = 1e-9
    weight = np.full((len(nodes), len(nodes)), np.inf)
    for a, i in enumerate(nodes):
        for b in range(a):
            j = nodes[b]
            if store.tries.get((min(i, j), max(i, j)), 0) < max_tries:
                weight[a, b] = weight[b, a] = distances(i, j) ** 2 + tiny
    connected = np.zeros_like(weight, bool)
    for i, j in store.ends:
        if i != j and i in place and j in place:
            a, b = place[i], place[j]
            weight[a, b] = weight[b, a] = tiny
            connected[a, b] = connected[b, a] = True
    weight[~np.isfinite(weight)] = 0.0  # csgraph reads 0 in a dense matrix as no edge
    _, came = dijkstra(weight, indices=place[lowest], return_predecessors=True)
    chosen: list[tuple[int, int]] = []
    for target in outside:
        best, node = (-1.0, (-1, -1)), place[target]
        while node != place[lowest] and came[node] >= 0:
            before = int(came[node])
            if not connected[node, before] and weight[node, before] > best[0]:
                pair = (min(nodes[node], nodes[before]), max(nodes[node], nodes[before]))
                best = (float(weight[node, before]), pair)
            node = before
        if best[0] > 0 and best[1] not in chosen:
            chosen.append(best[1])
        if len(chosen) == count:
            break
    return chosen


def unexpanded(store: Store, expanded: set[int], count: int) -> list[int]:
    """The lowest minima whose soft modes were not followed yet, those joined to the lowest minimum first."""
    m = len(store.minima)
    if not m:
        return []
    label = store.components()
    by_energy = [int(i) for i in np.argsort(store.minima.energies, kind="stable")]
    main = label[by_energy[0]]
    open_ones = [i for i in by_energy if i not in expanded]
    return ([i for i in open_ones if label[i] == main] + [i for i in open_ones if label[i] != main])[:count]
