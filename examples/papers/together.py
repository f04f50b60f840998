"""One network, one data set, all four answers side by side: do they tell one story?"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from examples.papers import landscape_data
from examples.papers.page import Page
from jaxland import Problem, hessian, information, mlp, trim
from jaxland.data import Dataset, load
from jaxland.landscape import Landscape, conserved_weights, explore
from jaxland.landscape.tree import energy_windows
from jaxland.landscape.weights.comparison import permutation_drops, rank_correlation
from jaxland.landscape.weights.scoring import Scorer
from jaxland.problem.symmetry import align_many
from jaxland.report.figures import panels

TITLE = "Four systems on one network"
SOURCE = "none of the four papers has this: their answers to one question about one network, side by side"
LOWEST = 20
SEEN = {
    "landscape": "agreement of its weights over the lowest minima",
    "influence": "how far influential rows stand out in it",
    "TRIM": "mean abs(integrated gradients)",
    "information": "nats shared with the network's margin",
    "permutation": "loss of test AUC when it is shuffled",
    "label": "nats shared with the label, no network asked",
}


@dataclass(frozen=True, eq=False)
class Story:
    """What the four systems say of a network.

    Attributes:
        landscape: of its loss; the network is the lowest minimum.
        auc: on the test rows.
        inputs: one row an input, columns of ``SEEN``.
        parts: one row a principal component: TRIM importance, information with the margin, variance.
        units: one row a hidden unit: spread over the lowest minima, information with the label, loss when silenced.
        rows: one row a training row: influence, self-influence, uncertainty, extrapolation, closeness to a boundary.
    """

    landscape: Landscape
    auc: float
    inputs: pd.DataFrame
    parts: pd.DataFrame
    units: pd.DataFrame
    rows: pd.DataFrame


def read(train: Dataset, test: Dataset, hidden: int, lam: float, seed: int, small: bool) -> Story:
    """All four systems on the lowest minimum of the loss of a tanh network with two outputs; in float64."""
    problem = Problem.from_model(mlp((train.d, hidden, train.outputs)), train.x, train.y, l2=lam)
    size = {"starts": 30} if small else {"starts": 120}
    landscape = explore(problem, seed=seed, climbs=0, rounds=0, walkers=16, **size)
    w = landscape.coordinates[0]
    problem = problem.at(w)
    scorer = Scorer.held_out(problem, test, 2000, seed)
    rng = np.random.default_rng([seed, 61])
    curvature = hessian.curvature(problem)
    influence = hessian.influence(curvature, (test.x[:200], test.y[:200]), relative=True)
    assert influence.values is not None and influence.self_influence is not None
    pull = np.abs(influence.values).sum(0)
    outputs = np.asarray(problem.predict())
    margin = outputs[:, 1] - outputs[:, 0]
    rows = pd.DataFrame(
        {
            "influence": pull,
            "self-influence": influence.self_influence.values,
            "uncertainty": hessian.uncertainty(curvature, train.x, of="logit", target=1).std,
            "extrapolation": hessian.extrapolation(curvature, train.x, of="logit", target=1).soft,
            "near the boundary": -np.abs(margin),
        }
    )
    quick = {"bootstraps": 10} if small else {}
    return Story(
        landscape=landscape,
        auc=float(scorer(w)[0]),
        inputs=_inputs(landscape, problem, train, scorer, pull, margin, rng, quick),
        parts=_parts(problem, train, margin, quick),
        units=_units(landscape, problem, train, scorer, quick),
        rows=rows,
    )


def _inputs(
    landscape: Landscape,
    problem: Problem,
    train: Dataset,
    scorer: Scorer,
    pull: np.ndarray,
    margin: np.ndarray,
    rng: np.random.Generator,
    quick: dict[str, int],
) -> pd.DataFrame:
    count = min(LOWEST, landscape.n_minima - 1)
    group = conserved_weights(landscape, energy_windows(landscape, (count,)), features=train.features).groups[0]
    assert group.inputs is not None
    w = np.asarray(problem.w)
    lost = permutation_drops(w, np.arange(train.d), scorer, 5, rng).mean(0)
    attributed = trim.attribute(problem.model, train.x[:500], params=problem.unravel(problem.w), target=1, warn=False)
    columns = {name: train.x[:, j] for j, name in enumerate(train.features)}
    both = {"margin": margin, "label": train.y.astype(int)}
    shared = information.matrix(columns, both, categorical=["label"], **quick).frame()
    far = [abs(float(spearmanr(np.abs(train.x[:, j]), pull).statistic)) for j in range(train.d)]
    return pd.DataFrame(
        {
            "input": train.features,
            "landscape": 1 / group.inputs.spread_ratio,
            "influence": far,
            "TRIM": attributed.importance(),
            "information": shared["margin"].to_numpy(),
            "permutation": lost,
            "label": shared["label"].to_numpy(),
        }
    )


def _parts(problem: Problem, train: Dataset, margin: np.ndarray, quick: dict[str, int]) -> pd.DataFrame:
    count = min(8, train.d)
    transform = trim.pca(train.x, count)
    found = trim.attribute(
        problem.model, train.x[:500], params=problem.unravel(problem.w), target=1, transform=transform,
        residual="fixed" if count < train.d else None, warn=False,
    )  # fmt: skip
    coefficients = np.asarray(transform.forward(train.x))
    columns = {f"component {k + 1}": coefficients[:, k] for k in range(count)}
    shared = information.matrix(columns, {"margin": margin}, **quick).frame()["margin"].to_numpy()
    return pd.DataFrame(
        {
            "part": list(columns),
            "variance": coefficients.var(0),
            "TRIM": found.importance()[:count],
            "information": shared,
        }
    )


def _units(
    landscape: Landscape, problem: Problem, train: Dataset, scorer: Scorer, quick: dict[str, int]
) -> pd.DataFrame:
    count = min(LOWEST, landscape.n_minima)
    assert problem.model is not None and problem.model.sizes is not None
    d, hidden, out = problem.model.sizes
    points = landscape.coordinates[:count]
    aligned, _, _ = align_many(problem.symmetry, points, points[0])
    w, spread = points[0], aligned.std(0, ddof=1)
    first, second = slice(hidden, hidden + d * hidden), hidden + d * hidden + out
    into, bias = w[first].reshape(d, hidden), w[:hidden]
    activity = np.tanh(train.x @ into + bias)
    rows = []
    for u in range(hidden):
        own = np.concatenate([[u], hidden + np.arange(d) * hidden + u, second + u * out + np.arange(out)])
        silent = w.copy()
        silent[second + u * out + np.arange(out)] = 0.0
        mean = activity[:, u].mean() * w[second + u * out + np.arange(out)]
        silent[hidden + d * hidden + np.arange(out)] += mean  # its mean stays with the output's bias
        lost = float(scorer(w)[0] - scorer(silent)[0])
        relative = float(np.linalg.norm(spread[own]) / np.linalg.norm(w[own]))
        rows.append({"unit": f"h{u + 1}", "conserved": -relative, "silenced": lost})
    columns = {f"h{u + 1}": activity[:, u] for u in range(hidden)}
    label = {"label": train.y.astype(int)}
    shared = information.matrix(columns, label, categorical=["label"], **quick).frame()["label"].to_numpy()
    return pd.DataFrame(rows).assign(information=shared)


def agreement(frame: pd.DataFrame) -> pd.DataFrame:
    """Spearman's rank correlation of every pair of numeric columns: pair, rho, p."""
    numeric = frame.select_dtypes("number")
    rows = []
    for a, b in itertools.combinations(numeric.columns, 2):
        rho, p = rank_correlation(numeric[a].to_numpy(), numeric[b].to_numpy())
        rows.append({"one": a, "other": b, "rho": rho, "p": p})
    return pd.DataFrame(rows)


