"""The phases of a fermion chain, and what a network that tells them apart rests on (Dawid et al. 2022).

Ground states of the half-filled 12-site spinless extended Fermi-Hubbard chain, periodic, staggered field 1e-7:

    H = -1/2 sum_i (c_i^+ c_i+1 + h.c.) + V1 sum_i (n_i - 1/2)(n_i+1 - 1/2)

go through a small convolutional network that tells the Luttinger liquid (V1 < 1) from the charge-density wave. First
with the published weights and Hessian (the published numbers come out again), then with the Hessian of the same
network in evaluation mode, then with a network of our own trained to a stationary point.

    python examples/fermion_chain.py [--out runs/fermion_chain] [--data ../shared/data/fermion_chain_cnn.npz]
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

jax.config.update("jax_enable_x64", True)

from jaxland import Problem, from_function, from_nnx, hessian  # noqa: E402
from jaxland.core.solvers import lanes, quench  # noqa: E402
from jaxland.problem import cross_entropy  # noqa: E402
from jaxland.report import figures  # noqa: E402
from jaxland.report.html import Page  # noqa: E402

SITES = 12
V_TRAIN = np.concatenate([np.linspace(0, 1, 500), np.linspace(1.01, 40, 500)])
V_TEST = np.concatenate([np.linspace(0.01, 0.999, 20, endpoint=False), np.geomspace(1.02, 39, 30)])
LABELS, TEST_LABELS = (np.arange(1000) > 500).astype(int), (np.arange(50) > 20).astype(int)  # as published
LAMBDA = 0.05
# The paper's LAMBDA / 2n lets weights grow until every loss gradient vanishes; stationary points want more.
OWN_L2 = 1e-3


# -- physics ----------------------------------------------------------------------------------------


def ground_states(v1: np.ndarray) -> np.ndarray:
    """Ground states [k, 924] over the basis states as descending integers.

    All off-diagonal entries are -1/2, so the ground state is positive and invariant under every symmetry of H:
    translation by two sites, reflection, and particle-hole exchange with translation by one. In that sector (some 50
    states) dense diagonalisation of all couplings is one batched call.
    """
    states = np.array([s for s in range(2**SITES - 1, -1, -1) if s.bit_count() == SITES // 2])
    at = {int(s): i for i, s in enumerate(states)}
    bits = (states[:, None] >> np.arange(SITES)) & 1
    orbit = _orbits(bits)
    hopping = np.zeros((len(states), len(states)))
    for i, s in enumerate(states):
        for a in range(SITES):
            pair = (1 << a) | (1 << (a + 1) % SITES)
            if (int(s) & pair).bit_count() == 1:
                hopping[at[int(s) ^ pair], i] -= 0.5
    interaction = np.sum((bits - 0.5) * (np.roll(bits, -1, axis=1) - 0.5), axis=1)
    field = 1e-7 * np.sum(bits * (2 * (np.arange(SITES) % 2) - 1), axis=1)
    basis = np.eye(orbit.max() + 1)[orbit]
    basis /= np.linalg.norm(basis, axis=0)
    fixed, coupled = basis.T @ (hopping + np.diag(field)) @ basis, basis.T @ (interaction[:, None] * basis)
    _, vectors = np.linalg.eigh(fixed + v1[:, None, None] * coupled)
    return np.abs(vectors[:, :, 0] @ basis.T)


def _orbits(bits: np.ndarray) -> np.ndarray:
    """Number of each basis state's orbit under the symmetry group."""
    powers = 1 << np.arange(SITES)
    images = []
    for shift in range(0, SITES, 2):
        for mirror in (False, True):
            turned = np.roll(bits[:, -np.arange(SITES) % SITES] if mirror else bits, shift, axis=1)
            images += [turned @ powers, (1 - np.roll(turned, 1, axis=1)) @ powers]
    return np.unique(np.min(images, axis=0), return_inverse=True)[1]


def inputs() -> tuple[np.ndarray, np.ndarray]:
    """Training [1000, 924] and test [50, 924] inputs, scaled to [0, 1] by the training set."""
    states = ground_states(np.concatenate([V_TRAIN, V_TEST]))
    train, test = states[:1000], states[1000:]
    low, high = train.min(), train.max()
    return (train - low) / (high - low), (test - low) / (high - low)


# -- networks ---------------------------------------------------------------------------------------


def convolve(x: jax.Array, kernel: jax.Array, bias: jax.Array, pad: int = 0) -> jax.Array:
    """x [n, c, l], kernel [out, c, k] -> [n, out, l'] as one matrix product: fast on a CPU."""
    x = jnp.pad(x, ((0, 0), (0, 0), (pad, pad)))
    k = kernel.shape[2]
    windows = jnp.stack([x[:, :, j : x.shape[2] - k + 1 + j] for j in range(k)], axis=3)
    return jnp.einsum("nclk,ock->nol", windows, kernel) + bias[:, None]


