"""The page of ``jaxland thermo``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from jaxland.landscape.physics.analysis import Analysis
from jaxland.report.disconnectivity import disconnectivity_graph
from jaxland.report.html import Page
from jaxland.report.thermodynamics.sections import funnels_section, kinetics_section, thermodynamics_section


def thermodynamics_report(
    analysis: Analysis,
    path: str | Path,
    *,
    values: Mapping[str, ArrayLike] | None = None,
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
    for note in analysis.notes:
        page.note(f"{note}.", warn=True)
    thermodynamics_section(page, analysis)
    pieces = analysis.pieces()
    if len(pieces) > 1:
        page.folded(pieces.reset_index(), "The pieces, lowest first.", 10)
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
