"""From starts to audited stationary points: quench, saddle search, downhill paths, bands, all through lanes.

Every point handed out was evaluated once more, with its Hessian: rms gradient below tolerance, index as claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from numpy.typing import DTypeLike

from jaxland.core.energy.kernels import Kernel, coarse_far
from jaxland.core.pallas import whole
from jaxland.core.solvers import band, fleet, saddle, threads
from jaxland.core.solvers.batches import map_stacked
from jaxland.core.solvers.precision import Plan, quench_mixed
from jaxland.core.solvers.protocol import Layout, Solver, Status
from jaxland.core.solvers.quench import BFGS, LBFGS, Informed, Newton, Start, Walk
from jaxland.errors import ArgumentError, PrecisionError
from jaxland.landscape.search.auditing import Audit, exact_audit, inverse_curvature, lanczos_audit, newton_step
from jaxland.landscape.search.displacement import FEW
from jaxland.landscape.search.hopping import hop_by_hop
from jaxland.landscape.search.kinks import may_kink, sampling
from jaxland.landscape.search.pipeline import Pipeline
from jaxland.landscape.search.points import (
    USABLE,
    Point,
    Tolerances,
    TransitionState,
    are_stationary,
    joined,
    peaks,
    points_of,
    sides,
)
from jaxland.landscape.search.settings import PRECISIONS
from jaxland.landscape.search.solving import SHORT, Solving
from jaxland.problem.problem import Problem

# Parameters up to which an exact Hessian pays: in every step of a quench, of a saddle search, to finish a stubborn
# quench, and to audit a point once (measured on a CPU with one-hidden-layer networks).
EXACT_QUENCH = 64
EXACT_SADDLE = 120
CLOSED_SADDLE = 600  # where a Hessian is one product of matrices over the rows
EXACT_FINISH = 450
EXACT_AUDIT = 2500
DENSE_BFGS = 1500
_FEW = 12
# Rms gradient from which Newton steps with exact Hessians take over where they pay.
_ROUGH = 1e-5
_LANCZOS = 12
# Rows a parameter below which a GPU takes L-BFGS: 24 N^2 bytes of an inverse Hessian against 4 N n operations.
_DEAR = 14
# Rms gradient from which a quench goes on by the exact curvature, and the least curvature that it then assumes.
_NEAR, _LEAST = 1e-3, 1e-3


def require_float64(dtype: DTypeLike) -> None:
    """Raise ``PrecisionError`` unless a problem's parameters, of this dtype, are float64."""
    if dtype != np.float64:
        raise PrecisionError(
            f"landscapes need float64, the problem is {np.dtype(dtype)}: build it with "
            'dtype="float64", as Problem.from_model and from_energy take it (the jaxland command does so by itself)'
        )


def _sampled(problem: Problem, rows: int, seed: int) -> Problem:
    """The same problem over some of its rows."""
    chosen = np.sort(np.random.default_rng([seed, 13]).permutation(problem.n)[:rows])
    return problem.with_data(*jax.tree.map(lambda a: a[chosen], problem.data))


