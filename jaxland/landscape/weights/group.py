"""One group of minima: which of its weights are conserved and live, and how that compares with random groups.

See ``jaxland.landscape.weights`` for the definitions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxland.data.recipe import grouped
from jaxland.landscape.result import Landscape
from jaxland.landscape.tree import LevelCut
from jaxland.landscape.weights.attribution import WeightAttribution, attribute
from jaxland.landscape.weights.comparison import Comparison
from jaxland.landscape.weights.null import (
    GroupStatistics,
    RandomGroups,
    ThresholdSweep,
    live_weights,
    q_values,
    random_groups,
    sweep,
)
from jaxland.landscape.weights.parameters import ParameterTable
from jaxland.landscape.weights.settings import ConservationSettings
from jaxland.landscape.weights.validation import Validation
from jaxland.problem.symmetry import align_many

if TYPE_CHECKING:
    import pandas


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
        parameters: what each weight is.
        inputs, sources: attributions per feature and per source column (None without a known first layer).
        validation, comparison: None where there were no test data, too few weights, or they were not asked for.
        removal: [N] what the lowest member loses without one weight, see ``removal_costs``; of the headline only.
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
    parameters: ParameterTable = field(repr=False)
    inputs: WeightAttribution | None = None
    sources: WeightAttribution | None = None
    validation: Validation | None = None
    comparison: Comparison | None = None
    removal: np.ndarray | None = None

    @property
    def statistics(self) -> GroupStatistics:
        """[N] each."""
        return GroupStatistics(self.mean, self.std, self.live, self.live_conserved)

    @property
    def live_conserved(self) -> np.ndarray:
        """bool [N]."""
        return self.conserved & self.live

    def agreeing(self, alpha: float = 0.05) -> np.ndarray:
        """bool [N]: live weights whose spread is smaller than chance gives, at false discovery rate alpha."""
        return self.live & (np.nan_to_num(self.q_value, nan=1.0) <= alpha)

    def closer_than_chance(self, alpha: float = 0.05) -> bool:
        """Whether its weights scatter less than those of random groups, at false discovery rate alpha."""
        return self.q_spread <= alpha and self.spread_ratio < 1

    def leading_inputs(self, alpha: float = 0.05) -> list[str]:
        """Source columns whose conserved mass beats chance, largest mass first."""
        return [] if self.sources is None else self.sources.leading(alpha)

    def agreeing_inputs(self, alpha: float = 0.05) -> list[str]:
        """Source columns whose first-layer weights scatter less than chance gives, closest agreement first."""
        return [] if self.sources is None else self.sources.agreeing(alpha)

    @property
    def levels(self) -> str:
        """Such as ``12`` or ``12–15``."""
        return str(self.level) if self.level == self.last_level else f"{self.level}–{self.last_level}"

    def to_pandas(self) -> pandas.DataFrame:
        """One row per weight, live conserved ones first, smallest std first."""
        import pandas as pd

        state = np.where(self.live, "live", "dead")
        frame = pd.DataFrame(
            {
                "weight": self.parameters.names,
                "mean": self.mean,
                "std": self.std,
                "relative std": self.relative_std,
                "conserved": self.conserved,
                "state": state,
                "p": self.p_value,
                "q": self.q_value,
            }
        )
        if self.removal is not None:
            frame["removal costs"] = self.removal
        order = np.lexsort((self.std, ~self.live_conserved))
        return frame.iloc[order].reset_index(drop=True)


class _Chance(NamedTuple):
    """What random groups say of a group; the fields are those of ``GroupConservation``."""

    p_value: np.ndarray
    p_group: float
    spread_ratio: float
    spread_z: float
    p_spread: float
    null_count: np.ndarray
    null_kind: str


def measure_group(
    landscape: Landscape,
    table: ParameterTable,
    cut: LevelCut,
    name: str,
    last: int,
    members: np.ndarray,
    settings: ConservationSettings,
) -> GroupConservation:
    """Conserved weights of one group, without validation and comparison; q values over groups are still NaN.

    Args:
        landscape: whose minima.
        table: what each weight is.
        cut: where the group comes from.
        name, last, members: as ``LevelCut.distinct`` gives them.
        settings: threshold, number and size of the random groups, seed.
    """
    symmetry = getattr(landscape.problem, "symmetry", None)
    reference = landscape.coordinates[members[0]]
    aligned, _, _ = align_many(symmetry, landscape.coordinates[members], reference)
    mean, std = aligned.mean(0), aligned.std(0, ddof=1)
    conserved = std < settings.threshold
    live = live_weights((aligned**2).mean(0), table, settings.threshold)
    own = GroupStatistics(mean, std, live, conserved & live)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(mean != 0, std / np.abs(mean), np.inf)
    level, node = (int(part) for part in name.split("_"))
    rng = np.random.default_rng([settings.seed, 21, level, node])
    drawn = random_groups(landscape, members, reference, settings.draws, settings.null_members, rng)
    null = None if drawn is None else drawn.statistics(table, settings.threshold)
    inputs, sources = _attributions(table, own, null)
    chance = _chance(own, drawn, null)
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
        q_value=q_values(chance.p_value),
        q_group=float("nan"),
        q_spread=float("nan"),
        parameters=table,
        inputs=inputs,
        sources=sources,
        sweep=sweep(std, live, null, settings.threshold),
        **chance._asdict(),
    )


def _chance(own: GroupStatistics, drawn: RandomGroups | None, null: GroupStatistics | None) -> _Chance:
    """p-values of a group [N each] against random ones [draws, N each]."""
    nan = float("nan")
    if drawn is None or null is None:
        return _Chance(
            p_value=np.full(len(own.mean), np.nan),
            p_group=nan,
            spread_ratio=nan,
            spread_z=nan,
            p_spread=nan,
            null_count=np.zeros(0, int),
            null_kind="none",
        )
    draws, count, counts = len(null.std), int(own.keep.sum()), null.keep.sum(1)
    ratio = z = p_spread = nan
    if own.live.any():
        spread = np.log(np.maximum(null.std[:, own.live], 1e-12)).mean(1)
        mine = float(np.log(np.maximum(own.std[own.live], 1e-12)).mean())
        ratio, p_spread = float(np.exp(mine - spread.mean())), float((1 + (spread <= mine).sum()) / (1 + draws))
        z = float((mine - spread.mean()) / max(spread.std(), 1e-12))
    return _Chance(
        p_value=(1 + (null.std <= own.std).sum(0)) / (1 + draws),
        p_group=float((1 + (counts >= count).sum()) / (1 + draws)) if count else 1.0,
        spread_ratio=ratio,
        spread_z=z,
        p_spread=p_spread,
        null_count=counts,
        null_kind=drawn.kind,
    )


def _attributions(
    table: ParameterTable, own: GroupStatistics, null: GroupStatistics | None
) -> tuple[WeightAttribution | None, WeightAttribution | None]:
    """Per feature and per source column; None each where the first layer is not known."""
    if table.sizes is None:
        return None, None
    inputs = attribute(table, own, null, table.features, np.arange(table.sizes[0]))
    labels, where = grouped(table.origins)
    if labels == tuple(table.features):
        return inputs, inputs
    return inputs, attribute(table, own, null, labels, where)
