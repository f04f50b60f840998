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

from examples.papers import effects, fermion_chain, landscape_data
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
FEWEST = 5  # minima, below which nothing is said of their agreement
SPLITS = 3
ROWS = 600  # on which information is estimated
ASKED = (
    ("inputs", "landscape", "permutation"),
    ("inputs", "influence", "permutation"),
    ("inputs", "TRIM", "permutation"),
    ("inputs", "information", "permutation"),
    ("inputs", "label", "permutation"),
    ("principal components", "TRIM", "information"),
    ("hidden units", "conserved", "silenced"),
    ("hidden units", "information", "silenced"),
    ("training rows", "influence", "near the boundary"),
    ("training rows", "uncertainty", "extrapolation"),
)
"""The pairs that the four systems were built to have in common."""
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
    few = np.sort(rng.permutation(train.n)[: 300 if small else ROWS])
    return Story(
        landscape=landscape,
        auc=float(scorer(w)[0]),
        inputs=_inputs(landscape, problem, train, scorer, pull, margin, rng, few),
        parts=_parts(problem, train, margin, few),
        units=_units(landscape, problem, train, scorer, few),
        rows=rows,
    )


def _shared(columns: dict[str, np.ndarray], targets: dict[str, np.ndarray], few: np.ndarray) -> pd.DataFrame:
    """Nats that columns share with targets, a mixture fitted to the rows ``few``; only their order is used."""
    rows = [{name: values[few] for name, values in lot.items()} for lot in (columns, targets)]
    labels = [name for name in targets if name == "label"]
    return information.matrix(*rows, categorical=labels, bootstraps=5, ksg=False).frame()


def _inputs(
    landscape: Landscape,
    problem: Problem,
    train: Dataset,
    scorer: Scorer,
    pull: np.ndarray,
    margin: np.ndarray,
    rng: np.random.Generator,
    few: np.ndarray,
) -> pd.DataFrame:
    agreed = np.full(train.d, np.nan)
    if landscape.n_minima > FEWEST:
        window = energy_windows(landscape, (min(LOWEST, landscape.n_minima - 1),))
        group = conserved_weights(landscape, window, features=train.features).groups[0]
        assert group.inputs is not None
        agreed = 1 / group.inputs.spread_ratio
    w = np.asarray(problem.w)
    lost = permutation_drops(w, np.arange(train.d), scorer, 5, rng).mean(0)
    attributed = trim.attribute(problem.model, train.x[:500], params=problem.unravel(problem.w), target=1, warn=False)
    columns = {name: train.x[:, j] for j, name in enumerate(train.features)}
    both = {"margin": margin, "label": train.y.astype(int)}
    shared = _shared(columns, both, few)
    far = [abs(float(spearmanr(np.abs(train.x[:, j]), pull).statistic)) for j in range(train.d)]
    return pd.DataFrame(
        {
            "input": train.features,
            "landscape": agreed,
            "influence": far,
            "TRIM": attributed.importance(),
            "information": shared["margin"].to_numpy(),
            "permutation": lost,
            "label": shared["label"].to_numpy(),
        }
    )


def _parts(problem: Problem, train: Dataset, margin: np.ndarray, few: np.ndarray) -> pd.DataFrame:
    count = min(8, train.d)
    transform = trim.pca(train.x, count)
    found = trim.attribute(
        problem.model, train.x[:500], params=problem.unravel(problem.w), target=1, transform=transform,
        residual="fixed" if count < train.d else None, warn=False,
    )  # fmt: skip
    coefficients = np.asarray(transform.forward(train.x))
    columns = {f"component {k + 1}": coefficients[:, k] for k in range(count)}
    shared = _shared(columns, {"margin": margin}, few)["margin"].to_numpy()
    return pd.DataFrame(
        {
            "part": list(columns),
            "variance": coefficients.var(0),
            "TRIM": found.importance()[:count],
            "information": shared,
        }
    )


def _units(landscape: Landscape, problem: Problem, train: Dataset, scorer: Scorer, few: np.ndarray) -> pd.DataFrame:
    count = min(LOWEST, landscape.n_minima)
    assert problem.model is not None and problem.model.sizes is not None
    d, hidden, out = problem.model.sizes
    points = landscape.coordinates[:count]
    aligned, _, _ = align_many(problem.symmetry, points, points[0])
    w, spread = points[0], aligned.std(0)
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
        relative = float(np.linalg.norm(spread[own]) / np.linalg.norm(w[own])) if count > FEWEST else np.nan
        rows.append({"unit": f"h{u + 1}", "conserved": -relative, "silenced": lost})
    columns = {f"h{u + 1}": activity[:, u] for u in range(hidden)}
    label = {"label": train.y.astype(int)}
    shared = _shared(columns, label, few)["label"].to_numpy()
    return pd.DataFrame(rows).assign(information=shared)


