"""Walking through a traced program, whatever it calls, loops over or branches into."""

from __future__ import annotations

from collections.abc import Iterator

from jax.extend import core as jex


def inside(equation: jex.JaxprEqn) -> Iterator[jex.Jaxpr]:
    """The programs an equation runs: of a call, a loop, every branch."""
    for found in jex.jaxprs_in_params(equation.params):
        yield getattr(found, "jaxpr", found)


def equations(jaxpr: jex.Jaxpr) -> Iterator[jex.JaxprEqn]:
    """Every equation, those of inner programs after the one that runs them."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in inside(equation):
            yield from equations(inner)
