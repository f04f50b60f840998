"""Every pair of two tables at once, and what it says of a latent space: association and disentanglement.

Association is I(latent; factor), disentanglement how exclusively one latent carries a factor: the mutual information
gap of Chen et al. 2018 (MIG), top minus second latent over the factor's entropy, and the information the latents
share among themselves. All pairs see the same bootstrap resamplings, so differences between them have errors too.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from jaxland.errors import ArgumentError, DataError, DependencyError
from jaxland.information.categorical import fewest_of_class
from jaxland.information.columns import Variable, same_length, variable
from jaxland.information.mutual_information import check_classes, classes, encode, pairs
from jaxland.information.options import MatrixKeywords, MatrixOptions
from jaxland.information.results import MutualInformation
from jaxland.options import chosen, spelled_out
from jaxland.showing import brief

if TYPE_CHECKING:
    import xarray

MOST_LEVELS = 12  # integer columns with at most so many values count as labels by default


@dataclass(frozen=True, eq=False)
class InformationMatrix:
    """Information of every row variable with every column variable; numbers in ``units``.

    Attributes:
        rows, columns: names.
        mean, std, corrected, null_mean, ksg: [R, C]; nan on the diagonal of a table against itself.
        samples: bootstraps [R, C, B], the same resamplings for every pair.
        categorical: which columns were treated as labels [C]; entropy: of those columns [C], else nan.
        results: the whole results, ``results[r][c]``.
        symmetric: whether the rows are the columns.
        left_out: factors that cannot be treated, and why.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    mean: Float[np.ndarray, "r c"]
    std: Float[np.ndarray, "r c"]
    corrected: Float[np.ndarray, "r c"]
    null_mean: Float[np.ndarray, "r c"]
    ksg: Float[np.ndarray, "r c"]
    samples: Float[np.ndarray, "r c b"]
    categorical: tuple[bool, ...]
    entropy: Float[np.ndarray, " c"]
    units: str
    symmetric: bool
    results: tuple[tuple[MutualInformation | None, ...], ...] = field(repr=False)
    left_out: dict[str, str] = field(default_factory=dict)

    __repr__ = brief

    def frame(self, what: str = "mean") -> pd.DataFrame:
        """One of the tables, labelled: "mean", "std", "corrected", "null_mean" or "ksg"."""
        return pd.DataFrame(getattr(self, what), index=list(self.rows), columns=list(self.columns))

    def to_xarray(self) -> xarray.Dataset:
        """Tables and bootstraps with named rows and columns.

        Raises:
            DependencyError: xarray is not installed.
        """
        try:
            import xarray
        except ImportError as error:
            raise DependencyError.of("xarray", "xarray") from error
        table = ("row", "column")
        tables: dict[str, Any] = {
            name: (table, getattr(self, name)) for name in ("mean", "std", "corrected", "null_mean", "ksg")
        }
        tables["samples"] = ((*table, "bootstrap"), self.samples)
        coordinates = {"row": list(self.rows), "column": list(self.columns)}
        return xarray.Dataset(tables, coords=coordinates, attrs={"units": self.units})

    def to_pandas(self) -> pd.DataFrame:
        """A line a pair, with everything a result says."""
        lines = []
        for i, line in enumerate(self.results):
            for j, result in enumerate(line):
                if result is not None and (not self.symmetric or i < j):
                    lines.append(result.row())
        return pd.DataFrame(lines)

    def _repr_html_(self) -> str:
        text = self.frame().map(lambda v: f"{v:.3f}") + " ± " + self.frame("std").map(lambda v: f"{v:.3f}")
        notes = "".join(f"<li>left out: {html.escape(why)}</li>" for why in self.left_out.values())
        return f"<b>mutual information, {self.units}</b>" + text.to_html() + (f"<ul>{notes}</ul>" if notes else "")


@dataclass(frozen=True, eq=False)
class Disentanglement:
    """Which latent carries which factor, how exclusively, and what the latents share.

    Attributes:
        association: I(latent; factor); between: I(latent; latent).
        best: name of the latent that carries most of each factor [F]; second: the runner-up.
        top, top_std: its information; gap, gap_std: top minus runner-up, errors from the shared bootstraps [F].
        mig: gap over the factor's entropy for labels, over ``top`` for continuous factors (whose entropy depends on
            their unit) [F]; mig_std. Of a continuous factor that no latent carries (information within two errors of
            that of shuffled samples) it is the ratio of two zeros: NaN. One whose best latent determines it has 1
            where no other does.
        shared: mean information between two latents, shared_std its error.
    """

    association: InformationMatrix
    between: InformationMatrix
    best: tuple[str, ...]
    second: tuple[str, ...]
    top: Float[np.ndarray, " f"]
    top_std: Float[np.ndarray, " f"]
    gap: Float[np.ndarray, " f"]
    gap_std: Float[np.ndarray, " f"]
    mig: Float[np.ndarray, " f"]
    mig_std: Float[np.ndarray, " f"]
    shared: float
    shared_std: float

    __repr__ = brief

    def to_pandas(self) -> pd.DataFrame:
        """A line a factor."""
        return pd.DataFrame(
            {
                "factor": self.association.columns,
                "latent": self.best,
                "information": self.top,
                "std": self.top_std,
                "runner-up": self.second,
                "gap": self.gap,
                "gap std": self.gap_std,
                "MIG": self.mig,
                "MIG std": self.mig_std,
                "normalised by": ["entropy" if c else "information" for c in self.association.categorical],
            }
        )

    def _repr_html_(self) -> str:
        text = f"information between two latents, mean: {self.shared:.4f} ± {self.shared_std:.4f}"
        return self.to_pandas().to_html(index=False, float_format="%.4g") + f"<p>{text} {self.between.units}</p>"


