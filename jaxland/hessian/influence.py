"""Which training examples a prediction rests on (Koh & Liang 2017; RelatIF: Barshan et al. 2020).

    I_i = (1/n) grad f . H_d^-1 g_i        predicted change of f when example i is removed

For f a loss: positive where the example helped. No n x N array is ever formed: H_d^-1 grad f is found for the test
points and streamed against the data.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxland.errors import ArgumentError, ConvergenceError, ProblemError
from jaxland.hessian.curvature import Curvature, required
from jaxland.hessian.influence_results import DampingSweep, Influence, SelfInfluence
from jaxland.hessian.quantity import Asked, Quantity, Tree, blocks, quantity, query_points
from jaxland.options import whole_number
from jaxland.problem.precision import in_precision
from jaxland.problem.problem import Problem

SIGNS = ("removal", "upweight")


@in_precision
def influence(
    curvature: Curvature,
    test: Any,
    *,
    of: Asked = "loss",
    target: int | None = None,
    sign: str = "removal",
    relative: bool | None = None,
    top: int = 5,
    full: bool = True,
    sweep: bool | None = None,
    batch: int = 32,
) -> Influence:
    """Influence of every training example on a quantity f of every test point.

    Args:
        curvature: from ``hessian.curvature``.
        test: (x [T, ...], y [T]) or x alone where ``of`` does not need targets.
        of, target: f, see ``quantity``: "loss", "predicted_loss", "logit", "margin", "log_odds", "probability",
            "output", or a function.
        sign: "removal": predicted change of f when the example is removed; "upweight": -n times that.
        relative: also compute self-influence, which RelatIF needs: n solves, so by default only where the matrix is
            factorised.
        top: examples kept at each end for each test point.
        full: keep the matrix [T, n]; without it memory is batch x n.
        sweep: dependence on the damping; by default where jaxland chose the damping.
        batch: test points solved together.

    Raises:
        ProblemError: the problem has no per-example losses.
        ConvergenceError: see ``Curvature.solve``.
        DataError, ArgumentError: test points or arguments that do not fit.
    """
    problem = required(curvature, "influence").problem
    _check(problem, sign, top)
    whole_number("batch", batch, 1)
    f = quantity(curvature.products.problem, of, target)
    x, y = query_points(problem, test, f.needs_y)
    factor = 1.0 / problem.n if sign == "removal" else -1.0
    found = _streamed(curvature, f, (x, y), factor=factor, top=min(top, problem.n), full=full, batch=batch)
    relative = curvature.method != "products" if relative is None else relative
    sweep = curvature.damping_chosen if sweep is None else sweep
    first_eight = jax.tree.map(lambda a: a[:8], (x, y))
    return Influence(
        values=found.values,
        quantity=np.asarray(f.values(problem.w, x, y), float),
        self_influence=self_influence(curvature) if relative else None,
        most_positive=found.ends.high,
        most_negative=found.ends.low,
        positive_values=found.ends.high_values,
        negative_values=found.ends.low_values,
        residuals=found.residuals,
        iterations=found.iterations,
        of=f.name,
        sign=sign,
        kind=curvature.kind,
        method=curvature.method,
        damping=curvature.damping,
        warnings=curvature.warnings,
        sweep=damping_sweep(curvature, first_eight, of=of, target=target) if sweep else None,
    )


def _check(problem: Problem, sign: str, top: int) -> None:
    if problem.loss is None:
        raise ProblemError("influence needs per-example losses; this problem is a plain energy")
    if sign not in SIGNS:
        raise ArgumentError(f"sign must be 'removal' or 'upweight', got {sign!r}")
    whole_number("top", top)


class _Ends(NamedTuple):
    """Training examples with the largest and the smallest values, and these values [T, top]."""

    high: Int[np.ndarray, "T top"]
    low: Int[np.ndarray, "T top"]
    high_values: Float[np.ndarray, "T top"]
    low_values: Float[np.ndarray, "T top"]


class _Streamed(NamedTuple):
    """I of every test point, whole where kept, and the tally of the solves."""

    values: Float[np.ndarray, "T n"] | None
    ends: _Ends
    residuals: Float[np.ndarray, " T"]
    iterations: Int[np.ndarray, " T"]


def _streamed(
    curvature: Curvature, f: Quantity, points: tuple[Tree, Tree], *, factor: float, top: int, full: bool, batch: int
) -> _Streamed:
    """``factor`` g_i . H_d^-1 grad f, ``batch`` test points at a time."""
    kept, ends, residuals, iterations = [], [], [], []
    for _, block in blocks(points, batch):
        solved = curvature.solve(f.gradients(curvature.problem.w, *block))
        values = factor * np.asarray(example_products(curvature, solved.x), float).T
        residuals.append(solved.residuals)
        iterations.append(solved.iterations)
        ends.append(_ends(values, top))
        if full:
            kept.append(values)
    return _Streamed(
        values=np.concatenate(kept) if full else None,
        ends=_Ends(*map(np.concatenate, zip(*ends))),
        residuals=np.concatenate(residuals),
        iterations=np.concatenate(iterations),
    )


def example_products(curvature: Curvature, vectors: Float[Array, "k N"]) -> Float[Array, "n k"]:
    """g_i . v_k for every training example i and row v_k."""
    return curvature.products.example_products(vectors, curvature.problem.w, curvature.products.data)


def _ends(values: Float[np.ndarray, "T n"], top: int) -> _Ends:
    if top == 0:
        none = np.zeros((len(values), 0))
        return _Ends(none.astype(int), none.astype(int), none, none)
    high = np.argpartition(-values, top - 1, axis=1)[:, :top]
    low = np.argpartition(values, top - 1, axis=1)[:, :top]
    high = np.take_along_axis(high, np.argsort(-np.take_along_axis(values, high, 1), axis=1, kind="stable"), 1)
    low = np.take_along_axis(low, np.argsort(np.take_along_axis(values, low, 1), axis=1, kind="stable"), 1)
    return _Ends(high, low, np.take_along_axis(values, high, 1), np.take_along_axis(values, low, 1))


@in_precision
def self_influence(curvature: Curvature, *, rows: int | None = None) -> SelfInfluence:
    """g_i . H_d^-1 g_i and |H_d^-1 g_i| of every training example: n solves, in blocks; kept on the curvature.

    Args:
        curvature: from ``hessian.curvature``.
        rows: examples solved together.
    """
    problem = curvature.problem
    if problem.loss is None:
        raise ProblemError("self-influence needs per-example losses; this problem is a plain energy")
    known = curvature.known.self_influence
    if curvature.damping not in known:
        explicit = curvature.method == "explicit"
        rows = rows or int(np.clip(2**25 // problem.size, 1, 512 if explicit else 64))
        values, length, residuals = (np.zeros(problem.n) for _ in range(3))
        for at, gradients in curvature.products.gradient_blocks(problem.w, rows):
            solved = curvature.solve(gradients)
            values[at] = np.asarray(jnp.sum(gradients * solved.x, axis=1), float)
            length[at] = np.asarray(jnp.linalg.norm(solved.x, axis=1), float)
            residuals[at] = solved.residuals
        known[curvature.damping] = values, length, residuals
    return SelfInfluence(*known[curvature.damping])


@in_precision
def damping_sweep(
    curvature: Curvature,
    test: Any,
    dampings: Any = None,
    *,
    of: Asked = "loss",
    target: int | None = None,
) -> DampingSweep:
    """Rank correlation of influence between dampings: conclusions should not hang on the one in use.

    Args:
        curvature: from ``hessian.curvature``; its damping is one of those compared.
        test: a few test points, as for ``influence``.
        dampings: others to compare; default 10, 100 and 1,000 times the one in use (or 1e-4, 1e-3, 1e-2 of the
            largest eigenvalue where that is 0).
        of, target: as for ``influence``.
    """
    from scipy.stats import spearmanr

    if dampings is None:
        base = curvature.damping * 10 or 1e-4 * curvature.highest
        dampings = base * np.array([1.0, 10.0, 100.0])
    every = np.unique(np.append(np.atleast_1d(np.asarray(dampings, float)), curvature.damping))
    rows: list[np.ndarray | None] = []
    for damping in every:
        other = curvature.with_damping(float(damping))
        try:
            found = influence(other, test, of=of, target=target, relative=False, sweep=False, top=0)
            rows.append(found.values)
        except ConvergenceError:
            rows.append(None)

    def agreement(a: np.ndarray | None, b: np.ndarray | None) -> float:
        if a is None or b is None:
            return float("nan")
        pairs = [1.0 if np.ptp(p) == 0 or np.ptp(q) == 0 else spearmanr(p, q).statistic for p, q in zip(a, b)]
        return float(min(pairs))

    first = int(np.searchsorted(every, curvature.damping))
    known = curvature.known.eigen
    lowest = curvature.lowest if known is None else float(known[0][0])
    return DampingSweep(
        dampings=every,
        positive_definite=np.array([r is not None and lowest + d > 0 for r, d in zip(rows, every)]),
        to_first=np.array([agreement(rows[first], r) for r in rows]),
        to_next=np.array([agreement(a, b) for a, b in itertools.pairwise(rows)] + [float("nan")]),
        first=first,
    )
