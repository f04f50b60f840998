"""Which training data a prediction rests on, how sure it is, whether it extrapolates: one treatment of the Hessian.

After Dawid, Huembeli, Tomza, Lewenstein & Dauphin, MLST 3 (2022).
"""

from jaxland.hessian.building import curvature
from jaxland.hessian.curvature import Curvature, CurvatureWarning
from jaxland.hessian.explanation import Explanation, explain
from jaxland.hessian.extrapolation import Extrapolation, extrapolation
from jaxland.hessian.influence import damping_sweep, influence, self_influence
from jaxland.hessian.influence_results import DampingSweep, Influence, SelfInfluence
from jaxland.hessian.keeping import load
from jaxland.hessian.minima import Minima, MinimaExtrapolation, MinimaInfluence, MinimaUncertainty, minima
from jaxland.hessian.options import ExplainOptions
from jaxland.hessian.spectrum import Spectrum, null_coordinates, spectra, spectrum
from jaxland.hessian.uncertainty import Uncertainty, resampled_steps, uncertainty

__all__ = [
    "Curvature",
    "CurvatureWarning",
    "DampingSweep",
    "ExplainOptions",
    "Explanation",
    "Extrapolation",
    "Influence",
    "Minima",
    "MinimaExtrapolation",
    "MinimaInfluence",
    "MinimaUncertainty",
    "SelfInfluence",
    "Spectrum",
    "Uncertainty",
    "curvature",
    "damping_sweep",
    "explain",
    "extrapolation",
    "influence",
    "load",
    "minima",
    "null_coordinates",
    "resampled_steps",
    "self_influence",
    "spectra",
    "spectrum",
    "uncertainty",
]
