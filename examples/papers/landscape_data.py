"""The data sets of the page on landscapes: six decisions, the credit card's if its file is here."""

from __future__ import annotations

import numpy as np

from examples.papers.page import shared
from jaxland.data import Dataset, load

NAMES = ("checkerboard", "rings", "wine", "breast_cancer", "digits", "credit")
CREDIT = "default_credit_card_uci.csv"


def rings(n: int = 1000, seed: int = 0) -> Dataset:
    """A disc (class 0) inside a ring (class 1) beside five inputs of pure noise: seven inputs, two of them used."""
    rng = np.random.default_rng([seed, 51])
    y = np.arange(n) % 2
    radius = np.where(y == 0, rng.normal(0.0, 0.5, n), rng.normal(1.5, 0.3, n))
    angle = rng.uniform(0, 2 * np.pi, n)
    x = np.column_stack([radius * np.cos(angle), radius * np.sin(angle), rng.normal(size=(n, 5))])
    return load((x, y), name="rings")


def digits() -> Dataset:
    """3 against 8 of scikit-learn's digits, by their ten first principal components."""
    whole = load("digits")
    kept = np.isin(whole.y, (3, 8))
    x, y = whole.x[kept], (whole.y[kept] == 8).astype(int)
    centred = x - x.mean(0)
    return load((centred @ np.linalg.svd(centred, full_matrices=False)[2][:10].T, y), name="digits")


def whole(name: str) -> Dataset | None:
    """A data set by name; None where its file is not here."""
    if name == "credit":
        path = shared(CREDIT)
        return None if path is None else load(path, target="default", drop="ID", rows=4000, seed=0)
    own = {"rings": rings, "digits": digits}
    return own[name]() if name in own else load(name)


def split(name: str, seed: int) -> tuple[Dataset, Dataset] | None:
    """Training and test part, standardised on the training part."""
    data = whole(name)
    if data is None:
        return None
    parts = data.split(0.5 if name == "credit" else 0.3, seed=seed, scale="standardise")
    return parts.train, parts.test
