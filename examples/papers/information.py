"""Piras, Peiris, Pontzen, Lucie-Smith, Guo & Nord 2023 (GMM-MI): toys of known information, maps, a beta-VAE, time.

CPU times are compared on one thread each. The published package wants an environment of its own (scikit-learn < 1.7);
name its interpreter in JAXLAND_GMM_MI and it is timed beside ours on the same samples.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks import bench_information as bench  # first: it keeps both sides to one thread
from examples import latent_vae
from examples.papers import shapes
from examples.papers.page import Page
from jaxland import information
from jaxland.information.columns import variable
from jaxland.information.mutual_information import MutualInformation, Options, pairs
from jaxland.report import figures
from jaxland.report.information import heat_map

SAMPLES, TRIALS = 200, 500
Make = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray, float]]
FAMILIES: dict[str, Make] = {
    "normal, ρ = .6": bench.normal,
    "gamma-exponential, α = 1": bench.gamma_exponential,
    "ordered Weinman, α = .3": bench.weinman,
}
SETTINGS: dict[str, dict[str, object]] = {"published settings": dict(bench.PUBLISHED), "jaxland's defaults": {}}
MAPS = tuple(name for name in bench.BMI if name.split(maxsplit=1)[1] in
             ("normal .75", "normal CDF", "bimodal", "wiggly", "half-cube"))  # fmt: skip
TIMED: tuple[tuple[str, Make, int, str], ...] = (
    ("normal .6", bench.normal, 10_000, "1.6"),
    ("gamma-exponential", bench.gamma_exponential, 2_000, "16"),
    ("ordered Weinman .3", bench.weinman, 2_000, "47"),
)
PEER = """
import json, sys, numpy as np
from importlib.metadata import version
import bench_information as bench
data = np.load(sys.argv[1])
took = bench.clock(lambda: bench.peer(data["x"], data["y"]))
print(json.dumps([took[0], took[1][0], version('gmm-mi')]))
"""


def chapter(out: Path, small: bool, seed: int) -> Page:
    """The page."""
    page = Page(
        "information",
        out,
        "GMM-MI: mutual information with error bars",
        "Piras, Peiris, Pontzen, Lucie-Smith, Guo, Nord, *A robust estimator of mutual information for deep learning "
        "interpretability*, Mach. Learn.: Sci. Technol. 4, 025006 (2023), arXiv 2211.00024.",
        small,
        seed,
    )
    _toys(page, small, seed)
    _maps(page, small, seed)
    _latents(page, small, seed)
    _time(page, small, seed)
    return page


# -- toys -------------------------------------------------------------------------------------------


def _trials(make: Make, trials: int, n: int, seed: int, **options: object) -> tuple[list[MutualInformation], float]:
    """Estimates of independent samples in one batch, and the truth."""
    drawn = [make(np.random.default_rng([seed, trial]), n) for trial in range(trials)]
    tuples = [(variable(x, "x", seed), variable(y, "y", seed + 1)) for x, y, _ in drawn]
    return pairs(tuples, Options(**options, seed=seed), ksg=False), drawn[0][2]


def _summary(values: np.ndarray, std: np.ndarray, truth: float) -> dict[str, float]:
    off = values - truth
    return {
        "bias": off.mean(),
        "its error": off.std(ddof=1) / np.sqrt(len(off)),
        "scatter": off.std(ddof=1),
        "quoted": std.mean(),
        "within 1": np.mean(np.abs(off) < std),
        "within 2": np.mean(np.abs(off) < 2 * std),
        "rmse": np.sqrt(np.mean(off**2)),
    }


def _toys(page: Page, small: bool, seed: int) -> None:
    trials = 12 if small else TRIALS
    page.section("Three toy families, over and over")
    page.text(
        f"{trials} independent sets of {SAMPLES} samples from each family, whose mutual information is known. Bias "
        "and scatter of the estimates, the standard deviation quoted (mean), and how often the truth lies within one "
        "or two quoted standard deviations (68 % and 95 % would be right for normal errors)."
    )
    lines, drawn = [], {}
    for family, make in FAMILIES.items():
        for name, settings in SETTINGS.items():
            found, truth = _trials(make, trials, SAMPLES, seed, **settings)
            std = np.array([f.std for f in found])
            estimates = {"fit to all samples": np.array([f.mean for f in found])}
            if name == "published settings":
                estimates = {"bootstrap mean": np.array([f.bootstrap_mean for f in found])} | estimates
            for kind, values in estimates.items():
                head = {"family": family, "truth": truth, "settings": f"{name}, {kind}"}
                lines.append(head | _summary(values, std, truth))
                drawn[family, kind, name] = values - truth
    table = pd.DataFrame(lines)
    first, ours = table.iloc[0], table.iloc[2]
    why = "their estimator, our code: bootstrap mean, 2 folds; other draws"
    page.compare(
        [
            ("bias, their settings and estimator", 0.0065, _pm(first), why),
            ("scatter", 0.0447, float(first["scatter"]), ""),
            ("quoted standard deviation", 0.0424, float(first["quoted"]), ""),
            ("1-sigma coverage", 0.66, float(first["within 1"]), _binomial(first["within 1"], trials)),
            ("bias, jaxland's defaults", 0.0065, _pm(ours), "fit to all samples, 4 folds, map chosen"),
            ("scatter, jaxland's defaults", 0.0447, float(ours["scatter"]), ""),
            ("1-sigma coverage, jaxland's defaults", 0.66, float(ours["within 1"]),
             _binomial(ours["within 1"], trials)),
        ],
        f"Normal pair, ρ = .6, N = {SAMPLES}: truth {first['truth']:.4f} nats.",
    )  # fmt: skip
    page.table(table, "All three families, nats:")
    off, last = table[table["bias"].abs() > 2.5 * table["its error"]], table.iloc[-1]
    page.text(
        f"Biased by more than 2.5 of its standard errors: {_listed(off)}. With {SAMPLES} samples a mixture does not "
        f"follow the ridge of the last family; its quoted error is {last['quoted'] / last['scatter']:.1f} times the "
        "scatter there, and coverage above says what that does."
    )
    page.figure(
        _toy_figure(drawn),
        "toys",
        "Estimates less the truth over all trials: grey with the published settings and estimator (bootstrap mean), "
        "blue with jaxland's defaults.",
    )


def _listed(lines: pd.DataFrame) -> str:
    """Families and settings with their bias."""
    return "; ".join(f"{at.family}, {at.settings} ({at.bias:+.3f} nats)" for at in lines.itertuples()) or "none"


def _pm(line: pd.Series) -> str:
    return f"{line['bias']:+.4f} ± {line['its error']:.4f}"


def _binomial(share: float, trials: int) -> str:
    return f"± {np.sqrt(share * (1 - share) / trials):.2f} over {trials} trials"


def _toy_figure(drawn: dict[tuple[str, str, str], np.ndarray]) -> Figure:
    figure, axes = figures.panels(10, 3, ncols=3)
    for axis, family in zip(axes, FAMILIES):
        both = [drawn[family, "bootstrap mean", "published settings"]]
        both.append(drawn[family, "fit to all samples", "jaxland's defaults"])
        bins = np.linspace(*np.quantile(np.concatenate(both), [0.002, 0.998]), 31)
        for values, colour, style in zip(both, ("0.6", figures.PALETTE[1]), ("stepfilled", "step")):
            axis.hist(values, bins, color=colour, histtype=style, linewidth=1.5)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_title(family, loc="left")
        axis.set_xlabel("estimate - truth (nats)")
    axes[0].set_ylabel("trials")
    return figure


# -- invariance -------------------------------------------------------------------------------------


def _maps(page: Page, small: bool, seed: int) -> None:
    trials, n = (2, 300) if small else (10, 2_000)
    page.section("The same information under monotone maps")
    page.text(
        "A normal pair with ρ = .75, its columns sent through monotone maps (the tasks of Czyż et al. 2023), "
        f"{trials} sets of {n} samples. The information stays what it was; mixtures of raw columns do not know that."
    )
    lines = []
    for task in MAPS:
        line = {"task": task.split(maxsplit=1)[1]}
        for name, settings in SETTINGS.items():
            found, truth = _trials(bench.BMI[task], trials, n, seed, **settings)
            published = name == "published settings"
            off = np.array([f.bootstrap_mean if published else f.mean for f in found]) - truth
            line |= {
                f"off, {name}": off.mean(),
                f"worst in quoted std, {name}": np.max(np.abs(off) / [f.std for f in found]),
            }
        lines.append(line)
    table = pd.DataFrame(lines)
    spread = {name: np.ptp(table[f"off, {name}"]) for name in SETTINGS}
    page.compare(
        [(f"largest difference between maps, {name}, nats", 0, float(value),
          "raw columns" if name == "published settings" else "normal scores where held-out evidence asks for them")
         for name, value in spread.items()],
        f"Truth {truth:.4f} nats under every map.",
    )  # fmt: skip
    page.table(table, "Mean over sets of estimate less truth, nats:")


# -- a beta-VAE -------------------------------------------------------------------------------------

LATENTS, BETA, WIDTH = 10, 60.0, 256
PUBLISHED_VAE = {"floor hue": (2.295, "z3"), "wall hue": (2.290, "z6"), "object hue": (2.222, "z5")}


def _latents(page: Page, small: bool, seed: int) -> None:
    steps, n, bootstraps, count = (200, 600, 4, 2_000) if small else (4_000, 2_000, 20, 20_000)
    page.section("A beta-VAE on generated shapes")
    images = shapes.pictures(shapes.draw_factors(count, seed)).reshape(count, -1)
    middle = images.mean(0)
    model = latent_vae.train(images - middle, beta=BETA, steps=steps, latents=LATENTS, width=WIDTH, seed=seed)
    factors = shapes.draw_factors(n, seed + 1)
    shown = shapes.pictures(factors).reshape(n, -1) - middle
    mean, log_var = model.encode(jnp.asarray(shown))
    error = np.mean((np.asarray(model.decode(mean)) - shown) ** 2) / np.mean(shown**2)
    used = int(np.sum(np.mean(np.exp(np.asarray(log_var)), axis=0) < 0.5))
    latents = pd.DataFrame(np.asarray(mean, float), columns=[f"z{i + 1}" for i in range(LATENTS)])
    table = information.matrix(
        latents, factors, categorical=tuple(shapes.FACTORS), bootstraps=bootstraps, ksg=False, seed=seed
    )
    page.text(
        f"The paper reads a beta-VAE of 3D Shapes (480,000 pictures to download). Ours has {count:,} pictures of 16 "
        f"x 16 pixels drawn here from six independent factors in that manner; a dense beta-VAE (beta = {BETA:g}, "
        f"{LATENTS} latents, {used} of them used, {steps:,} steps) keeps {1 - error:.1%} of their variance. "
        f"I(factor; latent) from {n:,} new pictures, nats, one mixture per class; a factor with K values has ln K "
        "nats at most. Beta and the arc of hues were picked among six trials (beta 2 to 120) for the separation of "
        "factors: this section is about reading a table, not about training. What two latents know together is "
        "I(factor; both latents)."
    )
    rows = []
    for j, (name, classes) in enumerate(shapes.FACTORS.items()):
        second, best = np.argsort(table.mean[:, j])[-2:]
        pair = information.categorical_mutual_information(
            latents.iloc[:, [best, second]].to_numpy(), factors[name], bootstraps=bootstraps, null=0, seed=seed
        )
        published = PUBLISHED_VAE.get(name)
        rows.append(
            (
                f"{name}, ceiling ln {classes} = {np.log(classes):.3f}: best latent",
                f"{published[0]:.3f} ({published[1]})" if published else None,
                f"{table.mean[best, j]:.3f} ± {table.std[best, j]:.3f} ({table.rows[best]})",
                f"both of {table.rows[best]}, {table.rows[second]}: {pair.mean:.3f} ± {pair.std:.3f}",
            )
        )
    page.compare(rows, "What is known of each factor, by the best latent and by the best two together:")
    cells = table.frame().map(lambda v: f"{v:.3f}") + " ± " + table.frame("std").map(lambda v: f"{v:.3f}")
    page.table(cells.reset_index(names="latent"), "Every latent with every factor, nats:")
    page.figure(heat_map(table), "vae", "The same table; grey where it cannot be told from shuffled samples.")
    page.figure(
        _picture(model, middle, shown[:8], latents.to_numpy()),
        "vae_pictures",
        "Above: pictures and their reconstructions. Below: the picture of the median latents as one latent a row "
        "moves from its 2nd to its 98th percentile.",
    )


def _picture(model: latent_vae.VAE, middle: np.ndarray, shown: np.ndarray, z: np.ndarray) -> Figure:
    """Pictures with reconstructions, and traversals of every latent."""
    back = np.asarray(model.decode(model.encode(jnp.asarray(shown))[0]))
    rows = [shown, back]
    for k in range(z.shape[1]):
        moved = np.tile(np.median(z, axis=0), (len(shown), 1))
        moved[:, k] = np.linspace(*np.quantile(z[:, k], [0.02, 0.98]), len(shown))
        rows.append(np.asarray(model.decode(jnp.asarray(moved, jnp.float32))))
    names = ["pictures", "again", *(f"z{k + 1}" for k in range(z.shape[1]))]
    figure, axes = figures.panels(6, 0.78 * len(rows), nrows=len(rows))
    for axis, row, name in zip(axes, rows, names):
        tiles = np.clip(row + middle, 0, 1).reshape(-1, shapes.SIZE, shapes.SIZE, 3)
        padded = np.pad(tiles, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1)
        axis.imshow(np.concatenate(padded, axis=1))
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    return figure


# -- time -------------------------------------------------------------------------------------------


def _time(page: Page, small: bool, seed: int) -> None:
    page.section("Time beside the published package")
    peer = os.environ.get("JAXLAND_GMM_MI")
    rows, lines = [], []
    for name, make, n, known in TIMED:
        n = 300 if small else n
        x, y, truth = make(np.random.default_rng([seed, n]), n)
        line: dict[str, object] = {"pair": name, "N": n, "truth": truth}
        for label, settings in SETTINGS.items():
            first, _ = bench.clock(lambda: bench.ours(x, y, seed=seed, **settings))  # noqa: B023
            took, found = bench.clock(lambda: bench.ours(x, y, seed=seed, **settings))  # noqa: B023
            line |= {f"first call, {label}": first, f"second call, {label}": took, label: f"{found.mean:.4f}"}
        if peer:
            took, mean, which = _peer(peer, x, y)
            line |= {"gmm-mi": took, "gmm-mi's value": f"{mean:.4f}"}
            ratio = f"{took / line['second call, published settings']:.0f} x their {took:.1f} CPU s in this run"  # type: ignore[operator]
            ratio += f" (gmm-mi {which})"
        else:
            ratio = "another machine and day; JAXLAND_GMM_MI times the package itself"
        ours = (
            f"{line['second call, published settings']:.2f} (first call {line['first call, published settings']:.1f})"
        )
        rows.append((f"{name}, N = {n:,}: CPU s, published settings", known, ours, ratio))
        lines.append(line)
    page.compare(
        rows,
        "One thread each. Published: gmm-mi 0.8.2 at its defaults, as measured when this library was specified; in "
        "this run where JAXLAND_GMM_MI names the interpreter of an environment with the package.",
    )
    page.table(pd.DataFrame(lines), "CPU seconds and values (nats); a first call compiles what is new:")


def _peer(interpreter: str, x: np.ndarray, y: np.ndarray) -> tuple[float, float, str]:
    """CPU seconds, mean and version of the published package in its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.npz"
        np.savez(path, x=x, y=y)
        environment = os.environ | {"PYTHONPATH": str(Path(bench.__file__).parent)}
        command = [interpreter, "-c", PEER, str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    took, mean, which = json.loads(done.stdout.splitlines()[-1])
    return took, mean, which
