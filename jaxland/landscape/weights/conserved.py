"""Conserved weights of the groups of a landscape, what they say of the inputs, and whether it is more than chance.

See ``jaxland.landscape.weights`` for the definitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from jaxland.data import Dataset
from jaxland.errors import ArgumentError
from jaxland.landscape.result import Landscape
from jaxland.landscape.tree import LevelCut, energy_windows, level_cut
from jaxland.landscape.weights.comparison import compare_group
from jaxland.landscape.weights.group import GroupConservation, measure_group
from jaxland.landscape.weights.null import LIVE_SHARE, q_values
from jaxland.landscape.weights.parameters import ParameterTable
from jaxland.landscape.weights.removal import removal_costs
from jaxland.landscape.weights.scoring import Scorer
from jaxland.landscape.weights.settings import ConservationSettings
from jaxland.landscape.weights.validation import validate
from jaxland.problem.precision import in_precision
from jaxland.showing import brief

if TYPE_CHECKING:
    import pandas

WINDOWS = (10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True, eq=False)
class ConservedWeights:
    """Conserved weights of every group with enough members.

    Attributes:
        landscape, cut: what was analysed.
        groups: from the top level down.
        parameters: what each weight is.
        settings: how.
        test_rows: how many rows of test data were used; 0 without.
    """

    landscape: Landscape
    cut: LevelCut
    groups: tuple[GroupConservation, ...]
    parameters: ParameterTable
    settings: ConservationSettings
    test_rows: int

    __repr__ = brief

    @property
    def threshold(self) -> float:
        """n."""
        return self.settings.threshold

    @property
    def alpha(self) -> float:
        """Level of the false discovery rate."""
        return self.settings.alpha

    def facts(self) -> dict[str, int | float]:
        """What a reader should know of the analysis, by name."""
        s = self.settings
        return {
            "min_members": s.min_members,
            "draws": s.draws,
            "null_members": s.null_members,
            "seed": s.seed,
            "shuffles": s.shuffles,
            "test_rows": self.test_rows,
            "live_share": LIVE_SHARE,
        }

    def __getitem__(self, name: str) -> GroupConservation:
        """The analysed group with the members of ``level_node``."""
        members = self.cut.group(name)
        for group in self.groups:
            if np.array_equal(group.members, members):
                return group
        raise ArgumentError(
            f"group {name!r} has {len(members)} minima and was not analysed (min_members={self.settings.min_members})"
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

    @property
    def closer_than_chance(self) -> tuple[GroupConservation, ...]:
        """Groups whose weights scatter less than those of random groups, at false discovery rate alpha."""
        return tuple(g for g in self.groups if g.closer_than_chance(self.alpha))

    def shared_inputs(self) -> list[str]:
        """Inputs agreed on in every group of ``closer_than_chance``, in the order of the last one."""
        close = self.closer_than_chance
        common = [set(g.agreeing_inputs(self.alpha)) for g in close]
        last = close[-1].agreeing_inputs(self.alpha) if close else []
        return [name for name in last if all(name in names for names in common)]

    def to_pandas(self) -> pandas.DataFrame:
        """One row per group."""
        import pandas as pd

        rows = []
        for g in self.groups:
            row: dict[str, object] = {
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

    def by_level(self) -> pandas.DataFrame:
        """One row per level: the group of the lowest minimum there and what is conserved in it."""
        import pandas as pd

        rows = []
        for level in range(1, self.cut.levels + 1):
            groups = self.cut.groups(level)
            name = self.cut.name_of(0, level)
            match = [g for g in self.of_best if g.level <= level <= g.last_level]
            row: dict[str, object] = {
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

    def by_window(self) -> pandas.DataFrame:
        """One row per set of lowest minima, where the cut is one by ``energy_windows``."""
        import pandas as pd

        rows = []
        for g in self.groups:
            row: dict[str, object] = {
                "lowest minima": len(g.members),
                "loss below": g.energy,
                "spread / chance": g.spread_ratio,
                "q, spread": g.q_spread,
                "live conserved": int(g.live_conserved.sum()),
                "q": g.q_group,
            }
            if g.validation is not None:
                row["p, validation"] = g.validation.p_value
                row["p, same layers"] = g.validation.p_like
            row["inputs agreed on most"] = ", ".join(g.agreeing_inputs(self.alpha)[:4]) or "–"
            rows.append(row)
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        table = self.to_pandas().to_html(border=0, index=False, float_format=lambda v: f"{v:.4g}")
        head = f"{len(self.significant)} of {len(self.groups)} groups significant"
        return f"<p><b>Conserved weights</b>: {head}</p>{table}"


@in_precision
def conserved_weights(
    landscape: Landscape,
    cut: LevelCut | None = None,
    settings: ConservationSettings | None = None,
    *,
    test: Dataset | tuple[ArrayLike, ArrayLike] | None = None,
    features: Sequence[str] | None = None,
    sources: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
) -> ConservedWeights:
    """Conserved weights, attributions, significance and validation of every group with enough minima.

    Args:
        landscape: with a problem where symmetry, layers or test data matter.
        cut: level cut; default ``level_cut(landscape)``.
        settings: threshold, random groups, validation; see ``ConservationSettings``.
        test: held-out (x, y), or a ``Dataset`` (which also gives the names), for validation and comparison.
        features, sources, classes: names of inputs, the source column of each, names of outputs.
    """
    s = settings or ConservationSettings()
    cut = level_cut(landscape) if cut is None else cut
    if isinstance(test, Dataset):
        features = test.features if features is None else features
        sources = test.sources if sources is None else sources
        classes = test.classes if classes is None else classes
    problem = landscape.problem
    table = ParameterTable.of(problem, landscape.size, features, sources, classes)
    scorer = None
    if test is not None and problem is not None:
        scorer = Scorer.held_out(problem, test, s.test_rows, s.seed)
    groups = [
        measure_group(landscape, table, cut, name, last, members, s)
        for name, last, members in cut.distinct(s.min_members)
    ]
    q, r = (q_values(np.array(p)) for p in ([g.p_group for g in groups], [g.p_spread for g in groups]))
    groups = [replace(g, q_group=float(a), q_spread=float(b)) for g, a, b in zip(groups, q, r)]
    if scorer is not None:
        groups = [_validated(landscape, g, scorer, s) for g in groups]
    result = ConservedWeights(
        landscape=landscape,
        cut=cut,
        groups=tuple(groups),
        parameters=table,
        settings=s,
        test_rows=0 if scorer is None else len(scorer.y),
    )
    result = _removed(result)
    return result if scorer is None else _compared(result, scorer)


def _removed(conserved: ConservedWeights) -> ConservedWeights:
    """With what removing a weight costs the best network, in the headline."""
    headline, problem = conserved.headline, conserved.landscape.problem
    if headline is None or problem is None or problem.loss is None:
        return conserved
    w = conserved.landscape.coordinates[headline.members[0]]
    costs = removal_costs(problem, w, rows=conserved.settings.test_rows, seed=conserved.settings.seed)
    groups = [replace(g, removal=costs) if g is headline else g for g in conserved.groups]
    return replace(conserved, groups=tuple(groups))


def _validated(
    landscape: Landscape, g: GroupConservation, scorer: Scorer, settings: ConservationSettings
) -> GroupConservation:
    found = validate(
        landscape,
        g.members,
        g.statistics,
        g.agreeing(settings.alpha),
        g.parameters,
        scorer,
        shuffles=settings.shuffles,
        seed=settings.seed,
    )
    return replace(g, validation=found)


def _compared(conserved: ConservedWeights, scorer: Scorer) -> ConservedWeights:
    """With the comparison of the headline and the groups that follow it."""
    headline, settings, table = conserved.headline, conserved.settings, conserved.parameters
    if table.sizes is None or settings.compare < 1 or headline is None:
        return conserved
    ranked = sorted(
        conserved.groups,
        key=lambda g: (g.name != headline.name, np.nan_to_num(g.q_group, nan=2.0), -len(g.members)),
    )
    chosen = {g.name for g in ranked[: settings.compare]}
    cache: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def compared(g: GroupConservation) -> GroupConservation:
        if g.name not in chosen or g.sources is None:
            return g
        found = compare_group(
            conserved.landscape, g.members, g.sources, table, scorer, seed=settings.seed, cache=cache
        )
        return replace(g, comparison=found)

    return replace(conserved, groups=tuple(compared(g) for g in conserved.groups))


def lowest_windows(
    landscape: Landscape,
    conserved: ConservedWeights,
    test: Dataset | tuple[ArrayLike, ArrayLike] | None = None,
) -> ConservedWeights | None:
    """Conserved weights of the lowest minima, joined or not, with the names and settings of ``conserved``.

    Args:
        landscape: all minima, also those that are not joined to the lowest.
        conserved: of the part that is.
        test: held-out data.

    Returns:
        None for a landscape of few minima or a model whose layers are not known.
    """
    least, table = conserved.settings.min_members, conserved.parameters
    if landscape.n_minima < 2 * least or table.sizes is None:
        return None
    return conserved_weights(
        landscape,
        energy_windows(landscape, tuple(sorted({least, *WINDOWS}))),
        replace(conserved.settings, compare=1),
        test=(test.x, test.y) if isinstance(test, Dataset) else test,
        features=table.features,
        sources=table.origins,
        classes=table.outputs,
    )
