"""What every system is handed: a loss, its parameters, its data, its symmetry."""

from jaxland.problem.problem import L2, Problem, cross_entropy, squared_error

__all__ = ["L2", "Problem", "cross_entropy", "squared_error"]
