"""Disconnectivity graphs: energy upwards, each minimum a line ending at its energy, groups meeting at level energies.

``layout`` places the tree without crossings; ``disconnectivity_graph`` draws it with matplotlib, ``interactive_svg``
as inline SVG whose lines tell their values under the mouse. (Becker & Karplus 1997; Wales, Miller & Walsh 1998.)
"""

from __future__ import annotations

import html
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxland.errors import ArgumentError
from jaxland.landscape.result import Landscape
from jaxland.landscape.tree import LevelCut, level_cut, merge_tree, monotonic_basins
from jaxland.report.figures import PALETTE, canvas

PLAIN = "#48525f"
MUTED = "#a9b1bb"


@dataclass(frozen=True, eq=False)
class Branch:
    """A group over the levels where its members stay the same; a single minimum is a branch down to its energy.

    Attributes:
        members: ascending indices.
        level, last_level: first and last level of the run.
        parent: index of the branch above, -1 for a root.
        name: ``level_node`` at the first level.
    """

    members: np.ndarray
    level: int
    last_level: int
    parent: int
    name: str


@dataclass(frozen=True, eq=False)
class TreeLayout:
    """Where everything is drawn.

    Attributes:
        branches: parents before children.
        x: [B] horizontal position of each branch: the mean of its minima, which stand one apart.
        lines: [B] polyline [k, 2] of each branch, from the parent's point down.
    """

    branches: tuple[Branch, ...]
    x: np.ndarray
    lines: tuple[np.ndarray, ...]

    def branch_of(self, members: np.ndarray) -> int | None:
        """The branch with exactly these members."""
        for b, branch in enumerate(self.branches):
            if len(branch.members) == len(members) and np.array_equal(branch.members, members):
                return b
        return None


def layout(landscape: Landscape, cut: LevelCut) -> TreeLayout:
    """Place the tree of a level cut: the largest child of a branch in the middle, the others at alternating sides."""
    nodes = cut.nodes
    branches: list[Branch] = []
    children: list[list[int]] = []
    roots: list[int] = []

    def split(members: np.ndarray, row: int) -> list[np.ndarray]:
        """Groups of these minima at level index ``row``."""
        ids = nodes[row, members]
        if len(members) == 1 or (ids == ids[0]).all():
            return [members]
        order = np.argsort(ids, kind="stable")
        return [members[part] for part in np.split(order, np.flatnonzero(np.diff(ids[order])) + 1)]

    todo: deque[tuple[np.ndarray, int, int]] = deque()
    listed = nodes.max(0) > 0
    labels = landscape.components()
    for label in range(labels.max() + 1):
        todo.append((np.flatnonzero(labels == label), 0, -1))
    while todo:
        members, row, parent = todo.popleft()
        parts = split(members, row)
        if len(parts) > 1:
            todo.extend((part, row, parent) for part in parts)
            continue
        last = row
        if len(members) > 1:
            while last + 1 < cut.levels and len(split(members, last + 1)) == 1:
                last += 1
        else:
            last = max(row, int(np.flatnonzero(nodes[:, members[0]])[-1])) if listed[members[0]] else row
        name = f"{row + 1}_{nodes[row, members[0]]}"
        index = len(branches)
        branches.append(Branch(np.sort(members), row + 1, last + 1, parent, name))
        children.append([])
        (children[parent] if parent >= 0 else roots).append(index)
        if len(members) > 1 and last + 1 < cut.levels:
            todo.extend((part, last + 1, index) for part in split(members, last + 1))
    x_leaf = np.zeros(landscape.n_minima)
    position = 0
    stack = [("root", r) for r in reversed(_arranged(roots, branches, 0))]
    while stack:
        _, b = stack.pop()
        if not children[b]:
            members = branches[b].members
            x_leaf[members] = position + np.arange(len(members))
            position += len(members)
        else:
            depth = branches[b].last_level
            stack.extend(("child", c) for c in reversed(_arranged(children[b], branches, depth)))
    x = np.array([x_leaf[branch.members].mean() for branch in branches])
    lines = []
    for b, branch in enumerate(branches):
        top = cut.energies[branch.level - 1]
        points = []
        if branch.parent >= 0:
            above = branches[branch.parent]
            points.append((x[branch.parent], cut.energies[above.last_level - 1]))
        else:
            points.append((x[b], max(top, landscape.energies[branch.members].max()) + 0.6 * cut.delta))
        if len(branch.members) == 1:
            end = float(landscape.energies[branch.members[0]])
            points += [(x[b], max(top, end)), (x[b], end)]
        else:
            points += [(x[b], top), (x[b], cut.energies[branch.last_level - 1])]
            if not children[b]:
                # Joined at the lowest level there is: a comb of short lines.
                points.append((x[b], float(landscape.energies[branch.members[0]])))
        lines.append(np.array(points, float))
    return TreeLayout(tuple(branches), x, tuple(lines))


