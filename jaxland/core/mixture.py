"""Gaussian mixtures by expectation maximisation, many fits at once: starts, folds, orders, bootstraps.

A density over z[D] with K components of full covariance. With the features phi = [1, z_i, z_i z_j (i <= j)] (F of
them) the log of each weighted component is linear, theta . phi, and the M-step needs only the sums of
responsibility times phi, so one EM pass is two matrix products

    log p_k(z_n) = (theta phi)[k, n],        moments[k, f] = sum_n w_n r_kn phi_fn

with the samples n as the last axis. Folds (0/1), bootstraps (multinomial counts), classes and padding are all
weights w_n: no fit ever copies data.

One fit is a *lane*: pure ``init``, ``step`` and ``done`` on a ``State``, one evaluation a step. ``step`` runs EM or,
by default, SQUAREM (Varadhan & Roland 2008, scheme S3): two EM maps, an extrapolation, an EM map from there, with a
return to plain EM where the extrapolation loses likelihood; which of these comes next is a phase in the state, not
an inner loop. ``fit`` is the driver: it streams lanes through one jitted block, ``width`` side by side (1 suits a
CPU's caches, all of them a GPU), and after each block gathers those still running.

Columns are expected standardised (unit scale, centred): the covariance floor is absolute here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

DEAD = -1e30  # log-weight of a component that carries nothing
CHUNK = 16_384  # samples summed at once
PIECE = 64  # lanes a compiled program holds at least
LOG_2PI = float(np.log(2.0 * np.pi))


class Mixture(NamedTuple):
    """Components, JAX or NumPy: log weights [..., K], means [..., K, D], Cholesky factors (lower) [..., K, D, D]."""

    log_weight: Any
    mean: Any
    chol: Any


class Status(IntEnum):
    """How a fit ended."""

    RUNNING = 0
    CONVERGED = 1
    MAX_STEPS = 2
    DEGENERATE = 3


class State(NamedTuple):
    """One fit under way: where it is evaluated next, what SQUAREM remembers (all ``encode``d), and the tally."""

    point: Any
    base: Any
    second: Any
    loglik: Any
    held_out: Any
    reference: Any
    phase: Any
    steps: Any
    dropped: Any
    status: Any


class Settings(NamedTuple):
    """Numbers of an EM run: tolerance of the mean log-likelihood, floor of squared Cholesky pivots, step limit."""

    tol: float = 1e-5
    floor: float = 1e-10
    max_steps: int = 10_000


class Fits(NamedTuple):
    """Finished lanes, leading axis B: mixtures, mean log-likelihoods (training, held out), steps, drops, Status."""

    mixture: Mixture
    loglik: np.ndarray
    held_out: np.ndarray
    steps: np.ndarray
    dropped: np.ndarray
    status: np.ndarray


# Densities


def features(z: Float[Array, "d n"]) -> Float[Array, "f n"]:
    """phi = [1, z_i, z_i z_j for i <= j], F = 1 + D + D (D + 1) / 2 rows."""
    i, j = np.triu_indices(z.shape[0])
    return jnp.concatenate([jnp.ones_like(z[:1]), z, z[i] * z[j]])


def encode(mixture: Mixture) -> Float[Array, "... k p"]:
    """Coordinates in which any point is a mixture: [log weight, mean, log diagonal, rest of the Cholesky factor]."""
    xp = np if isinstance(mixture.chol, np.ndarray) else jnp
    d = mixture.mean.shape[-1]
    i, j = np.tril_indices(d, -1)
    diagonal = xp.log(xp.diagonal(mixture.chol, axis1=-2, axis2=-1))
    return xp.concatenate([mixture.log_weight[..., None], mixture.mean, diagonal, mixture.chol[..., i, j]], -1)


def decode(point: Float[Array, "... k p"]) -> Mixture:
    """The mixture at these coordinates."""
    xp = np if isinstance(point, np.ndarray) else jnp
    d = _dimension(point.shape[-1])
    place = np.zeros((d, d), int)
    place[np.diag_indices(d)] = 1 + d + np.arange(d)
    place[np.tril_indices(d, -1)] = np.arange(1 + 2 * d, point.shape[-1])
    entries = point[..., place]
    on = np.eye(d, dtype=bool)
    below = xp.where(np.tri(d, k=-1, dtype=bool), entries, 0.0)
    chol = xp.where(on, xp.exp(xp.where(on, entries, 0.0)), below)
    return Mixture(point[..., 0], point[..., 1 : 1 + d], chol)


def _dimension(parameters: int) -> int:
    return next(d for d in range(1, parameters) if 1 + d + d * (d + 1) // 2 == parameters)


def natural(point: Float[Array, "... k p"]) -> Float[Array, "... k f"]:
    """theta, so that log(weight_k N(z; mean_k, cov_k)) = theta_k . features(z), from encoded coordinates."""
    d = _dimension(point.shape[-1])
    mean = [point[..., 1 + i] for i in range(d)]
    inverse = _inverse_lower(point, d)
    precision = [
        [sum((inverse[m][i] * inverse[m][j] for m in range(max(i, j), d)), 0.0) for j in range(d)] for i in range(d)
    ]
    linear = [sum((precision[i][j] * mean[j] for j in range(d)), 0.0) for i in range(d)]
    log_det = jnp.sum(point[..., 1 + d : 1 + 2 * d], -1)
    quadratic = sum((linear[i] * mean[i] for i in range(d)), 0.0)
    constant = point[..., 0] - 0.5 * d * LOG_2PI - log_det - 0.5 * quadratic
    pairs = [(-0.5 if i == j else -1.0) * precision[i][j] for i, j in zip(*np.triu_indices(d))]
    return jnp.stack([constant, *linear, *pairs], -1)


def _inverse_lower(point: Array, d: int) -> list[list[Array]]:
    """Entries of the inverse Cholesky factor; written out for few dimensions, where calls cost more than flops."""
    if d > 3:
        chol = decode(point).chol
        eye = jnp.broadcast_to(jnp.eye(d, dtype=chol.dtype), chol.shape)
        full = jax.scipy.linalg.solve_triangular(chol, eye, lower=True)
        return [[full[..., i, j] for j in range(d)] for i in range(d)]
    low = {(i, j): point[..., 1 + 2 * d + n] for n, (i, j) in enumerate(_below(d))}
    rows: list[list[Array]] = []
    for i in range(d):
        pivot = jnp.exp(-point[..., 1 + d + i])
        row = [-sum((low[i, m] * rows[m][j] for m in range(j, i)), 0.0) * pivot for j in range(i)]
        rows.append([*row, pivot])
    return rows


def _below(d: int) -> list[tuple[int, int]]:
    """Places below the diagonal, in the order of the encoding."""
    return [(i, j) for i in range(d) for j in range(i)]


def _cholesky(cov: Callable[[int, int], Array], d: int, floor: Any) -> tuple[list[Array], list[Array], Array]:
    """Log diagonal and strict lower rows of the factors, and whether every squared pivot exceeds the floor."""
    if d > 3:
        factor = jnp.linalg.cholesky(jnp.stack([jnp.stack([cov(i, j) for j in range(d)], -1) for i in range(d)], -2))
        pivots = [factor[..., i, i] ** 2 for i in range(d)]
        lower = [factor[..., i, j] for i, j in _below(d)]
        good = jnp.all(jnp.stack([p > floor for p in pivots], -1), -1)
        return [0.5 * jnp.log(jnp.maximum(p, floor)) for p in pivots], lower, good
    low: list[list[Array]] = []
    diagonal = []
    good = jnp.ones(cov(0, 0).shape, bool)
    for i in range(d):
        row: list[Array] = []
        for j in range(i):
            rest = cov(i, j) - sum((row[m] * low[j][m] for m in range(j)), 0.0)
            row.append(rest / low[j][j])
        pivot = cov(i, i) - sum((row[m] ** 2 for m in range(i)), 0.0)
        good = good & (pivot > floor)
        pivot = jnp.maximum(pivot, floor)
        diagonal.append(0.5 * jnp.log(pivot))
        low.append([*row, jnp.sqrt(pivot)])
    return diagonal, [low[i][j] for i, j in _below(d)], good


def log_density(mixture: Mixture, z: Float[Array, "d n"]) -> Float[Array, " n"]:
    """log p(z_n)."""
    return jax.scipy.special.logsumexp(natural(encode(mixture)) @ features(z), axis=0)


def covariance(mixture: Mixture) -> Float[Array, "... k d d"]:
    """Component covariances."""
    return jnp.einsum("...ij,...kj->...ik", mixture.chol, mixture.chol)


def marginal(mixture: Mixture, dims: Sequence[int]) -> Mixture:
    """The mixture of some coordinates, in closed form: means and covariance blocks."""
    xp = np if isinstance(mixture.chol, np.ndarray) else jnp
    index = np.asarray([int(d) for d in dims])
    if list(index) == list(range(len(index))):
        chol = mixture.chol[..., : len(index), : len(index)]
    else:
        block = (mixture.chol @ xp.swapaxes(mixture.chol, -1, -2))[..., index[:, None], index[None, :]]
        chol = xp.linalg.cholesky(block)
    return Mixture(mixture.log_weight, mixture.mean[..., index], chol)


# One lane


def init(mixture: Mixture) -> State:
    """A fit that starts from a mixture (one lane: log_weight [K], mean [K, D], chol [K, D, D])."""
    point = encode(mixture)
    low = jnp.asarray(-jnp.inf, point.dtype)
    zero = jnp.zeros((), jnp.int32)
    return State(point, point, point, low, low, low, zero, zero, zero, zero)


def done(state: State) -> Array:
    """Status: RUNNING (0) while the fit has to go on."""
    return state.status


def expectation(
    point: Float[Array, "k p"], z: Float[Array, "d n"], weight: Float[Array, " n"], other: Float[Array, " n"]
) -> tuple[Float[Array, "k f"], Array, Array]:
    """Weighted moments [K, F] and the log-likelihoods summed with two sets of weights (training, held out).

    More than CHUNK samples are summed in pieces, which bounds memory and stays in a CPU's caches.
    """
    theta = natural(point)
    d, n = z.shape

    def piece(total, part):
        zs, w, v = part
        phi = features(zs)
        log_joint = theta @ phi
        top = jnp.max(log_joint, axis=0)
        joint = jnp.exp(log_joint - top)
        mass = jnp.sum(joint, axis=0)
        log_p = top + jnp.log(mass)
        moments = (joint * (w / mass)) @ phi.T
        return (total[0] + moments, total[1] + jnp.sum(w * log_p), total[2] + jnp.sum(v * log_p)), None

    zero = jnp.zeros((), z.dtype)
    start = (jnp.zeros_like(theta), zero, zero)
    if n <= CHUNK:
        return piece(start, (z, weight, other))[0]
    if n % CHUNK:
        raise ValueError(f"{n} samples: pad to a multiple of {CHUNK} with zero weights (see bucket)")
    parts = z.reshape(d, -1, CHUNK).swapaxes(0, 1), weight.reshape(-1, CHUNK), other.reshape(-1, CHUNK)
    return jax.lax.scan(piece, start, parts)[0]


def maximisation(
    moments: Float[Array, "k f"], previous: Float[Array, "k p"], floor: Any
) -> tuple[Float[Array, "k p"], Array]:
    """The mixture of the moments, encoded, and how many components had to be dropped.

    A component goes when it carries fewer samples than it has parameters (F) or its covariance is singular: its
    weight then becomes that of nothing and the others share the samples from the next pass on.
    """
    d = _dimension(previous.shape[-1])
    alive = previous[:, 0] > 0.5 * DEAD
    size = moments[:, 0]
    scaled = moments / jnp.maximum(size, jnp.finfo(size.dtype).tiny)[:, None]
    place = np.zeros((d, d), int)
    place[np.triu_indices(d)] = np.arange(d + 1, moments.shape[1])

    def cov(i: int, j: int) -> Array:
        return scaled[:, place[min(i, j), max(i, j)]] - scaled[:, 1 + i] * scaled[:, 1 + j]

    diagonal, lower, regular = _cholesky(cov, d, floor)
    keep = alive & regular & (size >= moments.shape[1])
    # A lone component stays whatever its size: there is nothing to give its samples to.
    keep = jnp.where(jnp.any(keep), keep, alive & regular)
    total = jnp.sum(jnp.where(keep, size, 0.0))
    log_weight = jnp.where(keep, jnp.log(size / total), DEAD)
    rest = jnp.stack([*(scaled[:, 1 + i] for i in range(d)), *diagonal, *lower], -1)
    image = jnp.concatenate([log_weight[:, None], jnp.where(keep[:, None], rest, previous[:, 1:])], -1)
    return image, jnp.sum(alive & ~keep).astype(jnp.int32)


def extrapolate(
    base: Float[Array, "k p"], first: Float[Array, "k p"], second: Float[Array, "k p"], longest: float = 32.0
) -> Float[Array, "k p"]:
    """SQUAREM S3: base - 2 a r + a^2 v, r = first - base, v = second - 2 first + base, a = -|r|/|v| <= -1."""
    alive = second[:, :1] > 0.5 * DEAD
    r = jnp.where(alive, first - base, 0.0)
    v = jnp.where(alive, second - first - r, 0.0)
    a = jnp.sqrt(jnp.sum(r**2) / jnp.maximum(jnp.sum(v**2), jnp.finfo(v.dtype).tiny))
    a = jnp.clip(a, 1.0, longest)
    moved = jnp.where(alive, base + 2.0 * a * r + a**2 * v, second)
    return moved.at[:, 0].add(-jax.scipy.special.logsumexp(moved[:, 0]))


def step(
    state: State,
    z: Float[Array, "d n"],
    weight: Float[Array, " n"],
    other: Float[Array, " n"],
    settings: Settings,
    accelerate: bool = True,
) -> State:
    """One evaluation (E-step and M-step) of one lane and what follows from it; nothing once it is done.

    Args:
        z: standardised samples.
        weight: training weights, counts; other: weights of the held-out samples (zeros where there are none).
        settings: tolerance, floor, limit.
        accelerate: SQUAREM instead of plain EM.

    A fit has converged when a plain EM step gains less than ``tol`` in the mean log-likelihood.
    """
    count, count_other = jnp.sum(weight), jnp.sum(other)
    moments, total, total_other = expectation(state.point, z, weight, other)
    image, dropped = maximisation(moments, state.point, settings.floor)
    loglik = total / count
    held_out = total_other / jnp.maximum(count_other, 1.0)
    finite = jnp.isfinite(loglik)
    empty = ~jnp.any(image[:, 0] > 0.5 * DEAD)
    rejected = (state.phase == 2) & ~(finite & (loglik >= state.reference))
    gained = (state.phase == 1) & (loglik - state.loglik < settings.tol) & (dropped == 0)
    steps = state.steps + 1

    if accelerate:
        ahead = extrapolate(state.base, state.point, image)
        following = jnp.where(state.phase == 1, ahead, image)
        following = jnp.where(rejected, state.second, following)
        phase = jnp.where(state.phase == 0, 1, jnp.where(state.phase == 1, 2, 0))
        # After a drop the memory describes another mixture: start a new cycle from the image.
        following = jnp.where((dropped > 0) & ~rejected, image, following)
        phase = jnp.where(dropped > 0, 0, phase)
    else:
        following, phase = image, jnp.where(dropped > 0, 0, 1)
    status = jnp.where(
        gained,
        Status.CONVERGED,
        jnp.where(
            (empty | ~finite) & ~rejected,
            Status.DEGENERATE,
            jnp.where(steps >= settings.max_steps, Status.MAX_STEPS, Status.RUNNING),
        ),
    )
    new = State(
        point=jnp.where(status != Status.RUNNING, state.point, following),
        base=state.point,
        second=image,
        loglik=jnp.where(rejected, state.loglik, loglik),
        held_out=jnp.where(rejected, state.held_out, held_out),
        reference=loglik,
        phase=phase.astype(jnp.int32),
        steps=steps,
        dropped=state.dropped + jnp.where(rejected, 0, dropped),
        status=status.astype(jnp.int32),
    )
    running = state.status == Status.RUNNING
    return jax.tree.map(lambda a, b: jnp.where(running, a, b), new, state)


# Many lanes


@partial(jax.jit, static_argnames=("width", "accelerate"))
def _block(columns, weights, lanes, state, order, groups, length, settings, *, width, accelerate):
    """``length`` steps (fewer where all finish) of the first groups * width lanes in ``order``."""
    dims, rows, others = lanes

    def advance(lane: State, z: Array, w: Array, v: Array) -> State:
        def body(carry):
            i, s = carry
            return i + 1, step(s, z, w, v, settings, accelerate)

        def going(carry):
            i, s = carry
            return (i < length) & (s.status == Status.RUNNING)

        return jax.lax.while_loop(going, body, (jnp.zeros((), jnp.int32), lane))[1]

    def group(g, state):
        index = jax.lax.dynamic_slice(order, (g * width,), (width,))
        lane = jax.tree.map(lambda a: a[index], state)
        z, w, v = columns[dims[index]], weights[rows[index]], weights[others[index]]
        if width == 1:
            out = advance(jax.tree.map(lambda a: a[0], lane), z[0], w[0], v[0])
            out = jax.tree.map(lambda a: a[None], out)
        else:
            out = jax.vmap(advance)(lane, z, w, v)
        return jax.tree.map(lambda a, b: a.at[index].set(b), state, out)

    return jax.lax.fori_loop(0, groups, group, state)


def bucket(n: int) -> int:
    """Sizes that compiled programs are made for: at most an eighth above n, so that few are ever compiled."""
    if n <= 64:
        return 64
    grain = 1 << max(0, (int(n) - 1).bit_length() - 4)
    if n > CHUNK:
        grain = max(grain // CHUNK * CHUNK, CHUNK)
    return -(-int(n) // grain) * grain


def default_width(lanes: int) -> int:
    """Lanes evaluated together: one on a CPU, up to 256 on an accelerator."""
    return 1 if jax.default_backend() == "cpu" else int(min(256, 1 << max(0, (lanes - 1).bit_length())))


def fit(
    columns: Float[Array, "c n"],
    weights: Float[Array, "w n"],
    dims: Int[np.ndarray, "b d"],
    rows: Int[np.ndarray, " b"],
    start: Mixture,
    *,
    held_out: Int[np.ndarray, " b"] | None = None,
    settings: Settings | None = None,
    accelerate: bool = True,
    width: int | None = None,
    block: int = 25,
) -> Fits:
    """Fit B mixtures of the same order, each to some columns under some weights.

    Args:
        columns: standardised data, one row a variable; padding columns of zero weight allowed.
        weights: one row of sample weights (counts) a fold, bootstrap or class.
        dims: which columns each lane models; rows: which weights it trains on.
        start: mixtures with a leading axis B.
        held_out: row of ``weights`` on which the held-out mean log-likelihood is taken (default: the training row).
        settings, accelerate: see ``step``.
        width: lanes side by side (None: 1 on a CPU, many on an accelerator); results do not depend on it.
        block: steps between two looks of the host.

    Returns:
        Fits, in the order of the lanes. A lane that fails keeps its last sound mixture and says so in ``status``.
    """
    settings = settings or Settings()
    dims, rows = np.asarray(dims, np.int32), np.asarray(rows, np.int32)
    others = rows if held_out is None else np.asarray(held_out, np.int32)
    lanes = len(rows)
    width = default_width(lanes) if width is None else int(width)
    # One lane at a time needs no larger program than PIECE lanes; the batch size then never asks for a new one.
    size = PIECE if width == 1 else max(PIECE, 1 << int(lanes + width - 1).bit_length())
    take = PIECE if width == 1 else lanes
    parts = []
    for first in range(0, lanes, take):
        part = slice(first, min(first + take, lanes))
        where = (dims[part], rows[part], others[part])
        begin = Mixture(*(np.asarray(a)[part] for a in start))
        parts.append(_stream(columns, weights, where, begin, settings, size, width, accelerate, block))
    got = jax.tree.map(lambda *a: np.concatenate(a), *parts)
    return Fits(decode(got.point), got.loglik, got.held_out, got.steps, got.dropped, got.status)


def _stream(columns, weights, where, start, settings, size, width, accelerate, block) -> State:
    """Run up to ``size`` lanes to their end; the final states on the host."""
    dtype, lanes = columns.dtype, len(where[1])

    def pad(a):
        a = np.asarray(a)
        return np.concatenate([a, np.repeat(a[:1], size - lanes, axis=0)])

    where = tuple(pad(a) for a in where)
    point = encode(Mixture(*(pad(a).astype(dtype) for a in start)))
    low, zero = np.full(size, -np.inf, dtype), np.zeros(size, np.int32)
    status = np.where(np.arange(size) < lanes, Status.RUNNING, Status.CONVERGED).astype(np.int32)
    state = State(point, point, point, low, low, low, zero, zero, zero, status)
    limits = [np.asarray(a, d) for a, d in zip(settings, (dtype, dtype, np.int32))]
    active = np.arange(lanes)
    while len(active):
        groups = -(-len(active) // width)
        order = np.full(size, size - 1, np.int32)
        surplus = groups * width - len(active)  # filled with distinct lanes that are not running
        order[: len(active)] = active
        order[len(active) : len(active) + surplus] = np.setdiff1d(np.arange(size), active)[:surplus]
        state = _block(
            columns,
            weights,
            where,
            state,
            order,
            np.int32(groups),
            np.int32(block),
            Settings(*limits),  # type: ignore[arg-type]
            width=width,
            accelerate=accelerate,
        )
        active = np.flatnonzero(np.asarray(state.status) == Status.RUNNING)
    return jax.tree.map(lambda a: np.asarray(a)[:lanes], state)


# Starts


START_KINDS = ("kmeans", "kicked", "points", "uniform", "random")


def start(
    z: Float[np.ndarray, "d n"],
    order: int,
    rng: np.random.Generator,
    *,
    kind: str = "kmeans",
    size: int | None = None,
) -> Mixture:
    """A first mixture of ``order`` components, on the host, padded with dead ones to ``size``.

    Args:
        z: standardised samples; at most 2,000 of them are looked at.
        kind: "kmeans" (seeds by k-means++, ten Lloyd passes, covariances of the cells), "kicked" (the same with means
            moved by a tenth of the cell's width), "points" (random samples, common covariance, plus noise), "uniform"
            (uniform in the box of the data), "random" (random responsibilities).
    """
    d, n = z.shape
    sample = z[:, rng.permutation(n)[:2000]].T
    whole = np.atleast_2d(np.cov(sample.T)) + 1e-6 * np.eye(d)
    share = np.full(order, 1.0 / order)
    cov = np.broadcast_to(whole / max(1.0, order ** (2.0 / d)), (order, d, d)).copy()
    if kind in ("kmeans", "kicked"):
        mean, label = _kmeans(sample, order, rng)
        for k in range(order):
            cell = sample[label == k]
            share[k] = max(len(cell), 1) / len(sample)
            if len(cell) > d + 1:
                cov[k] = np.atleast_2d(np.cov(cell.T)) + 1e-3 * cov[k]
        if kind == "kicked":
            mean = mean + 0.1 * np.sqrt(np.diagonal(cov, axis1=1, axis2=2)) * rng.normal(size=mean.shape)
    elif kind == "points":
        mean = sample[rng.choice(len(sample), order)] + 0.1 * rng.normal(size=(order, d)) * np.sqrt(np.diag(whole))
    elif kind == "uniform":
        mean = rng.uniform(sample.min(0), sample.max(0), size=(order, d))
    elif kind == "random":
        weight = rng.dirichlet(np.ones(order), size=len(sample))
        share = weight.mean(0)
        mean = (weight.T @ sample) / weight.sum(0)[:, None]
        cov = np.broadcast_to(whole, (order, d, d)).copy()
    else:
        raise ValueError(f"unknown start {kind!r}; choose one of {', '.join(START_KINDS)}")
    return pad(Mixture(np.log(share / share.sum()), mean, np.linalg.cholesky(cov)), size or order)


def split(
    mixture: Mixture, z: Float[np.ndarray, "d n"], order: int, rng: np.random.Generator, *, greedy: bool = True
) -> Mixture:
    """A larger mixture from a fitted one: its least Gaussian components are cut in two, on the host.

    How badly a component describes its samples is the skewness and excess kurtosis of their responsibility-weighted
    whitened coordinates, times the samples it carries. A cut along the longest axis keeps the component's mean and
    covariance. With ``greedy`` the worst go, otherwise a draw in proportion (for further starts).
    """
    while True:
        alive = np.flatnonzero(np.asarray(mixture.log_weight) > 0.5 * DEAD)
        count = min(order - len(alive), len(alive))
        if count <= 0:
            return pad(Mixture(*(np.asarray(a)[alive] for a in mixture)), max(order, len(alive)))
        w, mean, chol = (np.asarray(a, np.float64)[alive] for a in mixture)
        misfit = _misfit(w, mean, chol, z[:, rng.permutation(z.shape[1])[:2000]])
        if greedy:
            chosen = np.argsort(-misfit, kind="stable")[:count]
        else:
            share = misfit + 1e-3 * misfit.sum() + 1e-12
            chosen = rng.choice(len(alive), count, replace=False, p=share / share.sum())
        cov = chol @ np.swapaxes(chol, 1, 2)
        values, vectors = np.linalg.eigh(cov[chosen])
        longest = np.sqrt(values[:, -1:]) * vectors[:, :, -1]
        inner = cov[chosen] - 0.5 * longest[:, :, None] * longest[:, None, :]
        inner = np.linalg.cholesky(inner + 1e-12 * np.eye(len(z)))
        w[chosen] -= np.log(2.0)
        low, high = mean[chosen] - np.sqrt(0.5) * longest, mean[chosen] + np.sqrt(0.5) * longest
        mean[chosen], chol[chosen] = low, inner
        mixture = Mixture(np.concatenate([w, w[chosen]]), np.concatenate([mean, high]), np.concatenate([chol, inner]))


def _misfit(log_weight: np.ndarray, mean: np.ndarray, chol: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Samples carried times squared skewness and excess kurtosis, per component [K]."""
    inverse = np.linalg.inv(chol)
    u = np.einsum("kij,kjn->kin", inverse, z[None] - mean[:, :, None])
    log_joint = log_weight[:, None] + np.log(np.diagonal(inverse, axis1=1, axis2=2)).sum(1)[:, None]
    log_joint = log_joint - 0.5 * (u * u).sum(1)
    joint = np.exp(log_joint - log_joint.max(0))
    resp = joint / joint.sum(0)
    size = resp.sum(1)
    u2 = u * u
    skew = (resp[:, None] * u2 * u).sum(2) / np.maximum(size, 1e-9)[:, None]
    square = (u2).sum(1)
    d = len(z)
    excess = (resp * square * square).sum(1) / np.maximum(size, 1e-9) - d * (d + 2)
    return size * ((skew**2).sum(1) / 6.0 + excess**2 / (8.0 * d * (d + 2)))


def _kmeans(sample: np.ndarray, order: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """k-means++ seeds (Arthur & Vassilvitskii 2007) and ten Lloyd passes: centres [K, D] and labels."""
    centers = [sample[rng.integers(len(sample))]]
    nearest = np.full(len(sample), np.inf)
    for _ in range(order - 1):
        nearest = np.minimum(nearest, ((sample - centers[-1]) ** 2).sum(1))
        total = nearest.sum()
        pick = rng.choice(len(sample), p=nearest / total) if total > 0 else rng.integers(len(sample))
        centers.append(sample[pick])
    mean = np.array(centers)
    square = (sample**2).sum(1)[:, None]
    for _ in range(10):
        label = np.argmin(square - 2.0 * sample @ mean.T + (mean**2).sum(1), axis=1)
        counts = np.bincount(label, minlength=order)
        sums = np.stack([np.bincount(label, weights=column, minlength=order) for column in sample.T], 1)
        mean = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], mean)
    return mean, label


def pad(mixture: Mixture, size: int) -> Mixture:
    """The same density with dead components appended (log-weight -1e30, unit covariance)."""
    order, d = mixture.mean.shape
    extra = size - order
    return Mixture(
        np.concatenate([mixture.log_weight, np.full(extra, DEAD)]),
        np.concatenate([mixture.mean, np.zeros((extra, d))]),
        np.concatenate([mixture.chol, np.broadcast_to(np.eye(d), (extra, d, d))]),
    )
