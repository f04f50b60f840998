import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jaxland.data import Preparation, Scaling, checkerboard, load, xor
from jaxland.data.seen import NEW, TEST, TRAINING, Seen
from jaxland.errors import ArgumentError, DataError, DependencyError

CREDIT = Path(__file__).parents[3] / "shared" / "data" / "default_credit_card_uci.csv"
needs_credit = pytest.mark.skipif(not CREDIT.exists(), reason="the UCI credit-card file is not here")

RNG = np.random.default_rng(0)
N = 60


def table(**columns):
    base = {
        "customer": np.arange(N) + 500,
        "income": RNG.normal(30, 5, N).round(2),
        "region": RNG.choice(["north", "south", "east"], N),
        "sex": np.resize(["f", "m"], N),
        "code": np.resize([0, 1, 5], N),
        "paid": np.resize(["yes", "no", "no"], N),
    }
    base.update(columns)
    return pd.DataFrame({k: v for k, v in base.items() if v is not None})


def written(tmp_path, text, name="t.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


# -- what loads ------------------------------------------------------------------------------------------------------


@needs_credit
def test_credit_file_loads_as_it_is():
    data = load(CREDIT, target="default")
    assert (data.n, data.d) == (30_000, 23)
    assert "ID" not in data.features and data.record["dropped"] == {"ID": "row identifier"}
    assert int(data.y.sum()) == 6_636 and data.classes == ("0", "1")
    assert data.x[:, data.features.index("LIMIT_BAL")].sum() == 5_024_529_680
    assert data.record["duplicates"] == 35
    assert {0, 5, 6} <= set(data.x[:, data.features.index("EDUCATION")])
    assert any("35 rows repeat" in note for note in data.notes)


@needs_credit
def test_credit_file_with_codes_as_categories_and_a_small_training_part():
    data = load(CREDIT, target="default", categorical="EDUCATION,MARRIAGE,SEX")
    assert data.features.count("EDUCATION=5") == 1 and data.sources.count("EDUCATION") == 7
    split = data.split(0.3, 0, scale="standardise", train_rows=2000)
    assert (split.train.n, split.test.n) == (2000, 9000)
    assert abs(split.train.y.mean() - data.y.mean()) < 1e-3
    assert not set(split.train_rows) & set(split.test_rows)


def test_frame_csv_and_arrays_give_the_same_data(tmp_path):
    frame = table()
    path = tmp_path / "customers.csv"
    frame.to_csv(path, index=False)
    data = load(path, target="paid", categorical=["code"])
    assert data.features == (
        "income",
        "region=east",
        "region=north",
        "region=south",
        "sex=m",
        "code=0",
        "code=1",
        "code=5",
    )
    assert data.sources == ("income", "region", "region", "region", "sex", "code", "code", "code")
    assert data.classes == ("no", "yes") and data.task == "classification" and data.name == "customers"
    np.testing.assert_array_equal(data.y, frame["paid"] == "yes")
    np.testing.assert_array_equal(data.x[:, 1:4].sum(1), 1)
    same = load(frame, "paid", categorical=["code"])
    np.testing.assert_array_equal(data.x, same.x)
    again = load((data.x, data.y))
    np.testing.assert_array_equal(again.x, data.x)
    pd.testing.assert_frame_equal(data.to_pandas()[["income"]], frame[["income"]])
    assert "customers" in data._repr_html_()


def test_csv_dialects(tmp_path):
    frame = table()
    for name, sep in (("a.csv", ";"), ("b.tsv", "\t")):
        frame.to_csv(tmp_path / name, sep=sep, index=False)
        assert load(tmp_path / name, target="paid").d == 6
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(frame.to_csv().encode()))
    data = load(tmp_path / "c.csv.gz", target="paid")
    assert set(data.record["dropped"]) == {"column 1", "customer"}
    assert load(written(tmp_path, "\ufeff" + frame.to_csv(index=False)), "paid").d == 6
    assert load(frame, "paid", keep_identifiers=True).features[0] == "customer"
    assert load(frame, "paid", drop=["customer", "sex"]).d == 5


def test_decimal_commas_and_text_labels(tmp_path):
    rows = "".join(f"{i % 7},{i % 10};{i % 3};{'ja' if i % 2 else 'nein'}\n" for i in range(30))
    data = load(written(tmp_path, "betrag;n;y\n" + rows), target="y")
    assert data.x[8].tolist() == [1.8, 2] and data.classes == ("ja", "nein")
    assert load(data) is data
    labels = load((RNG.normal(size=(10, 2)), np.resize(["1", "0"], 10)))
    assert labels.classes == ("0", "1")
    with pytest.raises(DataError, match="but also 'unknown' in row 3"):
        load((RNG.normal(size=(10, 2)), np.array(["1", "0", "1", "unknown"] + ["0"] * 6)))


