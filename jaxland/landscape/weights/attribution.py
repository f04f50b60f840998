"""From conserved weights to inputs: attribution, its validation by shuffling, its comparison with other measures.

See ``conserved`` for the definitions of live and conserved weights and of the random-group null.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxland.errors import DataError
from jaxland.landscape.result import Landscape
from jaxland.landscape.weights.layout import Layout
from jaxland.landscape.weights.performance import Scorer
from jaxland.landscape.weights.significance import benjamini_hochberg
from jaxland.problem.symmetry import align_many

if TYPE_CHECKING:
    from jaxland.landscape.weights.conserved import GroupConservation


SHUFFLES_PER_SET = 3


class Statistics(NamedTuple):
    """Of one group, [N] each, or of many, [draws, N] each: see ``conserved`` for the definitions.

    Attributes:
        mean, std: over the members, after alignment.
        live, keep: bool, live; live and conserved.
    """

    mean: np.ndarray
    std: np.ndarray
    live: np.ndarray
    keep: np.ndarray


@dataclass(frozen=True, eq=False)
class Attribution:
    """What the live conserved weights of a group say of each input (or source column).

    Attributes:
        labels: [d].
        count: [d] live conserved first-layer weights that leave the input.
        mass: [d] sum of their abs(mean).
        p_value, q_value: [d] of the mass, against random groups; NaN where there is no null.
        spread_ratio: [d] geometric mean of std over the live first-layer weights of the input, divided by that of the
            same weights in random groups: below 1 where the group agrees more closely. Needs no threshold.
        spread_p, spread_q: [d] of it.
        path_mass: [d, c] sum over paths of live conserved weights from input to output of the product of abs(mean).
        path_signed: [d, c] the same with signs: the direction in which the input moves the output.
        total_path_mass: [d, c] over all paths, conserved or not (what one would see without the landscape).
    """

    labels: tuple[str, ...]
    outputs: tuple[str, ...]
    count: np.ndarray
    mass: np.ndarray
    p_value: np.ndarray
    q_value: np.ndarray
    spread_ratio: np.ndarray
    spread_p: np.ndarray
    spread_q: np.ndarray
    path_mass: np.ndarray
    path_signed: np.ndarray
    total_path_mass: np.ndarray

    def to_pandas(self) -> Any:
        """One row per input, largest mass first."""
        import pandas as pd

        frame = pd.DataFrame(
            {
                "input": self.labels,
                "count": self.count,
                "mass": self.mass,
                "p": self.p_value,
                "q": self.q_value,
                "spread / chance": self.spread_ratio,
                "q, spread": self.spread_q,
            }
        )
        for c, name in enumerate(self.outputs):
            frame[f"paths to {name}"] = self.path_mass[:, c]
            frame[f"signed to {name}"] = self.path_signed[:, c]
        return frame.sort_values(
            ["mass", "spread / chance", "input"], ascending=[False, True, True], ignore_index=True
        )


@dataclass(frozen=True, eq=False)
class Validation:
    """Loss of test performance when weights are shuffled among themselves.

    The first comparison is the paper's: all live conserved weights against equally many random live others, wherever
    they are. Weights of some layers may matter more whatever their spread, so the second is like for like: only in
    layers that have both kinds, equally many of each, shuffled within their layer.

    Attributes:
        metric: see ``performance.Scorer``.
        what: ``conserved``, or ``agreeing`` where fewer than two weights are conserved and the weights with a
            significantly small spread (q_value at most alpha) stand in for them.
        size: how many weights are shuffled; like_size: the same for the like-for-like comparison (0: impossible).
        baseline: [S] metric of the untouched minimum of each seed.
        conserved: [S] drop when the conserved weights are shuffled.
        others: [S] drop when a random set of others is, mean of ``SHUFFLES_PER_SET`` shuffles of each set.
        matched: [S] drop when the not conserved weights most alike in size are.
        like_conserved, like_others: [S] drops of the like-for-like comparison (NaN where impossible).
        p_value, p_like: share of the random sets whose mean drop reaches the mean drop of the conserved ones: are
            these weights special among sets of weights?
        note: what could not be done as said above; empty otherwise.
    """

    metric: str
    what: str
    size: int
    like_size: int
    baseline: np.ndarray
    conserved: np.ndarray
    others: np.ndarray
    matched: np.ndarray
    like_conserved: np.ndarray
    like_others: np.ndarray
    p_value: float
    p_like: float
    note: str = ""

    @property
    def supported(self) -> bool:
        """The conserved weights matter more than random others, at 5 %."""
        return bool(self.p_value <= 0.05 and self.conserved.mean() > self.others.mean())

    @property
    def supported_like(self) -> bool:
        """The same, like for like."""
        return bool(self.p_like <= 0.05 and self.like_conserved.mean() > self.like_others.mean())

    def to_pandas(self) -> Any:
        """One row per seed."""
        import pandas as pd

        return pd.DataFrame(
            {
                "baseline": self.baseline,
                "drop, conserved": self.conserved,
                "drop, random others": self.others,
                "drop, others of like size": self.matched,
                "drop, conserved (same layers)": self.like_conserved,
                "drop, others (same layers)": self.like_others,
            }
        ).rename_axis("seed")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Attributions of a group beside permutation importance and input gradients of the same minima.

    Attributes:
        labels: [s] source columns.
        conserved_mass, conserved_paths: [s] see ``Attribution``.
        agreement: [s] 1 / spread_ratio of ``Attribution``.
        all_paths: [s] path mass of all weights.
        permutation: [s] drop of the metric when the column is shuffled in the test data.
        gradient: [s] mean abs(d output / d input) times the input's standard deviation.
        members: the minima they were averaged over.
        correlations: rank correlation (Spearman) and its p-value by (ours, theirs).
    """

    labels: tuple[str, ...]
    metric: str
    conserved_mass: np.ndarray
    conserved_paths: np.ndarray
    agreement: np.ndarray
    all_paths: np.ndarray
    permutation: np.ndarray
    gradient: np.ndarray
    members: np.ndarray
    correlations: dict[tuple[str, str], tuple[float, float]]

    def to_pandas(self, what: str = "inputs") -> Any:
        """``inputs``: one row per source column; ``correlations``: one row per pair of measures."""
        import pandas as pd

        if what == "correlations":
            rows = [
                {"measure": a, "compared with": b, "rho": r, "p": p} for (a, b), (r, p) in self.correlations.items()
            ]
            return pd.DataFrame(rows, columns=["measure", "compared with", "rho", "p"])
        frame = pd.DataFrame(
            {
                "input": self.labels,
                "conserved mass": self.conserved_mass,
                "conserved paths": self.conserved_paths,
                "agreement": self.agreement,
                "all paths": self.all_paths,
                f"permutation ({self.metric})": self.permutation,
                "input gradient": self.gradient,
            }
        )
        return frame.sort_values(f"permutation ({self.metric})", ascending=False, ignore_index=True)


