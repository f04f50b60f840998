"""Data: built-in sets, loading of CSV, npz, pandas and arrays with validation, one-hot coding, scaling, splits.

``load`` returns a ``Dataset`` in the units of the source; ``Dataset.split`` makes the training and test parts and
fits imputation and scaling on the training part only.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxland.errors import ArgumentError, DataError, DependencyError

MISSING_TOKENS = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "NULL", "None", "?")
MISSING_RULES = ("refuse", "mean", "median", "mode")
SCALES = ("none", "standardise", "mean-abs")
_COMMA, _POINT = (re.compile(rf"(^|;)\s*-?\d+{mark}\d", re.MULTILINE) for mark in (",", r"\."))
_NUMBER_LIKE = re.compile(r"[\s$€£]*-?\d[\d.,' ]*\s*[%$€£]?")
IDENTIFIER_NAMES = frozenset({"id", "index", "row", "rownum", "rowid", "uuid", "guid", "key", "no", "nr"})


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

    @classmethod
    def fit(cls, x: np.ndarray, kind: str) -> Scaling:
        """Fit on rows x[n, d]; a feature that is constant there keeps scale 1."""
        if kind not in SCALES:
            raise ArgumentError(f"scale {kind!r} is unknown; choose one of {', '.join(SCALES)}")
        d = x.shape[1]
        centre, scale = np.zeros(d), np.ones(d)
        if kind == "standardise":
            centre, scale = x.mean(0), x.std(0)
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
class Dataset:
    """A checked table: no missing or infinite values, no constant features, at least two classes.

    Attributes:
        x: float64 [n, d].
        y: int64 class indices [n] (classification) or float64 [n] (regression).
        features: name of each of the d features, after one-hot coding (``EDUCATION=2``).
        sources: the column of the source each feature came from (``EDUCATION``).
        classes: name of each class; empty for regression.
        task: ``classification`` or ``regression``.
        name: what the data are called in reports.
        target: name of the target column.
        notes: what was done to the data, a sentence each.
        record: the same as plain JSON-able values.
        scaling: the map already applied to ``x``, None where x is in original units.
        imputed: bool [n, d], the entries that were filled in; None where none was.
    """

    x: np.ndarray
    y: np.ndarray
    features: tuple[str, ...]
    sources: tuple[str, ...]
    classes: tuple[str, ...] = ()
    task: str = "classification"
    name: str = "data"
    target: str = "y"
    notes: tuple[str, ...] = ()
    record: dict[str, Any] = field(default_factory=dict)
    scaling: Scaling | None = None
    imputed: np.ndarray | None = None

    @property
    def n(self) -> int:
        """Rows."""
        return int(self.x.shape[0])

    @property
    def d(self) -> int:
        """Features."""
        return int(self.x.shape[1])

    @property
    def outputs(self) -> int:
        """Outputs a network needs: the number of classes, or 1 for regression."""
        return len(self.classes) if self.task == "classification" else 1

    def class_counts(self) -> np.ndarray:
        """Rows of each class [c]."""
        return np.bincount(self.y, minlength=len(self.classes)) if self.task == "classification" else np.array([])

    def take(self, rows: np.ndarray) -> Dataset:
        """The same data restricted to some rows (indices or mask)."""
        imputed = None if self.imputed is None else self.imputed[rows]
        return replace(self, x=self.x[rows], y=self.y[rows], imputed=imputed)

    def subsample(self, rows: int | None, seed: int = 0) -> Dataset:
        """``rows`` rows drawn without replacement by seed, in their old order; all where ``rows`` is None or >= n."""
        if rows is None or rows >= self.n:
            return self
        if rows < 1:
            raise ArgumentError(f"rows must be at least 1, got {rows}")
        kept = np.sort(np.random.default_rng([seed, 11]).permutation(self.n)[:rows])
        part = self.take(kept)
        _check_classes(part.y, part.classes, part.task, f"{self.name}, {rows} rows drawn with seed {seed}")
        note = f"{rows} of {self.n} rows were drawn at random (seed {seed})."
        return replace(part, notes=self.notes + (note,), record={**self.record, "rows": rows, "rows_seed": seed})

    def split(
        self,
        test_fraction: float = 0.3,
        seed: int = 0,
        stratify: bool = True,
        *,
        scale: str = "none",
        train_rows: int | None = None,
    ) -> Split:
        """Training and test parts; unpacks as ``train, test = data.split(...)``.

        Args:
            test_fraction: part of the rows kept for testing, in [0, 1); 0 gives ``test = None``.
            seed: of the permutation of rows.
            stratify: keep the proportions of the classes (classification only).
            scale: ``standardise``, ``mean-abs`` or ``none``, fitted on the training part.
            train_rows: use only so many rows of the training part (drawn by the same seed); the test part stays.

        Raises:
            ArgumentError: a fraction outside [0, 1), an unknown scale, or data that are scaled already.
            DataError: a class with too few rows to be in both parts.
        """
        if not 0 <= test_fraction < 1:
            raise ArgumentError(f"test_fraction must be at least 0 and below 1, got {test_fraction}")
        if self.scaling is not None and scale != "none":
            raise ArgumentError("the data are scaled already: scale the data that load() returned")
        rng = np.random.default_rng([seed, 12])
        stratify = stratify and self.task == "classification"
        train, test = _split_rows(self, test_fraction, rng, stratify)
        if train_rows is not None:
            if train_rows < 1:
                raise ArgumentError(f"train_rows must be at least 1, got {train_rows}")
            if train_rows < len(train):
                train = _thin(self, train, train_rows, rng, stratify)
        whole = self if self.imputed is None else replace(self, x=_refill(self, train))
        scaling = Scaling.fit(whole.x[train], scale)
        notes = list(self.notes)
        flat = [f for f, v in zip(self.features, np.ptp(whole.x[train], axis=0)) if v == 0]
        if flat:
            notes.append(f"Constant in the training part, so without influence: {', '.join(flat)}.")
        if scale != "none":
            notes.append(_SCALE_NOTES[scale])
        record = {
            **self.record,
            "split": {"test_fraction": test_fraction, "seed": seed, "stratify": stratify, "train_rows": len(train)},
            "scale": scale,
        }

        def part(rows: np.ndarray) -> Dataset:
            taken = whole.take(rows)
            x = taken.x if scale == "none" else scaling.apply(taken.x)
            done = self.scaling if scale == "none" else scaling
            return replace(taken, x=np.ascontiguousarray(x), scaling=done, notes=tuple(notes), record=record)

        first = part(train)
        _check_classes(first.y, first.classes, first.task, f"the training part of {self.name}")
        return Split(first, part(test) if len(test) else None, train, test)

    def to_pandas(self) -> Any:
        """A DataFrame of the features, with the target as last column (class names for classification)."""
        import pandas as pd

        frame = pd.DataFrame(self.x, columns=list(self.features))
        frame[self.target] = np.asarray(self.classes, object)[self.y] if self.task == "classification" else self.y
        return frame

    def describe(self) -> str:
        """One sentence."""
        what = f"{self.name}: {self.n:,} rows, {self.d} features"
        if len(set(self.sources)) != self.d:
            what += f" from {len(set(self.sources))} columns"
        if self.task == "regression":
            return f"{what}, target {self.target} from {self.y.min():.4g} to {self.y.max():.4g}"
        counts = self.class_counts()
        shown = ", ".join(f"{c}: {k:,}" for c, k in list(zip(self.classes, counts))[:6])
        more = f" and {len(counts) - 6} more" if len(counts) > 6 else ""
        return f"{what}, target {self.target} with {len(counts)} classes ({shown}{more})"

    def _repr_html_(self) -> str:
        import html

        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        return f"<p><b>{html.escape(self.describe())}</b></p><ul>{notes}</ul>"


_SCALE_NOTES = {
    "standardise": "Features were shifted to mean 0 and scaled to standard deviation 1 of the training part.",
    "mean-abs": "Features were divided by their mean absolute value in the training part.",
}


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

    def __iter__(self) -> Iterator[Dataset | None]:
        return iter((self.train, self.test))


# -- built-in data -------------------------------------------------------------------------------------------------


def checkerboard(k: int = 4, n: int = 1000, noise: float = 0.0, seed: int = 0) -> Dataset:
    """Points uniform in [-1, 1]^2, class by the colour of the square of a k x k board they lie in.

    Args:
        k: squares per side, at least 2.
        n: points.
        noise: standard deviation of a Gaussian displacement after colouring, in units of a square.
        seed: of points and noise.
    """
    if k < 2 or n < 2 or noise < 0:
        raise ArgumentError(f"checkerboard needs k >= 2, n >= 2 and noise >= 0, got k={k}, n={n}, noise={noise}")
    rng = np.random.default_rng([seed, 1])
    x = rng.uniform(-1, 1, size=(n, 2))
    y = np.floor((x + 1) * (k / 2)).astype(int).sum(1) % 2
    x = x + noise * (2 / k) * rng.normal(size=(n, 2))
    record = {"source": "checkerboard", "k": k, "n": n, "noise": noise, "seed": seed}
    return _built_in(x, y, ("x1", "x2"), ("white", "black"), f"checkerboard {k}x{k}", "colour", record)


def xor(n: int = 4, noise: float = 0.0, seed: int = 0) -> Dataset:
    """The four corners of the unit square, class x1 xor x2; n points repeat them, with Gaussian noise if wanted."""
    if n < 4 or n % 4 or noise < 0:
        raise ArgumentError(f"xor needs n a multiple of 4 and noise >= 0, got n={n}, noise={noise}")
    corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    x = np.tile(corners, (n // 4, 1))
    y = (x[:, 0] != x[:, 1]).astype(int)
    x = x + noise * np.random.default_rng([seed, 2]).normal(size=x.shape) if noise else x
    record = {"source": "xor", "n": n, "noise": noise, "seed": seed}
    return _built_in(x, y, ("x1", "x2"), ("0", "1"), "xor", "x1 xor x2", record)


def breast_cancer() -> Dataset:
    """Wisconsin breast cancer: 569 rows, 30 features, malignant / benign (scikit-learn's copy)."""
    return _from_sklearn("load_breast_cancer", "breast_cancer", "diagnosis")


def wine() -> Dataset:
    """Wine recognition: 178 rows, 13 features, 3 cultivars (scikit-learn's copy)."""
    return _from_sklearn("load_wine", "wine", "cultivar")


def digits() -> Dataset:
    """Handwritten digits 8 x 8: 1,797 rows, 10 classes; the pixels that are always blank are left out."""
    return _from_sklearn("load_digits", "digits", "digit")


BUILT_IN: dict[str, Callable[..., Dataset]] = {
    "checkerboard": checkerboard,
    "xor": xor,
    "breast_cancer": breast_cancer,
    "wine": wine,
    "digits": digits,
}


def _built_in(
    x: np.ndarray,
    y: np.ndarray,
    features: Sequence[str],
    classes: Sequence[str],
    name: str,
    target: str,
    record: dict[str, Any],
    notes: tuple[str, ...] = (),
) -> Dataset:
    features = tuple(str(f) for f in features)
    x = np.asarray(x, np.float64)
    return Dataset(
        x,
        y.astype(np.int64),
        features,
        features,
        tuple(map(str, classes)),
        "classification",
        name,
        target,
        notes,
        record,
    )


def _from_sklearn(loader: str, name: str, target: str) -> Dataset:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DependencyError(f"{name} comes with scikit-learn: pip install 'jaxland[sklearn]'") from error
    bunch = getattr(datasets, loader)()
    x, features = np.asarray(bunch.data, np.float64), np.asarray(bunch.feature_names, object)
    varies = np.ptp(x, axis=0) > 0
    blank = [str(f) for f in features[~varies]]
    notes = (f"Features with one value only were left out: {', '.join(blank)}.",) if blank else ()
    record = {"source": name, "dropped": dict.fromkeys(blank, "constant")}
    return _built_in(
        x[:, varies], bunch.target, tuple(features[varies]), bunch.target_names, name, target, record, notes
    )


# -- loading -------------------------------------------------------------------------------------------------------


def load(
    source: Any,
    target: str | None = None,
    *,
    categorical: Sequence[str] | str | None = None,
    drop: Sequence[str] | str | None = None,
    missing: str = "refuse",
    constant: str = "refuse",
    task: str | None = None,
    max_levels: int = 50,
    keep_identifiers: bool = False,
    rows: int | None = None,
    seed: int = 0,
    name: str | None = None,
    **options: Any,
) -> Dataset:
    """Read and check data.

    Args:
        source: a built-in name (checkerboard, xor, breast_cancer, wine, digits), the path of a CSV file (comma,
            semicolon or tab; may be gzipped) or an npz file (arrays ``x`` and ``y``, optionally ``features``), a
            pandas DataFrame, a pair of arrays (x [n, d], y [n]), or a Dataset. Decimal commas are understood where
            semicolons separate.
        target: the target column (CSV, DataFrame) or the npz key of the targets.
        categorical: columns of numbers that are codes, to be one-hot coded as text columns always are. A column with
            two levels becomes one feature, one with k > 2 levels k features.
        drop: columns to ignore.
        missing: ``refuse``, or fill with the column's ``mean``, ``median`` or ``mode`` (one-hot columns: the mode).
            A later ``split`` fills from the training part only.
        constant: ``refuse`` or ``drop`` columns with one value only.
        task: ``classification`` or ``regression``; by default text, booleans and up to 20 different integers are
            classes.
        max_levels: most levels of a one-hot column.
        keep_identifiers: keep columns that number the rows; by default they are dropped and noted.
        rows, seed: draw so many rows at random (the seed is also that of the built-in checkerboard and xor).
        name: for reports; default from the source.
        **options: of a built-in set: ``load("checkerboard", k=3, n=500)``.

    Returns:
        Dataset: in the units of the source (see ``Dataset.split`` for scaling).

    Raises:
        DataError: anything wrong with the data; the message names column and row and says what to do.
        ArgumentError: an argument that makes no sense.
        DependencyError: scikit-learn is needed for its data sets.
    """
    if missing not in MISSING_RULES:
        raise ArgumentError(f"missing {missing!r} is unknown; choose one of {', '.join(MISSING_RULES)}")
    if constant not in ("refuse", "drop"):
        raise ArgumentError(f"constant {constant!r} is unknown; choose refuse or drop")
    if task not in (None, "classification", "regression"):
        raise ArgumentError(f"task {task!r} is unknown; choose classification or regression")
    rules = _Rules(_names(categorical), _names(drop), missing, constant, task, max_levels, keep_identifiers)
    if isinstance(source, str) and source in BUILT_IN:
        if target is not None or rules.categorical or rules.drop:
            raise ArgumentError(f"{source} is built in: target, categorical and drop do not apply to it")
        try:
            if source in ("checkerboard", "xor"):
                options.setdefault("seed", seed)
            data = BUILT_IN[source](**options)
        except TypeError as error:
            raise ArgumentError(f"{source} has no such option: {error}") from error
        return (data if name is None else replace(data, name=name)).subsample(rows, seed)
    if isinstance(source, Dataset):
        return source.subsample(rows, seed)
    if options:
        raise ArgumentError(f"unknown arguments for load: {', '.join(options)}")
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        if not path.exists():
            near = difflib.get_close_matches(str(source), BUILT_IN, 1)
            hint = f"; did you mean the built-in {near[0]!r}?" if near else f"; built-in data: {', '.join(BUILT_IN)}"
            raise DataError(f"data file {source} does not exist{hint}")
        if path.is_dir():
            raise DataError(f"{source} is a folder: give a CSV or npz file")
        if path.suffix == ".npz":
            data = _from_npz(path, target, rules)
        elif path.suffix in (".xls", ".xlsx", ".parquet", ".feather", ".pkl", ".json"):
            raise DataError(
                f"{path.name}: {path.suffix} files are not read here; read it with pandas, pass the DataFrame"
            )
        else:
            data = _from_csv(path, target, rules)
        data = replace(data, record={"source": path.name, **data.record})
    elif hasattr(source, "columns") and hasattr(source, "iloc"):
        data = _from_frame(source, target, rules, "DataFrame", _row)
    elif isinstance(source, tuple | list) and len(source) == 2:
        data = _from_arrays(source[0], source[1], None, rules, "arrays", target or "y")
    else:
        raise ArgumentError(
            "source must be a built-in name, a CSV or npz path, a DataFrame or a pair (x, y), "
            f"got {type(source).__name__}"
        )
    return (data if name is None else replace(data, name=name)).subsample(rows, seed)


@dataclass(frozen=True)
class _Rules:
    categorical: tuple[str, ...]
    drop: tuple[str, ...]
    missing: str
    constant: str
    task: str | None
    max_levels: int
    keep_identifiers: bool


def _names(value: Sequence[str] | str | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else tuple(map(str, value))


def _row(index: int) -> str:
    return f"row {index}"


def _from_csv(path: Path, target: str | None, rules: _Rules) -> Dataset:
    frame, lines = _read_csv(path)
    return _from_frame(frame, target, rules, path.stem, lambda index: f"line {lines[index]}")


def _read_csv(path: Path) -> tuple[Any, list[int]]:
    """The table, and the line of the file each row ends on."""
    import pandas as pd

    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name} is not UTF-8 text (byte {error.start}); convert it, or is it no CSV?"
        ) from error
    except (OSError, EOFError) as error:
        raise DataError(f"{path.name} cannot be read: {error}") from error
    if not text.strip():
        raise DataError(f"{path.name} is empty")
    if "\0" in text:
        raise DataError(f"{path.name} is no text file (it holds zero bytes)")
    head = text.lstrip().splitlines()[0]
    delimiter = max(",;\t", key=head.count)
    width = 0
    lines: list[int] = []
    try:
        reader = csv.reader(io.StringIO(text), delimiter=delimiter)
        for fields in reader:
            if not fields:
                continue
            if not width:
                header, width = [f.strip() for f in fields], len(fields)
            elif len(fields) != width:
                raise DataError(
                    f"{path.name}, line {reader.line_num}: {len(fields)} fields where the header has {width}. "
                    "Mend that line (an unquoted separator inside a value?)"
                )
            else:
                lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{path.name}, line {reader.line_num}: {error}") from error
    if not lines:
        raise DataError(f"{path.name} has a header but no rows")
    header = [h or f"column {i + 1}" for i, h in enumerate(header)]
    twice = sorted({h for h in header if header.count(h) > 1})
    if twice:
        raise DataError(
            f"{path.name}: column name {twice[0]!r} occurs more than once in the header. "
            "Rename it (or does the file lack its header line?)"
        )
    # Where the semicolon separates, 12,5 is a number if nothing in the file is written 12.5.
    comma = delimiter == ";" and _COMMA.search(text) and not _POINT.search(text)
    frame = pd.read_csv(
        io.StringIO(text),
        sep=delimiter,
        decimal="," if comma else ".",
        header=0,
        names=header,
        index_col=False,
        skipinitialspace=True,
        keep_default_na=False,
        na_values=list(MISSING_TOKENS),
        low_memory=False,
    )
    if len(frame) != len(lines):
        raise DataError(f"{path.name}: {len(lines)} records, but {len(frame)} were read; check the quotes in it")
    return frame, lines


