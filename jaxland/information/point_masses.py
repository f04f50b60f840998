"""Point masses in continuous data: zero inflation, clipping, detection limits, defaults.

A value that many samples share while the others hardly repeat is a point mass. With A and B the masses that x and y
sit on (or none), the information splits exactly, every term a plain one:

    I(X;Y) = I(A;B) + sum_b p_b I(A;Y|B=b) + sum_a p_a I(X;B|A=a) + sum_ab p_ab I(X;Y|A=a,B=b)

In each term only those columns count that are continuous there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxland.information import fitting, integrals
from jaxland.information.categorical import estimate_classes, fewest_of_class
from jaxland.information.columns import FEWEST, Variable, joined, restricted
from jaxland.information.estimate import Draw, Estimate, estimate
from jaxland.information.options import Options

LEAST = 10  # samples of a mass, and how many times more than a typical value has
SHARE = 0.005  # least share of the samples
MOST = 16  # masses of a column


def masses_of(codes: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Point mass 1, 2, ... that each sample of a column sits on, 0 for none; ``codes`` number its distinct values.

    A column of few values, a lattice and repeated rows have none: there every value repeats.

    >>> masses_of(np.array([0] * 12 + list(range(1, 25)))).sum()
    np.int64(12)
    """
    counts = np.bincount(codes)
    order = np.argsort(-counts, kind="stable")
    ordered = counts[order]
    number = np.zeros(len(counts), int)
    for k in range(min(MOST, len(order) - 1)):
        rest = ordered[k + 1 :]
        typical = rest[np.searchsorted(np.cumsum(rest), 0.5 * rest.sum())]  # of the value a sample has
        if ordered[k] < max(LEAST * typical, LEAST, SHARE * len(codes)):
            break
        number[order[k]] = k + 1
    found = number[codes]
    return found if len(np.unique(codes[found == 0])) >= FEWEST else np.zeros_like(found)


class Side(NamedTuple):
    """One variable as a discrete part and what is continuous beside it.

    Attributes:
        pattern: number of the masses each sample sits on, over all columns [N].
        free: of each pattern, the columns without a mass.
        variable: None for labels, whose pattern is the class.
        masses: point masses found; share: of the samples on at least one of them.
    """

    pattern: Int[np.ndarray, " n"]
    free: tuple[tuple[int, ...], ...]
    variable: Variable | None
    masses: int
    share: float

    def part(self, pattern: int, rows: Int[np.ndarray, " m"]) -> Variable | None:
        """What is continuous in a pattern, at some of its rows."""
        if self.variable is None or not self.free[pattern]:
            return None
        return restricted(self.variable, rows, self.free[pattern])


def side(v: Variable) -> Side:
    """A variable split into point masses and the rest."""
    found = np.stack([masses_of(codes) for codes in v.codes])
    known, pattern = np.unique(found, axis=1, return_inverse=True)
    return Side(
        pattern=np.ravel(pattern),
        free=tuple(tuple(int(c) for c in np.flatnonzero(column == 0)) for column in known.T),
        variable=v,
        masses=sum(int(row.max()) for row in found),
        share=float(np.mean((found > 0).any(0))),
    )


def labelled(codes: Int[np.ndarray, " n"]) -> Side:
    """Labels as a side without a continuous part."""
    return Side(pattern=codes, free=((),) * (int(codes.max()) + 1), variable=None, masses=0, share=0.0)


class Part(NamedTuple):
    """One term: its samples, their estimate, a nearest-neighbour check of it (nats)."""

    rows: Int[np.ndarray, " m"]
    estimate: Estimate
    check: float


@dataclass(frozen=True)
class Mixed:
    """The whole and what it is made of.

    Attributes:
        whole: as one estimate; mixture and coordinates are those of the largest part.
        discrete: I(A;B), nats.
        check: the same sum with nearest-neighbour estimates where both sides are continuous.
        left_out: share of the samples in parts too small to be fitted.
    """

    whole: Estimate
    discrete: float
    check: float
    left_out: float


def plug_in(
    a: Int[np.ndarray, " n"], b: Int[np.ndarray, " n"], weights: Float[np.ndarray, " n"] | None = None
) -> float:
    """Information of two discrete variables from their frequencies, in nats.

    >>> round(plug_in(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0])), 4)
    0.6931
    """
    table = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(table, (a, b), 1.0 if weights is None else weights)
    p = table / table.sum()
    product = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
    inside = p > 0
    return float(np.sum(p[inside] * np.log(p[inside] / product[inside])))


