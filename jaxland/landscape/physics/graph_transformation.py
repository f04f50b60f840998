"""First passage in a network of rates by graph transformation: nodes are eliminated one by one, without subtraction.

For rates k_ab with detailed balance, Z_a k_ab = Z_b k_ba = c_ab: symmetric conductances. Eliminating a node x with
W = sum_j c_xj adds c_ax c_xb / W to every pair of its neighbours and moves Z_x c_ax / W to each of them. That is the
graph transformation of Trygubenko & Wales (2006) and Wales (2009) for such rates, with 1 - P_xx taken as the sum of
the other branching probabilities (Stevenson & Wales 2014): every number is a sum of positive terms, so each result
has full relative accuracy however far apart the rates are. Nodes with few neighbours go first; what remains when the
network has become dense is eliminated by blocks as a matrix.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from jaxland.landscape.physics.arithmetic import TINY, Arithmetic, Logarithms, Plain, Row

# A range of e^300 leaves room for products of three of them in float64; wider ones are carried as logarithms.
RANGE = 300.0
DENSE = 0.05
PANEL = 64
STRIP = 512


@dataclass(frozen=True, eq=False)
class Absorption:
    """Where and when walks from each node end.

    Attributes:
        log_times: [n] ln of the mean time to the first terminal; -inf at a terminal, +inf where none can be reached.
        log_hits: [q, n] ln of the probability that terminal r is the first one reached.
    """

    log_times: np.ndarray
    log_hits: np.ndarray


def merged(pairs: np.ndarray, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum parallel edges: unique pairs [P, 2], ln of their sums [P], and the index [P] of the largest of each."""
    pairs, logs = np.sort(np.asarray(pairs, int).reshape(-1, 2), axis=1), np.asarray(logs, float)
    order = np.lexsort((-logs, pairs[:, 1], pairs[:, 0]))
    pairs, logs = pairs[order], logs[order]
    first = np.flatnonzero(np.r_[True, (np.diff(pairs, axis=0) != 0).any(1)]) if len(pairs) else np.zeros(0, int)
    sums = np.logaddexp.reduceat(logs, first) if len(first) else logs
    return pairs[first], sums, order[first]


def absorb(ends: ArrayLike, log_conductances: ArrayLike, log_weights: ArrayLike, terminals: ArrayLike) -> Absorption:
    """Mean times to the terminals and which one comes first.

    Args:
        ends: int [P, 2] pairs of nodes; log_conductances: [P] ln c of each; parallel ones add up.
        log_weights: [n] ln Z.
        terminals: int [n] the terminal each node belongs to, 0..q-1, or -1 for none. At least one node has one.

    From the middle of a chain of three nodes, twice as easily to the left: 2/3 of the walks end there.

    >>> walks = absorb([[0, 1], [1, 2]], np.log([2.0, 1.0]), np.zeros(3), [0, -1, 1])
    >>> np.exp(walks.log_hits[:, 1]).round(3).tolist()
    [0.667, 0.333]
    """
    terminals, lz = np.asarray(terminals, int), np.asarray(log_weights, float)
    q, n = int(terminals.max()) + 1, len(terminals)
    interior = np.flatnonzero(terminals < 0)
    count = len(interior)
    number = np.empty(n, int)
    number[interior] = np.arange(count)
    number[terminals >= 0] = count + terminals[terminals >= 0]
    pairs = number[np.asarray(ends, int).reshape(-1, 2)]
    inside = (pairs[:, 0] != pairs[:, 1]) & (pairs.min(1, initial=n) < count)
    pairs, logs, _ = merged(pairs[inside], np.asarray(log_conductances, float)[inside])
    touched = _touched(count, q, pairs)
    kept = np.asarray(touched.any(0))
    live = kept[pairs[:, 0]]
    pairs, logs = pairs[live], logs[live]

    times, hits = np.full(count, np.inf), np.full((q, count), -np.inf)
    if len(logs):
        wide = np.ptp(logs) > RANGE or np.ptp(lz[interior[kept]]) > RANGE
        arithmetic: Arithmetic = Logarithms() if wide else Plain()
        got = _solve(arithmetic, count, q, pairs, logs, lz[interior], kept)
        if not wide and not (got[1][touched] > math.log(TINY)).all():
            # A probability too small for float64.
            got = _solve(Logarithms(), count, q, pairs, logs, lz[interior], kept)
        times[kept], hits[:, kept] = got[0][kept], got[1][:, kept]
    out = Absorption(np.full(n, -np.inf), np.full((q, n), -np.inf))
    out.log_times[interior], out.log_hits[:, interior] = times, hits
    out.log_hits[terminals[terminals >= 0], np.flatnonzero(terminals >= 0)] = 0.0
    return out


