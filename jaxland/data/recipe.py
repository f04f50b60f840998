"""What was done to a table before a model saw it: scaling and split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from jaxland.errors import ArgumentError, DataError
from jaxland.options import on_command_line, spoken
from jaxland.showing import brief, table

if TYPE_CHECKING:
    from jaxland.data.dataset import Dataset

SCALES = ("none", "standardise", "mean-abs")
_SCALE_NOTES = {
    "standardise": "Features were shifted to mean 0 and scaled to standard deviation 1 of the training part.",
    "mean-abs": "Features were divided by their mean absolute value in the training part.",
}


@dataclass(frozen=True, eq=False)
class Scaling:
    """An affine map per feature: ``(x - centre) / scale``.

    Attributes:
        kind: ``standardise`` (mean 0, standard deviation 1), ``mean-abs`` (divided by the mean |x|, no shift) or
            ``none``.
        centre, scale: [d].
    """

    kind: str
    centre: np.ndarray
    scale: np.ndarray

    __repr__ = brief
    _repr_html_ = table

    @classmethod
    def fit(cls, x: np.ndarray, kind: str) -> Scaling:
        """Fit on rows x[n, d]; a feature that is constant there keeps scale 1."""
        if kind not in SCALES:
            raise ArgumentError(f"{spoken('scale')} takes {', '.join(SCALES)}, got {kind!r}")
        d = x.shape[1]
        centre, scale = np.zeros(d), np.ones(d)
        if kind == "standardise":
            # Of numbers around 1, lest their squares overflow.
            top = np.abs(x).max(0)
            top = np.where(top > 1e100, top, 1.0)
            centre, scale = (x / top).mean(0) * top, (x / top).std(0) * top
        elif kind == "mean-abs":
            scale = np.abs(x).mean(0)
        tiny = scale <= 1e-12 * (1e-300 + np.abs(x).max(0))
        return cls(kind, centre, np.where(tiny, 1.0, scale))

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Original units to scaled."""
        return (x - self.centre) / self.scale

    def invert(self, x: np.ndarray) -> np.ndarray:
        """Scaled to original units."""
        return x * self.scale + self.centre


@dataclass(frozen=True, eq=False)
class Split:
    """Training and test parts of a ``Dataset``; ``train, test = split``.

    Attributes:
        train, test: the parts (``test`` is None where test_fraction was 0).
        train_rows, test_rows: their row indices in the data that were split.
    """

    train: Dataset
    test: Dataset | None
    train_rows: np.ndarray
    test_rows: np.ndarray

    __repr__ = brief
    _repr_html_ = table

    def __iter__(self) -> Iterator[Dataset | None]:
        return iter((self.train, self.test))


def split(
    data: Dataset,
    test_fraction: float,
    seed: int,
    stratify: bool,
    scale: str,
    train_rows: int | None,
    target_scale: str = "none",
) -> Split:
    """See ``Dataset.split``."""
    if not 0 <= test_fraction < 1:
        raise ArgumentError(f"{spoken('test_fraction')} must be at least 0 and below 1, got {test_fraction}")
    if data.scaling is not None and scale != "none":
        raise ArgumentError("the data are scaled already: scale the data that load() returned")
    rng = np.random.default_rng([seed, 12])
    stratify = stratify and data.task == "classification"
    apart = _split_rows if data.groups is None else _split_groups
    train, test = apart(data, test_fraction, rng, stratify)
    if train_rows is not None:
        if not 1 <= train_rows <= len(train):
            word = spoken("rows" if on_command_line() else "train_rows")
            raise ArgumentError(
                f"{word} must lie within 1..{len(train)}, the rows of {data.name} that may train, got {train_rows}"
            )
        if train_rows < len(train):
            train = _thin(data, train, train_rows, rng, stratify)
    whole = data if data.imputed is None else replace(data, x=_refill(data, train))
    scaling = Scaling.fit(whole.x[train], scale)
    targets = _target_scaling(data, train, target_scale)
    notes = data.notes + _group_notes(data, test) + _notes(whole, train, scale) + _target_notes(data, targets)
    record = {
        **data.record,
        "split": {"test_fraction": test_fraction, "seed": seed, "stratify": stratify, "train_rows": len(train)},
        "scale": scale,
    }
    if targets is not None:
        record["target_scale"] = target_scale

    def part(rows: np.ndarray) -> Dataset:
        taken = whole.take(rows)
        x = taken.x if scale == "none" else scaling.apply(taken.x)
        done = data.scaling if scale == "none" else scaling
        y = taken.y if targets is None else targets.apply(taken.y[:, None])[:, 0]
        return replace(
            taken,
            x=np.ascontiguousarray(x),
            y=y,
            scaling=done,
            target_scaling=data.target_scaling if targets is None else targets,
            notes=notes,
            record=record,
        )

    first = part(train)
    first.check_classes(f"the training part of {data.name}")
    return Split(train=first, test=part(test) if len(test) else None, train_rows=train, test_rows=test)


