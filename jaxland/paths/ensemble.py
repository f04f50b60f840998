"""Paths between many trained networks: where the next one helps most, and whether the barriers have settled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxland.errors import ArgumentError
from jaxland.paths.auto_neb import MinimumEnergyPath, PathSettings, flat_point, minimum_energy_path
from jaxland.problem.problem import Problem


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

    def to_pandas(self) -> pd.DataFrame:
        """One row per path."""
        table = pd.DataFrame({"a": self.pairs[:, 0], "b": self.pairs[:, 1], "highest": self.saddles})
        return pd.concat([table, self.history.drop(columns="path")], axis=1)

    def _repr_html_(self) -> str:
        return self.to_pandas().to_html(index=False)


def connect_minima(
    problem: Problem,
    minima: Sequence[Any],
    settings: PathSettings | None = None,
    *,
    max_paths: int | None = None,
    patience: int = 5,
    on_path: Callable[[int, int, MinimumEnergyPath], None] | None = None,
    **options: Any,
) -> PathEnsemble:
    """Paths between many minima, always where they can lower the barriers most (Draxler et al. 2018, section 3.3).

    First a tree that joins all by shortest distances; then, again and again, the highest edge of the minimum spanning
    tree is taken out and the nearest pair not yet tried between the two parts is joined. Stops when ``patience``
    paths in a row lowered no minimax barrier, when no pair is left, or after ``max_paths``.

    Args:
        problem: the loss.
        minima: parameter sets, at least two.
        settings, options: of every ``minimum_energy_path``; a ``checkpoint`` is a folder here, one file per pair.
        max_paths: in all; default three times the number of minima.
        patience: see above.
        on_path: called with every path found.
    """
    if len(minima) < 2:
        raise ArgumentError(f"at least two minima are needed, got {len(minima)}")
    points = [flat_point(problem, w) for w in minima]
    m = len(points)
    align = options.get("align", True)
    image = align if callable(align) else (problem.symmetry.align if align else (lambda b, a: b))
    distance = np.zeros((m, m))
    for a in range(m):
        for b in range(a + 1, m):
            distance[a, b] = distance[b, a] = np.linalg.norm(image(points[b], points[a]) - points[a])
    most = 3 * m if max_paths is None else max_paths
    folder = options.pop("checkpoint", None)
    saddle = np.full((m, m), np.inf)
    pairs: list[tuple[int, int]] = []
    energies = np.array([float(problem.energy(jnp.asarray(p))) for p in points])
    paths: list[MinimumEnergyPath] = []
    history: list[dict[str, Any]] = []
    known, idle = _minimax(saddle, energies), 0
    while len(pairs) < most and idle < patience:
        pair = _next_pair(saddle, distance, set(pairs))
        if pair is None:
            break
        a, b = pair
        place = None if folder is None else Path(folder) / f"path_{a}_{b}.npz"
        found = minimum_energy_path(problem, points[a], points[b], settings, checkpoint=place, **options)
        pairs.append(pair)
        paths.append(found)
        saddle[a, b] = saddle[b, a] = float(found.profile.energy.max())
        if on_path is not None:
            on_path(a, b, found)
        now = _minimax(saddle, energies)
        off = ~np.eye(m, dtype=bool)
        finite = np.isfinite(now)
        lowered = bool((known[finite] - now[finite] > 1e-12 * np.abs(now[finite])).any())
        idle = 0 if lowered else idle + 1
        known = now
        history.append({"path": len(pairs), "top": now[off].max(), "mean": now[off].mean(), "lowered": lowered})
        if found.status == "interrupted":
            break
    joined = bool(np.isfinite(known).all())
    return PathEnsemble(
        np.array(pairs).reshape(-1, 2), np.array([saddle[a, b] for a, b in pairs]), energies, known,
        pd.DataFrame(history), joined and idle >= patience, paths,
    )  # fmt: skip


def _spanning(weights: np.ndarray) -> list[tuple[float, int, int]]:
    """Edges (weight, a, b) of a minimum spanning forest of the finite entries, by Kruskal."""
    m = len(weights)
    part = np.arange(m)
    edges = sorted((weights[a, b], a, b) for a in range(m) for b in range(a + 1, m) if np.isfinite(weights[a, b]))
    kept = []
    for weight, a, b in edges:
        if part[a] != part[b]:
            part[part == part[b]] = part[a]
            kept.append((float(weight), a, b))
    return kept


def _parts(m: int, edges: list[tuple[float, int, int]]) -> np.ndarray:
    part = np.arange(m)
    for _, a, b in edges:
        part[part == part[b]] = part[a]
    return part


def _minimax(saddle: np.ndarray, energies: np.ndarray) -> np.ndarray:
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
