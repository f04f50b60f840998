"""``jaxland explore | report``: from a table to the landscape of a network's loss, its weights, and a report."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from jaxland.cli.options import Kept, spread
from jaxland.cli.progress import Display, say, say_report, spinner
from jaxland.cli.recipe import SEARCH, Recipe
from jaxland.cli.standard_input import from_pipe
from jaxland.data.options import SplitOptions, TableOptions
from jaxland.landscape.search.settings import SearchSettings
from jaxland.landscape.weights.settings import ConservationSettings
from jaxland.models.options import NetworkOptions

if TYPE_CHECKING:
    from jaxland.landscape.result import Landscape
    from jaxland.why import Why

Source = Annotated[
    str,
    typer.Argument(
        help="CSV, parquet, Excel or npz file, - (a pipe); built-in checkerboard, xor, breast_cancer, wine, digits; "
        "or lj13, morse8."
    ),
]
Out = Annotated[Path, typer.Option(help="Directory of the run; a second call with it continues.")]
Searching = Annotated[
    SearchSettings,
    Kept(
        without=("max_step",),
        help={
            "seed": "Of every random choice.",
            "minima": "Stop when so many minima are joined to the lowest; 0: when nothing new turns up.",
        },
    ),
]
Conservation = Annotated[ConservationSettings, Kept(without=("seed",))]
Asked = Annotated[
    list[int] | None,
    typer.Option(
        "--why",
        help="Explain the prediction for this line of the table (row of built-in data, from 0) by all four systems; "
        "repeatable.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the path of the report only.")]

Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON, and nothing else.")]


@spread
def explore(
    source: Source,
    out: Out,
    table: TableOptions,
    rows: SplitOptions,
    network: NetworkOptions,
    conservation: Conservation,
    settings: Searching = SEARCH,
    time_limit: Annotated[float | None, typer.Option(help="Seconds of searching; call again to go on.")] = None,
    why: Asked = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Map the loss landscape of a small network trained on a table, and read its conserved weights.

    Finds minima and the transition states between them, draws the disconnectivity graph, finds the weights that
    are conserved within its groups, and writes report.html. Ctrl-C stops cleanly; the same command continues.
    """
    from jaxland.landscape import Store

    quiet = quiet or json_
    check_time_limit(time_limit)
    source = from_pipe(source, out, kept=True)
    recipe = Recipe(source, table=table, rows=rows, network=network, search=settings)
    recipe = settled(recipe, out, quiet)
    say(quiet, *recipe.describe())
    asked = _asked(recipe, why)
    with Store(out / "landscape.db", recipe.problem):  # refuses another problem's before its recipe is replaced
        recipe.save(out)
    found = search(recipe, out, time_limit, quiet)
    _end(found, out, write_report(recipe, found, out, conservation, quiet, asked), quiet, json_)


@spread
def report(
    run: Annotated[Path, typer.Argument(help="Directory of a run, finished or not.")],
    conservation: Conservation,
    why: Asked = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Path of the report only.")] = False,
    json_: Json = False,
) -> None:
    """Write the report of what a run has found so far."""
    from jaxland.landscape import Store

    recipe = Recipe.load(run)
    asked = _asked(recipe, why)
    with Store(run / "landscape.db", recipe.problem) as store:
        found = store.landscape()
    written = write_report(recipe, found, run, conservation, quiet or json_, asked)
    _end(found, run, written, quiet, json_)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (explore, report):
        app.command()(command)


def settled(recipe: Recipe, out: Path, quiet: bool) -> Recipe:
    """The recipe with ``--l2 auto`` decided, and what it was decided from on the screen."""
    recipe.check_potential()
    if recipe.network.l2 != "auto":
        return recipe
    with spinner(quiet, "L2 weight by held-out loss"):
        recipe = recipe.settled(out)
    if recipe.l2_choice is not None:
        say(quiet, *recipe.l2_choice.describe())
    return recipe


def numbers(found: Landscape) -> dict[str, Any]:
    """A landscape in numbers."""
    return {
        "minima": found.n_minima,
        "transition_states": found.n_ts,
        "connected": int((found.components() == found.components()[0]).sum()),
        "lowest": float(found.energies[0]),
        "highest": float(found.energies[-1]),
        "completeness": found.statistics.get("completeness", {}),
    }


class Written(NamedTuple):
    """A report and what it says.

    Attributes:
        page: its file.
        finding: its headline; of networks only.
        why: the verdict on each prediction asked about, by its line or row.
    """

    page: Path
    finding: str | None = None
    why: Mapping[int, str] = MappingProxyType({})


