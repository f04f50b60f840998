"""What the loss rises by when a weight alone is set to zero: how much a network rests on each of its weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxland.errors import ProblemError
from jaxland.problem.precision import in_precision
from jaxland.problem.problem import Problem


@in_precision
def removal_costs(problem: Problem, points: ArrayLike, *, rows: int = 4000, seed: int = 0) -> np.ndarray:
    """Rise [N] of the mean loss of the training data, regulariser left out, when each weight alone is set to zero.

    Exact: N + 1 evaluations a point. The second-order estimate of it, H_jj w_j^2 / 2, is LeCun, Denker & Solla's
    (1990) saliency.

    Args:
        problem: with data.
        points: [k, N] or [N] parameter vectors in one frame; the rise is averaged over them.
        rows: most training rows used, drawn by seed.
        seed: of the rows.

    Raises:
        ProblemError: a plain energy has no data.
    """
    if problem.loss is None:
        raise ProblemError("a plain energy has no data whose loss could rise when a weight is removed")
    losses_of, points = problem.losses_of, np.atleast_2d(np.asarray(points, problem.dtype))

    def rise(w: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        without = jax.lax.map(lambda j: jnp.mean(losses_of(w.at[j].set(0.0), x, y)), jnp.arange(len(w)))
        return without - jnp.mean(losses_of(w, x, y))

    run = problem.compiled(("landscape.weights.removal",), lambda: jax.jit(rise))
    x, y = problem.data
    if problem.n > rows:
        kept = np.sort(np.random.default_rng([seed, 83]).permutation(problem.n)[:rows])
        x, y = jax.tree.map(lambda leaf: leaf[kept], (x, y))
    return np.mean([np.asarray(run(jnp.asarray(w), x, y)) for w in points], axis=0)
