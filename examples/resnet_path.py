"""Are two residual networks, trained from different seeds, connected by a path of low loss?

Trains both, relaxes the path between them with mini-batches (AutoNEB), reports the barrier on training and test data,
and finds the lowest and highest Hessian modes at the highest point. Run again, it goes on from its checkpoints.

    python examples/resnet_path.py                     # a toy of 4,800 parameters, about a minute on a CPU
    python examples/resnet_path.py --size resnet20     # 2.7e5 parameters on CIFAR-shaped data: for an accelerator
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from jaxland import Problem
from jaxland.hessian.modes import extreme_modes
from jaxland.models.networks import resnet
from jaxland.paths import Cycle, PathSettings, cycles, minimum_energy_path
from jaxland.problem.training import train
from jaxland.report.paths import path_figure, path_report

SIZES = {
    "small": {
        "network": {"depth": 8, "width": 2, "channels": 1, "groups": 1},
        "train": {"steps": 20, "learning_rate": 1e-2},
        "path": {"images": 3, "max_images": 4, "cycles": (Cycle(5, 1e-2), Cycle(5, 3e-3))},
        "modes": {"lowest": 1, "highest": 1, "max_products": 20, "tolerance": 0.1},
    },
    "toy": {
        "network": {"depth": 8, "width": 4, "channels": 1, "groups": 2},
        "train": {"steps": 300, "learning_rate": 1e-2},
        "path": {"images": 5, "max_images": 8, "cycles": (Cycle(60, 1e-2), Cycle(60, 3e-3), Cycle(60, 1e-3))},
        "modes": {"lowest": 3, "highest": 3, "max_products": 80, "tolerance": 1e-2},
    },
    "resnet20": {
        "network": {"depth": 20, "width": 16},
        "train": {"steps": 10_000, "learning_rate": 3e-3},
        "path": {"images": 5, "max_images": 40, "cycles": cycles(1000, 1e-3)},
        "modes": {"lowest": 5, "highest": 5, "storage": "bfloat16"},
    },
}


def data(path: str | None, channels: int):
    """(x, y, test x, test y): digits, or an npz with x [n, height, width, channels] and y [n]."""
    if path is None:
        x, y = load_digits(return_X_y=True)
        x = np.repeat((x / 16).astype(np.float32).reshape(-1, 8, 8, 1), channels, axis=3)
    else:
        with np.load(path) as file:
            x, y = file["x"].astype(np.float32), file["y"]
    x, xt, y, yt = train_test_split(x, y, test_size=0.2, random_state=0, stratify=y)
    return x, y, xt, yt


def main() -> None:
    """Train, connect, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="toy")
    parser.add_argument("--data", help="npz with x [n, height, width, 3] and y [n]; default: scikit-learn's digits")
    parser.add_argument("--out", type=Path, default=Path("runs/resnet_path"))
    parser.add_argument("--small", action="store_true", help="the smallest network, a few steps")
    options = parser.parse_args()
    if options.small:
        options.size = "small"
    size = SIZES[options.size]
    x, y, xt, yt = data(options.data, size["network"].get("channels", 3))
    options.out.mkdir(parents=True, exist_ok=True)

    ends = []
    for seed in (0, 1):
        model = resnet(classes=int(y.max()) + 1, seed=seed, **size["network"])
        problem = Problem.from_model(model, x, y, l2=1e-4)
        place = options.out / f"{options.size}_{seed}.npy"
        if not place.exists():
            np.save(place, train(problem, seed=seed, **size["train"]))
        ends.append(np.load(place))
        error = float(np.mean(np.argmax(problem.predict(ends[-1], xt), axis=1) != yt))
        print(f"{model.name}, {problem.size:,} parameters, seed {seed}: test error {error:.1%}")

    mesh = jax.make_mesh((jax.device_count(),), ("images",)) if jax.device_count() > 1 else None
    path = minimum_energy_path(
        problem,
        *ends,
        PathSettings(batch=128, probes=4, probe_rows=512, **size["path"]),
        test=(xt, yt),
        mesh=mesh,
        checkpoint=options.out / f"{options.size}_path.npz",
        progress=lambda p: print(
            f"\rcycle {p.cycle}/{p.cycles}, step {p.step}/{p.steps}, {p.images} images, highest batch loss "
            f"{p.energies.max():.3f}",
            end="",
        ),
    )
    print()
    print(path.history.drop(columns="seconds").to_string(index=False))
    print(path.barriers().to_string(index=False))
    modes = extreme_modes(problem, path.saddle, **size["modes"])
    print(modes.to_pandas().to_string(index=False))
    path_figure(path).savefig(options.out / f"{options.size}_path.png", dpi=130)
    print("report:", path_report(path, options.out / f"{options.size}.html", modes=modes))
    first = path.barriers().iloc[0]
    print(
        f"finding: the path climbs {first['barrier']:.3f} in {first['measure']}, the straight line "
        f"{first['straight barrier']:.3f}: the two networks lie {'nearly' if first['barrier'] < 0.1 else 'not'} in "
        "one valley"
    )


if __name__ == "__main__":
    main()
