"""Tables: built-in sets, one reader for every command, scaling and splits that travel with a model.

dataset.py    a checked table
builtin.py    built-in sets
reading.py    the one reader of tables
dialect.py    how one column is written
columns.py    from columns to features and targets
loading.py    load: the one call
recipe.py     scaling and split
preparation.py  what a model wants of its data; travels in its file
prepared.py   rows as a model takes them
seen.py       which rows a model has seen
"""

from jaxland.data.builtin import BUILT_IN, breast_cancer, checkerboard, digits, wine, xor
from jaxland.data.dataset import Dataset
from jaxland.data.dialect import Dialect
from jaxland.data.loading import load
from jaxland.data.preparation import Preparation
from jaxland.data.prepared import Prepared
from jaxland.data.reading import Table, read, together
from jaxland.data.recipe import Scaling, Split

__all__ = [
    "BUILT_IN",
    "Dataset",
    "Dialect",
    "Preparation",
    "Prepared",
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
