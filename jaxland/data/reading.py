"""The one reader of tables, for ``load`` and every command: a CSV file to named columns of numbers and text."""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxland.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

MISSING_TOKENS = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "null", "NULL", "None", "?")
_COMMA, _POINT = (re.compile(rf"(^|;)\s*-?\d+{mark}\d", re.MULTILINE) for mark in (",", r"\."))


@dataclass(frozen=True, eq=False)
class Table:
    """Named columns.

    Attributes:
        frame: one row per record.
        name: what the table is called in messages.
        lines: the line of the file each row ends on [n]; None where there is no file.
        unnamed: columns without a name in the header, such as an index that pandas wrote.
    """

    frame: pd.DataFrame
    name: str
    lines: tuple[int, ...] | None = None
    unnamed: tuple[str, ...] = ()

    def at(self, index: int) -> str:
        """What a user calls a row: line 2 of a file, row 0 of an array."""
        return f"row {index}" if self.lines is None else f"line {self.lines[index]}"

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
        text = [str(c) for c in frame.columns if not is_numeric_dtype(frame[c])]
        if text:
            raise DataError(
                f"column {text[0]!r} of {self.name} is not numeric; name the column of classes with --labels"
            )
        missing = frame.isna().to_numpy()
        if missing.any():
            row, column = (int(v) for v in np.argwhere(missing)[0])
            raise DataError(f"{self.name} has an empty cell in {self.at(row)}, column {str(frame.columns[column])!r}")
        return frame.to_numpy(float), classes


def read(path: Path, *, header: bool | None = True) -> Table:
    """A CSV file: comma, semicolon or tab; quoted values; may be gzipped.

    Args:
        path: of the file.
        header: whether the first line names the columns; None: unless it holds numbers only.

    Raises:
        DataError: it cannot be read, or is no table; the message names the line.
    """
    if not path.exists():
        raise DataError(f"data file {path} does not exist")
    text = _text(path)
    delimiter = max(",;\t", key=text.lstrip().splitlines()[0].count)
    names, lines = _records(text, delimiter, path.name)
    if header is None:
        header = not all(_is_number(name) for name in names)
    if not header:
        text = delimiter.join(map(str, range(len(names)))) + "\n" + text
        names, lines = _records(text, delimiter, path.name)
        lines = [line - 1 for line in lines]
    if not lines:
        raise DataError(f"{path.name} has a header but no rows")
    columns = [name or f"column {i + 1}" for i, name in enumerate(names)]
    twice = sorted({c for c in columns if columns.count(c) > 1})
    if twice:
        raise DataError(
            f"{path.name}: column name {twice[0]!r} occurs more than once in the header. "
            "Rename it (or does the file lack its header line?)"
        )
    frame = _parsed(text, delimiter, columns)
    if len(frame) != len(lines):
        raise DataError(f"{path.name}: {len(lines)} records, but {len(frame)} were read; check the quotes in it")
    unnamed = tuple(c for c, name in zip(columns, names) if not name)
    return Table(frame=frame, name=path.stem, lines=tuple(lines), unnamed=unnamed)


def _text(path: Path) -> str:
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
    return text


def _records(text: str, delimiter: str, name: str) -> tuple[list[str], list[int]]:
    """The fields of the first record, and the line every further one ends on."""
    header: list[str] = []
    lines: list[int] = []
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        for fields in reader:
            if not fields:
                continue
            if not header:
                header = [f.strip() for f in fields]
            elif len(fields) != len(header):
                raise DataError(
                    f"{name}, line {reader.line_num}: {len(fields)} fields where the header has {len(header)}. "
                    "Mend that line (an unquoted separator inside a value?)"
                )
            else:
                lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{name}, line {reader.line_num}: {error}") from error
    return header, lines


def _parsed(text: str, delimiter: str, columns: list[str]) -> pd.DataFrame:
    import pandas as pd

    # Where the semicolon separates, 12,5 is a number if nothing in the file is written 12.5.
    comma = delimiter == ";" and _COMMA.search(text) and not _POINT.search(text)
    return pd.read_csv(
        io.StringIO(text),
        sep=delimiter,
        decimal="," if comma else ".",
        header=0,
        names=columns,
        index_col=False,
        skipinitialspace=True,
        keep_default_na=False,
        na_values=list(MISSING_TOKENS),
        low_memory=False,
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def near(word: str, known: Sequence[str]) -> str:
    """The end of a message that names an unknown word: what it may have meant, or what there is."""
    folded = {k.lower(): k for k in known}
    close = difflib.get_close_matches(word.lower(), list(folded), 3, 0.5)
    if close:
        return "; did you mean " + " or ".join(repr(folded[c]) for c in close) + "?"
    shown = ", ".join(list(known)[:30])
    return f"; it has {shown}{', ...' if len(known) > 30 else ''}"
