"""Attribution by running the model on decomposed values: contextual decomposition, DeepLIFT."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.core.decomposition import Mode, decompose_parts, rescaled
from jaxland.errors import ArgumentError
from jaxland.trim.game import Game, Point, padded
from jaxland.trim.gradients import by_coefficients, line, times_input
from jaxland.trim.play import Play, Scores

# The baseline, the input, every player's share of it, and what was found so far.
Split = tuple[Point, Point, Point, list[tuple[np.ndarray, np.ndarray]]]


@jax.jit
def _parts(game: Game) -> Point:
    """Every player's share of the point the model is decomposed at, players first."""
    rows = game.rows
    if game.transform.is_affine:
        return jnp.moveaxis(game.shares(), 1, 0)
    step = rows.s - rows.base
    groups = step[None] * jnp.asarray(game.members).astype(step.dtype)[:, None]
    nothing = jnp.zeros((len(game.members), *rows.rest.shape), rows.rest.dtype)
    if not game.residual_plays:
        return groups, nothing
    return (
        jnp.concatenate([groups, jnp.zeros_like(groups[:1])]),
        jnp.concatenate([nothing, rows.rest[None]]),
    )


@partial(jax.jit, static_argnames="mode")
def _contextual_step(
    game: Game, point: Point, parts: Point, const: Point, *, mode: Mode
) -> tuple[jax.Array, jax.Array]:
    index = game.rows.index
    d = decompose_parts(lambda p: game.value(game.at(p), index).real, point, parts, const=const, mode=mode)
    return d.beta.T, d.const


def contextual_decomposition(play: Play, *, mode: str = "shapley") -> Scores:
    """beta of every player against all others (Murdoch, Liu & Yu 2018), by ``core.decomposition``.

    Each split of the players in two is complete; the scores of many players need not add up to f.

    Args:
        play: what is explained.
        mode: how a non-linearity is shared, see ``core.decomposition.decompose``.
    """
    if mode not in ("shapley", "acd"):
        raise ArgumentError(f"mode must be 'shapley' or 'acd', got {mode!r}")
    calls = math.ceil(play.players / min(play.players, max(1, play.chunk // 2)))
    size = math.ceil(play.players / calls)

    def start(block: Game, where: slice) -> Split:
        const, point, _ = line(block)
        return const, point, jax.tree.map(lambda a: padded(a, calls * size), _parts(block.without_model())), []

    def step(block: Game, carry: Split, j: int) -> Split:
        const, point, parts, found = carry
        some = jax.tree.map(lambda a: a[j * size : (j + 1) * size], parts)
        beta, floor = _contextual_step(block.without_players(), point, some, const, mode=mode)
        return const, point, parts, [*found, (np.asarray(beta), np.asarray(floor))]

    def finish(block: Game, carry: Split) -> Scores:
        betas, floors = zip(*carry[3])
        return Scores(None, np.concatenate(betas, axis=1)[:, : play.players], floors[-1])

    return play.in_blocks(start, step, finish, calls=calls, evaluations=2 * size)


@jax.jit
def _multipliers(game: Game, point: Point, reference: Point) -> Point:
    def total(p: Point) -> jax.Array:
        return jnp.sum(rescaled(lambda q: game.value(game.at(q), game.rows.index).real, p, reference))

    return jax.grad(total)(point)


def deeplift(play: Play) -> Scores:
    """DeepLIFT's rescale rule against the baseline (Shrikumar, Greenside & Kundaje 2017), by ``rescaled``."""

    def ask(block: Game) -> Scores:
        first, last, _ = line(block)
        return by_coefficients(times_input(block, _multipliers(block.without_players(), last, first)))

    return play.at_once(ask, evaluations=2)
