"""``jaxland hessian``: what the predictions of a saved model rest on, as tables and a report."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxland.cli.opening import Build, Json, ModelFile, Opened, Quiet, in_float64, in_one_table, is_table, opened
from jaxland.cli.options import Kept, spread
from jaxland.cli.progress import say, say_report
from jaxland.cli.standard_input import from_pipe
from jaxland.data.options import TableOptions
from jaxland.hessian.options import ExplainOptions

if TYPE_CHECKING:
    from jaxland.data import Prepared
    from jaxland.hessian import Explanation
    from jaxland.problem.problem import Problem
    from jaxland.report.hessian import Answers, RowNames

Reading = Annotated[
    TableOptions,
    Kept(without=("constant", "group"), help={"target": "Target column; default the one the model names."}),
]


@spread
def hessian(
    model: ModelFile,
    out: Annotated[Path, typer.Option(help="Directory for tables, figures and report.html.")],
    table: Reading,
    options: ExplainOptions,
    train: Annotated[
        str | None,
        typer.Argument(
            help="The data it was trained on: a table, npz file or built-in data; default what its file says."
        ),
    ] = None,
    build: Build = None,
    test: Annotated[
        str | None, typer.Option(help="Points to explain; default the test rows the model's file knows of, or all.")
    ] = None,
    points: Annotated[int, typer.Option(help="Most test points.")] = 200,
    loss: Annotated[
        str | None, typer.Option(help="cross_entropy, squared_error or poisson; default the model's.")
    ] = None,
    l2: Annotated[float | None, typer.Option(help="Weight of the sum of squares; default the model's.")] = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Which training rows a prediction rests on, how sure it is, and whether it extrapolates."""
    import numpy as np

    from jaxland.data.outputs import OutputUnits
    from jaxland.errors import ArgumentError
    from jaxland.hessian import CurvatureWarning, explain
    from jaxland.problem.problem import Problem
    from jaxland.report.hessian import RowNames, hessian_report
    from jaxland.report.hessian_summary import hessian_headline

    if points < 1:
        raise ArgumentError("--points must be at least 1")
    source = opened(model, build)
    source.say(quiet or json_)
    train, test = from_pipe(train, out, beside=test), from_pipe(test, out)
    rows, queries = parts(source, train, test, table, options.seed)
    if queries.n > points:
        say(quiet or json_, f"explaining the first {points} of {queries.n:,} points (--points)")
    queries = queries.take(np.arange(min(points, queries.n)))
    facts, network = source.facts, source.model
    loss = loss or facts.get("loss") or ("cross_entropy" if rows.classes else "squared_error")
    weight = float(facts.get("l2") or 0.0) if l2 is None else l2
    # Files may hold float32, which the convolution of a network in float64 does not take.
    rows, queries = (
        replace(part, x=part.x.astype(np.float64) if np.issubdtype(part.x.dtype, np.floating) else part.x)
        for part in (rows, queries)
    )
    problem = Problem.from_model(in_float64(network), rows.x, rows.y, loss=loss, l2=weight)
    points_asked = queries.x if queries.y is None else (queries.x, queries.y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CurvatureWarning)
        explained = explain(problem, points_asked, **asdict(options))
    for note in explained.curvature.warnings:
        typer.echo(f"warning: {note}", err=True)
    explained = explained.in_units(OutputUnits.of(source.preparation, loss))
    names = RowNames(queries.called, rows.rows, queries.rows)
    answers = _answers(problem, rows.classes, queries)
    _write(explained, out, names, answers)
    same = "" if queries.roles is rows.roles else f", {queries.n} points of {queries.name}"
    path = hessian_report(
        explained,
        out / "report.html",
        answers=answers,
        rows=names,
        title=f"Hessian report: {network.name}",
        subtitle=f"{problem.n} training rows of {rows.name}{same}",
    )
    found = _summary(source, explained, problem, queries, answers)
    right = None if answers is None else answers.predicted == answers.true
    found["finding"] = hessian_headline(explained, right, names).sentence
    if json_:
        typer.echo(json.dumps({**found, "report": str(path)}, indent=2))
        return
    if not quiet:
        for line in _told(found):
            typer.echo(line)
    say_report(path, quiet)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(hessian)


def _answers(problem: Problem, classes: tuple[str, ...], queries: Prepared) -> Answers | None:
    """What a classifier says of the points, where the right answers are known."""
    import numpy as np

    from jaxland.report.hessian import Answers

    if not classes or queries.y is None:
        return None
    outputs = np.asarray(problem.predict(None, queries.x))
    predicted = outputs.argmax(axis=1) if outputs.ndim == 2 and outputs.shape[1] > 1 else (outputs.reshape(-1) > 0)
    return Answers(classes, predicted.astype(int), np.asarray(queries.y, int))


