"""From what a user hands in to a checked ``Play``: inputs, outputs, residual, baseline, players."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpy.typing import ArrayLike

from jaxland.errors import ArgumentError, DataError, ProblemError
from jaxland.options import whole_number
from jaxland.problem.contracts import mixing_note, with_copies
from jaxland.trim.game import Game, Output, Rows, analyse, padded, played
from jaxland.trim.methods import Method
from jaxland.trim.model import Adapted, Apply, Chosen, Taking, adapt, choose, is_half
from jaxland.trim.play import Play, rows_in_memory
from jaxland.trim.transforms import Transform, identity

# Zero, the mean or a sample of the background, or values.
Baseline = Literal["zero", "mean", "sample"] | ArrayLike | None
# Group numbers shaped like the coefficients, lists of indices or masks, or each coefficient its own.
Groups = ArrayLike | Sequence[ArrayLike] | Literal["coefficients"] | None


def build(
    f: object,
    x: PyTree,
    *,
    transform: Transform | None,
    method: Method,
    target: Chosen,
    params: PyTree,
    baseline: Baseline,
    baseline_in: str,
    background: ArrayLike | None,
    groups: Groups,
    labels: Sequence[str] | None,
    residual: str | None,
    chunk: int | None,
    progress: Callable[[int, int], None] | None,
) -> Play:
    """The checked game behind ``attribute``; its arguments, and the method found."""
    _one_array(x, "x")
    if transform is None:
        transform = identity(np.shape(x)[1:] or (1,))
    if not isinstance(transform, Transform):
        raise ArgumentError(f"transform must be one of jaxland.trim.transforms, such as rfft(64), got {transform!r}")
    kind = jax.dtypes.canonicalize_dtype(getattr(x, "dtype", float))
    x = _inputs(x, transform, "x")
    if chunk is not None:
        whole_number("chunk", chunk, 1)
    model, outputs = _asked(f, params, x, kind, method, chunk)
    caution = _mixing(model, x, outputs, chunk)
    s, rest = analyse(transform, x)
    _check_residual(transform, x, rest, residual)
    kinds = {leaf.dtype.kind for leaf in jax.tree.leaves(_outputs(model, x[:1], chunk, finite=False, raw=True))}
    if method.traced and not callable(target) and kinds <= set("biu"):
        raise ProblemError(
            f"the model's outputs are whole numbers or truth values, which method {method.name!r} cannot "
            "differentiate: use ablation, occlusion, shapley, shapley_sampling or kernel_shap, or explain a score"
        )
    chosen = choose(target, outputs)
    base = _baseline(transform, s, x, baseline, baseline_in, background)
    members, names = _members(groups, labels, transform)
    plays = residual == "player"
    pool = None
    if method.background and background is not None:
        pool = transform.forward(_inputs(background, transform, "background"))
    output, rows = Output(params=model.params, apply=model.apply, select=chosen.select), chunk or 4096
    if model.traceable:
        output, rows = rows_in_memory(output, x, method.gradient, chunk)
    game = Game(
        output=output,
        transform=transform,
        rows=Rows(x=x, s=s, base=base, rest=rest, index=jnp.asarray(chosen.index)),
        members=members,
        residual_plays=plays,
        is_disjoint=bool((members.sum(0) <= 1).all()),
    )
    return Play(
        game=game,
        labels=(*names, "residual") if plays else names,
        chunk=rows,
        traceable=model.traceable,
        name=model.name,
        note=chosen.note,
        caution=caution,
        cost=_cost(output, x),
        background=pool,
        progress=progress,
    )


def _asked(
    f: object, params: PyTree, x: jax.Array, kind: np.dtype, method: Method, chunk: int | None
) -> tuple[Adapted, PyTree]:
    """The model and its outputs at x; one that takes half precision or whole numbers only is given them."""

    def taking() -> tuple[Adapted, PyTree]:
        model = adapt(f, params, x.astype(kind))
        model = model._replace(apply=Taking(model.apply, np.dtype(kind)))
        return model, _outputs(model, x, chunk)

    if is_half(kind):
        return taking()
    try:
        model = adapt(f, params, x)
        return model, _outputs(model, x, chunk)
    except DataError as error:
        if not jnp.issubdtype(kind, jnp.integer):
            raise
        try:
            found = taking()
        except DataError:
            raise error from None
    if method.traced and not method.tokens:
        raise ProblemError(
            f"the model takes whole numbers, such as tokens, which method {method.name!r} cannot follow: use "
            "contextual_decomposition, ablation, occlusion, shapley, shapley_sampling or kernel_shap, or explain the "
            "embeddings"
        )
    return found


def _mixing(model: Adapted, x: jax.Array, outputs: PyTree, chunk: int | None) -> str:
    """What is wrong where the output of a row is random or depends on other rows."""
    if len(x) == 1:
        x = jnp.concatenate([x, jnp.zeros_like(x)])
        outputs = _outputs(model, x, chunk, finite=False)
    size = min(len(x), chunk or 4096)
    if size < 2:
        return ""
    picked = with_copies(size)
    again = _outputs(model, x[picked], chunk, finite=False)
    return mixing_note(jax.tree.map(lambda a: a[:size], outputs), again, picked)


def _cost(output: Output, x: jax.Array) -> str:
    """What it costs that gradients are taken forwards."""
    size = math.prod(x.shape[1:])
    if not output.forwards:
        return ""
    return (
        "the model loops until a condition holds (while_loop), which JAX cannot run backwards: gradients are taken "
        f"forwards, {size} derivatives an input at every point; contextual_decomposition, ablation or a loop written "
        "as a scan cost less"
    )


def _one_array(given: object, name: str) -> None:
    several = isinstance(given, tuple) and any(isinstance(part, np.ndarray | jax.Array) for part in given)
    if several or isinstance(given, dict):
        raise DataError(
            f"{name} must be one array [n, ...]: explain one input of several at a time, with the others held in f"
        )


def _inputs(given: ArrayLike, transform: Transform, name: str) -> jax.Array:
    _one_array(given, name)
    x = given if isinstance(given, jax.Array) else np.asarray(given)
    if is_half(x.dtype):
        x = x.astype(np.float32)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        if not (jnp.issubdtype(x.dtype, jnp.integer) or x.dtype == bool):
            raise DataError(f"{name} must be real numbers, got dtype {x.dtype}")
        x = x.astype(jnp.result_type(float))
    expected = transform.input_shape
    if tuple(x.shape[1:]) != tuple(expected):
        raise DataError(
            f"transform {transform.name} expects inputs of shape [n, {', '.join(map(str, expected))}], "
            f"{name} has shape {tuple(x.shape)}"
        )
    if x.shape[0] == 0:
        raise DataError(f"{name} has no rows")
    bad = np.argwhere(~np.isfinite(np.asarray(x)))
    if len(bad):
        raise DataError(
            f"{name} has {len(bad)} values that are not finite, the first at index {tuple(bad[0].tolist())}"
        )
    return jnp.asarray(x)


def _check_residual(transform: Transform, x: jax.Array, rest: jax.Array, policy: str | None) -> None:
    if policy not in (None, "fixed", "player"):
        raise ArgumentError(f"residual must be 'fixed' or 'player', got {policy!r}")
    if not transform.is_exact and policy is None:
        share = float(jnp.linalg.norm(rest) / jnp.maximum(jnp.linalg.norm(x), jnp.finfo(x.dtype).tiny))
        raise ArgumentError(
            f"transform {transform.name} does not reconstruct its input (it loses {share:.1%} of the norm): "
            "pass residual='fixed' to hold what is lost as it is, or residual='player' to attribute to it as well"
        )


@partial(jax.jit, static_argnums=2)
def _raw_outputs(params: PyTree, x: jax.Array, apply: Apply) -> PyTree:
    return apply(params, x)


def _outputs(model: Adapted, x: jax.Array, chunk: int | None, *, finite: bool = True, raw: bool = False) -> PyTree:
    """Outputs at every input: an array [n, ...], or a pytree of them; ``raw``: of the model's own types."""
    size = min(len(x), chunk or 4096)
    parts = []
    for i in range(0, len(x), size):
        block = padded(x[i : i + size], size)
        try:
            out = _raw_outputs(model.params, block, model.apply) if model.traceable else model.apply((), block)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"the model {model.name} fails on inputs of shape {tuple(block.shape)}: {error}"
            ) from error
        kept = len(x) - i
        parts.append(jax.tree.map(lambda a, kept=kept: np.asarray(a)[:kept] if np.ndim(a) else a, out))
    if any(np.ndim(leaf) == 0 for part in parts for leaf in jax.tree.leaves(part)):
        raise DataError(f"the model must map [n, ...] to outputs [n, ...]; {len(x)} inputs gave shape ()")
    outputs = jax.tree.map(lambda *blocks: np.concatenate(blocks), *parts)
    for leaf in jax.tree.leaves(outputs):
        if len(leaf) != len(x):
            raise DataError(
                f"the model must map [n, ...] to outputs [n, ...]; {len(x)} inputs gave shape {leaf.shape}"
            )
        bad = np.argwhere(~np.isfinite(leaf))
        if len(bad) and finite:
            raise DataError(f"the model's output is not finite at row {bad[0][0]}")
    return outputs if raw else jax.tree.map(played, outputs)


