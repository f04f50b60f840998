"""What a search does, as one dataclass: the API's keywords and the command line's options are its fields."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TypedDict

from jaxland.errors import ArgumentError
from jaxland.options import check_fields, option

PRECISIONS = ("double", "mixed")


@dataclass(frozen=True)
class SearchSettings:
    """What a search does; stored with its results. A different search of the same problem may continue a store.

    ``jaxland.options.help_texts(SearchSettings)`` says what each field means.

    Raises:
        ArgumentError: a value makes no sense.
    """

    seed: int = option(
        0, "Of every random choice: a job's numbers derive from it and the job, never from the worker."
    )
    starts: int = option(
        200, "Random quenches; where the first quarter of them (32 at least) meets no minimum twice, only those."
    )
    start_scale: float = option(
        1.0,
        "Standard deviation of the normal coordinates of random starts (unless a box is given); of an energy of your "
        "own relative to the distance at which it first has wells.",
    )
    walkers: int = option(
        32, "Basin-hopping walkers; a quarter of them where random quenches hardly meet a minimum twice; 0: none."
    )
    hops: int = option(3, "Basin-hopping steps of each walker.")
    hop_size: float = option(
        0.6, "Standard deviation of a hop per coordinate, relative to the rms coordinate of the minimum."
    )
    temperature: float | None = option(
        None, "Of the Metropolis rule; default: a quarter of the spread of the random quenches' energies."
    )
    climbs: int = option(100, "Transition-state searches from random points, per round; 0: none.")
    searches: int = option(
        6, "Transition-state searches from displaced copies of a minimum each time it is expanded; 0: none."
    )
    expand: int = option(16, "Minima expanded per round.")
    pairs: int = option(32, "Elastic bands per round, of each strategy that chooses pairs; 0: none.")
    breadth: int | None = option(
        None,
        "How many times wider rounds are than starts, walkers, climbs, expand and pairs say; default: 1 on a CPU, "
        "32 on an accelerator, which thousands of jobs keep busy.",
    )
    minima: int | None = option(
        None, "Stop when so many minima are joined to the lowest; default: when nothing new turns up."
    )
    rounds: int = option(400, "Most rounds of expansion and bands.")
    patience: int = option(
        30,
        "The landscape counts as saturated when every minimum was expanded and single-ended searches have then found "
        "this many times as many transition states as are known, all of them known; five times longer while some "
        "were found fewer than five times, since rarer ones may exist then.",
    )
    precision: str = option(
        "double", "Of quenches: double, or mixed (float32 search, float64 finish); all else is float64."
    )
    hessian_rows: int | None = option(
        None,
        "Rows, drawn by seed, over which Hessians are taken far from rest, on a CPU; 0: all. Gradients, last steps "
        "and every audit take all rows. Default: all, by which more searches arrive.",
    )
    max_step: float = option(1.0, "Longest step of a quench, in units of the problem's length.")
    images: int = option(11, "Images of an elastic band.")

    def __post_init__(self) -> None:
        none = (
            "walkers",
            "hops",
            "climbs",
            "searches",
            "pairs",
            "expand",
            "rounds",
            "patience",
            "temperature",
            "minima",
        )
        check_fields(
            self,
            least={
                **dict.fromkeys(none, 0),
                "seed": 0,
                "temperature": 0,
                "starts": 1,
                "breadth": 1,
                "images": 3,
                "hessian_rows": 0,
            },
            positive=("start_scale", "hop_size", "max_step"),
            choices={"precision": PRECISIONS},
        )

    def widened(self) -> SearchSettings:
        """The same search with ``breadth`` multiplied in."""
        times = self.breadth or 1
        wide = {name: times * getattr(self, name) for name in ("starts", "walkers", "climbs", "expand", "pairs")}
        return replace(self, breadth=1, **wide)

    def sampled(self, rows: int) -> int | None:
        """Of so many rows, how many a Hessian is taken over far from rest; None: all."""
        wanted = self.hessian_rows or 0
        return wanted if 0 < wanted < rows else None

    def to_json(self) -> dict[str, int | float | str | None]:
        """JSON-able."""
        return asdict(self)


class SearchOptions(TypedDict, total=False):
    """The fields of ``SearchSettings`` as keywords."""

    seed: int
    starts: int
    start_scale: float
    walkers: int
    hops: int
    hop_size: float
    temperature: float | None
    climbs: int
    searches: int
    expand: int
    pairs: int
    breadth: int | None
    minima: int | None
    rounds: int
    patience: int
    precision: str
    hessian_rows: int | None
    max_step: float
    images: int


@dataclass(frozen=True)
class WorkOptions:
    """How a machine takes part in a planned search.

    Raises:
        ArgumentError: a value makes no sense.
    """

    workers: int = option(1, "Processes here, one thread each; or jobs to submit, processes of a cluster to use.")
    on: str = option(
        "here",
        "Where workers run: here; slurm (jobs through submitit); local (the same as processes here); or the "
        "address of a Dask scheduler, such as tcp://node1:8786.",
    )
    resource: tuple[str, ...] = option(
        (), "What a SLURM job asks for, as submitit calls it: timeout_min=60, slurm_partition=long, cpus_per_task=1."
    )
    time_limit: float | None = option(None, "Seconds; others, or a later call, go on.")
    lease: float = option(60.0, "Seconds after which a silent worker's jobs are taken over.")

    def __post_init__(self) -> None:
        check_fields(self, least={"workers": 1}, positive=("time_limit", "lease"))
        if self.on not in ("here", "slurm", "local") and "://" not in self.on:
            raise ArgumentError(
                f"--on must be here, slurm, local or the address of a Dask scheduler, got {self.on!r}"
            )
        if self.resource and self.on not in ("slurm", "local"):
            raise ArgumentError(f"--resource is for --on slurm, not for --on {self.on}")
