"""Mutual information: CPU time and accuracy beside the published package (gmm-mi, optional, a black box) and KSG.

    python benchmarks/bench_information.py speed      CPU seconds, warm and with compilation, equal settings too
    python benchmarks/bench_information.py matrix     a 10 x 6 matrix, 50 bootstraps, N = 5,000
    python benchmarks/bench_information.py bmi        the one- and two-dimensional tasks of Czyz et al. 2023
    pytest benchmarks/bench_information.py --benchmark-only

gmm-mi 0.8.2 needs scikit-learn < 1.7: give it an environment of its own, with this package beside it. Everything here
runs on one thread.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import json
import subprocess
import sys
import time
import warnings
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from scipy.special import digamma, gammaln, ndtr

PUBLISHED = dict(starts=3, folds=2, patience=1, maps="raw", null=0, orders=tuple(range(1, 51)))


# Families with known answers


def normal(rng, n, rho=0.6):
    x = rng.normal(size=n)
    return x, rho * x + np.sqrt(1 - rho**2) * rng.normal(size=n), -0.5 * np.log(1 - rho**2)


def gamma_exponential(rng, n, a=1.0):
    x = rng.gamma(a, size=n)
    return np.log(x), np.log(rng.exponential(1 / x)), digamma(a + 1) - np.log(a)


def weinman(rng, n, a=0.3):
    x = rng.exponential(0.5, size=n)
    truth = -np.log(2 * a / (1 - 2 * a)) + digamma(1 / (1 - 2 * a)) - digamma(1)
    return np.log(x), np.log(x + rng.exponential(a, size=n)), truth


def blocks(cov, dx):
    def make(rng, n):
        z = rng.multivariate_normal(np.zeros(len(cov)), cov, size=n)
        det = np.linalg.det
        return z[:, :dx], z[:, dx:], -0.5 * np.log(det(cov) / det(cov[:dx, :dx]) / det(cov[dx:, dx:]))

    return make


def student_entropy(k, dof):
    half = 0.5 * (k + dof)
    log_norm = gammaln(0.5 * dof) - gammaln(half) + 0.5 * k * np.log(dof * np.pi)
    return log_norm + half * (digamma(half) - digamma(0.5 * dof))


def student(d, dof, f=lambda t: t):
    truth = 2 * student_entropy(d, dof) - student_entropy(2 * d, dof)

    def make(rng, n):
        t = rng.normal(size=(n, 2 * d)) / np.sqrt(rng.chisquare(dof, size=(n, 1)) / dof)
        return f(t[:, :d]), f(t[:, d:]), truth

    return make


def mapped(f, g):
    def make(rng, n):
        x, y, truth = normal(rng, n, 0.75)
        return f(x), g(y), truth

    return make


def additive(noise):
    truth = {0.1: 1.709438, 0.75: 1 / 3}[noise]

    def make(rng, n):
        x = rng.uniform(size=n)
        return x, x + rng.uniform(-noise, noise, size=n), truth

    return make


def mixture(parts, truth):
    def make(rng, n):
        which = rng.integers(0, len(parts), n)
        drawn = np.stack([rng.multivariate_normal(m, c, size=n) for m, c in parts])
        z = drawn[which, np.arange(n)]
        return z[:, 0], z[:, 1], truth

    return make


def inverse_of(cdf):
    grid = np.linspace(-10, 10, 200_001)
    return lambda u: np.interp(u, cdf(grid), grid)


def swiss_roll(rng, n):
    x, y, truth = normal(rng, n, 0.75)
    t = 1.5 * np.pi * (1 + 2 * ndtr(x))
    return np.stack([t * np.cos(t), t * np.sin(t)], 1) / 21, ndtr(y), truth


def _ai():
    tilt = 0.95 * np.sqrt(0.04 * 0.2)
    return [
        ((1.0, 0.0), np.diag([0.01, 0.2])),
        ((1.0, 1.0), np.diag([0.05, 0.001])),
        ((1.0, -1.0), np.diag([0.05, 0.001])),
        ((-0.8, -0.2), np.diag([0.03, 0.001])),
        ((-1.2, 0.0), np.array([[0.04, tilt], [tilt, 0.2]])),
        ((-0.4, 0.0), np.array([[0.04, -tilt], [-tilt, 0.2]])),
    ]


def half_cube(t):
    return t * np.sqrt(np.abs(t))


TWO_PAIRS = np.eye(4) + 0.8 * (np.eye(4, k=2) + np.eye(4, k=-2))
BMI = {
    "1v1 normal .75": mapped(lambda t: t, lambda t: t),
    "1v1 normal CDF": mapped(ndtr, ndtr),
    "1v1 bimodal": mapped(
        lambda t: inverse_of(lambda s: 0.3 * ndtr(s) + 0.7 * ndtr(s - 5))(ndtr(t)),
        lambda t: inverse_of(lambda s: 0.5 * ndtr(s + 1) + 0.5 * ndtr(s - 3))(ndtr(t)),
    ),
    "1v1 wiggly": mapped(
        lambda t: t + 0.4 * np.sin(t) + 0.2 * np.sin(1.7 * t + 1) + 0.03 * np.sin(3.3 * t - 2.5),
        lambda t: t - 0.4 * np.sin(0.4 * t) + 0.17 * np.sin(1.3 * t + 3.5) + 0.02 * np.sin(4.3 * t - 2.5),
    ),
    "1v1 half-cube": mapped(half_cube, half_cube),
    "1v1 Student dof 1": student(1, 1),
    "1v1 asinh Student dof 1": student(1, 1, np.arcsinh),
    "1v1 additive .1": additive(0.1),
    "1v1 additive .75": additive(0.75),
    "1v1 X .9": mixture([((0, 0), np.array([[1, r], [r, 1]])) for r in (0.9, -0.9)], 0.40844),
    "1v1 AI": mixture(_ai(), 0.77594),
    "2v1 Swiss roll": swiss_roll,
    "2v2 normal dense": blocks(0.5 * np.eye(4) + 0.5, 2),
    "2v2 normal 2-pair": blocks(TWO_PAIRS, 2),
    "2v2 Student dof 1": student(2, 1),
    "2v2 Student dof 2": student(2, 2),
    "2v2 asinh Student dof 1": student(2, 1, np.arcsinh),
}


# Both sides


def ours(x, y, **options):
    from jaxland import information

    return information.mutual_information(x, y, ksg=False, **options)


def peer(x, y, components=0):
    """Mean and standard deviation of gmm-mi at its defaults, or with a fixed number of components."""
    from gmm_mi.mi import EstimateMI
    from gmm_mi.param_holders import SelectComponentsParamHolder

    chosen = SelectComponentsParamHolder(fixed_components_number=components)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mean, std = EstimateMI(select_components_params=chosen).fit_estimate(np.c_[x, y])
    return float(mean), float(std)


def have_peer():
    return find_spec("gmm_mi") is not None


def clock(work):
    start = time.process_time()
    got = work()
    return time.process_time() - start, got


CASES = [
    ("gamma-exponential", gamma_exponential, 2_000),
    ("gamma-exponential", gamma_exponential, 10_000),
    ("Weinman .3", weinman, 2_000),
    ("normal .6", normal, 10_000),
]


def speed(seeds=(0, 1, 2)):
    """CPU seconds a pair: cold in a fresh process, warm the mean over seeds."""
    lines = []
    for name, make, n in CASES:
        for label, options, components in (
            ("defaults of each", {}, 0),
            ("published settings", PUBLISHED, 0),
            ("5 components, 3 starts", PUBLISHED | {"orders": 5}, 5),
        ):
            argument = json.dumps([make.__name__, n, {k: v for k, v in options.items()}])
            cold = subprocess.run(
                [sys.executable, __file__, "cold", argument], capture_output=True, text=True, check=True
            )
            ours(*make(np.random.default_rng(seeds[0]), n)[:2], **options)
            warm, off = [], []
            for seed in seeds:
                x, y, truth = make(np.random.default_rng([seed, n]), n)
                ours(x, y, **options)  # orders not met before compile here
                t, got = clock(lambda x=x, y=y, o=options: ours(x, y, **o))
                warm.append(t)
                off.append((got.mean - truth) / got.std)
            line = dict(
                case=name,
                N=n,
                settings=label,
                cold=float(cold.stdout.split()[-1]),
                warm=np.mean(warm),
                z=max(off, key=abs),
            )
            if have_peer():
                took, theirs = [], []
                for seed in seeds:
                    x, y, truth = make(np.random.default_rng([seed, n]), n)
                    t, (mean, std) = clock(lambda x=x, y=y, c=components: peer(x, y, c))
                    took.append(t)
                    theirs.append((mean - truth) / std)
                line |= {"gmm-mi": np.mean(took), "gmm-mi z": max(theirs, key=abs)}
                line |= {"x warm": line["gmm-mi"] / line["warm"], "x cold": line["gmm-mi"] / line["cold"]}
            lines.append(line)
            print(json.dumps({k: (round(v, 3) if isinstance(v, float) else v) for k, v in line.items()}), flush=True)
    print(pd.DataFrame(lines).round(2).to_string(index=False))


def cold(argument):
    """One pair in a process that has compiled nothing; all CPU seconds since its start, imports included."""
    make, n, options = json.loads(argument)
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    x, y, _ = globals()[make](np.random.default_rng([0, n]), n)
    ours(x, y, **options)
    print(time.process_time())


def matrix_case(n=5_000):
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(n, 6))
    latents = np.concatenate(
        [np.sinh(factors[:, :4]) + 0.5 * rng.normal(size=(n, 4)), factors[:, 2:] ** 2 + rng.normal(size=(n, 4))], 1
    )
    return np.concatenate([latents, rng.normal(size=(n, 2))], 1), factors


def matrix_speed():
    from jaxland import information

    latents, factors = matrix_case()
    for label in ("with compilation", "warm"):
        wall = time.time()
        took, table = clock(lambda: information.matrix(latents, factors, bootstraps=50))
        print(
            f"10 x 6 matrix, N = 5,000, 50 bootstraps, {label}: {took:.1f} CPU s, {time.time() - wall:.1f} s",
            flush=True,
        )
    print(table.frame().round(3))


def bmi(n=5_000, seeds=(0, 1)):
    """Truth, ours, gmm-mi (one-dimensional pairs only, which is what it takes) and KSG, means over seeds."""
    from jaxland import information

    lines = []
    for name, make in BMI.items():
        got, theirs, near = [], [], []
        for seed in seeds:
            x, y, truth = make(np.random.default_rng([seed, n]), n)
            result = ours(x, y, null=0)
            got.append((result.mean, result.std, result.map))
            near.append(information.ksg(x, y, maps="raw"))
            if have_peer() and np.ndim(x) == np.ndim(y) == 1:
                try:
                    theirs.append(peer(x, y))
                except Exception as error:  # a collapsed component ends it
                    theirs.append((np.nan, np.nan))
                    print(f"{name}, seed {seed}: gmm-mi raised {type(error).__name__}", flush=True)
        mean, std = np.mean([g[0] for g in got]), np.mean([g[1] for g in got])
        line = dict(task=name, truth=truth, ours=mean, std=std, maps="/".join(sorted({g[2] for g in got})))
        line["ours off"] = mean - truth
        if theirs:
            line |= {"gmm-mi": np.nanmean([t[0] for t in theirs]), "gmm-mi std": np.nanmean([t[1] for t in theirs])}
            line["gmm-mi off"] = line["gmm-mi"] - truth
        line["KSG"] = np.mean(near)
        line["KSG off"] = line["KSG"] - truth
        others = [abs(line[k]) for k in ("gmm-mi off", "KSG off") if np.isfinite(line.get(k, np.nan))]
        closest, within = abs(line["ours off"]) <= min(others), abs(line["ours off"]) <= std
        line["verdict"] = "closest" if closest else ("within 1 std" if within else "NEITHER")
        lines.append(line)
        print(
            json.dumps({k: (round(float(v), 4) if not isinstance(v, str) else v) for k, v in line.items()}),
            flush=True,
        )
    print(pd.DataFrame(lines).round(4).to_string(index=False))


# pytest-benchmark


@pytest.mark.parametrize(("name", "make", "n"), CASES, ids=lambda v: str(getattr(v, "__name__", v)))
@pytest.mark.parametrize("side", ["jaxland", "jaxland, published settings", "gmm-mi"])
def test_pair(benchmark, side, name, make, n):
    x, y, _ = make(np.random.default_rng([0, n]), n)
    benchmark.group = f"{name}, N = {n}"
    if side == "gmm-mi":
        pytest.importorskip("gmm_mi")
        benchmark.pedantic(peer, (x, y), rounds=1)
    else:
        options = PUBLISHED if "published" in side else {}
        benchmark.pedantic(ours, (x, y), options, rounds=3, warmup_rounds=1)


def test_matrix(benchmark):
    from jaxland import information

    latents, factors = matrix_case()
    benchmark.pedantic(information.matrix, (latents, factors), dict(bootstraps=50), rounds=1, warmup_rounds=1)


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else "speed"
    if what == "cold":
        cold(sys.argv[2])
    else:
        {"speed": speed, "matrix": matrix_speed, "bmi": bmi}[what]()
