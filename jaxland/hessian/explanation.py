"""Everything a curvature says of some predictions, in one call: what ``jaxland hessian`` computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pandas as pd

from jaxland.hessian.building import curvature
from jaxland.hessian.curvature import Curvature
from jaxland.hessian.extrapolation import Extrapolation, extrapolation
from jaxland.hessian.influence import Influence, influence
from jaxland.hessian.options import ExplainKeywords, ExplainOptions
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

    __repr__ = brief

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
    return Explanation(
        curvature=made,
        influence=influence(made, test, of=o.of, top=o.top, full=False),
        uncertainty=uncertainty(made, test, method=method, samples=o.samples or 200, seed=o.seed),
        extrapolation=extrapolation(made, test, m=o.drop_modes),
        spectrum=spectrum(made, lowest=o.modes, highest=o.modes, seed=o.seed),
        losses=np.asarray(problem.losses(), float),
    )
