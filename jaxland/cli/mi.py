"""``jaxland mi``: mutual information of every latent with every factor: tables, figures and a page, with errors."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxland.cli.opening import Build, Json, Opened, Part, Quiet, chosen_rows, is_table, opened
from jaxland.cli.options import spread
from jaxland.cli.progress import say_report, spinner
from jaxland.cli.standard_input import from_pipe
from jaxland.data.dialect import Dialect
from jaxland.data.options import TableOptions
from jaxland.information.options import MatrixOptions

if TYPE_CHECKING:
    import pandas

    from jaxland.information.latents import Disentanglement, InformationMatrix


@spread
def mi(
    latents: Annotated[
        str, typer.Argument(help="A table with one column per latent variable; or a model: its hidden units.")
    ],
    options: MatrixOptions,
    dialect: Dialect,
    against: Annotated[
        str | None,
        typer.Option(help="Table of factors, row by row; default none, for a model the table it was made from."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the report, tables and figures.")] = Path("runs/mi"),
    build: Build = None,
    layer: Annotated[str | None, typer.Option(help="Of a model: hidden (the last layer's units) or outputs.")] = None,
    target: Annotated[
        str | None, typer.Option(help="Of a model: the target column; default what its file says.")
    ] = None,
    part: Part = None,
    rows: Annotated[int | None, typer.Option(help="Of a model: only the first so many rows.")] = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Mutual information with error bars: latents against factors, or among themselves.

    Of a model: what its hidden units know of each column of its table, on rows kept for testing.
    """
    from jaxland.errors import DataError
    from jaxland.information import matrix
    from jaxland.information.latents import summarise
    from jaxland.report.information import headline, information_report

    latents, against = from_pipe(latents, out, beside=against), from_pipe(against, out)
    if build is None and is_table(latents):
        left = _read(Path(latents), dialect)
        right = _read(Path(against), dialect) if against is not None else None
        title = Path(latents).name + (f" against {Path(against).name}" if against else "")
    else:
        source = opened(latents, build)
        source.say(quiet or json_)
        table = TableOptions(target=target, **{f.name: getattr(dialect, f.name) for f in fields(Dialect)})
        left, right, title = inside(source, against, table, layer, part=part, rows=rows)
    if options.bootstraps < 2 and not (quiet or json_):
        typer.echo("note: no error bars: they take --bootstraps of at least 2", err=True)
    chosen: dict[str, Any] = {f.name: getattr(options, f.name) for f in fields(options)}
    with spinner(quiet or json_, "fitting mixtures"):
        # Latents are numbers: which factors are labels is no question of theirs.
        between = matrix(left, **{**chosen, "categorical": "auto"}) if left.shape[1] > 1 else None
        found = between if right is None else matrix(left, right, **chosen)
    if found is None:
        raise DataError(f"{latents} has one column: give --against, or at least two latents")
    beside = between if right is not None else None
    summary = None if beside is None else summarise(found, beside)
    for why in found.left_out.values():
        typer.echo(f"left out: {why}", err=True)
    _write(found, beside, summary, out)
    page = information_report(
        found,
        out / "report.html",
        between=beside,
        summary=summary,
        title=f"Mutual information: {title}",
        command=shlex.join(["jaxland", *sys.argv[1:]]),
    )
    told = headline(found, summary).sentence
    if json_:
        typer.echo(json.dumps({**_summary(found), "finding": told, "report": str(page)}, indent=2))
        return
    if not quiet:
        _show(found, summary)
        typer.echo(told)
    say_report(page, quiet)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(mi)


