"""Units of a problem's own: the same landscape in any units, and nothing changed for networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from shared_cases import muller_brown, xor

from jaxland import Problem
from jaxland.errors import ArgumentError
from jaxland.problem import PeriodicSymmetry, Scale, potentials
from jaxland.problem.scale import reduced, scale_of

BOX = (np.array([-1.5, -0.5]), np.array([1.2, 2.0]))
JOULE, NANOMETRE = 1.6e-19, 1e-9


def in_joule(w):
    return JOULE * muller_brown(w / NANOMETRE)


def test_the_scale_goes_with_the_units(x64):
    plain = scale_of(Problem.from_energy(muller_brown, 2), BOX)
    other = scale_of(Problem.from_energy(in_joule, 2), tuple(NANOMETRE * b for b in BOX))
    np.testing.assert_allclose(
        [other.energy / JOULE, other.length / NANOMETRE, other.reach],
        [plain.energy, plain.length, plain.reach],
        rtol=1e-2,
    )


def test_without_a_box_starts_are_where_the_wells_are(x64):
    def wells(w):  # at +-3e7
        return 1e-5 * jnp.sum((w * 1e-7) ** 2 * ((w * 1e-7) ** 2 - 18.0))

    found = scale_of(Problem.from_energy(wells, 4))
    assert 1e7 < found.reach * found.length < 1e8 and 5e6 < found.length < 1e8


def test_networks_and_known_potentials_are_as_they_are(x64):
    for problem in (xor(), potentials.lennard_jones(4), Problem.from_energy(muller_brown, 2, scale=Scale())):
        assert scale_of(problem).is_one and reduced(problem, scale_of(problem)) is problem
    # Without a well, a curvature or any length of its own an energy keeps the user's units or the box's.
    assert scale_of(Problem.from_energy(lambda w: jnp.sum(w), 3)).length == 1.0
    with pytest.raises(ArgumentError, match="positive and finite"):
        Scale(energy=-1.0)
    with pytest.raises(ArgumentError, match="plain energy"):
        reduced(xor(), Scale(2.0, 1.0))


def test_a_reduced_problem_is_the_same_in_other_units(x64):
    scale = Scale(3.0, 0.5)
    cluster = potentials.lennard_jones(4)
    small = reduced(cluster, scale)
    w = 1.2 * np.random.default_rng(0).normal(size=12)
    np.testing.assert_allclose(small.energy(w / 0.5), cluster.energy(w) / 3.0, rtol=1e-12)
    values = small.kernel.second(jnp.asarray(w / 0.5), small.data)
    np.testing.assert_allclose(values.gradient, cluster.gradient(w) * 0.5 / 3.0, rtol=1e-9)
    np.testing.assert_allclose(
        small.kernel.product(jnp.asarray(w / 0.5), jnp.ones(12), small.data), values.hessian @ np.ones(12), rtol=1e-6
    )
    assert reduced(cluster, scale) is small


def test_a_symmetry_with_a_length_is_reduced_with_the_problem(x64):
    angle = PeriodicSymmetry([360.0, np.inf])
    small = angle.reduced(90.0)
    np.testing.assert_allclose(small.align(np.array([3.9, 0.2]), np.array([0.0, 0.0])), [-0.1, 0.2], atol=1e-12)
    assert small.matches(np.array([4.0, 0.0]), np.zeros(2), 1e-6) and small.to_json() == angle.to_json()
    assert small.distance(np.array([3.5, 0.0]), np.zeros(2)) == pytest.approx(0.5)


def bonds(w):  # the square root of 0 on its diagonal
    r = w.reshape(3, 3)
    d = jnp.sqrt(jnp.sum((r[:, None] - r[None]) ** 2, -1))
    return jnp.sum(jnp.triu(jnp.ones((3, 3)), 1) * (d - 1) ** 2)


@pytest.mark.parametrize(
    ("energy", "n", "said"),
    [
        (lambda w: np.sum(np.asarray(w) ** 2), 2, "cannot be traced by JAX"),
        (lambda w: w[0] ** 2 if w[0] > 0 else w[1], 2, "cannot be traced by JAX"),
        (lambda w: float(w[0]) ** 2, 2, "cannot be traced by JAX"),
        (lambda w: jnp.sum(w**2, keepdims=True), 2, r"returns shape \(1,\)"),
        (lambda w: (jnp.sum(w), jnp.sum(w)), 2, "one number, it returns 2"),
        (lambda w: jnp.argmax(w), 2, "returns int64"),
        (lambda w: jnp.sum(w + 1j * w), 2, "returns complex128"),
        (lambda w: w.reshape(3, 3).sum(), 8, r"fails on coordinates w\[8\]"),
        (bonds, 9, "9 of 9 components that are not finite"),
        (lambda w: muller_brown(w.astype(jnp.float32)).astype(jnp.float64), 2, "computes in float32 inside"),
        (
            lambda w: jax.pure_callback(lambda a: np.sum(a**2), jax.ShapeDtypeStruct((), w.dtype), w),
            2,
            "not twice differentiable",
        ),
    ],
)
def test_what_is_no_energy_is_one_sentence(x64, energy, n, said):
    with pytest.raises(TypeError, match=said):
        Problem.from_energy(energy, n)


def test_a_second_derivative_of_another_shape_is_refused(x64):
    with pytest.raises(TypeError, match=r"of shapes \(\), \(2,\), \(2, 2\)"):
        Problem.from_energy(lambda w: w @ w, 2, second=lambda w: (w @ w, 2 * w, 2 * jnp.ones(2)))
