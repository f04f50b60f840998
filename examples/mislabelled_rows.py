"""Find mislabelled rows by self-influence: breast cancer data with 5 % of the training labels flipped.

A row whose label is wrong has to be learnt by heart, so it bears on itself more than others do. Compared with ranking
by the row's own loss, and with a random order, over several draws of the flipped rows.

    python examples/mislabelled_rows.py [--out runs/mislabelled] [--draws 10]
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import jax
import numpy as np
import pandas as pd

jax.config.update("jax_enable_x64", True)

from scipy.optimize import minimize  # noqa: E402
from sklearn.metrics import average_precision_score, precision_recall_curve  # noqa: E402

from jaxland import Problem, hessian, mlp  # noqa: E402
from jaxland.data import load  # noqa: E402
from jaxland.report import figures  # noqa: E402
from jaxland.report.hessian import retrieval_figure  # noqa: E402


def train(problem: Problem) -> Problem:
    """L-BFGS until the gradient is gone."""
    f = jax.jit(jax.value_and_grad(problem.energy_of))
    found = minimize(
        lambda w: [np.asarray(a, float) for a in f(w, problem.data)],
        np.asarray(problem.w),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 3000, "maxfun": 6000, "ftol": 1e-16, "gtol": 1e-9},
    )
    return problem.at(found.x)


def main() -> None:
    """Flip, train, rank, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/mislabelled"))
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--small", action="store_true", help="one draw")
    given = parser.parse_args()
    if given.small:
        given.draws = 1
    warnings.simplefilter("ignore", hessian.CurvatureWarning)
    start = time.process_time()
    data = load("breast_cancer").split(0.0, scale="standardise").train
    model = mlp((data.d, 4, 2), key=jax.random.key(0))
    base = Problem.from_model(model, data.x, data.y, l2=1e-3)
    rows, pooled = [], {"self-influence": [], "loss": []}
    truths = []
    for draw in range(given.draws):
        rng = np.random.default_rng(draw)
        flipped = np.zeros(data.n, bool)
        flipped[rng.choice(data.n, round(given.share * data.n), replace=False)] = True
        problem = train(base.with_data(data.x, np.where(flipped, 1 - data.y, data.y)))
        curvature = hessian.curvature(problem)
        scores = {
            "self-influence": hessian.self_influence(curvature).values,
            "loss": np.asarray(problem.losses()),
        }
        row = {"draw": draw, "damping": curvature.damping, "|grad L|": curvature.gradient_norm}
        for name, score in scores.items():
            found = flipped[np.argsort(-score)[: flipped.sum()]].mean()
            row |= {f"average precision, {name}": average_precision_score(flipped, score), f"found, {name}": found}
            pooled[name].append(score)
        rows.append(row | {"random": flipped.mean()})
        truths.append(flipped)
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format=lambda v: f"{v:.3g}"))
    print(table.drop(columns="draw").mean().to_string(float_format=lambda v: f"{v:.3g}"))
    truth = np.concatenate(truths)
    curves = {}
    for name, scores in pooled.items():
        precision, recall, _ = precision_recall_curve(truth, np.concatenate(scores))
        curves[name] = (recall, precision)
    figures.save(retrieval_figure(curves, float(truth.mean())), given.out / "precision_recall")
    table.to_csv(given.out / "retrieval.csv", index=False)
    own, loss = table["found, self-influence"], table["found, loss"]
    error = (own - loss).std(ddof=1) / np.sqrt(len(table)) if len(table) > 1 else np.nan
    more = f" ± {error:.0%}" if np.isfinite(error) else ""
    print(
        f"finding: among as many rows as were flipped, self-influence finds {own.mean():.0%} of the flipped ones, "
        f"their loss {loss.mean():.0%}, a random order {table['random'].mean():.0%}; self-influence less loss "
        f"{(own - loss).mean():+.0%}{more} over {len(table)} draws"
    )
    print(f"{given.out / 'precision_recall.png'}; {time.process_time() - start:.0f} CPU s")


if __name__ == "__main__":
    main()
