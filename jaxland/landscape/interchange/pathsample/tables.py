"""The files of a PATHSAMPLE database one by one: tables of numbers, records of coordinates, lists of minima."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxland.errors import DataError

MIN_DATA, TS_DATA, MIN_POINTS, TS_POINTS, MIN_A, MIN_B = (
    "min.data", "ts.data", "points.min", "points.ts", "min.A", "min.B",
)  # fmt: skip
FILES = (MIN_DATA, TS_DATA, MIN_POINTS, TS_POINTS, MIN_A, MIN_B)
_MIN_COLUMNS = ("energy", "log product", "order", "Ix", "Iy", "Iz")
_TS_COLUMNS = ("energy", "log product", "order", "min1", "min2", "Ix", "Iy", "Iz")
_OTHERS = {
    (MIN_DATA, 2): "an index and an energy, as topsearch writes: it does not say what PATHSAMPLE needs",
    (TS_DATA, 3): "two indices and an energy, as topsearch writes: it does not say what PATHSAMPLE needs",
    (MIN_DATA, 1): "an energy alone, or numbers that have run together",
}
_LINE = 4096
# Fortran writes 1.0D+02 for double precision, and leaves the letter out where an exponent needs three digits.
_REAL = re.compile(
    r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eEdDqQ]([+-]?\d{1,4})|([+-]\d{1,4}))?",
    re.ASCII,
)
_INTEGER = re.compile(r"[+-]?\d{1,60}", re.ASCII)
_WHOLE = ("order", "min1", "min2")


@dataclass(frozen=True, eq=False)
class PointTable:
    """``min.data`` or ``ts.data``, one row a point.

    Attributes:
        path: of the file.
        lines: int [K] where each row stands in it.
        energies, log_products: [K].
        orders: K Python integers, for they may be larger than any array holds.
        ends: int [K, 2] the minima joined, from 0; [0, 2] for minima.
        moments: [K, 3] of inertia.
    """

    path: Path
    lines: np.ndarray
    energies: np.ndarray
    log_products: np.ndarray
    orders: list[int]
    ends: np.ndarray
    moments: np.ndarray

    def __len__(self) -> int:
        return len(self.energies)


def minima_table(path: Path) -> PointTable:
    """Read ``min.data``.

    Raises:
        DataError: malformed; the message names file, line and column.
    """
    return _point_table(path, _table(path, _MIN_COLUMNS))


def states_table(path: Path, minima: int) -> PointTable:
    """Read ``ts.data`` of so many minima; empty where there is no such file.

    Raises:
        DataError: malformed; the message names file, line and column.
    """
    return _point_table(path, _table(path, _TS_COLUMNS, minima) if path.is_file() else {})


def _point_table(path: Path, columns: dict[str, list[int] | np.ndarray]) -> PointTable:
    def column(name: str) -> np.ndarray:
        return np.asarray(columns.get(name, np.zeros(0)))

    ends = np.column_stack([column("min1"), column("min2")]).astype(int).reshape(-1, 2) - 1
    return PointTable(
        path=path,
        lines=column("line"),
        energies=column("energy"),
        log_products=column("log product"),
        orders=list(columns.get("order", [])),
        ends=ends,
        moments=np.column_stack([column(name) for name in ("Ix", "Iy", "Iz")]).reshape(-1, 3),
    )


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and words of every line that is not blank."""
    with path.open("rb") as file:
        for number in range(1, 1 << 62):
            raw = file.readline(_LINE)
            if not raw:
                return
            if len(raw) == _LINE and not raw.endswith(b"\n"):
                raise DataError(f"{path}, line {number}: longer than {_LINE} characters; is this {path.name}?")
            if not all(32 <= c < 127 or c in b"\t\r\n" for c in raw):
                raise DataError(f"{path}, line {number}: not plain text; is this {path.name}?")
            words = raw.decode("ascii").split()
            if words:
                yield number, words


def _real(word: str) -> float | None:
    found = _REAL.fullmatch(word)
    return None if found is None else float(f"{found[1]}e{found[2] or found[3] or 0}")


def _real_number(path: Path, line: int, column: str, word: str) -> float:
    value = _real(word)
    if value is not None and math.isfinite(value):
        return value
    raise _refused(path, line, column, word, "number", value is not None)


def _whole_number(path: Path, line: int, column: str, word: str) -> int:
    if _INTEGER.fullmatch(word):
        return int(word)
    raise _refused(path, line, column, word, "whole number", False)


def _refused(path: Path, line: int, column: str, word: str, what: str, too_large: bool) -> DataError:
    where = f"{path}, line {line}, column {column}: {word[:40]!r}"
    if "*" in word:
        return DataError(f"{where}: the number did not fit its field when it was written, and is lost")
    if too_large:
        return DataError(f"{where} is beyond double precision")
    return DataError(f"{where} is not a {what}; is this a PATHSAMPLE file?")


