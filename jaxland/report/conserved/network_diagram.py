"""A dense network with the live conserved weights of a group in the group's colour, all others grey."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxland.errors import ProblemError
from jaxland.landscape.weights.group import GroupConservation
from jaxland.report.figures import PALETTE, canvas

GREY = "#c3c9d1"
NODE = "#f4f6f8"
EDGE = "#5b6675"


def network_diagram(
    group: GroupConservation,
    *,
    marked: Any = None,
    colour: str = PALETTE[0],
    title: str = "",
    most_inputs: int = 40,
) -> Any:
    """The network of a group as a matplotlib Figure, after figures 1 and 2 of Niroomand & Wales (2023).

    Every line is a weight. Coloured: live and conserved over the group, wider for a larger mean, dashed for a
    negative one (up to the sign of its hidden unit). Grey: all other live weights; dead ones are left out. A hidden
    or output unit with a coloured rim has a conserved bias.

    Args:
        group: from ``conserved_weights`` on a network made by ``jaxland.mlp``.
        marked: bool [N], the weights to colour; default the live conserved ones.
        colour: of the group.
        title: text above.
        most_inputs: with more inputs than that, those without a conserved weight that have the smallest weights are
            left out, and the figure says so.
    """
    from matplotlib.collections import LineCollection

    table = group.parameters
    if table.sizes is None:
        raise ProblemError("the layers of this model are not known: only networks made by jaxland.mlp can be drawn")
    sizes, kept = table.sizes, group.live_conserved if marked is None else np.asarray(marked, bool)
    first: np.ndarray = np.abs(table.matrices(group.mean)[0]).sum(1)
    coloured: np.ndarray = np.asarray(table.matrices(kept)[0].any(1))
    order = np.lexsort((-first, ~coloured))[:most_inputs]
    shown = np.sort(order)
    left_out = sizes[0] - len(shown)
    tallest = max(len(shown), *sizes[1:])
    figure, axes = canvas(2.6 + 2.1 * (len(sizes) - 1), float(np.clip(0.21 * tallest + 0.9, 2.6, 9.5)))
    position: list[dict[int, tuple[float, float]]] = []
    for depth, width in enumerate(sizes):
        units = shown if depth == 0 else np.arange(width)
        # Layers are as tall as the tallest, but no looser than a third of it for two or three units.
        pitch = min(1.0, 1.0 / max(len(units) - 1, 1) * (1.0 if len(units) > 3 else 0.45 * len(units) / 2))
        at = 0.5 + pitch * ((len(units) - 1) / 2 - np.arange(len(units)))
        position.append({int(u): (float(depth), float(y)) for u, y in zip(units, at)})
    weights = ~table.bias
    visible = weights & np.array(
        [table.layer[j] > 0 or int(table.source[j]) in position[0] for j in range(len(kept))]
    )
    largest = max(float(np.abs(group.mean[kept & weights]).max()) if (kept & weights).any() else 1.0, 1e-12)

    def segment(j: Any) -> list[tuple[float, float]]:
        depth = int(table.layer[j])
        return [position[depth][int(table.source[j])], position[depth + 1][int(table.target[j])]]

    plain = np.flatnonzero(visible & group.live & ~kept)
    count = max(len(plain), 1)
    faint = float(np.clip(60 / count, 0.25, 0.8))
    axes.add_collection(
        LineCollection([segment(j) for j in plain], colors=GREY, linewidths=0.7, alpha=faint, zorder=1)
    )
    for negative in (False, True):
        chosen = np.flatnonzero(visible & kept & ((group.mean < 0) == negative))
        widths = 0.9 + 2.6 * np.sqrt(np.abs(group.mean[chosen]) / largest)
        axes.add_collection(
            LineCollection(
                [segment(j) for j in chosen],
                colors=colour,
                linewidths=widths,
                linestyles=(0, (4, 1.6)) if negative else "solid",
                zorder=2,
            )
        )
    size = float(np.clip(2200 / tallest, 14, 150))
    small = float(np.clip(190 / tallest, 5.0, 9.5))
    for depth, width in enumerate(sizes):
        for u, (x, y) in position[depth].items():
            rim, thick = EDGE, 0.8
            if depth > 0:
                bias = np.flatnonzero(table.bias & (table.layer == depth - 1) & (table.target == u))
                if len(bias) and kept[bias[0]]:
                    rim, thick = colour, 2.4
            axes.scatter([x], [y], s=size, c=NODE, edgecolors=rim, linewidths=thick, zorder=3)
            if depth == 0:
                bold = "bold" if coloured[u] else "normal"
                tint = colour if coloured[u] else "#1c2430"
                axes.text(
                    -0.07, y, table.features[u], ha="right", va="center", fontsize=small, color=tint, weight=bold
                )
            elif depth == len(sizes) - 1:
                axes.text(x + 0.08, y, table.outputs[u], ha="left", va="center", fontsize=9.5)
        if 0 < depth < len(sizes) - 1:
            name = "hidden" if len(sizes) == 3 else f"hidden {depth}"
            axes.text(depth, -0.085, f"{name} ({width})", ha="center", va="top", fontsize=8.5, color=EDGE)
    axes.text(0, -0.085, f"inputs ({sizes[0]})", ha="center", va="top", fontsize=8.5, color=EDGE)
    axes.text(len(sizes) - 1, -0.085, "outputs", ha="center", va="top", fontsize=8.5, color=EDGE)
    if left_out:
        axes.text(
            -0.07, -0.15, f"{left_out} inputs without coloured weights not shown", ha="right", va="top", fontsize=8
        )
    axes.set_xlim(-0.15, len(sizes) - 1 + 0.15)
    axes.set_ylim(-0.16, 1.05)
    axes.axis("off")
    if title:
        axes.set_title(title, loc="left", color=colour)
    return figure
