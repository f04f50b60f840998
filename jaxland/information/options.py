"""How information is estimated: the options of every estimator, and those of ``matrix`` and ``jaxland mi``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from jaxland.core.mixture import START_KINDS
from jaxland.errors import ArgumentError
from jaxland.options import check_fields, option, spoken

ORDERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
MOST_COMPONENTS = 64
CHOICES = {
    "criterion": ("held_out", "aic", "bic"),
    "maps": ("auto", "raw", "scores"),
    "units": ("nats", "bits"),
    "dtype": ("float64", "float32"),
    "start": START_KINDS,
}
LEAST = {"bootstraps": 0, "starts": 1, "folds": 2, "patience": 1, "null": 0, "points": 1}
LEAST |= {"max_steps": 1, "width": 1, "seed": 0}


@dataclass(frozen=True)
class Options:
    """How mixtures are chosen and fitted; every estimator takes these by keyword.

    ``jaxland.options.help_texts(Options)`` says what each means.

    >>> Options(bootstraps=20, units="bits").unit
    1.4426950408889634
    """

    bootstraps: int = option(50, "Resamplings behind each error; 0 for none.")
    starts: int = option(3, "Initialisations per number of components and fold.")
    folds: int = option(4, "Cross-validation folds, shuffled.")
    orders: tuple[int, ...] = option(ORDERS, "Numbers of components tried, in order, while the criterion gains.")
    patience: int = option(1, "Orders without gain before stopping.")
    criterion: str = option("held_out", "What chooses the order: held_out, aic or bic.")
    maps: str = option("auto", "Coordinates of the fits: raw, scores, or auto (chosen by held-out evidence).")
    null: int = option(4, "Shuffled fits per pair, what no dependence gives; 0 for none.")
    start: str = option("kmeans", f"How fits are initialised: {', '.join(START_KINDS)}.")
    tol: float = option(1e-5, "Gain per sample below which EM, and the choice of an order, has converged.")
    max_steps: int = option(10_000, "EM evaluations a fit may take.")
    points: int = option(2048, "Sobol points per component of an integral (the estimate averages eight).")
    units: str = option("nats", "nats or bits.")
    seed: int = option(0, "Of everything random; the same numbers however pairs are batched.")
    memory: float = option(2.0, "GiB for data and weights on the device.")
    width: int | None = option(None, "Fits side by side; default 1 on a CPU, many on an accelerator.")
    accelerate: bool = option(True, "SQUAREM instead of plain EM.")
    dtype: str = option("float64", "Of the fits: float64 or float32.")

    def __post_init__(self) -> None:
        check_fields(self, least=LEAST, positive=("memory", "tol"), choices=CHOICES)
        try:
            orders = (self.orders,) if isinstance(self.orders, int) else tuple(int(k) for k in self.orders)
        except (TypeError, ValueError):
            orders = ()
        if not orders or min(orders) < 1 or max(orders) > MOST_COMPONENTS:
            raise ArgumentError(
                f"{spoken('orders')} takes numbers of components within 1..{MOST_COMPONENTS}, got {self.orders}"
            )
        object.__setattr__(self, "orders", orders)

    @property
    def unit(self) -> float:
        """One nat in these units."""
        return 1.0 / float(np.log(2.0)) if self.units == "bits" else 1.0


@dataclass(frozen=True)
class MatrixOptions(Options):
    """Those of ``matrix``, ``disentanglement`` and ``jaxland mi``."""

    categorical: str | tuple[str, ...] = option(
        "auto", "Factors that are labels, by name, with commas; auto: text, booleans, few whole numbers."
    )
    ksg: bool = option(True, "Nearest-neighbour estimates beside it.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.categorical, str):
            object.__setattr__(self, "categorical", tuple(str(name) for name in self.categorical))

    @property
    def categorical_names(self) -> tuple[str, ...] | None:
        """Names of the factors to treat as labels; None: found by their values."""
        if self.categorical == "auto":
            return None
        if not isinstance(self.categorical, str):
            return self.categorical
        return tuple(name for name in (part.strip() for part in self.categorical.split(",")) if name)


class Keywords(TypedDict, total=False):
    """``Options`` as keyword arguments."""

    bootstraps: int
    starts: int
    folds: int
    orders: int | tuple[int, ...]
    patience: int
    criterion: str
    maps: str
    null: int
    start: str
    tol: float
    max_steps: int
    points: int
    units: str
    seed: int
    memory: float
    width: int | None
    accelerate: bool
    dtype: str


class MatrixKeywords(Keywords, total=False):
    """``MatrixOptions`` as keyword arguments."""

    categorical: str | Iterable[str]
    ksg: bool
