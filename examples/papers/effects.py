"""From the rows of a scan to effects with intervals: averages over landscapes of a data set, then over data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t as student

TIGHT = (0.0, 0.1, 0.2, 0.35, np.inf)
"""Bins of tightness: median spread of the live weights over their root mean square."""
TIGHTNESS = ("below .1", ".1 to .2", ".2 to .35", "above .35")
LANDSCAPE = ["data", "hidden", "lam", "split"]
GROUP = [*LANDSCAPE, "kind", "group"]


class Effect(NamedTuple):
    """A mean with its 95 % interval over ``n`` independent values (Student's t), p of a zero mean; NaN if n < 2."""

    mean: float
    low: float
    high: float
    n: int
    p: float

    def __str__(self) -> str:
        if self.n < 2:
            return "–" if not self.n else f"{self.mean:+.3f} (one)"
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def effect(values: Sequence[float] | np.ndarray | pd.Series) -> Effect:
    """Of independent values, NaN ones left out."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    if not len(known):
        return Effect(float("nan"), float("nan"), float("nan"), 0, float("nan"))
    mean, freedom = float(known.mean()), len(known) - 1
    if not freedom:
        return Effect(mean, float("nan"), float("nan"), 1, float("nan"))
    error = float(known.std(ddof=1) / np.sqrt(len(known)))
    half = float(student.ppf(0.975, freedom)) * error
    p = float(2 * student.sf(abs(mean) / error, freedom)) if error else float("nan")
    return Effect(mean, mean - half, mean + half, len(known), p)


def holm(p: Sequence[float]) -> np.ndarray:
    """p-values [k] corrected for k tests after Holm (1979); NaN entries are no tests and stay NaN.

    >>> holm([0.01, 0.04, float("nan"), 0.03]).round(2).tolist()
    [0.03, 0.06, nan, 0.06]
    """
    values = np.asarray(p, float)
    out, known = np.full(len(values), np.nan), np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    out[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)), 1.0)
    return out


def prepared(rows: pd.DataFrame) -> pd.DataFrame:
    """With the differences own - rival of rows of sets, bins of tightness, and names of groups and networks."""
    rows = rows.assign(
        tight=pd.cut(rows.tightness, TIGHT, labels=TIGHTNESS, right=False),
        lot=np.where(rows.kind == "lowest", "the " + rows.group.astype(str) + " lowest", "superbasins"),
        network=rows.hidden.astype(str) + " hidden, lam " + rows.lam.map("{:g}".format),
    )
    for rival in ("any", "live", "matched"):
        if f"drop_{rival}" in rows:
            rows[f"against_{rival}"] = rows["drop"] - rows[f"drop_{rival}"]
    return rows


def by_landscape(rows: pd.DataFrame, column: str) -> pd.Series:
    """Mean of a column over the groups of each landscape; groups of one landscape are not independent."""
    return rows.groupby(LANDSCAPE, observed=True)[column].mean()


def of_data(rows: pd.DataFrame, column: str) -> dict[str, Effect]:
    """Effect over the landscapes of each data set."""
    means = by_landscape(rows, column)
    return {str(name): effect(part) for name, part in means.groupby("data")}


def overall(rows: pd.DataFrame, column: str) -> Effect:
    """Effect over data sets, each one value: what to expect of the next data set."""
    return effect([e.mean for e in of_data(rows, column).values()])


def against(rows: pd.DataFrame, ranking: str, other: str) -> pd.DataFrame:
    """Loss (column ``beyond``) when the set of one ranking is shuffled less that of another's of the same group."""
    one, two = (rows[rows.ranking == name].set_index(GROUP)["drop"] for name in (ranking, other))
    return (one - two).rename("beyond").reset_index()


def better(rows: pd.DataFrame, ranking: str, other: str, intervention: str) -> pd.DataFrame:
    """Rank correlation with the harm to test performance of one ranking less that of another (``beyond``)."""
    rows = rows[(rows.intervention == intervention) & (rows.harm == "performance")]
    one, two = (rows[rows.ranking == name].set_index(GROUP)["plain"] for name in (ranking, other))
    return (one - two).rename("beyond").reset_index()


class Choice(NamedTuple):
    """The best of a scan on one half of the splits, and what the other half says of it."""

    ranking: str
    where: str
    network: str
    found: Effect
    held_out: Effect
    scanned: int


def scanned(
    rows: pd.DataFrame, column: str, rankings: Sequence[str], first: Sequence[int], data: int = 3
) -> Choice | None:
    """Choose ranking, group and network by mean over error on splits ``first``; test on the rest.

    Only where sizes are matched (within a quarter) in at least ``data`` data sets of both halves.
    """
    rows = rows[(rows.size_ratio > 0.8) & (rows.size_ratio < 1.25)]
    inside = rows.split.isin(list(first))
    best: tuple[float, Choice] | None = None
    count = 0
    everywhere = pd.Series(True, index=rows.index)
    wheres = {"all groups": everywhere} | {lot: rows.lot == lot for lot in sorted(rows.lot.unique())}
    wheres |= {f"tightness {t}": rows.tight == t for t in TIGHTNESS}
    networks = {"all networks": everywhere} | {n: rows.network == n for n in sorted(rows.network.unique())}
    for ranking in rankings:
        for where, here in wheres.items():
            for network, there in networks.items():
                part = (rows.ranking == ranking) & here & there
                found, held_out = overall(rows[part & inside], column), overall(rows[part & ~inside], column)
                if min(found.n, held_out.n) < data or not found.high > found.low:
                    continue
                count += 1
                ratio = found.mean / (found.high - found.low)
                if best is None or ratio > best[0]:
                    best = ratio, Choice(ranking, where, network, found, held_out, count)
    return None if best is None else best[1]._replace(scanned=count)
