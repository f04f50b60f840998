import math

import jax.numpy as jnp
import numpy as np
import pytest

from jaxland import Problem, mlp
from jaxland.errors import ArgumentError, DataError, ProblemError
from jaxland.landscape import explore, level_cut
from jaxland.landscape.physics.thermodynamics import (
    default_temperatures,
    log_weights,
    thermodynamics,
    with_log_products,
)
from jaxland.landscape.result import Landscape
from jaxland.problem.symmetry import Symmetry


def wells(energies, curvatures, orbits=None, **columns):
    """Minima with Hessians of given eigenvalues [M, N], joined in a chain."""
    curvatures = np.asarray(curvatures, float)
    m, n = curvatures.shape
    return Landscape.from_points(
        energies,
        np.zeros((m, n)),
        np.full(m - 1, max(energies) + 1.0),
        [[i, i + 1] for i in range(m - 1)],
        log_products=np.log(curvatures).sum(1),
        orbit_sizes=np.ones(m) if orbits is None else orbits,
        **columns,
    )


def random_wells(seed, m=20, n=7):
    rng = np.random.default_rng(seed)
    return wells(np.sort(rng.uniform(-3, -2, m)), np.exp(rng.normal(size=(m, n))), rng.integers(1, 9, m))


def test_two_wells_by_hand():
    low, high = 4.0 * np.ones(3), 0.25 * np.ones(3)
    land = wells([-1.0, -0.4], [low, high])
    t = np.array([0.05, 0.1, 0.2, 0.4, 3.0])
    got = thermodynamics(land, t)
    # (2 pi T)^(3/2) e^(-E/T) / sqrt(det H), basin by basin.
    parts = [(2 * np.pi * t) ** 1.5 * np.exp(-e / t) / math.sqrt(np.prod(h)) for e, h in ((-1.0, low), (-0.4, high))]
    np.testing.assert_allclose(np.exp(-got.free_energies / t), parts[0] + parts[1], rtol=1e-11)
    np.testing.assert_allclose(got.occupations[:, 1], parts[1] / (parts[0] + parts[1]), rtol=1e-12)
    np.testing.assert_allclose(np.exp(-got.minima / t[:, None]), np.stack(parts, 1), rtol=1e-11)
    gap, ratio = 0.6, parts[1] / parts[0]
    np.testing.assert_allclose(
        got.heat_capacities, 1.5 + (gap / t) ** 2 * ratio / (1 + ratio) ** 2, rtol=1e-12
    )  # Schottky
    np.testing.assert_allclose(got.energies, 1.5 * t - 1.0 + gap * ratio / (1 + ratio), rtol=1e-12)
    # The wide well takes over where gap = T ln(sqrt(det H_1 / det H_2)).
    cross = gap / math.log(64.0)
    fine = thermodynamics(land, np.linspace(0.9, 1.1, 401) * cross)
    (found,) = fine.crossings()
    assert found[0] == pytest.approx(cross, rel=2e-3) and found[1:] == (0, 1)
    assert got.lowest.tolist() == [0, 0, 1, 1, 1]
    q = got.occupations[2]
    assert got.effective[2] == pytest.approx(math.exp(-(q * np.log(q)).sum()), rel=1e-12)
    assert fine.effective[200] == pytest.approx(2, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_heat_capacity_entropy_and_energy_are_derivatives_of_the_free_energy(seed):
    land = random_wells(seed)
    for t in (0.03, 0.1, 0.5, 4.0):
        h = 1e-3 * t
        at = thermodynamics(land, [t - h, t, t + h])
        first = (at.free_energies[2] - at.free_energies[0]) / (2 * h)
        second = (at.free_energies[2] - 2 * at.free_energies[1] + at.free_energies[0]) / h**2
        assert at.entropies[1] == pytest.approx(-first, rel=1e-5)
        assert at.heat_capacities[1] == pytest.approx(-t * second, rel=1e-4)
        assert at.heat_capacities[1] == pytest.approx((at.energies[2] - at.energies[0]) / (2 * h), rel=1e-5)
        assert at.energies[1] == pytest.approx(at.free_energies[1] + t * at.entropies[1], rel=1e-12)


def test_a_harmonic_well_has_its_exact_integral():
    """One minimum: Z is a Gaussian integral, Cv is kappa / 2 at every temperature."""
    land = wells([0.3], [[2.0, 5.0]])
    grid = np.linspace(-12, 12, 2001)
    x, y = np.meshgrid(grid, grid)
    for t in (0.5, 1.5):
        z = np.exp(-(0.3 + x**2 + 2.5 * y**2) / t).sum() * (grid[1] - grid[0]) ** 2
        got = thermodynamics(land, t)
        assert got.free_energies[0] == pytest.approx(-t * math.log(z), rel=1e-9)
        assert got.heat_capacities[0] == 1.0 and got.occupations.tolist() == [[1.0]]


def test_occupation_goes_with_the_number_of_images():
    curvatures = np.ones((2, 3))
    even = thermodynamics(wells([0.0, 0.0], curvatures, [6, 6]), 1.0).occupations[0]
    half = thermodynamics(wells([0.0, 0.0], curvatures, [6, 3]), 1.0).occupations[0]
    assert even == pytest.approx([0.5, 0.5], rel=1e-14) and half == pytest.approx([2 / 3, 1 / 3])
    # o = order / orbit: doubling o halves Z.
    single, double = (log_weights(wells([0.0], np.ones((1, 3)), [k]), 1.0, group_order=6)[0, 0] for k in (6, 3))
    assert double == pytest.approx(single - math.log(2))
    # The order of the group shifts F and nothing else.
    land = random_wells(1)
    plain, shifted = thermodynamics(land, [0.1, 0.2]), thermodynamics(land, [0.1, 0.2], group_order=48)
    np.testing.assert_allclose(shifted.free_energies - plain.free_energies, np.array([0.1, 0.2]) * math.log(48))
    np.testing.assert_allclose(shifted.occupations, plain.occupations, rtol=1e-12)


def test_zero_modes_are_no_vibrations():
    class Ring(Symmetry):
        zero_modes = 6

        def order(self):
            return 2

    class Cluster:
        symmetry = Ring()

    from dataclasses import replace

    land = replace(random_wells(0, 5, 9), problem=Cluster())
    got = thermodynamics(land, 1e-6)
    assert got.modes == 3 and got.heat_capacities[0] == pytest.approx(1.5)
    assert thermodynamics(land, 1.0, modes=5).modes == 5


def test_very_low_and_very_high_temperatures_stay_finite():
    land = random_wells(2)
    got = thermodynamics(land, [1e-300, 1e-30, 1e-6, 1e6, 1e30])
    for name in ("free_energies", "energies", "heat_capacities", "occupations", "effective"):
        assert np.isfinite(getattr(got, name)).all(), name
    assert got.occupations[0, 0] == 1 and got.heat_capacities[[0, -1]] == pytest.approx([3.5, 3.5])


def test_orbits_too_large_for_a_float():
    """160 hidden tanh units have 2^160 160! = e^767 images; their ratio still counts."""
    problem = Problem.from_model(mlp((1, 160, 1)), np.zeros((3, 1)), np.zeros(3), loss="squared_error", l2=1.0)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(2, problem.size))
    units = problem.symmetry.units[0]
    points[1, units[0]] = 0.0
    land = Landscape.from_points(
        [0.0, 0.0], points, problem=problem, log_products=[0.0, 0.0], orbit_sizes=[np.inf, np.inf]
    )
    assert thermodynamics(land, 1.0).occupations[0] == pytest.approx([2 / 3, 1 / 3], rel=1e-9)


