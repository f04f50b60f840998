"""What the page of the Hessian toolbox says first: whether its numbers hold, and what they say."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxland.hessian import Explanation, Influence
from jaxland.report.html import Page
from jaxland.report.words import Headline, listed, number

PREDICTIONS, RESTS, LOOK = "Predictions", "What the predictions rest on", "Training rows to look at"
# Question, answer, evidence, title of its section, whether in doubt.
Asked = tuple[str, str, str, str, bool]


class RowNames(NamedTuple):
    """What a user calls the rows: lines of their file, say, where the arrays hold rows of it.

    called: "line" or "row"; training [n], points [T]: number of each training row and each test point.
    """

    called: str
    training: np.ndarray
    points: np.ndarray

    def points_of(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table of test points with what they are called, as a new second column."""
        out = table.copy()
        out.insert(1, self.called, self.points[out["test point"].to_numpy()])
        return out

    def influence(self, found: Influence) -> pd.DataFrame:
        """``found.to_pandas()`` with what its rows are called."""
        out = self.points_of(found.to_pandas())
        at = out.columns.get_loc("training example") + 1
        out.insert(at, f"training {self.called}", self.training[out["training example"].to_numpy()])
        return out


def hessian_headline(explained: Explanation, right: np.ndarray | None, rows: RowNames) -> Headline:
    """Whether the numbers hold, how many predictions are shaky, and where to look; ``right`` [T] of a classifier."""
    return _headline(_answers(explained, right, rows), explained, rows)


def _headline(answers: list[Asked], explained: Explanation, rows: RowNames) -> Headline:
    standing, *told = answers
    said = f"{told[0][1]} {told[1][1]}"
    own = explained.influence.self_influence
    if own is not None:
        first = listed([str(k) for k in rows.training[np.argsort(-own.values)[:3]]])
        said += f" Training {rows.called}s to look at first, atypical or mislabelled: {first}."
    if not standing[4]:
        return Headline(said, False)
    return Headline(f"Read with care: {standing[1][0].lower()}{standing[1][1:]} {said}", True)


def _answers(explained: Explanation, right: np.ndarray | None, rows: RowNames) -> list[Asked]:
    lowest = explained.spectrum.lowest
    return [
        _standing(explained, float(lowest[0]) if len(lowest) else float("nan")),
        _sure(explained, right, rows),
        _extrapolates(explained, rows),
        *_leans(explained, rows),
    ]


def hessian_summary(page: Page, explained: Explanation, right: np.ndarray | None, rows: RowNames) -> None:
    """What can be trusted of the numbers below, and what they say; ``right`` [T] of a classifier."""
    curvature, u = explained.curvature, explained.uncertainty
    answers = _answers(explained, right, rows)
    said = _headline(answers, explained, rows)
    page.headline(said.sentence, refused=said.refused)
    cards = [
        (f"{curvature.problem.size:,}", "parameters"),
        (f"{curvature.problem.n:,}", "training rows"),
        (f"{len(u.value):,}", "predictions explained"),
        (
            f"{number(curvature.damping)}",
            f"damping of the {'Hessian' if curvature.kind == 'hessian' else curvature.kind}",
        ),
    ]
    if right is not None:
        cards.append((f"{right.mean():.1%}", "of them right"))
    page.cards(cards)
    page.answers(answers)


def _standing(explained: Explanation, lowest: float) -> Asked:
    """Whether the model stands at a minimum, which all numbers take for granted."""
    c = explained.curvature
    evidence = (
        f"gradient of the training loss {number(c.gradient_norm)}, lowest eigenvalue {number(lowest)} (loss per "
    )
    evidence += f"squared parameter), damping {number(c.damping)}"
    sweep = explained.influence.sweep
    if sweep is not None and np.isfinite(sweep.to_first).any():
        least = float(np.nanmin(sweep.to_first))
        evidence += f"; over other dampings the ranking of training rows keeps a rank correlation of {least:.2f}"
    doubt = bool(c.warnings)
    said = "The model does not stand at a minimum." if doubt else "Yes."
    return "Is the model trained to a minimum?", said, evidence, "Curvature", doubt


def _sure(explained: Explanation, right: np.ndarray | None, rows: RowNames) -> Asked:
    u, first = explained.uncertainty, int(explained.least_certain()[0])
    low, high = (limit[first] for limit in u.interval(0.9))
    evidence = f"median standard deviation of the {u.of} {number(float(np.median(u.std)))}"
    question = "How sure are the predictions?"
    evidence += f", least certain {rows.called} {rows.points[first]} ({number(float(u.value[first]))}, 90 % between "
    evidence += f"{number(float(low))} and {number(float(high))})"
    open_ = explained.could_turn()
    if open_ is None:
        said = f"The {u.of} moves by {number(float(np.median(u.std)))} (median) when the training rows are resampled."
        return question, said, evidence, PREDICTIONS, False
    said = f"{int(open_.sum())} of {len(u.value)} predictions could turn over if the training rows were drawn anew."
    evidence += "; turn over: another class leads within the 90 % interval"
    if right is not None and open_.any() and not open_.all():
        evidence += f"; of these {(~right)[open_].mean():.0%} are wrong, of the others {(~right)[~open_].mean():.0%}"
    return question, said, evidence, PREDICTIONS, bool(open_.mean() > 0.2)


def _extrapolates(explained: Explanation, rows: RowNames) -> Asked:
    scores = explained.extrapolation.scores
    middle = float(np.median(scores))
    far = np.flatnonzero(scores > 5 * max(middle, 1e-300)) if middle > 0 else np.array([], int)
    evidence = f"score at m = {explained.extrapolation.m} dropped modes: median {number(middle)}, largest "
    evidence += f"{number(float(scores.max()))} ({rows.called} {rows.points[scores.argmax()]})"
    names = listed([str(i) for i in rows.points[far]], 6)
    said = (
        f"{len(far)} prediction{'s are' if len(far) > 1 else ' is'} far from what the training rows fix "
        f"({rows.called}{'s' if len(far) > 1 else ''} {names})."
        if len(far)
        else "No prediction stands out as extrapolated."
    )
    return "Does the model extrapolate?", said, f"{evidence}; far: five times the median", PREDICTIONS, bool(len(far))


def _leans(explained: Explanation, rows: RowNames) -> list[Asked]:
    """Training rows that many predictions rest on, and those to look at."""
    found = explained.influence
    index, count = np.unique(np.concatenate([found.most_positive, found.most_negative], axis=1), return_counts=True)
    order = np.argsort(-count, kind="stable")[:3]
    names = [f"{rows.called} {rows.training[index[k]]} ({count[k]} of {len(found.quantity)})" for k in order]
    out: list[Asked] = [
        (
            "What do the predictions rest on?",
            f"Most often among the rows that matter most: {listed(names)}.",
            f"training rows whose removal changes the {found.of} of a point most, {found.most_positive.shape[1]} at "
            "each end; first order, one row at a time",
            RESTS,
            False,
        )
    ]
    own = found.self_influence
    if own is not None:
        first = np.argsort(-own.values)[:5]
        out.append(
            (
                "Which training rows should be looked at?",
                f"{rows.called.capitalize()}s {listed([str(i) for i in rows.training[first]])}.",
                "largest self-influence: atypical, or mislabelled; a list to look at, not a verdict",
                LOOK,
                False,
            )
        )
    return out