def inside(
    source: Opened, against: str | None, table: TableOptions, layer: str | None, *, part: str | None, rows: int | None
) -> tuple[pandas.DataFrame, pandas.DataFrame, str]:
    """What a model holds of each row, and the row's columns by name; a title.

    Raises:
        ArgumentError: no such layer, or one the model has not.
    """
    import numpy as np
    import pandas as pd

    from jaxland.errors import ArgumentError
    from jaxland.models.mlp import hidden_units

    network = source.model
    dense = network.sizes is not None and len(network.sizes) > 2
    layer = layer or ("hidden" if dense else "outputs")
    if layer not in ("hidden", "outputs"):
        raise ArgumentError(f"--layer takes hidden or outputs, got {layer!r}")
    if layer == "hidden" and not dense:
        raise ArgumentError(f"{network.name} is no dense network with a hidden layer: --layer outputs")
    whole = source.read(against, table)
    chosen = chosen_rows(whole, part, rows)
    values = np.asarray(hidden_units(network, chosen.x) if layer == "hidden" else network(chosen.x))
    values = values.reshape(chosen.n, -1)
    names = [f"unit {k + 1}" for k in range(values.shape[1])]
    if layer == "outputs":
        # Logits are known up to a common shift: against the first class.
        if len(chosen.classes) == values.shape[1] > 1:
            values = values[:, 1:] - values[:, :1]
            names = [f"logit of {name}" for name in chosen.classes[1:]]
        else:
            names = [f"output {k + 1}" for k in range(values.shape[1])]
    factors = source.preparation.factors(chosen)
    left = _varying(pd.DataFrame(values, columns=names))
    typer.echo(f"note: {whole.describe()}; {chosen.n:,} are looked at", err=True)
    return left, _varying(factors), f"{layer} of {network.name} against the columns of {whole.name}"


def _varying(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Without columns that have one value, which know and are known by nothing."""
    flat = [str(c) for c in frame.columns if frame[c].nunique() < 2]
    if flat:
        typer.echo(f"left out: {', '.join(flat)}: one value in every row", err=True)
    return frame.drop(columns=flat)


def _summary(found: InformationMatrix) -> dict[str, Any]:
    """What is printed, as plain values."""
    return {
        "units": found.units,
        "pairs": json.loads(found.to_pandas().to_json(orient="records")),
        "left_out": list(found.left_out.values()),
    }


def _write(
    table: InformationMatrix, between: InformationMatrix | None, summary: Disentanglement | None, out: Path
) -> None:
    """Tables and pictures."""
    from jaxland.report import figures
    from jaxland.report import information as drawing
    from jaxland.runs import write_table

    write_table(out / "pairs.csv", table.to_pandas(), index=False)
    for what in ("mean", "std"):
        write_table(out / f"{what}.csv", table.frame(what))
    figures.save(drawing.heat_map(table), out / "information")
    if between is not None:
        write_table(out / "between.csv", between.to_pandas(), index=False)
        figures.save(drawing.heat_map(between), out / "between")
    if summary is not None:
        write_table(out / "disentanglement.csv", summary.to_pandas(), index=False)
        figures.save(drawing.disentanglement_figure(summary), out / "disentanglement")


def _show(table: InformationMatrix, summary: Disentanglement | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    cells = [[_number(m, s) if m == m else "" for m, s in zip(*line)] for line in zip(table.mean, table.std)]
    widths = [max(map(len, column)) for column in zip(table.columns, *cells)]
    if max(map(len, table.rows)) + sum(widths) + 3 * len(widths) + 4 > console.width:
        for line in _strongest(table):
            console.print(line, highlight=False, markup=False, soft_wrap=not console.is_terminal)
        return
    shown = Table(title=f"mutual information, {table.units}")
    shown.add_column("")
    for name in table.columns:
        shown.add_column(name, justify="right")
    for name, row in zip(table.rows, cells):
        shown.add_row(name, *row)
    console.print(shown)
    if summary is None:
        return
    from jaxland.report.information import mig_text

    for line in summary.to_pandas().itertuples():
        console.print(
            f"{line.factor}: carried by {line.latent} ({line.information:.3f} ± {line.std:.3f} {table.units}), "
            f"MIG {mig_text(line.MIG, summary.mig_std[line.Index])}",
            highlight=False,
        )


def _number(mean: float, std: float) -> str:
    return f"{mean:.3f}" if std != std else f"{mean:.3f} ± {std:.3f}"


def _strongest(table: InformationMatrix) -> list[str]:
    """Of a wide table: for each row what it knows most about."""
    import numpy as np

    lines = []
    for i, name in enumerate(table.rows):
        order = np.argsort(-np.nan_to_num(table.mean[i], nan=-np.inf), kind="stable")[:4]
        told = (f"{table.columns[j]} {_number(table.mean[i, j], table.std[i, j])}" for j in order)
        lines.append(f"{name}: {', '.join(told)} {table.units}")
    return lines


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
