"""``jaxland hessian``: what the predictions of a saved model rest on, as tables and a report."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxland.cli.options import Kept, spread
from jaxland.data.options import TableOptions
from jaxland.hessian.options import ExplainOptions

if TYPE_CHECKING:
    from jaxland.hessian import Explanation

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
    from jaxland.models.model import load
    from jaxland.problem.problem import Problem
    from jaxland.report.hessian import Answers, hessian_report

    if points < 1:
        raise ArgumentError("--points must be at least 1")
    network, facts = load(model)
    reading = {
        "categorical": list(table.categorical) or None,
        "drop": list(table.drop) or None,
        "missing": table.missing,
        "seed": options.seed,
    }
    rows, queries, classes = tables(network, facts, train, test, table.target or facts.get("target"), reading)
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
    network: Any, facts: dict[str, Any], train: str, test: str | None, target: str | None, options: dict[str, Any]
) -> tuple[tuple[Any, Any], tuple[Any, Any], tuple[str, ...]]:
    """Training and test arrays in the model's own order of features and classes, and its scaling.

    Both files are read as one table, so that columns of codes are coded alike.

    Raises:
        DataError: features or classes the model does not know, or lacks.
    """
    import numpy as np

    from jaxland import data as datasets

    def loaded(source: str) -> Any:
        return datasets.load(source, None if source in datasets.BUILT_IN else target, **options)

    if test is None or test == train:
        data = loaded(train)
        parts = [data, data]
    elif _is_csv(train) and _is_csv(test):
        import pandas as pd

        frames = [_read(train), _read(test)]
        both = datasets.load(pd.concat(frames, ignore_index=True), target, **options)
        parts = [both.take(rows) for rows in np.split(np.arange(both.n), [len(frames[0])])]
    else:
        parts = [loaded(train), loaded(test)]
    (x, y), (xt, yt) = (_as_trained(part, network, facts) for part in parts)
    classes = tuple(facts.get("classes") or parts[0].classes)
    return (x, y), (xt, yt), classes


def _is_csv(path: str) -> bool:
    return path.lower().endswith((".csv", ".csv.gz", ".tsv", ".txt"))


def _read(path: str) -> Any:
    from jaxland.data import read

    return read(Path(path)).frame


def _as_trained(data: Any, network: Any, facts: dict[str, Any]) -> tuple[Any, Any]:
    from jaxland.data import Preparation

    return Preparation.of_model(facts).apply(data, network.sizes[0])
