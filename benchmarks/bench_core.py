"""Every core operation with its floor, and peers on the same input, in CPU seconds and wall seconds.

    make bench                                               # everything; JSON in benchmarks/results/last.json
    pytest benchmarks/bench_core.py --benchmark-only         # these cases alone

A floor is what the operation cannot do without (arithmetic over the measured peak, transcendental functions at the
best measured speed, bytes over the measured bandwidth; see floors.py), counted by hand from the formulas. Iterative
operations count the evaluations they made. Compilation (the first call less the second) is kept apart.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from floors import Work

from jaxland import Problem, mlp
from jaxland.core import mixture
from jaxland.core.krylov import grown
from jaxland.core.solvers import band, em, lanes, quench, saddle
from jaxland.core.solvers.protocol import Layout
from jaxland.data import load
from jaxland.problem.symmetry import align_many

SERIAL = Layout(8, 64, 1, 1)
POINTS = 1000


@pytest.fixture(autouse=True)
def precise():
    with jax.enable_x64(True):
        yield


@contextlib.contextmanager
def clocked(kept: list[float]):
    began = time.process_time()
    yield
    kept.append(time.process_time() - began)


def record(benchmark, name, size, call, work=None, *, unit=1.0, rounds=5, peer_of=None, first=True):
    """Time ``call``: wall by pytest-benchmark, CPU by process time, per unit of work.

    Args:
        name, size: row of the table.
        call: no arguments; blocks until done.
        work: ``Work`` of one call, or a function of its result.
        unit: what one call is divided by (networks, minima, evaluations).
        peer_of: the row that this is a peer of.
        first: whether the first call compiles.
    """
    times: list[float] = []
    if first:
        with clocked(times):
            call()
    kept: list[float] = []

    def once():
        with clocked(kept):
            return call()

    once()  # warm, and not counted
    compiled = max(0.0, times[0] - kept[0]) if first else 0.0
    iterations = max(1, int(0.05 / max(kept.pop(), 1e-6)))

    def many():
        for _ in range(iterations):
            result = call()
        return result

    def timed():
        with clocked(kept):
            return many()

    result = benchmark.pedantic(timed, rounds=rounds)
    info = {
        "name": name,
        "size": size,
        "cpu": min(kept) / iterations / unit,
        "wall": benchmark.stats["min"] / iterations / unit,
        "compile": compiled,
    }
    if peer_of:
        info["peer_of"] = peer_of
    if work is not None:
        made = work(result) if callable(work) else work
        info["floor"], info["limit"] = made.times(1.0 / unit).floor()
    benchmark.extra_info.update(info)


# -- work, by formula ------------------------------------------------------------------------------------------------


def gradient_work(sizes, n, dtype="float64"):
    """Energy and gradient of one network: forward, two products back, activation, softmax."""
    itemsize = np.dtype(dtype).itemsize
    products = sum(a * b for a, b in itertools.pairwise(sizes))
    hidden = sum(sizes[1:-1])
    operations = n * (2 * products * 3 - 2 * sizes[0] * sizes[1] + 6 * hidden + 8 * sizes[-1])
    traffic = itemsize * n * (sizes[0] + 1)
    # Of two classes one exponential; one logarithm serves dozens of points.
    exponentials = n * (1 if sizes[-1] == 2 else sizes[-1])
    return Work(operations, traffic, n * hidden, exponentials, 0.0, dtype)


def hessian_work(sizes, n, dtype="float64"):
    """Energy, gradient and exact Hessian in closed form: half of one symmetric product over points (and classes)."""
    d, h, c = sizes
    features = h * (d + 1) + h + 1 if c == 2 else h * (d + 1) + c * (h + 1)
    rows = n if c == 2 else n * c
    return gradient_work(sizes, n, dtype).plus(Work(rows * features**2 + n * h * (d + 1) ** 2, dtype=dtype))


def eigh_work(n, dtype="float64"):
    """All eigenpairs of a symmetric matrix: about 9 n^3 (Golub & Van Loan, table 8.3.1)."""
    return Work(9.0 * n**3, dtype=dtype)


# -- problems --------------------------------------------------------------------------------------------------------


@cache
def checkerboard(hidden, dtype="float64"):
    data = load("checkerboard", n=POINTS).split(0.0, scale="standardise").train
    model = mlp((2, hidden, 2), dtype=jnp.dtype(dtype))
    return Problem.from_model(model, np.asarray(data.x, dtype), data.y, l2=1e-5)


@cache
def digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return Problem.from_model(mlp((64, 32, 10), "tanh", dtype=jnp.float64), x / 16.0, y, l2=1e-4)


def starts(problem, count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, problem.size)).astype(problem.dtype)


@cache
def over_lanes(function):
    """One lane after another, as lanes do on a CPU."""
    return jax.jit(lambda ws, data: jax.lax.map(lambda w: function(*w, data), ws))


# -- evaluations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("hidden", [5, 10])
def test_gradient(benchmark, hidden, dtype):
    problem = checkerboard(hidden, dtype)
    ws, program = jnp.asarray(starts(problem, 64)), over_lanes(problem.kernel.first)
    work = gradient_work(problem.model.sizes, POINTS, dtype).times(64)
    record(
        benchmark, "energy + gradient", f"h {hidden}, {dtype}",
        lambda: jax.block_until_ready(program((ws,), problem.kernel.data)), work, unit=64,
    )  # fmt: skip


@pytest.mark.parametrize("hidden", [5, 10])
def test_gradient_by_autodiff(benchmark, hidden):
    """What plain XLA needs: jax.value_and_grad of the loss, vmapped."""
    problem = checkerboard(hidden)
    ws = jnp.asarray(starts(problem, 64))
    program = jax.jit(jax.vmap(jax.value_and_grad(problem.energy_of), (0, None)))
    record(
        benchmark, "value_and_grad under vmap", f"h {hidden}, float64",
        lambda: jax.block_until_ready(program(ws, problem.data)), unit=64, peer_of="energy + gradient",
    )  # fmt: skip


def test_product(benchmark):
    problem = checkerboard(10)
    ws, vs, program = (
        jnp.asarray(starts(problem, 64)),
        jnp.asarray(starts(problem, 64, 1)),
        over_lanes(problem.kernel.product),
    )
    # The gradient again, with tangents of its products and no further functions.
    once = gradient_work(problem.model.sizes, POINTS)
    work = once.plus(Work(2 * once.operations)).times(64)
    record(
        benchmark, "Hessian-vector product", "h 10, float64",
        lambda: jax.block_until_ready(program((ws, vs), problem.kernel.data)), work, unit=64,
    )  # fmt: skip


@pytest.mark.parametrize("hidden", [5, 10])
def test_exact_hessian(benchmark, hidden):
    problem = checkerboard(hidden)
    ws, program = jnp.asarray(starts(problem, 16)), over_lanes(problem.kernel.second)
    record(
        benchmark, "exact Hessian", f"h {hidden}, float64",
        lambda: jax.block_until_ready(program((ws,), problem.kernel.data)),
        hessian_work(problem.model.sizes, POINTS).times(16), unit=16,
    )  # fmt: skip


def test_hessian_by_autodiff(benchmark):
    problem = checkerboard(10)
    w, program = jnp.asarray(starts(problem, 1)[0]), jax.jit(jax.hessian(problem.energy_of))
    record(
        benchmark, "jax.hessian", "h 10, float64", lambda: jax.block_until_ready(program(w, problem.data)),
        peer_of="exact Hessian",
    )  # fmt: skip


@pytest.mark.parametrize("hidden", [5, 10])
def test_diagonalise(benchmark, hidden):
    problem = checkerboard(hidden)
    a = problem.hessian(jnp.asarray(starts(problem, 1)[0]))
    program = jax.jit(lambda a: jax.lax.map(jnp.linalg.eigh, jnp.stack([a] * 16)))
    record(
        benchmark, "eigh", f"N {problem.size}, float64", lambda: jax.block_until_ready(program(a)),
        eigh_work(problem.size).times(16), unit=16,
    )  # fmt: skip


# -- iterations ------------------------------------------------------------------------------------------------------


def evaluations(outcomes):
    return sum(int(o.result.evaluations) for o in outcomes)


@pytest.mark.parametrize("hidden", [5, 10])
def test_quench(benchmark, hidden):
    problem = checkerboard(hidden)
    items = [quench.Start(x, np.float64(1.0)) for x in starts(problem, 32)]
    once = gradient_work(problem.model.sizes, POINTS).plus(Work(8.0 * problem.size**2))
    record(
        benchmark, "quench to rms 1e-6", f"h {hidden}, float64",
        lambda: lanes.run(quench.BFGS(1e-6), problem.kernel.first, items, problem.kernel.data, layout=SERIAL),
        lambda found: once.times(evaluations(found)), unit=len(items), rounds=3,
    )  # fmt: skip


@pytest.mark.parametrize("hidden", [5, 10])
def test_quench_scipy(benchmark, hidden):
    from bench_landscape import scipy_lbfgs

    problem = checkerboard(hidden)
    xs = list(starts(problem, 4))
    record(
        benchmark, "SciPy L-BFGS-B", f"h {hidden}, float64", lambda: scipy_lbfgs(problem, xs), unit=4, rounds=2,
        peer_of="quench to rms 1e-6", first=False,
    )  # fmt: skip


@pytest.mark.parametrize("hidden", [5, 10])
def test_quench_optimistix(benchmark, hidden):
    optx = pytest.importorskip("optimistix")
    problem = checkerboard(hidden)
    energy, solver = problem.energy_of, optx.LBFGS(rtol=1e-9, atol=1e-12)

    @jax.jit
    def many(ws, data):
        def one(w):
            return optx.minimise(lambda u, a: energy(u, a), solver, w, args=data, max_steps=5000, throw=False).value

        return jax.vmap(one)(ws)

    ws = jnp.asarray(starts(problem, 16))
    record(
        benchmark, "optimistix L-BFGS, vmap", f"h {hidden}, float64",
        lambda: jax.block_until_ready(many(ws, problem.data)), unit=16, rounds=1, peer_of="quench to rms 1e-6",
    )  # fmt: skip


def test_quench_optax(benchmark):
    import optax

    problem = checkerboard(5)
    energy, rule = problem.energy_of, optax.lbfgs(memory_size=10)

    @jax.jit
    def many(ws, data):
        def one(w):
            f = partial(energy, data=data)
            both = optax.value_and_grad_from_state(f)

            def step(carry):
                w, state, _, k = carry
                value, g = both(w, state=state)
                update, state = rule.update(g, state, w, value=value, grad=g, value_fn=f)
                return optax.apply_updates(w, update), state, jnp.sqrt(jnp.mean(g * g)), k + 1

            go = lambda c: (c[2] > 1e-6) & (c[3] < 2000)  # noqa: E731
            return jax.lax.while_loop(go, step, (w, rule.init(w), jnp.asarray(jnp.inf), 0))[0]

        return jax.vmap(one)(ws)

    ws = jnp.asarray(starts(problem, 8))
    record(
        benchmark, "optax L-BFGS, vmap", "h 5, float64", lambda: jax.block_until_ready(many(ws, problem.data)),
        unit=8, rounds=1, peer_of="quench to rms 1e-6",
    )  # fmt: skip


@cache
def guesses(hidden, count=32):
    problem = checkerboard(hidden)
    rng = np.random.default_rng(1)
    items = [quench.Start(x, np.float64(1.0)) for x in starts(problem, 8)]
    ends = lanes.run(quench.BFGS(1e-6), problem.kernel.first, items, problem.kernel.data, layout=SERIAL)
    xs = [ends[k % 8].result.x for k in range(count)]
    return [saddle.Guess(x + 0.2 * np.sqrt(np.mean(x * x)) * rng.normal(size=x.size), np.zeros_like(x)) for x in xs]


def test_eigenvector_following(benchmark):
    problem, items = checkerboard(5), guesses(5)
    solver = saddle.EigenvectorFollowing(1e-9, 300)
    evaluate = saddle.where_asked(problem.kernel.first, problem.kernel.second)
    first = gradient_work(problem.model.sizes, POINTS)
    curved = hessian_work(problem.model.sizes, POINTS).plus(eigh_work(problem.size))

    def work(found):
        exact = sum(int(o.result.curvatures) for o in found)
        return curved.times(exact).plus(first.times(evaluations(found) - exact))

    record(
        benchmark, "eigenvector-following", "h 5, a search",
        lambda: lanes.run(solver, evaluate, items, problem.kernel.data, layout=SERIAL),
        work, unit=len(items), rounds=3,
    )  # fmt: skip


def test_hybrid_following(benchmark):
    problem, items = checkerboard(10), guesses(10, 8)
    solver = saddle.HybridFollowing(1e-6, 300)
    evaluate = saddle.softest_of(problem.kernel)
    first = gradient_work(problem.model.sizes, POINTS)
    once = first.plus(first.plus(Work(2 * first.operations)).times(12))
    record(
        benchmark, "hybrid following", "h 10, a search",
        lambda: lanes.run(solver, evaluate, items, problem.kernel.data, layout=SERIAL),
        lambda found: once.times(evaluations(found)), unit=len(items), rounds=3,
    )  # fmt: skip


def test_band(benchmark):
    problem = checkerboard(5)
    xs = [g.x for g in guesses(5)]
    items = [np.stack(pair) for pair in itertools.pairwise(xs[:17])]
    solver, evaluate = band.ElasticBand(11), band.along_band(problem.kernel.first)
    once = gradient_work(problem.model.sizes, POINTS).times(11)
    record(
        benchmark, "elastic band, 11 images", "h 5, a band",
        lambda: lanes.run(solver, evaluate, items, problem.kernel.data, layout=SERIAL),
        lambda found: once.times(evaluations(found)), unit=len(items), rounds=3,
    )  # fmt: skip


# -- spectra, alignment ----------------------------------------------------------------------------------------------


def lanczos_work(problem, products):
    """Products, and twice orthogonalising each new vector against all before it."""
    first = gradient_work(problem.model.sizes, problem.n)
    one = first.plus(Work(2 * first.operations)).times(products)
    return one.plus(Work(8.0 * problem.size * products**2 / 2))


def test_lanczos(benchmark):
    problem = digits()
    w, data = jnp.asarray(starts(problem, 1)[0]) * 0.1, problem.data
    products = jax.jit(
        jax.vmap(
            lambda v, w, data: jax.jvp(lambda u: jax.grad(problem.energy_of)(u, data), (w,), (v,))[1], (0, None, None)
        )
    )
    record(
        benchmark, "Lanczos, 10 highest", "N 2,410, tolerance 1e-8",
        lambda: grown.eigenpairs(lambda v: products(v, w, data), problem.size, highest=10, dtype=jnp.float64),
        lambda found: lanczos_work(problem, found.products), rounds=2,
    )  # fmt: skip


def test_lanczos_arpack(benchmark):
    from scipy.sparse.linalg import LinearOperator, eigsh

    problem = digits()
    w = jnp.asarray(starts(problem, 1)[0]) * 0.1

    def run():
        operator = LinearOperator(
            (problem.size,) * 2, matvec=lambda v: np.asarray(problem.hvp(w, v)), dtype=np.float64
        )
        return eigsh(operator, k=10, which="LA", tol=1e-8)

    record(
        benchmark, "ARPACK (SciPy)", "N 2,410, tolerance 1e-8", run, rounds=2, peer_of="Lanczos, 10 highest",
        first=False,
    )  # fmt: skip


def test_lanczos_matfree(benchmark):
    decomp = pytest.importorskip("matfree.decomp")
    from matfree import eig

    problem = digits()
    w, start = jnp.asarray(starts(problem, 1)[0]) * 0.1, jnp.asarray(starts(problem, 1, 2)[0])

    @jax.jit
    def run(start, w, data):
        product = lambda v: jax.jvp(lambda u: jax.grad(problem.energy_of)(u, data), (w,), (v,))[1]  # noqa: E731
        return eig.eigh_partial(decomp.tridiag_sym(96, reortho="full"))(product, start)

    record(
        benchmark, "matfree, 96 products", "N 2,410, tolerance 1e-8",
        lambda: jax.block_until_ready(run(start, w, problem.data)), rounds=2, peer_of="Lanczos, 10 highest",
    )  # fmt: skip


def test_alignment(benchmark):
    problem = checkerboard(10)
    points, (h, width) = starts(problem, 256), (10, 5)
    # Both signs of every unit against every unit, then an assignment.
    work = Work(256 * (2.0 * h * h * width + h**3))
    record(
        benchmark,
        "alignment",
        "h 10, a point",
        lambda: align_many(problem.symmetry, points, points[0]),
        work,
        unit=256,
    )


# -- mixtures, attribution -------------------------------------------------------------------------------------------


def mixture_data(n=5000, count=5, order=5):
    rng = np.random.default_rng(0)
    x = rng.normal(size=n) + 3 * rng.integers(0, 2, n)
    z = np.stack([x, 0.7 * x + rng.normal(size=n)])
    z = (z - z.mean(1, keepdims=True)) / z.std(1, keepdims=True)
    begun = [mixture.start(z, order, np.random.default_rng(k), kind="kmeans") for k in range(count)]
    return z, jax.tree.map(lambda *a: np.stack(a), *begun)


def test_mixture(benchmark):
    count, order, n = 5, 5, 5000
    z, begin = mixture_data(n, count, order)
    columns, weights = jnp.asarray(z), jnp.ones((1, n))
    dims, rows = np.tile([0, 1], (count, 1)), np.zeros(count, np.int32)

    def work(fits):
        """Per step and component: the quadratic form (6 features), normalising, and the moments of 6 features."""
        return Work(n * order * 28.0, 8.0 * n * 2, 0, n * order, n).times(float(np.sum(fits.steps)))

    record(
        benchmark, "EM, 5 starts", "n 5,000, 5 components",
        lambda: em.fit(columns, weights, dims, rows, begin, layout=SERIAL), work, rounds=3,
    )  # fmt: skip


def test_mixture_sklearn(benchmark):
    from sklearn.mixture import GaussianMixture

    z, _ = mixture_data()
    record(
        benchmark, "scikit-learn GaussianMixture, 5 starts", "n 5,000, 5 components",
        lambda: GaussianMixture(5, n_init=5, tol=1e-5, reg_covar=1e-6, max_iter=1000, random_state=0).fit(z.T),
        rounds=3, peer_of="EM, 5 starts", first=False,
    )  # fmt: skip


def dense_work(rows):
    """Value and gradient by the input of the network 100-100-100-2 for so many rows, float32."""
    return Work(rows * 2 * 2 * (100 * 100 * 2 + 200), 4.0 * rows * 100 * 2, dtype="float32")


@pytest.mark.parametrize("method", ["MLP IG-50", "MLP ablation, 33 bands", "MLP CD, 33 bands"])
def test_attribution(benchmark, method):
    from bench_trim import BATCH, ours

    with jax.enable_x64(False):
        call = ours()[method]
        rows = {"MLP IG-50": 50, "MLP ablation, 33 bands": 34 / 2, "MLP CD, 33 bands": 34 / 2}[method]
        name = "decomposition" if "CD" in method else "attribution"
        record(benchmark, f"{name}: {method}", "an input, float32", call, dense_work(rows * BATCH), unit=BATCH)


@pytest.mark.parametrize("method", ["MLP IG-50", "MLP ablation, 33 bands"])
def test_attribution_captum(benchmark, method):
    pytest.importorskip("captum")
    from bench_trim import BATCH, theirs

    with jax.enable_x64(False):
        record(
            benchmark, f"captum {method}", "an input, float32", theirs()[method], unit=BATCH,
            peer_of=f"attribution: {method}", first=False,
        )  # fmt: skip
