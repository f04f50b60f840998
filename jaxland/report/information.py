"""Figures and the report of mutual information: fitted density, heat map with errors, who carries what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jaxland.core.mixture import Mixture, marginal
from jaxland.information.integrals import log_density
from jaxland.information.latents import Disentanglement, InformationMatrix
from jaxland.information.results import MutualInformation
from jaxland.report.figures import PALETTE, bin_edges, canvas, panels
from jaxland.report.html import Page
from jaxland.report.words import Headline, listed

SHOWN_SAMPLES = 3_000
# Columns of a heat map whose cells still hold numbers that can be read; answers that still are a summary.
LEGIBLE, ANSWERED = 9, 9
COORDINATES = {"raw": "scaled", "scores": "normal score"}


def density_figure(result: MutualInformation) -> Figure:
    """Samples and the fitted density of a pair of single columns, with both marginals, in the fit's coordinates.

    Contours enclose 20, 50, 80 and 95 % of the fitted density. For labels the one variable's density is drawn.
    """
    if result.mixture is None:
        raise ValueError(f"{result.label} is infinite: there is no density to draw")
    unit = COORDINATES.get(result.map, "")
    if len(result.coordinates) == 1:
        return _line_figure(result, unit)
    x, y = result.coordinates[0][0], result.coordinates[1][0]
    figure, (top, corner, main, side) = panels(
        5.6, 5.6, nrows=2, ncols=2, widths=(4, 1), heights=(1, 4), sharex="col"
    )
    corner.set_axis_off()
    take = np.random.default_rng(0).permutation(len(x))[:SHOWN_SAMPLES]
    main.plot(x[take], y[take], ".", color="#8a97a6", ms=2.2, alpha=0.5, rasterized=True, zorder=1)
    boxes = [_range(v) for v in (x, y)]
    grids = [np.linspace(*box, 160) for box in boxes]
    mesh = np.stack([g.ravel() for g in np.meshgrid(*grids)])
    density = np.exp(log_density(_pair(result), mesh)).reshape(160, 160)
    levels = _enclosing(density, (0.95, 0.8, 0.5, 0.2))
    if len(levels) > 1:
        main.contour(*grids, density, levels=levels, colors=PALETTE[1], linewidths=1.1, zorder=2)
    main.set_xlim(*boxes[0])
    main.set_ylim(*boxes[1])
    main.set_xlabel(f"{result.names[0]} ({unit})")
    main.set_ylabel(f"{result.names[1]} ({unit})")
    for axis, values, grid, dim, upright in ((top, x, grids[0], 0, False), (side, y, grids[1], 1, True)):
        edges = np.linspace(grid[0], grid[-1], 41)
        axis.hist(
            values, edges.tolist(), density=True, color="#d5dbe2", orientation="horizontal" if upright else "vertical"
        )
        line = np.exp(log_density(marginal(_pair(result), (dim,)), grid[None]))
        axis.plot(*((line, grid) if upright else (grid, line)), color=PALETTE[1], lw=1.2)
        axis.set_xticks([]) if upright else axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_visible(False)
    side.set_ylim(*boxes[1])
    side.set_yticks([])
    top.tick_params(bottom=False, labelbottom=False)
    figure.suptitle(f"{result}   ({result.components} components)", fontsize=11)
    return figure


def _line_figure(result: MutualInformation, unit: str) -> Figure:
    figure, axis = canvas(5.6, 3.2)
    x = result.coordinates[0][0]
    grid = np.linspace(*_range(x), 300)
    axis.hist(x, np.linspace(grid[0], grid[-1], 61).tolist(), density=True, color="#d5dbe2", label="samples")
    assert result.mixture is not None
    whole = Mixture(*(np.asarray(a) for a in result.mixture))
    axis.plot(
        grid, np.exp(log_density(marginal(whole, (0,)), grid[None])), color=PALETTE[1], label="all classes, fitted"
    )
    axis.set_xlabel(f"{result.names[0]} ({unit})")
    axis.set_yticks([])
    axis.legend(frameon=False)
    axis.set_title(str(result))
    return figure


def _pair(result: MutualInformation) -> Mixture:
    assert result.mixture is not None
    first = len(result.coordinates[0])
    return marginal(Mixture(*(np.asarray(a) for a in result.mixture)), (0, first))


def _range(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.002, 0.998])
    margin = 0.12 * (high - low)
    return float(low - margin), float(high + margin)


def _enclosing(density: np.ndarray, shares: tuple[float, ...]) -> list[float]:
    ordered = np.sort(density.ravel())[::-1]
    cumulative = np.cumsum(ordered) / ordered.sum()
    levels = [float(ordered[np.searchsorted(cumulative, share)]) for share in shares]
    return sorted(set(levels))


def diagnostics_figure(result: MutualInformation) -> Figure:
    """Held-out score against the number of components, and the bootstraps beside estimate, null and check."""
    figure, (left, right) = panels(8.2, 3.0, ncols=2)
    if result.history:
        orders = sorted(result.history)
        left.plot(orders, [result.history[k] for k in orders], "o-", color=PALETTE[1], ms=4)
        left.axvline(result.order, color=PALETTE[0], lw=1, ls="--")
        left.set_xlabel("components")
        left.set_ylabel("held-out log-likelihood")
    else:
        left.set_axis_off()
    if len(result.samples):
        right.hist(
            result.samples,
            bins=bin_edges(result.samples, min(20, max(5, len(result.samples) // 4))),
            color="#d5dbe2",
            label="bootstraps",
        )
    lines = [("estimate", result.mean, PALETTE[0]), ("shuffled", result.null_mean, PALETTE[7])]
    lines += [("bias-corrected", result.corrected, PALETTE[3]), ("nearest neighbours", result.ksg, PALETTE[2])]
    for name, value, colour in lines:
        if np.isfinite(value):
            right.axvline(value, color=colour, lw=1.4, label=name)
    right.set_xlabel(f"{result.label} ({result.units})")
    right.set_yticks([])
    right.legend(frameon=False, fontsize=8, bbox_to_anchor=(1.0, 1.0), loc="upper left")
    return figure


def heat_map(matrix: InformationMatrix, title: str = "") -> Figure:
    """Mutual information of every pair with its error; grey where it cannot be told from shuffled samples.

    Many factors stand below each other; where even that is wide, colours go without numbers.
    """
    turned = matrix.mean.shape[1] > max(matrix.mean.shape[0], LEGIBLE)
    mean, std, null = (v.T if turned else v for v in (matrix.mean, matrix.std, matrix.null_mean))
    names = (matrix.columns, matrix.rows) if turned else (matrix.rows, matrix.columns)
    rows, columns = mean.shape
    numbered = columns <= LEGIBLE
    wide, high = (1.05 if columns <= 6 else 0.75, 0.52) if numbered else (0.28, 0.24)
    figure, axis = canvas(max(3.6, wide * columns + 2.2), max(2.4, high * rows + 1.3))
    finite = np.where(np.isfinite(mean), mean, np.nan)
    most = float(np.nanmax(finite)) if np.any(np.isfinite(finite)) else 1.0
    # What is determined is the darkest cell there is, not an empty one.
    shown = np.where(np.isinf(mean), max(most, 0.05), finite)
    image = axis.imshow(shown, cmap="Blues", vmin=0.0, vmax=max(most, 0.05), aspect="auto")
    for i, j in np.argwhere(~np.isnan(mean)) if numbered else ():
        quiet = np.isfinite(null[i, j]) and mean[i, j] < null[i, j] + 2 * std[i, j]
        colour = "#5b6675" if quiet else ("white" if mean[i, j] > 0.6 * most else "#1c2430")
        text = "∞\n(determined)" if np.isinf(mean[i, j]) else f"{mean[i, j]:.3f}\n±{std[i, j]:.3f}"
        axis.text(j, i, text, ha="center", va="center", fontsize=8, color=colour, linespacing=1.05)
    slanted = columns > 5
    axis.set_xticks(range(columns), names[1], rotation=40 if slanted else 0, ha="right" if slanted else "center")
    axis.set_yticks(range(rows), names[0])
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    figure.colorbar(image, ax=axis, label=f"mutual information ({matrix.units})", shrink=0.9, pad=0.02)
    axis.set_title(title or ("between latents" if matrix.symmetric else "latents against factors"))
    return figure


def mig_text(mig: float, error: float) -> str:
    """A MIG with its error; undefined where no latent carries the factor.

    >>> mig_text(0.5, 0.02), mig_text(float("nan"), float("nan"))
    ('0.500 ± 0.020', 'undefined')
    """
    if not np.isfinite(mig):
        return "undefined"
    return f"{mig:.3f}" + (f" ± {error:.3f}" if np.isfinite(error) else "")


def disentanglement_figure(summary: Disentanglement) -> Figure:
    """For every factor, what the best latent and the runner-up know of it; the gap is the disentanglement."""
    factors = summary.association.columns
    figure, axis = canvas(7.0, 0.55 * len(factors) + 1.2)
    at = np.arange(len(factors))
    where = list(summary.association.rows)
    runner = np.array([summary.association.mean[where.index(r), j] for j, r in enumerate(summary.second)])
    known = np.concatenate([v[np.isfinite(v)] for v in (summary.top + np.nan_to_num(summary.top_std), runner)])
    most = float(known.max()) if len(known) else 1.0
    # A bar without end stands a fifth beyond the longest of the others, and is marked.
    endless = np.isinf(summary.top)
    best, runner = (np.where(np.isinf(v), 1.2 * max(most, 0.05), v) for v in (summary.top, runner))
    runner_std = np.array([summary.association.std[where.index(r), j] for j, r in enumerate(summary.second)])
    most = max(most, float(best.max()))
    named = [f"{name}: ∞" if endless[j] else name for j, name in enumerate(summary.best)]
    for place, length, std, names, colour, ink, label in (
        (at - 0.2, best, summary.top_std, named, PALETTE[1], "#1c2430", "best latent"),
        (at + 0.2, runner, runner_std, summary.second, "#c3ccd6", "#5b6675", "runner-up"),
    ):
        error = np.nan_to_num(std)
        axis.barh(place, length, 0.38, xerr=error, color=colour, capsize=2, label=label)
        for y, x, name in zip(place, length + error, names):
            axis.text(x + 0.015 * most, y, name, va="center", fontsize=8, color=ink)
    labels = [f"{f}\nMIG {mig_text(m, e)}" for f, m, e in zip(factors, summary.mig, summary.mig_std)]
    axis.set_yticks(at, labels, fontsize=8)
    axis.set_ylim(len(factors) - 0.4, -0.6)
    axis.set_xlim(0, 1.18 * most)
    axis.set_xlabel(f"information ({summary.association.units})")
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def information_report(
    tables: InformationMatrix,
    path: str | Path,
    *,
    between: InformationMatrix | None = None,
    summary: Disentanglement | None = None,
    title: str = "Mutual information",
    command: str = "",
    densities: int = 6,
) -> Path:
    """One self-contained HTML page: heat maps, disentanglement, the strongest pairs' densities, all numbers.

    Args:
        tables: latents against factors, or latents among themselves.
        path: of the file; between: information between latents; summary: the disentanglement.
        densities: how many of the strongest pairs to draw.
    """
    lines = tables.to_pandas()
    n = int(lines["n"].max())
    page = Page(title, f"{len(tables.rows)} × {len(tables.columns)} variables, {n} samples, in {tables.units}")
    _summary(page, tables, summary)
    page.section("Information")
    page.text(
        "Each cell is the mutual information of a pair, estimated from a Gaussian mixture fitted to its joint "
        "density, with the standard deviation over bootstrap resamplings. Zero means independent. Grey numbers "
        "cannot be told from what shuffled samples give."
    )
    page.figure(heat_map(tables), "Mutual information with errors")
    if summary is not None:
        page.section("Disentanglement")
        page.text(
            "For each factor: the latent that knows most of it, the runner-up, and the gap between them. MIG is the "
            "gap over the factor's entropy for labels, over the best latent's information for continuous factors. "
            "1 means that one latent alone carries the factor."
        )
        page.figure(disentanglement_figure(summary), "Best latent and runner-up of every factor")
        page.table(summary.to_pandas(), f"Information in {tables.units}; errors from shared bootstrap resamplings")
    if between is not None:
        page.section("Between latents")
        if summary is not None:
            page.text(f"Two latents share {summary.shared:.4f} ± {summary.shared_std:.4f} {tables.units} on average.")
        page.figure(heat_map(between), "Mutual information between latents")
    page.section("Fitted densities")
    strongest = _strongest(tables, densities)
    for result in strongest:
        page.figure(density_figure(result), f"{result.label}: samples and fitted density", kind="png", dpi=120)
        page.figure(diagnostics_figure(result), f"{result.label}: choice of components, and bootstraps")
    page.section("All pairs")
    page.text(
        f"Information in {tables.units}. mean: the estimate; corrected: less the bootstrap bias; null: with shuffled "
        "samples; ksg: a nearest-neighbour estimate as an independent check; map: raw columns or normal scores, "
        "chosen on held-out samples."
    )
    shown = lines.drop(columns=["units", "n", "notes"])
    page.table(shown.rename(columns=lambda name: name.replace("_", " ")))
    noted = [(r["x"], r["y"], note) for _, r in lines.iterrows() for note in str(r["notes"]).split("; ") if note]
    if noted:
        page.section("Notes")
        page.table(pd.DataFrame(noted, columns=["x", "y", "note"]))
    if command:
        page.section("How")
        page.code(command)
    return page.save(path)


def _pairs(tables: InformationMatrix) -> tuple[list[MutualInformation], list[MutualInformation]]:
    """Every pair, and those that share information beyond chance."""
    found = [
        r
        for i, line in enumerate(tables.results)
        for j, r in enumerate(line)
        if r and not (tables.symmetric and i > j)
    ]
    sure = [r for r in found if np.isinf(r.mean) or r.significance > 3 or (np.isnan(r.significance) and r.mean > 0)]
    return found, sure


def headline(tables: InformationMatrix, summary: Disentanglement | None = None) -> Headline:
    """How many pairs share information, which most, and which factors have a latent of their own."""
    found, sure = _pairs(tables)
    if not sure:
        return Headline(
            f"None of the {len(found)} pairs shares information that could be told from shuffled samples.", True
        )
    first = max(sure, key=lambda r: r.mean)
    said = f"{len(sure)} of {len(found)} pairs share information beyond chance, most of all {_told(first)}."
    if summary is None:
        return Headline(said, False)
    carried = [j for j in range(len(tables.columns)) if np.isfinite(summary.mig[j])]
    alone = [tables.columns[j] for j in carried if summary.mig[j] - 2 * np.nan_to_num(summary.mig_std[j]) > 0.5]
    verb = "is" if len(alone) == 1 else "are"
    said += (
        f" {len(alone)} of {len(tables.columns)} columns {verb} carried by one of the {len(tables.rows)} alone (MIG "
    )
    said += "above 0.5 by two errors)"
    return Headline(said + (f": {listed(alone, 6)}." if alone else "."), False)


def _summary(page: Page, tables: InformationMatrix, summary: Disentanglement | None) -> None:
    """What carries what, how much of it is above chance, and what was left out."""
    found, sure = _pairs(tables)
    page.section("In short")
    told = headline(tables, summary)
    page.headline(told.sentence, refused=told.refused)
    page.cards(
        [
            (f"{len(tables.rows)} × {len(tables.columns)}", "variables"),
            (f"{len(sure)} of {len(found)}", "pairs beyond chance (3 standard errors)"),
            (f"{max(r.n for r in found):,}" if found else "0", "samples"),
            (tables.units, "unit of all information"),
        ]
    )
    if summary is not None:
        clearest = np.sort(np.argsort(-np.nan_to_num(summary.top, nan=-1.0), kind="stable")[:ANSWERED])
        page.answers(_carried(tables, summary, int(j)) for j in clearest)
        if len(clearest) < len(tables.columns):
            page.text(
                f"These are the {len(clearest)} columns of which most is known; all {len(tables.columns)} are under "
                "Disentanglement."
            )
    null = max((len(r.null) for r in found), default=0)
    page.text(
        f"Errors are standard deviations over {max((len(r.samples) for r in found), default=0)} bootstrap "
        f"resamplings; chance is what {null} shuffles of each pair give."
    )
    for why in tables.left_out.values():
        page.note(f"Left out: {why}", warn=True)


def _carried(tables: InformationMatrix, summary: Disentanglement, j: int) -> tuple[str, str, str, str, bool]:
    """Which latent carries factor j: question, answer, evidence, section, doubt."""
    known = bool(np.isfinite(summary.mig[j]))
    said = f"{summary.best[j]}, MIG {mig_text(summary.mig[j], summary.mig_std[j])}."
    runner_up = summary.association.mean[list(tables.rows).index(summary.second[j]), j]
    return (
        f"Which latent carries {tables.columns[j]}?",
        said if known else "None: no latent knows more of it than shuffled samples do.",
        f"{_amount(summary.top[j], summary.top_std[j])} {tables.units}; the runner-up {summary.second[j]} knows "
        f"{_amount(runner_up, np.nan)}",
        "Disentanglement",
        not known,
    )


def _amount(mean: float, std: float) -> str:
    if np.isinf(mean):
        return "∞ (it determines it)"
    return f"{mean:.3f}" + (f" ± {std:.3f}" if np.isfinite(std) else "")


def _told(result: MutualInformation) -> str:
    return f"{' and '.join(result.names)} ({_amount(result.mean, result.std)} {result.units})"


def _strongest(tables: InformationMatrix, count: int) -> list[MutualInformation]:
    found = [
        r
        for i, line in enumerate(tables.results)
        for j, r in enumerate(line)
        if r is not None and r.mixture is not None and (not tables.symmetric or i < j)
    ]
    return sorted(found, key=lambda r: -r.mean)[:count]
