"""Do conserved weights decide? The measurement behind the page on landscapes, on many landscapes of many data sets.

A landscape is one network size, one regulariser and one split of one data set. A group is the k lowest minima, or the
superbasin of the lowest minimum. In a group every live weight has six statistics, each ranking weights by how
conserved they are:

- ``spread``: standard deviation over the aligned group (the paper's, n being a cut of it),
- ``relative``: the same divided by abs(mean),
- ``softness``: sqrt of the mean diagonal of the inverse Hessian: the spread that curvature alone would allow,
- ``excess``: spread divided by softness: conserved beyond what curvature explains,
- ``saliency``: softness divided by abs(mean), the inverse root of Hassibi & Stork's (1993) saliency of a weight:
  needs one minimum and its Hessian, no landscape,
- ``magnitude``: the inverse of abs(mean): large weights, the baseline of all.

Two tests. *Sets*: the most conserved share of the live weights is shuffled among itself and the loss of test
performance compared with that of random sets of equal size: of any weights (dead ones included), of live weights, of
live weights matched in layer and in magnitude. *Weights*: every live weight alone is replaced by others of its layer;
the loss of performance is correlated (Spearman) with how conserved the weight is, plainly, given magnitude and layer,
and given curvature as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import jax
import numpy as np
import pandas as pd
from scipy.stats import rankdata

from jaxland import Problem, mlp
from jaxland.data import Dataset
from jaxland.landscape import Landscape, explore, level_cut
from jaxland.landscape.weights.null import live_weights
from jaxland.landscape.weights.parameters import ParameterTable
from jaxland.landscape.weights.scoring import Scorer
from jaxland.landscape.weights.validation import shuffled
from jaxland.problem.symmetry import align_many

RANKINGS = ("spread", "relative", "softness", "excess", "saliency", "magnitude")
RIVALS = ("any", "live", "matched")
LOWEST = 5
"""Members of a group whose weights are shuffled: its lowest."""


@dataclass(frozen=True)
class Case:
    """One landscape.

    Attributes:
        data: name of the data set.
        hidden: units of the hidden layer.
        lam: of lam * |w|^2.
        split: seed of split and search.
        minima: to be joined to the lowest before the search stops.
        rounds: of expansion after which it stops; 0: quenches and basin hopping only, no transition states.
    """

    data: str
    hidden: int
    lam: float
    split: int
    minima: int = 60
    rounds: int = 3


@dataclass(frozen=True, eq=False)
class Weights:
    """The live weights of a group, in the frame of its lowest member.

    Attributes:
        members: [k, N] aligned coordinates, lowest first.
        live: int [m] which weights.
        kind: int [m] layer * 2 + (is a bias).
        size: [m] abs(mean).
        scores: [m] by ranking; small is conserved.
        below: bool [m]: spread below the paper's n = 0.01.
    """

    members: np.ndarray
    live: np.ndarray
    kind: np.ndarray
    size: np.ndarray
    scores: dict[str, np.ndarray]
    below: np.ndarray


def network(case: Case, train: Dataset) -> Problem:
    """The problem of a case: one hidden layer of tanh units, mean cross-entropy, lam * |w|^2."""
    return Problem.from_model(mlp((train.d, case.hidden, train.outputs)), train.x, train.y, l2=case.lam)


def landscape_of(case: Case, problem: Problem) -> Landscape:
    """Its minima and transition states."""
    return explore(
        problem, seed=case.split, starts=2 * case.minima, climbs=case.minima if case.rounds else 0, walkers=16,
        minima=case.minima, rounds=case.rounds,
    )  # fmt: skip


def groups(
    landscape: Landscape, counts: tuple[int, ...] = (5, 10, 20, 40, 80)
) -> Iterator[tuple[str, str, np.ndarray]]:
    """(kind, name, members) of every group: the k lowest minima, and the superbasins of the lowest minimum."""
    for k in counts:
        if k <= landscape.n_minima:
            yield "lowest", str(k), np.arange(k)
    connected = landscape.connected()
    if connected.n_minima < LOWEST:
        return
    back = np.searchsorted(landscape.energies, connected.energies)
    sizes: set[int] = set()
    for name, _, members in level_cut(connected).distinct(LOWEST):
        octave = int(np.log2(len(members)))
        if members[0] == 0 and octave not in sizes:  # one superbasin an octave of sizes is enough
            sizes.add(octave)
            yield "superbasin", name, back[members]


def inverse_curvature(problem: Problem, w: np.ndarray) -> np.ndarray:
    """Diagonal [N] of the inverse Hessian at a minimum, its eigenvalues bounded below by 1e-8 of the largest."""
    values, vectors = np.linalg.eigh(np.asarray(problem.hessian(w)))
    return (vectors**2 / np.maximum(values, 1e-8 * values[-1])).sum(1)


def weights_of(landscape: Landscape, members: np.ndarray, table: ParameterTable, variances: np.ndarray) -> Weights:
    """Statistics of a group; ``variances`` [M, N] are the inverse curvatures of the landscape's lowest minima."""
    problem = landscape.problem
    assert problem is not None
    points = landscape.coordinates[members]
    aligned, index, _ = align_many(problem.symmetry, points, points[0])
    mean, spread = aligned.mean(0), aligned.std(0, ddof=1)
    live = np.flatnonzero(live_weights((aligned**2).mean(0), table, 0.01))
    near = members[members < len(variances)][:LOWEST]
    at = [int(np.flatnonzero(members == i)[0]) for i in near]
    softness = np.sqrt(np.mean([variances[i][index[a]] for i, a in zip(near, at)], axis=0))
    size = np.maximum(np.abs(mean), 1e-12)
    scores = {
        "spread": spread,
        "relative": spread / size,
        "softness": softness,
        "excess": spread / softness,
        "saliency": softness / size,
        "magnitude": 1 / size,
    }
    return Weights(
        members=aligned,
        live=live,
        kind=(table.layer * 2 + table.bias)[live],
        size=size[live],
        scores={name: values[live] for name, values in scores.items()},
        below=spread[live] < 0.01,
    )


