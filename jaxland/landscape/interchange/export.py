"""A landscape in the formats of other tools: GraphML for graphs, CSV for tables."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from jaxland.landscape.interchange.archive import describe_problem
from jaxland.landscape.result import Landscape
from jaxland.runs import replacing

GRAPH = "landscape.graphml"
FRAMES = ("minima.xyz", "transition_states.xyz")
TABLES = ("minima.csv", "transition_states.csv", "coordinates.csv", "ts_coordinates.csv")


def graphml(landscape: Landscape, folder: str | Path, *, force: bool = False) -> list[Path]:
    """Write ``landscape.graphml``: minima as nodes, transition states as edges, attributes typed.

    A node's ``degenerate`` lists the transition states that join a minimum with its own images, with their energies
    in ``degenerate_energies``, as text separated by blanks (GraphML has no lists). Numbers that are not known (NaN)
    are left out. Coordinates are not written.

    Raises:
        StoreError: the file is there already, or cannot be written.
    """
    import networkx as nx

    graph = landscape.to_networkx()
    component = landscape.components()
    for i, node in graph.nodes(data=True):
        own = node.pop("degenerate")
        node["component"] = int(component[i])
        if own:
            node["degenerate"] = " ".join(map(str, own))
            node["degenerate_energies"] = " ".join(repr(float(landscape.ts_energies[t])) for t in own)
        _known(node)
    for _, _, edge in graph.edges(data=True):
        _known(edge)
    graph.graph.update({"made_by": "jaxland", "landscape": landscape.describe()})
    about = describe_problem(landscape)
    if about:
        graph.graph["problem"] = about
    folder = Path(folder)
    with replacing(folder, [GRAPH], force=force) as scratch, (scratch / GRAPH).open("wb") as file:
        nx.write_graphml_xml(graph, file)
    return [folder / GRAPH]


def xyz(landscape: Landscape, folder: str | Path, *, symbols: str = "X", force: bool = False) -> list[Path]:
    """Write ``minima.xyz`` and ``transition_states.xyz``: one frame a point, with its energy.

    Raises:
        ArgumentError: the coordinates are not those of atoms in space. StoreError: the files are there already.
    """
    from jaxland.problem.atoms import write_xyz

    folder = Path(folder)
    ends = [f"transition state {t} of {a} and {b}" for t, (a, b) in enumerate(landscape.ts_ends)]
    minima = [f"minimum {m}" for m in range(landscape.n_minima)]
    parts = (
        (FRAMES[0], landscape.coordinates, landscape.energies, minima),
        (FRAMES[1], landscape.ts_coordinates, landscape.ts_energies, ends),
    )
    with replacing(folder, FRAMES, force=force) as scratch:
        for name, points, energies, names in parts:
            write_xyz(scratch / name, points, energies, symbols=symbols, names=names)
    return [folder / name for name in FRAMES]


def _known(attributes: dict[str, Any]) -> None:
    for name in [n for n, v in attributes.items() if isinstance(v, float) and not math.isfinite(v)]:
        del attributes[name]


def csv(landscape: Landscape, folder: str | Path, *, coordinates: bool = False, force: bool = False) -> list[Path]:
    """Write ``minima.csv`` and ``transition_states.csv``; numbers come back bit by bit.

    Args:
        landscape: to write.
        folder: made where it does not exist.
        coordinates: also ``coordinates.csv`` and ``ts_coordinates.csv``, a row per point and a column per coordinate.
        force: replace files of these names.

    Raises:
        StoreError: files are there already, or cannot be written.
    """
    import pandas as pd

    folder = Path(folder)
    names = TABLES if coordinates else TABLES[:2]
    frames = [landscape.to_pandas(), landscape.to_pandas("transition_states")]
    if coordinates:
        columns = [f"x{k}" for k in range(landscape.size)]
        for x, index in ((landscape.coordinates, "minimum"), (landscape.ts_coordinates, "transition_state")):
            frames.append(pd.DataFrame(np.asarray(x), columns=columns).rename_axis(index))
    with replacing(folder, names, force=force) as scratch:
        for name, frame in zip(names, frames):
            frame.to_csv(scratch / name)
    return [folder / name for name in names]
