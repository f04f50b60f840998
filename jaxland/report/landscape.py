"""The report of ``jaxland explore``: one self-contained HTML file, written so that no physicist is "
"needed to read it."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxland.datasets import Dataset, Split
from jaxland.landscape.attribution import Attribution, Validation
from jaxland.landscape.conserved import ConservedWeights, GroupConservation, conserved_weights
from jaxland.landscape.performance import Scorer, precision
from jaxland.landscape.result import Landscape
from jaxland.landscape.tree import LevelCut, energy_windows, level_cut
from jaxland.report.disconnectivity import disconnectivity_graph, interactive_svg, notable_groups
from jaxland.report.figures import PALETTE, canvas, save
from jaxland.report.html import Page
from jaxland.report.network_diagram import network_diagram


def explore_report(
    landscape: Landscape,
    conserved: ConservedWeights,
    path: str | Path,
    *,
    data: Split | Dataset | None = None,
    test: Dataset | None = None,
    cut: LevelCut | None = None,
    windows: ConservedWeights | None = None,
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
    page.raw("<style>.wrap th{white-space:normal;vertical-align:bottom;line-height:1.25}</style>")
    if windows is None:
        windows = _lowest(landscape, conserved, test)
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
    _groups(page, conserved)
    _windows(page, windows)
    headline = told.headline
    if headline is not None:
        _weights(page, told, headline, colours)
        _inputs(page, told, headline, colours)
        _validation(page, told, headline)
        _comparison(page, told, headline)
    if conserved.headline is not None:
        _levels(page, conserved)
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
    if headline is not None and conserved.layout.sizes is not None:
        colour = colours.get(headline.name, PALETTE[0])
        marked = headline.live_conserved if headline.live_conserved.any() else headline.agreeing(conserved.alpha)
        figure = network_diagram(headline, marked=marked, colour=colour, title=f"group {headline.name}")
        paths += save(figure, folder / "network")
    if train is not None and train.d == 2 and landscape.problem is not None and landscape.problem.model is not None:
        paths += save(decision_surface(landscape, train), folder / "decision", kinds=("png",))
    return paths


def group_colours(conserved: ConservedWeights, most: int = 6) -> dict[str, str]:
    """Groups to colour in the graph, none inside another: the headline (red), others with more conserved weights than
    chance gives or whose weights agree more closely, and groups that show the structure of the graph."""
    chosen: list[tuple[str, np.ndarray]] = []

    def disjoint(members: np.ndarray) -> bool:
        return all(not np.intersect1d(members, other).size for _, other in chosen)

    headline = conserved.headline
    if headline is not None and min(headline.q_group, headline.q_spread) <= conserved.alpha:
        chosen.append((headline.name, headline.members))
    for group in sorted(conserved.significant, key=lambda g: (g.q_group, -len(g.members))):
        if len(chosen) < most and disjoint(group.members):
            chosen.append((group.name, group.members))
    close = [g for g in conserved.groups if g.q_spread <= conserved.alpha and g.spread_ratio < 1]
    for group in sorted(close, key=lambda g: g.spread_z):
        if len(chosen) < most and disjoint(group.members):
            chosen.append((group.name, group.members))
    for name in notable_groups(conserved.landscape, conserved.cut, most):
        members = conserved.cut.group(name)
        if len(chosen) < most and disjoint(members):
            chosen.append((name, members))
    return {name: PALETTE[i % len(PALETTE)] for i, (name, _) in enumerate(chosen)}


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


def attribution_figure(
    group: GroupConservation, *, colour: str = PALETTE[0], most: int = 30, alpha: float = 0.05
) -> Any:
    """Bars: mass of the live conserved weights of each input column; full colour where it beats chance."""
    source = group.sources
    if source is None:
        return None
    count = int((source.mass > 0).sum())
    order = np.argsort(-source.mass, kind="stable")[: min(count, most)][::-1]
    figure, axes = canvas(6.4, float(np.clip(0.24 * len(order) + 0.9, 1.8, 8.0)))
    sure = source.q_value[order] <= alpha
    axes.barh(
        np.arange(len(order)), source.mass[order], color=[colour if s else "#c3c9d1" for s in sure], height=0.68
    )
    axes.set_yticks(np.arange(len(order)), [source.labels[i] for i in order], fontsize=8.5)
    for k, i in enumerate(order):
        if source.mass[i] > 0:
            p = source.q_value[i]
            note = f"{source.count[i]} weight{'s' if source.count[i] != 1 else ''}" + (
                f", q = {p:.2g}" if np.isfinite(p) else ""
            )
            axes.annotate(
                note, (source.mass[i], k), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7.5,
                color="#5b6675",
            )  # fmt: skip
    axes.set_xlabel("sum of |mean| of its live conserved first-layer weights")
    axes.margins(x=0.22)
    axes.set_ylim(-0.6, len(order) - 0.4)
    return figure


def agreement_figure(
    group: GroupConservation, *, colour: str = PALETTE[0], most: int = 30, alpha: float = 0.05
) -> Any:
    """Bars: spread of the weights of each input column over the group, relative to random groups; None "
    "without a null."""
    source = group.sources
    if source is None or not np.isfinite(source.spread_ratio).any():
        return None
    known = np.flatnonzero(np.isfinite(source.spread_ratio))
    order = known[np.argsort(source.spread_ratio[known], kind="stable")][:most][::-1]
    ratio, sure = source.spread_ratio[order], source.spread_q[order] <= alpha
    figure, axes = canvas(6.4, float(np.clip(0.24 * len(order) + 0.9, 1.8, 8.0)))
    axes.hlines(np.arange(len(order)), 1.0, ratio, color="#c3c9d1", lw=1.2)
    axes.scatter(ratio, np.arange(len(order)), s=34, color=[colour if s else "#a9b1bb" for s in sure], zorder=3)
    axes.axvline(1.0, color="#1c2430", lw=0.8)
    axes.set_xscale("log")
    from matplotlib.ticker import FuncFormatter, NullFormatter

    low, high = min(float(ratio.min()), 0.9), max(float(ratio.max()), 1.1)
    coarse, fine = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10), (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.5)
    axes.set_xticks([t for t in (coarse if low < 0.3 else fine) if 0.9 * low <= t <= 1.1 * high])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(np.arange(len(order)), [source.labels[i] for i in order], fontsize=8.5)
    axes.set_xlabel("scatter of its weights / scatter in random groups")
    axes.set_ylim(-0.6, len(order) - 0.4)
    return figure


