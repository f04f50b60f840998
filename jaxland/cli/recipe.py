"""What a run is about, kept as ``run.json`` beside its store, so that any worker can build the same problem."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

FILE = "run.json"


@dataclass(frozen=True)
class Recipe:
    """Options of ``jaxland explore`` that decide what is found; hashable, and called it gives the problem."""

    source: str
    target: str | None = None
    hidden: str = "5"
    activation: str = "tanh"
    lam: float = 1e-4
    rows: int | None = None
    test_fraction: float = 0.3
    scale: str = "standardise"
    categorical: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    missing: str = "refuse"
    constant: str = "refuse"
    seed: int = 0
    minima: int | None = 200
    starts: int = 200
    climbs: int = 100
    rounds: int = 100
    precision: str = "double"

    def save(self, out: Path) -> None:
        """Write ``run.json``."""
        from jaxland.runs import write_whole

        kept = asdict(self)
        if Path(self.source).exists():
            kept["source"] = str(Path(self.source).resolve())
        write_whole(out / FILE, json.dumps(kept, indent=1) + "\n")

    @classmethod
    def load(cls, run: Path) -> Recipe:
        """Read ``run.json`` of a run.

        Raises:
            DataError: there is none. StoreError: it is damaged.
        """
        from jaxland.errors import DataError, StoreError

        path = run / FILE
        if not path.exists():
            raise DataError(f"{run} holds no {FILE}: plan the run first (jaxland plan SOURCE --out {run})")
        try:
            kept = json.loads(path.read_text())
            unknown = set(kept) - {f.name for f in fields(cls)}
            if unknown:
                raise ValueError(f"unknown fields {', '.join(sorted(unknown))}")
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in kept.items()}
            return cls(**values)
        except (ValueError, TypeError, AttributeError, UnicodeDecodeError) as error:
            raise StoreError(f"{path} is damaged: {error}") from error

    @cached_property
    def is_potential(self) -> bool:
        """Whether the source is a potential such as lj13, not a table."""
        from jaxland.problem import potentials

        return potentials.is_name(self.source)

    @cached_property
    def parts(self) -> Any:
        """Training and test data (``Split``); None for a potential."""
        from jaxland.data import datasets

        if self.is_potential:
            return None
        data = datasets.load(
            self.source,
            self.target,
            categorical=list(self.categorical) or None,
            drop=list(self.drop) or None,
            missing=self.missing,
            constant=self.constant,
            seed=self.seed,
        )
        plain = self.source == "xor"
        return data.split(
            0.0 if plain else self.test_fraction,
            self.seed,
            scale="none" if plain else self.scale,
            train_rows=self.rows,
        )

    @cached_property
    def model(self) -> Any:
        """The network; None for a potential."""
        from jaxland import mlp
        from jaxland.errors import ArgumentError

        if self.is_potential:
            return None
        try:
            layers = [int(part) for part in self.hidden.split(",")]
        except ValueError as error:
            raise ArgumentError(f"--hidden takes widths such as 8 or 8,4, got {self.hidden!r}") from error
        train = self.parts.train
        return mlp((train.d, *layers, train.outputs), self.activation)

    @property
    def loss(self) -> str:
        """Name of the loss."""
        return "cross_entropy" if self.parts.train.task == "classification" else "squared_error"

    @cached_property
    def problem(self) -> Any:
        """The problem whose landscape is explored."""
        from jaxland.problem import potentials
        from jaxland.problem.problem import Problem

        if self.is_potential:
            return potentials.by_name(self.source)
        train = self.parts.train
        return Problem.from_model(self.model, train.x, train.y, loss=self.loss, l2=self.lam)

    def __call__(self) -> Any:
        """``problem``: a recipe is the factory of executors."""
        return self.problem

    def save_model(self, path: Path, w: np.ndarray) -> Path:
        """Write the network with parameters w [N], and all that is needed to use it on new data."""
        import jax.numpy as jnp

        from jaxland.models.model import save

        train = self.parts.train
        return save(
            path,
            self.model,
            self.problem.unravel(jnp.asarray(w)),
            features=list(train.features),
            classes=list(train.classes),
            target=train.target,
            loss=self.loss,
            l2=self.lam,
            rows=train.n,
            centre=None if train.scaling is None else train.scaling.centre.tolist(),
            scale=None if train.scaling is None else train.scaling.scale.tolist(),
        )

    @property
    def box(self) -> Any:
        """Where random starts are uniform; None: normal."""
        from jaxland.problem import potentials

        return potentials.box(self.problem) if self.is_potential else None

    @property
    def settings(self) -> Any:
        """Of the search."""
        from jaxland.landscape.search.settings import SearchSettings

        return SearchSettings(
            seed=self.seed,
            starts=self.starts,
            climbs=self.climbs,
            rounds=self.rounds,
            minima=self.minima or None,
            precision=self.precision,
            max_step=0.5 if self.is_potential else 1.0,
        )
