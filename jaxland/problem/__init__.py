"""What every system is handed: a loss, its parameters, its data, its symmetry."""

from jaxland.problem.coordinate_symmetries import PeriodicSymmetry, PermutationSymmetry
from jaxland.problem.losses import L2, cross_entropy, poisson, squared_error
from jaxland.problem.particles import ParticleSymmetry
from jaxland.problem.problem import Problem
from jaxland.problem.scale import Scale
from jaxland.problem.symmetry import Symmetry

__all__ = [
    "L2",
    "ParticleSymmetry",
    "PeriodicSymmetry",
    "PermutationSymmetry",
    "Problem",
    "Scale",
    "Symmetry",
    "cross_entropy",
    "poisson",
    "squared_error",
]
