"""What a run is about, kept as ``run.json`` beside its store, so that any worker can build the same problem."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxland.data.options import SplitOptions, TableOptions
from jaxland.errors import ArgumentError
from jaxland.landscape.search.settings import SearchSettings
from jaxland.models.options import NetworkOptions
from jaxland.options import spoken

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike

    from jaxland.data import Dataset, Split
    from jaxland.models.model import Model
    from jaxland.problem.problem import Problem
    from jaxland.problem.regularisation import L2Choice

FILE = "run.json"
LOSS_OF_TASK = {"classification": "cross_entropy", "regression": "squared_error", "count": "poisson"}
# A first look: a landscape large enough to say something, within minutes.
SEARCH = SearchSettings(minima=200, rounds=100)
# Fields of run.json that 0.2.0 called otherwise.
FORMER = {"lam": "l2"}


@dataclass(frozen=True)
class Recipe:
    """Options of ``jaxland explore`` that decide what is found; hashable, and called it gives the problem.

    Attributes:
        source: a table, the name of built-in data, or that of a potential such as lj13.
        table, rows: how it is read and split.
        network: the model and its regulariser.
        search: what the search does.
        l2_choice: where the weight of the regulariser was left to held-out loss: what was chosen, and from what.
    """

    source: str
    table: TableOptions = field(default_factory=TableOptions)
    rows: SplitOptions = field(default_factory=SplitOptions)
    network: NetworkOptions = field(default_factory=NetworkOptions)
    search: SearchSettings = SEARCH
    l2_choice: L2Choice | None = None

    def settled(self, out: Path) -> Recipe:
        """With ``--l2 auto`` replaced by the weight of least held-out loss; a run in ``out`` keeps the one it has."""
        from jaxland.problem.problem import Problem
        from jaxland.problem.regularisation import HELD, choose_l2

        if self.network.l2 != "auto":
            return self
        if self.is_potential:
            raise ArgumentError(f"--l2 auto needs a table: {self.source} has no rows to hold out")
        if (out / FILE).exists():
            kept = Recipe.load(out)
            if kept.l2_choice is not None and (kept.table, kept.rows) == (self.table, self.rows):
                return replace(self, network=replace(self.network, l2=kept.l2_choice.l2), l2_choice=kept.l2_choice)
        train = self.parts.train
        held = None if train.groups is None else train.split(HELD).test_rows
        choice = choose_l2(Problem.from_model(self.model, train.x, train.y, loss=self.loss), held=held)
        return replace(self, network=replace(self.network, l2=choice.l2), l2_choice=choice)

    def check_potential(self) -> None:
        """Raise ``ArgumentError`` where options of tables and networks are given beside a potential."""
        if not self.is_potential:
            return
        parts = (self.table, self.rows, replace(self.network, l2=NetworkOptions.l2))
        given = [f.name for part in parts for f in fields(part) if getattr(part, f.name) != f.default]
        if given:
            flags = " and ".join(map(spoken, given))
            raise ArgumentError(
                f"{self.source} is a potential, without table and network: {flags} cannot apply to it"
            )

    def save(self, out: Path) -> None:
        """Write ``run.json``."""
        from jaxland.runs import write_whole

        kept: dict[str, object] = {"source": _located(self.source)}
        for part in (self.table, self.rows, self.network, self.search):
            kept |= asdict(part)
        if self.l2_choice is not None:
            kept["l2_choice"] = asdict(self.l2_choice)
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
            return cls._of(json.loads(path.read_text()))
        except (ValueError, TypeError, AttributeError, KeyError, UnicodeDecodeError) as error:
            raise StoreError(f"{path} is damaged: {error}") from error

    @classmethod
    def _of(cls, kept: Mapping[str, Any]) -> Recipe:
        values: dict[str, Any] = {FORMER.get(k, k): tuple(v) if isinstance(v, list) else v for k, v in kept.items()}
        source, choice = values.pop("source"), values.pop("l2_choice", None)
        plain = cls(source)
        parts = {name: getattr(plain, name) for name in ("table", "rows", "network", "search")}
        for name, part in parts.items():
            own = {f.name: values.pop(f.name) for f in fields(part) if f.name in values}
            parts[name] = replace(part, **own)
        if values:
            raise ValueError(f"unknown fields {', '.join(sorted(values))}")
        return cls(source, **parts, l2_choice=None if choice is None else _choice(choice))

    @property
    def seed(self) -> int:
        """Of every random choice."""
        return self.search.seed

    @cached_property
    def is_potential(self) -> bool:
        """Whether the source is a potential such as lj13, not a table."""
        from jaxland.problem import potentials

        return potentials.is_name(self.source)

    @cached_property
    def whole(self) -> Dataset:
        """The table before it is split."""
        return self.table.read(self.source, self.seed)

    @cached_property
    def parts(self) -> Split:
        """Training and test data; of a table only."""
        # All four rows of xor train, as they are.
        rows = replace(self.rows, test_fraction=0.0, scale="none") if self.source == "xor" else self.rows
        return rows.split(self.whole, self.seed)

    def found_row(self, number: int) -> tuple[Dataset, int, str]:
        """Data that hold the row a user calls ``number``, its place in them, and what it was to the network."""
        import numpy as np

        from jaxland.data import Preparation

        train, test = self.parts.train, self.parts.test
        for data, where in ((test, "kept for testing"), (train, "trained the network")):
            if data is not None and number in data.numbers():
                return data, int(np.flatnonzero(data.numbers() == number)[0]), where
        # Left out by --rows: behind the test rows it is compared with.
        alone = self.whole.take(np.flatnonzero(self.whole.numbers() == number))
        prepared = Preparation.of_split(self.whole, self.parts).of_dataset(alone)
        beside = train if test is None else test
        assert prepared.y is not None
        both = replace(
            beside,
            x=np.concatenate([beside.x, prepared.x]),
            y=np.concatenate([beside.y, prepared.y.astype(beside.y.dtype)]),
            rows=np.append(beside.numbers(), number),
            imputed=None,
        )
        return both, beside.n, "left out of training and testing"

    @cached_property
    def model(self) -> Model:
        """The network; of a table only."""
        from jaxland import mlp

        train = self.parts.train
        return mlp((train.d, *self.network.widths, train.outputs), self.network.activation)

    @property
    def loss(self) -> str:
        """Name of the loss."""
        return LOSS_OF_TASK[self.parts.train.task]

    @cached_property
    def problem(self) -> Problem:
        """The problem whose landscape is explored."""
        from jaxland.problem import potentials
        from jaxland.problem.problem import Problem

        if self.is_potential:
            return potentials.by_name(self.source)
        train = self.parts.train
        problem = Problem.from_model(self.model, train.x, train.y, loss=self.loss, l2=self.network.l2)
        return replace(problem, l2_choice=self.l2_choice)

    def __call__(self) -> Problem:
        """``problem``: a recipe is the factory of executors."""
        return self.problem

    def describe(self) -> list[str]:
        """What is explored, and what was done to the table."""
        problem = self.problem
        if self.is_potential:
            return [f"{self.source}: {problem.size} coordinates, symmetry: {problem.symmetry.describe()}"]
        model = f"{self.model.name}: {problem.size} parameters, L2 weight {float(self.network.l2):g}"
        train = self.parts.train
        notes = (f"note: {note}" for note in train.notes)
        return [train.describe(), *notes, f"{model}; {problem.kernel.name} kernel"]

    def save_model(self, path: Path, w: np.ndarray) -> Path:
        """Write the network with parameters w [N], and all that is needed to use it on new data."""
        import jax.numpy as jnp

        from jaxland.data import Preparation
        from jaxland.models import save

        return save(
            path,
            self.model,
            self.problem.unravel(jnp.asarray(w)),
            loss=self.loss,
            l2=float(self.network.l2),
            rows=self.parts.train.n,
            source=_located(self.source),
            table=asdict(self.table),
            seed=self.seed,
            **Preparation.of_split(self.whole, self.parts).facts(),
        )

    def errors(self, w: np.ndarray) -> list[str]:
        """Errors of the network with parameters w [N] in the units of the file; of scaled targets only."""
        import numpy as np

        scaled = self.parts.train.target_scaling
        if scaled is None:
            return []
        said = []
        for part, data in zip(("training", "test"), self.parts):
            if data is not None:
                missed = np.asarray(self.problem.predict(w, data.x))[:, 0] - data.y
                error = float(scaled.scale[0]) * float(np.sqrt(np.mean(missed**2)))
                said.append(f"{error:.4g} on the {part} data")
        target = self.parts.train.target
        return [f"root mean square error of the lowest minimum, in units of {target}: {', '.join(said)}"]

    @property
    def box(self) -> tuple[ArrayLike, ArrayLike] | None:
        """Where random starts are uniform; None: normal."""
        from jaxland.problem import potentials

        return potentials.box(self.problem) if self.is_potential else None

    @property
    def settings(self) -> SearchSettings:
        """What the search does, with what depends on the source."""
        return replace(
            self.search,
            minima=self.search.minima or None,
            max_step=0.5 if self.is_potential else self.search.max_step,
        )


def _located(source: str) -> str:
    """A table as any process finds it; names of built-in data as they are."""
    return str(Path(source).resolve()) if Path(source).exists() else source


def _choice(kept: Mapping[str, Any]) -> L2Choice:
    from jaxland.problem.regularisation import L2Choice, L2Row

    return L2Choice(**{**kept, "table": tuple(L2Row(**row) for row in kept["table"])})
