"""Base attributions: what each player of a game contributes.

Gradient methods follow the straight line from baseline to input; perturbation methods evaluate coalitions of players
and combine the values linearly (``Design``); contextual decomposition and DeepLIFT are interpreters of the model.
Every loop runs on the host over jitted steps with donated accumulators: on a CPU a convolution's gradient inside a
``lax.scan`` costs three times as much as outside, and memory is that of one step.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.core.decomposition import decompose_parts, rescaled, split_affine
from jaxland.errors import ArgumentError, ProblemError
from jaxland.trim.game import MAX_SHARES, Game, Rows, compose, ends, host_values, padded, points_of, shares, values
from jaxland.trim.transforms import Transform

STATIC = ("apply", "select", "plays")


class Scores(NamedTuple):
    """What a method returns.

    Attributes:
        coefficients: attribution of every coefficient [n, *coefficients], or None for methods that work per player.
        players: attribution of every player [n, P].
        base: f with every player off [n], or its mean over baselines; None where the method evaluates it not.
    """

    coefficients: np.ndarray | None
    players: np.ndarray
    base: np.ndarray | None


# -- gradients -----------------------------------------------------------------------------------------------------


def _start(transform: Transform, rows: Rows, members: Any, plays: bool) -> tuple[Any, Any]:
    """Both ends of the path: in x for an affine inverse, else in (s, residual)."""
    if transform.is_affine:
        return ends(transform, rows, members, plays)
    loose = ~jnp.any(jnp.asarray(members), axis=0)
    nothing = jnp.zeros_like(rows.rest) if plays else rows.rest
    return (jnp.where(loose, rows.s, rows.base), nothing), (rows.s, rows.rest)


def _at(transform: Transform, point: Any) -> jax.Array:
    return point if transform.is_affine else transform.inverse(point[0]) + point[1]


def _gradient(params: Any, transform: Transform, point: Any, index: Any, apply: Any, select: Any) -> Any:
    def total(p: Any) -> jax.Array:
        return jnp.sum(values(params, _at(transform, p), index, apply, select).real)

    return jax.grad(total)(point)


def _pulled(transform: Transform, rows: Rows, gradient: Any) -> tuple[jax.Array, jax.Array]:
    """A gradient along the path as gradients with respect to s and to the residual."""
    if not transform.is_affine:
        return gradient
    like = jax.ShapeDtypeStruct(rows.s.shape, rows.s.dtype)
    transpose = jax.linear_transpose(lambda s: transform.inverse(s) - transform.inverse(jnp.zeros_like(s)), like)
    return transpose(gradient)[0], gradient


@partial(jax.jit, static_argnames=STATIC)
def _times_input(
    transform: Transform, rows: Rows, members: Any, gradient: Any, *, apply: Any, select: Any, plays: bool
) -> tuple[jax.Array, jax.Array]:
    """Re(s' grad) per coefficient, and per player; JAX's complex gradient needs no conjugation."""
    by_s, by_rest = _pulled(transform, rows, gradient)
    coefficients = jnp.real((rows.s - rows.base) * by_s)
    return coefficients, _grouped(coefficients, members, jnp.sum(_flat(rows.rest * by_rest), 1) if plays else None)


def _flat(a: jax.Array) -> jax.Array:
    return a.reshape(a.shape[0], -1)


def _grouped(coefficients: jax.Array, members: Any, residual: jax.Array | None) -> jax.Array:
    members = jnp.asarray(members).reshape(members.shape[0], -1).astype(coefficients.dtype)
    sums = jnp.matmul(_flat(coefficients), members.T, precision=jax.lax.Precision.HIGHEST)
    return sums if residual is None else jnp.concatenate([sums, residual[:, None]], axis=1)


@partial(jax.jit, static_argnames=STATIC, donate_argnames="total")
def _path_step(
    params: Any,
    transform: Transform,
    total: Any,
    first: Any,
    last: Any,
    index: Any,
    nodes: jax.Array,
    weights: jax.Array,
    *,
    apply: Any,
    select: Any,
    plays: bool,
) -> Any:
    """Adds weights @ gradients at some nodes of the path."""

    count = len(nodes)

    def points(a: jax.Array, b: jax.Array) -> jax.Array:
        t = nodes.astype(a.real.dtype).reshape(-1, *[1] * a.ndim)
        return (a + t * (b - a)).reshape(-1, *a.shape[1:])

    def mean(like: jax.Array, g: jax.Array) -> jax.Array:
        return jnp.tensordot(weights.astype(g.dtype), g.reshape(count, *like.shape), 1)

    many = jnp.tile(index, count)
    parts = _split(params, first, index, many, apply, select) if transform.is_affine else None
    if parts is None:
        gradient = _gradient(params, transform, jax.tree.map(points, first, last), many, apply, select)
        return jax.tree.map(lambda acc, g: acc + mean(acc, g), total, gradient)
    affine, rest = parts
    z, transpose = jax.vjp(affine, first)
    gradient = jax.grad(lambda p: jnp.sum(rest(p).real))(points(z, affine(last)))
    return total + transpose(mean(z, gradient))[0]


def _split(params: Any, x: Any, index: Any, many: Any, apply: Any, select: Any) -> Any:
    """The affine beginning of the model on the rows x, and what follows on as many rows as ``many``; or None."""
    few = split_affine(lambda a: values(params, a, index, apply, select), x)
    size = len(many)
    if few is None:
        return None
    all_rows = split_affine(
        lambda a: values(params, a, many, apply, select), jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype)
    )
    return None if all_rows is None else (few[0], all_rows[1])


@partial(jax.jit, static_argnames=("plays",))
def _prepare(transform: Transform, rows: Rows, members: Any, plays: bool) -> tuple[Any, Any, Any]:
    first, last = _start(transform, rows, members, plays)
    return first, last, jax.tree.map(jnp.zeros_like, last)


def _need_gradient(game: Game, method: str) -> None:
    if not game.model.traceable:
        raise ProblemError(
            f"method {method!r} needs a model that JAX can differentiate; {game.model.name} is a black box. Use "
            "ablation, occlusion, shapley, shapley_sampling or kernel_shap"
        )


def _along_path(game: Game, nodes: np.ndarray, weights: np.ndarray) -> Scores:
    """Sum of weights times gradients at nodes of the straight line, times the step."""
    coefficients, players = [], []
    per_call = int(min(len(nodes), max(1, game.chunk // max(1, min(game.n, game.chunk)))))
    size, starts = game.blocks(per_call)
    calls = math.ceil(len(nodes) / per_call)
    nodes = padded(nodes, calls * per_call)
    weights = np.concatenate([weights, np.zeros(len(nodes) - len(weights))])
    members = game.members
    for k, start in enumerate(starts):
        rows = game.take(start, size)
        first, last, total = _prepare(game.transform, rows, members, game.residual_plays)
        for j in range(calls):
            some = slice(j * per_call, (j + 1) * per_call)
            total = _path_step(
                game.model.params,
                game.transform,
                total,
                first,
                last,
                rows.index,
                nodes[some],
                weights[some],
                **game.rules,
            )
            game.report(k * calls + j + 1, len(starts) * calls)
        c, p = _times_input(game.transform, rows, members, total, **game.rules)
        coefficients.append(np.asarray(c)[: game.n - start])
        players.append(np.asarray(p)[: game.n - start])
    return Scores(np.concatenate(coefficients), np.concatenate(players), None)


def input_times_gradient(game: Game) -> Scores:
    """s - s_baseline times the gradient at the input."""
    _need_gradient(game, "input_times_gradient")
    return _along_path(game, np.ones(1), np.ones(1))


def integrated_gradients(game: Game, *, nodes: int = 50, rule: str = "gauss") -> Scores:
    """Gradient averaged along the straight line from the baseline (Sundararajan, Taly & Yan 2017).

    Args:
        game: what is explained.
        nodes: number of gradients.
        rule: "gauss" (Gauss-Legendre), "trapezoid", "left", "right" or "middle".
    """
    _need_gradient(game, "integrated_gradients")
    return _along_path(game, *quadrature(nodes, rule))


@lru_cache(maxsize=64)
def quadrature(nodes: int, rule: str) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1], in float64 on the host."""
    if nodes < 1:
        raise ArgumentError(f"nodes must be at least 1, got {nodes}")
    if rule == "gauss":
        t, w = np.polynomial.legendre.leggauss(nodes)
        return (t + 1) / 2, w / 2
    even = {
        "left": np.arange(nodes) / nodes,
        "right": np.arange(1, nodes + 1) / nodes,
        "middle": (np.arange(nodes) + 0.5) / nodes,
    }
    if rule in even:
        return even[rule], np.full(nodes, 1 / nodes)
    if rule == "trapezoid" and nodes > 1:
        w = np.full(nodes, 1 / (nodes - 1))
        w[[0, -1]] /= 2
        return np.linspace(0, 1, nodes), w
    raise ArgumentError(f"rule must be gauss, trapezoid (from 2 nodes), left, right or middle, got {rule!r}")


@partial(jax.jit, static_argnames=STATIC)
def _saliency(
    params: Any, transform: Transform, rows: Rows, members: Any, *, apply: Any, select: Any, plays: bool
) -> Any:
    point = rows.x if transform.is_affine else (rows.s, rows.rest)
    by_s, by_rest = _pulled(transform, rows, _gradient(params, transform, point, rows.index, apply, select))
    size = jnp.abs(by_s)
    return size, _grouped(size, members, jnp.sum(_flat(jnp.abs(by_rest)), 1) if plays else None)


def saliency(game: Game) -> Scores:
    """|gradient| with respect to every coefficient (Simonyan, Vedaldi & Zisserman 2014): no sign, no completeness."""
    _need_gradient(game, "saliency")
    return _in_blocks(
        game, lambda rows: _saliency(game.model.params, game.transform, rows, game.members, **game.rules)
    )


def _in_blocks(game: Game, step: Any, evaluations: int = 1) -> Scores:
    """One call per block of rows; the call returns (coefficients or None, players)."""
    size, starts = game.blocks(evaluations)
    coefficients: list[Any] = []
    players = []
    for k, start in enumerate(starts):
        c, p = step(game.take(start, size))
        coefficients.append(None if c is None else np.asarray(c)[: game.n - start])
        players.append(np.asarray(p)[: game.n - start])
        game.report(k + 1, len(starts))
    return Scores(None if coefficients[0] is None else np.concatenate(coefficients), np.concatenate(players), None)


@partial(jax.jit, static_argnames=(*STATIC, "samples"), donate_argnames="total")
def _smooth_step(
    params: Any,
    transform: Transform,
    total: Any,
    rows: Rows,
    key: jax.Array,
    noise: Any,
    *,
    samples: int,
    apply: Any,
    select: Any,
    plays: bool,
) -> Any:
    b = rows.x.shape[0]
    spread = noise * (jnp.max(_flat(rows.x), 1) - jnp.min(_flat(rows.x), 1)).reshape(b, *[1] * (rows.x.ndim - 1))
    moved = rows.x + spread * jax.random.normal(key, (samples, *rows.x.shape), rows.x.dtype)
    x = moved.reshape(samples * b, *rows.x.shape[1:])
    if transform.is_affine:
        point: Any = x
    else:
        point = transform.forward(x), jnp.tile(rows.rest, (samples, *[1] * (rows.rest.ndim - 1)))
    gradient = _gradient(params, transform, point, jnp.tile(rows.index, samples), apply, select)
    return jax.tree.map(lambda t, g: t + g.reshape(samples, *t.shape).sum(0), total, gradient)


def smoothgrad(game: Game, *, samples: int = 50, noise: float = 0.1, seed: int = 0) -> Scores:
    """s - s_baseline times the gradient averaged over noisy inputs (Smilkov et al. 2017).

    Args:
        game: what is explained.
        samples: noisy copies of every input.
        noise: standard deviation of the noise in x, as a share of the input's range.
        seed: of the noise.
    """
    _need_gradient(game, "smoothgrad")
    if samples < 1 or noise < 0:
        raise ArgumentError(f"samples must be at least 1 and noise not negative, got {samples} and {noise}")
    per_call = min(samples, max(1, game.chunk // max(1, min(game.n, game.chunk))))
    calls = math.ceil(samples / per_call)
    counts = [min(per_call, samples - j * per_call) for j in range(calls)]
    size, starts = game.blocks(per_call)
    coefficients, players = [], []
    for k, start in enumerate(starts):
        rows = game.take(start, size)
        total = _prepare(game.transform, rows, game.members, game.residual_plays)[2]
        for j, count in enumerate(counts):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), start), j)
            total = _smooth_step(
                game.model.params, game.transform, total, rows, key, noise, samples=count, **game.rules
            )
            game.report(k * calls + j + 1, len(starts) * calls)
        mean = jax.tree.map(lambda t: t / samples, total)
        c, p = _times_input(game.transform, rows, game.members, mean, **game.rules)
        coefficients.append(np.asarray(c)[: game.n - start])
        players.append(np.asarray(p)[: game.n - start])
    return Scores(np.concatenate(coefficients), np.concatenate(players), None)


