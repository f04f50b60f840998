"""Choosing and bootstrapping mixtures for many targets at once (Piras et al. 2023, section 2).

A *target* is a density to be fitted: some columns under some rows of weights. Selection raises the number of
components while the held-out log-likelihood gains; every stage fits all targets, starts and folds in one batch. The
fit to all data warm-starts from the folds of the best start, and the bootstraps from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxland.core import mixture as gm
from jaxland.errors import ArgumentError

ORDERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
SIZES = (8, 16, 32, 48, 64)  # numbers of components that programs are compiled for
ROWS = 64  # rows of weights on the device at once


@dataclass(frozen=True)
class Options:
    """How mixtures are chosen and fitted; every estimator takes these by keyword.

    Attributes:
        bootstraps: resamplings behind the error; 0 for none.
        starts: initialisations per number of components and fold.
        folds: cross-validation folds (shuffled).
        orders: numbers of components tried, in order, while the criterion gains.
        patience: orders without gain before stopping.
        criterion: "held_out", "aic" or "bic".
        maps: "auto" (raw columns and normal scores, chosen by held-out evidence), "raw" or "scores".
        null: shuffles of y fitted beside, 0 for none: what these samples would give without dependence.
        start: how fits are initialised, see ``core.mixture.start``.
        tol: gain per sample below which EM has converged and an order has not improved.
        max_steps: EM evaluations a fit may take.
        points: Sobol points per component of each integral (the estimate itself is the mean of eight).
        units: "nats" or "bits".
        seed: of everything random; the same seed gives the same numbers however pairs are batched.
        memory: GiB for data and weights on the device.
        width: fits evaluated side by side (None: 1 on a CPU, many on an accelerator).
        accelerate: SQUAREM instead of plain EM.
        dtype: of the fits, "float64" or "float32".
    """

    bootstraps: int = 50
    starts: int = 3
    folds: int = 4
    orders: tuple[int, ...] = ORDERS
    patience: int = 1
    criterion: str = "held_out"
    maps: str = "auto"
    null: int = 4
    start: str = "kmeans"
    tol: float = 1e-5
    max_steps: int = 10_000
    points: int = 2048
    units: str = "nats"
    seed: int = 0
    memory: float = 2.0
    width: int | None = None
    accelerate: bool = True
    dtype: str = "float64"

    def __post_init__(self) -> None:
        for name, low in (
            ("bootstraps", 0),
            ("starts", 1),
            ("folds", 2),
            ("patience", 1),
            ("null", 0),
            ("points", 1),
        ):
            if int(getattr(self, name)) < low:
                raise ArgumentError(f"{name} must be at least {low}, got {getattr(self, name)}")
        orders = (self.orders,) if isinstance(self.orders, int) else tuple(int(k) for k in self.orders)
        if not orders or min(orders) < 1 or max(orders) > SIZES[-1]:
            raise ArgumentError(f"orders must be numbers of components in 1..{SIZES[-1]}, got {self.orders}")
        object.__setattr__(self, "orders", orders)
        for name, known in (
            ("criterion", ("held_out", "aic", "bic")),
            ("maps", ("auto", "raw", "scores")),
            ("units", ("nats", "bits")),
            ("dtype", ("float64", "float32")),
            ("start", gm.START_KINDS),
        ):
            if getattr(self, name) not in known:
                raise ArgumentError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.memory <= 0 or self.tol <= 0:
            raise ArgumentError("memory and tol must be positive")

    @classmethod
    def of(cls, options: dict[str, Any]) -> Options:
        """From keywords, with a clear word about unknown ones."""
        known = {f.name for f in fields(cls)}
        unknown = set(options) - known
        if unknown:
            raise ArgumentError(f"unknown option {sorted(unknown)[0]!r}; options are {', '.join(sorted(known))}")
        return cls(**options)

    @property
    def settings(self) -> gm.Settings:
        """Tolerance, floor and limit of EM."""
        return gm.Settings(self.tol, 1e-10 if self.dtype == "float64" else 1e-5, self.max_steps)

    @property
    def unit(self) -> float:
        """One nat in these units."""
        return 1.0 / np.log(2.0) if self.units == "bits" else 1.0


@dataclass(frozen=True)
class Target:
    """A density to be fitted. Rows index a table of weights: ``full``, ``train[f]``, ``test[f]``."""

    columns: Int[np.ndarray, " d"]
    fold_columns: Int[np.ndarray, "f d"]
    full: int
    train: Int[np.ndarray, " f"]
    test: Int[np.ndarray, " f"]
    samples: Int[np.ndarray, " n"]


@dataclass
class Selection:
    """The order that held-out data ask for, and the best start's fits on the folds."""

    order: int = 0
    score: float = -np.inf
    folds: list[gm.Mixture] = field(default_factory=list)
    history: dict[int, float] = field(default_factory=dict)
    dropped: int = 0
    stale: int = 0
    finished: bool = False


