"""The report of ``jaxland explore``: one self-contained HTML file, written so that it needs no physicist to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from jaxland.data.summary import feature_summary
from jaxland.landscape.audit import audit
from jaxland.landscape.interpretation import Interpretation
from jaxland.landscape.search.completeness import ending, failures
from jaxland.landscape.weights.null import LIVE_SHARE
from jaxland.report import conclusion
from jaxland.report.conserved.figures import group_colours
from jaxland.report.conserved.findings import findings
from jaxland.report.conserved.network_diagram import network_diagram
from jaxland.report.conserved.sections import (
    comparison_section,
    groups_section,
    inputs_section,
    levels_section,
    validation_section,
    weights_section,
    windows_section,
)
from jaxland.report.decision_surface import decision_figure
from jaxland.report.disconnectivity import Sayings, disconnectivity_graph, interactive_svg
from jaxland.report.figures import PALETTE, save
from jaxland.report.html import Page
from jaxland.report.questions import GRAPH, INPUTS, LINEAR, TESTS
from jaxland.report.thermodynamics.sections import (
    funnels_section,
    kinetics_section,
    thermodynamics_section,
    values_section,
)
from jaxland.report.why import why_section
from jaxland.report.words import correlation, number
from jaxland.why import Why

# With more minima than that a graph is embedded as png.
MOST_AS_SVG = 800


def explore_report(
    found: Interpretation, path: str | Path, *, title: str = "", command: str = "", why: Sequence[Why] = ()
) -> Path:
    """Write the report of a landscape to one HTML file.

    Args:
        found: ``jaxland.landscape.interpret(landscape, ...)``.
        path: of the file.
        title: of the page; by default the name of the data.
        command: the command line that made it, repeated in the report.
        why: predictions to explain, one section each; see ``jaxland.why.why``.

    Returns:
        The path.
    """
    name = title or (f"Loss landscape of {found.train.name}" if found.train is not None else "Loss landscape")
    page = Page(name, f"{found.landscape.describe()}.")
    colours = group_colours(found.conserved)
    _summary(page, found)
    _data(page, found)
    _graph(page, found, colours)
    if found.surface is not None:
        page.section("What the best network decides")
        page.figure(
            decision_figure(found.surface),
            "Colour: what the network at the lowest minimum decides over the plane of the two inputs. "
            "Points: the training data.",
            kind="png",
            dpi=130,
        )
    _tests(page, found)
    _linear(page, found)
    _importance(page, found)
    groups_section(page, found.conserved)
    windows_section(page, found.windows)
    headline = found.told.headline
    if headline is not None:
        weights_section(page, found.told, headline, colours)
        inputs_section(page, found.told, headline, colours)
        validation_section(page, found.told, headline)
        comparison_section(page, found.told, headline)
    if found.conserved.headline is not None:
        levels_section(page, found.conserved)
    for row in why:
        why_section(page, row)
    _noise(page, found)
    _search(page, found, command)
    _words(page, found)
    return page.save(path)


def save_figures(found: Interpretation, folder: str | Path) -> list[Path]:
    """Write the pictures of the report as png and svg; returns the paths.

    disconnectivity: coloured by group; disconnectivity-test: by test performance; network: the diagram of the
    headline group; decision (png only): for two inputs.
    """
    folder, conserved = Path(folder), found.conserved
    colours = group_colours(conserved)
    shown = _groups(found, colours)
    paths = save(disconnectivity_graph(found.drawn, found.cut, groups=shown), folder / "disconnectivity")
    if found.scores is not None:
        label = f"test {found.scores.metric}"
        figure = disconnectivity_graph(found.drawn, found.cut, values=found.scores.scores, value_label=label)
        paths += save(figure, folder / "disconnectivity-test")
    headline = conserved.headline
    if headline is not None and conserved.parameters.sizes is not None:
        colour = colours.get(headline.name, PALETTE[0])
        marked = headline.live_conserved if headline.live_conserved.any() else headline.agreeing(conserved.alpha)
        figure = network_diagram(headline, marked=marked, colour=colour, title=f"group {headline.name}")
        paths += save(figure, folder / "network")
    if found.surface is not None:
        paths += save(decision_figure(found.surface), folder / "decision", kinds=("png",))
    return paths


def _groups(found: Interpretation, colours: Mapping[str, str]) -> Mapping[str, str]:
    """The groups to colour in the graph that is drawn: none where it is not the one that was analysed."""
    return colours if found.drawn is found.conserved.landscape else {}


def _summary(page: Page, found: Interpretation) -> None:
    page.section("In short")
    said = conclusion.headline(found)
    page.headline(said.sentence, refused=said.refused)
    landscape, told = found.landscape, found.told
    cards = [
        (f"{landscape.n_minima:,}", "minima (different trained networks)"),
        (f"{landscape.n_ts:,}", "transition states (passes between them)"),
        (f"{int((landscape.components() == 0).sum()):,}", "minima connected to the best"),
        (f"{landscape.energies[0]:.5g}", "lowest loss"),
    ]
    if found.scores is not None:
        cards.append((f"{found.scores.scores[0]:.3f}", f"test {found.scores.metric} of the best"))
    page.cards(cards)
    page.answers(conclusion.answers(found))
    for note in landscape.notes():
        page.note(f"{note}.", warn=True)
    if not said.refused:
        page.text("What was found of conserved weights, sentence by sentence:")
        for sentence, missing in findings(told):
            page.note(sentence, warn=missing)


def _data(page: Page, found: Interpretation) -> None:
    train, test = found.train, found.test
    if train is None:
        return
    page.section("The data")
    page.text(f"Training data, {train.describe()}.")
    if test is not None:
        page.text(f"Test data, never seen in training: {test.n:,} rows. All performance below is on them.")
    if train.notes:
        page.listing(train.notes)
    page.folded(feature_summary(train).head(200), "Features as the network gets them, in the units of the file.")
    choice = getattr(found.landscape.problem, "l2_choice", None)
    if choice is not None:
        page.text(
            f"The weight of the regulariser, {choice.l2:g}, was chosen among {len(choice.table)} for the least loss "
            f"on {choice.held_out:,} rows held out of {choice.rows + choice.held_out:,}; training takes all of them."
        )
        page.folded(choice.to_pandas(), "Loss (without the regulariser) of a few quenches for every weight tried.")


def _graph(page: Page, found: Interpretation, colours: Mapping[str, str]) -> None:
    page.section(GRAPH)
    page.text(
        "Each line that ends is one minimum: a network that no small change of its weights can improve. Its lower "
        "end is its loss. Two lines meet at the height that must be climbed to change one network into the other. "
        "Branches that stay apart down to low losses are families of networks that solve the problem in different "
        "ways. Choose a line to see what its network predicts."
    )
    drawn, cut, scores = found.drawn, found.cut, found.scores
    apart = found.landscape.n_minima - drawn.n_minima
    if apart:
        page.text(
            f"Drawn are the {drawn.n_minima:,} minima joined to the best; {apart:,} others were found to which no "
            "path was found yet."
        )
    columns = {} if scores is None else {f"test {scores.metric}": scores.scores}
    page.drawing(
        interactive_svg(
            drawn,
            cut,
            groups=_groups(found, colours),
            columns=columns,
            numbers=found.numbers,
            sayings=_sayings(found),
        ),
        f"Levels are {number(cut.delta)} apart, from {number(cut.first, 5)} down. A group's name is level_number, "
        "numbers going by lowest loss; coloured groups are used below.",
    )


def _sayings(found: Interpretation) -> Sayings | None:
    """What the drawn ones of the lowest minima predict."""
    told = found.predictions
    if told is None or found.test is None:
        return None
    place = np.flatnonzero(np.isin(found.numbers, told.minima))
    shown = found.numbers[place]
    if told.maps is not None:
        place, shown = place[shown < len(told.maps)], shown[shown < len(told.maps)]
    names = found.test.features
    return Sayings(
        minima=place,
        rows=[f"{told.called} {row}" for row in told.rows],
        truth=told.truth,
        outputs=told.outputs,
        values=told.values[shown],
        maps=None if told.maps is None else told.maps[shown],
        axes=(names[0], names[1]) if told.maps is not None else ("", ""),
    )


def _tests(page: Page, found: Interpretation) -> None:
    """How every network does on the test data, alone, together, and with its loss."""
    scores, drawn = found.scores, found.drawn
    if scores is None:
        return
    page.section(TESTS)
    n = len(scores.scores)
    if n >= 3:
        page.figure(
            disconnectivity_graph(
                drawn, found.cut, values=scores.scores, value_label=f"test {scores.metric}", height=4.4
            ),
            f"The disconnectivity graph, coloured by the {scores.metric} on the test data: from "
            f"{scores.scores.min():.3f} to {scores.scores.max():.3f}, {scores.scores[0]:.3f} at the lowest minimum.",
            kind="svg" if drawn.n_minima <= MOST_AS_SVG else "png",
            dpi=140,
        )
    rho, p = scores.correlation, scores.p_value
    if np.isfinite(rho):
        told, whole = f"{correlation(rho, n)}, p = {p:.2g}", conclusion.over_all(found)
        if whole is not None:
            count = found.landscape.n_minima
            told += f"; over all {count:,} found, joined or not, {correlation(whole[0], count)}, p = {whole[1]:.2g}"
        told += "; as if minima were independent draws, which they are not quite"
        better = conclusion.lower_is_better(found)
        page.text(
            f"Whether a lower training loss means a better {scores.metric} on the test data is not clear ({told})."
            if better is None
            else f"Networks with a lower training loss do {'better' if better else 'worse'} on the test data (rank "
            f"correlation of loss and {scores.metric} {told})."
        )
    if found.values is not None:
        values_section(page, found.landscape, found.values, found.averaged)


def _linear(page: Page, found: Interpretation) -> None:
    """The network beside a linear model of the same data."""
    line = found.linear
    if line is None:
        return
    page.section(LINEAR)
    page.text(
        f"A linear model ({'least squares' if line.metric == 'R2' else 'logistic regression'}) with the same loss, "
        "regulariser and training rows. "
        f"Errors are standard deviations over bootstrap resamplings of the {line.rows:,} test rows; the difference "
        "is taken on the same resampled rows."
    )
    rows = [
        ("linear model", line.linear, line.linear_std),
        ("network at the lowest minimum", line.network, line.network_std),
        ("difference", line.network - line.linear, line.difference_std),
    ]
    page.table(pd.DataFrame(rows, columns=["", f"test {line.metric}", "±"]))
    frame = line.to_pandas()
    group = found.told.headline
    compared = None if group is None else group.comparison
    if compared is not None and compared.labels == line.labels:
        frame["± permutation"] = [compared.permutation_std[compared.labels.index(name)] for name in frame["input"]]
        frame.insert(2, "permutation", [compared.permutation[compared.labels.index(name)] for name in frame["input"]])
    page.folded(frame, "What the linear model leans on: |coefficient| times the standard deviation of the input.", 20)
    for name, (rho, p) in line.correlations.items():
        if np.isfinite(rho):
            told = f"{correlation(rho, len(line.labels))}, p = {p:.2g}"
            page.text(f"Its ranking of the inputs and the network's {name}: {told}.")


def _importance(page: Page, found: Interpretation) -> None:
    """What the best network needs of its inputs, where no group says it."""
    needed = found.importance
    if needed is None:
        return
    page.section(INPUTS)
    page.text(
        f"Permutation importance: the loss of test {needed.metric} of the network at the lowest minimum when an "
        f"input's values are exchanged between rows, ± its standard error over {needed.repeats} shuffles. Input "
        "gradient: how fast the output changes with the input. What was coded into several columns is shuffled "
        "together."
    )
    page.folded(needed.to_pandas(), "Most needed first.", 20)


def _noise(page: Page, found: Interpretation) -> None:
    """Thermodynamics, funnels and kinetics."""
    if found.analysis is None:
        return
    thermodynamics_section(page, found.analysis)
    columns = {} if found.values is None else {f"test {name}": found.values[name] for name in found.values.names}
    funnels_section(page, found.analysis, columns)
    kinetics_section(page, found.analysis)


def _search(page: Page, found: Interpretation, command: str) -> None:
    page.section("How it was searched")
    landscape, problem = found.landscape, found.landscape.problem
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
        page.text(f"The search is {ending(landscape.statistics, landscape.settings)}.")
        page.listing(failures(rounds))
        frame = pd.DataFrame(rounds).drop(columns="id", errors="ignore").groupby("kind", sort=False).sum()
        frame = frame.rename(columns=lambda name: name.replace("_", " ")).reset_index()
        page.table(frame, "What the search did, by kind of job.")
    simple = {k: v for k, v in landscape.statistics.items() if isinstance(v, int | float | str)}
    if simple:
        page.table(_flat(simple))
    page.table(audit(landscape), "Audit of every stored point.")
    if landscape.settings:
        facts = {f"conserved: {k}": v for k, v in found.conserved.facts().items()}
        page.table(_flat({**landscape.settings, **facts}), "Settings.")


def _flat(values: Mapping[str, object]) -> pd.DataFrame:
    rows = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += [{"": f"{key}: {k}", "value": _cell(v)} for k, v in value.items()]
        else:
            rows.append({"": str(key), "value": _cell(value)})
    return pd.DataFrame(rows, columns=["", "value"])


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return str(value)
    return f"{value:,}" if isinstance(value, int | np.integer) else f"{value:.5g}"


def _words(page: Page, found: Interpretation) -> None:
    page.section("Words")
    page.words(
        {
            "minimum": "a set of weights from which every small step raises the loss: the end of a training run.",
            "transition state": "the lowest pass between two minima.",
            "group level_node": "minima that can be changed into one another without the loss reaching the energy of "
            "that level; node numbers the groups of a level by lowest loss.",
            "conserved weight": "standard deviation over the group below "
            f"{number(found.conserved.threshold)}, after matching hidden units (they can be exchanged, and for tanh "
            "change sign, without any effect).",
            "live": "root mean square over the group above three times that threshold and above "
            f"{LIVE_SHARE:.0%} of the typical weight of its layer; otherwise dead.",
            "p, q": "p: how often random groups of other networks do as well; q: p corrected for the number of tests "
            "(Benjamini and Hochberg). Below 0.05 is called significant here.",
        }
    )
    page.text(
        "Method: Niroomand and Wales, Physics-Inspired Interpretability of Machine Learning Models (2023), arXiv "
        "2304.02381."
    )
