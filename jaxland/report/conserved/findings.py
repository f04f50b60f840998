"""What was found of conserved weights, in plain sentences."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxland.landscape.weights.comparison import Comparison, rank_correlation
from jaxland.landscape.weights.conserved import ConservedWeights
from jaxland.landscape.weights.group import GroupConservation
from jaxland.landscape.weights.validation import Validation
from jaxland.report.words import bounds, correlation, listed, number, p_value


class Finding(NamedTuple):
    """One sentence; ``missing`` marks those that say that something is not there."""

    sentence: str
    missing: bool


def findings(conserved: ConservedWeights) -> list[Finding]:
    """What was found, in plain sentences."""
    group = conserved.headline
    if group is None:
        most = conserved.settings.min_members
        return [
            Finding(
                f"No group of at least {most} minima holds the best network: nothing can be said of conserved "
                "weights.",
                True,
            )
        ]
    out = _counted(conserved, group) if group.live_conserved.any() else _none_counted(conserved, group)
    out += _inputs(conserved, group)
    if group.validation is not None:
        out += _validated(group.validation)
    others = [g.name for g in conserved.significant if g.members[0] != 0]
    if others and not (group.q_group <= conserved.alpha):
        out.append(
            Finding(
                "Groups that do not hold the best network, but share more weights than chance gives: "
                f"{listed(others)}.",
                False,
            )
        )
    return out


def _none_counted(conserved: ConservedWeights, group: GroupConservation) -> list[Finding]:
    """No live weight of the group is conserved: do they at least scatter less?"""
    name, k = called(conserved, group), len(group.members)
    within = f"In {name}" + ("" if np.isnan(conserved.cut.delta) else f" ({k} networks)")
    out = [
        Finding(
            f"{within} no active weight stays the same to within n = {number(conserved.threshold)}: judged by that "
            "threshold, nothing is conserved.",
            True,
        )
    ]
    if group.q_spread <= conserved.alpha:
        out.append(
            Finding(
                f"Yet these networks do agree: their weights scatter {number(group.spread_ratio)} times as much as "
                f"those of random groups of networks (q = {p_value(group.q_spread)}), so they are a family of their "
                "own.",
                False,
            )
        )
        close = group.agreeing_inputs(conserved.alpha)
        if close:
            out.append(Finding(f"They agree most on how they use {listed(close, 8)}.", False))
        return out
    out.append(
        Finding(
            "Nor do its weights scatter less than those of random groups of networks"
            + (f" (q = {p_value(group.q_spread)})" if np.isfinite(group.q_spread) else "")
            + ": these networks reach their loss in different ways, and single weights explain nothing here.",
            True,
        )
    )
    return out


def _counted(conserved: ConservedWeights, group: GroupConservation) -> list[Finding]:
    """Whether as many live conserved weights are more than chance gives."""
    k, count, n = len(group.members), int(group.live_conserved.sum()), number(conserved.threshold)
    joined = f"The {k} networks of {called(conserved, group)}, which hold the best one,"
    active = "one active weight" if count == 1 else f"{count} active weights"
    whose = called(conserved, group).capitalize() if np.isnan(conserved.cut.delta) else joined
    if not np.isfinite(group.q_group):
        agree = "agrees" if count == 1 else "agree"
        said = f"{active[0].upper()}{active[1:]} {agree} to within {n} in all {k} networks found. "
        said += "There are no other networks "
        return [Finding(said + "to compare with, so whether that is remarkable cannot be tested.", True)]
    chance = f"random groups{{}} share {number(float(group.null_count.mean()))} on average"
    chance += f" (q = {p_value(group.q_group)})"
    if group.q_group <= conserved.alpha:
        said = f"{whose} share {active} to within {n}; {chance.format(' of networks')}."
        return [Finding(said, False)]
    said = f"{whose} share {active} to within {n}, but {chance.format('')}: not more than chance gives."
    return [Finding(said, True)]


def _inputs(conserved: ConservedWeights, group: GroupConservation) -> list[Finding]:
    """The inputs that the conserved weights belong to."""
    source = group.sources
    if source is None or not group.live_conserved.any():
        return []
    leading = group.leading_inputs(conserved.alpha)
    if leading:
        return [Finding(f"Inputs on whose use all these networks agree beyond chance: {listed(leading, 8)}.", False)]
    if source.mass.any():
        top = [source.labels[i] for i in np.argsort(-source.mass)[:5] if source.mass[i] > 0]
        said = f"The conserved weights belong to {listed(top)}, but no single input stands out from chance "
        return [Finding(said + "after correction for the number of inputs.", True)]
    return [Finding("None of the conserved weights starts at an input: they lie deeper in the network.", True)]


def _validated(check: Validation) -> list[Finding]:
    """What shuffling the weights costs, and whether others of their layers cost as much."""
    which = tested(check)
    said = f"Shuffling the {check.size} {which} weights costs {number(float(check.conserved.mean()))} of test "
    said += f"{check.metric}; shuffling as many random others costs {number(float(check.others.mean()))} "
    out = [Finding(said + f"(p = {p_value(check.p_value)}).", not check.supported)]
    if check.like_size:
        own, theirs = float(check.like_conserved.mean()), float(check.like_others.mean())
        said = f"Within the same layers, the comparison is {number(own)} against {number(theirs)} "
        said += f"(p = {p_value(check.p_like)}): {which} weights "
        said += (
            "matter more than their neighbours."
            if check.supported_like
            else "do not matter more than their neighbours in the layer."
        )
        out.append(Finding(said, not check.supported_like))
    elif check.supported:
        said = f"No layer has both {which} and other live weights to compare: the difference may be that of the "
        out.append(Finding(said + "layers rather than of the weights.", True))
    return out


def called(conserved: ConservedWeights, group: GroupConservation) -> str:
    """What to call a group in a sentence."""
    return f"the {len(group.members)} lowest minima" if np.isnan(conserved.cut.delta) else f"group {group.name}"


def removal_against_spread(group: GroupConservation) -> str:
    """Whether the best network rests more on weights that the networks agree on; empty where that is not known."""
    live = group.live
    if group.removal is None or not live.any():
        return ""
    rho, n = rank_correlation(-group.std[live], group.removal[live])[0], int(live.sum())
    low, high = bounds(rho, n)
    if np.isnan(low):
        return ""
    told = f"costs {'more' if rho > 0 else 'less'} the more closely the networks agree on it"
    if low <= 0 <= high:
        told = "costs no more where the networks agree on it more closely"
    return f"setting a weight alone to zero {told}: {correlation(rho, n)}"


class Tested(NamedTuple):
    """In how many of the groups that were tested the weights mattered more than random others; the same in layers."""

    groups: int
    supported: int
    alike: int
    supported_alike: int

    def describe(self) -> str:
        """One sentence, without its stop."""
        return (
            f"of all {self.groups} groups that could be tested, their weights mattered more than random others in "
            f"{self.supported}, and more than others of the same layers in {self.supported_alike} of {self.alike}"
        )


def tested_groups(conserved: ConservedWeights) -> Tested:
    """What validation says of all groups together."""
    checks = [g.validation for g in conserved.groups if g.validation is not None]
    alike = [v for v in checks if v.like_size]
    return Tested(
        groups=len(checks),
        supported=sum(v.supported for v in checks),
        alike=len(alike),
        supported_alike=sum(v.supported_like for v in alike),
    )


def tested(check: Validation) -> str:
    """What was shuffled: conserved weights, or those that agree most where too few are conserved."""
    return "conserved" if check.what == "conserved" else "most agreeing"


def untested(conserved: ConservedWeights, group: GroupConservation) -> str:
    """Why the weights of a group were not shuffled."""
    if not conserved.test_rows:
        return "there are no test rows to lose performance on: keep some (--test-fraction)"
    count, close = int(group.live_conserved.sum()), int(group.agreeing(conserved.alpha).sum())
    return (
        f"{count} live weights are conserved and {close} scatter less than chance gives, of {int(group.live.sum())} "
        "live ones: at least two weights, and two others, are needed to shuffle "
        f"({conserved.test_rows:,} test rows were at hand)"
    )


def measure_of(compared: Comparison) -> str:
    """What stands for the conserved weights: their mass, or where there is none, how closely weights agree."""
    return "conserved mass" if compared.conserved_mass.any() else "agreement"
