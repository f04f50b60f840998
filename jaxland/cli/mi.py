"""``jaxland mi``: mutual information of every latent with every factor: tables, figures and a page, with errors."""

from __future__ import annotations

import shlex
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxland.cli.options import spread
from jaxland.data.dialect import Dialect
from jaxland.information.options import MatrixOptions

if TYPE_CHECKING:
    import pandas

    from jaxland.information.latents import Disentanglement, InformationMatrix


@spread
def mi(
    latents: Annotated[Path, typer.Argument(help="CSV with one column per latent variable.")],
    options: MatrixOptions,
    dialect: Dialect,
    against: Annotated[Path | None, typer.Option(help="CSV of factors, row by row; default: latents only.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the report, tables and figures.")] = Path("runs/mi"),
) -> None:
    """Mutual information with error bars: latents against factors, or among themselves."""
    from rich.console import Console

    from jaxland.errors import DataError
    from jaxland.information import matrix
    from jaxland.information.latents import summarise
    from jaxland.report.information import information_report

    left = _read(latents, dialect)
    right = _read(against, dialect) if against is not None else None
    chosen: dict[str, Any] = {f.name: getattr(options, f.name) for f in fields(options)}
    with Console().status("fitting mixtures"):
        # Latents are numbers: which factors are labels is no question of theirs.
        between = matrix(left, **{**chosen, "categorical": "auto"}) if left.shape[1] > 1 else None
        table = between if right is None else matrix(left, right, **chosen)
    if table is None:
        raise DataError(f"{latents} has one column: give --against, or at least two latents")
    beside = between if right is not None else None
    summary = None if beside is None else summarise(table, beside)
    for why in table.left_out.values():
        typer.echo(f"left out: {why}", err=True)
    _write(table, beside, summary, out)
    page = information_report(
        table,
        out / "report.html",
        between=beside,
        summary=summary,
        title=f"Mutual information: {latents.name}" + (f" against {against.name}" if against else ""),
        command=shlex.join(["jaxland", *sys.argv[1:]]),
    )
    _show(table, summary)
    typer.echo(f"report: {page}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(mi)


def _write(
    table: InformationMatrix, between: InformationMatrix | None, summary: Disentanglement | None, out: Path
) -> None:
    """Tables and pictures."""
    from jaxland.report import figures
    from jaxland.report import information as drawing

    out.mkdir(parents=True, exist_ok=True)
    table.to_pandas().to_csv(out / "pairs.csv", index=False)
    for what in ("mean", "std"):
        table.frame(what).to_csv(out / f"{what}.csv")
    figures.save(drawing.heat_map(table), out / "information")
    if between is not None:
        between.to_pandas().to_csv(out / "between.csv", index=False)
        figures.save(drawing.heat_map(between), out / "between")
    if summary is not None:
        summary.to_pandas().to_csv(out / "disentanglement.csv", index=False)
        figures.save(drawing.disentanglement_figure(summary), out / "disentanglement")


def _show(table: InformationMatrix, summary: Disentanglement | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    shown = Table(title=f"mutual information, {table.units}")
    shown.add_column("")
    for name in table.columns:
        shown.add_column(name, justify="right")
    for i, name in enumerate(table.rows):
        cells = (f"{m:.3f} ± {s:.3f}" if m == m else "" for m, s in zip(table.mean[i], table.std[i]))
        shown.add_row(name, *cells)
    console.print(shown)
    if summary is None:
        return
    for line in summary.to_pandas().itertuples():
        console.print(
            f"{line.factor}: carried by {line.latent} ({line.information:.3f} ± {line.std:.3f} {table.units}), "
            f"MIG {line.MIG:.2f}",
            highlight=False,
        )


def _read(path: Path, dialect: Dialect) -> pandas.DataFrame:
    """A table with named columns.

    Raises:
        DataError: no such file, not a table, no columns, no rows.
    """
    from jaxland.data import read

    table = read(path, dialect=dialect)
    for note in table.said():
        typer.echo(f"note: {path.name}, {note}", err=True)
    return table.named()
