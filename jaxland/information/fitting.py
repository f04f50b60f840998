"""Choosing and bootstrapping mixtures for many densities at once (Piras et al. 2023, section 2).

Selection raises the number of components while the held-out log-likelihood gains; every stage fits all densities,
starts and folds in one batch. The fit to all data warm-starts from the folds of the best start, and the bootstraps
from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxland.core import mixture as gm
from jaxland.core.solvers import em
from jaxland.core.solvers.protocol import Status
from jaxland.information.options import Options
from jaxland.information.table import Density, Table, padded_order, pick, stack, trim


@dataclass
class Selection:
    """The order that held-out data ask for, and the best start's fits on the folds.

    Attributes:
        order: components asked for; score: the criterion's value there.
        folds: fits of the best start on each fold (one, on all samples, for "aic" and "bic").
        history: criterion per order tried.
        dropped: components that collapsed in ``folds``.
        stale: orders without gain; finished: no more are tried.
    """

    order: int = 0
    score: float = -np.inf
    folds: list[gm.Mixture] = field(default_factory=list)
    history: dict[int, float] = field(default_factory=dict)
    dropped: int = 0
    stale: int = 0
    finished: bool = False


def select(
    table: Table,
    densities: Sequence[Density],
    after_stage: Callable[[int, list[Selection]], Sequence[int]] | None = None,
) -> list[Selection]:
    """Raise the order of every density, all of them in one batch a stage, while its criterion gains.

    ``after_stage(order, selections)`` may name densities to give up.
    """
    o = table.options
    found = [Selection() for _ in densities]
    for order in o.orders:
        for density, own in zip(densities, found):
            # Each component needs as many samples as it has parameters, in the smallest fold.
            own.finished |= order > 1 and order * parameters(density) * o.folds > len(density.samples) * (o.folds - 1)
        active = [i for i, own in enumerate(found) if not own.finished]
        if not active:
            break
        _stage(table, [densities[i] for i in active], [found[i] for i in active], order)
        if after_stage is not None:
            for i in after_stage(order, found):
                found[i].finished = True
    return found


def parameters(density: Density) -> int:
    """Parameters of one component, its weight included."""
    d = len(density.columns)
    return 1 + d + d * (d + 1) // 2


def _stage(table: Table, densities: Sequence[Density], found: Sequence[Selection], order: int) -> None:
    """Fits every start of one order and folds what they say into ``found``."""
    o = table.options
    held = o.criterion == "held_out"
    each = o.folds if held else 1
    count = o.starts if order > 1 else 1  # one Gaussian has one fit
    starts, columns, train, test = [], [], [], []
    for density, own in zip(densities, found):
        for s in range(count):
            for f, first in enumerate(_starts(table, density, own, order, s)):
                starts.append(first)
                columns.append(density.fold_columns[f] if held else density.columns)
                train.append(int(density.train[f]) if held else density.full)
                test.append(int(density.test[f]) if held else density.full)
    fits = table.fit(columns, train, stack(starts), held_out=np.array(test))
    score = np.where(fits.status == Status.DEGENERATE, -np.inf, fits.held_out).reshape(-1, count, each)
    score = np.where(np.isfinite(score), score, -np.inf).mean(-1)
    for a, (density, own) in enumerate(zip(densities, found)):
        best = int(np.argmax(score[a]))
        value = float(score[a, best])
        if not held:
            n = len(density.samples)
            value -= (order * parameters(density) - 1) * (1.0 if o.criterion == "aic" else 0.5 * np.log(n)) / n
        lanes = range((a * count + best) * each, (a * count + best + 1) * each)
        own.history[order] = value
        if value > own.score + o.tol or not own.folds:
            own.order, own.score, own.stale = order, max(value, own.score), 0
            own.folds = [pick(fits.mixture, lane) for lane in lanes]
            own.dropped = int(fits.dropped[list(lanes)].sum())
        else:
            own.stale += 1
            own.finished = own.stale >= o.patience


def _starts(table: Table, density: Density, so_far: Selection, order: int, s: int) -> list[gm.Mixture]:
    """Start s of a density, one mixture a fold.

    Even ones are drawn from all samples; odd ones cut the worst components of the best mixture so far, each fold its
    own, so that no held-out sample is looked at.
    """
    o = table.options
    held, size = o.criterion == "held_out", padded_order(order)
    folds = o.folds if held else 1
    if s % 2 == 0 or not so_far.folds or so_far.order >= order:
        z = table.host[density.columns][:, density.samples]
        return [gm.start(z, order, np.random.default_rng([o.seed, order, s]), kind=o.start, size=size)] * folds
    out = []
    for f in range(folds):
        row = density.train[f] if held else density.full
        columns = density.fold_columns[f] if held else density.columns
        z = table.host[columns][:, table.fixed[row] > 0]
        rng = np.random.default_rng([o.seed, order, s, f])
        out.append(gm.pad(trim(gm.split(so_far.folds[f], z, order, rng, greedy=s == 1)), size))
    return out


@dataclass
class Fitted:
    """A density's mixture from all data and from the bootstraps.

    Attributes:
        full: the fit to all samples; loglik: its mean log-likelihood.
        boots: fits to the bootstraps.
        dropped: components that collapsed; unconverged: fits that did not converge; steps: EM evaluations, all over
            ``full`` and ``boots``.
    """

    full: gm.Mixture
    loglik: float
    boots: list[gm.Mixture] = field(default_factory=list)
    dropped: int = 0
    unconverged: int = 0
    steps: int = 0

    def count(self, fits: em.Fits, lane: int) -> None:
        """Add one fit's tally."""
        self.dropped += int(fits.dropped[lane])
        self.unconverged += int(fits.status[lane] != Status.CONVERGED)
        self.steps += int(fits.steps[lane])


