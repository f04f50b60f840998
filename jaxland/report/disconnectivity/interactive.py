"""The disconnectivity graph in a page: a drawing that a small script makes zoomable, searchable and foldable."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxland.landscape.result import Landscape
from jaxland.landscape.tree import LevelCut
from jaxland.report.disconnectivity.colours import Groups, Label, spread
from jaxland.report.disconnectivity.part import PartOfTree
from jaxland.report.disconnectivity.tree import Branch
from jaxland.report.disconnectivity.view import Colouring, View, per_minimum, view
from jaxland.report.embed import themed
from jaxland.report.html import templates

# Pixels around the drawing.
LEFT, RIGHT, UPPER, LOWER = 78, 16, 24, 18
# So many branches, the largest, tell their values where no script runs.
MOST_TOLD = 1500
# With more minima than that, the lines of single ones are not made wider for the mouse.
MOST_HIT = 1500


@dataclass(frozen=True, eq=False)
class Sayings:
    """What the networks at some minima say of some rows, for the panel beside the graph.

    Attributes:
        minima: [k] indices of the minima, as in the landscape that is drawn.
        rows: what to call each row.
        truth: what is true of each row, as text; empty: not known.
        outputs: what is told of a row, by name: classes, or the one output.
        values: [k, rows, outputs].
        maps: [k, R, R] in 0..1, rows from the top: what each network decides over the plane of two inputs; or None.
        axes: names of the two inputs.
    """

    minima: np.ndarray
    rows: Sequence[str]
    truth: Sequence[str]
    outputs: Sequence[str]
    values: np.ndarray
    maps: np.ndarray | None = None
    axes: tuple[str, str] = ("", "")

    def packed(self) -> dict[str, object]:
        """For the script: numbers in thousandths, maps as one letter a cell."""
        letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"))
        maps = () if self.maps is None else letters[np.clip(np.rint(self.maps * 63), 0, 63).astype(int)]
        return {
            "of": self.minima.tolist(),
            "rows": list(self.rows),
            "truth": list(self.truth),
            "outputs": list(self.outputs),
            "values": [[[float(f"{v:.3g}") for v in row] for row in each] for each in self.values],
            "maps": ["".join(cells.ravel()) for cells in maps],
            "side": 0 if self.maps is None else self.maps.shape[-1],
            "axes": list(self.axes),
        }


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
        if not 1e-6 < step < 1e9:
            digits = 2 + max(0, math.ceil(math.log10(max(abs(t) for t in inside) / step)))
            return [(f"{float(self.y(t)):.1f}", f"{t:.{digits}g}") for t in inside]
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
    sayings: Sayings | None = None,
    energy_label: str = "loss",
    top: float | None = None,
    width: int = 980,
    height: int = 560,
    name: str = "dg",
) -> str:
    """The graph for a page: zoom, search, fold by level and by number of minima, and what a minimum predicts.

    Args:
        landscape, cut, groups, values, energy_label, top: as for ``disconnectivity_graph``.
        columns: more numbers per minimum [M] to tell and to colour by, by name.
        numbers: [M] what to call each minimum; default 0, 1, ...
        sayings: what minima predict, shown when one is chosen; ``sayings.minima`` as in ``landscape``.
        width, height: pixels of the drawing; it scales with the page.
        name: prefix of its ids, to be chosen where a page holds several.

    Returns:
        Markup with its data and script, complete in itself. Without scripts it is the drawing alone, whose lines tell
        their values in the browser's own tooltips. Of a large landscape the branches of most minima are held, and
        those of the lowest minima; the others are folded.
    """
    drawn = view(landscape, cut, Colouring(groups=groups, values=values), top)
    scale = Scale.of(drawn, width, height)
    called = (
        np.arange(landscape.n_minima) if numbers is None else per_minimum(numbers, landscape, "numbers").astype(int)
    )
    told = {k: per_minimum(v, landscape, k)[drawn.minima] for k, v in (columns or {}).items()}
    m, part = drawn.landscape.n_minima, PartOfTree.of(drawn.tree)
    placed = spread(drawn.paint.labels, 0.05 * m + 0.3, 0.035 * scale.span)
    labels = [
        {
            "x": f"{float(scale.x(label.x)) + 6:.1f}",
            "y": f"{float(scale.y(min(label.y, drawn.high - 0.03 * scale.span))) + 4:.1f}",
            "text": label.text,
            "colour": themed(label.colour),
        }
        for label in placed
    ]
    notes = list(drawn.notes)
    if part.folded.any():
        notes.append(f"{int(part.folded.sum()):,} minima folded into the groups above them")
    data = _data(drawn, part, told, called[drawn.minima])
    data["name"], data["energy"], data["notes"] = name, energy_label, "; ".join(notes)
    if sayings is not None:
        data["sayings"] = {**sayings.packed(), "of": called[sayings.minima].tolist()}
    return (
        templates()
        .get_template("disconnectivity.html.j2")
        .render(
            name=name,
            width=width,
            height=height,
            left=LEFT,
            right=RIGHT,
            alt=f"Disconnectivity graph of {int(drawn.counts.sum()):,} minima, {energy_label} upwards",
            energy_label=energy_label,
            ticks=scale.ticks(),
            lines=_lines(drawn, scale, part, told, called[drawn.minima]),
            labels=labels,
            notes="; ".join(notes),
            levels=drawn.cut.levels,
            largest=max(2, int(drawn.counts.sum())),
            columns=list(told),
            data=data,
        )
    )


def _data(drawn: View, part: PartOfTree, columns: Mapping[str, np.ndarray], numbers: np.ndarray) -> dict[str, object]:
    """What the script draws from: one list per quantity, one entry per branch that is kept."""
    land, tree, paint = drawn.landscape, drawn.tree, drawn.paint
    branches = [tree.branches[b] for b in part.kept]
    first = np.array([b.members[0] for b in branches])
    colours = sorted(set(paint.colours))
    foot = [float(tree.lines[b][-1, 1]) for b in part.kept]
    head = [float(tree.lines[b][0, 1]) for b in part.kept]

    place = {int(b): k for k, b in enumerate(part.kept)}

    def placed(label: Label) -> tuple[str, str, int, float] | None:
        """Text, colour, which branch, and at what energy."""
        b = tree.branch_of(drawn.cut.group(label.text))
        return (label.text, themed(label.colour), place[b], label.y) if b is not None and b in place else None

    def mean(values: np.ndarray, branch: Branch) -> float | None:
        known = values[branch.members]
        known = known[np.isfinite(known)]
        return float(f"{known.mean():.5g}") if len(known) else None

    return {
        "minima": land.n_minima,
        "low": drawn.low,
        "high": drawn.high,
        "levels": [float(f"{e:.7g}") for e in drawn.cut.energies],
        "parent": part.parents.tolist(),
        "count": [int(drawn.counts[b.members].sum()) for b in branches],
        "folded": part.folded.tolist(),
        "folds": {
            str(k): [
                round(float(part.fold_left[k]), 1),
                round(float(part.fold_right[k]), 1),
                float(f"{land.energies[part.fold_low[k]]:.7g}"),
            ]
            for k in np.flatnonzero(part.folded).tolist()
        },
        "x": [round(float(tree.x[b]), 1) for b in part.kept],
        "left": [round(float(v), 1) for v in part.left],
        "right": [round(float(v), 1) for v in part.right],
        "level": [b.level for b in branches],
        "last": [b.last_level for b in branches],
        "node": [int(b.name.split("_")[1]) for b in branches],
        "head": [float(f"{v:.7g}") for v in head],
        "foot": [float(f"{v:.7g}") for v in foot],
        "lowest": [float(f"{v:.8g}") for v in land.energies[first]],
        "number": numbers[first].tolist(),
        "hits": land.hits[first].astype(int).tolist(),
        "colours": [themed(c) for c in colours],
        "colour": [colours.index(paint.colours[b]) for b in part.kept],
        "wide": [int(paint.width[b] > 1) for b in part.kept],
        "labels": [entry for entry in map(placed, paint.labels) if entry is not None],
        "columns": {k: [mean(v, b) for b in branches] for k, v in columns.items()},
    }


def _lines(
    drawn: View, scale: Scale, part: PartOfTree, columns: Mapping[str, np.ndarray], numbers: np.ndarray
) -> list[Line]:
    m, tree, paint = drawn.landscape.n_minima, drawn.tree, drawn.paint
    thin = float(np.clip(2.6 - 0.6 * np.log10(max(m, 2)), 0.5, 2.0))
    largest = sorted(range(len(tree.branches)), key=lambda b: -len(tree.branches[b].members))
    telling, held = set(largest[:MOST_TOLD]), set(part.kept.tolist())
    out: list[Line] = []
    silent: dict[tuple[str, str], list[str]] = {}
    for b in drawn.order:
        branch, line = tree.branches[b], tree.lines[b]
        if b not in held or line[:, 1].min() > drawn.high + 0.02 * scale.span:
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
            f"{int(drawn.counts[branch.members].sum()):,} minima, lowest {landscape.energies[branch.members[0]]:.6g}"
            + "".join(f"\nmean {k} {np.nanmean(v[branch.members]):.4g}" for k, v in columns.items())
        )
    i = int(branch.members[0])
    told = f"minimum {numbers[i]}\n{landscape.energies[i]:.8g}\nfound {int(landscape.hits[i])} times"
    return told + "".join(f"\n{k} {float(v[i]):.4g}" for k, v in columns.items())
