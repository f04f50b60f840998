"""Mutual information: closed forms, invariance, hostile data. The longer statistics are marked slow."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import digamma, ndtr

import jaxland
from jaxland import information
from jaxland.errors import ArgumentError, DataError
from jaxland.information import integrals
from jaxland.information.columns import copies, normal_scores, variable
from jaxland.information.mutual_information import classes, encode, pairs
from jaxland.information.options import Options

QUICK = dict(bootstraps=10, null=0)


def normal(rng, n, rho=0.6):
    x = rng.normal(size=n)
    return x, rho * x + np.sqrt(1 - rho**2) * rng.normal(size=n), -0.5 * np.log(1 - rho**2)


def gamma_exponential(rng, n, a=1.0):
    x = rng.gamma(a, size=n)
    return np.log(x), np.log(rng.exponential(1 / x)), digamma(a + 1) - np.log(a)


def weinman_truth(a):
    if a == 0.5:
        return -digamma(1)
    if a < 0.5:
        return -np.log(2 * a / (1 - 2 * a)) + digamma(1 / (1 - 2 * a)) - digamma(1)
    return np.log((2 * a - 1) / (2 * a)) + digamma(2 * a / (2 * a - 1)) - digamma(1)


def weinman(rng, n, a):
    x = rng.exponential(0.5, size=n)
    return np.log(x), np.log(x + rng.exponential(a, size=n)), weinman_truth(a)


def mapped(f):
    def make(rng, n):
        x, y, truth = normal(rng, n, 0.75)
        return f(x), f(y), truth

    return make


def student(rng, n, dof=1.0):
    z, u = rng.normal(size=(2, n)), rng.chisquare(dof, size=n)
    return z[0] / np.sqrt(u / dof), z[1] / np.sqrt(u / dof), 0.224171


def additive(rng, n, noise=0.75):
    x = rng.uniform(size=n)
    return x, x + rng.uniform(-noise, noise, size=n), {0.75: 0.333333, 0.1: 1.709438}[noise]


def normal_blocks(rng, n):
    a = np.random.default_rng(1).normal(size=(5, 5))
    cov = a @ a.T + np.eye(5)
    z = rng.multivariate_normal(np.zeros(5), cov, size=n)
    det = np.linalg.det
    return z[:, :2], z[:, 2:], -0.5 * np.log(det(cov) / det(cov[:2, :2]) / det(cov[2:, 2:]))


CLOSED = {
    "normal": normal,
    "gamma-exponential 1": gamma_exponential,
    "gamma-exponential 3": lambda r, n: gamma_exponential(r, n, 3.0),
    "weinman .3": lambda r, n: weinman(r, n, 0.3),
    "weinman .5": lambda r, n: weinman(r, n, 0.5),
    "weinman 1": lambda r, n: weinman(r, n, 1.0),
    "normal blocks": normal_blocks,
    "half-cube": mapped(lambda t: np.abs(t) ** 1.5 * np.sign(t)),
    "normal-CDF": mapped(ndtr),
    "wiggly": mapped(lambda t: t + 0.4 * np.sin(t) + 0.2 * np.sin(1.7 * t + 1) + 0.03 * np.sin(3.3 * t - 2.5)),
    "student 1": student,
    "additive .75": additive,
    "additive .1": lambda r, n: additive(r, n, 0.1),
}


def deviations(name, n, seeds, **options):
    """(estimate - truth) / reported standard deviation, one a seed."""
    drawn = [CLOSED[name](np.random.default_rng([s, n]), n) for s in seeds]
    items = [(variable(x, "x"), variable(y, "y", 1)) for x, y, _ in drawn]
    return np.array([(r.mean - drawn[0][2]) / r.std for r in pairs(items, Options(**options), ksg=False)])


@pytest.mark.parametrize(
    "name", ["normal", "gamma-exponential 1", "weinman 1", "normal blocks", "half-cube", "student 1"]
)
def test_closed_forms(name):
    assert np.all(np.abs(deviations(name, 2000, range(3), null=0, bootstraps=30)) < 3)


@pytest.mark.slow
@pytest.mark.parametrize("n", [2000, 10_000])
@pytest.mark.parametrize("name", list(CLOSED))
def test_closed_forms_over_five_seeds(name, n):
    z = deviations(name, n, range(5), null=0)
    assert np.all(np.abs(z) < 3), z


@pytest.mark.slow
@pytest.mark.parametrize("n", [2000, 10_000])
def test_discrete_uniform_over_five_seeds(n):
    m = 5
    truth = np.log(m) - (m - 1) / m * np.log(2)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x = rng.integers(0, m, n)
        got = information.categorical_mutual_information(x + rng.uniform(0, 2, n), x)
        assert abs(got.mean - truth) < 3 * got.std


@pytest.mark.slow
@pytest.mark.parametrize("name", ["normal", "gamma-exponential 1", "half-cube"])
def test_coverage_of_the_reported_error(name):
    z = deviations(name, 200, range(300), null=0)
    assert 0.60 <= np.mean(np.abs(z) < 1) <= 0.76
    assert 0.90 <= np.mean(np.abs(z) < 2) <= 0.98


@pytest.fixture(scope="module")
def pair():
    x, y, _ = gamma_exponential(np.random.default_rng(0), 1000)
    return x, y, information.mutual_information(x, y, **QUICK)


def test_swapping_scaling_and_monotone_maps(pair):
    x, y, reference = pair
    swapped = information.mutual_information(y, x, **QUICK)
    assert swapped.mean == pytest.approx(reference.mean, abs=reference.std)
    for a, b in ((1e-8, 1e8), (-1e8, 1e-8)):
        scaled = information.mutual_information(a * x, b * y + b, **QUICK)
        if a > 0:
            assert scaled.mean == pytest.approx(reference.mean, abs=1e-6)
        assert scaled.mean == pytest.approx(reference.mean, abs=0.5 * reference.std)
    moved = information.mutual_information(np.exp(x), np.exp(3 * y), **QUICK)
    assert moved.map == "scores"
    assert moved.mean == pytest.approx(reference.mean, abs=reference.std)


def test_the_same_seed_gives_the_same_number_whatever_the_batch(pair):
    x, y, reference = pair
    again = information.mutual_information(x, y, **QUICK)
    assert again.mean == reference.mean
    np.testing.assert_array_equal(again.samples, reference.samples)
    wide = information.mutual_information(x, y, width=4, **QUICK)
    assert wide.mean == pytest.approx(reference.mean, abs=1e-9)
    other = np.random.default_rng(1).normal(size=(1000, 2))
    table = information.matrix({"x": x, "a": other[:, 0]}, {"y": y, "b": other[:, 1]}, **QUICK)
    assert table.mean[0, 0] == pytest.approx(reference.mean, abs=1e-12)
    little = information.matrix({"x": x, "a": other[:, 0]}, {"y": y, "b": other[:, 1]}, memory=1e-4, **QUICK)
    np.testing.assert_allclose(little.mean, table.mean, atol=1e-9)
    assert information.mutual_information(x, y, seed=1, **QUICK).mean != reference.mean


def test_memory_is_bounded_by_the_argument():
    from jaxland.information.table import Table

    columns, weights = np.zeros((8, 40_000)), np.ones((9, 40_000))
    for gib in (0.02, 0.04, 2.0):
        table = Table(columns, weights, Options(memory=gib))
        assert table.columns.nbytes + table.weights.nbytes <= gib * 2**30
    batches = list(Table(columns, weights, Options(memory=0.02)).passing(lambda b: np.ones(40_000), 50))
    assert sum(len(index) for index, _ in batches) == 50
    assert len(batches) > 1


def test_what_a_result_says(pair):
    _, _, result = pair
    assert result.corrected == pytest.approx(2 * result.mean - result.samples.mean())
    assert result.std >= result.samples.std(ddof=1)
    assert 0 < result.integration_error < 5e-4
    assert result.ksg == pytest.approx(result.mean, abs=0.1)
    assert set(result.evidence) == {"raw", "scores"}
    assert result.to_pandas().loc[0, "mean"] == result.mean
    assert "I(x; y)" in result._repr_html_()
    assert jaxland.information is information


def test_units():
    x, y, _ = normal(np.random.default_rng(0), 500)
    nats, bits = (information.mutual_information(x, y, units=u, bootstraps=4, null=2) for u in ("nats", "bits"))
    for name in ("mean", "std", "ksg", "null_mean", "corrected"):
        assert getattr(bits, name) == pytest.approx(getattr(nats, name) / np.log(2))


def test_null_and_significance():
    rng = np.random.default_rng(0)
    x, y, _ = normal(rng, 800)
    tied = information.mutual_information(x, y, bootstraps=20)
    assert tied.significance > 5
    free = information.mutual_information(x, rng.normal(size=800), bootstraps=20)
    assert free.significance < 3
    assert any("not distinguishable" in note for note in free.notes)


def test_integration_error_is_what_it_says(pair):
    mixture = pair[2].mixture
    stacked = type(mixture)(*(np.asarray(a)[None] for a in mixture))
    import jax

    with jax.enable_x64(True):
        reference = integrals.integrate(stacked, integrals.mutual(1, 1), np.array([99]), points=2**18)[0]
    assert abs(pair[2].mean - reference) < 5e-4
    assert abs(pair[2].mean - reference) < 5 * pair[2].integration_error


def test_conditional_and_divergence():
    rng = np.random.default_rng(0)
    x, y, truth = normal(rng, 1500)
    z = rng.normal(size=1500)
    got = information.conditional_mutual_information(x + z, y - 2 * z, z, **QUICK)
    assert abs(got.mean - truth) < 3 * got.std
    forward = information.kl_marginals(x, 1 + 2 * y, **QUICK)
    backward = information.kl_marginals(x, 1 + 2 * y, reverse=True, **QUICK)
    assert abs(forward.mean - (np.log(2) + 2 / 8 - 0.5)) < 3 * forward.std
    assert abs(backward.mean - (-np.log(2) + (4 + 1) / 2 - 0.5)) < 3 * backward.std
    assert information.kl_marginals(1e8 * x, 1e8 * (1 + 2 * y), **QUICK).mean == pytest.approx(forward.mean, abs=1e-6)


def test_labels_are_weighed_by_their_shares():
    rng = np.random.default_rng(0)
    n = 2000
    label = rng.choice(["left", "middle", "right"], n, p=[0.8, 0.15, 0.05])
    centre = pd.Series(label).map({"left": 0.0, "middle": 2.0, "right": 4.0}).to_numpy()
    x = centre + rng.normal(size=n)
    grid = np.linspace(-8, 12, 20001)
    shares, centres = np.array([0.8, 0.15, 0.05]), np.array([0.0, 2.0, 4.0])
    p = np.exp(-0.5 * (grid - centres[:, None]) ** 2) / np.sqrt(2 * np.pi)
    mixed = shares @ p
    truth = np.sum(shares * np.trapezoid(p * np.log(np.maximum(p, 1e-300) / mixed), grid, axis=1))
    got = information.categorical_mutual_information(x, label, bootstraps=20, null=2)
    assert abs(got.mean - truth) < 3 * got.std
    assert got.null_mean < 0.05
    renamed = pd.Series(label).map({"left": 7.5, "middle": -1.0, "right": 99.0})
    again = information.categorical_mutual_information(x, renamed, bootstraps=20, null=2)
    assert again.mean == pytest.approx(got.mean, abs=0.3 * got.std)


@pytest.mark.parametrize("make", [lambda r: gamma_exponential(r, 200), lambda r: student(r, 400)])
def test_heavy_tails_and_small_samples_never_crash(make):
    items = []
    for seed in range(20):
        x, y, truth = make(np.random.default_rng(seed))
        items.append((variable(x, "x"), variable(y, "y", 1)))
    raw = pairs(items, Options(bootstraps=10, null=0, maps="raw"), ksg=False)
    assert all(np.isfinite(r.mean) and np.isfinite(r.std) for r in raw)
    chosen = pairs(items, Options(bootstraps=10, null=0), ksg=False)
    assert abs(np.mean([r.mean for r in chosen]) - truth) < 0.06


def test_fifty_samples():
    x, y, truth = normal(np.random.default_rng(3), 50)
    got = information.mutual_information(x, y)
    assert abs(got.mean - truth) < 3 * got.std


def test_copies_do_not_inflate():
    x, y, _ = normal(np.random.default_rng(0), 300)
    once = information.mutual_information(x, y, **QUICK)
    thrice = information.mutual_information(np.tile(x, 3), np.tile(y, 3), **QUICK)
    assert thrice.mean == pytest.approx(once.mean, abs=once.std)
    assert 0.5 < thrice.std / once.std < 2
    assert any("repeat" in note for note in thrice.notes)


def test_integers_and_mixed_data():
    rng = np.random.default_rng(0)
    k = rng.poisson(6, 1500)
    free = information.mutual_information(k, rng.normal(size=1500), **QUICK)
    assert free.mean < 0.02
    tied = information.mutual_information(k, rng.poisson(k + 1), bootstraps=20, null=0)
    joint = np.array([[np.exp(-6) * 6.0**a / np.prod(np.arange(1, a + 1), dtype=float) for a in range(40)]])
    rate = np.arange(40)[:, None] + 1.0
    b = np.arange(60)
    logf = np.cumsum(np.log(np.maximum(b, 1)))
    table = joint.T * np.exp(-rate + b * np.log(rate) - logf)
    truth = np.sum(table * np.log(np.maximum(table, 1e-300) / table.sum(0) / table.sum(1, keepdims=True)))
    assert abs(tied.mean - truth) < 3 * tied.std
    assert any("categorical" in note for note in tied.notes)
    x, y, _ = normal(rng, 1500)
    rectified = information.mutual_information(np.maximum(x, 0.0), y, **QUICK)
    assert 0.05 < rectified.mean < 0.2231
    assert any("share their value" in note for note in rectified.notes)


def test_an_outlier_changes_little():
    x, y, truth = normal(np.random.default_rng(0), 1000)
    x[17] = 1e6
    got = information.mutual_information(x, y, **QUICK)
    assert got.mean == pytest.approx(truth, abs=0.05)
    raw = information.mutual_information(x, y, maps="raw", **QUICK)
    assert np.isfinite(raw.mean)


def test_determined_variables_have_infinite_information():
    x, y, _ = normal(np.random.default_rng(0), 400)
    for other in (2 - 3 * x, np.exp(x)):
        got = information.mutual_information(x, other)
        assert got.mean == np.inf
        assert "infinite" in got.notes[0]
    got = information.mutual_information(np.stack([x, y], 1), x + y)
    assert got.mean == np.inf
    assert any("noise-free" in n for n in information.mutual_information(x, x**2, **QUICK).notes)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.r_[np.arange(99.0), np.nan], np.arange(100.0) % 7, "x has 1 non-finite values.*row 99"),
        (np.zeros(100), np.arange(100.0), "x is constant"),
        (np.arange(100.0), np.stack([np.arange(100.0) % 3, np.ones(100)], 1), "column 1 of y is constant"),
        (np.arange(100.0), np.arange(99.0), "100 of x, 99 of y"),
        (np.arange(10.0), np.arange(10.0), "at least 20"),
        (["a"] * 100, np.arange(100.0), "not real numbers"),
        (np.zeros((100, 2, 2)), np.arange(100.0), "shape"),
        (np.repeat(np.random.default_rng(0).normal(size=(100, 1)), 2, 1), np.arange(100.0), "linearly dependent"),
    ],
)
def test_bad_data(x, y, words):
    with pytest.raises(DataError, match=words):
        information.mutual_information(x, y)


def test_bad_arguments_and_labels():
    x = np.random.default_rng(0).normal(size=100)
    with pytest.raises(ArgumentError, match="unknown option 'bootstrap'"):
        information.mutual_information(x, x[::-1], bootstrap=3)
    for bad in ({"folds": 1}, {"orders": (0,)}, {"maps": "log"}, {"memory": -1.0}, {"units": "hartleys"}):
        with pytest.raises(ArgumentError, match=next(iter(bad))):
            information.mutual_information(x, x[::-1], **bad)
    with pytest.raises(DataError, match="one class only"):
        information.categorical_mutual_information(x, np.zeros(100))
    with pytest.raises(DataError, match="class 'b' of label has 2 samples"):
        information.categorical_mutual_information(x, ["a"] * 98 + ["b"] * 2)
    with pytest.raises(DataError, match="missing labels, the first in row 1"):
        information.categorical_mutual_information(x, ["a", None] * 50)
    with pytest.raises(DataError, match="must agree"):
        information.kl_marginals(x, np.random.default_rng(1).normal(size=(100, 2)))


def test_criteria_and_orders():
    x, y, truth = gamma_exponential(np.random.default_rng(0), 800)
    for criterion in ("aic", "bic"):
        got = information.mutual_information(x, y, criterion=criterion, maps="raw", **QUICK)
        assert abs(got.mean - truth) < 4 * got.std
    fixed = information.mutual_information(x, y, orders=3, maps="scores", **QUICK)
    assert (fixed.order, fixed.map) == (3, "scores")


def test_estimator_starts_afresh_and_speaks_scikit_learn():
    base = pytest.importorskip("sklearn.base")
    rng = np.random.default_rng(0)
    x, y, truth = normal(rng, 600)
    estimator = information.GaussianMixtureMI(bootstraps=10, null=0)
    estimator.fit(x[:, None], y)
    first = estimator.mi_
    assert abs(first - truth) < 4 * estimator.std_
    assert len(estimator.bootstraps_) == 10
    assert estimator.n_components_ >= 1
    assert estimator.n_dropped_ >= 0
    estimator.fit(x[:, None], rng.normal(size=600))
    assert estimator.mi_ < 0.05 < first
    copy = base.clone(estimator).set_params(units="bits")
    assert copy.get_params()["bootstraps"] == 10
    assert "units='bits'" in repr(copy)
    with pytest.raises(ArgumentError):
        copy.set_params(colour="red")


def test_normal_scores_use_training_ranks_only():
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(1, 400))
    train = np.arange(200)
    scores = normal_scores(columns, train)
    moved = columns.copy()
    moved[0, 300] = 50.0
    again = normal_scores(moved, train)
    np.testing.assert_array_equal(np.delete(scores, 300), np.delete(again, 300))
    np.testing.assert_allclose(np.sort(normal_scores(columns)), np.sort(normal_scores(np.exp(columns))))


def test_ties_are_spread_within_their_cells():
    values = np.repeat([0.0, 1.0, 3.0], 50)
    got = variable(values, "x")
    back = got.center[0] + got.scale[0] * got.columns[0]
    assert np.all((back[:50] >= -0.5) & (back[:50] <= 0.5))
    assert np.all((back[50:100] >= 0.5) & (back[50:100] <= 2.0))
    assert got.ties == 1.0
    assert got.levels == 3
    lattice = variable(np.random.default_rng(0).integers(0, 5, 200), "k")
    assert np.array_equal(copies(lattice, lattice), np.arange(200))


def test_ksg():
    rng = np.random.default_rng(0)
    x, y, truth = normal(rng, 3000)
    assert information.ksg(x, y) == pytest.approx(truth, abs=0.05)
    assert information.ksg(np.stack([x, rng.normal(size=3000)], 1), y) == pytest.approx(truth, abs=0.06)
    assert abs(information.ksg(x, rng.normal(size=3000))) < 0.05
    with pytest.raises(ArgumentError, match="k must"):
        information.ksg(x, y, k=0)


def test_classes_of_a_vector():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 600)
    x = rng.normal(size=(600, 2)) + labels[:, None]
    codes, known = encode(labels, "c")
    got = classes([(variable(x, "x"), codes, known, "c")], Options(bootstraps=5, null=0))[0]
    grid = np.linspace(-9, 10, 4001)
    d = np.exp(-0.5 * (grid + 1 / np.sqrt(2)) ** 2) / np.sqrt(2 * np.pi)
    e = np.exp(-0.5 * (grid - 1 / np.sqrt(2)) ** 2) / np.sqrt(2 * np.pi)
    truth = np.trapezoid(d * np.log(2 * d / (d + e)), grid)
    assert got.mean == pytest.approx(truth, abs=4 * got.std)


def turned(x, speed):
    """Rotated by an angle that grows with the squared distance from the origin: one to one, no mixture's shape."""
    angle = speed * np.sum(x**2, axis=1)
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([c * x[:, 0] - s * x[:, 1], s * x[:, 0] + c * x[:, 1]], axis=1)


