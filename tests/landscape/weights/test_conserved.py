import jax
import numpy as np
import pytest

from jaxland import Problem, mlp
from jaxland.data import load
from jaxland.errors import ArgumentError, DataError
from jaxland.landscape.result import Landscape
from jaxland.landscape.tree import level_cut
from jaxland.landscape.weights.conserved import conserved_weights
from jaxland.landscape.weights.null import q_values
from jaxland.landscape.weights.parameters import ParameterTable
from jaxland.landscape.weights.scoring import Scorer, auc
from jaxland.landscape.weights.settings import ConservationSettings
from jaxland.problem.symmetry import NoSymmetry, align_many

D, H = 4, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, D))
Y = (X[:, 0] + 0.5 * X[:, 1] > 0).astype(int)


def problem_of(sizes=(D, H, 2), y=Y, **options):
    return Problem.from_model(mlp(sizes), X, y, l2=1e-3, **options)


def planted(problem, fixed, k=12, others=40, seed=1):
    """A landscape of two funnels: in the first, ``fixed`` weights have the values given, all others are random.

    Every minimum is stored as a random image of itself.
    """
    rng = np.random.default_rng(seed)
    base = rng.normal(size=problem.size) + 2 * np.sign(rng.normal(size=problem.size))
    points = []
    for i in range(k + others):
        w = base + 0.3 * rng.normal(size=problem.size)
        if i < k:
            for j, value in fixed.items():
                w[j] = value + 1e-3 * rng.normal()
        points.append(problem.symmetry.random_image(w, rng))
    energies = np.concatenate([np.linspace(0.0, 0.1, k), np.linspace(0.2, 0.5, others)])
    ends = [[i, i + 1] for i in range(k + others - 1)]
    heights = [0.15 if j < k else 0.6 + 0.001 * j for i, j in ends]
    return Landscape.from_points(energies, points, heights, ends, problem=problem)


def weight(table, name):
    return table.names.index(name)


@pytest.fixture(scope="module")
def found():
    with jax.enable_x64(True):
        problem = problem_of()
        names = ParameterTable.of(problem, problem.size, "abcd", None, ["no", "yes"])
        fixed = {weight(names, f"a → h{u}"): 4.0 + u for u in (1, 2, 3)}
        fixed |= {weight(names, "c → h2"): 0.0, weight(names, "h1 → yes"): 3.0}
        land = planted(problem, fixed)
        cut = level_cut(land, first=0.7, delta=0.1)
        test = (X[:150], Y[:150])
        result = conserved_weights(
            land,
            cut,
            ConservationSettings(draws=200, shuffles=20, seed=3),
            test=test,
            features="abcd",
            classes=["no", "yes"],
        )
        return result, names, land


def test_planted_weights_are_found_under_random_images(found):
    result, names, _ = found
    group = result["5_1"]
    assert group.members.tolist() == list(range(12)) and group.name == result.headline.name
    live = {names.names[j] for j in np.flatnonzero(group.live_conserved)}
    # Alignment is up to the frame of the lowest member: hidden units may carry other numbers, inputs may not.
    assert len(live) == 4 and sum(name.startswith("a → h") for name in live) == 3
    assert sum(name.endswith("yes") for name in live) == 1
    dead = {names.names[j] for j in np.flatnonzero(group.conserved & ~group.live)}
    assert len(dead) == 1 and dead.pop().startswith("c → h")
    assert group.std[group.live_conserved].max() < 0.003
    assert group.std[~group.conserved].min() > 0.05


def test_planted_weights_are_significant_and_others_are_not(found):
    result, _, _ = found
    group = result["5_1"]
    assert group.null_kind == "others"
    assert (group.q_value[group.live_conserved] <= 0.05).all()
    assert (group.q_value[~group.conserved] > 0.05).all()
    assert group.p_group == pytest.approx(1 / 201) and group.q_group <= 0.02 and group.p_spread <= 0.05
    assert [g.name for g in result.significant] == [group.name]
    assert group.spread_ratio < 0.6 and group.spread_z < -3 and group.q_spread <= 0.02
    assert set(np.flatnonzero(group.live_conserved)) <= set(np.flatnonzero(group.agreeing()))
    everything = result["1_1"]
    assert everything.null_kind == "none" and np.isnan(everything.p_group) and not everything.live_conserved.any()


