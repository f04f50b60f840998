"""A problem's precision is its own: what computes with it does so in that, whatever the caller's x64 state."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from jaxland.problem.problem import Problem

F = TypeVar("F", bound=Callable[..., Any])


def in_precision(function: F) -> F:
    """Decorator: runs in the precision of the problem that is the first ``Problem`` among the arguments.

    An argument counts too that holds one as ``problem``: a curvature, a landscape.
    """

    @wraps(function)
    def called(*arguments: Any, **keywords: Any) -> Any:
        for given in (*arguments, *keywords.values()):
            problem = given if isinstance(given, Problem) else getattr(given, "problem", None)
            if isinstance(problem, Problem):
                with problem.precision():
                    return function(*arguments, **keywords)
        return function(*arguments, **keywords)

    return called  # type: ignore[return-value]
