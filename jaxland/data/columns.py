"""From a table of columns to features and targets: what a column is, one-hot coding, missing values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from jaxland.data.dataset import Dataset
from jaxland.data.reading import Table, near
from jaxland.data.recipe import statistic
from jaxland.errors import ArgumentError, DataError
from jaxland.options import spoken

if TYPE_CHECKING:
    import pandas as pd

MISSING_RULES = ("refuse", "mean", "median", "mode")
# What may be asked for, and what the data are then called.
TASKS = {"classify": "classification", "regress": "regression", "count": "count"}
_NUMBER_LIKE = re.compile(r"[\s$€£]*-?\d[\d.,' ]*\s*[%$€£]?")
IDENTIFIER_NAMES = frozenset({"id", "index", "row", "rownum", "rowid", "uuid", "guid", "key", "no", "nr"})
# The last word of an identifier's name; "heat index" is none.
SUFFIXES = IDENTIFIER_NAMES - {"index", "row"}


@dataclass(frozen=True)
class Rules:
    """How columns are taken; see ``load``."""

    categorical: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    missing: str = "refuse"
    constant: str = "refuse"
    task: str | None = None
    max_levels: int = 50
    keep_identifiers: bool = False
    keep: tuple[str, ...] = ()
    group: str | None = None

    def __post_init__(self) -> None:
        if self.missing not in MISSING_RULES:
            raise ArgumentError(f"{spoken('missing')} takes {', '.join(MISSING_RULES)}, got {self.missing!r}")
        if self.constant not in ("refuse", "drop"):
            raise ArgumentError(f"{spoken('constant')} takes refuse or drop, got {self.constant!r}")
        if self.task is not None and self.task not in TASKS:
            raise ArgumentError(f"{spoken('task')} takes {', '.join(TASKS)}, got {self.task!r}")
        if self.max_levels < 2:
            raise ArgumentError(f"{spoken('max_levels')} must be at least 2, got {self.max_levels}")


@dataclass
class _Features:
    """What the columns gave so far.

    Attributes:
        blocks, masks: of every column kept, values and where they were missing [n, features of it].
        names, sources: of every feature, and the column it came from.
        notes: a sentence each.
        dropped: why, per column; one_hot: features per column; levels: values per column that is one-hot coded;
            filled: missing values per column.
    """

    blocks: list[np.ndarray] = field(default_factory=list)
    masks: list[np.ndarray] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    one_hot: dict[str, list[str]] = field(default_factory=dict)
    levels: dict[str, list[str]] = field(default_factory=dict)
    filled: dict[str, int] = field(default_factory=dict)

    def drop(self, column: str, why: str, note: str) -> None:
        self.dropped[column] = why
        self.notes.append(f"Column {column} was dropped: {note}.")

    def add(self, column: str, block: np.ndarray, names: list[str], absent: np.ndarray) -> None:
        self.blocks.append(block)
        self.masks.append(np.repeat(absent[:, None], len(names), axis=1))
        self.names += names
        self.sources += [column] * len(names)
        if absent.any():
            self.filled[column] = int(absent.sum())


def from_table(table: Table, target: str | None, rules: Rules) -> Dataset:
    """Features and targets of a table.

    Raises:
        DataError: anything wrong with the data. ArgumentError: a column named that is not there.
    """
    table = replace(table, frame=table.frame.rename(columns=str))
    frame, name = table.frame, table.name
    target = _check_names(table, target, rules)
    y, classes, task = _target(table, target, rules)
    found = _Features(dropped=dict.fromkeys(rules.drop, "on request"))
    if rules.group is not None:
        found.dropped[rules.group] = "keeps rows together"
    if target in table.notes:
        found.notes.append(f"Target {target}: {table.notes[target]}.")
    if task == "classification" and rules.task is None and len(classes) > 2 and _is_number(frame[target]):
        found.notes.append(
            f"Target {target}: its {len(classes)} whole numbers from {classes[0]} to {classes[-1]} are taken as "
            f"classes; {spoken('task', 'count')} or {spoken('task', 'regress')} takes them as numbers."
        )
    for column in frame.columns:
        if column != target and column not in found.dropped:
            _add(found, table, column, rules)
    if not found.blocks:
        why = "".join(f" {note}" for note in found.notes)
        raise DataError(f"{name}: no feature is left besides the target {target!r}.{why}")
    told = table.told([column for column in dict.fromkeys(found.sources) if column in table.notes])
    notes = [*found.notes, *(f"{note[0].upper()}{note[1:]}." for note in told)]
    if found.one_hot:
        levels = (f"{c} ({max(2, len(v))} levels)" for c, v in found.one_hot.items())
        notes.append(f"One-hot coded: {', '.join(levels)}.")
    if found.filled:
        how = "; ".join(f"{c}: {k}" for c, k in found.filled.items())
        notes.append(f"Missing values were filled with the column's {rules.missing} ({how}).")
    duplicates = int(frame.drop(columns=list(found.dropped)).duplicated().sum()) if len(frame) > 1 else 0
    if duplicates:
        notes.append(f"{duplicates} rows repeat another row exactly; they were kept.")
    counts = np.bincount(y) if task == "classification" else np.ones(1, int)
    if counts.max() > 20 * counts.min():
        notes.append(f"The classes are very unequal: from {counts.min()} to {counts.max()} rows.")
    mask = np.concatenate(found.masks, axis=1)
    return Dataset(
        x=np.concatenate(found.blocks, axis=1),
        y=y,
        features=tuple(found.names),
        sources=tuple(found.sources),
        classes=classes,
        task=task,
        name=name,
        target=target,
        notes=tuple(notes),
        record={
            "target": target,
            "dropped": found.dropped,
            "one_hot": found.one_hot,
            "levels": found.levels,
            "imputed": found.filled,
            "missing": rules.missing,
            "duplicates": duplicates,
        },
        imputed=mask if mask.any() else None,
        rows=None if table.lines is None else np.asarray(table.lines),
        called="row" if table.lines is None else "line",
        groups=None if rules.group is None else _groups(table, rules.group),
        group=rules.group,
    )


def _groups(table: Table, column: str) -> np.ndarray:
    """Names of the groups of rows [n]."""
    absent = table.frame[column].isna().to_numpy()
    if absent.any():
        where = f"{absent.sum()} rows have none, the first {table.at(int(absent.argmax()))}"
        raise DataError(f"{spoken('group', column)}: {where}. Name their groups, or remove these rows")
    return np.asarray(words_of(table.frame[column]), object)


def _check_names(table: Table, target: str | None, rules: Rules) -> str:
    columns, name = list(table.frame.columns), table.name
    if len(set(columns)) != len(columns):
        twice = sorted({c for c in columns if columns.count(c) > 1})
        raise DataError(f"{name}: column name {twice[0]!r} occurs more than once; rename it")
    if not len(table.frame):
        raise DataError(f"{name} has no rows")
    if target is None:
        raise ArgumentError(
            f"the column to predict is not named: give {spoken('target')}; {name} has {', '.join(columns)}"
        )
    named = [(target, "target"), *((c, "categorical") for c in rules.categorical), *((c, "drop") for c in rules.drop)]
    named += [(c, "keep") for c in rules.keep] + ([] if rules.group is None else [(rules.group, "group")])
    for word, where in named:
        if word not in columns:
            raise DataError(f"{spoken(where)}: {name} has no column {word!r}{near(word, columns)}")
    if target in rules.drop:
        raise ArgumentError(f"the target {target!r} is also named in {spoken('drop')}")
    if rules.group in (target, *rules.drop, *rules.keep, *rules.categorical):
        raise ArgumentError(f"column {rules.group!r} of {spoken('group')} is no input, nor target: name it once")
    for word in rules.keep:
        if word in rules.drop:
            raise ArgumentError(f"column {word!r} is named in both {spoken('keep')} and {spoken('drop')}")
    return target


def _add(found: _Features, table: Table, column: str, rules: Rules) -> None:
    """One column as features, dropped, or refused."""
    series = table.frame[column]
    table.check(column)
    kept = rules.keep_identifiers or column in rules.keep or column in rules.categorical
    if not kept and _is_identifier(series, column):
        why = f"it numbers the rows (every value is different); {spoken('keep', column)} keeps it"
        return found.drop(column, "row identifier", why)
    absent = series.isna().to_numpy()
    if absent.all():
        raise DataError(f"column {column!r} has no values at all; drop it ({spoken('drop', column)})")
    if absent.any() and rules.missing == "refuse":
        raise DataError(
            f"column {column!r} has {absent.sum()} missing values (NaN or empty), the first in "
            f"{table.at(int(absent.argmax()))}. Remove those rows, or fill them with {spoken('missing', 'mean')}, "
            "median or mode"
        )
    text = column in rules.categorical or not _is_number(series)
    if text and column not in rules.categorical:
        _refuse_mixed(table, column)
    if series[~absent].nunique() == 1:
        if rules.constant == "refuse":
            raise DataError(
                f"column {column!r} is constant ({str(series[~absent].iloc[0])!r} in every row): it carries no "
                f"information. Drop it ({spoken('drop', column)}) or all such columns ({spoken('constant', 'drop')})"
            )
        return found.drop(column, "constant", "it has one value only")
    if text:
        block, names = _one_hot(series, column, absent, rules.max_levels)
        found.one_hot[column] = names
        found.levels[column] = sorted(set(words_of(series[~absent])), key=float if _is_number(series) else str)
        return found.add(column, block, names, absent)
    values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    infinite = np.isinf(values)
    if infinite.any():
        raise DataError(
            f"column {column!r} has {infinite.sum()} infinite values, the first in "
            f"{table.at(int(infinite.argmax()))}. Remove those rows or correct the values"
        )
    if absent.any():
        values = np.where(absent, statistic(values[~absent], rules.missing), values)
    return found.add(column, values[:, None], [column], absent)


def _target(table: Table, target: str, rules: Rules) -> tuple[np.ndarray, tuple[str, ...], str]:
    """y [n], class names and task."""
    table.check(target)
    series = table.frame[target]
    absent = series.isna().to_numpy()
    if absent.any():
        raise DataError(
            f"target {target!r} has {absent.sum()} missing values (NaN or empty), the first in "
            f"{table.at(int(absent.argmax()))}; targets are never filled in: remove those rows"
        )
    if not _is_number(series):
        y, names = _classes_of_text(table, target, rules)
    else:
        values = series.to_numpy(dtype=np.float64)
        bad = ~np.isfinite(values)
        if bad.any():
            raise DataError(
                f"target {target!r} has {bad.sum()} infinite values, the first in {table.at(int(bad.argmax()))}"
            )
        levels = np.unique(values)
        whole = bool(np.array_equal(levels, np.round(levels)))
        guess = "classification" if whole and len(levels) <= 20 else "regression"
        task = guess if rules.task is None else TASKS[rules.task]
        if task == "count" and (levels[0] < 0 or not whole):
            bad = (values < 0) | (values != np.round(values))
            raise DataError(
                f"target {target!r} holds {values[bad][0]:g} in {table.at(int(bad.argmax()))}: counts are whole and "
                "not negative"
            )
        if task != "classification":
            if np.ptp(values) == 0:
                raise DataError(
                    f"target {target!r}: the value is {values[0]:g} in every row: there is nothing to learn"
                )
            return values, (), task
        if not whole:
            raise DataError(f"target {target!r} holds numbers that are not whole: classes must be integers or text")
        names = tuple(str(int(v)) for v in levels)
        y = np.searchsorted(levels, values)
    if len(names) > max(20, rules.max_levels):
        raise DataError(
            f"target {target!r} has {len(names)} different values in {len(series)} rows: too many for classes. "
            f"Is it the right column? ({spoken('max_levels')} raises the limit)"
        )
    if len(names) < 2:
        raise DataError(
            f"target {target!r} has one class only ({names[0]!r}): there is nothing to learn. At least two are needed"
        )
    return y.astype(np.int64), names, "classification"


def _classes_of_text(table: Table, target: str, rules: Rules) -> tuple[np.ndarray, tuple[str, ...]]:
    series = table.frame[target]
    if rules.task in ("regress", "count"):
        first = next((i for i, v in enumerate(series) if not _parses(v)), 0)
        raise DataError(
            f"target {target!r} is text (such as {series.iloc[first]!r} in {table.at(first)}): it can only be "
            "classified"
        )
    words = series.astype(str).str.strip().to_numpy(dtype=object)
    if not all(_parses(word) for word in np.unique(words)):
        _refuse_mixed(table, target)
    names, y = np.unique(words, return_inverse=True)
    return y, tuple(names)


def _is_number(series: pd.Series) -> bool:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return bool(is_numeric_dtype(series) or is_bool_dtype(series))


def _parses(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def _refuse_mixed(table: Table, column: str) -> None:
    """A column that is mostly numbers with some text in it is a mistake in the file, not a category."""
    series = table.frame[column]
    levels, first = np.unique(series.dropna().astype(str).to_numpy(dtype=object), return_index=True)
    numeric = np.array([_parses(level) for level in levels])
    alike = np.array([numeric[i] or bool(_NUMBER_LIKE.fullmatch(str(level))) for i, level in enumerate(levels)])
    kept = np.flatnonzero(~series.isna().to_numpy())
    if not numeric.any() and alike.mean() > 0.5:
        row = int(kept[first[alike].min()])
        raise DataError(
            f"column {column!r} holds values like {series.iloc[row]!r} in {table.at(row)}, which look like numbers "
            "but are not written as such. Write them plainly (1234.5), or name the column in "
            f"{spoken('categorical')} if they are codes"
        )
    if numeric.mean() < 0.5 or (numeric.all() and len(levels) < 2):
        return
    if numeric.all():
        raise DataError(
            f"column {column!r} holds numbers stored as text; convert it, or name it in {spoken('categorical')}"
        )
    row = int(kept[first[~numeric].min()])
    raise DataError(
        f"column {column!r} holds numbers, but also {series.iloc[row]!r} in {table.at(row)} ({int((~numeric).sum())} "
        f"such different values). Correct them, or name the column in {spoken('categorical')} if they are codes"
    )


def _is_identifier(series: pd.Series, column: str) -> bool:
    """Every row another value, and a name like ID, or 0, 1, 2, ... in order, or text."""
    n = len(series)
    if n < 10 or series.isna().any() or not series.is_unique:
        return False
    if not _is_number(series):
        return not any(_NUMBER_LIKE.fullmatch(str(value)) for value in series.iloc[:20])
    values = series.to_numpy(dtype=np.float64)
    if not np.array_equal(values, np.round(values)):
        return False
    words = re.split(r"[-_ ]", column.lower())
    return bool(np.all(np.diff(values) == 1)) or words[-1] in SUFFIXES or column.lower() in IDENTIFIER_NAMES


def words_of(series: pd.Series) -> list[str]:
    """What the levels of a column are called in the names of features: text without blanks around it, or numbers."""
    if _is_number(series):
        return [f"{value:g}" for value in series.to_numpy(dtype=np.float64, na_value=np.nan)]
    return list(series.astype(str).str.strip())


def _one_hot(series: pd.Series, column: str, absent: np.ndarray, max_levels: int) -> tuple[np.ndarray, list[str]]:
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
            f"(at most {max_levels}). Drop it ({spoken('drop', column)}), group its values, or raise "
            f"{spoken('max_levels')}"
        )
    block = np.zeros((len(series), len(levels)))
    block[np.flatnonzero(~absent), codes] = 1.0
    block[absent, np.bincount(codes).argmax()] = 1.0
    names = [f"{column}={level}" for level in levels]
    return (block[:, 1:], names[1:]) if len(levels) == 2 else (block, names)


def codes_of(words: Sequence[str], levels: Sequence[str]) -> np.ndarray:
    """Number of each word among the levels; -1 where it is none of them."""
    at = {level: k for k, level in enumerate(levels)}
    return np.array([at.get(word, -1) for word in words], int)


def class_words(series: pd.Series) -> list[str]:
    """Targets as classes are named: text, or whole numbers."""
    words = words_of(series)
    if all(isinstance(value, str) for value in series):
        return words
    return [
        str(int(float(value))) if float(value) == int(float(value)) else word for value, word in zip(series, words)
    ]
