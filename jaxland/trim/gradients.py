"""Attribution by gradients: at the input, along the line from the baseline, over noise, over many baselines."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.errors import ArgumentError
from jaxland.trim.game import MAX_SHARES, Game, Parts, Point, Rows, flat, gradient_by_row, padded
from jaxland.trim.model import Indexed
from jaxland.trim.play import Play, Scores

Line = tuple[Point, Point, Point]
Pair = tuple[jax.Array, jax.Array]


def _gradient(game: Game, point: Point, index: jax.Array) -> Point:
    assert game.output is not None
    return gradient_by_row(lambda p: game.value(game.at(p), index).real, point, forwards=game.output.forwards)


def pulled_back(game: Game, gradient: Point) -> Pair:
    """A gradient with respect to a point as gradients with respect to s and to the residual."""
    if isinstance(gradient, tuple):
        return gradient
    like = jax.ShapeDtypeStruct((len(gradient), *game.rows.s.shape[1:]), game.rows.s.dtype)
    inverse = game.transform.inverse
    transpose = jax.linear_transpose(lambda s: inverse(s) - inverse(jnp.zeros_like(s)), like)
    return transpose(gradient)[0], gradient


def times_input(game: Game, gradient: Point) -> Pair:
    """Re(s' grad) per coefficient, and per player; JAX's complex gradient needs no conjugation."""
    return _times_input(game.without_model(), gradient)


@jax.jit
def _times_input(game: Game, gradient: Point) -> Pair:
    by_s, by_rest = pulled_back(game, gradient)
    coefficients = jnp.real((game.rows.s - game.rows.base) * by_s)
    return coefficients, game.grouped(coefficients, jnp.sum(flat(game.rows.rest * by_rest), 1))


def line(game: Game) -> Line:
    """Both ends of the line from baseline to input, and zeros shaped like a gradient on it."""
    return _line(game.without_model())


@jax.jit
def _line(game: Game) -> Line:
    first, last = game.path()
    return first, last, jax.tree.map(jnp.zeros_like, last)


def by_coefficients(found: Pair) -> Scores:
    """Attributions per coefficient and per player as scores."""
    coefficients, players = found
    return Scores(np.asarray(coefficients), np.asarray(players), None)


# -- along the line ------------------------------------------------------------------------------------------------


@partial(jax.jit, donate_argnames="total")
def _path_step(game: Game, total: Point, first: Point, last: Point, nodes: jax.Array, weights: jax.Array) -> Point:
    """Adds weights @ gradients at some nodes of the line."""
    count, index = len(nodes), game.rows.index

    def points(a: jax.Array, b: jax.Array) -> jax.Array:
        t = nodes.astype(a.dtype).reshape(-1, *[1] * a.ndim)
        return (a[None] + t * (b - a)[None]).reshape(-1, *a.shape[1:])

    def mean(like: jax.Array, g: jax.Array) -> jax.Array:
        return jnp.tensordot(weights.astype(g.dtype), g.reshape(count, *like.shape), 1)

    many = jnp.tile(index, count)
    parts = None if isinstance(first, tuple) else split(game, first, index, many)
    if parts is None or isinstance(first, tuple) or isinstance(last, tuple):
        gradient = _gradient(game, jax.tree.map(points, first, last), many)
        return jax.tree.map(lambda acc, g: acc + mean(acc, g), total, gradient)
    affine, rest = parts
    z, transpose = jax.vjp(affine, first)
    gradient = jax.grad(lambda p: jnp.sum(rest(p).real))(points(z, affine(last)))
    return total + transpose(mean(z, gradient))[0]


def split(game: Game, x: jax.Array | jax.ShapeDtypeStruct, index: jax.Array, many: jax.Array) -> Parts | None:
    """The affine beginning of the model on the rows x, and what follows on as many rows as ``many``; or None."""
    assert game.output is not None
    few = game.output.split(x, index)
    if few is None:
        return None
    all_rows = game.output.split(jax.ShapeDtypeStruct((len(many), *x.shape[1:]), x.dtype), many)
    return None if all_rows is None else (few[0], all_rows[1])


def _along_path(play: Play, nodes: np.ndarray, weights: np.ndarray) -> Scores:
    """Sum of weights times gradients at nodes of the straight line, times the step."""
    size = play.share(len(nodes))
    calls = math.ceil(len(nodes) / size)
    weights = np.concatenate([weights, np.zeros(calls * size - len(nodes))])
    nodes = np.asarray(padded(nodes, calls * size))

    def step(block: Game, carry: Line, j: int) -> Line:
        first, last, total = carry
        some = slice(j * size, (j + 1) * size)
        return first, last, _path_step(block.without_players(), total, first, last, nodes[some], weights[some])

    def finish(block: Game, carry: Line) -> Scores:
        return by_coefficients(times_input(block, carry[2]))

    return play.in_blocks(lambda block, _: line(block), step, finish, calls=calls, evaluations=size)


def input_times_gradient(play: Play) -> Scores:
    """s - s_baseline times the gradient at the input."""
    return _along_path(play, np.ones(1), np.ones(1))


def integrated_gradients(play: Play, *, nodes: int = 50, rule: str = "gauss") -> Scores:
    """Gradient averaged along the straight line from the baseline (Sundararajan, Taly & Yan 2017).

    Args:
        play: what is explained.
        nodes: number of gradients.
        rule: "gauss" (Gauss-Legendre), "trapezoid", "left", "right" or "middle".
    """
    return _along_path(play, *quadrature(nodes, rule))


@lru_cache(maxsize=64)
def quadrature(nodes: int, rule: str) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1], in float64 on the host.

    Raises:
        ArgumentError: no node, an unknown rule.

    >>> nodes, weights = quadrature(2, "middle")
    >>> nodes.tolist(), weights.tolist()
    ([0.25, 0.75], [0.5, 0.5])
    """
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


# -- at the input, and around it -----------------------------------------------------------------------------------


@jax.jit
def _sizes(game: Game) -> Pair:
    rows = game.rows
    by_s, by_rest = pulled_back(game, _gradient(game, game.path()[1], rows.index))
    size = jnp.abs(by_s)
    return size, game.grouped(size, jnp.sum(flat(jnp.abs(by_rest)), 1))


def saliency(play: Play) -> Scores:
    """|gradient| with respect to every coefficient (Simonyan, Vedaldi & Zisserman 2014): no sign, no completeness."""

    return play.at_once(lambda block: by_coefficients(_sizes(block)))


@partial(jax.jit, static_argnames="samples", donate_argnames="total")
def _smooth_step(game: Game, total: Point, key: jax.Array, noise: jax.Array, *, samples: int) -> Point:
    rows = game.rows
    b = rows.x.shape[0]
    spread = noise * (jnp.max(flat(rows.x), 1) - jnp.min(flat(rows.x), 1)).reshape(b, *[1] * (rows.x.ndim - 1))
    moved = rows.x[None] + spread[None] * jax.random.normal(key, (samples, *rows.x.shape), rows.x.dtype)
    x = moved.reshape(samples * b, *rows.x.shape[1:])
    point: Point = x
    if not game.transform.is_affine:
        point = game.transform.forward(x), jnp.tile(rows.rest, (samples, *[1] * (rows.rest.ndim - 1)))
    gradient = _gradient(game, point, jnp.tile(rows.index, samples))
    return jax.tree.map(lambda t, g: t + g.reshape(samples, *t.shape).sum(0), total, gradient)


def smoothgrad(play: Play, *, samples: int = 50, noise: float = 0.1, seed: int = 0) -> Scores:
    """s - s_baseline times the gradient averaged over noisy inputs (Smilkov et al. 2017).

    Args:
        play: what is explained.
        samples: noisy copies of every input.
        noise: standard deviation of the noise in x, as a share of the input's range.
        seed: of the noise.
    """
    if samples < 1 or noise < 0:
        raise ArgumentError(f"samples must be at least 1 and noise not negative, got {samples} and {noise}")
    size = play.share(samples)

    def start(block: Game, where: slice) -> tuple[int, Point]:
        return where.start, line(block)[2]

    def step(block: Game, carry: tuple[int, Point], j: int) -> tuple[int, Point]:
        first, total = carry
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), first), j)
        count = min(size, samples - j * size)
        return first, _smooth_step(block.without_players(), total, key, noise, samples=count)

    def finish(block: Game, carry: tuple[int, Point]) -> Scores:
        mean = jax.tree.map(lambda t: t / samples, carry[1])
        return by_coefficients(times_input(block, mean))

    return play.in_blocks(start, step, finish, calls=math.ceil(samples / size), evaluations=size)


