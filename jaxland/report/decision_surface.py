"""What a network decides over the plane of its two inputs, with the data, as a picture."""

from __future__ import annotations

from typing import Literal, TypedDict

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxland.landscape.weights.surface import DecisionSurface
from jaxland.report.figures import PALETTE, canvas

SHOWN = 1500


class _Image(TypedDict):
    extent: tuple[float, float, float, float]
    origin: Literal["lower"]
    aspect: Literal["auto"]
    interpolation: str


def decision_figure(surface: DecisionSurface) -> Figure:
    """Classes (or values) in colour, the data as points."""
    data = surface.data
    figure, axes = canvas(5.6, 4.6)
    extent = (float(surface.x[0]), float(surface.x[-1]), float(surface.y[0]), float(surface.y[-1]))
    style: _Image = {"extent": extent, "origin": "lower", "aspect": "auto", "interpolation": "bilinear"}
    if data.task != "classification":
        _values(figure, axes, surface, style)
    else:
        _classes(axes, surface, style)
    axes.set_xlabel(data.features[0])
    axes.set_ylabel(data.features[1])
    return figure


def _values(figure: Figure, axes: Axes, surface: DecisionSurface, style: _Image) -> None:
    data, points, outputs = surface.data, surface.points, surface.outputs[..., 0]
    # Of counts the network gives the logarithm of the rate.
    outputs = np.exp(outputs) if data.task == "count" else outputs
    ends = {"vmin": min(outputs.min(), data.y.min()), "vmax": max(outputs.max(), data.y.max())}
    image = axes.imshow(outputs, cmap="viridis", **ends, **style)
    figure.colorbar(image, ax=axes, label=data.target)
    axes.scatter(
        points[:, 0], points[:, 1], c=data.y, s=9, cmap="viridis", edgecolors="white", linewidths=0.3, **ends
    )


def _classes(axes: Axes, surface: DecisionSurface, style: _Image) -> None:
    from matplotlib.colors import ListedColormap, to_rgb

    data, points = surface.data, surface.points
    odds = np.exp(surface.outputs - surface.outputs.max(-1, keepdims=True))
    odds /= odds.sum(-1, keepdims=True)
    tints = np.array([to_rgb(PALETTE[(1 - c) % len(PALETTE)]) for c in range(odds.shape[-1])])
    paper = odds @ tints
    axes.imshow((1 - 0.55 * (1 - paper)).clip(0, 1), **style)
    marks = ListedColormap([tuple(t) for t in tints])
    shown = np.random.default_rng(0).permutation(len(points))[:SHOWN]
    x, y = points[shown].T
    axes.scatter(
        x, y, c=data.y[shown], cmap=marks, vmin=-0.5, vmax=len(tints) - 0.5, s=9, edgecolors="white",
        linewidths=0.3,
    )  # fmt: skip
    for c, label in enumerate(data.classes):
        axes.scatter([], [], color=tints[c], s=22, label=label)
    axes.legend(title=data.target, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
