"""The disconnectivity graph as inline SVG whose lines tell their values under the mouse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxland.landscape.result import Landscape
from jaxland.landscape.tree import LevelCut
from jaxland.report.disconnectivity.colours import Groups, spread
from jaxland.report.disconnectivity.tree import Branch
from jaxland.report.disconnectivity.view import Colouring, View, view
from jaxland.report.embed import themed
from jaxland.report.html import templates

# Pixels around the drawing.
LEFT, RIGHT, UPPER, LOWER = 78, 16, 24, 18
# So many branches, the largest, tell their values: a page stays below 2 MB with 20,000 minima.
MOST_TOLD = 4000
# With more minima than that, the lines of single ones are not made wider for the mouse.
MOST_HIT = 1500


class Line(NamedTuple):
    """One branch: its path, look, and what it tells under the mouse ("": nothing)."""

    path: str
    colour: str
    width: str
    told: str
    hit: bool


class Scale(NamedTuple):
    """From minima and energies to pixels."""

    minima: int
    low: float
    high: float
    width: int
    height: int

    @classmethod
    def of(cls, drawn: View, width: int, height: int) -> Scale:
        """That of a view."""
        return cls(drawn.landscape.n_minima, drawn.low, drawn.high, width, height)

    @property
    def span(self) -> float:
        """Energies shown."""
        return self.high - self.low

    def x(self, at: np.ndarray | float) -> np.ndarray:
        """Pixels from the left."""
        m, wide = self.minima, self.width - LEFT - RIGHT
        return LEFT + (np.asarray(at) + 0.7 + 0.02 * m) / (m + 0.4 + 0.04 * m) * wide

    def y(self, energy: np.ndarray | float) -> np.ndarray:
        """Pixels from the top."""
        tall = self.height - UPPER - LOWER
        return UPPER + (self.high + 0.02 * self.span - np.asarray(energy)) / (1.06 * self.span) * tall

    def ticks(self) -> list[tuple[str, str]]:
        """(pixels from the top, text) of the marks on the energy axis."""
        from matplotlib.ticker import MaxNLocator

        inside = [t for t in MaxNLocator(7).tick_values(self.low, self.high)
                  if self.low - 0.02 * self.span <= t <= self.high]  # fmt: skip
        step = inside[1] - inside[0] if len(inside) > 1 else 1.0
        digits = next(k for k in range(12) if abs(round(step, k) - step) < 1e-6 * step or k == 11)
        return [(f"{float(self.y(t)):.1f}", f"{t:.{digits}f}") for t in inside]


def interactive_svg(
    landscape: Landscape,
    cut: LevelCut | None = None,
    *,
    groups: Groups | None = None,
    values: ArrayLike | None = None,
    columns: Mapping[str, ArrayLike] | None = None,
    numbers: ArrayLike | None = None,
    energy_label: str = "loss",
    top: float | None = None,
    width: int = 980,
    height: int = 560,
    name: str = "dg",
) -> str:
    """The graph as inline SVG: under the mouse a line tells its minimum or group.

    Args:
        landscape, cut, groups, values, energy_label, top: as for ``disconnectivity_graph``.
        columns: more numbers per minimum [M] to tell, by name.
        numbers: [M] what to call each minimum; default 0, 1, ...
        width, height: pixels of the drawing; it scales with the page.
        name: prefix of its ids, to be chosen where a page holds several.

    Returns:
        Markup of one ``<svg>`` and a few lines of script, complete in itself. Without scripts the browser's own
        tooltips tell the same.
    """
    drawn = view(landscape, cut, Colouring(groups=groups, values=values), top)
    scale = Scale.of(drawn, width, height)
    called = np.arange(landscape.n_minima) if numbers is None else np.asarray(numbers)
    told = {k: np.asarray(v, float)[drawn.minima] for k, v in (columns or {}).items()}
    m = drawn.landscape.n_minima
    labels = [
        {
            "x": f"{float(scale.x(label.x)) + 6:.1f}",
            "y": f"{float(scale.y(min(label.y, drawn.high - 0.03 * scale.span))) + 4:.1f}",
            "text": label.text,
            "colour": themed(label.colour),
        }
        for label in spread(drawn.paint.labels, 0.05 * m + 0.3, 0.035 * scale.span)
    ]
    markup = (
        templates()
        .get_template("disconnectivity.svg.j2")
        .render(
            width=width,
            height=height,
            left=LEFT,
            right=RIGHT,
            clip=f"{name}-clip",
            alt=f"Disconnectivity graph of {m} minima",
            energy_label=energy_label,
            ticks=scale.ticks(),
            lines=_lines(drawn, scale, told, called[drawn.minima]),
            labels=labels,
            notes="; ".join(drawn.notes),
        )
    )
    return f"{markup}<script>{templates().get_template('tooltip.js').render()}</script>"


def _lines(drawn: View, scale: Scale, columns: Mapping[str, np.ndarray], numbers: np.ndarray) -> list[Line]:
    m, tree, paint = drawn.landscape.n_minima, drawn.tree, drawn.paint
    thin = float(np.clip(2.6 - 0.6 * np.log10(max(m, 2)), 0.5, 2.0))
    largest = sorted(range(len(tree.branches)), key=lambda b: -len(tree.branches[b].members))
    telling = set(largest[:MOST_TOLD])
    out: list[Line] = []
    silent: dict[tuple[str, str], list[str]] = {}
    for b in drawn.order:
        branch, line = tree.branches[b], tree.lines[b]
        if line[:, 1].min() > drawn.high + 0.02 * scale.span:
            continue
        xs, ys = scale.x(line[:, 0]), np.maximum(scale.y(line[:, 1]), -50)
        path = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys))
        look = themed(paint.colours[b]), f"{thin * paint.width[b]:.2f}"
        if b in telling:
            hit = m <= MOST_HIT or len(branch.members) > 1
            out.append(Line(path, *look, _told(drawn, branch, columns, numbers), hit))
        else:
            silent.setdefault(look, []).append(path)
    return [Line("".join(paths), *look, "", False) for look, paths in silent.items()] + out


def _told(drawn: View, branch: Branch, columns: Mapping[str, np.ndarray], numbers: np.ndarray) -> str:
    landscape = drawn.landscape
    if len(branch.members) > 1:
        first, last = branch.level, branch.last_level
        levels = f"level {first}" if first == last else f"levels {first}–{last}"
        return (
            f"group {branch.name}\n{levels}, up to {drawn.cut.energies[first - 1]:.6g}\n"
            f"{len(branch.members)} minima, lowest {landscape.energies[branch.members[0]]:.6g}"
            + "".join(f"\nmean {k} {np.nanmean(v[branch.members]):.4g}" for k, v in columns.items())
        )
    i = int(branch.members[0])
    told = f"minimum {numbers[i]}\n{landscape.energies[i]:.8g}\nfound {int(landscape.hits[i])} times"
    return told + "".join(f"\n{k} {float(v[i]):.4g}" for k, v in columns.items())
