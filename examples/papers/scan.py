"""Every landscape of the page on landscapes, one after the other; what is there already is read, not done again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from examples.papers import conservation, landscape_data

NETWORKS = ((5, 1e-4), (8, 1e-4), (5, 1e-3))
"""(hidden units, lam) of every data set."""
WIDE = ("breast_cancer", "credit")
"""Data sets whose networks have over 150 weights: minima only."""


def cases(splits: range, small: bool) -> Iterator[conservation.Case]:
    """Splits first, so that an unfinished scan is a balanced one."""
    for split in splits:
        for name in landscape_data.NAMES:
            for hidden, lam in NETWORKS[:1] if small else NETWORKS:
                yield conservation.Case(
                    data=name,
                    hidden=hidden,
                    lam=lam,
                    split=split,
                    minima=12 if small else 60,
                    rounds=0 if name in WIDE or small else 10,
                )


def scan(folder: Path, splits: range, small: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of sets and of weights (see ``conservation``) of all cases whose data are here; kept under ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    of_sets, of_weights = [], []
    for case in cases(splits, small):
        stem = folder / f"{case.data}-{case.hidden}-{case.lam:g}-{case.split}"
        files = stem.with_name(stem.name + "-sets.csv"), stem.with_name(stem.name + "-weights.csv")
        if not all(path.exists() for path in files):
            parts = landscape_data.split(case.data, case.split)
            if parts is None:
                continue
            size = {"sets": 10, "draws": 2} if small else {}
            landscape, *found = conservation.study(case, *parts, **size)
            print(
                f"{case.data}, {case.hidden} hidden, lam {case.lam:g}, split {case.split}: {landscape.describe()}",
                flush=True,
            )
            for table, path in zip(found, files):
                table.to_csv(path, index=False)
        of_sets.append(pd.read_csv(files[0]))
        of_weights.append(pd.read_csv(files[1]))
    return pd.concat(of_sets, ignore_index=True), pd.concat(of_weights, ignore_index=True)
