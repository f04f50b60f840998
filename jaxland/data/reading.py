"""The one reader of tables, for ``load`` and every command: a CSV file to named columns of numbers and text."""

from __future__ import annotations

import csv
import difflib
import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxland.data import formats
from jaxland.data.dialect import Dialect, understood
from jaxland.errors import ArgumentError, DataError
from jaxland.options import spoken
from jaxland.showing import brief, table

if TYPE_CHECKING:
    import pandas as pd

# What may separate values.
SEPARATORS = ",;\t|"


@dataclass(frozen=True, eq=False)
class Table:
    """Named columns.

    Attributes:
        frame: one row per record.
        name: what the table is called in messages.
        lines: the line of the file each row ends on [n]; None where there is no file.
        unnamed: columns without a name in the header, such as an index that pandas wrote.
        notes: per column, what was changed or needs saying. faults: per column, why it cannot be used.
        styles: per column, how its numbers are written (thousands, decimal), where its note says that.
    """

    frame: pd.DataFrame
    name: str
    lines: tuple[int, ...] | None = None
    unnamed: tuple[str, ...] = ()
    notes: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    styles: dict[str, tuple[str, str]] = field(default_factory=dict)

    __repr__ = brief
    _repr_html_ = table

    def at(self, index: int) -> str:
        """What a user calls a row: line 2 of a file, row 0 of an array."""
        return f"row {index}" if self.lines is None else f"line {self.lines[index]}"

    def check(self, column: str) -> None:
        """Refuse a column that can be read in two ways.

        Raises:
            DataError: saying which two.
        """
        if column in self.faults:
            raise DataError(f"column {column!r} of {self.name} {self.faults[column]}")

    def said(self) -> list[str]:
        """What was changed or needs saying, a sentence per column, or per way of writing numbers."""
        return self.told(list(self.notes))

    def told(self, columns: Sequence[str]) -> list[str]:
        """What needs saying of some columns; those whose numbers are written alike share a sentence."""
        alike: dict[object, list[str]] = {}
        for column in columns:
            if column in self.notes:
                alike.setdefault(self.styles.get(column, column), []).append(column)
        out = []
        for first, *others in alike.values():
            more = f"; likewise in {', '.join(others)}" if others else ""
            out.append(f"column {first}: {self.notes[first]}{more}")
        return out

    def named(self) -> pd.DataFrame:
        """The columns that have a name.

        Raises:
            DataError: one can be read in two ways.
        """
        frame = self.frame.drop(columns=list(self.unnamed))
        for column in frame.columns:
            self.check(column)
        return frame

    def numbers(self, labels: str | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """All columns as float64 [n, d], and the column named ``labels`` [n] as it is.

        Raises:
            DataError: no such column, another column of text, an empty cell.
        """
        from pandas.api.types import is_numeric_dtype

        frame, classes = self.frame, None
        if labels is not None:
            if labels not in frame.columns:
                raise DataError(
                    f"{self.name} has no column {labels!r}; its columns are {', '.join(map(str, frame.columns))}"
                )
            frame, classes = frame.drop(columns=labels), frame[labels].to_numpy()
        for column in frame.columns:
            self.check(column)
        text = [str(c) for c in frame.columns if not is_numeric_dtype(frame[c])]
        if text:
            raise DataError(
                f"column {text[0]!r} of {self.name} is not numeric; name the column of classes with "
                f"{spoken('labels')}"
            )
        missing = frame.isna().to_numpy()
        if missing.any():
            row, column = (int(v) for v in np.argwhere(missing)[0])
            raise DataError(f"{self.name} has an empty cell in {self.at(row)}, column {str(frame.columns[column])!r}")
        return frame.to_numpy(float), classes


def read(path: Path, *, header: bool | None = True, dialect: Dialect | None = None) -> Table:
    """A CSV file: separated by comma, semicolon, tab or bar; quoted values; may be gzipped. Or parquet or Excel.

    How numbers are written is found for every column: a comma may mark decimals in one and group thousands in
    another. What can be read in two ways is kept as text with its fault, which is raised where the column is used.

    Args:
        path: of the file.
        header: whether the first line names the columns; None: unless it holds numbers only.
        dialect: what is known about the file.

    Raises:
        DataError: it cannot be read, or is no table; the message names the line.
    """
    import pandas as pd

    if not path.exists():
        raise DataError(f"data file {path} does not exist")
    if path.is_dir():
        raise DataError(f"{path} is a folder: give a CSV, parquet, Excel or npz file")
    if path.suffix == ".npy":
        raise DataError(f"{path.name}: .npy files are not read here; keep x and y in a .npz file (numpy.savez)")
    dialect = Dialect() if dialect is None else dialect
    if path.suffix.lower() in formats.SUFFIXES:
        return of_frame(formats.frame_of_file(path), path.stem, dialect)
    lines, skipped, sep = _body(_text(path, dialect.encoding))
    delimiter = dialect.sep or sep or _separator(lines)
    records, numbers = _records(lines, skipped, delimiter, path.name)
    names = records[0]
    if header is None:
        header = not all(map(_is_number, names))
    if header:
        records, numbers = records[1:], numbers[1:]
    else:
        names = [str(i) for i in range(len(names))]
    if not records:
        raise DataError(f"{path.name} has a header but no rows")
    columns = [name or f"column {i + 1}" for i, name in enumerate(names)]
    twice = sorted({c for c in columns if columns.count(c) > 1})
    if twice:
        raise DataError(
            f"{path.name}: column name {twice[0]!r} occurs more than once in the header. "
            "Rename it (or does the file lack its header line?)"
        )
    cells = [pd.Series(values, dtype=object) for values in zip(*records)]
    found = dict(zip(columns, understood(cells, dialect, delimiter)))
    return Table(
        frame=pd.DataFrame({name: column.values for name, column in found.items()}),
        name=path.stem,
        lines=tuple(numbers),
        unnamed=tuple(c for c, name in zip(columns, names) if not name),
        notes={name: column.note for name, column in found.items() if column.note},
        faults={name: column.fault for name, column in found.items() if column.fault},
        styles={name: column.style for name, column in found.items() if column.style is not None},
    )


def of_frame(frame: pd.DataFrame, name: str, dialect: Dialect | None = None) -> Table:
    """A table from a DataFrame whose columns may be dates, categories or text."""
    found, notes, faults = formats.plain(frame, Dialect() if dialect is None else dialect)
    return Table(frame=found, name=name, notes=notes, faults=faults)


def _text(path: Path, encoding: str | None) -> str:
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
        utf16 = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
        text = raw.decode(encoding or ("utf-16" if utf16 else "utf-8-sig"))
    except UnicodeDecodeError as error:
        if encoding is not None:
            raise DataError(f"{path.name} is not written in {encoding} (byte {error.start})") from error
        raise DataError(
            f"{path.name} is not UTF-8 text (byte {error.start}): name its encoding, such as "
            f"{spoken('encoding', 'cp1252')} (Windows), or is it no CSV?"
        ) from error
    except LookupError as error:
        raise ArgumentError(f"encoding {encoding!r} is unknown, such as utf-8, cp1252 or latin-1") from error
    except (OSError, EOFError) as error:
        raise DataError(f"{path.name} cannot be read: {error}") from error
    if not text.strip():
        raise DataError(f"{path.name} is empty")
    if "\0" in text:
        raise DataError(f"{path.name} is no text file (it holds zero bytes)")
    return text


def _body(text: str) -> tuple[list[str], int, str | None]:
    """Lines without what precedes the header, how many were left out, and the separator a ``sep=`` line names."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    skipped, sep = 0, None
    while skipped < len(lines) - 1:
        line = lines[skipped].strip()
        named = re.fullmatch(r"sep=(.)", lines[skipped].strip("\n"))
        if named is not None and skipped == 0:
            sep = named[1]
        elif line and not (line.startswith("#") and _is_comment(lines, skipped)):
            break
        skipped += 1
    return lines[skipped:], skipped, sep


def _is_comment(lines: list[str], index: int) -> bool:
    """A line starting with # is no header where the next one has another number of values."""
    following = next((line for line in lines[index + 1 :] if line.strip()), "")
    return following.startswith("#") or all(
        lines[index].count(s) != following.count(s) for s in SEPARATORS if s in following
    )


def _separator(lines: list[str]) -> str:
    """What splits the first lines evenly, into most values; else what the header holds most of."""
    head = [line for line in lines[:20] if line.strip()]

    def width(mark: str) -> int:
        try:
            widths = {len(fields) for fields in csv.reader(head[:-1] or head, delimiter=mark) if fields}
        except csv.Error:
            return 0
        return widths.pop() if len(widths) == 1 else 0

    best = max(SEPARATORS, key=width)
    return best if width(best) > 1 else max(SEPARATORS, key=head[0].count)


def _records(lines: list[str], skipped: int, delimiter: str, name: str) -> tuple[list[list[str]], list[int]]:
    """Every record's values, stripped, and the line of the file it ends on."""
    records: list[list[str]] = []
    numbers: list[int] = []
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, skipinitialspace=True)
    try:
        for fields in reader:
            at = reader.line_num + skipped
            if not fields or (len(fields) == 1 and not fields[0].strip()):
                continue
            if records and len(fields) != len(records[0]):
                raise DataError(
                    f"{name}, line {at}: {len(fields)} fields where the header has {len(records[0])}. "
                    "Mend that line (an unquoted separator inside a value?)"
                )
            records.append([field.strip() for field in fields])
            numbers.append(at)
    except csv.Error as error:
        raise DataError(f"{name}, line {reader.line_num + skipped}: {error}") from error
    return records, numbers


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def together(first: Table, second: Table) -> Table:
    """Two tables below each other, so that columns of codes are coded alike."""
    import pandas as pd

    return Table(
        frame=pd.concat([first.frame, second.frame], ignore_index=True),
        name=first.name,
        lines=None,
        unnamed=first.unnamed,
        notes={**second.notes, **first.notes},
        faults={**second.faults, **first.faults},
        styles={**second.styles, **first.styles},
    )


def near(word: str, known: Sequence[str]) -> str:
    """The end of a message that names an unknown word: what it may have meant, or what there is."""
    folded = {k.lower(): k for k in known}
    close = difflib.get_close_matches(word.lower(), list(folded), 3, 0.5)
    if close:
        return "; did you mean " + " or ".join(repr(folded[c]) for c in close) + "?"
    shown = ", ".join(list(known)[:30])
    return f"; it has {shown}{', ...' if len(known) > 30 else ''}"
