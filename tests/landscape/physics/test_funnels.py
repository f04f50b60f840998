import math

import networkx as nx
import numpy as np
import pytest

from jaxland.errors import ArgumentError
from jaxland.landscape import network
from jaxland.landscape.physics.funnels import depths, frustration, funnels
from jaxland.landscape.result import Landscape
from jaxland.landscape.tree import merge_tree, monotonic_basins, skeleton


def random_landscape(seed, m=60, t=140):
    rng = np.random.default_rng(seed)
    energies = np.sort(rng.uniform(0, 1, m))
    ends = rng.integers(0, m, (t, 2))
    heights = np.maximum(energies[ends[:, 0]], energies[ends[:, 1]]) + rng.exponential(0.2, t)
    return Landscape.from_points(
        energies, rng.normal(size=(m, 3)), heights, ends, log_products=rng.normal(size=m), hits=rng.integers(1, 9, m)
    )


def double_funnel():
    """Funnel of 0 with 2 and 4 over small barriers, funnel of 1 with 3 and 5, a high pass between 4 and 5."""
    return Landscape.from_points(
        [0.0, 0.1, 1.0, 1.1, 2.0, 2.1],
        np.arange(12.0).reshape(6, 2),
        [1.2, 1.3, 2.1, 2.3, 4.0],
        [[0, 2], [1, 3], [2, 4], [3, 5], [4, 5]],
        hits=[10, 60, 5, 15, 5, 5],
        log_products=np.zeros(6),
    )


def test_a_double_funnel():
    land = double_funnel()
    found = funnels(land)
    assert found.depth == pytest.approx(0.4) and found.n == 2
    assert found.of.tolist() == [0, 1, 0, 1, 0, 1] and found.bottoms.tolist() == [0, 1]
    assert found.sizes.tolist() == [3, 3] and found.hits.tolist() == [20, 80]
    assert found.depths.tolist() == [np.inf, 3.9] and found.barriers.tolist() == pytest.approx([0, 3.9])
    assert found.members(1).tolist() == [1, 3, 5] and found.basins.tolist() == [1, 1]
    assert found.means([0, 1, 2, np.nan, 4, 3]).tolist() == [2, 2]
    # Towards its own bottom: (1.2 / 1.0 + 2.1 / 2.0) / 2.
    assert found.frustration[0] == pytest.approx(1.125)
    table = found.to_pandas()
    assert table["found"].tolist() == [0.2, 0.8] and "<table" in found._repr_html_()
    assert funnels(land, 5.0).n == 1 and funnels(land, 0.0).n == 6
    # The second funnel's bottom has no lower neighbour: an end of monotonic sequences too.
    by_sequence = funnels(land, bottoms=monotonic_basins(land))
    assert by_sequence.of.tolist() == found.of.tolist() and math.isnan(by_sequence.depth)
    cold = funnels(land, temperature=0.01)
    assert cold.occupations == pytest.approx([1, 0], abs=1e-4) and "occupation" in cold.to_pandas()
    assert cold.occupations.sum() == pytest.approx(1)


def test_frustration_by_hand():
    land = double_funnel()
    ratio = np.array([4.0 / 0.1, 1.2 / 1.0, 4.0 / 1.1, 2.1 / 2.0, 4.0 / 2.1])
    assert frustration(land) == pytest.approx(ratio.mean())
    p = np.exp(-land.energies[1:] / 0.3)
    assert frustration(land, 0.3) == pytest.approx((p * ratio).sum() / p.sum())
    assert frustration(land, members=[1, 3, 5]) == pytest.approx((1.2 / 1.0 + 2.2 / 2.0) / 2)
    assert math.isnan(frustration(land, members=[3]))
    downhill = Landscape.from_points([0.0, 1.0, 2.0], np.zeros((3, 1)), [1.0, 2.0], [[0, 1], [1, 2]])
    assert frustration(downhill) == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(6))