def validation_figure(check: Validation, *, colour: str = PALETTE[0]) -> Any:
    """Every seed a point: loss of test performance by shuffling conserved weights and the controls."""
    name = "conserved" if check.what == "conserved" else "most agreeing"
    sets = [(name, check.conserved, colour), ("random others", check.others, "#6b7684")]
    sets.append(("others of like size", check.matched, "#6b7684"))
    if check.like_size:
        sets.append((f"{name}, where the\nlayer has both kinds", check.like_conserved, colour))
        sets.append(("others of those layers", check.like_others, "#6b7684"))
    figure, axes = canvas(6.4, 0.52 * len(sets) + 1.1)
    rng = np.random.default_rng(0)
    for k, (_, drop, tint) in enumerate(reversed(sets)):
        axes.scatter(drop, k + 0.22 * (rng.random(len(drop)) - 0.5), s=13, color=tint, alpha=0.55, linewidths=0)
        axes.plot([drop.mean()] * 2, [k - 0.28, k + 0.28], color=tint, lw=2.4)
    axes.axvline(0, color="#1c2430", lw=0.7)
    axes.set_yticks(range(len(sets)), [name for name, _, _ in reversed(sets)])
    axes.set_xlabel(f"loss of test {check.metric}")
    return figure


# -- sections --------------------------------------------------------------------------------------------------


def _scores(landscape: Landscape, test: Dataset | None) -> tuple[np.ndarray | None, str]:
    if test is None or landscape.problem is None or landscape.problem.model is None:
        return None, ""
    scorer = Scorer.of(landscape.problem, test.x, test.y)
    return scorer(landscape.coordinates), scorer.metric


def _tested(check: Validation) -> str:
    return "conserved" if check.what == "conserved" else "most agreeing"


def _called(conserved: ConservedWeights, group: GroupConservation) -> str:
    return f"the {len(group.members)} lowest minima" if np.isnan(conserved.cut.delta) else f"group {group.name}"


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}g}"