def matched(own: np.ndarray, group: Weights, rng: np.random.Generator, nearest: int = 3) -> np.ndarray:
    """Live weights like ``own`` (positions among the live ones): same layer, one of the nearest free magnitudes."""
    free = np.setdiff1d(np.arange(len(group.live)), own)
    taken: list[int] = []
    for j in rng.permutation(own):
        rest = np.setdiff1d(free, taken)
        same = rest[group.kind[rest] == group.kind[j]]
        pool = same if len(same) else rest
        if not len(pool):
            break
        apart = np.abs(np.log(group.size[pool]) - np.log(group.size[j]))
        taken.append(int(rng.choice(pool[np.argsort(apart, kind="stable")[:nearest]])))
    return np.array(taken, int)


def set_effects(
    group: Weights, scorer: Scorer, share: float, sets: int, rng: np.random.Generator
) -> Iterator[dict[str, object]]:
    """Loss of performance when the most conserved share, or rivals of equal size, are shuffled; one row a ranking.

    ``n = 0.01`` is the paper's own set: every live weight with a smaller spread.
    """
    size = max(2, round(share * len(group.live)))
    chosen = {name: np.argsort(score, kind="stable")[:size] for name, score in group.scores.items()}
    if 2 <= group.below.sum() <= len(group.live) - 2:
        chosen["n = 0.01"] = np.flatnonzero(group.below)
    lowest, everything = group.members[:LOWEST], np.arange(group.members.shape[1])
    base = scorer(lowest)
    for name, own in chosen.items():
        others = np.setdiff1d(np.arange(len(group.live)), own)
        k = min(len(own), len(others))
        if k < 2:
            continue
        others_of_any = np.setdiff1d(everything, group.live[own])
        trials, ratios = [], []
        for s in range(sets):
            w = lowest[s % len(lowest)]
            mine = own if k == len(own) else rng.choice(own, k, replace=False)
            alike = matched(mine, group, rng)
            ratios.append(np.log(group.size[mine]).mean() - np.log(group.size[alike]).mean())
            rivals = {
                "own": group.live[mine],
                "any": rng.choice(others_of_any, min(k, len(others_of_any)), replace=False),
                "live": group.live[rng.choice(others, k, replace=False)],
                "matched": group.live[alike],
            }
            trials += [shuffled(w, [rival], rng) for rival in rivals.values()]
        drops = np.repeat(base[np.arange(sets) % len(lowest)], 4).reshape(sets, 4) - scorer(np.stack(trials)).reshape(
            sets, 4
        )
        mean, error = drops.mean(0), drops.std(0, ddof=1) / np.sqrt(sets)
        row: dict[str, object] = {"ranking": name, "k": k, "live": len(group.live), "base": float(base.mean())}
        row |= {"drop": mean[0], "drop_error": error[0]}
        for r, rival in enumerate(RIVALS, 1):
            row |= {f"drop_{rival}": mean[r], f"drop_{rival}_error": error[r]}
        row["size_ratio"] = float(np.exp(np.mean(ratios)))
        yield row