def test_funnels_are_the_deep_parts_of_the_merge_tree(seed):
    """By definition: a bottom is a minimum with no lower one within depth; every other follows its cheapest climb."""
    land = random_landscape(seed)
    graph = nx.Graph()
    graph.add_nodes_from(range(land.n_minima))
    for (i, j), e in zip(land.ts_ends.tolist(), land.ts_energies.tolist()):
        if i != j and e < graph.get_edge_data(i, j, {"e": np.inf})["e"]:
            graph.add_edge(i, j, e=e)
    climbs = np.full(land.n_minima, np.inf)
    for i in range(land.n_minima):
        heights = network.barriers(land, i)
        climbs[i] = min(heights[:i], default=np.inf) - land.energies[i]
    np.testing.assert_allclose(depths(land), climbs, rtol=1e-12)
    for depth in (0.05, 0.3):
        found = funnels(land, depth)
        assert found.bottoms.tolist() == np.flatnonzero(climbs >= depth).tolist()
        for i in range(land.n_minima):
            assert land.energies[found.bottoms[found.of[i]]] <= land.energies[i]
            if climbs[i] < depth:
                joined = network.barriers(land, i)[: i + 1] <= climbs[i] + land.energies[i] + 1e-12
                assert found.of[i] == found.of[np.flatnonzero(joined)[0]]
        assert found.sizes.sum() == land.n_minima and found.hits.sum() == land.hits.sum()


@pytest.mark.parametrize("seed", range(4))
def test_a_skeleton_keeps_the_barriers(seed):
    land = random_landscape(seed)
    whole = merge_tree(land.energies, land.ts_energies, land.ts_ends)
    for kept in (np.unique(monotonic_basins(land)), np.array([3, 17, 40, 41, 59]), np.array([5])):
        part = skeleton(land, kept)
        assert part.n_minima == len(kept) and part.energies.tolist() == land.energies[kept].tolist()
        tree = merge_tree(part.energies, part.ts_energies, part.ts_ends)
        for a in range(len(kept)):
            for b in range(a):
                assert tree.barrier(a, b) == whole.barrier(kept[a], kept[b])
        assert part.n_ts == part.n_minima - part.components().max() - 1
    with pytest.raises(ArgumentError, match=r"0\.\.59"):
        skeleton(land, [60])
    with pytest.raises(ArgumentError, match="at least one"):
        skeleton(land, [])


def test_pieces_and_single_minima():
    lone = Landscape.from_points([0.5], [[1.0]], log_products=[0.0])
    assert funnels(lone).n == 1 and funnels(lone, temperature=1.0).occupations.tolist() == [1.0]
    apart = Landscape.from_points([0.0, 0.2, 0.3], np.zeros((3, 1)), [0.5], [[1, 2]])
    found = funnels(apart, 0.1)
    assert found.of.tolist() == [0, 1, 2] and found.depths.tolist() == [np.inf, np.inf, pytest.approx(0.2)]
    assert found.barriers.tolist() == [0, np.inf, np.inf]
    assert math.isnan(frustration(apart))


def test_bad_arguments_are_named():
    land = double_funnel()
    for call, words in [
        (lambda: funnels(land, -1.0), "not negative"),
        (lambda: funnels(land, math.nan), "finite"),
        (lambda: funnels(land, 0.1, bottoms=np.zeros(6, int)), "either"),
        (lambda: funnels(land, bottoms=[0, 0]), "each of the 6 minima"),
        (lambda: funnels(land, bottoms=[1, 1, 1, 1, 1, 1]), "lowest one of its group"),
        (lambda: funnels(land, temperature=0), "positive"),
        (lambda: funnels(Landscape.from_points([], np.zeros((0, 1)))), "no minima"),
        (lambda: funnels(land).members(2), r"only 0\.\.1"),
        (lambda: frustration(land, members=[9]), "no minimum 9"),
    ]:
        with pytest.raises(ArgumentError, match=words):
            call()
