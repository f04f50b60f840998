"""Is an attribution right? Curves, correlations and controls in the transformed space, asked of the model.

deletion, insertion     f while players are switched off or on, most important first (Petsiuk, Das & Saenko 2018)
infidelity              squared error of the attribution as a linear model of random switchings (Yeh et al. 2019)
sensitivity_n           correlation between summed attributions and the change of f, n players at a time (Ancona 2018)
knock_out               accuracy of the model when the top (or bottom, or random) players are removed
randomised_parameters   rank correlation with attributions of the model with random weights (Adebayo et al. 2018)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from jaxland.errors import ArgumentError, DataError, ProblemError
from jaxland.showing import brief, table
from jaxland.trim.attribute import Attribution
from jaxland.trim.methods import METHODS
from jaxland.trim.precision import in_its_precision


def _order(attribution: Attribution, by: str) -> np.ndarray:
    """Players of each input, first to be switched first."""
    scores = attribution.scores
    if by not in ("score", "magnitude"):
        raise ArgumentError(f"by must be 'score' or 'magnitude', got {by!r}")
    return np.argsort(-(scores if by == "score" else np.abs(scores)), axis=1, kind="stable")


@dataclass(frozen=True)
class Curve:
    """f while players are switched, most important first.

    Attributes:
        kind: "deletion" or "insertion".
        fraction: share of players switched [m].
        values: f of every input along the curve [n, m].
        area: mean over the curve and the inputs of f - f_base, over the mean of |f_x - f_base|; by magnitude of the
            scores f - f_base counts towards f_x. Low is good for deletion, high for insertion.
    """

    kind: str
    fraction: np.ndarray
    values: np.ndarray
    area: float

    __repr__ = brief
    _repr_html_ = table

    def to_pandas(self) -> pd.DataFrame:
        """Mean and quartiles of f at every fraction."""
        low, mid, high = np.quantile(self.values, [0.25, 0.5, 0.75], axis=0)
        return pd.DataFrame(
            {"fraction": self.fraction, "mean": self.values.mean(0), "q25": low, "median": mid, "q75": high}
        )


def _curve(attribution: Attribution, kind: str, steps: int, by: str) -> Curve:
    if steps < 1:
        raise ArgumentError(f"steps must be at least 1, got {steps}")
    players = attribution.scores.shape[1]
    counts = np.unique(np.linspace(0, players, min(steps, players) + 1).round().astype(int))
    rank = np.argsort(_order(attribution, by), axis=1)
    switched = rank[:, None] < counts[:, None]
    masks = (~switched if kind == "deletion" else switched).astype(float)
    values = attribution.play.outputs(masks)
    fraction = counts / players
    gain, whole = values - attribution.f_base[:, None], attribution.f_x - attribution.f_base
    towards = np.sign(whole)[:, None] if by == "magnitude" else 1.0
    heights, whole = (gain * towards).mean(0), np.abs(whole).mean()
    area = float(np.trapezoid(heights, fraction) / whole) if whole > 0 else float("nan")
    return Curve(kind, fraction, values, area)


@in_its_precision
def deletion(attribution: Attribution, *, steps: int = 20, by: str = "score") -> Curve:
    """f while the players with the largest scores go to their baseline one after another; low area is good.

    Args:
        attribution: what to judge.
        steps: points on the curve.
        by: "score" (signed) or "magnitude".
    """
    return _curve(attribution, "deletion", steps, by)


@in_its_precision
def insertion(attribution: Attribution, *, steps: int = 20, by: str = "score") -> Curve:
    """f while the players with the largest scores are switched on from the baseline; high area is good."""
    return _curve(attribution, "insertion", steps, by)


@in_its_precision
def infidelity(attribution: Attribution, *, samples: int = 200, keep: float = 0.5, seed: int = 0) -> np.ndarray:
    """E[(sum of removed scores - drop of f)^2] / E[(drop of f)^2] per input [n], over random removals.

    0 is a perfect linear account; 1 is no better than predicting no change. The published measure has no denominator.

    Args:
        attribution: what to judge.
        samples: random removals, the same for every input.
        keep: chance of each player to stay.
        seed: of the removals.
    """
    if not 0 < keep < 1 or samples < 2:
        raise ArgumentError(f"keep must lie between 0 and 1 and samples be at least 2, got {keep} and {samples}")
    masks = (np.random.default_rng(seed).random((samples, attribution.scores.shape[1])) < keep).astype(float)
    drop = attribution.f_x[:, None] - attribution.play.outputs(masks)
    said = attribution.scores @ (1 - masks).T
    return ((said - drop) ** 2).mean(1) / np.maximum((drop**2).mean(1), np.finfo(drop.dtype).tiny)


@in_its_precision
def sensitivity_n(
    attribution: Attribution, sizes: Sequence[int] | None = None, *, samples: int = 100, seed: int = 0
) -> pd.DataFrame:
    """Mean over inputs of the correlation of summed scores and the drop of f, n random players removed at a time.

    Args:
        attribution: what to judge.
        sizes: the n; default five from 1 to all but one.
        samples: random sets of each size.
        seed: of the sets.

    Returns:
        table of n and correlation.
    """
    players = attribution.scores.shape[1]
    if players < 2:
        raise ArgumentError("sensitivity-n needs at least two players")
    ns = np.unique(np.geomspace(1, players - 1, 5).round()).astype(int) if sizes is None else np.asarray(sizes, int)
    if ns.min() < 1 or ns.max() >= players:
        raise ArgumentError(f"sizes must lie between 1 and {players - 1}, got {ns.tolist()}")
    rng = np.random.default_rng(seed)
    rows = []
    for size in ns:
        removed = np.argsort(rng.random((samples, players)), axis=1) < size
        drop = attribution.f_x[:, None] - attribution.play.outputs(1.0 - removed)
        said = attribution.scores @ removed.T.astype(float)
        rows.append({"n": int(size), "correlation": float(np.nanmean(_correlation(said, drop)))})
    return pd.DataFrame(rows)


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row; nan where a row is constant."""
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    size = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    return np.where(size > 0, (a * b).sum(1) / np.where(size > 0, size, 1), np.nan)