def table_of(values: Any, name: str, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Named columns of a DataFrame, a mapping or an array [N, C].

    Raises:
        DataError: wrong shape, no columns, names that repeat or do not match.
    """
    if isinstance(values, pd.DataFrame):
        out = {str(c): values[c].to_numpy() for c in values.columns}
        count = len(values.columns)
    elif hasattr(values, "keys"):
        out = {str(k): np.asarray(values[k]) for k in list(values)}
        count = len(out)
    else:
        array = np.asarray(values)
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim != 2:
            raise DataError(f"{name} must have shape [N, columns], got {array.shape}")
        count = array.shape[1]
        labels = [f"{name}{i}" for i in range(count)] if names is None else [str(n) for n in names]
        if len(labels) != count:
            raise DataError(f"{name} has {count} columns but {len(labels)} names were given")
        out = {label: array[:, i] for i, label in enumerate(labels)}
    if not out:
        raise DataError(f"{name} has no columns")
    if len(out) != count:
        raise DataError(f"column names of {name} repeat: give each a name of its own")
    return out


def _is_label(column: np.ndarray) -> bool:
    if column.dtype.kind not in "fiub":
        try:
            column = column.astype(np.float64)
        except (TypeError, ValueError):
            return True
    if column.dtype.kind == "b":
        return True
    whole = column.dtype.kind in "iu" or bool(np.all(np.isfinite(column)) and np.all(column == np.round(column)))
    counts = np.unique(column, return_counts=True)[1]
    few = len(counts) <= min(MOST_LEVELS, len(column) // 20)
    return whole and few and bool(counts.min() >= fewest_of_class(1))  # rare counts are numbers, not classes


@spelled_out(MatrixOptions)
def matrix(
    latents: Any,
    factors: Any = None,
    *,
    latent_names: Sequence[str] | None = None,
    factor_names: Sequence[str] | None = None,
    **options: Unpack[MatrixKeywords],
) -> InformationMatrix:
    """Mutual information of every latent with every factor, in one batched computation.

    Args:
        latents, factors: DataFrame, mapping of columns, or array [N, columns]; without factors the latents are
            compared among themselves.
        latent_names, factor_names: for arrays; default z0, z1, ... and v0, v1, ...
        **options: see ``MatrixOptions``: ``categorical`` names the factors that are labels (default: text, booleans,
            integers of at most 12 values); ``ksg``: nearest-neighbour estimates too; the rest is ``Options``.

    Raises:
        DataError, ArgumentError: see ``mutual_information``; messages name the column.
    """
    o = chosen(MatrixOptions, None, options)
    left = {k: variable(v, k, o.seed) for k, v in table_of(latents, "z", latent_names).items()}
    if factors is None:
        if len(left) < 2:
            raise DataError("latents has one column: give factors, or at least two latents")
        # Ties of the two sides must be spread independently: another seed for the second.
        right = {k: variable(v, k, o.seed + 1) for k, v in table_of(latents, "z", latent_names).items()}
        return _assembled(o, list(left), list(left), _among(left, right, o), entropy={}, symmetric=True)
    raw = table_of(factors, "v", factor_names)
    labels = _labels(raw, o.categorical_names)
    left_out = _without_classes(raw, labels)
    lengths = {k: v.columns.T for k, v in left.items()} | {f"{k} (factor)": v for k, v in raw.items()}
    same_length(**lengths)
    codes = {k: encode(raw[k], k) for k in raw if k in labels}
    smooth = {k: variable(v, k, o.seed + 1) for k, v in raw.items() if k not in labels}
    jobs = [(r, c) for c in smooth for r in left]
    results = dict(zip(jobs, pairs([(left[r], smooth[c]) for r, c in jobs], o, ksg=o.ksg)))
    jobs = [(r, c) for c in codes for r in left]
    results |= zip(jobs, classes([(left[r], *codes[c], c) for r, c in jobs], o))
    entropy = {k: _entropy(numbers) * o.unit for k, (numbers, _) in codes.items()}
    found = _assembled(o, list(left), list(raw), results, entropy=entropy, symmetric=False)
    return replace(found, left_out=left_out)


Results = dict[tuple[str, str], MutualInformation]


def _among(left: dict[str, Variable], right: dict[str, Variable], o: MatrixOptions) -> Results:
    """Every two of one table, either way round."""
    jobs = list(itertools.combinations(left, 2))
    found = pairs([(left[a], right[b]) for a, b in jobs], o, ksg=o.ksg)
    return {key: result for (a, b), result in zip(jobs, found) for key in ((a, b), (b, a))}


def _labels(columns: dict[str, np.ndarray], named: tuple[str, ...] | None) -> set[str]:
    if named is None:
        return {k for k, v in columns.items() if _is_label(v)}
    strange = sorted(set(named) - set(columns))
    if strange:
        raise ArgumentError(f"categorical names {strange[0]!r}, which is no factor")
    return set(named)


def _without_classes(columns: dict[str, np.ndarray], labels: set[str]) -> dict[str, str]:
    """Takes columns out that are no classes; why, by name.

    Raises:
        DataError: no column is left.
    """
    reasons = {}
    for name in [k for k in columns if k in labels]:
        try:
            check_classes(*encode(columns[name], name), name, 1)
        except DataError as error:
            reasons[name] = str(error)
    for name in reasons:
        del columns[name]
    if not columns:
        raise DataError(next(iter(reasons.values())))
    return reasons


def _entropy(codes: Int[np.ndarray, " n"]) -> float:
    """Of the classes' shares, in nats."""
    share = np.bincount(codes) / len(codes)
    return float(-np.sum(share * np.log(share)))


def _assembled(
    o: MatrixOptions,
    rows: Sequence[str],
    columns: Sequence[str],
    results: Results,
    *,
    entropy: dict[str, float],
    symmetric: bool,
) -> InformationMatrix:
    table = [[results.get((r, c)) for c in columns] for r in rows]

    def gather(name: str) -> Float[np.ndarray, "r c"]:
        return np.array([[np.nan if r is None else getattr(r, name) for r in line] for line in table])

    nothing = np.full(o.bootstraps, np.nan)
    return InformationMatrix(
        rows=tuple(rows),
        columns=tuple(columns),
        mean=gather("mean"),
        std=gather("std"),
        corrected=gather("corrected"),
        null_mean=gather("null_mean"),
        ksg=gather("ksg"),
        samples=np.array([[nothing if r is None else r.samples for r in line] for line in table]),
        categorical=tuple(c in entropy for c in columns),
        entropy=np.array([entropy.get(c, np.nan) for c in columns]),
        units=o.units,
        symmetric=symmetric,
        results=tuple(tuple(line) for line in table),
    )


@spelled_out(MatrixOptions)
def disentanglement(
    latents: Any,
    factors: Any,
    *,
    latent_names: Sequence[str] | None = None,
    factor_names: Sequence[str] | None = None,
    **options: Unpack[MatrixKeywords],
) -> Disentanglement:
    """Which latent carries which factor and how exclusively; arguments as for ``matrix``.

    Raises:
        DataError: as ``matrix``; fewer than two latents.
    """
    association = matrix(latents, factors, latent_names=latent_names, factor_names=factor_names, **options)
    if len(association.rows) < 2:
        raise DataError("latents has one column: disentanglement compares at least two")
    return summarise(association, matrix(latents, latent_names=latent_names, **options))


def summarise(association: InformationMatrix, between: InformationMatrix) -> Disentanglement:
    """The same from the two tables."""
    mean, samples = association.mean, association.samples
    order = np.argsort(-mean, axis=0)
    first, second = order[0], order[1]
    f = np.arange(mean.shape[1])
    top = mean[first, f]
    top_samples = samples[first, f]  # [F, B]
    others = samples.copy()
    others[first, f] = -np.inf
    with np.errstate(invalid="ignore"):
        gap, gap_samples = top - mean[second, f], top_samples - others.max(0)
    norm = np.where(association.categorical, association.entropy, top)
    norm_samples = np.where(np.array(association.categorical)[:, None], association.entropy[:, None], top_samples)

    def spread(values: np.ndarray) -> np.ndarray:
        return np.std(values, axis=1, ddof=1) if values.shape[1] > 1 else np.full(len(values), np.nan)

    above = np.triu_indices(len(between.rows), 1)
    shared = between.samples[above].mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mig, mig_std = gap / norm, spread(gap_samples / norm_samples)
        gap_std = spread(gap_samples)
    labels = np.array(association.categorical, bool)
    endless = np.isinf(top) & ~labels
    gap = np.where(np.isinf(top) & np.isinf(mean[second, f]), 0.0, gap)
    mig, mig_std = np.where(endless, np.where(gap > 0, 1.0, 0.0), mig), np.where(endless, 0.0, mig_std)
    floor = np.nan_to_num(association.null_mean[first, f]) + 2 * np.nan_to_num(association.std[first, f])
    empty = ~labels & (top <= floor)
    return Disentanglement(
        association=association,
        between=between,
        best=tuple(association.rows[i] for i in first),
        second=tuple(association.rows[i] for i in second),
        top=top,
        top_std=association.std[first, f],
        gap=gap,
        gap_std=gap_std,
        mig=np.where(empty, np.nan, mig),
        mig_std=np.where(empty, np.nan, mig_std),
        shared=float(between.mean[above].mean()),
        shared_std=float(np.std(shared, ddof=1)) if len(shared) > 1 else float("nan"),
    )
