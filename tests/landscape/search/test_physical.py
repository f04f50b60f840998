"""Energies as people bring them: in any units, defined in a part of space, flat, kinked."""

import jax.numpy as jnp
import numpy as np
import pytest
from shared_cases import SADDLES, muller_brown

from jaxland import Problem, mlp
from jaxland.errors import ConvergenceError
from jaxland.landscape import Store, explore
from jaxland.landscape.search.kinks import Sample, judge, sampling
from jaxland.landscape.search.merge import absorb
from jaxland.landscape.store import scale_in
from jaxland.problem import ParticleSymmetry, potentials
from jaxland.problem.scale import Scale

FEW = {"starts": 20, "climbs": 20, "walkers": 0, "rounds": 1, "searches": 2, "pairs": 4}


def chain(w):  # beads on a line, each bond near +1 or -1
    d = jnp.diff(w)
    return jnp.sum((d**2 - 1) ** 2 + 0.1 * d)


def test_muller_brown_in_joule_and_nanometre(x64, tmp_path):
    joule, metre = 1.6e-19, 1e-9
    low, high = metre * np.array([-1.6, -0.4]), metre * np.array([1.2, 2.0])
    problem = Problem.from_energy(lambda w: joule * muller_brown(w / metre), 2)
    found = explore(problem, box=(low, high), store=tmp_path / "a.db", **FEW)
    np.testing.assert_allclose(found.energies / joule, [-146.699517, -108.166724, -80.767818], atol=1e-6)
    np.testing.assert_allclose(found.coordinates[0] / metre, [-0.558224, 1.441726], atol=1e-6)
    np.testing.assert_allclose(found.ts_energies / joule, sorted(SADDLES.values()), atol=1e-6)
    for w, low_, product in zip(found.coordinates, found.lowest_eigenvalues, found.log_products):
        modes = np.linalg.eigvalsh(np.asarray(problem.hessian(w)))
        np.testing.assert_allclose([low_, product], [modes[0], np.log(modes).sum()], rtol=1e-6)
    # A store without its problem is in the user's units too, and one of another scale is taken in converted.
    from jaxland.landscape.interchange import archive

    scale = found.statistics["scale"]
    assert (scale_in(tmp_path / "a.db").energy, scale_in(tmp_path / "b.db")) == (scale["energy"], None)
    alone = archive.read(tmp_path / "a.db")
    np.testing.assert_array_equal(alone.energies, found.energies)
    np.testing.assert_array_equal(alone.log_products, found.log_products)
    with Store(None, problem, box=(2 * low, 2 * high)) as other:
        other._settle(problem, Scale(joule, metre))
        assert absorb(other, [tmp_path / "a.db"]) == {tmp_path / "a.db": (3, 2)}
        again = other.landscape()
    np.testing.assert_allclose(again.energies, found.energies, rtol=1e-12)
    np.testing.assert_allclose(again.log_products, found.log_products, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("energy", "length"), [(1.65e-21, 3.4e-10), (0.0103, 3.4), (3.8e-4, 6.4e9)])
def test_seven_argon_atoms_in_any_units(x64, energy, length):
    def pair(square):
        return energy * potentials._lennard_jones(square / length**2)

    found = explore(potentials.cluster(7, pair), box=(-1.5 * length, 1.5 * length), seed=1)
    np.testing.assert_allclose(found.energies / energy, [-16.505384, -15.935043, -15.593211, -15.533060], atol=1e-5)
    assert found.n_ts == 12 and (found.components() == 0).all()


def test_an_energy_that_is_finite_in_a_part_of_space_can_be_stored(x64, tmp_path):
    def energy(w):
        return -jnp.log(w[0]) + w[0] + (w[1] ** 2 - 1) ** 2

    box = (np.array([0.2, -2.0]), np.array([3.0, 2.0]))
    problem = Problem.from_energy(energy, 2)
    found = explore(problem, box=box, store=tmp_path / "a.db", **FEW)
    np.testing.assert_allclose(found.energies, [1.0, 1.0], atol=1e-9)
    np.testing.assert_allclose(found.ts_energies, [2.0], atol=1e-9)
    with Store(tmp_path / "a.db", problem) as store:
        assert len(store.minima) == 2
    with pytest.raises(OSError, match="another problem"):
        Store(tmp_path / "a.db", Problem.from_energy(lambda w: 1.01 * energy(w), 2))


