"""Which round comes next, from made-up stores."""

from dataclasses import replace

import numpy as np
import pytest
from shared_cases import xor

from jaxland.landscape import Store
from jaxland.landscape.search.campaign import familiar, next_round
from jaxland.landscape.search.pairs import Distances
from jaxland.landscape.search.points import Point
from jaxland.landscape.search.settings import SearchSettings

SETTINGS = SearchSettings(starts=40, walkers=2, hops=2, climbs=20, rounds=5, breadth=1)


def play(store, kind, energies, again=0):
    """A finished round that found minima of these energies, all of them new, and so many known ones."""
    rng = np.random.default_rng([len(store.minima), 1])
    with store.transaction():
        jobs = len(energies) + again
        r = store.start_round(kind, list(range(jobs)))
        points = [
            Point(x=x, energy=e, rms=0.0, negative=0, flat=0, lowest=1.0, log_product=1.0, mode=x)
            for e, x in zip(energies, rng.normal(size=(len(energies), store.problem.size)))
        ]
        _, new = store.add_minima(points, r.id)
        store.advance(r, jobs, jobs, (int(new.sum()), 0), 10, 1.0)


def coming(store):
    with store.transaction():
        return next_round(store, SETTINGS, Distances(store.minima))


@pytest.mark.parametrize("falls", [True, False])
def test_in_a_glass_hops_go_on_while_they_dig(x64, falls):
    with Store(None, xor()) as store:
        play(store, "random", (1.0 + np.arange(40) / 100).tolist())
        assert familiar(store.rounds()) < 0.1
        for k in range(12):
            planned = coming(store)
            if planned.kind != "hop":
                break
            play(store, "hop", [0.9 - k / 100 if falls else 2.0 + k, 3.0 + k])
        assert k == (10 if falls else 2) and planned.kind == "climb"
        assert len(planned.jobs) == 4  # a few: they join strangers


@pytest.mark.parametrize("again", [0, 1])
def test_a_quarter_of_the_starts_shows_whether_the_others_can_meet_what_is_known(x64, again):
    settings = replace(SETTINGS, starts=200, walkers=32)
    with Store(None, xor()) as store:
        with store.transaction():
            assert next_round(store, settings, Distances(store.minima)).jobs == list(range(50))
            assert next_round(store, replace(settings, starts=20), Distances(store.minima)).jobs == list(range(20))
            # Nothing comes after them: the quenches are what is wanted.
            assert len(next_round(store, replace(settings, rounds=0), Distances(store.minima)).jobs) == 200
        play(store, "random", (1.0 + np.arange(50 - again) / 100).tolist(), again)
        with store.transaction():
            planned = next_round(store, settings, Distances(store.minima))
        if again:
            assert planned.kind == "random" and planned.jobs == list(range(50, 200))
        else:
            assert planned.kind == "hop" and len(planned.jobs) == 8 * SETTINGS.hops


def test_where_minima_recur_nothing_is_cut_short(x64):
    with Store(None, xor()) as store:
        play(store, "random", [1.0, 2.0])
        with store.transaction():
            r = store.start_round("random", list(range(38)))
            store.advance(r, 38, 38, (0, 0), 10, 1.0)
        assert familiar(store.rounds()) > 0.9
        for _ in range(2):
            play(store, coming(store).kind, [0.5, 3.0])
        planned = coming(store)
        assert planned.kind == "climb" and len(planned.jobs) >= 18
