"""Attribution by coalitions: f with some players on, combined linearly (a ``Design``); also of black boxes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.errors import ArgumentError
from jaxland.options import spoken
from jaxland.trim.game import MAX_SHARES, Game, padded
from jaxland.trim.gradients import split
from jaxland.trim.play import Play, Scores, on_host

# Sum over calls: 0, then an array [b, columns].
Total = float | jax.Array | np.ndarray


class Design(NamedTuple):
    """Coalitions to evaluate and how their values combine: attribution = values @ weights.

    Attributes:
        masks: [M, P], 1 where a player is on.
        weights: [M, P].
    """

    masks: np.ndarray
    weights: np.ndarray


def ablation_design(players: int) -> Design:
    """f(all on) - f(all on but one).

    >>> ablation_design(2).masks.tolist()
    [[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]
    """
    eye = np.eye(players)
    return Design(np.concatenate([np.ones((1, players)), 1 - eye]), np.concatenate([np.ones((1, players)), -eye]))


def exact_shapley_design(players: int) -> Design:
    """Every coalition, with Shapley's weights (Shapley 1953)."""
    if players > 14:
        raise ArgumentError(
            f"exact Shapley values need 2^players evaluations, not for {players} players: use at most 14 groups, "
            f"{spoken('method', 'shapley_sampling')} or kernel_shap"
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


@jax.jit
def _coalition_step(game: Game, masks: jax.Array, weights: jax.Array) -> jax.Array:
    out = _behind_affine(game, masks) if game.is_disjoint else None
    if out is None:
        points = game.points(masks)
        b, m = points.shape[:2]
        x = points.reshape(b * m, *points.shape[2:])
        out = game.value(x, jnp.repeat(game.rows.index, m)).reshape(b, m)
    return jnp.matmul(out, weights.astype(out.dtype), precision=jax.lax.Precision.HIGHEST)


def _behind_affine(game: Game, masks: jax.Array) -> jax.Array | None:
    """f at coalitions, combined behind the model's affine beginning; None where that does not pay."""
    rows, players = game.rows, game.players
    b, m = rows.x.shape[0], masks.shape[0]
    if not game.transform.is_affine or players * math.prod(rows.x.shape[1:]) > MAX_SHARES or m < len(game.members):
        return None
    index = jnp.repeat(rows.index, m)
    parts = split(game, rows.x, rows.index, index)
    many = jax.ShapeDtypeStruct((b * players, *rows.x.shape[1:]), rows.x.dtype)
    shared = split(game, many, jnp.repeat(rows.index, players), index)
    if parts is None or shared is None:
        return None
    affine, rest = parts
    off, _ = game.ends()
    own = game.shares().reshape(b * players, *rows.x.shape[1:])
    z, zero = affine(off), affine(jnp.zeros_like(off))
    if players * math.prod(z.shape[1:]) > MAX_SHARES:
        return None
    steps = shared[0](own).reshape(b, players, -1) - zero.reshape(b, 1, -1)
    points = z.reshape(b, 1, -1) + jnp.einsum("mp,bpd->bmd", masks.astype(steps.dtype), steps)
    return rest(points.reshape(b * m, *z.shape[1:])).reshape(b, m)


def coalitions(play: Play, design: Design) -> np.ndarray:
    """values @ weights [n, columns of weights], over blocks of rows and coalitions."""
    count = len(design.masks)
    calls = math.ceil(count / min(count, play.chunk))
    evaluations = math.ceil(count / calls)
    masks = np.asarray(padded(design.masks, calls * evaluations)).astype(np.dtype(play.game.rows.x.dtype))
    weights = np.concatenate([design.weights, np.zeros((len(masks) - count, design.weights.shape[1]))])

    def step(block: Game, total: Total, j: int) -> Total:
        some = slice(j * evaluations, (j + 1) * evaluations)
        if play.traceable:
            return total + _coalition_step(block, masks[some], weights[some])
        return total + on_host(block, jnp.asarray(masks[some])) @ weights[some]

    return play.in_blocks(
        lambda block, _: 0.0,
        step,
        lambda block, total: np.asarray(total),
        calls=calls,
        evaluations=min(count, play.chunk),
    )


def ablation(play: Play) -> Scores:
    """f(x0) minus f with one player at its baseline."""
    return Scores(None, coalitions(play, ablation_design(play.players)), None)


def shapley(play: Play) -> Scores:
    """Exact Shapley values, 2^players evaluations."""
    _need_disjoint(play)
    return Scores(None, coalitions(play, exact_shapley_design(play.players)), None)


def shapley_sampling(play: Play, *, permutations: int = 20, seed: int = 0) -> Scores:
    """Shapley values from random orders in antithetic pairs; complete for any number of them."""
    _need_disjoint(play)
    return Scores(None, coalitions(play, sampled_shapley_design(play.players, permutations, seed)), None)


def kernel_shap(play: Play, *, samples: int = 200, seed: int = 0) -> Scores:
    """Shapley values by weighted least squares over ``samples`` coalitions."""
    _need_disjoint(play)
    return Scores(None, coalitions(play, kernel_shap_design(play.players, samples, seed)), None)


def _need_disjoint(play: Play) -> None:
    if not play.game.is_disjoint:
        raise ArgumentError("Shapley values need groups that do not overlap; use ablation for overlapping groups")


def occlusion(play: Play, *, window: int | tuple[int, ...] = 1, stride: int | tuple[int, ...] = 1) -> Scores:
    """f(x0) minus f with a window of coefficients at its baseline, averaged over the windows that cover each one.

    Args:
        play: what is explained; its groups only sum the result.
        window: size of the window along each axis of s.
        stride: how far it moves.
    """
    groups = np.asarray(play.game.members)
    shape = groups.shape[1:]
    sizes = (window,) * len(shape) if isinstance(window, int) else tuple(window)
    steps = (stride,) * len(shape) if isinstance(stride, int) else tuple(stride)
    if len(sizes) != len(shape) or len(steps) != len(shape) or min(*sizes, *steps) < 1:
        raise ArgumentError(f"window and stride need one positive size per axis of coefficients {shape}")
    starts = [range(0, max(d - w, 0) + st, st) for d, w, st in zip(shape, sizes, steps)]
    grid = np.stack(np.meshgrid(*starts, indexing="ij"), -1).reshape(-1, len(shape))
    windows = np.zeros((len(grid), *shape), bool)
    for mask, corner in zip(windows, grid):
        mask[tuple(slice(c, c + w) for c, w in zip(corner, sizes))] = True
    cover = windows.sum(0)
    inner = replace(play, game=replace(play.game, members=windows, is_disjoint=bool(cover.max() <= 1)))
    drops = coalitions(inner, ablation_design(inner.players))
    own = drops[:, : len(windows)]
    coefficients = np.tensordot(own, windows.astype(own.dtype), 1) / np.maximum(cover, 1)
    players = coefficients.reshape(play.n, -1) @ groups.reshape(len(groups), -1).T
    if play.game.residual_plays:
        players = np.concatenate([players, drops[:, -1:]], axis=1)
    return Scores(coefficients, players, None)
