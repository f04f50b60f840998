"""What the evidence of a landscape says: one headline, and an answer to every question with its uncertainty."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from jaxland.landscape.interpretation import Interpretation
from jaxland.landscape.search.completeness import Completeness
from jaxland.landscape.weights.comparison import Comparison, rank_correlation
from jaxland.landscape.weights.group import GroupConservation
from jaxland.report.conserved.findings import (
    called,
    measure_of,
    removal_against_spread,
    tested,
    tested_groups,
    untested,
)
from jaxland.report.questions import GRAPH, GROUPS, INPUTS, LINEAR, MATTER, OTHERS, TESTS
from jaxland.report.words import Headline, correlation, listed, number, p_value

# Rankings of fewer inputs are not compared.
RANKABLE = 5


class Answer(NamedTuple):
    """A question, what the evidence says, the numbers behind it, and the section that shows them.

    ``doubt`` marks answers that are no, not clear, or could not be had.
    """

    question: str
    answer: str
    evidence: str
    section: str
    doubt: bool


def too_sparse(found: Interpretation) -> str:
    """Why the landscape is too sparse to conclude anything from; empty where it is not."""
    land, least = found.landscape, found.told.settings.min_members
    joined = int((land.components() == 0).sum())
    if land.n_minima == 1:
        return "only one minimum was found: every search ended in the same network, and there is nothing to compare"
    if land.n_ts == 0:
        return f"no transition state was found yet: how the {land.n_minima:,} minima belong together is not known"
    if joined < min(least, land.n_minima):
        return f"only {joined} of {land.n_minima:,} minima {'is' if joined == 1 else 'are'} joined to the best so far"
    return ""


def headline(found: Interpretation) -> Headline:
    """The conclusion that all evidence together allows."""
    sparse = too_sparse(found)
    if sparse:
        more = "" if found.landscape.n_minima == 1 else " The same command, given more time, goes on from here."
        return Headline(f"No conclusion. {sparse[0].upper()}{sparse[1:]}.{more}{_alone(found)}", True)
    told, group = found.told, found.told.headline
    if group is None:
        least = told.settings.min_members
        why = f"no group of at least {least} joined minima holds the best network"
        if found.landscape.n_minima < least:
            why = f"{found.landscape.n_minima} networks were found, and a group takes {least}"
        return Headline(f"No conclusion on weights: {why}.{_alone(found)}", True)
    shared = _shared_inputs(group, told.alpha)
    family = _is_family(group, told.alpha)
    leaning = _leaning(group)
    if not family:
        said = "Good networks of this landscape share no weights beyond chance: single weights explain nothing here"
        return Headline(f"{said}{'; ' + leaning if leaning else ''}.{_beside_linear(found)}", False)
    use = f" on how to use {listed(shared, 5)}" if shared else ", though on no single input"
    said = f"The networks of {called(told, group)} agree beyond chance{use}"
    return Headline(f"{said}{_weighed(group, leaning)}.{_beside_linear(found)}", False)


def _weighed(group: GroupConservation, leaning: str) -> str:
    """What validation and other measures make of the agreement."""
    check, compared = group.validation, group.comparison
    if check is None:
        parts = "; whether the shared weights matter was not tested"
    elif check.supported and (check.supported_like or not check.like_size):
        parts = ", and shuffling these weights hurts more than shuffling others"
    elif check.supported:
        parts = ", but their weights do not matter more than their neighbours in the same layers"
    elif check.supported_like:
        parts = ", and shuffling these weights hurts more than shuffling their neighbours in the same layers"
    else:
        parts = ", but these weights matter no more than others, so agreement must not be read as importance"
    if compared is None:
        return parts
    if len(compared.labels) < RANKABLE:
        return f"{parts}{'; ' + leaning if leaning else ''}"
    verdict = _relation(compared)
    if verdict == "agree":
        return f"{parts}; permutation importance ranks the inputs alike"
    if verdict == "contradict":
        return f"{parts}; permutation importance contradicts it: {leaning}"
    return f"{parts}; permutation importance does not confirm the ranking{': ' + leaning if leaning else ''}"


def _leaning(group: GroupConservation) -> str:
    top = [] if group.comparison is None else group.comparison.leading(3)
    return f"by permutation the networks lean on {listed(top)}" if top else ""


def _alone(found: Interpretation) -> str:
    """What can be said of the best network where groups say nothing; with a leading space."""
    needed = found.importance
    top = [] if needed is None else needed.leading(3)
    said = f" By permutation the best network leans on {listed(top)}." if top else ""
    return said + _beside_linear(found)


def _beside_linear(found: Interpretation) -> str:
    """That a linear model does as well, where it does; with a leading space."""
    line = found.linear
    if line is None or line.better >= 2:
        return ""
    return f" A linear model {'is better' if line.better <= -2 else 'does as well'}."


def _shared_inputs(group: GroupConservation, alpha: float) -> list[str]:
    return group.leading_inputs(alpha) if group.q_group <= alpha else group.agreeing_inputs(alpha)


def _is_family(group: GroupConservation, alpha: float) -> bool:
    return bool(group.q_group <= alpha) or group.closer_than_chance(alpha)


def _relation(compared: Comparison) -> str:
    """agree, contradict, or open."""
    rho, p = compared.correlations[measure_of(compared), "permutation importance"]
    if not np.isfinite(rho) or p > 0.05:
        return "open"
    return "agree" if rho > 0 else "contradict"


def answers(found: Interpretation) -> list[Answer]:
    """What every question of the report is answered with, in the order of its sections."""
    group = found.told.headline
    out = [_joined(found), *_better(found), *_linear(found), *_needed(found)]
    if group is not None:
        out += [_shares(found, group), _matters(found, group), *_agrees(found, group)]
    return out


def _joined(found: Interpretation) -> Answer:
    land = found.landscape
    joined = int((land.components() == 0).sum())
    share = joined / land.n_minima
    said = f"{joined:,} of {land.n_minima:,} minima ({share:.0%}) are joined to the best."
    facts = dict(land.statistics.get("completeness") or {}).get("minima")
    between = land.n_ts - int(land.degenerate.sum())
    evidence = f"{between:,} passes between minima are known; "
    if facts:
        evidence += f"{Completeness(**facts).describe('minima')}; a lower bound, as wide basins are found first"
    else:
        evidence += "how many minima there are in all is not known"
    return Answer(GRAPH, said, evidence, GRAPH, bool(too_sparse(found)) or share < 0.5)


def _better(found: Interpretation) -> list[Answer]:
    scores = found.scores
    if scores is None:
        return []
    rho, n = scores.correlation, len(scores.scores)
    low, best, high = (float(v) for v in (scores.scores.min(), scores.scores[0], scores.scores.max()))
    spread = f"test {scores.metric} from {number(low, 4)} to {number(high, 4)}, {number(best, 4)} at the lowest loss"
    if n < 3:
        return [Answer(TESTS, "Too few networks to tell.", spread, TESTS, True)]
    if not np.isfinite(rho):
        return [Answer(TESTS, "All networks do equally well.", spread, TESTS, True)]
    clear = lower_is_better(found) is not None
    said = ("Yes" if rho < 0 else "No: a lower loss means worse test results") if clear else "Not clear"
    evidence = f"{spread}; loss against {scores.metric} {correlation(rho, n)}"
    whole = over_all(found)
    if whole is not None:
        evidence += f", over all {found.landscape.n_minima:,} found {correlation(whole[0], found.landscape.n_minima)}"
    evidence += ", minima taken as independent"
    return [Answer(TESTS, f"{said}.", evidence, TESTS, not clear or rho > 0)]


def over_all(found: Interpretation) -> tuple[float, float] | None:
    """Rank correlation of loss and test results over all minima and its p-value, where not all are drawn."""
    scores, values = found.scores, found.values
    if scores is None or values is None or scores.metric not in values.names:
        return None
    if found.landscape.n_minima == len(scores.scores):
        return None
    return rank_correlation(found.landscape.energies, values[scores.metric])


def lower_is_better(found: Interpretation) -> bool | None:
    """Whether networks of lower loss do better on the test data; None where the joined ones or all leave it open."""
    scores, whole = found.scores, over_all(found)
    if scores is None or not scores.p_value <= 0.05:
        return None
    better = scores.correlation < 0
    if whole is not None and not (whole[1] <= 0.05 and (whole[0] < 0) == better):
        return None
    return bool(better)


def _linear(found: Interpretation) -> list[Answer]:
    line = found.linear
    if line is None:
        return []
    gap = f"{line.network - line.linear:+.4f} ± {line.difference_std:.4f}"
    evidence = (
        f"test {line.metric} {line.network:.4f} ± {line.network_std:.4f} against {line.linear:.4f} ± "
        f"{line.linear_std:.4f} of a linear model, difference {gap} (bootstrap of {line.rows:,} test rows); "
        f"the linear model leans on {listed(line.leading(3))}"
    )
    if line.better >= 2:
        return [Answer(LINEAR, "Yes.", evidence, LINEAR, False)]
    said = "No: the linear model is better." if line.better <= -2 else "Not clearly: a linear model does as well."
    return [Answer(LINEAR, said, evidence, LINEAR, True)]


def _needed(found: Interpretation) -> list[Answer]:
    needed = found.importance
    if needed is None:
        return []
    top, order = needed.leading(4), np.argsort(-needed.permutation, kind="stable")[:4]
    costs = [
        f"{needed.labels[i]} {number(needed.permutation[i])} ± {number(needed.permutation_std[i], 2)}" for i in order
    ]
    said = f"The best network needs {listed(top)} most." if top else "No input that could be told from chance."
    return [Answer(INPUTS, said, f"shuffling costs of test {needed.metric}: {', '.join(costs)}", INPUTS, not top)]


def _shares(found: Interpretation, group: GroupConservation) -> Answer:
    told = found.told
    floor = 1 / (1 + told.settings.draws)
    known = np.isfinite(group.q_group) or np.isfinite(group.q_spread)
    evidence = (
        f"{called(told, group)}: live weights within n = {number(told.threshold)}: {int(group.live_conserved.sum())} "
        f"(q = {p_value(group.q_group)}); weights scatter {number(group.spread_ratio)} times as much as in random "
        f"groups (q = {p_value(group.q_spread)}); {told.settings.draws} random groups: no p below {number(floor, 2)} "
        "can be found"
        if known
        else "there are no other networks to compare with, so chance cannot be told"
    )
    if not known:
        return Answer(GROUPS, "Not testable.", evidence, GROUPS, True)
    if not _is_family(group, told.alpha):
        return Answer(GROUPS, "Nothing beyond chance.", evidence, GROUPS, True)
    names = _shared_inputs(group, told.alpha)
    said = f"Their weights from {listed(names, 6)}." if names else "Weights, but those of no single input."
    return Answer(GROUPS, said, evidence, GROUPS, False)


def _matters(found: Interpretation, group: GroupConservation) -> Answer:
    check = group.validation
    if check is None:
        return Answer(MATTER, "Not tested.", untested(found.told, group), MATTER, True)
    which, shuffles = tested(check), len(check.conserved)
    evidence = (
        f"shuffling {check.size} {which} weights costs {_mean(check.conserved)} of test {check.metric}, random "
        f"others {_mean(check.others)} (p = {p_value(check.p_value)})"
    )
    if check.like_size:
        evidence += (
            f"; within the same layers {_mean(check.like_conserved)} against {_mean(check.like_others)} "
            f"(p = {p_value(check.p_like)})"
        )
    evidence += f"; {shuffles} shuffles: no p below {number(1 / (1 + shuffles), 2)} can be found"
    every = tested_groups(found.told)
    if every.groups > 1:
        evidence += f"; {every.describe()}"
    cost = removal_against_spread(group)
    evidence += f"; {cost}" if cost else ""
    if check.supported and check.supported_like:
        return Answer(MATTER, "Yes, more than others of their layers.", evidence, MATTER, False)
    if check.supported_like:
        said = "More than others of their layers, but not than others anywhere."
        return Answer(MATTER, said, evidence, MATTER, True)
    if check.supported:
        why = "but not more than others of their layers" if check.like_size else "but layers could not be told apart"
        return Answer(MATTER, f"More than random others, {why}.", evidence, MATTER, True)
    return Answer(MATTER, "No: shuffling others costs as much.", evidence, MATTER, True)


def _mean(values: np.ndarray) -> str:
    """A mean and its standard error.

    >>> _mean(np.array([1.0, 3.0]))
    '2 ± 1'
    """
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
    mean = float(values.mean())
    return number(mean) + (f" ± {number(error, 2)}" if np.isfinite(error) else "")


def _agrees(found: Interpretation, group: GroupConservation) -> list[Answer]:
    compared = group.comparison
    if compared is None:
        return []
    ours, n = measure_of(compared), len(compared.labels)
    words = {"conserved mass": "conserved weight", "agreement": "closeness of agreement"}[ours]
    rho, _ = compared.correlations[ours, "permutation importance"]
    slope, _ = compared.correlations[ours, "input gradient"]
    both, _ = compared.correlations["permutation importance", "input gradient"]
    evidence = (
        f"{words} against permutation importance {correlation(rho, n)}, against input gradients "
        f"{correlation(slope, n)}; these two against each other {correlation(both, n)}"
    )
    top = compared.leading(4)
    leads = f" By permutation the networks need {listed(top)} most." if top else ""
    verdict = _relation(compared)
    if n < RANKABLE:
        order = np.argsort(-compared.permutation, kind="stable")
        costs = [
            f"{compared.labels[i]} {number(compared.permutation[i])} ± {number(compared.permutation_std[i], 2)}"
            for i in order
        ]
        evidence = f"shuffling an input costs of test {compared.metric}: {', '.join(costs)}"
        return [Answer(OTHERS, f"Too few inputs to compare rankings.{leads}", evidence, OTHERS, True)]
    said = {
        "agree": "Yes: permutation importance ranks the inputs alike.",
        "contradict": "No: permutation importance ranks the inputs the other way round.",
        "open": "Not clear: the ranking is not that of permutation importance.",
    }[verdict]
    return [Answer(OTHERS, said + leads, evidence, OTHERS, verdict != "agree")]
