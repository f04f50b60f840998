"""Sections of a landscape's report on its conserved weights: what was found, in words, figures and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxland.landscape.weights.conserved import ConservedWeights
from jaxland.landscape.weights.group import GroupConservation
from jaxland.landscape.weights.validation import Validation
from jaxland.report.disconnectivity import notable_groups
from jaxland.report.figures import PALETTE, canvas
from jaxland.report.html import Page
from jaxland.report.network_diagram import network_diagram
from jaxland.report.words import listed, number, p_value


def group_colours(conserved: ConservedWeights, most: int = 6) -> dict[str, str]:
    """Groups to colour in the graph, none inside another: the headline (red), others with more conserved weights than
    chance gives or whose weights agree more closely, and groups that show the structure of the graph."""
    chosen: list[tuple[str, np.ndarray]] = []

    def disjoint(members: np.ndarray) -> bool:
        return all(not np.intersect1d(members, other).size for _, other in chosen)

    headline = conserved.headline
    if headline is not None and min(headline.q_group, headline.q_spread) <= conserved.alpha:
        chosen.append((headline.name, headline.members))
    for group in sorted(conserved.significant, key=lambda g: (g.q_group, -len(g.members))):
        if len(chosen) < most and disjoint(group.members):
            chosen.append((group.name, group.members))
    close = conserved.closer_than_chance
    for group in sorted(close, key=lambda g: g.spread_z):
        if len(chosen) < most and disjoint(group.members):
            chosen.append((group.name, group.members))
    for name in notable_groups(conserved.landscape, conserved.cut, most):
        members = conserved.cut.group(name)
        if len(chosen) < most and disjoint(members):
            chosen.append((name, members))
    return {name: PALETTE[i % len(PALETTE)] for i, (name, _) in enumerate(chosen)}


def attribution_figure(
    group: GroupConservation, *, colour: str = PALETTE[0], most: int = 30, alpha: float = 0.05
) -> Any:
    """Bars: mass of the live conserved weights of each input column; full colour where it beats chance."""
    source = group.sources
    if source is None:
        return None
    count = int((source.mass > 0).sum())
    order = np.argsort(-source.mass, kind="stable")[: min(count, most)][::-1]
    figure, axes = canvas(6.4, float(np.clip(0.24 * len(order) + 0.9, 1.8, 8.0)))
    sure = source.q_value[order] <= alpha
    axes.barh(
        np.arange(len(order)), source.mass[order], color=[colour if s else "#c3c9d1" for s in sure], height=0.68
    )
    axes.set_yticks(np.arange(len(order)), [source.labels[i] for i in order], fontsize=8.5)
    for k, i in enumerate(order):
        if source.mass[i] > 0:
            p = source.q_value[i]
            note = f"{source.count[i]} weight{'s' if source.count[i] != 1 else ''}" + (
                f", q = {p:.2g}" if np.isfinite(p) else ""
            )
            axes.annotate(
                note, (source.mass[i], k), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7.5,
                color="#5b6675",
            )  # fmt: skip
    axes.set_xlabel("sum of |mean| of its live conserved first-layer weights")
    axes.margins(x=0.22)
    axes.set_ylim(-0.6, len(order) - 0.4)
    return figure


def agreement_figure(
    group: GroupConservation, *, colour: str = PALETTE[0], most: int = 30, alpha: float = 0.05
) -> Any:
    """Bars: spread of the weights of each input column over the group, relative to random groups; None "
    "without a null."""
    source = group.sources
    if source is None or not np.isfinite(source.spread_ratio).any():
        return None
    known = np.flatnonzero(np.isfinite(source.spread_ratio))
    order = known[np.argsort(source.spread_ratio[known], kind="stable")][:most][::-1]
    ratio, sure = source.spread_ratio[order], source.spread_q[order] <= alpha
    figure, axes = canvas(6.4, float(np.clip(0.24 * len(order) + 0.9, 1.8, 8.0)))
    axes.hlines(np.arange(len(order)), 1.0, ratio, color="#c3c9d1", lw=1.2)
    axes.scatter(ratio, np.arange(len(order)), s=34, color=[colour if s else "#a9b1bb" for s in sure], zorder=3)
    axes.axvline(1.0, color="#1c2430", lw=0.8)
    axes.set_xscale("log")
    from matplotlib.ticker import FuncFormatter, NullFormatter

    low, high = min(float(ratio.min()), 0.9), max(float(ratio.max()), 1.1)
    coarse, fine = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10), (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.5)
    axes.set_xticks([t for t in (coarse if low < 0.3 else fine) if 0.9 * low <= t <= 1.1 * high])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(np.arange(len(order)), [source.labels[i] for i in order], fontsize=8.5)
    axes.set_xlabel("scatter of its weights / scatter in random groups")
    axes.set_ylim(-0.6, len(order) - 0.4)
    return figure


