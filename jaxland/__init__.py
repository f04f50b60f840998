"""jaxland explains a trained model by the physics of its loss."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxland.errors import JaxlandError
    from jaxland.models.model import Model, from_equinox, from_function, from_linen, from_nnx, mlp
    from jaxland.problem.problem import Problem

__version__ = "0.3.0"

__all__ = [
    "JaxlandError",
    "Model",
    "Problem",
    "from_equinox",
    "from_function",
    "from_linen",
    "from_nnx",
    "mlp",
]

_HOME = {"JaxlandError": "errors", "Problem": "problem"}


def __getattr__(name: str) -> Any:
    # Imported when first used: the command line sets XLA's environment before JAX is there.
    if name in __all__:
        return getattr(import_module(f"jaxland.{_HOME.get(name, 'models')}"), name)
    raise AttributeError(f"module 'jaxland' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
