"""Minimisers, saddle search and bands on functions whose stationary points are known."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from shared_cases import SADDLES, muller_brown

from jaxland import Problem
from jaxland.core.energy.kernels import Curved, Values
from jaxland.core.krylov import lane
from jaxland.core.solvers import band, lanes, quench, saddle, sets
from jaxland.core.solvers.protocol import Layout, Status
from jaxland.landscape.search.stationary import Engine

RNG = np.random.default_rng(3)


def rosenbrock(w):
    return jnp.sum(100.0 * (w[1:] - w[:-1] ** 2) ** 2 + (1.0 - w[:-1]) ** 2)


@pytest.mark.parametrize("solver", [quench.BFGS(1e-8), quench.LBFGS(1e-8), quench.Newton(1e-8)])
def test_minimisers_reach_the_minimum(x64, solver):
    problem = Problem.from_energy(rosenbrock, 6)
    evaluate = problem.kernel.second if isinstance(solver, quench.Newton) else problem.kernel.first
    items = [quench.Start(x, np.float64(1.0)) for x in RNG.normal(size=(11, 6))]
    outcomes = lanes.run(solver, evaluate, items, problem.kernel.data, layout=Layout(4, 16, 1, 2))
    assert [o.job for o in outcomes] == list(range(11))
    for o in outcomes:
        assert o.status == Status.CONVERGED
        assert o.result.rms <= 1e-8
        assert min(np.abs(o.result.x - 1).max(), np.abs(o.result.energy - 3.97394)) < 1e-2


@pytest.mark.parametrize(
    "layout", [Layout(1, 3, 1, 1), Layout(8, 64, 1, 2), Layout(8, 16, 4, 1), Layout(16, 16, None, 1)]
)
def test_results_do_not_depend_on_lanes(x64, layout):
    problem = Problem.from_energy(rosenbrock, 4)
    items = [quench.Start(x, np.float64(0.5)) for x in np.random.default_rng(5).normal(size=(9, 4))]
    solver = quench.BFGS(1e-10)
    reference = lanes.run(solver, problem.kernel.first, items, None, layout=Layout(2, 50, 1, 1))
    for a, b in zip(reference, lanes.run(solver, problem.kernel.first, items, None, layout=layout)):
        np.testing.assert_allclose(a.result.x, b.result.x, atol=1e-9)
        assert a.status == b.status


def test_one_program_serves_all_batches(x64):
    problem = Problem.from_energy(rosenbrock, 4)
    traced = []

    def counted(w, data):
        traced.append(1)
        return problem.kernel.first(w, data)

    layout = Layout(4, 32, 1, 2)
    solver = quench.BFGS(1e-6)
    for count in (3, 20, 7):
        items = [quench.Start(x, np.float64(1.0)) for x in RNG.normal(size=(count, 4))]
        assert len(lanes.run(solver, counted, items, None, layout=layout)) == count
    assert len(traced) <= 2  # at most once per thread that met it first


def test_nonfinite_lanes_retire_alone(x64):
    problem = Problem.from_energy(lambda w: jnp.where(w[0] > 5, jnp.nan, jnp.sum(w**2)), 2)
    items = [quench.Start(np.array(x), np.float64(1.0)) for x in ([9.0, 0.0], [1.0, 1.0])]
    bad, good = lanes.run(quench.BFGS(), problem.kernel.first, items, None)
    assert bad.status == Status.NONFINITE and good.status == Status.CONVERGED


def test_a_quench_never_ends_on_a_saddle(x64):
    problem = Problem.from_energy(lambda w: (w[0] ** 2 - 1) ** 2 + w[1] ** 2, 2)
    (point,) = Engine(problem).quench([np.array([0.0, 0.3])])
    assert point is not None and point.negative == 0 and abs(abs(point.x[0]) - 1) < 1e-8


def test_trust_region_step_is_the_constrained_minimiser(x64):
    values, gradient = np.array([-1.0, 0.5, 3.0]), np.array([0.2, -1.0, 0.7])
    for radius in (0.05, 0.5, 3.0):
        step = np.asarray(quench.trust_region_step(jnp.asarray(values), jnp.asarray(gradient), radius))
        assert abs(np.linalg.norm(step) - radius) < 1e-3 * radius
        model = gradient @ step + 0.5 * step @ (values * step)
        others = RNG.normal(size=(20000, 3))
        others *= radius / np.linalg.norm(others, axis=1, keepdims=True)
        assert model <= np.min(others @ gradient + 0.5 * others**2 @ values) + 1e-3 * abs(model)


def test_float32_quench_converges():
    problem = Problem.from_energy(lambda w: jnp.sum((w - 3.0) ** 2 * jnp.arange(1.0, 6.0)), 5)
    items = [quench.Start(x.astype(np.float32), np.float32(1.0)) for x in RNG.normal(size=(6, 5))]
    for o in lanes.run(quench.BFGS(1e-4), problem.kernel.first, items, None):
        assert o.status == Status.CONVERGED and o.result.x.dtype == np.float32


@pytest.mark.parametrize("kind", ["exact", "hybrid"])
def test_both_followings_find_the_same_saddles(x64, kind):
    problem = Problem.from_energy(muller_brown, 2)
    solver = saddle.EigenvectorFollowing(1e-8)
    evaluate = saddle.where_asked(problem.kernel.first, problem.kernel.second)
    if kind == "hybrid":
        solver, evaluate = (
            saddle.HybridFollowing(1e-8, 2000),
            saddle.softest(problem.kernel.first, problem.kernel.product, 2),
        )
    items = [saddle.Guess(x, np.zeros(2)) for x in np.random.default_rng(0).uniform([-1.2, 0], [0.8, 1.6], (40, 2))]
    found = {
        min(SADDLES, key=lambda p, o=o: np.linalg.norm(o.result.x - p))
        for o in lanes.run(solver, evaluate, items, None)
        if o.status == Status.CONVERGED and min(abs(float(o.result.energy) - e) for e in SADDLES.values()) < 1e-6
    }
    assert found == set(SADDLES)


def test_a_hessian_that_is_kept_saves_hessians_and_ends_on_the_same_saddle(x64):
    problem = Problem.from_energy(muller_brown, 2)
    kernel = problem.kernel
    items = [saddle.Guess(np.array([-0.8, 0.6]), np.zeros(2))]
    kept, every = saddle.EigenvectorFollowing(1e-8), saddle.EigenvectorFollowing(1e-8, keep=0)
    (a,) = lanes.run(kept, saddle.where_asked(kernel.first, kernel.second), items, None)
    (b,) = lanes.run(every, saddle.everywhere(kernel.second), items, None)
    assert a.status == b.status == Status.CONVERGED
    np.testing.assert_allclose(a.result.x, b.result.x, atol=1e-7)
    assert b.result.curvatures == b.result.evaluations > a.result.curvatures
    assert a.result.evaluations > a.result.curvatures


def test_a_known_curvature_saves_gradients(x64):
    scales = np.logspace(0, 4, 30)
    problem = Problem.from_energy(lambda w: 0.5 * jnp.sum(jnp.asarray(scales) * w**2) + 0.1 * jnp.sum(w**4), 30)
    x, far = RNG.normal(size=30), np.float64(10.0)
    items = [quench.Start(x, far)], [quench.Informed(x, far, np.diag(1 / scales))]
    (plain,), (informed,) = (lanes.run(quench.BFGS(1e-9), problem.kernel.first, item, None) for item in items)
    assert plain.status == informed.status == Status.CONVERGED
    np.testing.assert_allclose(informed.result.x, 0.0, atol=1e-8)
    assert 5 * informed.result.evaluations < plain.result.evaluations


def test_lowest_pair_is_the_lowest(x64):
    a = RNG.normal(size=(40, 40))
    a = a + a.T
    value, vector, residual, products = lane.sweep(lambda v: jnp.asarray(a) @ v, jnp.ones(40), 40)
    truth = np.linalg.eigvalsh(a)[0]
    np.testing.assert_allclose(value, truth, rtol=1e-10)
    assert np.linalg.norm(a @ vector - truth * vector) < 1e-7 and residual < 1e-7 and products == 40


def test_band_climbs_over_the_highest_saddle(x64):
    problem = Problem.from_energy(muller_brown, 2)
    ends = np.array([[-0.558224, 1.441726], [-0.050011, 0.466694]])
    solver = band.ElasticBand(15, 200, 1e-2, 0.1)
    (o,) = lanes.run(solver, band.along_band(problem.kernel.first), [ends], None)
    top = int(np.argmax(o.result.energies))
    assert abs(o.result.energies[top] + 40.664844) < 3.0
    np.testing.assert_allclose(o.result.images[[0, -1]], ends)
    np.testing.assert_allclose(np.linalg.norm(o.result.tangents, axis=1), 1.0)


def test_tangents_on_a_flat_band_bisect(x64):
    images = jnp.asarray([[0.0, 0], [1, 0], [1, 1]])
    t = np.asarray(band.tangents(images, jnp.zeros(3)))
    np.testing.assert_allclose(t[1], np.ones(2) / np.sqrt(2))
    assert np.isfinite(np.asarray(band.doubly_nudged(images, jnp.zeros(3), jnp.zeros((3, 2)), jnp.ones(())))).all()


def test_lanes_shard_over_forced_devices(tmp_path):
    """8 host devices give the results of one (run in a process of its own: devices are fixed at start)."""
    import subprocess
    import sys

    code = """
