"""What only a GPU can show: compiled kernels against XLA, whole quenches, the fleet, precision, a known landscape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from shared_cases import xor

from jaxland import Problem, doctor, mlp
from jaxland.core.pallas.whole import WholeBand, WholeHops, WholeQuench
from jaxland.core.solvers import fleet, lanes, quench, saddle
from jaxland.core.solvers.band import ElasticBand, along_band
from jaxland.core.solvers.batches import map_rows
from jaxland.core.solvers.protocol import Status
from jaxland.core.solvers.sets import matmul_precision
from jaxland.landscape import explore
from jaxland.landscape.search.stationary import Engine

pytestmark = pytest.mark.gpu


def board(hidden, choice, dtype=np.float64, n=203, lam=1e-2):
    """Checkerboard 2 x 2, a number of points that no block divides."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.7, 1.7, size=(n, 2)).astype(dtype)
    y = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).astype(int)
    return Problem.from_model(mlp((2, hidden, 2), dtype=jnp.dtype(dtype)), x, y, l2=lam, kernel_choice=choice)


def normal(problem, count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, problem.size)).astype(problem.dtype)


def away(got, truth):
    return float(np.max(np.abs(np.asarray(got) - np.asarray(truth))) / np.max(np.abs(truth)))


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-12), (np.float32, 2e-6)])
@pytest.mark.parametrize("hidden", [5, 10, 32])
def test_dense_kernel_equals_xla(x64, hidden, dtype, tolerance):
    dense, xla = board(hidden, "fused", dtype), board(hidden, "xla", dtype)
    w, v = normal(dense, 300), normal(dense, 300, 1)
    found = []
    for problem in (dense, xla):
        kernel = problem.kernel
        with jax.default_matmul_precision("highest"):
            first = jax.jit(jax.vmap(kernel.first, (0, None)))(w, kernel.data)
            product = jax.jit(jax.vmap(kernel.product, (0, 0, None)))(w, v, kernel.data)
        assert first.gradient.dtype == dtype
        found.append((first.energy, first.gradient, product))
    for got, truth in zip(*found):
        assert away(got, truth) < tolerance


@pytest.fixture
def ends(x64):
    """Whole quenches, and the lanes' BFGS, from the same starts."""
    problem, tol = board(5, "fused"), 1e-8
    starts = quench.Start(normal(problem, 256), np.ones(256))
    program = WholeQuench.of(problem.kernel.dense, problem.n, 256, tol=tol, limit=4000)
    whole = fleet.run(program, starts, problem.kernel.data, lanes=program.lanes)
    base = board(5, "xla").kernel
    items = [quench.Start(*pair) for pair in zip(*starts)]
    return whole, lanes.run(quench.BFGS(tol, 4000), base.first, items, base.data), base


def test_whole_quenches_end_in_the_minima_of_bfgs(ends):
    whole, done, base = ends
    assert (whole.status == Status.CONVERGED).all()
    assert all(o.status == Status.CONVERGED for o in done)
    gradients = jax.jit(jax.vmap(base.first, (0, None)))(whole.result.x, base.data).gradient
    assert float(jnp.max(jnp.sqrt(jnp.mean(gradients**2, axis=1)))) < 1.01e-8
    energies = np.array([float(o.result.energy) for o in done])
    # Rounding sends a path that passes a ridge to either side.
    assert np.mean(np.abs(whole.result.energy - energies) < 1e-9) > 0.95
    nearest = np.min(np.abs(whole.result.energy[:, None] - energies), axis=1)
    assert np.mean(nearest < 1e-9) > 0.98


