"""Ready symmetries: every image of a point is known again, another point is not, the JSON form comes back."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxland import Problem
from jaxland.errors import ArgumentError, ProblemError
from jaxland.problem import ParticleSymmetry, PeriodicSymmetry, PermutationSymmetry
from jaxland.problem.particles import ClusterSymmetry
from jaxland.problem.stored_symmetry import symmetry_from_json

CASES = {
    "line": (ParticleSymmetry(5, 1), 5),
    "line, left is not right": (ParticleSymmetry(4, 1, reflection=False, exchange=False), 4),
    "plane": (ParticleSymmetry("AABB", 2), 8),
    "plane, chiral": (ParticleSymmetry("AAB", 2, reflection=False), 6),
    "plane, fixed axes": (ParticleSymmetry(4, 2, rotation=False), 8),
    "water": (ParticleSymmetry("OHH"), 9),
    "unlike": (ParticleSymmetry("ABCDE"), 15),
    "chiral": (ParticleSymmetry("AAABB", reflection=False), 15),
    "fixed axes": (ParticleSymmetry(5, rotation=False), 15),
    "torsions": (PeriodicSymmetry([360.0, 2 * np.pi, np.inf]), 3),
    "blocks": (PermutationSymmetry([[0, 1], [2, 3], [6, 7]], [[4], [5]]), 9),
}


@pytest.mark.parametrize("name", CASES)
def test_images_are_known_again_and_other_points_are_not(name):
    symmetry, n = CASES[name]
    rng = np.random.default_rng(1)
    for _ in range(5):
        w = 1.5 * rng.normal(size=n)
        image = symmetry.random_image(w, rng)
        assert symmetry.matches(image, w, 1e-6) and symmetry.distance(image, w) < 1e-6
        np.testing.assert_allclose(symmetry.align(image, w), w, atol=1e-8)
        np.testing.assert_allclose(symmetry.canonical(image), symmetry.canonical(w), atol=1e-6)
        assert symmetry.orbit_size(w) == symmetry.order() // (2 if name == "water" else 1)  # three lie in a plane
        assert not symmetry.matches(w + 0.3 * rng.normal(size=n), w, 1e-2)
        other = rng.normal(size=n)
        assert np.linalg.norm(symmetry.align(other, w) - w) <= np.linalg.norm(other - w) + 1e-9


@pytest.mark.parametrize("name", CASES)
def test_they_come_back_from_json(name):
    symmetry, n = CASES[name]
    back = symmetry_from_json(json.loads(json.dumps(symmetry.to_json())))
    w, reference = np.random.default_rng(2).normal(size=(2, n))
    np.testing.assert_array_equal(back.align(w, reference), symmetry.align(w, reference))
    assert (back.order(), back.zero_modes, back.describe()) == (
        symmetry.order(),
        symmetry.zero_modes,
        symmetry.describe(),
    )


@pytest.mark.parametrize(
    ("dimensions", "rotation", "count", "modes"),
    [
        (1, True, 4, 1),
        (2, True, 4, 3),
        (2, False, 4, 2),
        (3, True, 4, 6),
        (3, False, 4, 3),
        (3, True, 2, 5),
        (2, True, 1, 2),
    ],
)
def test_zero_modes_are_those_of_an_energy_of_distances(x64, dimensions, rotation, count, modes):
    symmetry = ParticleSymmetry(count, dimensions, rotation=rotation)
    assert symmetry.zero_modes == modes
    w = jnp.asarray(np.random.default_rng(3).normal(size=count * dimensions))
    z = symmetry.zero_space(w)
    np.testing.assert_allclose(np.linalg.svd(z, compute_uv=False)[:modes], 1.0, atol=1e-12)

    def energy(w):
        x = w.reshape(count, dimensions)
        apart = x[:, None] - x[None]
        return jnp.sum(jnp.sum(apart**2, axis=-1) ** 2) if rotation else jnp.sum(jnp.cos(apart))

    if not rotation:
        np.testing.assert_allclose(jax.hessian(energy)(w) @ z, 0.0, atol=1e-10)
    np.testing.assert_allclose(jax.grad(energy)(w) @ z, 0.0, atol=1e-10)


def test_orbits_of_symmetric_structures():
    water = np.array([0.0, 0.0, 0.0, 0.8, 0.6, 0.0, -0.8, 0.6, 0.0])
    # The mirror plane of the molecule and the exchange of its hydrogens by a turn leave it where it is.
    assert ParticleSymmetry("OHH").orbit_size(water) == 1 and ParticleSymmetry("OHD").orbit_size(water) == 1
    square = np.array([1.0, 0, 0, 1, -1, 0, 0, -1])
    assert ParticleSymmetry(4, 2).orbit_size(square) == 2 * math.factorial(4) // 8  # its point group is D4
    assert ParticleSymmetry(4, 2, reflection=False).orbit_size(square) == math.factorial(4) // 4
    assert PermutationSymmetry([[0], [1], [2]]).orbit_size(np.array([1.0, 1.0, 2.0])) == 3


@pytest.mark.parametrize("bend", [0.0, 1e-9, 1e-6, 1e-4, 0.01, 0.1])
def test_structures_on_almost_a_line_are_known_again(bend):
    rng = np.random.default_rng(5)
    w = np.array([0.0, 0.0, 0.0, 1.5, bend, 0.0, -1.1, bend, 0.0, 2.9, 0.0, bend])
    for symmetry in (ParticleSymmetry("OHHH"), ClusterSymmetry(4)):
        image = symmetry.random_image(w, rng) + 1e-10 * rng.normal(size=12)
        assert symmetry.matches(image, w, 1e-6)
        np.testing.assert_allclose(symmetry.align(image, w), w, atol=1e-8)
        assert symmetry.orbit_size(w) == symmetry.order() // (1 if bend > 1e-3 else 2)


def test_mirror_images_are_two_where_reflection_is_off():
    w = np.random.default_rng(4).normal(size=12)
    mirrored = (w.reshape(4, 3) * [1, 1, -1]).ravel()
    assert ParticleSymmetry(4).matches(mirrored, w, 1e-6)
    assert not ParticleSymmetry(4, reflection=False).matches(mirrored, w, 1e-6)


def test_what_cannot_be_a_symmetry_is_refused(x64):
    for make in (
        lambda: ParticleSymmetry("AB", 4),
        lambda: ParticleSymmetry(()),
        lambda: PeriodicSymmetry([0.0]),
        lambda: PermutationSymmetry([[0, 1], [1, 2]]),
        lambda: PermutationSymmetry([[0, 1], [2]]),
    ):
        with pytest.raises(ArgumentError):
            make()
    with pytest.raises(ProblemError, match="is not unchanged by its symmetry"):
        Problem.from_energy(lambda w: w @ w, 3, symmetry=ParticleSymmetry(3, 1))
    with pytest.raises(ProblemError, match="does not act on 3 coordinates"):
        Problem.from_energy(lambda w: w @ w, 3, symmetry=ParticleSymmetry(2))