def _from_npz(path: Path, target: str | None, rules: _Rules) -> Dataset:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except Exception as error:
        raise DataError(f"{path.name} is not a readable npz file ({error})") from error
    keys = {key.lower(): key for key in arrays}
    if "x" not in keys:
        raise DataError(f"{path.name} has no array 'x'; it holds {', '.join(arrays) or 'nothing'}")
    if target is not None and target not in arrays:
        raise DataError(f"{path.name} has no array {target!r}{_near(target, list(arrays))}")
    key = target if target is not None else keys.get("y")
    if key is None:
        raise DataError(f"{path.name} has no array 'y'; name the targets with target=, one of {', '.join(arrays)}")
    features = arrays[keys["features"]] if "features" in keys else None
    return _from_arrays(arrays[keys["x"]], arrays[key], features, rules, path.stem, key)


def _from_arrays(x: Any, y: Any, features: Any, rules: _Rules, name: str, target: str) -> Dataset:
    import pandas as pd

    x, y = np.asarray(x), np.asarray(y)
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
    return _from_frame(frame, target, replace(rules, keep_identifiers=True), name, _row)


def _near(word: str, known: Sequence[str]) -> str:
    folded = {k.lower(): k for k in known}
    close = difflib.get_close_matches(word.lower(), list(folded), 3, 0.5)
    if close:
        return "; did you mean " + " or ".join(repr(folded[c]) for c in close) + "?"
    shown = ", ".join(list(known)[:30])
    return f"; it has {shown}{', ...' if len(known) > 30 else ''}"


