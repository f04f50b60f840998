"""The report of ``jaxland explore``: one self-contained HTML file, written so that it needs no physicist to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxland.data.datasets import Dataset, Split
from jaxland.landscape.physics.analysis import Analysis, analyse
from jaxland.landscape.result import Landscape
from jaxland.landscape.tree import LevelCut, level_cut
from jaxland.landscape.weights.conserved import ConservedWeights, lowest_windows
from jaxland.landscape.weights.null import LIVE_SHARE
from jaxland.landscape.weights.scoring import Scorer, precision
from jaxland.landscape.weights.values import ValuesPerMinimum, values_per_minimum
from jaxland.report.conserved import (
    called,
    comparison_section,
    findings,
    group_colours,
    groups_section,
    inputs_section,
    levels_section,
    validation_section,
    weights_section,
    windows_section,
)
from jaxland.report.disconnectivity import disconnectivity_graph, interactive_svg
from jaxland.report.figures import PALETTE, canvas, save
from jaxland.report.html import Page
from jaxland.report.network_diagram import network_diagram
from jaxland.report.thermodynamics import (
    averaging_sentences,
    funnels_section,
    kinetics_section,
    thermodynamics_section,
    values_section,
)
from jaxland.report.words import number


def explore_report(
    landscape: Landscape,
    conserved: ConservedWeights,
    path: str | Path,
    *,
    data: Split | Dataset | None = None,
    test: Dataset | None = None,
    cut: LevelCut | None = None,
    windows: ConservedWeights | None = None,
    analysis: Analysis | None = None,
    measured: ValuesPerMinimum | None = None,
    title: str = "",
    command: str = "",
) -> Path:
    """Write the report of a landscape to one HTML file.

    Args:
        landscape: all that was found, with its problem where decision surfaces and test performance are wanted.
        conserved: ``conserved_weights`` of it, or of its connected part; that part is drawn.
        path: of the file.
        data: the ``Split`` the network was trained and is tested on, or the training data alone.
        test: the test data, where ``data`` is the training data alone.
        cut: to draw the graph with, where it is not that of ``conserved``.
        windows: conserved weights of the lowest minima, joined or not (a cut by ``energy_windows``); by default found
            here with the settings of ``conserved``.
        analysis: thermodynamics, funnels and kinetics (``landscape.analysis.analyse``); by default found here.
        measured: numbers of every minimum of ``landscape`` (``landscape.values_per_minimum``); by default those of
            the problem's loss on the test data.
        title: of the page; by default the name of the data.
        command: the command line that made it, repeated in the report.

    Returns:
        The path.
    """
    train, test = _parts(data, test)
    graph = conserved.landscape
    scores, metric = _scores(graph, test)
    colours = group_colours(conserved)
    name = title or (f"Loss landscape of {train.name}" if train is not None else "Loss landscape")
    page = Page(name, f"{landscape.describe()}.")
    if windows is None:
        windows = lowest_windows(landscape, conserved, test)
    told = windows if conserved.headline is None and windows is not None else conserved
    _summary(page, landscape, told, scores, metric)
    if train is not None:
        _data(page, train, test)
    _graph(
        page,
        landscape,
        conserved,
        cut or conserved.cut,
        colours,
        scores,
        metric,
        lambda: _scores(landscape, test),
    )
    if train is not None and train.d == 2 and graph.problem is not None and graph.problem.model is not None:
        page.section("What the best network decides")
        page.figure(
            decision_surface(graph, train),
            "Colour: what the network at the lowest minimum decides over the plane of the two inputs. "
            "Points: the training data.",
            kind="png",
            dpi=130,
        )
    groups_section(page, conserved)
    windows_section(page, windows)
    headline = told.headline
    if headline is not None:
        weights_section(page, told, headline, colours)
        inputs_section(page, told, headline, colours)
        validation_section(page, told, headline)
        comparison_section(page, told, headline)
    if conserved.headline is not None:
        levels_section(page, conserved)
    if landscape.n_minima > 1:
        _noise(page, landscape, analysis or analyse(landscape), test, measured)
    _search(page, landscape, conserved, command)
    _reading(page, conserved)
    return page.save(path)


def _parts(data: Split | Dataset | None, test: Dataset | None) -> tuple[Dataset | None, Dataset | None]:
    return (data.train, data.test) if isinstance(data, Split) else (data, test)


def save_figures(
    conserved: ConservedWeights,
    folder: str | Path,
    *,
    data: Split | Dataset | None = None,
    test: Dataset | None = None,
) -> list[Path]:
    """Write the pictures of the report as png and svg; returns the paths.

    disconnectivity: coloured by group; disconnectivity-test: by test performance; network: the diagram of the
    headline group; decision (png only): for two inputs.
    """
    folder, landscape = Path(folder), conserved.landscape
    colours = group_colours(conserved)
    train, test = _parts(data, test)
    scores, metric = _scores(landscape, test)
    paths = save(disconnectivity_graph(landscape, conserved.cut, groups=colours), folder / "disconnectivity")
    if scores is not None:
        figure = disconnectivity_graph(landscape, conserved.cut, values=scores, value_label=f"test {metric}")
        paths += save(figure, folder / "disconnectivity-test")
    headline = conserved.headline
    if headline is not None and conserved.parameters.sizes is not None:
        colour = colours.get(headline.name, PALETTE[0])
        marked = headline.live_conserved if headline.live_conserved.any() else headline.agreeing(conserved.alpha)
        figure = network_diagram(headline, marked=marked, colour=colour, title=f"group {headline.name}")
        paths += save(figure, folder / "network")
    if train is not None and train.d == 2 and landscape.problem is not None and landscape.problem.model is not None:
        paths += save(decision_surface(landscape, train), folder / "decision", kinds=("png",))
    return paths


def decision_surface(landscape: Landscape, data: Dataset, *, resolution: int = 220) -> Any:
    """Classes (or values) the network at the lowest minimum gives over the plane of two inputs, with the data."""
    from matplotlib.colors import ListedColormap, to_rgb

    x = data.x if data.scaling is None else data.scaling.invert(data.x)
    low, high = x.min(0), x.max(0)
    pad = 0.06 * (high - low)
    axis = [np.linspace(low[i] - pad[i], high[i] + pad[i], resolution) for i in range(2)]
    grid = np.stack(np.meshgrid(*axis), axis=-1).reshape(-1, 2)
    scaled = grid if data.scaling is None else data.scaling.apply(grid)
    problem = landscape.problem
    with precision(problem.dtype == np.float64):
        outputs = np.asarray(problem.predict(landscape.best.astype(problem.dtype), scaled.astype(problem.dtype)))
    figure, axes = canvas(5.6, 4.6)
    extent = (axis[0][0], axis[0][-1], axis[1][0], axis[1][-1])
    shape = (resolution, resolution)
    style: dict[str, Any] = {"extent": extent, "origin": "lower", "aspect": "auto", "interpolation": "bilinear"}
    if data.task == "regression":
        ends = {"vmin": min(outputs.min(), data.y.min()), "vmax": max(outputs.max(), data.y.max())}
        image = axes.imshow(outputs.reshape(shape), cmap="viridis", **ends, **style)
        figure.colorbar(image, ax=axes, label=data.target)
        axes.scatter(x[:, 0], x[:, 1], c=data.y, s=9, cmap="viridis", edgecolors="white", linewidths=0.3, **ends)
    else:
        odds = np.exp(outputs - outputs.max(1, keepdims=True))
        odds /= odds.sum(1, keepdims=True)
        tints = np.array([to_rgb(PALETTE[(1 - c) % len(PALETTE)]) for c in range(odds.shape[1])])
        paper = odds @ tints
        axes.imshow((1 - 0.55 * (1 - paper)).clip(0, 1).reshape(*shape, 3), **style)
        marks = ListedColormap([tuple(t) for t in tints])
        shown = np.random.default_rng(0).permutation(len(x))[:1500]
        axes.scatter(
            x[shown, 0], x[shown, 1], c=data.y[shown], cmap=marks, vmin=-0.5, vmax=odds.shape[1] - 0.5, s=9,
            edgecolors="white", linewidths=0.3,
        )  # fmt: skip
        for c, label in enumerate(data.classes):
            axes.scatter([], [], color=tints[c], s=22, label=label)
        axes.legend(title=data.target, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.set_xlabel(data.features[0])
    axes.set_ylabel(data.features[1])
    return figure


# -- sections --------------------------------------------------------------------------------------------------


def _scores(landscape: Landscape, test: Dataset | None) -> tuple[np.ndarray | None, str]:
    if test is None or landscape.problem is None or landscape.problem.model is None:
        return None, ""
    scorer = Scorer.of(landscape.problem, test.x, test.y)
    return scorer(landscape.coordinates), scorer.metric


def _noise(
    page: Page, landscape: Landscape, analysis: Analysis, test: Dataset | None, found: ValuesPerMinimum | None
) -> None:
    """Thermodynamics, funnels, kinetics, and what every minimum does on the test data."""
    said = []
    if test is not None and landscape.problem is not None and landscape.problem.model is not None:
        found = values_per_minimum(landscape, test) if found is None else found
        said = averaging_sentences(landscape, test.x, test.y)
    thermodynamics_section(page, analysis)
    columns = {} if found is None else {f"test {name}": found[name] for name in found.names}
    funnels_section(page, analysis, columns)
    kinetics_section(page, analysis)
    if found is not None:
        values_section(page, landscape, found, said)


def _summary(
    page: Page,
    landscape: Landscape,
    conserved: ConservedWeights,
    scores: np.ndarray | None,
    metric: str,
) -> None:
    page.section("In short")
    joined = int((landscape.components() == 0).sum())
    cards = [
        (f"{landscape.n_minima:,}", "minima (different trained networks)"),
        (f"{landscape.n_ts:,}", "transition states (passes between them)"),
        (f"{joined:,}", "minima connected to the best"),
        (f"{landscape.energies[0]:.5g}", "lowest loss"),
    ]
    if scores is not None:
        cards.append((f"{scores[0]:.3f}", f"test {metric} of the best"))
    headline = conserved.headline
    if headline is not None:
        cards.append(
            (str(int(headline.live_conserved.sum())), f"live conserved weights in {called(conserved, headline)}")
        )
    page.cards(cards)
    if landscape.n_minima > 1 and joined < conserved.settings.min_members:
        page.note(
            f"Only {joined} of {landscape.n_minima:,} minima {'is' if joined == 1 else 'are'} joined to the best "
            "so far: "
            "the graph says little yet. The same command, given more time, goes on from here.",
            warn=True,
        )
    if landscape.n_minima == 1:
        page.note("Only one minimum was found: every search ended in the same network. There is nothing to compare.")
    for sentence, missing in findings(conserved):
        page.note(sentence, warn=missing)


def _data(page: Page, train: Dataset, test: Dataset | None) -> None:
    page.section("The data")
    page.text(f"Training data, {train.describe()}.")
    if test is not None:
        page.text(f"Test data, never seen in training: {test.n:,} rows. All performance below is on them.")
    if train.notes:
        page.listing(train.notes)
    x = train.x if train.scaling is None else train.scaling.invert(train.x)
    frame = pd.DataFrame(
        {
            "feature": train.features,
            "from column": train.sources,
            "smallest": x.min(0),
            "mean": x.mean(0),
            "largest": x.max(0),
        }
    )
    if list(train.features) == list(train.sources):
        frame = frame.drop(columns="from column")
    if train.task == "classification" and len(train.classes) == 2 and train.n > 2:
        spread = x.std(0)
        gap = x[train.y == 1].mean(0) - x[train.y == 0].mean(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            frame[f"difference of means, {train.classes[1]} minus {train.classes[0]} (in sd)"] = np.where(
                spread > 0, gap / spread, 0.0
            )
    page.folded(frame.head(200), "Features as the network gets them, in the units of the file.")


def _graph(
    page: Page,
    landscape: Landscape,
    conserved: ConservedWeights,
    cut: LevelCut,
    colours: Mapping[str, str],
    scores: np.ndarray | None,
    metric: str,
    all_scores: Callable[[], tuple[np.ndarray | None, str]],
) -> None:
    page.section("The disconnectivity graph")
    page.text(
        "Each line that ends is one minimum: a network that no small change of its weights can improve. Its "
        "lower end "
        "is its loss. Two lines meet at the height that must be climbed to change one network into the "
        "other. Branches "
        "that stay apart down to low losses are families of networks that solve the problem in different ways. "
        "Move the mouse over a line for its values."
    )
    columns = {} if scores is None else {f"test {metric}": scores}
    numbers = np.arange(landscape.n_minima)
    graph = conserved.landscape
    if graph.n_minima < landscape.n_minima and graph.n_minima < conserved.settings.min_members:
        graph, cut, colours = landscape, level_cut(landscape), {}
        scores, metric = all_scores()
        columns = {} if scores is None else {f"test {metric}": scores}
    elif graph.n_minima < landscape.n_minima:
        numbers = np.flatnonzero(landscape.components() == 0)
        page.text(
            f"Drawn are the {graph.n_minima:,} minima joined to the best; {landscape.n_minima - graph.n_minima:,} "
            "others were found to which no path was found yet."
        )
    if len(numbers) != graph.n_minima:
        numbers = np.arange(graph.n_minima)
    landscape = graph
    page.drawing(
        interactive_svg(landscape, cut, groups=colours, columns=columns, numbers=numbers),
        f"Levels are {number(cut.delta)} apart, from {number(cut.first, 5)} down. A group's name is "
        "level_number, numbers going by lowest loss; coloured groups are used below.",
    )
    if scores is not None and landscape.n_minima > 2:
        figure = disconnectivity_graph(landscape, cut, values=scores, value_label=f"test {metric}", height=4.4)
        page.figure(
            figure,
            f"The same graph, coloured by the {metric} on the test data: from {scores.min():.3f} to "
            f"{scores.max():.3f}, "
            f"{scores[0]:.3f} at the lowest minimum.",
            kind="svg" if landscape.n_minima <= 800 else "png",
            dpi=140,
        )
        from scipy.stats import spearmanr

        if np.ptp(scores) > 0:
            rho = spearmanr(landscape.energies, scores)
            page.text(
                f"Networks with a lower training loss do {'better' if rho.statistic < 0 else 'worse'} on the test "
                f"data (rank correlation of loss and {metric} {rho.statistic:.2f}, p = {rho.pvalue:.2g})."
                if rho.pvalue <= 0.05
                else f"A lower training loss says nothing of the {metric} on the test data here (rank correlation "
                f"{rho.statistic:.2f}, p = {rho.pvalue:.2g})."
            )


def _flat(values: Mapping[str, Any]) -> pd.DataFrame:
    rows = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += [{"": f"{key}: {k}", "value": _cell(v)} for k, v in value.items()]
        else:
            rows.append({"": str(key), "value": _cell(value)})
    return pd.DataFrame(rows, columns=["", "value"])


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return str(value)
    return f"{value:,}" if isinstance(value, int | np.integer) else f"{value:.5g}"


def audit(landscape: Landscape) -> pd.DataFrame:
    """What was checked of every stored point, and the worst values found."""

    def worst(values: Any, pick: Any, note: str = "") -> str:
        known = np.asarray(values, float)
        known = known[np.isfinite(known)]
        return f"{float(pick(known)):.3g}{note}" if len(known) else "–"

    ts_gradients = np.zeros(0) if landscape.ts_gradients is None else landscape.ts_gradients
    ends = landscape.ts_ends
    low = landscape.energies[ends].max(1) - landscape.ts_energies if len(ends) else np.zeros(0)
    rows = [
        ("points", f"{landscape.n_minima:,}", f"{landscape.n_ts:,}"),
        ("largest rms gradient", worst(landscape.gradients, np.max), worst(ts_gradients, np.max)),
        (
            "lowest Hessian eigenvalue, extreme",
            worst(landscape.lowest_eigenvalues, np.min, " (must be positive)"),
            worst(landscape.ts_eigenvalues, np.max, " (must be negative)"),
        ),
        (
            "wrong index",
            f"{int(np.sum(landscape.lowest_eigenvalues <= 0))}",
            f"{int(np.sum(landscape.ts_eigenvalues >= 0))}",
        ),
        ("below one of its minima", "–", f"{int(np.sum(low > 1e-9 * (1 + np.abs(landscape.ts_energies))))}"),
        ("degenerate rearrangements", "–", f"{int(landscape.degenerate.sum())}"),
        ("connected components", f"{int(landscape.components().max()) + 1}", "–"),
        ("found only once", f"{int(np.sum(np.asarray(landscape.hits) == 1))}", "–"),
    ]
    return pd.DataFrame(rows, columns=["", "minima", "transition states"])


def _search(page: Page, landscape: Landscape, conserved: ConservedWeights, command: str) -> None:
    page.section("How it was searched")
    problem = landscape.problem
    if problem is not None:
        model = problem.model.name if problem.model is not None else "function"
        rows = f", {problem.n:,} training rows" if problem.n else ""
        page.text(
            f"Model: {model}, {landscape.size} parameters{rows}. Symmetry: {problem.symmetry.describe()}; points "
            "that differ by it only are one."
        )
    if command:
        page.code(command)
    rounds = landscape.statistics.get("rounds")
    if rounds:
        frame = pd.DataFrame(rounds).drop(columns="id", errors="ignore")
        page.table(frame.groupby("kind", sort=False).sum().reset_index(), "What the search did, by kind of job.")
    simple = {k: v for k, v in landscape.statistics.items() if isinstance(v, int | float | str)}
    if simple:
        page.table(_flat(simple))
    page.table(audit(landscape), "Audit of every stored point.")
    if landscape.settings:
        page.table(
            _flat({**landscape.settings, **{f"conserved: {k}": v for k, v in conserved.facts().items()}}),
            "Settings.",
        )


def _reading(page: Page, conserved: ConservedWeights) -> None:
    page.section("Words")
    words = {
        "minimum": "a set of weights from which every small step raises the loss: the end of a training run.",
        "transition state": "the lowest pass between two minima.",
        "group level_node": "minima that can be changed into one another without the loss reaching the "
        "energy of that "
        "level; node numbers the groups of a level by lowest loss.",
        "conserved weight": f"standard deviation over the group below {number(conserved.threshold)}, after matching "
        "hidden units (they can be exchanged, and for tanh change sign, without any effect).",
        "live": f"root mean square over the group above three times that threshold and above "
        f"{LIVE_SHARE:.0%} of the typical weight of its layer; otherwise dead.",
        "p, q": "p: how often random groups of other networks do as well; q: p corrected for the number of tests "
        "(Benjamini and Hochberg). Below 0.05 is called significant here.",
    }
    page.words(words)
    page.text(
        "Method: Niroomand and Wales, Physics-Inspired Interpretability of Machine Learning Models (2023), arXiv "
        "2304.02381."
    )