@pytest.mark.parametrize("history, jobs", [(10, 16), (10, 512), (0, 512)])
def test_networks_spread_over_threads_end_in_minima(x64, history, jobs):
    """L-BFGS and BFGS of 101 parameters, four threads a network and up to four warps: minima that the lanes find."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(203, 30))
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    dense, base = (Problem.from_model(mlp((30, 3, 2)), x, y, l2=1e-2, kernel_choice=c) for c in ("fused", "xla"))
    starts = quench.Start(normal(dense, jobs), np.ones(jobs))
    program = WholeQuench.of(dense.kernel.dense, 203, jobs, tol=1e-8, limit=9000, history=history)
    ended = fleet.run(program, starts, dense.kernel.data, lanes=program.lanes)
    assert (ended.status == Status.CONVERGED).all()
    gradients = jax.jit(jax.vmap(base.kernel.first, (0, None)))(ended.result.x, base.kernel.data).gradient
    assert float(jnp.max(jnp.sqrt(jnp.mean(gradients**2, axis=1)))) < 1.01e-8
    solver = quench.LBFGS(1e-8, 9000, history) if history else quench.BFGS(1e-8, 9000)
    items = [quench.Start(starts.x[k], np.float64(1.0)) for k in range(16)]
    energies = [float(o.result.energy) for o in lanes.run(solver, base.kernel.first, items, base.kernel.data)]
    assert np.mean(np.abs(ended.result.energy[:16] - energies) < 1e-9) > 0.6


def test_bands_are_those_of_vmap(x64, count=64):
    problem, solver = board(5, "fused"), ElasticBand(11, max_evaluations=12, max_step=0.2)
    kernel = problem.kernel
    pairs = normal(problem, 2 * count).reshape(count, 2, -1)
    program = WholeBand.of(kernel.dense, problem.n, count, solver)
    whole = fleet.run(program, pairs, kernel.data, lanes=-(-count // program.shape.networks) * program.shape.networks)
    usual = fleet.run(fleet.Vmapped(solver, along_band(kernel.first), 4), pairs, kernel.data, lanes=count)
    assert whole.status.tolist() == usual.status.tolist()
    np.testing.assert_allclose(whole.result.energies, usual.result.energies, atol=1e-9)
    np.testing.assert_allclose(whole.result.images, usual.result.images, atol=1e-7)


def test_hops_are_quenches_from_displaced_minima(x64, count=64):
    problem = board(5, "fused")
    kernel, size = problem.kernel, problem.size
    one = WholeQuench.of(kernel.dense, problem.n, count, tol=1e-9, limit=4000)
    lanes_ = -(-count // one.shape.networks) * one.shape.networks

    def quenched(x):
        ended = fleet.run(one, quench.Start(x, np.ones(count)), kernel.data, lanes=lanes_)
        assert (ended.status == Status.CONVERGED).all()
        return ended.result

    start, rng = quenched(normal(problem, count)), np.random.default_rng(3)
    kicks, allowed = 0.6 * rng.normal(size=(count, 2, size)), -0.01 * np.log(rng.random((count, 2)))
    walks = quench.Walk(start.x, start.energy, np.ones(count), kicks, allowed)
    ended = fleet.run(WholeHops(one), walks, kernel.data, lanes=lanes_)
    assert (ended.result.status == Status.CONVERGED).all()
    x, level = start.x, start.energy
    for k in range(2):
        found = quenched(x + np.sqrt(np.mean(x * x, axis=1, keepdims=True)) * kicks[:, k])
        assert np.mean(np.abs(found.energy - ended.result.energy[:, k]) < 1e-9) > 0.95
        # From the program's own ends: one hop that fell otherwise would lead elsewhere.
        accept = (ended.result.energy[:, k] <= level) | (ended.result.energy[:, k] - level < allowed[:, k])
        x = np.where(accept[:, None], ended.result.x[:, k], x)
        level = np.where(accept, ended.result.energy[:, k], level)


def test_a_fleet_of_newton_equals_lanes(ends):
    _, done, base = ends
    rng = np.random.default_rng(2)
    xs = [o.result.x + 1e-3 * rng.normal(size=o.result.x.size) for o in done]
    solver, kernel = quench.Newton(1e-9, 100), base
    items = [quench.Start(x, np.float64(1.0)) for x in xs]
    stacked = quench.Start(np.stack(xs), np.ones(len(xs)))
    alone = lanes.run(solver, kernel.second, items, kernel.data)
    together = fleet.run(fleet.Vmapped(solver, kernel.second), stacked, kernel.data, lanes=64)
    assert [Status(int(code)) for code in together.status] == [o.status for o in alone]
    for x, outcome in zip(together.result.x, alone):
        np.testing.assert_allclose(x, outcome.result.x, atol=1e-7)


def test_searches_in_turns_end_where_hessians_everywhere_end(x64):
    """More jobs than a squad has lanes, gradients by whichever kernel the trial took."""
    problem = xor()
    kernel, rng = problem.kernel, np.random.default_rng(3)
    guesses = saddle.Guess(1.2 * rng.normal(size=(1500, problem.size)), np.zeros((1500, problem.size)))
    following = saddle.EigenvectorFollowing(1e-9)
    turns = saddle.InTurns(solver=following, evaluate=kernel.second, first=kernel.first, passes=4)
    every = fleet.Vmapped(saddle.EigenvectorFollowing(1e-9, keep=0), saddle.everywhere(kernel.second), 4)
    known, found = (fleet.run(program, guesses, kernel.data, lanes=256, squads=4) for program in (every, turns))
    known, found = (e.result.energy[e.status == Status.CONVERGED] for e in (known, found))
    assert len(found) > 0.8 * len(known) > 300
    assert np.mean(np.isin(np.round(found, 7), np.round(known, 7))) > 0.98


def test_an_audit_is_one_batch_and_right(x64):
    problem = board(5, "auto")
    engine, xs = Engine(problem), list(normal(problem, 300))
    for x, point in list(zip(xs, engine.audit(xs)))[::60]:
        modes = np.linalg.eigvalsh(problem.hessian(x))
        assert abs(point.energy - float(problem.energy(x))) < 1e-12
        assert abs(point.lowest - modes[0]) < 1e-10 and point.negative == np.sum(modes < -1e-8)


def test_float32_products_are_not_tf32():
    a = np.random.default_rng(0).normal(size=(8, 128, 128)).astype(np.float32)
    truth = a.astype(np.float64) @ a[0].astype(np.float64)
    got = map_rows(_times, list(a), a[0])
    assert away(np.stack(got), truth) < 1e-6
    with jax.default_matmul_precision(matmul_precision()):
        assert away(jnp.matmul(a, a[0]), truth) < 1e-6


def _times(row, matrix):
    return row @ matrix


def test_the_doctor_finds_nothing_wrong():
    assert all(check.ok for check in doctor.checks())


def test_xor_is_complete(x64):
    found = explore(xor(), start_scale=1.5, seed=2, breadth=1)
    assert (found.n_minima, found.n_ts) == (5, 16)
    np.testing.assert_allclose(found.energies, [0.4265389, 0.4692146, 0.5929038, 0.5929038, 0.6931472], atol=1e-6)
    assert (found.components() == 0).all()
