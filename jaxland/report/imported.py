"""The report of a landscape that came from elsewhere: what it holds and its disconnectivity graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxland.landscape.result import Landscape
from jaxland.landscape.tree import level_cut
from jaxland.report.disconnectivity import disconnectivity_graph, interactive_svg
from jaxland.report.figures import save
from jaxland.report.html import Page

FILES = ("report.html", "disconnectivity.png", "disconnectivity.svg")


def imported_report(
    landscape: Landscape,
    folder: str | Path,
    *,
    title: str = "An imported landscape",
    energy_label: str = "energy",
    notes: Sequence[str] = (),
    sets: dict[str, np.ndarray] | None = None,
) -> Path:
    """Write ``report.html`` and ``disconnectivity.png`` / ``.svg``; needs no problem.

    Args:
        landscape: at least one minimum.
        folder: where to.
        title, energy_label: texts.
        notes: what the reader should distrust.
        sets: named sets of minima, listed in the report.

    Returns:
        The path of the report.
    """
    folder, cut = Path(folder), level_cut(landscape)
    save(disconnectivity_graph(landscape, cut, energy_label=energy_label), folder / "disconnectivity")
    page = Page(title, f"{landscape.describe()}.")
    for note in [*notes, *(f"{note}." for note in landscape.notes())]:
        page.note(note, warn=True)
    page.section("In short")
    page.table(_summary(landscape, sets or {}))
    page.section("The disconnectivity graph")
    page.text(
        "Height is energy. Every line that ends below is a minimum; lines meet at the level below which one can be "
        "turned into the other. Choose a line for its values."
    )
    page.drawing(interactive_svg(landscape, cut, energy_label=energy_label))
    for heading, what in (("Minima", "minima"), ("Transition states", "transition_states")):
        frame = landscape.to_pandas(what).dropna(axis=1, how="all").reset_index()
        if "hits" in frame and (frame["hits"] == 1).all():
            frame = frame.drop(columns="hits")  # the file did not say
        page.section(heading)
        caption = f"The lowest 20 of {len(frame)}." if len(frame) > 20 else ""
        page.table(frame.head(20), caption, digits=8)
    return page.save(folder / "report.html")


def _summary(landscape: Landscape, sets: dict[str, np.ndarray]) -> pd.DataFrame:
    labels = landscape.components()
    rows: list[tuple[str, Any]] = [
        ("minima", landscape.n_minima),
        ("joined to the lowest", int((labels == 0).sum())),
        ("components", int(labels.max()) + 1),
        ("transition states", landscape.n_ts),
        ("of them degenerate rearrangements", int(landscape.degenerate.sum())),
        ("lowest energy", f"{landscape.energies[0]:.10g}"),
        ("highest minimum", f"{landscape.energies[-1]:.10g}"),
        ("coordinates of a point", landscape.size or "not given"),
    ]
    rows += [(name, ", ".join(map(str, members[:20])) + (", ..." if len(members) > 20 else "")) for name, members in
             sets.items() if len(members)]  # fmt: skip
    return pd.DataFrame([(name, str(value)) for name, value in rows], columns=["", "value"])