def mixed(x: Side, y: Side, options: Options, check: Callable[[Variable, Variable], float]) -> Mixed:
    """Information of two sides, with one set of bootstraps for all its parts.

    Args:
        check: nearest-neighbour estimate of two continuous parts.
    """
    n = len(x.pattern)
    drawn = [fitting.resampled(np.arange(n), options.seed, b) for b in range(options.bootstraps)]
    parts = list(_parts(x, y, options, drawn, check))
    shares = np.array([len(part.rows) / n for part in parts])
    discrete = plug_in(x.pattern, y.pattern)

    def total(of: Callable[[Part], float]) -> float:
        return float(sum(share * of(part) for share, part in zip(shares, parts)))

    samples = np.array([plug_in(x.pattern, y.pattern, w) for w in drawn])
    for part in parts:
        samples = samples + part.estimate.samples * [w[part.rows].sum() / n for w in drawn]
    null = np.array([plug_in(x.pattern, y.pattern[order]) for order in fitting.shuffles(options, n)])
    for share, part in zip(shares, parts):
        null = null + share * part.estimate.null
    errors = [share * part.estimate.integration_error for share, part in zip(shares, parts)]
    main = parts[int(np.argmax(shares))].estimate if parts else None
    whole = Estimate(
        value=discrete + total(lambda part: part.estimate.value),
        integration_error=float(np.linalg.norm(errors)) if errors else 0.0,
        samples=samples,
        null=null,
        map="none" if main is None else main.map,
        evidence={},
        order=0 if main is None else main.order,
        components=0 if main is None else main.components,
        history={} if main is None else main.history,
        mixture=None if main is None else main.mixture,
        coordinates=() if main is None else main.coordinates,
        dropped=sum(part.estimate.dropped for part in parts),
        unconverged=sum(part.estimate.unconverged for part in parts),
        steps=sum(part.estimate.steps for part in parts),
        at_limit=any(part.estimate.at_limit for part in parts),
        model_error=total(lambda part: part.estimate.model_error),
    )
    return Mixed(whole, discrete, check=discrete + total(lambda part: part.check), left_out=_left_out(x, y))


def conditional(x: Variable, y: Variable, z: Variable, options: Options) -> Estimate:
    """I(X;Y|Z) = I(X;Y,Z) - I(X;Z), both with the same bootstraps, in nats."""
    own = side(x)
    more = mixed(own, side(joined(y, z)), options, _unchecked).whole
    less = mixed(own, side(z), options, _unchecked).whole
    return replace(
        more,
        value=more.value - less.value,
        integration_error=float(np.hypot(more.integration_error, less.integration_error)),
        samples=more.samples - less.samples,
        null=np.empty(0),
        dropped=more.dropped + less.dropped,
        unconverged=more.unconverged + less.unconverged,
        steps=more.steps + less.steps,
        at_limit=more.at_limit or less.at_limit,
        model_error=max(more.model_error, less.model_error),
    )


def _unchecked(*_: Variable) -> float:
    return float("nan")


def _parts(
    x: Side, y: Side, options: Options, drawn: Sequence[Float[np.ndarray, " n"]], check: Callable[..., float]
) -> Iterator[Part]:
    """Every term that has the samples to be fitted."""

    def of(rows: Int[np.ndarray, " m"]) -> Draw:
        return lambda b: drawn[b][rows]

    for one, other in ((y, x), (x, y)):  # what is continuous in one, against the other's masses
        for pattern in np.unique(one.pattern):
            rows = _large_classes(np.flatnonzero(one.pattern == pattern), other.pattern, one, int(pattern))
            part = one.part(int(pattern), rows) if len(rows) else None
            if part is not None:
                codes = np.unique(other.pattern[rows], return_inverse=True)[1]
                found = estimate_classes(part, codes, options, of(rows))
                yield Part(rows, found, found.value)
    for a, b in _cells(x, y):
        rows = np.flatnonzero((x.pattern == a) & (y.pattern == b))
        left, right = x.part(a, rows), y.part(b, rows)
        if left is not None and right is not None:
            found = estimate([(left, right)], integrals.mutual(left.size, right.size), options, draw=of(rows))[0]
            yield Part(rows, found, check(left, right))


def cells(x: Side, y: Side) -> Iterator[tuple[Variable, Variable]]:
    """The continuous parts of both sides wherever both have one that can be fitted."""
    for a, b in _cells(x, y):
        rows = np.flatnonzero((x.pattern == a) & (y.pattern == b))
        left, right = x.part(a, rows), y.part(b, rows)
        if left is not None and right is not None:
            yield left, right


def _cells(x: Side, y: Side) -> Iterator[tuple[int, int]]:
    for a in range(len(x.free)):
        for b in range(len(y.free)):
            if np.sum((x.pattern == a) & (y.pattern == b)) >= FEWEST:
                yield a, b


def _large_classes(
    rows: Int[np.ndarray, " m"], pattern: Int[np.ndarray, " n"], one: Side, own: int
) -> Int[np.ndarray, " k"]:
    """Those rows whose class is large enough; none where fewer than two classes are."""
    d = len(one.free[own])
    known, counts = np.unique(pattern[rows], return_counts=True)
    large = known[counts >= fewest_of_class(d)]
    return rows[np.isin(pattern[rows], large)] if len(large) > 1 and d else rows[:0]


def _left_out(x: Side, y: Side) -> float:
    """Share of the samples where both sides are continuous but too few to be fitted."""
    small = 0
    for a, free in enumerate(x.free):
        for b, other in enumerate(y.free):
            count = int(np.sum((x.pattern == a) & (y.pattern == b)))
            small += count if free and other and count < FEWEST else 0
    return small / len(x.pattern)
