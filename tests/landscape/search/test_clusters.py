"""Clusters of atoms: their symmetry, and landscapes whose every point is known."""

from itertools import permutations

import jax
import numpy as np
import pytest

from jaxland import Problem
from jaxland.core.energy.kernels import LIFTED
from jaxland.core.solvers import lanes, quench
from jaxland.core.solvers.protocol import Status
from jaxland.errors import ArgumentError
from jaxland.landscape import explore
from jaxland.problem import potentials
from jaxland.problem.particles import ClusterSymmetry

LJ7_MINIMA = [-16.505384, -15.935043, -15.593211, -15.533060]
LJ7_SADDLES = [-15.444734, -15.319864, -15.283421, -15.097846, -15.033384, -15.026438]
LJ7_SADDLES += [-14.816400, -14.811130, -14.596946, -14.568061, -14.548573, -12.548938]


def complete(atoms, **options):
    problem = potentials.lennard_jones(atoms)
    return explore(problem, box=potentials.box(problem), max_step=0.5, starts=100, hops=1, **options)


def wrong_indices(landscape):
    """Stored points whose index, by automatic differentiation and with six zero modes, is not what it should be."""
    problem, wrong = landscape.problem, 0
    for points, index in ((landscape.coordinates, 0), (landscape.ts_coordinates, 1)):
        for x in points:
            assert np.sqrt(np.mean(np.square(problem.gradient(x)))) <= 1.01e-9
            modes = np.linalg.eigvalsh(problem.hessian(x))
            wrong += int(np.sum(modes < -1e-6) != index or np.sum(np.abs(modes) < 1e-6) != 6)
    return wrong


@pytest.fixture(scope="module")
def seven():
    with jax.enable_x64(True):
        return complete(7, climbs=200, patience=60)


def test_seven_atoms_are_complete(x64, seven):
    np.testing.assert_allclose(seven.energies, LJ7_MINIMA, atol=1e-6)
    np.testing.assert_allclose(seven.ts_energies, LJ7_SADDLES, atol=1e-6)
    assert (seven.components() == 0).all() and wrong_indices(seven) == 0
    # Point groups D5h, C3v, C2v (capped structures), C2: order 2 n! over the orbit.
    np.testing.assert_array_equal(2 * 5040 / seven.orbit_sizes, [20, 6, 6, 2])
    assert seven.statistics["completeness"]["transition_states"]["coverage"] == 1.0


def test_eight_atoms_are_complete(x64):
    eight = complete(8, climbs=300)
    assert (eight.n_minima, eight.n_ts) == (8, 42)
    np.testing.assert_allclose(eight.energies[[0, 1]], [-19.821489, -19.765298], atol=1e-6)
    assert (eight.components() == 0).all() and wrong_indices(eight) == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_no_seed_stores_a_wrong_index(x64, seed):
    found = complete(8, climbs=300, seed=seed)
    assert (found.n_minima, found.n_ts) == (8, 42) and wrong_indices(found) == 0
    small = complete(7, climbs=200, patience=60, seed=seed)
    assert (small.n_minima, small.n_ts) == (4, 12) and wrong_indices(small) == 0


def test_log_products_leave_rigid_motions_out(x64, seven):
    x = seven.coordinates[0]
    modes = np.linalg.eigvalsh(seven.problem.hessian(x))
    np.testing.assert_allclose(seven.log_products[0], np.sum(np.log(modes[modes > 1e-6])), rtol=1e-10)


def test_rigid_motions_are_lifted(x64):
    problem = potentials.lennard_jones(5)
    x = np.random.default_rng(0).normal(size=15) * 1.5
    kernel = problem.kernel
    energy, gradient, hessian = kernel.second(x, kernel.data)
    np.testing.assert_allclose(energy, problem.energy(x), rtol=1e-12)
    np.testing.assert_allclose(gradient, problem.gradient(x), rtol=1e-10, atol=1e-10)
    z = problem.symmetry.zero_space(x)
    np.testing.assert_allclose(z.T @ z, np.eye(6), atol=1e-12)
    np.testing.assert_allclose(hessian @ z, LIFTED * z, atol=1e-8)
    v = np.random.default_rng(1).normal(size=15)
    np.testing.assert_allclose(kernel.product(x, v, kernel.data), hessian @ v, rtol=1e-8, atol=1e-8)
    off = np.eye(15) - z @ z.T
    np.testing.assert_allclose(off @ hessian @ off, off @ problem.hessian(x) @ off, rtol=1e-9, atol=1e-8)


