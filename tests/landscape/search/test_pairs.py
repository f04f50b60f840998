"""Which pairs are tried next: distances in blocks, and every strategy against what it says, one pair at a time."""

import numpy as np
import pytest
from shared_cases import xor

from jaxland.landscape import Store
from jaxland.landscape.search.pairs import Distances, Pairs, to_expand
from jaxland.landscape.search.stationary import Point


@pytest.fixture
def store(x64):
    """40 minima, 50 transition states and 60 tries of a made-up search."""
    problem, rng = xor(), np.random.default_rng(0)

    def points(energies):
        return [
            Point(x=x, energy=e, rms=0.0, negative=0, flat=0, lowest=1.0, log_product=1.0, mode=x)
            for e, x in zip(energies.tolist(), rng.normal(size=(len(energies), problem.size)))
        ]

    with Store(None, problem) as store:
        with store.transaction():
            store.add_minima(points(rng.random(40)), 0)
            store.add_saddles(points(1 + rng.random(50)), rng.integers(0, 30, (50, 2)), 0)
            store.add_tries([(i, j) for i, j in rng.integers(0, 40, (60, 2)).tolist()])
        yield store


def single(store, i, j):
    """The distance of one pair, by the symmetry's own alignment."""
    i, j = min(i, j), max(i, j)
    return store.problem.symmetry.distance(store.minima.coordinates[j], store.minima.coordinates[i])


def test_distances_are_those_of_single_pairs_and_stay_when_forgotten(store):
    distances, small = Distances(store.minima), Distances(store.minima, most=8)
    members = [7, 3, 30, 12]
    block = distances.among(members)
    expected = [[0.0 if i == j else single(store, i, j) for j in members] for i in members]
    np.testing.assert_allclose(block, expected, rtol=1e-12)
    for _ in range(3):  # ever other ones: the cache is emptied again and again
        for i in range(0, 40, 5):
            small.among(list(range(i, i + 5)))
        np.testing.assert_array_equal(small.among(members), block)
    np.testing.assert_array_equal(small.to(3, [12, 7]), [block[1, 3], block[1, 0]])
    assert distances(3, 12) == distances(12, 3) == block[1, 3]


def test_nearest_pairs(store):
    pairs = Pairs(store, Distances(store.minima))
    direct = {tuple(pair) for pair in store.ends.tolist()}
    near = set()
    for i in range(40):
        others = sorted((single(store, i, j), j) for j in range(40) if j != i)[:10]
        near |= {(d, (min(i, j), max(i, j))) for d, j in others}
    kept = [pair for _, pair in sorted(near) if pair not in direct and pair not in store.tries]
    assert pairs.nearest(25) == list(dict.fromkeys(kept))[:25]


def test_untrap_pairs_a_trap_with_the_nearest_minimum_below(store):
    energies = store.minima.energies
    for i, j in Pairs(store, Distances(store.minima)).untrap(5):
        high, low = (i, j) if energies[i] > energies[j] else (j, i)
        label = store.components()
        below = [
            k
            for k in np.flatnonzero((label == label[np.argmin(energies)]) & (energies < energies[high])).tolist()
            if (min(k, high), max(k, high)) not in {*store.tries, *map(tuple, store.ends.tolist())}
        ]
        assert low == min(below, key=lambda k: single(store, high, k))


def test_join_and_lowest_give_untried_pairs(store):
    pairs = Pairs(store, Distances(store.minima))
    label, best = store.components(), int(np.argmin(store.minima.energies))
    joined = pairs.join(8)
    assert 0 < len(joined) <= 8 and not set(joined) & set(store.tries)
    assert any((label[list(pair)] == label[best]).any() for pair in joined)
    for i, j in pairs.lowest(8):
        assert best in (i, j) and (i, j) not in store.tries and [i, j] not in store.ends.tolist()


def test_the_least_climbed_joined_lowest_minima_are_expanded_first(store):
    energies, label = store.minima.energies, store.components()
    main, done = label[int(np.argmin(energies))], {k: k % 3 for k in range(0, 40, 2)}
    order = sorted(range(40), key=lambda i: (done.get(i, 0), bool(label[i] != main), energies[i], i))
    assert to_expand(store, done, 12, 3, 40) == order[:12]
    members = [i for i in order if label[i] == main]
    strangers = [i for i in order if label[i] != main]
    few = to_expand(store, done, 30, 3, 2)
    assert [i for i in few if i in strangers] == strangers[:2] and set(few) - set(strangers) <= set(members)
    assert len(to_expand(store, done, 200, 3, 0)) == 200


def test_bridges_are_the_nearest_pairs_across(store):
    label, best = store.components(), int(np.argmin(store.minima.energies))
    inside, outside = np.flatnonzero(label == label[best]).tolist(), np.flatnonzero(label != label[best]).tolist()
    pairs = Pairs(store, Distances(store.minima)).bridge(5)
    nearest = {}
    for j in outside:
        options = [(single(store, i, j), i) for i in inside if (min(i, j), max(i, j)) not in store.tries]
        if options:
            distance, i = min(options)
            nearest[j] = (distance, (min(i, j), max(i, j)))
    assert pairs == [pair for _, pair in sorted(nearest.values())[:5]]
