"""A plain trainer for examples and benchmarks."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax

from jaxland.problem.problem import Problem
from jaxland.problem.sharded import host_rows


def train(
    problem: Problem, *, steps: int = 500, learning_rate: float = 1e-3, batch: int = 128, seed: int = 0
) -> jax.Array:
    """Flat parameters after Adam with a cosine-decayed rate on mini-batches, from where the problem stands.

    For examples and benchmarks: bring parameters of your own training where you have them.
    """
    rule = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
    x, y = host_rows(problem)
    batch = min(batch, problem.n)

    @jax.jit
    def step(w: jax.Array, state: Any, rows: Any) -> tuple[jax.Array, Any]:
        update, state = rule.update(jax.grad(problem.energy_of)(w, rows), state)
        return w + update, state

    rng, w = np.random.default_rng(seed), problem.w
    state = rule.init(w)
    for _ in range(steps):
        chosen = rng.choice(problem.n, batch, replace=False)
        w, state = step(w, state, jax.tree.map(lambda a, chosen=chosen: a[chosen], (x, y)))
    return w