def test_attribution_of_planted_weights(found):
    result, _, _ = found
    inputs = result["5_1"].inputs
    assert inputs.labels == ("a", "b", "c", "d") and inputs.count.tolist() == [3, 0, 0, 0]
    assert inputs.mass[0] == pytest.approx(5 + 6 + 7, abs=0.01) and not inputs.mass[1:].any()
    assert inputs.q_value[0] <= 0.02 and (inputs.q_value[1:] == 1).all()
    assert inputs.spread_ratio[0] < 0.02 and inputs.spread_q[0] <= 0.03 and (inputs.spread_ratio[[1, 3]] > 0.5).all()
    assert inputs.path_mass[0].tolist() == pytest.approx([0, 15], abs=0.1)
    assert abs(inputs.path_signed[0, 1]) == pytest.approx(15, abs=0.1)
    table = inputs.to_pandas()
    assert table["input"][0] == "a"


def test_tables(found):
    result, _, _ = found
    assert len(result.to_pandas()) == len(result.groups)
    levels = result.by_level()
    assert len(levels) == result.cut.levels
    assert levels["leading inputs"].dropna().unique().tolist() == ["a"]
    group = result["5_1"]
    assert group.to_pandas()["weight"].head(4).str.contains("a → h|yes").all()
    assert group.sweep.to_pandas()["live conserved"].is_monotonic_increasing
    assert group.sweep.count[2] == 4 and group.sweep.p_value[2] < 0.01
    assert "1 of" in result._repr_html_()
    with pytest.raises(ArgumentError, match="was not analysed"):
        result[f"{result.cut.levels}_1"]


def test_p_values_of_groups_in_which_nothing_is_planted_are_uniform(x64):
    problem, spread, count = problem_of(), [], []
    for seed in range(24):
        land = planted(problem, {}, k=15, seed=seed)
        group = conserved_weights(
            land,
            level_cut(land, first=0.7, delta=0.1),
            ConservationSettings(draws=40, threshold=0.25, min_members=15, seed=seed),
        )["5_1"]
        spread.append(group.p_spread)
        count.append(group.p_group)
    for p in (spread, count):
        assert 0.3 < np.mean(p) < 0.8 and np.mean(np.array(p) <= 0.05) <= 0.2


def test_a_real_cause_survives_validation(x64):
    """Weights fitted by hand: input a alone decides, and its weights are the conserved ones."""
    problem = problem_of(y=(X[:, 0] > 0).astype(int))
    names = ParameterTable.of(problem, problem.size, "abcd", None, ["no", "yes"])
    rng, points = np.random.default_rng(5), []
    for i in range(30):
        w = 0.25 * rng.normal(size=problem.size)
        if i < 10:
            for u in (1, 2, 3):
                w[weight(names, f"a → h{u}")] = 1.0 + 0.5 * u
                w[weight(names, f"h{u} → yes")], w[weight(names, f"h{u} → no")] = 2.0 + u, -2.0 - u
        points.append(problem.symmetry.random_image(w, rng))
    energies = np.linspace(0, 0.5, 30)
    ends = [[i, i + 1] for i in range(29)]
    land = Landscape.from_points(energies, points, [0.2 if j < 10 else 0.7 for _, j in ends], ends, problem=problem)
    result = conserved_weights(
        land,
        level_cut(land, first=0.8, delta=0.1),
        ConservationSettings(draws=50),
        test=(X[:150], problem.y[:150]),
        features="abcd",
    )
    group = result.headline
    assert group.live_conserved.sum() == 9 and len(group.members) == 10
    check = group.validation
    assert check.metric == "AUC" and check.size == 9 and check.baseline.mean() > 0.95
    assert check.conserved.mean() > 0.1 > check.others.mean() and check.p_value <= 0.05 and check.supported
    assert check.like_size > 0 and np.isfinite(check.p_like) and len(check.to_pandas()) == 40
    # The best network rests on a planted weight most; only the headline is asked.
    assert group.live_conserved[group.removal.argmax()] and group.removal.max() > 0.01
    assert "removal costs" in group.to_pandas()
    assert all(g.removal is None for g in result.groups if g is not group)
    comparison = group.comparison
    assert (
        comparison.labels[int(comparison.permutation.argmax())]
        == "a"
        == comparison.labels[int(comparison.gradient.argmax())]
    )
    assert comparison.correlations["permutation importance", "input gradient"][0] > 0
    assert comparison.to_pandas()["input"][0] == "a" and len(comparison.to_pandas("correlations")) == 9


