"""Figures and the HTML report of minimum-energy paths between networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxland.hessian.modes import ExtremeModes
from jaxland.paths.ensemble import PathEnsemble
from jaxland.paths.profile import Profile
from jaxland.paths.result import MinimumEnergyPath
from jaxland.report.figures import PALETTE, canvas, panels
from jaxland.report.html import Page

RED, BLUE = PALETTE[:2]


def path_figure(path: MinimumEnergyPath) -> Figure:
    """Loss and, where there is one, error along the path and along the straight line; the barrier is marked."""
    errors = path.profile.error is not None
    figure, axes = panels(9.6 if errors else 6.4, 4.0, ncols=2 if errors else 1)
    losses = axes[0]
    first = "energy" if path.profile.loss is None else "loss"
    _curves(losses, path, first, "test_loss")
    losses.set(xlabel="position along the path", ylabel="energy" if first == "energy" else "mean loss")
    low = min(float(np.min(v)) for v in _values(path, (first, "test_loss")))
    high = max(float(np.max(v)) for v in _values(path, (first, "test_loss")))
    if first == "loss" and low > 0 and high / low > 30:
        losses.set_yscale("log")
    _barrier(losses, path.profile, getattr(path.profile, first))
    losses.set_title(f"{len(path.images)} images, {path.steps} steps", loc="left")
    if errors:
        _curves(axes[1], path, "error", "test_error")
        axes[1].set(xlabel="position along the path", ylabel="share of wrong predictions")
        axes[1].set_ylim(bottom=-0.02 * axes[1].get_ylim()[1])
    handles, labels = losses.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _values(path: MinimumEnergyPath, names: tuple[str, ...]) -> list[np.ndarray]:
    found = [getattr(profile, name) for profile in (path.profile, path.straight) for name in names]
    return [v for v in found if v is not None]


def _curves(axes: Axes, path: MinimumEnergyPath, train: str, test: str) -> None:
    for name, colour, label in ((train, BLUE, "train"), (test, RED, "test")):
        values, line = getattr(path.profile, name), getattr(path.straight, name)
        if values is None:
            continue
        at = path.profile.image
        axes.plot(path.profile.position, values, color=colour, linewidth=1.6, label=f"{label}, path")
        axes.plot(path.profile.position[at], values[at], "o", color=colour, markersize=4)
        axes.plot(
            path.straight.position, line, color=colour, linewidth=1, linestyle="--", alpha=0.7,
            label=f"{label}, straight line",
        )  # fmt: skip


def _barrier(axes: Axes, profile: Profile, values: np.ndarray) -> None:
    """An arrow from the level of the higher end to the highest point."""
    peak = int(np.argmax(values))
    base = float(max(values[0], values[-1]))
    rise = float(values[peak] - base)
    if rise <= 0:
        axes.annotate("no barrier", (0.03, 0.95), xycoords="axes fraction", va="top", color="0.3")
        return
    x = profile.position[peak]
    axes.axhline(base, color="0.7", linewidth=0.7, zorder=0)
    axes.annotate("", (x, values[peak]), (x, base), arrowprops={"arrowstyle": "<->", "color": "0.25", "lw": 0.9})
    bottom, top = axes.transData.transform([(x, base), (x, values[peak])])[:, 1]
    tall = top - bottom > 60
    level = float(np.sqrt(base * values[peak]) if axes.get_yscale() == "log" else (base + values[peak]) / 2)
    axes.annotate(
        f"barrier {rise:.3g}", (x, level if tall else values[peak]), (7, 0) if tall else (0, 7),
        textcoords="offset points", ha="left" if tall else "center", color="0.2",
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1},
    )  # fmt: skip


def saturation_figure(ensemble: PathEnsemble) -> Figure:
    """Highest and mean minimax loss between any two minima against the number of paths found."""
    figure, axes = canvas(6.0, 3.8)
    table = ensemble.history[np.isfinite(ensemble.history["top"])]
    for name, colour, label in (("top", RED, "highest pair"), ("mean", BLUE, "mean over pairs")):
        axes.plot(table["path"], table[name], "o-", color=colour, markersize=4, label=label)
    axes.axhline(float(np.max(ensemble.energies)), color="0.5", linewidth=0.9, linestyle=":", label="highest minimum")
    axes.set(xlabel="paths found", ylabel="lowest highest loss between two minima")
    axes.set_title("settled" if ensemble.saturated else "not settled yet", loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return figure


def modes_figure(modes: ExtremeModes) -> Figure:
    """Lowest and highest eigenvalues with their residuals as bars."""
    figure, axes = panels(8, 3.4, ncols=2)
    for axis, name, colour in ((axes[0], "lowest", RED), (axes[1], "highest", BLUE)):
        values, residuals = getattr(modes, name), getattr(modes, f"{name}_residuals")
        axis.errorbar(np.arange(1, len(values) + 1), values, residuals, fmt="o", capsize=3, color=colour)
        axis.axhline(0, color="0.6", linewidth=0.8)
        worst = f", residuals up to {residuals.max():.1e}" if len(residuals) else ""
        axis.set(xlabel="rank", ylabel="eigenvalue", title=f"{name}{worst}")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def path_report(path: MinimumEnergyPath, place: str | Path, *, modes: ExtremeModes | None = None) -> Path:
    """One HTML file: barriers, profile, cycles, and the modes at the saddle where given; returns its path."""
    page = Page(
        "Minimum-energy path", f"{len(path.images)} images, {path.images.shape[1]:,} parameters, {path.status}"
    )
    page.section("Barriers")
    if path.status != "finished":
        page.note(
            f"The run ended early ({path.status}): the barrier is an upper bound that may still fall.", warn=True
        )
    page.figure(path_figure(path), "Dots are images; the values between them are evaluated, not interpolated.")
    page.table(path.barriers(), "Barrier: highest value less the higher end.")
    page.section("Cycles")
    page.table(path.history, "force: largest rms force across the path over images, on the last mini-batch.")
    if modes is not None:
        page.section("Modes at the highest point")
        page.figure(modes_figure(modes))
        page.table(modes.to_pandas(), f"{modes.products} Hessian-vector products, basis in {modes.storage}.")
        page.note(
            f"{modes.negative} of the lowest values are negative beyond their residual; the rms gradient there is "
            f"{modes.gradient_rms:.1e}. Only where that is small do the modes belong to a saddle."
        )
    return page.save(place)
