"""Jobs of several stages: results are those of the jobs alone, whatever runs them."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxland import Problem
from jaxland.core.solvers import quench
from jaxland.core.solvers.flow import Request, Stage, flow, together
from jaxland.core.solvers.protocol import Layout, Status


def wells(w):
    return jnp.sum((w**2 - 1) ** 2 + 0.1 * w)


@pytest.fixture
def stages(x64):
    kernel = Problem.from_energy(wells, 3).kernel
    return Stage(quench.BFGS(1e-9), kernel.first, None), Stage(None, square, jnp.asarray(2.0))


def square(x, data):
    return {"twice": data * x, "sum": jnp.sum(x)}


def descend(stages, start):
    down, once = stages
    (end,) = yield [Request(down, quench.Start(start, np.float64(0.5)))]
    assert end.status == Status.CONVERGED
    (row,) = yield [Request(once, end.result.x)]
    return end.result.x, row.result["twice"], float(row.result["sum"])


def both(stages, start):
    pair = yield from together([descend(stages, start), nothing(start), descend(stages, -start)])
    return pair


def nothing(start):
    return start
    yield


@pytest.mark.parametrize("layout", [Layout(1, 64, 1, 1), Layout(8, 3, 1, 2), Layout(4, 4096, 1, 5)])
def test_results_do_not_depend_on_lanes_and_threads(stages, layout):
    starts = np.random.default_rng(0).normal(size=(23, 3))
    found = dict(flow([both(stages, x) for x in starts], layout=layout))
    assert sorted(found) == list(range(23))
    reference = dict(flow([both(stages, x) for x in starts], layout=Layout(2, 64, 1, 1)))
    for k, ((x, twice, total), middle, (y, _, _)) in found.items():
        np.testing.assert_array_equal(middle, starts[k])
        np.testing.assert_array_equal(twice, 2 * x)
        assert total == pytest.approx(x.sum()) and np.abs(np.abs(x) - 1).max() < 0.1
        np.testing.assert_array_equal(x, reference[k][0][0])
        np.testing.assert_array_equal(y, reference[k][2][0])


def test_errors_and_stops_end_every_thread(stages):
    def broken(start):
        yield from descend(stages, start)
        raise ZeroDivisionError

    starts = np.random.default_rng(0).normal(size=(9, 3))
    with pytest.raises(ZeroDivisionError):
        list(flow([broken(x) for x in starts], layout=Layout(2, 64, 1, 2)))
    assert list(flow([descend(stages, x) for x in starts], should_stop=lambda: True)) == []
    assert list(flow([])) == []
    seen = []
    for number, _ in flow([descend(stages, x) for x in starts], should_stop=lambda: len(seen) >= 2):
        seen.append(number)
    assert 2 <= len(seen) <= 9
