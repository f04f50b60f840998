"""What colours the lines of a disconnectivity graph: groups, numbers of the minima, or parts of the landscape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.colors import Colormap, Normalize

from jaxland.landscape.result import Landscape
from jaxland.landscape.tree import LevelCut
from jaxland.report.disconnectivity.tree import PlacedTree
from jaxland.report.figures import PALETTE

PLAIN = "#48525f"
MUTED = "#a9b1bb"
# Width of a coloured line, relative to the others.
WIDE = 1.35

Groups = Sequence[str] | Mapping[str, str]


class Label(NamedTuple):
    """A group's name beside its branch, in data coordinates."""

    x: float
    y: float
    text: str
    colour: str


@dataclass(frozen=True, eq=False)
class Paint:
    """Colour and relative width of each branch.

    Attributes:
        colours: [B] as ``#rrggbb``.
        width: [B] factors.
        labels: names of groups.
        legend: (text, colour) pairs.
        norm, cmap: of the colour bar, where numbers are shown.
    """

    colours: list[str]
    width: np.ndarray
    labels: tuple[Label, ...] = ()
    legend: tuple[tuple[str, str], ...] = ()
    norm: Normalize | None = None
    cmap: Colormap | None = None


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


def by_value(tree: PlacedTree, values: np.ndarray) -> Paint:
    """Numbers [m] of the minima; a branch has the mean of its minima, grey where none is known."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    norm, cmap = Normalize(low, high if high > low else low + 1.0), colormaps["viridis"]
    colours = []
    for branch in tree.branches:
        known = values[branch.members]
        known = known[np.isfinite(known)]
        colours.append(to_hex(cmap(norm(known.mean()))) if len(known) else MUTED)
    return Paint(colours, np.ones(len(colours)), norm=norm, cmap=cmap)


def by_group(landscape: Landscape, cut: LevelCut, tree: PlacedTree, groups: Groups | None) -> Paint:
    """Groups by name, or with colours of their own; None: the notable ones."""
    count = len(tree.branches)
    names = notable_groups(landscape, cut) if groups is None else list(groups)
    given = groups if isinstance(groups, Mapping) else {}
    colours, width = [PLAIN if not names else MUTED] * count, np.ones(count)
    labels, legend = [], []
    nodes = {name: tuple(int(part) for part in name.split("_")) for name in names}
    names = [name for name, (level, node) in nodes.items() if (cut.nodes[level - 1] == node).any()]
    sized = sorted(((name, cut.group(name)) for name in names), key=lambda pair: -len(pair[1]))
    chosen = {name: given.get(name, PALETTE[i % len(PALETTE)]) for i, name in enumerate(names)}
    for name, members in sized:
        inside = np.zeros(landscape.n_minima, bool)
        inside[members] = True
        for b, branch in enumerate(tree.branches):
            if inside[branch.members[0]] and inside[branch.members].all():
                colours[b], width[b] = chosen[name], WIDE
        level = int(name.split("_")[0])
        found = tree.branch_of(members)
        x = float(tree.x[found]) if found is not None else 0.0
        labels.append(Label(x, float(cut.energies[level - 1]), name, chosen[name]))
        legend.append((name, chosen[name]))
    return Paint(colours, width, tuple(labels), tuple(legend))


def by_part(tree: PlacedTree, parts: np.ndarray, stem: str, chosen: Mapping[int, str] | None, most: int = 8) -> Paint:
    """Parts [m] in colour (by default the largest), where all minima below a line belong to one."""
    found, sizes = np.unique(parts, return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    leading = [int(found[k]) for k in order[:most] if sizes[k] > 1]
    colour = {label: PALETTE[i % len(PALETTE)] for i, label in enumerate(leading)} if chosen is None else dict(chosen)
    colours, width = [], np.ones(len(tree.branches))
    for k, branch in enumerate(tree.branches):
        same = np.unique(parts[branch.members])
        colours.append(colour.get(int(same[0]), MUTED) if len(same) == 1 else MUTED)
        width[k] = WIDE if colours[-1] != MUTED else 1.0
    return Paint(colours, width, legend=tuple((f"{stem} {label}", c) for label, c in colour.items()))


def spread(labels: Sequence[Label], dx: float, dy: float) -> list[Label]:
    """Move labels up until no two overlap."""
    placed: list[Label] = []
    for label in sorted(labels, key=lambda entry: entry.y):
        while any(abs(label.x - other.x) < dx and abs(label.y - other.y) < dy for other in placed):
            label = label._replace(y=label.y + 0.5 * dy)
        placed.append(label)
    return placed
