"""What is asked of a model, its parameters, its data and a loss of one's own: checked once, when a Problem is built.

A loss gives one number per row, each row's from that row alone, so that the gradient of the mean is the mean of the
rows' gradients. Losses of this package are known to; any other is tried on a few rows.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import DTypeLike

from jaxland.errors import ArgumentError, DataError, JaxlandError, ProblemError
from jaxland.models.model import Model
from jaxland.problem.losses import as_arrays
from jaxland.problem.programs import equations

Tree = Any  # a pytree of arrays
# Rows on which a loss and a model are tried.
FEW = 3


def short(error: Exception) -> str:
    """The first line of another library's message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__


def checked_model(model: object) -> Model:
    """The model.

    Raises:
        ProblemError: it is none; the message names the adapter that makes one.
    """
    if isinstance(model, Model):
        return model
    where = type(model).__module__.partition(".")[0]
    known = {"flax": "from_nnx(module), or from_linen(module, variables)", "equinox": "from_equinox(module)"}
    bases = {base.__module__.partition(".")[0] for base in type(model).__mro__} | {where}
    how = next((text for name, text in known.items() if name in bases), "from_function(apply, params)")
    raise ProblemError(f"model must be a jaxland Model, got {type(model).__name__}: wrap it with jaxland.{how}")


def check_weight(l2: object) -> None:
    """Raise ``ArgumentError`` unless l2 is a number that is finite and not negative."""
    if not isinstance(l2, numbers.Real) or not math.isfinite(l2) or l2 < 0:
        raise ArgumentError(f"l2 must be a finite number and not negative, got {l2!r}")


def check_chunk(chunk: object) -> None:
    """Raise ``ArgumentError`` unless chunk is None or a whole number of rows."""
    if chunk is not None and (not isinstance(chunk, numbers.Integral) or chunk < 1):
        raise ArgumentError(f"chunk must be a whole number of rows, at least 1, or None, got {chunk!r}")