@partial(jax.jit, static_argnames=(*STATIC, "whole"), donate_argnames="total")
def _expected_step(
    params: Any,
    transform: Transform,
    total: tuple[jax.Array, jax.Array, jax.Array],
    rows: Rows,
    members: Any,
    bases: jax.Array,
    which: jax.Array,
    nodes: jax.Array,
    *,
    apply: Any,
    select: Any,
    plays: bool,
    whole: bool,
) -> Any:
    """Adds (s - s_b) grad at base + t (input - base) for samples [b, m] of baselines and t."""
    fast = _fast_expected(params, transform, rows, bases, which, nodes, apply, select, plays) if whole else None
    if fast is not None:
        return total[0] + fast[0], total[1] + fast[1]
    b, m = which.shape
    many = Rows(*(jnp.repeat(a, m, axis=0) for a in rows))._replace(base=bases[which.ravel()])
    first, last = _start(transform, many, members, plays)
    t = nodes.ravel()

    def between(a: jax.Array, z: jax.Array) -> jax.Array:
        return a + t.astype(a.real.dtype).reshape(-1, *[1] * (a.ndim - 1)) * (z - a)

    gradient = _gradient(params, transform, jax.tree.map(between, first, last), many.index, apply, select)
    by_s, by_rest = _pulled(transform, many, gradient)
    coefficients = jnp.real((many.s - many.base) * by_s).reshape(b, m, *rows.s.shape[1:]).sum(1)
    residual = jnp.sum(_flat(many.rest * by_rest), 1).reshape(b, m).sum(1)
    return total[0] + coefficients, total[1] + residual


