"""A headline says what the evidence says, and none where there is no evidence."""

from dataclasses import replace

import numpy as np
import pytest

from jaxland import Problem, mlp
from jaxland.data import load
from jaxland.landscape.interpretation import interpret
from jaxland.landscape.result import Landscape
from jaxland.landscape.weights.parameters import ParameterTable
from jaxland.landscape.weights.settings import ConservationSettings
from jaxland.report import questions
from jaxland.report.conclusion import answers, headline
from jaxland.report.conserved.sections import weights_section
from jaxland.report.html import Page
from jaxland.report.words import correlation, interval


@pytest.fixture(scope="module")
def told():
    """A family of ten networks that share their weights from x1, thirty others; every answer can be had."""
    import jax

    with jax.enable_x64(True):
        split = load("checkerboard", n=120).split(0.5, scale="standardise")
        problem = Problem.from_model(mlp((2, 3, 2)), split.train.x, split.train.y, l2=1e-3)
        rng = np.random.default_rng(0)
        base = rng.normal(size=problem.size) + 2 * np.sign(rng.normal(size=problem.size))
        points = base + 0.4 * rng.normal(size=(40, problem.size))
        names = ParameterTable.of(problem, problem.size, split.train.features, None, split.train.classes).names
        for u in (1, 2, 3):
            points[:10, names.index(f"x1 → h{u}")] = 3.0 + u + 1e-3 * rng.normal(size=10)
        energies = np.concatenate([np.linspace(0.2, 0.3, 10), np.linspace(0.35, 0.5, 30)])
        ends = [[i, i + 1] for i in range(39)]
        heights = [0.32 if j < 10 else 0.55 + 0.001 * j for _, j in ends]
        land = Landscape.from_points(energies, points, heights, ends, problem=problem)
        settings = ConservationSettings(draws=60, shuffles=12)
        yield interpret(land, data=split, settings=settings)


def test_a_report_tells_conserved_weights_from_those_that_the_network_rests_on(told):
    page, group = Page("trial"), told.conserved.headline
    weights_section(page, told.conserved, group, {})
    text = page.render()
    assert "not what they rest on" in text and "ρ = " in text and "rests on most, dearest first" in text
    page = Page("trial")
    weights_section(page, told.conserved, replace(group, removal=None), {})
    assert "rest on" not in page.render()


def changed(told, **group):
    """The same with other facts of the headline group."""
    own = told.conserved.headline
    groups = tuple(replace(g, **group) if g is own else g for g in told.conserved.groups)
    return replace(told, conserved=replace(told.conserved, groups=groups))


def validation(told, *, matters, like):
    check = told.conserved.headline.validation
    return replace(
        check,
        conserved=check.others + (1.0 if matters else -1.0),
        p_value=0.02 if matters else 0.9,
        like_size=4,
        like_conserved=np.full(12, 0.5),
        like_others=np.full(12, 0.1 if like else 0.5),
        p_like=0.02 if like else 0.9,
    )


def compared(told, rho, p):
    """As if there were six inputs whose ranking correlates so with permutation importance."""
    found = told.conserved.headline.comparison
    wide = {name: np.linspace(1, 2, 6) for name in ("conserved_mass", "conserved_paths", "agreement", "all_paths")}
    return replace(
        found,
        **wide,
        labels=tuple("abcdef"),
        permutation=np.array([0.3, 0.2, 0.1, 0.0, 0.0, 0.0]),
        permutation_std=np.full(6, 0.01),
        gradient=np.ones(6),
        correlations={key: (rho, p) for key in found.correlations},
    )


@pytest.mark.parametrize("matters, like, words", [
    (True, True, "shuffling these weights hurts more than shuffling others"),
    (True, False, "do not matter more than their neighbours"),
    (False, False, "must not be read as importance"),
])  # fmt: skip
def test_validation_decides_whether_agreement_is_importance(told, matters, like, words):
    said = changed(told, validation=validation(told, matters=matters, like=like))
    assert words in headline(said).sentence and not headline(said).refused
    answer = next(a for a in answers(said) if a.question == questions.MATTER)
    assert answer.doubt is not (matters and like)


@pytest.mark.parametrize("rho, p, words, doubt", [
    (0.9, 0.01, "ranks the inputs alike", False),
    (-0.9, 0.01, "contradicts it: by permutation the networks lean on a, b and c", True),
    (0.1, 0.8, "does not confirm the ranking", True),
])  # fmt: skip
def test_other_measures_are_set_against_it(told, rho, p, words, doubt):
    said = changed(told, comparison=compared(told, rho, p))
    assert words in headline(said).sentence
    answer = next(a for a in answers(said) if a.question == questions.OTHERS)
    assert answer.doubt is doubt and f"ρ = {rho:.2f} (95 %" in answer.evidence


def test_no_headline_from_a_landscape_that_is_too_sparse(told):
    land = told.landscape
    none = Landscape.from_points(land.energies, land.coordinates, problem=land.problem)
    said = headline(replace(told, landscape=none))
    assert said.refused and said.sentence.startswith("No conclusion. No transition state was found yet")
    few = Landscape.from_points(land.energies, land.coordinates, [0.4], [[0, 1]], problem=land.problem)
    said = headline(replace(told, landscape=few))
    assert said.refused and "Only 2 of 40 minima are joined" in said.sentence


def test_what_was_not_tested_says_why(told):
    few = np.zeros_like(told.conserved.headline.conserved)
    few[0] = True
    said = changed(told, validation=None, conserved=few, q_value=np.ones(len(few)))
    answer = next(a for a in answers(said) if a.question == questions.MATTER)
    assert answer.answer == "Not tested." and "60 test rows were at hand" in answer.evidence
    bare = replace(said, conserved=replace(said.conserved, test_rows=0))
    answer = next(a for a in answers(bare) if a.question == questions.MATTER)
    assert "no test rows" in answer.evidence


def test_a_linear_model_that_does_as_well_is_said(told):
    line = replace(told.linear, network=0.7, linear=0.7, difference_std=0.01)
    assert next(a for a in answers(replace(told, linear=line)) if a.question == questions.LINEAR).doubt
    line = replace(line, network=0.8)
    assert next(a for a in answers(replace(told, linear=line)) if a.question == questions.LINEAR).answer == "Yes."


def test_intervals_of_rank_correlations():
    assert interval(0.5, 30) == "0.15 to 0.74" and interval(0.5, 4) == "–"
    assert correlation(float("nan"), 9) == "not known" and "too few" in correlation(0.5, 4)
