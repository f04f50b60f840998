"""Telling two phases of a quantum chain apart with a small network, and asking its Hessian what it rests on."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from flax import nnx
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxland import Problem, from_nnx, hessian
from jaxland.core.solvers import lanes, quench
from jaxland.report import figures

# The paper's lambda / 2n lets weights grow until every loss gradient vanishes; stationary points want more.
L2 = 1e-3
GROUP, GROUPS = 20, 8  # rows left out together, random groups of them


@dataclass(frozen=True)
class Diagram:
    """Ground states along a coupling.

    Attributes:
        name, symbol: of the chain and of its coupling; upper: the phase above the transition, label 1.
        v_train [n], v_test [t]: couplings, ascending; x [n, d], test [t, d]: states; labels [n], test_labels [t].
    """

    name: str
    symbol: str
    upper: str
    transition: float
    v_train: np.ndarray
    v_test: np.ndarray
    x: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    test_labels: np.ndarray

    @property
    def text(self) -> str:
        """The coupling's symbol outside a figure."""
        return self.symbol.replace("$", "").replace("_", "")


def lowest_states(
    fixed: np.ndarray, coupled: np.ndarray, v: np.ndarray, images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Energies [k] and positive ground states [k, d] of fixed + v diag(coupled), off-diagonal entries <= 0.

    ``images`` [images, d] are every basis state's images under the symmetries. The ground state is positive (Perron
    and Frobenius), so it lies in the sector that all of them leave alone, where dense diagonalisation of every
    coupling is one batched call.
    """
    orbit = np.unique(images.min(axis=0), return_inverse=True)[1]
    basis = np.eye(orbit.max() + 1)[orbit]
    basis /= np.linalg.norm(basis, axis=0)
    energies, vectors = np.linalg.eigh(
        basis.T @ fixed @ basis + v[:, None, None] * (basis.T @ (coupled[:, None] * basis))
    )
    return energies[:, 0], np.abs(vectors[:, :, 0] @ basis.T)


def scaled(states: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The first n states (training) and the rest, scaled to [0, 1] by the training set."""
    low, high = states[:n].min(), states[:n].max()
    return (states[:n] - low) / (high - low), (states[n:] - low) / (high - low)