def test_npz(tmp_path):
    x, y = RNG.normal(size=(20, 3)), np.resize([0, 1], 20)
    np.savez(tmp_path / "a.npz", x=x, y=y, features=["a", "b", "c"], z=RNG.normal(size=20))
    assert load(tmp_path / "a.npz").features == ("a", "b", "c")
    assert load(tmp_path / "a.npz", target="z").task == "regression"
    with pytest.raises(DataError, match="no array 'q'"):
        load(tmp_path / "a.npz", target="q")
    (tmp_path / "b.npz").write_bytes(b"PK not really")
    with pytest.raises(DataError, match=r"b\.npz is not a readable"):
        load(tmp_path / "b.npz")


def test_built_in_data():
    board = load("checkerboard", k=3, n=500, seed=4)
    assert board.n == 500 and board.x.min() >= -1 and set(board.y) == {0, 1}
    corner = (board.x < -1 / 3).all(1)
    assert corner.any() and (board.y[corner] == 0).all()
    np.testing.assert_array_equal(board.x, checkerboard(3, 500, seed=4).x)
    assert not np.array_equal(checkerboard(seed=1).x, checkerboard(seed=2).x)
    assert xor().x.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]] and xor().y.tolist() == [0, 1, 1, 0]
    pytest.importorskip("sklearn")
    assert [load(name).x.shape for name in ("breast_cancer", "wine", "digits")] == [(569, 30), (178, 13), (1797, 61)]


def test_missing_scikit_learn_is_one_clear_error(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DependencyError, match=r"jaxland\[sklearn\]"):
        load("wine")


def test_missing_values_are_filled_on_request_from_the_training_part(tmp_path):
    frame = table()
    frame.loc[[3, 10], "income"] = np.nan
    frame.loc[7, "region"] = None
    with pytest.raises(DataError, match=r"'income' has 2 missing values.* row 3"):
        load(frame, "paid")
    data = load(frame, "paid", missing="median")
    assert data.x[3, 0] == np.median(frame["income"].dropna())
    assert data.x[7, 1:4].sum() == 1 and data.record["imputed"] == {"income": 2, "region": 1}
    split = data.split(0.5, 1)
    known = frame["income"].to_numpy()[split.train_rows]
    where = np.concatenate([split.train_rows, split.test_rows]).tolist().index(3)
    filled = np.concatenate([split.train.x, split.test.x])[where, 0]
    assert filled == np.nanmedian(known)
    assert load(frame, "paid", missing="mean").x[3, 0] == pytest.approx(frame["income"].mean())


def test_tasks():
    x = RNG.normal(size=(100, 2))
    assert load((x, RNG.normal(size=100))).task == "regression"
    assert load((x, np.resize([0, 1, 2], 100))).classes == ("0", "1", "2")
    assert load((x, np.resize([-1, 1], 100))).y.tolist()[:2] == [0, 1]
    assert load((x, np.resize([0, 1, 2], 100)), task="regress").outputs == 1
    assert load((x, np.resize([True, False], 100))).outputs == 2
    with pytest.raises(DataError, match="not whole"):
        load((x, RNG.normal(size=100)), task="classify")


# -- splits and scales -----------------------------------------------------------------------------------------------


def test_split_by_seed_is_stratified_and_complete():
    data = checkerboard(n=400)
    split = data.split(0.25, seed=3)
    again = data.split(0.25, seed=3)
    np.testing.assert_array_equal(split.train_rows, again.train_rows)
    assert sorted([*split.train_rows, *split.test_rows]) == list(range(400))
    np.testing.assert_allclose(split.test.class_counts(), data.class_counts() / 4, atol=1)
    assert not np.array_equal(split.train_rows, data.split(0.25, seed=4).train_rows)
    train, test = data.split(0)
    assert train.n == 400 and test is None
    assert data.split(0.25, train_rows=100).train.n == 100
    with pytest.raises(ArgumentError, match="test_fraction"):
        data.split(1.0)


def test_scaling_is_fitted_on_the_training_part_only():
    data = load((RNG.normal(5, 3, size=(200, 4)), np.resize([0, 1], 200)))
    for scale in ("standardise", "mean-abs"):
        split = data.split(0.4, scale=scale)
        raw = data.x[split.train_rows]
        if scale == "standardise":
            np.testing.assert_allclose(split.train.x, (raw - raw.mean(0)) / raw.std(0), rtol=1e-12)
        else:
            np.testing.assert_allclose(np.abs(split.train.x).mean(0), 1)
        np.testing.assert_allclose(split.test.scaling.invert(split.test.x), data.x[split.test_rows])
    with pytest.raises(ArgumentError, match="scaled already"):
        split.train.split(0.5, scale="standardise")
    with pytest.raises(ArgumentError, match=r"scale takes none.*got 'minmax'"):
        data.split(scale="minmax")
    assert Scaling.fit(np.full((5, 1), 3.0), "standardise").scale == 1