def _p(value: float) -> str:
    return "not testable" if not np.isfinite(value) else f"{value:.2g}"


def _listed(names: list[str], most: int = 5) -> str:
    shown = names[:most]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown[:-1]) + (" and " if len(shown) > 1 and not more else ", " if len(shown) > 1 else "") + (
        shown[-1] if shown else ""
    ) + more  # fmt: skip


def _folded(page: Page, frame: pd.DataFrame, caption: str, most: int = 14) -> None:
    """A table of which only the first rows are open."""
    if len(frame) <= most + 4:
        page.table(frame, caption)
        return
    page.table(frame.head(most), caption)
    page.raw(f"<details><summary>The other {len(frame) - most} rows</summary>")
    page.table(frame.iloc[most:])
    page.raw("</details>")


def _cards(page: Page, cards: list[tuple[str, str]]) -> None:
    boxes = "".join(
        '<div style="background:#fff;border:1px solid #dfe4ea;border-radius:8px;padding:.7rem 1rem;min-width:8.5rem">'
        f'<div style="font-size:1.45rem;font-weight:600">{html.escape(value)}</div>'
        f'<div style="color:#5b6675;font-size:.85rem">{html.escape(label)}</div></div>'
        for value, label in cards
    )
    page.raw(f'<div style="display:flex;flex-wrap:wrap;gap:.7rem;margin:1rem 0">{boxes}</div>')


def leading_inputs(conserved: ConservedWeights, group: GroupConservation) -> list[str]:
    """Input columns whose conserved mass beats chance, largest mass first."""
    source = group.sources
    if source is None:
        return []
    order = np.argsort(-source.mass, kind="stable")
    return [source.labels[i] for i in order if source.mass[i] > 0 and source.q_value[i] <= conserved.alpha]


def agreeing_inputs(conserved: ConservedWeights, group: GroupConservation) -> list[str]:
    """Input columns whose first-layer weights scatter less than chance gives, closest agreement first."""
    source = group.sources
    if source is None:
        return []
    order = np.argsort(source.spread_ratio, kind="stable")
    return [source.labels[i] for i in order if source.spread_q[i] <= conserved.alpha and source.spread_ratio[i] < 1]


