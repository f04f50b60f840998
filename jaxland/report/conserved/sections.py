"""Sections of a landscape's report on its conserved weights: what was found, in words, figures and tables."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxland.landscape.weights.conserved import ConservedWeights
from jaxland.landscape.weights.group import GroupConservation
from jaxland.report.conserved.figures import agreement_figure, attribution_figure, validation_figure
from jaxland.report.conserved.findings import (
    called,
    measure_of,
    removal_against_spread,
    tested,
    tested_groups,
    untested,
)
from jaxland.report.conserved.network_diagram import network_diagram
from jaxland.report.figures import PALETTE
from jaxland.report.html import Page
from jaxland.report.questions import GROUPS, INPUTS, MATTER, OTHERS
from jaxland.report.words import interval, listed, number, p_value


def windows_section(page: Page, windows: ConservedWeights | None) -> None:
    """What the lowest minima share, whatever lies between them."""
    if windows is None or not windows.groups:
        return
    page.section("All good networks, joined or not")
    page.text(
        "The same question without the graph: do the best networks agree more than networks drawn at random from all "
        "that were found, and on which inputs?"
    )
    page.table(windows.by_window())
    close, shared = windows.closer_than_chance, windows.shared_inputs()
    if not close:
        page.note("They do not: the best networks differ from each other as much as any others.", warn=True)
        return
    said = f"They do, up to the {max(len(g.members) for g in close)} lowest."
    page.text(said + (f" Inputs agreed on in every set: {listed(shared, 8)}." if shared else ""))


def groups_section(page: Page, conserved: ConservedWeights) -> None:
    """Every group and how many weights are conserved in it."""
    page.section(GROUPS)
    if not conserved.groups:
        page.note(f"No group has {conserved.settings.min_members} minima or more.", warn=True)
        return
    page.text(
        f"A weight is conserved in a group if its standard deviation over the group's minima, after matching their "
        f"hidden units, is below n = {number(conserved.threshold)}. Live: not switched off. Expected by chance: the "
        f"mean over {conserved.settings.draws} random groups of other minima; p from them (none below "
        f"{number(1 / (1 + conserved.settings.draws), 2)} can be found with so many), q corrected for testing "
        f"{len(conserved.groups)} groups."
    )
    frame = conserved.to_pandas().drop(columns=["energy", "live weights", "dead conserved", "p"])
    # What can be told from chance first, then the groups of the best network.
    order = frame.assign(
        first=np.fmin(frame["q"], frame["q, spread"]).fillna(2.0), scatter=frame["spread / chance"].fillna(2.0)
    ).sort_values(["first", "scatter"], kind="stable")
    frame = frame.loc[order.index]
    page.folded(
        frame, "Every set of minima once, under its name at the highest level where it occurs; clearest first."
    )
    if not conserved.significant:
        page.note("In no group are there more live conserved weights than chance gives.", warn=True)
    close = conserved.closer_than_chance
    if close:
        page.text(
            f"Without any threshold: in {len(close)} of {len(conserved.groups)} groups the weights scatter less "
            "than in "
            f"random groups (q, spread at most {number(conserved.alpha)}), in the tightest "
            f"{number(min(g.spread_ratio for g in close))} times as much."
        )


def weights_section(
    page: Page, conserved: ConservedWeights, group: GroupConservation, colours: Mapping[str, str]
) -> None:
    """The conserved weights of one group: diagram and table."""
    page.section(f"Conserved weights of {called(conserved, group)}")
    colour = colours.get(group.name, PALETTE[0])
    count, dead = int(group.live_conserved.sum()), int((~group.live).sum())
    page.text(
        (
            "No group of networks joined by passes is large enough, so the lowest minima are taken together, "
            "whatever lies between them; of these sets, "
            f"{called(conserved, group)} are the one whose agreement is hardest to explain by chance. "
            if np.isnan(conserved.cut.delta)
            else f"Group {group.name} ({len(group.members)} minima, levels {group.levels}) is, of the groups that "
            "hold the best network, the one whose agreement is hardest to explain by chance. "
        )
        + f"{count} of {int(group.live.sum())} live weights are conserved."
        + (f" {dead} weights are dead: switched off everywhere, they say nothing." if dead else "")
    )
    agreeing = group.agreeing(conserved.alpha)
    marked, what = group.live_conserved, "live weights that are conserved in the group"
    if not count and agreeing.any():
        marked = agreeing
        what = "as none is conserved, the live weights that scatter less than chance gives"
    if group.parameters.sizes is not None:
        page.figure(
            network_diagram(group, marked=marked, colour=colour, title=called(conserved, group)),
            f"The network. Coloured: {what} (wide: large; dashed: negative, up to the sign of the hidden unit). "
            "Grey: "
            "the other live weights. Dead weights are left out. A coloured rim: the same for a bias.",
        )
    frame = group.to_pandas().drop(columns=["conserved", "removal costs"], errors="ignore")
    if not count:
        frame = frame.sort_values(["q", "std"], kind="stable")
    shown = max(10, min(count, 40))
    page.table(frame.head(shown), f"The {shown} weights that come first, live conserved ones on top.")
    sweep = group.sweep.to_pandas()
    page.table(sweep, "The same count at other thresholds n: at which scale does the group stand out from chance?")
    _removal(page, conserved, group)


def _removal(page: Page, conserved: ConservedWeights, group: GroupConservation) -> None:
    """Which weights the best network rests on, and whether these are the conserved ones."""
    if group.removal is None or not group.live.any():
        return
    said = (
        "Conserved is what networks agree on, not what they rest on. The second is asked of the best network alone: "
    )
    said += "each weight is set to zero and the rise of the training loss taken."
    cost = removal_against_spread(group)
    page.text(said + (f" Here {cost}." if cost else ""))
    frame = group.to_pandas().drop(columns=["p", "q"])
    frame = frame.sort_values("removal costs", ascending=False, kind="stable").reset_index(drop=True)
    page.folded(frame, "Weights that the best network rests on most, dearest first.", 10)


def inputs_section(
    page: Page, conserved: ConservedWeights, group: GroupConservation, colours: Mapping[str, str]
) -> None:
    """Which inputs the conserved weights of a group belong to."""
    source = group.sources
    if source is None:
        return
    page.section(INPUTS)
    figure = attribution_figure(group, colour=colours.get(group.name, PALETTE[0]), alpha=conserved.alpha)
    if figure is None or not source.mass.any():
        page.note(
            f"No live first-layer weight of {called(conserved, group)} is conserved at n = "
            f"{number(conserved.threshold)}.",
            warn=True,
        )
    else:
        none = int((source.mass == 0).sum())
        page.figure(
            figure,
            (f"{none} inputs have no live conserved weight. " if none else "")
            + "Longer: the networks of the group agree on more and larger weights from that input. Coloured: more "
            f"than random groups of networks do (q at most {number(conserved.alpha)}). Inputs that were coded into "
            "several columns are summed.",
        )
    closer = agreement_figure(group, alpha=conserved.alpha, colour=colours.get(group.name, PALETTE[0]))
    if closer is not None:
        page.figure(
            closer,
            "Without any threshold: how much the first-layer weights of an input scatter over the group, "
            "compared with "
            "the same weights in random groups of networks. Below 1 the group agrees more closely than chance; "
            f"coloured where q is at most {number(conserved.alpha)}.",
        )
    leading = group.leading_inputs(conserved.alpha)
    ups = [name for name in leading if source.direction(name) > 0]
    downs = [name for name in leading if source.direction(name) < 0]
    if len(source.outputs) == 2 and (ups or downs):
        said = []
        if ups:
            said.append(f"higher values of {listed(ups)} speak for {source.outputs[1]!r}")
        if downs:
            said.append(f"higher values of {listed(downs)} speak for {source.outputs[0]!r}")
        page.text("Following conserved weights through to the output, " + "; ".join(said) + ".")
    table = source.to_pandas()
    table = table.drop(columns=[c for c in table if c.startswith(("paths", "signed")) and not table[c].any()])
    page.folded(
        table,
        "count, mass: live conserved first-layer weights. p, q: against random groups, q corrected for the number of "
        "inputs. spread / chance: scatter of the input's live weights relative to random groups. paths: products of "
        "|weights| along conserved paths to an output; signed: with their signs.",
        20,
    )


def validation_section(page: Page, conserved: ConservedWeights, group: GroupConservation) -> None:
    """What shuffling the conserved weights costs."""
    page.section(MATTER)
    check = group.validation
    if check is None:
        page.note(f"Not tested: {untested(conserved, group)}.", warn=True)
    else:
        page.text(
            (
                ""
                if check.what == "conserved"
                else "Fewer than two weights are conserved, so the weights that agree more "
                "closely than chance stand in for them. "
            )
            + f"If such weights carry what the network knows, "
            "shuffling them among themselves must hurt more than "
            f"shuffling others. {check.size} weights of each kind were shuffled with {len(check.conserved)} seeds "
            "in the "
            f"lowest minima of the group (test {check.metric} before: {check.baseline.mean():.3f})."
            + f" With so many no p below {number(1 / (1 + len(check.conserved)), 2)} can be found."
            + (f" Note: {check.note}." if check.note else "")
        )
        page.figure(validation_figure(check), "Points: one set of weights each, drawn by seed. Bars: means.")
        verdict = "yes" if check.supported else "no"
        page.text(
            f"{tested(check).capitalize()} {number(float(check.conserved.mean()))}, random others "
            f"{number(float(check.others.mean()))}, "
            f"others of like size {number(float(check.matched.mean()))}: {verdict} (p = {p_value(check.p_value)})."
        )
        if check.like_size:
            own, theirs = number(float(check.like_conserved.mean())), number(float(check.like_others.mean()))
            verdict = "yes" if check.supported_like else "no"
            page.text(
                f"Like for like, within layers that have both kinds: {own} against {theirs}: {verdict} (p = "
                f"{p_value(check.p_like)}). Layers may matter more whatever their weights' spread: this comparison "
                "is the one to believe."
            )
        else:
            page.note(
                "No layer has at least two conserved and two other live weights: conserved weights cannot be "
                "compared with their neighbours, and the difference above may be one of layers.",
                warn=True,
            )
    every = tested_groups(conserved)
    if every.groups > 1:
        page.text(f"{every.describe().capitalize()}.")


def comparison_section(page: Page, conserved: ConservedWeights, group: GroupConservation) -> None:
    """Other measures of the importance of inputs beside the conserved weights."""
    comparison = group.comparison
    if comparison is None:
        return
    page.section(OTHERS)
    page.text(
        "Permutation importance: the loss of test performance when an input's values are exchanged between "
        "rows, ± its standard error over shuffles and networks. Input gradient: how fast the output changes with the "
        f"input. Both averaged over the {len(comparison.members)} lowest minima of {called(conserved, group)}. They "
        "ask what one network uses; conserved weights ask what all networks of the group agree on. They need not be "
        "the same, but where they contradict each other, permutation importance is what the predictions rest on."
    )
    page.folded(comparison.to_pandas(), "Most important by permutation first.", 20)
    table = comparison.to_pandas("correlations").dropna()
    if len(table):
        table["95 %"] = [interval(rho, len(comparison.labels)) for rho in table["rho"]]
        page.table(table, "Rank correlations over the inputs (Spearman), p-values and 95 % intervals.", digits=2)
    measure = measure_of(comparison)
    rho, p = comparison.correlations[measure, "permutation importance"]
    said = "much conserved weight" if measure == "conserved mass" else "closely agreeing weights"
    if not np.isfinite(rho):
        page.text("With fewer than three inputs there is nothing to rank.")
    elif p <= 0.05 and rho > 0:
        page.text(
            f"Agreement: inputs with {said} are also those the networks need most (ρ = {rho:.2f}, p = {p:.2g})."
        )
    elif p <= 0.05:
        page.note(
            f"Contradiction: inputs with {said} are those the networks need least (ρ = {rho:.2f}, p = {p:.2g}).",
            warn=True,
        )
    else:
        page.note(
            f"No agreement can be shown: inputs with {said} are not ranked as by permutation (ρ = {rho:.2f}, "
            f"p = {p:.2g}).",
            warn=True,
        )


def levels_section(page: Page, conserved: ConservedWeights) -> None:
    """The group of the best network, level by level."""
    page.section("Level by level")
    frame = conserved.by_level()
    if "leading inputs" in frame:
        frame["leading inputs"] = frame["leading inputs"].fillna("–")
    page.text("From the top, where all connected networks are together, down to the best one alone.")
    if len(frame) > 60:
        changes = frame["minima in it"].ne(frame["minima in it"].shift())
        frame = frame[changes].head(80)
        page.folded(frame, "Levels at which the group of the best network changes.", 30)
    else:
        page.folded(frame, "", 30)