def _group_notes(data: Dataset, test: np.ndarray) -> tuple[str, ...]:
    if data.groups is None or not len(test):
        return ()
    count, kept = len(np.unique(data.groups)), len(np.unique(data.groups[test]))
    return (
        f"The rows of one {data.group} stay together: {kept} of {count} are kept for testing ({len(test):,} rows).",
    )


def _notes(whole: Dataset, train: np.ndarray, scale: str) -> tuple[str, ...]:
    flat = [f for f, v in zip(whole.features, np.ptp(whole.x[train], axis=0)) if v == 0]
    notes = [f"Constant in the training part, so without influence: {', '.join(flat)}."] if flat else []
    return (*notes, *([_SCALE_NOTES[scale]] if scale != "none" else []))


def _target_scaling(data: Dataset, train: np.ndarray, kind: str) -> Scaling | None:
    """The map of a numeric target, fitted on the training part; None where it stays as it is."""
    if kind not in SCALES:
        raise ArgumentError(f"target_scale {kind!r} is unknown; choose one of {', '.join(SCALES)}")
    if kind == "none" or data.task != "regression":
        return None
    if data.target_scaling is not None:
        raise ArgumentError("the target is scaled already: scale the data that load() returned")
    return Scaling.fit(np.asarray(data.y[train], float)[:, None], kind)


def _target_notes(data: Dataset, targets: Scaling | None) -> tuple[str, ...]:
    if targets is None:
        return ()
    centre, scale = float(targets.centre[0]), float(targets.scale[0])
    shifted = f"minus {centre:.6g}, " if centre else ""
    return (
        f"The target {data.target} was scaled for training ({shifted}divided by {scale:.6g}): losses of the "
        f"landscape are in units of {scale:.6g}^2; losses on the test data are in the units of the file.",
    )


