"""Conserved weights of groups of minima, what they say of the inputs, and whether it is more than chance.

After Niroomand & Wales (2023), "Physics-Inspired Interpretability of Machine Learning Models": the minima of a group
of the disconnectivity graph are aligned by the symmetry of the network; a weight is *conserved* if its standard
deviation over the group is below n. Conserved weights that are not simply switched off by the regulariser (*live*)
tell which inputs drive the decisions of every network of the group.

Definitions used throughout, for a group of k minima aligned to its lowest one:

- std_j: standard deviation (divisor k - 1) of weight j over the group; mean_j: its mean; relative std: their ratio.
- conserved: std_j < n (``threshold``, 0.01).
- live: rms_j > max(3 n, 0.05 r), rms_j being the root mean square of weight j over the group, r that of all weights
  of its layer (biases left out); a weight that is not live is dead: about 0 in every minimum.
- spread: geometric mean of std over the live weights, compared with that of random groups. It needs no threshold:
  where weights are large, no std may be below n although the group agrees far better than chance.
- null: the same numbers for ``draws`` random groups of the same size (at most ``null_members``) of *other* minima,
  each aligned to its own lowest member and then brought to the frame of the tested group. p = (1 + number of random
  groups that do as well) / (1 + draws); q after Benjamini & Hochberg (1995).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from jaxland.errors import ArgumentError
from jaxland.landscape.result import Landscape
from jaxland.landscape.tree import LevelCut, level_cut
from jaxland.landscape.weights.attribution import (
    Attribution,
    Comparison,
    Statistics,
    Validation,
    attribute,
    compare_group,
    held_out,
    validate,
)
from jaxland.landscape.weights.layout import Layout
from jaxland.landscape.weights.significance import benjamini_hochberg
from jaxland.problem.symmetry import align_many

LIVE_SHARE = 0.05


def _live(square: np.ndarray, layout: Layout, threshold: float) -> np.ndarray:
    """bool [..., N] by the definition at the top; ``square`` are the mean squares over the group."""
    floor = np.full(square.shape, 3 * threshold)
    for depth in np.unique(layout.layer):
        for bias in (False, True):
            here = (layout.layer == depth) & (layout.bias == bias)
            # Biases are measured against the weights of their layer: there are few of them.
            scale = here if not bias else (layout.layer == depth) & ~layout.bias
            if here.any() and scale.any():
                size = np.sqrt(square[..., scale].mean(-1, keepdims=True))
                floor[..., here] = np.maximum(floor[..., here], LIVE_SHARE * size)
    return np.sqrt(square) > floor


@dataclass(frozen=True, eq=False)
class ThresholdSweep:
    """How many live weights are conserved at other n: is there any at which a group stands out?

    Attributes:
        thresholds: [T] values of n.
        count: [T] live conserved weights of the group.
        expected: [T] mean over the random groups (NaN where there is no null).
        p_value: [T].
    """

    thresholds: np.ndarray
    count: np.ndarray
    expected: np.ndarray
    p_value: np.ndarray

    def to_pandas(self) -> Any:
        """One row per threshold."""
        import pandas as pd

        return pd.DataFrame(
            {"n": self.thresholds, "live conserved": self.count, "by chance": self.expected, "p": self.p_value}
        )


@dataclass(frozen=True, eq=False)
class GroupConservation:
    """Conserved weights of one group.

    Attributes:
        name: ``level_node`` at the highest level where the group has these members.
        level, last_level: first and last level at which it has them; energy: of the first.
        members: indices [k] of its minima; the first is the one the others are aligned to.
        mean, std, relative_std: [N] in the frame of the lowest member.
        conserved, live: bool [N].
        p_value, q_value: [N] of std; NaN where there is no null.
        p_group: of the number of live conserved weights; q_group: corrected over all groups of the analysis.
        spread_ratio: geometric mean of std over the live weights, divided by that of the same weights in random
            groups: below 1 where the group agrees more closely than chance, whatever n is.
        spread_z: how many standard deviations of the random groups its logarithm lies from their mean.
        p_spread, q_spread: of it, and corrected over all groups.
        null_count: [draws] number of live conserved weights in the random groups.
        sweep: how many of the live weights are conserved at other n.
        null_kind: what the random groups were drawn from: ``others``, ``all`` or ``none``.
        inputs, sources: attributions per feature and per source column (None without a known first layer).
        validation, comparison: None where there were no test data, too few weights, or they were not asked for.
    """

    name: str
    level: int
    last_level: int
    energy: float
    members: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    relative_std: np.ndarray
    conserved: np.ndarray
    live: np.ndarray
    p_value: np.ndarray
    q_value: np.ndarray
    p_group: float
    q_group: float
    spread_ratio: float
    spread_z: float
    p_spread: float
    q_spread: float
    null_count: np.ndarray
    null_kind: str
    sweep: ThresholdSweep
    layout: Layout = field(repr=False)
    inputs: Attribution | None = None
    sources: Attribution | None = None
    validation: Validation | None = None
    comparison: Comparison | None = None

    @property
    def live_conserved(self) -> np.ndarray:
        """bool [N]."""
        return self.conserved & self.live

    def agreeing(self, alpha: float = 0.05) -> np.ndarray:
        """bool [N]: live weights whose spread is smaller than chance gives, at false discovery rate alpha."""
        return self.live & (np.nan_to_num(self.q_value, nan=1.0) <= alpha)

    @property
    def levels(self) -> str:
        """Such as ``12`` or ``12–15``."""
        return str(self.level) if self.level == self.last_level else f"{self.level}–{self.last_level}"

    def to_pandas(self) -> Any:
        """One row per weight, live conserved ones first, smallest std first."""
        import pandas as pd

        state = np.where(self.live, "live", "dead")
        frame = pd.DataFrame(
            {
                "weight": self.layout.names,
                "mean": self.mean,
                "std": self.std,
                "relative std": self.relative_std,
                "conserved": self.conserved,
                "state": state,
                "p": self.p_value,
                "q": self.q_value,
            }
        )
        order = np.lexsort((self.std, ~self.live_conserved))
        return frame.iloc[order].reset_index(drop=True)


@dataclass(frozen=True, eq=False)
class ConservedWeights:
    """Conserved weights of every group with enough members.

    Attributes:
        landscape, cut: what was analysed.
        groups: from the top level down.
        layout: what each weight is.
        threshold, alpha: n, and the level of the false discovery rate.
        settings: the rest.
    """

    landscape: Landscape
    cut: LevelCut
    groups: tuple[GroupConservation, ...]
    layout: Layout
    threshold: float
    alpha: float
    settings: dict[str, Any]

    def __getitem__(self, name: str) -> GroupConservation:
        """The analysed group with the members of ``level_node``."""
        members = self.cut.group(name)
        for group in self.groups:
            if np.array_equal(group.members, members):
                return group
        raise ArgumentError(
            f"group {name!r} has {len(members)} minima and was not analysed "
            f"(min_members={self.settings['min_members']})"
        )

    @property
    def of_best(self) -> tuple[GroupConservation, ...]:
        """Groups that hold the lowest minimum, largest first."""
        return tuple(g for g in self.groups if g.members[0] == 0)

    @property
    def headline(self) -> GroupConservation | None:
        """The group that holds the lowest minimum and says most; None where no group was large enough.

        With more live conserved weights than chance gives (q_group at most alpha): the smallest q_group, then most
        such weights. Else, of those whose weights agree more closely than chance (q_spread at most alpha), the one
        hardest to explain by it (spread_z). Else the largest one for which there is a null.
        """
        found = self.of_best

        def rank(g: GroupConservation) -> tuple[float, ...]:
            size = -float(len(g.members))
            if g.q_group <= self.alpha:
                return (0, g.q_group, -float(g.live_conserved.sum()), size)
            if g.q_spread <= self.alpha:
                return (1, g.spread_z, size)
            return (2 if np.isfinite(g.p_group) else 3, size)

        return min(found, key=rank) if found else None

    @property
    def significant(self) -> tuple[GroupConservation, ...]:
        """Groups with more live conserved weights than chance gives, at false discovery rate alpha."""
        return tuple(g for g in self.groups if g.q_group <= self.alpha)

    def to_pandas(self) -> Any:
        """One row per group."""
        import pandas as pd

        rows = []
        for g in self.groups:
            row: dict[str, Any] = {
                "group": g.name,
                "levels": g.levels,
                "energy": g.energy,
                "minima": len(g.members),
                "lowest loss": float(self.landscape.energies[g.members[0]]),
                "live weights": int(g.live.sum()),
                "live conserved": int(g.live_conserved.sum()),
                "dead conserved": int((g.conserved & ~g.live).sum()),
                "expected by chance": float(g.null_count.mean()) if len(g.null_count) else np.nan,
                "p": g.p_group,
                "q": g.q_group,
                "spread / chance": g.spread_ratio,
                "q, spread": g.q_spread,
            }
            if g.validation is not None:
                row[f"{g.validation.metric} drop, conserved"] = float(g.validation.conserved.mean())
                row[f"{g.validation.metric} drop, others"] = float(g.validation.others.mean())
                row["p, validation"] = g.validation.p_value
                row["p, same layers"] = g.validation.p_like
            rows.append(row)
        return pd.DataFrame(rows)

    def by_level(self) -> Any:
        """One row per level: the group of the lowest minimum there and what is conserved in it."""
        import pandas as pd

        rows = []
        for level in range(1, self.cut.levels + 1):
            groups = self.cut.groups(level)
            name = self.cut.name_of(0, level)
            match = [g for g in self.of_best if g.level <= level <= g.last_level]
            row: dict[str, Any] = {
                "level": level,
                "energy": self.cut.energies[level - 1],
                "groups": len(groups),
                "group of the best": name,
                "minima in it": len(groups[name]) if name else 0,
            }
            if match:
                g = match[0]
                row |= {"live conserved": int(g.live_conserved.sum()), "q": g.q_group}
                row |= {"spread / chance": g.spread_ratio, "q, spread": g.q_spread}
                if g.sources is not None and g.sources.mass.any():
                    top = np.argsort(-g.sources.mass, kind="stable")[:3]
                    row["leading inputs"] = ", ".join(g.sources.labels[i] for i in top if g.sources.mass[i] > 0)
            rows.append(row)
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        table = self.to_pandas().to_html(border=0, index=False, float_format=lambda v: f"{v:.4g}")
        head = f"{len(self.significant)} of {len(self.groups)} groups significant"
        return f"<p><b>Conserved weights</b>: {head}</p>{table}"


def conserved_weights(
    landscape: Landscape,
    cut: LevelCut | None = None,
    *,
    threshold: float = 0.01,
    min_members: int = 5,
    draws: int = 300,
    null_members: int = 40,
    seed: int = 0,
    alpha: float = 0.05,
    test: Any = None,
    features: Sequence[str] | None = None,
    sources: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    shuffles: int = 40,
    test_rows: int = 4000,
    compare: int = 4,
) -> ConservedWeights:
    """Conserved weights, attributions, significance and validation of every group with enough minima.

    Args:
        landscape: with a problem where symmetry, layers or test data matter.
        cut: level cut; default ``level_cut(landscape)``.
        threshold: n, the standard deviation below which a weight is conserved.
        min_members: smallest group that is analysed, at least 2.
        draws: random groups per tested group.
        null_members: most members of a random group (a standard deviation needs no more).
        seed: of random groups and shuffles.
        alpha: false discovery rate of what is called significant.
        test: held-out (x, y), or a ``Dataset`` (which also gives the names), for validation and comparison.
        features, sources, classes: names of inputs, the source column of each, names of outputs.
        shuffles: seeds of the validation.
        test_rows: most test rows used, drawn by seed.
        compare: how many groups to compare with permutation importance and gradients: the headline first, then the
            others by q_group. Every such group costs some hundred evaluations of the test data.
    """
    if min_members < 2:
        raise ArgumentError(f"min_members must be at least 2, got {min_members}")
    if not (threshold > 0 and draws >= 1 and null_members >= 2 and shuffles >= 1):
        raise ArgumentError("threshold must be positive, draws and shuffles at least 1, null_members at least 2")
    cut = level_cut(landscape) if cut is None else cut
    if hasattr(test, "features"):
        features = test.features if features is None else features
        sources = test.sources if sources is None else sources
        classes = test.classes if classes is None else classes
        test = (test.x, test.y)
    problem = landscape.problem
    layout = Layout.of(problem, landscape.size, features, sources, classes)
    scorer = held_out(problem, test, test_rows, seed) if test is not None and problem is not None else None
    measured = [
        _measure(landscape, layout, name, cut, last, members, threshold, draws, null_members, seed)
        for name, last, members in cut.distinct(min_members)
    ]
    q = benjamini_hochberg(np.array([g.p_group for g in measured]))
    r = benjamini_hochberg(np.array([g.p_spread for g in measured]))
    groups = [replace(g, q_group=float(a), q_spread=float(b)) for g, a, b in zip(measured, q, r)]
    if scorer is not None:
        groups = [replace(g, validation=validate(landscape, g, scorer, shuffles, seed, alpha)) for g in groups]
    settings = {
        "min_members": min_members,
        "draws": draws,
        "null_members": null_members,
        "seed": seed,
        "shuffles": shuffles,
        "test_rows": 0 if scorer is None else len(scorer.y),
        "live_share": LIVE_SHARE,
    }
    result = ConservedWeights(landscape, cut, tuple(groups), layout, threshold, alpha, settings)
    if scorer is None or layout.sizes is None or compare < 1 or result.headline is None:
        return result
    first = result.headline.name
    ranked = sorted(groups, key=lambda g: (g.name != first, np.nan_to_num(g.q_group, nan=2.0), -len(g.members)))
    chosen = {g.name for g in ranked[:compare]}
    cache: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    groups = [
        replace(g, comparison=compare_group(landscape, g, scorer, seed, cache)) if g.name in chosen else g
        for g in groups
    ]
    return ConservedWeights(landscape, cut, tuple(groups), layout, threshold, alpha, settings)


def _measure(
    landscape: Landscape,
    layout: Layout,
    name: str,
    cut: LevelCut,
    last: int,
    members: np.ndarray,
    threshold: float,
    draws: int,
    null_members: int,
    seed: int,
) -> GroupConservation:
    symmetry = getattr(landscape.problem, "symmetry", None)
    reference = landscape.coordinates[members[0]]
    aligned, _, _ = align_many(symmetry, landscape.coordinates[members], reference)
    mean, std = aligned.mean(0), aligned.std(0, ddof=1)
    square = (aligned**2).mean(0)
    conserved = std < threshold
    live = _live(square, layout, threshold)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(mean != 0, std / np.abs(mean), np.inf)
    level, node = (int(part) for part in name.split("_"))
    rng = np.random.default_rng([seed, 21, level, node])
    null = _null(landscape, members, reference, draws, null_members, rng)
    count = int((conserved & live).sum())
    p, p_group, p_spread, ratio, z = np.full(len(mean), np.nan), *[float("nan")] * 4
    chance, counts, kind = None, np.zeros(0, int), "none"
    if null is not None:
        null_std, null_mean, null_square, kind = null
        null_live = _live(null_square, layout, threshold)
        chance = Statistics(null_mean, null_std, null_live, null_live & (null_std < threshold))
        counts = chance.keep.sum(1)
        p = (1 + (null_std <= std).sum(0)) / (1 + draws)
        p_group = float((1 + (counts >= count).sum()) / (1 + draws)) if count else 1.0
        if live.any():
            spread = np.log(np.maximum(null_std[:, live], 1e-12)).mean(1)
            own = float(np.log(np.maximum(std[live], 1e-12)).mean())
            ratio, p_spread = float(np.exp(own - spread.mean())), float((1 + (spread <= own).sum()) / (1 + draws))
            z = float((own - spread.mean()) / max(spread.std(), 1e-12))
    inputs = sources = None
    if layout.sizes is not None:
        mine = Statistics(mean, std, live, conserved & live)
        inputs = attribute(layout, mine, chance, layout.features, np.arange(layout.sizes[0]))
        labels = tuple(dict.fromkeys(layout.origins))
        where = np.array([labels.index(o) for o in layout.origins])
        same = len(labels) == len(layout.features)
        sources = inputs if same else attribute(layout, mine, chance, labels, where)
    return GroupConservation(
        name=name,
        level=level,
        last_level=last,
        energy=float(cut.energies[level - 1]),
        members=members,
        mean=mean,
        std=std,
        relative_std=relative,
        conserved=conserved,
        live=live,
        p_value=p,
        q_value=benjamini_hochberg(p),
        p_group=p_group,
        q_group=float("nan"),
        spread_ratio=ratio,
        spread_z=z,
        p_spread=p_spread,
        q_spread=float("nan"),
        null_count=counts,
        null_kind=kind,
        layout=layout,
        inputs=inputs,
        sources=sources,
        sweep=_sweep(std, live, chance, threshold),
    )


def _null(
    landscape: Landscape,
    members: np.ndarray,
    reference: np.ndarray,
    draws: int,
    null_members: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str] | None:
    """std, mean and mean square [draws, N] of random groups in the frame of the reference, and their kind."""
    symmetry = getattr(landscape.problem, "symmetry", None)
    size = min(len(members), null_members)
    pool, kind = np.setdiff1d(np.arange(landscape.n_minima), members), "others"
    if len(pool) < 2 * size:
        # Too few others for independent draws: random relabelling of all minima instead.
        pool, kind = np.arange(landscape.n_minima), "all"
        if len(members) == landscape.n_minima:
            return None
    _, frame_index, frame_sign = align_many(symmetry, landscape.coordinates[pool], reference)
    framed = symmetry is None or symmetry.order() == 1 or hasattr(symmetry, "alignments")
    std = np.empty((draws, landscape.size))
    mean, square = np.empty_like(std), np.empty_like(std)
    for d in range(draws):
        drawn = np.sort(rng.permutation(len(pool))[:size])
        points, lowest = landscape.coordinates[pool[drawn]], int(drawn[0])
        target = points[0] if framed or symmetry is None else symmetry.align(points[0], reference)
        own, _, _ = align_many(symmetry, points, target)
        index, sign = frame_index[lowest], frame_sign[lowest]
        std[d] = own.std(0, ddof=1)[index]
        mean[d] = sign * own.mean(0)[index]
        square[d] = (own**2).mean(0)[index]
    return std, mean, square, kind


def _sweep(std: np.ndarray, live: np.ndarray, null: Statistics | None, threshold: float) -> ThresholdSweep:
    thresholds = threshold * np.array([0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0])
    count = np.array([int(((std < n) & live).sum()) for n in thresholds])
    expected, p = np.full(len(thresholds), np.nan), np.full(len(thresholds), np.nan)
    if null is not None:
        chance = np.stack([((null.std < n) & null.live).sum(1) for n in thresholds])
        expected = chance.mean(1)
        p = np.where(count > 0, (1 + (chance >= count[:, None]).sum(1)) / (1 + chance.shape[1]), 1.0)
    return ThresholdSweep(thresholds, count, expected, p)
