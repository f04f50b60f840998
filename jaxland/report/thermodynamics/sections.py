"""Sections of a report on thermodynamics and kinetics: which networks noise leads to, and how fast."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from jaxland.landscape.physics.analysis import Analysis
from jaxland.landscape.physics.averaging import AveragedPerformance
from jaxland.landscape.result import Landscape
from jaxland.landscape.weights.values import ValuesPerMinimum
from jaxland.report.html import Page
from jaxland.report.thermodynamics.figures import funnel_figure, occupation_figure, path_figure, rates_figure
from jaxland.report.words import listed, number


def thermodynamics_section(page: Page, analysis: Analysis) -> None:
    """Occupation and heat capacity."""
    page.section("Which networks noise leads to")
    at, t = analysis.at, analysis.temperature
    problem = analysis.landscape.problem
    gauss = problem is not None and problem.loss_name == "squared_error"
    page.text(
        "A walker that goes down the loss but is kicked at random, as by the noise of mini-batches, settles into a "
        "balance: each minimum is visited in proportion to exp(-loss / T), to the width of its basin, and to the "
        "number of its images under the symmetry of the network. T is the strength of the noise. "
        + (
            f"At T = 1/{analysis.rows:,}, one over the number of training rows, this balance is the Bayesian "
            "posterior over the minima found"
            + (", for errors of variance 1/2 in the targets as they were trained on." if gauss else ".")
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
    page: Page, analysis: Analysis, values: Mapping[str, ArrayLike] | None = None, *, energy_label: str = "loss"
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
            "ln probability": p.log_probability + 0.0,
            "highest pass": p.highest,
            "climb": p.barrier,
        }
        for p in k.fastest
    ]
    if rows:
        page.table(pd.DataFrame(rows), f"Fastest paths at T = {number(k.temperature)}.")


def values_section(
    page: Page, landscape: Landscape, values: ValuesPerMinimum, averaged: AveragedPerformance | None = None
) -> None:
    """Numbers per minimum: their range, and how they go with the loss; and what all networks give together."""
    page.table(values.summary(landscape.energies), "Of all minima found, connected or not.")
    if averaged is not None:
        page.text(
            f"Averaged over the minima with the weights of the posterior (T = 1/{averaged.rows:,}, effectively "
            f"{number(averaged.effective)} networks), predictions have a {averaged.measure} of "
            f"{number(averaged.averaged, 4)}; those of the lowest minimum alone {number(averaged.lowest, 4)}."
        )
