"""Figures and the HTML report of the Hessian toolbox."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from jaxland.errors import ConvergenceError
from jaxland.hessian import (
    DampingSweep,
    Explanation,
    Extrapolation,
    Influence,
    MinimaInfluence,
    MinimaUncertainty,
    SelfInfluence,
    Spectrum,
    Uncertainty,
)
from jaxland.report.figures import PALETTE, bin_edges, canvas, panels
from jaxland.report.hessian_summary import LOOK, PREDICTIONS, RESTS, RowNames, hessian_summary
from jaxland.report.html import Page

RED, BLUE, GREEN = PALETTE[:3]
# What the facts of a curvature are called on its page.
NAMES = {
    "examples": "training rows",
    "damping_chosen": "damping chosen by jaxland",
    "lowest": "lowest eigenvalue (loss per squared parameter)",
    "highest": "highest eigenvalue (loss per squared parameter)",
    "gradient_norm": "|gradient| of the training loss",
    "stationarity": "|gradient| relative to that of single rows",
    "max_iterations": "most iterations of a solve",
    "deflation": "modes solved exactly first",
}


def density_figure(spectrum: Spectrum, width: float | None = None) -> Figure:
    """Density of eigenvalues on a logarithmic axis; ticks below mark the modes known exactly."""
    figure, axes = canvas(7, 3.8)
    grid, density = spectrum.density(width=width)
    axes.fill_between(grid, density, color=BLUE, alpha=0.25, linewidth=0)
    axes.plot(grid, density, color=BLUE, linewidth=1.2)
    floor = max(0.3 / spectrum.size / np.ptp(grid) * 10, density.max() * 1e-7)
    axes.set(
        yscale="log",
        ylim=(floor, density.max() * 3),
        xlabel="eigenvalue (loss per squared parameter)",
        ylabel="density",
    )
    known = np.concatenate([spectrum.lowest, spectrum.highest])
    axes.plot(known, np.full(len(known), floor * 1.3), "|", color=RED, markersize=9)
    axes.axvline(0, color="0.6", linewidth=0.8)
    return figure


def extremes_figure(spectrum: Spectrum) -> Figure:
    """Highest and lowest eigenvalues; the bars are their residuals, within which each is certain."""
    figure, axes = panels(8, 3.6, ncols=2)
    ends = (
        ("highest", spectrum.highest, spectrum.highest_residuals, BLUE),
        ("lowest", spectrum.lowest, spectrum.lowest_residuals, RED),
    )
    for axis, (name, values, residuals, colour) in zip(axes, ends):
        rank = np.arange(1, len(values) + 1)
        axis.errorbar(rank, values, residuals, fmt="o", markersize=4, capsize=2, color=colour)
        worst = f", largest residual {residuals.max():.0e}" if len(residuals) else ""
        axis.set(xlabel="rank", ylabel="eigenvalue", title=f"{name}{worst}")
        axis.axhline(0, color="0.7", linewidth=0.8)
    return figure


def damping_figure(spectrum: Spectrum) -> Figure:
    """Effective parameters and log-determinant against damping; bands are two standard errors."""
    figure, axes = panels(8, 3.6, ncols=2)
    top = float(np.max(spectrum.values)) if len(spectrum.values) else float(np.max(spectrum.nodes))
    dampings = np.geomspace(1e-7 * top, 10 * top, 40)
    effective = np.array([spectrum.effective_parameters(d) for d in dampings])
    _band(axes[0], dampings, effective, BLUE)
    axes[0].set(xscale="log", xlabel="damping", ylabel="effective parameters", ylim=(0, None))
    logdet = []
    for d in dampings:
        try:
            logdet.append((d, *spectrum.log_determinant(d)))
        except ConvergenceError:
            continue
    if logdet:
        rows = np.array(logdet)
        _band(axes[1], rows[:, 0], rows[:, 1:], GREEN)
    trace, error = spectrum.trace()
    within = f" ± {error:.2g}" if error else ""
    axes[1].set(xscale="log", xlabel="damping", ylabel="log det(H + damping)", title=f"trace {trace:.5g}{within}")
    for axis in axes:
        if spectrum.damping > 0:
            axis.axvline(spectrum.damping, color="0.5", linewidth=0.9, linestyle="--")
    return figure


def _band(axes: Axes, x: np.ndarray, rows: np.ndarray, colour: str) -> None:
    axes.plot(x, rows[:, 0], color=colour)
    axes.fill_between(
        x, rows[:, 0] - 2 * rows[:, 1], rows[:, 0] + 2 * rows[:, 1], color=colour, alpha=0.2, linewidth=0
    )


def influence_figure(
    influence: Influence,
    labels: Sequence[object] | None = None,
    point: int = 0,
    rows: RowNames | None = None,
) -> Figure:
    """The most helpful and most harmful training examples of one test point."""
    figure, axes = canvas(7, 0.32 * 2 * max(1, influence.most_positive.shape[1]) + 1.2)
    index = np.concatenate([influence.most_positive[point], influence.most_negative[point][::-1]])
    values = np.concatenate([influence.positive_values[point], influence.negative_values[point][::-1]])
    called, numbers = ("row", index) if rows is None else (rows.called, rows.training[index])
    names = [f"{called} {k}" + ("" if labels is None else f" ({labels[i]})") for i, k in zip(index, numbers)]
    at = np.arange(len(index))
    axes.barh(at, values, color=np.where(values > 0, BLUE, RED))
    axes.set_yticks(at, names)
    axes.invert_yaxis()
    axes.axvline(0, color="0.4", linewidth=0.8)
    axes.set(
        xlabel=f"change of the {influence.of} when the row is removed",
        title=f"test point {point if rows is None else f'{rows.called} {rows.points[point]}'}",
    )
    return figure


def self_influence_figure(
    found: SelfInfluence, losses: ArrayLike, classes: ArrayLike | None = None, names: ArrayLike | None = None
) -> Figure:
    """Self-influence against loss: examples high on both are atypical or mislabelled."""
    figure, axes = canvas(6.4, 4.2)
    colours = BLUE if classes is None else np.array(PALETTE)[np.asarray(classes) % len(PALETTE)]
    losses, values = np.asarray(losses), found.values
    axes.scatter(np.maximum(losses, 1e-12), np.maximum(values, 1e-300), s=9, c=colours, alpha=0.7, linewidths=0)
    positive = values[values > 0]
    if len(positive):
        axes.set(
            xscale="log", yscale="log", ylim=(max(positive.min() / 2, positive.max() * 1e-12), positive.max() * 3)
        )
    for i in np.argsort(-values)[:8]:
        if values[i] > 0:
            axes.annotate(
                f"{i if names is None else np.asarray(names)[i]}",
                (losses[i], values[i]),
                fontsize=8,
                xytext=(3, 2),
                textcoords="offset points",
            )
    axes.set(xlabel="loss of the row", ylabel="self-influence (change of the row's own loss)")
    return figure


def sweep_figure(sweep: DampingSweep) -> Figure:
    """Rank correlation of influence at each damping with that at the one in use."""
    figure, axes = canvas(6, 3.4)
    at = np.where(sweep.dampings > 0, sweep.dampings, sweep.dampings[sweep.dampings > 0].min() / 10)
    axes.plot(at, sweep.to_first, "o-", color=BLUE)
    axes.plot(at[~sweep.positive_definite], sweep.to_first[~sweep.positive_definite], "x", color=RED, markersize=9)
    axes.set(
        xscale="log", xlabel="damping", ylabel="rank correlation", ylim=(min(0, np.nanmin(sweep.to_first)), 1.05)
    )
    axes.axvline(at[sweep.first], color="0.5", linewidth=0.9, linestyle="--")
    return figure


def uncertainty_figure(found: Uncertainty, correct: ArrayLike | None = None) -> Figure:
    """Test points in the order of their value, with 90 % intervals; crosses are wrong predictions."""
    figure, axes = canvas(7, 3.8)
    order = np.argsort(found.value, kind="stable")
    low, high = found.interval(0.9)
    at = np.arange(len(order))
    axes.vlines(at, low[order], high[order], color=BLUE, alpha=0.45, linewidth=max(0.5, min(3, 200 / len(order))))
    axes.plot(at, found.value[order], ".", color=BLUE, markersize=4)
    if correct is not None:
        bad = ~np.asarray(correct)[order]
        axes.plot(at[bad], found.value[order][bad], "x", color=RED, markersize=6, label="wrong")
        if bad.any():
            axes.legend(frameon=False)
    axes.set(xlabel="test points, in order", ylabel=found.of)
    return figure


def extrapolation_figure(found: Extrapolation) -> Figure:
    """Left: score against dropped modes, one line a test point. Right: distribution of the chosen scores."""
    figure, axes = panels(9, 3.6, ncols=2, widths=(3, 2))
    modes = np.arange(found.sweep.shape[1])
    shown = found.sweep[:: max(1, len(found.sweep) // 60)]
    axes[0].plot(modes, shown.T, color=BLUE, alpha=0.3, linewidth=0.7)
    axes[0].plot(modes, np.median(found.sweep, axis=0), color="black", linewidth=1.4, label="median")
    axes[0].axvline(found.m, color=RED, linewidth=1, linestyle="--", label=f"m = {found.m}")
    positive = found.sweep[found.sweep > 0]
    low = max(float(positive.min()), 1e-8 * float(positive.max())) if len(positive) else 1e-8
    axes[0].set(xlabel="dropped modes m", ylabel=f"score ({found.of} gradient)", yscale="log", ylim=(low / 2, None))
    axes[0].legend(frameon=False)
    axes[1].hist(found.scores, bins=bin_edges(found.scores, 30), color=BLUE, alpha=0.8)
    axes[1].set(xlabel=f"score at m = {found.m}", ylabel="test points")
    return figure


def minima_figure(uncertainty: MinimaUncertainty, influence: MinimaInfluence | None = None) -> Figure:
    """Spread within minima against spread between them; agreement of their influence with the weighted mean."""
    figure, axes = panels(8 if influence is not None else 5, 3.8, ncols=2 if influence is not None else 1)
    left = axes[0]
    left.scatter(uncertainty.within, uncertainty.between, s=12, color=BLUE, alpha=0.7, linewidths=0)
    edge = 1.05 * max(float(uncertainty.within.max()), float(uncertainty.between.max()), 1e-12)
    left.plot([0, edge], [0, edge], color="0.7", linewidth=0.8)
    left.set(xlabel="within minima (RUE)", ylabel="between minima", xlim=(0, edge), ylim=(0, edge))
    if influence is not None:
        order = np.argsort(-influence.weights, kind="stable")
        axes[1].bar(np.arange(len(order)), influence.agreement[order], color=GREEN)
        axes[1].set(xlabel="minima, by weight", ylabel="rank correlation with the mean influence", ylim=(-1, 1))
        axes[1].axhline(0, color="0.4", linewidth=0.8)
    return figure


def retrieval_figure(curves: dict[str, tuple[np.ndarray, np.ndarray]], share: float) -> Figure:
    """Precision against recall for several rankings; the dotted line is a random order."""
    figure, axes = canvas(5.6, 4)
    for colour, (name, (recall, precision)) in zip(PALETTE, curves.items()):
        axes.plot(recall, precision, color=colour, label=name)
    axes.axhline(share, color="0.4", linewidth=1, linestyle=":", label="random")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.03))
    axes.legend(frameon=False)
    return figure


class Answers(NamedTuple):
    """What is right and what the model says of the test points.

    classes: their names (empty: numbers); predicted, true: int [T].
    """

    classes: tuple[str, ...]
    predicted: np.ndarray
    true: np.ndarray


def hessian_report(
    explained: Explanation,
    path: str | Path,
    *,
    answers: Answers | None = None,
    rows: RowNames | None = None,
    title: str = "Hessian report",
    subtitle: str = "",
) -> Path:
    """One self-contained HTML file with every result and figure of ``jaxland hessian``.

    Args:
        explained: what ``jaxland.hessian.explain`` found.
        path: of the file.
        answers: of a classifier.
        rows: what to call training rows and test points; default their positions.
        title, subtitle: texts.
    """
    page = Page(title, subtitle)
    if rows is None:
        rows = RowNames("row", np.arange(len(explained.losses)), np.arange(len(explained.uncertainty.value)))
    page.section("In short")
    right = None if answers is None else answers.predicted == answers.true
    hessian_summary(page, explained, right, rows)
    _curvature(page, explained)
    _predictions(page, explained, answers, rows)
    _examples(page, explained, () if answers is None else answers.classes, rows)
    return page.save(path)


def _curvature(page: Page, explained: Explanation) -> None:
    curvature, sweep, spectrum = explained.curvature, explained.influence.sweep, explained.spectrum
    page.section("Curvature")
    for note in curvature.warnings:
        page.note(note, warn=True)
    facts = curvature.to_pandas().T.reset_index().set_axis(["", "value"], axis=1)
    facts[""] = [NAMES.get(str(name), str(name).replace("_", " ")) for name in facts[""]]
    page.table(facts)
    if sweep is not None:
        page.text(
            "The damping was chosen by jaxland. How much the ranking of the training examples depends on it "
            "(least rank correlation over some test points):"
        )
        page.table(sweep.to_pandas())
        none = "" if sweep.dampings[sweep.first] else ", none at all, at the left edge"
        page.figure(sweep_figure(sweep), f"Dashed: the damping in use{none}. Crosses: not positive definite.")
    page.section("Spectrum")
    page.table(spectrum.summary(), "From " + ("all eigenvalues." if spectrum.exact else "stochastic quadrature."))
    page.figure(density_figure(spectrum), "Density of eigenvalues; red ticks: modes known exactly.")
    page.figure(extremes_figure(spectrum), "Extreme eigenvalues and their residuals.")
    page.figure(damping_figure(spectrum), "Effective parameters and log-determinant; dashed: the damping in use.")
    if not spectrum.converged:
        page.note("Some extreme modes are not converged: read their residuals.", warn=True)


def _predictions(page: Page, explained: Explanation, answers: Answers | None, rows: RowNames) -> None:
    page.section(PREDICTIONS)
    table, correct = rows.points_of(explained.to_pandas()), None
    if answers is not None:
        names = np.asarray(answers.classes) if answers.classes else np.arange(int(answers.predicted.max()) + 1)
        table.insert(2, "predicted", names[answers.predicted])
        table.insert(3, "true", names[answers.true])
        correct = answers.predicted == answers.true
    page.text(
        "std: how far the value moves when the training set is resampled. LEES: how far it can move along directions "
        "the training data leave open; high values mean extrapolation."
    )
    worst = table.iloc[explained.least_certain()[:15]]
    page.table(worst, "The 15 least certain test points (all of them in predictions.csv).")
    page.figure(uncertainty_figure(explained.uncertainty, correct), "90 % intervals by resampling.")
    page.figure(extrapolation_figure(explained.extrapolation), "Extrapolation scores.", kind="png")
    page.section(RESTS)
    page.table(rows.influence(explained.influence).head(40), "The first test points (all in influence.csv).")
    page.figure(
        influence_figure(explained.influence, rows=rows), "Most helpful (blue) and most harmful (red) training rows."
    )


def _examples(page: Page, explained: Explanation, classes: tuple[str, ...], rows: RowNames) -> None:
    found, losses = explained.influence.self_influence, explained.losses
    if found is None:
        return
    page.section(LOOK)
    page.text("Rows with large self-influence are atypical, or mislabelled.")
    labels = np.asarray(explained.curvature.problem.y)
    order = np.argsort(-found.values)[:15]
    table = pd.DataFrame(
        {rows.called: rows.training[order], "self-influence": found.values[order], "loss": losses[order]}
    )
    kinds = labels if labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer) else None
    if kinds is not None:
        table.insert(1, "label", np.asarray(classes)[kinds[order]] if len(classes) else kinds[order])
    page.table(table)
    page.figure(
        self_influence_figure(found, losses, kinds, rows.training), f"Numbers are {rows.called} numbers.", kind="png"
    )