def _fast_expected(
    params: Any,
    transform: Transform,
    rows: Rows,
    bases: jax.Array,
    which: jax.Array,
    nodes: jax.Array,
    apply: Any,
    select: Any,
    plays: bool,
) -> tuple[jax.Array, jax.Array] | None:
    """The same behind the model's affine beginning, from where gradients return to s by one matrix; or None."""

    def split(x: Any) -> Any:
        return split_affine(lambda a: values(params, a, jnp.zeros(a.shape[0], jnp.int32), apply, select), x)

    b, m = which.shape
    parts = (
        _split(params, rows.x, rows.index, jnp.repeat(rows.index, m), apply, select) if transform.is_affine else None
    )
    background = transform.inverse(bases)
    ahead = split(background) if parts is not None else None
    if parts is None or ahead is None:
        return None
    z = ahead[0](background)
    width, size = math.prod(z.shape[1:]), math.prod(rows.s.shape[1:])
    unit = split(jax.ShapeDtypeStruct((width, *rows.x.shape[1:]), rows.x.dtype))
    if width * size > MAX_SHARES or unit is None or jnp.iscomplexobj(z):
        return None
    affine, rest = parts
    end, transpose = jax.vjp(affine, rows.x)
    kept = jnp.zeros_like(end) if plays else affine(rows.rest) - affine(jnp.zeros_like(rows.rest))
    first = z[which] + kept[:, None]
    t = nodes.astype(z.dtype).reshape(b, m, *[1] * (z.ndim - 1))
    points = (first + t * (end[:, None] - first)).reshape(b * m, *z.shape[1:])
    g = jax.grad(lambda p: jnp.sum(rest(p).real))(points)
    # Every row's map back to s is the same: found once, from the unit gradients.
    zeros = jnp.zeros((width, *rows.x.shape[1:]), rows.x.dtype)
    units = jnp.eye(width, dtype=z.dtype).reshape(width, *z.shape[1:])
    like = Rows(zeros, jnp.zeros((width, *rows.s.shape[1:]), rows.s.dtype), None, None, None)
    matrix = _flat(_pulled(transform, like, jax.vjp(unit[0], zeros)[1](units)[0])[0])
    by_s = (g.reshape(b * m, width) @ matrix).reshape(b, m, *rows.s.shape[1:])
    coefficients = jnp.sum(jnp.real((rows.s[:, None] - bases[which]) * by_s), axis=1)
    by_x = transpose(g.reshape(b, m, *z.shape[1:]).sum(1))[0]
    return coefficients, jnp.sum(_flat(rows.rest * by_x), 1)


