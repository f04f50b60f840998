"""How one column of text is written: plain numbers, decimal commas, thousands, dates; each column for itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from jaxland.errors import ArgumentError
from jaxland.options import option, spoken

if TYPE_CHECKING:
    import pandas as pd

# Cells that are missing in a column of numbers; in a column of text only the empty cell is.
MISSING_TOKENS = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "NULL", "None", "?")
_TRUTH = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
_EXPONENT = r"([eE][+-]?\d+)?"
_WHOLE = re.compile(r"[+-]?\d{1,18}")
_PLAIN = re.compile(rf"[+-]?(\d+\.?\d*|\.\d+){_EXPONENT}|[+-]?(inf|Inf|INF|infinity|Infinity)")
# Styles of numbers that are not plain: what groups thousands, what marks the decimals.
_STYLES = {
    ("", ","): re.compile(rf"[+-]?(\d+(,\d*)?|,\d+){_EXPONENT}"),
    (",", "."): re.compile(r"[+-]?(\d{1,3}(,\d{3})+|\d+)(\.\d+)?"),
    (".", ","): re.compile(r"[+-]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?"),
    ("'", "."): re.compile(r"[+-]?(\d{1,3}('\d{3})+|\d+)(\.\d+)?"),
}
_THREE = re.compile(r"[+-]?\d{1,3}\.\d{3}")
_DATES = (
    (re.compile(r"\d{4}-\d{2}-\d{2}"), ("%Y-%m-%d",)),
    (re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}:\d{2}"), ("%Y-%m-%d %H:%M:%S",)),
    (re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}"), ("%Y-%m-%d %H:%M",)),
    (re.compile(r"\d{4}/\d{2}/\d{2}"), ("%Y/%m/%d",)),
    (re.compile(r"\d{1,2}\.\d{1,2}\.\d{4}"), ("%d.%m.%Y",)),
    (re.compile(r"\d{1,2}/\d{1,2}/\d{4}"), ("%m/%d/%Y", "%d/%m/%Y")),
)

_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class Dialect:
    """How a table is written, where it is not to be found out."""

    sep: str | None = option(None, "Separates the values of a CSV file; default found.")
    decimal: str | None = option(None, "Marks the decimals; default found for every column.")
    thousands: str | None = option(None, "Groups the digits of large numbers; default found for every column.")
    encoding: str | None = option(None, "Encoding of a CSV file; default UTF-8.")
    na: tuple[str, ...] = option((), "What is missing besides empty cells; default NA and the like among numbers.")

    def __post_init__(self) -> None:
        for word in ("sep", "decimal", "thousands"):
            mark = getattr(self, word)
            if mark is not None and len(mark) != 1:
                raise ArgumentError(f"{spoken(word)} must be one character, got {mark!r}")
        if self.decimal not in (None, ".", ","):
            raise ArgumentError(f"{spoken('decimal')} must be a point or a comma, got {self.decimal!r}")
        if self.decimal is not None and self.decimal == self.thousands:
            raise ArgumentError(f"{spoken('decimal')} and {spoken('thousands')} cannot both be {self.decimal!r}")


@dataclass(frozen=True, eq=False)
class Column:
    """A column as it is understood.

    Attributes:
        values: numbers [n] (NaN where missing), truth values, or text (None where missing).
        note: what was changed or needs saying, or "".
        style: how its numbers are written (thousands, decimal), where that is what the note says.
        fault: why it cannot be used, or "".
    """

    values: np.ndarray
    note: str = ""
    style: tuple[str, str] | None = None
    fault: str = ""


def understood(columns: Sequence[pd.Series], dialect: Dialect, delimiter: str) -> list[Column]:
    """Columns of text cells to columns of numbers, truth values or text."""
    levels = [_levels(cells, dialect) for cells in columns]
    styles = [_styles(found, dialect) for found in levels]
    commas = any(len(style) == 1 and style[0][1] == "," for style in styles)
    points = any(style == [("", ".")] and any("." in level for level in f) for style, f in zip(styles, levels))
    return [
        _column(cells, dialect, found, style, commas, commas or (delimiter != "," and not points))
        for cells, found, style in zip(columns, levels, styles)
    ]


def _levels(cells: pd.Series, dialect: Dialect) -> list[str]:
    """Different cells that are surely not missing."""
    missing = {"", *(dialect.na or MISSING_TOKENS)}
    return [level for level in cells.unique() if level not in missing]


def _styles(levels: list[str], dialect: Dialect) -> list[tuple[str, str]]:
    """Every way (thousands, decimal) in which all levels are numbers, each of another meaning; empty: text."""
    if not levels:
        return []
    if dialect.decimal is not None or dialect.thousands is not None:
        style = (dialect.thousands or "", dialect.decimal or ".")
        return [style] if all(_PLAIN.fullmatch(_plainly(level, style)) for level in levels) else []
    if all(map(_PLAIN.fullmatch, levels)):
        return [("", ".")]
    fitting = [style for style, pattern in _STYLES.items() if all(map(pattern.fullmatch, levels))]
    # Two that give the same numbers are one.
    different = {tuple(float(_plainly(level, style)) for level in levels): style for style in reversed(fitting)}
    return list(reversed(different.values()))


def _plainly(cell: str, style: tuple[str, str]) -> str:
    thousands, decimal = style
    return (cell.replace(thousands, "") if thousands else cell).replace(decimal, ".")


def _column(
    cells: pd.Series,
    dialect: Dialect,
    levels: list[str],
    styles: list[tuple[str, str]],
    commas: bool,
    likely: bool,
) -> Column:
    """``commas``: another column surely has decimal commas; ``likely``: commas are more likely decimal."""
    if not styles:
        return _text(cells, dialect, levels)
    style = styles[0]
    example = next((level for level in levels if not level.isdigit()), levels[0])
    if len(styles) > 1:
        if not likely:
            return Column(_as_text(cells, dialect), fault=_two_ways(example))
        style = ("", ",")
    broken = [level for level in levels if "." in level]
    if dialect.decimal is None and style == ("", ".") and commas and broken and all(map(_THREE.fullmatch, broken)):
        return Column(_as_text(cells, dialect), fault=_two_ways(broken[0]))
    numbers = {level: float(_plainly(level, style)) for level in levels}
    values = cells.map(numbers)
    if not values.isna().any() and style == ("", ".") and all(map(_WHOLE.fullmatch, levels)):
        return Column(cells.map({level: int(level) for level in levels}).to_numpy(np.int64))
    said = style != ("", ".") and dialect.decimal is None and dialect.thousands is None
    how = f"{example} was read as {numbers[example]:g}" if said else ""
    return Column(values.to_numpy(np.float64), note=how, style=style if said else None)


def _two_ways(example: str) -> str:
    mark = "," if "," in example else "."
    return (
        f"holds numbers such as {example!r}, where {mark!r} may group thousands or mark decimals: say which "
        f"({spoken('thousands', mark)} or {spoken('decimal', mark)})"
    )


def _as_text(cells: pd.Series, dialect: Dialect) -> np.ndarray:
    values = cells.to_numpy(dtype=object).copy()
    values[cells.isin({"", *dialect.na}).to_numpy()] = None
    return values


def _text(cells: pd.Series, dialect: Dialect, levels: list[str]) -> Column:
    if levels and set(levels) <= set(_TRUTH) and cells.isin(list(_TRUTH)).all():
        return Column(cells.map(_TRUTH).to_numpy(bool))
    dates = _dates(cells, levels) if levels else None
    if dates is not None:
        return dates
    values = _as_text(cells, dialect)
    words = [token for token in MISSING_TOKENS[1:] if not dialect.na and (cells == token).any()]
    if levels and words:
        return Column(values, note=f"{' and '.join(map(repr, words))} is taken as a value, not as missing")
    if not levels:
        values[:] = None
    return Column(values)


def _dates(cells: pd.Series, levels: list[str]) -> Column | None:
    """Days since 1970-01-01; None where the cells are no dates."""
    for pattern, formats in _DATES:
        if not all(map(pattern.fullmatch, levels)):
            continue
        found = [times for times in (_times(levels, form) for form in formats) if times is not None]
        if len(found) > 1 and found[0] != found[1]:
            fault = (
                f"holds dates such as {levels[0]!r}, where day and month may be exchanged: write them as 2024-12-31"
            )
            return Column(_as_text(cells, Dialect()), fault=fault)
        if found:
            days = {level: (time - _EPOCH).total_seconds() / 86400 for level, time in zip(levels, found[0])}
            return Column(cells.map(days).to_numpy(np.float64), note="its dates were read as days since 1970-01-01")
    first = [next((level for level in levels if pattern.fullmatch(level)), None) for pattern, _ in _DATES]
    ways = [level for level in first if level is not None]
    if len(ways) > 1 and all(any(pattern.fullmatch(level) for pattern, _ in _DATES) for level in levels):
        fault = f"holds dates written in several ways, such as {ways[0]!r} and {ways[1]!r}: write them as 2024-12-31"
        return Column(_as_text(cells, Dialect()), fault=fault)
    return None


def _times(levels: list[str], form: str) -> list[datetime] | None:
    try:
        return [datetime.strptime(level.replace("T", " "), form) for level in levels]
    except ValueError:
        return None
