"""How numbers and lists read in a report."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class Headline(NamedTuple):
    """What a reader should take away; ``refused`` where the evidence is too thin for any."""

    sentence: str
    refused: bool


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


def bounds(rho: float, n: int) -> tuple[float, float]:
    """95 % interval of a rank correlation of n pairs (Fisher's z, Bonett and Wright 2000); NaN where unknown."""
    if not np.isfinite(rho) or n < 5:
        return math.nan, math.nan
    half = 1.96 * math.sqrt((1 + rho**2 / 2) / (n - 3))
    centre = math.atanh(min(max(rho, -0.999999), 0.999999))
    return math.tanh(centre - half), math.tanh(centre + half)


def interval(rho: float, n: int) -> str:
    """``bounds`` as it reads.

    >>> interval(0.5, 30)
    '0.15 to 0.74'
    """
    low, high = bounds(rho, n)
    return "–" if math.isnan(low) else f"{round(low, 2) + 0.0:.2f} to {round(high, 2) + 0.0:.2f}"


def correlation(rho: float, n: int) -> str:
    """A rank correlation of n pairs with its 95 % interval.

    >>> correlation(0.5, 30)
    'ρ = 0.50 (95 %: 0.15 to 0.74, n = 30)'
    """
    if not np.isfinite(rho):
        return "not known"
    if n < 5:
        return f"ρ = {rho:.2f} (n = {n}, too few for an interval)"
    return f"ρ = {rho:.2f} (95 %: {interval(rho, n)}, n = {n})"
