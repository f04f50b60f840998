"""From weights to inputs: which inputs the live conserved weights of a group belong to, and whether beyond chance.

See ``jaxland.landscape.weights`` for the definitions of live and conserved weights and of the random groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jaxland.landscape.weights.null import GroupStatistics, q_values
from jaxland.landscape.weights.parameters import ParameterTable

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class WeightAttribution:
    """What the live conserved weights of a group say of each input (or source column).

    Attributes:
        labels: [d]; outputs: [c] names.
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

    def leading(self, alpha: float = 0.05) -> list[str]:
        """Inputs whose conserved mass beats chance at false discovery rate alpha, largest mass first."""
        order = np.argsort(-self.mass, kind="stable")
        return [self.labels[i] for i in order if self.mass[i] > 0 and self.q_value[i] <= alpha]

    def agreeing(self, alpha: float = 0.05) -> list[str]:
        """Inputs whose first-layer weights scatter less than chance gives, closest agreement first."""
        order = np.argsort(self.spread_ratio, kind="stable")
        return [self.labels[i] for i in order if self.spread_q[i] <= alpha and self.spread_ratio[i] < 1]

    def direction(self, label: str) -> float:
        """Signed paths from an input to the second of two outputs less those to the first; 0 for other numbers."""
        to = self.path_signed[self.labels.index(label)]
        return float(to[1] - to[0]) if len(to) == 2 else 0.0

    def to_pandas(self) -> pandas.DataFrame:
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


def attribute(
    table: ParameterTable,
    group: GroupStatistics,
    null: GroupStatistics | None,
    labels: tuple[str, ...],
    where: np.ndarray,
) -> WeightAttribution:
    """Attribution of a group [N] against random groups [draws, N]; ``where`` [d] is the label of each input."""
    gather = np.zeros((len(labels), len(where)))
    gather[where, np.arange(len(where))] = 1.0
    keep = group.keep
    weights, kept = table.matrices(group.mean), table.matrices(keep)
    mass = gather @ (np.abs(weights[0]) * kept[0]).sum(1)
    absolute = signed = total = np.eye(len(where))
    for w, k in zip(weights, kept):
        absolute, signed, total = absolute @ (np.abs(w) * k), signed @ (w * k), total @ np.abs(w)
    missing = np.full(len(labels), np.nan)
    p, ratio, spread_p = missing, missing, missing
    if null is not None:
        null_mass = np.where(null.keep, np.abs(null.mean), 0.0)
        chance = np.stack([table.matrices(row)[0].sum(1) for row in null_mass]) @ gather.T
        p = np.where(mass > 0, (1 + (chance >= mass - 1e-15).sum(0)) / (1 + len(chance)), 1.0)
        live = table.matrices(group.live)[0].astype(float)
        number = gather @ live.sum(1)

        def spread(std: np.ndarray) -> np.ndarray:
            logs = table.matrices(np.log(np.maximum(std, 1e-12)))[0] * live
            return (gather @ logs.sum(1)) / np.maximum(number, 1)

        own, by_chance = spread(group.std), np.stack([spread(row) for row in null.std])
        ratio = np.where(number > 0, np.exp(own - by_chance.mean(0)), np.nan)
        spread_p = np.where(number > 0, (1 + (by_chance <= own).sum(0)) / (1 + len(by_chance)), np.nan)
    return WeightAttribution(
        labels=labels,
        outputs=table.outputs,
        count=(gather @ kept[0].sum(1)).astype(int),
        mass=mass,
        p_value=p,
        q_value=q_values(p),
        spread_ratio=ratio,
        spread_p=spread_p,
        spread_q=q_values(spread_p),
        path_mass=gather @ absolute,
        path_signed=gather @ signed,
        total_path_mass=gather @ total,
    )
