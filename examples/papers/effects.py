"""From the rows of a scan to effects with intervals: averages over landscapes of a data set, then over data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t as student

TIGHT = (0.0, 0.2, 0.35, 0.5, np.inf)
"""Bins of tightness: median spread of the live weights over their root mean square."""
TIGHTNESS = ("below .2", ".2 to .35", ".35 to .5", "above .5")


class Effect(NamedTuple):
    """A mean with its 95 % interval over ``n`` independent values (Student's t); NaN interval for fewer than two."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if self.n < 2:
            return "–" if not self.n else f"{self.mean:+.3f} (one)"
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def effect(values: Sequence[float] | np.ndarray | pd.Series) -> Effect:
    """Of independent values, NaN ones left out."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    if not len(known):
        return Effect(float("nan"), float("nan"), float("nan"), 0)
    mean = float(known.mean())
    if len(known) < 2:
        return Effect(mean, float("nan"), float("nan"), 1)
    half = float(student.ppf(0.975, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known)))
    return Effect(mean, mean - half, mean + half, len(known))


def prepared(rows: pd.DataFrame) -> pd.DataFrame:
    """With the differences own - rival of rows of sets, and bins of tightness."""
    rows = rows.assign(tight=pd.cut(rows.tightness, TIGHT, labels=TIGHTNESS, right=False))
    for rival in ("any", "live", "matched"):
        if f"drop_{rival}" in rows:
            rows[f"against_{rival}"] = rows["drop"] - rows[f"drop_{rival}"]
    return rows


def by_landscape(rows: pd.DataFrame, column: str) -> pd.Series:
    """Mean of a column over the groups of each landscape; groups of one landscape are not independent."""
    return rows.groupby(["data", "hidden", "lam", "split"], observed=True)[column].mean()


def of_data(rows: pd.DataFrame, column: str) -> dict[str, Effect]:
    """Effect over the landscapes of each data set."""
    means = by_landscape(rows, column)
    return {str(name): effect(part) for name, part in means.groupby("data")}


def overall(rows: pd.DataFrame, column: str) -> Effect:
    """Effect over data sets, each one value: what to expect of the next data set."""
    return effect([e.mean for e in of_data(rows, column).values()])


def table(rows: pd.DataFrame, column: str, by: str, keys: Sequence[object]) -> pd.DataFrame:
    """One row a data set and one for all, one column a value of ``by``: mean and 95 % interval."""
    names = sorted(rows.data.unique())
    out = pd.DataFrame({"data": [*names, "**all data sets**"]})
    for key in keys:
        part = rows[rows[by] == key]
        found = of_data(part, column)
        out[str(key)] = [str(found.get(name, effect([]))) for name in names] + [str(overall(part, column))]
    return out


class Choice(NamedTuple):
    """The best of a scan on one half of the splits, and what the other half says of it."""

    ranking: str
    group: str
    network: str
    found: Effect
    held_out: Effect
    scanned: int


def scanned(rows: pd.DataFrame, column: str, rankings: Sequence[str], first: Sequence[int]) -> Choice | None:
    """Choose ranking, group and network by mean over interval on splits ``first``; test on the rest."""
    rows = rows.assign(
        group_kind=np.where(rows.kind == "lowest", "the " + rows.group.astype(str) + " lowest", "superbasins"),
        network=rows.hidden.astype(str) + " hidden, lam " + rows.lam.map("{:g}".format),
    )
    inside = rows.split.isin(list(first))
    best: tuple[float, Choice] | None = None
    count = 0
    for ranking in rankings:
        for group in [*sorted(rows.group_kind.unique()), *TIGHTNESS]:
            for network in [*sorted(rows.network.unique()), "any"]:
                part = rows.ranking == ranking
                part &= (rows.tight == group) if group in TIGHTNESS else (rows.group_kind == group)
                part &= True if network == "any" else rows.network == network
                found = overall(rows[part & inside], column)
                if found.n < 3 or not found.high > found.low:
                    continue
                count += 1
                ratio = found.mean / (found.high - found.low)
                if best is None or ratio > best[0]:
                    best = ratio, Choice(ranking, group, network, found, overall(rows[part & ~inside], column), count)
    return None if best is None else best[1]._replace(scanned=count)
