"""All solvers obey one protocol, compile once per shape, do not see lanes; every minimiser meets every problem."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from shared_cases import muller_brown

from jaxland import Problem, mlp
from jaxland.core.mixture import encode, start
from jaxland.core.solvers import band, em, lanes, quench, saddle
from jaxland.core.solvers.protocol import Layout, Status

RNG = np.random.default_rng(7)


def rosenbrock(w):
    return jnp.sum(100.0 * (w[1:] - w[:-1] ** 2) ** 2 + (1.0 - w[:-1]) ** 2)


def ill_conditioned(w):
    return 0.5 * jnp.sum(jnp.asarray([1e-2, 1.0, 1e2, 1e4]) * (w - 1.0) ** 2)


def double_wells(w):
    return jnp.sum((w**2 - 1.0) ** 2) + 0.3 * jnp.sum(w[1:] * w[:-1])


def network():
    x = np.random.default_rng(1).normal(size=(40, 2))
    return Problem.from_model(mlp((2, 3, 2)), x, (x[:, 0] * x[:, 1] > 0).astype(int), l2=1e-2)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "rosenbrock": lambda: Problem.from_energy(rosenbrock, 5),
    "ill-conditioned": lambda: Problem.from_energy(ill_conditioned, 4),
    "double wells": lambda: Problem.from_energy(double_wells, 6),
    "network": network,
}


class Case(NamedTuple):
    solver: Any
    evaluate: Callable[..., Any]
    items: list[Any]
    other: list[Any]  # of another shape
    data: Any


def starts(n, count=5):
    return [quench.Start(x, np.float64(0.5)) for x in RNG.normal(size=(count, n))]


def guesses(n, count=5):
    return [saddle.Guess(x, np.zeros(n)) for x in RNG.normal(size=(count, n))]


def em_items(d, count=4):
    z = np.random.default_rng(2).normal(size=(3, 200))
    begun = [start(z[:d], 2, np.random.default_rng(k)) for k in range(count)]
    columns, row = np.arange(d, dtype=np.int32), np.asarray(0, np.int32)
    return [em.Fit(encode(m), columns, row, row) for m in begun]


def energy(w, data):
    return rosenbrock(w)


def make(name):
    from jaxland.core.energy import kernels

    kernel = kernels.autodiff(energy, None, 3, 1.0)
    ends = [np.stack([a.x, b.x]) for a, b in zip(starts(3), starts(3))]
    more = [np.stack([a.x, b.x]) for a, b in zip(starts(4), starts(4))]
    if name == "em":
        z = jnp.asarray(np.random.default_rng(2).normal(size=(3, 200)))
        return Case(em.EM(max_steps=40), em.evaluate, em_items(2), em_items(1), em.Data(z, jnp.ones((1, 200))))
    solver, evaluate, items, other = {
        "bfgs": (quench.BFGS(1e-6, 200), kernel.first, starts(3), starts(4)),
        "lbfgs": (quench.LBFGS(1e-6, 200), kernel.first, starts(3), starts(4)),
        "newton": (quench.Newton(1e-8, 100), kernel.second, starts(3), starts(4)),
        "following": (
            saddle.EigenvectorFollowing(1e-8, 60),
            saddle.where_asked(kernel.first, kernel.second),
            guesses(3),
            guesses(4),
        ),
        "hybrid": (saddle.HybridFollowing(1e-8, 60), saddle.softest_of(kernel, 3), guesses(3), guesses(4)),
        "band": (band.ElasticBand(5, 20), band.along_band(kernel.first), ends, more),
    }[name]
    return Case(solver, evaluate, items, other, None)


SOLVERS = ("bfgs", "lbfgs", "newton", "following", "hybrid", "band", "em")


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_obey_the_protocol(x64, name):
    case = make(name)
    solver = case.solver
    assert isinstance(solver, lanes.Solver)
    assert hash(solver) == hash(replace(solver)) and solver == replace(solver)
    state = jax.jit(solver.init)(case.items[0])
    assert int(solver.status(state)) == Status.RUNNING
    shapes = jax.eval_shape(lambda s: s, state)
    evaluation = jax.eval_shape(lambda s: case.evaluate(solver.point(s), case.data), state)
    following = jax.eval_shape(solver.step, shapes, evaluation)
    assert jax.tree.structure(following) == jax.tree.structure(shapes)
    for before, after in zip(jax.tree.leaves(shapes), jax.tree.leaves(following)):
        assert (before.shape, before.dtype) == (after.shape, after.dtype)
    status = jax.eval_shape(solver.status, shapes)
    assert status.shape == () and status.dtype == jnp.int32
    many = jax.vmap(solver.init)(jax.tree.map(lambda *leaves: np.stack(leaves), *case.items))
    assert all(leaf.shape[0] == len(case.items) for leaf in jax.tree.leaves(jax.vmap(solver.result)(many)))
    outcomes = lanes.run(solver, case.evaluate, case.items, case.data, layout=Layout(2, 16, 1, 1))
    assert [o.job for o in outcomes] == list(range(len(case.items)))
    for o in outcomes:
        assert o.status != Status.RUNNING
        assert jax.tree.structure(o.result) == jax.tree.structure(jax.eval_shape(solver.result, shapes))
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(o.result))


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_compile_once_per_shape(x64, name):
    case, traced = make(name), []

    def counted(point, data):
        traced.append(1)
        return case.evaluate(point, data)

    layout = Layout(2, 16, 1, 1)
    lanes.run(case.solver, counted, case.items, case.data, layout=layout)
    once = len(traced)
    lanes.run(replace(case.solver), counted, case.items[::-1][:3], case.data, layout=layout)
    assert len(traced) == once
    lanes.run(case.solver, counted, case.other, case.data, layout=layout)
    assert once < len(traced) <= 2 * once
    lanes.run(case.solver, counted, case.items, case.data, layout=layout)
    assert len(traced) <= 2 * once


@pytest.mark.parametrize("name", ["bfgs", "lbfgs", "newton", "following", "hybrid", "band", "em"])
def test_one_lane_takes_the_program_of_many(x64, name):
    """Bit for bit: 1, 2 and 8 lanes, one or two threads."""
    case = make(name)
    layouts = [Layout(8, 16, 1, 1), Layout(1, 16, 1, 1), Layout(2, 7, 1, 1), Layout(1, 64, 1, 2)]
    runs = [lanes.run(case.solver, case.evaluate, case.items, case.data, layout=layout) for layout in layouts]
    for other in runs[1:]:
        for a, b in zip(runs[0], other, strict=True):
            assert a.status == b.status
            for left, right in zip(jax.tree.leaves(a.result), jax.tree.leaves(b.result)):
                np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("solver", [quench.BFGS(1e-7), quench.LBFGS(1e-7), quench.Newton(1e-7)])
def test_every_minimiser_meets_every_problem(x64, solver, problem):
    kernel = (made := PROBLEMS[problem]()).kernel
    evaluate = kernel.second if isinstance(solver, quench.Newton) else kernel.first
    items = [quench.Start(x, np.float64(0.5)) for x in np.random.default_rng(3).normal(size=(4, made.size))]
    for o in lanes.run(solver, evaluate, items, kernel.data, layout=Layout(4, 32, 1, 1)):
        assert o.status == Status.CONVERGED and o.result.rms <= 1e-7
        curved = kernel.second(jnp.asarray(o.result.x), kernel.data)
        assert float(jnp.sqrt(jnp.mean(curved.gradient**2))) <= 2e-7
        np.testing.assert_allclose(o.result.energy, curved.energy, rtol=1e-12, atol=1e-15)
        assert o.result.energy <= kernel.first(jnp.asarray(items[o.job].x), kernel.data).energy
        if isinstance(solver, quench.Newton):
            assert np.linalg.eigvalsh(curved.hessian)[0] >= -1e-8


@pytest.mark.parametrize("name", ["following", "hybrid"])
def test_both_searches_end_on_a_saddle_of_index_one(x64, name):
    problem = Problem.from_energy(muller_brown, 2)
    if name == "following":
        solver = saddle.EigenvectorFollowing(1e-8)
        evaluate = saddle.where_asked(problem.kernel.first, problem.kernel.second)
    else:
        solver, evaluate = saddle.HybridFollowing(1e-8), saddle.softest_of(problem.kernel, 2)
    items = [saddle.Guess(np.array([-0.8, 0.6]), np.zeros(2)), saddle.Guess(np.array([0.2, 0.3]), np.zeros(2))]
    for o in lanes.run(solver, evaluate, items, problem.kernel.data):
        assert o.status == Status.CONVERGED
        modes = np.linalg.eigvalsh(problem.kernel.second(jnp.asarray(o.result.x), problem.kernel.data).hessian)
        assert modes[0] < 0 < modes[1]
        np.testing.assert_allclose(o.result.eigenvalue, modes[0], rtol=1e-6)
