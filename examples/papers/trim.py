"""Singh, Ha, Lanusse, Boehm, Liu & Yu 2020 (TRIM): frequencies of signals, multipoles of maps, parts of digits."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from examples import trim_digits_nmf, trim_frequency, trim_random_fields
from examples.papers.page import Page
from jaxland.report import figures

SEEDS = 10
TWO_ANNULI = ((5, 6, 1.0), (14, 16, 0.5))
NAMES = {
    "contextual_decomposition": "contextual decomposition (CD)",
    "contextual_decomposition (acd)": "CD, mode acd (the published code's rules)",
    "deeplift": "DeepLIFT",
    "expected_gradients": "SHAP (expected gradients)",
    "integrated_gradients": "integrated gradients (IG)",
    "input_times_gradient": "input times gradient",
    "shapley_sampling": "Shapley values, sampled",
}


def chapter(out: Path, small: bool, seed: int) -> Page:
    """The page."""
    page = Page(
        "trim",
        out,
        "TRIM: attribution to frequencies, multipoles and parts",
        "Singh, Ha, Lanusse, Boehm, Liu, Yu, *Transformation Importance with Applications to Cosmology*, ICLR 2020 "
        "workshop, arXiv 2003.01926.",
        small,
        seed,
    )
    _frequencies(page, small, seed)
    _multipoles(page, small, seed)
    _digits(page, small, seed)
    return page


def _frequencies(page: Page, small: bool, seed: int) -> None:
    page.section("The simulation: one frequency matters")
    size, seeds = ({"n": 2000, "steps": 100}, 1) if small else ({}, SEEDS)
    frames = {}
    for uniform in (False, True):
        runs = [trim_frequency.measure(seed + k, uniform, **size) for k in range(seeds)]
        frames[uniform] = pd.concat(runs)
        jax.clear_caches()
    noise, accuracy = frames[False], frames[False].groupby("seed")["accuracy"].first()
    page.text(
        "Signals of 100 samples; the label says whether the amplitude at frequency 12 lies above its median. A ReLU "
        f"network with 100 hidden units learns it (held-out accuracy {accuracy.mean():.3f}, {len(accuracy)} "
        f"networks, seeds {seed} to {seed + seeds - 1}), and each method attributes its logit to the 51 frequencies, "
        "zero signal as baseline. **Error, the scoring fixed in advance: the share of 500 test inputs whose largest "
        "signed attribution is not at frequency 12.**"
    )
    table = trim_frequency.table(noise)
    spread = noise.groupby("method", sort=False)["signed"].std(ddof=1) / np.sqrt(seeds)
    page.compare(
        [
            (f"error of {NAMES.get(name, name)}, %", row["published"], f"{row['signed']:.2f} ± {spread[name]:.2f}"
             if seeds > 1 else f"{row['signed']:.2f}", _why(name, row))
            for name, row in table.iterrows()
        ]
        + [("accuracy of the network", "about .955", float(accuracy.mean()), "another training")],
        "White noise (± standard error over networks).",
    )  # fmt: skip
    page.table(
        _named(table),
        "White noise, every scoring, errors in % (means over networks). *Towards prediction* multiplies by the sign "
        "of the logit: against the zero signal that is no fair question (any amplitude at 12 raises the logit). "
        "*|X_12| where wrong*: mean amplitude of the inputs counted as errors (signed) over the median; *network "
        "agrees*: in how many of them taking the other frequency out lowers the logit more than taking 12 out.",
    )
    page.table(
        _named(trim_frequency.table(frames[True])),
        "The same with spectra drawn uniformly, where next to nothing at frequency 12 is common "
        f"(accuracy {frames[True]['accuracy'].mean():.3f}):",
    )
    page.figure(
        _error_figure(frames),
        "frequency",
        "Errors of every network (dots) and their means (bars), signed scoring, published values as black lines.",
    )


def _why(name: str, row: pd.Series) -> str:
    if name == "expected_gradients":
        return (
            "the baseline is a typical signal: half of the scores at 12 are rightly negative. Towards the "
            f"prediction: {row['towards prediction']:.2f}"
        )
    if name == "contextual_decomposition" and row["signed"] > 1:
        return (
            f"in inputs with little at 12 (|X_12| {row['|X_12| where wrong']:.2f} of its median; where the logit is "
            f"above 0 the error is {row['signed, logit > 0']:.2f} %); in {row['network agrees %']:.0f} % of them the "
            "network says so itself: taking the other frequency out lowers the logit more. That leaves "
            f"{row['signed, network disagrees']:.2f} %"
        )
    if pd.isna(row["published"]):
        return "not in the paper"
    return "our network, optimiser and noise level; the paper does not give them all"


def _named(table: pd.DataFrame) -> pd.DataFrame:
    named = table.rename(index=lambda name: NAMES.get(name, name)).reset_index()
    first = "12 first by mean |a|"
    return named.assign(**{first: named[first].map({True: "yes", False: "no"})})


def _error_figure(frames: dict[bool, pd.DataFrame]) -> Figure:
    figure, axes = figures.panels(10, 3.8, ncols=2)
    for axis, (uniform, frame) in zip(axes, frames.items()):
        names = list(frame["method"].unique())
        for i, name in enumerate(names):
            values = frame.loc[frame["method"] == name, "signed"]
            axis.barh(i, values.mean(), color=figures.PALETTE[1], alpha=0.35)
            axis.plot(values, np.full(len(values), i), "o", markersize=3, color=figures.PALETTE[1])
            published = trim_frequency.PUBLISHED.get(name.split()[0])
            if published is not None and not uniform:
                axis.plot([published] * 2, [i - 0.4, i + 0.4], "k-", linewidth=2)
        axis.set_yticks(range(len(names)), [name.replace("_", " ") for name in names] if not uniform else [])
        axis.invert_yaxis()
        axis.set(xlabel="inputs with another frequency first, %", xscale="symlog", xlim=(0, 100))
        axis.set_title("uniform spectra" if uniform else "white noise", loc="left")
    return figure


def _multipoles(page: Page, small: bool, seed: int) -> None:
    page.section("Maps: known multipoles beside the power spectrum")
    page.text(
        "The paper reads a network that infers cosmology from 256 x 256 maps of simulations. A stand-in that needs "
        "no download and has a known answer: Gaussian random fields, P(k) ~ k^-2, whose power follows the target a "
        "in known rings only, P(k) exp(a w(k)). The best estimate gives ring k a share N(k) w(k), N(k) its number of "
        "coefficients. Whether the network really reads a ring is asked of the network: R² with that ring taken from "
        "other maps."
    )
    steps, seeds = 20 if small else 1200, range(seed, seed + (1 if small else 3))
    rows = []
    for name, annuli in (("one annulus", trim_random_fields.ONE_ANNULUS), ("two annuli", TWO_ANNULI)):
        every = [trim_random_fields.study(steps, annuli, k) for k in seeds]
        found = every[0]
        rows.append((f"{name}: R² on 256 new maps", 0.952, _range([f.r2 for f in every]),
                     "another task; theirs is cosmology from maps"))  # fmt: skip
        rows.append((f"{name}: R² of a linear fit to the logarithms of the rings' power", None,
                     _range([f.best for f in every]), "what a statistician would do"))  # fmt: skip
        for ring, (low, high, _) in enumerate(annuli):
            left = _range([f.exchanged[ring] for f in every])
            rows.append((f"{name}: R² with k = {low} to {high} taken from other maps", None, left,
                         "what the network reads there"))  # fmt: skip
        rows.append((f"{name}: share of the maps' power in the written rings", None,
                     _range([f.power[f.written].sum() / f.power.sum() for f in every], ".0%"), ""))  # fmt: skip
        for method in found.curves:
            for low, high, _ in annuli:
                inside = [f.curves[method][low : high + 1].sum() / f.curves[method].sum() for f in every]
                what = f"{name}: share of the attribution in k = {low} to {high}, {method.replace('_', ' ')}"
                rows.append((what, None, _range(inside, ".0%"), ""))
            like = [float(np.corrcoef(f.curves[method], f.ideal)[0, 1]) for f in every]
            what = f"{name}: correlation of the curve with the best estimate's, {method.replace('_', ' ')}"
            rows.append((what, None, _range(like), ""))
        page.figure(
            trim_random_fields.picture(found),
            f"maps_{name.split()[0]}",
            f"{name.capitalize()}: {', '.join(f'k = {low} to {high} with weight {w:g}' for low, high, w in annuli)}.",
        )
    page.compare(
        rows,
        f"Attribution to rings of wave number: the network of seed {seed}, drawn above, and in brackets the range "
        f"over {len(seeds)} networks. A ring whose exchange leaves R² as it was is not read by the network, and no "
        "attribution should find it, whatever the best estimate would do.",
    )


def _range(values: list[float], form: str = ".2f") -> str:
    """The first value and the range of all."""
    ends = f" ({min(values):{form}} to {max(values):{form}})" if len(values) > 1 else ""
    return f"{values[0]:{form}}{ends}"


def _digits(page: Page, small: bool, seed: int) -> None:
    page.section("Digits in parts, knocked out")
    frame, kept, parts = trim_digits_nmf.knocked(small, seed)
    removed = 2
    order = frame[removed].sort_values()
    error = np.sqrt(order.iloc[0] * (1 - order.iloc[0]) / (40 if small else 497))
    page.text(
        "scikit-learn's 8 x 8 digits instead of MNIST (no download), 24 non-negative parts that keep "
        f"{kept:.1%} of the images' power, residual held fixed. Each method attributes the logit of the true class "
        "to the parts; the parts with the largest scores are set to zero and the network is asked again. The lower "
        "the accuracy, the better the method found what matters."
    )
    shown = frame.rename(columns=lambda count: f"{count} removed").reset_index(names="method")
    page.compare(
        [
            ("accuracy of the network", None, float(frame.iloc[0, 0]), "the paper shows MNIST as curves, no numbers"),
            (f"lowest accuracy after {removed} parts", None, f"{order.iloc[0]:.3f} ({order.index[0]})", ""),
            (f"accuracy after {removed} random parts", None, float(frame.loc["random parts", removed]), ""),
            (f"accuracy after {removed} parts by contextual decomposition", "finds parts that matter",
             f"{order['contextual_decomposition']:.3f} ± {error:.3f}",
             f"rank {list(order.index).index('contextual_decomposition') + 1} of {len(frame) - 1}"),
        ],
    )  # fmt: skip
    page.table(shown, "Accuracy after so many parts with the largest scores are set to zero:")
    page.figure(_digit_figure(frame, parts), "digits", "Knock-out accuracy by method, and the 24 parts.")


def _digit_figure(frame: pd.DataFrame, parts: np.ndarray) -> Figure:
    figure, (left, right) = figures.panels(11, 4, ncols=2, widths=(1.1, 1))
    for (name, row), colour in zip(frame.iterrows(), (*figures.PALETTE, "black")):
        style = "--" if name == "random parts" else "-"
        left.plot(
            frame.columns, row, style, marker="o", markersize=3, color=colour, label=str(name).replace("_", " ")
        )
    left.set(xlabel="parts set to zero", ylabel="accuracy")
    left.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    right.imshow(parts.reshape(4, 6, 8, 8).transpose(0, 2, 1, 3).reshape(32, 48), cmap="Greys")
    right.set_xticks(np.arange(-0.5, 48, 8), [])
    right.set_yticks(np.arange(-0.5, 32, 8), [])
    right.grid(color="0.8", linewidth=0.5)
    return figure
