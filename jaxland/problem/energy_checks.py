"""What an energy that a user hands in must be, checked once, when its problem is built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxland.core.energy import derivatives
from jaxland.errors import ProblemError
from jaxland.problem.programs import equations
from jaxland.problem.symmetry import NoSymmetry, Symmetry

_DRAWS = 12


def check_energy(energy: Callable[[jax.Array], Any], n: int, dtype: np.dtype, second: Callable | None) -> None:
    """Raise ``ProblemError``, in one sentence, unless ``energy(w[n])`` is a twice differentiable real scalar of JAX.

    Traced, never compiled; evaluated at one point where it is finite, to see that its gradient is finite too.
    """
    point = jax.ShapeDtypeStruct((n,), dtype)
    try:
        traced, found = jax.make_jaxpr(energy, return_shape=True)(point)
    except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
        raise ProblemError(
            "the energy cannot be traced by JAX: it turns its argument into NumPy's arrays or Python's numbers, or "
            f"branches on its values; write it with jax.numpy, jnp.where and jax.lax ({_first_line(error)})"
        ) from error
    except Exception as error:
        raise ProblemError(
            f"the energy fails on coordinates w[{n}]: {type(error).__name__}: {_first_line(error)}"
        ) from error
    if len(traced.out_avals) != 1:
        raise ProblemError(f"the energy must return one number, it returns {len(traced.out_avals)} arrays")
    if not hasattr(found, "shape"):
        raise ProblemError(f"the energy must return one number, it returns a {type(found).__name__}")
    (value,) = traced.out_avals
    if value.shape != ():
        raise ProblemError(
            f"the energy must return a scalar, shape (), it returns shape {value.shape}: sum it, or take an element"
        )
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise ProblemError(f"the energy must return a real number, it returns {value.dtype}")
    if dtype == np.float64:
        _check_precision(traced.jaxpr)
    _check_derivatives(energy, n, dtype)
    if second is not None:
        _check_second(second, n, dtype)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__


def _check_precision(jaxpr: Any) -> None:
    for equation in equations(jaxpr):
        if equation.primitive.name != "convert_element_type":
            continue
        (source,), target = equation.invars, equation.params["new_dtype"]
        narrow = jnp.issubdtype(target, jnp.floating) and np.dtype(target).itemsize < 8
        if narrow and getattr(source.aval, "dtype", None) == np.float64:
            raise ProblemError(
                f"the energy computes in {np.dtype(target).name} inside, though its problem is in float64: minima "
                "cannot be told from noise then; leave out the cast, or cast its constants to w.dtype"
            )


def _check_derivatives(energy: Callable[[jax.Array], Any], n: int, dtype: np.dtype) -> None:
    point = jax.ShapeDtypeStruct((n,), dtype)
    try:
        jax.eval_shape(lambda w, v: derivatives.hvp(energy, w, v), point, point)
    except Exception as error:
        raise ProblemError(
            f"the energy is not twice differentiable by JAX: {type(error).__name__}: {_first_line(error)}"
        ) from error
    rng, broken = np.random.default_rng(16), 0
    for k in range(_DRAWS):
        w = jnp.asarray(2.0 ** (k % 5 - 2) * rng.normal(size=n), dtype)
        value, gradient = jax.value_and_grad(energy)(w)
        if not np.isfinite(value):
            continue
        bad = int(np.sum(~np.isfinite(np.asarray(gradient))))
        if not bad:
            return
        broken += 1
        if broken == 3:
            raise ProblemError(
                f"the gradient of the energy has {bad} of {n} components that are not finite where the energy is "
                f"({float(value):.6g}): often the square root of 0 on a diagonal, or a jnp.where whose other branch "
                "is infinite; replace the argument before the root or the division, not its result after it"
            )


def _check_second(second: Callable, n: int, dtype: np.dtype) -> None:
    try:
        found = jax.eval_shape(second, jax.ShapeDtypeStruct((n,), dtype))
    except Exception as error:
        raise ProblemError(f"second(w) fails: {type(error).__name__}: {_first_line(error)}") from error
    shapes = [getattr(part, "shape", None) for part in found] if isinstance(found, tuple) else found
    if shapes != [(), (n,), (n, n)]:
        raise ProblemError(
            f"second(w) must return (energy, gradient, Hessian) of shapes (), ({n},), ({n}, {n}), got {shapes}"
        )


def check_symmetry(energy: Callable[[jax.Array], Any], n: int, dtype: np.dtype, symmetry: Symmetry) -> None:
    """Raise ``ProblemError`` unless the energy is the same at random images of a point, to a millionth."""
    if isinstance(symmetry, NoSymmetry):
        return
    rng = np.random.default_rng(17)
    for _ in range(_DRAWS):
        w = rng.normal(size=n)
        try:
            images = [np.asarray(symmetry.random_image(w, rng), float) for _ in range(2)]
        except (ValueError, IndexError) as error:
            raise ProblemError(
                f"the symmetry ({symmetry.describe()}) does not act on {n} coordinates: {_first_line(error)}"
            ) from error
        if any(image.shape != (n,) for image in images):
            raise ProblemError(
                f"the symmetry ({symmetry.describe()}) acts on {images[0].size} coordinates, not on {n}"
            )
        here, *there = (float(energy(jnp.asarray(x, dtype))) for x in (w, *images))
        if not (np.isfinite(here) and np.isfinite(there).all()):
            continue
        worst = max(abs(e - here) for e in there)
        if worst > (1e-6 if dtype == np.float64 else 1e-3) * max(abs(here), worst / 2):
            raise ProblemError(
                f"the energy is not unchanged by its symmetry ({symmetry.describe()}): {here:.8g} at a point, "
                f"{there[int(np.argmax(np.abs(np.array(there) - here)))]:.8g} at an image of it"
            )
        return
