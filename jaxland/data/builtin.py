"""Built-in sets: checkerboard and XOR, made here; three of scikit-learn's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxland.data.dataset import Dataset
from jaxland.errors import ArgumentError, DependencyError


def checkerboard(k: int = 4, n: int = 1000, noise: float = 0.0, seed: int = 0) -> Dataset:
    """Points uniform in [-1, 1]^2, class by the colour of the square of a k x k board they lie in.

    Args:
        k: squares per side, at least 2.
        n: points.
        noise: standard deviation of a Gaussian displacement after colouring, in units of a square.
        seed: of points and noise.

    >>> checkerboard(3, 100).describe()
    'checkerboard 3x3: 100 rows, 2 features, target colour with 2 classes (white: 56, black: 44)'
    """
    if k < 2 or n < 2 or noise < 0:
        raise ArgumentError(f"checkerboard needs k >= 2, n >= 2 and noise >= 0, got k={k}, n={n}, noise={noise}")
    rng = np.random.default_rng([seed, 1])
    x = rng.uniform(-1, 1, size=(n, 2))
    y = np.floor((x + 1) * (k / 2)).astype(int).sum(1) % 2
    x = x + noise * (2 / k) * rng.normal(size=(n, 2))
    record = {"source": "checkerboard", "k": k, "n": n, "noise": noise, "seed": seed}
    return _built_in(
        x,
        y,
        features=("x1", "x2"),
        classes=("white", "black"),
        name=f"checkerboard {k}x{k}",
        target="colour",
        record=record,
    )


def xor(n: int = 4, noise: float = 0.0, seed: int = 0) -> Dataset:
    """The four corners of the unit square, class x1 xor x2; n points repeat them, with Gaussian noise if wanted."""
    if n < 4 or n % 4 or noise < 0:
        raise ArgumentError(f"xor needs n a multiple of 4 and noise >= 0, got n={n}, noise={noise}")
    corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    x = np.tile(corners, (n // 4, 1))
    y = (x[:, 0] != x[:, 1]).astype(int)
    x = x + noise * np.random.default_rng([seed, 2]).normal(size=x.shape) if noise else x
    record = {"source": "xor", "n": n, "noise": noise, "seed": seed}
    return _built_in(x, y, features=("x1", "x2"), classes=("0", "1"), name="xor", target="x1 xor x2", record=record)


def breast_cancer() -> Dataset:
    """Wisconsin breast cancer: 569 rows, 30 features, malignant / benign (scikit-learn's copy)."""
    return _from_sklearn("load_breast_cancer", "breast_cancer", "diagnosis")


def wine() -> Dataset:
    """Wine recognition: 178 rows, 13 features, 3 cultivars (scikit-learn's copy)."""
    return _from_sklearn("load_wine", "wine", "cultivar")


def digits() -> Dataset:
    """Handwritten digits 8 x 8: 1,797 rows, 10 classes; the pixels that are always blank are left out."""
    return _from_sklearn("load_digits", "digits", "digit")


BUILT_IN: dict[str, Callable[..., Dataset]] = {
    "checkerboard": checkerboard,
    "xor": xor,
    "breast_cancer": breast_cancer,
    "wine": wine,
    "digits": digits,
}


def _built_in(
    x: np.ndarray,
    y: np.ndarray,
    *,
    features: Sequence[str],
    classes: Sequence[str],
    name: str,
    target: str,
    record: dict[str, Any],
    notes: tuple[str, ...] = (),
) -> Dataset:
    names = tuple(str(f) for f in features)
    return Dataset(
        x=np.asarray(x, np.float64),
        y=y.astype(np.int64),
        features=names,
        sources=names,
        classes=tuple(map(str, classes)),
        name=name,
        target=target,
        notes=notes,
        record=record,
    )


def _from_sklearn(loader: str, name: str, target: str) -> Dataset:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise DependencyError(f"{name} comes with scikit-learn: pip install 'jaxland[sklearn]'") from error
    bunch = getattr(datasets, loader)()
    x, features = np.asarray(bunch.data, np.float64), np.asarray(bunch.feature_names, object)
    varies = np.ptp(x, axis=0) > 0
    blank = [str(f) for f in features[~varies]]
    notes = (f"Features with one value only were left out: {', '.join(blank)}.",) if blank else ()
    record = {"source": name, "dropped": dict.fromkeys(blank, "constant")}
    return _built_in(
        x[:, varies],
        bunch.target,
        features=tuple(features[varies]),
        classes=tuple(map(str, bunch.target_names)),
        name=name,
        target=target,
        record=record,
        notes=notes,
    )
