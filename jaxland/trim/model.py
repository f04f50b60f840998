"""What may be attributed: any model as ``apply(params, x)``, and which of its outputs.

The function handed to jit compares equal for the same model, so that a second call does not compile again, and
everything large it refers to travels as an argument.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpy.typing import ArrayLike

from jaxland.errors import ArgumentError, DataError, ProblemError
from jaxland.models.model import Model
from jaxland.options import spoken

if TYPE_CHECKING:
    from flax import linen, nnx

Array = jax.Array | np.ndarray
Apply = Callable[[PyTree, Array], PyTree]
Select = Callable[[PyTree, jax.Array], jax.Array]


class Adapted(NamedTuple):
    """A model as the methods take it.

    Attributes:
        apply: ``apply(params, x[n, ...]) -> outputs``; hashable. Not traceable for a black box.
        params: pytree of arrays.
        traceable: whether JAX can trace it.
        name: for reports.
    """

    apply: Apply
    params: PyTree
    traceable: bool
    name: str


@dataclass(frozen=True)
class _Hoisted:
    """A plain function; the arrays it closes over become its parameters."""

    f: Callable[[Array], PyTree]

    def constants(self, x: Array) -> list[jax.Array]:
        return list(jax.make_jaxpr(self.f)(x).consts)

    def __call__(self, params: list[jax.Array], x: Array) -> PyTree:
        closed, shape = jax.make_jaxpr(self.f, return_shape=True)(x)
        if [jnp.shape(c) for c in closed.consts] != [jnp.shape(p) for p in params]:
            return self.f(x)
        return jax.tree.unflatten(jax.tree.structure(shape), jax.core.eval_jaxpr(closed.jaxpr, params, x))


@dataclass(frozen=True)
class _Nnx:
    graph: nnx.GraphDef

    def __call__(self, params: PyTree, x: Array) -> PyTree:
        from flax import nnx

        return nnx.merge(self.graph, jax.tree.map(lambda leaf: leaf, params))(x)


@dataclass(frozen=True)
class _Linen:
    module: linen.Module

    def __call__(self, params: PyTree, x: Array) -> PyTree:
        return cast(jax.Array, self.module.apply(params, x))


@dataclass(frozen=True)
class _Equinox:
    structure: jax.tree_util.PyTreeDef
    fixed: tuple[tuple[Hashable] | None, ...]

    def __call__(self, params: PyTree, x: Array) -> PyTree:
        given: Iterator[Any] = iter(params)
        leaves = [next(given) if leaf is None else leaf[0] for leaf in self.fixed]
        return jax.vmap(jax.tree.unflatten(self.structure, leaves))(x)


@dataclass(frozen=True)
class Taking:
    """A model whose inputs are of another type than the game is played in: half precision, or whole numbers."""

    apply: Apply
    dtype: np.dtype

    def __call__(self, params: PyTree, x: Array) -> PyTree:
        """x of any floating type."""
        xp = np if isinstance(x, np.ndarray) else jnp
        return self.apply(params, (x if jnp.issubdtype(self.dtype, jnp.inexact) else xp.round(x)).astype(self.dtype))


def is_half(dtype: np.dtype) -> bool:
    """Whether a type has fewer digits than float32."""
    return bool(jnp.issubdtype(dtype, jnp.floating)) and dtype.itemsize < 4


@dataclass(frozen=True)
class BlackBox:
    """A function JAX must not trace: ``f(x: numpy array [n, ...]) -> outputs``, called on the host."""

    f: Callable[[np.ndarray], PyTree]

    def __call__(self, params: PyTree, x: Array) -> PyTree:
        """Outputs as numpy."""
        return jax.tree.map(np.asarray, self.f(np.asarray(x)))


def black_box(f: Callable[[np.ndarray], PyTree]) -> BlackBox:
    """Mark a Python function (a scikit-learn ``predict_proba``, a simulator) as one JAX must not trace."""
    return BlackBox(f)


def adapt(f: object, params: PyTree, x: Array) -> Adapted:
    """A jaxland Model, ``f(params, x)``, Flax nnx, bound linen or Equinox module, callable or black box.

    Raises:
        ProblemError: not callable. DataError: a plain function fails, traced and called.
    """
    found = _known(f, params)
    if found is not None:
        return found
    if not callable(f):
        raise ProblemError(f"f must be a model or a callable, got {type(f).__name__}")
    example, hoisted = x[:1], _Hoisted(f)
    try:
        return Adapted(hoisted, hoisted.constants(example), True, getattr(f, "__name__", type(f).__name__))
    except Exception as error:
        return _opaque(BlackBox(f), _untraceable(f, example, error))


def _opaque(box: BlackBox, name: str) -> Adapted:
    # Its outputs stay on the host.
    return Adapted(cast(Apply, box), (), False, name)


def _untraceable(f: Callable[[np.ndarray], PyTree], example: Array, error: Exception) -> str:
    """The name of a function JAX cannot trace but Python can run."""
    try:
        f(np.asarray(example))
    except Exception as second:
        raise DataError(
            f"f fails on an input of shape {example.shape}, traced ({_line(error)}) and called ({_line(second)})"
        ) from second
    return getattr(f, "__name__", type(f).__name__)


def _line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200] if text else ''}"


def _known(f: object, params: PyTree) -> Adapted | None:
    name = type(f).__name__
    if isinstance(f, Model):
        return Adapted(f.apply, f.params if params is None else params, True, f.name)
    if isinstance(f, BlackBox):
        return _opaque(f, getattr(f.f, "__name__", "black box"))
    if params is not None:
        if not callable(f):
            raise ProblemError(f"with params given, f must be callable as f(params, x), got {name}")
        return Adapted(f, params, True, getattr(f, "__name__", name))
    if "flax" in sys.modules:
        from flax import linen, nnx

        if isinstance(f, nnx.Module):
            graph, state = nnx.split(f)
            return Adapted(_Nnx(graph), state, True, name)
        if isinstance(f, linen.Module):
            if f.scope is None:
                raise ProblemError(f"linen module {name} is not bound: pass module.bind(variables)")
            module, variables = f.unbind()
            return Adapted(_Linen(module), variables, True, name)
    if "equinox" in sys.modules:
        import equinox as eqx

        if isinstance(f, eqx.Module):
            leaves, structure = jax.tree.flatten(eqx.nn.inference_mode(f))
            arrays = [leaf for leaf in leaves if eqx.is_array(leaf)]
            fixed = tuple(None if eqx.is_array(leaf) else (leaf,) for leaf in leaves)
            return Adapted(_Equinox(structure, fixed), arrays, True, name)
    return None


# -- which output ----------------------------------------------------------------------------------------------------

# None (the only output, or the predicted class's), an index, one per example, or a function outputs -> [n].
Chosen = ArrayLike | Callable[[PyTree], jax.Array] | None


class Target(NamedTuple):
    """What of the outputs is attributed.

    Attributes:
        select: ``select(outputs, index) -> [n]``; hashable.
        index: int [n], one output per example; zeros where there is only one.
        note: a sentence for the result.
    """

    select: Select
    index: np.ndarray  # type: ignore[assignment]
    note: str


@dataclass(frozen=True)
class Only:
    """The only output: [n] or [n, 1] to [n]."""

    def __call__(self, outputs: jax.Array, index: jax.Array) -> jax.Array:
        """The index is not looked at."""
        return outputs.reshape(outputs.shape[0])


@dataclass(frozen=True)
class Indexed:
    """The output with each example's index: [n, c] to [n]."""

    def __call__(self, outputs: jax.Array, index: jax.Array) -> jax.Array:
        """index [n]."""
        return jnp.take_along_axis(outputs, index[:, None], axis=1)[:, 0]


