"""What was checked of every stored point of a landscape, and the worst values found."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from jaxland.landscape.result import Landscape

if TYPE_CHECKING:
    import pandas


def audit(landscape: Landscape) -> pandas.DataFrame:
    """One row per check: its outcome for minima and for transition states, as text."""
    import pandas as pd

    ts_gradients = np.zeros(0) if landscape.ts_gradients is None else landscape.ts_gradients
    ends = landscape.ts_ends
    low = landscape.energies[ends].max(1) - landscape.ts_energies if len(ends) else np.zeros(0)
    noise = 1e-9 * (landscape.scale.energy + np.abs(landscape.ts_energies))
    rows = [
        ("points", f"{landscape.n_minima:,}", f"{landscape.n_ts:,}"),
        ("largest rms gradient", _worst(landscape.gradients, np.max), _worst(ts_gradients, np.max)),
        (
            "lowest Hessian eigenvalue, extreme",
            _worst(landscape.lowest_eigenvalues, np.min, " (must be positive)"),
            _worst(landscape.ts_eigenvalues, np.max, " (must be negative)"),
        ),
        (
            "wrong index",
            f"{int(np.sum(landscape.lowest_eigenvalues <= 0))}",
            f"{int(np.sum(landscape.ts_eigenvalues >= 0))}",
        ),
        ("below one of its minima", "–", f"{int(np.sum(low > noise))}"),
        ("degenerate rearrangements", "–", f"{int(landscape.degenerate.sum())}"),
        ("connected components", f"{int(landscape.components().max()) + 1}", "–"),
        ("found only once", f"{int(np.sum(np.asarray(landscape.hits) == 1))}", "–"),
    ]
    return pd.DataFrame(rows, columns=["", "minima", "transition states"])


def _worst(values: ArrayLike, pick: Callable[[np.ndarray], np.floating], note: str = "") -> str:
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    return f"{float(pick(known)):.3g}{note}" if len(known) else "–"
