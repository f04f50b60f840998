import jax
import numpy as np
import pytest

from jaxland import Problem, mlp
from jaxland.core.solvers import precision
from jaxland.errors import ArgumentError
from jaxland.landscape import explore
from jaxland.landscape.search.stationary import Engine

RNG = np.random.default_rng(5)


@pytest.fixture
def problem(x64):
    x = RNG.normal(size=(60, 2))
    return Problem.from_model(mlp((2, 3, 2)), x, (x[:, 0] * x[:, 1] > 0).astype(int), l2=1e-3)


def test_minima_are_those_of_float64(problem):
    single = problem.astype("float32")
    assert single.dtype == np.float32 and single.x.dtype == np.float32 and single.y.dtype == np.int32
    starts = RNG.normal(size=(12, problem.size))
    got = precision.quench_mixed(single.kernel, problem.kernel, starts)
    reference = {round(p.energy, 9) for p in Engine(problem).quench(starts) if p is not None}
    assert all(point is not None for point in got)
    for point in got:
        assert point.x.dtype == np.float64 and point.rms <= 1e-9 and point.lowest >= -1e-8
        assert np.linalg.eigvalsh(problem.hessian(point.x))[0] >= -1e-8
        np.testing.assert_allclose(point.energy, problem.energy(point.x), rtol=1e-13)
        assert point.double <= 30 and point.single > point.double
    # A few starts fall to another side of a watershed in float32.
    assert len({round(p.energy, 9) for p in got} & reference) >= len(reference) // 2


def test_a_search_in_mixed_precision_finds_the_same_landscape(x64):
    x, y = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    problem = Problem.from_model(mlp((2, 2, 2)), x, y, l2=1e-2)
    found = explore(problem, start_scale=1.5, precision="mixed")
    assert (found.n_minima, found.n_ts) == (5, 16) and found.settings["precision"] == "mixed"
    assert (found.gradients <= 1e-9).all()
    with pytest.raises(ArgumentError, match="double, mixed"):
        Engine(problem, precision="half")


def test_on_the_host_and_in_words(problem):
    plan = precision.Plan(host=True)
    starts = RNG.normal(size=(2, problem.size))
    got = precision.quench_mixed(problem.astype("float32").kernel, problem.kernel, starts, plan=plan)
    assert all(point is not None for point in got)
    assert "float64 polish on the host" in plan.describe() and "on the device" in precision.Plan().describe()
    assert not precision.Plan.for_backend().host
    assert precision.quench_mixed(problem.kernel, problem.kernel, []) == []


def test_a_saddle_is_not_handed_out(x64):
    """From a saddle's own coordinates the polish goes down, or hands out nothing."""
    problem = Problem.from_energy(lambda w: (w[0] ** 2 - 1) ** 2 + w[1] ** 2, 2)
    point = precision.quench_mixed(problem.astype("float32").kernel, problem.kernel, [np.array([0.0, 0.5])])[0]
    assert point is None or (point.lowest > 0 and abs(point.energy) < 1e-12)


def test_float64_is_asked_for(problem):
    single, double = problem.astype("float32").kernel, problem.kernel
    with jax.enable_x64(False), pytest.raises(ValueError, match="enable_x64"):
        precision.quench_mixed(single, double, [np.zeros(problem.size)])