def agreement(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Spearman's rank correlation of every pair of numeric columns, over splits: one, other, effect, p after Holm."""
    numeric = [frame.select_dtypes("number").dropna(axis=1, how="all") for frame in frames]
    rows = []
    known = [name for name in numeric[0] if all(name in frame for frame in numeric)]
    for a, b in itertools.combinations(known, 2):
        rhos = [rank_correlation(frame[a].to_numpy(), frame[b].to_numpy())[0] for frame in numeric]
        rows.append({"one": a, "other": b, "effect": effects.effect(rhos)})
    return pd.DataFrame(rows).assign(p=effects.holm([row["effect"].p for row in rows]))


def matrices(found: dict[str, pd.DataFrame]) -> Figure:
    """Mean rank correlations of every pair of measures, a panel a block; bold where the corrected p is below .05."""
    figure, axes = panels(12, 3.9, ncols=len(found))
    for at, (what, frame) in zip(axes, found.items()):
        names = list(dict.fromkeys([*frame["one"], *frame["other"]]))
        values = np.eye(len(names))
        for line in frame.itertuples():
            i, j = names.index(line.one), names.index(line.other)
            values[i, j] = values[j, i] = line.effect.mean
        at.imshow(values, vmin=-1, vmax=1, cmap="RdBu_r")
        for line in frame.itertuples():
            for i, j in itertools.permutations((names.index(line.one), names.index(line.other))):
                mark = {"weight": "bold"} if line.p < 0.05 else {"color": "0.35"}
                if abs(line.effect.mean) > 0.6:
                    mark["color"] = "white"
                at.text(
                    j,
                    i,
                    f"{line.effect.mean:.2f}" if line.effect.n else "–",
                    ha="center",
                    va="center",
                    fontsize=7,
                    **mark,
                )
        at.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8)
        at.set_yticks(range(len(names)), names, fontsize=8)
        at.set_title(what, fontsize=9)
    return figure


def heat(frame: pd.DataFrame) -> Figure:
    """Ranks of inputs (rows) by measure (columns); dark is first."""
    numeric = frame.drop(columns="input").dropna(axis=1, how="all")
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
    splits = range(seed, seed + (2 if small else SPLITS))
    page.text("Measures of an input: " + "; ".join(f"*{name}*, {what}" for name, what in SEEN.items()) + ".")
    page.text(
        f"Everything is done {len(splits)} times, each time with another split into training and test rows and "
        "another search; tables of measures show the first. Rank correlations are means over the splits with 95 % "
        "intervals (Student's t): they say what another split of the same rows would give, not what other data "
        "would. p is corrected for the pairs of a table after Holm."
    )
    with jax.enable_x64(True):
        cards = [landscape_data.split("credit", k) for k in splits]
        known = [card for card in cards if card is not None]
        if known:
            _told(page, "credit card", "credit", known, small=small, lam=1e-3)
        else:
            page.text("Credit card left out: its file is not here (`--data FOLDER`).")
        _told(page, "fermion chain", "chain", _chains(splits), small=small, lam=1e-4)
    return page


def _chains(seeds: range) -> list[tuple[Dataset, Dataset]]:
    """Eight principal components of the ground states of the fermion chain; every fourth state is held out."""
    found = fermion_chain.diagram()
    centred = found.x - found.x.mean(0)
    parts = centred @ np.linalg.svd(centred, full_matrices=False)[2][:8].T
    names = [f"component {k + 1}" for k in range(8)]
    frame = pd.DataFrame(parts / parts.std(0), columns=names).assign(phase=found.labels)
    whole = load(frame, target="phase", name="fermion chain")
    splits = [whole.split(0.25, seed=seed, scale="standardise") for seed in seeds]
    return [(split.train, split.test) for split in splits if split.test is not None]


def _told_by(p: float) -> str:
    return f"p = {p:.2g} after Holm" if np.isfinite(p) else "nothing to rank: all are equal"


def _told(
    page: Page, title: str, stem: str, splits: list[tuple[Dataset, Dataset]], *, small: bool, lam: float
) -> None:
    stories = [read(*parts, 5, lam, page.seed + k, small) for k, parts in enumerate(splits)]
    story, (train, test) = stories[0], splits[0]
    page.section(title.capitalize())
    page.text(
        f"{train.n} training rows, {test.n} test rows, {train.d} inputs, 5 tanh units, lam {lam:g}; the network is "
        f"the lowest of {story.landscape.n_minima} minima, test AUC {story.auc:.3f} (all splits: "
        f"{min(s.auc for s in stories):.3f} to {max(s.auc for s in stories):.3f})."
    )
    if any(s.landscape.n_minima <= FEWEST for s in stories):
        counts = ", ".join(str(s.landscape.n_minima) for s in stories)
        page.text(
            f"**The landscape has too few minima ({counts} in the splits) for their agreement to say anything**: "
            "every training ends in nearly the same network, all of its weights are conserved, and conserved inputs "
            "and units are left out below."
        )
    order = story.inputs.sort_values("permutation", ascending=False)
    page.table(order, "Inputs, by permutation importance.")
    page.figure(heat(story.inputs), f"{stem}_inputs", "Ranks of the inputs; 1 is the most important.")
    blocks = {"inputs": [s.inputs for s in stories], "principal components": [s.parts for s in stories]}
    blocks |= {"hidden units": [s.units for s in stories], "training rows": [s.rows for s in stories]}
    found = {what: agreement(frames) for what, frames in blocks.items()}
    page.table(story.parts, "Parts (principal components).")
    page.table(story.units, "Hidden units.")
    page.figure(
        matrices(found),
        f"{stem}_agreement",
        "Rank correlations of the measures of inputs, parts, hidden units and training rows; bold where the corrected"
        " p is below .05.",
    )
    page.compare(
        [
            (f"{what}: does *{one}* rank them as *{other}* does?", None, str(line.effect), _told_by(line.p))
            for what, one, other in ASKED
            for line in found[what].itertuples()
            if {line.one, line.other} == {one, other}
        ],
        "In short: rank correlations, with none published beside them.",
    )
    agreed, against = [], []
    for what, frame in found.items():
        page.table(frame, f"Rank correlations over {len(blocks[what][0])} {what}, {len(stories)} splits.")
        for line in frame.itertuples():
            if line.p < 0.05:
                (agreed if line.effect.mean > 0 else against).append(
                    f"{what}: {line.one} and {line.other} ({line.effect.mean:+.2f})"
                )
    page.text(f"**One story** (corrected p below .05): {'; '.join(agreed) or 'nowhere'}.")
    page.text(f"**Contradictions** (the same, negative): {'; '.join(against) or 'none'}.")