def validation_figure(check: Validation, *, colour: str = PALETTE[0]) -> Any:
    """Every seed a point: loss of test performance by shuffling conserved weights and the controls."""
    name = "conserved" if check.what == "conserved" else "most agreeing"
    sets = [(name, check.conserved, colour), ("random others", check.others, "#6b7684")]
    sets.append(("others of like size", check.matched, "#6b7684"))
    if check.like_size:
        sets.append((f"{name}, where the\nlayer has both kinds", check.like_conserved, colour))
        sets.append(("others of those layers", check.like_others, "#6b7684"))
    figure, axes = canvas(6.4, 0.52 * len(sets) + 1.1)
    rng = np.random.default_rng(0)
    for k, (_, drop, tint) in enumerate(reversed(sets)):
        axes.scatter(drop, k + 0.22 * (rng.random(len(drop)) - 0.5), s=13, color=tint, alpha=0.55, linewidths=0)
        axes.plot([drop.mean()] * 2, [k - 0.28, k + 0.28], color=tint, lw=2.4)
    axes.axvline(0, color="#1c2430", lw=0.7)
    axes.set_yticks(range(len(sets)), [name for name, _, _ in reversed(sets)])
    axes.set_xlabel(f"loss of test {check.metric}")
    return figure


def findings(conserved: ConservedWeights) -> list[tuple[str, bool]]:
    """What was found, in plain sentences; True marks those that say that something is not there."""
    out: list[tuple[str, bool]] = []
    group = conserved.headline
    if group is None:
        most = conserved.settings.min_members
        return [
            (
                f"No group of at least {most} minima holds the best network: nothing can be said of conserved "
                "weights.",
                True,
            )
        ]
    k, count = len(group.members), int(group.live_conserved.sum())
    name = called(conserved, group)
    joined = f"The {k} networks of {name}, which hold the best one,"
    within = f"In {name}" + ("" if np.isnan(conserved.cut.delta) else f" ({k} networks)")
    whose = name.capitalize() if np.isnan(conserved.cut.delta) else joined
    n = number(conserved.threshold)
    if count == 0:
        out.append(
            (
                f"{within} no active weight stays the same to within "
                f"n = {n}: judged by that threshold, nothing is conserved.",
                True,
            )
        )
    if count == 0 and group.q_spread <= conserved.alpha:
        out.append(
            (
                f"Yet these networks do agree: their weights scatter {number(group.spread_ratio)} times as much as "
                "those of "
                f"random groups of networks (q = {p_value(group.q_spread)}), so they are a family of their "
                "own.",
                False,
            )
        )
        close = group.agreeing_inputs(conserved.alpha)
        if close:
            out.append((f"They agree most on how they use {listed(close, 8)}.", False))
    elif count == 0:
        out.append(
            (
                "Nor do its weights scatter less than those of random groups of networks"
                + (f" (q = {p_value(group.q_spread)})" if np.isfinite(group.q_spread) else "")
                + ": these networks reach their loss in different ways, and single weights explain nothing here.",
                True,
            )
        )
    elif not np.isfinite(group.q_group):
        out.append(
            (
                f"{count} active weights agree to within {n} in all {k} networks found. There are no other networks "
                "to compare with, so whether that is remarkable cannot be tested.",
                True,
            )
        )
    elif group.q_group <= conserved.alpha:
        out.append(
            (
                f"{whose} share {count} active weights to "
                f"within {n}; random groups of networks share {number(float(group.null_count.mean()))} on average "
                f"(q = {p_value(group.q_group)}).",
                False,
            )
        )
    else:
        out.append(
            (
                f"{whose} share {count} active weights to "
                f"within {n}, but random groups share {number(float(group.null_count.mean()))} on average "
                f"(q = {p_value(group.q_group)}): not more than chance gives.",
                True,
            )
        )
    if count and group.sources is not None:
        leading = group.leading_inputs(conserved.alpha)
        if leading:
            out.append((f"Inputs on whose use all these networks agree beyond chance: {listed(leading, 8)}.", False))
        elif group.sources.mass.any():
            top = [group.sources.labels[i] for i in np.argsort(-group.sources.mass)[:5] if group.sources.mass[i] > 0]
            out.append(
                (
                    f"The conserved weights belong to {listed(top)}, but no single input stands out from chance "
                    "after correction for the number of inputs.",
                    True,
                )
            )
        else:
            out.append(("None of the conserved weights starts at an input: they lie deeper in the network.", True))
    check = group.validation
    if check is not None:
        drop, other = float(check.conserved.mean()), float(check.others.mean())
        said = f"Shuffling the {check.size} {_tested(check)} weights costs {number(drop)} of test {check.metric}; "
        said += f"shuffling as many random others costs {number(other)} (p = {p_value(check.p_value)})."
        out.append((said, not check.supported))
        if check.like_size:
            own, theirs = float(check.like_conserved.mean()), float(check.like_others.mean())
            said = f"Within the same layers, the comparison is {number(own)} against {number(theirs)} "
            said += f"(p = {p_value(check.p_like)}): "
            said += (
                f"{_tested(check)} weights matter more than their neighbours."
                if check.supported_like
                else f"{_tested(check)} weights do not matter more than their neighbours in the layer."
            )
            out.append((said, not check.supported_like))
        elif check.supported:
            out.append(
                (
                    f"No layer has both {_tested(check)} and other live weights to compare: the difference may "
                    "be that of the layers rather than of the weights.",
                    True,
                )
            )
    others = [g for g in conserved.significant if g.members[0] != 0]
    if others and not (group.q_group <= conserved.alpha):
        out.append(
            (
                f"Groups that do not hold the best network, but share more weights than chance gives: "
                f"{listed([g.name for g in others])}.",
                False,
            )
        )
    return out