def _from_frame(frame: Any, target: str | None, rules: _Rules, name: str, at: Callable[[int], str]) -> Dataset:
    """``at`` turns the index of a row into what the user sees: line 2 of a file, row 0 of an array."""
    frame = frame.rename(columns=str)
    columns = list(frame.columns)
    if len(set(columns)) != len(columns):
        twice = sorted({c for c in columns if columns.count(c) > 1})
        raise DataError(f"{name}: column name {twice[0]!r} occurs more than once; rename it")
    if not len(frame):
        raise DataError(f"{name} has no rows")
    if target is None:
        raise ArgumentError(
            f"target is missing: name the column to predict with target=; {name} has {', '.join(columns)}"
        )
    for word, where in (
        (target, "target"),
        *((c, "categorical") for c in rules.categorical),
        *((c, "drop") for c in rules.drop),
    ):
        if word not in columns:
            raise DataError(f"{where}: {name} has no column {word!r}{_near(word, columns)}")
    if target in rules.drop:
        raise ArgumentError(f"the target {target!r} is also named in drop")

    y, classes, task = _target(frame[target], target, rules, at)
    blocks: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    features: list[str] = []
    sources: list[str] = []
    notes: list[str] = []
    dropped: dict[str, str] = dict.fromkeys(rules.drop, "on request")
    one_hot: dict[str, list[str]] = {}
    filled: dict[str, int] = {}
    for column in columns:
        if column == target or column in rules.drop:
            continue
        series = frame[column]
        if not rules.keep_identifiers and _is_identifier(series, column):
            dropped[column] = "row identifier"
            notes.append(f"Column {column} was dropped: it numbers the rows (every value is different).")
            continue
        absent = series.isna().to_numpy()
        if absent.all():
            raise DataError(f"column {column!r} has no values at all; drop it (drop={column})")
        if absent.any() and rules.missing == "refuse":
            raise DataError(
                f"column {column!r} has {absent.sum()} missing values (NaN or empty), the first in "
                f"{at(int(absent.argmax()))}. Remove those rows, or fill them with missing='mean', 'median' or 'mode'"
            )
        text = column in rules.categorical or not _is_number(series)
        if text and column not in rules.categorical:
            _refuse_mixed(series, column, at)
        if series[~absent].nunique() == 1:
            if rules.constant == "refuse":
                raise DataError(
                    f"column {column!r} is constant ({str(series[~absent].iloc[0])!r} in every row): it carries no "
                    f"information. Drop it (drop={column}) or all such columns (constant='drop')"
                )
            dropped[column] = "constant"
            notes.append(f"Column {column} was dropped: it has one value only.")
            continue
        if text:
            block, names = _one_hot(series, column, absent, rules.max_levels)
            one_hot[column] = names
        else:
            values = series.to_numpy(dtype=np.float64, na_value=np.nan)
            infinite = np.isinf(values)
            if infinite.any():
                raise DataError(
                    f"column {column!r} has {infinite.sum()} infinite values, the first in "
                    f"{at(int(infinite.argmax()))}. Remove those rows or correct the values"
                )
            if absent.any():
                values = np.where(absent, _statistic(values[~absent], rules.missing), values)
            block, names = values[:, None], [column]
        if absent.any():
            filled[column] = int(absent.sum())
        blocks.append(block)
        masks.append(np.repeat(absent[:, None], len(names), axis=1))
        features += names
        sources += [column] * len(names)
    if not blocks:
        raise DataError(f"{name}: no feature is left besides the target {target!r}")
    if one_hot:
        notes.append(
            "One-hot coded: " + ", ".join(f"{c} ({max(2, len(v))} levels)" for c, v in one_hot.items()) + "."
        )
    if filled:
        how = "; ".join(f"{c}: {k}" for c, k in filled.items())
        notes.append(f"Missing values were filled with the column's {rules.missing} ({how}).")
    duplicates = int(frame.drop(columns=list(dropped)).duplicated().sum()) if len(frame) > 1 else 0
    if duplicates:
        notes.append(f"{duplicates} rows repeat another row exactly; they were kept.")
    x = np.concatenate(blocks, axis=1)
    mask = np.concatenate(masks, axis=1)
    if task == "classification":
        counts = np.bincount(y)
        if counts.max() > 20 * counts.min():
            notes.append(f"The classes are very unequal: from {counts.min()} to {counts.max()} rows.")
    record = {
        "target": target,
        "dropped": dropped,
        "one_hot": one_hot,
        "imputed": filled,
        "missing": rules.missing,
        "duplicates": duplicates,
    }
    return Dataset(
        x,
        y,
        tuple(features),
        tuple(sources),
        classes,
        task,
        name,
        target,
        tuple(notes),
        record,
        None,
        mask if mask.any() else None,
    )


