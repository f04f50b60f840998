"""Transition states: eigenvector-following with exact Hessians, and its hybrid with Hessian-vector products.

Both follow one mode uphill and minimise in all others (Cerjan & Miller 1981; Munro & Wales 1999), one evaluation per
pass. Items are a ``Guess``: the start and the direction to follow first; v = 0 follows the lowest mode.

following.py  all modes at once, from exact Hessians that serve for several steps
turns.py      the same for lanes side by side, whose Hessians are taken together
hybrid.py     the lowest mode by Lanczos, L-BFGS across it
"""

from jaxland.core.solvers.saddle.following import (
    EigenvectorFollowing,
    Guess,
    Probe,
    Saddle,
    everywhere,
    following_step,
    where_asked,
)
from jaxland.core.solvers.saddle.hybrid import HybridFollowing, Softest, softest, softest_of
from jaxland.core.solvers.saddle.turns import InTurns

__all__ = [
    "EigenvectorFollowing",
    "Guess",
    "HybridFollowing",
    "InTurns",
    "Probe",
    "Saddle",
    "Softest",
    "everywhere",
    "following_step",
    "softest",
    "softest_of",
    "where_asked",
]