def test_flat_directions_are_named_and_counted(x64):
    found = explore(Problem.from_energy(chain, 3), box=(-2, 2), **{**FEW, "climbs": 0, "rounds": 0})
    flat = found.statistics["flat"]
    assert flat["minima"] == found.n_minima > 4 and flat["energies"] <= 3
    assert flat["names"] == ["translation of 3 points in 1 dimension"]
    assert "ParticleSymmetry(range(3), 1, reflection=False)" in found.notes()[0]
    assert f"{found.n_minima} of the minima are points of flat valleys" in found.describe()
    free = explore(Problem.from_energy(lambda w: (w[0] ** 2 - 1) ** 2, 2), box=(-2, 2), starts=5, climbs=0, rounds=0)
    assert free.statistics["flat"]["names"] == ["coordinate 1 alone"]


def test_with_its_symmetry_a_chain_has_one_minimum_for_each_choice_of_signs(x64):
    symmetry = ParticleSymmetry(range(3), 1, reflection=False)
    found = explore(Problem.from_energy(chain, 3, symmetry=symmetry), box=(-2, 2), **{**FEW, "climbs": 40})
    assert (found.n_minima, found.n_ts) == (4, 4) and not found.notes()


@pytest.mark.parametrize(
    ("energy", "kinked", "stationary"),
    [
        (lambda w: jnp.abs(w[0]) + w[1] ** 2, True, True),
        (lambda w: jnp.maximum(w[0], -0.1 * w[0]) + jnp.abs(w[1]), True, True),
        (lambda w: jnp.abs(w[0]) + w[1], True, False),
        (lambda w: w[0] ** 2 + 1e4 * w[1] ** 2, False, False),
        (lambda w: jnp.exp(3 * w[0]) + w[1], False, False),
    ],
)
def test_kinks_are_told_from_smooth_places(x64, energy, kinked, stationary):
    kernel = Problem.from_energy(energy, 2).kernel
    x = np.array([1e-8, -1e-8])
    found = judge(x, Sample(*sampling(kernel, 2)(jnp.asarray(x), kernel.data)))
    assert (found.ended, found.stationary) == (int(kinked), int(stationary))


def test_quenches_that_end_on_kinks_are_said(x64):
    def energy(w):  # minima on the kink w0 = .3, and smooth ones higher up
        return jnp.minimum(jnp.abs(w[0] - 0.3), 0.5 + (w[0] + 2.0) ** 2) + 0.5 * (w[1] ** 2 - 1) ** 2

    found = explore(Problem.from_energy(energy, 2), box=(-3, 2), starts=20, climbs=0, walkers=0, rounds=0)
    kinks = found.statistics["kinks"]
    assert kinks["ended"] and kinks["stationary"] == kinks["ended"] and abs(kinks["lowest"]) < 1e-3
    np.testing.assert_allclose(found.energies, 0.5, atol=1e-9)
    assert "below the lowest minimum by 0.5" in found.notes()[0] and "seen on a kink" in found.describe()
    with pytest.raises(ConvergenceError, match="ended on kinks"):
        explore(Problem.from_energy(lambda w: jnp.abs(w[0]) + w[1] ** 2, 2), box=(-1, 1), starts=5)


@pytest.mark.slow
def test_a_relu_network_tells_of_lower_kinks(x64):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(20, 2))
    problem = Problem.from_model(mlp((2, 2, 3), activation="relu"), x, np.digitize(x[:, 0], [-0.5, 0.5]), l2=1e-2)
    found = explore(problem, starts=60, climbs=0, walkers=0, rounds=0)
    assert found.statistics["kinks"]["ended"] > 5 and found.statistics["kinks"]["stationary"] > 5