def heat(frame: pd.DataFrame) -> Figure:
    """Ranks of inputs (rows) by measure (columns); dark is first."""
    numeric = frame.drop(columns="input")
    ranks = numeric.rank(ascending=False)
    order = np.argsort(ranks["permutation"].to_numpy(), kind="stable")
    figure, axes = panels(6.5, 0.24 * len(frame) + 1.4)
    at = axes[0]
    at.imshow(ranks.to_numpy()[order], aspect="auto", cmap="viridis")
    for i, row in enumerate(ranks.to_numpy()[order]):
        for j, value in enumerate(row):
            if np.isfinite(value):
                at.text(
                    j,
                    i,
                    f"{value:.0f}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if value < 0.6 * len(frame) else "black",
                )
    at.set_xticks(range(numeric.shape[1]), numeric.columns, fontsize=8)
    at.set_yticks(range(len(frame)), frame["input"].to_numpy()[order], fontsize=8)
    return figure


def chapter(out: Path, small: bool, seed: int) -> Page:
    """The page."""
    page = Page("together", out, TITLE, SOURCE, small, seed)
    page.text("Measures of an input: " + "; ".join(f"*{name}*, {what}" for name, what in SEEN.items()) + ".")
    with jax.enable_x64(True):
        card = landscape_data.split("credit", seed)
        if card is None:
            page.text("Credit card left out: its file is not here (`--data FOLDER`).")
        else:
            _told(page, "credit card", "credit", *card, small=small, lam=1e-3)
        _told(page, "fermion chain", "chain", *_chain(seed), small=small, lam=1e-4)
    return page


