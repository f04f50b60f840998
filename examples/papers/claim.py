"""Do conserved weights drive the decision? The tables, figures and verdicts from the rows of a scan."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from examples.papers import conservation, effects
from examples.papers.effects import Effect, overall
from examples.papers.page import Page
from jaxland.report.figures import PALETTE, panels

MEANING = {
    "spread": "small spread (the paper's)",
    "relative": "small spread for its size",
    "chance": "small spread against random minima",
    "softness": "stiff (one minimum)",
    "excess": "small spread for its stiffness",
    "saliency": "salient: stiff for its size (one minimum)",
    "damage": "damaging: size x sqrt(H_jj) (one minimum)",
    "removal": "training loss rises most without it",
    "magnitude": "large",
}
TIED = {name: f"{name}, size for size" for name in conservation.SIZE_FOR_SIZE}
COLLECTIVE = tuple(name for name in conservation.RANKINGS if name not in conservation.SINGLE)
WIDE = effects.TIGHTNESS[2:]
ALPHA = 0.05


class Claim(NamedTuple):
    """A sentence that can be wrong, and the rows and column that decide it."""

    sentence: str
    rows: pd.DataFrame
    column: str


def section(page: Page, of_sets: pd.DataFrame, of_weights: pd.DataFrame) -> None:
    """Whether conserved weights decide."""
    page.section("The claim: conserved weights drive the decision")
    of_sets, of_weights = effects.prepared(of_sets), effects.prepared(of_weights)
    names = sorted(of_sets.data.unique())
    facts = of_sets.groupby(effects.LANDSCAPE)[["minima", "connected", "base"]].first()
    page.text(
        f"{len(facts)} landscapes of {len(names)} data sets ({', '.join(names)}), of {facts.minima.min()} to "
        f"{facts.minima.max()} minima, {of_sets.groupby(effects.GROUP).ngroups} groups. Intervals are 95 % over "
        "landscapes of a data set, or over data sets (Student's t); a landscape is one value, groups of it are "
        "averaged. Numbers are losses of test AUC (accuracy for wine)."
    )
    page.text((conservation.__doc__ or "").split("\n\n", 1)[1])
    _published(page, of_sets)
    _by_data(page, of_sets)
    _levels(page, of_sets)
    _definitions(page, of_sets, of_weights)
    page.figure(
        _tightness_figure(of_sets),
        "tightness",
        "Loss when a set is shuffled minus that of its rival, by tightness of the group; a line a data set, black "
        "the mean over data sets with its 95 % interval (where at least two have such groups).",
    )
    _weights(page, of_weights)
    _scan(page, of_sets)
    _answer(page, claims(of_sets, of_weights))
    _in_words(page, of_sets, of_weights)


def _published(page: Page, rows: pd.DataFrame) -> None:
    own = rows[rows.ranking == "n = 0.01"]
    card = own[own.data == "credit"]
    groups, landscapes = (len(card.groupby(keys)) for keys in (effects.GROUP, effects.LANDSCAPE))
    where = f"{groups} groups of {landscapes} landscapes have two such weights"

    def of_card(column: str) -> object:
        return str(effects.effect(effects.by_landscape(card, column))) if len(card) else None

    lines: list[tuple[str, object, object, str]] = [
        ("credit card: test AUC of the minima", 0.95, of_card("base"),
         "split and scaling are not public; .95 is beyond published models of these data (boosted trees .78)"),
        ("loss of it, weights conserved to n = .01 shuffled", 0.19, of_card("drop"), where),
    ]  # fmt: skip
    for rival, what in (("any", "any others"), ("live", "live others"), ("matched", "matched others")):
        lines.append((f"the same, {what}", "far less", of_card(f"drop_{rival}"), ""))
    for rival in conservation.RIVALS:
        found = overall(own, f"against_{rival}")
        what = f"{found.n} data sets have such groups"
        lines.append((f"n = .01, all data sets: loss minus that of {rival} others", "positive", str(found), what))
    page.compare(lines, "The paper's own protocol: every live weight whose spread is below n = .01.")


def _by_data(page: Page, rows: pd.DataFrame) -> None:
    spread, tied = rows[rows.ranking == "spread"], rows[rows.ranking == TIED["spread"]]
    large = effects.against(rows, "spread", "magnitude")
    columns = {
        "minus any others": (spread, "against_any"),
        "minus matched others": (spread, "against_matched"),
        "size for size": (tied, "against_matched"),
        "minus the largest fifth": (large, "beyond"),
    }
    base = {str(k): v for k, v in rows.groupby("data").base.mean().items()}
    lines = []
    for name in sorted(base):
        line = {"data": name, "AUC before": base[name]}
        lines.append(line | {k: str(effects.of_data(part, c).get(name)) for k, (part, c) in columns.items()})
    lines.append({"data": "**all data sets**"} | {k: str(overall(part, c)) for k, (part, c) in columns.items()})
    page.table(
        pd.DataFrame(lines),
        "The fifth of the live weights with the smallest spread, shuffled: its loss minus that of rivals. *Size for "
        "size*: the least spread of every five neighbours in magnitude, minus one of the other four.",
    )


def _levels(page: Page, rows: pd.DataFrame) -> None:
    """By tightness, group and network: where does it hold?"""
    spread, tied = rows[rows.ranking == "spread"], rows[rows.ranking == TIED["spread"]]
    lines = []
    lots = sorted(rows.lot.unique(), key=lambda lot: int(lot.split()[1]) if lot != "superbasins" else 999)
    for what, by, values in (
        ("tightness", "tight", effects.TIGHTNESS), ("group", "lot", lots),
        ("network", "network", sorted(rows.network.unique())),
    ):  # fmt: skip
        for value in values:
            first, second = spread[spread[by] == value], tied[tied[by] == value]
            found = overall(second, "against_matched")
            line = {"which": what, "value": value, "data sets": found.n}
            line["minus any others"] = str(overall(first, "against_any"))
            lines.append(line | {"size for size": str(found)})
    page.table(
        pd.DataFrame(lines),
        "The same over data sets, by tightness (median spread over root mean square of the live weights), kind of "
        "group and network. A single row below zero or above it is no finding: these are many looks at one question.",
    )


def _definitions(page: Page, rows: pd.DataFrame, of_weights: pd.DataFrame) -> None:
    """Other definitions of conserved."""
    ratios = np.exp(np.log(rows.size_ratio).groupby(rows.ranking).mean())
    once = of_weights.drop_duplicates([*effects.GROUP, "ranking"])
    lines = []
    for name, meaning in MEANING.items():
        part, one = rows[rows.ranking == name], once[once.ranking == name]
        line = {"conserved means": meaning, "ρ with size": str(overall(one, "with_size"))}
        line["ρ with stiffness"] = str(overall(one, "with_softness"))
        line["minus matched others"] = str(overall(part, "against_matched"))
        line["size, own / matched"] = f"{ratios[name]:.2f}"
        tied = rows[rows.ranking == TIED.get(name, "")]
        line["size for size"] = str(overall(tied, "against_matched")) if len(tied) else "–"
        line["minus the largest fifth"] = (
            "–" if name == "magnitude" else str(overall(effects.against(rows, name, "magnitude"), "beyond"))
        )
        lines.append(line)
    page.table(
        pd.DataFrame(lines),
        "Other definitions of conserved, all groups, over data sets. ρ: rank correlation over live weights of how "
        "conserved a weight is with its size and with its stiffness (1 / softness). Sets of the largest weights "
        "cannot be matched, as the ratio of sizes shows; *size for size* can.",
    )


def _tightness_figure(rows: pd.DataFrame) -> Figure:
    names = sorted(rows.data.unique())
    shown = (
        ("spread", "against_any", "small spread\nminus any others"),
        ("spread", "against_matched", "small spread\nminus matched others"),
        (TIED["spread"], "against_matched", "small spread\nsize for size"),
        (TIED["chance"], "against_matched", "small against random minima\nsize for size"),
        (TIED["softness"], "against_matched", "stiff (one minimum)\nsize for size"),
    )
    figure, axes = panels(12, 3.8, ncols=len(shown))
    x = np.arange(len(effects.TIGHTNESS))
    for at, (ranking, column, title) in zip(axes, shown):
        part = rows[rows.ranking == ranking]
        for name, colour in zip(names, PALETTE):
            found = [effects.of_data(part[part.tight == t], column).get(name) for t in effects.TIGHTNESS]
            y = [np.nan if e is None else e.mean for e in found]
            at.plot(x, y, "o-", color=colour, ms=3, lw=1, label=name.replace("_", " "))
        every = [overall(part[part.tight == t], column) for t in effects.TIGHTNESS]
        mean, half = np.array([e.mean for e in every]), np.array([e.high - e.mean for e in every])
        at.errorbar(x, mean, np.nan_to_num(half), color="black", lw=2, capsize=3, zorder=5)
        at.axhline(0, color="#5b6675", lw=0.8)
        at.set_xticks(x, effects.TIGHTNESS, rotation=40, ha="right", fontsize=8)
        at.set_title(title, fontsize=9)
        at.set_ylim(-0.3, 0.3)
    axes[0].set_ylabel("difference of the losses of AUC")
    axes[2].set_xlabel("tightness of the group")
    axes[-1].legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _weights(page: Page, rows: pd.DataFrame) -> None:
    for harm, caption in (
        ("performance", "One weight at a time: rank correlation of how conserved a weight is with the loss of test "
         "performance when it is replaced by others of its layer, removed, or displaced by a fixed length; plainly, "
         "and given magnitude and layer."),
        ("loss", "The same with the rise of the test cross-entropy, which does not saturate as the AUC does:"),
    ):  # fmt: skip
        of = rows[rows.harm == harm]
        lines = []
        for name, meaning in MEANING.items():
            line = {"conserved means": meaning}
            for act in conservation.INTERVENTIONS:
                part = of[(of.ranking == name) & (of.intervention == act)]
                line |= {act: str(overall(part, "plain"))}
                line |= {f"{act}, given size": str(overall(part, "given_size"))}
            lines.append(line)
        page.table(pd.DataFrame(lines), caption)
    lines = []
    for name in COLLECTIVE:
        line = {"conserved means": MEANING[name]}
        for harm in conservation.HARM:
            for act in conservation.INTERVENTIONS:
                part = rows[(rows.ranking == name) & (rows.intervention == act) & (rows.harm == harm)]
                line[f"{act}, {harm}"] = str(overall(part, "given_curvature"))
        lines.append(line)
    page.table(
        pd.DataFrame(lines),
        "Conserved beyond what curvature explains? The same given magnitude, layer and both diagonals of curvature:",
    )


def _scan(page: Page, rows: pd.DataFrame) -> None:
    rankings = ("spread", "relative", "chance", "excess", *(TIED[n] for n in COLLECTIVE if n in TIED), "n = 0.01")
    choice = effects.scanned(rows, "against_matched", rankings, (0,))
    if choice is None:
        return
    words = {TIED[n]: f"{MEANING[n]}, size for size" for n in TIED} | MEANING
    page.text(
        f"**Scan.** {choice.scanned} combinations of a statistic of the group, a kind of group (window, superbasin "
        "or tightness) and a network, with sizes matched within a quarter, on split 0. The best by mean over "
        f"interval: {words.get(choice.ranking, choice.ranking)}; {choice.where}; {choice.network}: {choice.found} "
        f"there. On the held-out split 1 the same: **{choice.held_out}** ({choice.held_out.n} data sets)."
    )


def claims(sets: pd.DataFrame, weights: pd.DataFrame) -> list[Claim]:
    """The statements tested, fixed after an earlier scan of split 0 and before this one."""
    of = {name: sets[sets.ranking == name] for name in [*conservation.RANKINGS, "n = 0.01", *TIED.values()]}
    tied, alone = of[TIED["spread"]], weights[weights.ranking == "spread"]
    acts = {
        act: alone[(alone.intervention == act) & (alone.harm == "performance")] for act in ("removed", "displaced")
    }
    stiff = weights[(weights.ranking == "softness") & (weights.harm == "performance")]
    return [
        Claim("Shuffling weights conserved to n = .01 costs more than any others", of["n = 0.01"], "against_any"),
        Claim("The fifth of smallest spread costs more than any others", of["spread"], "against_any"),
        Claim("It costs more than others of its layers and sizes", of["spread"], "against_matched"),
        Claim("Size for size, a smaller spread costs more", tied, "against_matched"),
        Claim("The same in tight groups (below .1)", tied[tied.tight == effects.TIGHTNESS[0]], "against_matched"),
        Claim("The same in wide groups (above .2)", tied[tied.tight.isin(WIDE)], "against_matched"),
        Claim("Removed alone, a less spread weight costs more, given size and layer", acts["removed"], "given_size"),
        Claim("Displaced alone by a fixed length, the same", acts["displaced"], "given_size"),
        Claim("The same, given curvature as well", acts["displaced"], "given_curvature"),
        Claim("Displaced alone, a stiffer weight (one minimum) costs more, given size and layer",
              stiff[stiff.intervention == "displaced"], "given_size"),
        Claim("Size for size, a spread smaller than chance's costs more", of[TIED["chance"]], "against_matched"),
        Claim("The most salient fifth costs more than the largest",
              effects.against(sets, "saliency", "magnitude"), "beyond"),
        Claim("The fifth dearest to the training loss costs more than the largest",
              effects.against(sets, "removal", "magnitude"), "beyond"),
        Claim("Replaced alone, cost to the training loss ranks better than size",
              effects.better(weights, "removal", "magnitude", "replaced"), "beyond"),
        Claim("Replaced alone, cost to the training loss ranks better than spread",
              effects.better(weights, "removal", "spread", "replaced"), "beyond"),
    ]  # fmt: skip


def verdict(e: Effect, p: float) -> str:
    """In a word, at a level of 5 % for all claims together."""
    if not np.isfinite(p):
        return "not shown"
    if p > ALPHA:
        alone = "; alone it would be" if e.p < ALPHA else ""
        return f"not shown{alone}; above {e.high:+.3f} ruled out"
    return "holds" if e.mean > 0 else "the opposite holds"


def _answer(page: Page, tested: Iterable[Claim]) -> None:
    page.section("The answer")
    tested = list(tested)
    found = [overall(c.rows, c.column) for c in tested]
    corrected = effects.holm([e.p for e in found])
    lines = []
    for c, e, p in zip(tested, found, corrected):
        held_out = c.rows[c.rows.split > 0]
        line = {"claim": c.sentence, "effect": str(e), "held-out split alone": str(overall(held_out, c.column))}
        lines.append(line | {"data sets": e.n, "p, Holm": p, "verdict": verdict(e, p)})
    page.table(
        pd.DataFrame(lines),
        f"Effects over data sets with 95 % intervals; p corrected for {len(lines)} claims after Holm. The first four "
        "are the paper's claim, more and more strictly; then where it could hide; then what could be better.",
    )
    page.figure(_forest(tested, found, corrected), "answer", "The same; filled where the corrected p is below .05.")


def _in_words(page: Page, sets: pd.DataFrame, weights: pd.DataFrame) -> None:
    """The answer in sentences, as the numbers have it."""
    spread, large, tied = (sets[sets.ranking == name] for name in ("spread", "magnitude", TIED["spread"]))
    found = overall(tied, "against_matched")
    left = "Something is left" if found.low > 0 else "The opposite is left" if found.high < 0 else "Nothing is left"
    page.text(
        f"**In words.** Shuffling the fifth of the live weights with the smallest spread costs "
        f"{overall(spread, 'drop').mean:.3f} of the test AUC, any other set of that size "
        f"{overall(spread, 'drop_any').mean:.3f}, the largest fifth {overall(large, 'drop').mean:.3f}: what decides "
        f"is size. {left} of the claim once size and layer are matched ({found})"
        + (f": an effect above {found.high:.3f} is ruled out at 95 %." if np.isfinite(found.high) else ".")
    )
    moved = weights[(weights.harm == "loss") & (weights.intervention == "displaced") & (weights.ranking == "spread")]
    page.text(
        "Where spread could tell most, in the rise of the test cross-entropy when a weight alone is displaced by a "
        f"fixed length, it does so with ρ = {overall(moved, 'given_size')} given magnitude and layer, and with ρ = "
        f"{overall(moved, 'given_curvature')} given the curvature of one minimum as well: what it knows there, "
        "stiffness knows."
    )
    alone = weights[(weights.harm == "loss") & (weights.intervention == "replaced")]
    rhos = {name: overall(alone[alone.ranking == name], "plain") for name in conservation.RANKINGS}
    best = max(rhos, key=lambda name: rhos[name].mean)
    page.text(
        "**A better statistic.** Of all nine, how much the held-out loss rises when a weight alone is replaced is "
        f"ranked best by: {MEANING[best]} (ρ = {rhos[best]}); the paper's spread has ρ = {rhos['spread']}, size "
        f"{rhos['magnitude']}. jaxland offers the rise of the training loss without the weight (ρ = "
        f"{rhos['removal']}) beside the spread, as `removal_costs` and in the report of `jaxland explore`: it is "
        "exact, in units of the loss, and asks one minimum only. What spread tells is what networks of a group agree "
        "on, not what they rest on."
    )
    most = int(sets.minima.max())
    page.text(
        f"**Limits.** One hidden layer of {_either(sets.hidden)} tanh units, lam {_either(sets.lam)}, up to {most} "
        "minima a landscape, of which few are joined where the network is wide (*the k lowest* stand in for "
        "superbasins there). Architecture, split, scaling and counts of the paper are not public: what is said here "
        "is about the claim in general, not about its one network."
    )


def _either(values: pd.Series) -> str:
    """The distinct values, joined by or."""
    return " or ".join(f"{value:g}" for value in sorted(values.unique()))


def _forest(tested: list[Claim], found: list[Effect], corrected: np.ndarray) -> Figure:
    figure, axes = panels(9, 0.34 * len(tested) + 1)
    at, y = axes[0], np.arange(len(tested))
    for i, (e, p) in enumerate(zip(found, corrected)):
        if not e.n:
            continue
        colour = PALETTE[1] if not p <= ALPHA else PALETTE[2] if e.mean > 0 else PALETTE[0]
        if e.n > 1:
            at.plot([e.low, e.high], [i, i], color=colour, lw=1.5)
        at.plot(e.mean, i, "o", color=colour, mfc=colour if p <= ALPHA else "white")
    at.axvline(0, color="#5b6675", lw=0.8)
    at.set_yticks(y, [c.sentence for c in tested], fontsize=8)
    at.invert_yaxis()
    at.set_xlabel("difference of losses of test AUC (sets), rank correlation (one weight alone)", loc="right")
    return figure
