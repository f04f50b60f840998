"""Small shared pieces of every figure: a style, a canvas without global state, saving."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxland.runs import whole

STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "figure.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "jaxland",
}
PALETTE = (
    "#c8322b",
    "#1f5f99",
    "#2b8a4b",
    "#d98a1f",
    "#7a4fa3",
    "#1b9aaa",
    "#b0417c",
    "#6b7a2a",
    "#8a5a3b",
    "#4a4a4a",
)


class Shown(Figure):
    """A figure that a notebook shows though it is not pyplot's."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        with rc_context(STYLE):
            self.savefig(buffer, format="png", dpi=100, bbox_inches="tight")
        return buffer.getvalue()


def canvas(width: float = 7.0, height: float = 4.2) -> tuple[Figure, Axes]:
    """A figure and its axes, not registered with pyplot: nothing to close, no backend touched."""
    figure, axes = panels(width, height)
    return figure, axes[0]


def panels(
    width: float,
    height: float,
    *,
    nrows: int = 1,
    ncols: int = 1,
    sharex: bool | Literal["col"] = False,
    widths: Sequence[float] | None = None,
    heights: Sequence[float] | None = None,
) -> tuple[Figure, list[Axes]]:
    """A figure and several axes, row by row; ``widths`` and ``heights`` are relative."""
    with rc_context(STYLE):
        figure = Shown(figsize=(width, height), layout="constrained")
        axes = figure.subplots(nrows, ncols, squeeze=False, sharex=sharex, width_ratios=widths, height_ratios=heights)
        return figure, list(axes.ravel())


def bin_edges(values: np.ndarray, count: int) -> list[float]:
    """Edges of a histogram's bins; of one bin where the values hardly differ."""
    found = np.asarray(values, float)
    found = found[np.isfinite(found)]
    low, high = (float(found.min()), float(found.max())) if found.size else (0.0, 1.0)
    if high - low > 1e3 * count * float(np.spacing(max(abs(low), abs(high)))):
        return np.linspace(low, high, count + 1).tolist()
    half = 0.5 * max(abs(low), abs(high)) or 0.5
    return [low - half, high + half]


def save(figure: Figure, stem: str | Path, kinds: tuple[str, ...] = ("png", "svg"), dpi: int = 150) -> list[Path]:
    """Write ``stem.png`` and ``stem.svg``, each whole or not at all; returns the paths.

    Raises:
        StoreError: the place cannot be written.
    """
    paths = [Path(stem).with_suffix(f".{kind}") for kind in kinds]
    with rc_context(STYLE):
        for path in paths:
            with whole(path) as file:
                figure.savefig(file, format=path.suffix[1:], dpi=dpi, bbox_inches="tight")
    return paths
