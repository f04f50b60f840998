"""Every exception jaxland raises on purpose. Each message names what is wrong, where, and what to do."""

from __future__ import annotations


class JaxlandError(Exception):
    """Base class: catch this to catch everything jaxland raises on purpose."""


class DataError(JaxlandError, ValueError):
    """The data cannot be used: missing or non-finite values, constant columns, one class, wrong shapes."""


class ArgumentError(JaxlandError, ValueError):
    """An argument has a value that makes no sense here."""


class ProblemError(JaxlandError, TypeError):
    """The problem lacks what the operation needs (per-example losses, data, a symmetry, a differentiable model)."""


class PrecisionError(JaxlandError, TypeError):
    """The operation needs float64 and was given something else."""


class ConvergenceError(JaxlandError, ArithmeticError):
    """An iteration ended without an answer that can be trusted."""


class StoreError(JaxlandError, OSError):
    """A store cannot be read or written: damaged, locked, full disk, or of another problem."""


class StoreLockedError(StoreError):
    """Another process writes the store."""


class DependencyError(JaxlandError, ImportError):
    """An optional package is needed; the message says which extra brings it."""

    @classmethod
    def of(cls, package: str, extra: str) -> DependencyError:
        """The sentence for a package that one of jaxland's extras brings."""
        return cls(f"{package} is not installed: pip install 'jaxland[{extra}]'")