def _touched(count: int, q: int, pairs: np.ndarray) -> np.ndarray:
    """bool [q, count]: whether each interior node can reach each terminal over interior nodes."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    among = pairs[pairs[:, 1] < count]
    graph = coo_array((np.ones(len(among)), (among[:, 0], among[:, 1])), shape=(count, count))
    pieces, label = connected_components(graph, directed=False) if count else (0, np.zeros(0, int))
    out = np.zeros((q, pieces), bool)
    outer = pairs[pairs[:, 1] >= count]
    out[outer[:, 1] - count, label[outer[:, 0]]] = True
    return out[:, label]


def _solve(
    arithmetic: Arithmetic,
    count: int,
    q: int,
    pairs: np.ndarray,
    logs: np.ndarray,
    lz: np.ndarray,
    kept: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """ln times [count] and ln hits [q, count] of the nodes that are kept."""
    shift_c, shift_z = float(logs.max()), float(lz[kept].max())
    values = arithmetic.of(logs - shift_c).tolist()
    z = arithmetic.of(np.where(kept, lz - shift_z, 0.0)).tolist()
    rows: list[Row] = [{} for _ in range(count)]
    for (a, b), c in zip(pairs.tolist(), values):
        rows[a][b] = c
        if b < count:
            rows[b][a] = c
    eliminated, rest = _sparse(arithmetic, rows, z, kept)
    t, h = arithmetic.blank(count + q, 0), arithmetic.blank(count + q, q)
    for r in range(q):
        h[count + r, r] = arithmetic.one
    if rest:
        _dense(arithmetic, rows, z, rest, count, t, h)
    times, found = t.tolist(), h.tolist()
    total, over = arithmetic.total, arithmetic.over
    product = arithmetic.product
    for x, w in reversed(eliminated):
        items = list(rows[x].items())
        times[x] = over(total([z[x], *(product(c, times[j]) for j, c in items)]), w)
        found[x] = [over(total([product(c, found[j][r]) for j, c in items]), w) for r in range(q)]
    log_times = arithmetic.log(np.array(times[:count])) + shift_z - shift_c
    return log_times, arithmetic.log(np.array(found[:count]).reshape(count, q)).T


def _sparse(
    arithmetic: Arithmetic, rows: list[Row], z: list[float], kept: np.ndarray
) -> tuple[list[tuple[int, float]], list[int]]:
    """Eliminate the node with fewest neighbours until the rest is dense: [(node, W)] in order, and the rest."""
    count = len(rows)
    heap = [(len(rows[x]), x) for x in np.flatnonzero(kept).tolist()]
    alive, gone = len(heap), [False] * count
    heapq.heapify(heap)
    order: list[tuple[int, float]] = []
    total, over, product, plus, spread = (
        arithmetic.total,
        arithmetic.over,
        arithmetic.product,
        arithmetic.plus,
        arithmetic.spread,
    )
    while heap:
        degree, x = heapq.heappop(heap)
        if gone[x]:
            continue
        row = rows[x]
        if degree != len(row):
            heapq.heappush(heap, (len(row), x))
            continue
        if degree > 16 and degree >= DENSE * alive:
            heapq.heappush(heap, (degree, x))
            break
        gone[x], alive = True, alive - 1
        w, items = total(list(row.values())), list(row.items())
        order.append((x, w))
        for a, c in items:
            if a < count:
                share, target = over(c, w), rows[a]
                del target[x]
                spread(target, share, items, a)
                z[a] = plus(z[a], product(share, z[x]))
                heapq.heappush(heap, (len(target), a))
    return order, sorted({x for _, x in heap if not gone[x]})


def _dense(
    arithmetic: Arithmetic,
    rows: list[Row],
    z: list[float],
    rest: list[int],
    count: int,
    t: np.ndarray,
    h: np.ndarray,
) -> None:
    """Eliminate the rest as a matrix by panels of rows, and fill in its times and hits."""
    m, q = len(rest), h.shape[1]
    place = {x: k for k, x in enumerate(rest)} | {count + r: m + r for r in range(q)}
    matrix = arithmetic.blank(m, m + q)
    for k, x in enumerate(rest):
        row = rows[x]
        matrix[k, [place[j] for j in row]] = list(row.values())
    weights, totals = np.array([z[x] for x in rest]), np.empty(m)
    for start in range(0, m, PANEL):
        stop = min(start + PANEL, m)
        for p in range(start, stop):
            u = matrix[p, p + 1 :]
            totals[p] = arithmetic.sum(u)
            share = arithmetic.divided(u, totals[p])
            arithmetic.outer_add(matrix[p + 1 : stop, p + 1 :], share[: stop - p - 1], u)
            arithmetic.scaled_add(weights[p + 1 :], share[: m - p - 1], weights[p])
        panel = matrix[start:stop]
        shares = arithmetic.divided(panel, totals[start:stop, None])
        for left in range(stop, m, STRIP):
            right = min(left + STRIP, m)
            arithmetic.block_add(matrix[left:right, left:], shares[:, left:right], panel[:, left:])
    place_t, place_h = arithmetic.blank(m + q, 0), arithmetic.blank(m + q, q)
    place_h[m:] = h[count:]
    for p in range(m - 1, -1, -1):
        share = arithmetic.divided(matrix[p, p + 1 :], totals[p])
        waiting = arithmetic.divided(weights[p], totals[p])
        place_t[p] = arithmetic.add(waiting, arithmetic.sum(arithmetic.times(share, place_t[p + 1 :])))
        for r in range(q):
            place_h[p, r] = arithmetic.sum(arithmetic.times(share, place_h[p + 1 :, r]))
    t[rest], h[rest] = place_t[:m], place_h[:m]
