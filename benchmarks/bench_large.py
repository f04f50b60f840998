"""Large networks on one CPU core: a ResNet-20 (2.7e5 parameters) on digits, a transformer of 1.1e7 on text.

``python benchmarks/bench_large.py PART`` runs one part for at most ``--seconds`` and prints a table; ``modes`` and
``path`` keep a checkpoint under runs/large and go on from it when called again, until they say they are done. CPU
seconds are process time, compilation included where it says so.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

OUT = Path("runs/large")
PARAGRAPH = Path(__file__).parents[1] / "README.md"


def resnet_problem(rows=1437, chunk=479, seed=0):
    """Digits (8 x 8), 1,437 for training and 360 for testing, and an untrained ResNet-20."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    from jaxland import Problem
    from jaxland.models.networks import resnet

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    x, xt, y, yt = train_test_split(x, y, test_size=360, random_state=0, stratify=y)
    problem = Problem.from_model(resnet(channels=1, seed=seed), x[:rows], y[:rows], l2=1e-4, chunk=chunk)
    return problem, (xt, yt)


def trained_resnet(seed):
    """Parameters after 400 steps of Adam on batches of 128, kept in a file."""
    from jaxland.problem.training import train

    place = OUT / f"resnet_{seed}.npy"
    problem, test = resnet_problem(seed=seed, chunk=None)
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        start = time.process_time()
        np.save(place, train(problem, steps=400, learning_rate=3e-3, seed=seed))
        print(f"trained network {seed} in {time.process_time() - start:.0f} CPU s")
    w = np.load(place)
    return w, problem, test


def transformer_problem(sequences=16, length=64, remat=False):
    """Windows of this project's README as bytes, and an untrained transformer."""
    from jaxland import Problem
    from jaxland.models.networks import next_token_loss, transformer

    text = np.frombuffer(PARAGRAPH.read_bytes(), np.uint8)
    starts = np.linspace(0, len(text) - length - 1, sequences).astype(int)
    windows = np.stack([text[s : s + length + 1] for s in starts]).astype(np.int32)
    model = transformer(256, length, remat=remat)
    return Problem.from_model(model, windows[:, :-1], windows[:, 1:], loss=next_token_loss)


def clocked(call, repeats=3):
    """CPU seconds per call, the first left out."""
    jax.block_until_ready(call())
    start = time.process_time()
    for _ in range(repeats):
        jax.block_until_ready(call())
    return (time.process_time() - start) / repeats


def spent(name, seconds):
    """CPU seconds of a part over all its calls."""
    place = OUT / "spent.json"
    book = json.loads(place.read_text()) if place.exists() else {}
    book[name] = book.get(name, 0.0) + seconds
    place.write_text(json.dumps(book))
    return book[name]


def modes_part(args):
    from jaxland.hessian.modes import extreme_modes

    if args.network == "resnet":
        w, _, _ = trained_resnet(0)
        problem = resnet_problem()[0].at(w)
    else:
        from jaxland.problem.training import train

        place = OUT / "transformer.npy"
        problem = transformer_problem()
        if not place.exists():
            start = time.process_time()
            np.save(place, train(problem, steps=30, learning_rate=3e-4, batch=16))
            print(f"trained in {time.process_time() - start:.0f} CPU s")
        problem = problem.at(np.load(place))
    name = f"modes_{args.network}_{args.storage}"
    start = time.process_time()
    found = extreme_modes(
        problem,
        basis=args.basis,
        storage=args.storage,
        lowest=args.lowest,
        tolerance=args.tolerance,
        max_products=args.products,
        corrections=args.corrections,
        checkpoint=OUT / f"{name}.npz",
        checkpoint_every=1e9,
        time_limit=args.seconds,
    )
    total = spent(name, time.process_time() - start)
    print(found.to_pandas().to_string(index=False, float_format=lambda v: f"{v:.6g}"))
    print(
        f"{name}: N {problem.size}, n {problem.n}, {found.status}, {found.products} products, "
        f"{found.restarts} restarts, basis {found.basis_bytes / 1e6:.0f} MB, gradient rms {found.gradient_rms:.1e}, "
        f"loss {float(problem.energy()):.4g}, {total:.0f} CPU s so far, "
        f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB"
    )


