"""Niroomand & Wales (2023): both figures drawn anew, and whether conserved weights drive the decision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from examples.papers import conservation, effects, landscape_data, scan
from examples.papers.page import DOCS, ROOT, Page
from jaxland import Problem, mlp
from jaxland.data import Dataset
from jaxland.landscape import ConservedWeights, Landscape, conserved_weights, explore, level_cut
from jaxland.landscape.weights.group import GroupConservation
from jaxland.report.conserved.figures import group_colours
from jaxland.report.conserved.network_diagram import network_diagram
from jaxland.report.disconnectivity import disconnectivity_graph
from jaxland.report.figures import PALETTE, panels

TITLE = "Physics-inspired interpretability of machine learning models"
SOURCE = "Niroomand & Wales (2023), arXiv 2304.02381"
RUNS = ROOT / "runs" / "papers"
DROPPED = {"spread": "small spread (the paper's)", "relative": "small spread / size", "softness": "stiff"}
DROPPED |= {
    "excess": "small spread for its stiffness",
    "saliency": "salient (stiff for its size)",
    "magnitude": "large",
}


def chapter(out: Path, small: bool, seed: int) -> Page:
    """The page."""
    page = Page("landscapes", out, TITLE, SOURCE, small, seed)
    with jax.enable_x64(True):
        _checkerboard(page, small, seed)
        told = _credit(page, small, seed)
    _claim(page, small, told)
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


def _claim(page: Page, small: bool, told: ConservedWeights | None) -> None:
    """Whether conserved weights decide."""
    page.section("The claim: conserved weights drive the decision")
    of_sets, of_weights = scan.scan(
        (RUNS if page.out == DOCS else page.out) / "scan", range(1 if small else 2), small
    )
    of_sets, of_weights = effects.prepared(of_sets), effects.prepared(of_weights)
    names = sorted(of_sets.data.unique())
    landscapes = of_sets.groupby(["data", "hidden", "lam", "split"]).ngroups
    groups = of_sets.groupby(["data", "hidden", "lam", "split", "kind", "group"]).ngroups
    page.text(
        f"{landscapes} landscapes of {len(names)} data sets ({', '.join(names)}), "
        f"{groups} groups: the 5 to 80 lowest minima, and superbasins of the lowest one. In each group a set of live "
        "weights is shuffled among itself and the loss of test AUC (accuracy for wine) taken; beside it random sets "
        "of equal size: of *any* other weights, of *live* ones, of live ones *matched* in layer and magnitude. "
        "Intervals are 95 % over landscapes of a data set, or over data sets (Student's t); a landscape is one value."
    )
    page.text((conservation.__doc__ or "").split("\n\n", 1)[1])
    _published(page, of_sets, told)
    _sets(page, of_sets)
    _weights(page, of_weights)
    _answer(page, of_sets, of_weights)


def _published(page: Page, of_sets: pd.DataFrame, told: ConservedWeights | None) -> None:
    own = of_sets[of_sets.ranking == "n = 0.01"]
    card = own[own.data == "credit"]
    rows: list[tuple[str, object, object, str]] = []
    if len(card):
        base, drop = (
            effects.effect(effects.by_landscape(card, "base")),
            effects.effect(effects.by_landscape(card, "drop")),
        )
        rows.append(
            (
                "credit card: test AUC of the minima",
                0.95,
                str(base),
                "split and scaling are not public; .95 is beyond published models of these data (boosted trees .78)",
            )
        )
        rows.append(("loss of it, weights conserved to n = .01 shuffled", 0.19, str(drop), ""))
        for rival, what in (("any", "any others"), ("live", "live others"), ("matched", "matched others")):
            rows.append(
                (
                    f"the same, {what}",
                    "far less",
                    str(effects.effect(effects.by_landscape(card, f"drop_{rival}"))),
                    "",
                )
            )
    else:
        rows.append(
            (
                "credit card: test AUC, then with conserved weights shuffled",
                ".95, .76",
                None,
                "the file is not here, or no group has two live weights below n = .01",
            )
        )
    for rival in ("any", "live", "matched"):
        found = effects.overall(own, f"against_{rival}") if len(own) else effects.effect([])
        rows.append(
            (
                f"n = .01, all data sets: loss minus that of {rival} others",
                "positive",
                str(found),
                f"{found.n} data sets have such groups",
            )
        )
    page.compare(rows, "The paper's own protocol: every live weight whose spread is below n = .01.")


def _sets(page: Page, rows: pd.DataFrame) -> None:
    spread = rows[rows.ranking == "spread"]
    for rival, words in (
        ("any", "any other weights, dead ones included"),
        ("matched", "live weights matched in layer and magnitude"),
    ):
        caption = (
            "The fifth of the live weights with the smallest spread: loss of test performance minus that of "
            f"{words}, by tightness of the group (median spread / rms)."
        )
        page.table(effects.table(spread, f"against_{rival}", "tight", effects.TIGHTNESS), caption)
    caption = "Other definitions of conserved, against matched weights, all groups."
    page.table(effects.table(rows, "against_matched", "ranking", conservation.RANKINGS), caption)
    ratios = np.exp(np.log(rows.size_ratio).groupby(rows.ranking).mean())
    told = ", ".join(f"{name} {ratios[name]:.2f}" for name in conservation.RANKINGS)
    page.text(f"How well magnitudes are matched: size of the set's weights over that of the matched ones: {told}.")
    page.figure(
        _tightness_figure(rows),
        "tightness",
        "Loss when the most conserved fifth is shuffled minus loss of a matched set, by tightness; a line a data "
        "set, black the mean over data sets with its 95 % interval.",
    )
    choice = effects.scanned(rows, "against_matched", conservation.RANKINGS, (0,))
    if choice is not None:
        page.text(
            f"Scan: {choice.scanned} combinations of ranking, group (window, superbasin or tightness) and network on "
            f"split 0. Best by mean over interval: **{DROPPED[choice.ranking]}**, {choice.group}, "
            f"{choice.network}: {choice.found} there; on the held-out split 1: **{choice.held_out}** "
            f"({choice.held_out.n} data sets)."
        )


def _tightness_figure(rows: pd.DataFrame) -> Figure:
    names = sorted(rows.data.unique())
    figure, axes = panels(10, 3.4, ncols=len(conservation.RANKINGS))
    for at, ranking in zip(axes, conservation.RANKINGS):
        part = rows[rows.ranking == ranking]
        x = np.arange(len(effects.TIGHTNESS))
        for name, colour in zip(names, PALETTE):
            y = [
                effects.of_data(part[part.tight == t], "against_matched").get(name, effects.effect([])).mean
                for t in effects.TIGHTNESS
            ]
            at.plot(x, y, "o-", color=colour, ms=3, lw=1, label=name)
        all_sets = [effects.overall(part[part.tight == t], "against_matched") for t in effects.TIGHTNESS]
        mean, half = np.array([e.mean for e in all_sets]), np.array([e.high - e.mean for e in all_sets])
        at.errorbar(x, mean, np.nan_to_num(half), color="black", lw=2, capsize=3, zorder=5)
        at.axhline(0, color="#5b6675", lw=0.8)
        at.set_xticks(x, effects.TIGHTNESS, rotation=40, ha="right", fontsize=8)
        at.set_title(DROPPED[ranking], fontsize=8)
        at.sharey(axes[0])
    axes[0].set_ylabel("loss, own minus matched")
    axes[0].legend(fontsize=6, frameon=False)
    return figure


def _weights(page: Page, rows: pd.DataFrame) -> None:
    names = {
        "plain": "plainly",
        "given_size": "given magnitude and layer",
        "given_curvature": "given curvature as well",
    }
    out = []
    for ranking in conservation.RANKINGS:
        part = rows[rows.ranking == ranking]
        out.append(
            {"conserved means": DROPPED[ranking]}
            | {words: str(effects.overall(part, column)) for column, words in names.items()}
        )
    page.table(
        pd.DataFrame(out),
        "One weight at a time: rank correlation of how conserved a weight is with what replacing it costs, over data "
        "sets.",
    )
    tight = [
        {"tightness": t}
        | {
            words: str(effects.overall(rows[(rows.ranking == "spread") & (rows.tight == t)], column))
            for column, words in names.items()
        }
        for t in effects.TIGHTNESS
    ]
    page.table(pd.DataFrame(tight), "The same for the paper's spread, by tightness of the group.")


def _beyond(rows: pd.DataFrame) -> pd.DataFrame:
    """Loss when the most salient fifth is shuffled less that of the largest fifth of the same group."""
    keys = ["data", "hidden", "lam", "split", "kind", "group"]
    large = rows[rows.ranking == "magnitude"].set_index(keys)["drop"]
    salient = rows[rows.ranking == "saliency"].set_index(keys)["drop"]
    return (salient - large).rename("beyond").reset_index()


def _answer(page: Page, of_sets: pd.DataFrame, of_weights: pd.DataFrame) -> None:
    page.section("The answer")
    spread, salient = of_sets[of_sets.ranking == "spread"], of_sets[of_sets.ranking == "saliency"]
    alone = of_weights[of_weights.ranking == "spread"]

    def verdict(e: effects.Effect) -> str:
        if e.n < 2 or not e.low <= e.high:
            return "not decided"
        return "supported" if e.low > 0 else "contradicted" if e.high < 0 else "not decided"

    tests = [
        ("smallest spread against any others, all groups", effects.overall(spread, "against_any")),
        ("smallest spread against matched others, all groups", effects.overall(spread, "against_matched")),
        (
            "the same in tight groups (below .2)",
            effects.overall(spread[spread.tight == effects.TIGHTNESS[0]], "against_matched"),
        ),
        (
            "the same in wide groups (above .5)",
            effects.overall(spread[spread.tight == effects.TIGHTNESS[-1]], "against_matched"),
        ),
        ("one weight at a time, given magnitude and layer", effects.overall(alone, "given_size")),
        ("one weight at a time, given curvature as well", effects.overall(alone, "given_curvature")),
        ("saliency of one minimum against matched others", effects.overall(salient, "against_matched")),
        ("saliency of one minimum against the largest weights", effects.overall(_beyond(of_sets), "beyond")),
    ]
    frame = pd.DataFrame(
        [{"claim: these weights matter more": what, "effect": str(e), "verdict": verdict(e)} for what, e in tests]
    )
    page.table(frame)