def _summary(
    source: Opened, explained: Explanation, problem: Problem, queries: Prepared, answers: Answers | None
) -> dict[str, Any]:
    """What is printed, as plain values."""
    import numpy as np

    curvature = explained.curvature
    found: dict[str, Any] = {
        "model": source.name,
        "parameters": problem.size,
        "training_rows": problem.n,
        "points": queries.n,
        "curvature": curvature.kind,
        "method": curvature.method,
        "damping": float(curvature.damping),
        "gradient_norm": float(curvature.gradient_norm),
        "lowest_eigenvalue": float(explained.spectrum.lowest[0]),
        "training_loss": float(np.mean(explained.losses)),
        "warnings": list(curvature.warnings),
    }
    if answers is not None:
        found["accuracy"] = float(np.mean(answers.predicted == answers.true))
    unsure = explained.uncertainty
    shaky = int(explained.least_certain()[0])
    low, high = (float(limit[shaky]) for limit in unsure.interval(0.9))
    found["least_certain"] = {
        queries.called: int(queries.rows[shaky]),
        unsure.of: float(unsure.value[shaky]),
        "std": float(unsure.std[shaky]),
        "interval": [low, high],
    }
    return found


def _told(found: dict[str, Any]) -> list[str]:
    right = f", {found['accuracy']:.1%} of them predicted right" if "accuracy" in found else ""
    (called, row), (of, value), _, (_, (low, high)) = found["least_certain"].items()
    return [
        f"{found['model']}: {found['parameters']} parameters, {found['training_rows']:,} training rows (mean loss "
        f"{found['training_loss']:.4g}), {found['points']} points{right}",
        f"{found['curvature']}, {found['method']}, damping {found['damping']:.3g}, |grad L| "
        f"{found['gradient_norm']:.2g}, lowest eigenvalue {found['lowest_eigenvalue']:.3g}",
        f"least certain: {called} {row} ({of} {value:.3g}, 90 % between {low:.3g} and {high:.3g} when the training "
        "rows are resampled)",
        found["finding"],
    ]


def _write(explained: Explanation, out: Path, names: RowNames, answers: Answers | None) -> None:
    """Tables, the curvature, and pictures."""
    import numpy as np

    from jaxland.report import figures
    from jaxland.report import hessian as drawing
    from jaxland.runs import write_table

    write_table(out / "influence.csv", names.influence(explained.influence), index=False)
    predictions = names.points_of(explained.to_pandas())
    if answers is not None:
        known = np.asarray(answers.classes)
        predictions.insert(2, "predicted", known[answers.predicted])
        predictions.insert(3, "true", known[answers.true])
    write_table(out / "predictions.csv", predictions, index=False)
    write_table(out / "spectrum.csv", explained.spectrum.to_pandas(), index=False)
    if explained.influence.self_influence is not None:
        found = explained.influence.self_influence.to_pandas()
        found.insert(1, names.called, names.training)
        write_table(out / "self_influence.csv", found, index=False)
    explained.curvature.save(out / "curvature.npz")
    figures.save(drawing.density_figure(explained.spectrum), out / "density")
    figures.save(drawing.uncertainty_figure(explained.uncertainty), out / "uncertainty")
    figures.save(drawing.extrapolation_figure(explained.extrapolation), out / "extrapolation")


def parts(
    opened: Opened, train: str | None, test: str | None, table: TableOptions, seed: int = 0
) -> tuple[Prepared, Prepared]:
    """Training rows and points to explain, as the model takes them.

    Where its file knows which rows trained the model, only those count as training rows, and without ``test`` those
    kept for testing are explained. Else all rows are training rows.

    Raises:
        DataError: columns, values or classes the model does not know, or lacks; a table without its training rows.
        ArgumentError: no table, or no targets.
    """
    from jaxland.data.seen import TEST, TRAINING
    from jaxland.errors import ArgumentError, DataError

    seen, place = opened.preparation.seen, opened.located(train)
    if not opened.preparation.is_complete and test is not None and is_table(place) and is_table(test):
        rows, queries = in_one_table(opened, place, test, table, seed)
    else:
        rows = opened.read(train, table, seed)
        queries = rows if test is None else opened.read(test, table, seed)
    if rows.y is None:
        target = opened.preparation.target
        hint = f"it has no column {target!r}" if target else "name their column with --target"
        raise ArgumentError(f"influence needs the targets of {rows.name}: {hint}")
    if seen is not None:
        known = rows.part(TRAINING)
        if not known.n:
            raise DataError(
                f"no row of {rows.name} trained {opened.name}: give the table it was trained on (or none: its file "
                "knows where it is), and the points to explain with --test"
            )
        if test is None and (rows.roles == TEST).any():
            queries = rows.part(TEST)
        elif test is None:
            queries = known
        if known.n < len(seen.train):
            typer.echo(
                f"warning: {rows.name} holds {known.n:,} of the {len(seen.train):,} rows that trained the model: the "
                "loss is not at its minimum on these",
                err=True,
            )
        rows = known
    for note in dict.fromkeys((*rows.notes, *queries.notes)):
        typer.echo(f"note: {note}", err=True)
    return rows, queries