class Engine(Solving):
    """Quenches, saddle searches and bands of one problem, each in batches through lanes.

    Args:
        problem: in float64.
        tolerances: see ``Tolerances``.
        layout: of the lanes; default by device.
        mesh: devices with an axis "lanes" to shard them over; default all local devices, where there are several.
        sample: (rows, seed) over which Hessians are taken far from rest; None: all; on accelerators always all.
        exact: whether points take one more Newton step before they are audited, to rounding.
        precision: "double", or "mixed": quenches search in float32 and finish in float64 (``core.precision``).
        should_stop: asked between blocks of passes.

    Attributes:
        work: what has been spent, in gradients (a count, not a time: the same on every machine).
        lost: where each of the last quenches gave up [N]; None where it ended in a minimum or was cut off.

    Raises:
        PrecisionError: the problem is not in float64.
    """

    def __init__(
        self,
        problem: Problem,
        tolerances: Tolerances | None = None,
        *,
        layout: Layout | None = None,
        mesh: Mesh | None = None,
        max_step: float = 1.0,
        images: int = 11,
        exact: bool = False,
        precision: str = "double",
        sample: tuple[int, int] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        require_float64(problem.dtype)
        if precision not in PRECISIONS:
            raise ArgumentError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        self.plan = Plan.for_backend(tol=(tolerances or Tolerances()).rms) if precision == "mixed" else None
        self._single = problem.astype("float32").kernel if self.plan else None
        self.problem, self.kernel = problem, problem.kernel
        self.tolerances = tolerances or Tolerances()
        if sample is not None and not threads.on_accelerator():
            # A Newton step squares a relative error: from here on one or two whole Hessians suffice.
            near = 3.0 * float(np.sqrt(self.tolerances.rms))
            self.kernel = coarse_far(self.kernel, _sampled(problem, *sample).kernel, near)
        super().__init__(layout or Layout.default(size=problem.size), mesh, should_stop)
        self.images, self.max_step = images, max_step
        self.lost: list[np.ndarray | None] = []
        # A Hessian and its eigenvectors against a gradient: about N / 3, measured on networks of 27 to 52 parameters.
        self.curved = max(1, problem.size // 3)
        kernel, tol = self.kernel, self.tolerances
        self.refine = None
        if exact and problem.size <= EXACT_AUDIT:
            self.refine = newton_step(kernel.first, kernel.second, tol.zero)
        self.sampling = sampling(kernel, problem.size) if may_kink(problem) else None
        if problem.size <= EXACT_AUDIT:
            self.inspect = exact_audit(kernel.second, tol.zero)
        else:
            self.inspect = lanczos_audit(kernel.first, kernel.product, tol.zero, min(problem.size, 200))

    @cached_property
    def pipeline(self) -> Pipeline | None:
        """The same in jobs of several stages, for a CPU; None where whole batches go to accelerators.

        Several devices and mixed precision go in batches on a CPU too.
        """
        if threads.on_accelerator() or self.mesh is not None or self.plan is not None:
            return None
        size = self.problem.size
        return Pipeline(self, _ROUGH if size <= EXACT_QUENCH else None, size <= EXACT_FINISH)

    @property
    def _curves_cheaply(self) -> bool:
        """Whether saddle searches take exact Hessians.

        By counting operations, not by the clock: what a seed finds must not depend on how busy a machine was.
        """
        size, rows = self.problem.size, max(self.problem.n, 1)
        closed = self.kernel.hessian_cost <= 3.0 * rows * size**2
        return size <= (CLOSED_SADDLE if closed else EXACT_SADDLE)

    @cached_property
    def informed(self) -> Callable | None:
        """``(x, data) -> inverse Hessian`` that quenches set off with; None where gradients alone are cheaper."""
        size = self.problem.size
        pays = EXACT_QUENCH < size <= DENSE_BFGS and self.problem.n and self._curves_cheaply
        if not pays or threads.on_accelerator():
            return None
        return inverse_curvature(self.kernel.second, _LEAST)

    def audit(self, xs: np.ndarray | Sequence[np.ndarray]) -> list[Point]:
        """Energy, gradient, Hessian spectrum at each of the points [N]."""
        if not len(xs):
            return []
        xs = np.asarray(xs)
        return points_of(xs, self._inspected(xs))

    def _inspected(self, xs: np.ndarray) -> Audit:
        """What an audit evaluates at each point [k, N], stacked."""
        self.work += self.curved * len(xs)
        return map_stacked(self.inspect, xs, self.kernel.data)

    def quench(
        self, starts: np.ndarray | Sequence[np.ndarray], *, max_step: float | None = None
    ) -> list[Point | None]:
        """The minimum below each start [N]; None where none was reached and verified.

        Quasi-Newton, then Newton with exact Hessians: on a CPU from a loose tolerance where they are cheap, elsewhere
        only for starts that did not end in a minimum (a Newton step costs tens of gradients where lanes wait for one
        another; from 1e-5 to 1e-9 BFGS takes thirty). Then the audit; ``lost`` tells where the others ended.
        """
        if not len(starts):
            return []
        step = self.max_step if max_step is None else max_step
        self.lost = [None] * len(starts)
        if self.plan is not None and not self._fleet:
            return self._quench_mixed(starts, step)
        steps = np.full(len(starts), step)
        kernel, dtype, tol, cheap = self._searching
        status, found = self._descend(kernel, Start(np.asarray(starts, dtype), steps.astype(dtype)), tol)
        if found is None:
            return [None] * len(starts)
        xs = found.x.astype(np.float64)
        if self.informed is not None:
            live = np.flatnonzero(status == Status.CONVERGED)
            self._descend_informed(live, status, xs, steps, self._inverses(xs[live]))
        return self._finished(status, xs, steps, cheap)

    @property
    def _searching(self) -> tuple[Kernel, type, float, bool]:
        """What quenches search with: kernel, precision, tolerance; whether Newton's steps finish all of them."""
        if self.plan is not None and self._single is not None and self.problem.size <= EXACT_FINISH:
            # Float32 search, float64 finish: what the search could not bring to its tolerance Newton may still.
            return self._single, np.float32, self.plan.rough, True
        cheap = self.problem.size <= EXACT_QUENCH and not self._fleet
        return self.kernel, np.float64, _ROUGH if cheap else self.loose, cheap

    def hops(self, walks: Walk) -> list[list[Point | None]]:
        """The minimum that each hop of each walker ends in; None where none was reached and verified.

        ``lost`` tells where the others ended, hops of a walker side by side.
        """
        kernel, dtype, tol, cheap = self._searching
        items = jax.tree.map(lambda a: np.asarray(a, dtype), walks)
        program = whole.chosen_hops(kernel, self.problem.n, self.descent(tol), items) if self._fleet else None
        if program is None:
            found, self.lost = hop_by_hop(self, walks)
            return found
        ended = self._counted(program, items, kernel.data, program.lanes, 1).result
        many, several, size = walks.kicks.shape
        steps, xs = (a.astype(np.float64) for a in (np.repeat(walks.max_step, several), ended.x.reshape(-1, size)))
        points = self._finished(ended.status.ravel(), xs, steps, cheap)
        return [points[k * several : (k + 1) * several] for k in range(many)]

    @property
    def loose(self) -> float:
        """Rms gradient to which a quench goes by gradients alone."""
        return self.tolerances.rms if self.informed is None else _NEAR

    def _inverses(self, xs: np.ndarray) -> np.ndarray:
        """What ``informed`` says of each point [k, N]."""
        assert self.informed is not None
        self.work += self.curved * len(xs)
        return map_stacked(self.informed, xs, self.kernel.data) if len(xs) else np.zeros((0, *xs.shape[1:] * 2))

    def _descend_informed(
        self, live: np.ndarray, status: np.ndarray, xs: np.ndarray, steps: np.ndarray, inverses: np.ndarray
    ) -> None:
        """Go on from the ``live`` ones of ``xs`` by known curvature; status and coordinates are replaced."""
        if not len(live):
            return
        items = Informed(xs[live], steps[live], inverses)
        ended = self._solve(self.descent(self.tolerances.rms), self.kernel.first, items, self.kernel.data)
        status[live] = ended.status
        if ended.result is not None:
            xs[live] = ended.result.x

    def _finished(self, status: np.ndarray, x: np.ndarray, steps: np.ndarray, cheap: bool) -> list[Point | None]:
        """Newton steps where they pay or are needed, and the audit."""
        points: list[Point | None] = [None] * len(steps)
        lost = np.isin(status, USABLE)
        rest = lost.copy()  # of Newton's steps
        if not cheap:
            ended = np.flatnonzero(status == Status.CONVERGED)
            lost[self._audit_into(points, ended, x[ended], 0)] = False
            # In a fleet what came to rest on a saddle goes on as well.
            rest = lost & (self._fleet | (status != Status.CONVERGED))
        left = np.flatnonzero(rest)
        if len(left) and self.problem.size <= EXACT_FINISH:
            items = Start(x[left], steps[left])
            finish = self._solve(self.polish(), self.kernel.second, items, self.kernel.data, self.curved)
            status[left] = finish.status
            if finish.result is not None:
                x[left] = finish.result.x
            ended = left[finish.status == Status.CONVERGED]
            lost[left] = np.isin(finish.status, USABLE)
            lost[self._audit_into(points, ended, x[ended], 0)] = False
        self.lost = [where if gone else None for where, gone in zip(x, lost.tolist())]
        return points

    def descent(self, tol: float) -> BFGS | LBFGS:
        """Quasi-Newton to a rms gradient ``tol``.

        Without data a gradient costs less than a dense update, and repulsive walls spoil the dense estimate: 13
        Lennard-Jones atoms take 165 gradients against 720, 20 atoms 190 against 1,270.
        """
        size = self.problem.size
        if self._fleet and size > EXACT_QUENCH and self.problem.n < _DEAR * size and self.kernel.dense is not None:
            return LBFGS(tol, 10_000)
        dense = size <= DENSE_BFGS and (self.problem.n or size <= _FEW)
        return BFGS(tol, 4000) if dense else LBFGS(tol, 50_000)

    def polish(self) -> Newton:
        """Newton steps with exact Hessians, to the tolerance of a stored point."""
        return Newton(self.tolerances.rms, 500, zero=self.tolerances.zero)

    def search(self) -> tuple[Solver, Callable, int]:
        """Saddle search: the solver, what it evaluates, and what a curvature costs in gradients (see ``price``)."""
        if self._curves_cheaply:
            # Of 24 searches with 210 parameters those that arrive take 12 to 79 evaluations.
            most = 300 if self.problem.size <= EXACT_SADDLE else 120
            # Among hundreds of parameters saddles lie close to their minima, and long steps go past them.
            following = saddle.EigenvectorFollowing(self.tolerances.rms, most, zero=self.tolerances.zero)
            if self.problem.size > FEW:
                following = replace(following, radius=0.05, max_radius=0.2)
            if (threads.on_accelerator() and not self._fleet) or not self.problem.n:
                # Side by side a lane that wants a Hessian would have all of them compute theirs; without rows to sum
                # over one costs little more than a gradient.
                return replace(following, keep=0), saddle.everywhere(self.kernel.second), self.curved
            return following, saddle.where_asked(self.kernel.first, self.kernel.second), self.curved
        hybrid = saddle.HybridFollowing(self.tolerances.rms, 3000)
        return hybrid, saddle.softest_of(self.kernel, _LANCZOS), 1 + 2 * _LANCZOS

    def relaxation(self) -> tuple[band.ElasticBand, Callable]:
        """Elastic bands: the solver, and what it evaluates."""
        return band.ElasticBand(self.images, max_step=0.2 * self.max_step), band.along_band(self.kernel.first)

    def _descend(self, kernel: Kernel, items: Start, tol: float) -> tuple[np.ndarray, Any]:
        """See ``descent``: status [jobs] and, where any job has ended, what was found."""
        solver = self.descent(tol)
        if self._fleet and (program := whole.chosen(kernel, self.problem.n, solver, items)):
            ended = self._counted(program, items, kernel.data, program.lanes, 1)
        else:
            ended = self._solve(solver, kernel.first, items, kernel.data)
        return np.array(ended.status), jax.tree.map(np.array, ended.result)

    def _quench_mixed(self, starts: np.ndarray | Sequence[np.ndarray], max_step: float) -> list[Point | None]:
        assert self._single is not None
        found = quench_mixed(
            self._single,
            self.kernel,
            starts,
            plan=self.plan,
            max_step=max_step,
            layout=self.layout,
            should_stop=self.should_stop,
        )
        ended = [i for i, got in enumerate(found) if got is not None]
        self.work += sum(got.single + self.curved * got.double for got in found if got is not None)
        xs = np.array([got.x for got in found if got is not None])
        return self._audited(np.array(ended, int), xs, len(starts), 0)

    def _audited(self, places: np.ndarray, xs: np.ndarray, count: int, index: int) -> list[Point | None]:
        """Points that pass the audit with this index, at their places among ``count``."""
        out: list[Point | None] = [None] * count
        self._audit_into(out, places, xs, index)
        return out

    def _audit_into(self, out: list[Point | None], places: np.ndarray, xs: np.ndarray, index: int) -> np.ndarray:
        """Put points that pass the audit with this index at their places; which places these are."""
        if not len(xs):
            return places
        if self.refine is not None:
            xs = map_stacked(self.refine, xs, self.kernel.data)
        audit = self._inspected(xs)
        good = np.flatnonzero(are_stationary(audit, index, self.tolerances, bool(self.problem.symmetry.zero_modes)))
        passed = jax.tree.map(lambda leaf: leaf[good], audit)
        for place, point in zip(places[good].tolist(), points_of(xs[good], passed)):
            out[place] = point
        return places[good]

    def saddles(self, guesses: Sequence[saddle.Guess]) -> list[Point | None]:
        """The saddle of index 1 reached from each guess; None where none was reached and verified."""
        if not guesses:
            return []
        items = saddle.Guess(*(np.stack(leaves) for leaves in zip(*guesses)))
        solver, evaluate, weight = self.search()
        if self._fleet and isinstance(solver, saddle.EigenvectorFollowing) and solver.keep:
            kernel = self.kernel
            turns = saddle.InTurns(solver=solver, evaluate=kernel.second, first=kernel.first, passes=SHORT)
            found = self._counted(turns, items, kernel.data, self._squad, weight)
        else:
            found = self._solve(solver, evaluate, items, self.kernel.data, weight)
        ended = np.flatnonzero(found.status == Status.CONVERGED)
        xs = found.result.x[ended] if len(ended) else np.zeros((0, self.problem.size))
        return self._audited(ended, xs, len(guesses), 1)

    def downhill(self, saddles: Sequence[Point]) -> list[TransitionState | None]:
        """Both downhill paths of each saddle; None where an end is not a verified minimum below it."""
        if not saddles:
            return []
        starts, step = sides(saddles), 0.2 * self.max_step
        if self.informed is None:
            ends = self.quench(starts, max_step=step)
        else:
            # The saddle's own curvature says enough of both paths.
            xs, count = starts, len(starts)
            status, steps = np.full(count, int(Status.CONVERGED), np.int32), np.full(count, step)
            inverses = np.repeat(self._inverses(np.stack([point.x for point in saddles])), 2, axis=0)
            self.lost = [None] * count
            self._descend_informed(np.arange(count), status, xs, steps, inverses)
            ends = self._finished(status, xs, steps, False)
        return [joined(point, ends[2 * k], ends[2 * k + 1]) for k, point in enumerate(saddles)]

    def transition_states(self, guesses: Sequence[saddle.Guess]) -> list[TransitionState | None]:
        """``saddles`` and ``downhill`` in one."""
        points = self.saddles(guesses)
        live = [i for i, point in enumerate(points) if point is not None]
        out: list[TransitionState | None] = [None] * len(guesses)
        for i, ts in zip(live, self.downhill([p for p in points if p is not None])):
            out[i] = ts
        return out

    def bands(self, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[list[saddle.Guess]]:
        """Candidates for transition states between each pair of (aligned) minima: local maxima, highest first."""
        if not pairs:
            return []
        solver, evaluate = self.relaxation()
        items, data = np.array(pairs), self.kernel.data
        usual = fleet.Vmapped(solver, evaluate, SHORT)
        if self._fleet and (program := whole.chosen_band(self.kernel, self.problem.n, usual, items)):
            found = self._counted(program, items, data, program.lanes, self.images)
        else:
            found = self._solve(solver, evaluate, items, data, self.images)
        return [
            peaks(*(leaf[k] for leaf in found.result[:3])) if code in USABLE else []
            for k, code in enumerate(found.status.tolist())
        ]
