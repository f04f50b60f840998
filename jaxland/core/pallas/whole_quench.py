"""A quench as one program: BFGS of small dense networks, a thread a network, state in device memory between launches.

The arithmetic of ``core.solvers`` BFGS, pass by pass: judge the trial, update the inverse Hessian, propose the next. A
launch advances every network by a bounded number of passes, so that the host can retire, refill, show progress and
stop; a warp whose 32 networks have all ended leaves at once, and the GPU's scheduler gives its place to the next.
Vectors of a network are rows [N, networks], so that a warp reads whole cache lines; the inverse Hessian is swept in
tiles of 4 x 4, twice a pass: a twentieth of the gradient's time.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxland.core.pallas import dense
from jaxland.core.pallas.dense import Shape
from jaxland.core.solvers.lanes import Status

TILE = 4


class State(NamedTuple):
    """BFGS of L networks with N parameters, padded to a multiple of 4.

    Attributes:
        x: last accepted points.
        gradient: there.
        step: proposed; the trial is at x + step.
        inverse: inverse Hessian estimates (meaningless where ``fresh``).
        energy: at x; max_step: longest step allowed; scale: length scale of the next step, at most 1.
        fresh: 1 where no secant pair is known.
        evaluations: so far; status: see ``lanes.Status``.
    """

    x: Float[Array, "N L"]
    gradient: Float[Array, "N L"]
    step: Float[Array, "N L"]
    inverse: Float[Array, "N N L"]
    energy: Float[Array, " L"]
    max_step: Float[Array, " L"]
    scale: Float[Array, " L"]
    fresh: Int[Array, " L"]
    evaluations: Int[Array, " L"]
    status: Int[Array, " L"]


def padded(size: int, team: int = 1) -> int:
    """Rows of a state's vectors: whole tiles for every thread of a team."""
    return -(-size // (TILE * team)) * TILE * team


def begin(x: Float[Array, "B N"], max_step: Float[Array, " B"], team: int = 1) -> State:
    """State at the start of B quenches."""
    lanes, size = x.shape
    rows = padded(size, team)
    zero = jnp.zeros((rows, lanes), x.dtype)
    count = jnp.zeros(lanes, jnp.int32)
    return State(
        x=jnp.pad(x.T, ((0, rows - size), (0, 0))),
        gradient=zero,
        step=zero,
        inverse=jnp.zeros((rows, rows, lanes), x.dtype),
        energy=jnp.full(lanes, jnp.inf, x.dtype),
        max_step=max_step.astype(x.dtype),
        scale=jnp.ones(lanes, x.dtype),
        fresh=count + 1,
        evaluations=count,
        status=count,
    )


def _flat_rows(shape: Shape) -> list[tuple[int, ...]]:
    """For every reduced row (own, then shared) of one-thread networks: the flat weights it is made of.

    (k,) is weight k; (j, k) is w[k] - w[j], the difference of two logits.
    """
    with jax.ensure_compile_time_eval():
        unit = jnp.eye(shape.parameters, dtype=jnp.float32)
        own, shared = (np.asarray(a) for a in dense.pack(shape, unit))
    rows = np.concatenate([own[:, 0], shared])
    return [tuple(int(k) for k in (*np.flatnonzero(r < 0), *np.flatnonzero(r > 0))) for r in rows]


def _allowed_rise(energy: Any) -> Any:
    unit = 1e-6 if energy.dtype == jnp.float32 else 1e-13
    return unit * jnp.maximum(1.0, jnp.abs(energy))


class _Lanes:
    """Where a program's threads read and write: networks along the last axis, a team's threads along the first.

    ``every(ref, i)`` is row i for all threads, ``mine(ref, i)`` row i of a thread's own tile.
    """

    def __init__(self, shape: Shape, rows: int) -> None:
        from jax.experimental import pallas as pl

        self.shape, self.rows, self.team = shape, rows, shape.team
        at = pl.program_id(0) * np.int32(shape.networks)
        if self.team == 1:
            self.lanes = at + jax.lax.broadcasted_iota(jnp.int32, (shape.networks,), 0)
            self.first: Any = np.int32(0)
        else:
            self.lanes = at + jax.lax.broadcasted_iota(jnp.int32, (1, shape.networks), 1)
            self.first = dense._member(shape) * np.int32(TILE)

    def total(self, a: Any) -> Any:
        """Sum over a team."""
        return a if self.team == 1 else jnp.sum(a, axis=0, keepdims=True)

    def own_tiles(self, body: Any, carry: Any) -> Any:
        """``body(first row, carry)`` for every tile of rows of a thread."""
        stride, count = np.int32(TILE * self.team), np.int32(self.rows // (TILE * self.team))
        return jax.lax.fori_loop(np.int32(0), count, lambda k, c: body(k * stride + self.first, c), carry)

    def settle(self) -> None:
        """What the threads of a team have written is seen by all."""
        if self.team > 1 and self.shape.target == "triton":
            from jax.experimental.pallas import triton

            triton.debug_barrier()


def _columns(size: int, body: Any, carry: Any) -> Any:
    """``body(first column, carry)`` for every tile of columns."""
    count = np.int32(-(-size // TILE))
    return jax.lax.fori_loop(np.int32(0), count, lambda k, c: body(k * np.int32(TILE), c), carry)


def _program(shape: Shape, points: int, tol: float, limit: int, passes: int, table: Any, *refs: Any) -> None:
    """Body of a grid program: one warp, ``shape.networks`` networks, at most ``passes`` evaluations each."""
    count = len(State._fields)
    x_ref, y_ref = refs[:2]
    s = State(*refs[count + 2 : 2 * count + 2])
    new_ref, by_ref, bg_ref = refs[2 * count + 2 :]
    size, rows, dtype = shape.parameters, s.x.shape[0], s.x.dtype
    here = _Lanes(shape, rows)
    lanes, team = here.lanes, shape.team
    one = jnp.zeros(lanes.shape, dtype)
    zero = one if team == 1 else jnp.zeros((team, shape.networks), dtype)
    split, tile = shape.rows[0], [np.int32(k) for k in range(TILE)]
    for k in range(size, rows):
        new_ref[k, lanes] = one

    def spread(a: Any) -> Any:
        return a if team == 1 else jnp.broadcast_to(a, zero.shape)

    def evaluate() -> tuple[Any, Any]:
        """Energy at x + step; gradient into ``new_ref``; both as they come out, finite or not."""

        def weight(k: int) -> Any:
            return s.x[k, lanes] + s.step[k, lanes]

        reduced = [spread(weight(t[0]) if len(t) == 1 else weight(t[1]) - weight(t[0])) for t in table]
        loss, own, shared = dense.sums(shape, reduced[:split], reduced[split:], x_ref, y_ref, np.int32(0), points)
        square, norm = one, one
        for t, total in zip(table, [*own, *shared]):
            for sign, k in zip((1.0,) if len(t) == 1 else (-1.0, 1.0), t):
                w = weight(k)
                g = sign * total * (1.0 / points) + 2.0 * shape.lam * w
                new_ref[k, lanes] = g
                square, norm = square + w * w, norm + g * g
        here.settle()
        return loss * (1.0 / points) + shape.lam * square, norm

    def one_pass(carry: Any) -> Any:
        done, energy, scale, fresh, evaluations, status = carry
        running = status == Status.RUNNING
        value, norm = evaluate()
        start = evaluations == 0
        finite = (jnp.abs(value) < jnp.inf) & (norm < jnp.inf)
        accept = finite & (start | (value <= energy + _allowed_rise(energy)))

        def dots(i: Any, c: Any) -> Any:
            sy, yy, ss, sg = c
            for k in tile:
                step, old = s.step[i + k, lanes], s.gradient[i + k, lanes]
                change = jnp.where(finite, new_ref[i + k, lanes] - old, 0.0)
                sy, yy, ss, sg = sy + step * change, yy + change * change, ss + step * step, sg + step * old
            return sy, yy, ss, sg

        sy, yy, ss, slope = (here.total(a) for a in here.own_tiles(dots, (zero, zero, zero, zero)))
        curved = finite & ~start & (sy > 1e-12 * jnp.sqrt(ss * yy)) & (sy > 0)
        max_step = s.max_step[lanes]
        bottom = jnp.minimum(jnp.maximum(-slope / (2.0 * (value - energy - slope)), 0.1), 0.5)
        shorter = jnp.where(finite, bottom, 0.1) * jnp.minimum(scale, jnp.sqrt(ss) / max_step)
        next_scale = jnp.where(accept, jnp.minimum(1.0, 2.0 * scale), shorter)
        lost = next_scale < 1e-10
        was_fresh = fresh > 0
        safe_sy, safe_yy = jnp.where(curved, sy, 1.0), jnp.where(curved, yy, 1.0)
        first_scale = safe_sy / safe_yy
        renew = was_fresh & curved

        def inverse(i: Any, j: Any) -> Any:
            return jnp.where(renew, jnp.where(i == j, first_scale, 0.0), s.inverse[i, j, lanes])

        def change_at(i: Any) -> Any:
            return jnp.where(finite, new_ref[i, lanes] - s.gradient[i, lanes], 0.0)

        def product(i: Any, yby: Any) -> Any:
            """Rows i.. of B y."""

            def across(j: Any, total: Any) -> Any:
                y = [change_at(j + b) for b in tile]
                return [t + dense._sum([inverse(i + a, j + b) * v for b, v in zip(tile, y)]) for a, t in zip(tile, total)]

            for a, by in zip(tile, _columns(size, across, [zero] * TILE)):
                by_ref[i + a, lanes] = by
                yby = yby + by * change_at(i + a)
            return yby

        yby = here.total(here.own_tiles(product, zero))
        here.settle()
        inverse_sy = 1.0 / safe_sy
        grow = (1.0 + yby * inverse_sy) * inverse_sy
        next_fresh = (was_fresh & ~curved) | lost

        def kept(i: Any) -> Any:  # the gradient that stays
            return jnp.where(accept, new_ref[i, lanes], s.gradient[i, lanes])

        def update(i: Any, c: Any) -> Any:
            """Rows i.. of B + s p^T - (B y) q^T, and of its product with the gradient."""
            step_i = [s.step[i + a, lanes] for a in tile]
            by_i = [by_ref[i + a, lanes] for a in tile]

            def across(j: Any, total: Any) -> Any:
                step = [s.step[j + b, lanes] for b in tile]
                q = [v * inverse_sy for v in step]
                p = [v * grow - by_ref[j + b, lanes] * inverse_sy for b, v in zip(tile, step)]
                g = [kept(j + b) for b in tile]
                old = [[inverse(i + a, j + b) for b in tile] for a in tile]
                out = []
                for a, row, t, si, bi in zip(tile, old, total, step_i, by_i):
                    grown = [jnp.where(curved, m + (si * u - bi * v), m) for m, u, v in zip(row, p, q)]
                    for b, m in zip(tile, grown):
                        s.inverse[i + a, j + b, lanes] = m
                    out.append(t + dense._sum([m * v for m, v in zip(grown, g)]))
                return out

            gg, dg, dd = c
            for a, direction in zip(tile, _columns(size, across, [zero] * TILE)):
                g = kept(i + a)
                bg_ref[i + a, lanes] = direction
                gg, dg, dd = gg + g * g, dg - direction * g, dd + direction * direction
            return gg, dg, dd

        gg, dg, dd = (here.total(a) for a in here.own_tiles(update, (zero, zero, zero)))
        length = jnp.sqrt(gg)
        downhill = jnp.minimum(1.0, 1.0 / jnp.where(length > 0, length, 1.0))  # first direction: -g * downhill
        reach = jnp.where(next_fresh, length * downhill, jnp.sqrt(dd))
        sign = jnp.where(next_fresh | (dg <= 0), -1.0, 1.0)
        next_scale = jnp.where(lost, 1e-3, next_scale)
        factor = sign * jnp.minimum(1.0, max_step * next_scale / jnp.where(reach > 0, reach, 1.0))

        next_evaluations = evaluations + 1
        ended = jnp.where(next_evaluations >= limit, np.int32(Status.MAX_STEPS), np.int32(Status.RUNNING))
        ended = jnp.where(lost & was_fresh & ~start, np.int32(Status.STALLED), ended)
        ended = jnp.where(jnp.sqrt(gg * (1.0 / size)) <= tol, np.int32(Status.CONVERGED), ended)
        ended = jnp.where(finite | ~start, ended, np.int32(Status.NONFINITE))

        def move(i: Any, c: Any) -> Any:
            for k in tile:
                step, g, x = s.step[i + k, lanes], kept(i + k), s.x[i + k, lanes]
                direction = jnp.where(next_fresh, g * downhill, bg_ref[i + k, lanes])
                s.x[i + k, lanes] = jnp.where(running & accept, x + step, x)
                s.gradient[i + k, lanes] = jnp.where(running, g, s.gradient[i + k, lanes])
                s.step[i + k, lanes] = jnp.where(running, direction * factor, step)
            return c

        here.settle()
        here.own_tiles(move, np.int32(0))
        here.settle()
        return (
            done + 1,
            jnp.where(running & accept, value, energy),
            jnp.where(running, next_scale, scale),
            jnp.where(running, next_fresh.astype(jnp.int32), fresh),
            jnp.where(running, next_evaluations, evaluations),
            jnp.where(running, ended, status),
        )

    def goes_on(carry: Any) -> Any:
        return (carry[0] < passes) & (jnp.min(carry[5]) == Status.RUNNING)

    began = s.energy[lanes], s.scale[lanes], s.fresh[lanes], s.evaluations[lanes], s.status[lanes]
    _, energy, scale, fresh, evaluations, status = jax.lax.while_loop(goes_on, one_pass, (np.int32(0), *began))
    s.energy[lanes], s.scale[lanes], s.fresh[lanes] = energy, scale, fresh
    s.evaluations[lanes], s.status[lanes] = evaluations, status


def advance(
    shape: Shape, state: State, data: tuple[jax.Array, jax.Array], *, tol: float, limit: int, passes: int
) -> State:
    """Every running network by at most ``passes`` evaluations; the number of networks is a multiple of a warp's.

    Args:
        shape: of one-thread networks (``groups`` 1).
        state: see ``State``; its memory is reused.
        data: from ``dense.lay_out``.
        tol: rms gradient at which a quench has converged; limit: most evaluations of a quench.
        passes: most evaluations of this launch.
    """
    from jax.experimental import pallas as pl

    rows, lanes = state.x.shape
    options: dict[str, Any] = {"interpret": True}
    if shape.target == "triton":
        from jax.experimental.pallas import triton

        options = {"compiler_params": triton.CompilerParams(num_warps=1, num_stages=1)}
    count = len(State._fields)
    like = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in state]
    scratch = [jax.ShapeDtypeStruct((rows, lanes), state.x.dtype)] * 3
    found = pl.pallas_call(
        partial(_program, shape, data[0].shape[1], tol, limit, passes, _flat_rows(shape)),
        out_shape=[*like, *scratch],
        grid=(lanes // shape.networks,),
        input_output_aliases={k + 2: k for k in range(count)},
        name="jaxland_whole_quench",
        **options,
    )(*data, *state)
    return State(*found[:count])
