"""Error bars of predictions (RUE) beside a true bootstrap: the network trained again on resampled rows.

    python benchmarks/bootstrap_refits.py               diabetes (scikit-learn), network 10-3-1, three regularisers
    python benchmarks/bootstrap_refits.py --refits 20

Every refit begins at the minimum whose error bars are asked for. How far two halves of the refits agree with each
other bounds what any estimate can reach with so many.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize
from scipy.stats import spearmanr

from jaxland import Problem, hessian, mlp
from jaxland.data import load

if TYPE_CHECKING:
    from jaxland.data import Split


def main() -> None:
    """Print a line per regulariser."""
    from sklearn.datasets import load_diabetes

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--refits", type=int, default=100)
    parser.add_argument("--starts", type=int, default=60, help="of the search for the best minimum")
    given = parser.parse_args()
    table = load_diabetes(as_frame=True, scaled=False).frame
    split = load(table, "target").split(0.3, 0, scale="standardise", target_scale="standardise")
    print("l2      linear  resample  two halves  refits / linear (median std)  |dw| (median)")
    for l2 in (1e-3, 1e-2, 5e-2):
        print("{:<8g}{:<8.2f}{:<10.2f}{:<12.2f}{:<30.2f}{:.2f}".format(l2, *compared(split, l2, given)))


def compared(split: Split, l2: float, given: argparse.Namespace) -> tuple[float, ...]:
    """Rank correlations of error bars with those of refits, and how the refits went."""
    assert split.test is not None
    x, y, asked = split.train.x, split.train.y, split.test.x
    problem = Problem.from_model(mlp((10, 3, 1)), x, y, loss="squared_error", l2=l2)
    refit = trainer(problem, l2)
    rng, whole = np.random.default_rng(1), np.ones(problem.n)
    starts = (refit(rng.normal(size=problem.size), whole) for _ in range(given.starts))
    problem = problem.at(min(starts, key=lambda w: float(problem.energy(w))))
    curvature = hessian.curvature(problem, damping=0.0)
    linear = hessian.uncertainty(curvature, asked, of="output").std
    drawn = hessian.uncertainty(curvature, asked, of="output", method="resample", samples=200, seed=0).std
    outputs, moved = [], []
    for _ in range(given.refits):
        w = refit(np.asarray(problem.w), np.bincount(rng.integers(0, problem.n, problem.n), minlength=problem.n))
        outputs.append(np.asarray(problem.predict(w, asked)).reshape(-1))
        moved.append(float(np.linalg.norm(w - np.asarray(problem.w))))
    refits, half = np.array(outputs), given.refits // 2
    std = refits.std(0)
    return (
        float(spearmanr(linear, std).statistic),
        float(spearmanr(drawn, std).statistic),
        float(spearmanr(refits[:half].std(0), refits[half:].std(0)).statistic),
        float(np.median(std / linear)),
        float(np.median(moved)),
    )


def trainer(problem: Problem, l2: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """``(start [N], counts [n]) -> weights [N]`` of the mean loss with so many copies of each row."""
    losses, (x, y) = problem.losses_of, problem.data

    @jax.jit
    def both(w: jax.Array, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.value_and_grad(lambda v: jnp.mean(counts * losses(v, x, y)) + l2 * jnp.sum(v**2))(w)

    def refit(start: np.ndarray, counts: np.ndarray) -> np.ndarray:
        def evaluated(w: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = both(w, jnp.asarray(counts, float))
            return float(value), np.asarray(gradient, float)

        options = {"maxiter": 5000, "gtol": 1e-8, "ftol": 1e-15}
        return minimize(evaluated, start, jac=True, method="L-BFGS-B", options=options).x

    return refit


if __name__ == "__main__":
    with jax.enable_x64(True):
        main()
