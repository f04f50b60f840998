import re
from html import unescape
from xml.etree import ElementTree

import jax
import numpy as np
import pytest

from jaxland import Problem, mlp
from jaxland.data import load
from jaxland.errors import ArgumentError, ProblemError
from jaxland.landscape.audit import audit
from jaxland.landscape.interpretation import interpret
from jaxland.landscape.result import Landscape
from jaxland.landscape.tree import level_cut
from jaxland.landscape.weights.conserved import conserved_weights
from jaxland.landscape.weights.parameters import ParameterTable
from jaxland.landscape.weights.settings import ConservationSettings
from jaxland.report import questions
from jaxland.report.conclusion import answers, headline
from jaxland.report.conserved.findings import findings
from jaxland.report.conserved.network_diagram import network_diagram
from jaxland.report.disconnectivity import (
    disconnectivity_graph,
    interactive_svg,
    notable_groups,
    place_tree,
    visible_top,
)
from jaxland.report.figures import save
from jaxland.report.landscape import explore_report, save_figures


def landscape(m, seed=0, t=None):
    rng = np.random.default_rng(seed)
    energies = rng.exponential(1.0, m)
    ends = np.stack([rng.integers(0, m, t or 2 * m), rng.integers(0, m, t or 2 * m)], axis=1)
    heights = np.maximum(energies[ends[:, 0]], energies[ends[:, 1]]) + rng.exponential(0.3, len(ends))
    return Landscape.from_points(energies, rng.normal(size=(m, 4)), heights, ends)


def crossing(a, b, c, d):
    """Whether segments ab and cd cross in their interiors."""

    def side(p, q, r):
        return np.sign((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]))

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0


@pytest.mark.parametrize("m, seed", [(1, 0), (2, 1), (5, 2), (25, 3), (40, 4), (40, 5)])
def test_layout_is_a_tree_of_all_minima_without_crossings(m, seed):
    land = landscape(m, seed)
    cut = level_cut(land)
    tree = place_tree(land, cut)
    single = [b for b in range(len(tree.branches)) if len(tree.branches[b].members) == 1]
    assert sorted(int(tree.branches[b].members[0]) for b in single) == list(range(m))
    assert len(set(np.round(tree.x[single], 9))) == m
    for b in single:
        assert tree.lines[b][-1, 1] == land.energies[tree.branches[b].members[0]]
    for b, branch in enumerate(tree.branches):
        assert branch.parent < b
        assert (np.diff(tree.lines[b][:, 1]) <= 1e-12).all()
        if branch.parent >= 0:
            above = tree.branches[branch.parent]
            assert set(branch.members) < set(above.members) and above.last_level < branch.level
            assert tuple(tree.lines[b][0]) == tuple(tree.lines[branch.parent][1 if len(above.members) == 1 else 2])
        if len(branch.members) > 1:
            assert branch.name in cut.groups(branch.level)
            np.testing.assert_array_equal(cut.group(branch.name), branch.members)
    segments = [(line[k], line[k + 1]) for line in tree.lines for k in range(len(line) - 1)]
    for i, (a, b) in enumerate(segments):
        for c, d in segments[:i]:
            assert not crossing(a, b, c, d)


def test_groups_meet_at_level_energies():
    land = Landscape.from_points([0.0, 0.2, 0.3], np.zeros((3, 1)), [0.45, 0.75], [[0, 1], [1, 2]])
    cut = level_cut(land, first=1.0, delta=0.1)
    tree = place_tree(land, cut)
    whole = next(b for b, branch in enumerate(tree.branches) if len(branch.members) == 3)
    pair = next(b for b, branch in enumerate(tree.branches) if len(branch.members) == 2)
    # 0.75 is below e_3 = 0.8 and not below e_4 = 0.7: together down to level 3.
    assert tree.branches[whole].last_level == 3 and tree.lines[whole][-1, 1] == pytest.approx(0.8)
    assert tree.branches[pair].level == 4 and tree.branches[pair].name == "4_1"
    assert tree.lines[pair][-1, 1] == pytest.approx(0.5)


@pytest.mark.parametrize("m", [2, 30, 3000])
def test_figures_of_any_size(tmp_path, m):
    land = landscape(m, 1)
    cut = level_cut(land)
    for name, options in {
        "groups": {},
        "values": {"values": np.where(np.arange(m) % 7 == 6, np.nan, land.energies), "value_label": "test accuracy"},
        "basins": {"monotonic": True},
        "plain": {"groups": []},
    }.items():
        if m == 3000 and name != "groups":
            continue
        figure = disconnectivity_graph(land, cut, title=name, **options)
        paths = save(figure, tmp_path / name, dpi=60)
        assert all(path.stat().st_size > 1000 for path in paths)


def test_coloured_groups_are_labelled():
    land = landscape(60, 2, 240)
    cut = level_cut(land)
    names = notable_groups(land, cut) or [next(iter(cut.groups(3)))]
    figure = disconnectivity_graph(land, cut, groups=names)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert set(names) <= set(texts)
    with pytest.raises(ArgumentError, match="one number per minimum"):
        disconnectivity_graph(land, cut, values=[1.0, 2.0])
    with pytest.raises(ArgumentError, match="no group"):
        disconnectivity_graph(land, cut, groups=["1_99"])


