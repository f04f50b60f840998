"""What is asked of a test point: its loss, a logit, a probability, an output, or any function of the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxland.core.energy import derivatives as derivatives
from jaxland.errors import ArgumentError, DataError, ProblemError
from jaxland.options import on_command_line, spoken, whole_number
from jaxland.problem.losses import as_arrays, check_targets
from jaxland.problem.problem import Problem

Tree = Any  # arrays with a leading axis of examples, nested as the model takes them
Asked = str | Callable[[Any, Any], Any]  # a name of ``QUANTITIES``, or f(outputs [T, ...], y) -> [T]
QUANTITIES = ("loss", "predicted_loss", "logit", "margin", "log_odds", "probability", "output")
OF_CLASSES = ("predicted_loss", "logit", "margin", "probability", "log_odds")


@dataclass(frozen=True, eq=False)
class Quantity:
    """f(w, x, y) -> [T], differentiable in w, with its gradients.

    Attributes:
        name: for tables and captions.
        needs_y: the targets of the test points enter.
        values: jitted ``(w, x, y) -> [T]``.
        gradients: jitted ``(w, x, y) -> [T, N]``.
        plain: the function itself, for use inside other jitted code.
    """

    name: str
    needs_y: bool
    values: Callable[..., Float[Array, " T"]]
    gradients: Callable[..., Float[Array, "T N"]]
    plain: Callable[..., Float[Array, " T"]]


def quantity(problem: Problem, of: Asked, target: int | None = None) -> Quantity:
    """The function a name stands for; compiled once for as long as the problem lives.

    Args:
        problem: gives the model and the loss.
        of: "loss" (of the true label or target), "predicted_loss" (of the label the model predicts), "logit",
            "margin" (the logit less the largest other one), "log_odds", "probability" (of ``target``, else of the
            class the model predicts), "output" (regression), or a function ``of(outputs [T, ...], y) -> [T]``, which
            needs targets only if it reads y.
        target: class whose logit or probability, or number of the output, is meant.
    """
    if target is not None:
        whole_number("target", target)
    return problem.compiled(("hessian.quantity", of, target), lambda: _build(problem, of, target))


def of_class(problem: Problem, of: str) -> Quantity:
    """A quantity of ``OF_CLASSES`` whose class is y: that which was predicted, where parameters move away."""

    def build() -> Quantity:
        _classifies(problem, of)
        return _compiled(of, True, _of_class(problem, of, lambda z, y: y))

    return problem.compiled(("hessian.quantity", of, "y"), build)


def _build(problem: Problem, of: Asked, target: int | None) -> Quantity:
    if problem.loss is None:
        raise ProblemError("this problem is a plain energy without per-example losses: it has no test points")
    if callable(of):
        outputs, function = problem.outputs_of, of
        name, reads = getattr(of, "__name__", "custom"), _reads_targets(problem, of)
        _check_own(problem, of)
        return _compiled(name, reads, lambda w, x, y: function(outputs(w, x), y))
    if of not in QUANTITIES:
        raise ArgumentError(f"{spoken('of')} takes {', '.join(QUANTITIES)} or, in Python, a function, got {of!r}")
    if of == "loss":
        return _compiled(of, True, problem.losses_of)
    outputs = problem.outputs_of
    if of == "output":
        return _output(problem, target)
    classes = _classifies(problem, of)
    if target is not None and not 0 <= target < classes:
        raise ArgumentError(f"target must be a class 0..{classes - 1}, got {target}")

    def label(z: jax.Array, y: Tree) -> jax.Array:
        if target is None or of == "predicted_loss":
            return jnp.argmax(jax.lax.stop_gradient(z), axis=1)
        return jnp.full(len(z), target)

    name = of if target is None else f"{of} of class {target}"
    return _compiled(name, False, _of_class(problem, of, label))


def _classifies(problem: Problem, of: str) -> int:
    """How many classes.

    Raises:
        ArgumentError: the model is no classifier.
    """
    shape = output_shape(problem, spoken("of", of))
    if problem.loss_name == "squared_error" or len(shape) != 2 or shape[1] < 2:
        raise ArgumentError(
            f"{spoken('of', of)} needs a classifier with outputs [n, classes], this model gives {shape}; use "
            f"{spoken('of', 'output')}"
        )
    return shape[1]


def _of_class(
    problem: Problem, of: str, label: Callable[[jax.Array, Tree], jax.Array]
) -> Callable[[jax.Array, Tree, Tree], jax.Array]:
    """A quantity of ``OF_CLASSES`` of the class ``label(outputs [n, c], y) -> [n]``."""
    outputs, losses = problem.outputs_of, problem.losses_of

    def predicted_loss(w: jax.Array, x: Tree, y: Tree) -> jax.Array:
        return losses(w, x, label(outputs(w, x), y))

    def chosen(w: jax.Array, x: Tree, y: Tree) -> jax.Array:
        z = outputs(w, x)
        own = label(z, y)[:, None]
        if of == "probability":
            z = jax.nn.softmax(z, axis=1)
        found = jnp.take_along_axis(z, own, axis=1)[:, 0]
        if of not in ("margin", "log_odds"):
            return found
        others = jnp.where(jnp.arange(z.shape[1])[None] == own, -jnp.inf, z)
        rest = jnp.max(others, axis=1) if of == "margin" else jax.scipy.special.logsumexp(others, axis=1)
        return found - rest

    return predicted_loss if of == "predicted_loss" else chosen


def _check_own(problem: Problem, function: Callable[[Any, Any], Any]) -> None:
    """Raise ``ArgumentError`` unless a function of outputs and targets gives a real number for every row."""
    x, y = jax.tree.map(lambda a: jax.ShapeDtypeStruct((3, *a.shape[1:]), a.dtype), problem.data)
    found = jax.eval_shape(lambda x, y: function(problem.outputs_of(problem.w, x), y), x, y)
    if getattr(found, "shape", None) != (3,) or not jnp.issubdtype(found.dtype, jnp.floating):
        shape = getattr(found, "shape", type(found).__name__)
        raise ArgumentError(f"of(outputs, y) must give one real number a row, [n]; for 3 rows it gives {shape}")


def _one_row(problem: Problem) -> tuple[Tree, Tree]:
    return jax.tree.map(lambda a: a[:1], problem.data)


def _reads_targets(problem: Problem, function: Callable[[Any, Any], Any]) -> bool:
    """Whether a function of outputs and targets depends on the targets."""
    x, y = _one_row(problem)
    outputs = jax.eval_shape(problem.outputs_of, problem.w, x)
    program = jax.make_jaxpr(function)(outputs, y).jaxpr
    targets = program.invars[len(jax.tree.leaves(outputs)) :]
    read = [v for equation in program.eqns for v in equation.invars] + list(program.outvars)
    return any(v is target for v in read for target in targets)


def output_shape(problem: Problem, asker: str) -> tuple[int, ...]:
    """Shape of the outputs of one row.

    Raises:
        ArgumentError: they are several arrays.
    """
    outputs = jax.eval_shape(problem.outputs_of, problem.w, _one_row(problem)[0])
    if not hasattr(outputs, "shape"):
        kind = f"dict of {', '.join(map(str, outputs))}" if isinstance(outputs, dict) else type(outputs).__name__
        raise ArgumentError(
            f"{asker} needs outputs in one array, this model gives a {kind}: pass of as a function of them, "
            "of(outputs, y) -> [n]"
        )
    return tuple(outputs.shape)


def _output(problem: Problem, target: int | None) -> Quantity:
    """One output of a row: the only one, or number ``target`` of several, counted flat."""
    outputs, shape = problem.outputs_of, output_shape(problem, spoken("of", "output"))
    width = int(np.prod(shape[1:]))
    way = f"name one with target=0..{width - 1}, or pass a function of the outputs"
    if on_command_line():
        way = f"choose {spoken('of', 'logit')} or {spoken('of', 'probability')}, or name one in Python"
    if target is None and width != 1:
        raise ArgumentError(f"{spoken('of', 'output')} needs one output per row, this model gives {width}; {way}")
    if target is not None and not 0 <= target < width:
        raise ArgumentError(f"target must be an output 0..{width - 1}, got {target}")

    def one(w: jax.Array, x: Tree, y: Tree) -> jax.Array:
        z = outputs(w, x)
        return z.reshape(z.shape[0], width)[:, target or 0]

    return _compiled("output" if target is None else f"output {target}", False, one)


def _compiled(name: str, needs_y: bool, f: Callable[..., jax.Array]) -> Quantity:
    def gradients(w: jax.Array, x: Tree, y: Tree) -> jax.Array:
        return derivatives.example_gradients(f, w, x, y)

    return Quantity(name=name, needs_y=needs_y, values=jax.jit(f), gradients=jax.jit(gradients), plain=f)


def query_points(problem: Problem, test: Any, needs_y: bool) -> tuple[Tree, Tree]:
    """(x, y) of the test points as the problem's own dtypes; y is filled with zeros where it does not enter.

    Raises:
        ArgumentError: targets are needed and missing.
        DataError: shapes differ from the training data, or values are not finite.
    """
    x, y = test if isinstance(test, tuple) and len(test) == 2 else (test, None)
    if y is None and needs_y:
        raise ArgumentError(
            "this quantity needs the targets of the test points: pass test=(x, y), or ask for an output of the "
            "model: of='output', target=k"
        )

    def like(name: str, given: Any, known: Tree) -> Tree:
        if given is None or isinstance(known, jax.Array):
            given = as_arrays(f"test {name}", given)
        if str(jax.tree.structure(given)) != str(jax.tree.structure(known)):
            raise DataError(f"test {name} has another structure than the training {name}")

        def one(a: Any, b: jax.Array) -> jax.Array:
            a = jnp.asarray(a)
            if not a.size:
                raise DataError(f"test {name} has no rows")
            if a.ndim != b.ndim or a.shape[1:] != b.shape[1:]:
                raise DataError(
                    f"test {name} has shape {a.shape}; rows of shape {b.shape[1:]} are needed, as in training"
                )
            if jnp.issubdtype(a.dtype, jnp.inexact):
                finite = jnp.isfinite(a).reshape(len(a), -1).all(axis=1)
                if not bool(finite.all()):
                    raise DataError(f"test {name} is not finite in row {int(jnp.argmin(finite))}")
            return a.astype(b.dtype)

        return jax.tree.map(one, given, known)

    x = like("x", x, problem.x)
    rows = {int(leaf.shape[0]) for leaf in jax.tree.leaves(x)}
    if len(rows) != 1 or rows == {0}:
        raise DataError(f"test x must have at least one row and one length, got lengths {sorted(rows)}")
    count = rows.pop()
    if y is None:
        return x, jax.tree.map(lambda a: jnp.zeros((count,) + a.shape[1:], a.dtype), problem.y)
    given_y = as_arrays("test y", y) if isinstance(problem.y, jax.Array) else y
    y = like("y", given_y, problem.y)
    if problem.loss_name is not None:
        check_targets(problem.loss_name, given_y, jax.eval_shape(problem.outputs_of, problem.w, x))
    lengths = {int(leaf.shape[0]) for leaf in jax.tree.leaves(y)}
    if lengths != {count}:
        raise DataError(f"test x has {count} rows and test y {sorted(lengths)}")
    return x, y


def blocks(points: tuple[Tree, Tree], rows: int) -> Iterator[tuple[int, tuple[Tree, Tree]]]:
    """First row and points of each block of at most so many rows."""
    for start in range(0, len(jax.tree.leaves(points[0])[0]), rows):
        yield start, jax.tree.map(lambda a, start=start: a[start : start + rows], points)