import jax, numpy as np, jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
from jax.sharding import Mesh
from jaxland import Problem
from jaxland.core.solvers import lanes, quench
p = Problem.from_energy(lambda w: jnp.sum(100.0 * (w[1:] - w[:-1] ** 2) ** 2 + (1.0 - w[:-1]) ** 2), 4)
items = [quench.Start(x, np.float64(1.0)) for x in np.random.default_rng(0).normal(size=(37, 4))]
one = lanes.run(quench.BFGS(1e-9), p.kernel.first, items, None, layout=lanes.Layout(8, 32, 1, 1))
mesh = Mesh(np.array(jax.devices()), ("lanes",))
assert mesh.size == 8
many = lanes.run(quench.BFGS(1e-9), p.kernel.first, items, None, layout=lanes.Layout(16, 32, 1, 1), mesh=mesh)
assert [o.job for o in many] == list(range(37))
np.testing.assert_allclose([o.result.x for o in one], [o.result.x for o in many], atol=1e-9)
"""
    env = {
        **__import__("os").environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_out_of_memory_halves_the_lanes(x64, monkeypatch):
    problem = Problem.from_energy(rosenbrock, 3)
    real, seen = sets._programs, []

    def fragile(*args):
        made = real(*args)

        def limited(states, idle, passes, data):
            seen.append(len(idle))
            if len(idle) > 2:
                raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
            return made.advance(states, idle, passes, data)

        return replace(made, advance=limited)

    monkeypatch.setattr(sets, "_programs", fragile)
    items = [quench.Start(x, np.float64(1.0)) for x in RNG.normal(size=(5, 3))]
    outcomes = lanes.run(quench.BFGS(1e-6), problem.kernel.first, items, None, layout=Layout(8, 50, 1, 1))
    assert len(outcomes) == 5 and seen[0] == 8 and seen[-1] == 2


def test_a_second_run_compiles_nothing(x64):
    problem = Problem.from_energy(rosenbrock, 3)
    solver, first, data = quench.BFGS(1e-6), problem.kernel.first, problem.kernel.data
    items = [quench.Start(x, np.float64(1.0)) for x in RNG.normal(size=(12, 3))]
    lanes.run(solver, first, items, data, layout=Layout(8, 50, 1, 1))
    seen = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, seconds, **_: seen.append(name))
    lanes.run(solver, first, items, data, layout=Layout(8, 50, 1, 1))
    assert not [name for name in seen if "compile" in name or "trace" in name]


def test_evaluation_types_are_what_the_kernels_give(x64):
    problem = Problem.from_energy(rosenbrock, 3)
    w = jnp.zeros(3)
    assert isinstance(problem.kernel.first(w, None), Values)
    assert isinstance(jax.jit(problem.kernel.second)(w, None), Curved)
