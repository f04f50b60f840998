"""The phases of a fermion chain, and the network that Dawid et al. (2022) published for them.

Ground states of the half-filled 12-site spinless extended Fermi-Hubbard chain, periodic, staggered field 1e-7:

    H = -1/2 sum_i (c_i^+ c_i+1 + h.c.) + V1 sum_i (n_i - 1/2)(n_i+1 - 1/2)

Luttinger liquid for V1 < 1, charge-density wave above.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from examples.papers.phases import Diagram, lowest_states, scaled
from jaxland import Problem, from_function, hessian
from jaxland.problem import cross_entropy

SITES = 12
V_TRAIN = np.concatenate([np.linspace(0, 1, 500), np.linspace(1.01, 40, 500)])
V_TEST = np.concatenate([np.linspace(0.01, 0.999, 20, endpoint=False), np.geomspace(1.02, 39, 30)])
LABELS, TEST_LABELS = (np.arange(1000) > 500).astype(int), (np.arange(50) > 20).astype(int)  # as published
LAMBDA = 0.05


def ground_states(v1: np.ndarray) -> np.ndarray:
    """Ground states [k, 924] over the basis states as descending integers.

    All off-diagonal entries are -1/2, so the ground state is positive and invariant under every symmetry of H:
    translation by two sites, reflection, and particle-hole exchange with translation by one.
    """
    states = np.array([s for s in range(2**SITES - 1, -1, -1) if s.bit_count() == SITES // 2])
    at = {int(s): i for i, s in enumerate(states)}
    bits = (states[:, None] >> np.arange(SITES)) & 1
    hopping = np.zeros((len(states), len(states)))
    for i, s in enumerate(states):
        for a in range(SITES):
            pair = (1 << a) | (1 << (a + 1) % SITES)
            if (int(s) & pair).bit_count() == 1:
                hopping[at[int(s) ^ pair], i] -= 0.5
    interaction = np.sum((bits - 0.5) * (np.roll(bits, -1, axis=1) - 0.5), axis=1)
    field = 1e-7 * np.sum(bits * (2 * (np.arange(SITES) % 2) - 1), axis=1)
    return lowest_states(hopping + np.diag(field), interaction, v1, _images(bits))[1]


def _images(bits: np.ndarray) -> np.ndarray:
    """Every basis state's images under the symmetry group, as integers [images, states]."""
    powers = 1 << np.arange(SITES)
    images = []
    for shift in range(0, SITES, 2):
        for mirror in (False, True):
            turned = np.roll(bits[:, -np.arange(SITES) % SITES] if mirror else bits, shift, axis=1)
            images += [turned @ powers, (1 - np.roll(turned, 1, axis=1)) @ powers]
    return np.array(images)


def diagram() -> Diagram:
    """Training [1000, 924] and test [50, 924] states with the paper's labels."""
    x, test = scaled(ground_states(np.concatenate([V_TRAIN, V_TEST])), len(V_TRAIN))
    return Diagram(
        name="fermion chain",
        symbol="$V_1$",
        upper="charge-density wave",
        transition=1.0,
        v_train=V_TRAIN,
        v_test=V_TEST,
        x=x,
        test=test,
        labels=LABELS,
        test_labels=TEST_LABELS,
    )


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


def regularised_problem(params, x, y) -> Problem:
    """Mean cross-entropy with each example's loss carrying its (lambda / 2n) |theta|^2, as published."""
    n = len(x)

    def loss(p, xs, ys):
        squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(p))
        return cross_entropy(network(p, xs), ys) + LAMBDA / (2 * n) * squares

    model = from_function(network, params, name="published network")
    return Problem(params, loss, jnp.asarray(x), jnp.asarray(y), model=model, output_loss=cross_entropy)


