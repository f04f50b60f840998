"""How far copies are displaced: learned from what came back, by the store alone."""

import numpy as np
from shared_cases import xor

from jaxland.landscape import Store, explore
from jaxland.landscape.search.displacement import (
    KINDS,
    choose,
    counted,
    displaced,
    faded,
    no_yields,
    pieces,
    shares,
)
from jaxland.problem import potentials
from jaxland.problem.symmetry import NoSymmetry


def test_at_first_every_kind_is_alike():
    few = shares(no_yields(), True, 27)
    assert all((part == 0) == (kind.low < 0.05) for part, kind in zip(few, KINDS))
    np.testing.assert_allclose(few[few > 0], 1 / np.sum(few > 0))
    alone = shares(no_yields(), False, 100)
    assert all((part == 0) == kind.local for part, kind in zip(alone, KINDS))
    kinds = choose(no_yields(), 10 * np.sum(few > 0), True, 27, [0])
    assert np.bincount(kinds)[few > 0].tolist() == [10] * np.sum(few > 0)


def test_among_many_coordinates_far_displacements_come_last():
    parts = shares(no_yields(), True, 100)
    assert parts.min() > 0.02 and abs(parts.sum() - 1) < 1e-12  # nothing is ruled out
    for local in (False, True):
        kinds = [k for k, kind in enumerate(KINDS) if kind.local == local]
        assert all(np.diff(parts[kinds]) <= 1e-12) and parts[kinds[-1]] < 0.6 * parts[kinds[0]]


def test_what_comes_back_is_chosen_and_forgotten_again():
    yields, rng = no_yields(), np.random.default_rng(0)
    for turn in range(8):
        kinds = choose(yields, 96, True, 100, [0, turn])
        yields = faded(counted(yields, kinds, [int(k == 1 and rng.random() < 0.5) for k in kinds]))
    learned = shares(yields, True, 100)
    assert learned.argmax() == 1 and learned[1] > 0.5 and learned.min() > 0.02
    for turn in range(60):  # nothing comes back any more: the landscape is known from there
        yields = faded(counted(yields, choose(yields, 96, True, 100, [1, turn]), [0] * 96))
    # Between what was expected at first and all alike.
    first, forgotten = shares(no_yields(), True, 100), shares(yields, True, 100)
    assert np.all(forgotten > np.minimum(first, 1 / len(KINDS)) - 0.02)
    assert np.all(forgotten < np.maximum(first, 1 / len(KINDS)) + 0.02)
    for turn in range(60):
        yields = faded(counted(yields, choose(yields, 96, True, 27, [1, turn]), [0] * 96))
    few = shares(yields, True, 27)
    np.testing.assert_allclose(few[few > 0], 1 / np.sum(few > 0), atol=0.02)


def test_displacements_are_as_large_as_they_say(x64):
    parts = pieces(xor(3).symmetry)
    assert [len(part) for part in parts] == [5, 5, 5]
    assert len(pieces(potentials.lennard_jones(7).symmetry)) == 7 and not pieces(NoSymmetry())
    x = np.random.default_rng(1).normal(size=4000)
    for kind in (kind for kind in KINDS if not kind.local):
        moved = displaced(x, kind, [], np.random.default_rng(2)) - x
        size = np.sqrt(np.mean(moved**2) / np.mean(x**2))
        assert 0.95 * kind.low < size < 1.05 * kind.high
    x, kind = x[:23], next(kind for kind in KINDS if kind.local)
    moved = displaced(x, kind, parts, np.random.default_rng(3)) != x
    assert np.flatnonzero(moved).tolist() in [sorted(part.tolist()) for part in parts]


def test_yields_are_in_the_store_and_do_not_depend_on_batches(x64, tmp_path):
    kept = []
    for name in ("whole", "paused"):
        options = {"starts": 20, "hops": 0, "climbs": 10, "pairs": 0, "rounds": 4, "store": tmp_path / name}
        if name == "paused":
            explore(xor(), time_limit=0.5, **options)
        explore(xor(), **options)
        with Store(tmp_path / name, xor()) as store:
            kept.append((store.get("displacements"), store.get("connected"), store.seal))
            rounds = [row for row in store.rounds() if row["kind"] == "expand"]
    assert kept[0][:2] == kept[1][:2] and rounds
    assert sum(kept[0][0]["searches"]) > 0 and sum(kept[0][0]["passes"]) > 0
