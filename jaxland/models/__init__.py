"""Models: a pure ``apply(params, x)``, its parameters, and what is known of its symmetry.

``mlp`` builds one; ``from_nnx``, ``from_linen``, ``from_equinox`` and ``from_function`` adapt what exists.
"""

from jaxland.models.adapters import from_equinox, from_function, from_linen, from_nnx
from jaxland.models.checkpoints import load, save
from jaxland.models.mlp import mlp
from jaxland.models.model import Model

__all__ = ["Model", "from_equinox", "from_function", "from_linen", "from_nnx", "load", "mlp", "save"]
