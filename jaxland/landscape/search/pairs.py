"""Which pairs of minima to try next, and which minima to climb out of.

Every strategy reads the store alone and returns untried pairs, best first, at most ``count`` of them; the considered
minima are limited to the lowest few hundred, which bounds the work of planning.
"""

from __future__ import annotations

import numpy as np

from jaxland.landscape.network import barrier_heights
from jaxland.landscape.store import Store
from jaxland.problem.symmetry import Symmetry

Pair = tuple[int, int]


class Distances:
    """Aligned distances between stored minima, computed once each."""

    def __init__(self, symmetry: Symmetry, coordinates: list[np.ndarray]) -> None:
        self.symmetry, self.coordinates = symmetry, coordinates
        self._known: dict[Pair, float] = {}

    def __call__(self, i: int, j: int) -> float:
        """Euclidean distance of minimum i to the nearest image of minimum j."""
        key = _pair(i, j)
        if key not in self._known:
            a, b = self.coordinates[key[0]], self.coordinates[key[1]]
            self._known[key] = self.symmetry.distance(b, a)
        return self._known[key]


def _pair(i: int, j: int) -> Pair:
    return (min(i, j), max(i, j))


class Pairs:
    """Untried pairs of a store by strategy (Wales 2003; Carr, Trygubenko & Wales 2005; Strodel et al. 2007).

    Args:
        store: what is known.
        distances: cache.
        limit: minima considered at most, the lowest first.
    """

    def __init__(self, store: Store, distances: Distances, limit: int = 300) -> None:
        self.store, self.distances, self.limit = store, distances, limit
        self.order = [int(i) for i in np.argsort(store.minima.energies, kind="stable")]
        self.label = store.components()

    def open(self, i: int, j: int) -> bool:
        """Whether a pair was never tried by a band."""
        return i != j and _pair(i, j) not in self.store.tries

    def _first(self, candidates: list[tuple[float, Pair]], count: int) -> list[Pair]:
        chosen: list[Pair] = []
        for _, pair in sorted(candidates):
            if pair not in chosen:
                chosen.append(pair)
            if len(chosen) == count:
                break
        return chosen

    def lowest(self, count: int) -> list[Pair]:
        """The lowest minima that no transition state joins with the global minimum directly, paired with it."""
        if not self.order:
            return []
        best = self.order[0]
        direct = {_pair(i, j) for i, j in self.store.ends}
        pairs = (_pair(best, i) for i in self.order[1 : self.limit] if self.open(best, i))
        return [pair for pair in pairs if pair not in direct][:count]

    def join(self, count: int) -> list[Pair]:
        """Missing connections: for each minimum not yet joined to the lowest one, lowest first, the gaps on the
        shortest path to it, longest first.

        Complete graph over minima; an edge weighs 0 if connected, infinity if tried, else distance^2.
        """
        from scipy.sparse.csgraph import dijkstra

        store, label = self.store, self.label
        if len(self.order) < 2 or (label == label[self.order[0]]).all():
            return []
        lowest = self.order[0]
        outside = [i for i in self.order if label[i] != label[lowest]][: self.limit // 2]
        inside = [i for i in self.order if label[i] == label[lowest]][: self.limit - len(outside)]
        nodes = sorted(set(inside) | set(outside) | {lowest})
        place = {node: k for k, node in enumerate(nodes)}
        tiny = 1e-9
        weight = np.full((len(nodes), len(nodes)), np.inf)
        for a, i in enumerate(nodes):
            for b in range(a):
                if self.open(i, nodes[b]):
                    weight[a, b] = weight[b, a] = self.distances(i, nodes[b]) ** 2 + tiny
        connected = np.zeros_like(weight, bool)
        for i, j in store.ends:
            if i != j and i in place and j in place:
                a, b = place[i], place[j]
                weight[a, b] = weight[b, a] = tiny
                connected[a, b] = connected[b, a] = True
        weight[~np.isfinite(weight)] = 0.0  # csgraph reads 0 in a dense matrix as no edge
        _, came = dijkstra(weight, indices=place[lowest], return_predecessors=True)
        chosen: list[Pair] = []
        for target in outside:
            node, gaps = place[target], []
            while node != place[lowest] and came[node] >= 0:
                before = int(came[node])
                if not connected[node, before]:
                    gaps.append((-float(weight[node, before]), _pair(nodes[node], nodes[before])))
                node = before
            chosen += [pair for _, pair in sorted(gaps) if pair not in chosen]
            if len(chosen) >= count:
                break
        return chosen[:count]

    def untrap(self, count: int) -> list[Pair]:
        """Joined minima whose barrier to the lowest is large for their energy, each paired with the nearest minimum
        below it: a wrong trap is a path nobody looked for.

        Ranked by (barrier - E) / (E - E_0), largest first (the UNTRAP strategy of PATHSAMPLE).
        """
        energies = np.asarray(self.store.minima.energies)
        members = [i for i in self.order if self.label[i] == self.label[self.order[0]]][: self.limit]
        if len(members) < 3:
            return []
        lowest = members[0]
        height = barrier_heights(energies, self.store.ends, self.store.saddles.energies, lowest)
        spread = max(float(energies[members[-1]] - energies[lowest]), 1e-300)
        trap = {
            i: (height[i] - energies[i]) / max(energies[i] - energies[lowest], 1e-3 * spread) for i in members[1:]
        }
        direct = {_pair(i, j) for i, j in self.store.ends}
        chosen: list[Pair] = []
        for i in sorted(trap, key=lambda i: (-trap[i], i)):
            below = [j for j in members[: members.index(i)] if self.open(i, j) and _pair(i, j) not in direct]
            if below:
                chosen.append(_pair(i, min(below, key=lambda j: (self.distances(i, j), j))))
            if len(chosen) == count:
                break
        return chosen

    def nearest(self, count: int, neighbours: int = 10) -> list[Pair]:
        """Pairs of near minima that no transition state joins directly, nearest first; ``neighbours`` of each."""
        direct = {_pair(i, j) for i, j in self.store.ends}
        members, candidates = self.order[: self.limit], []
        for i in members:
            near = sorted((self.distances(i, j), _pair(i, j)) for j in members if j != i)[:neighbours]
            candidates += [(d, pair) for d, pair in near if self.open(*pair) and pair not in direct]
        return self._first(candidates, count)

    def chance(self, count: int, seed: list[int]) -> list[Pair]:
        """Untried pairs drawn at random, each minimum equally likely."""
        m = len(self.order)
        if m < 2:
            return []
        rng = np.random.default_rng(seed)
        chosen: list[Pair] = []
        for i, j in rng.integers(0, m, (20 * count, 2)).tolist():
            if self.open(i, j) and _pair(i, j) not in chosen:
                chosen.append(_pair(i, j))
            if len(chosen) == count:
                break
        return chosen


def to_expand(store: Store, done: dict[int, int], count: int) -> list[int]:
    """Minima to climb out of next: the least climbed, of these the ones joined to the lowest minimum, by energy."""
    if not len(store.minima):
        return []
    label = store.components()
    energies = store.minima.energies
    main = label[int(np.argmin(energies))]
    return sorted(range(len(energies)), key=lambda i: (done.get(i, 0), bool(label[i] != main), energies[i], i))[
        :count
    ]