def attribute(
    layout: Layout,
    group: Statistics,
    null: Statistics | None,
    labels: tuple[str, ...],
    where: np.ndarray,
) -> Attribution:
    """Attribution of a group [N] against random groups [draws, N]; ``where`` [d] is the label of each input."""
    gather = np.zeros((len(labels), len(where)))
    gather[where, np.arange(len(where))] = 1.0
    keep = group.keep
    weights, kept = layout.matrices(group.mean), layout.matrices(keep)
    mass = gather @ (np.abs(weights[0]) * kept[0]).sum(1)
    absolute = signed = total = np.eye(len(where))
    for w, k in zip(weights, kept):
        absolute, signed, total = absolute @ (np.abs(w) * k), signed @ (w * k), total @ np.abs(w)
    missing = np.full(len(labels), np.nan)
    p, ratio, spread_p = missing, missing, missing
    if null is not None:
        null_mass = np.where(null.keep, np.abs(null.mean), 0.0)
        chance = np.stack([layout.matrices(row)[0].sum(1) for row in null_mass]) @ gather.T
        p = np.where(mass > 0, (1 + (chance >= mass - 1e-15).sum(0)) / (1 + len(chance)), 1.0)
        live = layout.matrices(group.live)[0].astype(float)
        number = gather @ live.sum(1)

        def spread(std: np.ndarray) -> np.ndarray:
            logs = layout.matrices(np.log(np.maximum(std, 1e-12)))[0] * live
            return (gather @ logs.sum(1)) / np.maximum(number, 1)

        own, by_chance = spread(group.std), np.stack([spread(row) for row in null.std])
        ratio = np.where(number > 0, np.exp(own - by_chance.mean(0)), np.nan)
        spread_p = np.where(number > 0, (1 + (by_chance <= own).sum(0)) / (1 + len(by_chance)), np.nan)
    return Attribution(
        labels=labels,
        outputs=layout.outputs,
        count=(gather @ kept[0].sum(1)).astype(int),
        mass=mass,
        p_value=p,
        q_value=benjamini_hochberg(p),
        spread_ratio=ratio,
        spread_p=spread_p,
        spread_q=benjamini_hochberg(spread_p),
        path_mass=gather @ absolute,
        path_signed=gather @ signed,
        total_path_mass=gather @ total,
    )


