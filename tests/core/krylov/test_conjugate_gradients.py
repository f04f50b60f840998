import jax.numpy as jnp
import numpy as np
import pytest

from jaxland.core.krylov import conjugate_gradients as solve

N, K = 120, 5
RNG = np.random.default_rng(3)
Q, _ = np.linalg.qr(RNG.normal(size=(N, N)))
VALUES = np.geomspace(1e-5, 30, N)
B = RNG.normal(size=(K, N))


def product(v, a):
    return v @ a


def symmetric(values):
    return jnp.asarray((Q * values) @ Q.T)


def test_matches_dense_solution(x64):
    a = symmetric(VALUES)
    found = solve.conjugate_gradients(product, jnp.asarray(B), (a,), damping=1e-3, tolerance=1e-10)
    exact = np.linalg.solve(np.asarray(a) + 1e-3 * np.eye(N), B.T).T
    np.testing.assert_allclose(found.x, exact, rtol=1e-6)
    assert found.converged.all() and not found.negative.any() and found.residuals.max() < 2e-10


def test_deflation_takes_fewer_steps_and_does_not_change_the_answer(x64):
    a = symmetric(VALUES)
    steps = []
    for m in (0, 20, 60):
        modes = solve.Deflation(jnp.asarray(VALUES[N - m :]), jnp.asarray(Q[:, N - m :].T)) if m else None
        found = solve.conjugate_gradients(product, jnp.asarray(B), (a,), damping=1e-3, tolerance=1e-8, modes=modes)
        np.testing.assert_allclose(found.x @ (a + 1e-3 * np.eye(N)), B, atol=1e-6)
        steps.append(int(found.iterations.max()))
    assert steps[0] > 2 * steps[1] > 2 * steps[2]


def test_inexact_modes_do_not_change_the_answer(x64):
    a = symmetric(VALUES)
    rough, _ = np.linalg.qr(Q[:, -10:] + 1e-3 * RNG.normal(size=(N, 10)))
    modes = solve.Deflation(jnp.asarray(VALUES[-10:]), jnp.asarray(rough.T))
    found = solve.conjugate_gradients(product, jnp.asarray(B), (a,), damping=1e-2, tolerance=1e-10, modes=modes)
    np.testing.assert_allclose(found.x, np.linalg.solve(np.asarray(a) + 1e-2 * np.eye(N), B.T).T, rtol=1e-6)


def test_finished_columns_stand_still(x64):
    """A system that is easy is not disturbed by one that is hard, nor by a zero right-hand side."""
    a = symmetric(VALUES)
    easy = Q[:, -1] * 3.0
    both = jnp.asarray(np.stack([easy, B[0], 0 * easy]))
    found = solve.conjugate_gradients(product, both, (a,), damping=1e-4, tolerance=1e-10)
    np.testing.assert_allclose(found.x[0], easy / (VALUES[-1] + 1e-4), rtol=1e-10)
    assert found.iterations[0] <= 2 < found.iterations[1] and found.iterations[2] == 0
    np.testing.assert_array_equal(found.x[2], 0)


def test_negative_curvature_is_flagged_with_a_bound(x64):
    values = VALUES.copy()
    values[:3] = [-0.5, -0.2, -0.1]
    a = symmetric(values)
    found = solve.conjugate_gradients(product, jnp.asarray(B), (a,), damping=1e-3, tolerance=1e-10)
    assert found.negative.all() and not found.converged.any()
    assert (found.rayleigh < -1e-3).all() and (found.rayleigh >= -0.5).all()
    cured = solve.conjugate_gradients(product, jnp.asarray(B), (a,), damping=0.51, tolerance=1e-10)
    assert cured.converged.all() and not cured.negative.any()


def test_one_bad_column_does_not_poison_its_neighbours(x64):
    a = symmetric(VALUES)
    bad = B.copy()
    bad[1, 3] = np.nan
    found = solve.conjugate_gradients(product, jnp.asarray(bad), (a,), damping=1e-2, tolerance=1e-9)
    assert list(np.asarray(found.converged)) == [True, False, True, True, True]


def test_step_by_step_equals_the_driver(x64):
    a = symmetric(VALUES)
    b = jnp.asarray(B)
    state = solve.cg_init(b, jnp.zeros_like(b), jnp.zeros_like(b), 1e-2, 1e-8)
    while not bool(solve.cg_done(state)):
        state = solve.cg_step(state, state.direction @ a, 1e-2)
    whole = solve.conjugate_gradients(product, b, (a,), damping=1e-2, tolerance=1e-8)
    np.testing.assert_allclose(state.x, whole.x, rtol=1e-5)
    np.testing.assert_allclose(state.iterations, whole.iterations, rtol=0.1)


def test_compiles_once_for_new_data(x64):
    traces = []

    def counted(v, a):
        traces.append(1)
        return v @ a

    for shift in (0.0, 1.0):
        solve.conjugate_gradients(counted, jnp.asarray(B), (symmetric(VALUES + shift),), damping=0.1 + shift)
    assert len(traces) <= 2  # once in the loop, once for the final residual


@pytest.mark.parametrize("damping", [0.0, 1e-6])
def test_too_few_iterations_are_reported(x64, damping):
    found = solve.conjugate_gradients(
        product, jnp.asarray(B), (symmetric(VALUES),), damping=damping, tolerance=1e-10, max_iterations=3
    )
    assert not found.converged.any() and (found.iterations == 3).all()
    assert jnp.isfinite(found.x).all()