def test_copies_are_recognised_and_others_are_not(x64, seven):
    symmetry, rng = seven.problem.symmetry, np.random.default_rng(0)
    for i, x in enumerate([*seven.coordinates, *seven.ts_coordinates]):
        image = symmetry.random_image(x, rng)
        np.testing.assert_allclose(seven.problem.energy(image), seven.problem.energy(x), rtol=1e-10)
        assert symmetry.matches(image, x, 1e-2)
        np.testing.assert_allclose(symmetry.align(image, x), x, atol=1e-8)
        for j, other in enumerate([*seven.coordinates, *seven.ts_coordinates]):
            assert (i == j) or not symmetry.matches(image, other, 1e-2)


def test_alignment_of_different_structures_is_nearly_best(x64):
    symmetry, rng = ClusterSymmetry(4), np.random.default_rng(0)
    for _ in range(5):
        a, b = rng.normal(size=(2, 12))
        got = np.linalg.norm(symmetry.align(b, a) - a)
        centred = [w.reshape(4, 3) - w.reshape(4, 3).mean(0) for w in (a, b)]
        best = np.inf
        for order in permutations(range(4)):
            u, _, vt = np.linalg.svd(centred[1][list(order)].T @ centred[0])
            best = min(best, np.linalg.norm(centred[1][list(order)] @ (u @ vt) - centred[0]))
        assert best - 1e-9 <= got <= 1.05 * best


@pytest.mark.parametrize(
    ("points", "order"),
    [
        ([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], 48),
        ([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], 24),
        ([[1, 1, 0], [1, -1, 0], [-1, 1, 0], [-1, -1, 0]], 16),
        ([[1, 0, 0], [2, 0.3, 0], [0, 1.7, 0.4], [-1, 0.2, 0.9]], 1),
    ],
)
def test_point_groups(points, order):
    symmetry = ClusterSymmetry(len(points))
    assert symmetry.order() // symmetry.orbit_size(np.ravel(points).astype(float)) == order


@pytest.mark.slow
def test_thirty_eight_atoms_quench_from_random_starts(x64):
    problem = potentials.lennard_jones(38)
    half = 0.6 * 38 ** (1 / 3)  # SciPy's L-BFGS-B takes 230 gradients from this box
    starts = np.random.default_rng(0).uniform(-half, half, (1000, problem.size))
    solver = quench.LBFGS(0.01 / np.sqrt(problem.size), 2000, 100)
    items = [quench.Start(x, np.float64(0.3)) for x in starts]
    done = lanes.run(solver, problem.kernel.first, items, problem.kernel.data)
    assert all(o.status == Status.CONVERGED for o in done)
    assert np.mean([int(o.result.evaluations) for o in done]) <= 200


def test_names():
    assert potentials.is_name("lj13") and potentials.is_name("mueller-brown")
    assert not potentials.is_name("xor") and not potentials.is_name("lj")
    with pytest.raises(ArgumentError, match="lj7"):
        potentials.by_name("argon")
    with pytest.raises(ArgumentError, match="atoms"):
        potentials.lennard_jones(1)
    with pytest.raises(ArgumentError, match="rho"):
        potentials.morse(5, rho=0)
    with pytest.raises(ArgumentError, match="box"):
        potentials.box(Problem.from_energy(lambda w: w @ w, 2))


def test_morse_has_its_minimum(x64):
    problem = potentials.by_name("morse4")
    found = explore(problem, box=potentials.box(problem), max_step=0.3, starts=20, climbs=0, hops=0, rounds=0)
    np.testing.assert_allclose(found.energies[0], -6.0, atol=1e-9)  # six bonds of a tetrahedron
