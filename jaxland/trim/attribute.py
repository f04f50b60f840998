"""``attribute``: the one call. Checks what it is given, builds the game, runs a method, measures completeness."""

from __future__ import annotations

import html
import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxland.errors import ArgumentError, DataError, ProblemError
from jaxland.trim.game import Game, Rows, analyse, padded, raw_outputs, rows_in_memory
from jaxland.trim.methods import ALIASES, COMPLETE, CURES, GRADIENT, METHODS, Scores
from jaxland.trim.model import adapt, choose
from jaxland.trim.transforms import Transform, identity

LARGE_GAP = 0.01


class CompletenessWarning(UserWarning):
    """Attributions of a method that should be complete do not add up to f(x0) - f(baseline)."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """Attributions of n inputs to P players.

    Attributes:
        scores: signed attribution of every group (and the residual, where it plays) [n, P].
        labels: name of every column of ``scores``.
        coefficients: attribution of every coefficient [n, *coefficients], or None for methods that work per group.
        f_x: attributed output at the inputs [n]; f_base: at the baseline (mean over baselines) [n].
        gap: f_x - f_base - sum of all attributions [n]: zero where attributions are complete. For contextual
            decomposition it is the interaction between groups, and no error.
        method, transform: names.
        options: of the method.
        notes: a sentence each on what was attributed and what to distrust.
        game: what the evaluation tools need to ask the model again.
    """

    scores: np.ndarray
    labels: tuple[str, ...]
    coefficients: np.ndarray | None
    f_x: np.ndarray
    f_base: np.ndarray
    gap: np.ndarray
    method: str
    transform: str
    options: dict[str, Any]
    notes: tuple[str, ...]
    game: Game = field(repr=False)

    @property
    def relative_gap(self) -> np.ndarray:
        """|gap| over |f_x - f_base| (or the size of the attributions, where that difference vanishes) [n]."""
        size = np.maximum(np.abs(self.f_x - self.f_base), 1e-3 * np.abs(self.scores).sum(1))
        return np.abs(self.gap) / np.maximum(size, np.finfo(self.gap.dtype).tiny)

    def top(self, k: int = 5) -> np.ndarray:
        """Players of largest |score|, largest first [n, k]."""
        return np.argsort(-np.abs(self.scores), axis=1, kind="stable")[:, :k]

    def importance(self) -> np.ndarray:
        """Mean over inputs of |score| [P]."""
        return np.abs(self.scores).mean(0)

    def to_pandas(self) -> pd.DataFrame:
        """One row per input: f, baseline, gap and every score."""
        head = pd.DataFrame({"f": self.f_x, "f_baseline": self.f_base, "gap": self.gap})
        return pd.concat([head, pd.DataFrame(self.scores, columns=list(self.labels))], axis=1)

    def summary(self) -> pd.DataFrame:
        """One row per player: mean, mean absolute value and spread over inputs, most important first."""
        table = pd.DataFrame(
            {
                "player": self.labels,
                "mean |score|": self.importance(),
                "mean score": self.scores.mean(0),
                "std": self.scores.std(0),
            }
        )
        return table.sort_values("mean |score|", ascending=False, kind="stable").reset_index(drop=True)

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{html.escape(n)}</li>" for n in self.notes)
        head = f"<b>{html.escape(self.method)}</b> on {html.escape(self.transform)}, {len(self.scores)} inputs"
        return f"<p>{head}</p><ul>{notes}</ul>{self.summary().head(12).to_html(index=False)}"


def attribute(
    f: Any,
    x: Any,
    *,
    transform: Transform | None = None,
    method: str = "integrated_gradients",
    target: Any = None,
    params: Any = None,
    baseline: Any = None,
    baseline_in: str = "s",
    background: Any = None,
    groups: Any = None,
    labels: Sequence[str] | None = None,
    residual: str | None = None,
    chunk: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    warn: bool = True,
    **options: Any,
) -> Attribution:
    """Attribute a model's output to the coefficients of a transform of its input.

    Args:
        f: the model: a jaxland ``Model``, ``f(params, x)`` with ``params``, a Flax nnx module (in eval mode), a bound
            linen module, an Equinox module (called per example), a callable on batches, or ``trim.black_box(f)``.
        x: inputs to explain [n, *input_shape].
        transform: see ``jaxland.trim.transforms``; default the identity.
        method: one of ``trim.METHODS`` or an alias (ig, cd, gradient_shap, ixg, feature_ablation).
        target: which output: index, one index per input, ``outputs -> [n]``, or None for the only output or the
            predicted class. Raw outputs (logits) are attributed unless the callable says otherwise.
        params: for ``f(params, x)``.
        baseline: where players stand when off: None or "zero", "mean", "sample" (of ``background``), or an array that
            broadcasts to coefficients (``baseline_in="s"``) or to inputs (``baseline_in="x"``).
        background: inputs [m, *input_shape] that "mean", "sample" and expected gradients draw on.
        groups: default the transform's; else group numbers shaped like the coefficients (-1: none), a list of index
            arrays or masks (may overlap), or "coefficients" for one player each.
        labels: names of the groups.
        residual: what becomes of x - T^-1(T(x)) for a transform that loses something: "fixed" or "player".
        chunk: most inputs given to the model at once; default by memory. The result does not depend on it.
        progress: called with (done, total).
        warn: warn when a complete method leaves a gap over 1 %.
        **options: of the method, such as ``nodes``, ``samples``, ``seed``, ``mode``.

    Raises:
        DataError: x, baseline or background do not fit the transform or are not finite; attributions are not finite.
        ArgumentError: unknown method, option, target out of range, lossy transform without a residual policy.
        ProblemError: a gradient method on a black box.
    """
    name = ALIASES.get(method, method)
    if name not in METHODS:
        raise ArgumentError(f"method {method!r} is unknown; choose one of {', '.join(METHODS)}")
    _check_options(name, options)
    game = build(
        f,
        x,
        transform=transform,
        target=target,
        params=params,
        baseline=baseline,
        baseline_in=baseline_in,
        background=background,
        groups=groups,
        labels=labels,
        residual=residual,
        chunk=chunk,
        progress=progress,
        gradient=name in GRADIENT,
    )
    if name == "expected_gradients":
        if background is None:
            raise ArgumentError(
                "expected_gradients averages over baselines: pass background=inputs to draw them from"
            )
        pool = game.transform.forward(_inputs(background, game.transform, "background"))
        scores = METHODS[name](game, pool, **options)
    else:
        scores = METHODS[name](game, **options)
    return _finish(game, name, scores, options, warn)


def build(
    f: Any,
    x: Any,
    *,
    transform: Transform | None = None,
    target: Any = None,
    params: Any = None,
    baseline: Any = None,
    baseline_in: str = "s",
    background: Any = None,
    groups: Any = None,
    labels: Sequence[str] | None = None,
    residual: str | None = None,
    chunk: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    gradient: bool = True,
) -> Game:
    """The checked game behind ``attribute``; same arguments."""
    if transform is None:
        transform = identity(np.shape(x)[1:] or (1,))
    x = _inputs(x, transform, "x")
    if chunk is not None and (int(chunk) != chunk or chunk < 1):
        raise ArgumentError(f"chunk must be a positive integer, got {chunk}")
    model = adapt(f, params, x)
    s, rest = analyse(transform, x)
    _check_residual(transform, x, rest, residual)
    outputs = _outputs(model, x, chunk)
    chosen = choose(target, outputs)
    base = _baseline(transform, s, x, baseline, baseline_in, background)
    members, names = _members(groups, labels, transform)
    plays = residual == "player"
    rows = Rows(x, s, base, rest, jnp.asarray(chosen.index))
    return Game(
        model,
        chosen,
        transform,
        rows,
        members,
        (*names, "residual") if plays else names,
        plays,
        rows_in_memory(model, chosen, x, gradient, chunk),
        progress,
    )


def _inputs(x: Any, transform: Transform, name: str) -> jax.Array:
    x = x if isinstance(x, jax.Array) else np.asarray(x)
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


def _outputs(model: Any, x: jax.Array, chunk: int | None) -> np.ndarray:
    size = min(len(x), chunk or 4096)
    parts = []
    for i in range(0, len(x), size):
        block = padded(x[i : i + size], size)
        try:
            out = raw_outputs(model.params, block, model.apply) if model.traceable else model.apply((), block)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"the model {model.name} fails on inputs of shape {tuple(block.shape)}: {error}"
            ) from error
        parts.append(np.asarray(out)[: len(x) - i])
    outputs = np.concatenate(parts)
    if outputs.ndim == 0 or len(outputs) != len(x):
        raise DataError(
            f"the model must map [n, ...] to outputs [n, ...]; {len(x)} inputs gave shape {outputs.shape}"
        )
    bad = np.argwhere(~np.isfinite(outputs))
    if len(bad):
        raise DataError(f"the model's output is not finite at row {bad[0][0]}")
    return outputs


def _baseline(
    transform: Transform, s: jax.Array, x: jax.Array, baseline: Any, where: str, background: Any
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
    space, shape = ("coefficients", s.shape) if where == "s" else ("inputs", x.shape)
    try:
        given = jnp.broadcast_to(given, shape)
    except ValueError as error:
        raise DataError(f"baseline of shape {jnp.shape(baseline)} does not broadcast to {space} {shape}") from error
    if not bool(jnp.all(jnp.isfinite(given))):
        raise DataError("baseline has values that are not finite")
    return given.astype(s.dtype) if where == "s" else transform.forward(given.astype(x.dtype))


def _members(groups: Any, labels: Sequence[str] | None, transform: Transform) -> tuple[np.ndarray, tuple[str, ...]]:
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


def _mask(group: Any, shape: tuple[int, ...], k: int) -> np.ndarray:
    group = np.asarray(group)
    mask = np.zeros(shape, bool)
    if group.dtype == bool:
        if group.shape != shape:
            raise DataError(f"group {k} is a mask of shape {group.shape}, coefficients have {shape}")
        return group
    if not np.issubdtype(group.dtype, np.integer) or (group.size and (group.min() < 0 or group.max() >= mask.size)):
        raise DataError(f"group {k} must hold indices 0..{mask.size - 1} of the flattened coefficients")
    mask.reshape(-1)[group] = True
    return mask


def _check_options(method: str, options: dict[str, Any]) -> None:
    accepted = [p for p in inspect.signature(METHODS[method]).parameters if p not in ("game", "background")]
    unknown = sorted(set(options) - set(accepted))
    if unknown:
        known = f"its options are {', '.join(accepted)}" if accepted else "it has none"
        raise ArgumentError(f"method {method!r} has no option {unknown[0]!r}; {known}")


def _finish(game: Game, method: str, scores: Scores, options: dict[str, Any], warn: bool) -> Attribution:
    for what, found in (("attribution", scores.coefficients), ("attribution", scores.players)):
        if found is not None and not np.isfinite(found).all():
            where = np.argwhere(~np.isfinite(found))[0]
            count = int((~np.isfinite(found)).sum())
            column = game.labels[where[1]] if found is scores.players else f"coefficient {tuple(where[1:].tolist())}"
            raise DataError(
                f"{method}: {count} values of the {what} are not finite, first input {where[0]}, {column}. The "
                "model's value or gradient is not finite there or at the baseline: try another baseline or float64"
            )
    both = game.outputs(np.array([[0.0] * game.players, [1.0] * game.players]))
    f_base = both[:, 0] if scores.base is None else scores.base
    f_x = both[:, 1]
    gap = f_x - f_base - scores.players.sum(1)
    notes = [game.target.note]
    if game.residual_plays:
        notes.append("the residual of the transform is a player of its own")
    elif not game.transform.is_exact:
        notes.append("the residual of the transform is held fixed: it is part of the baseline")
    if method == "contextual_decomposition":
        notes.append(
            "each score is one split of the input in two; they need not add up, the gap is their interaction"
        )
    options = {**_defaults(method), **options}
    result = Attribution(
        scores.players,
        game.labels,
        scores.coefficients,
        f_x,
        np.asarray(f_base),
        gap,
        method,
        game.transform.name,
        options,
        tuple(notes),
        game,
    )
    if method in COMPLETE and game.is_disjoint:
        worst = float(result.relative_gap.max())
        if worst > LARGE_GAP:
            share = float((result.relative_gap > LARGE_GAP).mean())
            cure = CURES.get(method, "use float64: sums of many large terms lose digits").format(**options)
            text = (
                f"attributions of {share:.0%} of the inputs miss f(x) - f(baseline) by more than {LARGE_GAP:.0%} "
                f"(worst {worst:.1%}): {cure}"
            )
            result = Attribution(**{**result.__dict__, "notes": (*result.notes, text)})
            if warn:
                warnings.warn(text, CompletenessWarning, stacklevel=3)
    return result


def _defaults(method: str) -> dict[str, Any]:
    parameters = inspect.signature(METHODS[method]).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


__all__ = ["Attribution", "CompletenessWarning", "ProblemError", "attribute", "build"]