def findings(conserved: ConservedWeights) -> list[tuple[str, bool]]:
    """What was found, in plain sentences; True marks those that say that something is not there."""
    out: list[tuple[str, bool]] = []
    group = conserved.headline
    if group is None:
        most = conserved.settings["min_members"]
        return [
            (
                f"No group of at least {most} minima holds the best network: nothing can be said of conserved "
                "weights.",
                True,
            )
        ]
    k, count = len(group.members), int(group.live_conserved.sum())
    called = _called(conserved, group)
    joined = f"The {k} networks of {called}, which hold the best one,"
    within = f"In {called}" + ("" if np.isnan(conserved.cut.delta) else f" ({k} networks)")
    whose = called.capitalize() if np.isnan(conserved.cut.delta) else joined
    n = _number(conserved.threshold)
    if count == 0:
        out.append(
            (
                f"{within} no active weight stays the same to within "
                f"n = {n}: judged by that threshold, nothing is conserved.",
                True,
            )
        )
    if count == 0 and group.q_spread <= conserved.alpha:
        out.append(
            (
                f"Yet these networks do agree: their weights scatter {_number(group.spread_ratio)} times as much as "
                "those of "
                f"random groups of networks (q = {_p(group.q_spread)}), so they are a family of their "
                "own.",
                False,
            )
        )
        close = agreeing_inputs(conserved, group)
        if close:
            out.append((f"They agree most on how they use {_listed(close, 8)}.", False))
    elif count == 0:
        out.append(
            (
                "Nor do its weights scatter less than those of random groups of networks"
                + (f" (q = {_p(group.q_spread)})" if np.isfinite(group.q_spread) else "")
                + ": these networks reach their loss in different ways, and single weights explain nothing here.",
                True,
            )
        )
    elif not np.isfinite(group.q_group):
        out.append(
            (
                f"{count} active weights agree to within {n} in all {k} networks found. There are no other networks "
                "to compare with, so whether that is remarkable cannot be tested.",
                True,
            )
        )
    elif group.q_group <= conserved.alpha:
        out.append(
            (
                f"{whose} share {count} active weights to "
                f"within {n}; random groups of networks share {_number(float(group.null_count.mean()))} on average "
                f"(q = {_p(group.q_group)}).",
                False,
            )
        )
    else:
        out.append(
            (
                f"{whose} share {count} active weights to "
                f"within {n}, but random groups share {_number(float(group.null_count.mean()))} on average "
                f"(q = {_p(group.q_group)}): not more than chance gives.",
                True,
            )
        )
    if count and group.sources is not None:
        leading = leading_inputs(conserved, group)
        if leading:
            out.append((f"Inputs on whose use all these networks agree beyond chance: {_listed(leading, 8)}.", False))
        elif group.sources.mass.any():
            top = [group.sources.labels[i] for i in np.argsort(-group.sources.mass)[:5] if group.sources.mass[i] > 0]
            out.append(
                (
                    f"The conserved weights belong to {_listed(top)}, but no single input stands out from chance "
                    "after correction for the number of inputs.",
                    True,
                )
            )
        else:
            out.append(("None of the conserved weights starts at an input: they lie deeper in the network.", True))
    check = group.validation
    if check is not None:
        drop, other = float(check.conserved.mean()), float(check.others.mean())
        said = f"Shuffling the {check.size} {_tested(check)} weights costs {_number(drop)} of test {check.metric}; "
        said += f"shuffling as many random others costs {_number(other)} (p = {_p(check.p_value)})."
        out.append((said, not check.supported))
        if check.like_size:
            own, theirs = float(check.like_conserved.mean()), float(check.like_others.mean())
            said = f"Within the same layers, the comparison is {_number(own)} against {_number(theirs)} "
            said += f"(p = {_p(check.p_like)}): "
            said += (
                f"{_tested(check)} weights matter more than their neighbours."
                if check.supported_like
                else f"{_tested(check)} weights do not matter more than their neighbours in the layer."
            )
            out.append((said, not check.supported_like))
        elif check.supported:
            out.append(
                (
                    f"No layer has both {_tested(check)} and other live weights to compare: the difference may "
                    "be that of the layers rather than of the weights.",
                    True,
                )
            )
    others = [g for g in conserved.significant if g.members[0] != 0]
    if others and not (group.q_group <= conserved.alpha):
        out.append(
            (
                f"Groups that do not hold the best network, but share more weights than chance gives: "
                f"{_listed([g.name for g in others])}.",
                False,
            )
        )
    return out


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
            (str(int(headline.live_conserved.sum())), f"live conserved weights in {_called(conserved, headline)}")
        )
    _cards(page, cards)
    if landscape.n_minima > 1 and joined < conserved.settings["min_members"]:
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
        page.raw("<ul>" + "".join(f"<li>{html.escape(note)}</li>" for note in train.notes) + "</ul>")
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
    _folded(page, frame.head(200), "Features as the network gets them, in the units of the file.")


def _lowest(landscape: Landscape, conserved: ConservedWeights, test: Dataset | None) -> ConservedWeights | None:
    least = conserved.settings["min_members"]
    if landscape.n_minima < 2 * least or conserved.layout.sizes is None:
        return None
    layout, settings = conserved.layout, conserved.settings
    return conserved_weights(
        landscape,
        energy_windows(landscape, tuple(sorted({least, 10, 20, 50, 100, 200, 500, 1000}))),
        threshold=conserved.threshold,
        alpha=conserved.alpha,
        min_members=least,
        draws=settings["draws"],
        null_members=settings["null_members"],
        seed=settings["seed"],
        shuffles=settings["shuffles"],
        test=None if test is None else (test.x, test.y),
        features=layout.features,
        sources=layout.origins,
        classes=layout.outputs,
        compare=1,
    )