def _arranged(siblings: list[int], branches: list[Branch], depth: int) -> list[int]:
    """Largest in the middle, the next ones at the lighter side; ties go left and right by turns down the tree."""
    order = sorted(siblings, key=lambda b: (-len(branches[b].members), branches[b].members[0]))
    out: deque[int] = deque(order[:1])
    weight = {"left": 0, "right": 0}
    for b in order[1:]:
        left, right = weight["left"], weight["right"]
        side = "left" if left < right or (left == right and depth % 2) else "right"
        weight[side] += len(branches[b].members)
        (out.appendleft if side == "left" else out.append)(b)
    return list(out)


@dataclass(frozen=True, eq=False)
class _Drawn:
    """The part of a landscape that is drawn: pieces of some size, not hundreds of lone lines."""

    landscape: Landscape
    cut: LevelCut
    minima: np.ndarray
    left_out: str


def _drawn(landscape: Landscape, cut: LevelCut) -> _Drawn:
    labels = landscape.components()
    sizes = np.bincount(labels)
    large = sizes >= max(2, 0.02 * landscape.n_minima)
    large[0] = True
    if sizes[large].sum() < 5:
        large = sizes >= 2
        large[0] = True
    if sizes[large].sum() < 2 or large.all():
        return _Drawn(landscape, cut, np.arange(landscape.n_minima), "")
    kept = np.flatnonzero(large[labels])
    lost, pieces = landscape.n_minima - len(kept), int((~large).sum())
    note = f"{lost} minima in {pieces} unconnected piece{'s' if pieces != 1 else ''} not drawn"
    return _Drawn(landscape.restricted(kept), replace(cut, nodes=cut.nodes[:, kept]), kept, note)


def notable_groups(landscape: Landscape, cut: LevelCut, most: int = 6) -> list[str]:
    """Groups worth a colour: of the level with most groups that hold at least 3 % of the minima (and 3 of them)."""
    floor = max(3, 0.03 * landscape.n_minima)
    best: tuple[int, int] = (0, 0)
    names: list[str] = []
    for level in range(1, cut.levels + 1):
        large = {name: g for name, g in cut.groups(level).items() if len(g) >= floor}
        score = (min(len(large), most), sum(len(g) for g in large.values()))
        if len(large) > 1 and score > best:
            best, names = score, sorted(large, key=lambda name: -len(large[name]))[:most]
    return names


def visible_top(landscape: Landscape, cut: LevelCut) -> float:
    """Top of the energy axis: all, unless a few high branchings would squeeze the others into the lower half."""
    meets = merge_tree(landscape.energies, landscape.ts_energies, landscape.ts_ends).energies
    lowest, full = float(landscape.energies[0]), float(cut.energies[0])
    if len(meets) < 20:
        return full
    bulk = float(max(np.quantile(meets, 0.97), np.quantile(landscape.energies, 0.97)))
    bulk += 0.1 * (bulk - lowest) + cut.delta
    return bulk if bulk - lowest < 0.5 * (full - lowest) else full


