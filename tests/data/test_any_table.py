"""Any table of text is read, or refused in one sentence of our own; what is read is what was written."""

import string
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxland.data import Dataset, load
from jaxland.errors import JaxlandError

PLAIN = st.floats(-1e6, 1e6, allow_nan=False).map(lambda v: repr(round(v, 3)))
WHOLE = st.integers(-2000, 2000).map(str)
GERMAN = st.integers(-999_999, 999_999).map(lambda v: f"{v / 100:.2f}".replace(".", ","))
THOUSANDS = st.integers(0, 9_999_999).map(lambda v: f"{v:,}")
DATES = st.dates().map(lambda d: d.isoformat())
EUROPEAN = st.dates().map(lambda d: f"{d.day}.{d.month}.{d.year:04d}")
WORDS = st.sampled_from(
    ["", "NA", "None", "nan", "?", "-", "yes", "no", "True", "False", "inf", "1e5", "1_000", "0x1F"]
)
TEXT = st.text(string.ascii_letters + string.digits + " ,;|\t\"'.-äß#€", max_size=6)
KINDS = (PLAIN, WHOLE, GERMAN, THOUSANDS, DATES, EUROPEAN, WORDS, TEXT)
NAMES = st.text(string.ascii_letters + " _-ä#.", min_size=1, max_size=8)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "missing": st.sampled_from(["mean", "median", "mode"]),
        "constant": st.just("drop"),
        "task": st.sampled_from(["classify", "regress", "count"]),
        "decimal": st.sampled_from([",", "."]),
        "thousands": st.sampled_from([",", ".", "'"]),
        "sep": st.sampled_from([",", ";", "\t", "|"]),
        "na": st.sampled_from(["-", "NA"]),
        "max_levels": st.integers(2, 30),
        "encoding": st.sampled_from(["utf-8", "cp1252", "utf-16"]),
    },
)


@st.composite
def tables(draw):
    """A file's text, its header and the kind of every column; sometimes with a broken line."""
    names = draw(st.lists(NAMES, min_size=2, max_size=4))
    rows = draw(st.integers(1, 30))
    mark = draw(st.sampled_from([",", ";", "\t", "|"]))
    columns = []
    for _ in names:
        kind = draw(st.sampled_from(KINDS))
        seldom = draw(st.sampled_from([kind, kind, st.one_of(kind, WORDS)]))
        columns.append(draw(st.lists(seldom, min_size=rows, max_size=rows)))

    def quoted(cell):
        return '"' + cell.replace('"', '""') + '"' if any(c in cell for c in mark + '"\n') else cell

    lines = [mark.join(map(quoted, row)) for row in [names, *zip(*columns)]]
    if draw(st.integers(0, 9)) == 0:
        lines.insert(draw(st.integers(0, len(lines))), draw(TEXT))
    return "\n".join(lines) + "\n", names


def check(data):
    """What a Dataset promises."""
    assert data.x.shape == (data.n, data.d) and np.isfinite(data.x).all() and np.ptp(data.x, axis=0).all()
    assert len(data.features) == data.d == len(data.sources) and len(set(data.features)) == data.d
    assert np.isfinite(data.y).all() and len(np.unique(data.y)) >= 2
    if data.task == "classification":
        assert set(data.y.tolist()) == set(range(len(data.classes)))
    if data.task == "count":
        assert (data.y >= 0).all() and np.array_equal(data.y, np.round(data.y))


def read_or_refused(table, options):
    text, names = table
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes(text.encode())
        try:
            data = load(path, names[-1].strip(), **options)
        except JaxlandError as error:
            assert str(error) and "\n" not in str(error).strip()
            return
    assert isinstance(data, Dataset)
    check(data)


SMALL = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck), "database": None}


@settings(max_examples=60, **SMALL)
@given(tables(), OPTIONS)
def test_any_table_is_read_or_refused(table, options):
    read_or_refused(table, options)


@pytest.mark.slow
@settings(max_examples=4000, **{**SMALL, "derandomize": False})
@given(tables(), OPTIONS)
def test_many_tables_are_read_or_refused(table, options):
    read_or_refused(table, options)


@settings(max_examples=40, **SMALL)
@given(
    st.lists(st.floats(-1e9, 1e9, allow_nan=False), min_size=3, max_size=12, unique=True),
    st.sampled_from([(",", "."), (";", ","), ("\t", "."), ("|", ",")]),
)
def test_numbers_come_back_as_they_were_written(values, marks):
    """Whatever separates them and marks their decimals."""
    mark, decimal = marks
    cells = [f"{v:.6f}".replace(".", decimal) for v in values]
    rows = "".join(f"{cell}{mark}{i % 2}\n" for i, cell in enumerate(cells))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_text(f"a{mark}y\n{rows}")
        try:
            data = load(path, "y", keep="a")
        except JaxlandError as error:
            # Six digits of nothing but zeros may repeat a value, or leave one only.
            assert "constant" in str(error)
            return
    np.testing.assert_array_equal(data.x[:, 0], [float(f"{v:.6f}") for v in values])
