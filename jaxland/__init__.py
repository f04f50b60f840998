"""jaxland explains a trained model by the physics of its loss.

Four systems over one ``Problem``: ``jaxland.landscape`` (with ``jaxland.paths``), ``jaxland.hessian``,
``jaxland.trim`` and ``jaxland.information``; each is imported when it is first used.
"""

from importlib import import_module as _import_module

TYPE_CHECKING = False  # known to type checkers; typing itself takes longer to import than all else here
if TYPE_CHECKING:
    from jaxland import data, errors, hessian, information, landscape, models, paths, problem, progress, trim
    from jaxland.errors import JaxlandError
    from jaxland.models import Model, from_equinox, from_function, from_linen, from_nnx, mlp
    from jaxland.problem import Problem

__version__ = "0.3.0"

__all__ = [
    "JaxlandError",
    "Model",
    "Problem",
    "data",
    "errors",
    "from_equinox",
    "from_function",
    "from_linen",
    "from_nnx",
    "hessian",
    "information",
    "landscape",
    "mlp",
    "models",
    "paths",
    "problem",
    "progress",
    "trim",
]

_HOMES = {
    "JaxlandError": "errors",
    "Problem": "problem",
    **dict.fromkeys(("Model", "from_equinox", "from_function", "from_linen", "from_nnx", "mlp"), "models"),
}


def __getattr__(name: str) -> object:
    # Imported when first used: the command line sets XLA's environment before JAX is there.
    if name in _HOMES:
        return getattr(_import_module(f"jaxland.{_HOMES[name]}"), name)
    if name in __all__:
        return _import_module(f"jaxland.{name}")
    raise AttributeError(f"module 'jaxland' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


del TYPE_CHECKING
