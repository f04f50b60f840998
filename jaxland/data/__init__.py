"""Tables: built-in sets, one reader for every command, scaling and splits that travel with a model."""

from jaxland.data.datasets import (
    Dataset,
    Scaling,
    Split,
    breast_cancer,
    checkerboard,
    digits,
    load,
    wine,
    xor,
)

__all__ = ["Dataset", "Scaling", "Split", "breast_cancer", "checkerboard", "digits", "load", "wine", "xor"]
