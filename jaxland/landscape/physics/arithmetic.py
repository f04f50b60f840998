"""The arithmetic of positive numbers that graph transformation needs: as they are, or as their logarithms."""

from __future__ import annotations

import math
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

# Products of probabilities below this have lost digits in float64.
TINY = 1e-280

Row = dict[int, float]
Numbers = np.ndarray | float


@runtime_checkable
class Arithmetic(Protocol):
    """Sums, products and quotients of positive numbers in some form; zero is ``blank``."""

    one: ClassVar[float]

    @staticmethod
    def of(x: np.ndarray) -> np.ndarray:
        """Numbers from their logarithms."""

    @staticmethod
    def log(x: np.ndarray) -> np.ndarray:
        """Logarithms of numbers."""

    @staticmethod
    def blank(n: int, columns: int) -> np.ndarray:
        """Zeros [n], or [n, columns] where columns are not 0."""

    @staticmethod
    def total(values: list[float], /) -> float:
        """Sum of a few numbers, correctly rounded."""

    @staticmethod
    def over(a: float, b: float) -> float:
        """a / b."""

    @staticmethod
    def product(a: float, b: float) -> float:
        """a b."""

    @staticmethod
    def plus(a: float, b: float) -> float:
        """a + b."""

    @staticmethod
    def spread(target: Row, share: float, items: list[tuple[int, float]], skip: int) -> None:
        """Add ``share`` times each item to a row, in place; the item of node ``skip`` is left out."""

    @staticmethod
    def sum(x: np.ndarray) -> float:
        """Sum of an array."""

    @staticmethod
    def divided(a: Numbers, b: Numbers) -> np.ndarray:
        """a / b."""

    @staticmethod
    def times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """a b."""

    @staticmethod
    def add(a: Numbers, b: Numbers) -> np.ndarray:
        """a + b."""

    @staticmethod
    def outer_add(block: np.ndarray, share: np.ndarray, u: np.ndarray) -> None:
        """Add the outer product of share [i] and u [j] to a block [i, j], in place."""

    @staticmethod
    def scaled_add(vector: np.ndarray, share: np.ndarray, value: float) -> None:
        """Add ``share * value`` to a vector, in place."""

    @staticmethod
    def block_add(block: np.ndarray, shares: np.ndarray, panel: np.ndarray) -> None:
        """Add the matrix product of shares [k, i] and panel [k, j] to a block [i, j], in place."""


class Plain(Arithmetic):
    """Numbers as they are."""

    one = 1.0
    total = staticmethod(math.fsum)

    @staticmethod
    def of(x: np.ndarray) -> np.ndarray:
        return np.exp(x)

    @staticmethod
    def sum(x: np.ndarray) -> float:
        return np.sum(x)

    @staticmethod
    def divided(a: Numbers, b: Numbers) -> np.ndarray:
        return np.divide(a, b)

    @staticmethod
    def times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.multiply(a, b)

    @staticmethod
    def add(a: Numbers, b: Numbers) -> np.ndarray:
        return np.add(a, b)

    @staticmethod
    def log(x: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(x)

    @staticmethod
    def blank(n: int, columns: int) -> np.ndarray:
        return np.zeros((n, columns) if columns else n)

    @staticmethod
    def over(a: float, b: float) -> float:
        return a / b

    @staticmethod
    def product(a: float, b: float) -> float:
        return a * b

    @staticmethod
    def plus(a: float, b: float) -> float:
        return a + b

    @staticmethod
    def spread(target: Row, share: float, items: list[tuple[int, float]], skip: int) -> None:
        for b, c in items:
            if b != skip:
                target[b] = target.get(b, 0.0) + share * c

    @staticmethod
    def outer_add(block: np.ndarray, share: np.ndarray, u: np.ndarray) -> None:
        block += share[:, None] * u

    @staticmethod
    def scaled_add(vector: np.ndarray, share: np.ndarray, value: float) -> None:
        vector += share * value

    @staticmethod
    def block_add(block: np.ndarray, shares: np.ndarray, panel: np.ndarray) -> None:
        block += shares.T @ panel


class Logarithms(Arithmetic):
    """Numbers as their logarithms, for ranges that float64 does not hold."""

    one = 0.0

    @staticmethod
    def times(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.add(a, b)

    @staticmethod
    def add(a: Numbers, b: Numbers) -> np.ndarray:
        return np.logaddexp(a, b)

    @staticmethod
    def of(x: np.ndarray) -> np.ndarray:
        return np.asarray(x)

    @staticmethod
    def log(x: np.ndarray) -> np.ndarray:
        return x

    @staticmethod
    def blank(n: int, columns: int) -> np.ndarray:
        return np.full((n, columns) if columns else n, -np.inf)

    @staticmethod
    def total(values: list[float], /) -> float:
        top = max(values)
        return top if top == -math.inf else top + math.log(math.fsum([math.exp(v - top) for v in values]))

    @staticmethod
    def over(a: float, b: float) -> float:
        return a - b

    @staticmethod
    def product(a: float, b: float) -> float:
        return a + b

    @staticmethod
    def plus(a: float, b: float) -> float:
        low, high = (a, b) if a < b else (b, a)
        return high if low == -math.inf else high + math.log1p(math.exp(low - high))

    @staticmethod
    def spread(target: Row, share: float, items: list[tuple[int, float]], skip: int) -> None:
        log1p, exp = math.log1p, math.exp
        for b, c in items:
            if b != skip:
                new = share + c
                if b in target:
                    old = target[b]
                    target[b] = old + log1p(exp(new - old)) if new < old else new + log1p(exp(old - new))
                else:
                    target[b] = new

    @staticmethod
    def sum(x: np.ndarray) -> float:
        top = x.max()
        return top if top == -np.inf else top + np.log(np.exp(x - top).sum())

    @staticmethod
    def divided(a: Numbers, b: Numbers) -> np.ndarray:
        return np.subtract(a, b)

    @staticmethod
    def outer_add(block: np.ndarray, share: np.ndarray, u: np.ndarray) -> None:
        np.logaddexp(block, share[:, None] + u, out=block)

    @staticmethod
    def scaled_add(vector: np.ndarray, share: np.ndarray, value: float) -> None:
        np.logaddexp(vector, share + value, out=vector)

    @staticmethod
    def block_add(block: np.ndarray, shares: np.ndarray, panel: np.ndarray) -> None:
        """Matrix product through float64, each column scaled by its largest entry; what underflows is done again."""
        a, b = shares.max(0), panel.max(0)
        a, b = np.where(np.isfinite(a), a, 0.0), np.where(np.isfinite(b), b, 0.0)
        product = np.exp(shares - a).T @ np.exp(panel - b)
        lost = (product < TINY) & (np.isfinite(shares).astype(np.float32).T @ np.isfinite(panel) > 0)
        with np.errstate(divide="ignore"):
            np.log(product, out=product)
        product += a[:, None]
        product += b
        i, j = np.nonzero(lost)
        for k in range(0, len(i), 1 << 16):
            part = slice(k, k + (1 << 16))
            terms = shares[:, i[part]] + panel[:, j[part]]
            top = terms.max(0)
            product[i[part], j[part]] = top + np.log(np.exp(terms - top).sum(0))
        np.logaddexp(block, product, out=block)
