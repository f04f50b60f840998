"""Gaussian mixtures by EM: against scikit-learn and closed forms, one step at a time and many at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxland.core import mixture as gm
from jaxland.core import quadrature
from jaxland.core.solvers import em
from jaxland.core.solvers.protocol import Layout, Status


def blobs(n=1200, d=2, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.array([[-2.0, 0.5, 0.0], [1.0, 1.5, 1.0], [0.5, -2.0, -1.0]])[:, :d]
    z = centres[rng.integers(0, 3, n)] + rng.normal(size=(n, d)) * [0.6, 0.4, 0.5][:d]
    return ((z - z.mean(0)) / z.std(0)).T


def random_mixture(k, d, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(k, d, d))
    cov = a @ np.swapaxes(a, 1, 2) + 0.3 * np.eye(d)
    return gm.Mixture(np.log(rng.dirichlet(np.ones(k))), rng.normal(size=(k, d)), np.linalg.cholesky(cov))


def reference_density(mixture, z):
    cov = mixture.chol @ np.swapaxes(mixture.chol, 1, 2)
    parts = [
        np.exp(w) * stats.multivariate_normal(m, c).pdf(z.T) for w, m, c in zip(mixture.log_weight, mixture.mean, cov)
    ]
    return np.log(np.sum(parts, axis=0))


@pytest.mark.parametrize("d", [1, 2, 3, 4, 6])
def test_density_and_marginals(x64, d):
    mixture = random_mixture(3, d)
    z = np.random.default_rng(1).normal(size=(d, 20))
    device = gm.Mixture(*map(jnp.asarray, mixture))
    np.testing.assert_allclose(gm.log_density(device, jnp.asarray(z)), reference_density(mixture, z), rtol=1e-10)
    round_trip = gm.decode(gm.encode(device))
    for a, b in zip(round_trip, mixture):
        np.testing.assert_allclose(a, b, atol=1e-12)
    if d > 1:
        dims = (d - 1, 0)
        for some in (mixture, device):
            part = gm.marginal(some, dims)
            cov = np.asarray(part.chol @ np.swapaxes(part.chol, 1, 2))
            whole = mixture.chol @ np.swapaxes(mixture.chol, 1, 2)
            np.testing.assert_allclose(cov, whole[:, dims][:, :, dims], atol=1e-12)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_one_em_map_equals_scikit_learn(x64, d):
    mixture_module = pytest.importorskip("sklearn.mixture")
    z = blobs(d=min(d, 3)) if d < 4 else np.random.default_rng(0).normal(size=(4, 900))
    first = gm.start(z, 3, np.random.default_rng(2))
    cov = first.chol @ np.swapaxes(first.chol, 1, 2)
    peer = mixture_module.GaussianMixture(
        3,
        weights_init=np.exp(first.log_weight),
        means_init=first.mean,
        precisions_init=np.linalg.inv(cov),
        max_iter=1,
        reg_covar=0.0,
        tol=0.0,
    )
    with pytest.warns(Warning):
        peer.fit(z.T)
    (state,) = steps(em.EM(1e-12, 1e-12, 50, accelerate=False), first, z, 1)
    got = gm.decode(state.fit.point)
    order, other = np.argsort(got.mean[:, 0]), np.argsort(peer.means_[:, 0])
    np.testing.assert_allclose(np.exp(got.log_weight)[order], peer.weights_[other], rtol=1e-8)
    np.testing.assert_allclose(got.mean[order], peer.means_[other], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(np.asarray(gm.covariance(got))[order], peer.covariances_[other], rtol=1e-6, atol=1e-9)


def steps(solver, first, z, count):
    """States after each of ``count`` steps."""
    columns, row = jnp.arange(len(z)), jnp.asarray(0, jnp.int32)
    state = solver.init(em.Fit(gm.encode(gm.Mixture(*map(jnp.asarray, first))), columns, row, row))
    for _ in range(count):
        state = solver.step(state, em.evaluate(state.fit, em.Data(jnp.asarray(z), jnp.ones((1, z.shape[1])))))
        yield state


def run(z, first, *, weights=None, rows=(0,), **options):
    weights = np.ones((1, z.shape[1])) if weights is None else weights
    n = len(rows)
    start = gm.Mixture(*(np.repeat(np.asarray(a)[None], n, 0) for a in first))
    dims = np.tile(np.arange(len(z)), (n, 1))
    return em.fit(jnp.asarray(z), jnp.asarray(weights), dims, np.array(rows), start, **options)


def test_likelihood_never_falls_and_acceleration_agrees(x64):
    z = blobs()
    first = gm.start(z, 3, np.random.default_rng(0))
    values = [float(s.loglik) for s in steps(em.EM(1e-9, accelerate=False), first, z, 40)]
    assert np.all(np.diff(values) > -1e-12)
    plain, quick = (run(z, first, solver=em.EM(tol=1e-10, accelerate=a)) for a in (False, True))
    assert plain.status[0] == quick.status[0] == Status.CONVERGED
    assert quick.loglik[0] == pytest.approx(plain.loglik[0], abs=1e-7)
    assert quick.steps[0] < plain.steps[0]


def test_weights_are_repeated_samples(x64):
    z = blobs(n=300)
    rng = np.random.default_rng(3)
    counts = rng.multinomial(300, np.ones(300) / 300)
    first = gm.start(z, 2, rng)
    weighted = run(z, first, weights=counts[None].astype(float))
    repeated = run(np.repeat(z, counts, axis=1), first)
    np.testing.assert_allclose(weighted.mixture.mean, repeated.mixture.mean, atol=1e-8)
    np.testing.assert_allclose(weighted.loglik, repeated.loglik, atol=1e-10)


def test_lanes_do_not_see_each_other_or_their_width(x64):
    z = blobs()
    rng = np.random.default_rng(0)
    rows = np.arange(70)
    weights = rng.multinomial(z.shape[1], np.ones(z.shape[1]) / z.shape[1], size=70).astype(float)
    first = gm.start(z, 3, rng)
    one = run(z, first, weights=weights, rows=rows, layout=Layout(8, 64, 1, 2))
    many = run(z, first, weights=weights, rows=rows, layout=Layout(32, 7, 16, 1))
    alone = run(z, first, weights=weights, rows=rows[5:6])
    np.testing.assert_allclose(one.mixture.mean, many.mixture.mean, atol=1e-9)
    np.testing.assert_array_equal(one.steps, many.steps)
    np.testing.assert_array_equal(one.mixture.mean[5], alone.mixture.mean[0])


def test_fits_cut_short_are_running_and_hold_their_start(x64):
    z = blobs()
    first = gm.start(z, 3, np.random.default_rng(0))
    asked = iter([False, True, True, True])
    fits = run(z, first, rows=np.zeros(3, int), layout=Layout(1, 2, 1, 1), should_stop=lambda: next(asked, True))
    assert (fits.status == Status.RUNNING).all() and (fits.steps == 0).all()
    np.testing.assert_allclose(fits.mixture.mean, np.repeat(first.mean[None], 3, 0))


def test_padding_components_changes_nothing(x64):
    z = blobs()
    first = gm.start(z, 3, np.random.default_rng(0))
    small, large = run(z, first), run(z, gm.pad(first, 8))
    np.testing.assert_allclose(small.mixture.mean, large.mixture.mean[:, :3], atol=1e-9)
    assert np.all(large.mixture.log_weight[:, 3:] < -1e29)
    assert large.dropped[0] == 0


def test_collapse_is_survived_and_counted(x64):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2, 400))
    z[:, 0] = 30.0
    first = gm.Mixture(np.log([0.5, 0.5]), np.array([[0.0, 0.0], [30.0, 30.0]]), np.stack([np.eye(2)] * 2))
    fits = run(z, first)
    assert fits.status[0] == Status.CONVERGED
    assert fits.dropped[0] == 1
    assert np.all(np.isfinite(fits.mixture.mean))


def test_a_hopeless_lane_ends_as_degenerate_and_poisons_nobody(x64):
    z = blobs(n=200)
    z = np.concatenate([z, z[:1] * 0.0])
    first = gm.start(blobs(n=200), 1, np.random.default_rng(0))
    start = gm.Mixture(*(np.repeat(np.asarray(a)[None], 2, 0) for a in first))
    dims = np.array([[0, 1], [0, 2]])
    fits = em.fit(jnp.asarray(z), jnp.ones((1, 200)), dims, np.zeros(2, int), start, layout=Layout(2, 64, 2, 1))
    assert list(fits.status) == [Status.CONVERGED, Status.DEGENERATE]
    np.testing.assert_allclose(fits.mixture.mean[0, 0], z[:2].mean(1), atol=1e-9)


def test_chunks_of_samples(x64, monkeypatch):
    z = blobs(n=2048)
    first = gm.Mixture(*map(jnp.asarray, gm.start(z, 3, np.random.default_rng(0))))
    w = jnp.asarray(np.random.default_rng(1).random(2048))
    whole = em.expectation(gm.encode(first), jnp.asarray(z), w, 1 - w)
    monkeypatch.setattr(em, "CHUNK", 256)
    for a, b in zip(em.expectation(gm.encode(first), jnp.asarray(z), w, 1 - w), whole):
        np.testing.assert_allclose(a, b, rtol=1e-10)
    with pytest.raises(ValueError, match="multiple"):
        em.expectation(gm.encode(first), jnp.asarray(z[:, :300]), w[:300], w[:300])
    assert em.bucket(100_000) % em.CHUNK == 0


@pytest.mark.parametrize("kind", gm.START_KINDS)
def test_starts(x64, kind):
    z = blobs()
    fits = run(z, gm.start(z, 3, np.random.default_rng(0), kind=kind))
    assert fits.status[0] == Status.CONVERGED
    assert fits.loglik[0] > -2.75


def test_split_keeps_moments(x64):
    z = blobs()
    one = run(z, gm.start(z, 1, np.random.default_rng(0)))
    cut = gm.split(gm.Mixture(*(a[0] for a in one.mixture)), z, 3, np.random.default_rng(0))
    w = np.exp(cut.log_weight)
    assert w.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(w @ cut.mean, one.mixture.mean[0, 0], atol=1e-9)


def test_float32_stays_sane():
    z = blobs().astype(np.float32)
    first = gm.start(z, 3, np.random.default_rng(0))
    fits = run(z, first, weights=np.ones((1, z.shape[1]), np.float32), solver=em.EM(floor=1e-5))
    assert fits.mixture.mean.dtype == np.float32
    with jax.enable_x64(True):
        exact = run(z.astype(np.float64), first)
    np.testing.assert_allclose(fits.loglik, exact.loglik, atol=1e-4)


@pytest.mark.parametrize("d", [1, 3, 10, 12])
def test_sobol_is_the_sequence(d):
    qmc = pytest.importorskip("scipy.stats.qmc")
    ours = quadrature.sobol(256, d).astype(float) / 2**32
    np.testing.assert_allclose(ours, qmc.Sobol(d, scramble=False, bits=32).random(256).T, atol=1e-9)


def test_scrambling_keeps_the_balance_and_beats_random_points(x64):
    points = jnp.asarray(quadrature.sobol(256, 2))
    values = []
    for seed in range(20):
        u = np.asarray(quadrature.uniforms(jax.random.key(seed), points, jnp.float64))
        assert np.all((u > 0) & (u < 1))
        # One point in each of the 16 x 16 elementary cells, and in each of 256 slices of either axis.
        assert len({tuple(c) for c in np.floor(16 * u).astype(int).T}) == 256
        assert all(len(np.unique(np.floor(256 * axis))) == 256 for axis in u)
        z = np.asarray(quadrature.normals(jax.random.key(seed), points, jnp.float64))
        values.append(np.mean(np.cos(z[0]) * np.exp(-0.5 * z[1] ** 2)))
    truth = np.exp(-0.5) / np.sqrt(2.0)
    assert np.mean(values) == pytest.approx(truth, abs=3 * np.std(values) / np.sqrt(20) + 1e-5)
    assert np.std(values) < 0.003
