"""What to do next: a round of jobs planned from the store alone, so that a resumed search plans what an unbroken one
would, and any number of workers end in one database.

Random quenches and basin hopping come first, then a campaign of single-ended searches and bands between pairs chosen
by several strategies. Each round goes to the strategy with most new transition states per unit of work so far; work
counts gradients, not seconds, and is therefore the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxland.errors import ConvergenceError
from jaxland.landscape.schema import RoundRecord
from jaxland.landscape.search.jobs import PAIRS, SINGLE_ENDED, Job
from jaxland.landscape.search.pairs import Distances, Pairs, to_expand
from jaxland.landscape.search.settings import SearchSettings
from jaxland.landscape.store import Store

_FADE = 0.6  # weight of a strategy's older rounds in its yield
_PATIENCE = 8  # rounds after which a strategy that was passed over is tried again


class NextRound(NamedTuple):
    """A round to start: kind and jobs."""

    kind: str
    jobs: list[Job]


def next_round(store: Store, settings: SearchSettings, distances: Distances) -> NextRound | None:
    """The next round of a search, or None when it is finished.

    Args:
        store: what is known; no round may be open.
        settings: what the search does.
        distances: cache of distances between the store's minima.

    Raises:
        ConvergenceError: the random quenches found no minimum.
    """
    s, done = settings.widened(), store.rounds()
    if not done:
        return NextRound("random", list(range(s.starts)))
    if not len(store.minima):
        raise ConvergenceError(
            f"none of {s.starts} random starts reached a verified minimum (rms gradient "
            f"{store.tolerances.rms:g}); raise the regularisation, lower start_scale, or loosen the tolerance"
        )
    hops = sum(row["kind"] == "hop" for row in done)
    if s.walkers and hops < s.hops:
        return NextRound("hop", _hop_jobs(store, s, hops))
    past = [row for row in done if row["kind"] in (*SINGLE_ENDED, *PAIRS)]
    if s.climbs and not any(row["kind"] == "climb" for row in past):
        return NextRound("climb", list(range(s.climbs)))
    if len(past) - bool(s.climbs) >= s.rounds:
        return None
    label = store.components()
    lowest = int(np.argmin(store.minima.energies))
    if s.minima is not None and int(np.sum(label == label[lowest])) >= s.minima:
        return None
    return _campaign(store, s, distances, past, bool((label != label[lowest]).any()))


def _hop_jobs(store: Store, s: SearchSettings, hops: int) -> list[Job]:
    order = np.argsort(store.minima.energies, kind="stable")
    walkers = store.get("walkers", [int(order[k % len(order)]) for k in range(s.walkers)])
    temperature = s.temperature
    if temperature is None:
        temperature = 0.25 * float(np.std(store.minima.energies)) if hops == 0 else store.get("temperature")
        store.put("temperature", temperature)
    return [[w, hops, walkers[w], temperature] for w in range(len(walkers))]


def _campaign(
    store: Store, s: SearchSettings, distances: Distances, past: list[RoundRecord], split: bool
) -> NextRound | None:
    pairs = Pairs(store, distances)
    climbed = sum(row["total"] for row in past if row["kind"] == "climb")
    arms: dict[str, Callable[[], list[Job]]] = {}
    if s.searches:
        arms["expand"] = lambda: _expand_jobs(store, s)
    if s.climbs:
        arms["climb"] = lambda: list(range(climbed, climbed + s.climbs))
    if s.pairs:
        arms["join"] = lambda: _jobs(pairs.join(s.pairs))
        arms["nearest"] = lambda: _jobs(pairs.nearest(s.pairs))
        arms["untrap"] = lambda: _jobs(pairs.untrap(s.pairs))
        arms["lowest"] = lambda: _jobs(pairs.lowest(s.pairs))
        arms["chance"] = lambda: _jobs(pairs.chance(s.pairs, [s.seed, 9, len(past)]))
    if _nothing_new(store, s, past):
        # Only a hole in the network is worth more work; without single-ended searches every pair is.
        arms = {name: arm for name, arm in arms.items() if split and name == "join"}
    for name in _order(list(arms), past, split):
        jobs = arms[name]()
        if jobs:
            return NextRound(name, jobs)
    return None


def _jobs(pairs: list[tuple[int, int]]) -> list[Job]:
    return [list(pair) for pair in pairs]


def _expand_jobs(store: Store, s: SearchSettings) -> list[Job]:
    done = {int(i): int(k) for i, k in store.get("expanded", {}).items()}
    return [
        [i, k] for i in to_expand(store, done, s.expand) for k in range(done.get(i, 0), done.get(i, 0) + s.searches)
    ]


def _nothing_new(store: Store, s: SearchSettings, past: list[RoundRecord]) -> bool:
    """Whether single-ended searches have found known transition states only, ``patience`` times as many as there are.

    Every minimum must have been climbed out of, too. Searches that end nowhere count a tenth.
    """
    if s.searches and len(store.get("expanded", {})) < len(store.minima):
        return False
    if not (s.searches or s.climbs):
        return False
    found = jobs = 0
    for row in reversed(past):
        if row["new_saddles"]:
            break
        if row["kind"] in SINGLE_ENDED:
            found, jobs = found + row["found"], jobs + row["total"]
    return max(found, jobs / 10) >= s.patience * max(len(store.saddles), 3)


def _order(arms: list[str], past: list[RoundRecord], split: bool) -> list[str]:
    """Strategies, the one to use first leading: forgotten ones, then by yield; one in pieces is joined first."""

    def merit(arm: str) -> float:
        new = work = 0.0
        for age, row in enumerate(row for row in reversed(past) if row["kind"] == arm):
            new, work = new + _FADE**age * row["new_saddles"], work + _FADE**age * row["work"]
        return new / max(work, 1.0)

    last = {arm: max((k for k, row in enumerate(past) if row["kind"] == arm), default=-1) for arm in arms}
    merits = {arm: merit(arm) for arm in arms}

    def key(arm: str) -> tuple:
        never = last[arm] < 0
        waited = len(past) - last[arm]
        if never or waited > _PATIENCE + len(arms):
            return (0, last[arm], arms.index(arm))
        if arm == "join" and split and last["join"] != len(past) - 1 and merits[arm] > 0.1 * max(merits.values()):
            return (1, 0, 0)
        return (2, -merits[arm], arms.index(arm))

    return sorted(arms, key=key)
