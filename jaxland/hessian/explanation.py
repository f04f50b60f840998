"""Everything a curvature says of some predictions, in one call: what ``jaxland hessian`` computes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Unpack

import numpy as np
import pandas as pd

from jaxland.data.outputs import OutputUnits
from jaxland.hessian.building import curvature
from jaxland.hessian.curvature import Curvature
from jaxland.hessian.extrapolation import Extrapolation, extrapolation
from jaxland.hessian.influence import influence
from jaxland.hessian.influence_results import Influence
from jaxland.hessian.options import ExplainKeywords, ExplainOptions
from jaxland.hessian.quantity import output_shape
from jaxland.hessian.spectrum import Spectrum, spectrum
from jaxland.hessian.uncertainty import Uncertainty, uncertainty
from jaxland.options import chosen, spelled_out
from jaxland.problem.precision import in_precision
from jaxland.problem.problem import Problem
from jaxland.showing import brief


@dataclass(frozen=True, eq=False)
class Explanation:
    """What predictions rest on, how sure they are, whether they extrapolate.

    Attributes:
        curvature: behind it all, with its warnings.
        influence: of every training row on every test point.
        uncertainty: under resampled training data.
        margin: of the predicted class's lead over the next, for three classes and more; of two the probability says
            it.
        extrapolation: local-ensemble scores.
        spectrum: of the curvature.
        losses: [n] of every training row.
    """

    curvature: Curvature
    influence: Influence
    uncertainty: Uncertainty
    extrapolation: Extrapolation
    spectrum: Spectrum
    losses: np.ndarray
    margin: Uncertainty | None = None

    __repr__ = brief

    def in_units(self, units: OutputUnits) -> Explanation:
        """What was asked of the output, in the units of the file; losses stay as they are."""
        if units.is_plain or self.uncertainty.of != "output":
            return self
        found = self.influence
        if found.of == "output" and not units.log:
            found = replace(
                found,
                of=units.name,
                quantity=units.shown(found.quantity),
                positive_values=units.scale * found.positive_values,
                negative_values=units.scale * found.negative_values,
            )
        elif found.of == "output":
            found = replace(found, of=units.additive)
        spread = self.extrapolation
        spread = replace(
            spread,
            of=units.additive,
            value=spread.value if units.log else units.shown(spread.value),
            scores=units.scale * spread.scores,
            sweep=units.scale * spread.sweep,
            soft=units.scale * spread.soft,
        )
        return replace(self, uncertainty=self.uncertainty.in_units(units), influence=found, extrapolation=spread)

    def could_turn(self, level: float = 0.9) -> np.ndarray | None:
        """Whether another class could be predicted if the training rows were drawn anew, bool [T].

        Within the central interval of the lead over the next class, of two classes of the probability. None where no
        class is predicted.
        """
        if self.margin is not None:
            return self.margin.interval(level)[0] < 0
        return self.uncertainty.interval(level)[0] < 0.5 if self.uncertainty.of == "probability" else None

    def least_certain(self) -> np.ndarray:
        """Test points, widest interval first [T]."""
        low, high = self.uncertainty.interval()
        return np.argsort(low - high, kind="stable")

    def to_pandas(self) -> pd.DataFrame:
        """One row per test point: its quantity, uncertainty and extrapolation scores."""
        scores = self.extrapolation.to_pandas().drop(columns=[self.uncertainty.of], errors="ignore")
        return self.uncertainty.to_pandas().merge(scores, on="test point")

    def _repr_html_(self) -> str:
        return self.curvature._repr_html_() + self.to_pandas().to_html(index=False, max_rows=20)


@in_precision
@spelled_out(ExplainOptions)
def explain(problem: Problem, test: Any, **options: Unpack[ExplainKeywords]) -> Explanation:
    """Influence, uncertainty, extrapolation and spectrum with one curvature.

    Args:
        problem: a trained model with its data.
        test: (x [T, ...], y [T]), or x alone where the quantity needs no targets.
        **options: see ``ExplainOptions``.

    Raises:
        DataError, ArgumentError, ConvergenceError: as the functions it calls.

    >>> import numpy as np
    >>> from jaxland import Problem, from_function
    >>> from jaxland.hessian import explain
    >>> line = from_function(lambda w, x: x @ w, np.array([2.0]))
    >>> problem = Problem.from_model(line, np.array([[1.0], [2.0]]), np.array([[2.0], [4.0]]), loss="squared_error")
    >>> found = explain(problem, np.array([[3.0]]), of="output", modes=1)
    >>> found.spectrum.highest.round(3).tolist()  # twice the mean of x^2
    [5.0]
    """
    o = chosen(ExplainOptions, None, options)
    made = curvature(problem, kind=o.kind, damping=o.damping, method=o.method, seed=o.seed)
    method = "resample" if o.samples else "linear"
    draw = partial(uncertainty, made, test, method=method, samples=o.samples or 200, seed=o.seed)
    unsure = draw()
    many = unsure.of == "probability" and output_shape(problem, "the margin")[1] > 2
    return Explanation(
        curvature=made,
        influence=influence(made, test, of=o.of, top=o.top, full=False),
        uncertainty=unsure,
        extrapolation=extrapolation(made, test, m=o.drop_modes),
        spectrum=spectrum(made, lowest=o.modes, highest=o.modes, seed=o.seed),
        losses=np.asarray(problem.losses(), float),
        margin=draw(of="margin") if many else None,
    )
