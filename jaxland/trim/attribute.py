"""``attribute``: the one call. Builds the game, runs a method, measures completeness."""

from __future__ import annotations

import html
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Unpack

import numpy as np
import pandas as pd
from jaxtyping import PyTree
from numpy.typing import ArrayLike

from jaxland.errors import DataError
from jaxland.showing import brief
from jaxland.trim import interpreters
from jaxland.trim.build import Baseline, Groups, build
from jaxland.trim.methods import Method, Options, find
from jaxland.trim.model import Chosen
from jaxland.trim.play import Play, Scores
from jaxland.trim.precision import as_given
from jaxland.trim.transforms import Transform

LARGE_GAP = 0.01
# Gradients taken forwards along so many numbers of an input are worth a warning.
MANY_DIRECTIONS = 64


class ModelWarning(UserWarning):
    """The model's output of a row is random or depends on other rows: it is in training mode."""


class CostWarning(UserWarning):
    """The model's gradients are taken forwards, along every number of the input."""


class CompletenessWarning(UserWarning):
    """Attributions of a method that should be complete do not add up to f(x0) - f(baseline)."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """Attributions of n inputs to P players.

    Attributes:
        scores: signed attribution of every group (and the residual, where it plays) [n, P].
        labels: name of every column of ``scores``.
        coefficients: attribution of every coefficient [n, *coefficients], or None for methods that work per group.
        f_x: attributed output at the inputs [n]; f_base: at the baseline (mean over baselines) [n].
        gap: f_x - f_base - sum of all attributions [n]: zero where attributions are complete. For contextual
            decomposition it is the interaction between groups, and no error.
        method, transform: names.
        options: of the method.
        notes: a sentence each on what was attributed and what to distrust.
        play: what the evaluation tools need to ask the model again.
    """

    scores: np.ndarray
    labels: tuple[str, ...]
    coefficients: np.ndarray | None
    f_x: np.ndarray
    f_base: np.ndarray
    gap: np.ndarray
    method: str
    transform: str
    options: Options
    notes: tuple[str, ...]
    play: Play = field(repr=False)

    __repr__ = brief

    @property
    def relative_gap(self) -> np.ndarray:
        """|gap| over |f_x - f_base| (or the size of the attributions, where that difference vanishes) [n]."""
        size = np.maximum(np.abs(self.f_x - self.f_base), 1e-3 * np.abs(self.scores).sum(1))
        return np.abs(self.gap) / np.maximum(size, np.finfo(self.gap.dtype).tiny)

    def top(self, k: int = 5) -> np.ndarray:
        """Players of largest |score|, largest first [n, k]."""
        return np.argsort(-np.abs(self.scores), axis=1, kind="stable")[:, :k]

    def importance(self) -> np.ndarray:
        """Mean over inputs of |score| [P]."""
        return np.abs(self.scores).mean(0)

    def to_pandas(self) -> pd.DataFrame:
        """One row per input: f, baseline, gap and every score."""
        head = pd.DataFrame({"f": self.f_x, "f_baseline": self.f_base, "gap": self.gap})
        return pd.concat([head, pd.DataFrame(self.scores, columns=list(self.labels))], axis=1)

    def summary(self) -> pd.DataFrame:
        """One row per player: mean, mean absolute value and spread over inputs, most important first."""
        table = pd.DataFrame(
            {
                "player": self.labels,
                "mean |score|": self.importance(),
                "mean score": self.scores.mean(0),
                "std": self.scores.std(0),
            }
        )
        return table.sort_values("mean |score|", ascending=False, kind="stable").reset_index(drop=True)

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{html.escape(n)}</li>" for n in self.notes)
        head = f"<b>{html.escape(self.method)}</b> on {html.escape(self.transform)}, {len(self.scores)} inputs"
        return f"<p>{head}</p><ul>{notes}</ul>{self.summary().head(12).to_html(index=False)}"


def attribute(
    f: object,
    x: PyTree,
    *,
    transform: Transform | None = None,
    method: str = "integrated_gradients",
    target: Chosen = None,
    params: PyTree = None,
    baseline: Baseline = None,
    baseline_in: str = "s",
    background: ArrayLike | None = None,
    groups: Groups = None,
    labels: Sequence[str] | None = None,
    residual: str | None = None,
    chunk: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    warn: bool = True,
    **options: Unpack[Options],
) -> Attribution:
    """Attribute a model's output to the coefficients of a transform of its input.

    Args:
        f: the model: a jaxland ``Model``, ``f(params, x)`` with ``params``, a Flax nnx module (in eval mode), a bound
            linen module, an Equinox module (called per example), a callable on batches, or ``trim.black_box(f)``.
        x: inputs to explain [n, *input_shape]. float64 is computed in float64, whatever JAX's x64 state is, where the
            model has no parameter in less.
        transform: see ``jaxland.trim.transforms``; default the identity.
        method: one of ``trim.METHODS`` or an alias (ig, cd, gradient_shap, ixg, feature_ablation).
        target: which output: index, one index per input, ``outputs -> [n]``, or None for the only output or the
            predicted class. Raw outputs (logits) are attributed unless the callable says otherwise.
        params: for ``f(params, x)``.
        baseline: where players stand when off: None or "zero", "mean", "sample" (of ``background``), or an array that
            broadcasts to coefficients (``baseline_in="s"``) or to inputs (``baseline_in="x"``).
        background: inputs [m, *input_shape] that "mean", "sample" and expected gradients draw on.
        groups: default the transform's; else group numbers shaped like the coefficients (-1: none), a list of index
            arrays or masks (may overlap), or "coefficients" for one player each.
        labels: names of the groups.
        residual: what becomes of x - T^-1(T(x)) for a transform that loses something: "fixed" or "player".
        chunk: most inputs given to the model at once; default by memory. The result does not depend on it.
        progress: called with (done, total).
        warn: warn when a complete method leaves a gap over 1 %, where the model is in training mode, or where its
            gradients are dear (a loop until a condition holds, inputs of many numbers).
        **options: of the method, such as ``nodes``, ``samples``, ``seed``, ``mode``.

    Raises:
        DataError: x, baseline or background do not fit the transform or are not finite; attributions are not finite.
        ArgumentError: unknown method, option, target out of range, lossy transform without a residual policy.
        ProblemError: a gradient method on a black box.

    >>> import numpy as np
    >>> result = attribute(lambda x: x @ np.array([1.0, 2.0]), np.array([[3.0, 4.0]]), method="ablation")
    >>> result.scores.tolist()
    [[3.0, 8.0]]
    """
    chosen = find(method)
    chosen.check(options)
    with as_given(f, x, params):
        play = build(
            f,
            x,
            transform=transform,
            method=chosen,
            target=target,
            params=params,
            baseline=baseline,
            baseline_in=baseline_in,
            background=background,
            groups=groups,
            labels=labels,
            residual=residual,
            chunk=chunk,
            progress=progress,
        )
        if play.cost and warn and math.prod(play.game.rows.x.shape[1:]) >= MANY_DIRECTIONS:
            warnings.warn(play.cost, CostWarning, stacklevel=2)
        return _finish(play, chosen, chosen(play, options), {**chosen.options, **options}, warn)


def _finish(play: Play, method: Method, scores: Scores, options: Options, warn: bool) -> Attribution:
    _check_finite(play, method, scores, options)
    both = play.outputs(np.array([[0.0] * play.players, [1.0] * play.players]))
    f_base = both[:, 0] if scores.base is None else scores.base
    f_x = both[:, 1]
    notes = [play.note, *filter(None, (play.caution, play.cost))]
    if play.caution and warn:
        warnings.warn(play.caution, ModelWarning, stacklevel=3)
    if play.game.residual_plays:
        notes.append("the residual of the transform is a player of its own")
    elif not play.game.transform.is_exact:
        notes.append("the residual of the transform is held fixed: it is part of the baseline")
    if method.note:
        notes.append(method.note)
    result = Attribution(
        scores=scores.players,
        labels=play.labels,
        coefficients=scores.coefficients,
        f_x=f_x,
        f_base=np.asarray(f_base),
        gap=f_x - f_base - scores.players.sum(1),
        method=method.name,
        transform=play.game.transform.name,
        options=options,
        notes=tuple(notes),
        play=play,
    )
    if not method.complete or not play.game.is_disjoint or result.relative_gap.max() <= LARGE_GAP:
        return result
    share = float((result.relative_gap > LARGE_GAP).mean())
    jumps = "the model jumps where its loop takes another number of passes: use a Shapley method" if play.cost else ""
    text = (
        f"attributions of {share:.0%} of the inputs miss f(x) - f(baseline) by more than {LARGE_GAP:.0%} "
        f"(worst {result.relative_gap.max():.1%}): {play.caution or jumps or method.cure.format(**options)}"
    )
    if warn:
        warnings.warn(text, CompletenessWarning, stacklevel=3)
    return replace(result, notes=(*result.notes, text))


def _check_finite(play: Play, method: Method, scores: Scores, options: Options) -> None:
    for found in (scores.coefficients, scores.players):
        if found is not None and not np.isfinite(found).all():
            where = np.argwhere(~np.isfinite(found))[0]
            if method.tokens:
                interpreters.find_domain_error(play, int(where[0]), int(where[1]), options.get("mode", "shapley"))
            count = int((~np.isfinite(found)).sum())
            column = play.labels[where[1]] if found is scores.players else f"coefficient {tuple(where[1:].tolist())}"
            raise DataError(
                f"{method.name}: {count} values of the attribution are not finite, first input {where[0]}, {column}. "
                "The model's value or gradient is not finite there or at the baseline: try another baseline or "
                "float64"
            )
