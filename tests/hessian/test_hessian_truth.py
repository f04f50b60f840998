"""Against the truth: retraining without a row, bootstrap refits, all eigenvalues, many devices, sets of minima."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from shared_cases import PATIENT
from threadpoolctl import threadpool_limits

from jaxland import Problem, from_function, hessian, mlp
from jaxland.errors import ArgumentError, ConvergenceError, DataError

pytest.importorskip("sklearn")


def logistic(name, lam, seed=0):
    """L2 logistic regression, mean cross-entropy + (lam/2) |w|^2, the bias penalised too."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    x = x / 16.0 if name == "digits" else (x - x.mean(0)) / x.std(0)
    x = np.c_[x, np.ones(len(x))]
    a, b, ya, yb = train_test_split(x, y, test_size=0.3, random_state=seed, stratify=y)
    c = int(y.max()) + 1
    model = from_function(lambda p, z: z @ p, jnp.zeros((x.shape[1], c)))
    return Problem.from_model(model, a, ya, l2=lam / 2), (b, yb)


def fit(x, y, weight, lam, start, classes):
    """Weighted Newton fit of the same objective; ``weight`` is divided by the number of rows."""
    n, d = x.shape
    w = start.copy()
    eye = np.eye(classes)
    for _ in range(25):
        z = x @ w
        z -= z.max(1, keepdims=True)
        p = np.exp(z)
        p /= p.sum(1, keepdims=True)
        g = x.T @ ((p - eye[y]) * weight[:, None]) / n + lam * w
        if np.linalg.norm(g) < 1e-11:
            break
        h = np.zeros((d, classes, d, classes))
        for i in range(classes):
            for j in range(i, classes):
                block = (x * (weight * p[:, i] * ((i == j) - p[:, j]))[:, None]).T @ x / n
                h[:, i, :, j] = block
                h[:, j, :, i] = block
        full = h.reshape(d * classes, -1) + lam * np.eye(d * classes)
        w = w - np.linalg.solve(full, g.ravel()).reshape(w.shape)
    return w


def loss_of(w, x, y):
    z = x @ w
    return np.log(np.exp(z - z.max(1, keepdims=True)).sum(1)) + z.max(1) - z[np.arange(len(y)), y]


def trained(problem, lam):
    x, y = (np.asarray(a) for a in problem.data)
    classes = problem.params.shape[1]
    w = fit(x, y, np.ones(len(x)), lam, np.zeros(problem.params.shape), classes)
    return problem.at(w.ravel()), x, y, w, classes


