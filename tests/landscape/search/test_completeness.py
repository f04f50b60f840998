"""How many points exist, and what the end of a search says."""

import numpy as np
import pytest
from shared_cases import xor

from jaxland.landscape import explore
from jaxland.landscape.search.completeness import Completeness, ending, failures


@pytest.mark.parametrize(("exist", "mean", "spread"), [(165, 2.2, 1.5), (1510, 0.0, 1.5), (400, 1.0, 1.0)])
def test_uneven_hits_are_seen_through(exist, mean, spread):
    rng, chao, uneven = np.random.default_rng(0), [], []
    for _ in range(10):
        hits = rng.poisson(np.exp(rng.normal(mean, spread, exist)))
        known = Completeness.of(hits[hits > 0])
        chao.append(known.estimate)
        uneven.append(known.uneven)
    assert abs(np.mean(uneven) - exist) < abs(np.mean(chao) - exist)
    assert 0.93 * exist < np.mean(uneven) < 1.1 * exist


@pytest.mark.parametrize("hits", [[1, 1, 1], [], [4], [3, 3, 3], [1, 2, 40, 300], [1] + [500] * 20])
def test_few_points(hits):
    known = Completeness.of(hits)
    assert known.found == len(hits) and known.estimate >= len(hits)
    assert known.uneven is None or known.uneven >= known.estimate
    assert "100.0 %" not in known.describe("minima")


def test_why_a_search_ended_is_said(x64, tmp_path):
    small = {"starts": 20, "hops": 0, "climbs": 20, "pairs": 0, "start_scale": 1.5}
    found = explore(xor(), rounds=1, **small)
    assert found.statistics["ended"] == "rounds"
    assert "not complete" in ending(found.statistics, found.settings)
    found = explore(xor(), minima=2, **small)
    assert "2 connected minima" in ending(found.statistics, found.settings)
    found = explore(xor(), store=tmp_path / "run.db", time_limit=1e-6, **small)
    assert "not finished" in ending(found.statistics, found.settings)
    found = explore(xor(), patience=1, store=tmp_path / "run.db", **small)
    assert found.statistics["ended"] == "saturated"
    told, searches = ending(found.statistics, found.settings), max(found.n_ts, 3)
    assert f"{searches} searches or more" in told and f"once in {searches // 3} would be known (95 %)" in told


def test_what_came_to_nothing_is_counted():
    rounds = [{"kind": "random", "done": 10, "found": 8}, {"kind": "expand", "done": 5, "found": 5}]
    assert failures(rounds) == ["2 of 10 quenches did not end in a minimum that passes the audit"]