@dataclass(frozen=True, eq=False)
class _Paint:
    """Colour and line width factor of each branch, legend entries and labels."""

    colours: list[str]
    width: np.ndarray
    labels: list[tuple[float, float, str, str]]
    legend: list[tuple[str, str]]
    norm: Any = None
    cmap: Any = None


def _checked(values: Any, landscape: Landscape, name: str = "values") -> np.ndarray:
    values = np.asarray(values, float)
    if values.shape != (landscape.n_minima,):
        raise ArgumentError(f"{name} must have one number per minimum ({landscape.n_minima}), got {values.shape}")
    return values


def _paint(
    landscape: Landscape,
    cut: LevelCut,
    tree: TreeLayout,
    groups: Sequence[str] | Mapping[str, str] | None,
    values: Any,
) -> _Paint:
    count = len(tree.branches)
    if values is not None:
        from matplotlib import colormaps
        from matplotlib.colors import Normalize, to_hex

        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        norm, cmap = Normalize(low, high if high > low else low + 1.0), colormaps["viridis"]
        colours = []
        for branch in tree.branches:
            known = values[branch.members]
            known = known[np.isfinite(known)]
            colours.append(to_hex(cmap(norm(known.mean()))) if len(known) else MUTED)
        return _Paint(colours, np.ones(count), [], [], norm, cmap)
    names = notable_groups(landscape, cut) if groups is None else list(groups)
    given = groups if isinstance(groups, Mapping) else {}
    colours, width = [PLAIN if not names else MUTED] * count, np.ones(count)
    labels, legend = [], []
    nodes = {name: tuple(int(part) for part in name.split("_")) for name in names}
    names = [name for name, (level, node) in nodes.items() if (cut.nodes[level - 1] == node).any()]
    sized = sorted(((name, cut.group(name)) for name in names), key=lambda pair: -len(pair[1]))
    chosen = {name: given.get(name, PALETTE[i % len(PALETTE)]) for i, name in enumerate(names)}
    for name, members in sized:
        inside = set(members.tolist())
        for b, branch in enumerate(tree.branches):
            if int(branch.members[0]) in inside and inside.issuperset(branch.members.tolist()):
                colours[b], width[b] = chosen[name], 1.35
        level = int(name.split("_")[0])
        found = tree.branch_of(members)
        x = float(tree.x[found]) if found is not None else 0.0
        labels.append((x, float(cut.energies[level - 1]), name, chosen[name]))
        legend.append((name, chosen[name]))
    return _Paint(colours, width, labels, legend)


