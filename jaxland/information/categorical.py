"""Continuous against labels: one mixture per class, all classes in one batch.

Every class has columns of its own (its samples only), so a fit costs what its class weighs. Maps act on all samples
alike; bootstraps resample the whole data, so shares vary as they should.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from jaxland.core import mixture as gm
from jaxland.information import fitting, integrals
from jaxland.information.columns import Variable, copies, normal_scores
from jaxland.information.estimate import CONTESTS, SCRAMBLINGS, Estimate, integral_seeds, shared_out, trailing
from jaxland.information.fitting import Options, Table, Target


def estimate_classes(x: Variable, codes: Int[np.ndarray, " n"], options: Options) -> Estimate:
    """I(X; C) of one variable and class numbers 0..C-1, each class present, in nats."""
    n, d = x.columns.shape[1], x.size
    count = int(codes.max()) + 1
    shares = np.bincount(codes, minlength=count) / n
    group = copies(x)
    fold = np.empty(n, int)
    members = [np.flatnonzero(codes == c) for c in range(count)]
    for inside in members:
        fold[inside] = fitting.fold_numbers(group[inside], options.folds, options.seed)
    maps = ("raw", "scores") if options.maps == "auto" else (options.maps,)
    longest = max(len(inside) for inside in members)

    def place(columns: np.ndarray, samples: np.ndarray) -> np.ndarray:
        out = np.zeros((len(columns), longest))
        out[:, : len(samples)] = columns[:, samples]
        return out

    versions: dict[tuple[str, int], np.ndarray] = {}
    for m in maps:
        versions[m, -1] = x.columns if m == "raw" else normal_scores(x.columns)
        for f in range(options.folds):
            versions[m, f] = x.columns if m == "raw" else normal_scores(x.columns, np.flatnonzero(fold != f))
    shuffles = [codes[np.random.default_rng([options.seed, 0x5F1E, q]).permutation(n)] for q in range(options.null)]
    rows: list[np.ndarray] = []
    where: dict[tuple[int, str, int], np.ndarray] = {}
    for c, inside in enumerate(members):
        for (m, f), columns in versions.items():
            where[c, m, f] = np.arange(len(rows), len(rows) + d)
            rows.extend(place(columns, inside))
        for m in maps:
            for q, shuffled in enumerate(shuffles):
                where[c, m, -2 - q] = np.arange(len(rows), len(rows) + d)
                rows.extend(place(versions[m, -1], np.flatnonzero(shuffled == c)))
    weights = []
    for inside in members:
        weights.append(_row(np.ones(len(inside)), longest))
        weights += [_row(fold[inside] != f, longest) for f in range(options.folds)]
        weights += [_row(fold[inside] == f, longest) for f in range(options.folds)]
    table = Table(np.stack(rows), np.stack(weights), options)
    stride = 1 + 2 * options.folds
    targets = [
        Target(
            where[c, m, -1],
            np.stack([where[c, m, f] for f in range(options.folds)]),
            c * stride,
            c * stride + 1 + np.arange(options.folds),
            c * stride + 1 + options.folds + np.arange(options.folds),
            np.arange(len(members[c])),
        )
        for m in maps
        for c in range(count)
    ]

    def evidence(m: int, so_far: list[fitting.Selection]) -> float:
        """Held-out mean of log p(x|c) - log sum_j share_j p(x|j); its normaliser E e^T over labels is exactly 1."""
        total = 0.0
        for f in range(options.folds):
            z, truth = versions[maps[m], f][:, fold == f], codes[fold == f]
            log_p = np.stack([integrals.log_density(so_far[m * count + c].folds[f], z) for c in range(count)])
            log_p = np.maximum(log_p, -1e4)
            joint = log_p + np.log(shares)[:, None]
            top = joint.max(0)
            mixed = top + np.log(np.exp(joint - top).sum(0))
            total += float(np.sum(log_p[truth, np.arange(len(truth))] - mixed))
        return total / n

    contest = len(maps) > 1 and options.criterion == "held_out"

    def hopeless(order: int, so_far: list[fitting.Selection]) -> list[int]:
        if not contest or order not in CONTESTS:
            return []
        value = [evidence(m, so_far) for m in range(len(maps))]
        return [m * count + c for m in trailing(order, value) for c in range(count)]

    selections = fitting.select(table, targets, hopeless)
    values = {name: evidence(m, selections) if contest else 0.0 for m, name in enumerate(maps)}
    best = int(np.argmax(list(values.values())))
    kept = selections[best * count : (best + 1) * count]
    picked = targets[best * count : (best + 1) * count]
    resampled = [fitting.resampled(group, options.seed, b) for b in range(options.bootstraps)]
    fitted = fitting.finish(
        table, picked, kept, lambda c, b: _row(resampled[b][members[c]], longest), list(range(count))
    )

    size = max(len(f.full.log_weight) for f in fitted)
    nulls = _nulls(table, picked, kept, where, maps[best], options, size)
    lots = [fitting.stack([f.full for f in fitted], size)] * SCRAMBLINGS
    lot_shares = [shares] * SCRAMBLINGS
    for b in range(options.bootstraps):
        lots.append(fitting.stack([f.boots[b] for f in fitted], size))
        lot_shares.append(np.bincount(codes, weights=resampled[b], minlength=count) / n)
    lots += nulls
    lot_shares += [shares] * len(nulls)
    got = integrals.integrate_classes(
        gm.Mixture(*(np.stack(a) for a in zip(*lots))),
        np.stack(lot_shares),
        integral_seeds(options)[: len(lots)],
        points=options.points,
        dtype=np.dtype(options.dtype),
    )
    joined = gm.Mixture(
        np.concatenate(
            [f.full.log_weight + np.log(s) * (f.full.log_weight > 0.5 * gm.DEAD) for f, s in zip(fitted, shares)]
        ),
        np.concatenate([f.full.mean for f in fitted]),
        np.concatenate([f.full.chol for f in fitted]),
    )
    return Estimate(
        **shared_out(got, options),
        map=maps[best],
        evidence=values,
        order=sum(s.order for s in kept),
        components=sum(fitting.components(f.full) for f in fitted),
        history={},
        mixture=fitting.trim(joined),
        coordinates=(versions[maps[best], -1],),
        dropped=sum(f.dropped for f in fitted) + sum(s.dropped for s in kept),
        unconverged=sum(f.unconverged for f in fitted),
        steps=sum(f.steps for f in fitted),
        at_limit=len(options.orders) > 1 and any(s.order == options.orders[-1] for s in kept),
    )


def _row(weights: np.ndarray, length: int) -> np.ndarray:
    out = np.zeros(length)
    out[: len(weights)] = weights
    return out


def _nulls(table, picked, kept, where, name, options, size) -> list[gm.Mixture]:
    """Fits of each class's number of samples drawn whatever their label, at the class's order."""
    found: list[list[gm.Mixture]] = [[] for _ in range(options.null)]
    lanes, starts = [], []
    for q in range(options.null):
        for c, (target, selection) in enumerate(zip(picked, kept)):
            dims = where[c, name, -2 - q]
            z = table.host[dims][:, target.samples]
            rng = np.random.default_rng([options.seed, 0x2011, q])
            starts.append(gm.start(z, selection.order, rng, kind=options.start, size=size))
            lanes.append((q, dims, target.full))
    if not lanes:
        return []
    fits = table.fit([dims for _, dims, _ in lanes], [row for _, _, row in lanes], fitting.stack(starts, size))
    for lane, (q, _, _) in enumerate(lanes):
        found[q].append(fitting.pick(fits.mixture, lane))
    return [fitting.stack(mixtures, size) for mixtures in found]
