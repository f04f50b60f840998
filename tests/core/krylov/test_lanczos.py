import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxland.core.krylov import grown, lane
from jaxland.core.krylov.step import ritz_pairs


def matrix(values, seed=0):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))
    a = (q * values) @ q.T
    return (a + a.T) / 2


SPECTRA = {
    "indefinite": np.concatenate([-np.geomspace(1e-4, 0.3, 40), np.geomspace(1e-6, 50, 110)]),
    "clustered": np.concatenate([np.linspace(-1e-3, 1e-3, 140), [0.5, 0.5001, 1, 1.00001, 7]]),
    "decaying": np.geomspace(1e-8, 100, 150),
}


def product_with(a):
    a = jnp.asarray(a)
    return jax.jit(lambda v: v @ a)


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("block", [1, 4])
def test_both_ends_against_lapack(x64, name, block):
    a = matrix(SPECTRA[name])
    n = len(a)
    values, vectors = np.linalg.eigh(a)
    modes = grown.eigenpairs(product_with(a), n, lowest=5, highest=5, tolerance=1e-11, block=block, panel=24)
    np.testing.assert_allclose(modes.lowest.values, values[:5], atol=1e-9 * values[-1])
    np.testing.assert_allclose(modes.highest.values, values[::-1][:5], atol=1e-9 * values[-1])
    assert modes.lowest.converged.all() and modes.highest.converged.all()
    assert modes.highest.residuals.max() < 1e-10 * values[-1]
    span = np.asarray(modes.highest.vectors) @ vectors[:, ::-1][:, :5]
    np.testing.assert_allclose(np.linalg.norm(span, axis=1), 1, atol=1e-9)


def test_no_ghost_copies_after_many_steps(x64):
    """Without reorthogonalisation the two far values come back again and again long before 150 steps."""
    a = matrix(np.concatenate([np.linspace(0, 1, 298), [50.0, 100.0]]))
    fact = grown.extend(grown.krylov(300, panel=32), product_with(a), 150)
    values, _, _ = ritz_pairs(fact.projected, fact.coupling)
    assert np.sum(values > 1.5) == 2
    basis = np.concatenate(fact.panels)[: fact.filled]
    np.testing.assert_allclose(basis @ basis.T, np.eye(150), atol=1e-13)


@pytest.mark.parametrize("block", [1, 3])
def test_degenerate_values_copies_up_to_the_block_or_the_whole_space(x64, block):
    a = matrix(np.concatenate([np.linspace(0, 1, 37), [5.0, 5.0, 5.0]]))
    modes = grown.eigenpairs(product_with(a), 40, highest=3, block=block, max_products=15, tolerance=1e-12)
    if block == 3:
        np.testing.assert_allclose(modes.highest.values, 5.0, atol=1e-9)
    else:
        assert np.sum(modes.highest.values > 4.999) == 1  # one vector sees one copy, as documented
    full = grown.eigenpairs(product_with(a), 40, highest=3, lowest=1, block=block, max_products=60, tolerance=0.0)
    assert full.factorisation.exhausted
    np.testing.assert_allclose(full.highest.values, 5.0, atol=1e-10)


@pytest.mark.parametrize("block", [1, 4])
@pytest.mark.parametrize("rank", [0, 1, 6])
def test_low_rank_and_null_vectors(x64, block, rank):
    """Breakdown: the Krylov space closes after rank + 1 steps and has to go on with fresh directions."""
    values = np.concatenate([np.zeros(30 - rank), np.linspace(1, 2, rank)])
    a = matrix(values)
    modes = grown.eigenpairs(product_with(a), 30, lowest=3, highest=8, block=block, tolerance=0.0)
    np.testing.assert_allclose(modes.highest.values, np.sort(values)[::-1][:8], atol=1e-12)
    np.testing.assert_allclose(modes.lowest.values, 0, atol=1e-12)
    assert modes.factorisation.exhausted and modes.factorisation.filled == 30
    gram = np.asarray(modes.highest.vectors @ modes.highest.vectors.T)
    np.testing.assert_allclose(gram, np.eye(8), atol=1e-10)


def test_a_factorisation_goes_on_where_it_stopped(x64):
    a = matrix(SPECTRA["indefinite"])
    product = product_with(a)
    parts = grown.extend(grown.extend(grown.krylov(150, panel=16), product, 11), product, 30)
    whole = grown.extend(grown.krylov(150, panel=16), product, 41)
    np.testing.assert_allclose(parts.projected, whole.projected, atol=1e-10)
    modes = grown.eigenpairs(product, 150, highest=3, factorisation=parts)
    assert modes.factorisation.filled >= 41 and modes.highest.converged.all()


