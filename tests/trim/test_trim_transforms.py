"""Transforms: inverses, groups, PyWavelets, non-negative least squares, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
import scipy.optimize

from jaxland import trim
from jaxland.errors import ArgumentError, DataError
from jaxland.trim.transforms.linear import nonnegative_least_squares
from jaxland.trim.transforms.wavelets import scaling_filter

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "transform",
    [
        trim.identity((3, 4)),
        trim.rfft(11),
        trim.rfft((6, 7), bands=3),
        trim.rfft((5, 8, 2), axes=(0, 1)),
        trim.dct((5, 6)),
        trim.dwt(16, "db3", levels=2),
        trim.dwt((8, 16), "sym5", levels=2),
        trim.dwt((8, 3), "haar", axes=0),
        trim.compose(trim.dct(8), trim.dwt(8, "haar")),
    ],
    ids=lambda t: t.name,
)
def test_exact_transforms_invert(transform):
    x = jnp.asarray(RNG.normal(size=(3, *transform.input_shape)))
    s = transform.forward(x)
    assert s.shape[1:] == transform.coefficient_shape == transform.groups.shape
    np.testing.assert_allclose(transform.inverse(s), x, atol=1e-12)
    assert transform.is_exact and transform.groups.max() == len(transform.group_labels) - 1
    jitted = jax.jit(lambda t, a: t.inverse(t.forward(a)))(transform, x)
    np.testing.assert_allclose(jitted, x, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((64,), (0,)), ((8, 8), (0, 1)), ((8, 8, 1), (0, 1)), ((1, 8, 8), (1, 2)), ((28, 28, 3), (0, 1)),
     ((3, 32, 32), (1, 2)), ((1, 64), (1,)), ((64, 2), (0,)), ((3, 2), (0, 1)), ((1,), (0,)), ((6, 6, 6), (0, 1, 2))],
)  # fmt: skip
def test_transforms_leave_channels_alone_by_default(shape, axes):
    assert trim.rfft(shape).axes == trim.dct(shape).axes == axes


def test_an_image_with_a_channel_axis_is_an_image():
    flat, image = trim.rfft((8, 8)), trim.rfft((8, 8, 1))
    assert image.group_labels == flat.group_labels and len(flat.group_labels) == 4
    np.testing.assert_array_equal(image.groups[..., 0], flat.groups)


def test_cosine_transform_is_scipys():
    x = RNG.normal(size=(2, 9))
    np.testing.assert_allclose(trim.dct(9).forward(x), scipy.fft.dct(x, norm="ortho"), atol=1e-13)


@pytest.mark.parametrize("wavelet", ["haar", *(f"db{k}" for k in range(1, 9)), "sym5"])
def test_wavelets_are_pywavelets(wavelet):
    """1e-12, but for sym5: PyWavelets' own table of it is good to 2e-12 only (its rows are orthogonal to 2e-13)."""
    pywt = pytest.importorskip("pywt")
    tolerance = 2e-11 if wavelet == "sym5" else 1e-12
    low = scaling_filter(wavelet)
    np.testing.assert_allclose(low, pywt.Wavelet(wavelet).dec_lo, atol=tolerance)
    shifts = [low[2 * k :] @ low[: len(low) - 2 * k] for k in range(len(low) // 2)]
    np.testing.assert_allclose(shifts, [1] + [0] * (len(shifts) - 1), atol=1e-14)
    x = RNG.normal(size=(2, 64))
    for level in (1, 2):
        want = np.concatenate(pywt.wavedec(x, wavelet, "periodization", level=level, axis=1), axis=1)
        np.testing.assert_allclose(trim.dwt(64, wavelet, levels=level).forward(x), want, atol=tolerance)
    image = RNG.normal(size=(1, 32, 16))
    want = pywt.coeffs_to_array(pywt.wavedec2(image[0], wavelet, "periodization", level=1))[0]
    np.testing.assert_allclose(trim.dwt((32, 16), wavelet, levels=1).forward(image)[0], want, atol=tolerance)


def test_wavelet_groups():
    assert trim.dwt(16, "haar", levels=3).group_labels == ("a3", "d3", "d2", "d1")
    assert np.bincount(trim.dwt(16, "haar", levels=3).groups).tolist() == [2, 2, 4, 8]
    assert len(trim.dwt((8, 8), "haar", levels=2).group_labels) == 7


def test_nonnegative_least_squares_is_scipys():
    c, x = np.abs(RNG.normal(size=(4, 9))), RNG.normal(size=(6, 9))
    want = [scipy.optimize.nnls(c.T, row)[0] for row in x]
    np.testing.assert_allclose(nonnegative_least_squares(jnp.asarray(x), jnp.asarray(c)), want, atol=1e-10)


def test_data_driven_transforms():
    data = RNG.normal(size=(50, 2, 3)) @ RNG.normal(size=(3, 3))
    full, few = trim.pca(data), trim.pca(data, 2)
    assert full.is_exact and not few.is_exact and few.input_shape == (2, 3)
    np.testing.assert_allclose(full.inverse(full.forward(jnp.asarray(data))), data, atol=1e-12)
    parts = trim.nmf(np.abs(data), 3)
    assert parts.name == "part" and not parts.is_exact and (np.asarray(parts.components) >= 0).all()


def test_independent_components_are_found():
    sources = np.stack([np.sign(np.sin(np.arange(2000) / 7)), RNG.uniform(-1, 1, 2000)], 1)
    mixed = sources @ np.array([[1.0, 0.4], [-0.6, 1.0]])
    s = np.asarray(trim.ica(mixed, 2).forward(jnp.asarray(mixed)))
    match = np.abs(np.corrcoef(np.concatenate([s, sources], 1).T)[:2, 2:])
    assert (match.max(1) > 0.99).all()


def test_nmf_finds_parts():
    w, h = RNG.uniform(size=(60, 3)) * (RNG.random((60, 3)) < 0.5), np.kron(np.eye(3), np.ones((1, 4)))
    t = trim.nmf(w @ h, 3, sweeps=500)
    rest = w @ h - np.asarray(t.inverse(t.forward(jnp.asarray(w @ h))))
    assert np.linalg.norm(rest) < 1e-4 * np.linalg.norm(w @ h)


def test_own_parts_are_scikit_learns():
    """Independent components up to sign, order and scale; an NMF no worse than scikit-learn's of the same rank."""
    decomposition = pytest.importorskip("sklearn.decomposition")
    sources = np.stack([np.sign(np.sin(np.arange(2000) / 7)), RNG.uniform(-1, 1, 2000), RNG.laplace(size=2000)], 1)
    mixed = sources @ RNG.normal(size=(3, 3))
    theirs = decomposition.FastICA(3, random_state=0, tol=1e-10, max_iter=2000).fit_transform(mixed)
    ours = np.asarray(trim.ica(mixed, 3).forward(jnp.asarray(mixed)))
    match = np.abs(np.corrcoef(np.concatenate([ours, theirs], 1).T)[:3, 3:])
    np.testing.assert_allclose(match.max(1), 1, atol=1e-6)
    data = RNG.uniform(size=(50, 3)) @ RNG.uniform(size=(3, 9)) + 0.1 * RNG.uniform(size=(50, 9))
    estimator = decomposition.NMF(3, init="nndsvda", max_iter=3000, tol=1e-8).fit(data)
    t = trim.nmf(data, 3, sweeps=3000)
    rest = np.linalg.norm(data - np.asarray(t.inverse(t.forward(jnp.asarray(data)))))
    assert rest < 1.01 * estimator.reconstruction_err_
    np.testing.assert_allclose(np.linalg.norm(t.components, axis=1), 1, atol=1e-12)


def test_fitted_estimators():
    decomposition = pytest.importorskip("sklearn.decomposition")
    data = np.abs(RNG.normal(size=(40, 6)))
    for estimator in (
        decomposition.PCA(3),
        decomposition.FastICA(3, random_state=0),
        decomposition.NMF(3, max_iter=2000),
    ):
        codes = estimator.fit_transform(data)
        t = trim.fitted(estimator)
        tolerance = 1e-2 if "NMF" in type(estimator).__name__ else 1e-9
        np.testing.assert_allclose(t.forward(jnp.asarray(data)), codes, atol=tolerance)
        np.testing.assert_allclose(t.inverse(jnp.asarray(codes)), estimator.inverse_transform(codes), atol=1e-9)
    with pytest.raises(DataError, match="fit it first"):
        trim.fitted(decomposition.PCA(2))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: trim.rfft(0), "positive sizes"),
        (lambda: trim.rfft(8, axes=1), "axes of rfft"),
        (lambda: trim.rfft(8, bands=0), "bands"),
        (lambda: trim.dwt(15, "haar"), "divisible by"),
        (lambda: trim.dwt(16, "coif1"), "unknown; choose one of"),
        (lambda: trim.linear(np.ones(3)), "must be a matrix"),
        (lambda: trim.linear(np.ones((2, 3)), shape=(2, 2)), "do not fill"),
        (lambda: trim.linear(-np.ones((2, 3)), nonnegative=True), "negative"),
        (lambda: trim.linear(np.full((2, 3), np.nan), analysis=np.ones((3, 2))), "not finite"),
        (lambda: trim.pca(np.ones((5, 3)), 9), "parts must be"),
        (lambda: trim.nmf(-np.ones((5, 3)), 2), "negative"),
        (lambda: trim.compose(trim.rfft(8), trim.dct(8)), "takes inputs of shape"),
        (lambda: trim.pair(lambda x: x, lambda s: s[:, :3], 5), "not the input's"),
        (lambda: trim.pair(lambda x: x, lambda s: s, 5, groups=[0, 1]), "must number all 5"),
    ],
)
def test_bad_arguments(call, match):
    with pytest.raises((ArgumentError, DataError), match=match):
        call()