def test_parts_are_coloured_and_named_in_the_numbering_of_the_whole():
    rng = np.random.default_rng(0)
    # Minimum 0 is joined to 4, 5, ...; 1 and 2 to nothing, so the drawn part numbers its minima otherwise.
    joined = [0, *range(3, 30)]
    ends = np.stack([joined[:-1], joined[1:]], 1)
    land = Landscape.from_points(np.linspace(0, 1, 30), rng.normal(size=(30, 2)), np.linspace(1.1, 2, 27), ends)
    parts = np.where(np.arange(30) < 12, 0, 12)

    def legend(**options):
        return [t.get_text() for t in disconnectivity_graph(land, **options).axes[0].get_legend().get_texts()]

    assert legend(partition=parts) == ["funnel of minimum 12", "funnel of minimum 0"]
    assert legend(partition=parts, partition_colours={0: "#ff0000"}, partition_label="part") == ["part 0"]
    assert legend(monotonic=True) == ["basin of minimum 0"]
    for options, words in [
        ({"partition": [0, 1]}, "partition must have one number per minimum"),
        ({"partition": parts, "monotonic": True}, "not by several"),
        ({"values": land.energies, "groups": ["1_1"]}, "not by several"),
    ]:
        with pytest.raises(ArgumentError, match=words):
            disconnectivity_graph(land, **options)


def test_lone_high_branchings_are_cut_off_and_said():
    rng = np.random.default_rng(0)
    energies = rng.uniform(0, 0.1, 60)
    ends = [[i, i + 1] for i in range(59)]
    land = Landscape.from_points(energies, np.zeros((60, 1)), [0.11 + 0.001 * i for i in range(58)] + [5.0], ends)
    cut = level_cut(land)
    assert visible_top(land, cut) < 0.3
    assert any("lies above" in text.get_text() for text in disconnectivity_graph(land, cut).axes[0].texts)
    assert "1 branching up to" in interactive_svg(land, cut)


def test_interactive_svg_is_well_formed_and_tells_values():
    land = landscape(50, 3, 200)
    cut = level_cut(land)
    markup = interactive_svg(land, cut, columns={"test <AUC>": land.energies * 2})
    root = ElementTree.fromstring(markup[markup.index("<svg") : markup.index("</svg>") + 6])
    titles = [e.text for e in root.iter() if e.tag.endswith("title")]
    assert sum(t.startswith("minimum") for t in titles) == 50
    assert any(re.search(r"group \d+_\d+\nlevel", t) for t in titles)
    assert all("test <AUC>" in t for t in titles)
    assert "http://" not in markup.replace("http://www.w3.org/2000/svg", "") and "https://" not in markup


def test_network_diagram(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 50))
    problem = Problem.from_model(mlp((50, 3, 2)), x, np.resize([0, 1], 20))
    base = rng.normal(size=problem.size)
    points = [
        base + np.where(np.arange(problem.size) % 5 == 0, 0, 0.3) * rng.normal(size=problem.size) for _ in range(9)
    ]
    land = Landscape.from_points(
        np.linspace(0, 1, 9), points, np.full(8, 2.0), [[i, i + 1] for i in range(8)], problem=problem
    )
    group = conserved_weights(
        land, settings=ConservationSettings(draws=20), features=[f"input {i}" for i in range(50)]
    ).headline
    figure = network_diagram(group, title="group")
    assert any("10 inputs" in text.get_text() for text in figure.axes[0].texts)
    assert save(figure, tmp_path / "n", kinds=("png",))[0].stat().st_size > 1000
    plain = Landscape.from_points(land.energies, land.coordinates, land.ts_energies, land.ts_ends)
    with pytest.raises(ProblemError, match="layers"):
        network_diagram(conserved_weights(plain, settings=ConservationSettings(draws=5)).headline)


