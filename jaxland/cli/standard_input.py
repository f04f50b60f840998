"""``-`` for a table: what a pipe brings is kept in the command's own directory, where later commands find it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TypeVar

Source = TypeVar("Source", str, str | None)
PIPE = "-"
# How files begin whose kind their name must tell; all else is text.
_BEGINNINGS = {b"PAR1": ".parquet", b"ARROW1": ".feather", b"PK\x03\x04": ".xlsx", b"\x1f\x8b": ".csv.gz"}


def from_pipe(source: Source, out: Path, *, beside: str | None = None, kept: bool = False) -> Source:
    """The source; where it is ``-`` a file in ``out`` that holds what standard input brought.

    Args:
        source: of a table, as the user named it.
        out: directory of the command.
        beside: another table of the same command.
        kept: refuse to replace what was piped before: a run is of one table.

    Raises:
        ArgumentError: nothing is piped, or both tables are ``-``.
        DataError: the pipe was empty, or brought another table than before.
    """
    from jaxland.errors import ArgumentError, DataError
    from jaxland.runs import write_whole

    if source != PIPE:
        return source
    if beside == PIPE:
        raise ArgumentError("only one table can come from standard input (-): name a file for the other")
    if sys.stdin.isatty():
        raise ArgumentError("- reads a table from a pipe, such as: cat table.csv | jaxland explore - ...")
    data = sys.stdin.buffer.read()
    if not data.strip():
        raise DataError("standard input (-) is empty")
    suffix = next((suffix for start, suffix in _BEGINNINGS.items() if data.startswith(start)), ".csv")
    path = out / f"standard_input{suffix}"
    if kept and path.exists() and path.read_bytes() != data:
        raise DataError(f"{path} holds another table, piped before: choose another --out")
    write_whole(path, data)
    return str(path)
