"""Attribution by running the model on decomposed values: contextual decomposition, DeepLIFT."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.core.decomposition import Mode, decompose, decompose_parts, rescaled
from jaxland.errors import ArgumentError, ProblemError
from jaxland.trim.game import Game, Point, gradient_by_row, padded
from jaxland.trim.gradients import by_coefficients, line, times_input
from jaxland.trim.model import Taking
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


@partial(jax.jit, static_argnames="mode")
def _token_step(
    game: Game, point: jax.Array, masks: jax.Array, const: jax.Array, *, mode: Mode
) -> tuple[jax.Array, jax.Array]:
    """As ``_contextual_step`` for whole numbers: which of them each player holds, [K, b, *input]."""
    taking, index = _taking(game), game.rows.index
    assert game.output is not None and taking is not None
    params, select = game.output.params, game.output.select
    tokens, base = (jnp.round(a).astype(taking.dtype) for a in (point, const))
    d = decompose_parts(lambda t: select(taking.apply(params, t), index).real, tokens, masks, const=base, mode=mode)
    return d.beta.T, d.const


def _taking(game: Game) -> Taking | None:
    """The model where it takes whole numbers."""
    apply = None if game.output is None else game.output.apply
    return apply if isinstance(apply, Taking) and jnp.issubdtype(apply.dtype, jnp.integer) else None


def find_domain_error(play: Play, row: int, player: int, mode: str) -> None:
    """Go through the decomposition of one row and player again, step by step.

    Raises:
        DataError: naming the primitive whose domain a part leaves.
    """
    block = replace(play.game, rows=jax.tree.map(lambda a: a[row : row + 1], play.game.rows))
    const, point, _ = line(block)
    part = jax.tree.map(lambda a: a[player], _parts(block.without_model()))
    eager: Mode = "acd" if mode == "acd" else "shapley"
    decompose(lambda p: block.value(block.at(p), block.rows.index).real, point, part, const=const, mode=eager)


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

    tokens = _taking(play.game) is not None
    if tokens and (play.game.transform.name != "identity" or play.game.residual_plays):
        raise ProblemError("the model takes whole numbers, such as tokens: they can only be explained as they are")

    def start(block: Game, where: slice) -> Split:
        const, point, _ = line(block)
        if tokens:
            masks = jnp.broadcast_to(jnp.asarray(block.members)[:, None], (play.players, *block.rows.x.shape))
            return const, point, jnp.asarray(padded(masks, calls * size)), []
        return const, point, jax.tree.map(lambda a: padded(a, calls * size), _parts(block.without_model())), []

    def step(block: Game, carry: Split, j: int) -> Split:
        const, point, parts, found = carry
        some = jax.tree.map(lambda a: a[j * size : (j + 1) * size], parts)
        ask = _token_step if tokens else _contextual_step
        beta, floor = ask(block.without_players(), point, some, const, mode=mode)
        return const, point, parts, [*found, (np.asarray(beta), np.asarray(floor))]

    def finish(block: Game, carry: Split) -> Scores:
        betas, floors = zip(*carry[3])
        return Scores(None, np.concatenate(betas, axis=1)[:, : play.players], floors[-1])

    return play.in_blocks(start, step, finish, calls=calls, evaluations=2 * size)


@jax.jit
def _multipliers(game: Game, point: Point, reference: Point) -> Point:
    assert game.output is not None

    def values(p: Point) -> jax.Array:
        return rescaled(lambda q: game.value(game.at(q), game.rows.index).real, p, reference)

    return gradient_by_row(values, point, forwards=game.output.forwards)


def deeplift(play: Play) -> Scores:
    """DeepLIFT's rescale rule against the baseline (Shrikumar, Greenside & Kundaje 2017), by ``rescaled``."""

    def ask(block: Game) -> Scores:
        first, last, _ = line(block)
        return by_coefficients(times_input(block, _multipliers(block.without_players(), last, first)))

    return play.at_once(ask, evaluations=2)