def finish(
    table: Table,
    densities: Sequence[Density],
    selections: Sequence[Selection],
    resample: Callable[[int, int], Float[np.ndarray, " n"]],
    kinds: Sequence[int],
) -> list[Fitted]:
    """Fit all data, then the bootstraps, of every density.

    Args:
        resample: ``resample(kind, b)`` -> weights [N] of bootstrap b.
        kinds: which family of weights each density's bootstraps use (a class, or 0).
    """
    o = table.options
    found: dict[int, Fitted] = {}
    sizes = [padded_order(max(s.order, 1)) for s in selections]
    for size in sorted(set(sizes)):
        members = [i for i, s in enumerate(sizes) if s == size]
        found |= _full_fits(table, densities, selections, members, size)
        for kind in sorted({kinds[i] for i in members}) if o.bootstraps else ():
            group = [i for i in members if kinds[i] == kind]
            for index, weights in table.passing(partial(resample, kind), o.bootstraps):
                rows = np.tile(np.arange(len(index)), len(group))
                owner = np.repeat(group, len(index))
                full = stack([found[i].full for i in group], size)
                start = gm.Mixture(*(np.repeat(a, len(index), 0) for a in full))
                got = table.fit([densities[i].columns for i in owner], rows, start, weights=weights)
                for lane, i in enumerate(owner):
                    found[i].boots.append(pick(got.mixture, lane))
                    found[i].count(got, lane)
    return [found[i] for i in range(len(densities))]


def _full_fits(
    table: Table, densities: Sequence[Density], selections: Sequence[Selection], members: Sequence[int], size: int
) -> dict[int, Fitted]:
    """The likeliest of the fits to all samples that start from each fold's."""
    lanes = [(i, m) for i in members for m in selections[i].folds]
    fits = table.fit(
        [densities[i].columns for i, _ in lanes],
        [densities[i].full for i, _ in lanes],
        stack([m for _, m in lanes], size),
    )
    loglik = np.where(fits.status == Status.DEGENERATE, -np.inf, fits.loglik)
    found = {}
    for i in members:
        mine = [lane for lane, (j, _) in enumerate(lanes) if j == i]
        best = max(mine, key=lambda lane: loglik[lane])
        found[i] = Fitted(full=pick(fits.mixture, best), loglik=float(fits.loglik[best]))
        found[i].count(fits, best)
    return found


class Shuffled(NamedTuple):
    """A density without the dependence asked about: shuffle ``number`` in columns of its own, at a given order."""

    number: int
    columns: Int[np.ndarray, " d"]
    density: Density
    order: int


def fit_shuffled(table: Table, shuffled: Sequence[Shuffled], size: int) -> list[gm.Mixture]:
    """Fits of shuffles from fresh starts, padded to ``size`` components."""
    if not shuffled:
        return []
    o, starts = table.options, []
    for one in shuffled:
        rng = np.random.default_rng([o.seed, 0x2011, one.number])
        z = table.host[one.columns][:, one.density.samples]
        starts.append(gm.start(z, one.order, rng, kind=o.start, size=size))
    fits = table.fit([one.columns for one in shuffled], [one.density.full for one in shuffled], stack(starts, size))
    return [pick(fits.mixture, lane) for lane in range(len(shuffled))]


def shuffles(options: Options, n: int) -> list[Int[np.ndarray, " n"]]:
    """The orders that make the null."""
    return [np.random.default_rng([options.seed, 0x5F1E, q]).permutation(n) for q in range(options.null)]


def fold_numbers(group: Int[np.ndarray, " n"], folds: int, seed: int) -> Int[np.ndarray, " n"]:
    """Fold of each sample: shuffled, even, copies together.

    >>> first, copy, *others = fold_numbers(np.array([0, 0, 1, 2, 3]), folds=2, seed=0).tolist()
    >>> first == copy, sorted([first, *others])
    (True, [0, 0, 1, 1])
    """
    rng = np.random.default_rng([seed, 0xF01D])
    _, inverse = np.unique(group, return_inverse=True)
    count = int(inverse.max()) + 1
    return rng.permutation(np.arange(count) % folds)[inverse]


def resampled(group: Int[np.ndarray, " n"], seed: int, index: int) -> Float[np.ndarray, " n"]:
    """Counts of a bootstrap: samples (groups of copies) drawn with replacement."""
    rng = np.random.default_rng([seed, 0xB007, index])
    count = int(group.max()) + 1
    return np.bincount(rng.integers(0, count, count), minlength=count)[group].astype(np.float64)
