"""``jaxland thermo``: which minima of a finished landscape noise leads to, and how fast it gets there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def thermo(
        run: Annotated[Path, typer.Argument(help="Directory of a run, its landscape.db, or a landscape.npz.")],
        out: Annotated[Path | None, typer.Option(help="Directory to write to; default RUN/thermodynamics.")] = None,
        temperature: Annotated[
            float | None,
            typer.Option(help="Of occupations and rates, in units of the energy; default 1/(training rows)."),
        ] = None,
        grid: Annotated[str, typer.Option(help="Temperatures of the curves as LOW:HIGH:COUNT.")] = "",
        a: Annotated[str, typer.Option("--a", help="Minima of set A, as 0,3,4; default the lowest funnel.")] = "",
        b: Annotated[str, typer.Option("--b", help="Minima of set B; default the second lowest funnel.")] = "",
        depth: Annotated[float | None, typer.Option(help="Least depth of a funnel.")] = None,
        modes: Annotated[
            int | None,
            typer.Option(help="Vibrational modes; default the number of coordinates, less 6 of a molecule."),
        ] = None,
        equal_widths: Annotated[
            bool, typer.Option("--equal-widths", help="Take all basins as equally wide.")
        ] = False,
        energy_label: Annotated[str, typer.Option(help="Axis of the pictures.")] = "loss",
        json_: Annotated[bool, typer.Option("--json", help="Print summary.json instead of tables.")] = False,
    ) -> None:
        """Occupation of minima and funnels, heat capacity, rates and paths of a landscape that was explored.

        The data it was made from are not needed. Writes report.html, pictures, summary.json and CSV tables.
        """
        import json
        import shlex
        import sys

        from jaxland.landscape.interchange import archive
        from jaxland.landscape.physics.analysis import analyse
        from jaxland.report import thermodynamics as drawing
        from jaxland.report.figures import save
        from jaxland.runs import write_whole

        landscape, extras = archive.read_with_extras(run)
        folder = run if run.is_dir() else run.parent
        sets = _sets(a, b, extras)
        if modes is None:
            modes = landscape.size - _rigid_motions(landscape, extras)
        analysis = analyse(
            landscape,
            temperature,
            temperatures=_grid(grid),
            depth=depth,
            sets=sets,
            modes=modes,
            rows=_rows(folder),
            vibrations=False if equal_widths else None,
        )
        values = _values(folder, landscape.n_minima)
        out = folder / "thermodynamics" if out is None else out
        out.mkdir(parents=True, exist_ok=True)
        summary = analysis.summary()
        write_whole(out / "summary.json", json.dumps(summary, indent=2) + "\n")
        analysis.thermodynamics.to_pandas().to_csv(out / "curves.csv")
        analysis.minima().to_csv(out / "minima.csv")
        analysis.funnel_table().to_csv(out / "funnels.csv")
        save(drawing.occupation_figure(analysis), out / "occupation")
        if len(analysis.connected) > 1:
            save(drawing.funnel_figure(analysis, energy_label=energy_label), out / "funnels")
        if analysis.kinetics is not None:
            analysis.kinetics.to_pandas().to_csv(out / "rates.csv", index=False)
        page = drawing.thermodynamics_report(
            analysis,
            out / "report.html",
            values=values,
            title=f"Thermodynamics and kinetics of {folder.resolve().name}",
            energy_label=energy_label,
            command=shlex.join(["jaxland", *sys.argv[1:]]),
        )
        if json_:
            typer.echo(json.dumps(summary, indent=2))
            return
        _show(analysis)
        typer.echo(f"report: {page}")


def _numbers(option: str, text: str) -> list[int]:
    from jaxland.errors import ArgumentError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ArgumentError(f"{option} takes numbers of minima such as 0,3,4, got {text!r}") from error


def _sets(a: str, b: str, extras: Any) -> tuple[Any, Any] | None:
    """A and B as given, or those of an imported database."""
    from jaxland.errors import ArgumentError

    if bool(a) != bool(b):
        raise ArgumentError("give both --a and --b, or neither")
    if a:
        return _numbers("--a", a), _numbers("--b", b)
    return (extras["a"], extras["b"]) if len(extras.get("a", ())) and len(extras.get("b", ())) else None


def _rigid_motions(landscape: Any, extras: Any) -> int:
    """Zero modes of atoms in space: as the store describes its symmetry, or from moments of inertia (a network's are
    written as 1)."""
    import re

    atoms = re.search(r"rigid motions.* of (\d+) atoms", str(landscape.settings.get("problem", "")))
    if atoms is not None:
        return 5 if int(atoms[1]) == 2 else 6
    moments = extras.get("moments")
    return 6 if moments is not None and len(moments) and bool((abs(moments - 1.0) > 1e-12).any()) else 0


def _grid(text: str) -> Any:
    import numpy as np

    from jaxland.errors import ArgumentError

    if not text:
        return None
    try:
        low, high, count = text.split(":")
        ends, number = (float(low), float(high)), int(count)
    except ValueError as error:
        raise ArgumentError(f"--grid takes LOW:HIGH:COUNT such as 1e-4:1e-1:100, got {text!r}") from error
    if not (0 < ends[0] < ends[1] < float("inf") and 2 <= number <= 100_000):
        raise ArgumentError(f"--grid needs 0 < LOW < HIGH and COUNT of at least 2, got {text!r}")
    return np.geomspace(*ends, number)


def _rows(folder: Path) -> int:
    """Number of training rows of a run of ``jaxland explore``; 0 where it is not known."""
    from jaxland.models.model import load

    path = folder / "model.npz"
    return int(load(path)[1].get("rows") or 0) if path.exists() else 0


def _values(folder: Path, count: int) -> dict[str, Any]:
    """What ``jaxland explore`` measured of every minimum, where it did."""
    import pandas as pd

    path = folder / "values.csv"
    if not path.exists():
        return {}
    frame = pd.read_csv(path, index_col=0)
    # A search that went on since then knows more minima.
    return {f"test {name}": frame[name].to_numpy(float) for name in frame} if len(frame) == count else {}


def _show(analysis: Any) -> None:
    import math

    from rich.console import Console
    from rich.table import Table

    console, at, t = Console(), analysis.at, analysis.temperature
    console.print(analysis.landscape.describe(), highlight=False)
    source = f"1/{analysis.rows}, the posterior" if analysis.rows else "in units of the energy"
    console.print(f"temperature {t:.6g} ({source})", highlight=False)
    if not analysis.vibrations:
        console.print("widths of basins are not known or not used: all count as equally wide", highlight=False)
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
