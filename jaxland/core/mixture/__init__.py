"""Gaussian mixtures: what they are, and where fits of them start; ``core.solvers.em`` fits them.

density.py  coordinates, densities, marginals
starts.py   first mixtures, and larger ones cut from smaller
"""

from jaxland.core.mixture.density import (
    DEAD,
    LOG_2PI,
    Mixture,
    covariance,
    decode,
    encode,
    features,
    log_density,
    marginal,
    natural,
    pad,
)
from jaxland.core.mixture.starts import START_KINDS, split, start

__all__ = [
    "DEAD",
    "LOG_2PI",
    "START_KINDS",
    "Mixture",
    "covariance",
    "decode",
    "encode",
    "features",
    "log_density",
    "marginal",
    "natural",
    "pad",
    "split",
    "start",
]
