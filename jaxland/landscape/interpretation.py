"""Everything that a report of a landscape shows, computed: conserved weights, performance, noise, decisions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from jaxland.data import Dataset, Split
from jaxland.landscape.physics.analysis import Analysis, analyse
from jaxland.landscape.physics.averaging import AveragedPerformance, averaged_performance
from jaxland.landscape.result import Landscape
from jaxland.landscape.tree import LevelCut, level_cut
from jaxland.landscape.weights.baseline import LinearBaseline, linear_baseline
from jaxland.landscape.weights.comparison import InputImportance, importance_of_lowest
from jaxland.landscape.weights.conserved import ConservedWeights, conserved_weights, lowest_windows
from jaxland.landscape.weights.predictions import PredictionsPerMinimum, predictions_per_minimum
from jaxland.landscape.weights.scoring import Scorer
from jaxland.landscape.weights.settings import ConservationSettings
from jaxland.landscape.weights.surface import DecisionSurface, decision_surface
from jaxland.landscape.weights.values import ValuesPerMinimum, values_per_minimum
from jaxland.problem.precision import in_precision


@dataclass(frozen=True, eq=False)
class HeldOutScores:
    """How well every drawn network does on the test data.

    Attributes:
        metric: what is measured; more is better.
        scores: [m].
        correlation, p_value: rank correlation with the training loss (Spearman); NaN where all scores are the same.
    """

    metric: str
    scores: np.ndarray
    correlation: float
    p_value: float


@dataclass(frozen=True, eq=False)
class Interpretation:
    """A landscape and what was read off it.

    Attributes:
        landscape: all that was found.
        conserved: conserved weights of the part joined to the lowest minimum.
        windows: conserved weights of the lowest minima, joined or not; None for few minima.
        drawn, cut: the part whose disconnectivity graph is worth drawing, and its levels.
        numbers: [m] minima of ``drawn`` as numbered in ``landscape``.
        scores: of ``drawn`` on the test data; None without a model or test data.
        analysis: thermodynamics, funnels and kinetics; None for a single minimum.
        values: numbers of every minimum of ``landscape`` on the test data.
        averaged: performance of the networks together, weighted as the posterior does.
        surface: what the best network decides, for two inputs.
        linear: a linear model of the same data beside the best network; None without a dense network or test data.
        predictions: what the lowest minima say of single test rows; None without a model or test data.
        importance: what the best network needs of its inputs; None where a group's comparison says it, or without a
            dense network or test data.
        train, test: the data, where given.
    """

    landscape: Landscape
    conserved: ConservedWeights
    windows: ConservedWeights | None
    drawn: Landscape
    cut: LevelCut
    numbers: np.ndarray
    scores: HeldOutScores | None
    analysis: Analysis | None
    values: ValuesPerMinimum | None
    averaged: AveragedPerformance | None
    surface: DecisionSurface | None
    linear: LinearBaseline | None
    predictions: PredictionsPerMinimum | None
    importance: InputImportance | None
    train: Dataset | None
    test: Dataset | None

    @property
    def told(self) -> ConservedWeights:
        """Where there is most to say of the best network: its groups, else the windows of the lowest minima."""
        return self.windows if self.conserved.headline is None and self.windows is not None else self.conserved


@in_precision
def interpret(
    landscape: Landscape,
    conserved: ConservedWeights | None = None,
    *,
    data: Split | Dataset | None = None,
    test: Dataset | None = None,
    settings: ConservationSettings | None = None,
    cut: LevelCut | None = None,
) -> Interpretation:
    """Read everything off a landscape that ``jaxland.report.landscape.explore_report`` shows.

    Args:
        landscape: all that was found, with its problem where decision surfaces and test performance are wanted.
        conserved: ``conserved_weights`` of it, or of its connected part (that part is drawn); by default found here.
        data: the ``Split`` the network was trained and is tested on, or the training data alone.
        test: the test data, where ``data`` is the training data alone.
        settings: of the conserved weights that are found here.
        cut: to draw the graph with, where it is not that of ``conserved``.
    """
    train, test = (data.train, data.test) if isinstance(data, Split) else (data, test)
    has_model = landscape.problem is not None and landscape.problem.model is not None
    tested = test if has_model else None
    if conserved is None:
        names = train if train is not None else test
        conserved = conserved_weights(
            landscape.connected(),
            settings=settings,
            test=None if tested is None else (tested.x, tested.y),
            features=None if names is None else names.features,
            sources=None if names is None else names.sources,
            classes=None if names is None else names.classes or None,
        )
    drawn, cut, numbers = _drawn(landscape, conserved, cut)
    several = landscape.n_minima > 1
    windows = lowest_windows(landscape, conserved, tested)
    return Interpretation(
        landscape=landscape,
        conserved=conserved,
        windows=windows,
        drawn=drawn,
        cut=cut,
        numbers=numbers,
        scores=None if tested is None else _scores(drawn, tested),
        analysis=analyse(landscape) if several else None,
        values=None if tested is None else values_per_minimum(landscape, tested),
        averaged=_averaged(landscape, tested) if several and tested is not None else None,
        surface=decision_surface(drawn, train) if train is not None and train.d == 2 and has_model else None,
        linear=None if tested is None else _linear(landscape, conserved, windows, tested),
        predictions=None if tested is None else predictions_per_minimum(landscape, tested),
        importance=None if tested is None else _importance(landscape, conserved, windows, tested),
        train=train,
        test=test,
    )


def _averaged(landscape: Landscape, test: Dataset) -> AveragedPerformance | None:
    """Errors in the units of the file."""
    found = averaged_performance(landscape, test.x, test.y)
    if found is None or test.target_scaling is None or found.measure != "mean squared error":
        return found
    unit = float(test.target_scaling.scale[0]) ** 2
    return replace(found, averaged=unit * found.averaged, lowest=unit * found.lowest)


def _drawn(
    landscape: Landscape, conserved: ConservedWeights, cut: LevelCut | None
) -> tuple[Landscape, LevelCut, np.ndarray]:
    """The part that was analysed, unless it is too small to say anything and there is more."""
    part = conserved.landscape
    if part.n_minima < landscape.n_minima and part.n_minima < conserved.settings.min_members:
        return landscape, level_cut(landscape), np.arange(landscape.n_minima)
    joined = np.flatnonzero(landscape.components() == 0)
    numbers = joined if part.n_minima < landscape.n_minima and len(joined) == part.n_minima else None
    return part, cut or conserved.cut, np.arange(part.n_minima) if numbers is None else numbers


def _linear(
    landscape: Landscape, conserved: ConservedWeights, windows: ConservedWeights | None, test: Dataset
) -> LinearBaseline | None:
    shown = conserved.headline or (None if windows is None else windows.headline)
    compared = None if shown is None else shown.comparison
    seed = conserved.settings.seed
    return linear_baseline(landscape, conserved.parameters, (test.x, test.y), compared, seed=seed)


def _importance(
    landscape: Landscape, conserved: ConservedWeights, windows: ConservedWeights | None, test: Dataset
) -> InputImportance | None:
    shown = conserved.headline or (None if windows is None else windows.headline)
    table, settings = conserved.parameters, conserved.settings
    if table.sizes is None or landscape.problem is None or (shown is not None and shown.comparison is not None):
        return None
    scorer = Scorer.held_out(landscape.problem, test, settings.test_rows, settings.seed)
    return importance_of_lowest(landscape, table, scorer, seed=settings.seed)


def _scores(landscape: Landscape, test: Dataset) -> HeldOutScores:
    from scipy.stats import spearmanr

    assert landscape.problem is not None
    scorer = Scorer.of(landscape.problem, test.x, test.y)
    scores = scorer(landscape.coordinates)
    if landscape.n_minima < 3 or np.ptp(scores) == 0:
        return HeldOutScores(scorer.metric, scores, float("nan"), float("nan"))
    rho = spearmanr(landscape.energies, scores)
    return HeldOutScores(scorer.metric, scores, float(rho.statistic), float(rho.pvalue))