def called(conserved: ConservedWeights, group: GroupConservation) -> str:
    """What to call a group in a sentence."""
    return f"the {len(group.members)} lowest minima" if np.isnan(conserved.cut.delta) else f"group {group.name}"


def _tested(check: Validation) -> str:
    return "conserved" if check.what == "conserved" else "most agreeing"


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
    page.section("Groups and what they share")
    if not conserved.groups:
        page.note(f"No group has {conserved.settings.min_members} minima or more.", warn=True)
        return
    page.text(
        f"A weight is conserved in a group if its standard deviation over the group's minima, after matching their "
        f"hidden units, is below n = {number(conserved.threshold)}. Live: not switched off. Expected by chance: the "
        f"mean over {conserved.settings.draws} random groups of other minima; p from them, q corrected for "
        f"testing {len(conserved.groups)} groups."
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
    frame = group.to_pandas().drop(columns="conserved")
    if not count:
        frame = frame.sort_values(["q", "std"], kind="stable")
    shown = max(10, min(count, 40))
    page.table(frame.head(shown), f"The {shown} weights that come first, live conserved ones on top.")
    sweep = group.sweep.to_pandas()
    page.table(sweep, "The same count at other thresholds n: at which scale does the group stand out from chance?")


def inputs_section(
    page: Page, conserved: ConservedWeights, group: GroupConservation, colours: Mapping[str, str]
) -> None:
    """Which inputs the conserved weights of a group belong to."""
    source = group.sources
    if source is None:
        return
    page.section("What drives the decisions")
    if not source.mass.any():
        page.note(
            f"No live first-layer weight of {called(conserved, group)} is conserved at n = "
            f"{number(conserved.threshold)}.",
            warn=True,
        )
    else:
        figure = attribution_figure(group, colour=colours.get(group.name, PALETTE[0]), alpha=conserved.alpha)
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
    page.section("Do the conserved weights matter?")
    check = group.validation
    if check is None:
        page.note(
            "Not tested: there are no test data, or fewer than two weights to shuffle on either side.",
            warn=True,
        )
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
            + (f" Note: {check.note}." if check.note else "")
        )
        page.figure(validation_figure(check), "Points: one set of weights each, drawn by seed. Bars: means.")
        verdict = "yes" if check.supported else "no"
        page.text(
            f"{_tested(check).capitalize()} {number(float(check.conserved.mean()))}, random others "
            f"{number(float(check.others.mean()))}, "
            f"others of like size {number(float(check.matched.mean()))}: {verdict} (p = {p_value(check.p_value)})."
        )
        if not check.like_size:
            page.note(
                "No layer has at least two conserved and two other live weights: conserved weights cannot be "
                "compared with their neighbours, and the difference above may be one of layers.",
                warn=True,
            )
    tested = [g for g in conserved.groups if g.validation is not None]
    if len(tested) > 1:
        good = sum(g.validation.supported for g in tested if g.validation)
        like = [g.validation for g in tested if g.validation and g.validation.like_size]
        page.text(
            f"Of all {len(tested)} groups that could be tested, the conserved weights mattered more than random "
            f"others in {good}, and more than others of the same layers in {sum(v.supported_like for v in like)} of "
            f"{len(like)}."
        )


def comparison_section(page: Page, conserved: ConservedWeights, group: GroupConservation) -> None:
    """Other measures of the importance of inputs beside the conserved weights."""
    comparison = group.comparison
    if comparison is None:
        return
    page.section("Compared with other measures")
    page.text(
        "Permutation importance: the loss of test performance when an input's values are exchanged between "
        "rows. Input "
        "gradient: how fast the output changes with the input. Both averaged over the "
        f"{len(comparison.members)} lowest minima of {called(conserved, group)}. They ask what one network "
        "uses; conserved "
        "weights ask what all networks of the group agree on. They need not be the same."
    )
    page.folded(comparison.to_pandas(), "Most important by permutation first.", 20)
    table = comparison.to_pandas("correlations").dropna()
    if len(table):
        page.table(table, "Rank correlations over the inputs (Spearman) and their p-values.", digits=2)
    measure = "conserved mass" if comparison.conserved_mass.any() else "agreement"
    rho, p = comparison.correlations[measure, "permutation importance"]
    said = "much conserved weight" if measure == "conserved mass" else "closely agreeing weights"
    if not np.isfinite(rho):
        page.text("With fewer than three inputs there is nothing to rank.")
    elif p <= 0.05 and rho > 0:
        page.text(f"Inputs with {said} are also those the networks need most (ρ = {rho:.2f}, p = {p:.2g}).")
    else:
        page.text(f"Inputs with {said} are not those that matter most by permutation (ρ = {rho:.2f}, p = {p:.2g}).")


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
