"""Which extreme modes of a Hessian are looked for, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import jax.numpy as jnp
import numpy as np

from jaxland.errors import ArgumentError
from jaxland.options import option


@dataclass(frozen=True)
class ModesOptions:
    """Which modes are looked for and how; ``jaxland.options.help_texts(ModesOptions)`` says what each field means.

    Raises:
        ArgumentError: counts or storage make no sense.
    """

    lowest: int = option(5, "Modes wanted at the lower end.")
    highest: int = option(5, "Modes wanted at the upper end.")
    basis: int = option(64, "Vectors stored at most; the run restarts within them.")
    storage: str | None = option(
        None,
        "Format of the basis: bfloat16 halves the memory of a float32 one (see corrections). Default: that of the "
        "parameters.",
    )
    tolerance: float | None = option(
        None, "On residuals, relative to the largest |eigenvalue|; default 1e-3 in float32, 1e-8 in float64."
    )
    max_products: int = option(500, "Lanczos products at most.")
    corrections: int = option(
        2,
        "Rounds of Rayleigh-Ritz on vectors and residuals in full precision, taken while residuals exceed the "
        "tolerance; each costs two products a mode and three vectors a mode of memory.",
    )
    seed: int = option(0, "Of the start vector.")

    def __post_init__(self) -> None:
        if self.lowest < 0 or self.highest < 0 or self.lowest + self.highest < 1:
            raise ArgumentError(
                f"lowest and highest must not be negative and not both 0, got {self.lowest} and {self.highest}"
            )
        wrong = f"storage {self.storage!r} is not a floating-point format; try 'bfloat16'"
        try:
            if self.storage is not None and not jnp.issubdtype(jnp.dtype(self.storage), jnp.floating):
                raise ArgumentError(wrong)
        except TypeError as error:
            raise ArgumentError(wrong) from error

    def wanted(self, size: int, dtype: np.dtype) -> Wanted:
        """What is looked for at a point of so many parameters of a dtype.

        Raises:
            ArgumentError: the basis holds too few vectors.
        """
        lowest, highest = min(self.lowest, size), min(self.highest, size)
        if self.basis < lowest + highest + 6 and self.basis < size:
            raise ArgumentError(f"basis must hold at least lowest + highest + 6 = {lowest + highest + 6} vectors")
        default = 1e-8 if dtype == np.float64 else 1e-3
        return Wanted(
            lowest=lowest,
            highest=highest,
            capacity=max(min(self.basis, size), 1),
            storage=np.dtype(jnp.dtype(self.storage or dtype)),
            tolerance=default if self.tolerance is None else self.tolerance,
            max_products=self.max_products,
        )


class ModesKeywords(TypedDict, total=False):
    """The fields of ``ModesOptions`` as keywords."""

    lowest: int
    highest: int
    basis: int
    storage: str | None
    tolerance: float | None
    max_products: int
    corrections: int
    seed: int


class Wanted(NamedTuple):
    """What a run looks for, defaults filled in.

    Attributes:
        lowest, highest: modes at each end, not more than there are.
        capacity: vectors the basis stores.
        storage: their format.
        tolerance: on residuals, relative to the largest |eigenvalue|.
        max_products: Lanczos products at most.
    """

    lowest: int
    highest: int
    capacity: int
    storage: np.dtype
    tolerance: float
    max_products: int