def _baseline(
    transform: Transform, s: jax.Array, x: jax.Array, baseline: Baseline, where: str, background: ArrayLike | None
) -> jax.Array:
    if where not in ("s", "x"):
        raise ArgumentError(f"baseline_in must be 's' or 'x', got {where!r}")
    if isinstance(baseline, str) and baseline not in ("zero", "mean", "sample"):
        raise ArgumentError(f"baseline {baseline!r} is unknown; choose zero, mean, sample or give an array")
    if baseline is None or (isinstance(baseline, str) and baseline == "zero"):
        if where == "s":
            return jnp.zeros_like(s)
        return jnp.broadcast_to(transform.forward(jnp.zeros_like(x[:1])), s.shape)
    if isinstance(baseline, str):
        if background is None:
            raise ArgumentError(f"baseline {baseline!r} needs background=inputs to take it from")
        pool = _inputs(background, transform, "background").astype(x.dtype)
        if baseline == "mean":
            return jnp.broadcast_to(transform.forward(pool.mean(0, keepdims=True)), s.shape)
        return transform.forward(pool[np.random.default_rng(0).integers(len(pool), size=len(x))])
    given = jnp.asarray(baseline)
    if jnp.iscomplexobj(given) and not (where == "s" and jnp.iscomplexobj(s)):
        raise DataError("baseline holds complex numbers, where real ones are needed")
    space, shape = ("coefficients", s.shape) if where == "s" else ("inputs", x.shape)
    try:
        given = jnp.broadcast_to(given, shape)
    except ValueError as error:
        raise DataError(f"baseline of shape {given.shape} does not broadcast to {space} {shape}") from error
    if not bool(jnp.all(jnp.isfinite(given))):
        raise DataError("baseline has values that are not finite")
    return given.astype(s.dtype) if where == "s" else transform.forward(given.astype(x.dtype))


