"""Figures and the page of an attribution in a transformed space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jaxland.report.figures import PALETTE, canvas, panels
from jaxland.report.html import Page
from jaxland.report.words import Headline, listed

if TYPE_CHECKING:
    from jaxland.trim.attribute import Attribution
    from jaxland.trim.evaluate import Curve

MANY = 24


def profile(attribution: Attribution, *, spectrum: np.ndarray | None = None, title: str = "") -> Figure:
    """Mean |score| of every player and the quartiles of the signed score over inputs.

    Args:
        attribution: what to draw.
        spectrum: size of every player's coefficients in the data [P], drawn beside it for comparison.
        title: of the figure.
    """
    labels, scores = attribution.labels, attribution.scores
    rows = 1 if spectrum is None else 2
    figure, axes = panels(8.0, 3.0 * rows, nrows=rows, sharex=True)
    axis = axes[0]
    at = np.arange(len(labels))
    low, mid, high = np.quantile(scores, [0.25, 0.5, 0.75], axis=0)
    if len(labels) <= MANY:
        axis.bar(at, attribution.importance(), color="#c9d6e4", width=0.8, label="mean |score|")
        axis.errorbar(at, mid, [mid - low, high - mid], fmt="o", ms=4, color=PALETTE[1], label="median and quartiles")
    else:
        axis.fill_between(at, low, high, color=PALETTE[1], alpha=0.25, lw=0, label="quartiles")
        axis.plot(at, mid, color=PALETTE[1], lw=1, label="median")
        axis.plot(at, attribution.importance(), color=PALETTE[0], lw=1.5, label="mean |score|")
    axis.axhline(0, color="#888", lw=0.6)
    axis.set_ylabel("attribution\n(units of the output)")
    axis.set_title(title or f"{attribution.method.replace('_', ' ')} on {attribution.transform}", loc="left")
    axis.legend(frameon=False, fontsize=9)
    if spectrum is not None:
        below = axes[1]
        below.plot(at, spectrum, color=PALETTE[2], lw=1.5, marker="o" if len(labels) <= MANY else None, ms=3)
        below.set_ylabel("mean power")
        below.set_title("what is in the data", loc="left")
        values = np.asarray(spectrum)
        if values.min() > 0 and values.max() > 20 * values.min():
            below.set_yscale("log")
        else:
            below.set_ylim(bottom=0)
    last = axes[-1]
    step = max(1, len(labels) // 16)
    turned = len(labels) > 8 or max(map(len, labels)) > 6
    last.set_xticks(
        at[::step], [labels[k] for k in at[::step]], rotation=45 if turned else 0, ha="right" if turned else "center"
    )
    return figure


def heat(attribution: Attribution, *, rows: int = 40) -> Figure:
    """Signed scores of some inputs, one row each; the colour scale is symmetric about zero."""
    shown = attribution.scores[:rows]
    size = float(np.quantile(np.abs(shown), 0.995)) or 1.0
    figure, axis = canvas(8.0, min(1.2 + 0.14 * len(shown), 6.5))
    image = axis.imshow(shown, cmap="RdBu_r", vmin=-size, vmax=size, aspect="auto", interpolation="nearest")
    step = max(1, len(attribution.labels) // 16)
    at = np.arange(0, len(attribution.labels), step)
    axis.set_xticks(at, [attribution.labels[k] for k in at], rotation=45, ha="right")
    axis.set_ylabel("input")
    figure.colorbar(image, ax=axis, label="score (units of the output)", pad=0.01)
    return figure


def curves(deletion: Curve, insertion: Curve) -> Figure:
    """Mean f along deletion and insertion, with quartiles."""
    figure, axis = canvas(6.5, 3.6)
    for curve, colour in ((deletion, PALETTE[0]), (insertion, PALETTE[1])):
        table = curve.to_pandas()
        axis.plot(
            table["fraction"], table["mean"], color=colour, lw=1.8, label=f"{curve.kind} (area {curve.area:.2f})"
        )
        axis.fill_between(table["fraction"], table["q25"], table["q75"], color=colour, alpha=0.15, lw=0)
    axis.set_xlabel("share of players switched, largest score first")
    axis.set_ylabel("attributed output")
    axis.legend(frameon=False)
    return figure


def page(
    attribution: Attribution,
    *,
    title: str = "Attribution in a transformed space",
    spectrum: np.ndarray | None = None,
    deletion: Curve | None = None,
    insertion: Curve | None = None,
    evaluation: pd.DataFrame | None = None,
) -> Page:
    """The report: what was attributed, the profile, inputs, completeness, and the evidence that was measured."""
    n, players = attribution.scores.shape
    out = Page(
        title,
        f"{attribution.method.replace('_', ' ')} on {attribution.transform}: {n:,} inputs, {players} "
        f"{_kind(attribution)}s",
    )
    best = attribution.summary()
    _summary(out, attribution, deletion, insertion)
    for note in attribution.notes:
        out.note(note, warn="miss f(x)" in note)
    out.section("Profile")
    out.figure(profile(attribution, spectrum=spectrum), f"Attribution of every {_kind(attribution)} over inputs.")
    out.table(best.head(15).rename(columns={"player": _kind(attribution)}), f"Most important {_kind(attribution)}s.")
    out.section("Inputs")
    out.figure(
        heat(attribution), "Signed scores of the first inputs: red raises the output, blue lowers it.", kind="png"
    )
    out.section("Completeness")
    gap = pd.DataFrame(
        {
            "quantity": ["f(x)", "f(baseline)", "gap", "|gap| / |f(x) - f(baseline)|"],
            "mean": [v.mean() for v in _completeness(attribution)],
            "largest": [v[np.abs(v).argmax()] for v in _completeness(attribution)],
        }
    )
    out.table(gap, "Gap: f(x) - f(baseline) less the sum of all scores.")
    if attribution.method == "contextual_decomposition":
        out.text("Contextual decomposition splits each input in two, player by player; its gap is their interaction.")
    if deletion is not None and insertion is not None:
        out.section("Evidence")
        out.figure(
            curves(deletion, insertion), f"The attributed output while {_kind(attribution)}s are switched off, or on."
        )
    if evaluation is not None:
        kind = _kind(attribution)
        out.table(
            evaluation,
            f"Share of the inputs predicted right when so many {kind}s are switched off: those of largest score, of "
            "smallest, random ones."
            if {"top", "bottom"} <= set(evaluation.columns)
            else f"Correlation of summed scores with the change of the output, n {kind}s switched off at a time.",
        )
    out.section("Settings")
    options = {"method": attribution.method, "transform": attribution.transform, **attribution.options}
    out.table(pd.DataFrame({"setting": list(options), "value": [str(v) for v in options.values()]}))
    return out


class _Shares(NamedTuple):
    """Who leads: players by mean |score|, their shares [P], and by how much the first is above the second.

    gap, error: difference of the two largest mean |score|, and its standard error over inputs (NaN for one input).
    """

    order: np.ndarray
    share: np.ndarray
    gap: float
    error: float

    @classmethod
    def of(cls, attribution: Attribution) -> _Shares:
        size, (n, players) = np.abs(attribution.scores), attribution.scores.shape
        mean = size.mean(0)
        order = np.argsort(-mean, kind="stable")
        apart = size[:, order[0]] - size[:, order[min(1, players - 1)]]
        error = float(apart.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
        return cls(order, mean / (mean.sum() or 1.0), float(apart.mean()), error)


def _kind(attribution: Attribution) -> str:
    return "column" if attribution.transform == "columns" else "player"


def headline(attribution: Attribution) -> Headline:
    """Which player leads by more than its error, if any."""
    return _headline(attribution, _Shares.of(attribution))


def _headline(attribution: Attribution, shares: _Shares) -> Headline:
    (n, players), (order, share, gap, error) = attribution.scores.shape, shares
    if not share.any():
        return Headline(f"The output does not depend on any {_kind(attribution)}: all attributions are zero.", True)
    first = int(order[0])
    name = attribution.labels[first]
    if players < 2 or (np.isfinite(error) and gap > 2 * error):
        wins = float((np.abs(attribution.scores).argmax(1) == first).mean())
        return Headline(
            f"The model leans most on {name}: {share[first]:.0%} of all attribution, and the largest for {wins:.0%} "
            f"of the {n:,} inputs.",
            False,
        )
    next_ = attribution.labels[order[1]]
    return Headline(
        f"No {_kind(attribution)} leads: {name} ({share[first]:.0%} of all attribution) and {next_} "
        f"({share[order[1]]:.0%}) cannot be told apart over {n:,} inputs.",
        True,
    )


def _summary(out: Page, attribution: Attribution, deletion: Curve | None, insertion: Curve | None) -> None:
    """Which players lead by more than their error, whether the sum is complete, whether the model confirms it."""
    out.section("In short")
    shares = _Shares.of(attribution)
    said = _headline(attribution, shares)
    out.headline(said.sentence, refused=said.refused)
    (n, players), (order, share, gap, error) = attribution.scores.shape, shares
    if not share.any():
        return
    name, next_ = attribution.labels[order[0]], attribution.labels[order[min(1, players - 1)]]
    half = int(np.searchsorted(np.cumsum(share[order]), 0.5)) + 1
    out.cards(
        [
            (f"{n:,}", "inputs"),
            (f"{players:,}", f"{_kind(attribution)}s"),
            (f"{half}", f"{_kind(attribution)}s carry half of the attribution"),
            (attribution.method.replace("_", " "), "method"),
        ]
    )
    out.answers(_answers(attribution, order, share, deletion, insertion, (name, next_, gap, error)))


def _answers(
    attribution: Attribution,
    order: np.ndarray,
    share: np.ndarray,
    deletion: Curve | None,
    insertion: Curve | None,
    lead: tuple[str, str, float, float],
) -> list[tuple[str, str, str, str, bool]]:
    """(question, answer, evidence, section, doubt) for the summary."""
    top = listed([f"{attribution.labels[k]} ({share[k]:.0%})" for k in order[:4] if share[k] >= 0.005])
    name, other, gap, error = lead
    kind = _kind(attribution)
    told = [
        (
            "What drives the output?",
            f"{top}.",
            f"mean |score| over {len(attribution.scores):,} inputs, in units of the attributed output; {name} is "
            f"{gap:.3g} ± {error:.2g} (standard error) above {other}",
            "Profile",
            not gap > 2 * error,
        )
    ]
    worst, middle = float(attribution.relative_gap.max()), float(np.median(attribution.relative_gap))
    whole = attribution.method != "contextual_decomposition"
    if whole:
        told.append(
            (
                "Is anything left over?",
                "No." if worst < 0.01 else f"Up to {worst:.0%} of f(x) - f(baseline).",
                f"|f(x) - f(baseline) - sum of scores|, relative: median {middle:.1e}, largest {worst:.1e}",
                "Completeness",
                worst >= 0.01,
            )
        )
    if deletion is not None and insertion is not None:
        clear = insertion.area > deletion.area
        told.append(
            (
                "Does the model confirm the order?",
                "Yes."
                if clear
                else f"No: switching the leading {kind}s off changes no more than switching the last.",
                f"area under the output as {kind}s are switched off, largest first {deletion.area:.3g}, as they are "
                f"switched on {insertion.area:.3g}; the order is right where the second is larger",
                "Evidence",
                not clear,
            )
        )
    return told


def _completeness(attribution: Attribution) -> list[np.ndarray]:
    return [attribution.f_x, attribution.f_base, attribution.gap, attribution.relative_gap]


def write(directory: str | Path, report: Page, figures: Mapping[str, Figure]) -> list[Path]:
    """report.html and every figure as png."""
    from jaxland.report.figures import save

    directory = Path(directory)
    paths = [report.save(directory / "report.html")]
    for name, figure in figures.items():
        paths += save(figure, directory / name, kinds=("png",))
    return paths
