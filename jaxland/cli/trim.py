"""``jaxland trim``: attribute a saved network to frequencies, wavelets or components of its inputs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxland.cli.opening import Build, Json, ModelFile, Opened, Part, Quiet, chosen_rows, opened
from jaxland.cli.options import Kept, spread
from jaxland.cli.progress import say_report
from jaxland.cli.standard_input import from_pipe
from jaxland.data.options import TableOptions
from jaxland.trim.options import AttributeKeywords, TrimOptions

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from jaxland.data import Prepared
    from jaxland.models import Model
    from jaxland.trim import Attribution
    from jaxland.trim.evaluate import Curve


Reading = Annotated[TableOptions, Kept(without=("constant", "group", "target"))]


@spread
def trim(
    model: ModelFile,
    out: Annotated[Path, typer.Option(help="Directory for scores, figures and report.html.")],
    options: TrimOptions,
    table: Reading,
    data: Annotated[
        str | None,
        typer.Argument(
            help="Inputs: a table, one row each, or npz with x (and y); default what the model's file says."
        ),
    ] = None,
    build: Build = None,
    labels: Annotated[
        str | None, typer.Option(help="Column of true classes or values; default the one the model names.")
    ] = None,
    part: Part = None,
    rows: Annotated[int | None, typer.Option(help="Explain only the first so many of them.")] = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Attribute a network's output to the columns of a table, or to coefficients of a transform of its inputs.

    Writes scores.csv, profile.png, report.html; says how complete the attribution is and tests it on the model.
    """
    from rich.console import Console

    from jaxland import trim as systems
    from jaxland.report import trim as report
    from jaxland.runs import write_table

    source = replace(opened(model, build), target_flag="--labels")
    source.say(quiet or json_)
    whole = source.read(from_pipe(data, out), replace(table, target=labels))
    chosen = chosen_rows(whole, part, rows)
    if options.transform is None and source.preparation.features is None:
        options = replace(options, transform="rfft")
    network, said = _in_units(source)
    with _progress(Console(stderr=True), quiet or json_) as advance:
        keywords = options.keywords(
            chosen.x, _columns(source, chosen), _background(whole, chosen), source.preparation.features
        )
        result = systems.attribute(network, chosen.x, **keywords, progress=advance, warn=False)
    by_column = "groups" in keywords
    if by_column:
        result = replace(result, transform="columns")
    result = replace(result, notes=(*result.notes, *said, *_notes(source, whole, chosen, keywords)))
    deletion, insertion = systems.deletion(result), systems.insertion(result)
    evaluation = systems.sensitivity_n(result) if len(result.labels) > 2 else None
    tables = {"scores": result.to_pandas(), "summary": result.summary()}
    tables["scores"].insert(0, chosen.called, chosen.rows)
    accuracy = _accuracy(source, chosen)
    if accuracy is not None:
        tables["knock_out"] = evaluation = systems.knock_out(result, _targets(chosen))
    spectrum = None if by_column else systems.power(result)
    where = "the columns" if result.transform == "columns" else result.transform
    page = report.page(
        result,
        title=f"Attribution to {where} of {whole.name}",
        spectrum=spectrum,
        deletion=deletion,
        insertion=insertion,
        evaluation=evaluation,
    )
    report.write(out, page, {"profile": report.profile(result, spectrum=spectrum), "inputs": report.heat(result)})
    for name, frame in tables.items():
        write_table(out / f"{name}.csv", frame, index=False)
    found = _summary(source, chosen, result, deletion, insertion, accuracy)
    found["finding"] = report.headline(result).sentence
    if json_:
        typer.echo(json.dumps({**found, "report": str(out / "report.html")}, indent=2))
        return
    if not quiet:
        _show(found)
    say_report(out / "report.html", quiet)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(trim)