def test_rows_are_drawn_by_seed():
    data = load("checkerboard", rows=100, seed=5)
    np.testing.assert_array_equal(data.x, load("checkerboard", rows=100, seed=5).x)
    assert data.n == 100 and "100 of 1000" in data.notes[-1]


# -- what is refused -------------------------------------------------------------------------------------------------


def inf_frame():
    frame = table()
    frame.loc[4, "income"] = np.inf
    return frame


def typo_frame():
    frame = table()
    frame["income"] = frame["income"].astype(object)
    frame.loc[8, "income"] = "12,5 EUR"
    return frame


@pytest.mark.parametrize(
    "frame, options, words",
    [
        (inf_frame(), {}, "'income' has 1 infinite values, the first in row 4"),
        (typo_frame(), {}, "'income' holds numbers, but also '12,5 EUR' in row 8"),
        (table(income=[f"{i},500" for i in range(N)]), {}, "'income' holds values like '0,500' in row 0"),
        (table(income=[f"$ {i}" for i in range(N)]), {}, "look like numbers but are not"),
        (table(code=np.zeros(N)), {}, r"'code' is constant \('0.0' in every row\).*drop='code'"),
        (table(paid=["no"] * N), {}, "one class only"),
        (table(paid=[None] + ["no", "yes"] * (N // 2 - 1) + ["no"]), {}, "target 'paid' has 1 missing.* row 0"),
        (table(paid=[f"t{i}" for i in range(N)]), {}, "60 different values in 60 rows: too many for classes"),
        (
            table(region=[f"street {i // 2}" for i in range(N)]),
            {"max_levels": 20},
            "'region' has 30 different values",
        ),
        (table(), {"target": "Payd"}, "no column 'Payd'; did you mean 'paid'"),
        (table(), {"target": "zzz"}, "no column 'zzz'; it has customer, income"),
        (table(), {"categorical": ["kode"]}, "categorical: .*did you mean 'code'"),
        (table(), {"drop": ["x"]}, "drop: .*no column 'x'"),
        (table(income=[np.nan] * N), {}, "'income' has no values at all"),
        (table(income=[str(v) for v in range(N // 2)] * 2), {}, "numbers stored as text"),
        (table()[["customer", "paid"]], {}, "no feature is left"),
        (table()[:0], {}, "no rows"),
        (table(), {"task": "regress"}, "is text"),
    ],
)
def test_bad_tables_get_one_clear_message(frame, options, words):
    with pytest.raises(DataError, match=words):
        load(frame, **{"target": "paid", **options})


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "is empty"),
        ("  \n\n", "is empty"),
        ("a,b\n", "header but no rows"),
        ("a,b\n1,2\n\n3\n", "line 4: 1 fields where the header has 2"),
        ("a,b\n1,2\n3,4,5\n", "line 3: 3 fields where the header has 2"),
        ("a,a\n1,2\n", "'a' occurs more than once"),
        ("a,b\n1,0\n\n,1\n3,1\n", "'a' has 1 missing values .* line 4"),
        ("a,b\n1,0\nNaN,1\n3,1\n", "'a' has 1 missing values .* line 3"),
        ("a,b\n1,0\n-inf,1\n3,1\n", "'a' has 1 infinite values, the first in line 3"),
        ("a,b\0\n", "zero bytes"),
    ],
)
def test_bad_files_get_one_clear_message(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        load(written(tmp_path, text), target="b")


def test_bad_sources(tmp_path):
    with pytest.raises(DataError, match="does not exist; did you mean the built-in 'checkerboard'"):
        load("chekerboard")
    with pytest.raises(DataError, match="folder"):
        load(tmp_path, target="y")
    (tmp_path / "b.csv").write_bytes(b"a,b\n\xff\xfe,1\n")
    with pytest.raises(DataError, match="not UTF-8"):
        load(tmp_path / "b.csv", target="b")
    with pytest.raises(ArgumentError, match=r"column to predict is not named.*customer, income"):
        load(table())
    with pytest.raises(ArgumentError, match="no such option"):
        load("checkerboard", size=3)
    with pytest.raises(ArgumentError, match=r"missing takes refuse.*got 'zero'"):
        load("xor", missing="zero")
    with pytest.raises(DataError, match="same number of rows"):
        load((np.zeros((3, 2)), np.zeros(4)))
    with pytest.raises(DataError, match="real numbers"):
        load((np.array([["a"], ["b"]]), np.array([0, 1])))
    with pytest.raises(DataError, match="one row only"):
        load((RNG.normal(size=(5, 2)), np.array([0, 0, 0, 0, 1]))).split(0.5)
    assert load(table(code=np.zeros(N)), "paid", constant="drop").record["dropped"]["code"] == "constant"


def test_a_numeric_target_is_scaled_for_training_and_given_back(tmp_path):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(80, 2))
    price = 2.5e5 + 7e4 * x[:, 0] + 1e3 * rng.normal(size=80)
    parts = load((x, price)).split(0.25, scale="standardise", target_scale="standardise")
    train, test = parts
    np.testing.assert_allclose([train.y.mean(), train.y.std()], [0, 1], atol=1e-12)
    np.testing.assert_allclose(train.targets(), price[parts.train_rows])
    np.testing.assert_allclose(test.targets(), price[parts.test_rows])
    assert "was scaled for training" in train.notes[-1]
    whole = load((x, price))
    back = Preparation.of_model(Preparation.of_split(whole, parts).facts())
    np.testing.assert_allclose(back.of_dataset(whole).y[parts.train_rows], train.y)
    assert any("scaled as in training" in sentence for sentence in back.describe())
    # Classes stay as they are, and so does a target nobody asks to scale.
    assert load((x, x[:, 0] > 0)).split(0.25, target_scale="standardise").train.target_scaling is None
    assert whole.split(0.25).train.target_scaling is None
    with pytest.raises(ArgumentError, match="target_scale 'log' is unknown"):
        whole.split(0.25, target_scale="log")


def test_rows_that_repeat_keep_their_parts():
    """A row that equals a training row is one only where as many were trained on."""
    x = np.array([[1.0], [2.0], [1.0], [3.0], [1.0], [np.nan], [2.0]])
    seen = Seen.of(x, np.array([0, 3, 5]), np.array([1, 2]))
    assert list(seen.roles(x)) == [TRAINING, TEST, TEST, TRAINING, NEW, TRAINING, NEW]
    # Another table: found by value, as often as they were seen.
    assert list(seen.roles(x[::-1])) == [TEST, TRAINING, TEST, TRAINING, TRAINING, NEW, NEW]
    assert list(seen.roles(np.array([[4.0], [3.0]]))) == [NEW, TRAINING]


# -- groups --------------------------------------------------------------------------------------------------------


def grouped_table(n=240, groups=24, seed=0):
    rng = np.random.default_rng(seed)
    patient = rng.integers(0, groups, n)
    frame = pd.DataFrame(rng.normal(size=(n, 2)), columns=["a", "b"])
    return frame.assign(
        patient=[f"P{k}" for k in patient], y=np.where(frame.a + rng.normal(size=n) > 0, "ill", "well")
    )


@pytest.mark.parametrize("seed", range(3))
def test_rows_of_one_group_stay_together(seed):
    frame = grouped_table()
    data = load(frame, "y", group="patient")
    assert data.features == ("a", "b") and data.group == "patient"
    train, test = data.split(0.3, seed)
    assert not set(train.groups) & set(test.groups) and train.n + test.n == len(frame)
    assert abs(test.n / len(frame) - 0.3) < 0.05
    assert abs(np.mean(test.y) - np.mean(data.y)) < 0.1
    np.testing.assert_array_equal(test.groups, frame.patient.to_numpy()[test.numbers()])
    assert any("rows of one patient stay together" in note for note in train.notes)
    assert data.split(0.0).test is None
    np.testing.assert_array_equal(test.x, data.split(0.3, seed).test.x)


def test_groups_that_cannot_be_split_are_named():
    frame = grouped_table()
    with pytest.raises(DataError, match="one group, 'A'"):
        load(frame.assign(patient="A"), "y", group="patient").split()
    with pytest.raises(DataError, match="has none of class 'ill'"):
        load(frame.assign(patient=frame.y), "y", group="patient").split()
    with pytest.raises(DataError, match="3 rows have none, the first row 5"):
        load(frame.assign(patient=frame.patient.where(~frame.index.isin([5, 6, 9]))), "y", group="patient")
    with pytest.raises(DataError, match="did you mean 'patient'"):
        load(frame, "y", group="patients")
    with pytest.raises(ArgumentError, match="name it once"):
        load(frame, "y", group="y")
    with pytest.raises(ArgumentError, match="built in"):
        load("xor", group="patient")