# -- over baselines ------------------------------------------------------------------------------------------------

Drawn = tuple[Pair, np.ndarray, np.ndarray]


@partial(jax.jit, static_argnames="whole", donate_argnames="total")
def _expected_step(
    game: Game, total: Pair, bases: jax.Array, which: jax.Array, nodes: jax.Array, *, whole: bool
) -> Pair:
    """Adds (s - s_b) grad at base + t (input - base) for samples [b, m] of baselines and t; and the residual's."""
    rows = game.rows
    fast = _expected_behind_affine(game, bases, which, nodes) if whole else None
    if fast is not None:
        return total[0] + fast[0], total[1] + fast[1]
    b, m = which.shape
    many = Rows(*(jnp.repeat(a, m, axis=0) for a in rows))._replace(base=bases[which.ravel()])
    each = replace(game, rows=many)
    first, last = each.path()
    t = nodes.ravel()

    def between(a: jax.Array, z: jax.Array) -> jax.Array:
        return a + t.astype(a.real.dtype).reshape(-1, *[1] * (a.ndim - 1)) * (z - a)

    by_s, by_rest = pulled_back(each, _gradient(each, jax.tree.map(between, first, last), many.index))
    coefficients = jnp.real((many.s - many.base) * by_s).reshape(b, m, *rows.s.shape[1:]).sum(1)
    residual = jnp.sum(flat(many.rest * by_rest), 1).reshape(b, m).sum(1)
    return total[0] + coefficients, total[1] + residual