def _end(found: Landscape, out: Path, written: Written, quiet: bool, as_json: bool) -> None:
    if not as_json:
        say_report(written.page, quiet)
        return
    model = out / "model.npz"
    kept: dict[str, Any] = {"model": str(model)} if model.exists() else {}
    if written.finding is not None:
        kept["finding"] = written.finding
    if written.why:
        kept["why"] = dict(written.why)
    typer.echo(json.dumps({**numbers(found), **kept, "report": str(written.page)}, indent=2))


def check_time_limit(seconds: float | None) -> None:
    """Raise ``ArgumentError`` unless it is None or a time."""
    from jaxland.errors import ArgumentError

    if seconds is not None and not seconds > 0:
        raise ArgumentError(f"--time-limit must be above 0 seconds, got {seconds:g}")


def search(recipe: Recipe, out: Path, time_limit: float | None, quiet: bool) -> Landscape:
    """Explore in this process, with a progress display; Ctrl-C ends it between two commits."""
    from jaxland.landscape import Store
    from jaxland.landscape.search.explore import Search

    with Store(out / "landscape.db", recipe.problem) as store:
        with Display(quiet, recipe.settings.minima, time_limit) as display:
            running = Search(store, recipe.settings, box=recipe.box, progress=display.update, stop=display.stop)
            found = running.run()
        if running.interrupted:
            say(quiet, "Stopped early; the same command continues from here.")
    return found


def account(found: Landscape) -> list[str]:
    """How complete a landscape is, why its search ended, and what came to nothing, in sentences."""
    from jaxland.landscape.search.completeness import Completeness, ending, failures

    facts = found.statistics.get("completeness", {})
    kind = "smooth " if found.statistics.get("kinks") else ""
    told = [Completeness(**known).describe(kind + what.replace("_", " ")) for what, known in facts.items()]
    if facts:
        told.append(f"the search is {ending(found.statistics, found.settings)}")
    return [*told, *failures(found.statistics.get("rounds", [])), *(f"note: {note}" for note in found.notes())]


def write_report(
    recipe: Recipe,
    found: Landscape,
    out: Path,
    conservation: ConservationSettings,
    quiet: bool,
    why: Sequence[int] = (),
) -> Written:
    """Tables, model and pictures of what was found, and report.html."""
    from jaxland.landscape import interpret
    from jaxland.report.conclusion import headline
    from jaxland.report.imported import imported_report
    from jaxland.report.landscape import explore_report, save_figures
    from jaxland.report.why import verdict
    from jaxland.runs import write_table

    say(quiet, found.describe())
    say(quiet, *account(found))
    write_table(out / "minima.csv", found.to_pandas())
    write_table(out / "transition_states.csv", found.to_pandas("transition_states"))
    if recipe.is_potential:
        with spinner(quiet, "report"):
            title = f"Landscape of {recipe.source}"
            return Written(imported_report(found, out, title=title, energy_label="energy"))
    recipe.save_model(out / "model.npz", found.best)
    say(quiet, *recipe.errors(found.best))
    with spinner(quiet, "conserved weights, null groups, validation"):
        told = interpret(found, data=recipe.parts, settings=replace(conservation, seed=recipe.seed))
    reasons = _reasons(recipe, found, why, quiet)
    with spinner(quiet, "report"):
        if told.values is not None:
            write_table(out / "values.csv", told.values.to_pandas())
        save_figures(told, out)
        command = shlex.join(["jaxland", *sys.argv[1:]])
        path = explore_report(told, out / "report.html", command=command, why=reasons)
    finding, verdicts = headline(told).sentence, {row: verdict(reason)[0] for row, reason in zip(why, reasons)}
    say(quiet, finding, *verdicts.values())
    return Written(path, finding, verdicts)


def _asked(recipe: Recipe, rows: Sequence[int] | None) -> Sequence[int]:
    """The rows to explain, checked before minutes of search.

    Raises:
        ArgumentError: there is no such row, or nothing that predicts.
    """
    import numpy as np

    from jaxland.errors import ArgumentError

    if not rows:
        return ()
    if recipe.is_potential:
        raise ArgumentError(f"--why explains predictions, and {recipe.source} makes none")
    whole = recipe.whole
    known = whole.numbers()
    for row in rows:
        if row not in known:
            raise ArgumentError(
                f"--why {row}: {whole.name} has {whole.called}s {known.min()} to {known.max()}"
                if len(known) == np.ptp(known) + 1
                else f"--why {row}: {whole.name} has no {whole.called} {row}"
            )
    return rows


def _reasons(recipe: Recipe, found: Landscape, rows: Sequence[int], quiet: bool) -> list[Why]:
    """Of the predictions for some rows."""
    from jaxland.why import why

    out = []
    for row in rows:
        with spinner(quiet, f"why {recipe.whole.called} {row}"):
            data, place, where = recipe.found_row(row)
            out.append(why(found, place, recipe.parts.train, data, where=where, seed=recipe.seed))
    return out
