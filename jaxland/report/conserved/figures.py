"""Pictures of conserved weights: which groups get a colour, which inputs, and what the validation found."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from jaxland.landscape.weights.conserved import ConservedWeights
from jaxland.landscape.weights.group import GroupConservation
from jaxland.landscape.weights.validation import Validation
from jaxland.report.disconnectivity import notable_groups
from jaxland.report.figures import PALETTE, canvas


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
) -> Figure | None:
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
) -> Figure | None:
    """Bars: spread of the weights of each input column over the group, relative to random groups; None without a
    null."""
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


def validation_figure(check: Validation, *, colour: str = PALETTE[0]) -> Figure:
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