class Network(nnx.Module):
    """Windows of 16 amplitudes, twice, then means of pairs: strides for pooling, softplus for a smooth loss."""

    def __init__(self, inputs: int, rngs: nnx.Rngs) -> None:
        self.windows = -(-inputs // 16)
        self.places = 2 * self.windows // 8 * 2
        self.first = nnx.Linear(16, 4, rngs=rngs, param_dtype=float)
        self.second = nnx.Linear(4 * 4, 6, rngs=rngs, param_dtype=float)
        self.last = nnx.Linear(self.places // 2 * 6, 2, rngs=rngs, param_dtype=float)

    def __call__(self, x: jax.Array) -> jax.Array:
        n, w = len(x), self.windows
        x = jnp.pad(x, ((0, 0), (0, 16 * w + 8 - x.shape[1])))
        windows = jnp.stack([x[:, j : j + 16 * w].reshape(n, w, 16) for j in (0, 8)], axis=2).reshape(n, 2 * w, 16)
        h = nnx.softplus(self.first(windows))[:, : 4 * self.places]
        h = nnx.softplus(self.second(h.reshape(n, -1, 16)))
        return self.last(h.reshape(n, self.places // 2, 2, 6).mean(axis=2).reshape(n, -1))


def settle(problem: Problem) -> Problem:
    """Quasi-Newton steps until the gradient is gone."""
    [done] = lanes.run(
        quench.BFGS(tol=1e-8, max_evaluations=600),
        problem.kernel.first,
        [quench.Start(np.asarray(problem.w), np.float64(0.5))],
        problem.kernel.data,
        layout=lanes.Layout(1, 16, 1, 1),
    )
    return problem.at(done.result.x)


def train(problem: Problem, steps: int) -> Problem:
    """Adam by optax, then quasi-Newton steps."""
    rule = optax.adam(optax.cosine_decay_schedule(1e-2, steps))

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
    return settle(problem.at(w))


@dataclass(frozen=True)
class Reading:
    """What the toolbox says of a network at a stationary point."""

    problem: Problem
    curvature: hessian.Curvature
    influence: hessian.Influence
    spread: hessian.Uncertainty
    drawn: hessian.Uncertainty
    score: hessian.Extrapolation
    wrong: np.ndarray

    @property
    def relatif(self) -> np.ndarray:
        """RelatIF [t, n]."""
        return self.influence.relatif()


def read(diagram: Diagram, steps: int, seed: int, samples: int = 200) -> Reading:
    """Train a network of our own, take its Hessian once, and ask everything."""
    model = from_nnx(Network(diagram.x.shape[1], nnx.Rngs(seed)))
    problem = train(Problem.from_model(model, diagram.x, diagram.labels, l2=L2), steps)
    curvature = hessian.curvature(problem)
    queries = (diagram.test, diagram.test_labels)
    predicted = np.asarray(problem.predict(None, jnp.asarray(diagram.test))).argmax(axis=1)
    probability = {"of": "probability", "target": 1}
    return Reading(
        problem=problem,
        curvature=curvature,
        influence=hessian.influence(curvature, queries, relative=True),
        spread=hessian.uncertainty(curvature, diagram.test, **probability),
        drawn=hessian.uncertainty(
            curvature, diagram.test, **probability, method="resample", samples=samples, seed=seed
        ),
        score=hessian.extrapolation(curvature, queries, of="loss"),
        wrong=np.flatnonzero(predicted != diagram.test_labels),
    )


def left_out(diagram: Diagram, reading: Reading, point: int, seed: int, groups: int = GROUPS) -> pd.DataFrame:
    """Influence against the truth: retrain without GROUP rows, look at the loss of one test state.

    The rows predicted to help most, those predicted to hurt most, and random ones.
    """
    values = reading.influence.values[point]
    order, rng = np.argsort(values), np.random.default_rng(seed)
    chosen = {"most helpful": order[-GROUP:], "most harmful": order[:GROUP]}
    chosen |= {f"random {k}": rng.choice(len(values), GROUP, replace=False) for k in range(groups)}
    at, label = jnp.asarray(diagram.test[[point]]), jnp.asarray(diagram.test_labels[[point]])
    problem, rows = reading.problem, []
    before = float(problem.losses(problem.w, at, label)[0])
    for name, out in chosen.items():
        keep = np.setdiff1d(np.arange(len(values)), out)
        again = settle(problem.with_data(diagram.x[keep], diagram.labels[keep]))
        predicted = float(reading.influence.left_out(out)[point])
        rows.append((name, predicted, float(problem.losses(again.w, at, label)[0]) - before))
    return pd.DataFrame(rows, columns=["rows left out", "predicted change of the loss", "after retraining"])


def facts(diagram: Diagram, reading: Reading) -> dict[str, float]:
    """The paper's statements in numbers; distances are in units of the coupling."""
    v, v_test, at = diagram.v_train, diagram.v_test, diagram.transition
    values, near = np.abs(reading.influence.values), np.abs(diagram.v_train - at) < 0.5 * at
    relatif, relative = np.argsort(-reading.relatif, axis=1)[:, :5], np.abs(reading.relatif)
    return {
        "gradient": reading.curvature.gradient_norm,
        "damping": reading.curvature.damping,
        "lowest": reading.curvature.lowest,
        "right": len(v_test) - len(reading.wrong),
        "near": float(near.mean()),
        "share": float(np.median(values[:, near].sum(axis=1) / values.sum(axis=1))),
        "share RelatIF": float(np.median(relative[:, near].sum(axis=1) / relative.sum(axis=1))),
        "top influence": float(np.median(np.abs(v[reading.influence.most_positive] - at))),
        "top RelatIF": float(np.median(np.abs(v[relatif] - at))),
        "uncertain": float(v_test[reading.spread.std.argmax()]),
        "extrapolating": float(v_test[reading.score.scores.argmax()]),
        "closed form": float(np.corrcoef(reading.spread.std, reading.drawn.std)[0, 1]),
    }


# -- figures ----------------------------------------------------------------------------------------


def along(diagram: Diagram, axes: Axes, name: str) -> None:
    """The coupling as abscissa, linear up to the transition and logarithmic beyond, with the transition marked."""
    axes.axvline(diagram.transition, color="0.6", linewidth=0.8, linestyle="--")
    axes.set_xscale("symlog", linthresh=diagram.transition)
    axes.set(xlabel=diagram.symbol, ylabel=name)
    axes.set_xlim(-0.02, 1.05 * diagram.v_train[-1])


def influence_figure(diagram: Diagram, reading: Reading) -> Figure:
    """Influence and RelatIF of every training state on three test states."""
    figure, axes = figures.panels(10, 5.6, nrows=2, ncols=3, sharex=True)
    points = (5, int(np.searchsorted(diagram.v_test, 1.3 * diagram.transition)), len(diagram.v_test) - 5)
    for column, t in enumerate(points):
        for row, (name, data) in enumerate((("influence", reading.influence.values), ("RelatIF", reading.relatif))):
            panel = axes[3 * row + column]
            colours = np.where(diagram.labels, *figures.PALETTE[:2])
            panel.scatter(diagram.v_train, data[t], s=7, c=colours, linewidths=0)
            panel.axhline(0, color="0.8", linewidth=0.8)
            along(diagram, panel, name if column == 0 else "")
            panel.axvline(diagram.v_test[t], color="black", linewidth=0.9)
            if row == 0:
                panel.set_title(f"test state at {diagram.symbol} = {diagram.v_test[t]:.3g}")
                panel.set_xlabel("")
    return figure


def error_figure(diagram: Diagram, reading: Reading) -> Figure:
    """Probabilities with their error bars, and the extrapolation score, above one another."""
    figure, (top, below) = figures.panels(7.5, 6, nrows=2, sharex=True)
    low, high = reading.drawn.interval(0.9)
    top.fill_between(diagram.v_test, low, high, color=figures.PALETTE[1], alpha=0.18, linewidth=0)
    bars = {"fmt": "o", "markersize": 3, "color": figures.PALETTE[1], "capsize": 2}
    top.errorbar(diagram.v_test, reading.spread.value, reading.spread.std, **bars)
    along(diagram, top, f"probability of\nthe {diagram.upper}")
    top.set_xlabel("")
    score = reading.score
    for i, m in enumerate(sorted({2, 12, 50, score.m})):
        values = score.at(m) / score.at(m).max()
        below.plot(diagram.v_test, values, "o-", markersize=3, label=f"m = {m}", color=figures.PALETTE[i])
    below.plot(diagram.v_test, score.soft / score.soft.max(), "k--", linewidth=1, label="soft score")
    below.legend(frameon=False)
    along(diagram, below, "extrapolation score,\nmaximum 1")
    return figure