def test_agreement_without_any_conserved_weight(x64):
    """Large weights that agree to 0.05 are not conserved at n = 0.01; the spread against chance still finds them."""
    problem = problem_of()
    names = ParameterTable.of(problem, problem.size)
    agree = [weight(names, f"x{i} → h{u}") for i in (2, 3) for u in (1, 2, 3)]
    rng, points = np.random.default_rng(7), []
    base = rng.normal(size=problem.size) + 3 * np.sign(rng.normal(size=problem.size))
    for i in range(50):
        scatter = np.full(problem.size, 0.6)
        if i < 10:
            scatter[agree] = 0.05
        points.append(problem.symmetry.random_image(base + scatter * rng.normal(size=problem.size), rng))
    heights = [0.15 if j < 10 else 0.7 for j in range(1, 50)]
    ends = [[i, i + 1] for i in range(49)]
    energies = np.concatenate([np.linspace(0, 0.1, 10), np.linspace(0.2, 0.5, 40)])
    land = Landscape.from_points(energies, points, heights, ends, problem=problem)
    result = conserved_weights(
        land, level_cut(land, first=0.8, delta=0.1), ConservationSettings(draws=100, shuffles=10), test=(X, Y)
    )
    group = result.headline
    assert not group.live_conserved.any() and group.members.tolist() == list(range(10))
    assert group.q_spread <= 0.05 and group.agreeing().sum() >= 5
    assert (group.inputs.spread_q[[1, 2]] <= 0.05).all() and (group.inputs.spread_q[[0, 3]] > 0.05).all()
    assert group.validation.what == "agreeing" and group.validation.size >= 5


def test_one_hot_columns_are_summed_by_source(x64):
    problem = problem_of()
    origins = ["a", "colour", "colour", "d"]
    features = ["a", "colour=red", "colour=blue", "d"]
    names = ParameterTable.of(problem, problem.size, features, origins)
    fixed = {weight(names, "colour=red → h1"): 3.0, weight(names, "colour=blue → h2"): 5.0}
    land = planted(problem, fixed)
    result = conserved_weights(
        land,
        level_cut(land, first=0.7, delta=0.1),
        ConservationSettings(draws=50),
        features=features,
        sources=origins,
    )
    group = result["5_1"]
    assert group.inputs.mass.tolist() == pytest.approx([0, 3, 5, 0], abs=0.01)
    assert group.sources.labels == ("a", "colour", "d")
    assert group.sources.mass.tolist() == pytest.approx([0, 8, 0], abs=0.02) and group.sources.count.tolist() == [
        0,
        2,
        0,
    ]


def test_a_column_of_two_levels_goes_by_its_own_name(x64):
    """It is one feature, named after its second level."""
    problem = problem_of()
    origins, features = ["a", "sex", "c", "d"], ["a", "sex=M", "c", "d"]
    names = ParameterTable.of(problem, problem.size, features, origins)
    land = planted(problem, {weight(names, f"sex=M → h{u}"): 3.0 for u in (1, 2)})
    settings, test = ConservationSettings(draws=50), (X[:150], problem.y[:150])
    cut = level_cut(land, first=0.7, delta=0.1)
    group = conserved_weights(land, cut, settings, test=test, features=features, sources=origins).headline
    assert group.inputs.labels == tuple(features) and group.sources.labels == tuple(origins)
    np.testing.assert_array_equal(group.sources.mass, group.inputs.mass)
    assert group.comparison.labels == tuple(origins) and len(group.comparison.permutation) == 4


def test_deeper_networks_and_more_classes(x64):
    data = load((RNG.normal(size=(90, D)), np.resize([0, 1, 2], 90)))
    problem = Problem.from_model(mlp((D, 4, 3, 3)), data.x, data.y, l2=1e-3)
    names = ParameterTable.of(problem, problem.size)
    assert names.names[0] == "bias h1.1" and "h1.4 → h2.3" in names.names and "h2.1 → y3" in names.names
    w = RNG.normal(size=problem.size)
    layers = [np.asarray(layer["w"]) for layer in problem.unravel(w)]
    for ours, theirs in zip(names.matrices(w), layers):
        np.testing.assert_array_equal(ours, theirs)
    for j, name in enumerate(names.names):
        if names.bias[j]:
            assert w[j] == problem.unravel(w)[names.layer[j]]["b"][names.target[j]], name
        else:
            assert w[j] == problem.unravel(w)[names.layer[j]]["w"][names.source[j], names.target[j]], name
    fixed = {weight(names, "x2 → h1.1"): 3.0, weight(names, "h1.1 → h2.2"): 4.0, weight(names, "h2.2 → y3"): 5.0}
    land = planted(problem, fixed)
    group = conserved_weights(
        land, level_cut(land, first=0.7, delta=0.1), ConservationSettings(draws=50, shuffles=5), test=data
    )["5_1"]
    assert group.validation.metric == "accuracy" and group.inputs.outputs == ("0", "1", "2")
    expected = np.zeros((D, 3))
    expected[1, 2] = 60
    np.testing.assert_allclose(group.inputs.path_mass, expected, atol=1)