def _table(path: Path, columns: Sequence[str], most: int = 0) -> dict[str, list[int] | np.ndarray]:
    """Columns of a data file; ``order`` as a list of Python integers, the others as arrays, with ``line`` numbers."""
    reals = {c: array("d") for c in columns if c not in _WHOLE}
    wholes = {c: array("q") for c in columns if c in ("min1", "min2")}
    orders: list[int] = []
    lines = array("q")
    for number, words in _lines(path):
        if len(words) != len(columns):
            guess = _OTHERS.get((path.name, len(words)))
            raise DataError(
                f"{path}, line {number}: {len(words)} columns where PATHSAMPLE has {len(columns)} "
                f"({', '.join(columns)})" + (f"; this looks like {guess}" if guess else "")
            )
        for column, word in zip(columns, words):
            if column in reals:
                reals[column].append(_real_number(path, number, column, word))
                continue
            value = _whole_number(path, number, column, word)
            if column == "order":
                if value < 1:
                    raise DataError(f"{path}, line {number}, column order: must be at least 1, got {value}")
                orders.append(value)
            else:
                if not 1 <= value <= most:
                    raise DataError(
                        f"{path}, line {number}, column {column}: there is no minimum {value} among {most}"
                    )
                wholes[column].append(value)
        lines.append(number)
    found: dict[str, list[int] | np.ndarray] = {c: np.array(v) for c, v in (reals | wholes).items()}
    return found | {"order": orders, "line": np.array(lines)}


def records(path: Path, count: int, size: int | None, notes: list[str]) -> np.ndarray | None:
    """Coordinates [count, N] in a file of points; None without the file.

    Args:
        path: of the file.
        count: how many points; size: N, where it is known.
        notes: what a reader should know is added to it.

    Raises:
        DataError: the file's length does not fit, or its numbers are not finite.
    """
    if not path.is_file():
        if count:
            notes.append(f"no {path.name}: no coordinates")
        return None
    length = path.stat().st_size
    if not count:
        if length:
            raise DataError(f"{path} holds {length} bytes, but there are no points")
        return None
    known = f"{count} records" + (f" of {size} numbers" if size is not None else "")
    if length == 0 or length % (8 * count) or (size is not None and length != 8 * count * size):
        raise DataError(f"{path} has {length} bytes, which are not {known} of 8 bytes each{_marked(path, count)}")
    size = length // (8 * count)
    x = np.fromfile(path, "<f8", count * size).reshape(count, size)
    if len(x) != count:
        raise DataError(f"{path} ended while it was read")
    if not _plausible(x) and _plausible(x.byteswap()):
        raise DataError(f"{path} is big-endian (another computer's?): write it little-endian")
    bad = np.flatnonzero(~np.isfinite(x).all(1))
    if len(bad):
        raise DataError(f"{path}, record {bad[0] + 1}: not all of its {size} numbers are finite")
    return x.astype(np.float64, copy=False)


def _plausible(x: np.ndarray) -> bool:
    with np.errstate(invalid="ignore"):
        size = np.abs(x)
        return bool(np.isfinite(x).all() and np.all((size == 0) | ((size > 1e-100) & (size < 1e100))))


def _marked(path: Path, count: int) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    record = int.from_bytes(head, "little")
    if record and record % 8 == 0 and path.stat().st_size == count * (record + 8):
        return "; it has Fortran record markers (sequential access), PATHSAMPLE's has none (direct access)"
    return ""


def minima_listed(path: Path, most: int) -> np.ndarray:
    """Indices, from 0, in min.A or min.B; the numbers may be spread over lines. No file: none.

    Raises:
        DataError: malformed, or no minimum of the ``most`` there are.
    """
    if not path.is_file():
        return np.zeros(0, int)
    numbers = array("q")
    for line, words in _lines(path):
        for word in words:
            value = _whole_number(path, line, "1", word)
            low, high = (1, most) if numbers else (0, most)
            if not low <= value <= high:
                what = "minimum" if numbers else "count"
                raise DataError(f"{path}, line {line}: {what} {value} does not fit a database of {most} minima")
            numbers.append(value)
            if len(numbers) > numbers[0] + 1:
                raise DataError(f"{path}, line {line}: lists more than the {numbers[0]} minima it announces")
    if not numbers:
        raise DataError(f"{path} is empty: it must begin with the number of its minima")
    if len(numbers) - 1 != numbers[0]:
        raise DataError(f"{path} announces {numbers[0]} minima and lists {len(numbers) - 1}")
    found = np.array(numbers[1:], int) - 1
    if len(np.unique(found)) != len(found):
        raise DataError(f"{path} lists a minimum twice")
    return found
