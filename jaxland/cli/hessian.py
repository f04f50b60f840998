"""``jaxland hessian``: what the predictions of a saved model rest on, as tables and a report."""

from __future__ import annotations

import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxland.cli.options import Kept, spread
from jaxland.data.options import TableOptions
from jaxland.hessian.options import ExplainOptions

if TYPE_CHECKING:
    import numpy as np

    from jaxland.hessian import Explanation
    from jaxland.models import Model

    Rows = tuple[np.ndarray, np.ndarray]

Reading = Annotated[
    TableOptions,
    Kept(without=("constant",), help={"target": "Target column; default the one the model names."}),
]


@spread
def hessian(
    model: Annotated[Path, typer.Argument(help="Model file written by jaxland (explore writes model.npz).")],
    train: Annotated[str, typer.Argument(help="The training data: CSV or npz file, or built-in data.")],
    out: Annotated[Path, typer.Option(help="Directory for tables, figures and report.html.")],
    table: Reading,
    options: ExplainOptions,
    test: Annotated[str | None, typer.Option(help="Points to explain; default the training rows.")] = None,
    points: Annotated[int, typer.Option(help="Most test points.")] = 200,
    loss: Annotated[str | None, typer.Option(help="cross_entropy or squared_error; default the model's.")] = None,
    l2: Annotated[float | None, typer.Option(help="Weight of the sum of squares; default the model's.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the path of the report only.")] = False,
) -> None:
    """Which training rows a prediction rests on, how sure it is, and whether it extrapolates."""
    import numpy as np

    from jaxland.errors import ArgumentError
    from jaxland.hessian import CurvatureWarning, explain
    from jaxland.models import load
    from jaxland.problem.problem import Problem
    from jaxland.report.hessian import Answers, hessian_report

    if points < 1:
        raise ArgumentError("--points must be at least 1")
    network, facts = load(model)
    table = replace(table, target=table.target or facts.get("target"))
    rows, queries, classes = tables(network, facts, train, test, table, options.seed)
    loss = loss or facts.get("loss") or ("cross_entropy" if classes else "squared_error")
    weight = float(facts.get("l2") or 0.0) if l2 is None else l2
    problem = Problem.from_model(network, *rows, loss=loss, l2=weight)
    queries = queries[0][:points], queries[1][:points]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CurvatureWarning)
        explained = explain(problem, queries, **asdict(options))
    for note in explained.curvature.warnings:
        typer.echo(f"warning: {note}", err=True)
    _write(explained, out)
    predicted = np.asarray(problem.predict(None, queries[0])).argmax(axis=1) if classes else None
    path = hessian_report(
        explained,
        out / "report.html",
        answers=None if predicted is None else Answers(classes, predicted, np.asarray(queries[1])),
        title=f"Hessian report: {network.name}",
        subtitle=f"{problem.n} training rows from {train}",
    )
    if not quiet:
        curvature, lowest = explained.curvature, explained.spectrum.lowest[0]
        typer.echo(f"{network.name}: {problem.size} parameters, {problem.n} training rows, {len(queries[0])} points")
        typer.echo(
            f"{curvature.kind}, {curvature.method}, damping {curvature.damping:.3g}, |grad L| "
            f"{curvature.gradient_norm:.2g}, lowest eigenvalue {lowest:.3g}"
        )
    typer.echo(f"report: {path}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(hessian)


def _write(explained: Explanation, out: Path) -> None:
    """Tables, the curvature, and pictures."""
    from jaxland.report import figures
    from jaxland.report import hessian as drawing

    out.mkdir(parents=True, exist_ok=True)
    explained.influence.to_pandas().to_csv(out / "influence.csv", index=False)
    explained.to_pandas().to_csv(out / "predictions.csv", index=False)
    explained.spectrum.to_pandas().to_csv(out / "spectrum.csv", index=False)
    if explained.influence.self_influence is not None:
        explained.influence.self_influence.to_pandas().to_csv(out / "self_influence.csv", index=False)
    explained.curvature.save(out / "curvature.npz")
    figures.save(drawing.density_figure(explained.spectrum), out / "density")
    figures.save(drawing.uncertainty_figure(explained.uncertainty), out / "uncertainty")
    figures.save(drawing.extrapolation_figure(explained.extrapolation), out / "extrapolation")


def tables(
    network: Model, facts: dict[str, Any], train: str, test: str | None, table: TableOptions, seed: int = 0
) -> tuple[Rows, Rows, tuple[str, ...]]:
    """Training and test arrays in the model's own order of features and classes, and its scaling.

    Both files are read as one table, so that columns of codes are coded alike.

    Raises:
        DataError: features or classes the model does not know, or lacks.
    """
    import numpy as np

    from jaxland.data import BUILT_IN, Dataset, Preparation, read, together

    def loaded(source: str) -> Dataset:
        return (replace(table, target=None) if source in BUILT_IN else table).read(source, seed)

    if test is None or test == train:
        data = loaded(train)
        parts = [data, data]
    elif _is_csv(train) and _is_csv(test):
        first = read(Path(train), dialect=table)
        both = table.read(together(first, read(Path(test), dialect=table)), seed)
        parts = [both.take(rows) for rows in np.split(np.arange(both.n), [len(first.frame)])]
    else:
        parts = [loaded(train), loaded(test)]
    for note in parts[0].notes:
        typer.echo(f"note: {note}", err=True)
    wanted = Preparation.of_model(facts)
    assert network.sizes is not None  # a file holds a dense network
    width = network.sizes[0]
    (x, y), (xt, yt) = (wanted.apply(part, width) for part in parts)
    classes = tuple(facts.get("classes") or parts[0].classes)
    return (x, y), (xt, yt), classes


def _is_csv(path: str) -> bool:
    return path.lower().endswith((".csv", ".csv.gz", ".tsv", ".txt"))