@dataclass(frozen=True)
class Published:
    """The published influence, RelatIF and LEES beside ours, from the published weights.

    Attributes:
        table: a row for each Hessian (theirs, with dropout active; evaluation mode) and damping.
        influence: of test state 0, by name [1000]; couplings [1000]: of the training states, in their order.
        lees: at the threshold .01, theirs and ours [50].
        loss, gradient_norm, wrong: of the published weights in evaluation mode; negative: eigenvalues of their
        Hessian.
    """

    table: pd.DataFrame
    influence: dict[str, np.ndarray]
    couplings: np.ndarray
    lees: tuple[np.ndarray, np.ndarray]
    loss: float
    gradient_norm: float
    wrong: list[int]
    negative: int


def published(path: Path, x: np.ndarray, test: np.ndarray) -> Published:
    """What the file of the published network says, again: with their Hessian, then with that of evaluation mode."""
    with np.load(path) as stored:
        archive = {name: stored[name] for name in stored}
    order = archive["shuffle"]
    names = ("layer1_0", "layer2_0", "layer3_0", "fc1")
    params = tuple(jnp.asarray(archive[f"w_{n}_{k}"], float) for n in names for k in ("weight", "bias"))
    problem = regularised_problem(params, x[order], LABELS[order])
    theirs = np.asarray(archive["hessian_published"], float)
    lists = {"published list": archive["published_influence_test0"]}
    rows = []
    for name, matrix, dampings in (("published", theirs, (0.2,)), ("evaluation mode", None, (0.2, 0.3, 1.2))):
        base = hessian.curvature(problem, damping=dampings[0], matrix=matrix, method="explicit")
        for damping in dampings:
            row, lists[f"{name}, damping {damping:g}"] = _compared(base.with_damping(damping), archive, test)
            rows.append({"Hessian": name, "damping": damping, "lowest eigenvalue": base.lowest} | row)
        if matrix is not None:
            differences, lees = _extrapolation(base, archive, test)
            rows[-1] |= differences
    predicted = np.asarray(problem.predict(None, jnp.asarray(test))).argmax(axis=1)
    return Published(
        table=pd.DataFrame(rows),
        influence=lists,
        couplings=V_TRAIN[order],
        lees=lees,
        loss=float(problem.energy()),
        gradient_norm=base.gradient_norm,
        wrong=np.flatnonzero(predicted != TEST_LABELS).tolist(),
        negative=int((np.linalg.eigvalsh(theirs) < 0).sum()),
    )


def _compared(
    curvature: hessian.Curvature, archive: Mapping[str, np.ndarray], test: np.ndarray
) -> tuple[dict[str, float], np.ndarray]:
    """Correlations with the published lists of test state 0 and largest differences; our influence [1000]."""
    found = hessian.influence(curvature, (test[:1], TEST_LABELS[:1]), relative=True)
    row = {}
    for name, ours in (("influence", found.values[0]), ("RelatIF", found.relatif()[0])):
        theirs = archive[f"published_{name.lower()}_test0"]
        row[f"{name}, correlation"] = np.corrcoef(ours, theirs)[0, 1]
        row[f"{name}, largest difference / largest"] = np.abs(ours - theirs).max() / np.abs(theirs).max()
    return row, found.values[0]


def _extrapolation(
    base: hessian.Curvature, archive: Mapping[str, np.ndarray], test: np.ndarray
) -> tuple[dict[str, float], tuple[np.ndarray, np.ndarray]]:
    """Largest differences of LEES at the published thresholds; theirs and ours at .01."""
    row = {}
    for threshold, m in zip((1, 0.1, 0.01, 0.001), archive["published_lees_m"]):
        score = hessian.extrapolation(base, (test, TEST_LABELS), of="loss", m=int(m))
        known = archive[f"published_lees_true_t{threshold:g}"]
        row[f"LEES {threshold:g} ({score.m} modes dropped), largest difference"] = np.abs(score.scores - known).max()
        if threshold == 0.01:
            kept = known, score.scores
    return row, kept
