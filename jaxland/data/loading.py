"""``load``: from a built-in name, a file, a DataFrame or arrays to a checked ``Dataset``."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike

from jaxland.data.builtin import BUILT_IN
from jaxland.data.columns import Rules, from_table
from jaxland.data.dataset import Dataset
from jaxland.data.dialect import Dialect
from jaxland.data.formats import frame_of, is_frame
from jaxland.data.reading import Table, near, read
from jaxland.errors import ArgumentError, DataError
from jaxland.options import spoken

if TYPE_CHECKING:
    import pandas as pd


class BuiltInOptions(TypedDict, total=False):
    """Options of the built-in sets that are made here; see ``checkerboard`` and ``xor``."""

    k: int
    n: int
    noise: float


def load(
    source: str | Path | pd.DataFrame | Table | Dataset | Sequence[ArrayLike],
    target: str | None = None,
    *,
    categorical: Sequence[str] | str | None = None,
    drop: Sequence[str] | str | None = None,
    group: str | None = None,
    missing: str = "refuse",
    constant: str = "refuse",
    task: str | None = None,
    max_levels: int = 50,
    keep_identifiers: bool = False,
    keep: Sequence[str] | str | None = None,
    sep: str | None = None,
    decimal: str | None = None,
    thousands: str | None = None,
    encoding: str | None = None,
    na: Sequence[str] | str | None = None,
    rows: int | None = None,
    seed: int = 0,
    name: str | None = None,
    **options: Unpack[BuiltInOptions],
) -> Dataset:
    """Read and check data.

    Args:
        source: a built-in name (checkerboard, xor, breast_cancer, wine, digits), the path of a CSV file (comma,
            semicolon, tab or bar; may be gzipped), a parquet, feather or Excel file, an npz file (arrays ``x`` and
            ``y``, optionally ``features``), a DataFrame of pandas or polars, a pyarrow or jaxland ``Table``, a pair
            of arrays (x [n, d], y [n]), or a Dataset.
        target: the target column (CSV, DataFrame) or the npz key of the targets.
        categorical: columns of numbers that are codes, to be one-hot coded as text columns always are. A column with
            two levels becomes one feature, one with k > 2 levels k features.
        drop: columns to ignore.
        group: column of groups (patients, sites), which is no feature: a later ``split`` keeps the rows of one
            group together.
        missing: ``refuse``, or fill with the column's ``mean``, ``median`` or ``mode`` (one-hot columns: the mode).
            A later ``split`` fills from the training part only.
        constant: ``refuse`` or ``drop`` columns with one value only.
        task: ``classify``, ``regress`` or ``count``; by default text, booleans and up to 20 different integers are
            classes.
        max_levels: most levels of a one-hot column.
        keep_identifiers: keep columns that number the rows; by default they are dropped and noted.
        keep: columns to keep though they look like that.
        sep, decimal, thousands: of a CSV file: what separates values, marks decimals and groups digits; by default
            found for every column. A comma that may mean either is refused.
        encoding: of a CSV file; default UTF-8 (or UTF-16 with its mark).
        na: what is missing besides the empty cell; by default NA, NaN, null, None and the like in columns of numbers,
            and nothing in columns of text.
        rows, seed: draw so many rows, not more than there are, at random (the seed is also that of the built-in
            checkerboard and xor).
        name: for reports; default from the source.
        **options: of a built-in set: ``load("checkerboard", k=3, n=500)``.

    Returns:
        Dataset: in the units of the source (see ``Dataset.split`` for scaling).

    Raises:
        DataError: anything wrong with the data; the message names column and row and says what to do.
        ArgumentError: an argument that makes no sense.
        DependencyError: scikit-learn is needed for its data sets.

    >>> load(([[1.0], [2.0], [4.0]], ["no", "yes", "no"])).describe()
    'arrays: 3 rows, 1 features, target y with 2 classes (no: 2, yes: 1)'
    """
    rules = Rules(
        categorical=_names(categorical),
        drop=_names(drop),
        group=group,
        missing=missing,
        constant=constant,
        task=task,
        max_levels=max_levels,
        keep_identifiers=keep_identifiers,
        keep=_names(keep),
    )
    dialect = Dialect(sep=sep, decimal=decimal, thousands=thousands, encoding=encoding, na=_names(na))
    if isinstance(source, Dataset):
        return source.subsample(rows, seed)
    if isinstance(source, str) and source in BUILT_IN:
        if any((target is not None, task is not None, group is not None, rules.categorical, rules.drop, rules.keep)):
            options_of_tables = ", ".join(map(spoken, ("target", "categorical", "drop", "keep", "group")))
            raise ArgumentError(f"{source} is built in: {options_of_tables} and {spoken('task')} do not apply to it")
        data = _built_in(source, seed, options)
    elif options:
        raise ArgumentError(f"unknown arguments for load: {', '.join(options)}")
    elif isinstance(source, str | Path):
        data = _from_file(source, target, rules, dialect)
    elif isinstance(source, Table):
        data = from_table(source, target, rules)
    elif is_frame(source):
        data = from_table(Table(frame=frame_of(source), name="DataFrame"), target, rules)
    elif isinstance(source, tuple | list) and len(source) == 2:
        data = _from_arrays(source[0], source[1], None, rules, "arrays", target or "y")
    else:
        raise ArgumentError(
            "source must be a built-in name, a CSV or npz path, a DataFrame or a pair (x, y), "
            f"got {type(source).__name__}"
        )
    return (data if name is None else replace(data, name=name)).subsample(rows, seed)


def _built_in(source: str, seed: int, options: BuiltInOptions) -> Dataset:
    seeded = {"seed": seed} if source in ("checkerboard", "xor") else {}
    try:
        return BUILT_IN[source](**seeded, **options)
    except TypeError as error:
        raise ArgumentError(f"{source} has no such option: {error}") from error


def _from_file(source: str | Path, target: str | None, rules: Rules, dialect: Dialect) -> Dataset:
    path = Path(source).expanduser()
    if not path.exists():
        close = difflib.get_close_matches(str(source), BUILT_IN, 1)
        hint = f"; did you mean the built-in {close[0]!r}?" if close else f"; built-in data: {', '.join(BUILT_IN)}"
        raise DataError(f"data file {source} does not exist{hint}")
    if path.is_dir():
        raise DataError(f"{source} is a folder: give a CSV, parquet, Excel or npz file")
    if path.suffix in (".pkl", ".json"):
        raise DataError(
            f"{path.name}: {path.suffix} files are not read here; read it with pandas, pass the DataFrame"
        )
    if path.suffix == ".npz":
        data = _from_npz(path, target, rules)
    else:
        data = from_table(read(path, dialect=dialect), target, rules)
    return replace(data, record={"source": path.name, **data.record})


def _names(value: Sequence[str] | str | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else tuple(map(str, value))


def _from_npz(path: Path, target: str | None, rules: Rules) -> Dataset:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except Exception as error:
        raise DataError(f"{path.name} is not a readable npz file ({error})") from error
    keys = {key.lower(): key for key in arrays}
    if "x" not in keys:
        raise DataError(f"{path.name} has no array 'x'; it holds {', '.join(arrays) or 'nothing'}")
    if target is not None and target not in arrays:
        raise DataError(f"{path.name} has no array {target!r}{near(target, list(arrays))}")
    key = target if target is not None else keys.get("y")
    if key is None:
        raise DataError(
            f"{path.name} has no array 'y'; name the targets with {spoken('target')}, one of {', '.join(arrays)}"
        )
    features = arrays[keys["features"]] if "features" in keys else None
    return _from_arrays(arrays[keys["x"]], arrays[key], features, rules, path.stem, key)


def _from_arrays(
    inputs: ArrayLike, targets: ArrayLike, features: np.ndarray | None, rules: Rules, name: str, target: str
) -> Dataset:
    import pandas as pd

    x, y = np.asarray(inputs), np.asarray(targets)
    if x.ndim > 2:
        x = x.reshape(len(x), -1)
    if x.ndim != 2 or (y.ndim != 1 and y.size != len(y)):
        raise DataError(f"x must have shape [n, d] and y [n], got {x.shape} and {y.shape}")
    y = y.reshape(-1)
    if len(x) != len(y):
        raise DataError(f"x and y must have the same number of rows, got {len(x)} and {len(y)}")
    if not (np.issubdtype(x.dtype, np.number) or x.dtype == bool) or np.issubdtype(x.dtype, np.complexfloating):
        raise DataError(f"x must be an array of real numbers, got dtype {x.dtype}; pass a DataFrame for text columns")
    names = [f"x{i + 1}" for i in range(x.shape[1])] if features is None else [str(f) for f in features]
    if len(names) != x.shape[1] or len(set(names)) != len(names):
        raise DataError(f"{name}: {len(set(names))} different feature names for {x.shape[1]} columns of x")
    target = target if target not in names else f"{target} (target)"
    frame = pd.DataFrame(x.astype(np.float64), columns=names)
    frame[target] = y
    return from_table(Table(frame=frame, name=name), target, replace(rules, keep_identifiers=True))
