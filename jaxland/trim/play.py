"""How a game is played: in blocks of rows and calls of the model, each of one shape, with progress; the one loop.

The loop runs on the host over jitted steps: on a CPU a convolution's gradient inside a ``lax.scan`` costs three times
as much as outside, and memory is that of one step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex
from jaxtyping import PyTree

from jaxland.errors import ProblemError
from jaxland.problem.programs import inside
from jaxland.trim.game import Game, Output, evaluate, gradient_by_row, padded, points_of
from jaxland.trim.model import Raw

# Bytes of intermediate values one call of the model may need; on a CPU, what its caches like.
MEMORY = 256 * 2**20
CPU_MEMORY = 64 * 2**20
Carry = TypeVar("Carry")
Found = TypeVar("Found")
Collected = tuple[np.ndarray, list[np.ndarray]]


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


@dataclass(frozen=True, eq=False)
class Play:
    """A game with all its inputs, ready to be attributed.

    Attributes:
        game: its rows are all explained inputs.
        labels: name of every player; the residual is the last where it plays.
        chunk: most inputs given to the model at once.
        traceable: whether JAX can trace the model; if not it is called on the host.
        name: of the model.
        note: a sentence on which output is attributed.
        caution: a sentence on what is wrong with the model, or an empty text.
        cost: a sentence on why the model's gradients are dear, or an empty text.
        background: coefficients of possible baselines [m, *coefficients], or None.
        progress: called with (done, total) after every call of the model, or None.
    """

    game: Game
    labels: tuple[str, ...]
    chunk: int
    traceable: bool
    name: str
    note: str
    caution: str = ""
    cost: str = ""
    background: jax.Array | None = None
    progress: Callable[[int, int], None] | None = None

    @property
    def n(self) -> int:
        """Number of explained inputs."""
        return int(self.game.rows.x.shape[0])

    @property
    def players(self) -> int:
        """Groups, and the residual where it plays."""
        return self.game.players

    def with_params(self, params: PyTree) -> Play:
        """The same with other parameters of the model."""
        assert self.game.output is not None
        return replace(self, game=replace(self.game, output=replace(self.game.output, params=params)))

    def share(self, count: int) -> int:
        """How many of ``count`` evaluations of every row to make in one call, beside as many rows as fit."""
        return min(count, max(1, self.chunk // max(1, min(self.n, self.chunk))))

    def in_blocks(
        self,
        start: Callable[[Game, slice], Carry],
        step: Callable[[Game, Carry, int], Carry],
        finish: Callable[[Game, Carry], Found],
        *,
        calls: int = 1,
        evaluations: int = 1,
    ) -> Found:
        """Rows block by block, each in several calls of the model.

        Args:
            start: block of the game and which rows it holds, to what the calls carry on.
            step: block, carry and number of the call to the next carry.
            finish: block and last carry to a pytree of arrays [b, ...].
            calls: per block.
            evaluations: of every row that one call makes at once.

        Returns:
            the arrays of all blocks, on the host: [n, ...].
        """
        size = math.ceil(self.n / math.ceil(self.n / max(1, min(self.n, self.chunk // max(evaluations, 1)))))
        starts = range(0, self.n, size)
        found = []
        for k, first in enumerate(starts):
            where = slice(first, first + size)
            # Padded by repetition of the last row: one shape for every block.
            rows = jax.tree.map(lambda a, where=where: padded(a[where], size), self.game.rows)
            block = replace(self.game, rows=rows)
            carry = start(block, where)
            for j in range(calls):
                carry = step(block, carry, j)
                if self.progress is not None:
                    self.progress(k * calls + j + 1, len(starts) * calls)
            kept = self.n - first
            found.append(jax.tree.map(lambda a, kept=kept: np.asarray(a)[:kept], finish(block, carry)))
        return jax.tree.map(lambda *blocks: np.concatenate(blocks), *found)

    def at_once(self, ask: Callable[[Game], Found], *, evaluations: int = 1) -> Found:
        """One call per block: ``ask`` takes it to a pytree of arrays [b, ...]."""

        def step(block: Game, found: list[Found], j: int) -> list[Found]:
            return [ask(block)]

        return self.in_blocks(lambda block, _: [], step, lambda block, found: found[0], evaluations=evaluations)

    def outputs(self, masks: np.ndarray, *, raw: bool = False) -> np.ndarray:
        """f with players on or off: masks [n, M, P] (or [M, P], the same for every row) to [n, M], or raw outputs.

        Non-integer entries move a player part of the way.
        """
        masks = np.asarray(masks, np.dtype(self.game.rows.x.dtype))
        count = masks.shape[-2]
        size = min(count, self.chunk)

        def start(block: Game, where: slice) -> Collected:
            return masks if masks.ndim == 2 else np.asarray(padded(masks[where], len(block.rows.x))), []

        def step(block: Game, carry: Collected, j: int) -> Collected:
            own, parts = carry
            some = np.asarray(padded(np.moveaxis(own[..., j * size : (j + 1) * size, :], -2, 0), size))
            return own, [*parts, np.asarray(self._evaluate(block, jnp.asarray(np.moveaxis(some, 0, -2)), raw))]

        def finish(block: Game, carry: Collected) -> np.ndarray:
            return np.concatenate(carry[1], axis=1)[:, :count]

        quiet = replace(self, progress=None)
        return quiet.in_blocks(start, step, finish, calls=math.ceil(count / size), evaluations=size)

    def _evaluate(self, block: Game, masks: jax.Array, raw: bool) -> jax.Array | np.ndarray:
        assert block.output is not None
        if raw:
            block = replace(block, output=replace(block.output, select=Raw()))
        return evaluate(block, masks) if self.traceable else on_host(block, masks)


def on_host(block: Game, masks: jax.Array) -> np.ndarray:
    """f of a model that JAX cannot trace at coalitions [M, P] or [b, M, P]: [b, M, ...]."""
    assert block.output is not None
    points = np.asarray(points_of(block.without_model(), masks))
    b, m = points.shape[:2]
    out = block.output.apply((), points.reshape(b * m, *points.shape[2:]))
    out = jax.tree.map(jnp.asarray, out)
    chosen = np.asarray(block.output.select(out, jnp.repeat(jnp.asarray(block.rows.index), m)))
    return chosen.reshape(b, m, *chosen.shape[1:])


def rows_in_memory(output: Output, x: jax.Array, gradient: bool, asked: int | None) -> tuple[Output, int]:
    """Most inputs to give to the model at once: what was asked for, or what suits the device, within ``MEMORY``.

    Returns:
        the output, its gradients taken forwards where JAX cannot run a loop of the model backwards; the rows.

    Raises:
        ProblemError: the model is to be differentiated and can be neither way.
    """
    leaves, tree = jax.tree.flatten(output.params)
    kinds = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
    model = output.apply, output.select, x.shape[1:], x.dtype, tree, kinds
    try:
        per_row = _bytes_per_row(*model, gradient, output.forwards)
    except ValueError as error:
        # JAX says that it cannot run a loop backwards.
        if not gradient or output.forwards or "Reverse-mode" not in str(error):
            raise
        return rows_in_memory(replace(output, forwards=True), x, gradient, asked)
    except TypeError as error:
        if not output.forwards:
            raise
        raise ProblemError(
            "the model loops until a condition holds (while_loop), which JAX cannot differentiate backwards, and has "
            "a derivative of its own (custom_vjp), with no forward form: use contextual_decomposition, ablation, "
            "occlusion or a Shapley method, or write the loop as a scan"
        ) from error
    most = max(1, MEMORY // per_row)
    suits = max(1, (CPU_MEMORY if jax.default_backend() == "cpu" else MEMORY) // per_row)
    return output, int(min(asked or suits, most))


@lru_cache(maxsize=256)
def _bytes_per_row(
    apply: Callable[..., jax.Array],
    select: Callable[..., jax.Array],
    shape: tuple[int, ...],
    dtype: np.dtype,
    tree: jax.tree_util.PyTreeDef,
    kinds: tuple[tuple[tuple[int, ...], Hashable], ...],
    gradient: bool,
    forwards: bool,
) -> int:
    """Bytes of intermediate values one more input costs: two rows less one, so that parameters do not count."""

    def f(x: jax.Array, params: PyTree, index: jax.Array) -> jax.Array:
        return select(apply(params, x), index)

    def slope(x: jax.Array, params: PyTree, index: jax.Array) -> jax.Array:
        return gradient_by_row(lambda a: f(a, params, index).real, x, forwards=forwards)

    call = slope if gradient else f
    params = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*kind) for kind in kinds])

    def bytes_of(rows: int) -> int:
        index = jax.ShapeDtypeStruct((rows,), np.int32)
        return _bytes(jax.make_jaxpr(call)(jax.ShapeDtypeStruct((rows, *shape), dtype), params, index).jaxpr)

    return max(bytes_of(2) - bytes_of(1), math.prod(shape) * dtype.itemsize, 1)


def _bytes(jaxpr: jex.Jaxpr) -> int:
    """Bytes of every value a jaxpr computes: an upper bound of what lives at once."""
    total = 0
    for eqn in jaxpr.eqns:
        for variable in eqn.outvars:
            shape, dtype = getattr(variable.aval, "shape", None), getattr(variable.aval, "dtype", None)
            total += 0 if shape is None else math.prod(shape) * getattr(dtype, "itemsize", 4)
        total += max(map(_bytes, inside(eqn)), default=0)
    return total
