"""Do conserved weights decide? The measurement behind the page on landscapes, on many landscapes of many data sets.

A landscape is one network size, one regulariser and one split of one data set. A group is the k lowest minima, or a
superbasin of the lowest minimum. In a group every live weight has nine statistics, each ranking weights by how
conserved they are:

- ``spread``: standard deviation over the aligned group (the paper's, n being a cut of it),
- ``relative``: the same divided by abs(mean),
- ``chance``: the same divided by the spread over random minima of the landscape,
- ``softness``: sqrt of the mean diagonal of the inverse Hessian: the spread that curvature alone would allow,
- ``excess``: spread divided by softness: conserved beyond what curvature explains,
- ``saliency``: softness divided by abs(mean), the inverse root of Hassibi & Stork's (1993) saliency of a weight:
  needs one minimum and its Hessian, no landscape,
- ``damage``: 1 / (abs(mean) sqrt(H_jj)), the inverse root of LeCun, Denker & Solla's (1990) saliency,
- ``removal``: minus the rise of the training loss when the weight is set to zero in the lowest minima,
- ``magnitude``: the inverse of abs(mean): large weights, the baseline of all.

Two tests. *Sets*: the most conserved share of the live weights is shuffled among itself and the loss of test
performance compared with that of random sets of equal size: of any weights (dead ones included), of live weights, of
live weights matched in layer and in magnitude. The most conserved weights can be the smallest or the largest, which
nothing matches; so for the statistics of a group the set is also drawn *size for size*: of every five live weights of
a layer that follow one another in magnitude the most conserved one. *Weights*: every live weight alone is replaced by
others of its layer, removed (set to zero), or displaced by the root mean square of the live weights of its layer; the
harm done is correlated (Spearman) with how conserved the weight is, plainly, given magnitude and layer, and given
curvature (both diagonals) as well.
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
from jaxland.landscape.weights.removal import removal_costs
from jaxland.landscape.weights.scoring import Scorer, measured
from jaxland.landscape.weights.validation import shuffled
from jaxland.problem.symmetry import align_many

RANKINGS = ("spread", "relative", "chance", "softness", "excess", "saliency", "damage", "removal", "magnitude")
SIZE_FOR_SIZE = ("spread", "chance", "softness", "excess")
"""Statistics whose sets are also drawn size for size; ``relative`` is then the same as ``spread``."""
SINGLE = ("softness", "saliency", "damage", "removal", "magnitude")
"""Statistics that need one minimum, not a group."""
RIVALS = ("any", "live", "matched")
INTERVENTIONS = ("replaced", "removed", "displaced")
HARM = ("performance", "loss")
"""Of one weight: loss of test AUC (accuracy), rise of the test cross-entropy."""
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
    rounds: int = 10


@dataclass(frozen=True, eq=False)
class Weights:
    """The live weights of a group, in the frame of its lowest member.

    Attributes:
        members: [k, N] aligned coordinates, lowest first.
        live: int [m] which weights.
        kind: int [m] layer * 2 + (is a bias).
        size: [m] abs(mean).
        scores: [m] by ranking; small is conserved.
        stiffness: [m] mean diagonal of the Hessian.
        below: bool [m]: spread below the paper's n = 0.01.
    """

    members: np.ndarray
    live: np.ndarray
    kind: np.ndarray
    size: np.ndarray
    scores: dict[str, np.ndarray]
    stiffness: np.ndarray
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


def curvature_at(problem: Problem, w: np.ndarray) -> np.ndarray:
    """[3, N] at a minimum: diagonals of inverse Hessian and Hessian, and what removal of a weight costs the training.

    Eigenvalues are taken as at least 1e-8 of the largest.
    """
    hessian = np.asarray(problem.hessian(w))
    values, vectors = np.linalg.eigh(hessian)
    inverse = (vectors**2 / np.maximum(values, 1e-8 * values[-1])).sum(1)
    return np.stack([inverse, np.maximum(np.diag(hessian), 1e-8 * values[-1]), removal_costs(problem, w)])


@dataclass(frozen=True, eq=False)
class Frame:
    """What all groups of a landscape share.

    Attributes:
        landscape, table: minima, and what each weight is.
        curvatures: [M, 3, N] of the lowest minima, see ``curvature_at``.
        chance: [N] spread over random minima, in the frame of the lowest.
    """

    landscape: Landscape
    table: ParameterTable
    curvatures: np.ndarray
    chance: np.ndarray

    @classmethod
    def of(cls, landscape: Landscape, table: ParameterTable, seed: int) -> Frame:
        """Curvature of the lowest minima, and chance from at most 80 random ones."""
        problem, points = landscape.problem, landscape.coordinates
        assert problem is not None
        drawn = np.random.default_rng([seed, 71]).permutation(len(points))[:80]
        aligned, _, _ = align_many(problem.symmetry, points[drawn], points[0])
        curvatures = np.stack([curvature_at(problem, w) for w in points[:LOWEST]])
        return cls(landscape=landscape, table=table, curvatures=curvatures, chance=aligned.std(0, ddof=1))


def weights_of(frame: Frame, members: np.ndarray) -> Weights:
    """Statistics of a group."""
    landscape, table = frame.landscape, frame.table
    assert landscape.problem is not None
    points = landscape.coordinates[members]
    aligned, index, _ = align_many(landscape.problem.symmetry, points, points[0])
    mean, spread = aligned.mean(0), aligned.std(0, ddof=1)
    live = np.flatnonzero(live_weights((aligned**2).mean(0), table, 0.01))
    near = members[members < len(frame.curvatures)][:LOWEST]
    at = [int(np.flatnonzero(members == i)[0]) for i in near]
    inverse, direct, removal = np.mean([frame.curvatures[i][:, index[a]] for i, a in zip(near, at)], axis=0)
    softness, size = np.sqrt(inverse), np.maximum(np.abs(mean), 1e-12)
    scores = {
        "spread": spread,
        "relative": spread / size,
        "chance": spread / np.maximum(frame.chance, 1e-12),
        "softness": softness,
        "excess": spread / softness,
        "saliency": softness / size,
        "damage": 1 / (size * np.sqrt(direct)),
        "removal": -removal,
        "magnitude": 1 / size,
    }
    return Weights(
        members=aligned,
        live=live,
        kind=(table.layer * 2 + table.bias)[live],
        size=size[live],
        scores={name: values[live] for name, values in scores.items()},
        stiffness=direct[live],
        below=spread[live] < 0.01,
    )


def size_for_size(group: Weights, score: np.ndarray, block: int) -> np.ndarray:
    """Positions among the live weights: of every ``block`` neighbours in magnitude of a layer the most conserved."""
    own: list[int] = []
    for kind in np.unique(group.kind):
        here = np.flatnonzero(group.kind == kind)
        here = here[np.argsort(group.size[here], kind="stable")]
        for start in range(0, len(here), block):
            few = here[start : start + block]
            if len(few) > block // 2:
                own.append(int(few[np.argmin(score[few])]))
    return np.array(own, int)


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
    for name in SIZE_FOR_SIZE:
        chosen[f"{name}, size for size"] = size_for_size(group, group.scores[name], round(1 / share))
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


def harm(scorer: Scorer, ws: np.ndarray) -> np.ndarray:
    """[2, S] of ``HARM`` in absolute terms: minus the metric, and the mean cross-entropy on the test rows."""
    out = []
    for start in range(0, len(ws), 256):
        outputs = scorer.outputs(ws[start : start + 256])
        top = outputs.max(-1, keepdims=True)
        log_sum = np.log(np.exp(outputs - top).sum(-1)) + top[..., 0]
        right = np.take_along_axis(outputs, np.broadcast_to(scorer.y[None, :, None], (*outputs.shape[:2], 1)), -1)
        out.append([-measured(scorer.metric, outputs, scorer.y), (log_sum - right[..., 0]).mean(1)])
    return np.concatenate(out, axis=1)


def importance(group: Weights, scorer: Scorer, draws: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """[2, m] harm (see ``HARM``) by intervention on one live weight, mean over the lowest members."""
    lowest = group.members[:LOWEST]
    base = harm(scorer, lowest)
    scale = {kind: np.sqrt((group.members[:, group.live[group.kind == kind]] ** 2).mean()) for kind in group.kind}
    values: dict[str, list[list[float]]] = {name: [] for name in INTERVENTIONS}
    for kind, at in zip(group.kind, group.live):
        same = group.live[(group.kind == kind) & (group.live != at)]
        if not len(same):
            same = group.live[group.live != at]
        values["replaced"].append([float(lowest[d % len(lowest)][rng.choice(same)]) for d in range(draws)])
        values["removed"].append([0.0] * len(lowest))
        values["displaced"].append([float(w[at] + sign * scale[kind]) for sign in (-1, 1) for w in lowest])
    out = {}
    for name, rows in values.items():
        whose = np.arange(len(rows[0])) % len(lowest)
        trials = np.repeat(lowest[whose][None], len(rows), axis=0)
        trials[np.arange(len(rows))[:, None], np.arange(len(whose))[None], group.live[:, None]] = rows
        done = harm(scorer, trials.reshape(-1, lowest.shape[1])).reshape(2, len(rows), -1)
        out[name] = (done - base[:, None, whose]).mean(2)
    return out


def weight_effects(
    group: Weights, scorer: Scorer, draws: int, rng: np.random.Generator
) -> Iterator[dict[str, object]]:
    """Correlation of how conserved a weight is with the harm of losing it: plain, given size, given curvature too."""
    if len(group.live) < 10:
        return
    kinds = np.unique(group.kind)[1:]
    layers = (group.kind[:, None] == kinds[None]).astype(float)
    size = np.column_stack([rankdata(group.size), layers])
    curved = np.column_stack([size, rankdata(group.scores["softness"]), rankdata(group.stiffness)])
    nothing = np.zeros((len(group.live), 0))
    with_size = {name: partial(-score, group.size, nothing) for name, score in group.scores.items()}
    with_softness = {n: partial(score, group.scores["softness"], nothing) for n, score in group.scores.items()}
    for intervention, costs in importance(group, scorer, draws, rng).items():
        for outcome, cost in zip(HARM, costs):
            for name in RANKINGS:
                conserved = -group.scores[name]
                row: dict[str, object] = {"ranking": name, "intervention": intervention, "harm": outcome}
                row |= {"live": len(group.live), "plain": partial(conserved, cost, nothing)}
                row["given_size"] = float("nan") if name == "magnitude" else partial(conserved, cost, size)
                row["given_curvature"] = float("nan") if name in SINGLE else partial(conserved, cost, curved)
                row |= {"with_size": with_size[name], "with_softness": with_softness[name]}
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
            frame = Frame.of(landscape, table, case.split)
            spans = landscape.energies - landscape.energies[0]
            for g, (kind, name, members) in enumerate(groups(landscape)):
                rng = np.random.default_rng([case.split, g])
                group = weights_of(frame, members)
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
