"""One round of a search: its jobs in batches, and what they found merged into the store in the order of the jobs."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import NamedTuple

import numpy as np

from jaxland.landscape.schema import Round
from jaxland.landscape.search.displacement import counted, faded, no_yields
from jaxland.landscape.search.hopping import accepts
from jaxland.landscape.search.jobs import PAIRS, Batch, Finds, allowed_of
from jaxland.landscape.search.kinks import Kinks
from jaxland.landscape.search.settings import SearchSettings
from jaxland.landscape.search.shards import pack_finds, unpack_finds
from jaxland.landscape.search.stationary import Point, TransitionState
from jaxland.landscape.store import Store

_UNMERGED = "unmerged"


class Progress(NamedTuple):
    """Where a search stands; handed to the progress callback a few times a second.

    Attributes:
        stage: kind of the round; round: its number; done, total: of its jobs, stored yet or not.
        minima, saddles: known so far.
        connected: minima joined to the lowest; components: of the network.
        best: energy of the lowest minimum.
        seconds: since the search began.
    """

    stage: str
    round: int
    done: int
    total: int
    minima: int
    saddles: int
    connected: int
    components: int
    best: float
    seconds: float


def batches(r: Round, size: int) -> list[Batch]:
    """The jobs of a round that are not merged yet, so many per batch."""
    rest = Batch(r.kind, r.jobs[r.next_job :])
    return [rest.only(part) for part in rest.parts(size)]


def merge(store: Store, settings: SearchSettings, r: Round, batch: Batch, finds: Finds, seconds: float) -> Round:
    """Take what a batch found into the store, in one transaction; the round with these jobs done."""
    with store.transaction():
        if r.kind in PAIRS:
            store.add_tries(batch.couples())
        found = [find for several in finds.lists for find in several]
        minima = [find for find in found if isinstance(find, Point)]
        states = [find for find in found if isinstance(find, TransitionState)]
        ends = [end for state in states for end in state.ends]
        origins = [pair for pair, several in zip(batch.origins(), finds.lists) for _ in several]
        left = [pair for pair, find in zip(origins, found) if isinstance(find, Point)]
        left += [pair for pair, find in zip(origins, found) if isinstance(find, TransitionState) for _ in find.ends]
        if r.kind == "hop":
            left, moved = _walked(store, settings, batch, finds)
        numbers, new_minima = store.add_minima([*minima, *ends], r.id, left=left)
        joined = numbers[len(minima) :].reshape(-1, 2)
        _, new_saddles = store.add_saddles([state.saddle for state in states], joined, r.id)
        if finds.kinks.ended:
            store.put("kinks", Kinks.of_json(store.get("kinks")).plus(finds.kinks).to_json())
        new = int(new_minima.sum()), int(new_saddles.sum())
        r = store.advance(r, r.next_job + len(batch.jobs), len(found), new, finds.work, seconds)
        if r.kind == "hop":
            _move(store, r, moved)
        if r.kind == "expand":
            _learn(store, batch, finds, joined, new_saddles)
        if r.next_job == len(r.jobs):
            _end(store, r)
    return r


def _learn(store: Store, batch: Batch, finds: Finds, joined: np.ndarray, new: np.ndarray) -> None:
    """Note which kinds of displacement led to new passes out of the minimum that was left."""
    jobs, ends = batch.expansions(), iter(zip(joined.tolist(), new.tolist()))
    came_back = [
        sum(fresh and minimum in pair and pair[0] != pair[1] for pair, fresh in (next(ends) for _ in several))
        for (minimum, _, _), several in zip(jobs, finds.lists)
    ]
    yields = counted(store.get("displacements", no_yields()), [kind for _, _, kind in jobs], came_back)
    store.put("displacements", yields)


def _end(store: Store, r: Round) -> None:
    """After a round's last batch: what the next one is planned from."""
    if r.kind == "expand":
        done = store.get("expanded", {})
        for minimum, search, _ in Batch(r.kind, r.jobs).expansions():
            done[str(minimum)] = max(done.get(str(minimum), 0), search + 1)
        store.put("expanded", done)
        store.put("displacements", faded(store.get("displacements", no_yields())))
    if len(store.minima):
        label = store.components()
        joined = int(np.sum(label == label[int(np.argmin(store.minima.energies))]))
        store.put("connected", {**store.get("connected", {}), str(r.id): joined})


