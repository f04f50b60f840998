"""How numbers and lists read in a report."""

from __future__ import annotations

import numpy as np


def number(value: float, digits: int = 3) -> str:
    """A number with so many significant digits."""
    return f"{value:.{digits}g}"


def p_value(value: float) -> str:
    """A p-value; NaN is one that could not be tested."""
    return "not testable" if not np.isfinite(value) else f"{value:.2g}"


def listed(names: list[str], most: int = 5) -> str:
    """Names as a list in a sentence, the first few of them."""
    shown = names[:most]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown[:-1]) + (" and " if len(shown) > 1 and not more else ", " if len(shown) > 1 else "") + (
        shown[-1] if shown else ""
    ) + more  # fmt: skip