def path_part(args):
    from jaxland.paths import Cycle, PathSettings, minimum_energy_path

    a, problem, test = trained_resnet(0)
    b, _, _ = trained_resnet(1)
    schedule = (Cycle(100, 3e-3), Cycle(100, 3e-3), Cycle(100, 1e-3), Cycle(100, 3e-4))
    settings = PathSettings(
        images=5, max_images=12, cycles=schedule, batch=128, probes=4, threshold=0.2, probe_rows=256, block=5
    )
    start = time.process_time()
    found = minimum_energy_path(
        problem, a, b, settings, test=test, checkpoint=OUT / "path.npz", time_limit=args.seconds
    )
    total = spent("path", time.process_time() - start)
    print(found.history.to_string(index=False))
    print(found.barriers().to_string(index=False))
    print(f"{found.status}: {found.steps} steps, {found.gradients} gradients of 128 rows, {total:.0f} CPU s so far")
    if found.status == "finished":
        from jaxland.report.paths import path_figure

        found.save(OUT / "path_result.npz")
        path_figure(found).savefig(OUT / "path.png", dpi=120)


def products_part(args):

    rows = []
    problem, _ = resnet_problem(256, None)
    tokens = transformer_problem()
    for name, p in (("resnet-20, 256 images 8 x 8", problem), ("transformer, 16 x 64 tokens", tokens)):
        v = jnp.asarray(np.random.default_rng(0).standard_normal(p.size), p.dtype)
        start = time.process_time()
        compiled = p._program("hvp").lower(p.w, v, p.data).compile()
        compile_seconds = time.process_time() - start
        rows.append(
            {
                "problem": name,
                "N": p.size,
                "energy s": clocked(p.energy),
                "gradient s": clocked(p.gradient),
                "product s": clocked(lambda p=p, v=v: p.hvp(p.w, v)),
                "compile product s": compile_seconds,
                "temporary MB": compiled.memory_analysis().temp_size_in_bytes / 1e6,
            }
        )
    import pandas as pd

    print(pd.DataFrame(rows).to_string(index=False, float_format=lambda v: f"{v:.3g}"))


@pytest.mark.parametrize("name", ["gradient", "product", "orthogonalise"])
def test_resnet(benchmark, name):
    """One operation of a ResNet-20 on 64 digits; cleaning one vector against 64 in bfloat16."""
    from jaxland.core.krylov import thick_restart

    problem, _ = resnet_problem(64, None)
    v = jnp.ones(problem.size, problem.dtype)
    basis = thick_restart.basis(problem.size, 64, dtype=problem.dtype, storage=jnp.bfloat16)
    clean = thick_restart._kernels(None, "data").clean
    calls = {
        "gradient": problem.gradient,
        "product": lambda: problem.hvp(problem.w, v),
        "orthogonalise": lambda: clean(basis.rows, v, jnp.asarray(64, jnp.int32)),
    }
    call = calls[name]
    jax.block_until_ready(call())
    benchmark(lambda: jax.block_until_ready(call()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["products", "modes", "path"])
    parser.add_argument("--network", default="resnet", choices=["resnet", "transformer"])
    parser.add_argument("--storage", default="float32")
    parser.add_argument("--basis", type=int, default=64)
    parser.add_argument("--lowest", type=int, default=5)
    parser.add_argument("--tolerance", type=float, default=1e-3)
    parser.add_argument("--products", type=int, default=1000)
    parser.add_argument("--corrections", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=150)
    chosen = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    {"products": products_part, "modes": modes_part, "path": path_part}[chosen.part](chosen)