def _target(
    series: Any, target: str, rules: _Rules, at: Callable[[int], str]
) -> tuple[np.ndarray, tuple[str, ...], str]:
    absent = series.isna().to_numpy()
    if absent.any():
        raise DataError(
            f"target {target!r} has {absent.sum()} missing values (NaN or empty), the first in "
            f"{at(int(absent.argmax()))}; targets are never filled in: remove those rows"
        )
    if _is_number(series):
        values = series.to_numpy(dtype=np.float64)
        bad = ~np.isfinite(values)
        if bad.any():
            raise DataError(
                f"target {target!r} has {bad.sum()} infinite values, the first in {at(int(bad.argmax()))}"
            )
        levels = np.unique(values)
        whole = bool(np.array_equal(levels, np.round(levels)))
        task = rules.task or ("classification" if whole and len(levels) <= 20 else "regression")
        if task == "regression":
            _check_classes(values, (), task, f"target {target!r}")
            return values, (), task
        if not whole:
            raise DataError(f"target {target!r} holds numbers that are not whole: classes must be integers or text")
        names = tuple(str(int(v)) for v in levels)
        y = np.searchsorted(levels, values)
    else:
        if rules.task == "regression":
            first = next(i for i, v in enumerate(series) if not _parses(v))
            raise DataError(
                f"target {target!r} is text (such as {series.iloc[first]!r} in {at(first)}): no regression"
            )
        words = series.astype(str).str.strip().to_numpy(dtype=object)
        if not all(_parses(word) for word in np.unique(words)):
            _refuse_mixed(series, target, at)
        names_, y = np.unique(words, return_inverse=True)
        names = tuple(names_)
    if len(names) > max(20, rules.max_levels):
        raise DataError(
            f"target {target!r} has {len(names)} different values in {len(series)} rows: too many for classes. "
            "Is it the right column? (max_levels raises the limit)"
        )
    _check_classes(y, names, "classification", f"target {target!r}")
    return y.astype(np.int64), names, "classification"


