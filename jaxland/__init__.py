"""jaxland explains a trained model by the physics of its loss."""

from jaxland.errors import JaxlandError
from jaxland.models import Model, from_equinox, from_function, from_linen, from_nnx, mlp
from jaxland.problem import Problem

__version__ = "0.1.0"

__all__ = [
    "JaxlandError",
    "Model",
    "Problem",
    "__version__",
    "from_equinox",
    "from_function",
    "from_linen",
    "from_nnx",
    "mlp",
]
