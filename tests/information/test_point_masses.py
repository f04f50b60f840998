"""Point masses in continuous data, one far row, labels that are missing or no classes: known answers."""

import numpy as np
import pandas as pd
import pytest

from jaxland import information
from jaxland.errors import DataError
from jaxland.information.point_masses import masses_of, plug_in

QUICK = dict(bootstraps=8, null=2, points=512, orders=(1, 2, 3, 4))


def codes(column):
    return np.unique(column, return_inverse=True)[1]


def entropy(*p):
    return -sum(q * np.log(q) for q in p)


@pytest.mark.parametrize(
    ("make", "masses"),
    [
        (lambda r: r.normal(size=500), 0),
        (lambda r: np.maximum(r.normal(size=500), 0.3), 1),
        (lambda r: np.clip(r.normal(size=500), -1, 1), 2),
        (lambda r: np.where(r.random(500) < 0.03, -999.0, r.normal(size=500)), 1),
        (lambda r: r.poisson(3.0, size=500), 0),  # a lattice
        (lambda r: np.round(r.normal(size=500), 1), 0),
        (lambda r: np.repeat(r.normal(size=100), 5), 0),  # copies
        (lambda r: r.integers(0, 2, 500), 0),
    ],
)
def test_what_counts_as_a_point_mass(make, masses):
    assert masses_of(codes(make(np.random.default_rng(0)))).max() == masses


def test_plug_in_of_a_table():
    a, b = np.repeat([0, 0, 1, 1], [4, 1, 1, 4]), np.repeat([0, 1, 0, 1], [4, 1, 1, 4])
    assert plug_in(a, b) == pytest.approx(2 * np.log(2) - entropy(0.4, 0.1, 0.1, 0.4))


def test_default_values_in_the_same_rows():
    """Both columns hold a default in the same rows: I = H(p) + p I of the rest."""
    rng, n, p, rho = np.random.default_rng(1), 800, 0.7, 0.8
    on = rng.random(n) < p
    a = rng.normal(size=n)
    b = rho * a + np.sqrt(1 - rho**2) * rng.normal(size=n)
    truth = entropy(p, 1 - p) - p * 0.5 * np.log(1 - rho**2)
    got = information.mutual_information(np.where(on, a, -1.0), np.where(on, b, 99.0), **QUICK)
    assert abs(got.mean - truth) < 4 * got.std and 0.01 < got.std < 0.08
    assert abs(got.ksg - truth) < 0.15 and got.n == n
    assert "of x share their value with many others (1 point mass)" in got.notes[0]


def test_zeros_on_one_side_only_say_when_not_where():
    """y tells whether x is off, and nothing else: I = H(A) - H(A|Y), here of two well separated halves."""
    rng, n = np.random.default_rng(2), 600
    on = rng.random(n) < 0.5
    x = np.where(on, rng.exponential(size=n), 0.0)
    y = np.where(on, 20.0, -20.0) + rng.normal(size=n)
    got = information.mutual_information(x, y, **QUICK)
    assert abs(got.mean - np.log(2)) < 0.03


def test_zero_inflation_against_labels():
    rng, n = np.random.default_rng(3), 800
    label = rng.random(n) < 0.5
    off = rng.random(n) < np.where(label, 0.9, 0.2)  # the labels decide how often x is off, not its values
    x = np.where(off, 0.0, rng.normal(size=n))
    truth = np.log(2) + entropy(0.55, 0.45) - entropy(0.45, 0.05, 0.1, 0.4)
    got = information.categorical_mutual_information(x, label, **QUICK)
    assert abs(got.mean - truth) < 4 * got.std and got.std < 0.06


def test_zero_inflation_given_a_third():
    """y is x's mask with noise beside it; given z, which is that mask, nothing is left."""
    rng, n = np.random.default_rng(6), 500
    on = rng.random(n) < 0.5
    x = np.where(on, rng.normal(size=n), 0.0)
    z = np.where(on, 5.0, -5.0) + 0.5 * rng.normal(size=n)
    y = np.where(on, 3.0, -3.0) + 0.5 * rng.normal(size=n)
    got = information.conditional_mutual_information(x, y, z, **QUICK)
    assert abs(got.mean) < 0.05 and "point masses" in got.notes[0]


def test_one_far_row_does_not_decide():
    rng, n = np.random.default_rng(4), 600
    x = rng.normal(size=n)
    y = 0.6 * x + 0.8 * rng.normal(size=n)
    x[3] = y[3] = 1e5
    got = information.mutual_information(x, y, **QUICK)
    assert abs(got.mean - 0.2231 - entropy(1 / n, 1 - 1 / n)) < 0.1 and got.std < 0.1
    assert all(value < 2 for value in got.evidence.values())


@pytest.mark.parametrize("dtype", ["string", "category", object])
def test_missing_labels_are_no_class(dtype):
    labels = pd.Series(np.repeat(["a", "b"], 50)).astype(dtype)
    labels[[7, 8]] = pd.NA if dtype == "string" else None
    with pytest.raises(DataError, match="2 missing labels, the first in row 7"):
        information.categorical_mutual_information(np.arange(100.0), labels)


def test_one_odd_column_does_not_end_the_table():
    rng, n = np.random.default_rng(5), 200
    g = rng.normal(size=n)
    visits = rng.poisson(1.5, size=n)
    visits[0] = 7  # one rare count
    factors = pd.DataFrame({"visits": visits, "day": pd.date_range("2024-01-01", periods=n).astype(str)})
    found = information.matrix(pd.DataFrame({"g": g}), factors, bootstraps=0, null=0, orders=(1,), ksg=False)
    assert found.columns == ("visits",) and found.categorical == (False,)
    assert "day has 200 different values in 200 rows: too many to be classes" in found.left_out["day"]
    with pytest.raises(DataError, match="too many to be classes"):
        information.matrix(pd.DataFrame({"g": g}), factors[["day"]], bootstraps=0, null=0, orders=(1,))