def _check_classes(y: np.ndarray, classes: Sequence[str], task: str, where: str) -> None:
    if task == "regression":
        if len(y) and np.ptp(y) == 0:
            raise DataError(f"{where}: the value is {y[0]:g} in every row: there is nothing to learn")
        return
    present = np.unique(y)
    if len(present) < 2:
        only = classes[int(present[0])] if len(present) else "none"
        raise DataError(f"{where} has one class only ({only!r}): there is nothing to learn. At least two are needed")


def _is_number(series: Any) -> bool:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return bool(is_numeric_dtype(series) or is_bool_dtype(series))


def _parses(value: Any) -> bool:
    try:
        return math.isfinite(float(value)) or True
    except (TypeError, ValueError):
        return False


def _refuse_mixed(series: Any, column: str, at: Callable[[int], str]) -> None:
    """A column that is mostly numbers with some text in it is a mistake in the file, not a category."""
    levels, first = np.unique(series.dropna().astype(str).to_numpy(dtype=object), return_index=True)
    numeric = np.array([_parses(level) for level in levels])
    alike = np.array([numeric[i] or bool(_NUMBER_LIKE.fullmatch(str(level))) for i, level in enumerate(levels)])
    kept = np.flatnonzero(~series.isna().to_numpy())
    if not numeric.any() and alike.mean() > 0.5:
        row = int(kept[first[alike].min()])
        raise DataError(
            f"column {column!r} holds values like {series.iloc[row]!r} in {at(row)}, which look like numbers but are "
            "not written as such. Write them plainly (1234.5), or name the column in categorical if they are codes"
        )
    if numeric.mean() < 0.5 or (numeric.all() and len(levels) < 2):
        return
    if numeric.all():
        raise DataError(f"column {column!r} holds numbers stored as text; convert it, or name it in categorical")
    row = int(kept[first[~numeric].min()])
    raise DataError(
        f"column {column!r} holds numbers, but also {series.iloc[row]!r} in {at(row)} ({int((~numeric).sum())} such "
        "different values). Correct them, or name the column in categorical if they are codes"
    )


