"""Workers of a planned run on somebody else's machines: SLURM through submitit, or a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxland.errors import ArgumentError

if TYPE_CHECKING:
    from jaxland.landscape.search.settings import WorkOptions

SUBMITIT = ("slurm", "local")


@dataclass(frozen=True)
class Worker:
    """A whole worker of a run, to be called where it shall work; batches done there.

    Attributes:
        run: directory that every worker sees.
        lease, time_limit: see ``WorkOptions``.
    """

    run: str
    lease: float
    time_limit: float | None

    def __call__(self) -> int:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        import jax

        from jaxland.cli.recipe import Recipe
        from jaxland.core.solvers.protocol import Layout
        from jaxland.landscape.search.workers import work
        from jaxland.runs import stoppable

        recipe = Recipe.load(Path(self.run))
        layout = Layout(8, 64, 1, 1) if jax.default_backend() == "cpu" else None
        with jax.enable_x64(True), stoppable(self.time_limit) as stop:
            return work(
                recipe.problem,
                self.run,
                recipe.settings,
                box=recipe.box,
                lease=self.lease,
                stop=stop,
                layout=layout,
            )


def through_submitit(run: Path, options: WorkOptions, say: Callable[[str], None]) -> int:
    """Submit ``options.workers`` workers as one array of jobs, wait for them; batches done by all.

    Raises:
        ArgumentError: submitit is missing, or it refuses a resource.
    """
    try:
        import submitit
    except ImportError as error:
        raise ArgumentError("--on slurm needs submitit: pip install 'jaxland[slurm]'") from error
    executor = submitit.AutoExecutor(folder=run / "jobs", cluster=options.on)
    try:
        executor.update_parameters(name="jaxland", **parsed(options.resource))
    except (NameError, TypeError, ValueError) as error:
        raise ArgumentError(f"--resource: submitit refuses it: {error}") from error
    worker = Worker(str(run.resolve()), options.lease, options.time_limit)
    with executor.batch():
        jobs = [executor.submit(worker) for _ in range(options.workers)]
    say(f"submitted {', '.join(str(job.job_id) for job in jobs)}; logs in {run / 'jobs'}. Ctrl-C leaves them at work")
    return sum(int(job.result()) for job in jobs)


def through_dask(run: Path, options: WorkOptions, say: Callable[[str], None]) -> int:
    """A worker in every process of a Dask cluster, at most ``options.workers`` of them; batches done by all.

    Raises:
        ArgumentError: distributed is missing, or no scheduler answers at the address.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ArgumentError(f"--on {options.on} needs Dask: pip install 'jaxland[dask]'") from error
    try:
        client = Client(options.on, timeout=10)
    except (OSError, ValueError) as error:
        raise ArgumentError(f"--on {options.on}: no Dask scheduler answers there ({error})") from error
    worker = Worker(str(run.resolve()), options.lease, options.time_limit)
    with client:
        places = sorted(client.scheduler_info(n_workers=-1)["workers"])[: options.workers]
        if not places:
            raise ArgumentError(f"--on {options.on}: the Dask cluster has no workers yet")
        say(f"{len(places)} workers of {options.on}")
        # Each is a place of its own: work that is pinned, and never taken for the same call twice.
        futures = [client.submit(worker, workers=[place], pure=False, allow_other_workers=False) for place in places]
        return sum(int(done) for done in client.gather(futures))


def parsed(resources: Sequence[str]) -> dict[str, Any]:
    """``name=value`` pairs as submitit takes them: whole numbers as such.

    >>> parsed(["timeout_min=60", "slurm_partition=long"])
    {'timeout_min': 60, 'slurm_partition': 'long'}

    Raises:
        ArgumentError: a pair has no name or no value.
    """
    out: dict[str, Any] = {}
    for pair in resources:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise ArgumentError(f"--resource takes name=value such as timeout_min=60, got {pair!r}")
        out[name] = int(value) if value.isdigit() else value
    return out
