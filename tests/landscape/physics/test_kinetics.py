import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from jaxland.errors import ArgumentError, DataError
from jaxland.landscape import network
from jaxland.landscape.physics import graph_transformation
from jaxland.landscape.physics.graph_transformation import absorb
from jaxland.landscape.physics.kinetics import RateNetwork
from jaxland.landscape.result import Landscape


def random_landscape(seed, m=60, t=150, barrier=0.2, connected=True):
    """Random minima, transition states above both ends, random widths and orbits; some parallel, some degenerate."""
    rng = np.random.default_rng(seed)
    energies = np.sort(rng.uniform(0, 1, m))
    ends = rng.integers(0, m, (t, 2))
    if connected:
        lower = (np.arange(1, m) * rng.random(m - 1)).astype(int)
        ends = np.concatenate([ends, np.stack([np.arange(1, m), lower], 1)])
    ends = np.concatenate([ends, ends[:5]])
    heights = np.maximum(energies[ends[:, 0]], energies[ends[:, 1]]) + rng.exponential(barrier, len(ends))
    return Landscape.from_points(
        energies,
        rng.normal(size=(m, 6)),
        heights,
        ends,
        log_products=rng.normal(size=m),
        ts_log_products=rng.normal(size=len(ends)),
        orbit_sizes=2.0 ** rng.integers(0, 4, m),
        ts_orbit_sizes=2.0 ** rng.integers(0, 4, len(ends)),
    )


def dense(rates, targets):
    """Mean first-passage times by a linear solve with the generator."""
    k = rates.generator().toarray()
    rest = np.setdiff1d(np.arange(rates.n), targets)
    out = np.zeros(rates.n)
    out[rest] = np.linalg.solve(k[np.ix_(rest, rest)], -np.ones(len(rest)))
    return out


@pytest.fixture(params=["plain", "logarithms"])
def arithmetic(request, monkeypatch):
    """Both ways to carry numbers."""
    if request.param == "logarithms":
        monkeypatch.setattr(graph_transformation, "RANGE", -1.0)
    return request.param


def test_rates_of_two_wells_by_hand():
    land = Landscape.from_points(
        [0.0, 0.3],
        np.zeros((2, 3)),
        [0.7, 0.9, 0.5],
        [[0, 1], [1, 0], [1, 1]],
        log_products=[math.log(2 * 3 * 4), math.log(1 * 5 * 2)],
        ts_log_products=[math.log(2 * 6), math.log(3.0), 0.1],
        orbit_sizes=[4, 8],
        ts_orbit_sizes=[8, 2, 1],
    )
    t = 0.2
    rates = RateNetwork.of(land, t)
    # Square roots of eigenvalues are angular frequencies at mass 1; o_a / o_ts = orbit_ts / orbit_a.
    there = 8 / 4 * math.sqrt(24 / 12) * math.exp(-0.7 / t) + 2 / 4 * math.sqrt(24 / 3) * math.exp(-0.9 / t)
    back = 8 / 8 * math.sqrt(10 / 12) * math.exp(-0.4 / t) + 2 / 8 * math.sqrt(10 / 3) * math.exp(-0.6 / t)
    np.testing.assert_allclose(np.exp(rates.log_rates[0]) * 2 * math.pi, [there, back], rtol=1e-13)
    assert rates.states.tolist() == [land.ts_energies.tolist().index(0.7)]
    k = rates.rate_constants([0], [1])
    for log in (k.log_ab, k.log_ab_waiting, -k.log_time_ab):
        assert log == pytest.approx(rates.log_rates[0, 1], abs=1e-13)
    for log in (k.log_ba, k.log_ba_waiting, -k.log_time_ba):
        assert log == pytest.approx(rates.log_rates[0, 0], abs=1e-13)


@pytest.mark.parametrize("seed", range(5))
def test_detailed_balance(seed):
    rates = RateNetwork.of(random_landscape(seed), 0.05)
    p, k = rates.occupations, rates.generator().toarray()
    flux = p[:, None] * k
    np.testing.assert_allclose(flux, flux.T, rtol=1e-12, atol=1e-12 * np.abs(np.diag(flux)).min())
    np.testing.assert_allclose(p @ k, 0, atol=1e-10 * np.abs(flux).max())
    found = rates.rate_constants([0, 1, 2], [40, 41])
    assert found.log_ab - found.log_ba == pytest.approx(found.log_equilibrium, abs=1e-12)


