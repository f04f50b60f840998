"""Inputs of float64 that meet a model of float64 are explained in float64, whatever the caller's x64 state."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxland.trim.model import adapt

if TYPE_CHECKING:
    from jaxland.trim.attribute import Attribution

F = TypeVar("F", bound=Callable[..., Any])


def as_given(f: object, x: PyTree, params: PyTree) -> AbstractContextManager[object]:
    """float64 where x is, and the model has no parameter in less; JAX's own state elsewhere."""
    given = np.result_type(x.dtype) if isinstance(x, np.ndarray | jax.Array) else None
    if given != np.float64 or jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        return nullcontext()
    with jax.enable_x64(True):
        try:
            kept = jax.tree.leaves(adapt(f, params, jnp.asarray(x[:1])).params)
        except Exception:  # whatever is wrong with the model is said where it is used
            return nullcontext()
        kinds = {leaf.dtype for leaf in kept if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)}
    return jax.enable_x64(True) if kinds <= {np.dtype(np.float64)} else nullcontext()


def in_its_precision(function: F) -> F:
    """Decorator: runs in the precision in which the attribution, the first argument, was made."""

    @wraps(function)
    def called(attribution: Attribution, *arguments: Any, **keywords: Any) -> Any:
        wide = attribution.play.game.rows.x.dtype == np.float64
        with jax.enable_x64(True) if wide else nullcontext():
            return function(attribution, *arguments, **keywords)

    return called  # type: ignore[return-value]