def grouped(sources: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Source columns, each once and in order, and the one each feature comes from, int [d]."""
    columns = tuple(dict.fromkeys(sources))
    at = {column: k for k, column in enumerate(columns)}
    return columns, np.array([at[source] for source in sources], int)


def fills(data: Dataset, train: np.ndarray) -> np.ndarray:
    """What stands for missing values [d], from the training rows alone; where none knows it, what stands now."""
    assert data.imputed is not None
    fill = np.zeros(data.d)
    names, where = grouped(data.sources)
    for k, source in enumerate(names):
        columns = np.flatnonzero(where == k)
        known = train[~data.imputed[train, columns[0]]]
        if not len(known):
            fill[columns] = data.x[train[0], columns]
        elif source in data.record.get("one_hot", {}):
            shares = data.x[np.ix_(known, columns)].mean(0)
            fill[columns] = shares > 0.5 if len(columns) == 1 else np.eye(len(columns))[shares.argmax()]
        else:
            fill[columns] = statistic(data.x[known, columns[0]], data.record["missing"])
    return fill


def _refill(data: Dataset, train: np.ndarray) -> np.ndarray:
    """Impute again from the training rows alone."""
    assert data.imputed is not None
    return np.where(data.imputed, fills(data, train), data.x)


def _split_rows(
    data: Dataset, fraction: float, rng: np.random.Generator, stratify: bool
) -> tuple[np.ndarray, np.ndarray]:
    order = rng.permutation(data.n)
    if fraction == 0:
        return np.sort(order), order[:0]
    if not stratify:
        k = round(fraction * data.n)
        if not 0 < k < data.n:
            raise DataError(f"{data.name}: {data.n} rows are too few for {spoken('test_fraction', fraction)}")
        return np.sort(order[k:]), np.sort(order[:k])
    train, test = [], []
    for c, label in enumerate(data.classes):
        members = order[data.y[order] == c]
        if len(members) == 1:
            numbers = len(data.classes) > 2 and all(c.lstrip("-").isdigit() for c in data.classes)
            ways = ["remove it"]
            ways += [f"take {data.target} as numbers ({spoken('task', 'count')})"] if numbers else []
            ways += [f"keep no rows for testing ({spoken('test_fraction', 0)})"]
            raise DataError(
                f"{data.name}: class {label!r} has one row only and cannot be in both parts: {', or '.join(ways)}"
            )
        k = min(max(round(fraction * len(members)), 1), len(members) - 1) if len(members) else 0
        test.append(members[:k])
        train.append(members[k:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


def _split_groups(
    data: Dataset, fraction: float, rng: np.random.Generator, stratify: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Whole groups, in random order, as long as each brings the rows kept for testing nearer to their number."""
    assert data.groups is not None
    names, of = np.unique(data.groups, return_inverse=True)
    every = np.arange(data.n)
    if fraction == 0:
        return every, every[:0]
    if len(names) < 2:
        raise DataError(f"{spoken('group', data.group)}: all rows are of one group, {names[0]!r}")
    kinds = data.y if stratify else np.zeros(data.n, int)
    counts = np.zeros((len(names), int(kinds.max()) + 1))
    np.add.at(counts, (of, kinds), 1)
    wanted, held = fraction * counts.sum(0), np.zeros(counts.shape[1])
    order, chosen = rng.permutation(len(names)), []
    for g in order:
        if np.sum((held + counts[g] - wanted) ** 2) < np.sum((held - wanted) ** 2):
            held = held + counts[g]
            chosen.append(g)
    if not chosen:
        chosen = [order[counts[order].sum(1).argmin()]]
        held = counts[chosen[0]]
    lacking = np.flatnonzero((held == 0) | (held == counts.sum(0)))
    if stratify and len(lacking):
        part = "test" if held[lacking[0]] == 0 else "training"
        raise DataError(
            f"{data.name}: with the rows of each {data.group} kept together the {part} part has none of class "
            f"{data.classes[int(lacking[0])]!r}: try another {spoken('seed')} or {spoken('test_fraction')}"
        )
    test = np.isin(of, chosen)
    return every[~test], every[test]


def _thin(data: Dataset, train: np.ndarray, k: int, rng: np.random.Generator, stratify: bool) -> np.ndarray:
    order = rng.permutation(train)
    if not stratify:
        return np.sort(order[:k])
    # Largest remainders, so that exactly k rows are kept.
    counts = np.bincount(data.y[order], minlength=len(data.classes))
    quota = counts * k / len(order)
    kept = np.floor(quota).astype(int)
    for c in np.argsort(-(quota - kept), kind="stable")[: k - kept.sum()]:
        kept[c] += 1
    return np.sort(np.concatenate([order[data.y[order] == c][:m] for c, m in enumerate(kept)]))


def statistic(values: np.ndarray, rule: str) -> float:
    """What fills in for missing values [n]: their mean, median or mode."""
    if rule == "mode":
        levels, counts = np.unique(values, return_counts=True)
        return float(levels[counts.argmax()])
    return float(np.median(values) if rule == "median" else np.mean(values))