def _chain(seed: int) -> tuple[Dataset, Dataset]:
    """Eight principal components of the ground states of the fermion chain; every fourth state is held out."""
    from examples.papers.fermion_chain import diagram

    found = diagram()
    centred = found.x - found.x.mean(0)
    parts = centred @ np.linalg.svd(centred, full_matrices=False)[2][:8].T
    names = [f"component {k + 1}" for k in range(8)]
    frame = pd.DataFrame(parts / parts.std(0), columns=names).assign(phase=found.labels)
    split = load(frame, target="phase", name="fermion chain").split(0.25, seed=seed, scale="standardise")
    assert split.test is not None
    return split.train, split.test


def _told(page: Page, title: str, stem: str, train: Dataset, test: Dataset, *, small: bool, lam: float) -> None:
    story = read(train, test, 5, lam, page.seed, small)
    page.section(title.capitalize())
    page.text(
        f"{train.n} training rows, {test.n} test rows, {train.d} inputs, 5 tanh units, lam {lam:g}; the network is "
        f"the lowest of {story.landscape.n_minima} minima, test AUC {story.auc:.3f}."
    )
    order = story.inputs.sort_values("permutation", ascending=False)
    page.table(order, "Inputs, by permutation importance.")
    page.figure(heat(story.inputs), f"{stem}_inputs", "Ranks of the inputs; 1 is the most important.")
    blocks = {"inputs": story.inputs, "parts (principal components)": story.parts}
    blocks |= {"hidden units": story.units, "training rows": story.rows}
    agreed, against = [], []
    for what, frame in blocks.items():
        found = agreement(frame)
        page.table(found, f"Rank correlations over {len(frame)} {what}.")
        for line in found.itertuples():
            if line.p < 0.05 / len(found):  # Bonferroni within a table
                (agreed if line.rho > 0 else against).append(f"{what}: {line.one} and {line.other} ({line.rho:+.2f})")
    page.table(story.parts, "Parts.")
    page.table(story.units, "Hidden units.")
    page.text(f"**One story** (p below .05 after Bonferroni): {'; '.join(agreed) or 'nowhere'}.")
    page.text(f"**Contradictions** (the same, negative): {'; '.join(against) or 'none'}.")
