import itertools
import math

import networkx as nx
import numpy as np
import pytest

from jaxland.errors import ArgumentError, DataError
from jaxland.landscape import network
from jaxland.landscape.network import UnionFind, components, kruskal
from jaxland.landscape.result import Landscape
from jaxland.landscape.tree import default_levels, energy_windows, level_cut, merge_tree, monotonic_basins


def random_landscape(seed, m=40, t=90):
    rng = np.random.default_rng(seed)
    energies = rng.uniform(0, 1, m)
    ends = rng.integers(0, m, (t, 2))
    heights = np.maximum(energies[ends[:, 0]], energies[ends[:, 1]]) + rng.exponential(0.2, t)
    return Landscape.from_points(energies, rng.normal(size=(m, 6)), heights, ends, hits=rng.integers(1, 9, m))


def small():
    """Two double wells and a lone minimum; two states join 0 and 1, one state joins 0 with itself."""
    return Landscape.from_points(
        [0.0, 0.1, 0.2, 0.3, 0.45],
        np.arange(10.0).reshape(5, 2),
        [0.25, 0.5, 0.35, 0.9, 0.6],
        [[0, 1], [0, 1], [2, 3], [1, 2], [0, 0]],
    )


def test_points_are_sorted_and_ends_follow():
    land = Landscape.from_points([3.0, 1.0, 2.0], [[3.0], [1.0], [2.0]], [5.0, 4.0], [[0, 1], [1, 2]], hits=[7, 8, 9])
    assert land.energies.tolist() == [1, 2, 3] and land.coordinates.ravel().tolist() == [1, 2, 3]
    assert land.ts_energies.tolist() == [4, 5] and land.ts_ends.tolist() == [[0, 1], [2, 0]]
    assert land.hits.tolist() == [8, 9, 7] and land.best.tolist() == [1]


def test_graph_keeps_parallel_states_and_leaves_out_degenerate_ones():
    graph = small().to_networkx()
    assert graph.number_of_nodes() == 5 and graph.number_of_edges() == 4
    assert graph.number_of_edges(0, 1) == 2 and not list(nx.selfloop_edges(graph))
    assert graph.nodes[0]["degenerate"] == [3] and graph.nodes[1]["degenerate"] == []
    assert sorted(d["energy"] for d in graph.get_edge_data(0, 1).values()) == [0.25, 0.5]


def test_components_tables_and_parts():
    land = small()
    assert land.components().tolist() == [0, 0, 0, 0, 1]
    part = land.connected()
    assert part.n_minima == 4 and part.n_ts == 5
    assert land.restricted(np.array([2, 3])).ts_ends.tolist() == [[0, 1]]
    assert list(land.to_pandas()["component"]) == [0, 0, 0, 0, 1]
    assert land.to_pandas("transition_states")["degenerate"].sum() == 1
    assert "5 minima" in land.describe() and "2 components" in land._repr_html_()
    assert (network.components(40, random_landscape(3).ts_ends) == random_landscape(3).components()).all()


@pytest.mark.parametrize("seed", range(8))
def test_merge_tree_against_networkx(seed):
    land = random_landscape(seed)
    tree = merge_tree(land.energies, land.ts_energies, land.ts_ends)
    graph = nx.Graph(nx.minimum_spanning_edges(land.to_networkx(), weight="energy", data=True, keys=False))
    graph.add_nodes_from(range(land.n_minima))
    barriers = network.barriers(land, 5)
    for i in range(land.n_minima):
        for j in range(i):
            if nx.has_path(graph, i, j):
                path = nx.shortest_path(graph, i, j)
                exact = max(graph[a][b]["energy"] for a, b in itertools.pairwise(path))
            else:
                exact = math.inf
            assert tree.barrier(i, j) == exact
        assert barriers[i] == (tree.barrier(i, 5))
    every = np.arange(land.n_minima)
    np.testing.assert_array_equal(tree.barriers(every, 5), barriers)
    np.testing.assert_array_equal(
        tree.barriers(every[:, None], every), [[tree.barrier(i, j) for j in every] for i in every]
    )
    assert len(tree.energies) == land.n_minima - land.components().max() - 1
    assert (np.diff(tree.energies) >= 0).all()
    root = int(np.flatnonzero(tree.parents == -1)[-1])
    assert set(tree.members(root)) == set(
        np.flatnonzero(land.components() == land.components()[tree.members(root)[0]])
    )


@pytest.mark.parametrize("seed", range(4))
def test_groups_of_each_level_against_networkx(seed):
    land = random_landscape(seed)
    cut = level_cut(land, first=1.6, delta=0.07)
    assert cut.levels == max(level for level in range(1, 200) if land.energies[0] < 1.6 - (level - 1) * 0.07 + 0.07)
    for level in range(1, cut.levels + 1):
        e = 1.6 - (level - 1) * 0.07
        graph = nx.Graph()
        graph.add_nodes_from(np.flatnonzero(land.energies < e + 0.07).tolist())
        graph.add_edges_from(land.ts_ends[land.ts_energies < e].tolist())
        expected = sorted((sorted(c) for c in nx.connected_components(graph)), key=lambda c: c[0])
        got = cut.groups(level)
        assert list(got) == [f"{level}_{k + 1}" for k in range(len(expected))]
        assert [g.tolist() for g in got.values()] == expected
        for name, members in got.items():
            assert cut.group(name).tolist() == members.tolist()
            assert cut.name_of(int(members[0]), level) == name
    assert cut.name_of(land.n_minima - 1, cut.levels) is None
    assert len(cut.to_pandas()) == sum(len(cut.groups(level)) for level in range(1, cut.levels + 1))
    distinct = cut.distinct(3)
    assert len({g.tobytes() for _, _, g in distinct}) == len(distinct)