def _walked(
    store: Store, settings: SearchSettings, batch: Batch, finds: Finds
) -> tuple[list[tuple[int, ...]], dict[str, int]]:
    """The minimum that each find was a hop away from, and where the walkers that moved are now."""
    found = [find for several in finds.lists for find in several if isinstance(find, Point)]
    numbers = iter(store.minima.identify([p.energy for p in found], [p.x for p in found])[0].tolist())
    left: list[tuple[int, ...]] = []
    at: dict[int, tuple[int, float]] = {}
    for hop, several in zip(batch.hops(), finds.lists):
        for point in several:
            assert isinstance(point, Point)
            number, level = at.get(hop.walker, (hop.minimum, float(store.minima.energies[hop.minimum])))
            left.append((number,))
            number = next(numbers)
            if accepts(point.energy, level, allowed_of(settings.seed, hop)):
                at[hop.walker] = number, point.energy
    return left, {str(walker): number for walker, (number, _) in at.items()}


def _move(store: Store, r: Round, moved: dict[str, int]) -> None:
    """Note where the walkers of a batch are now; after the round's last batch where all of them go on from."""
    moved = {**store.get("moved", {}), **moved}
    ended = r.next_job == len(r.jobs)
    store.put("moved", {} if ended else moved)
    if ended:
        hops = Batch(r.kind, r.jobs).hops()
        where = {hop.walker: moved.get(str(hop.walker), hop.minimum) for hop in hops}
        store.put("walkers", list(where.values()))
        store.put("hopped", hops[-1].step + 1)


def ready(r: Round, first: int, ended: dict[int, Finds]) -> tuple[Batch, Finds]:
    """The jobs from ``first`` on that have ended without a gap, taken out of ``ended``."""
    lists, work, kinks, last = [], 0, Kinks(), first
    while last in ended:
        finds = ended.pop(last)
        lists += finds.lists
        work, kinks = work + finds.work, kinks.plus(finds.kinks)
        last += 1
    return Batch(r.kind, r.jobs[first:last]), Finds(lists, work, kinks)


def keep(store: Store, r: Round, ended: dict[int, Finds]) -> None:
    """Put by what jobs found that cannot be merged yet, since one before them was cut off."""
    if not ended:
        return
    places = sorted(ended)
    batch = Batch(r.kind, [r.jobs[k] for k in places])
    work = [ended[k].work for k in places]
    data = pack_finds(batch, Finds([several for k in places for several in ended[k].lists], sum(work)))
    with store.transaction():
        kept = {"round": r.id, "places": places, "work": work, "data": b64encode(data).decode()}
        store.put(_UNMERGED, {**kept, "kinks": [ended[k].kinks.to_json() for k in places]})


def unmerged(store: Store, r: Round) -> dict[int, Finds]:
    """What ``keep`` has put by for this round, by place among its jobs; taken out of the store."""
    kept = store.get(_UNMERGED)
    if kept is None:
        return {}
    with store.transaction():
        store.drop(_UNMERGED)
    if kept["round"] != r.id:
        return {}
    batch = Batch(r.kind, [r.jobs[k] for k in kept["places"]])
    finds = unpack_finds(b64decode(kept["data"]), batch)
    each = zip(kept["places"], finds.lists, kept["work"], kept["kinks"])
    return {k: Finds([several], work, Kinks.of_json(kinks)) for k, several, work, kinks in each}


def standing(store: Store, r: Round, seconds: float, ended: int = 0) -> Progress:
    """Where the search stands: ``ended`` jobs of this round besides the merged ones."""
    label, known = store.components(), len(store.minima)
    lowest = int(np.argmin(store.minima.energies)) if known else 0
    return Progress(
        stage=r.kind,
        round=r.id,
        done=r.next_job + ended,
        total=len(r.jobs),
        minima=known,
        saddles=len(store.saddles),
        connected=int(np.sum(label == label[lowest])) if known else 0,
        components=int(label.max()) + 1 if known else 0,
        best=store.scale.energy * float(store.minima.energies[lowest]) if known else np.nan,
        seconds=seconds,
    )
