"""Niroomand & Wales (2023): both figures drawn anew, and whether conserved weights drive the decision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from examples.papers import claim, conservation, landscape_data, scan
from examples.papers.page import DOCS, ROOT, Page
from jaxland import Problem, mlp
from jaxland.data import Dataset
from jaxland.landscape import ConservedWeights, Landscape, conserved_weights, explore, level_cut
from jaxland.landscape.weights.group import GroupConservation
from jaxland.report.conserved.figures import group_colours
from jaxland.report.conserved.network_diagram import network_diagram
from jaxland.report.disconnectivity import disconnectivity_graph
from jaxland.report.figures import PALETTE

TITLE = "Physics-inspired interpretability of machine learning models"
SOURCE = "Niroomand & Wales (2023), arXiv 2304.02381"
RUNS = ROOT / "runs" / "papers"


def chapter(out: Path, small: bool, seed: int) -> Page:
    """The page."""
    page = Page("landscapes", out, TITLE, SOURCE, small, seed)
    with jax.enable_x64(True):
        _checkerboard(page, small, seed)
        _credit(page, small, seed)
    folder = (RUNS if page.out == DOCS else page.out) / "scan"
    claim.section(page, *scan.scan(folder, range(1 if small else 2), small))
    return page


def _explored(train: Dataset, hidden: int, lam: float, seed: int, **size: int) -> Landscape:
    return explore(
        Problem.from_model(mlp((train.d, hidden, train.outputs)), train.x, train.y, l2=lam), seed=seed, **size
    )


def _graph(page: Page, found: ConservedWeights, name: str, caption: str, colours: dict[str, str]) -> None:
    graph = disconnectivity_graph(found.landscape, found.cut, groups=colours)
    page.figure(graph, name, caption)


def _diagram(page: Page, group: GroupConservation, name: str, colour: str, marked: np.ndarray, caption: str) -> None:
    page.figure(network_diagram(group, marked=marked, colour=colour, title=f"group {group.name}"), name, caption)


def _checkerboard(page: Page, small: bool, seed: int) -> None:
    """Figure 1."""
    page.section("Figure 1: checkerboard")
    train, test = landscape_data.split("checkerboard", seed) or (None, None)
    assert train is not None and test is not None
    size = {"starts": 30, "climbs": 20, "minima": 15, "rounds": 3} if small else {"minima": 200}
    landscape = _explored(train, 5, 1e-4, seed, **size).connected()
    found = conserved_weights(landscape, level_cut(landscape), test=test)
    colours = group_colours(found)
    page.text(
        f"4 x 4 checkerboard, {train.n} training points, 5 tanh units, lam 1e-4, seed {seed}: "
        f"{landscape.describe()}. "
        "The paper gives neither size of data nor counts, so the picture is compared, not a number."
    )
    _graph(page, found, "checkerboard", "Disconnectivity graph, groups in their colours.", colours)
    shown = [g for g in found.groups if g.name in colours][:3]
    for i, group in enumerate(shown):
        marked = group.live_conserved if group.live_conserved.any() else _tightest(group)
        what = "live weights with a spread below n = .01" if group.live_conserved.any() else _TIGHTEST
        _diagram(
            page, group, f"group{i + 1}", colours[group.name], marked, f"Group {group.name}: coloured are the {what}."
        )
    for i, colour in zip((0, 1), PALETTE[4:]):
        w = landscape.coordinates[i]
        lone = replace(shown[0], name=f"minimum {i + 1}", mean=w, live=np.abs(w) > 0.03)
        caption = (
            f"The network of minimum {i + 1} (loss {landscape.energies[i]:.4f}) alone: its weights in its colour."
        )
        figure = network_diagram(lone, marked=lone.live, colour=colour, title=lone.name)
        page.figure(figure, f"minimum{i + 1}", caption)


def _credit(page: Page, small: bool, seed: int) -> ConservedWeights | None:
    """Figure 2; None where the file is not here."""
    page.section("Figure 2: credit card")
    parts = landscape_data.split("credit", seed)
    if parts is None:
        page.text("Left out: the file of the credit card data is not here (`--data FOLDER`).")
        return None
    train, test = parts
    size = (
        {"starts": 20, "climbs": 0, "minima": 5, "rounds": 1}
        if small
        else {"starts": 100, "climbs": 0, "minima": 60, "rounds": 8}
    )
    whole = _explored(train, 5, 1e-3, seed, **size)
    landscape = whole.connected()
    page.text(
        f"Default of credit card clients, {train.n} training rows, {test.n} test rows, 5 tanh units, lam 1e-3, "
        f"seed {seed}: {whole.describe()}."
    )
    if landscape.n_minima < conservation.LOWEST:
        page.text(f"Only {landscape.n_minima} minima are joined to the lowest: no groups.")
        return None
    found = conserved_weights(landscape, level_cut(landscape), test=test)
    of_best = sorted(found.of_best, key=lambda g: len(g.members))
    if not of_best:
        page.text("No superbasin of the lowest minimum has five members.")
        return None
    group = max(of_best, key=lambda g: (int(g.live_conserved.sum()), -len(g.members)))
    graph = disconnectivity_graph(landscape, found.cut, groups={group.name: PALETTE[0]})
    page.figure(
        graph,
        "credit",
        f"In red the group {group.name}, which holds the global minimum, {len(group.members)} minima.",
    )
    conserved = bool(group.live_conserved.any())
    marked = group.live_conserved if conserved else _tightest(group)
    what = "edges conserved to n = .01" if conserved else _TIGHTEST
    _diagram(page, group, "credit_group", PALETTE[0], marked, f"Group {group.name}: coloured are the {what}.")
    return found


_TIGHTEST = "fifth of the live weights with the smallest spread (none is below n = .01)"


def _tightest(group: GroupConservation) -> np.ndarray:
    """bool [N]: the fifth of the live weights with the smallest spread."""
    live = np.flatnonzero(group.live)
    kept = live[np.argsort(group.std[live], kind="stable")[: max(2, round(0.2 * len(live)))]]
    return np.isin(np.arange(len(group.std)), kept)
