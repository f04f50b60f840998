"""Which pairs of minima to try next, and which minima to climb out of.

Every strategy reads the store alone and returns untried pairs, best first, at most ``count`` of them; the considered
minima are limited to the lowest few hundred, which bounds the work of planning.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from heapq import heapify, heappop, heappush
from itertools import islice

import numpy as np
from jaxtyping import Float

from jaxland.landscape.catalogue import Catalogue
from jaxland.landscape.network import barrier_heights
from jaxland.landscape.store import Store


class Distances:
    """Aligned distances between stored minima, each computed once, in blocks.

    Args:
        minima: of the store; may grow.
        most: minima kept at a time; beyond, what is known is computed again.
    """

    def __init__(self, minima: Catalogue, most: int = 2048) -> None:
        self.minima, self.most = minima, most
        self._slots: dict[int, int] = {}
        self._known = np.full((0, 0), np.nan)

    def __call__(self, i: int, j: int) -> float:
        """Euclidean distance of minimum i to the nearest image of minimum j."""
        return float(self.among([i, j])[0, 1]) if i != j else 0.0

    def among(self, members: Sequence[int]) -> Float[np.ndarray, "k k"]:
        """Distance between each two of some (different) minima; 0 on the diagonal."""
        slots = self._places(members)
        a, b = np.triu_indices(len(slots), 1)
        missing = np.isnan(self._known[slots[a], slots[b]])
        self._compute(np.asarray(members, int), slots, a[missing], b[missing])
        return self._known[np.ix_(slots, slots)]

    def to(self, i: int, others: Sequence[int]) -> Float[np.ndarray, " k"]:
        """Distance of minimum i to some others."""
        slots = self._places([i, *others])
        b = 1 + np.flatnonzero(np.isnan(self._known[slots[0], slots[1:]]))
        self._compute(np.array([i, *others], int), slots, np.zeros(len(b), int), b)
        return self._known[slots[0], slots[1:]]

    def _compute(self, members: np.ndarray, slots: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
        """Distances of members at places a to those at places b: of the later stored one to the earlier, always."""
        swap = members[a] > members[b]
        first, second = np.where(swap, b, a), np.where(swap, a, b)
        points = self.minima.coordinates[members]
        found = self.minima.symmetry.distances(points, np.stack([first, second], axis=1))
        self._known[slots[a], slots[b]] = self._known[slots[b], slots[a]] = found

    def _places(self, members: Sequence[int]) -> np.ndarray:
        fresh = [i for i in members if i not in self._slots]
        if len(self._slots) + len(fresh) > self.most:
            self._slots.clear()
            self._known = np.full((0, 0), np.nan)
            fresh = list(members)
        for i in fresh:
            self._slots[i] = len(self._slots)
        if len(self._slots) > len(self._known):
            room = max(2 * len(self._known), len(self._slots))
            grown = np.full((room, room), np.nan)
            grown[: len(self._known), : len(self._known)] = self._known
            np.fill_diagonal(grown, 0.0)
            self._known = grown
        return np.array([self._slots[i] for i in members], int)


class Pairs:
    """Untried pairs of a store by strategy (Wales 2003; Carr, Trygubenko & Wales 2005; Strodel et al. 2007).

    Args:
        store: what is known.
        distances: cache.
        limit: minima considered at most, the lowest first.
    """

    def __init__(self, store: Store, distances: Distances, limit: int = 300) -> None:
        self.store, self.distances, self.limit = store, distances, limit
        self.order: list[int] = np.argsort(store.minima.energies, kind="stable").tolist()
        self.label = store.components()

    @cached_property
    def direct(self) -> set[tuple[int, int]]:
        """Pairs that a transition state joins, the lower number first."""
        return set(map(tuple, self.store.ends.tolist()))

    def open(self, i: int, j: int) -> bool:
        """Whether a pair was never tried by a band."""
        return i != j and _pair(i, j) not in self.store.tries

    def lowest(self, count: int) -> list[tuple[int, int]]:
        """The lowest minima that no transition state joins with the global minimum directly, paired with it."""
        if not self.order:
            return []
        best = self.order[0]
        pairs = (_pair(best, i) for i in self.order[1 : self.limit] if self.open(best, i))
        return [pair for pair in pairs if pair not in self.direct][:count]

    def join(self, count: int) -> list[tuple[int, int]]:
        """Missing connections: for each minimum not yet joined to the lowest one, lowest first, the gaps on the
        shortest path to it, longest first.

        Complete graph over minima; an edge weighs 0 if connected, infinity if tried, else distance^2.
        """
        from scipy.sparse.csgraph import dijkstra

        label = self.label
        if len(self.order) < 2 or (label == label[self.order[0]]).all():
            return []
        lowest = self.order[0]
        outside = [i for i in self.order if label[i] != label[lowest]][: self.limit // 2]
        inside = [i for i in self.order if label[i] == label[lowest]][: self.limit - len(outside)]
        nodes = sorted(set(inside) | set(outside) | {lowest})
        place = {node: k for k, node in enumerate(nodes)}
        weight, connected = self._weights(nodes, place)
        _, came = dijkstra(weight, indices=place[lowest], return_predecessors=True)
        chosen: list[tuple[int, int]] = []
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

    def _weights(self, nodes: list[int], place: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """What a step between each two of some minima costs (0: no edge, as SciPy reads it), and which are joined."""
        tiny = 1e-9
        weight = self.distances.among(nodes) ** 2 + tiny
        for i, j in self.store.tries:
            if i in place and j in place:
                weight[place[i], place[j]] = weight[place[j], place[i]] = 0.0
        connected = np.zeros(weight.shape, bool)
        where = np.full(len(self.order), -1)
        where[nodes] = np.arange(len(nodes))
        a, b = where[self.store.ends[self.store.ends[:, 0] != self.store.ends[:, 1]]].T
        a, b = a[(a >= 0) & (b >= 0)], b[(a >= 0) & (b >= 0)]
        connected[a, b] = connected[b, a] = True
        weight[connected] = tiny
        np.fill_diagonal(weight, 0.0)
        return weight, connected

    def bridge(self, count: int) -> list[tuple[int, int]]:
        """Minima joined to the lowest, each with the nearest that is not, nearest pairs first.

        For a glass, where a path to a given minimum is long and a neighbour of the connected part is as good as any:
        outside, only the minima stored last are considered, which searches from the connected part have just met.
        """
        if len(self.order) < 2:
            return []
        joined = self.label == self.label[self.order[0]]
        inside = [i for i in self.order if joined[i]][: self.limit // 3]
        outside = np.flatnonzero(~joined)[-(self.limit - self.limit // 3) :].tolist()
        if not outside:
            return []
        distance = self.distances.among([*inside, *outside])[: len(inside), len(inside) :]
        chosen: dict[int, tuple[int, int]] = {}
        for k in np.argsort(distance, axis=None, kind="stable").tolist():
            i, j = inside[k // len(outside)], outside[k % len(outside)]
            if j not in chosen and self.open(i, j):
                chosen[j] = _pair(i, j)
            if len(chosen) == count:
                break
        return list(chosen.values())

    def untrap(self, count: int) -> list[tuple[int, int]]:
        """Joined minima whose barrier to the lowest is large for their energy, each paired with the nearest minimum
        below it: a wrong trap is a path nobody looked for.

        Ranked by (barrier - E) / (E - E_0), largest first (the UNTRAP strategy of PATHSAMPLE).
        """
        energies = self.store.minima.energies
        members = [i for i in self.order if self.label[i] == self.label[self.order[0]]][: self.limit]
        if len(members) < 3:
            return []
        lowest = members[0]
        height = barrier_heights(energies, self.store.ends, self.store.saddles.energies, lowest)
        spread = max(float(energies[members[-1]] - energies[lowest]), 1e-300)
        trap = {
            i: (height[i] - energies[i]) / max(energies[i] - energies[lowest], 1e-3 * spread) for i in members[1:]
        }
        chosen: list[tuple[int, int]] = []
        for i in sorted(trap, key=lambda i: (-trap[i], i)):
            below = [j for j in members[: members.index(i)] if self.open(i, j) and _pair(i, j) not in self.direct]
            if below:
                chosen.append(_pair(i, min(zip(self.distances.to(i, below).tolist(), below))[1]))
            if len(chosen) == count:
                break
        return chosen

    def nearest(self, count: int, neighbours: int = 10) -> list[tuple[int, int]]:
        """Pairs of near minima that no transition state joins directly, nearest first; ``neighbours`` of each."""
        members = np.sort(self.order[: self.limit])
        if len(members) < 2:
            return []
        distance = self.distances.among(members.tolist())
        np.fill_diagonal(distance, np.inf)
        near = np.argsort(distance, axis=1, kind="stable")[:, : min(neighbours, len(members) - 1)]
        a, b = np.repeat(np.arange(len(members)), near.shape[1]), near.ravel()
        pairs = np.unique(np.stack([np.minimum(a, b), np.maximum(a, b)], axis=1), axis=0)
        ranked = pairs[np.argsort(distance[pairs[:, 0], pairs[:, 1]], kind="stable")]
        candidates = ((i, j) for i, j in members[ranked].tolist())
        return list(islice((p for p in candidates if self.open(*p) and p not in self.direct), count))

    def chance(self, count: int, seed: list[int]) -> list[tuple[int, int]]:
        """Untried pairs drawn at random, each minimum equally likely."""
        m = len(self.order)
        if m < 2:
            return []
        rng = np.random.default_rng(seed)
        chosen: list[tuple[int, int]] = []
        for i, j in rng.integers(0, m, (20 * count, 2)).tolist():
            if self.open(i, j) and _pair(i, j) not in chosen:
                chosen.append(_pair(i, j))
            if len(chosen) == count:
                break
        return chosen


def to_expand(store: Store, done: dict[int, int], count: int, searches: int, strangers: int) -> list[int]:
    """Minima to climb out of next: the least climbed, of these the ones joined to the lowest minimum, by energy.

    Args:
        store: what is known.
        done: searches out of each minimum so far.
        count: so many; minima come more than once where there are fewer.
        searches: out of a minimum each time it comes.
        strangers: of minima that are not joined to the lowest, at most so many.
    """
    if not len(store.minima):
        return []
    label, energies = store.components(), store.minima.energies
    apart = label != label[int(np.argmin(energies))]
    heap = [(done.get(i, 0), bool(apart[i]), float(energies[i]), i) for i in range(len(energies))]
    heapify(heap)
    chosen: list[int] = []
    while len(chosen) < count:
        climbed, stranger, energy, i = heappop(heap)
        if stranger and not strangers:
            continue
        strangers -= stranger
        chosen.append(i)
        heappush(heap, (climbed + searches, stranger, energy, i))
    return chosen


def _pair(i: int, j: int) -> tuple[int, int]:
    return (min(i, j), max(i, j))