def expected_gradients(game: Game, background: jax.Array, *, samples: int = 50, seed: int = 0) -> Scores:
    """Integrated gradients averaged over baselines and nodes drawn at random (Erion et al. 2021; GradientSHAP).

    Args:
        game: what is explained.
        background: coefficients of possible baselines [M, *coefficients].
        samples: gradients per input; nodes are stratified in [0, 1], baselines drawn without order.
        seed: of the draws.
    """
    _need_gradient(game, "expected_gradients")
    if samples < 1:
        raise ArgumentError(f"samples must be at least 1, got {samples}")
    rng = np.random.default_rng(seed)
    which = rng.integers(len(background), size=(game.n, samples)).astype(np.int32)
    nodes = (
        rng.permuted(np.broadcast_to(np.arange(samples), (game.n, samples)), axis=1) + rng.random((game.n, samples))
    ) / samples
    per_call = min(samples, game.chunk)
    size, starts = game.blocks(per_call)
    dtype = np.dtype(game.rows.x.dtype)
    calls = math.ceil(samples / per_call)
    coefficients, players = [], []
    for k, start in enumerate(starts):
        rows = game.take(start, size)
        total = jnp.zeros(rows.s.shape, dtype), jnp.zeros(size, dtype)
        own, at = padded(which[start : start + size], size), padded(nodes[start : start + size], size).astype(dtype)
        for j in range(calls):
            some = slice(j * per_call, min((j + 1) * per_call, samples))
            total = _expected_step(
                game.model.params,
                game.transform,
                total,
                rows,
                game.members,
                background,
                own[:, some],
                at[:, some],
                whole=bool(game.members.any(0).all()),
                **game.rules,
            )
            game.report(k * calls + j + 1, len(starts) * calls)
        mean, residual = total[0] / samples, total[1] / samples
        coefficients.append(np.asarray(mean)[: game.n - start])
        grouped = _grouped(mean, game.members, residual if game.residual_plays else None)
        players.append(np.asarray(grouped)[: game.n - start])
    base = _mean_over_baselines(game, background, which)
    return Scores(np.concatenate(coefficients), np.concatenate(players), base)


