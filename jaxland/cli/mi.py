"""``jaxland mi``: mutual information of every latent with every factor: tables, figures and a page, with errors."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def mi(
        latents: Annotated[Path, typer.Argument(help="CSV with one column per latent variable.")],
        against: Annotated[
            Path | None, typer.Option(help="CSV of factors, row by row; default: latents only.")
        ] = None,
        out: Annotated[Path, typer.Option(help="Folder for the report, tables and figures.")] = Path("runs/mi"),
        categorical: Annotated[
            str, typer.Option(help="Factors that are labels, by name, with commas; or auto.")
        ] = "auto",
        bootstraps: Annotated[int, typer.Option(help="Resamplings behind each error.")] = 50,
        starts: Annotated[int, typer.Option(help="Initialisations per number of components.")] = 3,
        folds: Annotated[int, typer.Option(help="Cross-validation folds.")] = 4,
        null: Annotated[int, typer.Option(help="Shuffled fits per pair; 0 for none.")] = 4,
        maps: Annotated[str, typer.Option(help="Coordinates of the fits: auto, raw or scores.")] = "auto",
        units: Annotated[str, typer.Option(help="nats or bits.")] = "nats",
        ksg: Annotated[bool, typer.Option(help="Nearest-neighbour estimates beside it.")] = True,
        memory: Annotated[float, typer.Option(help="GiB for data and weights on the device.")] = 2.0,
        seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    ) -> None:
        """Mutual information with error bars: latents against factors, or among themselves."""
        from rich.console import Console
        from rich.table import Table

        from jaxland import information
        from jaxland.information.latents import summarise
        from jaxland.report import figures
        from jaxland.report import information as drawing

        console = Console()
        left = _read(latents)
        right = _read(against) if against is not None else None
        options: dict[str, Any] = dict(
            bootstraps=bootstraps,
            starts=starts,
            folds=folds,
            null=null,
            maps=maps,
            units=units,
            seed=seed,
            memory=memory,
        )
        with console.status("fitting mixtures"):
            between = information.matrix(left, ksg=ksg, **options) if left.shape[1] > 1 else None
            table = between
            if right is not None:
                table = information.matrix(left, right, categorical=categorical, ksg=ksg, **options)
        if table is None:
            from jaxland.errors import DataError

            raise DataError(f"{latents} has one column: give --against, or at least two latents")
        summary = summarise(table, between) if right is not None and between is not None else None

        for why in table.left_out.values():
            typer.echo(f"left out: {why}", err=True)
        out.mkdir(parents=True, exist_ok=True)
        table.to_pandas().to_csv(out / "pairs.csv", index=False)
        for what in ("mean", "std"):
            table.frame(what).to_csv(out / f"{what}.csv")
        figures.save(drawing.heat_map(table), out / "information")
        if right is not None and between is not None:
            between.to_pandas().to_csv(out / "between.csv", index=False)
            figures.save(drawing.heat_map(between), out / "between")
        if summary is not None:
            summary.to_pandas().to_csv(out / "disentanglement.csv", index=False)
            figures.save(drawing.disentanglement_figure(summary), out / "disentanglement")
        command = shlex.join(["jaxland", *sys.argv[1:]])
        page = drawing.information_report(
            table,
            out / "report.html",
            between=between if right is not None else None,
            summary=summary,
            title=f"Mutual information: {latents.name}" + (f" against {against.name}" if against else ""),
            command=command,
        )

        shown = Table(title=f"mutual information, {units}")
        shown.add_column("")
        for name in table.columns:
            shown.add_column(name, justify="right")
        for i, name in enumerate(table.rows):
            cells = (f"{m:.3f} ± {s:.3f}" if m == m else "" for m, s in zip(table.mean[i], table.std[i]))
            shown.add_row(name, *cells)
        console.print(shown)
        if summary is not None:
            for line in summary.to_pandas().itertuples():
                console.print(
                    f"{line.factor}: carried by {line.latent} ({line.information:.3f} ± {line.std:.3f} {units}), "
                    f"MIG {line.MIG:.2f}",
                    highlight=False,
                )
        console.print(f"report: {page}", highlight=False)


def _read(path: Path) -> Any:
    """A table with named columns.

    Raises:
        DataError: no such file, not a table, no columns, no rows.
    """
    import pandas as pd

    from jaxland.errors import DataError

    try:
        frame = pd.read_csv(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from error
    frame = frame.loc[:, [c for c in frame.columns if not str(c).startswith("Unnamed:")]]
    if frame.empty:
        raise DataError(f"{path} holds no rows or no columns")
    return frame