def _members(
    groups: Groups, labels: Sequence[str] | None, transform: Transform
) -> tuple[np.ndarray, tuple[str, ...]]:
    shape = transform.coefficient_shape
    names: tuple[str, ...] | None = None
    if groups is None:
        groups, names = transform.groups, transform.group_labels
    elif isinstance(groups, str):
        if groups != "coefficients":
            raise ArgumentError(f"groups must be numbers, lists of indices or 'coefficients', got {groups!r}")
        groups = np.arange(int(np.prod(shape))).reshape(shape)
    if isinstance(groups, list | tuple) and len(groups) and np.ndim(groups[0]) > 0:
        members = np.stack([_mask(g, shape, k) for k, g in enumerate(groups)])
    else:
        ids = np.asarray(groups)
        if ids.size != int(np.prod(shape)) or not np.issubdtype(ids.dtype, np.integer):
            raise DataError(
                f"groups must number coefficients of shape {shape} by integers, got {ids.dtype} {ids.shape}"
            )
        ids = ids.reshape(shape)
        if ids.max() < 0:
            raise DataError("groups leave no coefficient in any group")
        members = ids[None] == np.arange(ids.max() + 1).reshape(-1, *[1] * len(shape))
    empty = np.flatnonzero(~members.reshape(len(members), -1).any(1))
    names = tuple(labels) if labels is not None else names or tuple(str(k) for k in range(len(members)))
    if len(names) != len(members):
        raise ArgumentError(f"labels must name {len(members)} groups, got {len(names)}")
    if len(empty) and groups is not None:
        keep = np.setdiff1d(np.arange(len(members)), empty)
        members, names = members[keep], tuple(names[k] for k in keep)
    return members, names


def _mask(given: ArrayLike, shape: tuple[int, ...], k: int) -> np.ndarray:
    group = np.asarray(given)
    mask = np.zeros(shape, bool)
    if group.dtype == bool:
        if group.shape != shape:
            raise DataError(f"group {k} is a mask of shape {group.shape}, coefficients have {shape}")
        return group
    if not np.issubdtype(group.dtype, np.integer) or (group.size and (group.min() < 0 or group.max() >= mask.size)):
        raise DataError(f"group {k} must hold indices 0..{mask.size - 1} of the flattened coefficients")
    mask.reshape(-1)[group] = True
    return mask