@in_its_precision
def knock_out(
    attribution: Attribution,
    labels: ArrayLike,
    *,
    counts: Sequence[int] | None = None,
    by: str = "magnitude",
    overall: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Accuracy of the model when players are removed: the top ones, the bottom ones, random ones.

    Args:
        attribution: of a classifier.
        labels: true class of every input [n].
        counts: how many players to remove; default 0, 1, 2, 4, ... and half of them.
        by: "magnitude" or "score".
        overall: remove the same players from every input, ranked by mean |score|, instead of each input's own.
        seed: of the random ones.

    Returns:
        table of removed, top, bottom, random.
    """
    classes = np.asarray(labels)
    n, players = attribution.scores.shape
    if classes.shape != (n,):
        raise DataError(f"labels must give the class of every input [{n}], got shape {classes.shape}")
    if counts is None:
        doubling = [c for c in (0, 1, 2, 4, 8, 16, 32, 64) if c <= players // 2]
        counts = sorted({*doubling, players // 2})
    if min(counts) < 0 or max(counts) > players:
        raise ArgumentError(f"counts must lie between 0 and {players}, got {list(counts)}")
    own = _order(attribution, by)
    if overall:
        own = np.broadcast_to(np.argsort(-attribution.importance(), kind="stable"), own.shape)
    rng = np.random.default_rng(seed)
    orders = {"top": own, "bottom": own[:, ::-1], "random": np.argsort(rng.random((n, players)), axis=1)}
    table: dict[str, list[int] | np.ndarray] = {"removed": list(counts)}
    for name, order in orders.items():
        rank = np.argsort(order, axis=1)
        masks = (rank[:, None] >= np.asarray(counts)[:, None]).astype(float)
        outputs = attribution.play.outputs(masks, raw=True)
        if outputs.ndim == 2 or outputs.shape[2] == 1:
            predicted = (outputs.reshape(n, -1) > 0).astype(int)
        else:
            predicted = outputs.argmax(2)
        table[name] = (predicted == classes[:, None]).mean(0)
    return pd.DataFrame(table)


def power(attribution: Attribution) -> np.ndarray:
    """Mean over inputs of |s|^2 summed over every player's coefficients [P]; the residual's is its squared norm."""
    game, n = attribution.play.game, attribution.play.n
    flat = np.abs(np.asarray(game.rows.s).reshape(n, -1)) ** 2
    sums = (flat.mean(0) @ np.asarray(game.members).reshape(len(game.members), -1).T).astype(float)
    if not game.residual_plays:
        return sums
    return np.append(sums, float((np.asarray(game.rows.rest) ** 2).reshape(n, -1).sum(1).mean()))


@in_its_precision
def randomised_parameters(attribution: Attribution, *, copies: int = 3, seed: int = 0) -> np.ndarray:
    """Rank correlation of |scores| with those of the same model with its parameters shuffled at random [copies].

    Every parameter array is permuted, which keeps its distribution. A method that explains the model, and not only
    the input, gives correlations near 0.

    Raises:
        ProblemError: the model's parameters are not known (a black box, or a function that closes over none).
    """
    play = attribution.play
    assert play.game.output is not None
    leaves, tree = jax.tree.flatten(play.game.output.params)
    if not play.traceable or not any(np.size(leaf) > 1 for leaf in leaves):
        raise ProblemError("the parameters of this model are not known: pass a Model, a module, or f with params=")
    correlations = []
    for copy in range(copies):
        rng = np.random.default_rng([seed, copy])
        shuffled = jax.tree.unflatten(tree, [_shuffled(leaf, rng) for leaf in leaves])
        other = METHODS[attribution.method](play.with_params(shuffled), attribution.options)
        ranks = [rankdata(np.abs(s), axis=1) for s in (attribution.scores, other.players)]
        correlations.append(float(np.nanmean(_correlation(*ranks))))
    return np.array(correlations)


def _shuffled(leaf: jax.Array | np.ndarray, rng: np.random.Generator) -> jax.Array | np.ndarray:
    if not jnp.issubdtype(getattr(leaf, "dtype", np.dtype(object)), jnp.floating):
        return leaf
    flat = np.asarray(leaf).reshape(-1)
    return jnp.asarray(rng.permutation(flat).reshape(np.shape(leaf)), leaf.dtype)
