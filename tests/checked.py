"""The checker of annotations while tests run (jaxtyping's import hook names it; tests/conftest.py installs it)."""

import io
from collections.abc import Sequence
from typing import IO, get_args, get_origin

import jax
import numpy as np
from beartype import BeartypeConf, BeartypeHintOverrides, beartype
from numpy.typing import ArrayLike

# Where a JAX array is named, all that JAX's functions take as one will do, and what stands for one while JAX traces a
# pytree; NumPy's scalars are numbers, its arrays of no dimension scalars; a buffer in memory is a file; a tuple is
# like an array (NumPy's own protocol of sequences asks for a method that tuples do without).
AS_GIVEN = {
    jax.Array: jax.typing.ArrayLike | jax.core.ShapedArray,
    np.ndarray: np.ndarray | np.number,
    int: int | np.integer,
    float: float | int | np.number,
    complex: complex | float | int | np.number,
    IO[bytes]: io.IOBase,
    **{kind: Sequence | kind for kind in get_args(ArrayLike) if get_origin(kind)},
}
check = beartype(conf=BeartypeConf(hint_overrides=BeartypeHintOverrides(AS_GIVEN)))