def family(problem, fixed, seed=0, k=10, others=30):
    """A connected landscape in whose lowest group the weights ``fixed`` (by index) are the same."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=problem.size) + 2 * np.sign(rng.normal(size=problem.size))
    points = base + 0.4 * rng.normal(size=(k + others, problem.size))
    for j, value in fixed.items():
        points[:k, j] = value + 1e-3 * rng.normal(size=k)
    energies = np.concatenate([np.linspace(0.2, 0.3, k), np.linspace(0.35, 0.5, others)])
    ends = [[i, i + 1] for i in range(k + others - 1)]
    heights = [0.32 if j < k else 0.55 + 0.001 * j for _, j in ends]
    return Landscape.from_points(energies, points, heights, ends, problem=problem, settings={"l2": 1e-3})


@pytest.mark.parametrize("planted", [True, False])
def test_report_is_one_file_that_says_what_is_and_what_is_not(tmp_path, x64, planted):
    split = load("checkerboard", n=120).split(0.5, scale="standardise")
    problem = Problem.from_model(mlp((2, 3, 2)), split.train.x, split.train.y, l2=1e-3)
    names = ParameterTable.of(problem, problem.size, split.train.features, None, split.train.classes)
    fixed = {names.names.index(f"x1 → h{u}"): 3.0 + u for u in (1, 2, 3)} if planted else {}
    land = family(problem, fixed)
    found = conserved_weights(land, settings=ConservationSettings(draws=100, shuffles=10), test=split.test)
    told = interpret(land, found, data=split)
    text = explore_report(told, tmp_path / "report.html", command="jaxland explore <x>").read_text()
    assert not re.search(r"(src|href)=.(https?:)?//|url\(.?http|<link|@import", text)
    assert text.count("<svg") >= 4 and "data:image/png;base64" in text
    assert "jaxland explore &lt;x&gt;" in text and "nan" not in re.sub('<script.*?</script>|base64[^"]*', "", text)
    titles = (
        questions.GRAPH,
        questions.TESTS,
        questions.LINEAR,
        questions.GROUPS,
        questions.INPUTS,
        questions.OTHERS,
    )
    for heading in ("In short", "The data", *titles, questions.MATTER, "Level by level", "Audit"):
        assert heading in text
    assert "No conclusion" not in text and headline(told).sentence in unescape(text)
    asked = {answer.question: answer for answer in answers(told)}
    assert set(asked) == {*titles, questions.MATTER} - {questions.INPUTS}
    assert asked[questions.GROUPS].doubt is not planted
    assert "no p below 0.0099 can be found" in asked[questions.GROUPS].evidence
    assert "no p below 0.091 can be found" in asked[questions.MATTER].evidence or not found.headline.validation
    sentences = " ".join(sentence for sentence, _ in findings(found))
    if planted:
        assert "share 3 active weights" in sentences and "agree beyond chance: x1." in sentences
        assert not findings(found)[0][1]
    else:
        assert "nothing is conserved" in sentences and "single weights explain nothing here" in sentences
        assert findings(found)[0][1]
    paths = save_figures(told, tmp_path / "figures")
    assert {p.name for p in paths} >= {
        "disconnectivity.svg",
        "disconnectivity-test.png",
        "network.svg",
        "decision.png",
    }


def test_report_of_a_plain_energy_and_of_one_minimum(tmp_path, x64):
    problem = Problem.from_energy(lambda w: (w**2).sum(), 4)
    land = landscape(20, 1, 60)
    from dataclasses import replace

    land = replace(land, problem=problem)
    told = interpret(land, conserved_weights(land, settings=ConservationSettings(draws=20)))
    text = explore_report(told, tmp_path / "a.html", title="Energy").read_text()
    assert "<h1>Energy</h1>" in text
    single = Landscape.from_points([0.5], np.zeros((1, 4)), problem=problem)
    text = explore_report(interpret(single), tmp_path / "b.html").read_text()
    assert "No conclusion. Only one minimum was found" in text
    assert "Only one minimum was found" in text and "No group" in text


def test_a_part_is_drawn_where_the_rest_is_not_connected(tmp_path):
    rng = np.random.default_rng(0)
    ends = [[i, i + 1] for i in range(9)]
    land = Landscape.from_points(np.linspace(0, 1, 60), rng.normal(size=(60, 3)), np.full(9, 1.5), ends)
    figure = disconnectivity_graph(land, groups=[])
    assert any("50 minima in 50 unconnected pieces not drawn" in t.get_text() for t in figure.axes[0].texts)
    part = land.connected()
    told = interpret(land, conserved_weights(part, settings=ConservationSettings(draws=5)))
    text = explore_report(told, tmp_path / "r.html").read_text()
    assert "Drawn are the 10 minima joined to the best; 50 others" in text


def test_a_float64_landscape_is_read_in_float64_whatever_jax_is_set_to(tmp_path):
    import warnings

    split = load("checkerboard", n=120).split(0.5)
    with jax.enable_x64(True):
        problem = Problem.from_model(mlp((2, 3, 2)), split.train.x, split.train.y, l2=1e-3)
        land = family(problem, {2: 2.0, 3: 3.0})
        inside = conserved_weights(land, settings=ConservationSettings(draws=20, shuffles=5), test=split.test)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outside = conserved_weights(land, settings=ConservationSettings(draws=20, shuffles=5), test=split.test)
        explore_report(interpret(land, outside, data=split), tmp_path / "r.html")
    assert inside.to_pandas().equals(outside.to_pandas())


def test_audit_counts_what_is_wrong():
    land = Landscape.from_points(
        [0.0, 1.0],
        np.zeros((2, 1)),
        [0.5],
        [[0, 1]],
        lowest_eigenvalues=[1.0, -0.1],
        ts_eigenvalues=[0.2],
        gradients=[1e-10, 1e-9],
    )
    table = audit(land).set_index("")
    assert table.loc["wrong index"].tolist() == ["1", "1"]
    assert table.loc["below one of its minima", "transition states"] == "1"
    assert table.loc["largest rms gradient", "minima"] == "1e-09"