class Table:
    """Columns and weights on the device, padded to shapes that programs exist for.

    Args:
        columns: float64 [C, N] on the host.
        weights: rows that stay: full, folds, classes.
    """

    def __init__(self, columns: np.ndarray, weights: np.ndarray, options: Options) -> None:
        self.options, self.host, self.fixed = options, columns, weights
        self.n = columns.shape[1]
        self.padded = gm.bucket(self.n)
        rows = int(options.memory * 2**30 / 2 / (self.padded * np.dtype(options.dtype).itemsize))
        self.rows = ROWS if len(weights) <= ROWS else 1 << (len(weights) - 1).bit_length()
        if rows < self.rows:
            self.rows = max(rows, len(weights))
        count = max(16, 1 << (len(columns) - 1).bit_length())
        self.columns = self._place(columns, count)
        self.weights = self._place(weights, self.rows)

    def _place(self, rows: np.ndarray, count: int):
        out = np.zeros((count, self.padded), self.options.dtype)
        out[: len(rows), : self.n] = rows
        return jnp.asarray(out)

    def fit(self, columns, rows, start: gm.Mixture, held_out=None, weights=None) -> gm.Fits:
        """``core.mixture.fit`` under the options."""
        o = self.options
        return gm.fit(
            self.columns,
            self.weights if weights is None else weights,
            np.asarray(columns),
            np.asarray(rows),
            start,
            held_out=held_out,
            settings=o.settings,
            accelerate=o.accelerate,
            width=o.width,
        )

    def passing(self, make: Callable[[int], np.ndarray], count: int):
        """Batches (indices, weights on the device) of ``count`` further rows, made when needed, as memory allows."""
        for first in range(0, count, self.rows):
            index = np.arange(first, min(first + self.rows, count))
            yield index, self._place(np.stack([make(int(i)) for i in index]), self.rows)


def padded_order(order: int) -> int:
    """Number of components a program is compiled for."""
    return next(size for size in SIZES if size >= order)


def stack(mixtures: Sequence[gm.Mixture], size: int | None = None) -> gm.Mixture:
    """Mixtures one after another, padded to the same number of components."""
    size = size or max(len(m.log_weight) for m in mixtures)
    return gm.Mixture(*(np.stack(a) for a in zip(*(gm.pad(gm.Mixture(*m), size) for m in mixtures))))


def pick(mixtures: gm.Mixture, index: int) -> gm.Mixture:
    """One of many, without its dead components moved."""
    return gm.Mixture(*(np.asarray(a)[index] for a in mixtures))


def components(mixture: gm.Mixture) -> int:
    """Living components."""
    return int(np.sum(np.asarray(mixture.log_weight) > 0.5 * gm.DEAD))


def trim(mixture: gm.Mixture) -> gm.Mixture:
    """Without dead components, heaviest first."""
    order = np.argsort(-np.asarray(mixture.log_weight), kind="stable")[: components(mixture)]
    return gm.Mixture(*(np.asarray(a)[order] for a in mixture))


