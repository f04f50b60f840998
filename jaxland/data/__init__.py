"""Tables: built-in sets, one reader for every command, scaling and splits that travel with a model.

dataset.py    a checked table
builtin.py    built-in sets
reading.py    the one reader of tables
dialect.py    how one column is written
columns.py    from columns to features and targets
loading.py    load: the one call
recipe.py     scaling, split, and what a model wants of its data
"""

from jaxland.data.builtin import BUILT_IN, breast_cancer, checkerboard, digits, wine, xor
from jaxland.data.dataset import Dataset
from jaxland.data.dialect import Dialect
from jaxland.data.loading import load
from jaxland.data.reading import Table, read, together
from jaxland.data.recipe import Preparation, Scaling, Split

__all__ = [
    "BUILT_IN",
    "Dataset",
    "Dialect",
    "Preparation",
    "Scaling",
    "Split",
    "Table",
    "breast_cancer",
    "checkerboard",
    "digits",
    "load",
    "read",
    "together",
    "wine",
    "xor",
]
