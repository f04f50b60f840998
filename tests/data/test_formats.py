"""Parquet, Excel and frames of other libraries give what the CSV file gives."""

import numpy as np
import pandas as pd
import pytest

from jaxland.data import load
from jaxland.errors import DataError

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "dose": RNG.normal(size=30).round(3),
        "town": RNG.choice(["Bonn", "Köln"], 30),
        "day": pd.to_datetime("2024-02-27") + pd.to_timedelta(RNG.integers(0, 90, 30), unit="D"),
        "smokes": RNG.integers(0, 2, 30).astype(bool),
        "answer": RNG.choice(["no", "yes"], 30),
    }
)


def same(found):
    expected = load(FRAME.assign(day=(FRAME["day"] - pd.Timestamp(0)) / pd.Timedelta(days=1)), "answer")
    np.testing.assert_allclose(found.x, expected.x)
    np.testing.assert_array_equal(found.y, expected.y)
    assert found.features == expected.features == ("dose", "town=Köln", "day", "smokes")


def test_csv(tmp_path):
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    same(load(tmp_path / "t.csv", "answer"))


@pytest.mark.parametrize(
    ("suffix", "library"), [("parquet", "pyarrow"), ("feather", "pyarrow"), ("xlsx", "openpyxl")]
)
def test_files(tmp_path, suffix, library):
    pytest.importorskip(library, reason=f"{library} is not installed (extras: parquet, excel)")
    path = tmp_path / f"t.{suffix}"
    getattr(FRAME, {"parquet": "to_parquet", "feather": "to_feather", "xlsx": "to_excel"}[suffix])(
        path, **({"index": False} if suffix == "xlsx" else {})
    )
    found = load(path, "answer")
    same(found)
    assert any("dates became days" in note for note in found.notes)
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=f"is not a readable .{suffix} file"):
        load(path, "answer")


def test_two_sheets_are_refused(tmp_path):
    pytest.importorskip("openpyxl", reason="openpyxl is not installed (extra: excel)")
    with pd.ExcelWriter(tmp_path / "t.xlsx") as writer:
        FRAME.to_excel(writer, sheet_name="a", index=False)
        FRAME.to_excel(writer, sheet_name="b", index=False)
    with pytest.raises(DataError, match=r"has 2 sheets with rows \(a, b\)"):
        load(tmp_path / "t.xlsx", "answer")


@pytest.mark.parametrize("lazy", [False, True])
def test_polars(lazy):
    polars = pytest.importorskip("polars", reason="polars is not installed (extra: polars)")
    frame = polars.DataFrame({name: FRAME[name].tolist() for name in FRAME.columns if name != "day"})
    frame = frame.with_columns(polars.Series("gaps", [None, 2, *range(28)]))
    found = load(frame.lazy() if lazy else frame, "answer", missing="mean", keep=["gaps"])
    assert found.n == 30 and "gaps" in found.features and found.record["imputed"] == {"gaps": 1}


def test_text_that_holds_numbers_and_lists(tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra: parquet)")
    frame = FRAME[["answer"]].assign(price=[f"{v:.1f}".replace(".", ",") for v in FRAME["dose"]], tags=[[1]] * 30)
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="column 'tags' of t holds "):
        load(tmp_path / "t.parquet", "answer")
    found = load(tmp_path / "t.parquet", "answer", drop=["tags"])
    np.testing.assert_allclose(found.x[:, 0], FRAME["dose"].map("{:.1f}".format).astype(float))
