"""Paths between many trained networks: where the next one helps most, and whether the barriers have settled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.sharding import Mesh
from jaxtyping import Float

from jaxland.errors import ArgumentError
from jaxland.paths.auto_neb import Align, flat_point, minimum_energy_path
from jaxland.paths.profile import Recomputed
from jaxland.paths.relaxation import BatchOf
from jaxland.paths.result import MinimumEnergyPath
from jaxland.paths.settings import PathSettings
from jaxland.paths.state import PathProgress
from jaxland.problem.precision import in_precision
from jaxland.problem.problem import Problem, PyTree, required
from jaxland.showing import brief


class PathOptions(TypedDict, total=False):
    """Keywords of ``minimum_energy_path`` that all paths of an ensemble share."""

    test: tuple[PyTree, PyTree] | None
    align: Align
    batches: BatchOf | None
    recomputed: Recomputed | None
    mesh: Mesh | None
    checkpoint_every: float
    time_limit: float | None
    progress: Callable[[PathProgress], None] | None


@dataclass(frozen=True, eq=False)
class PathEnsemble:
    """Minima joined by paths, and how the barriers between them settle as paths are added.

    Attributes:
        pairs: minima joined, in the order tried [T, 2].
        saddles: highest energy of each path [T].
        energies: of the minima [M].
        minimax: lowest highest energy over the paths found between any two minima [M, M]; the energy itself on the
            diagonal, inf where nothing joins them yet.
        history: one row per path: highest and mean minimax energy so far, whether it lowered any.
        saturated: the last ``patience`` paths lowered none.
        paths: the paths, in the order of ``pairs``.
    """

    pairs: np.ndarray
    saddles: np.ndarray
    energies: np.ndarray
    minimax: Float[np.ndarray, "M M"]
    history: pd.DataFrame
    saturated: bool
    paths: list[MinimumEnergyPath]

    __repr__ = brief

    def to_pandas(self) -> pd.DataFrame:
        """One row per path."""
        table = pd.DataFrame({"a": self.pairs[:, 0], "b": self.pairs[:, 1], "highest": self.saddles})
        return pd.concat([table, self.history.drop(columns="path")], axis=1)

    def _repr_html_(self) -> str:
        return self.to_pandas().to_html(index=False)


@in_precision
def connect_minima(
    problem: Problem,
    minima: Sequence[PyTree],
    settings: PathSettings | None = None,
    *,
    max_paths: int | None = None,
    patience: int = 5,
    on_path: Callable[[int, int, MinimumEnergyPath], None] | None = None,
    checkpoint: str | Path | None = None,
    **options: Unpack[PathOptions],
) -> PathEnsemble:
    """Paths between many minima, always where they can lower the barriers most (Draxler et al. 2018, section 3.3).

    First a tree that joins all by shortest distances; then, again and again, the highest edge of the minimum spanning
    tree is taken out and the nearest pair not yet tried between the two parts is joined. Stops when ``patience``
    paths in a row lowered no minimax barrier, when no pair is left, or after ``max_paths``.

    Args:
        problem: the loss.
        minima: parameter sets, at least two.
        settings, options: of every ``minimum_energy_path``.
        max_paths: in all; default three times the number of minima.
        patience: see above.
        on_path: called with every path found.
        checkpoint: folder of one file per pair.
    """
    problem = required(problem, "connect_minima")
    if len(minima) < 2:
        raise ArgumentError(f"at least two minima are needed, got {len(minima)}")
    points = [flat_point(problem, w) for w in minima]
    m = len(points)
    distance = _distances(problem, points, options.get("align", True))
    most = 3 * m if max_paths is None else max_paths
    saddle = np.full((m, m), np.inf)
    pairs: list[tuple[int, int]] = []
    energies = np.array([float(problem.energy(jnp.asarray(p))) for p in points])
    paths: list[MinimumEnergyPath] = []
    history: list[dict[str, float]] = []
    known, idle = _minimax(saddle, energies), 0
    while len(pairs) < most and idle < patience:
        pair = _next_pair(saddle, distance, set(pairs))
        if pair is None:
            break
        a, b = pair
        place = None if checkpoint is None else Path(checkpoint) / f"path_{a}_{b}.npz"
        found = minimum_energy_path(problem, points[a], points[b], settings, checkpoint=place, **options)
        pairs.append(pair)
        paths.append(found)
        saddle[a, b] = saddle[b, a] = float(found.profile.energy.max())
        if on_path is not None:
            on_path(a, b, found)
        now = _minimax(saddle, energies)
        row = {"path": len(pairs), **_progress(known, now)}
        history.append(row)
        idle, known = 0 if row["lowered"] else idle + 1, now
        if found.status == "interrupted":
            break
    return PathEnsemble(
        pairs=np.array(pairs).reshape(-1, 2),
        saddles=np.array([saddle[a, b] for a, b in pairs]),
        energies=energies,
        minimax=known,
        history=pd.DataFrame(history),
        saturated=bool(np.isfinite(known).all()) and idle >= patience,
        paths=paths,
    )


def _progress(known: np.ndarray, now: np.ndarray) -> dict[str, float]:
    """Highest and mean minimax energy [M, M] between two minima, and whether any is lower than before."""
    off, finite = now[~np.eye(len(now), dtype=bool)], np.isfinite(now)
    lowered = bool((known[finite] - now[finite] > 1e-12 * np.abs(now[finite])).any())
    return {"top": off.max(), "mean": off.mean(), "lowered": lowered}


def _distances(problem: Problem, points: list[np.ndarray], align: Align) -> np.ndarray:
    """Euclidean distances [M, M], after alignment of each pair."""
    image = align if callable(align) else (problem.symmetry.align if align else (lambda b, a: b))
    distance = np.zeros((len(points), len(points)))
    for a in range(len(points)):
        for b in range(a + 1, len(points)):
            distance[a, b] = distance[b, a] = np.linalg.norm(image(points[b], points[a]) - points[a])
    return distance


def _spanning(weights: np.ndarray) -> list[tuple[float, int, int]]:
    """Edges (weight, a, b) of a minimum spanning forest of the finite entries [M, M], ascending."""
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(range(len(weights)))
    a, b = np.nonzero(np.triu(np.isfinite(weights), 1))
    graph.add_weighted_edges_from(zip(a.tolist(), b.tolist(), weights[a, b].tolist()))
    found = nx.minimum_spanning_edges(graph, algorithm="kruskal", data=True)
    return [(float(facts["weight"]), u, v) for u, v, facts in found]


def _parts(m: int, edges: list[tuple[float, int, int]]) -> np.ndarray:
    """Label [M] of the part of the forest each minimum is in."""
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(range(m))
    graph.add_weighted_edges_from((a, b, weight) for weight, a, b in edges)
    part = np.zeros(m, int)
    for k, members in enumerate(nx.connected_components(graph)):
        part[list(members)] = k
    return part


def _minimax(saddle: np.ndarray, energies: np.ndarray) -> np.ndarray:
    """See ``PathEnsemble.minimax``, from the highest energies [M, M] of single paths."""
    m = len(saddle)
    out = np.full((m, m), np.inf)
    part = np.arange(m)
    for weight, a, b in _spanning(saddle):
        left, right = np.flatnonzero(part == part[a]), np.flatnonzero(part == part[b])
        out[np.ix_(left, right)] = out[np.ix_(right, left)] = weight
        part[right] = part[a]
    np.fill_diagonal(out, energies)
    return out


def _next_pair(saddle: np.ndarray, distance: np.ndarray, tried: set[tuple[int, int]]) -> tuple[int, int] | None:
    """The nearest untried pair between parts not joined, else across the highest edge that leaves one open."""
    m = len(saddle)
    tree = _spanning(saddle)
    cuts = [_parts(m, tree)] if len(tree) < m - 1 else []
    cuts += [_parts(m, [e for e in tree if e != cut]) for cut in reversed(tree)]
    for part in cuts:
        open_ = [
            (distance[a, b], a, b)
            for a in range(m)
            for b in range(a + 1, m)
            if part[a] != part[b] and (a, b) not in tried
        ]
        if open_:
            _, a, b = min(open_)
            return a, b
    return None