def _partition(
    labels: np.ndarray, stem: str, tree: TreeLayout, chosen: Mapping[int, str] | None, most: int = 8
) -> _Paint:
    """Parts in colour (by default the largest), where all minima below a line belong to one."""
    found, sizes = np.unique(labels, return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    leading = [int(found[k]) for k in order[:most] if sizes[k] > 1]
    colour = {label: PALETTE[i % len(PALETTE)] for i, label in enumerate(leading)} if chosen is None else dict(chosen)
    colours, width = [], np.ones(len(tree.branches))
    for k, branch in enumerate(tree.branches):
        same = np.unique(labels[branch.members])
        colours.append(colour.get(int(same[0]), MUTED) if len(same) == 1 else MUTED)
        width[k] = 1.35 if colours[-1] != MUTED else 1.0
    return _Paint(colours, width, [], [(f"{stem} {label}", c) for label, c in colour.items()])


def disconnectivity_graph(
    landscape: Landscape,
    cut: LevelCut | None = None,
    *,
    groups: Sequence[str] | Mapping[str, str] | None = None,
    values: Any = None,
    value_label: str = "",
    monotonic: bool = False,
    partition: Any = None,
    partition_label: str = "funnel of minimum",
    partition_colours: Mapping[int, str] | None = None,
    energy_label: str = "loss",
    title: str = "",
    top: float | None = None,
    width: float = 7.4,
    height: float = 5.2,
) -> Any:
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
    from matplotlib.collections import LineCollection

    cut = level_cut(landscape) if cut is None else cut
    values = None if values is None else _checked(values, landscape)
    for name in groups or ():
        cut.group(name)
    if sum((bool(groups), values is not None, monotonic, partition is not None)) > 1:
        raise ArgumentError("colour by one of groups, values, monotonic and partition, not by several")
    if monotonic:
        partition, partition_label = monotonic_basins(landscape), "basin of minimum"
    partition = None if partition is None else _checked(partition, landscape, "partition").astype(int)
    drawn = _drawn(landscape, cut)
    landscape, cut = drawn.landscape, drawn.cut
    values = None if values is None else values[drawn.minima]
    tree = layout(landscape, cut)
    if partition is not None:
        paint = _partition(partition[drawn.minima], partition_label, tree, partition_colours)
    else:
        paint = _paint(landscape, cut, tree, groups, values)
    figure, axes = canvas(width, height)
    m = landscape.n_minima
    thin = float(np.clip(2.2 - 0.55 * np.log10(max(m, 2)), 0.35, 1.6))
    # Coloured groups last, so that nothing hides them.
    order = sorted(range(len(tree.lines)), key=lambda b: paint.width[b])
    axes.add_collection(
        LineCollection(
            [tree.lines[b] for b in order],
            colors=[paint.colours[b] for b in order],
            linewidths=[thin * paint.width[b] for b in order],
            capstyle="round",
            joinstyle="round",
        )
    )
    lowest, full = float(landscape.energies[0]), float(max(cut.energies[0], landscape.energies[-1])) + 0.6 * cut.delta
    high = visible_top(landscape, cut) if top is None else float(top)
    high = max(high, lowest + cut.delta) if high < full - cut.delta else full
    span = high - lowest
    axes.set_xlim(-0.03 * m - 0.7, m - 1 + 0.03 * m + 0.7)
    axes.set_ylim(lowest - 0.04 * span, high + 0.02 * span)
    axes.set_ylabel(energy_label)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    if title:
        axes.set_title(title, loc="left")
    for x, y, name, colour in _spread(paint.labels, 0.055 * m + 0.3, 0.035 * span):
        axes.annotate(
            name,
            (x, min(y, high - 0.03 * span)),
            xytext=(5, 0),
            textcoords="offset points",
            color=colour,
            fontsize=9,
            fontweight="bold",
            va="center",
            bbox={"boxstyle": "round,pad=0.12", "fc": "white", "ec": "none", "alpha": 0.85},
            annotation_clip=False,
        )
    notes = [drawn.left_out] if drawn.left_out else []
    if high < full - cut.delta:
        notes.append(_above(cut, tree, high, full))
    if notes:
        style: dict[str, Any] = {"ha": "right", "va": "bottom", "fontsize": 8, "color": "#5b6675"}
        axes.text(0.995, 1.0, "; ".join(notes), transform=axes.transAxes, **style)
    if paint.norm is not None:
        from matplotlib.cm import ScalarMappable

        bar = figure.colorbar(ScalarMappable(paint.norm, paint.cmap), ax=axes, pad=0.015, fraction=0.04)
        bar.set_label(value_label)
        bar.outline.set_visible(False)
    elif partition is not None and paint.legend:
        from matplotlib.lines import Line2D

        handles = [Line2D([], [], color=c, lw=2, label=t) for t, c in paint.legend]
        axes.legend(handles=handles, frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _spread(labels: list[tuple[float, float, str, str]], dx: float, dy: float) -> list[tuple[float, float, str, str]]:
    """Move labels up until no two overlap."""
    placed: list[tuple[float, float, str, str]] = []
    for x, y, name, colour in sorted(labels, key=lambda entry: entry[1]):
        while any(abs(x - a) < dx and abs(y - b) < dy for a, b, _, _ in placed):
            y += 0.5 * dy
        placed.append((x, y, name, colour))
    return placed


def interactive_svg(
    landscape: Landscape,
    cut: LevelCut | None = None,
    *,
    groups: Sequence[str] | Mapping[str, str] | None = None,
    values: Any = None,
    columns: Mapping[str, Any] | None = None,
    numbers: Any = None,
    energy_label: str = "loss",
    top: float | None = None,
    width: int = 980,
    height: int = 560,
) -> str:
    """The graph as inline SVG: under the mouse a line tells its minimum or group.

    Args:
        landscape, cut, groups, values, energy_label, top: as for ``disconnectivity_graph``.
        columns: more numbers per minimum [M] to tell, by name.
        numbers: [M] what to call each minimum; default 0, 1, ...
        width, height: pixels of the drawing; it scales with the page.

    Returns:
        Markup of one ``<svg>`` and a few lines of script, complete in itself. Without scripts the browser's own
        tooltips tell the same.
    """
    from matplotlib.ticker import MaxNLocator

    cut = level_cut(landscape) if cut is None else cut
    values = None if values is None else _checked(values, landscape)
    for name in groups or ():
        cut.group(name)
    numbers = np.arange(landscape.n_minima) if numbers is None else np.asarray(numbers)
    drawn = _drawn(landscape, cut)
    landscape, cut, numbers = drawn.landscape, drawn.cut, numbers[drawn.minima]
    values = None if values is None else values[drawn.minima]
    columns = {k: np.asarray(v)[drawn.minima] for k, v in (columns or {}).items()}
    tree = layout(landscape, cut)
    paint = _paint(landscape, cut, tree, groups, values)
    m = landscape.n_minima
    lowest, full = float(landscape.energies[0]), float(max(cut.energies[0], landscape.energies[-1])) + 0.6 * cut.delta
    high = visible_top(landscape, cut) if top is None else float(top)
    high = max(high, lowest + cut.delta) if high < full - cut.delta else full
    span = high - lowest
    left, right, upper, lower = 78, 16, 24, 18

    def px(x: Any) -> Any:
        return left + (np.asarray(x) + 0.7 + 0.02 * m) / (m + 0.4 + 0.04 * m) * (width - left - right)

    def py(y: Any) -> Any:
        return upper + (high + 0.02 * span - np.asarray(y)) / (1.06 * span) * (height - upper - lower)

    out = [
        f'<svg class="disconnectivity" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'xmlns="http://www.w3.org/2000/svg" font-family="system-ui,sans-serif" font-size="12" role="img" '
        f'aria-label="Disconnectivity graph of {m} minima">',
        f'<defs><clipPath id="dg-clip"><rect x="0" y="0" width="{width}" height="{height}"/></clipPath></defs>',
        "<style>.disconnectivity .hit{stroke:transparent;stroke-width:9;fill:none;pointer-events:stroke}"
        ".disconnectivity path{stroke-linejoin:round;stroke-linecap:round}"
        ".disconnectivity g.b:hover .line{stroke:#111;stroke-width:3}</style>",
    ]
    ticks = [t for t in MaxNLocator(7).tick_values(lowest, high) if lowest - 0.02 * span <= t <= high]
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    digits = next(k for k in range(12) if abs(round(step, k) - step) < 1e-6 * step or k == 11)
    for t in ticks:
        y = float(py(t))
        out.append(
            f'<line x1="{left - 6}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#edf0f3"/>'
            f'<text x="{left - 10}" y="{y + 4:.1f}" text-anchor="end" fill="#5b6675">{t:.{digits}f}</text>'
        )
    out.append(
        f'<text transform="translate(16,{height / 2:.0f}) rotate(-90)" text-anchor="middle" fill="#1c2430">'
        f"{html.escape(energy_label)}</text>"
    )
    thin = float(np.clip(2.6 - 0.6 * np.log10(max(m, 2)), 0.5, 2.0))
    order = sorted(range(len(tree.lines)), key=lambda b: paint.width[b])
    out.append('<g clip-path="url(#dg-clip)">')
    hit_leaves = m <= 1500
    for b in order:
        branch, line = tree.branches[b], tree.lines[b].copy()
        if line[:, 1].min() > high + 0.02 * span:
            continue
        xs, ys = px(line[:, 0]), np.maximum(py(line[:, 1]), -50)
        path = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys))
        title = html.escape(_told(landscape, cut, branch, columns, numbers))
        hit = f'<path class="hit" d="{path}"/>' if hit_leaves or len(branch.members) > 1 else ""
        stroke = f'stroke="{paint.colours[b]}" stroke-width="{thin * paint.width[b]:.2f}"'
        out.append(
            f'<g class="b"><title>{title}</title><path class="line" d="{path}" fill="none" {stroke}/>{hit}</g>'
        )
    out.append("</g>")
    for x, y, name, colour in _spread(paint.labels, 0.05 * m + 0.3, 0.035 * span):
        ylab = float(py(min(y, high - 0.03 * span)))
        out.append(
            f'<text x="{float(px(x)) + 6:.1f}" y="{ylab + 4:.1f}" fill="{colour}" font-weight="700" stroke="#fff" '
            f'stroke-width="4" paint-order="stroke" pointer-events="none">{name}</text>'
        )
    notes = [drawn.left_out] if drawn.left_out else []
    if high < full - cut.delta:
        notes.append(_above(cut, tree, high, full))
    if notes:
        out.append(
            f'<text x="{width - right}" y="12" text-anchor="end" fill="#5b6675" font-size="11">'
            f"{'; '.join(notes)}</text>"
        )
    out.append("</svg>")
    return "".join(out) + _TOOLTIP