def test_groups_and_tables():
    land = random_wells(3)
    got = thermodynamics(land, [0.02, 0.2])
    cut = level_cut(land)
    level = next(k for k in range(1, cut.levels + 1) if len(cut.groups(k)) > 1)
    table = got.groups(cut.groups(level))
    assert list(table.columns) == list(cut.groups(level)) and table.index.name == "temperature"
    np.testing.assert_allclose(
        table.to_numpy().sum(1), got.occupations[:, cut.nodes[level - 1] > 0].sum(1), rtol=1e-12
    )
    assert got.groups([[0, 1], range(2, 20)]).to_numpy().sum(1) == pytest.approx([1, 1])
    assert len(got.to_pandas()) == 2 and got.to_pandas("occupations").shape == (2, 20)
    assert "<table" in got._repr_html_()
    with pytest.raises(ArgumentError, match="group x: there is no minimum 20"):
        got.groups({"x": [20]})


def test_default_temperatures_cover_the_change_of_occupation():
    land = random_wells(5)
    t = default_temperatures(land)
    got = thermodynamics(land)
    assert (np.diff(t) > 0).all() and len(got.temperatures) == len(t)
    assert got.occupations[0, 0] > 0.9 and got.heat_capacities.max() > 1.2 * 3.5
    problem = Problem.from_model(mlp((1, 2, 1)), np.zeros((7, 1)), np.zeros(7), loss="squared_error")
    pair = Landscape.from_points([0.1, 0.2], np.zeros((2, problem.size)), problem=problem, log_products=[0, 0])
    assert 1 / 7 in default_temperatures(pair)
    assert len(default_temperatures(Landscape.from_points([0.5], [[1.0]]))) == 120


