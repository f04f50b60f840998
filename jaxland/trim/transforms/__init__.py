"""Transforms to attribute in: s = T(x), with an inverse and groups over s.

base.py         what a transform offers; the identity
fourier.py      rfft, dct
wavelets.py     dwt
linear.py       any matrix of components, fitted estimators
components.py   pca, nmf, ica from data
compose.py      one after another; two functions of your own
"""

from jaxland.trim.transforms.base import Transform, identity
from jaxland.trim.transforms.components import ica, nmf, pca
from jaxland.trim.transforms.compose import compose, pair
from jaxland.trim.transforms.fourier import dct, rfft
from jaxland.trim.transforms.linear import fitted, linear
from jaxland.trim.transforms.wavelets import dwt

__all__ = [
    "Transform",
    "compose",
    "dct",
    "dwt",
    "fitted",
    "ica",
    "identity",
    "linear",
    "nmf",
    "pair",
    "pca",
    "rfft",
]