def held_out(problem: Any, test: tuple[Any, Any], rows: int, seed: int) -> Scorer:
    """A scorer on at most ``rows`` of the test rows (x, y), drawn by seed."""
    x, y = np.asarray(test[0]), np.asarray(test[1])
    if len(x) != len(y):
        raise DataError(f"test: x has {len(x)} rows and y {len(y)}")
    if len(x) > rows:
        kept = np.sort(np.random.default_rng([seed, 31]).permutation(len(x))[:rows])
        x, y = x[kept], y[kept]
    return Scorer.of(problem, x, y)


def _shuffled(w: np.ndarray, sets: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Each set of weights shuffled among themselves; never the identity for two or more."""
    out = w.copy()
    for chosen in sets:
        order = np.arange(len(chosen))
        while len(chosen) > 1 and np.array_equal(order, np.arange(len(chosen))):
            order = rng.permutation(len(chosen))
        out[chosen] = w[chosen[order]]
    return out


def validate(
    landscape: Landscape, group: GroupConservation, scorer: Scorer, shuffles: int, seed: int, alpha: float = 0.05
) -> Validation | None:
    """Shuffle live conserved weights, random others, and others of like size; see ``Validation``.

    The five lowest minima of the group take turns. None where fewer than two weights are conserved or left over.
    """
    from scipy.optimize import linear_sum_assignment

    tested, what, note = group.live_conserved, "conserved", ""
    if tested.sum() < 2:
        tested, what = group.agreeing(alpha), "agreeing"
    chosen, live_spare = np.flatnonzero(tested), np.flatnonzero(group.live & ~tested)
    spare = live_spare
    if len(spare) < len(chosen):
        spare = np.flatnonzero(~tested)
        note = "fewer other live weights than tested ones are left: dead ones are among the others"
    if len(spare) < 2 or len(chosen) < 2:
        return None
    if len(spare) < len(chosen):
        note = "fewer other weights than tested ones are left: only so many tested ones were shuffled at a time"
    size = min(len(chosen), len(spare))
    kind = group.layout.layer * 2 + group.layout.bias
    pairs = [(chosen[kind[chosen] == k], live_spare[kind[live_spare] == k]) for k in np.unique(kind[chosen])]
    pairs = [(a, b) for a, b in pairs if min(len(a), len(b)) >= 2]
    like_size = sum(min(len(a), len(b)) for a, b in pairs)
    magnitude = np.log(np.maximum(np.abs(group.mean), 1e-12))
    columns = linear_sum_assignment(np.abs(magnitude[chosen][:, None] - magnitude[spare][None]))[1]
    alike = spare[columns]

    symmetry = getattr(landscape.problem, "symmetry", None)
    lowest = group.members[:5]
    aligned, _, _ = align_many(symmetry, landscape.coordinates[lowest], landscape.coordinates[group.members[0]])
    base = scorer(aligned)
    rng = np.random.default_rng([seed, 22, *group.members[:3].tolist(), len(group.members)])
    trials, at = [], np.arange(shuffles) % len(lowest)

    def some(pool: np.ndarray, k: int) -> np.ndarray:
        return pool if k == len(pool) else rng.choice(pool, k, replace=False)

    for s in range(shuffles):
        w = aligned[at[s]]
        trials.append(_shuffled(w, [some(chosen, size)], rng))
        trials.append(_shuffled(w, [alike], rng))
        trials.append(_shuffled(w, [some(a, min(len(a), len(b))) for a, b in pairs], rng))
        others, likes = some(spare, size), [some(b, min(len(a), len(b))) for a, b in pairs]
        trials += [_shuffled(w, [others], rng) for _ in range(SHUFFLES_PER_SET)]
        trials += [_shuffled(w, likes, rng) for _ in range(SHUFFLES_PER_SET)]
    raw = base[at][:, None] - scorer(np.stack(trials)).reshape(shuffles, -1)
    k = SHUFFLES_PER_SET
    drops = np.stack([raw[:, 0], raw[:, 3 : 3 + k].mean(1), raw[:, 1], raw[:, 2], raw[:, 3 + k :].mean(1)], axis=1)
    if not pairs:
        drops[:, 3:] = np.nan

    def reached(own: int, other: int) -> float:
        return float((1 + (drops[:, other] >= drops[:, own].mean()).sum()) / (1 + shuffles))

    return Validation(
        metric=scorer.metric,
        what=what,
        size=size,
        like_size=like_size,
        baseline=base[at],
        conserved=drops[:, 0],
        others=drops[:, 1],
        matched=drops[:, 2],
        like_conserved=drops[:, 3],
        like_others=drops[:, 4],
        p_value=reached(0, 1),
        p_like=reached(3, 4) if pairs else float("nan"),
        note=note,
    )


def compare_group(
    landscape: Landscape,
    group: GroupConservation,
    scorer: Scorer,
    seed: int,
    cache: dict[int, tuple[np.ndarray, np.ndarray]],
    repeats: int = 3,
) -> Comparison | None:
    """Permutation importance and input gradients of the group's three lowest minima beside its attributions.

    Args:
        landscape, group, scorer, seed: as for ``validate``.
        cache: importance by minimum, filled as needed.
        repeats: shuffles of each input column.
    """
    from scipy.stats import spearmanr

    if group.sources is None:
        return None
    labels = group.sources.labels
    members = group.members[:3]
    for i in members.tolist():
        if i not in cache:
            cache[i] = _importance(landscape.coordinates[i], group.layout, labels, scorer, repeats, seed)
    permutation = np.mean([cache[i][0] for i in members.tolist()], axis=0)
    gradient = np.mean([cache[i][1] for i in members.tolist()], axis=0)
    ours = {
        "conserved mass": group.sources.mass,
        "conserved paths": group.sources.path_mass.sum(1),
        "agreement": 1.0 / group.sources.spread_ratio,
        "all paths": group.sources.total_path_mass.sum(1),
    }
    correlations = {}
    pairs = [(a, b) for a in ours for b in ("permutation importance", "input gradient")]
    pairs.append(("permutation importance", "input gradient"))
    values = {**ours, "permutation importance": permutation, "input gradient": gradient}
    for a, b in pairs:
        known = np.isfinite(values[a]) & np.isfinite(values[b])
        if known.sum() < 3 or np.ptp(values[a][known]) == 0 or np.ptp(values[b][known]) == 0:
            correlations[a, b] = (float("nan"), float("nan"))
        else:
            rho = spearmanr(values[a][known], values[b][known])
            correlations[a, b] = (float(rho.statistic), float(rho.pvalue))
    return Comparison(
        labels=labels,
        metric=scorer.metric,
        conserved_mass=ours["conserved mass"],
        conserved_paths=ours["conserved paths"],
        agreement=ours["agreement"],
        all_paths=ours["all paths"],
        permutation=permutation,
        gradient=gradient,
        members=members,
        correlations=correlations,
    )


def _importance(
    w: np.ndarray, layout: Layout, labels: tuple[str, ...], scorer: Scorer, repeats: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Permutation importance and input gradient [s] per source column of one minimum."""
    base = float(scorer(w)[0])
    origin = np.array([labels.index(o) for o in layout.origins])
    rng = np.random.default_rng([seed, 23])
    orders = [rng.permutation(len(scorer.y)) for _ in range(repeats)]
    drop = np.zeros(len(labels))
    for s in range(len(labels)):
        columns = np.flatnonzero(origin == s)
        for order in orders:
            x = scorer.x.copy()
            x[:, columns] = x[order][:, columns]
            drop[s] += (base - float(scorer(w, x)[0])) / repeats
    gradient = np.bincount(origin, weights=scorer.slopes(w), minlength=len(labels))
    return drop, gradient