def _in_units(source: Opened) -> tuple[Model, list[str]]:
    """The network with outputs in the units of the file, and what they are, in a sentence."""
    from jaxland.data.outputs import OutputUnits

    model, loss = source.model, source.facts.get("loss")
    units = OutputUnits.of(source.preparation, loss)
    if loss == "cross_entropy" or source.preparation.target is None:
        return model, []
    said = [f"scores are in units of {units.name}" if not units.log else f"scores add up to the {units.additive}"]
    if units.is_plain or units.log:
        return model, said
    return replace(
        model, apply=lambda params, x: units.centre + units.scale * model.apply(params, x), sizes=None
    ), said


def _targets(chosen: Prepared) -> np.ndarray:
    """Class numbers [n]."""
    assert chosen.y is not None
    return chosen.y.astype(int)


def _columns(source: Opened, chosen: Prepared) -> tuple[tuple[str, ...], np.ndarray] | None:
    """Names of the columns behind the features, and the column of each feature; None where they are not known."""
    import numpy as np

    if chosen.x.ndim != 2 or not chosen.columns:
        return None
    if source.preparation.is_complete:
        return source.preparation.columns, source.preparation.groups()
    return (chosen.columns, np.arange(len(chosen.columns))) if len(chosen.columns) == chosen.x.shape[1] else None


def _background(whole: Prepared, chosen: Prepared) -> np.ndarray:
    """Inputs that baselines are drawn from: the training rows where they are known."""
    from jaxland.data.seen import TRAINING

    known = whole.part(TRAINING)
    return known.x if known.n else chosen.x


def _notes(source: Opened, whole: Prepared, chosen: Prepared, keywords: AttributeKeywords) -> list[str]:
    told = [f"{whole.describe()}; {chosen.n:,} are explained"]
    if keywords.get("baseline") == "mean":
        of = "the training rows" if source.preparation.seen is not None else "the rows"
        told.append(f"a column that is switched off stands at the mean of {of}")
    return [*told, *whole.notes]


def _accuracy(source: Opened, chosen: Prepared) -> float | None:
    """Share of the explained rows that a classifier has right; None where that is not known."""
    import numpy as np

    outputs = np.asarray(source.model(chosen.x))
    whole = chosen.y is not None and np.array_equal(chosen.y, np.round(chosen.y))
    if not whole or source.preparation.task == "regression" or outputs.ndim != 2 or outputs.shape[1] < 2:
        return None
    return float(np.mean(outputs.argmax(1) == chosen.y))


def _summary(
    source: Opened,
    chosen: Prepared,
    result: Attribution,
    deletion: Curve,
    insertion: Curve,
    accuracy: float | None,
) -> dict[str, Any]:
    """What is printed, as plain values."""
    table = result.summary()
    total = float(table["mean |score|"].sum()) or 1.0
    leading = table.head(5)
    found: dict[str, Any] = {
        "model": source.name,
        "method": result.method,
        "transform": result.transform,
        "inputs": len(result.scores),
        "players": len(result.labels),
        "shares": {str(p): float(v) / total for p, v in zip(leading["player"], leading["mean |score|"])},
        "deletion_area": deletion.area,
        "insertion_area": insertion.area,
        "notes": list(result.notes),
    }
    if result.method != "contextual_decomposition":
        found["largest_relative_gap"] = float(result.relative_gap.max())
    if accuracy is not None:
        found["accuracy"] = accuracy
    return found


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False, soft_wrap=True)
    for note in found["notes"]:
        console.print(f"note: {note}")
    right = f", {found['accuracy']:.1%} of them predicted right" if "accuracy" in found else ""
    kind = "columns" if found["transform"] == "columns" else f"players of {found['transform']}"
    console.print(f"{found['method']}: {found['inputs']:,} inputs{right}, {found['players']} {kind}")
    for player, share in found["shares"].items():
        console.print(f"  {player:>24}  {share:6.1%} of all attribution")
    gap = f"largest relative gap {found['largest_relative_gap']:.2e}; " if "largest_relative_gap" in found else ""
    console.print(
        f"{gap}area under the output while the leading ones go: {found['deletion_area']:.3f}; while they come: "
        f"{found['insertion_area']:.3f} (the order is right where this is larger)"
    )
    console.print(found["finding"])


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