def test_the_error_holds_what_unseen_samples_say_against_the_fit():
    rng = np.random.default_rng(7)
    x = rng.normal(size=(1500, 2))
    y = 0.8 * x + 0.6 * rng.normal(size=(1500, 2))
    truth = -np.log(1 - 0.8**2)
    plain, twisted = (
        information.mutual_information(*pair, bootstraps=12, null=0, orders=(1, 4, 8), ksg=False)
        for pair in ((x, y), (turned(x, 0.5), turned(y, -0.5)))
    )
    sampling = [float(np.std(found.samples, ddof=1)) for found in (plain, twisted)]
    assert plain.model_error < 1.5 * sampling[0] and abs(plain.mean - truth) < 3 * plain.std
    assert twisted.mean < truth - 4 * sampling[1] and twisted.std == twisted.model_error > 2 * sampling[1]
    assert abs(twisted.mean - truth) < 4 * twisted.std
    assert any("the error given is that of the fit" in note for note in twisted.notes)
    assert "model_error" in twisted.to_pandas()


def test_without_bootstraps_no_error_is_claimed():
    rng = np.random.default_rng(8)
    x = rng.normal(size=200)
    for count in (0, 1):
        found = information.mutual_information(x, rng.normal(size=200), bootstraps=count, null=0, orders=1, ksg=False)
        assert np.isnan(found.std) and any("no error: it takes bootstraps" in note for note in found.notes)
