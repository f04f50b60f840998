"""The disconnectivity graph as a matplotlib figure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from jaxland.landscape.result import Landscape
from jaxland.landscape.tree import LevelCut
from jaxland.report.disconnectivity.colours import Groups, Paint, spread
from jaxland.report.disconnectivity.view import Colouring, View, view
from jaxland.report.figures import canvas


def disconnectivity_graph(
    landscape: Landscape,
    cut: LevelCut | None = None,
    *,
    groups: Groups | None = None,
    values: ArrayLike | None = None,
    value_label: str = "",
    monotonic: bool = False,
    partition: ArrayLike | None = None,
    partition_label: str = "funnel of minimum",
    partition_colours: Mapping[int, str] | None = None,
    energy_label: str = "loss",
    title: str = "",
    top: float | None = None,
    width: float = 7.4,
    height: float = 5.2,
) -> Figure:
    """Disconnectivity graph as a matplotlib Figure.

    Args:
        landscape, cut: default cut ``level_cut(landscape)``.
        groups: names (``level_node``) of groups to colour and label, or a mapping to colours; default: the largest
            ones of the level that shows most structure; an empty list for none.
        values: [M] one number per minimum (test accuracy, say): colours instead of groups, with a colour bar. A
            branch has the mean of its minima.
        value_label: of the colour bar.
        monotonic: colour by monotonic-sequence basin instead. For the graph of their bottoms alone draw
            ``tree.skeleton(landscape, np.unique(monotonic_basins(landscape)))``.
        partition: int [M] colour by these parts instead, such as the bottoms of ``funnels``
            (``found.bottoms[found.of]``); the largest, or those in ``partition_colours``, are named in a legend, as
            ``partition_label`` and their number.
        energy_label, title: texts.
        top: upper end of the energy axis; by default high lone branchings are cut off, and the figure says so.
        width, height: inches.
    """
    colouring = Colouring(
        groups=groups,
        values=values,
        monotonic=monotonic,
        partition=partition,
        partition_label=partition_label,
        partition_colours=partition_colours,
    )
    drawn = view(landscape, cut, colouring, top)
    figure, axes = canvas(width, height)
    _lines(axes, drawn)
    axes.set_ylabel(energy_label)
    if title:
        axes.set_title(title, loc="left")
    _labels(axes, drawn)
    if drawn.notes:
        axes.text(
            0.995, 1.0, "; ".join(drawn.notes), transform=axes.transAxes, ha="right", va="bottom", fontsize=8,
            color="#5b6675",
        )  # fmt: skip
    _key(figure, axes, drawn.paint, value_label)
    return figure


def _lines(axes: Axes, drawn: View) -> None:
    from matplotlib.collections import LineCollection

    m, order, span = drawn.landscape.n_minima, drawn.order, drawn.high - drawn.low
    thin = float(np.clip(2.2 - 0.55 * np.log10(max(m, 2)), 0.35, 1.6))
    axes.add_collection(
        LineCollection(
            [drawn.tree.lines[b] for b in order],
            colors=[drawn.paint.colours[b] for b in order],
            linewidths=[thin * drawn.paint.width[b] for b in order],
            capstyle="round",
            joinstyle="round",
        )
    )
    axes.set_xlim(-0.03 * m - 0.7, m - 1 + 0.03 * m + 0.7)
    axes.set_ylim(drawn.low - 0.04 * span, drawn.high + 0.02 * span)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)


def _labels(axes: Axes, drawn: View) -> None:
    m, span = drawn.landscape.n_minima, drawn.high - drawn.low
    for label in spread(drawn.paint.labels, 0.055 * m + 0.3, 0.035 * span):
        axes.annotate(
            label.text,
            (label.x, min(label.y, drawn.high - 0.03 * span)),
            xytext=(5, 0),
            textcoords="offset points",
            color=label.colour,
            fontsize=9,
            fontweight="bold",
            va="center",
            bbox={"boxstyle": "round,pad=0.12", "fc": "white", "ec": "none", "alpha": 0.85},
            annotation_clip=False,
        )


def _key(figure: Figure, axes: Axes, paint: Paint, value_label: str) -> None:
    """A colour bar for numbers, a legend for parts; groups are labelled where they are."""
    if paint.norm is not None:
        from matplotlib.cm import ScalarMappable

        bar = figure.colorbar(ScalarMappable(paint.norm, paint.cmap), ax=axes, pad=0.015, fraction=0.04)
        bar.set_label(value_label)
        bar.outline.set_visible(False)
    elif paint.legend and not paint.labels:
        from matplotlib.lines import Line2D

        handles = [Line2D([], [], color=c, lw=2, label=t) for t, c in paint.legend]
        axes.legend(handles=handles, frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
