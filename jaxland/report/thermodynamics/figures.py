"""Pictures of thermodynamics and kinetics: heat capacity, occupation, rates, paths, funnels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from jaxland.landscape.physics.analysis import Analysis
from jaxland.landscape.physics.kinetics import RateConstants
from jaxland.landscape.physics.thermodynamics import Thermodynamics
from jaxland.landscape.result import Landscape
from jaxland.report.disconnectivity import disconnectivity_graph
from jaxland.report.figures import PALETTE, canvas, panels
from jaxland.report.words import number

REST = "#c9ced6"
APART = "#9aa3ae"
MOST = 7


def thermodynamics_figure(
    curves: Thermodynamics,
    groups: Mapping[str, ArrayLike] | None = None,
    *,
    colours: Sequence[str] = PALETTE,
    marks: Sequence[tuple[float, str]] = (),
) -> Figure:
    """Heat capacity over temperature, and below it the occupation of groups, stacked.

    Args:
        curves: at two temperatures or more.
        groups: disjoint indices of minima by name; default the minima occupied most. What is left is drawn in grey.
        colours: of the groups, in order.
        marks: temperatures to mark, with labels.
    """
    order = np.argsort(curves.temperatures)
    t = curves.temperatures[order]
    figure, (upper, lower) = panels(7.2, 5.2, nrows=2, sharex=True, heights=(1, 1.15))
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


def rates_figure(scan: Sequence[RateConstants], names: tuple[str, str] = ("A", "B")) -> Figure:
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
    numbers: ArrayLike | None = None,
    energy_label: str = "loss",
) -> Figure:
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


def funnel_figure(analysis: Analysis, *, energy_label: str = "loss") -> Figure:
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


def occupation_figure(analysis: Analysis) -> Figure:
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