@pytest.mark.parametrize(
    "t, words",
    [(0, "positive"), (-1.0, "positive"), ([0.1, np.nan], "position 1"), ([], "shape"), (np.inf, "finite")],
)
def test_bad_temperatures(t, words):
    with pytest.raises(ArgumentError, match=words):
        thermodynamics(random_wells(0), t)


def test_missing_columns_are_named_with_what_to_do():
    land = Landscape.from_points([0.0, 1.0], np.zeros((2, 3)), log_products=[1.0, np.nan])
    with pytest.raises(DataError, match=r"1 of 2 minima have no log product.*number 1.*with_log_products"):
        thermodynamics(land, 1.0)
    assert thermodynamics(land, 1.0, vibrations=False).occupations[0, 0] == pytest.approx(1 / (1 + math.exp(-1)))
    with pytest.raises(ProblemError, match="no problem"):
        with_log_products(land)
    with pytest.raises(ArgumentError, match="no minima"):
        thermodynamics(Landscape.from_points([], np.zeros((0, 2))), 1.0)
    with pytest.raises(ArgumentError, match="modes"):
        thermodynamics(land, 1.0, modes=0, vibrations=False)
    with pytest.raises(DataError, match="orbit size 0"):
        thermodynamics(Landscape.from_points([0.0], [[1.0]], log_products=[0.0], orbit_sizes=[0]), 1.0)


def mueller_brown(w):
    x, y = w
    a = jnp.array([-200.0, -100.0, -170.0, 15.0])
    p = jnp.array([-1.0, -1.0, -6.5, 0.7])
    q = jnp.array([0.0, 0.0, 11.0, 0.6])
    r = jnp.array([-10.0, -10.0, -6.5, 0.7])
    u, v = x - jnp.array([1.0, 0.0, -0.5, -1.0]), y - jnp.array([0.0, 0.5, 1.5, 1.0])
    return jnp.sum(a * jnp.exp(p * u * u + q * u * v + r * v * v))


def test_mueller_brown_against_quadrature(x64):
    """Basins in the explored landscape, columns filled in again from the problem, and Z against the integral."""
    problem = Problem.from_energy(mueller_brown, 2)
    land = explore(problem, box=([-1.5, -0.2], [1.0, 2.0]), starts=30, climbs=30, walkers=0, seed=0)
    assert land.n_minima == 3 and land.n_ts == 2
    bare = Landscape.from_points(
        land.energies, land.coordinates, land.ts_energies, land.ts_ends, problem=problem,
        ts_coordinates=land.ts_coordinates,
    )  # fmt: skip
    again = with_log_products(bare)
    np.testing.assert_allclose(again.log_products, land.log_products, rtol=1e-9)
    np.testing.assert_allclose(again.ts_log_products, land.ts_log_products, rtol=1e-9)
    x, y = np.meshgrid(np.linspace(-2.0, 1.5, 1401), np.linspace(-0.7, 2.5, 1281))
    cell = (x[0, 1] - x[0, 0]) * (y[1, 0] - y[0, 0])
    shift = np.array([-200.0, -100.0, -170.0, 15.0]), np.array([1.0, 0.0, -0.5, -1.0]), np.array([0.0, 0.5, 1.5, 1.0])
    p, q, r = np.array([-1.0, -1.0, -6.5, 0.7]), np.array([0.0, 0.0, 11.0, 0.6]), np.array([-10.0, -10.0, -6.5, 0.7])
    energy = sum(
        a * np.exp(pp * (x - u) ** 2 + qq * (x - u) * (y - v) + rr * (y - v) ** 2)
        for a, u, v, pp, qq, rr in zip(*shift, p, q, r)
    )
    for t, tolerance in ((1.0, 2e-3), (5.0, 1e-2)):
        weights = np.exp(-(energy - land.energies[0]) / t)
        exact = land.energies[0] - t * math.log(weights.sum() * cell)
        got = thermodynamics(land, t)
        assert got.free_energies[0] == pytest.approx(exact, abs=tolerance * t * 5)
        assert got.energies[0] == pytest.approx((weights * energy).sum() / weights.sum(), abs=0.05 * t)
    with pytest.raises(DataError, match="transition state 0 has 0 negative"):
        from dataclasses import replace

        with_log_products(replace(bare, ts_coordinates=np.tile(land.best, (2, 1))))