def _expected_behind_affine(game: Game, bases: jax.Array, which: jax.Array, nodes: jax.Array) -> Pair | None:
    """The same behind the model's affine beginning, from where gradients return to s by one matrix; or None."""
    output, rows, transform = game.output, game.rows, game.transform
    assert output is not None
    b, m = which.shape
    parts = split(game, rows.x, rows.index, jnp.repeat(rows.index, m)) if transform.is_affine else None
    if parts is None:
        return None
    background = transform.inverse(bases)
    ahead = output.split(background, jnp.zeros(len(background), jnp.int32))
    if ahead is None:
        return None
    z = ahead[0](background)
    width, size = math.prod(z.shape[1:]), math.prod(rows.s.shape[1:])
    zeros = jnp.zeros((width, *rows.x.shape[1:]), rows.x.dtype)
    unit = output.split(jax.ShapeDtypeStruct(zeros.shape, zeros.dtype), jnp.zeros(width, jnp.int32))
    if width * size > MAX_SHARES or unit is None or jnp.iscomplexobj(z):
        return None
    affine, rest = parts
    end, transpose = jax.vjp(affine, rows.x)
    kept = jnp.zeros_like(end) if game.residual_plays else affine(rows.rest) - affine(jnp.zeros_like(rows.rest))
    first = z[which] + kept[:, None]
    t = nodes.astype(z.dtype).reshape(b, m, *[1] * (z.ndim - 1))
    points = (first + t * (end[:, None] - first)).reshape(b * m, *z.shape[1:])
    g = jax.grad(lambda p: jnp.sum(rest(p).real))(points)
    # Every row's map back to s is the same: found once, from the unit gradients.
    units = jnp.eye(width, dtype=z.dtype).reshape(width, *z.shape[1:])
    matrix = flat(pulled_back(game, jax.vjp(unit[0], zeros)[1](units)[0])[0])
    kind = np.promote_types(g.dtype, matrix.dtype)
    by_s = (g.reshape(b * m, width).astype(kind) @ matrix.astype(kind)).reshape(b, m, *rows.s.shape[1:])
    coefficients = jnp.sum(jnp.real((rows.s[:, None] - bases[which]) * by_s), axis=1)
    by_x = transpose(g.reshape(b, m, *z.shape[1:]).sum(1))[0]
    return coefficients, jnp.sum(flat(rows.rest * by_x), 1)