@dataclass(frozen=True)
class Own:
    """A user's function of all outputs."""

    f: Callable[[PyTree], jax.Array]

    def __call__(self, outputs: PyTree, index: jax.Array) -> jax.Array:
        """The index is not looked at."""
        return self.f(outputs)


@dataclass(frozen=True)
class Raw:
    """All outputs as they are."""

    def __call__(self, outputs: PyTree, index: jax.Array) -> jax.Array:
        """The index is not looked at."""
        return outputs


def choose(target: Chosen, outputs: PyTree) -> Target:
    """The output to attribute, given the model's outputs [n] or [n, c] at the inputs.

    Args:
        target: None (the only output, or the predicted class's), an index, one index per example, or a callable
            ``outputs -> [n]``.
        outputs: raw outputs at the explained inputs.

    Raises:
        ArgumentError: an index out of range (with the first offending row), a callable of the wrong shape.
    """
    n = len(jax.tree.leaves(outputs)[0])
    zeros = np.zeros(n, np.int32)
    if callable(target):
        value = np.asarray(target(jax.tree.map(jnp.asarray, outputs)))
        if value.shape != (n,) or np.iscomplexobj(value):
            shapes = jax.tree.map(np.shape, outputs)
            kind = "complex " if np.iscomplexobj(value) else ""
            raise ArgumentError(
                f"target must map outputs {shapes} to one real number each, it gives {kind}{value.shape}"
            )
        return Target(Own(target), zeros, "the given function of the outputs is attributed")
    if not isinstance(outputs, np.ndarray):
        kind = f"dict of {', '.join(map(str, outputs))}" if isinstance(outputs, dict) else type(outputs).__name__
        raise ArgumentError(f"the model's outputs are a {kind}: give target as a function of them, outputs -> [n]")
    if np.iscomplexobj(outputs):
        raise ArgumentError("the model's outputs are complex: give target as a function of them, such as a real part")
    single = outputs.ndim == 1 or outputs.shape[1:] == (1,)
    if single:
        if target is not None and np.any(np.asarray(target) != 0):
            raise ArgumentError(f"target {target} is out of range: the model has a single output")
        return Target(Only(), zeros, "the model's only output is attributed")
    if outputs.ndim != 2:
        raise ArgumentError(f"the model's outputs have shape {outputs.shape}: give target as a function of them")
    classes = outputs.shape[1]
    if target is None:
        note = f"the raw output (logit) of the predicted class is attributed; {spoken('target')} chooses another"
        return Target(Indexed(), outputs.argmax(1).astype(np.int32), note)
    index = np.asarray(target)
    if not np.issubdtype(index.dtype, np.integer):
        raise ArgumentError(f"target must be an index, an array of indices or a callable, got dtype {index.dtype}")
    if index.ndim > 1 or (index.ndim == 1 and len(index) != n):
        raise ArgumentError(f"target must be one index or one per example [{n}], got shape {index.shape}")
    index = np.broadcast_to(index, (n,))
    bad = np.flatnonzero((index < 0) | (index >= classes))
    if len(bad):
        where = "" if np.ndim(target) == 0 else f" at row {bad[0]}"
        raise ArgumentError(f"target {index[bad[0]]}{where} is out of range: the model has outputs 0..{classes - 1}")
    return Target(Indexed(), index.astype(np.int32), "the model's raw outputs (logits) are attributed")
