"""What ``jaxland trim`` asks of a model, with a help text each; ``keywords`` are those of ``attribute``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict, cast

from jaxland.errors import ArgumentError
from jaxland.options import check_fields, option, spoken

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
    groups: np.ndarray
    labels: tuple[str, ...]


@dataclass(frozen=True)
class TrimOptions:
    """What is attributed, to the coefficients of which transform, and how."""

    transform: str | None = option(
        None,
        "columns, identity, rfft, dct, pca:<parts> or a wavelet: haar, db2..db8, sym5; default columns where a model "
        "names them, else rfft.",
    )
    method: str = option("ig", "ig, cd, deeplift, ablation, kernel_shap, ... (see docs/trim.md).")
    target: int | None = option(None, "Output to attribute; default the predicted class.")
    axes: str | None = option(
        None, "Axes of one input that a transform runs along, from 0, such as 0,1; default all but channels."
    )
    bands: int | None = option(None, "Frequency bands; default one per frequency.")
    baseline: str | None = option(None, "zero or mean; default mean for columns, else zero.")
    residual: str = option("fixed", "Of a lossy transform: fixed or player.")
    chunk: int | None = option(None, "Most inputs given to the network at once.")

    def __post_init__(self) -> None:
        choices = {"baseline": ("zero", "mean"), "residual": ("fixed", "player")}
        check_fields(self, least={"target": 0, "bands": 1, "chunk": 1}, choices=choices)

    def made(self, x: np.ndarray, name: str) -> Transform:
        """The transform of that name of inputs x [n, ...].

        Raises:
            ArgumentError: no such transform, or bands of one that has none.
        """
        from jaxland import trim

        shape = x.shape[1:]
        kind, _, count = name.partition(":")
        wavelet = kind == "haar" or kind.startswith(("db", "sym"))
        if self.axes is not None and not (wavelet or kind in ("rfft", "dct")):
            raise ArgumentError(f"{spoken('axes')} goes with rfft, dct and wavelets")
        if kind == "rfft":
            return trim.rfft(shape, axes=self._axes, bands=self.bands)
        if self.bands is not None:
            raise ArgumentError(f"{spoken('bands')} goes with {spoken('transform', 'rfft')}")
        if kind in ("identity", "columns"):
            return trim.identity(shape)
        if kind == "dct":
            return trim.dct(shape, axes=self._axes)
        if kind == "pca":
            if count and not count.isdigit():
                raise ArgumentError(f"pca takes a number of parts, such as pca:8, got {name!r}")
            return trim.pca(x, int(count) if count else None)
        if wavelet:
            return trim.dwt(shape, kind, axes=self._axes)
        raise ArgumentError(
            f"transform {name!r} is unknown; choose columns, identity, rfft, dct, pca:<parts>, haar, db2..db8 or sym5"
        )

    @property
    def _axes(self) -> tuple[int, ...] | None:
        if self.axes is None:
            return None
        words = [word.strip() for word in self.axes.split(",")]
        if not all(word.lstrip("-").isdigit() for word in words):
            raise ArgumentError(f"{spoken('axes')} takes whole numbers, such as 0,1, got {self.axes!r}")
        return tuple(map(int, words))

    def keywords(
        self,
        x: np.ndarray,
        columns: tuple[tuple[str, ...], np.ndarray] | None = None,
        background: np.ndarray | None = None,
        features: tuple[str, ...] | None = None,
    ) -> AttributeKeywords:
        """What ``attribute(model, x, ...)`` takes.

        Args:
            x: inputs [n, ...].
            columns: names of the columns behind the features, and the number of each feature's column [d].
            background: inputs [m, ...] that baselines are drawn from; default x.
            features: names of the features [d].

        Raises:
            ArgumentError: no such transform, or one that does not fit.
        """
        from jaxland.trim.methods import find

        name = self.transform or ("rfft" if columns is None else "columns")
        if name == "columns" and columns is None:
            raise ArgumentError("--transform columns needs columns with names: the model's file does not name any")
        transform = self.made(x, name)
        out: AttributeKeywords = {
            "transform": transform,
            "method": self.method,
            "target": self.target,
            "residual": None if transform.is_exact else cast(Literal["fixed", "player"], self.residual),
            "chunk": self.chunk,
        }
        if name == "columns" and columns is not None:
            out["labels"], out["groups"] = columns
        elif name == "identity" and features is not None and x.shape[1:] == (len(features),):
            out["labels"] = features
        background = x if background is None else background
        if find(self.method).background:
            out["background"] = background
        if self.baseline == "mean" or (self.baseline is None and name == "columns"):
            out["baseline"], out["background"] = "mean", background
        return out