def pool(x: jax.Array) -> jax.Array:
    """Mean over windows of 4 along the last axis."""
    return x[:, :, : x.shape[2] // 4 * 4].reshape(x.shape[0], x.shape[1], -1, 4).mean(axis=3)


def convolve_max(x: jax.Array, kernel: jax.Array, bias: jax.Array, pad: int = 0) -> jax.Array:
    """Convolution, then the maximum over windows of 4; only winners are differentiated: a quarter of the work."""
    x = jnp.pad(x, ((0, 0), (0, 0), (pad, pad)))
    k = kernel.shape[2]
    every = jax.lax.stop_gradient(convolve(x, kernel, bias))
    outputs = every.shape[2] // 4
    winner = every[:, :, : 4 * outputs].reshape(*every.shape[:2], outputs, 4).argmax(axis=3) + 4 * jnp.arange(outputs)
    at = winner[..., None] + jnp.arange(k)  # [n, out, l', k]
    rows = jnp.arange(x.shape[0])[:, None, None, None, None]
    windows = x[rows, jnp.arange(x.shape[1])[:, None], at[:, :, :, None, :]]  # [n, out, l', c, k]
    return jnp.einsum("nolck,ock->nol", windows, kernel) + bias[:, None]


def network(params: tuple[jax.Array, ...], x: jax.Array) -> jax.Array:
    """The published network in evaluation mode: 740 parameters, logits of (Luttinger liquid, charge-density wave)."""
    w1, b1, w2, b2, w3, b3, w4, b4 = params
    h = jax.nn.relu(convolve_max(x[:, None], w1, b1, pad=1))
    h = jax.nn.relu(convolve_max(h, w2, b2))
    h = jax.nn.relu(pool(convolve(h, w3, b3, pad=1)))
    return h.reshape(len(x), -1) @ w4.T + b4


def flax_network(seed: int):
    """A smaller one in Flax: strides for pooling, softplus for relu (a stationary point needs a smooth loss)."""
    from flax import nnx

    class Network(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.first = nnx.Linear(16, 4, rngs=rngs, param_dtype=float)
            self.second = nnx.Linear(4 * 4, 6, rngs=rngs, param_dtype=float)
            self.last = nnx.Linear(14 * 6, 2, rngs=rngs, param_dtype=float)

        def __call__(self, x: jax.Array) -> jax.Array:
            x = jnp.pad(x, ((0, 0), (0, 12)))  # 936 = 58 windows of 16 at stride 16, twice as many at stride 8
            windows = jnp.stack([x[:, j : j + 928].reshape(-1, 58, 16) for j in (0, 8)], axis=2).reshape(-1, 116, 16)
            h = nnx.softplus(self.first(windows))
            h = nnx.softplus(self.second(h[:, :112].reshape(-1, 28, 16)))
            return self.last(h.reshape(-1, 14, 2, 6).mean(axis=2).reshape(len(x), -1))

    return Network(nnx.Rngs(seed))


def regularised_problem(params, x, y) -> Problem:
    """Mean cross-entropy with each example's loss carrying its (lambda / 2n) |theta|^2, as published."""
    n = len(x)

    def loss(p, xs, ys):
        squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(p))
        return cross_entropy(network(p, xs), ys) + LAMBDA / (2 * n) * squares

    model = from_function(network, params, name="published network")
    return Problem(params, loss, jnp.asarray(x), jnp.asarray(y), model=model, output_loss=cross_entropy)


# -- the published numbers --------------------------------------------------------------------------


def published(archive, x: np.ndarray, test: np.ndarray) -> tuple[pd.DataFrame, dict]:
    """Published influence, RelatIF and LEES against ours: with their Hessian, then with that of evaluation mode."""
    order = archive["shuffle"]
    names = ("layer1_0", "layer2_0", "layer3_0", "fc1")
    params = tuple(jnp.asarray(archive[f"w_{n}_{k}"], float) for n in names for k in ("weight", "bias"))
    problem = regularised_problem(params, x[order], LABELS[order])
    theirs = np.asarray(archive["hessian_published"], float)
    queries = (test, TEST_LABELS)
    first = (test[:1], TEST_LABELS[:1])
    influence, relatif = archive["published_influence_test0"], archive["published_relatif_test0"]
    rows, kept = [], {}
    for name, matrix, dampings in (("published", theirs, (0.2,)), ("evaluation mode", None, (0.2, 0.3, 1.2))):
        base = hessian.curvature(problem, damping=dampings[0], matrix=matrix, method="explicit")
        for damping in dampings:
            curvature = base.with_damping(damping)
            found = hessian.influence(curvature, first, relative=True)
            values, relative = found.values[0], found.relatif()[0]
            row = {
                "Hessian": name,
                "damping": damping,
                "lowest eigenvalue": base.lowest,
                "influence, correlation": np.corrcoef(values, influence)[0, 1],
                "influence, largest difference": np.abs(values - influence).max(),
                "RelatIF, correlation": np.corrcoef(relative, relatif)[0, 1],
                "RelatIF, largest difference": np.abs(relative - relatif).max(),
            }
            if damping == dampings[0]:
                for threshold, m in zip((1, 0.1, 0.01, 0.001), archive["published_lees_m"]):
                    score = hessian.extrapolation(base, queries, of="loss", m=int(m))
                    known = archive[f"published_lees_true_t{threshold:g}"]
                    row[f"LEES {threshold:g}: modes dropped"] = score.m
                    row[f"LEES {threshold:g}: largest difference"] = np.abs(score.scores - known).max()
            rows.append(row)
            kept[name, damping] = values
    kept["predicted"] = np.asarray(problem.predict(None, jnp.asarray(test))).argmax(axis=1)
    kept["gradient norm"], kept["loss"] = base.gradient_norm, float(problem.energy())
    return pd.DataFrame(rows), kept


# -- our own network --------------------------------------------------------------------------------


def train(problem: Problem, steps: int) -> Problem:
    """Adam by optax, then quasi-Newton steps until the gradient is gone (as far as the kinks of ReLU allow)."""
    import optax

    schedule = optax.cosine_decay_schedule(1e-2, steps)
    rule = optax.adam(schedule)

    @jax.jit
    def advance(w, state, data):
        def body(carry, _):
            w, state = carry
            update, state = rule.update(jax.grad(problem.energy_of)(w, data), state, w)
            return (optax.apply_updates(w, update), state), None

        return jax.lax.scan(body, (w, state), None, length=50)[0]

    w, state = problem.w, rule.init(problem.w)
    for _ in range(steps // 50):
        w, state = advance(w, state, problem.data)
    rest = lanes.run(
        quench.BFGS(tol=1e-8, max_evaluations=600),
        problem.kernel.first,
        [quench.Start(np.asarray(w), np.float64(0.5))],
        problem.kernel.data,
        layout=lanes.Layout(1, 16, 1, 1),
    )
    return problem.at(rest[0].result.x)


def own_network(x: np.ndarray, test: np.ndarray, steps: int, out: Path) -> tuple[list, pd.DataFrame]:
    """Train, then the paper's figures: influence and RelatIF along V1, error bars, LEES."""
    model = from_nnx(flax_network(seed=0))
    problem = train(Problem.from_model(model, x, LABELS, l2=OWN_L2), steps)
    curvature = hessian.curvature(problem)
    queries = (test, TEST_LABELS)
    found = hessian.influence(curvature, queries, relative=True)
    spread = hessian.uncertainty(curvature, test, of="probability", target=1)
    drawn = hessian.uncertainty(curvature, test, of="probability", target=1, method="resample", samples=200)
    score = hessian.extrapolation(curvature, queries, of="loss")
    relatif = found.relatif()
    wrong = np.asarray(problem.predict(None, jnp.asarray(test))).argmax(axis=1) != TEST_LABELS
    figs = [
        ("Influence of every training state on one test state, along V1", _along(found.values, relatif)),
        (
            "Probability of the charge-density wave with resampling error (bars: closed form; band: 200 resamples "
            "re-evaluated, 90 %)",
            _error_bars(spread, drawn),
        ),
        (
            "Extrapolation score (loss gradient, as the paper's) along V1, for several numbers of dropped modes",
            _scores(score),
        ),
    ]
    near = np.abs(V_TRAIN - 1) < 0.5
    share = np.abs(found.values[:, near]).sum(axis=1) / np.abs(found.values).sum(axis=1)
    top_influence = np.abs(V_TRAIN[found.most_positive] - 1).mean()
    top_relatif = np.abs(V_TRAIN[np.argsort(-relatif, axis=1)[:, :5]] - 1).mean()
    facts = pd.DataFrame(
        [
            ("|grad L| at the end", curvature.gradient_norm),
            ("damping chosen", curvature.damping),
            ("lowest eigenvalue", curvature.lowest),
            ("test states right (of 50)", int((~wrong).sum())),
            ("share of |influence| from |V1 - 1| < 0.5", float(np.median(share))),
            ("mean |V1 - 1| of the 5 most helpful states, influence", float(top_influence)),
            ("mean |V1 - 1| of the 5 most helpful states, RelatIF", float(top_relatif)),
            ("V1 of the largest uncertainty", float(V_TEST[spread.std.argmax()])),
            ("V1 of the largest extrapolation score", float(V_TEST[score.scores.argmax()])),
        ],
        columns=["quantity", "value"],
    )
    for (_, figure), stem in zip(figs, ("influence", "uncertainty", "extrapolation")):
        figures.save(figure, out / stem)
    return figs, facts


def _axis(axes, name: str) -> None:
    axes.axvline(1, color="0.6", linewidth=0.8, linestyle="--")
    axes.set(xscale="symlog", xlabel="$V_1$", ylabel=name)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(-0.02, 42)


def _along(values: np.ndarray, relatif: np.ndarray):
    figure, axes = figures.panels(10, 5.6, nrows=2, ncols=3, sharex=True)
    for column, t in enumerate((5, 24, 45)):
        for row, (name, data) in enumerate((("influence", values), ("RelatIF", relatif))):
            panel = axes[3 * row + column]
            panel.scatter(V_TRAIN, data[t], s=7, c=np.where(LABELS, *figures.PALETTE[:2]), linewidths=0)
            panel.axhline(0, color="0.8", linewidth=0.8)
            _axis(panel, name if column == 0 else "")
            panel.axvline(V_TEST[t], color="black", linewidth=0.9)
            if row == 0:
                panel.set_title(f"test state at $V_1$ = {V_TEST[t]:.3g}")
                panel.set_xlabel("")
    return figure


def _error_bars(spread, drawn):
    figure, axes = figures.canvas(7, 4)
    low, high = drawn.interval(0.9)
    axes.fill_between(V_TEST, low, high, color=figures.PALETTE[1], alpha=0.18, linewidth=0)
    axes.errorbar(V_TEST, spread.value, spread.std, fmt="o", markersize=3, color=figures.PALETTE[1], capsize=2)
    _axis(axes, "probability of the charge-density wave")
    return figure


def _scores(score):
    figure, axes = figures.canvas(7, 4)
    for i, m in enumerate(sorted({2, 12, 50, score.m})):
        axes.plot(
            V_TEST, score.at(m) / score.at(m).max(), "o-", markersize=3, label=f"m = {m}", color=figures.PALETTE[i]
        )
    axes.plot(V_TEST, score.soft / score.soft.max(), "k--", linewidth=1, label="soft score")
    axes.legend(frameon=False)
    _axis(axes, "score / largest")
    return figure


def main() -> None:
    """Regenerate, compare, train, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/fermion_chain"))
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data/fermion_chain_cnn.npz")
    parser.add_argument("--steps", type=int, default=400, help="Adam steps of our own network")
    parser.add_argument("--small", action="store_true", help="a short training, without the published network")
    given = parser.parse_args()
    if given.small:
        given.steps = 50
    warnings.simplefilter("ignore", hessian.CurvatureWarning)  # the report says what they say
    start = time.process_time()
    x, test = inputs()
    print(f"1,050 ground states in {time.process_time() - start:.1f} CPU s")
    page = Page("Phases of a fermion chain", "influence, uncertainty and extrapolation of a small network")
    if given.small:
        print("the published part is left out")
    elif given.data.exists():
        with np.load(given.data) as archive:
            table, kept = published(archive, x, test)
        print(table.T.to_string(header=False))
        right = int((kept["predicted"] == TEST_LABELS).sum())
        wrong = np.flatnonzero(kept["predicted"] != TEST_LABELS)
        print(f"published weights: loss {kept['loss']:.3f}, |grad L| {kept['gradient norm']:.2f}")
        print(f"{right} of 50 test states right, errors at {wrong.tolist()}")
        page.section("The published network")
        page.table(table.T.reset_index(), "Published numbers against ours")
        page.note(
            "With the published Hessian everything comes out again. That Hessian was computed with dropout active "
            f"and at weights that are not stationary (|grad L| = {kept['gradient norm']:.2f}). In evaluation mode "
            "the lowest eigenvalue lies below minus the published damping 0.2, so H + 0.2 I is indefinite and its "
            "inverse says something else; above 0.3 both agree. Look at the lowest eigenvalue before choosing a "
            "damping, switch dropout off, and train to a stationary point.",
            warn=True,
        )
    else:
        print(f"{given.data} is not there: the published part is left out")
    figs, facts = own_network(x, test, given.steps, given.out)
    print(facts.to_string(index=False))
    page.section("A network of our own, trained to a stationary point")
    page.table(facts)
    for caption, figure in figs:
        page.figure(figure, caption, kind="png")
    print(f"report: {page.save(given.out / 'report.html')}; {time.process_time() - start:.0f} CPU s")


if __name__ == "__main__":
    main()