def test_any_energy_has_conserved_coordinates(x64):
    problem = Problem.from_energy(lambda w: (w**2).sum(), 3)
    points = RNG.normal(size=(30, 3))
    points[:10, 1] = 2.0
    heights = [0.5] * 9 + [2.0] * 20
    land = Landscape.from_points(
        np.linspace(0, 1, 30), points, heights, [[i, i + 1] for i in range(29)], problem=problem
    )
    group = conserved_weights(land, level_cut(land, first=2.5, delta=0.5), ConservationSettings(draws=50)).headline
    assert group.live_conserved.tolist() == [False, True, False] and group.inputs is None and group.validation is None
    assert group.q_group < 0.05


def test_alignment_without_a_symmetry_is_the_identity():
    points = RNG.normal(size=(4, 3))
    assert align_many(NoSymmetry(), points, points[0])[0] is not None
    np.testing.assert_array_equal(align_many(None, points, points[0])[0], points)


def test_scores(x64):
    y = np.array([0, 0, 1, 1])
    np.testing.assert_allclose(
        auc(np.array([[1, 2, 3, 4], [4, 3, 2, 1], [1, 1, 1, 1], [1, 3, 2, 4]]), y), [1, 0, 0.5, 0.75]
    )
    roc = pytest.importorskip("sklearn.metrics").roc_auc_score
    scores = np.round(RNG.normal(size=300), 1)
    assert auc(scores[None], Y)[0] == pytest.approx(roc(Y, scores))
    problem = problem_of()
    scorer = Scorer.of(problem, X, Y)
    ws = RNG.normal(size=(40, problem.size))
    margins = [np.asarray(problem.predict(w)) for w in ws]
    np.testing.assert_allclose(scorer(ws), [roc(Y, m[:, 1] - m[:, 0]) for m in margins])
    e = 1e-6
    slopes = [
        np.abs(
            (problem.predict(ws[0], X + e * np.eye(D)[i]) - problem.predict(ws[0], X - e * np.eye(D)[i])) / (2 * e)
        )
        for i in range(D)
    ]
    outputs = [np.asarray(problem.predict(ws[0], X + s * e * np.eye(D)[i])) for i in range(D) for s in (1, -1)]
    centred = [o - o.mean(1, keepdims=True) for o in outputs]
    slopes = [np.abs(centred[2 * i] - centred[2 * i + 1]).mean() / (2 * e) for i in range(D)]
    np.testing.assert_allclose(scorer.gradient(ws[0], X), slopes, rtol=1e-6)
    regression = Problem.from_model(mlp((D, H, 1)), X, X[:, 0], loss="squared_error")
    assert Scorer.of(regression, X, X[:, 0]).metric == "R2"
    with pytest.raises(DataError, match="one class only"):
        Scorer.of(problem, X[:3], np.zeros(3, int))


def test_q_values_leave_out_what_is_not_known():
    p = np.array([0.01, 0.04, np.nan, 0.03, 0.005, 1.0])
    np.testing.assert_allclose(q_values(p), [0.025, 0.05, np.nan, 0.05, 0.025, 1.0])
    p = RNG.uniform(size=50)
    order = np.argsort(p)
    by_hand = [min(p[order[j]] * 50 / (j + 1) for j in range(i, 50)) for i in range(50)]
    np.testing.assert_allclose(q_values(p)[order], by_hand, rtol=1e-14)
    assert not q_values(np.zeros(0)).size and np.isnan(q_values(np.full(3, np.nan))).all()


def test_bad_arguments(x64):
    land = planted(problem_of(), {})
    with pytest.raises(ArgumentError, match="min_members"):
        conserved_weights(land, settings=ConservationSettings(min_members=1))
    with pytest.raises(ArgumentError, match="threshold"):
        conserved_weights(land, settings=ConservationSettings(threshold=0))
    with pytest.raises(ArgumentError, match="3 names for 4"):
        conserved_weights(land, features=["a", "b", "c"])
