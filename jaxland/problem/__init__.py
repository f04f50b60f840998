"""What every system is handed: a loss, its parameters, its data, its symmetry."""

from jaxland.problem.losses import L2, cross_entropy, squared_error
from jaxland.problem.problem import Problem

__all__ = ["L2", "Problem", "cross_entropy", "squared_error"]