def _is_identifier(series: Any, column: str) -> bool:
    """Every row another value, and a name like ID, or 0, 1, 2, ... in order, or text."""
    n = len(series)
    if n < 10 or series.isna().any() or not series.is_unique:
        return False
    if not _is_number(series):
        return not any(_NUMBER_LIKE.fullmatch(str(value)) for value in series.iloc[:20])
    values = series.to_numpy(dtype=np.float64)
    if not np.array_equal(values, np.round(values)):
        return False
    words = column.lower().replace("-", "_").replace(" ", "_").split("_")
    return bool(np.all(np.diff(values) == 1)) or words[-1] in IDENTIFIER_NAMES or column.lower() in IDENTIFIER_NAMES


def _one_hot(series: Any, column: str, absent: np.ndarray, max_levels: int) -> tuple[np.ndarray, list[str]]:
    if _is_number(series):
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
        found, codes = np.unique(values[~absent], return_inverse=True)
        levels = [f"{v:g}" for v in found]
    else:
        words = series[~absent].astype(str).str.strip().to_numpy(dtype=object)
        found, codes = np.unique(words, return_inverse=True)
        levels = list(found)
    if len(levels) > max_levels:
        raise DataError(
            f"column {column!r} has {len(levels)} different values (such as {levels[0]!r}): too many to one-hot code "
            f"(max_levels={max_levels}). Drop it (drop={column}), group its values, or raise max_levels"
        )
    block = np.zeros((len(series), len(levels)))
    block[np.flatnonzero(~absent), codes] = 1.0
    block[absent, np.bincount(codes).argmax()] = 1.0
    names = [f"{column}={level}" for level in levels]
    return (block[:, 1:], names[1:]) if len(levels) == 2 else (block, names)


