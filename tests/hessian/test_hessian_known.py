"""Known answers: quadratic losses in closed form, explicit against products only, chunks, dampings, errors."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxland import Problem, from_function, hessian, mlp
from jaxland.errors import ArgumentError, ConvergenceError, DataError, ProblemError

RNG = np.random.default_rng(5)


def linear(n=40, d=5, lam=0.1, seed=0, **kw):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    y = x @ rng.normal(size=d) + 0.3 * rng.normal(size=n)
    w = np.linalg.solve(x.T @ x / n + lam * np.eye(d), x.T @ y / n)
    model = from_function(lambda p, a: a @ p, jnp.asarray(w))
    problem = Problem.from_model(model, x, y, loss="squared_error", l2=lam, **kw)
    return problem, x, y, w


@lru_cache  # one problem, compiled once, for many tests
def network(chunk=None, n=60, l2=1e-2, seed=0, trained=True):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    y = (x[:, 0] * x[:, 1] + 0.5 * x[:, 2] > 0).astype(int)
    problem = Problem.from_model(mlp((3, 5, 2), key=jax.random.key(seed)), x, y, l2=l2, chunk=chunk)
    return problem.at(minimise(problem)) if trained else problem


def minimise(problem, steps=60):
    """A few damped Newton steps."""
    w = problem.w
    for _ in range(steps):
        values, vectors = np.linalg.eigh(problem.hessian(w))
        step = -(vectors / np.maximum(np.abs(values), 1e-3)) @ (vectors.T @ np.asarray(problem.gradient(w)))
        scale = 1.0
        while scale > 1e-6 and problem.energy(w + scale * step) > problem.energy(w):
            scale /= 2
        w = w + scale * step
    return w


# -- quadratic loss ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["explicit", "products"])
@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_influence_of_least_squares_in_closed_form(x64, method, damping):
    problem, x, y, w = linear()
    n = len(x)
    curvature = hessian.curvature(problem, damping=damping, method=method, tolerance=1e-13)
    xt, yt = RNG.normal(size=(7, 5)), RNG.normal(size=7)
    found = hessian.influence(curvature, (xt, yt), relative=True)
    h = 2 * x.T @ x / n + (0.2 + damping) * np.eye(5)
    g, f = 2 * (x @ w - y)[:, None] * x, 2 * (xt @ w - yt)[:, None] * xt
    exact = f @ np.linalg.solve(h, g.T) / n
    np.testing.assert_allclose(found.values, exact, rtol=1e-9, atol=1e-12)
    s = np.linalg.solve(h, g.T)
    np.testing.assert_allclose(found.self_influence.values, np.sum(g * s.T, axis=1), rtol=1e-9)
    np.testing.assert_allclose(found.relatif("theta"), exact / np.linalg.norm(s, axis=0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.relatif("l"), exact / np.sqrt(np.sum(g * s.T, axis=1)), rtol=1e-9, atol=1e-12)
    up = hessian.influence(curvature, (xt, yt), sign="upweight")
    np.testing.assert_allclose(up.values, -n * exact, rtol=1e-9, atol=1e-10)


def test_influence_predicts_removal_exactly_to_first_order(x64):
    """Weight of one example moved by a little: the prediction is the derivative."""
    problem, x, y, _ = linear()
    xt, yt = RNG.normal(size=(1, 5)), RNG.normal(size=1)
    found = hessian.influence(hessian.curvature(problem, damping=0.0), (xt, yt))
    e = 1e-4
    for i in (0, 17):
        weight = np.ones(40)
        moved = []
        for s in (1 - e, 1 + e):
            weight[i] = s
            a = (x * weight[:, None]).T @ x / 40 + 0.1 * np.eye(5)
            moved.append(float((yt - xt @ np.linalg.solve(a, (x * weight[:, None]).T @ y / 40))[0] ** 2))
        np.testing.assert_allclose(found.values[0, i], -(moved[1] - moved[0]) / (2 * e), rtol=1e-6)


@pytest.mark.parametrize("method", ["explicit", "products"])
def test_uncertainty_of_least_squares_in_closed_form(x64, method):
    problem, x, y, w = linear()
    n = len(x)
    curvature = hessian.curvature(problem, damping=0.0, method=method, tolerance=1e-13)
    xt = RNG.normal(size=(6, 5))
    found = hessian.uncertainty(curvature, xt)
    h, g = 2 * x.T @ x / n + 0.2 * np.eye(5), 2 * (x @ w - y)[:, None] * x
    a = xt @ np.linalg.solve(h, g.T) / n
    variance = np.sum(a**2, 1) - np.sum(a, 1) ** 2 / n
    np.testing.assert_allclose(found.std**2, variance, rtol=1e-9)
    np.testing.assert_allclose(found.laplace**2, np.sum(xt * np.linalg.solve(h, xt.T).T, 1) / n, rtol=1e-9)
    np.testing.assert_allclose(found.value, xt @ w, rtol=1e-12)
    drawn = hessian.uncertainty(curvature, xt, method="resample", samples=4000, predictions="linearised")
    np.testing.assert_allclose(drawn.std, found.std, rtol=0.06)
    again = hessian.uncertainty(curvature, xt, method="resample", samples=4000)  # linear model: the same numbers
    np.testing.assert_allclose(again.samples, drawn.samples, atol=1e-9)
    low, high = again.interval(0.9)
    assert (low < found.value).all() and (found.value < high).all()


def test_extrapolation_of_a_direction_the_data_fix_is_zero(x64):
    """Data in a plane of a five-dimensional space: predictions within it do not extrapolate, out of it fully do."""
    x = np.zeros((30, 5))
    x[:, :2] = RNG.normal(size=(30, 2))
    model = from_function(lambda p, a: a @ p, jnp.zeros(5))
    problem = Problem.from_model(model, x, x[:, 0], loss="squared_error", params=jnp.eye(5)[0])
    for method in ("explicit", "products"):
        curvature = hessian.curvature(problem, damping=1e-3, method=method)
        found = hessian.extrapolation(curvature, np.eye(5), m=2)
        np.testing.assert_allclose(found.scores, [0, 0, 1, 1, 1], atol=1e-9)
        np.testing.assert_allclose(found.at(0), 1)
        h = np.linalg.eigvalsh(problem.hessian())[::-1]
        np.testing.assert_allclose(found.eigenvalues[:2], h[:2], rtol=1e-9)
        assert list(hessian.null_coordinates(curvature)) == [2, 3, 4]
        np.testing.assert_allclose(found.soft[2:], 1, atol=1e-9)


def test_zero_damping_of_a_rank_deficient_curvature_says_what_to_do(x64):
    x = np.zeros((30, 5))
    x[:, :2] = RNG.normal(size=(30, 2))
    model = from_function(lambda p, a: a @ p, jnp.eye(5)[0] * 1.01)
    problem = Problem.from_model(model, x, x[:, 0], loss="squared_error")
    curvature = hessian.curvature(problem.at(jnp.eye(5)[0]), damping=0.0)
    with pytest.raises(ConvergenceError, match=r"singular.*damping above"):
        hessian.influence(curvature, (np.eye(5), np.zeros(5)))
    # by products: the right-hand side lies in the range, the least-norm solution is found
    reach = hessian.curvature(problem.at(jnp.eye(5)[0]), damping=0.0, method="products")
    solved = reach.solve(np.eye(5)[:1])
    np.testing.assert_allclose(solved.x[0, 2:], 0, atol=1e-12)
    with pytest.raises(ConvergenceError):
        reach.solve(np.eye(5)[3:4])


# -- explicit against products ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hessian", pytest.param("gauss-newton", marks=pytest.mark.slow)])
def test_explicit_and_products_agree(x64, kind):
    problem = network()
    xt, yt = RNG.normal(size=(9, 3)), RNG.integers(0, 2, 9)
    made = {
        m: hessian.curvature(problem, kind=kind, damping=1e-2, method=m, tolerance=1e-10)
        for m in ("explicit", "products", "gram")
        if not (m == "gram" and kind == "hessian")
    }
    for of in ("loss", "logit", "probability", "predicted_loss"):
        values = [hessian.influence(c, (xt, yt), of=of, relative=True) for c in made.values()]
        for other in values[1:]:
            np.testing.assert_allclose(other.values, values[0].values, atol=1e-6 * np.abs(values[0].values).max())
            np.testing.assert_allclose(other.relatif("l"), values[0].relatif("l"), rtol=1e-5, atol=1e-7)
        spread = [hessian.uncertainty(c, (xt, yt), of=of).std for c in made.values()]
        scores = [hessian.extrapolation(c, (xt, yt), of=of, m=4) for c in made.values()]
        for other, score in zip(spread[1:], scores[1:]):
            np.testing.assert_allclose(other, spread[0], rtol=1e-6)
            np.testing.assert_allclose(score.scores, scores[0].scores, rtol=1e-6)
            np.testing.assert_allclose(score.soft, scores[0].soft, rtol=1e-6)
            np.testing.assert_allclose(score.eigenvalues[:4], scores[0].eigenvalues[:4], rtol=1e-6)


def test_resampled_parameters_agree(x64):
    problem = network()
    a, b = (
        hessian.resampled_steps(hessian.curvature(problem, damping=1e-2, method=m, tolerance=1e-10), 20, seed=3)
        for m in ("explicit", "products")
    )
    np.testing.assert_allclose(a, b, atol=1e-7)


@pytest.mark.slow
def test_chunks_change_nothing(x64):
    whole, parts = network(), network(chunk=7)
    parts = parts.at(whole.w)
    xt, yt = RNG.normal(size=(4, 3)), RNG.integers(0, 2, 4)
    for method in ("explicit", "products"):
        a, b = (hessian.curvature(p, damping=1e-2, method=method, tolerance=1e-11) for p in (whole, parts))
        assert b.products.rows(1) <= 7
        np.testing.assert_allclose(
            hessian.influence(a, (xt, yt)).values, hessian.influence(b, (xt, yt)).values, atol=1e-9
        )
        np.testing.assert_allclose(hessian.uncertainty(a, xt).std, hessian.uncertainty(b, xt).std, rtol=1e-8)
        np.testing.assert_allclose(
            hessian.extrapolation(a, xt, m=3).scores, hessian.extrapolation(b, xt, m=3).scores, rtol=1e-8
        )


def test_one_quantity_at_a_time_equals_all_and_top_equals_full(x64):
    problem = network()
    curvature = hessian.curvature(problem, damping=1e-2)
    xt, yt = RNG.normal(size=(9, 3)), RNG.integers(0, 2, 9)
    full = hessian.influence(curvature, (xt, yt), top=60)
    few = hessian.influence(curvature, (xt, yt), top=4, full=False, batch=2)
    assert few.values is None
    np.testing.assert_array_equal(few.most_positive, np.argsort(-full.values, axis=1)[:, :4])
    np.testing.assert_array_equal(few.most_negative, np.argsort(full.values, axis=1)[:, :4])
    np.testing.assert_allclose(few.positive_values, -np.sort(-full.values, axis=1)[:, :4], rtol=1e-9)
    names, sums = full.groups(np.arange(60) % 3, centred=False)
    np.testing.assert_allclose(sums.sum(1), full.values.sum(1))
    assert list(names) == [0, 1, 2]
    with pytest.raises(ArgumentError, match="nothing remains"):
        full.groups(np.zeros(60))
    with pytest.raises(ArgumentError, match="0 to 59"):
        full.left_out([60])
    with pytest.raises(ArgumentError, match="full"):
        few.relatif()


def test_rows_left_out_of_a_mean_loss_by_centred_sums(x64):
    problem, x, y, _ = linear(n=400, lam=1.0)
    n, xt = len(x), RNG.normal(size=(3, 5))
    found = hessian.influence(hessian.curvature(problem), xt, of="output")
    label = np.arange(n) % 20
    _, centred = found.groups(label)
    _, plain = found.groups(label, centred=False)
    np.testing.assert_allclose(found.left_out(label == 7), centred[:, 7])
    assert found.left_out([]).tolist() == [0, 0, 0]
    retrained = []
    for k in range(20):
        a, b = x[label != k], y[label != k]
        w = np.linalg.solve(a.T @ a / len(a) + np.eye(5), a.T @ b / len(a))
        retrained.append(xt @ w - found.quantity)
    missed = [np.linalg.norm(p.T - retrained) / np.linalg.norm(retrained) for p in (centred, plain)]
    assert missed[0] < 0.06 and missed[1] > 3 * missed[0]


def test_any_function_of_the_outputs(x64):
    problem = network()
    curvature = hessian.curvature(problem, damping=1e-2)
    xt, yt = RNG.normal(size=(3, 3)), np.array([0, 1, 1])

    def gap(z, y):
        return z[:, 1] - z[:, 0]

    both = [hessian.influence(curvature, xt, of="logit", target=t).values for t in (0, 1)]
    np.testing.assert_allclose(hessian.influence(curvature, (xt, yt), of=gap).values, both[1] - both[0], atol=1e-12)


# -- damping, indefinite, warnings ------------------------------------------------------------------


def test_negative_curvature_is_told_with_the_damping_that_cures_it(x64):
    problem = network(trained=False, l2=0.0)
    lowest = np.linalg.eigvalsh(problem.hessian())[0]
    assert lowest < -1e-3
    xt, yt = RNG.normal(size=(2, 3)), np.array([0, 1])
    with pytest.warns(hessian.CurvatureWarning, match="not positive definite"):
        by_products = hessian.curvature(problem, damping=1e-4, method="products", deflation=0)
    with pytest.raises(ConvergenceError, match=r"negative curvature.*damping above"):
        hessian.influence(by_products, (xt, yt))
    with pytest.warns(hessian.CurvatureWarning, match="not positive definite"):
        explicit = hessian.curvature(problem, damping=1e-4)
    with pytest.warns(hessian.CurvatureWarning, match="negative eigenvalues"):
        found = hessian.influence(explicit, (xt, yt))  # a documented result, with a warning
    assert np.isfinite(found.values).all()
    with pytest.raises(ConvergenceError, match="negative self-influence"):
        found.relatif("l")
    with pytest.warns(hessian.CurvatureWarning, match="stationary"):
        chosen = hessian.curvature(problem)
    assert chosen.damping_chosen and chosen.damping > -lowest and chosen.positive_definite
    assert np.isfinite(hessian.influence(chosen, (xt, yt)).relatif("l")).all()


def test_damping_is_swept_when_not_given(x64):
    problem = network(l2=1e-3)
    xt, yt = RNG.normal(size=(4, 3)), RNG.integers(0, 2, 4)
    found = hessian.influence(hessian.curvature(problem), (xt, yt))
    assert found.sweep is not None and len(found.sweep.dampings) >= 3
    assert found.sweep.to_first[found.sweep.first] == pytest.approx(1)
    assert hessian.influence(hessian.curvature(problem, damping=1e-2), (xt, yt)).sweep is None
    named = hessian.damping_sweep(hessian.curvature(problem, damping=1e-2), (xt, yt), [1e-1, 1.0])
    np.testing.assert_allclose(named.dampings, [1e-2, 1e-1, 1.0])
    assert named.positive_definite.all() and len(named.to_pandas()) == 3


def test_dropout_and_batch_statistics_are_noticed():
    from flax import nnx

    from jaxland import from_nnx
    from jaxland.hessian.building import model_notes as notes

    class Net(nnx.Module):
        def __init__(self, kind, rngs):
            self.first = nnx.Linear(3, 8, rngs=rngs)
            self.middle = nnx.Dropout(0.5, rngs=rngs) if kind == "dropout" else nnx.BatchNorm(8, rngs=rngs)
            self.last = nnx.Linear(8, 2, rngs=rngs)

        def __call__(self, x):
            return self.last(self.middle(nnx.relu(self.first(x))))

    x, y = RNG.normal(size=(20, 3)).astype(np.float32), RNG.integers(0, 2, 20)
    for kind, word in (("dropout", "dropout"), ("batch", "batch statistics")):
        module = Net(kind, nnx.Rngs(0))
        module.train()
        problem = Problem.from_model(from_nnx(module), x, y)
        assert any(word in note for note in notes(problem))
        if kind == "dropout":
            with pytest.warns(hessian.CurvatureWarning, match=word):
                hessian.curvature(problem, damping=1.0, method="products")
        module.eval()
        assert not list(notes(Problem.from_model(from_nnx(module), x, y)))


# -- errors -----------------------------------------------------------------------------------------


def test_a_plain_energy_has_a_spectrum_but_no_examples(x64):
    problem = Problem.from_energy(lambda w: jnp.sum(jnp.arange(1.0, 5.0) * w**2), 4)
    curvature = hessian.curvature(problem)
    np.testing.assert_allclose(hessian.spectrum(curvature, lowest=4).lowest, [2, 4, 6, 8], rtol=1e-12)
    for call in (hessian.influence, hessian.uncertainty, hessian.extrapolation):
        with pytest.raises(ProblemError, match="plain energy"):
            call(curvature, np.zeros((1, 2)))
    with pytest.raises(ProblemError, match="plain energy"):
        hessian.self_influence(curvature)
    with pytest.raises(ProblemError, match="Gauss-Newton"):
        hessian.curvature(problem, kind="gauss-newton")


def test_rows_with_bad_losses_or_gradients_are_named(x64):
    x = RNG.normal(size=(9, 1))
    x[4] = 0.0
    model = from_function(lambda p, a: jnp.sqrt(jnp.abs(a @ p)), jnp.ones((1, 1)))  # infinite slope at 0
    with pytest.raises(DataError, match="gradient of training row 4 is not finite"):
        hessian.curvature(Problem.from_model(model, x, x[:, 0], loss="squared_error"))
    logs = from_function(lambda p, a: jnp.log(a @ p), jnp.ones((1, 1)))
    with pytest.raises(DataError, match="loss of 5 training rows is not finite; the first is row"):
        hessian.curvature(
            Problem.from_model(logs, np.r_[x[:4] ** 2 + 1, x[4:] ** 2 - 99], np.ones(9), loss="squared_error")
        )
    good = network()
    with pytest.raises(DataError, match="parameter 3 is not finite"):
        hessian.curvature(good, good.w.at[3].set(jnp.nan))


def test_bad_arguments_are_named(x64):
    problem = network()
    for kw in ({"kind": "fisher"}, {"method": "magic"}, {"damping": -1.0}, {"damping": np.nan}, {"tolerance": 0.0}):
        with pytest.raises(ArgumentError, match=next(iter(kw))):
            hessian.curvature(problem, **kw)
    with pytest.raises(ArgumentError, match="gram"):
        hessian.curvature(problem, method="gram")
    curvature = hessian.curvature(problem, damping=1e-2)
    xt, yt = RNG.normal(size=(4, 3)), RNG.integers(0, 2, 4)
    with pytest.raises(ArgumentError, match="targets"):
        hessian.influence(curvature, xt)
    with pytest.raises(ArgumentError, match="sign"):
        hessian.influence(curvature, (xt, yt), sign="both")
    with pytest.raises(ArgumentError, match=r"of takes loss, .*got 'colour'"):
        hessian.influence(curvature, (xt, yt), of="colour")
    with pytest.raises(ArgumentError, match=r"class 0\.\.1"):
        hessian.uncertainty(curvature, xt, target=2)
    with pytest.raises(ArgumentError, match="one output"):
        hessian.uncertainty(curvature, xt, of="output")
    with pytest.raises(DataError, match="rows of shape"):
        hessian.influence(curvature, (xt[:, :2], yt))
    with pytest.raises(DataError, match="4 rows"):
        hessian.influence(curvature, (xt, yt[:3]))
    bad = xt.copy()
    bad[2, 1] = np.inf
    with pytest.raises(DataError, match="row 2"):
        hessian.uncertainty(curvature, bad)
    with pytest.raises(ArgumentError, match="m or threshold"):
        hessian.extrapolation(curvature, xt, m=1, threshold=1.0)
    with pytest.raises(ArgumentError, match=r"m must be 0\.\."):
        hessian.extrapolation(curvature, xt, m=1000)
    with pytest.raises(ArgumentError, match="components"):
        curvature.solve(np.ones((1, 4)))
    regression = Problem.from_model(mlp((3, 4, 1)), xt, xt[:, 0], loss="squared_error")
    with pytest.raises(ArgumentError, match="needs a classifier"):
        hessian.uncertainty(hessian.curvature(regression, damping=10.0), xt, of="probability")


def test_a_cut_inside_an_unresolved_cluster_is_refused(x64):
    x = RNG.normal(size=(40, 3))
    wide = Problem.from_model(mlp((3, 60, 2)), x, (x[:, 0] > 0).astype(int))
    with pytest.warns(hessian.CurvatureWarning, match="stationary"):
        curvature = hessian.curvature(wide, damping=1.0, method="products")
    with pytest.raises(ConvergenceError, match=r"unresolved cluster.*soft score"):
        hessian.extrapolation(curvature, np.zeros((1, 3)), threshold=1e-7, max_products=60)
    with pytest.raises(ConvergenceError, match="max_iterations"):
        slow = hessian.curvature(
            network(), damping=1e-6, method="products", deflation=0, max_iterations=2, tolerance=1e-12
        )
        hessian.uncertainty(slow, np.ones((1, 3)))


# -- saving -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["explicit", "products"])
def test_saved_and_loaded(x64, method, tmp_path):
    problem = network()
    curvature = hessian.curvature(problem, damping=1e-2, method=method)
    xt = RNG.normal(size=(4, 3))
    first = hessian.extrapolation(curvature, xt, m=3)
    again = hessian.load(curvature.save(tmp_path / "curvature.npz"), problem.at(problem.w * 0))
    assert again.damping == curvature.damping and again.method == method
    if method == "explicit":
        assert again.known.eigen is not None and again.known.matrix is not None
    else:
        assert again.factorisation().filled == curvature.factorisation().filled
    np.testing.assert_allclose(hessian.extrapolation(again, xt, m=3).scores, first.scores, rtol=1e-9)
    np.testing.assert_allclose(hessian.uncertainty(again, xt).std, hessian.uncertainty(curvature, xt).std, rtol=1e-6)
    with pytest.raises(DataError, match="other data"):
        hessian.load(tmp_path / "curvature.npz", network(seed=1))
    with pytest.raises(DataError, match="parameters and"):
        hessian.load(tmp_path / "curvature.npz", network(n=50, trained=False))
    (tmp_path / "broken.npz").write_bytes((tmp_path / "curvature.npz").read_bytes()[:200])
    with pytest.raises(DataError, match="not a curvature file"):
        hessian.load(tmp_path / "broken.npz", problem)
    with pytest.raises(DataError, match="does not exist"):
        hessian.load(tmp_path / "none.npz", problem)


def test_tables_and_html(x64):
    curvature = hessian.curvature(network(), damping=1e-2)
    xt, yt = RNG.normal(size=(4, 3)), RNG.integers(0, 2, 4)
    found = hessian.influence(curvature, (xt, yt), top=3, sweep=True)
    assert len(found.to_pandas()) == 4 * 2 * 3
    for result in (
        curvature, found, found.sweep, hessian.uncertainty(curvature, xt), hessian.extrapolation(curvature, xt),
        hessian.spectrum(curvature),
    ):  # fmt: skip
        assert "<table" in result._repr_html_()
        assert len(result.to_pandas())
    assert len(found.self_influence.to_pandas()) == 60


@pytest.mark.slow
def test_float32_stays_float32_and_agrees():
    with jax.enable_x64(True):
        exact = network()
        w64 = np.asarray(exact.w)
        reference = hessian.influence(hessian.curvature(exact, damping=1e-2), exact.data, relative=False).values
    problem = network(trained=False).at(w64.astype(np.float32))
    assert problem.dtype == np.float32
    curvature = hessian.curvature(problem, damping=1e-2, method="products", tolerance=1e-5)
    values = hessian.influence(curvature, problem.data, relative=False).values
    assert curvature.solve(problem.w[None]).x.dtype == jnp.float32
    np.testing.assert_allclose(values, reference, atol=1e-3 * np.abs(reference).max())
