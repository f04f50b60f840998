"""Hessian toolbox beside pyDVL, curvlinops and matfree: digits, MLP 64-32-10 tanh, p = 2,410, n = 1,437, float64.

``python benchmarks/bench_hessian.py`` prints CPU seconds (process time, second call where a call compiles; the first
beside it) and errors against the dense solve; ``--table`` prints one over the number of parameters instead. Peers are
left out where they are not installed. Run with OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import time

import jax
import numpy as np
import pytest

DAMPING = 1e-4


def digits_problem():
    """The network after 800 full-batch Adam steps of 0.01: loss 1e-3, 604 negative eigenvalues, lowest -7e-5."""
    import jax.numpy as jnp
    import optax
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    from jaxland import Problem, mlp

    x, y = load_digits(return_X_y=True)
    x, xt, y, yt = train_test_split(x / 16.0, y, test_size=360, random_state=0)
    problem = Problem.from_model(mlp((64, 32, 10), "tanh", key=jax.random.key(0), dtype=jnp.float64), x, y)
    rule = optax.adam(1e-2)

    @jax.jit
    def train(w, data):
        def step(carry, _):
            w, state = carry
            update, state = rule.update(jax.grad(problem.energy_of)(w, data), state)
            return (optax.apply_updates(w, update), state), None

        return jax.lax.scan(step, (w, rule.init(w)), None, length=800)[0][0]

    return problem.at(train(problem.w, problem.data)), (xt, yt)


def clocked(call):
    """CPU seconds and result of a call."""
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def ours_influence(problem, test, count, method):
    from jaxland import hessian

    curvature = hessian.curvature(problem, damping=DAMPING, method=method, tolerance=1e-4)
    points = tuple(a[:count] for a in test)
    return hessian.influence(curvature, points, relative=False, sweep=False).values


def torch_side(problem):
    """The same network and weights in torch."""
    import torch

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    net = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10))
    params = problem.params
    with torch.no_grad():
        for layer, given in zip((net[0], net[2]), params):
            layer.weight.copy_(torch.tensor(np.asarray(given["w"]).T.copy()))
            layer.bias.copy_(torch.tensor(np.asarray(given["b"]).copy()))
    x, y = (torch.tensor(np.asarray(a).copy()) for a in problem.data)
    return net, x, y.long()


def pydvl_influence(problem, test, count, simultaneous):
    import torch

    if not hasattr(np, "float_"):
        np.float_ = np.float64  # noqa: NPY201  pyDVL 0.9 was written for NumPy 1
    from pydvl.influence.torch import CgInfluence
    from torch.utils.data import DataLoader, TensorDataset

    net, x, y = torch_side(problem)
    loader = DataLoader(TensorDataset(x, y), batch_size=len(x))
    model = CgInfluence(
        net, torch.nn.functional.cross_entropy, hessian_regularization=DAMPING, rtol=1e-4, atol=1e-9,
        use_block_cg=simultaneous, progress=False,
    ).fit(loader)  # fmt: skip
    xt, yt = torch.tensor(np.asarray(test[0][:count])), torch.tensor(np.asarray(test[1][:count])).long()
    return model.influences(xt, yt, x, y).detach().numpy()


def ours_modes(problem, lowest, highest):
    from jaxland import hessian

    curvature = hessian.curvature(problem, damping=DAMPING, method="products")
    return curvature.modes(lowest, highest, tolerance=1e-8)


def arpack(problem, k, which):
    import torch
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import LinearOperator, eigsh

    net, x, y = torch_side(problem)
    params = {name: p for name, p in net.named_parameters() if p.requires_grad}
    try:
        operator = HessianLinearOperator(net, torch.nn.CrossEntropyLoss(), params, [(x, y)])
    except Exception:
        operator = HessianLinearOperator(net, torch.nn.CrossEntropyLoss(), list(params.values()), [(x, y)])
    host = operator.to_scipy(dtype=np.float64) if hasattr(operator, "to_scipy") else operator
    calls = [0]

    def product(v):
        calls[0] += 1
        return host @ v

    wrapped = LinearOperator(host.shape, matvec=product, dtype=np.float64)
    values, vectors = eigsh(wrapped, k=k, which=which, tol=1e-8, ncv=max(40, 6 * k), maxiter=20000)
    residuals = [np.linalg.norm(host @ vectors[:, i] - values[i] * vectors[:, i]) for i in range(k)]
    return values, max(residuals), calls[0]


def matfree_modes(problem, steps):
    import jax.numpy as jnp
    from matfree import decomp, eig

    energy = problem.energy_of

    @jax.jit
    def run(start, w, data):
        def product(v):
            return jax.jvp(lambda u: jax.grad(energy)(u, data), (w,), (v,))[1]

        return eig.eigh_partial(decomp.tridiag_sym(steps, reortho="full"))(product, start)

    start = jnp.asarray(np.random.default_rng(0).standard_normal(problem.size))
    start = start / jnp.linalg.norm(start)
    return run, (start, problem.w, problem.data)


def residual_of(problem, values, vectors):
    images = np.asarray(jax.vmap(lambda v: problem.hvp(problem.w, v))(vectors))
    return np.linalg.norm(images - np.asarray(values)[:, None] * np.asarray(vectors), axis=1).max()


def relative_error(values, exact):
    return float(np.linalg.norm(values - exact) / np.linalg.norm(exact))


def report(name, seconds, first, note=""):
    first = f"{first:8.2f}" if first is not None else " " * 8
    print(f"{name:58s} {seconds:8.2f} {first}  {note}", flush=True)


def side_by_side(parts):
    problem, test = digits_problem()
    exact_matrix = np.asarray(problem.hessian())
    values = np.linalg.eigvalsh(exact_matrix)
    print(f"loss {float(problem.energy()):.2e}, eigenvalues {values[0]:.2e} .. {values[-1]:.2e}; damping {DAMPING:g}")
    print(f"{'':58s} {'CPU s':>8s} {'1st call':>8s}")
    g = jax.vmap(lambda a, b: jax.grad(lambda w: problem.losses_of(w, a[None], b[None])[0])(problem.w))
    gradients, queries = np.asarray(g(*problem.data)), np.asarray(g(test[0][:50], test[1][:50]))
    exact = queries @ np.linalg.solve(exact_matrix + DAMPING * np.eye(problem.size), gradients.T) / problem.n
    for count in (20, 50) if "influence" in parts else ():
        for method in ("products", "explicit"):
            first, _ = clocked(lambda c=count, m=method: ours_influence(problem, test, c, m))
            seconds, found = clocked(lambda c=count, m=method: ours_influence(problem, test, c, m))
            error = relative_error(found, exact[:count])
            report(f"influence of {count}: jaxland, {method}", seconds, first, f"relative error {error:.1e}")
    if "pydvl" in parts:
        with contextlib.suppress(Exception):
            pydvl_influence(problem, test, 1, True)  # imports, not to be clocked
        for count, together in ((20, True), (50, True), (2, False)):
            try:
                seconds, found = clocked(lambda c=count, t=together: pydvl_influence(problem, test, c, t))
            except Exception as error:
                print(f"pyDVL, {count} points, block {together}: {type(error).__name__}: {error}")
                continue
            error = min(relative_error(s * found, exact[:count]) for s in (1 / problem.n, -1 / problem.n, 1, -1))
            name = "CG simultaneous" if together else "CG, default (one by one)"
            each = "" if together else f", {seconds / count:.1f} a point"
            report(f"influence of {count}: pyDVL {name}", seconds, None, f"relative error {error:.1e}{each}")
    for low, high in ((0, 10), (10, 0)) if "modes" in parts else ():
        end = "lowest" if low else "highest"
        first, _ = clocked(lambda a=low, b=high: ours_modes(problem, a, b))
        seconds, modes = clocked(lambda a=low, b=high: ours_modes(problem, a, b))
        pairs = modes.lowest if low else modes.highest
        known = values[:10] if low else values[::-1][:10]
        report(f"10 {end}: jaxland Lanczos", seconds, first, f"{modes.factorisation.filled} products, residual "
               f"{pairs.residuals.max():.0e}, value error {np.abs(pairs.values - known).max():.0e}")  # fmt: skip
        try:
            import curvlinops  # noqa: F401

            seconds, (_, residual, calls) = clocked(lambda a=low: arpack(problem, 10, "SA" if a else "LA"))
            report(
                f"10 {end}: ARPACK through curvlinops", seconds, None, f"{calls} products, residual {residual:.0e}"
            )
        except Exception as error:
            print(f"ARPACK through curvlinops: {type(error).__name__}: {error}")
        try:
            import matfree  # noqa: F401
        except ImportError:
            print("matfree is not installed")
            continue
        for steps in (60,) if high else (300, modes.factorisation.filled):
            run, args = matfree_modes(problem, steps)
            first, _ = clocked(lambda r=run, a=args: jax.block_until_ready(r(*a)))
            seconds, (found, vectors) = clocked(lambda r=run, a=args: jax.block_until_ready(r(*a)))
            part = slice(0, 10) if low else slice(-10, None)
            residual = residual_of(problem, found[part], vectors[part])
            report(f"10 {end}: matfree, {steps} steps", seconds, first, f"residual {residual:.0e}")
    if "spectra" in parts:
        spectra_of_many()


def spectra_of_many():
    from jaxland import Problem, hessian, mlp

    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 2))
    problem = Problem.from_model(mlp((2, 10, 2)), x, (x[:, 0] * x[:, 1] > 0).astype(int), l2=1e-4)
    points = rng.normal(size=(256, problem.size))
    first, _ = clocked(lambda: hessian.spectra(problem, points))
    seconds, _ = clocked(lambda: hessian.spectra(problem, points))
    report(f"spectra of 256 minima, p = {problem.size}, n = 500, one call", seconds, first)


def size_table(sizes):
    """Influence of 5 test points, top 10 modes and LEES against the number of parameters, float32."""
    import jax.numpy as jnp

    from jaxland import Problem, hessian, mlp

    head = ("p", "product", "make", "infl. 5", "LEES", "vectors", "peak GB")
    print("".join(f"{name:>10s}" for name in head) + "   (CPU s; float32, n = 1,437)")
    for hidden in sizes:
        rng = np.random.default_rng(0)
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        x, y = load_digits(return_X_y=True)
        x, xt, y, yt = train_test_split(x / 16.0, y, test_size=360, random_state=0)
        model = mlp((64, hidden, hidden, 10), "tanh", key=jax.random.key(1), dtype=jnp.float32)
        problem = Problem.from_model(model, x.astype(np.float32), y, l2=1e-4)
        import optax

        rule = optax.adam(1e-3)

        @jax.jit
        def step(w, state, data, problem=problem, rule=rule):
            update, state = rule.update(jax.grad(problem.energy_of)(w, data), state)
            return optax.apply_updates(w, update), state

        w, state = problem.w, rule.init(problem.w)
        for _ in range(60):
            w, state = step(w, state, problem.data)
        problem = problem.at(w)
        v = jnp.asarray(rng.standard_normal(problem.size), jnp.float32)
        jax.block_until_ready(problem.hvp(problem.w, v))
        product, _ = clocked(lambda p=problem, v=v: jax.block_until_ready(p.hvp(p.w, v)))
        make, curvature = clocked(
            lambda p=problem: hessian.curvature(
                p, kind="gauss-newton", damping=1e-3, method="products", tolerance=1e-4, deflation=30
            )
        )
        points = (xt[:5].astype(np.float32), yt[:5])
        influence, _ = clocked(lambda c=curvature, q=points: hessian.influence(c, q, relative=False, sweep=False))
        lees, _ = clocked(lambda c=curvature, q=points: hessian.extrapolation(c, q, m=10))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        filled = curvature.factorisation().filled
        row = [
            problem.size,
            f"{product:.3f}",
            f"{make:.2f}",
            f"{influence:.2f}",
            f"{lees:.2f}",
            filled,
            f"{peak:.2f}",
        ]
        print("".join(f"{cell!s:>10s}" for cell in row), flush=True)


# -- pytest-benchmark ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    with jax.enable_x64(True):
        yield digits_problem()


@pytest.mark.parametrize("method", ["products", "explicit"])
def test_influence_of_20(benchmark, digits, method):
    problem, test = digits
    ours_influence(problem, test, 20, method)
    benchmark(ours_influence, problem, test, 20, method)


@pytest.mark.parametrize("low, high", [(10, 0), (0, 10)])
def test_ten_modes(benchmark, digits, low, high):
    ours_modes(digits[0], low, high)
    benchmark(ours_modes, digits[0], low, high)


@pytest.mark.peers
def test_pydvl_influence_of_20(benchmark, digits):
    pytest.importorskip("pydvl")
    benchmark.pedantic(pydvl_influence, (*digits, 20, True), rounds=1)


@pytest.mark.peers
def test_arpack_lowest_ten(benchmark, digits):
    pytest.importorskip("curvlinops")
    benchmark.pedantic(arpack, (digits[0], 10, "SA"), rounds=1)


@pytest.mark.peers
def test_matfree_lowest_ten(benchmark, digits):
    pytest.importorskip("matfree")
    run, args = matfree_modes(digits[0], 300)
    jax.block_until_ready(run(*args))
    benchmark.pedantic(lambda: jax.block_until_ready(run(*args)), rounds=1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true", help="only the table over sizes")
    parser.add_argument("--hidden", type=int, nargs="*", default=[32, 90, 280, 960])
    parser.add_argument("--only", nargs="*", default=["influence", "pydvl", "modes", "spectra"])
    given = parser.parse_args()
    if given.table:
        size_table(given.hidden)
    else:
        jax.config.update("jax_enable_x64", True)
        side_by_side(given.only)
