"""What all quasi-Newton programs share: evaluation of the trial, judgement, next step, launch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxland.core.pallas.dense.elementary import fused
from jaxland.core.pallas.dense.programs import sums
from jaxland.core.pallas.dense.shape import Shape
from jaxland.core.pallas.whole.threads import Threads, Weights, weights_of
from jaxland.core.solvers.protocol import Status

Block = Any  # a number of every thread, or of every network


@dataclass(frozen=True)
class Limits:
    """Of a launch.

    Attributes:
        tol: rms gradient at which a quench has converged; limit: most evaluations of a quench.
        passes: most evaluations of this launch.
    """

    tol: float
    limit: int
    passes: int


class Judged(NamedTuple):
    """A judged trial, see ``core.solvers.quench.trial``; numbers of every network.

    Attributes:
        value, energy: at the trial, and at the last accepted point before it.
        evaluations, status: before it; running: of the status; start: it is the first.
        finite, accept, curved, lost, stale: as ``trial.Trial`` has them.
        sy, yy, gg: step . change, change . change, and the kept gradient's square.
        max_step: longest step allowed; scale: share of it that the next step may have.
    """

    value: Block
    energy: Block
    evaluations: Block
    status: Block
    running: Block
    start: Block
    finite: Block
    accept: Block
    curved: Block
    lost: Block
    stale: Block
    sy: Block
    yy: Block
    gg: Block
    max_step: Block
    scale: Block


class Direction(NamedTuple):
    """What a model of the energy proposes.

    Attributes:
        ref: B g [rows, networks]; the step goes against it.
        slope, square: -(B g) . g and |B g|^2 of every network.
        was_fresh, fresh: whether the model knew nothing before the trial, and after it.
    """

    ref: Any
    slope: Block
    square: Block
    was_fresh: Block
    fresh: Block


def allowed_rise(energy: Block) -> Block:
    """See ``core.solvers.quench.allowed_rise``."""
    unit = 1e-6 if energy.dtype == jnp.float32 else 1e-13
    return unit * jnp.maximum(1.0, jnp.abs(energy))


State = TypeVar("State", bound=tuple)


def at_start(
    x: Float[Array, "B N"], max_step: Float[Array, " B"], rows: int
) -> dict[str, Float[Array, "..."] | Int[Array, "..."]]:
    """What the states of all methods hold at the start of B quenches, vectors padded to so many rows.

    Every field has memory of its own: a state is donated to the launch that advances it.
    """
    lanes = x.shape[0]
    start = jnp.pad(x.T, ((0, rows - x.shape[1]), (0, 0)))
    return {
        "x": start,
        "gradient": jnp.zeros((rows, lanes), x.dtype),
        "step": jnp.zeros((rows, lanes), x.dtype),
        "trial": start + 0.0,
        "energy": jnp.full(lanes, jnp.inf, x.dtype),
        "max_step": jnp.array(max_step, x.dtype),
        "scale": jnp.ones(lanes, x.dtype),
        "evaluations": jnp.zeros(lanes, jnp.int32),
        "status": jnp.zeros(lanes, jnp.int32),
    }


class Program(ABC):
    """Body of a grid program: ``shape.networks`` networks, at most ``limits.passes`` evaluations each.

    Loads and stores are few in the text, in loops over rows: Triton's compiler takes time with the square of them.

    Args:
        shape: of the networks; points: how many there are; limits: of the launch; weights: by thread.
        state: references of the method's state.
        inputs: of points, targets, ``Weights.row``, ``sign``, ``plus``, ``minus``.
        scratch: of reduced sums [sums, L], then of vectors [rows, L]: the trial's gradient, its change, and the rest.
    """

    def __init__(
        self, shape: Shape, points: int, limits: Limits, weights: Weights, state: Any, inputs: Any, scratch: Any
    ) -> None:
        self.shape, self.points, self.limits, self.weights, self.s = shape, points, limits, weights, state
        self.x_ref, self.y_ref, self.row_ref, self.sign_ref, self.plus_ref, self.minus_ref = inputs
        self.sum_ref, self.new_ref, self.change_ref, *self.rest = scratch
        rows, tile = state.trial.shape[0], self.tile_of(shape)
        self.here, self.one = (Threads(shape, k, tile) for k in (rows, rows // self.images(state)))
        self.zero = self.here.zero(state.trial.dtype)

    @staticmethod
    def images(state: Any) -> int:
        """Networks in a vector of the state, one after another."""
        return 1

    @staticmethod
    def tile_of(shape: Shape) -> int:
        """Rows that a thread takes at once: one where many threads share a network's."""
        return 4 if shape.threads <= 8 else 1

    @staticmethod
    @abstractmethod
    def scratch(rows: int, state: Any) -> tuple[int, ...]:
        """Rows of the scratch that a method wants besides the common ones."""

    @abstractmethod
    def propose(self, t: Judged) -> Direction:
        """Mend the model by the judged trial and apply it to the gradient; own scalars of the state are written."""

    def _reduced(self, at: Any) -> tuple[list[Block], list[Block]]:
        """The trial's weights from row ``at`` on, by thread: own rows, shared rows."""
        s, here, w = self.s, self.here, self.weights
        if self.shape.groups == 1:
            flat = [s.trial[at + np.int32(k), here.lanes] for k in range(self.shape.parameters)]
            pairs = zip(w.plus[:, 0].tolist(), w.minus[:, 0].tolist())
            own = [flat[k] if j == self.shape.parameters else flat[k] - flat[j] for k, j in pairs]
            shared = [flat[t[0]] if len(t) == 1 else flat[t[1]] - flat[t[0]] for t in w.shared]
        else:
            own = []
            for k, minus in enumerate(w.minus):
                a = s.trial[at + self.plus_ref[k, here.group], here.lanes]
                if (minus < self.shape.parameters).any():
                    a = a - s.trial[at + self.minus_ref[k, here.group], here.lanes]
                own.append(a)
            ends = [[s.trial[at + np.int32(k), here.lanes] for k in t] for t in w.shared]
            shared = [t[0] if len(t) == 1 else t[1] - t[0] for t in ends]
        return [here.spread(a) for a in own], [here.spread(a) for a in shared]

    def evaluate(self, at: Any = 0) -> tuple[Block, Block]:
        """Energy and squared gradient at the trial, gradient into ``new_ref``; as they come out, finite or not.

        Of the network whose vectors begin at row ``at``.
        """
        s, shape, groups, own_rows = self.s, self.shape, self.shape.groups, len(self.weights.plus)
        loss, own, shared = sums(shape, *self._reduced(at), self.x_ref, self.y_ref, np.int32(0), self.points)
        here, one = self.here.after(loss), self.one.after(loss)
        lanes = here.lanes
        for k, summed in enumerate(own):
            row = np.int32(k) if groups == 1 else np.int32(k * groups) + here.group
            self.sum_ref[row, lanes] = summed
        for k, summed in enumerate(shared):
            self.sum_ref[np.int32(own_rows * groups + k), lanes] = summed
        here.settle()

        def regularise(i: Any, c: Any) -> Any:
            square, norm = c
            w, sign = s.trial[at + i, lanes], self.sign_ref[i]
            g = fused(shape, sign, self.sum_ref[self.row_ref[i], lanes], 2.0 * shape.lam * w)
            self.new_ref[at + i, lanes] = g
            return fused(shape, w, w, square), fused(shape, g, g, norm)

        square, norm = (here.total(a) for a in one.own_rows(regularise, (self.zero, self.zero)))
        return loss * (1.0 / self.points) + shape.lam * square, norm

    def judge(self, value: Block, norm: Block) -> Judged:
        """The trial; the kept gradient and its change along the step are written."""
        s, here, zero = self.s, self.here, self.zero
        lanes = here.lanes
        # Read here, not carried: the loop over points needs every register.
        energy, scale, evaluations, status = s.energy[lanes], s.scale[lanes], s.evaluations[lanes], s.status[lanes]
        running, start = status == Status.RUNNING, evaluations == 0
        finite = (jnp.abs(value) < jnp.inf) & (norm < jnp.inf)
        accept = finite & (start | (value <= energy + allowed_rise(energy)))

        def pair(i: Any, c: Any) -> Any:
            sy, yy, ss, sg, gg = c
            step, old, new = s.step[i, lanes], s.gradient[i, lanes], self.new_ref[i, lanes]
            change = jnp.where(finite, new - old, 0.0)
            kept = jnp.where(running & accept, new, old)
            self.change_ref[i, lanes], s.gradient[i, lanes] = change, kept
            pairs = ((step, change, sy), (change, change, yy), (step, step, ss), (step, old, sg), (kept, kept, gg))
            return tuple(fused(self.shape, *pair) for pair in pairs)

        sy, yy, ss, slope, gg = (here.total(a) for a in here.own_rows(pair, (zero,) * 5))
        here.settle()
        max_step = s.max_step[lanes]
        bottom = jnp.minimum(jnp.maximum(-slope / (2.0 * (value - energy - slope)), 0.1), 0.5)
        shorter = jnp.where(finite, bottom, 0.1) * jnp.minimum(scale, jnp.sqrt(ss) / max_step)
        next_scale = jnp.where(accept, jnp.minimum(1.0, 2.0 * scale), shorter)
        return Judged(
            value=value,
            energy=energy,
            evaluations=evaluations,
            status=status,
            running=running,
            start=start,
            finite=finite,
            accept=accept,
            curved=finite & ~start & (sy > 1e-12 * jnp.sqrt(ss * yy)) & (sy > 0),
            lost=next_scale < 1e-10,
            stale=accept & ~start & (sy <= 0) & (ss < 0.01 * max_step * max_step),
            sy=sy,
            yy=yy,
            gg=gg,
            max_step=max_step,
            scale=next_scale,
        )

    def move(self, t: Judged, d: Direction) -> Block:
        """Keep what was accepted, propose the next trial; status of every network."""
        s, here = self.s, self.here
        lanes, running, accept = here.lanes, t.running, t.accept
        length = jnp.sqrt(t.gg)
        downhill = jnp.minimum(1.0, 1.0 / jnp.where(length > 0, length, 1.0))  # first direction: -g * downhill
        reach = jnp.where(d.fresh, length * downhill, jnp.sqrt(d.square))
        sign = jnp.where(d.fresh | (d.slope <= 0), -1.0, 1.0)
        next_scale = jnp.where(t.lost, 1e-3, t.scale)
        factor = sign * jnp.minimum(1.0, t.max_step * next_scale / jnp.where(reach > 0, reach, 1.0))

        next_evaluations = t.evaluations + 1
        ended = jnp.where(next_evaluations >= self.limits.limit, np.int32(Status.MAX_STEPS), np.int32(Status.RUNNING))
        ended = jnp.where(t.lost & d.was_fresh & ~t.start, np.int32(Status.STALLED), ended)
        converged = jnp.sqrt(t.gg * (1.0 / self.shape.parameters)) <= self.limits.tol
        ended = jnp.where(converged, np.int32(Status.CONVERGED), ended)
        ended = jnp.where(t.finite | ~t.start, ended, np.int32(Status.NONFINITE))

        def step_on(i: Any, c: Any) -> Any:
            step, x, g, bg = s.step[i, lanes], s.x[i, lanes], s.gradient[i, lanes], d.ref[i, lanes]
            x = jnp.where(running & accept, x + step, x)
            step = jnp.where(running, jnp.where(d.fresh, g * downhill, bg) * factor, step)
            s.x[i, lanes], s.step[i, lanes], s.trial[i, lanes] = x, step, x + step
            return c

        here.settle()
        here.own_rows(step_on, np.int32(0))
        here.settle()

        status = jnp.where(running, ended, t.status)
        s.energy[lanes] = jnp.where(running & accept, t.value, t.energy)
        s.scale[lanes] = jnp.where(running, next_scale, s.scale[lanes])
        s.evaluations[lanes] = jnp.where(running, next_evaluations, t.evaluations)
        s.status[lanes] = status
        return status

    def one_pass(self) -> Block:
        """An evaluation of every network and what follows; their status."""
        value, norm = self.evaluate()
        self.here = self.here.after(value)
        t = self.judge(value, norm)
        return self.move(t, self.propose(t))

    def run(self) -> None:
        """All passes of a launch."""

        everywhere = self.here, self.one

        def one_pass(carry: Any) -> Any:
            self.here, self.one = (threads.after(carry[0]) for threads in everywhere)
            status = jnp.min(self.one_pass())
            self.here, self.one = everywhere  # what a pass knows is unknown outside it
            return carry[0] + 1, status

        def goes_on(carry: Any) -> Any:
            return (carry[0] < self.limits.passes) & (carry[1] == Status.RUNNING)

        jax.lax.while_loop(goes_on, one_pass, (np.int32(0), jnp.min(self.s.status[self.here.lanes])))


