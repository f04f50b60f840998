"""Quenches, saddle searches and bands as jobs of several stages (``core.solvers.flow``): what runs on a CPU.

The same steps as ``stationary.Engine`` takes with whole batches on an accelerator; here every point goes on to its
next stage as soon as a core is free.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from jaxland.core.solvers.flow import Answer, Job, Request, Stage, together
from jaxland.core.solvers.protocol import Status
from jaxland.core.solvers.quench import Informed, Start
from jaxland.core.solvers.saddle import Guess
from jaxland.landscape.search.auditing import Audit
from jaxland.landscape.search.kinks import Kinks, Sample, judge
from jaxland.landscape.search.points import (
    USABLE,
    Point,
    TransitionState,
    is_stationary,
    joined,
    peaks,
    point_of,
    price,
    sides,
)

if TYPE_CHECKING:
    from jaxland.landscape.search.stationary import Engine


class Meter:
    """What a job has spent, in gradients: a count, not a time, so the same on every machine.

    Attributes:
        work: spent.
        lost: where its last quench gave up [N]; None where it ended in a minimum.
    """

    def __init__(self) -> None:
        self.work = 0
        self.lost: np.ndarray | None = None


class Pipeline:
    """The jobs of one problem; each takes the ``Meter`` that counts its work.

    Args:
        engine: whose solvers and tolerances they use.
        newton_above: rms gradient from which Newton steps finish a quench; None: only where quasi-Newton failed.
        newton: whether there are any.
    """

    def __init__(self, engine: Engine, newton_above: float | None, newton: bool) -> None:
        self.engine, self.tolerances = engine, engine.tolerances
        self.always, self.newton = newton_above is not None, newton
        kernel = engine.kernel
        rough = engine.descent(engine.loose if newton_above is None else newton_above)
        self.descent = Stage(rough, kernel.first, kernel.data)
        self.audit = Stage(None, engine.inspect, kernel.data)
        solver, evaluate, self.weight = engine.search()
        self.climb = Stage(solver, evaluate, kernel.data)
        self.lifted = bool(engine.problem.symmetry.zero_modes)

    @cached_property
    def curvature(self) -> Stage | None:
        """The inverse Hessian that a quench sets off with; None where gradients alone are cheaper."""
        informed = self.engine.informed
        return None if informed is None else Stage(None, informed, self.engine.kernel.data)

    @cached_property
    def informed(self) -> Stage:
        """Quasi-Newton from a known curvature."""
        return Stage(self.engine.descent(self.tolerances.rms), self.engine.kernel.first, self.engine.kernel.data)

    @cached_property
    def polish(self) -> Stage:
        """Newton steps."""
        return Stage(self.engine.polish(), self.engine.kernel.second, self.engine.kernel.data)

    @cached_property
    def relaxation(self) -> Stage:
        """Elastic bands."""
        return Stage(*self.engine.relaxation(), self.engine.kernel.data)

    @cached_property
    def refine(self) -> Stage | None:
        """One more Newton step."""
        refine = self.engine.refine
        return None if refine is None else Stage(None, refine, self.engine.kernel.data)

    @cached_property
    def sampling(self) -> Stage | None:
        """Gradients around a point where a quench gave up."""
        sample = self.engine.sampling
        return None if sample is None else Stage(None, sample, self.engine.kernel.data)

    def kinks(self, meter: Meter) -> Job[Kinks]:
        """Whether the job's last quench ended on a kink."""
        if meter.lost is None or self.sampling is None:
            return Kinks()
        (answer,) = yield [Request(self.sampling, meter.lost)]
        return judge(meter.lost, Sample(*answer.result))

    def _audited(self, meter: Meter, x: np.ndarray, index: int) -> Job[Point | None]:
        if self.refine is not None:
            (answer,) = yield [Request(self.refine, x)]
            x = np.asarray(answer.result)
        (answer,) = yield [Request(self.audit, x)]
        meter.work += self.engine.curved
        point = point_of(x, Audit(*answer.result))
        return point if is_stationary(point, index, self.tolerances, self.lifted) else None

    def quench(self, meter: Meter, start: np.ndarray, max_step: float) -> Job[Point | None]:
        """The minimum below a start [N]; None where none was reached and verified."""
        (answer,) = yield [Request(self.descent, Start(np.asarray(start, np.float64), np.float64(max_step)))]
        meter.work += int(answer.result.evaluations)
        if self.curvature is not None and answer.status == Status.CONVERGED:
            inverse = yield from self._inverse(meter, answer.result.x)
            answer = yield from self._informed(meter, answer.result.x, max_step, inverse)
        return (yield from self._finished(meter, answer, max_step))

    def _inverse(self, meter: Meter, x: np.ndarray) -> Job[np.ndarray]:
        """The inverse Hessian there [N, N]."""
        assert self.curvature is not None
        (answer,) = yield [Request(self.curvature, x)]
        meter.work += self.engine.curved
        return np.asarray(answer.result)

    def _informed(self, meter: Meter, x: np.ndarray, max_step: float, inverse: np.ndarray) -> Job[Answer]:
        """Downhill by a known curvature."""
        (answer,) = yield [Request(self.informed, Informed(x, np.float64(max_step), inverse))]
        meter.work += int(answer.result.evaluations)
        return answer

    def _path(self, meter: Meter, start: np.ndarray, max_step: float, inverse: np.ndarray) -> Job[Point | None]:
        """The minimum below the side of a saddle, whose own curvature says enough of both of its paths."""
        answer = yield from self._informed(meter, start, max_step, inverse)
        return (yield from self._finished(meter, answer, max_step))

    def _finished(self, meter: Meter, answer: Answer, max_step: float) -> Job[Point | None]:
        """Newton steps where they pay or are needed, and the audit."""
        if self.newton and answer.status in USABLE and (self.always or answer.status != Status.CONVERGED):
            (answer,) = yield [Request(self.polish, Start(answer.result.x, np.float64(max_step)))]
            meter.work += self.engine.curved * int(answer.result.evaluations)
        meter.lost = np.asarray(answer.result.x) if answer.status in USABLE else None
        if answer.status != Status.CONVERGED:
            return None
        point = yield from self._audited(meter, answer.result.x, 0)
        if point is not None:
            meter.lost = None
        return point

    def saddle(self, meter: Meter, guess: Guess) -> Job[Point | None]:
        """The saddle of index 1 reached from a guess; None where none was reached and verified."""
        (answer,) = yield [Request(self.climb, guess)]
        meter.work += int(price(answer.result, self.weight))
        if answer.status != Status.CONVERGED:
            return None
        return (yield from self._audited(meter, answer.result.x, 1))

    def downhill(self, meter: Meter, point: Point) -> Job[TransitionState | None]:
        """Both downhill paths of a saddle; None where an end is not a verified minimum below it."""
        step = 0.2 * self.engine.max_step
        if self.curvature is None:
            paths = [self.quench(meter, start, step) for start in sides([point])]
        else:
            inverse = yield from self._inverse(meter, point.x)
            paths = [self._path(meter, start, step, inverse) for start in sides([point])]
        a, b = yield from together(paths)
        return joined(point, a, b)

    def transition_state(self, meter: Meter, guess: Guess) -> Job[TransitionState | None]:
        """``saddle`` and ``downhill`` in one."""
        point = yield from self.saddle(meter, guess)
        return None if point is None else (yield from self.downhill(meter, point))

    def band(self, meter: Meter, first: np.ndarray, second: np.ndarray) -> Job[list[Guess]]:
        """Candidates for transition states between two aligned minima: local maxima, highest first."""
        (answer,) = yield [Request(self.relaxation, np.array([first, second]))]
        meter.work += self.engine.images * int(answer.result.evaluations)
        return peaks(*answer.result[:3]) if answer.status in USABLE else []
