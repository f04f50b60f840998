"""Mean first-passage times of large networks by graph transformation, beside SciPy's sparse LU.

    python benchmarks/bench_kinetics.py             # the whole table
    make bench                                       # the same cases under pytest-benchmark

One thread for everybody; CPU seconds of the process. Conductances exp(-E / T) with E normal of standard deviation 1,
at T = 0.5 (over some 7 decades) and T = 0.05 (some 70). The error is the largest difference of
ln(time) from the same network with all numbers carried as logarithms.
"""

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import time
import warnings

import numpy as np
import pytest

from jaxland.landscape.physics import graph_transformation
from jaxland.landscape.physics.graph_transformation import absorb

SIZES = {"random": 10_000, "geometric": 10_000, "hubs": 10_000}


def network(kind: str, n: int = 10_000, seed: int = 0) -> np.ndarray:
    """About 3 n edges: between random pairs, between neighbours in space, or to earlier nodes by preference."""
    rng = np.random.default_rng(seed)
    chain = np.stack([np.arange(n - 1), np.arange(1, n)], 1)
    if kind == "random":
        return np.concatenate([chain, rng.integers(0, n, (2 * n, 2))])
    if kind == "geometric":
        from scipy.spatial import cKDTree

        points = rng.normal(size=(n, 3))
        near = cKDTree(points).query(points, 5)[1][:, 1:]
        return np.concatenate([chain[::10], np.stack([np.repeat(np.arange(n), 4), near.ravel()], 1)])
    later = np.repeat(np.arange(1, n), 3)
    return np.stack([later, (rng.random(len(later)) ** 3 * later).astype(int)], 1)


def case(kind: str, temperature: float, n: int = 10_000) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """ends, ln conductances, ln weights, terminals: one minimum is the target."""
    ends, rng = network(kind, n), np.random.default_rng(1)
    logs, weights = -rng.normal(size=len(ends)) / temperature, -0.3 * rng.normal(size=n) / temperature
    return ends, logs, weights, np.where(np.arange(n) == 0, 0, -1)


def sparse_lu(ends: np.ndarray, logs: np.ndarray, weights: np.ndarray, terminals: np.ndarray) -> np.ndarray:
    """ln of the times by SciPy: the linear system of the same numbers, with subtraction on the diagonal."""
    from scipy.sparse import coo_array, diags_array
    from scipy.sparse.linalg import spsolve

    n, c = len(weights), np.exp(logs - logs.max())
    loops = ends[:, 0] == ends[:, 1]
    (i, j), c = ends[~loops].T, c[~loops]
    whole = coo_array((np.r_[c, c], (np.r_[i, j], np.r_[j, i])), shape=(n, n)).tocsr()
    rest = np.flatnonzero(terminals < 0)
    matrix = (diags_array(whole.sum(1)) - whole).tocsr()[rest][:, rest]
    out = np.full(n, -np.inf)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore")
        out[rest] = np.log(spsolve(matrix.tocsc(), np.exp(weights - weights.max())[rest]))
    return out + weights.max() - logs.max()


def in_logarithms(*arguments: np.ndarray) -> np.ndarray:
    """ln of the times, all numbers as logarithms."""
    before, graph_transformation.RANGE = graph_transformation.RANGE, -1.0
    try:
        return absorb(*arguments).log_times
    finally:
        graph_transformation.RANGE = before


METHODS = {
    "graph transformation": lambda *arguments: absorb(*arguments).log_times,
    "the same, in logarithms": in_logarithms,
    "SciPy sparse LU": sparse_lu,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", SIZES)
def test_first_passage(benchmark, kind, method):
    arguments = case(kind, 0.5, 3000)
    benchmark.pedantic(METHODS[method], arguments, rounds=2)


def main() -> None:
    print(f"{'network':12}{'minima':>8}{'edges':>8}{'T':>6}  {'method':26}{'CPU s':>8}{'error of ln(time)':>24}")
    for kind, n in SIZES.items():
        for temperature in (0.5, 0.05):
            arguments = case(kind, temperature, n)
            exact = None
            for name in ("the same, in logarithms", "graph transformation", "SciPy sparse LU"):
                began = time.process_time()
                got = METHODS[name](*arguments)
                seconds = time.process_time() - began
                exact = got if exact is None else exact
                finite = np.isfinite(exact)
                wrong = np.abs(got[finite] - exact[finite])
                lost = int(np.isnan(wrong).sum())
                error = f"{np.nanmax(wrong):.1e}" + (f", {lost} negative" if lost else "") if len(wrong) else "-"
                error = "reference" if got is exact else error
                print(
                    f"{kind:12}{n:8}{len(arguments[0]):8}{temperature:6}  {name:26}{seconds:8.2f}{error:>24}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
