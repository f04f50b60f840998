"""A model and a table as every command takes them: what the model's file brought along is used, and said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxland.data.options import TableOptions

if TYPE_CHECKING:
    from jaxland.data import Preparation, Prepared, Table
    from jaxland.models import Model

ModelFile = Annotated[
    str,
    typer.Argument(
        help="model.npz or the directory of a run; or weights (orbax directory, .safetensors, .msgpack, .pt) that "
        "--build knows; or module:function."
    ),
]
Build = Annotated[
    str | None, typer.Option(help="module:function that builds the model the weights belong to (see docs/models.md).")
]
Part = Annotated[
    str | None, typer.Option(help="Rows to look at: test, training, new or all; default test where known.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the path of the report only.")]
Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
MODEL = "model.npz"
TABLES = (".csv", ".csv.gz", ".tsv", ".txt", ".parquet", ".feather", ".xlsx", ".xlsm", ".xls", ".ods")


@dataclass(frozen=True, eq=False)
class Opened:
    """A model with what its file, or the function that built it, says.

    Attributes:
        model: with its parameters.
        facts: target, loss, l2, source, ... as they were saved.
        preparation: what it wants of its data.
        name: what the user called it.
        target_flag: the option that names the column of targets.
    """

    model: Model
    facts: Mapping[str, Any]
    preparation: Preparation
    name: str
    target_flag: str = "--target"

    def say(self, quiet: bool = False) -> None:
        """On stderr: what the file brought."""
        for sentence in () if quiet else self.preparation.describe():
            typer.echo(f"note: {sentence}", err=True)

    def located(self, source: str | None) -> str:
        """The table to read: the one named, or the one the model was made from.

        Raises:
            ArgumentError: neither is known.
        """
        from jaxland.errors import ArgumentError

        found = source or self.facts.get("source")
        if found is None:
            raise ArgumentError(f"{self.name} does not say which table it was made from: name it after the model")
        return str(found)

    def options(self, given: TableOptions) -> TableOptions:
        """What the file says of its table, and what was given on the command line instead."""
        kept = {k: tuple(v) if isinstance(v, list) else v for k, v in dict(self.facts.get("table") or {}).items()}
        known = {f.name for f in fields(TableOptions)}
        changed = {name: value for name, value in asdict(given).items() if value != getattr(TableOptions(), name)}
        made = replace(TableOptions(), **{name: value for name, value in (kept | changed).items() if name in known})
        return replace(made, target=made.target or self.preparation.target)

    def read(self, source: str | None, given: TableOptions, seed: int = 0) -> Prepared:
        """A table as the model takes it: coded, ordered and scaled as in training.

        Raises:
            DataError: columns, values or classes the model does not know, or lacks.
        """
        from jaxland.data import BUILT_IN, read
        from jaxland.data.reading import near
        from jaxland.errors import DataError

        place, options = self.located(source), self.options(given)
        preparation = replace(self.preparation, target=options.target)
        if place in BUILT_IN:
            seed = int(self.facts.get("seed", seed))
            # The target that the model names is no column of built-in data; one that was asked for is refused there.
            return preparation.of_dataset(replace(options, target=given.target).read(place, seed))
        path = Path(place).expanduser()
        if path.suffix == ".npz":
            arrays = _arrays(path, options.target, required=given.target)
            return self._checked(preparation.of_arrays(*arrays, name=path.stem))
        header = True if preparation.is_complete else None
        table = read(path, header=header, dialect=options)
        for note in table.said():
            typer.echo(f"note: {note}", err=True)
        if given.target is not None and given.target not in table.frame.columns:
            known = list(map(str, table.frame.columns))
            raise DataError(f"{path.name} has no column {given.target!r}{near(given.target, known)}")
        if preparation.is_complete:
            return preparation.of_table(table)
        return self.inferred(table, options, seed)

    def inferred(self, table: Table, options: TableOptions, seed: int = 0) -> Prepared:
        """A table for a model that does not say how columns are coded: as ``load`` has them, or as they are.

        Raises:
            DataError: neither has the width the model takes.
        """
        from jaxland.errors import ArgumentError, DataError

        plain: DataError | None = None
        preparation = replace(self.preparation, target=options.target)
        if options.target is not None:
            try:
                data = options.read(table, seed)
                if self._fits(data.d, preparation):
                    return self._checked(preparation.of_dataset(data))
            except DataError as error:
                plain = error
        names = [c for c in table.named().columns if c != options.target and c not in options.drop]
        wanted = preparation.features or tuple(map(str, names))
        if not self._fits(len(wanted), preparation):
            if plain is not None:
                raise plain
            if options.target is None and self._fits(len(wanted) - 1, preparation):
                raise ArgumentError(
                    f"{table.name} has {len(wanted)} columns, one more than {self.model.name} takes: name the "
                    f"one that is no input with {self.target_flag}"
                )
            raise DataError(f"{self.model.name} does not take the {len(wanted)} columns of {table.name}")
        classes = preparation.classes or _classes(table, options)
        done = replace(preparation, features=wanted, sources=wanted, classes=classes)
        return self._checked(done.of_table(table))

    def _fits(self, width: int, preparation: Preparation) -> bool:
        import math

        import jax
        import jax.numpy as jnp

        if preparation.features is not None or self.model.sizes is not None:
            known = len(preparation.features or ()) or (self.model.sizes or (0,))[0]
            return width >= known if preparation.features is not None else width == known
        if preparation.shape is not None:
            return width == math.prod(preparation.shape)
        try:
            jax.eval_shape(self.model.apply, self.model.params, jnp.zeros((2, width)))
        except (TypeError, ValueError):
            return False
        return True

    def _checked(self, prepared: Prepared) -> Prepared:
        """Raise where the model does not take rows of this shape."""
        import jax

        from jaxland.errors import DataError

        try:
            jax.eval_shape(self.model.apply, self.model.params, prepared.x[:2])
        except (TypeError, ValueError) as error:
            shape = " x ".join(map(str, prepared.x.shape[1:]))
            takes = "" if self.model.sizes is None else f": it takes {self.model.sizes[0]} features"
            raise DataError(
                f"{self.model.name} does not take the {shape} numbers a row of {prepared.name}{takes} "
                f"({str(error).splitlines()[0]})"
            ) from error
        return prepared


def opened(model: str, build: str | None = None) -> Opened:
    """A model from its file, from a run's directory, from foreign weights with ``build``, or from module:function.

    Raises:
        DataError: no such file, damaged, or weights that do not fit. ArgumentError: no way to build it.
    """
    from jaxland.data import Preparation
    from jaxland.errors import ArgumentError, DataError
    from jaxland.models import load
    from jaxland.models.foreign import built, is_reference

    path = Path(model).expanduser()
    if build is None and (path / MODEL).is_file():
        path = path / MODEL
    if build is not None or (is_reference(model) and not path.exists()):
        network, facts = built(build or model, None if build is None else path)
    elif path.suffix == ".npz" or not path.exists():
        network, facts = load(path)
    elif path.is_dir() and (path / "run.json").is_file():
        raise DataError(f"{path} is a run without {MODEL}: jaxland report {path} writes it")
    else:
        raise ArgumentError(
            f"{path.name} holds weights alone: name the function that builds the model they belong to with "
            "--build module:function"
        )
    return Opened(network, facts, Preparation.of_model(facts), path.name)


def chosen_rows(whole: Prepared, part: str | None, rows: int | None) -> Prepared:
    """The rows a command looks at.

    Raises:
        ArgumentError: no such part, or no row in it.
    """
    import numpy as np

    from jaxland.data.seen import ROLES, TEST
    from jaxland.errors import ArgumentError

    if part not in (None, "all", *ROLES):
        raise ArgumentError(f"--part takes test, training, new or all, got {part!r}")
    chosen = whole
    if part is None and (whole.roles == TEST).any():
        chosen = whole.part(TEST)
    elif part not in (None, "all"):
        chosen = whole.part(ROLES.index(part))
        if not chosen.n:
            raise ArgumentError(f"--part {part}: {whole.describe()}: none of them")
    if rows is not None and not 1 <= rows <= chosen.n:
        raise ArgumentError(f"--rows must lie within 1..{chosen.n}, the rows of {whole.name} looked at, got {rows}")
    return chosen.take(np.arange(chosen.n if rows is None else rows))


def in_float64(model: Model) -> Model:
    """The same model with parameters of float64: curvatures need its digits."""
    import jax
    import jax.numpy as jnp

    def wide(leaf: jax.Array) -> jax.Array:
        return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return replace(model, params=jax.tree.map(wide, model.params))


def _classes(table: Table, options: TableOptions) -> tuple[str, ...]:
    """Names of the classes of a target, where it is one of classes, as ``load`` has them."""
    from jaxland.data import Table as Columns

    if options.target is None or options.target not in table.frame.columns:
        return ()
    alone = table.frame[[options.target]].assign(position=range(len(table.frame)))
    kept = replace(TableOptions(), target=options.target, keep=("position",))
    return kept.read(Columns(frame=alone, name=table.name)).classes


def _arrays(path: Path, target: str | None, required: str | None = None) -> tuple[Any, Any, tuple[str, ...] | None]:
    """x, y (or None) and names of features (or None) of an npz file.

    Raises:
        DataError: no such file, not readable, no x, or no array of the target's name.
    """
    import numpy as np

    from jaxland.errors import DataError

    if not path.exists():
        raise DataError(f"data file {path} does not exist")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # whatever zipfile and NumPy say of bytes that are no such file
        raise DataError(f"{path.name} is not a readable npz file ({error})") from error
    x = arrays.get("x", arrays.get("X"))
    if x is None:
        raise DataError(f"{path.name} has no array 'x'; it holds {', '.join(arrays) or 'nothing'}")
    if required is not None and required not in arrays:
        raise DataError(f"{path.name} has no array {required!r}; it holds {', '.join(arrays)}")
    names = arrays.get("features")
    y = arrays.get(target or "y", arrays.get("y"))
    return x, y, None if names is None else tuple(map(str, names))


def in_one_table(opened: Opened, first: str, second: str, given: TableOptions, seed: int) -> list[Prepared]:
    """Two files read as one table, so that columns of codes are coded alike."""
    import numpy as np

    from jaxland.data import read, together

    options = opened.options(given)
    tables = [read(Path(name), dialect=options) for name in (first, second)]
    both = opened.inferred(together(*tables), options, seed)
    split = np.split(np.arange(both.n), [len(tables[0].frame)])
    parts = [replace(both.take(rows), name=table.name) for rows, table in zip(split, tables)]
    if any(table.lines is None for table in tables):
        return [replace(part, rows=np.arange(part.n)) for part in parts]
    return [replace(part, rows=np.asarray(table.lines), called="line") for part, table in zip(parts, tables)]


def is_table(source: str) -> bool:
    """Whether a name is of a file of columns, not of a model."""
    if source.lower().endswith(TABLES):
        return True
    path = Path(source)
    return path.is_file() and path.suffix not in (".npz", ".safetensors", ".msgpack", ".pt", ".pth")
