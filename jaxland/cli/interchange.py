"""``jaxland import`` and ``jaxland export``: landscapes from and to the formats of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FORMATS = ("pathsample", "graphml", "npz", "csv", "xyz")


def import_(
    source: Annotated[Path, typer.Argument(help="Directory with min.data, ts.data, points.min, ...")],
    out: Annotated[Path, typer.Option(help="Directory for landscape.npz and the report.")],
    size: Annotated[int | None, typer.Option(help="Coordinates per point; default: as the files say.")] = None,
    energy_label: Annotated[str, typer.Option(help="Axis of the graph, such as 'energy / eV'.")] = "energy",
    force: Annotated[bool, typer.Option("--force", help="Replace a landscape.npz that is there.")] = False,
) -> None:
    """Read a PATHSAMPLE database; keep it as landscape.npz, and draw its disconnectivity graph."""
    from jaxland.errors import StoreError
    from jaxland.landscape.interchange import archive, pathsample
    from jaxland.landscape.interchange.export import TABLES, csv
    from jaxland.report.imported import FILES, imported_report
    from jaxland.runs import refuse

    if (out / archive.STORE).exists():
        raise StoreError(f"{out} is the directory of a search: it holds {archive.STORE}; name another one")
    if not force:
        refuse(out, [archive.ARCHIVE, *TABLES[:2], *FILES])
    database = pathsample.read(source, size=size)
    landscape = database.landscape
    path = archive.save(landscape, out / archive.ARCHIVE, extras=database.extras(), force=force)
    csv(landscape, out, force=True)
    sets = {"A (products)": database.a, "B (reactants)": database.b}
    name = source.resolve().name
    report = imported_report(
        landscape, out, title=f"Landscape {name}", energy_label=energy_label, notes=database.notes, sets=sets
    )
    typer.echo(database.describe())
    for note in database.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"{path}\nreport: {report}")


def export(
    run: Annotated[Path, typer.Argument(help="Directory of a run, its landscape.db, or a landscape.npz.")],
    to: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")],
    out: Annotated[Path, typer.Option(help="Directory to write to.")],
    a: Annotated[str, typer.Option("--a", help="pathsample: minima of product set A, as 0,3,4.")] = "",
    b: Annotated[str, typer.Option("--b", help="pathsample: minima of reactant set B.")] = "",
    log_product: Annotated[
        float | None, typer.Option(help="pathsample: number to write where no log product is known.")
    ] = None,
    coordinates: Annotated[bool, typer.Option("--coordinates", help="csv: coordinates too.")] = False,
    symbol: Annotated[str, typer.Option(help="xyz: of the atoms, such as Ar.")] = "X",
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write a landscape for other programs; the data it was made from are not needed."""
    from jaxland.errors import ArgumentError
    from jaxland.landscape.interchange import archive, pathsample
    from jaxland.landscape.interchange import export as formats
    from jaxland.landscape.physics.options import indices

    if to not in FORMATS:
        raise ArgumentError(f"--to must be one of {', '.join(FORMATS)}, got {to!r}")
    if to != "pathsample" and (a or b or log_product is not None):
        raise ArgumentError("--a, --b and --log-product are for --to pathsample")
    landscape, extras = archive.read_with_extras(run)
    if to == "pathsample":
        database = pathsample.PathsampleDatabase.restored(landscape, extras)
        paths = pathsample.write(
            database,
            out,
            a=indices("--a", a) if a else None,
            b=indices("--b", b) if b else None,
            log_product=log_product,
            force=force,
        )
    elif to == "graphml":
        paths = formats.graphml(landscape, out, force=force)
    elif to == "npz":
        paths = [archive.save(landscape, out / archive.ARCHIVE, extras=extras, force=force)]
    elif to == "xyz":
        paths = formats.xyz(landscape, out, symbols=symbol, force=force)
    else:
        paths = formats.csv(landscape, out, coordinates=coordinates, force=force)
    typer.echo(landscape.describe())
    for path in paths:
        typer.echo(str(path))


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("import")(import_)
    app.command()(export)
