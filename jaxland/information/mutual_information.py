"""Mutual information with Gaussian mixtures: one pair, given a third, with labels, and the marginals' divergence.

Piras, Peiris, Pontzen, Lucie-Smith, Guo & Nord, "A robust estimator of mutual information for deep learning
interpretability" (2023): fit the joint density with a Gaussian mixture whose size held-out data choose, integrate
log p(x,y) - log p(x) - log p(y) under it, bootstrap for the error. What differs here is said in the documentation.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Unpack

import jax
import numpy as np
import pandas as pd

from jaxland.errors import ArgumentError, DataError
from jaxland.information import integrals, point_masses
from jaxland.information.categorical import estimate_classes, fewest_of_class
from jaxland.information.columns import Variable, as_samples, copies, normal_scores, same_length, variable
from jaxland.information.estimate import estimate
from jaxland.information.ksg import ksg_of
from jaxland.information.options import Keywords, Options
from jaxland.information.results import MutualInformation, infinite, result_of
from jaxland.options import chosen, spelled_out

KSG_SAMPLES = 20_000
FEW_LEVELS = 20


@spelled_out(Options)
def mutual_information(
    x: Any, y: Any, *, names: tuple[str, str] = ("x", "y"), ksg: bool = True, **options: Unpack[Keywords]
) -> MutualInformation:
    """I(X;Y) with its error.

    Args:
        x, y: samples [N] or [N, d], paired by row; up to about 5 columns each.
        names: for messages, tables and plots.
        ksg: whether to compute the nearest-neighbour estimate beside it.
        options: see ``Options``: bootstraps=50, starts=3, folds=4, orders, maps="auto", null=4, units="nats", seed=0,
            memory=2.0, ...

    Raises:
        DataError: lengths differ, values not finite, a constant column, fewer than 20 samples.
        ArgumentError: an option that makes no sense.

    >>> rng = np.random.default_rng(0)
    >>> x, noise = rng.normal(size=(2, 2000))
    >>> found = mutual_information(x, 0.6 * x + 0.8 * noise, orders=1, bootstraps=0, null=0)
    >>> round(found.mean, 1)  # -ln(1 - 0.6^2) / 2
    0.2
    """
    o = chosen(Options, None, options)
    left, right = variable(x, names[0], o.seed), variable(y, names[1], o.seed + 1)
    return pairs([(left, right)], o, ksg=ksg)[0]


def pairs(
    tuples: Sequence[tuple[Variable, Variable]], options: Options, *, ksg: bool = True
) -> list[MutualInformation]:
    """Many pairs in batches; pairs that determine each other come back infinite."""
    results: list[MutualInformation | None] = [None] * len(tuples)
    groups: dict[tuple[int, int], list[int]] = {}
    checks = []
    for i, (x, y) in enumerate(tuples):
        n = same_length(**{x.name: x.columns.T, y.name + " ": y.columns.T})
        split = point_masses.side(x), point_masses.side(y)
        if split[0].masses or split[1].masses:
            checks.append(float("nan"))
            results[i] = _mixed(*split, names=(x.name, y.name), options=options, ksg=ksg)
            continue
        checks.append(_check(x, y) if ksg else float("nan"))
        why = determined(x, y)
        if why:
            results[i] = infinite(options, n=n, names=(x.name, y.name), why=why, ksg=checks[i])
        else:
            groups.setdefault((x.size, y.size), []).append(i)
    for (dx, dy), members in groups.items():
        with jax.enable_x64(options.dtype == "float64"):
            found = estimate([tuples[i] for i in members], integrals.mutual(dx, dy), options)
        for i, e in zip(members, found):
            x, y = tuples[i]
            results[i] = result_of(
                e, options, names=(x.name, y.name), quantity="I", notes=cautions(x, y), ksg=checks[i]
            )
    return results  # type: ignore[return-value]


def _mixed(
    x: point_masses.Side, y: point_masses.Side, *, names: tuple[str, str], options: Options, ksg: bool
) -> MutualInformation:
    """Information where a side has point masses."""
    n = len(x.pattern)
    for left, right in point_masses.cells(x, y):
        why = determined(left, right)
        if why:
            return infinite(options, n=n, names=names, why=f"beside their point masses, {why}", ksg=float("nan"))
    with jax.enable_x64(options.dtype == "float64"):
        found = point_masses.mixed(x, y, options, _check if ksg else lambda *_: float("nan"))
    told = [
        f"{100 * one.share:.0f} % of {name} share their value with many others ({one.masses} point mass"
        f"{'es' if one.masses > 1 else ''}): a discrete part of its own"
        for name, one in zip(names, (x, y))
        if one.masses
    ]
    told.append(f"{found.discrete * options.unit:.4f} {options.units} come from the point masses alone")
    if found.left_out > 0.01:
        told.append(f"{100 * found.left_out:.0f} % of the samples lie in parts too small to be fitted")
    return result_of(
        found.whole,
        options,
        names=names,
        quantity="I",
        n=n,
        notes=tuple(told),
        ksg=found.check if ksg else float("nan"),
    )


def _check(x: Variable, y: Variable) -> float:
    """KSG in normal scores, on at most KSG_SAMPLES distinct samples: copies would look like dependence to it."""
    group = copies(x, y)
    take = np.unique(group, return_index=True)[1]
    if len(take) > KSG_SAMPLES:
        take = np.random.default_rng([len(take), 0x1C56]).permutation(take)[:KSG_SAMPLES]
    left, right = (replace(v, columns=normal_scores(v.columns[:, take]), codes=v.codes[:, take]) for v in (x, y))
    return ksg_of(left, right)


def determined(x: Variable, y: Variable) -> str:
    """Why the information is infinite, or an empty text: a linear relation, or equal ranks."""
    joint = np.concatenate([x.columns, y.columns])
    if x.ties == 0 and y.ties == 0 and x.size == y.size == 1:
        order = np.argsort(x.columns[0])
        step = np.diff(y.columns[0][order])
        if np.all(step > 0) or np.all(step < 0):
            return f"{y.name} is a monotone function of {x.name}: their mutual information is infinite"
    if np.linalg.eigvalsh(np.corrcoef(joint))[0] < 1e-12 and max(x.ties, y.ties) == 0:
        return f"{x.name} and {y.name} are linearly dependent: their mutual information is infinite"
    return ""


def cautions(*variables: Variable) -> tuple[str, ...]:
    """Notes on ties and noise-free relations."""
    told = []
    repeated = len(variables[0].codes[0]) - int(copies(*variables).max()) - 1
    if repeated:
        told.append(f"{repeated} rows repeat others; copies were kept together in folds and resampling")
    for v in variables if not repeated else ():
        if v.ties > 0.5 and 0 < v.levels <= FEW_LEVELS:
            told.append(f"{v.name} takes {v.levels} values: categorical_mutual_information treats them as labels")
        elif v.ties > 0.01:
            told.append(f"{100 * v.ties:.0f} % of {v.name} share their value with another; ties were spread evenly")
    if len(variables) == 2 and all(v.size == 1 for v in variables):
        for a, b in (variables, variables[::-1]):
            if a.ties > 0.01 or b.ties > 0.01:
                continue
            rank = np.argsort(np.argsort(b.columns[0]))
            jump = np.median(np.abs(np.diff(rank[np.argsort(a.columns[0])])))
            if jump <= 3:
                told.append(f"{b.name} looks like a noise-free function of {a.name}: the number is a lower bound")
                break
    return tuple(told)


@spelled_out(Options)
def conditional_mutual_information(
    x: Any, y: Any, z: Any, *, names: tuple[str, str, str] = ("x", "y", "z"), **options: Unpack[Keywords]
) -> MutualInformation:
    """I(X;Y|Z) = E[log p(z) + log p(x,y,z) - log p(x,z) - log p(y,z)] with its error.

    Args: see ``mutual_information``; z [N] or [N, d]. There is no null: shuffling would also cut the tie to z.

    Raises:
        DataError, ArgumentError: see ``mutual_information``; also for linearly dependent variables.
    """
    o = chosen(Options, None, options)
    a, b, c = (variable(v, name, o.seed + i) for i, (v, name) in enumerate(zip((x, y, z), names)))
    same_length(**{names[0]: a.columns.T, names[1]: b.columns.T, names[2]: c.columns.T})
    joint = np.corrcoef(np.concatenate([a.columns, b.columns, c.columns]))
    if np.linalg.eigvalsh(joint)[0] < 1e-12:
        raise DataError(f"{', '.join(names)} are linearly dependent: the conditional information is not finite")
    if any(point_masses.side(v).masses for v in (a, b, c)):
        with jax.enable_x64(o.dtype == "float64"):
            found = point_masses.conditional(a, b, c, o)
        told = "point masses are treated as a discrete part: I(x; y, z) - I(x; z), bootstrapped together"
        return result_of(found, o, names=names, quantity="I", n=a.columns.shape[1], notes=(told,))
    with jax.enable_x64(o.dtype == "float64"):
        found = estimate(
            [(a, b, c)],
            integrals.conditional(a.size, b.size, c.size),
            o,
            null=False,
            first=integrals.mutual(a.size, b.size + c.size),
        )[0]
    return result_of(found, o, names=names, quantity="I", notes=cautions(a, b, c))


@spelled_out(Options)
def kl_marginals(
    x: Any, y: Any, *, reverse: bool = False, names: tuple[str, str] = ("x", "y"), **options: Unpack[Keywords]
) -> MutualInformation:
    """KL(p_x || p_y) between the marginals of the fitted joint density (``reverse``: KL(p_y || p_x)).

    Args: see ``mutual_information``; x and y have the same number of columns and share one scale. The divergence is
    not invariant under separate maps of x and y, so only raw columns are used; there is no null.

    Raises:
        DataError: as ``mutual_information``; different numbers of columns.
    """
    o = replace(chosen(Options, None, options), maps="raw")
    xs, ys = as_samples(x, names[0]), as_samples(y, names[1])
    n = same_length(**{names[0]: xs, names[1]: ys})
    if xs.shape[1] != ys.shape[1]:
        raise DataError(f"{names[0]} has {xs.shape[1]} columns and {names[1]} has {ys.shape[1]}: they must agree")
    both = variable(np.concatenate([xs, ys]), " and ".join(names), o.seed)
    left, right = (
        replace(both, name=s, columns=both.columns[:, own], codes=both.codes[:, own])
        for s, own in zip(names, (slice(n), slice(n, None)))
    )
    if determined(left, right):
        raise DataError(f"{names[0]} and {names[1]} are linearly dependent: their joint density cannot be fitted")
    with jax.enable_x64(o.dtype == "float64"):
        found = estimate([(left, right)], integrals.divergence(left.size, reverse=reverse), o, null=False)[0]
    return result_of(found, o, names=names[::-1] if reverse else names, quantity="KL")


@spelled_out(Options)
def categorical_mutual_information(
    x: Any, labels: Any, *, names: tuple[str, str] = ("x", "label"), **options: Unpack[Keywords]
) -> MutualInformation:
    """I(X;C) of continuous x [N] or [N, d] and class labels [N] of any kind, classes weighed by their shares.

    sum_k (n_k/N) E_{p(x|k)}[log p(x|k) - log sum_j (n_j/N) p(x|j)], one mixture per class.

    Raises:
        DataError: lengths differ, one class only, a class with too few samples, x as in ``mutual_information``.
    """
    o = chosen(Options, None, options)
    left = variable(x, names[0], o.seed)
    codes, known = encode(labels, names[1])
    same_length(**{names[0]: left.columns.T, names[1]: codes})
    return classes([(left, codes, known, names[1])], o)[0]


def encode(labels: Any, name: str) -> tuple[np.ndarray, list[str]]:
    """Class number of each sample and the classes' names.

    Raises:
        DataError: not one-dimensional, missing labels, fewer than two classes.
    """
    array = np.asarray(labels.to_numpy() if hasattr(labels, "to_numpy") else labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(f"{name} must have shape [N], got {array.shape}")
    missing = np.flatnonzero(pd.isna(array))
    if len(missing):
        raise DataError(f"{name} has {len(missing)} missing labels, the first in row {missing[0]}")
    if array.dtype.kind == "O":
        array = array.astype(str)
    known, codes = np.unique(array, return_inverse=True)
    if len(known) < 2:
        raise DataError(f"{name} has one class only ({known[0]!s}): it carries no information")
    return codes, [str(k) for k in known]


def check_classes(codes: np.ndarray, known: Sequence[str], name: str, size: int) -> None:
    """Whether every class has the samples that a density of ``size`` columns needs.

    Raises:
        DataError: one has not.
    """
    counts = np.bincount(codes, minlength=len(known))
    fewest = fewest_of_class(size)
    if counts.max() < fewest:
        raise DataError(
            f"{name} has {len(known)} different values in {len(codes)} rows: too many to be classes (dates, "
            "identifiers?): give numbers, or drop it"
        )
    if counts.min() < fewest:
        small = int(counts.argmin())
        raise DataError(
            f"class {known[small]!r} of {name} has {counts[small]} samples; at least {fewest} are needed: "
            "merge or drop it"
        )


def classes(
    items: Sequence[tuple[Variable, np.ndarray, list[str], str]], options: Options
) -> list[MutualInformation]:
    """Many variables against labels: (variable, codes, class names, label name) each."""
    out = []
    for left, codes, known, name in items:
        check_classes(codes, known, name, left.size)
        split = point_masses.side(left)
        if split.masses:
            labels = point_masses.labelled(codes)
            out.append(_mixed(split, labels, names=(left.name, name), options=options, ksg=False))
            continue
        with jax.enable_x64(options.dtype == "float64"):
            found = estimate_classes(left, codes, options)
        told = tuple(n for n in cautions(left) if "categorical" not in n)
        out.append(result_of(found, options, names=(left.name, name), quantity="I", notes=told))
    return out


class GaussianMixtureMI:
    """Estimator in the manner of scikit-learn: ``GaussianMixtureMI().fit(X, y)``.

    Args: as ``Options``; ``labels=True`` treats y as classes.

    Attributes after ``fit``: ``mi_``, ``std_``, ``bootstraps_`` [B], ``n_components_``, ``n_dropped_`` and the whole
    ``result_``. Each call of ``fit`` starts afresh.
    """

    def __init__(
        self,
        *,
        labels: bool = False,
        bootstraps: int = 50,
        starts: int = 3,
        folds: int = 4,
        orders: Sequence[int] | None = None,
        patience: int = 1,
        criterion: str = "held_out",
        maps: str = "auto",
        null: int = 4,
        units: str = "nats",
        seed: int = 0,
    ) -> None:
        self.labels, self.bootstraps, self.starts, self.folds = labels, bootstraps, starts, folds
        self.orders, self.patience, self.criterion, self.maps = orders, patience, criterion, maps
        self.null, self.units, self.seed = null, units, seed

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            name: getattr(self, name) for name in inspect.signature(type(self).__init__).parameters if name != "self"
        }

    def set_params(self, **params: Any) -> GaussianMixtureMI:
        """Change constructor arguments."""
        known = self.get_params()
        for name, value in params.items():
            if name not in known:
                raise ArgumentError(f"unknown parameter {name!r}; parameters are {', '.join(known)}")
            setattr(self, name, value)
        return self

    def fit(self, X: Any, y: Any) -> GaussianMixtureMI:
        """Estimate I(X; y) from samples X [N, d] (or [N]) and y [N] or [N, dy]."""
        options = {k: v for k, v in self.get_params().items() if k != "labels" and v is not None}
        measure = categorical_mutual_information if self.labels else mutual_information
        self.result_ = measure(X, y, **options)
        self.mi_, self.std_ = self.result_.mean, self.result_.std
        self.bootstraps_ = self.result_.samples
        self.n_components_, self.n_dropped_ = self.result_.components, self.result_.dropped
        return self

    def __repr__(self) -> str:
        default = {k: p.default for k, p in inspect.signature(type(self).__init__).parameters.items()}
        given = ", ".join(f"{k}={v!r}" for k, v in self.get_params().items() if v != default[k])
        return f"GaussianMixtureMI({given})"
