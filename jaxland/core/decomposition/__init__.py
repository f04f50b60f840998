"""Contextual decomposition and DeepLIFT for any JAX function, as interpreters over its jaxpr.

graph.py        a traced function as a flat list of operations; which of them form one non-linearity
interpret.py    running it on decomposed values; scan, while, cond
contextual.py   the rules of contextual decomposition
rescale.py      the rules of DeepLIFT
    prefix.py       the affine beginning of a function
"""

from jaxland.core.decomposition.contextual import Decomposition, Mode, decompose, decompose_parts
from jaxland.core.decomposition.graph import UnsupportedPrimitive
from jaxland.core.decomposition.prefix import split_affine
from jaxland.core.decomposition.rescale import rescaled

__all__ = [
    "Decomposition",
    "Mode",
    "UnsupportedPrimitive",
    "decompose",
    "decompose_parts",
    "rescaled",
    "split_affine",
]
