"""How complete a landscape is, from how often known points were found again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

# Why a search ended, and what that says.
SATURATED, ENOUGH, ROUNDS, EXHAUSTED = "saturated", "minima", "rounds", "exhausted"
_ENDINGS = {
    SATURATED: "saturated: every minimum was climbed out of, and {searches:,} searches or more since the last new "
    "transition state met none; one that they meet more often than once in {often:,} would be known (95 %), rarer "
    "ones may exist",
    ENOUGH: "not complete: it ended with the {minima} connected minima asked for",
    ROUNDS: "not complete: it ended after {rounds} rounds (rounds=); call again with more",
    EXHAUSTED: "at its end: nothing is left to try with these settings; whether that is all, they cannot tell",
}
_QUENCHES, _SEARCHES = ("random", "hop"), ("climb", "expand")
_NODES = 64  # of the Gauss-Hermite rule over ln(rate)


@dataclass(frozen=True)
class Completeness:
    """An estimate from hits. Searches favour wide basins: some points are found hundreds of times before others once.

    Attributes:
        found: distinct points.
        hits: times any of them was found.
        once, twice: points found exactly once, exactly twice.
        coverage: chance that the next hit is a known point, 1 - once / hits (Good 1953, Turing).
        estimate: found + once (once - 1) / (2 (twice + 1)), bias-corrected Chao (1987): a lower bound in expectation.
        uneven: as many as a log-normal distribution of rates says (Bulmer 1974); not below ``estimate``.
    """

    found: int
    hits: int
    once: int
    twice: int
    coverage: float
    estimate: float
    uneven: float | None = None

    @classmethod
    def of(cls, hits: ArrayLike) -> Completeness:
        """From the number of hits of every known point."""
        counts = np.asarray(hits, int)
        total, once, twice = int(counts.sum()), int(np.sum(counts == 1)), int(np.sum(counts == 2))
        estimate = len(counts) + once * (once - 1) / (2 * (twice + 1))
        return cls(
            found=len(counts),
            hits=total,
            once=once,
            twice=twice,
            coverage=1.0 - once / total if total else 0.0,
            estimate=estimate,
            uneven=max(estimate, len(counts) / (1.0 - _unseen(counts))) if total > len(counts) > 1 else None,
        )

    def describe(self, what: str) -> str:
        """One sentence."""
        if not self.found:
            return f"no {what} found yet: nothing can be said of how many there are"
        known = f"{100 * self.coverage:.1f} %"
        if self.once and known == "100.0 %":
            known = "more than 99.9 %"
        exist = f"at least about {self.estimate:.0f} exist"
        if self.uneven is not None and round(self.uneven) > round(self.estimate):
            exist += f", {self.uneven:.0f} if rates are log-normal"
        if not self.once:
            known = "nearly all"
        if self.found == 1:
            what = {"minima": "minimum", "transition states": "transition state"}.get(what, what)
        return (
            f"{self.found} {what} found {self.hits} times, {self.once} of them once: "
            f"{known} of the next finds would be known; {exist}"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def ending(statistics: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """What the end of a search says of its completeness, from a landscape's statistics and settings."""
    ended = statistics.get("ended")
    if ended not in _ENDINGS:
        return "not finished: the same search goes on from here"
    searches = int(settings.get("patience") or 0) * max(len(statistics.get("saddle_hits") or ()), 3)
    facts = {name: settings.get(name) for name in ("minima", "rounds")}
    # No event among n: its chance is below 3 / n with 95 % confidence.
    return _ENDINGS[ended].format_map({**facts, "searches": searches, "often": max(searches // 3, 1)})


def failures(rounds: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was tried and brought no verified point, in sentences; none where everything did."""
    told = []
    for kinds, what, fate in (
        (_QUENCHES, "quenches", "did not end in a minimum that passes the audit"),
        (_SEARCHES, "searches", "did not end in a transition state with a verified minimum on either side"),
    ):
        done, found = (sum(row[name] for row in rounds if row["kind"] in kinds) for name in ("done", "found"))
        if done > found:
            told.append(f"{done - found:,} of {done:,} {what} {fate}")
    return told


def _unseen(counts: np.ndarray) -> float:
    """Part of all points that were not found yet: the zero class of a Poisson-log-normal distribution.

    Its ln(rate) has mean m and standard deviation s, fitted by maximum likelihood to the counts above zero (Bulmer,
    Biometrics 30, 101, 1974).
    """
    from scipy.optimize import minimize
    from scipy.special import gammaln, logsumexp

    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    log_weights = np.log(weights / weights.sum())
    values, times = np.unique(counts, return_counts=True)

    def log_chance(k: np.ndarray, mean: float, spread: float) -> np.ndarray:
        rate = mean + spread * nodes
        terms = k[:, None] * rate[None] - np.exp(rate)[None] - gammaln(k + 1.0)[:, None] + log_weights[None]
        return np.asarray(logsumexp(terms, axis=1))

    def cost(at: np.ndarray) -> float:
        mean, spread = at[0], float(np.exp(at[1]))
        none = float(log_chance(np.zeros(1), mean, spread)[0])
        if none > -1e-12:
            return 1e300
        seen = log_chance(values.astype(float), mean, spread)
        return float(-(times @ seen) + times.sum() * np.log1p(-np.exp(none)))

    logs = np.log(counts)
    start = np.array([float(np.mean(logs)), np.log(max(float(np.std(logs)), 0.1))])
    bounds = [(-10.0, float(logs.max()) + 1.0), (np.log(1e-2), np.log(5.0))]
    fit = minimize(cost, start, method="L-BFGS-B", bounds=bounds)
    return float(np.exp(log_chance(np.zeros(1), fit.x[0], float(np.exp(fit.x[1])))[0]))
