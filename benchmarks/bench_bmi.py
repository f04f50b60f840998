"""Error bars of mutual information on 26 tasks of the kind of Czyz et al. 2023 (BMI): how often they hold the truth.

    python benchmarks/bench_bmi.py [--seeds 2] [--first 0] [--n 5000] [--tasks 3v3] [--json runs/bmi.json]

Every task is a smooth one-to-one map of samples whose information is known in closed form. Said of each: the
estimate, its error in reported standard deviations, and whether a note warns of the fit. The goal at N = 5,000: at
least 60 % within one and 90 % within two reported standard deviations, and none beyond four without such a note.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from bench_information import additive, blocks, half_cube, mapped, student, swiss_roll
from scipy.special import ndtr

Pair = tuple[np.ndarray, np.ndarray, float]
Task = Callable[[np.random.Generator, int], Pair]
Map = Callable[[np.ndarray], np.ndarray]
# Words of the notes that say that the error bar may not hold the fit's own error.
WARNINGS = ("the error given is that of the fit", "look at the fitted density", "do not suit")


def wiggly_x(t: np.ndarray) -> np.ndarray:
    return t + 0.4 * np.sin(t) + 0.2 * np.sin(1.7 * t + 1) + 0.03 * np.sin(3.3 * t - 2.5)


def wiggly_y(t: np.ndarray) -> np.ndarray:
    return t - 0.4 * np.sin(0.4 * t) + 0.17 * np.sin(1.3 * t + 3.5) + 0.02 * np.sin(4.3 * t - 2.5)


def spiral(first: int, second: int, speed: float = 1 / 3) -> Map:
    """Rotation in one plane by an angle that grows with the squared distance from the origin."""

    def turn(x: np.ndarray) -> np.ndarray:
        angle = speed * np.sum(x**2, axis=1)
        out = x.copy()
        out[:, first] = np.cos(angle) * x[:, first] - np.sin(angle) * x[:, second]
        out[:, second] = np.sin(angle) * x[:, first] + np.cos(angle) * x[:, second]
        return out

    return turn


def two_pairs(d: int, f: Map, g: Map) -> Task:
    """d x d normal, the first two coordinates of x and y paired with correlation .8, behind a map each."""
    cov = np.eye(2 * d)
    for k in (0, 1):
        cov[k, d + k] = cov[d + k, k] = 0.8
    normal = blocks(cov, d)

    def make(rng: np.random.Generator, n: int) -> Pair:
        x, y, truth = normal(rng, n)
        return f(x), g(y), truth

    return make


TASKS: dict[str, Task] = {
    "1v1 normal": mapped(lambda t: t, lambda t: t),
    "1v1 CDF": mapped(ndtr, ndtr),
    "1v1 half-cube": mapped(half_cube, half_cube),
    "1v1 wiggly": mapped(wiggly_x, wiggly_y),
    "1v1 Student dof 1": student(1, 1),
    "1v1 Student dof 2": student(1, 2),
    "1v1 Student dof 3": student(1, 3),
    "1v1 asinh Student dof 1": student(1, 1, np.arcsinh),
    "1v1 additive .1": additive(0.1),
    "1v1 additive .75": additive(0.75),
    "2v1 Swiss roll": swiss_roll,
    "2v2 half-cube": two_pairs(2, half_cube, half_cube),
    "2v2 wiggly": two_pairs(2, wiggly_x, wiggly_y),
    "2v2 spiral": two_pairs(2, spiral(0, 1), spiral(1, 0)),
    "2v2 Student dof 1": student(2, 1),
    "2v2 Student dof 2": student(2, 2),
    "2v2 Student dof 3": student(2, 3),
    "2v2 asinh Student dof 1": student(2, 1, np.arcsinh),
    "3v3 CDF": two_pairs(3, ndtr, ndtr),
    "3v3 half-cube": two_pairs(3, half_cube, half_cube),
    "3v3 wiggly": two_pairs(3, wiggly_x, wiggly_y),
    "3v3 spiral": two_pairs(3, spiral(0, 1), spiral(1, 2)),
    "3v3 Student dof 1": student(3, 1),
    "3v3 Student dof 2": student(3, 2),
    "3v3 Student dof 3": student(3, 3),
    "3v3 asinh Student dof 1": student(3, 1, np.arcsinh),
}


def measured(n: int, seeds: range, only: str) -> pd.DataFrame:
    """A row per task and seed: truth, estimate, errors, and the distance in reported standard deviations."""
    from jaxland import information

    rows = []
    for seed in seeds:
        for name, make in TASKS.items():
            if only not in name:
                continue
            x, y, truth = make(np.random.default_rng([seed, n]), n)
            began = time.process_time()
            found = information.mutual_information(x, y, seed=seed)
            line = {
                "task": name,
                "seed": seed,
                "truth": float(truth),
                "estimate": found.mean,
                "std": found.std,
                "bootstraps": float(np.std(found.samples, ddof=1)),
                "off": (found.mean - truth) / found.std,
                "map": found.map,
                "components": found.components,
                "warned": any(word in note for note in found.notes for word in WARNINGS),
                "cpu_s": time.process_time() - began,
            }
            rows.append(line)
            print(f"{name:26s} {seed} {truth:.4f} {found.mean:.4f} +- {found.std:.4f} {line['off']:+.1f}", flush=True)
    return pd.DataFrame(rows)


def main() -> None:
    """Measure, print the table and the three shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first", type=int, default=0, help="number of the first seed")
    parser.add_argument("--n", type=int, default=5_000)
    parser.add_argument("--tasks", default="", help="only tasks whose name holds this")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    table = measured(options.n, range(options.first, options.first + options.seeds), options.tasks)
    print(table.round(4).to_string(index=False))
    off, bare = table.off.abs(), (table.off * table["std"] / table.bootstraps).abs()
    for what, z in (("reported", off), ("the bootstraps alone", bare)):
        print(f"{what}: within one {np.mean(z <= 1):.0%}, within two {np.mean(z <= 2):.0%}, beyond four {sum(z > 4)}")
    print(
        f"beyond four without a note: {int((~table.warned & (off > 4)).sum())}; CPU s in all {table.cpu_s.sum():.0f}"
    )
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(table.to_dict("records"), indent=1) + "\n")


if __name__ == "__main__":
    main()