def _mean_over_baselines(game: Game, background: jax.Array, which: np.ndarray) -> np.ndarray | None:
    """Mean of f over the baselines drawn for each row; once per baseline where the residual is zero."""
    flat = np.zeros((1, game.players), np.dtype(game.rows.x.dtype))
    out = np.zeros(game.n)
    exact = game.transform.is_exact and bool(game.members.any(0).all())
    if exact and game.target.select.__name__ == "_take":
        rest = jnp.zeros((len(background), *game.rows.x.shape[1:]), game.rows.x.dtype)
        rows = Rows(rest, background, background, rest, jnp.zeros(len(background), jnp.int32))
        single = _replaced(game, rows)
        table = single.outputs(flat, raw=True)[:, 0]
        return np.take_along_axis(table[which], np.asarray(game.rows.index)[:, None, None], 2)[..., 0].mean(1)
    for j in range(which.shape[1]):
        out += _replaced(game, game.rows._replace(base=background[which[:, j]])).outputs(flat)[:, 0]
    return out / which.shape[1]


def _replaced(game: Game, rows: Rows) -> Game:
    return dataclasses.replace(game, rows=rows, progress=None)


# -- coalitions ----------------------------------------------------------------------------------------------------


class Design(NamedTuple):
    """Coalitions to evaluate and how their values combine: attribution = values @ weights.

    Attributes:
        masks: [M, P], 1 where a player is on.
        weights: [M, P].
    """

    masks: np.ndarray
    weights: np.ndarray


def ablation_design(players: int) -> Design:
    """f(all on) - f(all on but one)."""
    eye = np.eye(players)
    return Design(np.concatenate([np.ones((1, players)), 1 - eye]), np.concatenate([np.ones((1, players)), -eye]))


def exact_shapley_design(players: int) -> Design:
    """Every coalition, with Shapley's weights (Shapley 1953)."""
    if players > 14:
        raise ArgumentError(
            f"exact Shapley values need 2^players evaluations, not for {players} players: use at most 14 groups, "
            "method='shapley_sampling' or 'kernel_shap'"
        )
    masks = ((np.arange(2**players)[:, None] >> np.arange(players)) & 1).astype(float)
    size = masks.sum(1).astype(int)
    per = [1 / (players * math.comb(players - 1, s)) if s < players else 0.0 for s in range(players + 1)]
    with_it = np.array([0.0, *per])[size][:, None]
    without = np.array(per)[size][:, None]
    return Design(masks, np.where(masks > 0, with_it, -without))


def sampled_shapley_design(players: int, permutations: int, seed: int) -> Design:
    """Marginal contributions along random orders, each followed by its reverse (Castro, Gomez & Tejada 2009)."""
    if permutations < 1:
        raise ArgumentError(f"permutations must be at least 1, got {permutations}")
    rng = np.random.default_rng(seed)
    masks, weights = [np.zeros((1, players)), np.ones((1, players))], [np.zeros((2, players))]
    orders: list[np.ndarray] = []
    while len(orders) < permutations:
        order = rng.permutation(players)
        orders += [order, order[::-1]]
    for order in orders[:permutations]:
        steps = np.tril(np.ones((players, players)))[:, np.argsort(order)]
        masks.append(steps[:-1])
        marginal = np.zeros((players + 1, players))
        marginal[np.arange(players) + 1, order] += 1
        marginal[np.arange(players), order] -= 1
        weights[0] += marginal[[0, -1]]
        weights.append(marginal[1:-1])
    return Design(np.concatenate(masks), np.concatenate(weights) / permutations)


