"""What ``jaxland trim`` asks of a model, with a help text each; ``keywords`` are those of ``attribute``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict, cast

from jaxland.errors import ArgumentError
from jaxland.options import option

if TYPE_CHECKING:
    import numpy as np

    from jaxland.trim.transforms import Transform


class AttributeKeywords(TypedDict, total=False):
    """What ``attribute`` takes."""

    transform: Transform
    method: str
    target: int | None
    residual: Literal["fixed", "player"] | None
    chunk: int | None
    baseline: str
    background: np.ndarray


@dataclass(frozen=True)
class TrimOptions:
    """What is attributed, to the coefficients of which transform, and how."""

    transform: str = option("rfft", "identity, rfft, dct, pca:<parts> or a wavelet: haar, db2..db8, sym5.")
    method: str = option("ig", "ig, cd, deeplift, ablation, kernel_shap, ... (see docs/trim.md).")
    target: int | None = option(None, "Output to attribute; default the predicted class.")
    bands: int | None = option(None, "Frequency bands; default one per frequency.")
    baseline: str = option("zero", "zero or mean.")
    residual: str = option("fixed", "Of a lossy transform: fixed or player.")
    chunk: int | None = option(None, "Most inputs given to the network at once.")

    def __post_init__(self) -> None:
        if self.baseline not in ("zero", "mean"):
            raise ArgumentError(f"--baseline takes zero or mean, got {self.baseline!r}")

    def made(self, x: np.ndarray) -> Transform:
        """The transform of inputs x [n, ...].

        Raises:
            ArgumentError: no such transform, or bands of one that has none.
        """
        from jaxland import trim

        shape = x.shape[1:]
        kind, _, count = self.transform.partition(":")
        if kind == "rfft":
            return trim.rfft(shape, bands=self.bands)
        if self.bands is not None:
            raise ArgumentError("--bands goes with --transform rfft")
        if kind == "identity":
            return trim.identity(shape)
        if kind == "dct":
            return trim.dct(shape)
        if kind == "pca":
            if count and not count.isdigit():
                raise ArgumentError(f"pca takes a number of parts, such as pca:8, got {self.transform!r}")
            return trim.pca(x, int(count) if count else None)
        if kind == "haar" or kind.startswith(("db", "sym")):
            return trim.dwt(shape, kind)
        raise ArgumentError(
            f"transform {self.transform!r} is unknown; choose identity, rfft, dct, pca:<parts>, haar, db2..db8 or "
            "sym5"
        )

    def keywords(self, x: np.ndarray) -> AttributeKeywords:
        """What ``attribute(model, x, ...)`` takes."""
        from jaxland.trim.methods import find

        transform = self.made(x)
        out: AttributeKeywords = {
            "transform": transform,
            "method": self.method,
            "target": self.target,
            # Any other word is refused by ``attribute``, which knows whether there is a residual.
            "residual": None if transform.is_exact else cast(Literal["fixed", "player"], self.residual),
            "chunk": self.chunk,
        }
        if find(self.method).background:
            out["background"] = x
        if self.baseline == "mean":
            out["baseline"], out["background"] = "mean", x
        return out