def test_unconverged_pairs_say_so(x64):
    a = matrix(SPECTRA["clustered"])
    modes = grown.eigenpairs(product_with(a), len(a), lowest=5, highest=2, max_products=30, tolerance=1e-10)
    assert not modes.lowest.converged.all()
    assert modes.lowest.residuals.max() > 1e-9


def test_products_that_are_not_finite_are_named():
    with pytest.raises(ArithmeticError, match=r"product 1 .* not finite"):
        grown.extend(grown.krylov(5), lambda v: v * jnp.nan, 3)


def test_state_machine_one_step_at_a_time(x64):
    a = matrix(SPECTRA["indefinite"])
    state = lane.lanczos_init(jnp.ones(150), 40)
    for k in range(40):
        assert int(state.filled) == k
        state = lane.lanczos_step(state, a @ state.query)
    q = np.asarray(state.basis)
    np.testing.assert_allclose(q @ q.T, np.eye(40), atol=1e-13)
    t = q @ a @ q.T
    np.testing.assert_allclose(np.diag(t), state.diagonal, atol=1e-12)
    np.testing.assert_allclose(np.diag(t, 1), state.offdiagonal[:-1], atol=1e-12)
    found = lane.ritz(state)
    vector = found.coefficients[:, 0] @ q
    assert np.linalg.norm(a @ vector - found.values[0] * vector) == pytest.approx(
        float(found.residuals[0]), abs=1e-12
    )
    again = lane.lanczos_step(state, a @ state.query)  # full: nothing changes
    np.testing.assert_array_equal(again.diagonal, state.diagonal)


def test_state_machine_stops_in_an_invariant_space(x64):
    a = np.diag(np.arange(6.0))
    state = lane.lanczos_init(jnp.asarray([0.0, 1, 0, 1, 0, 0]), 6)
    for _ in range(6):
        state = lane.lanczos_step(state, a @ state.query)
    assert int(state.filled) == 2 and bool(lane.lanczos_done(state, 1e-9))
    np.testing.assert_allclose(lane.ritz(state).values[:2], [1, 3], atol=1e-14)


def test_lowest_pair_is_vmappable_and_jittable(x64):
    stack = jnp.asarray([matrix(np.linspace(lo, 3, 20), seed) for seed, lo in enumerate([-2.0, -0.5, 0.1])])
    starts = jnp.asarray(np.random.default_rng(0).normal(size=(3, 20)))

    @jax.jit
    def solve(a, s):
        return jax.vmap(lambda m, v: lane.lowest_pair(lambda u: m @ u, v, depth=8, restarts=100, tolerance=1e-9))(
            a, s
        )

    pairs = solve(stack, starts)
    np.testing.assert_allclose(pairs.value, [-2.0, -0.5, 0.1], atol=1e-8)
    assert pairs.residual.max() < 1e-7
    images = jnp.einsum("kij,kj->ki", stack, pairs.vector)
    np.testing.assert_allclose(images, pairs.value[:, None] * pairs.vector, atol=1e-7)
    assert (pairs.products < 800).all()


def test_quadrature_is_exact_for_polynomials(x64):
    a = matrix(SPECTRA["decaying"])
    z = jnp.asarray(np.random.default_rng(1).normal(size=150))
    quad = lane.Quadrature(*jax.jit(lambda v: lane.quadrature(lambda u: u @ a, v, 10))(z[None]))
    for power in (0, 1, 2, 5, 12):
        exact = z @ np.linalg.matrix_power(a, power) @ z / (z @ z)
        np.testing.assert_allclose(quad.apply(lambda v, p=power: v**p), exact, rtol=1e-9)


def test_float32_reaches_float32_accuracy():
    a = jnp.asarray(matrix(SPECTRA["decaying"]), jnp.float32)
    modes = grown.eigenpairs(jax.jit(lambda v: v @ a), 150, highest=4, tolerance=1e-5, dtype=jnp.float32)
    np.testing.assert_allclose(modes.highest.values, SPECTRA["decaying"][::-1][:4], rtol=1e-4)
    assert modes.highest.vectors.dtype == jnp.float32 and modes.highest.converged.all()