def select(
    table: Table,
    targets: Sequence[Target],
    after_stage: Callable[[int, list[Selection]], Sequence[int]] | None = None,
) -> list[Selection]:
    """Raise the order of every target, all of them in one batch a stage, while its criterion gains.

    ``after_stage(order, selections)`` may name targets to give up.
    """
    o = table.options
    found = [Selection() for _ in targets]
    for order in o.orders:
        active = [i for i, s in enumerate(found) if not s.finished]
        # Each component needs as many samples as it has parameters, in the smallest fold.
        for i in list(active):
            d = len(targets[i].columns)
            if order > 1 and order * (1 + d + d * (d + 1) // 2) * o.folds > len(targets[i].samples) * (o.folds - 1):
                found[i].finished = True
                active.remove(i)
        if not active:
            break
        size = padded_order(order)
        held = o.criterion == "held_out"
        each = o.folds if held else 1
        count = o.starts if order > 1 else 1  # one Gaussian has one fit
        starts, columns, train, test = [], [], [], []
        for i in active:
            target = targets[i]
            for s in range(count):
                for f, first in enumerate(_starts(table, target, found[i], order, s, size, each)):
                    starts.append(first)
                    columns.append(target.fold_columns[f] if held else target.columns)
                    train.append(target.train[f] if held else target.full)
                    test.append(target.test[f] if held else target.full)
        fits = table.fit(columns, train, stack(starts), np.array(test))
        score = np.where(fits.status == gm.Status.DEGENERATE, -np.inf, fits.held_out).reshape(-1, count, each)
        score = np.where(np.isfinite(score), score, -np.inf).mean(-1)
        for a, i in enumerate(active):
            best = int(np.argmax(score[a]))
            value = float(score[a, best])
            if o.criterion != "held_out":
                d, n = len(targets[i].columns), len(targets[i].samples)
                parameters = order * (1 + d + d * (d + 1) // 2) - 1
                value -= parameters * (1.0 if o.criterion == "aic" else 0.5 * np.log(n)) / n
            lanes = range((a * count + best) * each, (a * count + best + 1) * each)
            own = found[i]
            own.history[order] = value
            if value > own.score + o.tol or not own.folds:
                own.order, own.score, own.stale = order, max(value, own.score), 0
                own.folds = [pick(fits.mixture, lane) for lane in lanes]
                own.dropped = int(fits.dropped[list(lanes)].sum())
            else:
                own.stale += 1
                own.finished = own.stale >= o.patience
        if after_stage is not None:
            for i in after_stage(order, found):
                found[i].finished = True
    return found


def _starts(table: Table, target: Target, so_far: Selection, order: int, s: int, size: int, folds: int):
    """Start s of a target, one mixture a fold.

    Even ones are drawn from all samples; odd ones cut the worst components of the best mixture so far, each fold its
    own, so that no held-out sample is looked at.
    """
    o = table.options
    if s % 2 == 0 or not so_far.folds or so_far.order >= order:
        z = table.host[np.asarray(target.columns)][:, target.samples]
        return [gm.start(z, order, np.random.default_rng([o.seed, order, s]), kind=o.start, size=size)] * folds
    out = []
    for f in range(folds):
        row = target.train[f] if o.criterion == "held_out" else target.full
        columns = target.fold_columns[f] if o.criterion == "held_out" else target.columns
        z = table.host[np.asarray(columns)][:, table.fixed[row] > 0]
        rng = np.random.default_rng([o.seed, order, s, f])
        out.append(gm.pad(trim(gm.split(so_far.folds[f], z, order, rng, greedy=s == 1)), size))
    return out


@dataclass(frozen=True)
class Fitted:
    """A target's mixture from all data and from the bootstraps."""

    full: gm.Mixture
    boots: list[gm.Mixture]
    loglik: float
    dropped: int
    unconverged: int
    steps: int


def finish(
    table: Table,
    targets: Sequence[Target],
    selections: Sequence[Selection],
    resample: Callable[[int, int], np.ndarray],
    kinds: Sequence[int],
) -> list[Fitted]:
    """Fit all data, then the bootstraps, of every target.

    Args:
        resample: ``resample(kind, b)`` -> weights [N] of bootstrap b.
        kinds: which family of weights each target's bootstraps use (a class, or 0).
    """
    o = table.options
    results: list[Fitted | None] = [None] * len(targets)
    sizes = [padded_order(max(s.order, 1)) for s in selections]
    for size in sorted(set(sizes)):
        members = [i for i, s in enumerate(sizes) if s == size]
        lanes = [(i, m) for i in members for m in selections[i].folds]
        fits = table.fit(
            [targets[i].columns for i, _ in lanes],
            [targets[i].full for i, _ in lanes],
            stack([m for _, m in lanes], size),
        )
        loglik = np.where(fits.status == gm.Status.DEGENERATE, -np.inf, fits.loglik)
        full, tally, value = {}, {}, {}
        for i in members:
            mine = [lane for lane, (j, _) in enumerate(lanes) if j == i]
            best = max(mine, key=lambda lane: loglik[lane])
            full[i], value[i] = pick(fits.mixture, best), float(fits.loglik[best])
            tally[i] = np.array([fits.dropped[best], fits.status[best] != gm.Status.CONVERGED, fits.steps[best]])
        boots: dict[int, list[gm.Mixture]] = {i: [] for i in members}
        for kind in sorted({kinds[i] for i in members}) if o.bootstraps else ():
            group = [i for i in members if kinds[i] == kind]
            for index, weights in table.passing(partial(resample, kind), o.bootstraps):
                rows = np.tile(np.arange(len(index)), len(group))
                owner = np.repeat(group, len(index))
                start = gm.Mixture(*(np.repeat(a, len(index), 0) for a in stack([full[i] for i in group], size)))
                got = table.fit([targets[i].columns for i in owner], rows, start, weights=weights)
                for lane, i in enumerate(owner):
                    boots[i].append(pick(got.mixture, lane))
                    tally[i] = tally[i] + [
                        got.dropped[lane],
                        got.status[lane] != gm.Status.CONVERGED,
                        got.steps[lane],
                    ]
        for i in members:
            results[i] = Fitted(full[i], boots[i], value[i], *(int(t) for t in tally[i]))
    return results  # type: ignore[return-value]


def fold_numbers(group: Int[np.ndarray, " n"], folds: int, seed: int) -> Int[np.ndarray, " n"]:
    """Fold of each sample: shuffled, even, copies together."""
    rng = np.random.default_rng([seed, 0xF01D])
    _, inverse = np.unique(group, return_inverse=True)
    count = int(inverse.max()) + 1
    return rng.permutation(np.arange(count) % folds)[inverse]


def resampled(group: Int[np.ndarray, " n"], seed: int, index: int) -> Float[np.ndarray, " n"]:
    """Counts of a bootstrap: samples (groups of copies) drawn with replacement."""
    rng = np.random.default_rng([seed, 0xB007, index])
    count = int(group.max()) + 1
    return np.bincount(rng.integers(0, count, count), minlength=count)[group].astype(np.float64)