def check_parameters(params: Tree) -> None:
    """Whether parameters are real floating-point numbers.

    Raises:
        ProblemError: there are none, or some that are not.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise ProblemError("the model has no parameters")
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path) or "params"
        try:
            dtype = jnp.result_type(leaf)
        except (TypeError, ValueError) as error:
            raise ProblemError(f"parameter {name} is a {type(leaf).__name__}, not an array of numbers") from error
        if jnp.issubdtype(dtype, jnp.complexfloating):
            raise ProblemError(f"parameter {name} is complex: give its real and imaginary part as two arrays")
        if not jnp.issubdtype(dtype, jnp.floating):
            raise ProblemError(f"parameter {name} holds {dtype}: parameters are floating-point numbers")


def check_finite(params: Tree) -> None:
    """Raise ``DataError`` where a parameter is not finite; nothing is asked of traced ones."""
    leaves = jax.tree.leaves(params)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return
    before = 0
    for leaf in leaves:
        fine = jnp.isfinite(jnp.ravel(leaf))
        if not bool(fine.all()):
            raise DataError(f"parameter {before + int(jnp.argmin(fine))} is not finite")
        before += fine.size


def in_dtype(tree: Tree, dtype: DTypeLike) -> Tree:
    """Floating leaves in another precision; whole numbers and text as they are."""

    def cast(leaf: Any) -> Any:
        array = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
        return jnp.asarray(array, np.dtype(dtype)) if jnp.issubdtype(array.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, tree, is_leaf=lambda leaf: isinstance(leaf, list))


def standing_at(w: Any, params: Tree, dtype: np.dtype, unravel: Callable[[jax.Array], Tree]) -> Tree:
    """Parameters as a pytree like ``params``, of which w is the flat vector or itself.

    Raises:
        ArgumentError: w is neither. DataError: a parameter is not finite.
    """
    shapes = [np.shape(a) for a in jax.tree.leaves(params)]
    size = sum(math.prod(shape) for shape in shapes)
    flat = jax.Array | np.ndarray | np.number | float | int
    if isinstance(w, flat) or (isinstance(w, list) and all(isinstance(v, flat) for v in w)):
        _check_real(w)
        w = jnp.asarray(w, dtype)
        if w.shape != (size,) and [w.shape] != shapes:
            raise ArgumentError(f"w must hold {size} parameters in one vector, got shape {w.shape}")
        w = unravel(jnp.ravel(w))
    elif [np.shape(a) for a in jax.tree.leaves(w)] != shapes:
        raise ArgumentError(
            f"w must be a vector of {size} parameters, or a pytree of the shapes of params, got "
            f"{jax.tree.map(np.shape, w)}"
        )
    jax.tree.map(_check_real, w)
    check_finite(w)
    return w


def _check_real(w: Any) -> None:
    if jnp.issubdtype(jnp.result_type(*w) if isinstance(w, list) else jnp.result_type(w), jnp.complexfloating):
        raise ArgumentError("w is complex: parameters are real numbers")


def vector_of(w: Any, size: int, dtype: np.dtype) -> Any:
    """w as a vector of ``size`` parameters.

    Raises:
        ArgumentError: it is none.
    """
    w = jnp.asarray(w, dtype) if isinstance(w, list | tuple) and all(np.ndim(v) == 0 for v in w) else w
    if getattr(w, "shape", None) != (size,):
        shape = getattr(w, "shape", type(w).__name__)
        raise ArgumentError(f"w must be a vector of {size} parameters, got {shape} (ravel makes one of a pytree)")
    return w


def rows_like(x: Any, known: Tree) -> Tree:
    """x as rows of the shapes of the training data's.

    Raises:
        DataError: they have others.
    """
    x = as_arrays("x", x)
    given, wanted = ([np.shape(a)[1:] for a in jax.tree.leaves(tree)] for tree in (x, known))
    if given != wanted or 0 in (np.ndim(a) for a in jax.tree.leaves(x)):
        shapes = jax.tree.map(np.shape, x)
        raise DataError(f"x must hold rows of shape {jax.tree.map(lambda a: a.shape[1:], known)}, got {shapes}")
    for leaf in jax.tree.leaves(x):
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not isinstance(leaf, jax.core.Tracer):
            fine = np.isfinite(np.asarray(leaf)).reshape(len(leaf), -1).all(axis=1)
            if not fine.all():
                raise DataError(f"x is not finite in row {int(np.argmin(fine))}")
    return x


def output_shapes(model: Model, params: Tree, x: Tree) -> Tree:
    """Shapes and dtypes of the outputs of a few rows; nothing is computed.

    Raises:
        DataError: x does not fit the model. ProblemError: the model cannot be traced, or forgets the rows.
    """
    if model.sizes is not None:
        shape = jnp.shape(x) if not isinstance(x, dict | tuple | list) else None
        if shape is None or len(shape) != 2 or shape[1] != model.sizes[0]:
            raise DataError(
                f"x must have shape [n, {model.sizes[0]}], a column per input of {model.name}, got {shape or type(x)}"
            )
    rows = few_rows(x)
    try:
        traced, outputs = jax.make_jaxpr(model.apply, return_shape=True)(params, rows)
    except JaxlandError:
        raise
    except jax.errors.JAXTypeError as error:
        raise ProblemError(
            f"{model.name} cannot be traced by JAX ({short(error)}): write it with jax.numpy"
        ) from error
    except Exception as error:
        shapes = jax.tree.map(jnp.shape, rows)
        raise DataError(f"{model.name} fails on rows of x of shape {shapes}: {short(error)}") from error
    count = len(jax.tree.leaves(rows)[0])
    if not all(leaf.ndim and leaf.shape[0] == count for leaf in jax.tree.leaves(outputs)):
        shapes = jax.tree.map(lambda leaf: leaf.shape, outputs)
        raise ProblemError(
            f"{model.name} must give outputs with the rows in front, [n, ...]; {count} rows give {shapes}"
        )
    if any(equation.primitive.name == "while" for equation in equations(traced.jaxpr)):
        _check_runs_backwards(model, params, rows)
    return outputs


def _check_runs_backwards(model: Model, params: Tree, rows: Tree) -> None:
    def total(p: Tree) -> jax.Array:
        floating = [a for a in jax.tree.leaves(model.apply(p, rows)) if jnp.issubdtype(a.dtype, jnp.floating)]
        return sum((jnp.sum(a) for a in floating), jnp.zeros(()))

    try:
        jax.eval_shape(jax.grad(total), params)
    except ValueError as error:
        if "Reverse-mode" not in str(error):
            raise
        raise ProblemError(
            f"{model.name} loops until a condition holds (while_loop), which JAX cannot run backwards: no gradient "
            "with respect to its parameters; write the loop as a scan"
        ) from error


def few_rows(tree: Tree) -> Tree:
    """At most ``FEW`` rows, spread over the data."""
    n = len(jax.tree.leaves(tree)[0])
    picked = np.unique(np.linspace(0, n - 1, min(n, FEW)).astype(int))
    return jax.tree.map(lambda a: a[picked], tree)


def is_ours(function: Callable[..., Any]) -> bool:
    """Whether a function belongs to this package."""
    return str(getattr(function, "__module__", "")).partition(".")[0] == "jaxland"


def check_loss(loss: Callable[[Tree, Tree], jax.Array], model: Model, params: Tree, x: Tree, y: Tree) -> None:
    """Whether a loss of the outputs gives one number per row, from that row alone.

    Raises:
        ProblemError: it does not, or cannot be traced or differentiated. DataError: it fails on these targets.
    """
    xs, ys = few_rows(x), few_rows(y)
    shapes = jax.eval_shape(model.apply, params, xs)
    _check_shape(loss, shapes, ys)
    if is_ours(loss):
        return
    outputs = jax.jit(model.apply)(params, xs)
    rng = np.random.default_rng(0)
    # Networks at their start may give every row the same: rows that are mixed are told apart where they differ.
    moved = jax.tree.map(lambda a: _moved(a, rng), outputs)
    for points in (moved, outputs):
        if _mixes(loss, points, ys):
            return


def _moved(a: jax.Array, rng: np.random.Generator) -> jax.Array:
    if not jnp.issubdtype(a.dtype, jnp.floating):
        return a
    share = jnp.asarray(rng.uniform(0.05, 0.2, a.shape), a.dtype)
    return a + share * (1 + jnp.abs(a)).astype(a.dtype)


def _check_shape(loss: Callable[[Tree, Tree], jax.Array], outputs: Tree, ys: Tree) -> None:
    count = len(jax.tree.leaves(ys)[0])
    try:
        found = jax.eval_shape(loss, outputs, ys)
    except JaxlandError:
        raise
    except jax.errors.JAXTypeError as error:
        raise ProblemError(f"the loss cannot be traced by JAX ({short(error)}): write it with jax.numpy") from error
    except Exception as error:
        shapes = jax.tree.map(lambda leaf: leaf.shape, outputs), jax.tree.map(jnp.shape, ys)
        raise DataError(
            f"the loss fails on outputs of shape {shapes[0]} and targets of shape {shapes[1]}: {short(error)}"
        ) from error
    shape = getattr(found, "shape", None)
    if shape != (count,):
        hints = {
            (): ": leave the mean over the rows to jaxland",
            (count, 1): ": drop its last axis",
            (count, count): ": outputs [n, 1] and targets [n] were broadcast against each other",
        }
        hint = hints.get(shape, "") if isinstance(shape, tuple) else ""
        what = f"shape {shape}" if isinstance(shape, tuple) else f"a {type(found).__name__}"
        raise ProblemError(f"the loss must give one number per row, [n]; for {count} rows it gives {what}{hint}")
    if not jnp.issubdtype(found.dtype, jnp.floating):
        raise ProblemError(f"the loss must be a real floating-point number per row, it gives {found.dtype}")


def _mixes(loss: Callable[[Tree, Tree], jax.Array], outputs: Tree, ys: Tree) -> bool:
    """Compare rows together with rows alone, values and gradients; False where nothing can be said.

    Raises:
        ProblemError: they differ.
    """
    leaves, tree = jax.tree.flatten(outputs)
    floating = [k for k, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    count = len(leaves[0])

    def of(rows: slice) -> tuple[np.ndarray, list[np.ndarray]]:
        own = [leaf[rows] for leaf in leaves]

        def value(given: list[jax.Array]) -> jax.Array:
            full = list(own)
            for k, a in zip(floating, given):
                full[k] = a
            return loss(jax.tree.unflatten(tree, full), jax.tree.map(lambda a: a[rows], ys))

        try:
            found, pull = jax.vjp(value, [own[k] for k in floating])
            gradients = pull(jnp.ones_like(found))[0]
        except JaxlandError:
            raise
        except Exception as error:
            raise ProblemError(f"the loss cannot be evaluated and differentiated on {short(error)}") from error
        return np.asarray(found, float), [np.asarray(g, float).reshape(len(found), -1) for g in gradients]

    together, slopes = of(slice(0, count))
    alone = [of(slice(i, i + 1)) for i in range(count)]
    single = np.concatenate([value for value, _ in alone])
    gradients = [np.concatenate([g[k] for _, g in alone]) for k in range(len(floating))]
    if not (np.isfinite(together).all() and np.isfinite(single).all()):
        return False
    eps = float(jnp.finfo(leaves[floating[0]].dtype).eps) if floating else 1e-7
    slack = min(1e3 * eps, 0.05)
    off = np.abs(together - single)
    if off.max() > slack * (np.abs(single).max() + np.abs(together).max()):
        row = int(off.argmax())
        raise ProblemError(
            f"the loss mixes rows: a row's loss is {single[row]:.4g} by itself and {together[row]:.4g} among "
            f"{count - 1} others. Each row's loss must depend on its own outputs and targets alone"
        )
    for a, b in zip(slopes, gradients):
        if np.isfinite(a).all() and np.isfinite(b).all() and np.abs(a - b).max() > slack * (np.abs(b).max() + 1e-30):
            raise ProblemError(
                "the loss mixes rows: its gradient is not the mean of its rows' gradients. Each row's loss must "
                "depend on its own outputs and targets alone"
            )
    return True


def check_regulariser(regulariser: Callable[[Tree], jax.Array], params: Tree) -> None:
    """Raise ``ProblemError`` unless ``regulariser(params)`` is one real number."""
    if not callable(regulariser):
        raise ArgumentError(f"regulariser must be a function of the parameters, got {type(regulariser).__name__}")
    try:
        found = jax.eval_shape(regulariser, params)
    except Exception as error:
        raise ProblemError(f"the regulariser fails on the parameters: {short(error)}") from error
    if getattr(found, "shape", None) != () or not jnp.issubdtype(found.dtype, jnp.floating):
        raise ProblemError(f"the regulariser must give one real number, it gives {found}")


def mixing_note(before: Tree, after: Tree, picked: np.ndarray) -> str:
    """Whether a model's output of a row is random, or depends on other rows: a sentence, or an empty text.

    Dropout gives one input two outputs within a batch; batch statistics let other rows change a row's output.

    Args:
        before: outputs of some rows, arrays [n, ...].
        after: outputs of the rows ``picked`` [m] of those, the first one at least twice.
    """
    copies = np.flatnonzero(picked == picked[0])
    random = mixed = False
    for own, again in zip(jax.tree.leaves(before), jax.tree.leaves(after)):
        if not jnp.issubdtype(own.dtype, jnp.inexact):
            continue
        rows, others = np.asarray(own)[picked], np.asarray(again)
        slack = min(1e3 * float(jnp.finfo(own.dtype).eps), 0.05) * (float(np.max(np.abs(rows), initial=0.0)) + 1e-30)
        random |= bool(np.max(np.abs(others[copies] - others[copies[:1]]), initial=0.0) > slack)
        mixed |= bool(np.max(np.abs(rows - others), initial=0.0) > slack)
    if random:
        return "the model gives one input different outputs: switch dropout off (module.eval(), deterministic=True)"
    if mixed:
        return "a row's output depends on the other rows: switch batch statistics to stored averages (eval mode)"
    return ""


def with_copies(n: int) -> np.ndarray:
    """Numbers of n >= 2 rows with the first one in place of half of the others."""
    picked = np.arange(n)
    picked[: max(2, n // 2)] = 0
    return picked
