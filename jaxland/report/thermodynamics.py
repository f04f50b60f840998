"""Thermodynamics and kinetics of a landscape in figures and sections: which networks noise leads to, and how fast."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxland.landscape.physics.analysis import Analysis, widths_known
from jaxland.landscape.physics.averaging import average_predictions
from jaxland.landscape.physics.kinetics import RateConstants
from jaxland.landscape.physics.thermodynamics import Thermodynamics
from jaxland.landscape.result import Landscape
from jaxland.landscape.weights.values import ValuesPerMinimum
from jaxland.report.disconnectivity import disconnectivity_graph
from jaxland.report.figures import PALETTE, canvas
from jaxland.report.html import Page
from jaxland.report.words import listed, number

REST = "#c9ced6"
APART = "#9aa3ae"
MOST = 7


# -- figures -----------------------------------------------------------------------------------------------------


def thermodynamics_figure(
    curves: Thermodynamics,
    groups: Mapping[str, Any] | None = None,
    *,
    colours: Sequence[str] = PALETTE,
    marks: Sequence[tuple[float, str]] = (),
) -> Any:
    """Heat capacity over temperature, and below it the occupation of groups, stacked.

    Args:
        curves: at two temperatures or more.
        groups: disjoint indices of minima by name; default the minima occupied most. What is left is drawn in grey.
        colours: of the groups, in order.
        marks: temperatures to mark, with labels.
    """
    order = np.argsort(curves.temperatures)
    t = curves.temperatures[order]
    figure, (upper, lower) = canvas(7.2, 5.2, nrows=2, sharex=True, height_ratios=(1, 1.15))
    upper.plot(t, curves.heat_capacities[order], color="#1c2430", lw=1.6)
    upper.axhline(0.5 * curves.modes, color=REST, lw=1, zorder=0)
    upper.annotate(
        "κ/2, one harmonic well", (t[-1], 0.5 * curves.modes), xytext=(0, -3), textcoords="offset points",
        ha="right", va="top", fontsize=8, color="#5b6675",
    )  # fmt: skip
    upper.margins(y=0.2)
    upper.set_ylabel("heat capacity")
    if groups is None:
        best = np.argsort(-curves.occupations.max(0), kind="stable")[:MOST]
        groups = {f"minimum {i}": [i] for i in best if curves.occupations[:, i].max() > 0.01}
    shares = np.array([curves.occupations[order][:, np.asarray(g, int)].sum(1) for g in groups.values()])
    rest = np.clip(1.0 - shares.sum(0), 0.0, 1.0)
    tints = [colours[k % len(colours)] for k in range(len(groups))]
    names = list(groups)
    if rest.max() > 1e-3:
        shares, tints, names = np.vstack([shares, rest]), [*tints, REST], [*names, "other minima"]
    lower.stackplot(t, shares, colors=tints, labels=names, linewidth=0)
    lower.set_xscale("log")
    lower.set_xlim(t[0], t[-1])
    lower.set_ylim(0, 1)
    lower.set_ylabel("occupation")
    lower.set_xlabel("temperature, in units of the energy")
    lower.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=8)
    for value, label in marks:
        if t[0] <= value <= t[-1]:
            upper.axvline(value, color="#1c2430", lw=0.8, ls=":")
            lower.axvline(value, color="#1c2430", lw=0.8, ls=":")
            upper.annotate(
                label, (value, 1), xycoords=("data", "axes fraction"), xytext=(3, -2), textcoords="offset points",
                fontsize=8, va="top", color="#1c2430",
            )  # fmt: skip
    return figure


def rates_figure(scan: Sequence[RateConstants], names: tuple[str, str] = ("A", "B")) -> Any:
    """Rate constants in both directions over the inverse temperature: straight lines where one barrier rules."""
    inverse = np.array([1.0 / r.temperature for r in scan])
    figure, axes = canvas(6.4, 3.6)
    rows = [
        (f"to {names[0]}", [r.log_ab for r in scan], [-r.log_time_ab for r in scan], PALETTE[0]),
        (f"to {names[1]}", [r.log_ba for r in scan], [-r.log_time_ba for r in scan], PALETTE[1]),
    ]
    for label, steady, exact, colour in rows:
        axes.plot(inverse, np.array(steady) / math.log(10), color=colour, lw=1.6, label=label)
        axes.plot(inverse, np.array(exact) / math.log(10), "o", color=colour, ms=4, mfc="white")
    axes.plot([], [], "o", color="#5b6675", ms=4, mfc="white", label="1 / mean first-passage time")
    axes.set_xlabel("1 / temperature")
    axes.set_ylabel("log10 of rate constant")
    axes.legend(frameon=False, fontsize=8)
    return figure


def path_figure(
    landscape: Landscape,
    paths: Mapping[str, tuple[Sequence[int], Sequence[int]]],
    *,
    numbers: Any = None,
    energy_label: str = "loss",
) -> Any:
    """Energy along paths: minima (labelled on the first path) and the transition states between them.

    Args:
        landscape: of the paths.
        paths: (minima, transition states) by name.
        numbers: [M] what to call each minimum; default its index.
        energy_label: of the axis.
    """
    numbers = np.arange(landscape.n_minima) if numbers is None else np.asarray(numbers)
    figure, axes = canvas(7.0, 3.4)
    longest = max(len(minima) for minima, _ in paths.values())
    for k, (label, (minima, states)) in enumerate(paths.items()):
        colour = PALETTE[k % len(PALETTE)]
        profile = np.empty(2 * len(minima) - 1)
        profile[::2], profile[1::2] = landscape.energies[list(minima)], landscape.ts_energies[list(states)]
        steps = np.linspace(0, 1, len(profile))
        axes.plot(steps, profile, color=colour, lw=1.3, label=label, zorder=3 - k)
        axes.plot(steps[::2], profile[::2], "o", color=colour, ms=4, zorder=3 - k)
        axes.plot(steps[1::2], profile[1::2], "^", color=colour, ms=4, mfc="white", zorder=3 - k)
        if longest <= 12 and k == 0:
            for x, i in zip(steps[::2], minima):
                axes.annotate(
                    str(numbers[i]), (x, landscape.energies[i]), xytext=(0, -11), textcoords="offset points",
                    ha="center", fontsize=8, color=colour,
                )  # fmt: skip
    axes.set_xticks([])
    axes.set_ylabel(energy_label)
    axes.margins(y=0.15)
    axes.set_xlabel("along the path: dots are minima, triangles transition states")
    axes.legend(frameon=False, fontsize=8)
    return figure


def funnel_figure(analysis: Analysis, *, energy_label: str = "loss") -> Any:
    """The disconnectivity graph of the connected part, the leading funnels in colour."""
    part = analysis.landscape.restricted(analysis.connected)
    found, numbers = analysis.funnels, analysis.connected
    colours = {int(numbers[found.bottoms[f]]): colour for f, colour in _leading(analysis)}
    return disconnectivity_graph(
        part,
        partition=numbers[found.bottoms[found.of]],
        partition_colours=colours,
        energy_label=energy_label,
        height=4.6,
    )


def occupation_figure(analysis: Analysis) -> Any:
    """``thermodynamics_figure`` with the leading funnels in the colours of ``funnel_figure``."""
    found, numbers = analysis.funnels, analysis.connected
    mark = f"T = 1/{analysis.rows:,}" if analysis.rows else f"T = {number(analysis.temperature)}"
    marks = [(analysis.temperature, mark)]
    if found.n < 2:
        return thermodynamics_figure(analysis.thermodynamics, marks=marks)
    leading = _leading(analysis)
    groups = {f"funnel of minimum {numbers[found.bottoms[f]]}": numbers[found.members(f)] for f, _ in leading}
    colours = [c for _, c in leading]
    apart = np.setdiff1d(np.arange(analysis.landscape.n_minima), numbers)
    if len(apart):
        groups, colours = {**groups, "minima not joined yet": apart}, [*colours, APART]
    return thermodynamics_figure(analysis.thermodynamics, groups, colours=colours, marks=marks)


def _leading(analysis: Analysis) -> list[tuple[int, str]]:
    """The funnels that get a colour: the two lowest, those occupied most at some temperature, the largest."""
    found = analysis.funnels
    chosen = list(range(min(2, found.n)))
    each = analysis.thermodynamics.occupations[:, analysis.connected]
    most = np.max([np.bincount(found.of, p, minlength=found.n) for p in each], axis=0)
    orders = [np.argsort(-most, kind="stable")[:5], np.argsort(-found.sizes, kind="stable")]
    for f in np.concatenate(orders).tolist():
        if f not in chosen and len(chosen) < MOST and (most[f] > 0.02 or found.sizes[f] > 1):
            chosen.append(f)
    return [(f, PALETTE[k % len(PALETTE)]) for k, f in enumerate(sorted(chosen))]


def thermodynamics_report(
    analysis: Analysis,
    path: str | Path,
    *,
    values: Mapping[str, Any] | None = None,
    title: str = "Thermodynamics and kinetics of a landscape",
    energy_label: str = "loss",
    command: str = "",
) -> Path:
    """Write the three sections of an analysis to one HTML file.

    Args:
        analysis: see ``landscape.analysis.analyse``.
        path: of the file.
        values: numbers [M] per minimum by name: averaged over funnels, and the graph is coloured by each.
        title, energy_label: texts.
        command: the command line that made it.
    """
    page = Page(title, f"{analysis.landscape.describe()}.")
    thermodynamics_section(page, analysis)
    funnels_section(page, analysis, values, energy_label=energy_label)
    kinetics_section(page, analysis, energy_label=energy_label)
    part = analysis.landscape.restricted(analysis.connected)
    for name, column in (values or {}).items():
        shown = np.asarray(column, float)[analysis.connected]
        if np.isfinite(shown).any() and part.n_minima > 1:
            page.section(name)
            figure = disconnectivity_graph(
                part, values=shown, value_label=name, energy_label=energy_label, height=4.4
            )
            page.figure(figure, kind="svg" if part.n_minima <= 800 else "png", dpi=140)
    if command:
        page.section("How")
        page.code(command)
    return page.save(path)


# -- sections ------------------------------------------------------------------------------------------------------


def thermodynamics_section(page: Page, analysis: Analysis) -> None:
    """Occupation and heat capacity."""
    page.section("Which networks noise leads to")
    at, t = analysis.at, analysis.temperature
    page.text(
        "A walker that goes down the loss but is kicked at random, as by the noise of mini-batches, settles into a "
        "balance: each minimum is visited in proportion to exp(-loss / T), to the width of its basin, and to the "
        "number of its images under the symmetry of the network. T is the strength of the noise. "
        + (
            f"At T = 1/{analysis.rows:,}, one over the number of training rows, this balance is the Bayesian "
            "posterior over the minima found."
            if analysis.rows
            else ""
        )
    )
    if not analysis.vibrations:
        page.note(
            "The widths of the basins are not known (no Hessian spectra), so all are taken as equally wide.",
            warn=True,
        )
    page.figure(
        occupation_figure(analysis),
        "Above: heat capacity; a peak is where the balance shifts from some networks to others. Below: the share of "
        "each funnel. Harmonic approximation, of the minima found.",
    )
    lowest = int(at.lowest[0])
    said = f"At T = {number(t)} the balance is spread over effectively {number(float(at.effective[0]))} minima; "
    said += f"the one of lowest free energy is number {lowest}, with {at.occupations[0, lowest]:.1%}"
    if lowest:
        land = analysis.landscape
        rise = float(land.energies[lowest] - land.energies[0])
        said += f", although its loss is {number(rise)} higher than the lowest: "
        more = float(land.orbit_sizes[lowest]) > float(land.orbit_sizes[0])
        wider = analysis.vibrations and land.log_products[lowest] < land.log_products[0]
        said += "its basin is wider" if wider else "it"
        said += (" and it has" if wider else " has") + " more images under the symmetry" if more else ""
    page.text(said + ".")
    changes = analysis.thermodynamics.crossings()
    if changes:
        parts = [f"at T = {number(c)} number {new} takes over from {old}" for c, old, new in changes]
        page.text(f"With rising temperature, {listed(parts, 4)}.")
    frame = at.to_pandas("occupations").T
    frame.columns = ["occupation"]
    frame.insert(0, "free energy", at.minima[0])
    frame.insert(0, "loss", analysis.landscape.energies)
    frame = frame.sort_values("occupation", ascending=False, kind="stable").head(10).reset_index(names="minimum")
    page.table(frame, f"The minima occupied most at T = {number(t)}.")


def funnels_section(
    page: Page, analysis: Analysis, values: Mapping[str, Any] | None = None, *, energy_label: str = "loss"
) -> None:
    """Funnels and frustration; ``values`` are numbers [M] per minimum of the whole landscape, by name."""
    found = analysis.funnels
    page.section("Funnels")
    count = len(analysis.connected)
    if count < 2:
        page.note("Only one minimum is connected: there are no funnels to tell apart.")
        return
    page.text(
        f"A funnel is a part of the graph that drains into one minimum, deeper than {number(found.depth)}: from "
        "every other minimum of it a lower one is reached over a smaller climb. "
        f"The {count:,} connected minima form {found.n} funnel{'s' if found.n != 1 else ''}."
    )
    page.figure(
        funnel_figure(analysis, energy_label=energy_label),
        "The disconnectivity graph, coloured by funnel.",
        kind="svg" if count <= 800 else "png",
        dpi=140,
    )
    frame = analysis.funnel_table()
    for name, column in (values or {}).items():
        frame[f"mean {name}"] = found.means(np.asarray(column)[analysis.connected])
    page.folded(
        frame,
        "found: share of all hits, where searches ended. depth: climb to any lower minimum. frustration: mean over "
        "the minima of (highest pass down to the bottom) / (height above the bottom), 1 where nothing is climbed.",
        10,
    )
    if math.isfinite(analysis.frustration):
        page.text(
            f"Frustration of the whole at T = {number(analysis.temperature)}, minima weighted by occupation: "
            f"{number(analysis.frustration)}. Large values mean that nearly as good networks are kept apart by "
            "passes that are high compared with what is gained."
        )


def kinetics_section(page: Page, analysis: Analysis, *, energy_label: str = "loss") -> None:
    """Rates between the two lowest funnels."""
    k = analysis.kinetics
    if k is None:
        return
    part = analysis.landscape.restricted(analysis.connected)
    numbers = analysis.connected
    page.section(f"Between {k.names[0]} and {k.names[1]}")
    climb = float(part.ts_energies[list(k.states)].max() - part.energies[k.minima[0]])
    page.text(
        f"From minimum {numbers[k.minima[0]]} the lowest path to minimum {numbers[k.minima[-1]]} climbs "
        f"{number(climb)} over {len(k.states)} passes. "
        "How long noise takes for it follows from transition-state theory and all paths together (graph "
        "transformation); the unit of time is that of unit masses on this loss, so ratios mean more than values."
    )
    if not analysis.vibrations:
        page.note("Without Hessian spectra the rates come from barriers alone.", warn=True)
    if len(k.scan) > 1:
        page.figure(
            rates_figure(k.scan, k.names),
            "Lines: steady-state rate constants. Circles: exact, from mean first-passage times; below the lines "
            "where much time is spent between the two sets.",
        )
    page.table(k.to_pandas(), "Base-10 logarithms; A and B as in the heading.")
    shown = {"lowest path": (k.minima, k.states)}
    if k.fastest and k.fastest[0].minima != k.minima:
        shown[f"fastest path at T = {number(k.temperature)}"] = (k.fastest[0].minima, k.fastest[0].states)
    page.figure(path_figure(part, shown, numbers=numbers, energy_label=energy_label), "Along the path.")
    rows = [
        {
            "path": " → ".join(str(numbers[i]) for i in p.minima)
            if len(p.minima) <= 12
            else f"{len(p.minima)} minima",
            "ln probability": p.log_probability,
            "highest pass": p.highest,
            "climb": p.barrier,
        }
        for p in k.fastest
    ]
    if rows:
        page.table(pd.DataFrame(rows), f"Fastest paths at T = {number(k.temperature)}.")


def values_section(page: Page, landscape: Landscape, values: ValuesPerMinimum, said: Sequence[str] = ()) -> None:
    """Numbers per minimum: their range, and how they go with the loss; ``said``: sentences on them."""
    page.section("Every network on the test data")
    from scipy.stats import spearmanr

    rows = []
    for name in values.names:
        v = values[name]
        known = np.isfinite(v)
        steady = known.sum() < 3 or np.ptp(v[known]) == 0
        rho = math.nan if steady else float(spearmanr(landscape.energies[known], v[known]).statistic)
        rows.append((name, v[0], v[known].min(), np.median(v[known]), v[known].max(), rho))
    columns = ["", "lowest loss", "smallest", "median", "largest", "rank correlation with training loss"]
    page.table(pd.DataFrame(rows, columns=columns), "Of all minima found, connected or not.")
    for sentence in said:
        page.text(sentence)


def averaging_sentences(landscape: Landscape, x: Any, y: Any) -> list[str]:
    """What averaging over the minima as the posterior does (T = 1/n) gives on (x, y), beside the lowest minimum."""
    problem = landscape.problem
    if problem.loss_name not in ("cross_entropy", "squared_error") or not widths_known(landscape):
        return []
    both = [average_predictions(landscape, x, minima=chosen) for chosen in (None, [0])]
    y = np.asarray(y)
    if problem.loss_name == "cross_entropy":
        what = "test loss"
        got = [float(-np.log(np.maximum(p.mean[np.arange(len(y)), y.astype(int)], 1e-300)).mean()) for p in both]
    else:
        what = "mean squared error"
        got = [float(((p.mean.reshape(len(y), -1) - y.reshape(len(y), -1)) ** 2).sum(1).mean()) for p in both]
    return [
        f"Averaged over the minima with the weights of the posterior (T = 1/{problem.n:,}, effectively "
        f"{number(both[0].effective)} networks), predictions have a {what} of {number(got[0], 4)}; those of the "
        f"lowest minimum alone {number(got[1], 4)}."
    ]