@pytest.mark.parametrize("seed, m, t", [(0, 5, 4), (1, 30, 30), (2, 60, 150), (3, 300, 900), (4, 500, 4000)])
def test_first_passage_against_a_dense_solve(seed, m, t, arithmetic):
    rates = RateNetwork.of(random_landscape(seed, m, t), 0.2)
    for targets in ([0], [m - 1], [0, 1, m // 2]):
        np.testing.assert_allclose(rates.first_passage(targets).times, dense(rates, targets), rtol=1e-9)


@pytest.mark.parametrize("seed, m, t", [(1, 30, 30), (2, 60, 150), (3, 300, 900)])
def test_committors_and_rate_constants_against_dense_solves(seed, m, t, arithmetic):
    rates = RateNetwork.of(random_landscape(seed, m, t), 0.2)
    a, b = np.array([0, 3]), np.array([m - 1, m - 2, 7])
    k, p = rates.generator().toarray(), rates.occupations
    between = np.setdiff1d(np.arange(m), np.r_[a, b])
    committor = rates.committor(a, b)
    inner = k[np.ix_(between, between)]
    q = np.zeros(m)
    q[a], q[between] = 1, np.linalg.solve(inner, -k[np.ix_(between, a)].sum(1))
    np.testing.assert_allclose(committor.to_a, q, rtol=1e-9)
    np.testing.assert_allclose(committor.to_a + committor.to_b, 1, rtol=1e-12)
    found = rates.rate_constants(a, b)
    off = k - np.diag(np.diag(k))
    escape, share = -np.diag(k), off / -np.diag(k)[:, None]
    # Wales 2009: committor of a start in b that counts a return to B as failure, over the waiting time.
    success = share[b] @ q
    steady = (p[b] * success * escape[b]).sum() / p[b].sum()
    to_both = np.zeros(m)
    to_both[between] = np.linalg.solve(inner, -np.ones(len(between)))
    waiting = (p[b] * success / (1 / escape[b] + share[b] @ to_both)).sum() / p[b].sum()
    mean = (p[b] * dense(rates, a)[b]).sum() / p[b].sum()
    assert math.exp(found.log_ab) == pytest.approx(steady, rel=1e-9)
    assert math.exp(found.log_ab_waiting) == pytest.approx(waiting, rel=1e-9)
    assert math.exp(found.log_time_ab) == pytest.approx(mean, rel=1e-9)
    back = rates.rate_constants(b, a)
    assert (back.log_ab, back.log_time_ab) == pytest.approx((found.log_ba, found.log_time_ba))
    assert "A <- B" in found.to_pandas().index and "<table" in found._repr_html_()


def exact(n, edges, weights, terminals):
    """Times and hits of terminal 0 by Gauss-Jordan elimination in rational arithmetic."""
    inner = [i for i in range(n) if terminals[i] < 0]
    place = {i: k for k, i in enumerate(inner)}
    rows = [[Fraction(0)] * (len(inner) + 2) for _ in inner]
    for k, i in enumerate(inner):
        rows[k][-2] = weights[i]
    for (i, j), c in edges.items():
        for x, y in ((i, j), (j, i)):
            if x in place:
                rows[place[x]][place[x]] += c
                if y in place:
                    rows[place[x]][place[y]] -= c
                elif terminals[y] == 0:
                    rows[place[x]][-1] += c
    for k in range(len(inner)):
        pivot = next(r for r in range(k, len(inner)) if rows[r][k] != 0)
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [v / rows[k][k] for v in rows[k]]
        for r in range(len(inner)):
            if r != k and rows[r][k] != 0:
                factor = rows[r][k]
                rows[r] = [a - factor * b for a, b in zip(rows[r], rows[k])]
    return inner, [row[-2] for row in rows], [row[-1] for row in rows]


def log_of(value):
    return math.log(value.numerator) - math.log(value.denominator)


@pytest.mark.parametrize("exponent", [15, 40, 200])
@pytest.mark.parametrize("shape", ["ladder", "random"])
def test_rates_far_apart_against_rational_arithmetic(exponent, shape, arithmetic):
    rng = np.random.default_rng(exponent)
    n = 24
    if shape == "ladder":
        # Two traps joined by the smallest rates, with fast exchange inside each: nearly singular for a linear solve.
        pairs = [(i, i + 1) for i in range(n - 1)] + [(i, i + 2) for i in range(n - 2)]
        powers = [-exponent if {i, j} & {7, 8} and {i, j} & {9, 10} else 0 for i, j in pairs]
    else:
        pairs = sorted({tuple(sorted(p)) for p in rng.integers(0, n, (60, 2)).tolist() if p[0] != p[1]})
        pairs = sorted({*pairs, *((i, i + 1) for i in range(n - 1))})
        powers = rng.integers(-exponent, 1, len(pairs)).tolist()
    edges = {p: Fraction(int(rng.integers(1, 1000)), 1000) * Fraction(10) ** int(e) for p, e in zip(pairs, powers)}
    weights = [Fraction(10) ** int(e) for e in rng.integers(-exponent // 3, 1, n)]
    terminals = np.full(n, -1)
    terminals[0], terminals[n - 1] = 0, 1
    inner, times, hits = exact(n, edges, weights, terminals)
    got = absorb(pairs, [log_of(c) for c in edges.values()], [log_of(w) for w in weights], terminals)
    np.testing.assert_allclose(got.log_times[inner], [log_of(v) for v in times], rtol=0, atol=1e-9)
    np.testing.assert_allclose(got.log_hits[0, inner], [log_of(v) for v in hits], rtol=0, atol=1e-9)
    if shape == "ladder" and exponent == 15:
        matrix = np.zeros((n, n))
        for (i, j), c in edges.items():
            matrix[i, j] = matrix[j, i] = -float(c)
        np.fill_diagonal(matrix, -matrix.sum(1))
        part = np.arange(n) != 0
        whole = exact(n, edges, weights, np.where(np.arange(n) == 0, 0, -1))
        naive = np.linalg.solve(matrix[np.ix_(part, part)], [float(weights[i]) for i in range(1, n)])
        error = abs(naive[-1] / float(whole[1][-1]) - 1)
        ours = absorb(pairs, [log_of(c) for c in edges.values()], [log_of(w) for w in weights], np.where(part, -1, 0))
        assert error > 1e-6 > 1e-9 > abs(ours.log_times[-1] - log_of(whole[1][-1]))


def test_probabilities_below_the_range_of_floats():
    """A chain that loses all but e^-300 at every step: the committor is e^-3000."""
    n = 11
    ends = [[i, i + 1] for i in range(n - 1)] + [[i, n] for i in range(1, n - 1)]
    logs = [-300.0] * (n - 1) + [0.0] * (n - 2)
    terminals = np.full(n + 1, -1)
    terminals[n - 1], terminals[[0, n]] = 0, 1
    got = absorb(ends, logs, np.zeros(n + 1), terminals)
    np.testing.assert_allclose(got.log_hits[0, 1 : n - 1], -300.0 * np.arange(n - 2, 0, -1), rtol=1e-12)
    np.testing.assert_allclose(got.log_hits[1, 1 : n - 1], 0, atol=1e-12)


def test_cold_rates_beyond_the_range_of_floats():
    rates = RateNetwork.of(random_landscape(3, 40, 80), 1e-4)
    assert np.ptp(rates.log_rates) > 3000
    times = rates.first_passage([0]).log_times
    heights = network.barriers(random_landscape(3, 40, 80), 0) - random_landscape(3, 40, 80).energies
    # At low temperature T ln(time) tends to the highest climb of the way down.
    assert np.isfinite(times[1:]).all() and (1e-4 * times[1:] >= heights[1:] - 0.01).all()
    assert (1e-4 * times[1:] <= 1 + 0.01).all()


def test_networks_in_pieces():
    land = Landscape.from_points(
        [0.0, 0.1, 0.2, 0.3, 0.4], np.zeros((5, 2)), [0.5, 0.6], [[0, 1], [2, 3]], log_products=np.zeros(5),
        ts_log_products=np.zeros(2),
    )  # fmt: skip
    rates = RateNetwork.of(land, 0.1)
    assert np.isfinite(rates.first_passage([1]).times).tolist() == [True, True, False, False, False]
    assert rates.first_passage([0, 1, 2, 3, 4]).times.tolist() == [0] * 5
    assert rates.waiting_times[4] == np.inf and rates.generator().shape == (5, 5)
    found = rates.committor([0], [3])
    assert found.to_a.tolist() == pytest.approx([1, 1, 0, 0, 0])
    assert found.to_b.tolist() == pytest.approx([0, 0, 1, 1, 0])
    with pytest.raises(ArgumentError, match=r"minimum 0 of A has no path.*connected\(\)"):
        rates.rate_constants([0], [3])
    with pytest.raises(ArgumentError, match="minimum 2 of B"):
        rates.rate_constants([0], [1, 2])
    assert rates.fastest_paths(0, 3) == []


@pytest.mark.parametrize("seed", range(4))
def test_fastest_paths_against_all_paths(seed):
    import networkx as nx

    rates = RateNetwork.of(random_landscape(seed, 9, 10), 0.1)
    k = rates.generator().toarray()
    share = (k - np.diag(np.diag(k))) / -np.diag(k)[:, None]
    graph = nx.Graph(rates.ends.tolist())
    every = {
        tuple(path): math.prod(share[i, j] for i, j in itertools.pairwise(path))
        for path in nx.all_simple_paths(graph, 0, 8)
    }
    best = sorted(every.values(), reverse=True)
    found = rates.fastest_paths(0, 8, 3)
    np.testing.assert_allclose([math.exp(p.log_probability) for p in found], best[:3], rtol=1e-12)
    assert rates.fastest_paths(0, 8)[0].minima == found[0].minima
    land = random_landscape(seed, 9, 10)
    for path in found:
        assert math.exp(path.log_probability) == pytest.approx(every[path.minima])
        for a, b, t in zip(path.minima, path.minima[1:], path.states):
            assert {a, b} == set(land.ts_ends[t])
        assert path.highest == land.ts_energies[list(path.states)].max()
        assert path.barrier == path.highest - land.energies[0]
        assert path.highest >= network.barriers(land, 0)[8]


def test_bad_arguments_are_named():
    land = random_landscape(0)
    rates = RateNetwork.of(land, 0.1)
    for call, words in [
        (lambda: RateNetwork.of(land, 0), "positive"),
        (lambda: RateNetwork.of(land, [0.1, 0.2]), "one temperature, got 2"),
        (lambda: RateNetwork.of(land, math.nan), "positive"),
        (lambda: rates.first_passage([]), "targets must hold at least one"),
        (lambda: rates.first_passage([60]), r"no minimum 60, only 0\.\.59"),
        (lambda: rates.first_passage([-1]), "no minimum -1"),
        (lambda: rates.first_passage([0.5]), "integers"),
        (lambda: rates.committor([1, 2], [2, 3]), "overlap; minimum 2"),
        (lambda: rates.fastest_paths(3, 3), "both minimum 3"),
        (lambda: rates.fastest_paths(3, 99), "end: there is no minimum 99"),
        (lambda: rates.fastest_paths(3, 4, 0), "count"),
    ]:
        with pytest.raises(ArgumentError, match=words):
            call()
    bare = Landscape.from_points(
        land.energies, land.coordinates, land.ts_energies, land.ts_ends, log_products=land.log_products
    )
    with pytest.raises(DataError, match=r"transition states have no log product.*with_log_products.*vibrations"):
        RateNetwork.of(bare, 0.1)
    assert RateNetwork.of(bare, 0.1, vibrations=False).first_passage([0]).times[5] > 0


@pytest.mark.parametrize("kind", ["random", "geometric"])
def test_large_networks_agree_in_both_arithmetics(kind, monkeypatch):
    """Large enough for the dense part to run over several panels."""
    rng = np.random.default_rng(1)
    n = 900
    ends = rng.integers(0, n, (3 * n, 2))
    if kind == "geometric":
        from scipy.spatial import cKDTree

        near = cKDTree(rng.normal(size=(n, 3))).query(rng.normal(size=(n, 3)), 6)[1]
        ends = np.stack([np.repeat(np.arange(n), 6), near.ravel()], 1)
    ends = np.concatenate([ends, np.stack([np.arange(n - 1), np.arange(1, n)], 1)])
    logs, weights = 4 * rng.normal(size=len(ends)), rng.normal(size=n)
    terminals = np.full(n, -1)
    terminals[:3], terminals[-3:] = 0, 1
    plain = absorb(ends, logs, weights, terminals)
    monkeypatch.setattr(graph_transformation, "RANGE", -1.0)
    carried = absorb(ends, logs, weights, terminals)
    inner = terminals < 0
    np.testing.assert_allclose(carried.log_times[inner], plain.log_times[inner], atol=1e-11)
    np.testing.assert_allclose(carried.log_hits[:, inner], plain.log_hits[:, inner], atol=1e-11)
    # So far apart that matrix products underflow: against one panel, which needs none.
    logs = 800 * logs
    blocks = absorb(ends, logs, weights, terminals)
    monkeypatch.setattr(graph_transformation, "PANEL", n)
    single = absorb(ends, logs, weights, terminals)
    np.testing.assert_allclose(blocks.log_times[inner], single.log_times[inner], rtol=1e-13)
    np.testing.assert_allclose(blocks.log_hits[:, inner], single.log_hits[:, inner], rtol=1e-12, atol=1e-11)
