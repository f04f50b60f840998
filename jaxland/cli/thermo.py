"""``jaxland thermo``: which minima of a finished landscape noise leads to, and how fast it gets there."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaxland.cli.options import spread
from jaxland.landscape.physics.options import AnalysisOptions

if TYPE_CHECKING:
    import numpy as np

    from jaxland.landscape.physics.analysis import Analysis
    from jaxland.landscape.result import Landscape

    Extras = Mapping[str, np.ndarray]


@spread
def thermo(
    run: Annotated[Path, typer.Argument(help="Directory of a run, its landscape.db, or a landscape.npz.")],
    options: AnalysisOptions,
    out: Annotated[Path | None, typer.Option(help="Directory to write to; default RUN/thermodynamics.")] = None,
    energy_label: Annotated[str, typer.Option(help="Axis of the pictures.")] = "loss",
    json_: Annotated[bool, typer.Option("--json", help="Print summary.json instead of tables.")] = False,
) -> None:
    """Occupation of minima and funnels, heat capacity, rates and paths of a landscape that was explored.

    The data it was made from are not needed. Writes report.html, pictures, summary.json and CSV tables.
    """
    from jaxland.report.thermodynamics import thermodynamics_report

    folder = run if run.is_dir() else run.parent
    analysis = _analysed(run, folder, options)
    out = folder / "thermodynamics" if out is None else out
    _write_tables(analysis, out, energy_label)
    page = thermodynamics_report(
        analysis,
        out / "report.html",
        values=_values(folder, analysis.landscape.n_minima),
        title=f"Thermodynamics and kinetics of {folder.resolve().name}",
        energy_label=energy_label,
        command=shlex.join(["jaxland", *sys.argv[1:]]),
    )
    if json_:
        typer.echo(json.dumps(analysis.summary(), indent=2))
        return
    _show(analysis)
    typer.echo(f"report: {page}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(thermo)


def _analysed(run: Path, folder: Path, options: AnalysisOptions) -> Analysis:
    import numpy as np

    from jaxland.landscape.interchange import archive
    from jaxland.landscape.physics.analysis import analyse, together

    landscape, extras = archive.read_with_extras(run)
    chosen = options.keywords()
    if chosen["modes"] is None:
        chosen["modes"] = max(0, landscape.size - _rigid_motions(landscape, extras))
    given = options.sets
    imported = len(extras.get("a", ())) and len(extras.get("b", ()))
    sets = (extras["a"], extras["b"]) if given is None and imported else given
    if given is None and sets is not None and len(np.unique(landscape.components()[together(landscape, sets)])) > 1:
        typer.echo("note: A and B of the database are not joined: no rates lead from one to the other", err=True)
        sets = None
    return analyse(landscape, **chosen, sets=sets, rows=_rows(folder))


def _write_tables(analysis: Analysis, out: Path, energy_label: str) -> None:
    """summary.json, CSV tables and pictures."""
    from jaxland.report.figures import save
    from jaxland.report.thermodynamics import funnel_figure, occupation_figure
    from jaxland.runs import write_table, write_whole

    write_whole(out / "summary.json", json.dumps(analysis.summary(), indent=2) + "\n")
    write_table(out / "curves.csv", analysis.thermodynamics.to_pandas())
    write_table(out / "minima.csv", analysis.minima())
    write_table(out / "funnels.csv", analysis.funnel_table())
    write_table(out / "pieces.csv", analysis.pieces())
    save(occupation_figure(analysis), out / "occupation")
    if len(analysis.connected) > 1:
        save(funnel_figure(analysis, energy_label=energy_label), out / "funnels")
    if analysis.kinetics is not None:
        write_table(out / "rates.csv", analysis.kinetics.to_pandas(), index=False)


def _rigid_motions(landscape: Landscape, extras: Extras) -> int:
    """Zero modes of atoms in space: of the symmetry, or from moments of inertia (a network's are written as 1)."""
    if landscape.symmetry is not None and landscape.symmetry.zero_modes:
        return landscape.symmetry.zero_modes
    moments = extras.get("moments")
    return 6 if moments is not None and len(moments) and bool((abs(moments - 1.0) > 1e-12).any()) else 0


def _rows(folder: Path) -> int:
    """Number of training rows of a run of ``jaxland explore``; 0 where it is not known."""
    from jaxland.models import load

    path = folder / "model.npz"
    return int(load(path)[1].get("rows") or 0) if path.exists() else 0


def _values(folder: Path, count: int) -> dict[str, np.ndarray]:
    """What ``jaxland explore`` measured of every minimum, where it did."""
    import pandas as pd

    path = folder / "values.csv"
    if not path.exists():
        return {}
    frame = pd.read_csv(path, index_col=0)
    # A search that went on since then knows more minima.
    return {f"test {name}": frame[name].to_numpy(float) for name in frame} if len(frame) == count else {}


def _show(analysis: Analysis) -> None:
    import math

    from rich.console import Console
    from rich.table import Table

    console, at, t = Console(), analysis.at, analysis.temperature
    console.print(analysis.landscape.describe(), highlight=False)
    source = f"1/{analysis.rows}, the posterior" if analysis.rows else "in units of the energy"
    console.print(f"temperature {t:.6g} ({source})", highlight=False)
    if not analysis.vibrations:
        console.print("widths of basins are not known or not used: all count as equally wide", highlight=False)
    for note in analysis.notes:
        console.print(f"note: {note}", highlight=False)
    pieces = analysis.pieces()
    if len(pieces) > 1:
        table = Table("piece", "lowest minimum", "energy", "minima", "occupation", title="pieces")
        for row in pieces.head(8).itertuples():
            table.add_row(str(row.Index), str(row[1]), f"{row.energy:.8g}", str(row.minima), f"{row.occupation:.4g}")
        console.print(table)
    table = Table("minimum", "energy", "occupation", title="occupied most")
    for i in at.occupations[0].argsort(kind="stable")[::-1][:8]:
        if at.occupations[0, i] > 1e-6:
            table.add_row(str(i), f"{analysis.landscape.energies[i]:.8g}", f"{at.occupations[0, i]:.4g}")
    console.print(table)
    console.print(
        f"effectively {at.effective[0]:.3g} minima, heat capacity {at.heat_capacities[0]:.5g}, "
        f"free energy {at.free_energies[0]:.8g}",
        highlight=False,
    )
    table = Table("bottom", "energy", "minima", "depth", "occupation", title="funnels")
    for row in analysis.funnel_table().head(8).itertuples():
        table.add_row(
            str(row.bottom), f"{row.energy:.8g}", str(row.minima), f"{row.depth:.4g}", f"{row.occupation:.4g}"
        )
    console.print(table)
    k = analysis.kinetics
    if k is not None:
        r = k.rates
        table = Table("", "log10 k", "log10 of mean first-passage time", title=f"rates at T = {t:.4g}")
        scale = math.log(10)
        table.add_row(f"to {k.names[0]}", f"{r.log_ab / scale:.5g}", f"{r.log_time_ab / scale:.5g}")
        table.add_row(f"to {k.names[1]}", f"{r.log_ba / scale:.5g}", f"{r.log_time_ba / scale:.5g}")
        console.print(table)
