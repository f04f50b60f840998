"""A dense network with the live conserved weights of a group in the group's colour, all others grey."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from jaxland.errors import ProblemError
from jaxland.landscape.weights.group import GroupConservation
from jaxland.report.figures import PALETTE, canvas

GREY = "#c3c9d1"
NODE = "#f4f6f8"
EDGE = "#5b6675"
INK = "#1c2430"


class _Diagram(NamedTuple):
    """What is drawn where.

    group: the weights; sizes: of the layers; kept: bool [N], coloured; colour: of those.
    inputs: bool [sizes[0]], whether an input has a coloured weight.
    position: per layer, (x, y) of the units that are shown.
    """

    group: GroupConservation
    sizes: tuple[int, ...]
    kept: np.ndarray
    colour: str
    inputs: np.ndarray
    position: list[dict[int, tuple[float, float]]]

    @property
    def tallest(self) -> int:
        """Most units above each other."""
        return max(map(len, self.position))

    def segment(self, j: int) -> list[tuple[float, float]]:
        """The ends of weight j."""
        table = self.group.parameters
        depth = int(table.layer[j])
        return [self.position[depth][int(table.source[j])], self.position[depth + 1][int(table.target[j])]]


def network_diagram(
    group: GroupConservation,
    *,
    marked: ArrayLike | None = None,
    colour: str = PALETTE[0],
    title: str = "",
    most_inputs: int = 40,
) -> Figure:
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
    sizes = group.parameters.sizes
    if sizes is None:
        raise ProblemError("the layers of this model are not known: only networks made by jaxland.mlp can be drawn")
    kept = group.live_conserved if marked is None else np.asarray(marked, bool)
    diagram = _placed(group, sizes, kept, colour, most_inputs)
    figure, axes = canvas(2.6 + 2.1 * (len(sizes) - 1), float(np.clip(0.21 * diagram.tallest + 0.9, 2.6, 9.5)))
    _weights(axes, diagram)
    _units(axes, diagram)
    _legends(axes, diagram)
    axes.set_xlim(-0.15, len(sizes) - 1 + 0.15)
    axes.set_ylim(-0.16, 1.05)
    axes.axis("off")
    if title:
        axes.set_title(title, loc="left", color=colour)
    return figure


def _placed(
    group: GroupConservation, sizes: tuple[int, ...], kept: np.ndarray, colour: str, most_inputs: int
) -> _Diagram:
    table = group.parameters
    first: np.ndarray = np.abs(table.matrices(group.mean)[0]).sum(1)
    inputs: np.ndarray = np.asarray(table.matrices(kept)[0].any(1))
    shown = np.sort(np.lexsort((-first, ~inputs))[:most_inputs])
    position: list[dict[int, tuple[float, float]]] = []
    for depth, width in enumerate(sizes):
        units = shown if depth == 0 else np.arange(width)
        # Layers are as tall as the tallest, but no looser than a third of it for two or three units.
        pitch = min(1.0, 1.0 / max(len(units) - 1, 1) * (1.0 if len(units) > 3 else 0.45 * len(units) / 2))
        at = 0.5 + pitch * ((len(units) - 1) / 2 - np.arange(len(units)))
        position.append({int(u): (float(depth), float(y)) for u, y in zip(units, at)})
    return _Diagram(group=group, sizes=sizes, kept=kept, colour=colour, inputs=inputs, position=position)


def _weights(axes: Axes, d: _Diagram) -> None:
    """Live weights as lines: grey, or coloured where they are kept."""
    from matplotlib.collections import LineCollection

    group, table, kept = d.group, d.group.parameters, d.kept
    weights = ~table.bias
    visible = weights & np.array(
        [table.layer[j] > 0 or int(table.source[j]) in d.position[0] for j in range(len(kept))]
    )
    largest = max(float(np.abs(group.mean[kept & weights]).max()) if (kept & weights).any() else 1.0, 1e-12)
    plain = np.flatnonzero(visible & group.live & ~kept)
    faint = float(np.clip(60 / max(len(plain), 1), 0.25, 0.8))
    axes.add_collection(
        LineCollection([d.segment(j) for j in plain.tolist()], colors=GREY, linewidths=0.7, alpha=faint, zorder=1)
    )
    for negative in (False, True):
        chosen = np.flatnonzero(visible & kept & ((group.mean < 0) == negative))
        axes.add_collection(
            LineCollection(
                [d.segment(j) for j in chosen.tolist()],
                colors=d.colour,
                linewidths=0.9 + 2.6 * np.sqrt(np.abs(group.mean[chosen]) / largest),
                linestyles=(0, (4, 1.6)) if negative else "solid",
                zorder=2,
            )
        )


def _units(axes: Axes, d: _Diagram) -> None:
    """Units as circles, inputs and outputs with their names."""
    table, last = d.group.parameters, len(d.sizes) - 1
    size = float(np.clip(2200 / d.tallest, 14, 150))
    small = float(np.clip(190 / d.tallest, 5.0, 9.5))
    for depth, units in enumerate(d.position):
        for u, (x, y) in units.items():
            rim, thick = EDGE, 0.8
            bias = np.flatnonzero(table.bias & (table.layer == depth - 1) & (table.target == u))
            if depth > 0 and len(bias) and d.kept[bias[0]]:
                rim, thick = d.colour, 2.4
            axes.scatter([x], [y], s=size, c=NODE, edgecolors=rim, linewidths=thick, zorder=3)
            if depth == 0:
                weight, tint = ("bold", d.colour) if d.inputs[u] else ("normal", INK)
                name = table.features[u]
                axes.text(-0.07, y, name, ha="right", va="center", fontsize=small, color=tint, weight=weight)
            elif depth == last:
                axes.text(x + 0.08, y, table.outputs[u], ha="left", va="center", fontsize=9.5)


def _legends(axes: Axes, d: _Diagram) -> None:
    """The name of each layer, and what is left out."""
    last = len(d.sizes) - 1
    for depth, width in enumerate(d.sizes):
        if depth == 0:
            name = f"inputs ({width})"
        elif depth == last:
            name = "outputs"
        else:
            name = f"hidden ({width})" if last == 2 else f"hidden {depth} ({width})"
        axes.text(depth, -0.085, name, ha="center", va="top", fontsize=8.5, color=EDGE)
    left_out = d.sizes[0] - len(d.position[0])
    if left_out:
        said = f"{left_out} inputs without coloured weights not shown"
        axes.text(-0.07, -0.15, said, ha="right", va="top", fontsize=8)
