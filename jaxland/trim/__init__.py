"""Attribution in a transformed space (Singh et al. 2020, arXiv 2003.01926): to frequencies, wavelets or parts.

from jaxland import trim
result = trim.attribute(f, x, transform=trim.rfft(100), method="integrated_gradients", target=1)
"""

from jaxland.core.decomposition import UnsupportedPrimitive, decompose, decompose_parts
from jaxland.trim.attribute import Attribution, CompletenessWarning, CostWarning, ModelWarning, attribute
from jaxland.trim.evaluate import (
    Curve,
    deletion,
    infidelity,
    insertion,
    knock_out,
    power,
    randomised_parameters,
    sensitivity_n,
)
from jaxland.trim.methods import METHODS
from jaxland.trim.model import black_box
from jaxland.trim.transforms import (
    Transform,
    compose,
    dct,
    dwt,
    fitted,
    ica,
    identity,
    linear,
    nmf,
    pair,
    pca,
    rfft,
)

__all__ = [
    "METHODS",
    "Attribution",
    "CompletenessWarning",
    "CostWarning",
    "Curve",
    "ModelWarning",
    "Transform",
    "UnsupportedPrimitive",
    "attribute",
    "black_box",
    "compose",
    "dct",
    "decompose",
    "decompose_parts",
    "deletion",
    "dwt",
    "fitted",
    "ica",
    "identity",
    "infidelity",
    "insertion",
    "knock_out",
    "linear",
    "nmf",
    "pair",
    "pca",
    "power",
    "randomised_parameters",
    "rfft",
    "sensitivity_n",
]
