"""A quench as one program: BFGS of small dense networks, a thread a network, state in device memory between launches.

The arithmetic of ``core.solvers`` BFGS, pass by pass: judge the trial, update the inverse Hessian, propose the next.
A launch advances every network by a bounded number of passes, so that what has ended can be retired and refilled and
the host can stop it; a warp whose networks have all ended leaves at once, and the scheduler gives its place away.
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

from jaxland.core.pallas.dense.point import total
from jaxland.core.pallas.dense.programs import member, sums
from jaxland.core.pallas.dense.shape import Shape, pack
from jaxland.core.solvers.protocol import Status

TILE, COLUMNS = 4, 2  # of the inverse Hessian in registers at once


class State(NamedTuple):
    """BFGS of L networks with N parameters, padded to a multiple of 4.

    Attributes:
        x: last accepted points.
        gradient: there.
        step: proposed; trial: x + step, evaluated next.
        inverse: inverse Hessian estimates (meaningless where ``fresh``).
        energy: at x; max_step: longest step allowed; scale: length scale of the next step, at most 1.
        fresh: 1 where no secant pair is known.
        evaluations: so far; status: see ``protocol.Status``.
    """

    x: Float[Array, "N L"]
    gradient: Float[Array, "N L"]
    step: Float[Array, "N L"]
    trial: Float[Array, "N L"]
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
    start = jnp.pad(x.T, ((0, rows - size), (0, 0)))
    # Every field has memory of its own: a state is donated to the launch that advances it.
    return State(
        x=start,
        gradient=jnp.zeros((rows, lanes), x.dtype),
        step=jnp.zeros((rows, lanes), x.dtype),
        trial=start + 0.0,
        inverse=jnp.zeros((rows, rows, lanes), x.dtype),
        energy=jnp.full(lanes, jnp.inf, x.dtype),
        max_step=jnp.array(max_step, x.dtype),
        scale=jnp.ones(lanes, x.dtype),
        fresh=jnp.ones(lanes, jnp.int32),
        evaluations=jnp.zeros(lanes, jnp.int32),
        status=jnp.zeros(lanes, jnp.int32),
    )


def _flat_rows(shape: Shape) -> list[tuple[int, ...]]:
    """For every reduced row (own, then shared) of one-thread networks: the flat weights it is made of.

    (k,) is weight k; (j, k) is w[k] - w[j], the difference of two logits.
    """
    with jax.ensure_compile_time_eval():
        unit = jnp.eye(shape.parameters, dtype=jnp.float32)
        own, shared = (np.asarray(a) for a in pack(shape, unit))
    rows = np.concatenate([own[:, 0], shared])
    return [tuple(int(k) for k in (*np.flatnonzero(r < 0), *np.flatnonzero(r > 0))) for r in rows]


def _allowed_rise(energy: Any) -> Any:
    unit = 1e-6 if energy.dtype == jnp.float32 else 1e-13
    return unit * jnp.maximum(1.0, jnp.abs(energy))


class _Lanes:
    """Where a program's threads read and write: networks along the last axis, a team's threads along the first."""

    def __init__(self, shape: Shape, rows: int) -> None:
        from jax.experimental import pallas as pl

        self.shape, self.rows, self.team = shape, rows, shape.team
        at = pl.program_id(0) * np.int32(shape.networks)
        if self.team == 1:
            self.lanes = at + jax.lax.broadcasted_iota(jnp.int32, (shape.networks,), 0)
            self.first: Any = np.int32(0)
        else:
            self.lanes = at + jax.lax.broadcasted_iota(jnp.int32, (1, shape.networks), 1)
            self.first = member(shape) * np.int32(TILE)

    def total(self, a: Any) -> Any:
        """Sum over a team."""
        return a if self.team == 1 else jnp.sum(a, axis=0, keepdims=True)

    def own_tiles(self, body: Any, carry: Any) -> Any:
        """``body(first row, carry)`` for every tile of rows of a thread."""
        stride, count = np.int32(TILE * self.team), np.int32(self.rows // (TILE * self.team))
        return jax.lax.fori_loop(np.int32(0), count, lambda k, c: body(k * stride + self.first, c), carry)

    def own_rows(self, body: Any, carry: Any) -> Any:
        """``body(row, carry)`` for every row of a thread."""

        def tile(i: Any, carry: Any) -> Any:
            return jax.lax.fori_loop(np.int32(0), np.int32(TILE), lambda k, c: body(i + k, c), carry)

        return self.own_tiles(tile, carry)

    def settle(self) -> None:
        """What the threads of a team have written is seen by all."""
        if self.team > 1 and self.shape.target == "triton":
            from jax.experimental.pallas import triton

            triton.debug_barrier()


def _program(shape: Shape, points: int, tol: float, limit: int, passes: int, weights: Any, *refs: Any) -> None:
    """Body of a grid program: one warp, ``shape.networks`` networks, at most ``passes`` evaluations each.

    One function, long as it is: Pallas traces it whole, and everything it names lives in registers between its parts.

    Loads and stores are few in the text, in loops over rows: Triton's compiler takes time with the square of them.
    One long function: its steps share the kernel's references and what of a pass is in registers.
    """
    count = len(State._fields)
    x_ref, y_ref, row_ref, sign_ref = refs[:4]
    s = State(*refs[count + 4 : 2 * count + 4])
    sum_ref, new_ref, change_ref, by_ref, bg_ref = refs[2 * count + 4 :]
    size, rows, dtype = shape.parameters, s.x.shape[0], s.x.dtype
    here = _Lanes(shape, rows)
    lanes, team = here.lanes, shape.team
    one = jnp.zeros(lanes.shape, dtype)
    zero = one if team == 1 else jnp.zeros((team, shape.networks), dtype)
    split, tile, columns = shape.rows[0], [np.int32(k) for k in range(TILE)], [np.int32(k) for k in range(COLUMNS)]

    def spread(a: Any) -> Any:
        return a if team == 1 else jnp.broadcast_to(a, zero.shape)

    def evaluate() -> tuple[Any, Any]:
        """Energy at the trial; gradient into ``new_ref``; both as they come out, finite or not."""
        w = [s.trial[k, lanes] for k in range(size)]
        reduced = [spread(w[t[0]] if len(t) == 1 else w[t[1]] - w[t[0]]) for t in weights]
        loss, own, shared = sums(shape, reduced[:split], reduced[split:], x_ref, y_ref, np.int32(0), points)
        for k, summed in enumerate([*own, *shared]):
            sum_ref[k, lanes] = summed
        here.settle()

        def regularise(i: Any, c: Any) -> Any:
            square, norm = c
            w, sign = s.trial[i, lanes], sign_ref[i]
            g = sign * sum_ref[row_ref[i], lanes] + 2.0 * shape.lam * w
            new_ref[i, lanes] = g
            return square + w * w, norm + g * g

        square, norm = (here.total(a) for a in here.own_rows(regularise, (zero, zero)))
        return loss * (1.0 / points) + shape.lam * square, norm

    def one_pass(carry: Any) -> Any:
        value, norm = evaluate()
        # Read here, not carried: the loop over points needs every register.
        energy, scale, fresh = s.energy[lanes], s.scale[lanes], s.fresh[lanes]
        evaluations, status = s.evaluations[lanes], s.status[lanes]
        running = status == Status.RUNNING
        start = evaluations == 0
        finite = (jnp.abs(value) < jnp.inf) & (norm < jnp.inf)
        accept = finite & (start | (value <= energy + _allowed_rise(energy)))

        def pair(i: Any, c: Any) -> Any:
            sy, yy, ss, sg, gg = c
            step, old, new = s.step[i, lanes], s.gradient[i, lanes], new_ref[i, lanes]
            change = jnp.where(finite, new - old, 0.0)
            kept = jnp.where(running & accept, new, old)
            change_ref[i, lanes], s.gradient[i, lanes] = change, kept
            return sy + step * change, yy + change * change, ss + step * step, sg + step * old, gg + kept * kept

        sy, yy, ss, slope, gg = (here.total(a) for a in here.own_rows(pair, (zero,) * 5))
        here.settle()
        curved = finite & ~start & (sy > 1e-12 * jnp.sqrt(ss * yy)) & (sy > 0)
        max_step = s.max_step[lanes]
        bottom = jnp.minimum(jnp.maximum(-slope / (2.0 * (value - energy - slope)), 0.1), 0.5)
        shorter = jnp.where(finite, bottom, 0.1) * jnp.minimum(scale, jnp.sqrt(ss) / max_step)
        next_scale = jnp.where(accept, jnp.minimum(1.0, 2.0 * scale), shorter)
        lost = next_scale < 1e-10
        was_fresh = fresh > 0
        safe_sy, safe_yy = jnp.where(curved, sy, 1.0), jnp.where(curved, yy, 1.0)
        first_scale = safe_sy / safe_yy
        renew, update = was_fresh & curved, running & curved

        def inverse(i: Any, j: Any) -> Any:
            return jnp.where(renew, jnp.where(i == j, first_scale, 0.0), s.inverse[i, j, lanes])

        def across(body: Any, carry: Any) -> Any:
            """``body(first column, carry)`` for every tile of columns."""
            count = np.int32(-(-size // COLUMNS))
            return jax.lax.fori_loop(np.int32(0), count, lambda k, c: body(k * np.int32(COLUMNS), c), carry)

        def product(i: Any, yby: Any) -> Any:
            """Rows i.. of B y."""

            def block(j: Any, sofar: Any) -> Any:
                y = [change_ref[j + b, lanes] for b in columns]
                return [
                    t + total([inverse(i + a, j + b) * v for b, v in zip(columns, y)]) for a, t in zip(tile, sofar)
                ]

            for a, by in zip(tile, across(block, [zero] * TILE)):
                by_ref[i + a, lanes] = by
                yby = yby + by * change_ref[i + a, lanes]
            return yby

        yby = here.total(here.own_tiles(product, zero))
        here.settle()
        inverse_sy = 1.0 / safe_sy
        grow = (1.0 + yby * inverse_sy) * inverse_sy
        next_fresh = (was_fresh & ~curved) | lost

        def rank_two(i: Any, c: Any) -> Any:
            """Rows i.. of B + s p^T - (B y) q^T, and of its product with the gradient."""
            step_i = [s.step[i + a, lanes] for a in tile]
            by_i = [by_ref[i + a, lanes] for a in tile]

            def block(j: Any, sofar: Any) -> Any:
                step = [s.step[j + b, lanes] for b in columns]
                q = [v * inverse_sy for v in step]
                p = [v * grow - by_ref[j + b, lanes] * inverse_sy for b, v in zip(columns, step)]
                g = [s.gradient[j + b, lanes] for b in columns]
                old = [[inverse(i + a, j + b) for b in columns] for a in tile]
                out = []
                for a, row, t, si, bi in zip(tile, old, sofar, step_i, by_i):
                    grown = [jnp.where(update, m + (si * u - bi * v), m) for m, u, v in zip(row, p, q)]
                    for b, m in zip(columns, grown):
                        s.inverse[i + a, j + b, lanes] = m
                    out.append(t + total([m * v for m, v in zip(grown, g)]))
                return out

            for a, direction in zip(tile, across(block, [zero] * TILE)):
                bg_ref[i + a, lanes] = direction
                c = c[0] - direction * s.gradient[i + a, lanes], c[1] + direction * direction
            return c

        dg, dd = (here.total(a) for a in here.own_tiles(rank_two, (zero, zero)))
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
            step, x, g, bg = s.step[i, lanes], s.x[i, lanes], s.gradient[i, lanes], bg_ref[i, lanes]
            x = jnp.where(running & accept, x + step, x)
            step = jnp.where(running, jnp.where(next_fresh, g * downhill, bg) * factor, step)
            s.x[i, lanes], s.step[i, lanes], s.trial[i, lanes] = x, step, x + step
            return c

        here.settle()
        here.own_rows(move, np.int32(0))
        here.settle()

        status = jnp.where(running, ended, status)
        s.energy[lanes] = jnp.where(running & accept, value, energy)
        s.scale[lanes] = jnp.where(running, next_scale, scale)
        s.fresh[lanes] = jnp.where(running, next_fresh.astype(jnp.int32), fresh)
        s.evaluations[lanes] = jnp.where(running, next_evaluations, evaluations)
        s.status[lanes] = status
        return carry[0] + 1, jnp.min(status)

    def goes_on(carry: Any) -> Any:
        return (carry[0] < passes) & (carry[1] == Status.RUNNING)

    jax.lax.while_loop(goes_on, one_pass, (np.int32(0), jnp.min(s.status[lanes])))


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
    weights = _flat_rows(shape)
    row_of, sign_of = np.zeros(rows, np.int32), np.zeros(rows)
    for row, made_of in enumerate(weights):
        for k in made_of:
            row_of[k], sign_of[k] = row, (-1.0 if len(made_of) == 2 and k == made_of[0] else 1.0) / data[0].shape[1]
    scratch = [jax.ShapeDtypeStruct((k, lanes), state.x.dtype) for k in (len(weights), rows, rows, rows, rows)]
    found = pl.pallas_call(
        partial(_program, shape, data[0].shape[1], tol, limit, passes, weights),
        out_shape=[*like, *scratch],
        grid=(lanes // shape.networks,),
        input_output_aliases={k + 4: k for k in range(count)},
        name="jaxland_whole_quench",
        **options,
    )(*data, jnp.asarray(row_of), jnp.asarray(sign_of, state.x.dtype), *state)
    return State(*found[:count])
