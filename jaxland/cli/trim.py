"""``jaxland trim``: attribute a saved network to frequencies, wavelets or components of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaxland.cli.options import spread
from jaxland.data.dialect import Dialect
from jaxland.trim.options import TrimOptions

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from jaxland.trim import Attribution
    from jaxland.trim.evaluate import Curve


@spread
def trim(
    model: Annotated[Path, typer.Argument(help="Network written by jaxland.models.save (model.npz).")],
    data: Annotated[Path, typer.Argument(help="Inputs: CSV of numbers, one row each, or npz with x (and y).")],
    out: Annotated[Path, typer.Option(help="Directory for scores, figures and report.html.")],
    options: TrimOptions,
    dialect: Dialect,
    labels: Annotated[str | None, typer.Option(help="Column of true classes (CSV), for knock-out accuracy.")] = None,
    rows: Annotated[int | None, typer.Option(help="Explain only the first so many inputs.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress display.")] = False,
) -> None:
    """Attribute a network's output to coefficients of a transform of its inputs.

    Writes scores.csv, profile.png, report.html; says how complete the attribution is and tests it on the model.
    """
    from rich.console import Console

    from jaxland import models
    from jaxland import trim as systems
    from jaxland.report import trim as report

    network, _ = models.load(model)
    x, y = _read(data, labels, dialect)
    x, y = x[:rows], None if y is None else y[:rows]
    with _progress(Console(stderr=True), quiet) as advance:
        result = systems.attribute(network, x, **options.keywords(x), progress=advance, warn=False)
    deletion, insertion = systems.deletion(result), systems.insertion(result)
    evaluation = systems.sensitivity_n(result) if len(result.labels) > 2 else None
    tables = {"scores": result.to_pandas(), "summary": result.summary()}
    if y is not None:
        tables["knock_out"] = evaluation = systems.knock_out(result, y)
    spectrum = systems.power(result)
    page = report.page(result, spectrum=spectrum, deletion=deletion, insertion=insertion, evaluation=evaluation)
    report.write(out, page, {"profile": report.profile(result, spectrum=spectrum), "inputs": report.heat(result)})
    for name, table in tables.items():
        table.to_csv(out / f"{name}.csv", index=False)
    _show(result, deletion, insertion)
    typer.echo(f"written to {out}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(trim)


def _show(result: Attribution, deletion: Curve, insertion: Curve) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    console.print(f"{result.method} on {result.transform}: {len(result.scores)} inputs, {len(result.labels)} players")
    for _, row in result.summary().head(5).iterrows():
        console.print(f"  {row['player']:>12}  mean |score| {row['mean |score|']:.4g}")
    complete = result.method != "contextual_decomposition"
    gap = f"largest relative gap {result.relative_gap.max():.2e}; " if complete else ""
    console.print(f"{gap}deletion area {deletion.area:.3f}, insertion area {insertion.area:.3f}")
    for note in result.notes:
        console.print(f"note: {note}")


def _read(path: Path, labels: str | None, dialect: Dialect) -> tuple[np.ndarray, np.ndarray | None]:
    """Numbers of a CSV (with or without a header) or npz file, and the classes where there are any."""
    import numpy as np

    from jaxland.data import read
    from jaxland.errors import DataError

    if path.suffix == ".npz" and path.exists():
        with np.load(path, allow_pickle=False) as archive:
            if "x" not in archive:
                raise DataError(f"{path} has no array x, only {', '.join(archive.files)}")
            return archive["x"], archive.get("y")
    table = read(path, header=None, dialect=dialect)
    for note in table.said():
        typer.echo(f"note: {note}", err=True)
    return table.numbers(labels)


@contextmanager
def _progress(console: Console, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr, or nothing."""
    from rich.progress import Progress

    if quiet or not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("attributing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
