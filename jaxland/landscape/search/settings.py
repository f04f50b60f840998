"""What a search does, as one dataclass: the API's keywords and the command line's options are its fields."""

from __future__ import annotations

from dataclasses import Field, asdict, dataclass, field, fields, replace
from inspect import Parameter, Signature
from typing import TypedDict, TypeVar, get_type_hints

from jaxland.errors import ArgumentError

PRECISIONS = ("double", "mixed")

T = TypeVar("T")


def _setting(default: T, help: str) -> T:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class SearchSettings:
    """What a search does; stored with its results. A different search of the same problem may continue a store.

    ``help_texts()`` says what each field means.

    Raises:
        ArgumentError: a value makes no sense.
    """

    seed: int = _setting(
        0, "Of every random choice: a job's numbers derive from it and the job, never from the worker."
    )
    starts: int = _setting(200, "Random quenches.")
    start_scale: float = _setting(
        1.0, "Standard deviation of the normal coordinates of random starts (unless a box is given)."
    )
    walkers: int = _setting(32, "Basin-hopping walkers; 0: none.")
    hops: int = _setting(3, "Basin-hopping steps of each walker.")
    hop_size: float = _setting(
        0.6, "Standard deviation of a hop per coordinate, relative to the rms coordinate of the minimum."
    )
    temperature: float | None = _setting(
        None, "Of the Metropolis rule; default: a quarter of the spread of the random quenches' energies."
    )
    climbs: int = _setting(100, "Transition-state searches from random points, per round; 0: none.")
    searches: int = _setting(
        6, "Transition-state searches from displaced copies of a minimum each time it is expanded; 0: none."
    )
    expand: int = _setting(16, "Minima expanded per round.")
    pairs: int = _setting(32, "Elastic bands per round, of each strategy that chooses pairs; 0: none.")
    minima: int | None = _setting(
        None, "Stop when so many minima are joined to the lowest; default: when nothing new turns up."
    )
    rounds: int = _setting(50, "Most rounds of expansion and bands.")
    patience: int = _setting(
        30,
        "The landscape counts as complete when every minimum was expanded and single-ended searches have then found "
        "this many times as many transition states as are known, all of them known.",
    )
    precision: str = _setting(
        "double", "Of quenches: double, or mixed (float32 search, float64 finish); all else is float64."
    )
    max_step: float = _setting(1.0, "Longest step of a quench.")
    images: int = _setting(11, "Images of an elastic band.")

    def __post_init__(self) -> None:
        for name in ("starts", "walkers", "hops", "climbs", "searches", "pairs", "expand", "rounds", "patience"):
            if int(getattr(self, name)) < 0:
                raise ArgumentError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("start_scale", "hop_size", "max_step"):
            if not float(getattr(self, name)) > 0:
                raise ArgumentError(f"{name} must be positive, got {getattr(self, name)}")
        if self.images < 3:
            raise ArgumentError(f"images must be at least 3, got {self.images}")
        if self.starts < 1:
            raise ArgumentError("starts must be at least 1: something must be quenched first")
        if self.precision not in PRECISIONS:
            raise ArgumentError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")

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
    minima: int | None
    rounds: int
    patience: int
    precision: str
    max_step: float
    images: int


def help_texts() -> dict[str, str]:
    """What each field of ``SearchSettings`` means: one or two sentences by name."""
    return {f.name: f.metadata["help"] for f in fields(SearchSettings)}


def chosen(settings: SearchSettings | None, options: SearchOptions) -> SearchSettings:
    """Settings with some fields changed.

    Raises:
        ArgumentError: an option is no field, or its value makes no sense.
    """
    known = [f.name for f in fields(SearchSettings)]
    unknown = set(options) - set(known)
    if unknown:
        raise ArgumentError(f"unknown settings {', '.join(sorted(unknown))}; choose from {', '.join(known)}")
    return replace(settings or SearchSettings(), **options)


def spelled_out(signature: Signature) -> Signature:
    """A signature that ends in ``**options: Unpack[SearchOptions]`` with every option and its default named."""
    kept = [p for p in signature.parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
    hints = get_type_hints(SearchSettings)

    def parameter(f: Field) -> Parameter:
        return Parameter(f.name, Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])

    return signature.replace(parameters=[*kept, *map(parameter, fields(SearchSettings))])