def test_named_groups():
    cut = level_cut(small(), first=1.0, delta=0.2)
    assert cut.energies.tolist() == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.0])
    assert {k: v.tolist() for k, v in cut.groups(1).items()} == {"1_1": [0, 1, 2, 3], "1_2": [4]}
    assert {k: v.tolist() for k, v in cut.groups(4).items()} == {"4_1": [0, 1], "4_2": [2, 3], "4_3": [4]}
    assert [v.tolist() for v in cut.groups(5).values()] == [[0], [1], [2], [3]]
    assert [v.tolist() for v in cut.groups(6).values()] == [[0], [1]]
    for name in ("9_1", "1_3", "one", "1_0"):
        with pytest.raises(ArgumentError):
            cut.group(name)


def test_default_levels_are_round_and_cover_everything():
    land = random_landscape(1, 200, 700)
    tree = merge_tree(land.energies, land.ts_energies, land.ts_ends)
    first, delta = default_levels(tree)
    cut = level_cut(land)
    assert first > tree.energies.max() and 20 <= cut.levels <= 160
    assert f"{delta:.1e}"[:3] in ("1.0", "2.0", "2.5", "5.0")
    assert len(cut.groups(1)) == land.components().max() + 1
    single = Landscape.from_points([0.5], [[1.0]])
    assert level_cut(single).groups(1)["1_1"].tolist() == [0]


def test_energy_windows_are_the_lowest_minima():
    land = random_landscape(4)
    cut = energy_windows(land, (5, 10, 100))
    assert [name for name, _, _ in cut.distinct()] == ["1_1", "2_1"]
    assert cut.group("1_1").tolist() == list(range(10)) and cut.group("2_1").tolist() == list(range(5))
    assert cut.energies.tolist() == land.energies[[10, 5]].tolist()
    with pytest.raises(ArgumentError, match="40 minima"):
        energy_windows(land, (100,))


def test_lowest_path_is_minimax():
    land = random_landscape(2)
    tree = merge_tree(land.energies, land.ts_energies, land.ts_ends)
    for j in range(1, land.n_minima):
        minima, states = network.lowest_path(land, 0, j)
        if not minima:
            assert math.isinf(tree.barrier(0, j))
            continue
        assert minima[0] == 0 and minima[-1] == j and len(states) == len(minima) - 1
        assert max(land.ts_energies[states]) == tree.barrier(0, j)
        for a, b, t in zip(minima, minima[1:], states):
            assert {a, b} == set(land.ts_ends[t])


def test_monotonic_basins():
    land = Landscape.from_points(
        [0.0, 0.1, 0.2, 0.3], np.zeros((4, 1)), [0.5, 0.6, 0.35, 0.4], [[0, 1], [0, 2], [1, 3], [2, 3]]
    )
    assert monotonic_basins(land).tolist() == [0, 0, 0, 0]
    assert monotonic_basins(small()).tolist() == [0, 0, 0, 0, 4]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"energies": np.array([0.0, np.nan])}, "finite"),
        ({"ts_ends": np.array([[0, 2]])}, "indices of the 2 minima"),
        ({"coordinates": np.zeros((3, 1))}, "coordinates has 3 entries where 2"),
    ],
)
def test_broken_arrays_are_refused(change, words):
    from dataclasses import replace

    land = Landscape.from_points([0.0, 1.0], np.zeros((2, 1)), [2.0], [[0, 1]])
    with pytest.raises(DataError, match=words):
        replace(land, **change)
    with pytest.raises(DataError, match="indices"):
        Landscape.from_points([0.0], [[1.0]], [2.0], [[0, 1]])
    with pytest.raises(ArgumentError, match="delta"):
        level_cut(land, delta=-1)
    with pytest.raises(ArgumentError, match="unknown columns"):
        Landscape.from_points([0.0], [[1.0]], hit=[1])


@pytest.mark.parametrize("seed", range(5))
def test_kruskal_and_components_against_union_find(seed):
    rng = np.random.default_rng(seed)
    n, t = int(rng.integers(1, 60)), int(rng.integers(0, 120))
    ends, heights = rng.integers(0, n, (t, 2)), np.round(rng.normal(size=t), 1)
    sets = UnionFind(n)
    kept = [k for k in np.argsort(heights, kind="stable").tolist() if sets.join(*ends[k].tolist())]
    assert kruskal(n, ends, heights).tolist() == kept
    np.testing.assert_array_equal(components(n, ends), sets.labels())
