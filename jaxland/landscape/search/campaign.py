"""What to do next: a round of jobs planned from the store alone, so that a resumed search plans what an unbroken one
would, and any number of workers end in one database.

Random quenches and basin hopping come first, then a campaign of single-ended searches and bands between pairs chosen
by several strategies. Each round goes to the strategy with most gain per unit of work so far; work counts gradients,
not seconds, and is therefore the same on every machine.

How much strangers are worth follows from how often a random quench meets a known minimum (``familiar``). Where it
always does, the landscape can be exhausted: every new transition state is a gain. Where it never does (a glass: real
tables with many weights), minima that are not joined to the lowest are too many ever to be joined: a gain is what
grows the part connected to the lowest minimum, and searches leave from there; after the first quarter of the random
quenches the others, and most walkers, would but add strangers, and are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxland.errors import ConvergenceError
from jaxland.landscape.schema import RoundRecord
from jaxland.landscape.search.completeness import ENOUGH, EXHAUSTED, ROUNDS, SATURATED
from jaxland.landscape.search.displacement import choose, no_yields, pieces
from jaxland.landscape.search.jobs import PAIRS, SINGLE_ENDED, Job
from jaxland.landscape.search.kinks import Kinks
from jaxland.landscape.search.pairs import Distances, Pairs, to_expand
from jaxland.landscape.search.settings import SearchSettings
from jaxland.landscape.store import Store

_FADE = 0.6  # weight of a strategy's older rounds in its yield
_OFTEN = 5
_DEEPER = 5  # times as many hops as asked for, at most, while each round of them finds a new lowest minimum
_FIRST = 32  # random quenches, or a quarter of them, that show whether the others can meet what is known
_GLASS = 0.1  # chance of meeting a known minimum below which a landscape is taken for a glass
_PATIENCE = 8  # rounds after which a strategy that was passed over is tried again


class NextRound(NamedTuple):
    """A round to start: kind and jobs."""

    kind: str
    jobs: list[Job]


def next_round(store: Store, settings: SearchSettings, distances: Distances) -> NextRound | str:
    """The next round of a search, or why it is finished (see ``completeness.ending``).

    Args:
        store: what is known; no round may be open.
        settings: what the search does.
        distances: cache of distances between the store's minima.

    Raises:
        ConvergenceError: the random quenches found no minimum.
    """
    s, done = settings.widened(), store.rounds()
    known = familiar(done)
    if not done:
        first = max(_FIRST, s.starts // 4) if s.rounds else s.starts
        return NextRound("random", list(range(min(s.starts, first))))
    begun = sum(row["total"] for row in done)
    if all(row["kind"] == "random" for row in done) and begun < s.starts and known * s.starts / begun > _GLASS:
        return NextRound("random", list(range(begun, s.starts)))
    if not len(store.minima):
        on_kinks = Kinks.of_json(store.get("kinks"))
        if on_kinks.ended:
            raise ConvergenceError(
                f"none of {s.starts} random starts reached a verified minimum: {on_kinks.ended} ended on kinks, "
                f"where the gradient jumps, the lowest at {on_kinks.lowest * store.scale.energy:.6g}; use a smooth "
                "activation (tanh, gelu), or smooth what has kinks (relu, |x|, max)"
            )
        raise ConvergenceError(
            f"none of {s.starts} random starts reached a verified minimum (rms gradient "
            f"{store.tolerances.rms * store.scale.gradient:.3g}); raise the regularisation, lower start_scale, or "
            "loosen the tolerance"
        )
    hops = store.get("hopped", sum(row["kind"] == "hop" for row in done))
    # Whatever is joined to a lowest minimum that is soon undercut is lost: where a search would have to dig, hops dig
    # first, which cost a tenth.
    falling = known <= _GLASS and hops < _DEEPER * s.hops and _fell(store, done)
    if s.walkers and (hops < s.hops or falling):
        several = s.hops - hops if hops < s.hops else min(s.hops, _DEEPER * s.hops - hops)
        walkers = s.walkers if known > _GLASS else -(-s.walkers // 4)
        return NextRound("hop", _hop_jobs(store, s, range(hops, hops + several), walkers))
    past = [row for row in done if row["kind"] in (*SINGLE_ENDED, *PAIRS)]
    climbs = _share(s.climbs, known)
    if climbs and not any(row["kind"] == "climb" for row in past):
        return NextRound("climb", list(range(climbs)))
    if len(past) - bool(climbs) >= s.rounds:
        return ROUNDS
    label = store.components()
    lowest = int(np.argmin(store.minima.energies))
    if s.minima is not None and int(np.sum(label == label[lowest])) >= s.minima:
        return ENOUGH
    return _campaign(store, s, distances, past, known)


def familiar(done: list[RoundRecord]) -> float:
    """Chance that a random quench ends in a known minimum, by the repeats among them (Laplace's rule)."""
    found, new = (sum(row[name] for row in done if row["kind"] == "random") for name in ("found", "new_minima"))
    return (found - new + 1) / (found + 2)


def _fell(store: Store, done: list[RoundRecord]) -> bool:
    """Whether the last round was one of hops and found a new lowest minimum."""
    lowest = int(np.argmin(store.minima.energies))
    return done[-1]["kind"] == "hop" and int(store.minima.rows["round"][lowest]) == done[-1]["id"]


def _share(count: int, part: float) -> int:
    """A part of so many jobs: some, unless none are wanted."""
    return max(min(count, 4), round(part * count))


def _hop_jobs(store: Store, s: SearchSettings, steps: range, count: int) -> list[Job]:
    order = np.argsort(store.minima.energies, kind="stable")
    walkers = store.get("walkers", [int(order[k % len(order)]) for k in range(count)])
    temperature = None if s.temperature is None else s.temperature / store.scale.energy
    if temperature is None:
        temperature = store.get("temperature") if steps.start else 0.25 * float(np.std(store.minima.energies))
        store.put("temperature", temperature)
    energies = store.minima.energies
    return [[w, k, i, temperature, float(energies[i])] for w, i in enumerate(walkers) for k in steps]


def _campaign(
    store: Store, s: SearchSettings, distances: Distances, past: list[RoundRecord], known: float
) -> NextRound | str:
    pairs = Pairs(store, distances)
    split = bool((pairs.label != pairs.label[pairs.order[0]]).any())
    # Where nothing recurs, strategies that mostly join strangers are tried with a few jobs, not with many.
    count = _share(s.pairs, known)
    # What can be exhausted grows wide: rounds keep up with it.
    climbs = _share(s.climbs, known) + round(known * len(store.saddles) / 4)
    # In a glass a search is dear and what displacements come back is worth knowing soon: rounds are short.
    expand = s.expand + round(known * len(store.minima) / 8) if known > _GLASS else -(-s.expand // 4)
    climbed = sum(row["total"] for row in past if row["kind"] == "climb")
    arms: dict[str, Callable[[], list[Job]]] = {}
    if s.searches:
        arms["expand"] = lambda: _expand_jobs(store, s, expand, round(known * expand), len(past))
    if s.climbs:
        arms["climb"] = lambda: list(range(climbed, climbed + climbs))
    if s.pairs:
        arms["join"] = lambda: _jobs(pairs.join(count) if known > _GLASS else pairs.bridge(max(count, s.pairs // 4)))
        arms["nearest"] = lambda: _jobs(pairs.nearest(count))
        arms["untrap"] = lambda: _jobs(pairs.untrap(count))
        arms["lowest"] = lambda: _jobs(pairs.lowest(count))
        arms["chance"] = lambda: _jobs(pairs.chance(count, [s.seed, 9, len(past)]))
    nothing_new = _nothing_new(store, s, past)
    if nothing_new:
        # Only a hole in the network is worth more work; without single-ended searches every pair is.
        arms = {name: arm for name, arm in arms.items() if split and name == "join"}
    for name in _order(list(arms), past, split, _gains(store, past, known), known):
        jobs = arms[name]()
        if jobs:
            return NextRound(name, jobs)
    return SATURATED if nothing_new else EXHAUSTED


def _jobs(pairs: list[tuple[int, int]]) -> list[Job]:
    return [list(pair) for pair in pairs]


def _expand_jobs(store: Store, s: SearchSettings, count: int, strangers: int, turn: int) -> list[Job]:
    done = {int(i): int(k) for i, k in store.get("expanded", {}).items()}
    minima = to_expand(store, done, count, s.searches, strangers)
    local = bool(pieces(store.problem.symmetry))
    yields, wanted = store.get("displacements", no_yields()), len(minima) * s.searches
    kinds = choose(yields, wanted, local, store.problem.size, [s.seed, 10, turn])
    jobs: list[Job] = []
    for i in minima:
        for _ in range(s.searches):
            jobs.append([i, done.get(i, 0), kinds[len(jobs)]])
            done[i] = done.get(i, 0) + 1
    return jobs


def _gains(store: Store, past: list[RoundRecord], known: float) -> list[float]:
    """Of each round: minima newly joined to the lowest, and new transition states as far as strangers recur."""
    connected = {int(k): n for k, n in store.get("connected", {}).items()}
    gains = []
    for row in past:
        growth = connected.get(row["id"], 0) - connected.get(row["id"] - 1, 0) if row["id"] in connected else 0
        gains.append(max(growth, 0) + known * row["new_saddles"])
    return gains


def _nothing_new(store: Store, s: SearchSettings, past: list[RoundRecord]) -> bool:
    """Whether single-ended searches have found known transition states only, ``patience`` times as many as there are.

    Every minimum must have been climbed out of, too. Searches that end nowhere count a tenth. Hits are uneven: while
    a known one was found fewer than ``_OFTEN`` times, one a little rarer may well be missing, and so many times more
    patience is asked for (not for ever: some are met by bands alone).
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
    rare = len(store.saddles) > 0 and int(np.min(store.saddles.hits)) < _OFTEN
    return max(found, jobs / 10) >= (_OFTEN if rare else 1) * s.patience * max(len(store.saddles), 3)


def _order(arms: list[str], past: list[RoundRecord], split: bool, gains: list[float], known: float) -> list[str]:
    """Strategies, the one to use first leading: forgotten ones, then by yield; one in pieces is joined first.

    Where nothing recurs the climb out of minima leads, and what was never tried waits until its turn has come.
    """

    def merit(arm: str) -> float:
        gain = work = 0.0
        rounds = [(row, g) for row, g in zip(reversed(past), reversed(gains)) if row["kind"] == arm]
        for age, (row, g) in enumerate(rounds):
            gain, work = gain + _FADE**age * g, work + _FADE**age * row["work"]
        return gain / max(work, 1.0)

    last = {arm: max((k for k, row in enumerate(past) if row["kind"] == arm), default=-1) for arm in arms}
    merits = {arm: merit(arm) for arm in arms}
    spacing = 0 if known > _GLASS else _PATIENCE  # rounds between first tries

    def key(arm: str) -> tuple:
        waited = len(past) - last[arm]
        if last[arm] < 0 and len(past) < spacing * arms.index(arm) and arm != "join":
            return (3, 0, arms.index(arm))
        if last[arm] < 0 or waited > _PATIENCE + max(spacing, 1) * len(arms):
            return (0, last[arm], arms.index(arm))
        if arm == "join" and split and last["join"] != len(past) - 1 and merits[arm] > 0.1 * max(merits.values()):
            return (1, 0, 0)
        return (2, -merits[arm], arms.index(arm))

    return sorted(arms, key=key)