def _windows(page: Page, windows: ConservedWeights | None) -> None:
    if windows is None or not windows.groups:
        return
    page.section("All good networks, joined or not")
    rows = []
    for g in windows.groups:
        row: dict[str, Any] = {
            "lowest minima": len(g.members),
            "loss below": g.energy,
            "spread / chance": g.spread_ratio,
            "q, spread": g.q_spread,
            "live conserved": int(g.live_conserved.sum()),
            "q": g.q_group,
        }
        if g.validation is not None:
            row["p, validation"] = g.validation.p_value
            row["p, same layers"] = g.validation.p_like
        row["inputs agreed on most"] = ", ".join(agreeing_inputs(windows, g)[:4]) or "–"
        rows.append(row)
    page.text(
        "The same question without the graph: do the best networks agree more than networks drawn at random from all "
        "that were found, and on which inputs?"
    )
    page.table(pd.DataFrame(rows))
    close = [g for g in windows.groups if g.q_spread <= windows.alpha and g.spread_ratio < 1]
    if not close:
        page.note("They do not: the best networks differ from each other as much as any others.", warn=True)
        return
    common = [set(agreeing_inputs(windows, g)) for g in close]
    shared = [name for name in agreeing_inputs(windows, close[-1]) if all(name in s for s in common)]
    said = f"They do, up to the {max(len(g.members) for g in close)} lowest."
    page.text(said + (f" Inputs agreed on in every set: {_listed(shared, 8)}." if shared else ""))


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
    if graph.n_minima < landscape.n_minima and graph.n_minima < conserved.settings["min_members"]:
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
    page.raw(
        "<figure>"
        + interactive_svg(landscape, cut, groups=colours, columns=columns, numbers=numbers)
        + f"<figcaption>Levels are {_number(cut.delta)} apart, from {_number(cut.first, 5)} down. A group's name is "
        "level_number, numbers going by lowest loss; coloured groups are used below.</figcaption></figure>"
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


def _groups(page: Page, conserved: ConservedWeights) -> None:
    page.section("Groups and what they share")
    if not conserved.groups:
        page.note(f"No group has {conserved.settings['min_members']} minima or more.", warn=True)
        return
    page.text(
        f"A weight is conserved in a group if its standard deviation over the group's minima, after matching their "
        f"hidden units, is below n = {_number(conserved.threshold)}. Live: not switched off. Expected by chance: the "
        f"mean over {conserved.settings['draws']} random groups of other minima; p from them, q corrected for "
        f"testing {len(conserved.groups)} groups."
    )
    frame = conserved.to_pandas().drop(columns=["energy", "live weights", "dead conserved", "p"])
    # What can be told from chance first, then the groups of the best network.
    order = frame.assign(
        first=np.fmin(frame["q"], frame["q, spread"]).fillna(2.0), scatter=frame["spread / chance"].fillna(2.0)
    ).sort_values(["first", "scatter"], kind="stable")
    frame = frame.loc[order.index]
    _folded(
        page, frame, "Every set of minima once, under its name at the highest level where it occurs; clearest first."
    )
    if not conserved.significant:
        page.note("In no group are there more live conserved weights than chance gives.", warn=True)
    close = [g for g in conserved.groups if g.q_spread <= conserved.alpha and g.spread_ratio < 1]
    if close:
        page.text(
            f"Without any threshold: in {len(close)} of {len(conserved.groups)} groups the weights scatter less "
            "than in "
            f"random groups (q, spread at most {_number(conserved.alpha)}), in the tightest "
            f"{_number(min(g.spread_ratio for g in close))} times as much."
        )


def _weights(page: Page, conserved: ConservedWeights, group: GroupConservation, colours: Mapping[str, str]) -> None:
    page.section(f"Conserved weights of {_called(conserved, group)}")
    colour = colours.get(group.name, PALETTE[0])
    count, dead = int(group.live_conserved.sum()), int((~group.live).sum())
    page.text(
        (
            "No group of networks joined by passes is large enough, so the lowest minima are taken together, "
            "whatever lies between them; of these sets, "
            f"{_called(conserved, group)} are the one whose agreement is hardest to explain by chance. "
            if np.isnan(conserved.cut.delta)
            else f"Group {group.name} ({len(group.members)} minima, levels {group.levels}) is, of the groups that "
            "hold the best network, the one whose agreement is hardest to explain by chance. "
        )
        + f"{count} of {int(group.live.sum())} live weights are conserved."
        + (f" {dead} weights are dead: switched off everywhere, they say nothing." if dead else "")
    )
    agreeing = group.agreeing(conserved.alpha)
    marked, what = group.live_conserved, "live weights that are conserved in the group"
    if not count and agreeing.any():
        marked = agreeing
        what = "as none is conserved, the live weights that scatter less than chance gives"
    if group.layout.sizes is not None:
        page.figure(
            network_diagram(group, marked=marked, colour=colour, title=_called(conserved, group)),
            f"The network. Coloured: {what} (wide: large; dashed: negative, up to the sign of the hidden unit). "
            "Grey: "
            "the other live weights. Dead weights are left out. A coloured rim: the same for a bias.",
        )
    frame = group.to_pandas().drop(columns="conserved")
    if not count:
        frame = frame.sort_values(["q", "std"], kind="stable")
    shown = max(10, min(count, 40))
    page.table(frame.head(shown), f"The {shown} weights that come first, live conserved ones on top.")
    sweep = group.sweep.to_pandas()
    page.table(sweep, "The same count at other thresholds n: at which scale does the group stand out from chance?")


def _direction(source: Attribution, i: int) -> float:
    return float(source.path_signed[i, 1] - source.path_signed[i, 0]) if source.path_signed.shape[1] == 2 else 0.0


def _inputs(page: Page, conserved: ConservedWeights, group: GroupConservation, colours: Mapping[str, str]) -> None:
    source = group.sources
    if source is None:
        return
    page.section("What drives the decisions")
    if not source.mass.any():
        page.note(
            f"No live first-layer weight of {_called(conserved, group)} is conserved at n = "
            f"{_number(conserved.threshold)}.",
            warn=True,
        )
    else:
        figure = attribution_figure(group, colour=colours.get(group.name, PALETTE[0]), alpha=conserved.alpha)
        none = int((source.mass == 0).sum())
        page.figure(
            figure,
            (f"{none} inputs have no live conserved weight. " if none else "")
            + "Longer: the networks of the group agree on more and larger weights from that input. Coloured: more "
            f"than random groups of networks do (q at most {_number(conserved.alpha)}). Inputs that were coded into "
            "several columns are summed.",
        )
    closer = agreement_figure(group, alpha=conserved.alpha, colour=colours.get(group.name, PALETTE[0]))
    if closer is not None:
        page.figure(
            closer,
            "Without any threshold: how much the first-layer weights of an input scatter over the group, "
            "compared with "
            "the same weights in random groups of networks. Below 1 the group agrees more closely than chance; "
            f"coloured where q is at most {_number(conserved.alpha)}.",
        )
    leading = leading_inputs(conserved, group)
    ups = [name for name in leading if _direction(source, source.labels.index(name)) > 0]
    downs = [name for name in leading if _direction(source, source.labels.index(name)) < 0]
    if len(source.outputs) == 2 and (ups or downs):
        said = []
        if ups:
            said.append(f"higher values of {_listed(ups)} speak for {source.outputs[1]!r}")
        if downs:
            said.append(f"higher values of {_listed(downs)} speak for {source.outputs[0]!r}")
        page.text("Following conserved weights through to the output, " + "; ".join(said) + ".")
    table = source.to_pandas()
    table = table.drop(columns=[c for c in table if c.startswith(("paths", "signed")) and not table[c].any()])
    _folded(
        page,
        table,
        "count, mass: live conserved first-layer weights. p, q: against random groups, q corrected for the number of "
        "inputs. spread / chance: scatter of the input's live weights relative to random groups. paths: products of "
        "|weights| along conserved paths to an output; signed: with their signs.",
        20,
    )


def _validation(page: Page, conserved: ConservedWeights, group: GroupConservation) -> None:
    page.section("Do the conserved weights matter?")
    check = group.validation
    if check is None:
        page.note(
            "Not tested: there are no test data, or fewer than two weights to shuffle on either side.",
            warn=True,
        )
    else:
        page.text(
            (
                ""
                if check.what == "conserved"
                else "Fewer than two weights are conserved, so the weights that agree more "
                "closely than chance stand in for them. "
            )
            + f"If such weights carry what the network knows, "
            "shuffling them among themselves must hurt more than "
            f"shuffling others. {check.size} weights of each kind were shuffled with {len(check.conserved)} seeds "
            "in the "
            f"lowest minima of the group (test {check.metric} before: {check.baseline.mean():.3f})."
            + (f" Note: {check.note}." if check.note else "")
        )
        page.figure(validation_figure(check), "Points: one set of weights each, drawn by seed. Bars: means.")
        verdict = "yes" if check.supported else "no"
        page.text(
            f"{_tested(check).capitalize()} {_number(float(check.conserved.mean()))}, random others "
            f"{_number(float(check.others.mean()))}, "
            f"others of like size {_number(float(check.matched.mean()))}: {verdict} (p = {_p(check.p_value)})."
        )
        if not check.like_size:
            page.note(
                "No layer has at least two conserved and two other live weights: conserved weights cannot be "
                "compared with their neighbours, and the difference above may be one of layers.",
                warn=True,
            )
    tested = [g for g in conserved.groups if g.validation is not None]
    if len(tested) > 1:
        good = sum(g.validation.supported for g in tested if g.validation)
        like = [g.validation for g in tested if g.validation and g.validation.like_size]
        page.text(
            f"Of all {len(tested)} groups that could be tested, the conserved weights mattered more than random "
            f"others in {good}, and more than others of the same layers in {sum(v.supported_like for v in like)} of "
            f"{len(like)}."
        )


def _comparison(page: Page, conserved: ConservedWeights, group: GroupConservation) -> None:
    comparison = group.comparison
    if comparison is None:
        return
    page.section("Compared with other measures")
    page.text(
        "Permutation importance: the loss of test performance when an input's values are exchanged between "
        "rows. Input "
        "gradient: how fast the output changes with the input. Both averaged over the "
        f"{len(comparison.members)} lowest minima of {_called(conserved, group)}. They ask what one network "
        "uses; conserved "
        "weights ask what all networks of the group agree on. They need not be the same."
    )
    _folded(page, comparison.to_pandas(), "Most important by permutation first.", 20)
    table = comparison.to_pandas("correlations").dropna()
    if len(table):
        page.table(table, "Rank correlations over the inputs (Spearman) and their p-values.", digits=2)
    measure = "conserved mass" if comparison.conserved_mass.any() else "agreement"
    rho, p = comparison.correlations[measure, "permutation importance"]
    said = "much conserved weight" if measure == "conserved mass" else "closely agreeing weights"
    if not np.isfinite(rho):
        page.text("With fewer than three inputs there is nothing to rank.")
    elif p <= 0.05 and rho > 0:
        page.text(f"Inputs with {said} are also those the networks need most (ρ = {rho:.2f}, p = {p:.2g}).")
    else:
        page.text(f"Inputs with {said} are not those that matter most by permutation (ρ = {rho:.2f}, p = {p:.2g}).")


def _levels(page: Page, conserved: ConservedWeights) -> None:
    page.section("Level by level")
    frame = conserved.by_level()
    if "leading inputs" in frame:
        frame["leading inputs"] = frame["leading inputs"].fillna("–")
    page.text("From the top, where all connected networks are together, down to the best one alone.")
    if len(frame) > 60:
        changes = frame["minima in it"].ne(frame["minima in it"].shift())
        frame = frame[changes].head(80)
        _folded(page, frame, "Levels at which the group of the best network changes.", 30)
    else:
        _folded(page, frame, "", 30)


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
        page.raw(f"<p><code>{html.escape(command)}</code></p>")
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
            _flat({**landscape.settings, **{f"conserved: {k}": v for k, v in conserved.settings.items()}}),
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
        "conserved weight": f"standard deviation over the group below {_number(conserved.threshold)}, after matching "
        "hidden units (they can be exchanged, and for tanh change sign, without any effect).",
        "live": f"root mean square over the group above three times that threshold and above "
        f"{conserved.settings['live_share']:.0%} of the typical weight of its layer; otherwise dead.",
        "p, q": "p: how often random groups of other networks do as well; q: p corrected for the number of tests "
        "(Benjamini and Hochberg). Below 0.05 is called significant here.",
    }
    page.raw(
        "<dl>"
        + "".join(f"<dt><b>{html.escape(k)}</b></dt><dd>{html.escape(v)}</dd>" for k, v in words.items())
        + "</dl>"
    )
    page.text(
        "Method: Niroomand and Wales, Physics-Inspired Interpretability of Machine Learning Models (2023), arXiv "
        "2304.02381."
    )
