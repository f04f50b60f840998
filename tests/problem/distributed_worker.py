"""One of several processes of tests/test_large_networks.py: rank, processes, port, folder, "all" or "sums"."""

import sys

import jax
import numpy as np


def main() -> None:
    """Energies, products, modes and a short path over the devices of all processes."""
    rank, processes, port, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    jax.config.update("jax_enable_x64", True)
    if processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"127.0.0.1:{port}", processes, rank)
    from jaxland import Problem, mlp
    from jaxland.problem.rows import to_host
    from jaxland.problem.sharded import shard_data

    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3))  # not a multiple of the devices
    problem = Problem.from_model(mlp((3, 6, 2)), x, (x[:, 0] > 0).astype(int), l2=1e-3, chunk=5)
    v, a, b = rng.normal(size=(3, problem.size))
    mesh = None
    spread = problem
    if processes > 1:
        devices = np.array(jax.devices())
        spread = shard_data(problem, jax.sharding.Mesh(devices, ("data",)))
        mesh = jax.sharding.Mesh(devices.reshape(2, -1), ("images", "data"))
    results = {
        "energy": to_host(spread.energy(a)),
        "gradient": to_host(spread.gradient(a)),
        "product": to_host(spread.hvp(a, v)),
        "losses": to_host(spread.losses(a)),
    }
    if sys.argv[5] == "all":
        results |= long_runs(problem, spread, mesh, a, b, f"{folder}/%s{processes}.npz")
    np.savez(f"{folder}/result_{processes}_{rank}.npz", **results)


def long_runs(problem, spread, mesh, a, b, place):
    """Modes and a short path."""
    from jaxland.hessian.modes import extreme_modes
    from jaxland.paths import Cycle, PathSettings, minimum_energy_path

    modes = extreme_modes(spread.at(a), lowest=3, highest=3, basis=24, checkpoint=place % "modes")
    schedule = (Cycle(10, 1e-2), Cycle(10, 1e-3, True))
    settings = PathSettings(images=5, max_images=8, cycles=schedule, batch=12, threshold=0.02, probes=3)
    path = minimum_energy_path(problem, a, b, settings, mesh=mesh, checkpoint=place % "path")
    return {
        "lowest": modes.lowest,
        "highest": modes.highest,
        "images": path.images,
        "profile": path.profile.energy,
    }


if __name__ == "__main__":
    main()