def _above(cut: LevelCut, tree: TreeLayout, high: float, full: float) -> str:
    count = sum(1 for b in tree.branches if len(b.members) > 1 and cut.energies[b.last_level - 1] > high)
    return f"{count} branching{'s' if count != 1 else ''} up to {full:.3g} lie{'s' if count == 1 else ''} above"


def _told(landscape: Landscape, cut: LevelCut, branch: Branch, columns: Mapping[str, Any], numbers: Any) -> str:
    if len(branch.members) > 1:
        first, last = branch.level, branch.last_level
        span = f"level {first}" if first == last else f"levels {first}–{last}"
        return (
            f"group {branch.name}\n{span}, up to {cut.energies[first - 1]:.6g}\n{len(branch.members)} minima, lowest "
            f"{landscape.energies[branch.members[0]]:.6g}"
            + "".join(f"\nmean {k} {np.nanmean(np.asarray(v)[branch.members]):.4g}" for k, v in columns.items())
        )
    i = int(branch.members[0])
    told = f"minimum {numbers[i]}\n{landscape.energies[i]:.8g}\nfound {int(landscape.hits[i])} times"
    return told + "".join(f"\n{k} {float(np.asarray(v)[i]):.4g}" for k, v in columns.items())


_TOOLTIP = """<script>(function(){if(window.__dg)return;window.__dg=1;
var d=document.createElement('div');d.style.cssText='position:fixed;z-index:9;pointer-events:none;display:none;'+
'background:#1c2430;color:#fff;font:12px/1.4 system-ui,sans-serif;padding:6px 9px;border-radius:6px;white-space:pre';
document.body.appendChild(d);
document.addEventListener('mousemove',function(e){var g=e.target.closest&&e.target.closest('svg.disconnectivity g.b');
if(!g){d.style.display='none';return}
if(!g.t){var t=g.querySelector('title');g.t=t.textContent;t.remove()}
d.textContent=g.t;d.style.display='block';
var x=e.clientX+14,y=e.clientY+14;
if(x+d.offsetWidth>innerWidth)x=e.clientX-d.offsetWidth-10;
if(y+d.offsetHeight>innerHeight)y=e.clientY-d.offsetHeight-10;
d.style.left=x+'px';d.style.top=y+'px'})})();</script>"""