# Pearson correlation on each test point's largest removals and Spearman correlation on random ones (medians over test
# points). Slopes only loosely: influence is a first-order prediction and underestimates large effects.
LEAVE_ONE_OUT = [
    ("breast_cancer", 0.1, 0.99, 0.999),
    ("breast_cancer", 0.01, 0.97, 0.999),
    ("wine", 0.01, 0.88, 0.995),
    pytest.param("digits", 0.01, 0.94, 0.995, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name, lam, largest, random", LEAVE_ONE_OUT)
def test_influence_against_leave_one_out_retraining(x64, name, lam, largest, random):
    count = 10 if name == "digits" else 20
    problem, (xt, yt) = logistic(name, lam)
    problem, x, y, w, classes = trained(problem, lam)
    curvature = hessian.curvature(problem, damping=0.0)
    assert curvature.gradient_norm < 1e-10
    before = loss_of(w, xt, yt)
    points = np.append(np.random.default_rng(1).choice(len(xt), 3, replace=False), before.argmax())
    predicted = hessian.influence(curvature, (xt[points], yt[points]), relative=False).values
    picked = np.random.default_rng(0).choice(len(x), 2 * count, replace=False)
    removals = {}

    def removal(i):
        if i not in removals:
            weight = np.ones(len(x))
            weight[i] = 0.0
            with threadpool_limits(1, "blas"):  # thousands of small products: threads only wait for each other
                removals[i] = (loss_of(fit(x, y, weight, lam, w, classes), xt, yt) - before)[points]
        return removals[i]

    r_largest, r_random, ranks, slopes = [], [], [], []
    for t, values in enumerate(predicted):
        rows = np.argsort(-np.abs(values))[:count]
        actual = np.array([removal(i)[t] for i in rows])
        r_largest.append(pearsonr(actual, values[rows]).statistic)
        slopes.append(np.polyfit(values[rows], actual, 1)[0])
        actual = np.array([removal(i)[t] for i in picked])
        r_random.append(pearsonr(actual, values[picked]).statistic)
        ranks.append(spearmanr(actual, values[picked]).statistic)
    print(f"{name} lam {lam}: Pearson {np.median(r_largest):.4f} largest, {np.median(r_random):.4f} random; "
          f"Spearman {np.median(ranks):.4f} random; slope {np.median(slopes):.2f}")  # fmt: skip
    assert np.median(r_largest) > largest
    assert np.median(ranks) > random and np.median(r_random) > 0.9
    assert 0.9 < np.median(slopes) < 3.5


@pytest.mark.parametrize("name, lam, least", [("breast_cancer", 0.1, 0.98), ("wine", 0.01, 0.95)])
def test_uncertainty_against_a_true_bootstrap(x64, name, lam, least):
    problem, (xt, _) = logistic(name, lam)
    problem, x, y, w, classes = trained(problem, lam)
    curvature = hessian.curvature(problem, damping=0.0)
    rng = np.random.default_rng(1)
    fits = [
        fit(x, y, rng.multinomial(len(x), np.full(len(x), 1 / len(x))).astype(float), lam, w, classes)
        for _ in range(150)
    ]

    def probability(v):
        z = xt @ v
        e = np.exp(z - z.max(1, keepdims=True))
        return (e / e.sum(1, keepdims=True))[:, 1]

    truth = np.std([probability(v) for v in fits], axis=0)
    linear = hessian.uncertainty(curvature, xt, of="probability", target=1)
    rank = spearmanr(linear.std, truth).statistic
    print(f"{name} lam {lam}: Spearman {rank:.3f}, median ratio {np.median(linear.std / truth):.2f}")
    assert rank > least
    assert 0.4 < np.median(linear.std / truth) < 1.5  # first order: too narrow where effects are large
    drawn = hessian.uncertainty(curvature, xt, of="probability", target=1, method="resample", samples=150)
    assert spearmanr(drawn.std, truth).statistic > least - 0.03


# -- spectrum --------------------------------------------------------------------------------------


def small(seed=0, n=80, l2=1e-3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6))
    x[:, 5] = 0.0  # a dead input
    y = (x[:, 0] + x[:, 1] ** 2 > 0.7).astype(int)
    return Problem.from_model(mlp((6, 8, 2), key=jax.random.key(seed)), x, y, l2=l2)


def test_spectrum_by_products_against_lapack(x64):
    problem = small()
    exact = hessian.spectrum(hessian.curvature(problem, damping=0.5))
    values = np.linalg.eigvalsh(problem.hessian())
    curvature = hessian.curvature(problem, damping=0.5, method="products")
    found = hessian.spectrum(curvature, lowest=4, highest=6, probes=30, depth=40)
    np.testing.assert_allclose(exact.values, values, atol=1e-12)
    assert exact.exact and not found.exact and found.converged
    np.testing.assert_allclose(found.highest, values[::-1][:6], atol=1e-8)
    np.testing.assert_allclose(found.lowest, values[:4], atol=1e-8)
    assert found.highest_residuals.max() < 1e-7 and exact.lowest_residuals.max() < 1e-12
    for name in ("trace", "log_determinant", "effective_parameters", "negative"):
        truth, zero = getattr(exact, name)()
        value, error = getattr(found, name)()
        assert zero == 0 and abs(value - truth) < 5 * error + 1e-9, name
    assert exact.trace()[0] == pytest.approx(values.sum())
    assert exact.log_determinant()[0] == pytest.approx(np.log(values + 0.5).sum())
    assert exact.effective_parameters()[0] == pytest.approx(np.sum(np.maximum(values, 0) / (np.abs(values) + 0.5)))
    with pytest.raises(ConvergenceError, match="positive definite"):
        exact.log_determinant(0.0)
    for spectrum in (exact, found):
        grid, density = spectrum.density()
        assert np.trapezoid(density, grid) == pytest.approx(1, abs=0.01)
    # the dead input's 8 weights are null, whatever the regulariser says
    assert len(exact.null_coordinates) == 8 and list(exact.null_coordinates) == list(found.null_coordinates)


def test_spectra_of_many_minima_in_one_call(x64):
    problem = small()
    points = np.random.default_rng(0).normal(size=(20, problem.size))
    found = hessian.spectra(problem, points, batch=8)
    np.testing.assert_allclose(found, [np.linalg.eigvalsh(problem.hessian(w)) for w in points], atol=1e-11)


# -- sets of minima --------------------------------------------------------------------------------


def test_a_set_of_minima(x64):
    problem = small(l2=1e-2)
    rng = np.random.default_rng(0)
    points = np.array([np.asarray(problem.w) + 0.05 * rng.normal(size=problem.size) for _ in range(3)])
    weights = np.array([3.0, 1.0, 0.0])
    group = hessian.minima(problem, points, weights, damping=0.5, lanes=2)
    np.testing.assert_allclose(group.weights, [0.75, 0.25, 0])
    np.testing.assert_allclose(group.eigenvalues, hessian.spectra(problem, points), atol=1e-12)
    xt, yt = rng.normal(size=(5, 6)), rng.integers(0, 2, 5)
    single = [hessian.curvature(problem, w, damping=0.5) for w in points]
    influence = group.influence((xt, yt))
    each = np.array([hessian.influence(c, (xt, yt)).values for c in single])
    np.testing.assert_allclose(influence.values, each, atol=1e-10)
    np.testing.assert_allclose(influence.mean, 0.75 * each[0] + 0.25 * each[1], atol=1e-10)
    same = 0.75 * (np.sign(each[0]) == np.sign(influence.mean)) + 0.25 * (np.sign(each[1]) == np.sign(influence.mean))
    np.testing.assert_allclose(influence.same_sign, same)
    assert influence.agreement[0] > 0.8
    assert (influence.robust(1.0)[influence.same_sign < 1] == 0).all()
    spread = group.uncertainty(xt, target=1)
    u = [hessian.uncertainty(c, xt, target=1) for c in single]
    np.testing.assert_allclose(spread.within**2, 0.75 * u[0].std ** 2 + 0.25 * u[1].std ** 2, rtol=1e-8)
    np.testing.assert_allclose(spread.between, np.sqrt(0.75 * 0.25) * np.abs(u[0].value - u[1].value), rtol=1e-8)
    np.testing.assert_allclose(spread.total**2, spread.within**2 + spread.between**2)
    score = group.extrapolation(xt, m=3, target=1)
    e = [hessian.extrapolation(c, xt, m=3, target=1).scores for c in single]
    np.testing.assert_allclose(score.score**2, 0.75 * e[0] ** 2 + 0.25 * e[1] ** 2, rtol=1e-8)
    same = hessian.minima(problem, points[:1].repeat(2, axis=0), damping=0.5).uncertainty(xt, target=1)
    np.testing.assert_allclose(same.between, 0, atol=1e-12)
    for result in (influence, spread, score):
        assert len(result.to_pandas())


def test_sets_of_minima_say_what_is_wrong(x64):
    problem = small(l2=0.0)
    points = np.random.default_rng(0).normal(size=(3, problem.size))
    with pytest.raises(ConvergenceError, match=r"params\[\d\] has an eigenvalue"):
        hessian.minima(problem, points, damping=1e-6)
    with pytest.raises(DataError, match="flat vectors"):
        hessian.minima(problem, points[:, :-1])
    points[1, 0] = np.nan
    with pytest.raises(DataError, match=r"params\[1\] is not finite"):
        hessian.spectra(problem, points)
    points[1, 0] = 0.0
    for weights in ([1, 2], [-1, 1, 1], [0, 0, 0]):
        with pytest.raises(ArgumentError, match="weights must be 3"):
            hessian.minima(problem, points, weights)


# -- devices ---------------------------------------------------------------------------------------

MANY = """
import json, sys
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
from jaxland import Problem, hessian, mlp
rng = np.random.default_rng(0)
x = rng.normal(size=(53, 3)); y = (x[:, 0] * x[:, 1] > 0).astype(int)
problem = Problem.from_model(mlp((3, 5, 2)), x, y, l2=0.05, chunk=int(sys.argv[2]) or None)
mesh = jax.make_mesh((int(sys.argv[1]),), ("data",)) if int(sys.argv[1]) > 1 else None
assert len(jax.devices()) == int(sys.argv[1])
xt, yt = rng.normal(size=(4, 3)), np.array([0, 1, 1, 0])
out = {}
for method, kind in (("explicit", "hessian"), ("products", "gauss-newton")):
    c = hessian.curvature(problem, kind=kind, damping=0.3, method=method, mesh=mesh, tolerance=1e-12)
    f = hessian.influence(c, (xt, yt))
    out[method + kind] = [f.values.tolist(), hessian.uncertainty(c, xt).std.tolist(),
        np.asarray(hessian.resampled_steps(c, 3)).tolist(), hessian.extrapolation(c, xt, m=3).scores.tolist()]
print(json.dumps(out))
"""


@pytest.mark.slow
def test_eight_devices_equal_one(tmp_path):
    results = []
    for devices, chunk in ((1, 0), (8, 4)):
        flags = f"--xla_force_host_platform_device_count={devices} {PATIENT}"
        env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(
            [sys.executable, "-c", MANY, str(devices), str(chunk)], env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        results.append(json.loads(done.stdout.splitlines()[-1]))
    for key, parts in results[0].items():
        for a, b in zip(parts, results[1][key]):
            np.testing.assert_allclose(np.array(a), np.array(b), rtol=1e-7, atol=1e-9, err_msg=key)
