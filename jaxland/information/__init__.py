"""Mutual information with error bars: one pair, or every pair of a latent space at once."""

from jaxland.information.ksg import ksg
from jaxland.information.latents import Disentanglement, InformationMatrix, disentanglement, matrix
from jaxland.information.mutual_information import (
    GaussianMixtureMI,
    categorical_mutual_information,
    conditional_mutual_information,
    kl_marginals,
    mutual_information,
)
from jaxland.information.options import MatrixOptions, Options
from jaxland.information.results import MutualInformation

__all__ = [
    "Disentanglement",
    "GaussianMixtureMI",
    "InformationMatrix",
    "MatrixOptions",
    "MutualInformation",
    "Options",
    "categorical_mutual_information",
    "conditional_mutual_information",
    "disentanglement",
    "kl_marginals",
    "ksg",
    "matrix",
    "mutual_information",
]