_INPUTS = 6


def _body(
    method: type[Program], kind: Any, shape: Shape, points: int, limits: Limits, weights: Weights, *refs: Any
) -> None:
    count = kind.num_leaves
    state = kind.unflatten(refs[count + _INPUTS : 2 * count + _INPUTS])
    method(shape, points, limits, weights, state, refs[:_INPUTS], refs[2 * count + _INPUTS :]).run()


def launch(
    method: type[Program], shape: Shape, state: State, data: tuple[jax.Array, jax.Array], limits: Limits
) -> State:
    """Every running network by at most ``limits.passes`` evaluations; the number of networks fills whole programs.

    Args:
        method: which program; shape: of its networks; state: its memory is reused.
        data: from ``dense.lay_out``; limits: see there.
    """
    from jax.experimental import pallas as pl

    rows, lanes = state.trial.shape  # type: ignore[attr-defined]
    dtype = state.trial.dtype  # type: ignore[attr-defined]
    if lanes % shape.networks:
        raise ValueError(f"{lanes} lanes do not fill programs of {shape.networks} networks: memory holds no more")
    options: dict[str, Any] = {"interpret": True}
    if shape.target == "triton":
        from jax.experimental.pallas import triton

        options = {"compiler_params": triton.CompilerParams(num_warps=shape.warps, num_stages=1)}
    leaves, points = jax.tree.leaves(state), data[0].shape[1]
    kind: Any = jax.tree.structure(state)
    count, like = len(leaves), [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in leaves]
    weights = weights_of(shape, rows // method.images(state))
    wanted = (weights.sums, rows, rows, *method.scratch(rows, state))
    scratch = [jax.ShapeDtypeStruct((k, lanes), dtype) for k in wanted]
    tables = [jnp.asarray(a) for a in (weights.row, weights.sign / points, weights.plus, weights.minus)]
    tables[1] = tables[1].astype(dtype)
    found = pl.pallas_call(
        partial(_body, method, kind, shape, points, limits, weights),
        out_shape=[*like, *scratch],
        grid=(lanes // shape.networks,),
        input_output_aliases={k + _INPUTS: k for k in range(count)},
        name=f"jaxland_whole_{method.__name__.lower()}",
        **options,
    )(*data, *tables, *leaves)
    return kind.unflatten(found[:count])
