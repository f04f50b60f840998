"""What a report shows is computed here, and in the numbering that the report uses."""

import numpy as np
import pytest

from jaxland import Problem, mlp
from jaxland.data import load
from jaxland.errors import DataError, ProblemError
from jaxland.landscape import ConservationSettings, Landscape, interpret
from jaxland.landscape.weights.surface import decision_surface

FEW = ConservationSettings(draws=5, shuffles=3, compare=0)


def pieces(split, joined=8, apart=6):
    """A landscape whose minimum 0 is joined to the even ones only."""
    problem = Problem.from_model(mlp((2, 2, 2)), split.train.x, split.train.y, l2=1e-3)
    rng = np.random.default_rng(0)
    m = joined + apart
    order = np.r_[np.arange(0, 2 * min(joined, apart), 2), np.arange(2 * min(joined, apart), m)][:joined]
    return Landscape.from_points(
        np.linspace(0.3, 0.6, m),
        rng.normal(size=(m, problem.size)),
        np.linspace(0.7, 0.8, joined - 1),
        np.stack([order[:-1], order[1:]], 1),
        problem=problem,
    )


@pytest.fixture(scope="module")
def split():
    return load("checkerboard", n=80).split(0.5, scale="standardise")


def test_scores_belong_to_the_minima_that_are_drawn(x64, split):
    land = pieces(split)
    found = interpret(land, data=split, settings=FEW)
    assert found.drawn is found.conserved.landscape and found.drawn.n_minima == 8
    np.testing.assert_array_equal(land.energies[found.numbers], found.drawn.energies)
    assert found.scores is not None and found.scores.metric == "AUC"
    np.testing.assert_allclose(found.values["AUC"][found.numbers], found.scores.scores)
    assert -1 <= found.scores.correlation <= 1 and found.analysis is not None
    table = found.values.summary(land.energies).set_index("")
    assert table.loc["AUC", "lowest loss"] == found.values["AUC"][0]
    assert table.loc["AUC", "largest"] == found.values["AUC"].max()


def test_a_part_too_small_to_say_anything_is_not_drawn_alone(x64, split):
    land = pieces(split, joined=3, apart=9)
    found = interpret(land, data=split, settings=FEW)
    assert found.drawn is land and len(found.numbers) == len(found.scores.scores) == 12


def test_without_data_or_a_model_there_is_nothing_to_score(x64, split):
    land = pieces(split)
    plain = interpret(land, settings=FEW)
    assert plain.scores is None and plain.values is None and plain.surface is None and plain.averaged is None
    energy = Landscape.from_points([0.5], np.zeros((1, 3)), problem=Problem.from_energy(lambda w: (w**2).sum(), 3))
    single = interpret(energy, data=split)
    assert single.analysis is None and single.scores is None and single.told is single.conserved


def test_a_decision_surface_is_what_the_best_network_says(x64, split):
    land = pieces(split)
    surface = decision_surface(land, split.train, resolution=5)
    assert surface.outputs.shape == (5, 5, 2)
    corner = split.train.scaling.apply(np.array([[surface.x[1], surface.y[3]]]))
    np.testing.assert_allclose(surface.outputs[3, 1], land.problem.predict(land.best, corner)[0])
    assert surface.x[0] < surface.points[:, 0].min() and surface.points[:, 1].max() < surface.y[-1]
    with pytest.raises(DataError, match="two features"):
        decision_surface(land, load("wine"))
    bare = Landscape.from_points(land.energies, land.coordinates, land.ts_energies, land.ts_ends)
    with pytest.raises(ProblemError, match="no network"):
        decision_surface(bare, split.train)
