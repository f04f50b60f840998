"""A table of the features of a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxland.data import Dataset

if TYPE_CHECKING:
    import pandas


def feature_summary(data: Dataset) -> pandas.DataFrame:
    """One row per feature, in the units of the file: range, mean and, for two classes, how far their means differ."""
    import pandas as pd

    x = data.inputs()
    # A zero that was scaled and back is one of rounding.
    x = np.where(np.abs(x) < 1e-12 * np.abs(x).max(0), 0.0, x)
    frame = pd.DataFrame(
        {
            "feature": data.features,
            "from column": data.sources,
            "smallest": x.min(0),
            "mean": x.mean(0),
            "largest": x.max(0),
        }
    )
    if list(data.features) == list(data.sources):
        frame = frame.drop(columns="from column")
    if data.task == "classification" and len(data.classes) == 2 and data.n > 2:
        spread = x.std(0)
        gap = x[data.y == 1].mean(0) - x[data.y == 0].mean(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            frame[f"difference of means, {data.classes[1]} minus {data.classes[0]} (in sd)"] = np.where(
                spread > 0, gap / spread, 0.0
            )
    return frame
