"""Continuous against labels: one mixture per class, all classes in one batch.

Every class has columns of its own (its samples only), so a fit costs what its class weighs. Maps act on all samples
alike; bootstraps resample the whole data, so shares vary as they should.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from jaxland.core import mixture as gm
from jaxland.information import fitting, integrals
from jaxland.information.columns import Variable, copies, normal_scores
from jaxland.information.estimate import (
    CONTESTS,
    SCRAMBLINGS,
    Draw,
    Estimate,
    integral_seeds,
    maps_tried,
    shared_out,
    trailing,
)
from jaxland.information.options import Options
from jaxland.information.table import ALL, Columns, Density, Key, Table, components, fold_weights, stack, trim


def estimate_classes(
    x: Variable, codes: Int[np.ndarray, " n"], options: Options, draw: Draw | None = None
) -> Estimate:
    """I(X; C) of one variable and class numbers 0..C-1, each class present, in nats; ``draw`` as in ``estimate``."""
    return _Classes(x, codes, options, draw).run()


def fewest_of_class(size: int) -> int:
    """Samples that a class needs for a density of ``size`` columns."""
    return max(8, size * (size + 3) + 4)


class _Classes:
    """The classes of one variable; density ``count * m + c`` is class c in map m."""

    def __init__(self, x: Variable, codes: Int[np.ndarray, " n"], options: Options, draw: Draw | None) -> None:
        self.codes, self.options, self.n = codes, options, x.columns.shape[1]
        self.count = int(codes.max()) + 1
        self.shares = np.bincount(codes, minlength=self.count) / self.n
        self.group = copies(x)
        self.draw = draw or (lambda b: fitting.resampled(self.group, options.seed, b))
        self.members = [np.flatnonzero(codes == c) for c in range(self.count)]
        self.longest = max(len(inside) for inside in self.members)
        self.fold = np.empty(self.n, int)
        for inside in self.members:
            self.fold[inside] = fitting.fold_numbers(self.group[inside], options.folds, options.seed)
        self.maps = maps_tried(options)
        self.versions = self._versions(x)
        self.columns = self._columns()
        weights = [fold_weights(self.fold[inside], options.folds) for inside in self.members]
        self.table = Table(
            np.stack(self.columns.rows), np.concatenate([self._padded(rows) for rows in weights]), options
        )
        stride, folds = 1 + 2 * options.folds, np.arange(options.folds)
        self.densities = [
            Density(
                columns=self.columns.places[Key(c, m)],
                fold_columns=np.stack([self.columns.places[Key(c, m, ("fold", int(f)))] for f in folds]),
                full=c * stride,
                train=c * stride + 1 + folds,
                test=c * stride + 1 + options.folds + folds,
                samples=np.arange(len(self.members[c])),
            )
            for m in self.maps
            for c in range(self.count)
        ]
        self.contest = len(self.maps) > 1 and options.criterion == "held_out"

    def _padded(self, rows: Float[np.ndarray, "r m"]) -> Float[np.ndarray, "r longest"]:
        return np.pad(rows, ((0, 0), (0, self.longest - rows.shape[1])))

    def _versions(self, x: Variable) -> dict[tuple[str, tuple[str, int]], Float[np.ndarray, "d n"]]:
        """The variable in every map: by all samples, and by the training samples of each fold."""
        found = {}
        for m in self.maps:
            found[m, ALL] = x.columns if m == "raw" else normal_scores(x.columns)
            for f in range(self.options.folds):
                mapped = x.columns if m == "raw" else normal_scores(x.columns, np.flatnonzero(self.fold != f))
                found[m, ("fold", f)] = mapped
        return found

    def _columns(self) -> Columns:
        """Each class's samples in every version, and as many drawn by shuffled labels."""
        columns = Columns()
        shuffled = [self.codes[order] for order in fitting.shuffles(self.options, self.n)]
        for c, inside in enumerate(self.members):
            for (m, version), values in self.versions.items():
                columns.put(Key(c, m, version), self._padded(values[:, inside]))
            for m in self.maps:
                for q, labels in enumerate(shuffled):
                    drawn = self.versions[m, ALL][:, np.flatnonzero(labels == c)]
                    columns.put(Key(c, m, ("shuffle", q)), self._padded(drawn))
        return columns

    def _evidence(self, m: int, so_far: list[fitting.Selection]) -> float:
        """Held-out mean of log p(x|c) - log sum_j share_j p(x|j); its normaliser E e^T over labels is exactly 1."""
        total = 0.0
        for f in range(self.options.folds):
            inside = self.fold == f
            z, truth = self.versions[self.maps[m], ("fold", f)][:, inside], self.codes[inside]
            selections = so_far[m * self.count : (m + 1) * self.count]
            log_p = np.stack([integrals.log_density(own.folds[f], z) for own in selections])
            log_p = np.maximum(log_p, -1e4)
            joint = log_p + np.log(self.shares)[:, None]
            top = joint.max(0)
            mixed = top + np.log(np.exp(joint - top).sum(0))
            total += float(np.sum(log_p[truth, np.arange(len(truth))] - mixed))
        return total / self.n

    def _hopeless(self, order: int, so_far: list[fitting.Selection]) -> list[int]:
        if not self.contest or order not in CONTESTS:
            return []
        value = [self._evidence(m, so_far) for m in range(len(self.maps))]
        return [m * self.count + c for m in trailing(order, value) for c in range(self.count)]

    def run(self) -> Estimate:
        """The estimate."""
        o, count = self.options, self.count
        selections = fitting.select(self.table, self.densities, self._hopeless)
        evidence = {name: self._evidence(m, selections) if self.contest else 0.0 for m, name in enumerate(self.maps)}
        best = int(np.argmax(list(evidence.values())))
        kept = selections[best * count : (best + 1) * count]
        densities = self.densities[best * count : (best + 1) * count]
        drawn = [self.draw(b) for b in range(o.bootstraps)]
        fitted = fitting.finish(
            self.table,
            densities,
            kept,
            lambda c, b: self._padded(drawn[b][None, self.members[c]])[0],
            list(range(count)),
        )
        nulls = self._nulls(densities, kept, self.maps[best], max(len(f.full.log_weight) for f in fitted))
        return Estimate(
            **shared_out(self._integrals(fitted, drawn, nulls), o),
            map=self.maps[best],
            evidence=evidence,
            order=sum(s.order for s in kept),
            components=sum(components(f.full) for f in fitted),
            history={},
            mixture=trim(self._joined(fitted)),
            coordinates=(self.versions[self.maps[best], ALL],),
            dropped=sum(f.dropped for f in fitted) + sum(s.dropped for s in kept),
            unconverged=sum(f.unconverged for f in fitted),
            steps=sum(f.steps for f in fitted),
            at_limit=len(o.orders) > 1 and any(s.order == o.orders[-1] for s in kept),
        )

    def _nulls(
        self, densities: Sequence[Density], kept: Sequence[fitting.Selection], m: str, size: int
    ) -> list[gm.Mixture]:
        """Each shuffle's fits: each class's number of samples whatever their label, at the class's order."""
        shuffled = [
            fitting.Shuffled(q, self.columns.places[Key(c, m, ("shuffle", q))], density, selection.order)
            for q in range(self.options.null)
            for c, (density, selection) in enumerate(zip(densities, kept))
        ]
        found = fitting.fit_shuffled(self.table, shuffled, size)
        return [stack(found[i : i + self.count], size) for i in range(0, len(found), self.count)]

    def _integrals(
        self, fitted: Sequence[fitting.Fitted], drawn: Sequence[np.ndarray], nulls: Sequence[gm.Mixture]
    ) -> Float[np.ndarray, " v"]:
        """SCRAMBLINGS values of the full fits, one of each bootstrap, one of each null."""
        size = max(len(f.full.log_weight) for f in fitted)
        lots = [stack([f.full for f in fitted], size)] * SCRAMBLINGS
        shares = [self.shares] * SCRAMBLINGS
        for b, weights in enumerate(drawn):
            lots.append(stack([f.boots[b] for f in fitted], size))
            shares.append(np.bincount(self.codes, weights=weights, minlength=self.count) / weights.sum())
        lots += nulls
        shares += [self.shares] * len(nulls)
        return integrals.integrate_classes(
            gm.Mixture(*(np.stack(a) for a in zip(*lots))),
            np.stack(shares),
            integral_seeds(self.options)[: len(lots)],
            points=self.options.points,
            dtype=self.options.dtype,
        )

    def _joined(self, fitted: Sequence[fitting.Fitted]) -> gm.Mixture:
        """The classes' mixtures as one, by their shares."""
        log_weight = [
            f.full.log_weight + np.log(share) * (f.full.log_weight > 0.5 * gm.DEAD)
            for f, share in zip(fitted, self.shares)
        ]
        return gm.Mixture(
            log_weight=np.concatenate(log_weight),
            mean=np.concatenate([f.full.mean for f in fitted]),
            chol=np.concatenate([f.full.chol for f in fitted]),
        )
