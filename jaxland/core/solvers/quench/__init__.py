"""Minimisers over one lane: dense BFGS and L-BFGS without line search, trust-region Newton with exact Hessians.

All three evaluate once per pass and keep the trial point in the state, so that lanes of a batch stay in step and a
rejected step costs one pass, not an inner loop.

trial.py   where a quench starts and ends; how a trial point is judged
bfgs.py    full inverse Hessian estimate
lbfgs.py   limited memory
newton.py  exact Hessians within a trust region
"""

from jaxland.core.solvers.quench.bfgs import BFGS
from jaxland.core.solvers.quench.lbfgs import LBFGS
from jaxland.core.solvers.quench.newton import Newton, trust_region_step
from jaxland.core.solvers.quench.trial import Hops, Informed, Minimum, Start, Walk, allowed_rise, displaced, rms

__all__ = [
    "BFGS",
    "LBFGS",
    "Hops",
    "Informed",
    "Minimum",
    "Newton",
    "Start",
    "Walk",
    "allowed_rise",
    "displaced",
    "rms",
    "trust_region_step",
]