def kernel_shap_design(players: int, coalitions: int, seed: int) -> Design:
    """Least squares over coalitions drawn from Shapley's kernel, in complementary pairs (Lundberg & Lee 2017).

    The constraint that the values add up to f(all) - f(none) is eliminated exactly; with enough evaluations for every
    coalition the design is the complete one.
    """
    if players == 1:
        return Design(np.array([[0.0], [1.0]]), np.array([[-1.0], [1.0]]))
    if coalitions >= 2**players - 2 and players <= 14:
        return exact_shapley_design(players)
    if coalitions < 2 * players:
        raise ArgumentError(
            f"kernel_shap needs at least {2 * players} coalitions for {players} players, got {coalitions}"
        )
    rng = np.random.default_rng(seed)
    sizes = np.arange(1, players)
    chance = 1 / (sizes * (players - sizes))
    drawn = rng.choice(sizes, size=(coalitions + 1) // 2, p=chance / chance.sum())
    half = np.argsort(rng.random((len(drawn), players)), axis=1) < drawn[:, None]
    masks = np.concatenate([half, ~half]).astype(float)
    # Unknown: the values of all players but the last, which takes what is left.
    inner = masks[:, :-1] - masks[:, -1:]
    solve = np.linalg.pinv(inner.T @ inner) @ inner.T
    ones, last = np.ones(len(masks)), masks[:, -1]
    none = -solve @ (ones - last)
    full = -solve @ last
    first = np.column_stack([none, full, solve])
    rest = np.concatenate([[-1.0, 1.0], np.zeros(len(masks))]) - first.sum(0)
    both = np.concatenate([np.zeros((1, players)), np.ones((1, players)), masks])
    return Design(both, np.concatenate([first, rest[None]]).T)


@partial(jax.jit, static_argnames=(*STATIC, "disjoint"))
def _coalition_step(
    params: Any,
    transform: Transform,
    rows: Rows,
    members: Any,
    masks: jax.Array,
    weights: jax.Array,
    *,
    apply: Any,
    select: Any,
    plays: bool,
    disjoint: bool,
) -> jax.Array:
    out = _fast_coalitions(params, transform, rows, members, masks, apply, select, plays) if disjoint else None
    if out is None:
        points = points_of(transform, rows, members, masks, plays, disjoint)
        b, m = points.shape[:2]
        x = points.reshape(b * m, *points.shape[2:])
        out = values(params, x, jnp.repeat(rows.index, m), apply, select).reshape(b, m)
    return jnp.matmul(out, weights.astype(out.dtype), precision=jax.lax.Precision.HIGHEST)


def _fast_coalitions(
    params: Any,
    transform: Transform,
    rows: Rows,
    members: Any,
    masks: jax.Array,
    apply: Any,
    select: Any,
    plays: bool,
) -> jax.Array | None:
    """f at coalitions, combined behind the model's affine beginning; None where that does not pay."""
    b, m = rows.x.shape[0], masks.shape[0]
    players = members.shape[0] + plays
    if not transform.is_affine or players * math.prod(rows.x.shape[1:]) > MAX_SHARES or m < members.shape[0]:
        return None
    index = jnp.repeat(rows.index, m)
    parts = _split(params, rows.x, rows.index, index, apply, select)
    many = jax.ShapeDtypeStruct((b * players, *rows.x.shape[1:]), rows.x.dtype)
    shared = _split(params, many, jnp.repeat(rows.index, players), index, apply, select)
    if parts is None or shared is None:
        return None
    affine, rest = parts
    off, _ = ends(transform, rows, members, plays)
    own = shares(transform, rows, members, plays).reshape(b * players, *rows.x.shape[1:])
    z, zero = affine(off), affine(jnp.zeros_like(off))
    if players * math.prod(z.shape[1:]) > MAX_SHARES:
        return None
    steps = shared[0](own).reshape(b, players, -1) - zero.reshape(b, 1, -1)
    points = z.reshape(b, 1, -1) + jnp.einsum("mp,bpd->bmd", masks.astype(steps.dtype), steps)
    return rest(points.reshape(b * m, *z.shape[1:])).reshape(b, m)


def coalitions(game: Game, design: Design) -> np.ndarray:
    """values @ weights [n, columns of weights], over blocks of rows and coalitions."""
    dtype = np.dtype(game.rows.x.dtype)
    count = len(design.masks)
    per_call = min(count, game.chunk)
    size, starts = game.blocks(per_call)
    calls = math.ceil(count / per_call)
    per_call = math.ceil(count / calls)
    masks = padded(design.masks, calls * per_call).astype(dtype)
    weights = np.concatenate([design.weights, np.zeros((len(masks) - count, design.weights.shape[1]))])
    out = []
    for k, start in enumerate(starts):
        rows = game.take(start, size)
        total: Any = 0.0
        for j in range(calls):
            some = slice(j * per_call, (j + 1) * per_call)
            if game.model.traceable:
                total = total + _coalition_step(
                    game.model.params,
                    game.transform,
                    rows,
                    game.members,
                    masks[some],
                    weights[some],
                    disjoint=game.is_disjoint,
                    **game.rules,
                )
            else:
                points = compose(
                    game.transform,
                    rows,
                    game.members,
                    jnp.asarray(masks[some]),
                    game.residual_plays,
                    game.is_disjoint,
                )
                total = total + host_values(game, points, rows.index, game.target.select) @ weights[some]
            game.report(k * calls + j + 1, len(starts) * calls)
        out.append(np.asarray(total)[: game.n - start])
    return np.concatenate(out)


def ablation(game: Game) -> Scores:
    """f(x0) minus f with one player at its baseline."""
    return Scores(None, coalitions(game, ablation_design(game.players)), None)


def shapley(game: Game) -> Scores:
    """Exact Shapley values, 2^players evaluations."""
    _need_disjoint(game)
    return Scores(None, coalitions(game, exact_shapley_design(game.players)), None)


def shapley_sampling(game: Game, *, permutations: int = 20, seed: int = 0) -> Scores:
    """Shapley values from random orders in antithetic pairs; complete for any number of them."""
    _need_disjoint(game)
    return Scores(None, coalitions(game, sampled_shapley_design(game.players, permutations, seed)), None)


def kernel_shap(game: Game, *, samples: int = 200, seed: int = 0) -> Scores:
    """Shapley values by weighted least squares over ``samples`` coalitions."""
    _need_disjoint(game)
    return Scores(None, coalitions(game, kernel_shap_design(game.players, samples, seed)), None)


def _need_disjoint(game: Game) -> None:
    if not game.is_disjoint:
        raise ArgumentError("Shapley values need groups that do not overlap; use ablation for overlapping groups")


def occlusion(game: Game, *, window: int | tuple[int, ...] = 1, stride: int | tuple[int, ...] = 1) -> Scores:
    """f(x0) minus f with a window of coefficients at its baseline, averaged over the windows that cover each one.

    Args:
        game: what is explained; its groups only sum the result.
        window: size of the window along each axis of s.
        stride: how far it moves.
    """
    shape = game.members.shape[1:]
    sizes = (window,) * len(shape) if isinstance(window, int) else tuple(window)
    steps = (stride,) * len(shape) if isinstance(stride, int) else tuple(stride)
    if len(sizes) != len(shape) or len(steps) != len(shape) or min(*sizes, *steps) < 1:
        raise ArgumentError(f"window and stride need one positive size per axis of coefficients {shape}")
    starts = [range(0, max(d - w, 0) + st, st) for d, w, st in zip(shape, sizes, steps)]
    grid = np.stack(np.meshgrid(*starts, indexing="ij"), -1).reshape(-1, len(shape))
    windows = np.zeros((len(grid), *shape), bool)
    for mask, corner in zip(windows, grid):
        mask[tuple(slice(c, c + w) for c, w in zip(corner, sizes))] = True
    labels = tuple(map(str, range(len(windows)))) + (("residual",) if game.residual_plays else ())
    inner = dataclasses.replace(game, members=windows, labels=labels)
    drops = coalitions(inner, ablation_design(inner.players))
    cover = np.maximum(windows.sum(0), 1)
    own = drops[:, : len(windows)]
    coefficients = np.tensordot(own, windows.astype(own.dtype), 1) / cover
    players = coefficients.reshape(game.n, -1) @ game.members.reshape(len(game.members), -1).T
    if game.residual_plays:
        players = np.concatenate([players, drops[:, -1:]], axis=1)
    return Scores(coefficients, players, None)


# -- interpreters --------------------------------------------------------------------------------------------------


@partial(jax.jit, static_argnames="plays")
def _parts(transform: Transform, rows: Rows, members: Any, plays: bool) -> Any:
    """Every player's share of the point the model is decomposed at, players first."""
    if transform.is_affine:
        return jnp.moveaxis(shares(transform, rows, members, plays), 1, 0)
    groups = (rows.s - rows.base) * jnp.asarray(members)[:, None]
    nothing = jnp.zeros((len(members), *rows.rest.shape), rows.rest.dtype)
    if not plays:
        return groups, nothing
    return (
        jnp.concatenate([groups, jnp.zeros_like(groups[:1])]),
        jnp.concatenate([nothing, rows.rest[None]]),
    )


@partial(jax.jit, static_argnames=("mode", "apply", "select"))
def _contextual_step(
    params: Any,
    transform: Transform,
    point: Any,
    parts: Any,
    const: Any,
    index: Any,
    *,
    mode: Any,
    apply: Any,
    select: Any,
) -> tuple[jax.Array, jax.Array]:
    d = decompose_parts(
        lambda p: values(params, _at(transform, p), index, apply, select).real, point, parts, const=const, mode=mode
    )
    return d.beta.T, d.const


def contextual_decomposition(game: Game, *, mode: str = "shapley") -> Scores:
    """beta of every player against all others (Murdoch, Liu & Yu 2018), by ``core.decomposition``.

    Each split of the players in two is complete; the scores of many players need not add up to f.
    """
    _need_gradient(game, "contextual_decomposition")
    step = min(game.players, max(1, game.chunk // 2))
    calls = math.ceil(game.players / step)
    step = math.ceil(game.players / calls)
    size, starts = game.blocks(2 * step)
    out, base = [], []
    for k, start in enumerate(starts):
        rows = game.take(start, size)
        const, point, _ = _prepare(game.transform, rows, game.members, game.residual_plays)
        parts = jax.tree.map(
            lambda a: padded(a, calls * step), _parts(game.transform, rows, game.members, game.residual_plays)
        )
        found = []
        for j in range(calls):
            some = jax.tree.map(lambda a, j=j: a[j * step : (j + 1) * step], parts)
            beta, floor = _contextual_step(
                game.model.params,
                game.transform,
                point,
                some,
                const,
                rows.index,
                mode=mode,
                apply=game.model.apply,
                select=game.target.select,
            )
            found.append(np.asarray(beta))
            game.report(k * calls + j + 1, len(starts) * calls)
        out.append(np.concatenate(found, axis=1)[: game.n - start, : game.players])
        base.append(np.asarray(floor)[: game.n - start])
    return Scores(None, np.concatenate(out), np.concatenate(base))


@partial(jax.jit, static_argnames=("apply", "select"))
def _multipliers(
    params: Any, transform: Transform, point: Any, reference: Any, index: Any, *, apply: Any, select: Any
) -> Any:
    def total(p: Any) -> jax.Array:
        f = rescaled(lambda q: values(params, _at(transform, q), index, apply, select).real, p, reference)
        return jnp.sum(f)

    return jax.grad(total)(point)


def deeplift(game: Game) -> Scores:
    """DeepLIFT's rescale rule against the baseline (Shrikumar, Greenside & Kundaje 2017), by ``rescaled``."""
    _need_gradient(game, "deeplift")

    def step(rows: Rows) -> tuple[jax.Array, jax.Array]:
        first, last, _ = _prepare(game.transform, rows, game.members, game.residual_plays)
        m = _multipliers(
            game.model.params,
            game.transform,
            last,
            first,
            rows.index,
            apply=game.model.apply,
            select=game.target.select,
        )
        return _times_input(game.transform, rows, game.members, m, **game.rules)

    return _in_blocks(game, step, 2)


METHODS: dict[str, Callable[..., Scores]] = {
    "input_times_gradient": input_times_gradient,
    "saliency": saliency,
    "smoothgrad": smoothgrad,
    "integrated_gradients": integrated_gradients,
    "expected_gradients": expected_gradients,
    "occlusion": occlusion,
    "ablation": ablation,
    "shapley": shapley,
    "shapley_sampling": shapley_sampling,
    "kernel_shap": kernel_shap,
    "deeplift": deeplift,
    "contextual_decomposition": contextual_decomposition,
}
ALIASES = {
    "ig": "integrated_gradients",
    "cd": "contextual_decomposition",
    "gradient_shap": "expected_gradients",
    "feature_ablation": "ablation",
    "ixg": "input_times_gradient",
}
GRADIENT = frozenset(METHODS) - {"occlusion", "ablation", "shapley", "shapley_sampling", "kernel_shap"}
# Attributions of these add up to f(x0) - f(baseline), up to numerical error.
COMPLETE = frozenset(
    {"integrated_gradients", "expected_gradients", "shapley", "shapley_sampling", "kernel_shap", "deeplift"}
)
CURES = {
    "integrated_gradients": "raise nodes (now {nodes}); kinks of a ReLU network need more than smooth networks",
    "expected_gradients": "raise samples (now {samples}); the gap is the sampling error",
    "deeplift": "use integrated_gradients: the secant rule is only complete where every step has a single input",
}
