"""Models: a pure ``apply(params, x)``, its parameters, and what is known of its symmetry."""

from jaxland.models.model import Model, from_equinox, from_function, from_linen, from_nnx, load, mlp, save

__all__ = ["Model", "from_equinox", "from_function", "from_linen", "from_nnx", "load", "mlp", "save"]