def expected_gradients(play: Play, *, samples: int = 50, seed: int = 0) -> Scores:
    """Integrated gradients averaged over baselines and nodes drawn at random (Erion et al. 2021; GradientSHAP).

    Args:
        play: what is explained; baselines are drawn from its background.
        samples: gradients per input; nodes are stratified in [0, 1], baselines drawn without order.
        seed: of the draws.
    """
    if samples < 1:
        raise ArgumentError(f"samples must be at least 1, got {samples}")
    if play.background is None:
        raise ArgumentError("expected_gradients averages over baselines: pass background=inputs to draw them from")
    background = play.background
    rng = np.random.default_rng(seed)
    which = rng.integers(len(background), size=(play.n, samples)).astype(np.int32)
    strata = rng.permuted(np.broadcast_to(np.arange(samples), (play.n, samples)), axis=1)
    nodes = (strata + rng.random((play.n, samples))) / samples
    size = min(samples, play.chunk)
    dtype = np.dtype(play.game.rows.x.dtype)
    whole = bool(np.asarray(play.game.members).any(0).all())

    def start(block: Game, where: slice) -> Drawn:
        rows = block.rows
        total = jnp.zeros(rows.s.shape, dtype), jnp.zeros(len(rows.x), dtype)
        own, at = (np.asarray(padded(a[where], len(rows.x))) for a in (which, nodes))
        return total, own, at.astype(dtype)

    def step(block: Game, carry: Drawn, j: int) -> Drawn:
        total, own, at = carry
        some = slice(j * size, min((j + 1) * size, samples))
        return _expected_step(block, total, background, own[:, some], at[:, some], whole=whole), own, at

    def finish(block: Game, carry: Drawn) -> Scores:
        mean, residual = (t / samples for t in carry[0])
        return by_coefficients((mean, block.grouped(mean, residual)))

    found = play.in_blocks(start, step, finish, calls=math.ceil(samples / size), evaluations=size)
    return found._replace(base=_mean_over_baselines(play, background, which, whole))


def _mean_over_baselines(play: Play, background: jax.Array, which: np.ndarray, whole: bool) -> np.ndarray:
    """Mean of f over the baselines drawn for each row; once per baseline where the residual is zero."""
    game = play.game
    assert game.output is not None
    off = np.zeros((1, game.players), np.dtype(game.rows.x.dtype))

    def outputs(rows: Rows, raw: bool = False) -> np.ndarray:
        return replace(play, game=replace(game, rows=rows)).outputs(off, raw=raw)[:, 0]

    if game.transform.is_exact and whole and isinstance(game.output.select, Indexed):
        rest = jnp.zeros((len(background), *game.rows.x.shape[1:]), game.rows.x.dtype)
        rows = Rows(rest, background, background, rest, jnp.zeros(len(background), jnp.int32))
        table = outputs(rows, raw=True)
        return np.take_along_axis(table[which], np.asarray(game.rows.index)[:, None, None], 2)[..., 0].mean(1)
    total = np.zeros(play.n)
    for column in which.T:
        total += outputs(game.rows._replace(base=background[column]))
    return total / which.shape[1]