def residual(values: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Ranks of values [m] less their regression on ``given`` [m, q]."""
    ranks = rankdata(values)
    design = np.column_stack([np.ones(len(ranks)), given])
    return ranks - design @ np.linalg.lstsq(design, ranks, rcond=None)[0]


def partial(a: np.ndarray, b: np.ndarray, given: np.ndarray) -> float:
    """Spearman's rank correlation of a and b [m] given columns [m, q]; NaN where nothing is left to correlate."""
    x, y = residual(a, given), residual(b, given)
    scale = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if scale > 1e-9 * len(a) else float("nan")


def importance(group: Weights, scorer: Scorer, draws: int, rng: np.random.Generator) -> np.ndarray:
    """[m] loss of performance when a live weight alone takes the value of another of its layer."""
    lowest = group.members[:LOWEST]
    base, trials, whose = scorer(lowest), [], []
    for j, at in enumerate(group.live):
        same = group.live[(group.kind == group.kind[j]) & (group.live != at)]
        if not len(same):
            same = group.live[group.live != at]
        for d in range(draws):
            w = lowest[d % len(lowest)].copy()
            w[at] = w[rng.choice(same)]
            trials.append(w)
            whose.append(d % len(lowest))
    return (base[np.array(whose)] - scorer(np.stack(trials))).reshape(-1, draws).mean(1)


def weight_effects(
    group: Weights, scorer: Scorer, draws: int, rng: np.random.Generator
) -> Iterator[dict[str, object]]:
    """Correlation of how conserved a weight is with what its loss costs: plain, given size, given curvature too."""
    if len(group.live) < 10:
        return
    cost = importance(group, scorer, draws, rng)
    kinds = np.unique(group.kind)[1:]
    layers = (group.kind[:, None] == kinds[None]).astype(float)
    size = np.column_stack([rankdata(group.size), layers])
    curved = np.column_stack([size, rankdata(group.scores["softness"])])
    for name in RANKINGS:
        conserved = -group.scores[name]
        row: dict[str, object] = {"ranking": name, "live": len(group.live)}
        row["plain"] = partial(conserved, cost, np.zeros((len(cost), 0)))
        row["given_size"] = partial(conserved, cost, size)
        row["given_curvature"] = (
            partial(conserved, cost, curved) if name not in ("softness", "saliency", "magnitude") else float("nan")
        )
        yield row


def study(
    case: Case, train: Dataset, test: Dataset, *, share: float = 0.2, sets: int = 40, draws: int = 10
) -> tuple[Landscape, pd.DataFrame, pd.DataFrame]:
    """Landscape of a case and both tests in each of its groups: (landscape, rows of sets, rows of weights)."""
    with jax.enable_x64(True):
        problem = network(case, train)
        landscape = landscape_of(case, problem)
        facts = {"data": case.data, "hidden": case.hidden, "lam": case.lam, "split": case.split}
        facts |= {"minima": landscape.n_minima, "connected": int(landscape.connected().n_minima)}
        of_sets: list[dict[str, object]] = []
        of_weights: list[dict[str, object]] = []
        if landscape.n_minima >= LOWEST:
            table = ParameterTable.of(problem, landscape.size, train.features, train.sources, train.classes)
            scorer = Scorer.held_out(problem, test, 2000, case.split)
            variances = np.stack([inverse_curvature(problem, w) for w in landscape.coordinates[:LOWEST]])
            spans = landscape.energies - landscape.energies[0]
            for g, (kind, name, members) in enumerate(groups(landscape)):
                rng = np.random.default_rng([case.split, g])
                group = weights_of(landscape, members, table, variances)
                about = {
                    **facts,
                    "kind": kind,
                    "group": name,
                    "members": len(members),
                    "height": float(spans[members].max()),
                }
                about["tightness"] = float(
                    np.median(group.scores["spread"]) / np.sqrt((group.members[:, group.live] ** 2).mean())
                )
                of_sets += [about | row for row in set_effects(group, scorer, share, sets, rng)]
                of_weights += [about | row for row in weight_effects(group, scorer, draws, rng)]
        return landscape, pd.DataFrame(of_sets), pd.DataFrame(of_weights)
