"""The one reader: separators, encodings, what precedes the header; every column's own way of writing numbers."""

import numpy as np
import pytest

from jaxland.data import Dialect, load, read, together
from jaxland.errors import ArgumentError, DataError

ROWS = [(f"{k}.{k}5", "ab"[k % 2]) for k in range(1, 9)]


def written(tmp_path, text, name="t.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("before", "mark", "end", "encoding"),
    [
        ("", ",", "\n", "utf-8"),
        ("", "\t", "\r\n", "utf-8"),
        ("", "|", "\n", "utf-8"),
        ("", ";", "\r", "utf-8"),
        ("sep=;\n", ";", "\n", "utf-8-sig"),
        ("# made by a logger, version 3\n# second\n", ",", "\n", "utf-8"),
        ("\n\n", ",", "\n", "utf-16"),
    ],
)
def test_files_of_every_make(tmp_path, before, mark, end, encoding):
    text = before.replace("\n", end) + end.join(mark.join(row) for row in [("höhe", "y"), *ROWS]) + end
    table = read(written(tmp_path, text, encoding=encoding))
    assert list(table.frame) == ["höhe", "y"]
    assert table.frame["höhe"].tolist() == [float(a) for a, _ in ROWS]
    first = 2 + before.count("\n")
    assert table.lines == tuple(range(first, first + len(ROWS))) and not table.notes


def test_an_encoding_is_named_not_guessed(tmp_path):
    path = written(tmp_path, "größe,y\n1,ä\n2,b\n", encoding="cp1252")
    with pytest.raises(DataError, match=r"not UTF-8 .*such as encoding='cp1252'"):
        read(path)
    assert list(read(path, dialect=Dialect(encoding="cp1252")).frame) == ["größe", "y"]
    with pytest.raises(DataError, match="not written in ascii"):
        read(path, dialect=Dialect(encoding="ascii"))
    with pytest.raises(ArgumentError, match="encoding 'klingon' is unknown"):
        read(path, dialect=Dialect(encoding="klingon"))
    with pytest.raises(ArgumentError, match="one character"):
        Dialect(sep="::")


def column(tmp_path, cells, mark=";", **options):
    text = f"v{mark}k\n" + "".join(f'"{cell}"{mark}{i}\n' for i, cell in enumerate(cells))
    table = read(written(tmp_path, text), dialect=Dialect(**options))
    table.check("v")
    return table.frame["v"], table.notes.get("v", "")


@pytest.mark.parametrize(
    ("cells", "want"),
    [
        (["1,5", "2", "-0,25"], [1.5, 2, -0.25]),
        (["1,234,567", "12", "1,000"], [1234567, 12, 1000]),
        (["1,234.5", "99", "2,000"], [1234.5, 99, 2000]),
        (["1.234,5", "99", "2.000"], [1234.5, 99, 2000]),
        (["1'250", "3'000'000", "7"], [1250, 3e6, 7]),
    ],
)
def test_numbers_written_in_one_way_only_are_read_and_said(tmp_path, cells, want):
    for mark in ";,":
        values, note = column(tmp_path, cells, mark)
        assert values.tolist() == want and "was read as" in note


def test_a_comma_that_may_be_either_is_refused_or_named(tmp_path):
    cells = ["7,250", "810", "12,500"]
    with pytest.raises(DataError, match="'7,250', where ',' may group thousands or mark decimals"):
        column(tmp_path, cells, ",")
    assert column(tmp_path, cells, ",", thousands=",")[0].tolist() == [7250, 810, 12500]
    assert column(tmp_path, cells, ",", decimal=",")[0].tolist() == [7.25, 810, 12.5]
    # Where semicolons separate and nothing speaks against it, a comma marks decimals.
    assert column(tmp_path, cells)[0].tolist() == [7.25, 810, 12.5]


def test_every_column_for_itself(tmp_path):
    """A date and a text beside decimal commas; points that group thousands are refused there."""
    rows = [("03.02.2021", "1013,25", "3,125", "A"), ("17.02.2021", "998,5", "4,250", "B"), ("", "1001", "5,5", "A")]
    head = "tag;druck;last;art\n"
    table = read(written(tmp_path, head + "".join(";".join(row) + "\n" for row in rows)))
    assert table.frame["druck"].tolist() == [1013.25, 998.5, 1001] and table.frame["last"].tolist() == [
        3.125,
        4.25,
        5.5,
    ]
    days = table.frame["tag"]
    assert days[1] - days[0] == 14 and np.isnan(days[2]) and "days since 1970" in table.notes["tag"]
    assert table.frame["art"].tolist() == ["A", "B", "A"]
    mixed = read(written(tmp_path, "a;b\n1,25;1.250\n2,5;700\n"))
    with pytest.raises(DataError, match=r"'1\.250', where '\.' may group"):
        mixed.check("b")


