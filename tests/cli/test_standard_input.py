"""``-``: a table from a pipe is kept where the command writes, and is not mistaken for another."""

import io
from types import SimpleNamespace

import pytest

from jaxland.cli.standard_input import from_pipe
from jaxland.errors import ArgumentError, DataError


@pytest.fixture
def pipe(monkeypatch):
    def put(data, *, terminal=False):
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data), isatty=lambda: terminal))

    return put


@pytest.mark.parametrize(
    ("data", "name"),
    [(b"a,b\n1,2\n", "standard_input.csv"), (b"PAR1....", "standard_input.parquet"),
     (b"PK\x03\x04..", "standard_input.xlsx"), (b"\x1f\x8b..", "standard_input.csv.gz")],
)  # fmt: skip
def test_a_piped_table_is_kept_beside_the_results(pipe, tmp_path, data, name):
    pipe(data)
    kept = from_pipe("-", tmp_path / "run")
    assert kept == str(tmp_path / "run" / name) and (tmp_path / "run" / name).read_bytes() == data
    assert from_pipe("table.csv", tmp_path) == "table.csv" and from_pipe(None, tmp_path) is None


def test_a_run_is_of_one_piped_table(pipe, tmp_path):
    for _ in range(2):
        pipe(b"a,b\n1,2\n")
        from_pipe("-", tmp_path, kept=True)
    pipe(b"a,b\n3,4\n")
    with pytest.raises(DataError, match="another table"):
        from_pipe("-", tmp_path, kept=True)
    pipe(b"a,b\n3,4\n")
    assert from_pipe("-", tmp_path).endswith("standard_input.csv")


def test_what_is_no_pipe_is_said(pipe, tmp_path):
    pipe(b" \n")
    with pytest.raises(DataError, match="empty"):
        from_pipe("-", tmp_path)
    pipe(b"", terminal=True)
    with pytest.raises(ArgumentError, match=r"cat table\.csv"):
        from_pipe("-", tmp_path)
    with pytest.raises(ArgumentError, match="only one table"):
        from_pipe("-", tmp_path, beside="-")