def _statistic(values: np.ndarray, rule: str) -> float:
    if rule == "mode":
        levels, counts = np.unique(values, return_counts=True)
        return float(levels[counts.argmax()])
    return float(np.median(values) if rule == "median" else np.mean(values))


def _refill(data: Dataset, train: np.ndarray) -> np.ndarray:
    """Impute again from the training rows alone."""
    assert data.imputed is not None
    x = data.x.copy()
    for source in dict.fromkeys(data.sources):
        columns = np.flatnonzero(np.array([s == source for s in data.sources]))
        absent = data.imputed[:, columns[0]]
        known = train[~absent[train]]
        if not absent.any() or not len(known):
            continue
        if source in data.record.get("one_hot", {}):
            shares = x[np.ix_(known, columns)].mean(0)
            fill = (shares > 0.5).astype(float) if len(columns) == 1 else np.eye(len(columns))[shares.argmax()]
        else:
            fill = np.array([_statistic(x[known, columns[0]], data.record["missing"])])
        x[np.ix_(absent, columns)] = fill
    return x


def _split_rows(
    data: Dataset, fraction: float, rng: np.random.Generator, stratify: bool
) -> tuple[np.ndarray, np.ndarray]:
    order = rng.permutation(data.n)
    if fraction == 0:
        return np.sort(order), order[:0]
    if not stratify:
        k = round(fraction * data.n)
        if not 0 < k < data.n:
            raise DataError(f"{data.name}: {data.n} rows are too few for test_fraction={fraction}")
        return np.sort(order[k:]), np.sort(order[:k])
    train, test = [], []
    for c, label in enumerate(data.classes):
        members = order[data.y[order] == c]
        if len(members) == 1:
            raise DataError(
                f"{data.name}: class {label!r} has one row only and cannot be in both parts; "
                "remove it, or split with stratify=False"
            )
        k = min(max(round(fraction * len(members)), 1), len(members) - 1) if len(members) else 0
        test.append(members[:k])
        train.append(members[k:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


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