def test_dates(tmp_path):
    def days(*cells):
        return column(tmp_path, cells, ",")[0].tolist()

    assert days("2024-03-01", "2024-02-01") == [19783, 19754]
    assert days("1970-01-01 12:00:00", "1970-01-02T00:00:00") == [0.5, 1]
    assert days("12/31/1970", "01/02/1970") == [364, 1] and days("31/12/1970", "2/1/1970") == [364, 1]
    with pytest.raises(DataError, match="day and month may be exchanged"):
        days("01/02/2024", "03/04/2024")
    assert column(tmp_path, ["31.02.2024", "01.01.2024"])[0].tolist() == ["31.02.2024", "01.01.2024"]


def test_words_that_stand_for_nothing_are_values_of_text_columns(tmp_path):
    for word in ("None", "NA", "nan", "?"):
        text, note = column(tmp_path, ["low", word, "high", ""])
        assert text[:3].tolist() == ["low", word, "high"] and text.isna().tolist() == [False, False, False, True]
        assert f"{word!r} is taken as a value" in note
        numbers, note = column(tmp_path, ["1", word, "3", ""])
        np.testing.assert_array_equal(numbers, [1, np.nan, 3, np.nan])
        assert column(tmp_path, ["low", word, "high"], na=(word,))[0].isna().tolist() == [False, True, False]
    assert column(tmp_path, ["-9", "4"], na=("-9",))[0].isna().tolist() == [True, False]


def test_a_class_named_none_is_a_class(tmp_path):
    rows = "".join(f"{i * 7 % 11}.5,{('None', 'some')[i % 2]}\n" for i in range(12))
    data = load(written(tmp_path, "dose,effect\n" + rows), "effect")
    assert data.classes == ("None", "some") and any("'None' is taken as a value" in note for note in data.notes)


def test_whole_numbers_are_kept_and_what_is_dropped_is_said(tmp_path):
    shuffled = np.random.default_rng(0).permutation(30)
    rows = "".join(f"{k * 3},{i + 1},{i % 2}\n" for i, k in enumerate(shuffled))
    path = written(tmp_path, "refraction index,step,y\n" + rows)
    data = load(path, "y")
    assert data.features == ("refraction index",)
    assert data.notes == (
        "Column step was dropped: it numbers the rows (every value is different); keep='step' keeps it.",
    )
    assert load(path, "y", keep="step").features == ("refraction index", "step")
    with pytest.raises(DataError, match=r"no feature is left .* keep='step' keeps it"):
        load(path, "y", drop="refraction index")
    with pytest.raises(DataError, match=r"keep: .*did you mean 'step'"):
        load(path, "y", keep="stepp")


def test_two_files_are_coded_as_one(tmp_path):
    first = read(written(tmp_path, "a;b;day\n1,5;x;2020-01-02\n2;y;2020-01-05\n"))
    both = together(first, read(written(tmp_path, "b;a;day\nz;3,5;2020-01-01\n", "u.csv")))
    assert both.frame["a"].tolist() == [1.5, 2, 3.5] and both.frame["b"].tolist() == ["x", "y", "z"]
    assert (both.frame["day"] - both.frame["day"].min()).tolist() == [1, 4, 0]


def test_truth_and_whole_numbers_keep_their_types(tmp_path):
    assert column(tmp_path, ["True", "False"])[0].dtype == bool
    assert column(tmp_path, ["12", "-3"])[0].dtype == np.int64
    assert column(tmp_path, ["1_000", "2"])[0].tolist() == ["1_000", "2"]


def test_whole_numbers_as_targets_are_said_and_can_be_counts(tmp_path):
    text = "a,visits\n" + "".join(f"{i * 7 % 11}.5,{i * 5 % 7}\n" for i in range(28))
    path = written(tmp_path, text)
    data = load(path, "visits")
    assert data.classes == tuple("0123456")
    assert "Target visits: its 7 whole numbers from 0 to 6 are taken as classes" in data.notes[0]
    assert "task='count' or task='regress'" in data.notes[0]
    counts = load(path, "visits", task="count")
    assert (
        counts.task == "count"
        and counts.outputs == 1
        and counts.classes == ()
        and "counts from 0 to 6" in counts.describe()
    )
    assert load(path, "visits", task="regress").task == "regression"
    assert not load(path, "visits", task="classify").notes
    for bad in ("-1", "2.5"):
        with pytest.raises(DataError, match=rf"'visits' holds {bad} in line 2: counts are whole"):
            load(written(tmp_path, text.replace("0.5,0", f"0.5,{bad}", 1)), "visits", task="count")
    with pytest.raises(DataError, match="can only be classified"):
        load(written(tmp_path, "a,b\n1.5,x\n2,y\n2.5,x\n"), "b", task="count")


def test_a_run_of_counts_fits_their_rate(tmp_path):
    from jaxland.cli.recipe import Recipe
    from jaxland.data.options import TableOptions

    text = "a,visits\n" + "".join(f"{i * 7 % 11}.5,{i * 5 % 7}\n" for i in range(28))
    recipe = Recipe(str(written(tmp_path, text)), table=TableOptions(target="visits", task="count"))
    assert recipe.problem.loss_name == "poisson" and recipe.model.sizes == (1, 5, 1)
    assert "autodiff" in recipe.problem.kernel.name
